"""The command line as a person meets it: exit codes, messages, and what is left behind."""

from __future__ import annotations

import gzip
import signal
import socket
import sqlite3
from typing import TYPE_CHECKING

import pytest
from support.command import run_command, served
from support.images import FAMILIES

from soda_service.config import Settings

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SODA_{name.upper()}", raising=False)
    monkeypatch.delenv("SODA_CONFIG", raising=False)


def _assert_one_line(ended: subprocess.CompletedProcess[str], code: int, said: str) -> None:
    assert ended.returncode == code, ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr


def _settings_file(path: Path, **values: str) -> Path:
    path.write_text("".join(f'{name} = "{value}"\n' for name, value in values.items()))
    return path


class TestServe:
    """Starting and stopping, with one worker and with two."""

    @pytest.mark.parametrize("workers", ["1", "2"])
    @pytest.mark.parametrize("catalog", ["junk", "foreign", "folder"])
    def test_a_catalog_that_is_none(self, tmp_path: Path, workers: str, catalog: str) -> None:
        path = tmp_path / "soda-data" / "catalog.sqlite"
        path.parent.mkdir()
        if catalog == "junk":
            path.write_bytes(b"junk" * 5000)
        elif catalog == "folder":
            path.mkdir()
        else:
            connection = sqlite3.connect(path)
            connection.execute("CREATE TABLE other (a)")
            connection.close()
        ended = run_command("serve", "--port", "0", "--workers", workers, folder=tmp_path)
        _assert_one_line(ended, 2, str(path.relative_to(tmp_path)))

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_a_port_in_use(self, tmp_path: Path, workers: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            ended = run_command("serve", "--port", port, "--workers", workers, folder=tmp_path)
        _assert_one_line(ended, 1, f"port {port}: Address already in use")

    def test_a_host_that_is_none(self, tmp_path: Path) -> None:
        ended = run_command("serve", "--host", "no such host", "--port", "0", folder=tmp_path)
        _assert_one_line(ended, 1, "no such host")

    @pytest.mark.parametrize("workers", ["1", "2"])
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_well(self, tmp_path: Path, workers: str, number: int) -> None:
        with served("serve", "--workers", workers, folder=tmp_path) as service:
            service.process.send_signal(number)
            assert service.process.wait(30) == 0
        assert not any("Traceback" in line for line in service.log), "".join(service.log)

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_the_file_named_wins_over_the_one_in_the_environment(
        self, tmp_path: Path, workers: str
    ) -> None:
        other = _settings_file(tmp_path / "a.toml", title="Other", public_url="https://a.example")
        named = _settings_file(tmp_path / "b.toml", title="Named")
        for one in (other, named):
            assert one.exists()
        (tmp_path / "collections.toml").write_text("")
        with served(
            "serve", "--workers", workers, "--config", str(named),
            folder=tmp_path, environment={"SODA_CONFIG": str(other)},
        ) as service:  # fmt: skip
            import httpx2

            page = httpx2.get(service.base, trust_env=False).text
            capabilities = httpx2.get(f"{service.base}soda/capabilities", trust_env=False).text
        assert "Named" in page
        assert "Other" not in page
        assert service.base in capabilities
        assert "a.example" not in capabilities


class TestCut:
    """A cutout without a server."""

    @pytest.mark.parametrize("compressed", [False, True])
    def test_nothing_is_left_behind_but_the_output(
        self, tmp_path: Path, *, compressed: bool
    ) -> None:
        images, folder, temporary = (tmp_path / name for name in ("images", "here", "tmp"))
        for one in (images, folder, temporary):
            one.mkdir()
        path = images / ("image.fits.gz" if compressed else "image.fits")
        content = FAMILIES["tan"]()
        path.write_bytes(gzip.compress(content) if compressed else content)
        ended = run_command(
            "cut", str(path), "--circle", "150.1 2.2 0.001", "-o", "out.fits",
            folder=folder, environment={"TMPDIR": str(temporary)},
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        assert [one.name for one in folder.rglob("*")] == ["out.fits"]
        assert list(temporary.iterdir()) == []
        assert [one.name for one in images.iterdir()] == [path.name]

    def test_an_identifier_in_any_case(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "image.fits").write_bytes(FAMILIES["tan"]())
        without = run_command("cut", "ivo://demo.invalid/data?image.fits", folder=tmp_path)
        _assert_one_line(without, 1, "run ingest")
        assert not (tmp_path / "soda-data").exists()
        assert run_command("ingest", "data", folder=tmp_path).returncode == 0
        for scheme in ("ivo", "IVO"):
            ended = run_command(
                "cut", f"{scheme}://demo.invalid/DATA?image.fits", "--circle",
                "150.1 2.2 0.001", "-o", "out.fits", folder=tmp_path,
            )  # fmt: skip
            assert ended.returncode == 0, ended.stderr
            (tmp_path / "out.fits").unlink()
        left = {one.name for one in (tmp_path / "soda-data").iterdir()}
        assert left == {"catalog.sqlite"}


class TestCheck:
    """Whether all is well."""

    def test_without_a_catalog_it_says_so_and_makes_none(self, tmp_path: Path) -> None:
        ended = run_command("check", folder=tmp_path)
        assert ended.returncode == 1
        assert "no catalog at soda-data/catalog.sqlite; run ingest" in ended.stderr
        assert list(tmp_path.iterdir()) == []

    def test_wrong_settings_are_wrong_usage(self, tmp_path: Path) -> None:
        path = _settings_file(tmp_path / "soda.toml", prot="1")
        assert run_command("check", "--config", str(path), folder=tmp_path).returncode == 2
        path = _settings_file(tmp_path / "soda.toml", title="T")
        ended = run_command("check", "--config", str(path), folder=tmp_path)
        assert ended.returncode == 2
        assert "collections.toml" in ended.stderr

    def test_all_is_well(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "image.fits").write_bytes(FAMILIES["tan"]())
        assert run_command("ingest", "data", folder=tmp_path).returncode == 0
        ended = run_command("check", folder=tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert "1 datasets checked, 0 problems" in ended.stdout


def test_the_demo_fails_where_a_file_does(tmp_path: Path) -> None:
    (tmp_path / "demo" / "radio").mkdir(parents=True)
    (tmp_path / "demo" / "radio" / "broken.fits").write_bytes(b"SIMPLE")
    ended = run_command("demo", "--dir", "demo", "--no-serve", folder=tmp_path)
    assert ended.returncode == 1
    assert "broken.fits" in ended.stderr
