"""Settings and collections: what is read, what wins, and what is refused."""

from __future__ import annotations

import errno
import json
import os
import re
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, get_args

import pytest
from hypothesis import given, settings as settings_of_hypothesis, strategies as st
from support.command import run_command

from soda_service.catalog.dataset import ObsCore
from soda_service.config import (
    CollectionsFile,
    LinkColumn,
    SettableColumn,
    Settings,
    load_collections,
    load_settings,
    put_into_environment,
    resource_path,
    settings_environment,
)
from soda_service.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

SHIPPED = resource_path("config/soda.toml")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SODA_{name.upper()}", raising=False)
    monkeypatch.delenv("SODA_CONFIG", raising=False)


def test_the_shipped_file_has_every_setting_with_its_default() -> None:
    shipped = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    assert list(shipped) == list(Settings.model_fields)
    defaults = Settings().model_dump(mode="json")
    assert shipped == defaults


def test_every_shipped_setting_has_a_comment() -> None:
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    for name in Settings.model_fields:
        at = next(number for number, line in enumerate(lines) if line.startswith(f"{name} = "))
        paragraph = []
        while at > 0 and lines[at - 1].strip():
            at -= 1
            paragraph.append(lines[at])
        assert any(line.startswith("# ") for line in paragraph), name


def write(folder: Path, text: str, name: str = "soda.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_paths_are_relative_to_their_file(tmp_path: Path) -> None:
    path = write(tmp_path, 'data_dir = "data"\ncatalog = "sqlite:///here/c.sqlite"')
    settings = load_settings(path)
    assert settings.data_dir == tmp_path / "data"
    assert settings.catalog_path == tmp_path / "here" / "c.sqlite"
    assert settings.collections == tmp_path / "collections.toml"
    absolute = write(tmp_path, 'catalog = "sqlite:////elsewhere/c.sqlite"')
    assert load_settings(absolute).catalog_path == Path("/elsewhere/c.sqlite")


def test_every_path_of_a_file_is_relative_to_it(tmp_path: Path) -> None:
    paths = [name for name, value in Settings() if isinstance(value, Path)]
    assert len(paths) >= 4
    settings = load_settings(write(tmp_path, "".join(f'{name} = "here"\n' for name in paths)))
    assert {getattr(settings, name) for name in paths} == {tmp_path / "here"}


def test_without_a_file_the_shipped_collections_hold() -> None:
    assert load_settings().collections == resource_path("config/collections.toml")


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SODA_CONFIG", str(write(tmp_path, "port = 1\nmaxrec_default = 5")))
    assert load_settings().port == 1
    monkeypatch.setenv("SODA_PORT", "2")
    monkeypatch.setenv("SODA_CORS_ORIGINS", '["https://a.example"]')
    settings = load_settings()
    assert (settings.port, settings.maxrec_default) == (2, 5)
    assert settings.cors_origins == ("https://a.example",)
    assert load_settings(port=3, host=None).port == 3


def test_settings_pass_through_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(
        tmp_path,
        'title = "a \\"b\\" é"\ntrusted_proxies = ["10.0.0.0/8"]\nlog_requests = false\n'
        'public_url = "https://x.example/y/"',
    )
    settings = load_settings(path, port=9)
    for name, value in settings_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings
    assert settings.public_url == "https://x.example/y"


_texts = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), max_size=12)
_networks = st.sampled_from(["10.0.0.0/8", "::1", "192.168.1.1"])
_positive = st.integers(1, 2**40)


_ANY_SETTINGS: dict[str, st.SearchStrategy[object]] = {
    "title": _texts.filter(bool),
    "contact": _texts,
    "host": st.sampled_from(["0.0.0.0", "::", "localhost"]),
    "authority": st.sampled_from(["demo.invalid", "archive.example", "123"]),
    "port": st.integers(0, 65535),
    "workers": st.integers(1, 256),
    "public_url": st.sampled_from(["", "https://x.example/y"]),
    "trusted_proxies": st.lists(_networks, max_size=2),
    "cors_origins": st.lists(_texts, max_size=2),
    "catalog": st.sampled_from(["sqlite:///rel/c", "sqlite:////abs/c d"]),
    "collections": st.sampled_from(["x.toml", "/y/z.toml"]),
    "data_dir": st.sampled_from(["", ".", "/d", "é"]),
    "cache_dir": st.sampled_from(["", "cache"]),
    "cache_bytes": _positive,
    "result_cache_bytes": st.integers(0, 2**40),
    "spool_dir": st.sampled_from(["", "spool"]),
    "spool_bytes": _positive,
    "proof": st.booleans(),
    "proof_limit_mas": st.floats(0.001, 100.0),
    "maxrec_default": st.integers(1, 10),
    "maxrec_limit": st.integers(10_000, 2**31),
    "links_limit": _positive,
    "cutout_bytes": _positive,
    "request_bytes": _positive,
    "threads": st.integers(1, 1024),
    "plan_cache_datasets": _positive,
    "open_files": _positive,
    "tile_memory_bytes": st.integers(0, 2**40),
    "remote_memory_bytes": st.integers(0, 2**40),
    "remote_disk_bytes": st.integers(0, 2**40),
    "remote_gap_bytes": st.integers(0, 2**20),
    "remote_flight_bytes": st.integers(2**20, 2**30),
    "remote_parallel": st.integers(1, 1024),
    "remote_connections": st.integers(1, 1024),
    "remote_timeout_seconds": st.floats(0.001, 1000.0),
    "remote_retries": st.integers(0, 100),
    "remote_retry_seconds": st.floats(0.0, 1000.0),
    "remote_rest_seconds": st.floats(0.0, 1000.0),
    "remote_fresh_seconds": st.floats(0.0, 1000.0),
    "log_level": st.sampled_from(["debug", "info", "warning", "error"]),
    "log_format": st.sampled_from(["text", "json"]),
    "log_requests": st.booleans(),
}


@settings_of_hypothesis(max_examples=60)
@given(values=st.fixed_dictionaries({}, optional=_ANY_SETTINGS))
def test_any_settings_pass_through_any_environment(values: dict[str, object]) -> None:
    """Another file in $SODA_CONFIG and other variables, in whatever case, leave no trace."""
    wanted = Settings(**values)  # type: ignore[arg-type]  # texts as a file has them
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        other = 'contact = "other"\npublic_url = "https://other.example"\nport = 1\n'
        patch.setenv("SODA_CONFIG", str(write(Path(folder), other)))
        patch.setenv("SODA_TITLE", "other")
        patch.setenv("soda_log_level", "error")
        before = dict(os.environ)
        try:
            put_into_environment(wanted)
            assert load_settings() == wanted
        finally:
            os.environ.clear()
            os.environ.update(before)


def test_the_property_names_every_setting() -> None:
    assert set(_ANY_SETTINGS) == set(Settings.model_fields)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("prot = 1", "prot"),
        ("port = 70000", "port"),
        ('port = "x"', "port"),
        ('authority = "a b"', "authority"),
        ('public_url = "ftp://x"', "public_url"),
        ('public_url = "https://x/?a=b"', "public_url"),
        ('trusted_proxies = ["10.0.0.0/99"]', "trusted_proxies"),
        ('catalog = "mysql://x"', "catalog"),
        ('catalog = "sqlite:///"', "catalog"),
        ("cutout_bytes = 0", "cutout_bytes"),
        ('title = ""', "title"),
        ('host = ""', "host"),
        ('title = "a\\u0000b"', "title"),
        ('data_dir = "a\\u0000b"', "data_dir"),
        ("maxrec_default = 10\nmaxrec_limit = 5", "maxrec_default"),
        ('log_level = "loud"', "log_level"),
        ("port = ", "not TOML"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        load_settings(write(tmp_path, text))


def test_passwords_are_not_said_again(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="catalog must be") as caught:
        load_settings(write(tmp_path, 'catalog = "postgresql://me:my-secret@db/c"'))
    assert "my-secret" not in str(caught.value)
    assert "postgresql://…@db/c" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ftp://user:sec/ret@host/", "ftp://…@host/"),
        ("ftp://user:s#e?c@r@e't@host/a", "ftp://…@host/a"),
        ("ftp://user:sec ret@host", "ftp://…@host"),
        ("ftp:/user:secret@host", "ftp:…@host"),
        ("//secret@host", "//…@host"),
        ("user:secret@host", "user:…@host"),
    ],
)
def test_no_form_of_a_password_is_said_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, shown: str
) -> None:
    def said(read: Callable[[], object]) -> str:
        with pytest.raises(ConfigurationError) as caught:
            read()
        assert not re.search("sec|ret|e't|r@", str(caught.value))
        return str(caught.value)

    def from_environment(name: str, value: str) -> str:
        with monkeypatch.context() as patch:
            patch.setenv(f"SODA_{name.upper()}", value)
            return said(load_settings)

    assert shown in from_environment("public_url", url)
    assert shown in from_environment("catalog", url)
    assert shown in from_environment("cors_origins", url)
    assert from_environment("trusted_proxies", json.dumps([url])).count(shown) == 2
    assert shown in said(lambda: load_settings(public_url=url))
    assert "…@host" in said(lambda: load_collections(Path(url) / "c.toml"))
    store = f"[collections.c]\nroot = 's3://b'\nstore = {{ endpoint = {json.dumps(url)} }}"
    assert shown in said(lambda: load_collections(write(tmp_path, store)))


@pytest.mark.parametrize("table", ["options", "secrets"])
def test_nothing_that_a_store_is_to_know_is_said_again(tmp_path: Path, table: str) -> None:
    path = write(tmp_path, f"[collections.c]\nstore = {{ {table} = {{ pin = 4711 }} }}")
    with pytest.raises(ConfigurationError) as caught:
        load_collections(path)
    said = f"collections.c.store.{table}.pin must be a valid string in {path}"
    assert str(caught.value) == said


def test_wrong_environments_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SODA_PORT", "x")
    with pytest.raises(ConfigurationError, match="port"):
        load_settings()
    monkeypatch.setenv("SODA_PORT", "")  # nothing, as compose files write it
    monkeypatch.setenv("SODA_CORS_ORIGINS", "not JSON")
    with pytest.raises(ConfigurationError, match="cors_origins"):
        load_settings()
    monkeypatch.setenv("SODA_PROT", "1")
    with pytest.raises(ConfigurationError, match="SODA_PROT"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = 70000", "port must be less than or equal to 65535, got 70000 in {path}"),
        ("prot = 1", "prot in {path} is not known; is port meant?"),
        ("nonsense = 1", "nonsense in {path} is not known"),
        (
            'log_level = "loud"',
            "log_level must be 'debug', 'info', 'warning' or 'error', got 'loud' in {path}",
        ),
        (
            "maxrec_default = 10\nmaxrec_limit = 5",
            "maxrec_default, 10, must not exceed maxrec_limit, 5 in {path}",
        ),
    ],
)
def test_what_is_said_of_a_wrong_setting(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path)
    assert str(caught.value) == said.format(path=path)


def test_what_is_said_of_a_wrong_environment_or_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "port = 1")
    monkeypatch.setenv("SODA_PORT", "x")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path)
    wanted = "port must be a valid integer, got 'x' in the environment variable SODA_PORT"
    assert str(caught.value) == wanted
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, port=-1)
    wanted = "port must be greater than or equal to 0, got -1 on the command line"
    assert str(caught.value) == wanted
    monkeypatch.delenv("SODA_PORT")
    monkeypatch.setenv("SODA_CORS_ORIGINS", "https://a.example")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path)
    assert str(caught.value) == (
        "cors_origins must be a list in JSON, [\"*\"] say, got 'https://a.example' "
        "in the environment variable SODA_CORS_ORIGINS"
    )


def test_what_is_said_of_a_wrong_collection(tmp_path: Path) -> None:
    path = write(tmp_path, "[filters]\ng = { em_min = 2e-7 }")
    with pytest.raises(ConfigurationError) as caught:
        load_collections(path)
    assert str(caught.value) == f"filters.g.em_max is missing in {path}"


def test_missing_files_are_named(tmp_path: Path) -> None:
    readers: list[Callable[[Path], object]] = [load_settings, load_collections]
    for read in readers:
        with pytest.raises(ConfigurationError, match=r"none\.toml"):
            read(tmp_path / "none.toml")
        latin = tmp_path / "latin.toml"
        latin.write_bytes(b'title = "\xe9"')
        with pytest.raises(ConfigurationError, match="latin"):
            read(latin)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a" * 300, "cannot read {path}: File name too long"),
        ("loop", "cannot read {path}: Too many levels of symbolic links"),
        ("file", "there is no {path}: "),
        ("none", "there is no {path}: "),
        (".", "cannot read {path}: Is a directory"),
    ],
)
def test_a_file_of_collections_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    path = tmp_path if name == "." else tmp_path / name / "c.toml"
    monkeypatch.setenv("SODA_COLLECTIONS", str(path))
    ended = run_command("check", folder=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"soda-service: {reason.format(path=path)}")
    assert len(ended.stderr.splitlines()) == 1


def test_what_may_not_be_read_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "")

    def shut(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    # Root may read and look at everything.
    monkeypatch.setattr(Path, "read_text", shut)
    monkeypatch.setattr(Path, "stat", shut)
    readers: list[Callable[[Path], object]] = [load_settings, load_collections]
    for read in readers:
        with pytest.raises(ConfigurationError) as caught:
            read(path)
        assert str(caught.value) == f"cannot read {path}: Permission denied"


def test_the_archive_has_a_path_in_utf8() -> None:
    with pytest.raises(ConfigurationError, match="data_dir must be a path in UTF-8"):
        load_settings(data_dir="/data/\udcff")


def test_shipped_collections() -> None:
    shipped = load_collections(resource_path("config/collections.toml"))
    assert {"u", "g", "r", "i", "z", "y", "J", "H", "Ks", "U", "B", "V", "R", "I"} <= set(
        shipped.filters
    )
    for name, one in shipped.filters.items():
        assert 1e-7 < one.em_min < one.em_max < 1e-4, name
    assert {"lsst_band", "t_min", "t_exptime", "target_name"} <= set(shipped.keywords)
    assert "science" in shipped.roles.values()
    named = [rule.collection for one in shipped.collections.values() for rule in one.links]
    assert set(named) - {None} <= set(shipped.collections)


def test_columns_that_may_be_set_are_obscore_columns() -> None:
    assert set(get_args(SettableColumn)) < set(ObsCore.__dataclass_fields__)
    assert set(get_args(LinkColumn)) < set(ObsCore.__dataclass_fields__)


def test_what_holds_for_all_is_filled_in(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        [keywords]
        obs_id = ["A"]
        target_name = ["OBJECT"]
        [roles]
        SCI = "science"
        [collections.one]
        links = [{ semantics = "#this", collection = "two", on = "obs_id" }]
        [collections.one.keywords]
        obs_id = ["B", "C"]
        """,
    )
    collections = load_collections(path)
    one = collections.named("one")
    assert one.keywords == {"obs_id": ("B", "C"), "target_name": ("OBJECT",)}
    assert one.links[0].on == ("obs_id",)
    assert collections.named("unheard of").roles == {"SCI": "science"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[collection]", "collection"),
        ("[collections.a]\nrot = 'x'", "rot"),
        ("[collections.a.constants]\nobs_colection = 'x'", "obs_colection"),
        ("[collections.a.constants]\nobs_publisher_did = 'x'", "obs_publisher_did"),
        ("[keywords]\ntmin = ['A']", "tmin"),
        ("[filters]\ng = { em_min = 2e-7, em_max = 1e-7 }", "em_min must be below"),
        ("[filters]\ng = { em_min = 2e-7, em_max = inf }", "em_max"),
        ("[collections.a]\n[collections.A]", "differ in case"),
        ("[collections.a]\npublisher_did = 'constant'", "publisher_did"),
        ("[collections.a]\nlinks = [{ semantics = '#x' }]", "either collection or detail"),
        ("[collections.a]\nlinks = [{ semantics = 'x', collection = 'b' }]", "semantics"),
        ("[collections.a]\nlinks = [{ semantics = '#x', detail = 'D' }]", "'D'"),
        (
            "[collections.a]\nlinks = [{ semantics = '#x', collection = 'b', on = [] }]",
            "at least 1",
        ),
        (
            "[collections.a]\ndetails = [{ name = 'D', hdus = [] }, { name = 'D', hdus = [] }]",
            "same name",
        ),
    ],
)
def test_wrong_collections_are_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        load_collections(write(tmp_path, text))


def test_the_default_of_everything_is_valid() -> None:
    assert CollectionsFile().named("x").details == ()
