"""The tables, the migrations that make them, and files that are not a catalog."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from support.turn import until

from soda_service.catalog import migrations, openfile, upgrade
from soda_service.catalog.database import Database
from soda_service.catalog.dataset import ObsCore
from soda_service.catalog.schema import APPLICATION_ID, HEAD, dataset, metadata
from soda_service.catalog.store import CatalogStore
from soda_service.config import Settings
from soda_service.errors import ConfigurationError
from soda_service.storage.source import FileVersion

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection


def test_migrations_make_the_tables_that_the_code_describes(tmp_path: Path) -> None:
    Database(tmp_path / "catalog.sqlite").close()
    engine = create_engine(f"sqlite:///{tmp_path}/catalog.sqlite")
    with engine.connect() as connection:
        trees = ("piece_box", "dataset_span")
        options = {"include_name": lambda name, *_: not str(name).startswith(trees)}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_head_is_the_last_migration() -> None:
    config = Config()
    config.set_main_option("path_separator", "os")
    config.set_main_option("script_location", migrations.__path__[0])
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_every_obscore_column_is_stored() -> None:
    assert {field.name for field in fields(ObsCore)} <= set(dataset.c.keys())


def test_a_second_opening_finds_the_catalog_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "catalog.sqlite"
    Database(path).close()
    before = path.read_bytes()
    Database(path).close()
    assert path.read_bytes() == before


def test_processes_may_make_the_catalog_at_once(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path;"
        "from soda_service.catalog.database import Database;"
        "sys.stdin.read();"
        "Database(Path(sys.argv[1])).close()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "catalog.sqlite")]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(60) for process in processes] == [0] * 4


def _foreign(path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE dataset (id INTEGER)"))
    engine.dispose()


def _later(path: Path) -> None:
    database = Database(path)
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()


def _junk(path: Path) -> None:
    path.write_bytes(b"SIMPLE  =                    T".ljust(5760))


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_foreign, "not a catalog of this service"),
        (_later, "another version of the service"),
        (_junk, "not a database"),
        (_folder, "unable to open"),
    ],
)
def test_other_files_are_refused_and_left_alone(tmp_path: Path, make: object, message: str) -> None:
    path = tmp_path / "catalog.sqlite"
    assert callable(make)
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(ConfigurationError, match=message) as caught:
        Database(path)
    assert str(path) in str(caught.value)
    assert (path.read_bytes() if path.is_file() else b"") == before


_BEFORE_TAGS = """
INSERT INTO collection VALUES (1, 'sky', 'sky', '["/archive"]', '', '', '{}');
INSERT INTO dataset (id, collection_id, did_folded, local_part, path, size, modified_ns,
    media_type, fingerprint, revision, scan, calib_level, obs_collection, obs_id,
    obs_publisher_did, access_estsize)
VALUES (7, 1, 'ivo://archive.example/sky?a.fits', 'a.fits', '/archive/a.fits', 5760,
    1700000000123456789, 'application/fits', 'f', 3, 2, 2, 'sky', 'a',
    'ivo://archive.example/sky?a.fits', 6);
"""
"""Rows as the first schema has them."""


@contextmanager
def _first_schema(path: Path) -> Iterator[tuple[Connection, Config]]:
    """A new catalog of the first schema with one dataset, and what its upgrade needs."""
    config = Config()
    config.set_main_option("path_separator", "os")
    config.set_main_option("script_location", migrations.__path__[0])
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
        command.upgrade(config, "0001")
        for statement in _BEFORE_TAGS.split(";\n")[:-1]:
            connection.exec_driver_sql(statement)
        yield connection, config
    engine.dispose()


def test_a_catalog_of_the_first_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    """Its datasets are those of files, which have no tags."""
    path = tmp_path / "catalog.sqlite"
    with _first_schema(path):
        pass
    store = CatalogStore(Settings(catalog=f"sqlite:///{path}"))
    try:
        dataset = store.get("ivo://archive.example/sky?a.fits")
        assert dataset is not None
        assert dataset.version == FileVersion(5760, 1_700_000_000_123_456_789, "")
        (known,) = store.holdings.versions(["/archive/a.fits"]).values()
        assert known == (7, dataset.version, "f")
    finally:
        store.close()
    test_migrations_make_the_tables_that_the_code_describes(tmp_path)


@pytest.fixture(name="old_catalog")
def _old_catalog(tmp_path: Path) -> Path:
    """A catalog of the second schema with 30,000 datasets."""
    path = tmp_path / "old.sqlite"
    with _first_schema(path) as (connection, config):
        connection.exec_driver_sql(
            "WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 30098) "
            "INSERT INTO dataset (id, collection_id, did_folded, local_part, path, size, "
            "modified_ns, media_type, fingerprint, revision, scan, calib_level, obs_collection, "
            "obs_id, obs_publisher_did, access_estsize) SELECT i, 1, 'ivo://' || i, i, '/' || i, 1,"
            " 1, 'application/fits', 'f', 3, 2, 2, 'sky', i, 'ivo://' || i, 6 FROM n"
        )
        command.upgrade(config, "0002")
    return path


def test_an_upgrade_says_how_far_it_is(
    old_catalog: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upgrade, "_TOLD_SECONDS", 0.0)
    Database(old_catalog).close()
    said = [record.getMessage() for record in caplog.records]
    assert "is of an older version" in said[0]
    assert any("an index over time and wavelength is made: 66 %" in line for line in said)
    assert "is up to date after" in said[-1]
    engine = create_engine(f"sqlite:///{old_catalog}")
    with engine.connect() as connection:
        for table in ("dataset", "dataset_span"):
            count = connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar()
            assert count == 30_000
    engine.dispose()
    caplog.clear()
    Database(old_catalog).close()
    assert not caplog.records


@pytest.fixture
def hears_interrupts() -> Iterator[None]:
    """A suite in the background of a shell is deaf to SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("hears_interrupts")
def test_a_stopped_upgrade_leaves_the_catalog_as_it_was(
    old_catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the user's word in the middle of a statement; and it can be done again."""
    told = 0

    def stopping(self: upgrade.Upgrade, seconds: float) -> None:
        nonlocal told
        told += 1
        if told == 40:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(upgrade, "_TOLD_SECONDS", 0.0)
        patch.setattr(upgrade.Upgrade, "_tell", stopping)
        with pytest.raises(KeyboardInterrupt):
            Database(old_catalog)
    assert told == 40
    engine = create_engine(f"sqlite:///{old_catalog}")
    with engine.connect() as connection:
        version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        assert version == "0002"
        assert connection.exec_driver_sql("SELECT count(*) FROM dataset").scalar() == 30_000
        assert (
            "dataset_span"
            not in connection.exec_driver_sql(
                "SELECT group_concat(name) FROM sqlite_master"
            ).scalar_one()
        )
    engine.dispose()
    Database(old_catalog).close()


def test_who_comes_while_another_process_writes_waits(
    old_catalog: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However long that takes."""
    monkeypatch.setattr(openfile, "PATIENCE", 0.02)
    other = sqlite3.connect(old_catalog, isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA journal_mode = WAL")
    other.execute("BEGIN IMMEDIATE")

    def end() -> None:
        try:
            until(lambda: "another process writes to the catalog" in caplog.text)
        finally:
            other.execute("ROLLBACK")

    with ThreadPoolExecutor(1) as threads:
        ending = threads.submit(end)
        Database(old_catalog).close()
        ending.result()
    other.close()
