"""The command line as a person meets it: exit codes, messages, and what is left behind."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from rich.console import Console
from support.command import run_command, served
from support.images import FAMILIES
from support.processes import children_of, has_ended
from support.service import SMALL_BUFFER, connect
from support.turn import until

from soda_service.catalog.tally import IngestReport
from soda_service.cli import main
from soda_service.cli.cut import _move_where_nothing_is
from soda_service.cli.ingest import _told_of_stop
from soda_service.cli.progress import progress
from soda_service.config import Settings, resource_path
from soda_service.demo.archive import MARKER
from soda_service.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.command import Served


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SODA_{name.upper()}", raising=False)
    monkeypatch.delenv("SODA_CONFIG", raising=False)


@pytest.fixture(name="interruptible")
def _interruptible() -> Iterator[None]:
    """A suite in the background of a shell is deaf to SIGINT, and so would be what it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _assert_one_line(ended: subprocess.CompletedProcess[str], code: int, said: str) -> None:
    assert ended.returncode == code, ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr


def _settings_file(path: Path, **values: str) -> Path:
    path.write_text("".join(f'{name} = "{value}"\n' for name, value in values.items()))
    return path


def _availability(service: Served) -> str:
    return httpx2.get(f"{service.base}availability", timeout=60, trust_env=False).text


_EXCHANGING = """
import pkgutil
import sys
from pathlib import Path

from soda_service.cli import main

owner = pkgutil.resolve_name(sys.argv[1])
function = getattr(owner, sys.argv[2])


def exchanging(*arguments, **options):
    if Path("other/soda-data/catalog.sqlite").exists():
        Path("soda-data/catalog.sqlite").rename("kept.sqlite")
        Path("other/soda-data/catalog.sqlite").rename("soda-data/catalog.sqlite")
    return function(*arguments, **options)


setattr(owner, sys.argv[2], exchanging)
del sys.argv[1:3]
if __name__ == "__main__":
    main()
"""
"""Puts another catalog in the place of this one when a function is called first."""

_SAYS_LITTLE = {"SODA_LOG_LEVEL": "error"}


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
        # All that SQLite says is that it is unable to open it.
        assert ("; its folder or disk may be read-only or full" in ended.stderr) == (
            catalog == "folder"
        )

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_a_port_in_use(self, tmp_path: Path, workers: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            ended = run_command(
                "serve", "--port", port, "--workers", workers,
                folder=tmp_path, environment=_SAYS_LITTLE,
            )  # fmt: skip
        _assert_one_line(ended, 1, f"port {port}: Address already in use")

    def test_a_busy_port_is_told_before_anything_is_made(self, tmp_path: Path) -> None:
        """A catalog may take minutes to be brought up to date."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            ended = run_command("serve", "--port", port, folder=tmp_path)
        _assert_one_line(ended, 1, f"port {port}: Address already in use; --port says another")
        assert list(tmp_path.iterdir()) == []

    def test_a_demo_writes_nothing_where_it_cannot_listen(self, tmp_path: Path) -> None:
        """It says so before the work, and how to have another port."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            ended = run_command("demo", "--dir", "demo", "--port", port, folder=tmp_path)
        _assert_one_line(ended, 1, f"port {port}: Address already in use; --port says another")
        assert list(tmp_path.iterdir()) == []

    def test_a_host_that_is_none(self, tmp_path: Path) -> None:
        ended = run_command(
            "serve", "--host", "no such host", "--port", "0",
            folder=tmp_path, environment=_SAYS_LITTLE,
        )  # fmt: skip
        _assert_one_line(ended, 1, "no such host")

    @pytest.mark.parametrize("spelt", ["environment", "file"])
    def test_a_catalog_that_is_named_in_a_folder_that_is_not_there(
        self, tmp_path: Path, spelt: str
    ) -> None:
        """`serve` makes neither; `ingest`, which is how catalogs come to be, makes both."""
        catalog = f"sqlite:///{tmp_path}/unmounted/catalog.sqlite"
        options: tuple[str, ...] = ()
        environment = {}
        if spelt == "file":
            (tmp_path / "collections.toml").write_text("")
            named = _settings_file(
                tmp_path / "soda.toml", catalog="sqlite:///unmounted/catalog.sqlite"
            )
            options = ("--config", str(named))
        else:
            environment = {"SODA_CATALOG": catalog}
        ended = run_command(
            "serve", "--port", "0", *options, folder=tmp_path, environment=environment
        )
        _assert_one_line(ended, 2, f"no folder {tmp_path}/unmounted for the catalog {catalog}")
        assert not (tmp_path / "unmounted").exists()
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "image.fits").write_bytes(FAMILIES["tan"]())
        ended = run_command("ingest", "data", *options, folder=tmp_path, environment=environment)
        assert ended.returncode == 0, ended.stderr
        with served("serve", *options, folder=tmp_path, environment=environment) as service:
            assert "1 dataset can be found" in _availability(service)
        assert not [line for line in service.log if " WARNING " in line]

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_an_empty_catalog_is_told_once(self, tmp_path: Path, workers: str) -> None:
        """By the log and by availability; what is ingested meanwhile can be found."""
        with served("serve", "--workers", workers, folder=tmp_path) as service:
            said = _availability(service)
            assert ":available>true<" in said
            assert "The catalog is empty" in said
            (tmp_path / "data").mkdir()
            (tmp_path / "data" / "image.fits").write_bytes(FAMILIES["tan"]())
            assert run_command("ingest", "data", folder=tmp_path).returncode == 0
            assert "1 dataset can be found" in _availability(service)
        (line,) = [line for line in service.log if " WARNING " in line]
        assert "the catalog soda-data/catalog.sqlite is empty" in line
        assert "soda-service ingest" in line

    @pytest.mark.parametrize("workers", ["1", "2"])
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_well(self, tmp_path: Path, workers: str, number: int) -> None:
        with served("serve", "--workers", workers, folder=tmp_path) as service:
            service.process.send_signal(number)
            assert service.process.wait(30) == 0
        assert not any("Traceback" in line for line in service.log), "".join(service.log)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_an_answer_that_is_not_taken_is_a_line_of_the_log(
        self, tmp_path: Path, number: int
    ) -> None:
        """The server waits for it as long as it does, and then says that it broke off."""
        (tmp_path / "data").mkdir()
        large = np.zeros((3000, 3000), np.float64)
        fits.PrimaryHDU(large).writeto(tmp_path / "data" / "large.fits")
        assert run_command("ingest", "data", folder=tmp_path).returncode == 0
        with served("serve", folder=tmp_path, program=("-c", _HASTY)) as service:
            port = int(service.base.rsplit(":", 1)[1].strip("/"))
            with connect(port, buffer_bytes=SMALL_BUFFER) as client:
                client.sendall(b"GET /files/data/large.fits HTTP/1.1\r\nHost: x\r\n\r\n")
                assert client.recv(1)
                service.process.send_signal(number)
                assert service.process.wait(60) == 0
        log = "".join(service.log)
        assert "Traceback" not in log, log
        assert "an answer broke off" in log
        assert "the service stops" in log

    def test_a_catalog_that_is_exchanged_is_told_of(self, tmp_path: Path) -> None:
        """By a server that holds the one before; the log begins with what that has."""
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "image.fits").write_bytes(FAMILIES["tan"]())
        assert run_command("ingest", "data", folder=tmp_path).returncode == 0
        catalog = tmp_path / "soda-data" / "catalog.sqlite"
        with served("serve", folder=tmp_path, program=("-c", _WATCHFUL)) as service:
            until(lambda: service.log)
            assert f"the catalog {catalog} has 1 dataset\n" in service.log[0]
            catalog.unlink()
            until(lambda: any(f"the catalog {catalog} is gone" in one for one in service.log))
            assert run_command("ingest", "data", folder=tmp_path).returncode == 0
            until(lambda: any("is another file than before" in one for one in service.log))
            assert "1 dataset can be found" in _availability(service)

    def test_workers_end_with_the_process_that_keeps_them(self, tmp_path: Path) -> None:
        """Killed, it cannot tell them; they would keep the port, and nobody would replace them."""
        with served("serve", "--workers", "2", folder=tmp_path) as service:
            workers = children_of(service.process.pid)
            assert len(workers) >= 2
            service.process.kill()
            service.process.wait(60)
            until(lambda: all(map(has_ended, workers)))

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
            page = httpx2.get(service.base, timeout=60, trust_env=False).text
            capabilities = httpx2.get(
                f"{service.base}soda/capabilities", timeout=60, trust_env=False
            ).text
        assert "Named" in page
        assert "Other" not in page
        assert service.base in capabilities
        assert "a.example" not in capabilities


_HASTY = """
import soda_service.server
from soda_service.cli import main

soda_service.server._LAST_ANSWERS_SECONDS = 1
main()
"""
"""The command line, whose server waits for its last answers for a second."""

_WATCHFUL = """
import soda_service.catalog.presence
from soda_service.cli import main

soda_service.catalog.presence._LOOK_SECONDS = 0.05
main()
"""
"""The command line, which looks at the file of its catalog twenty times a second."""


_HELD = """
import signal
from soda_service.catalog.ingest import _Ingest
from soda_service.cli import main

outcomes = []
take = _Ingest._take

def held(self, *outcome):
    take(self, *outcome)
    outcomes.append(outcome)
    if len(outcomes) == 350:
        signal.pause()

_Ingest._take = held
main()
"""
"""The command line, whose ingest stops in the middle of a batch, and waits for a signal."""


_CRAMPED = """
import resource
from soda_service.cli import main

resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
main()
"""
"""The command line, where no file may become longer than the catalog already is."""


class TestIngest:
    """What a person is told of an ingest."""

    def test_a_folder_without_fits_files(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "notes.txt").write_text("")
        ended = run_command("ingest", "data", folder=tmp_path)
        assert ended.returncode == 1
        assert "no file in it has a name like *.fits" in ended.stderr
        assert ended.stdout == "0 added, 0 changed, 0 moved, 0 unchanged, 0 removed, 1 skipped\n"

    def test_what_is_no_image_is_no_failure(self, tmp_path: Path) -> None:
        """A table, and an image that nobody has placed on the sky, lie there for good reasons."""
        (tmp_path / "data").mkdir()
        table = Table({"a": [1, 2]})
        table.write(tmp_path / "data" / "table.fits")
        fits.PrimaryHDU(np.zeros((4, 4))).writeto(tmp_path / "data" / "nowhere.fits")
        for told in ("1 added, 0 changed, 0 moved, 0", "0 added, 0 changed, 0 moved, 1"):
            ended = run_command("ingest", "data", folder=tmp_path)
            assert ended.returncode == 0
            assert ended.stdout == f"{told} unchanged, 0 removed, 1 skipped\n"
            assert "table.fits: holds no image" in ended.stderr
        checked = run_command("check", folder=tmp_path)
        assert checked.returncode == 0
        assert "1 dataset checked, 0 problems, 1 remark\n" in checked.stdout
        assert "?nowhere.fits: no science image of it has celestial coord" in checked.stderr

    def test_an_empty_root_needs_a_word_more(self, tmp_path: Path) -> None:
        image = tmp_path / "data" / "image.fits"
        image.parent.mkdir()
        image.write_bytes(FAMILIES["tan"]())
        assert run_command("ingest", "data", folder=tmp_path).stdout.startswith("1 added")
        image.unlink()
        ended = run_command("ingest", "data", folder=tmp_path)
        assert ended.returncode == 1
        assert "Its 1 datasets stay in the catalog; --allow-empty removes them" in ended.stderr
        ended = run_command("ingest", "data", "--allow-empty", folder=tmp_path)
        assert (ended.returncode, ended.stderr.count("skipped")) == (0, 0)
        assert "1 removed" in ended.stdout

    @pytest.mark.usefixtures("interruptible")
    def test_ctrl_c_says_what_is_kept(self, tmp_path: Path) -> None:
        """The signal goes to the whole group of processes, as a terminal sends it."""
        (tmp_path / "data").mkdir()
        content = FAMILIES["tan"]()
        for number in range(1000):
            (tmp_path / "data" / f"n{number}.fits").write_bytes(content)
        with subprocess.Popen(
            [sys.executable, "-c", _HELD, "ingest", "data", "--workers", "2"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            assert _datasets(tmp_path, at_least=250) >= 250
            os.killpg(process.pid, signal.SIGINT)
            out, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert out == ""
        assert "Traceback" not in errors
        said = re.search(r"stopped: (\d+) added, .*run it again for the rest", errors)
        assert said is not None, errors
        assert _datasets(tmp_path, at_least=0) == int(said[1]) < 1000

    def test_the_bar_stays_as_long_as_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """However long the names of the files are, and before their number is known."""
        screen = io.StringIO()
        terminal = partial(Console, file=screen, force_terminal=True, width=80)
        monkeypatch.setattr("rich.console.Console", lambda **_: terminal())
        with progress("Reading headers") as advance:
            advance(0, None, "/a/x")
            until(lambda: "Reading headers" in screen.getvalue())
            advance(40, 10_000, "/data/a [red]very long name of a file 0123456789.fits")
            until(lambda: "[red]very" in screen.getvalue())
            advance(9_999, 10_000, "/data/b.fits")
            until(lambda: "b.fits" in screen.getvalue())
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
        lines = [line for line in re.split(r"[\r\n]+", plain) if line.strip()]
        assert len({len(re.findall("[━╸╺]", line)) for line in lines}) == 1
        assert {len(line) for line in lines} == {80}
        assert any("[red]very" in line for line in lines)

    def test_a_catalog_that_cannot_be_written_is_told_in_a_line(self, tmp_path: Path) -> None:
        """A full disk, and whatever else the system says to a write, are no bugs of ours."""
        (tmp_path / "data").mkdir()
        for number in range(6):
            (tmp_path / "data" / f"{number}.fits").write_bytes(FAMILIES["tan"]())
        (tmp_path / "first").mkdir()
        (tmp_path / "first" / "image.fits").write_bytes(FAMILIES["tan"]())
        assert run_command("ingest", "first", folder=tmp_path).returncode == 0
        ended = subprocess.run(
            [sys.executable, "-c", _CRAMPED, "ingest", "data"],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert ended.returncode == 1
        assert "Traceback" not in ended.stderr
        *_, line = ended.stderr.splitlines()
        assert line.startswith("soda-service: the catalog cannot be read or written: disk I/O")
        assert "room on its disk" in line
        again = run_command("ingest", "data", folder=tmp_path)
        assert again.returncode == 0, again.stderr
        assert again.stdout.startswith("6 added")

    @pytest.mark.parametrize("at_end", [False, True])
    def test_a_catalog_that_is_exchanged_meanwhile_is_told_of(
        self, tmp_path: Path, *, at_end: bool
    ) -> None:
        """What was done is in a file that nobody serves: in its last moments, and before."""
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "image.fits").write_bytes(FAMILIES["tan"]())
        (tmp_path / "other").mkdir()
        assert run_command("ingest", "../data", folder=tmp_path / "other").returncode == 0
        assert run_command("ingest", "data", folder=tmp_path).returncode == 0
        (tmp_path / "data" / "second.fits").write_bytes(FAMILIES["tan"]())
        module, function = (
            ("soda_service.cli.ingest", "told")
            if at_end
            else ("soda_service.catalog.holdings.Holdings", "write")
        )
        ended = subprocess.run(
            [sys.executable, "-c", _EXCHANGING, module, function, "ingest", "data"],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        said = "is another one now" if at_end else "has just been replaced"
        *_, line = ended.stderr.splitlines()
        assert ended.returncode == 1, ended.stderr
        assert line.startswith("soda-service: ")
        assert said in line
        checked = run_command("check", folder=tmp_path)
        assert checked.stdout == "1 dataset checked, 0 problems\n"
        moved = {"SODA_CATALOG": f"sqlite:///{tmp_path}/kept.sqlite"}
        checked = run_command("check", folder=tmp_path, environment=moved)
        datasets = "2 datasets" if at_end else "1 dataset"
        assert checked.stdout == f"{datasets} checked, 0 problems\n"

    def test_the_bar_ends_full(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was skipped is done, too; before anything begins there is no bar."""
        screen = io.StringIO()
        terminal = partial(Console, file=screen, force_terminal=True, width=80)
        monkeypatch.setattr("rich.console.Console", lambda **_: terminal())
        with pytest.raises(UsageError), progress("Nothing"):
            raise UsageError("not a demo archive")
        assert "Nothing" not in screen.getvalue()
        with progress("Some") as advance:
            advance(34, 37, "/a/x.fits")
        assert "37/37" in [line for line in screen.getvalue().splitlines() if "Some" in line][-1]
        with progress("Uncounted") as advance:
            advance(5, None, "/a/x.fits")
        last = [line for line in screen.getvalue().splitlines() if "Uncounted" in line][-1]
        assert "5/5" in last

    def test_what_is_told_of_a_stop(self) -> None:
        """An ingest that was stopped before it took anything has left nothing to keep."""
        assert _told_of_stop(IngestReport(failures=3)) == (
            "stopped: the catalog is as it was; run it again"
        )
        assert _told_of_stop(IngestReport(added=2, failures=3)) == (
            "stopped: 2 added, 0 changed, 0 moved, 0 unchanged, 0 removed, 3 skipped. "
            "The catalog keeps these; run it again for the rest"
        )


def _datasets(folder: Path, *, at_least: int) -> int:
    """How many the catalog in *folder* has, once it has so many."""
    path = folder / "soda-data" / "catalog.sqlite"
    found = 0
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(path)) as connection:
            (found,) = connection.execute("SELECT count(*) FROM dataset").fetchone()
            if found >= at_least:
                break
        time.sleep(0.02)
    return found


_SMALL = ("--circle", "150.1 2.2 0.001")


def _no_links(*_: object) -> None:
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


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

    @pytest.mark.parametrize("kind", ["itself", "symbolic", "hard", "from a link", "by ID"])
    def test_the_file_that_is_cut_is_not_written_over(self, tmp_path: Path, kind: str) -> None:
        """Under whichever name it goes."""
        image, link = tmp_path / "image.fits", tmp_path / "link.fits"
        content = FAMILIES["tan"]()
        image.write_bytes(content)
        if kind == "hard":
            link.hardlink_to(image)
        else:
            link.symlink_to(image)
        source, output = {
            "itself": ("image.fits", "./image.fits"),
            "from a link": ("link.fits", "image.fits"),
            "by ID": ("ivo://demo.invalid/files?image.fits", "image.fits"),
        }.get(kind, ("image.fits", "link.fits"))
        if kind == "by ID":
            assert run_command(
                "ingest", "image.fits", "--collection", "files", folder=tmp_path
            ).stdout.startswith("1 added")
        before = sorted(one.name for one in tmp_path.iterdir())
        ended = run_command("cut", source, *_SMALL, "-o", output, folder=tmp_path)
        _assert_one_line(ended, 2, "is the file that is cut; give another name with -o")
        assert image.read_bytes() == content
        assert sorted(one.name for one in tmp_path.iterdir()) == before

    def test_the_default_name_replaces_nothing(self, tmp_path: Path) -> None:
        """-o does: then a person has named it."""
        (tmp_path / "image.fits").write_bytes(FAMILIES["tan"]())
        there = {one.name for one in tmp_path.iterdir()}
        assert run_command("cut", "image.fits", *_SMALL, folder=tmp_path).returncode == 0
        (made,) = {one.name for one in tmp_path.iterdir()} - there
        cutout = (tmp_path / made).read_bytes()
        (tmp_path / made).write_text("mine")
        ended = run_command("cut", "image.fits", *_SMALL, folder=tmp_path)
        _assert_one_line(ended, 2, f"{made} is already there; say -o {made} to replace it")
        assert (tmp_path / made).read_text() == "mine"
        ended = run_command("cut", "image.fits", *_SMALL, "-o", made, folder=tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert (tmp_path / made).read_bytes() == cutout
        # A name that leads nowhere is one all the same.
        (tmp_path / made).unlink()
        (tmp_path / made).symlink_to("nowhere")
        ended = run_command("cut", "image.fits", *_SMALL, folder=tmp_path)
        _assert_one_line(ended, 2, "is already there")

    def test_a_name_that_is_taken_meanwhile(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With hard links, and on a file system that has none."""
        partial, target = tmp_path / "partial", tmp_path / "target"
        partial.write_text("new")
        target.write_text("mine")
        for has_links in (True, False):
            if not has_links:
                monkeypatch.setattr(Path, "hardlink_to", _no_links)
            with pytest.raises(UsageError, match="already there"):
                _move_where_nothing_is(partial, target)
            assert target.read_text() == "mine"
        target.unlink()
        _move_where_nothing_is(partial, target)
        assert target.read_text() == "new"

    def test_other_files_stay(self, tmp_path: Path) -> None:
        """Whatever they are called, and whether or not the cutout can be written."""
        (tmp_path / "image.fits").write_bytes(FAMILIES["tan"]())
        (tmp_path / "out.fits.part").write_text("mine")
        (tmp_path / "folder").mkdir()
        ended = run_command("cut", "image.fits", *_SMALL, "-o", "out.fits", folder=tmp_path)
        assert ended.returncode == 0, ended.stderr
        ended = run_command("cut", "image.fits", *_SMALL, "-o", "folder", folder=tmp_path)
        _assert_one_line(ended, 2, "cannot write folder: Is a directory")
        assert (tmp_path / "out.fits.part").read_text() == "mine"
        assert {one.name for one in tmp_path.iterdir()} == {
            "image.fits", "out.fits", "out.fits.part", "folder"
        }  # fmt: skip

    def test_a_device_is_written_to_and_stays(self, tmp_path: Path) -> None:
        (tmp_path / "image.fits").write_bytes(FAMILIES["tan"]())
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        with ThreadPoolExecutor(1) as pool:
            read = pool.submit(pipe.read_bytes)
            ended = run_command("cut", "image.fits", *_SMALL, "-o", "pipe", folder=tmp_path)
            assert ended.returncode == 0, ended.stderr
            assert len(read.result(30)) % 2880 == 0
        assert pipe.is_fifo()

    @pytest.mark.parametrize("output", [".", "./", "", "/", "..", "folder", "folder/.."])
    def test_a_folder_is_no_file_to_write(self, tmp_path: Path, output: str) -> None:
        """Those that have no name of their own included."""
        (tmp_path / "image.fits").write_bytes(FAMILIES["tan"]())
        (tmp_path / "folder").mkdir()
        ended = run_command("cut", "image.fits", *_SMALL, "-o", output, folder=tmp_path)
        _assert_one_line(ended, 2, f"cannot write {Path(output)}: Is a directory")
        assert {one.name for one in tmp_path.iterdir()} == {"image.fits", "folder"}

    @pytest.mark.parametrize(
        ("shell", "said"),
        [
            ("-o - > /dev/full", "cannot write standard output: No space left on device"),
            ("-o - >&-", "cannot write standard output: it is closed"),
            ("-o /dev/full", "cannot write /dev/full: No space left on device"),
        ],
    )
    def test_an_output_that_takes_nothing(self, tmp_path: Path, shell: str, said: str) -> None:
        (tmp_path / "image.fits").write_bytes(FAMILIES["tan"]())
        command = (
            f'"{sys.executable}" -m soda_service cut image.fits --circle "{_SMALL[1]}" {shell}'
        )
        ended = subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        _assert_one_line(ended, 2, said)

    def test_a_device_has_no_size_to_tell(self, tmp_path: Path) -> None:
        (tmp_path / "image.fits").write_bytes(FAMILIES["tan"]())
        ended = run_command("cut", "image.fits", *_SMALL, "-o", "/dev/null", folder=tmp_path)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")

    def test_what_takes_one_value_is_said_once(self, tmp_path: Path) -> None:
        """Of two circles one would be cut in silence."""
        (tmp_path / "image.fits").write_bytes(FAMILIES["tan"]())
        twice = (*_SMALL, "--circle", "150.1 2.2 0.002", "-o", "out.fits")
        ended = run_command("cut", "image.fits", *twice, folder=tmp_path)
        _assert_one_line(ended, 2, "--circle is given more than once, and takes one value")
        assert not (tmp_path / "out.fits").exists()
        ended = run_command(
            "cut", "image.fits", *_SMALL, "-o", "a.fits", "--output", "b.fits", folder=tmp_path
        )
        _assert_one_line(ended, 2, "--output is given more than once")
        more = ("--mask", "--mask", "--fill", "BLANK", "--fill", "0", "-o", "out.fits")
        ended = run_command("cut", "image.fits", *_SMALL, *more, folder=tmp_path)
        assert ended.returncode == 0, ended.stderr

    def test_without_a_place_it_asks_for_one(self, tmp_path: Path) -> None:
        """The whole file would take its own name."""
        (tmp_path / "image.fits").write_bytes(FAMILIES["tan"]())
        ended = run_command("cut", "image.fits", folder=tmp_path)
        _assert_one_line(ended, 2, "no place was given, so this is the whole file")
        assert [one.name for one in tmp_path.iterdir()] == ["image.fits"]

    @pytest.mark.parametrize(
        ("packing", "output", "warned"),
        [
            ("gz", "out.fits", "out.fits is compressed by gzip, which its name does not say"),
            ("gz", "out.fits.gz", ""), ("none", "out.fits", ""), ("fz", "out.fits", ""),
            ("none", "out.fits.gz", "out.fits.gz is not compressed by gzip, as its name says"),
        ],
    )  # fmt: skip
    def test_names_that_mislead_are_told(
        self, tmp_path: Path, packing: str, output: str, warned: str
    ) -> None:
        """It is written as it was asked for, and the person hears of it."""
        (tmp_path / "image.fits").write_bytes(FAMILIES["tan"]())
        ended = run_command(
            "cut", "image.fits", "--circle", "150.1 2.2 0.001", "--compress", packing,
            "-o", output, folder=tmp_path,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        is_gzip = (tmp_path / output).read_bytes().startswith(b"\x1f\x8b")
        assert is_gzip == (packing == "gz")
        if warned:
            assert f"soda-service: {warned}" in ended.stderr
        else:
            assert "gzip" not in ended.stderr

    @pytest.mark.parametrize(
        ("options", "sections"),
        [
            (["--range", "150.099 150.101 2.199 2.201"], [(10, 10)]),
            (["--box", "150.1 2.2 0.001 0.0016"], [(6, 9)]),
            (["--stamp", "150.1 2.2 8 5"], [(8, 5)]),
            (["--stamp", "150.1 2.2 8 5", "--proof"], [(8, 5)]),
            (["--stamp", "150.1056 2.2 8 5", "--edge", "pad"], [(8, 5)]),
            (["--pixels", "[-4:20,3:9]"], [(20, 7)]),
            (["--pixels", "[-4:20,3:9]", "--edge", "pad", "--fill", "BLANK", "--fill", "0"],
             [(25, 7)]),
            (["--circle", "150.1 2.2 0.001", "--mask", "--checksum"], [(10, 10)]),
        ],
    )  # fmt: skip
    def test_the_same_ways_to_ask(
        self, tmp_path: Path, options: list[str], sections: list[tuple[int, int]]
    ) -> None:
        path = tmp_path / "image.fits"
        path.write_bytes(FAMILIES["tan"]())
        ended = run_command("cut", str(path), *options, "-o", "out.fits", folder=tmp_path)
        assert ended.returncode == 0, ended.stderr
        with fits.open(tmp_path / "out.fits") as opened:
            found = [one.data.shape[::-1] for one in opened]
        for axes, wanted in zip(found, sections, strict=True):
            assert all(0 <= axis - least <= 2 for axis, least in zip(axes, wanted, strict=True))
        if "--stamp" in options or "--pixels" in options:
            assert found == sections

    def test_hdus_and_headers(self, tmp_path: Path) -> None:
        path = tmp_path / "image.fits"
        path.write_bytes(FAMILIES["mef"]())
        ended = run_command(
            "cut", str(path), "--hdu", "mask", "--hdu", "1", "--header-only",
            "--stamp", "150.1 2.2 9", "-o", "-", folder=tmp_path,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        headers = [fits.Header.fromstring(one, sep="\n") for one in ended.stdout.split("\n\n")]
        assert [one.get("EXTNAME") for one in headers] == [None, "IMAGE", "MASK"]
        assert headers[1]["NAXIS1"] == 9

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--stamp", "150.1 2.2 9", "--pixels", "[1:2]"], "not several"),
            (["--pixels", "[9:1]"], "9 before 1"),
            (["--compress", "zip", "--stamp", "150.1 2.2 9"], "none, fz or gz"),
            (["--moc", "3/1 2/", "--stamp", "150.1 2.2 9"], "not several"),
            (["--edge", "clip", "--stamp", "150.1 2.2 9"], "trim, pad or refuse"),
            (["--hdu", "X", "--stamp", "150.1 2.2 9"], "no HDU 'X' among 0 (PRIMARY,1)"),
            (["--mask", "--stamp", "150.1 2.2 9"], "outside of a shape"),
        ],
    )
    def test_wrong_ways_to_ask(self, tmp_path: Path, options: list[str], said: str) -> None:
        path = tmp_path / "image.fits"
        path.write_bytes(FAMILIES["tan"]())
        _assert_one_line(run_command("cut", str(path), *options, folder=tmp_path), 2, said)

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


def test_stopped_while_it_loads() -> None:
    """Ctrl-C in the first tenths of a second: no traceback, and the status of an interrupt."""
    code = (
        "import sys\n"
        "class Stopped:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stopped())\n"
        "from soda_service.__main__ import main\n"
        "main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("place", "shown", "code"),
    [
        ("s3://AKIAIOSF:wJalr/S3CRET@bucket/x.fits", "", 2),
        ("https://user:pa/S3CRET@host/x.fits", "", 2),
        ("ftp://user:S3CRET@host/x.fits", "'ftp://…@host/x.fits'", 2),
        ("ftp://user:S3C/RET@[::1/x.fits", "'ftp://…@[::1/x.fits'", 2),
        ("file://user:S3CRET@[::1/x.fits", "'file://…@[::1/x.fits'", 2),
        ("s3:/AKIAIOSF:wJalr/S3CRET@bucket/x.fits", "/s3:…@bucket/x.fits", 1),
        ("https:user:S3CRET@host/x.fits", "/https:…@host/x.fits", 1),
        ("//user:S3CRET@[host/x.fits", "/user:…@[host/x.fits", 1),
    ],
)
@pytest.mark.parametrize("command", ["cut", "ingest"])
def test_passwords_in_urls_are_not_said_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    place: str,
    shown: str,
    code: int,
) -> None:
    """Whether the URL is a wrong one, of another kind, or not even written as one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["soda-service", command, place])
    with pytest.raises(SystemExit) as ended:
        main()
    said = "".join(capsys.readouterr())
    assert ended.value.code == code, said
    assert shown in said
    assert not re.search("CRET|S3C|RET|AKIA|wJalr", said)


def test_names_that_look_like_passwords_are_said(tmp_path: Path) -> None:
    """Where something has them: the person who reads of it must find it."""
    folder = tmp_path / "2026:a@b"
    folder.mkdir()
    (folder / "c:d@e.fits").write_bytes(FAMILIES["tan"]()[:3000])
    ended = run_command("ingest", folder.name, folder=tmp_path)
    assert f"skipped {folder}/c:d@e.fits: " in ended.stderr
    assert f"{folder}/c:d@e.fits: " in run_command(
        "cut", "2026:a@b/c:d@e.fits", folder=tmp_path).stderr  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    url = f"http://127.0.0.1:{port}/a@b:c.fits"
    quick = {"SODA_REMOTE_RETRIES": "0", "SODA_REMOTE_TIMEOUT_SECONDS": "1"}
    for command, said in (("ingest", f"skipped {url}: "), ("cut", f"soda-service: {url}: ")):
        assert said in run_command(command, url, folder=tmp_path, environment=quick).stderr


def test_an_output_that_was_meant_as_a_url(tmp_path: Path) -> None:
    (tmp_path / "a.fits").write_bytes(FAMILIES["tan"]())
    output = "https://user:S3CRET@host/x.fits"
    ended = run_command("cut", "a.fits", "--pixels", "[1:2,*]", "-o", output, folder=tmp_path)
    _assert_one_line(ended, 2, "cannot write https:…@host/x.fits: No such file")
    assert "S3CRET" not in ended.stderr


def test_a_folder_may_be_called_as_a_scheme_is(tmp_path: Path) -> None:
    (tmp_path / "s3").mkdir()
    (tmp_path / "s3" / "a.fits").write_bytes(FAMILIES["tan"]())
    ended = run_command("ingest", "s3", folder=tmp_path)
    assert (ended.returncode, ended.stdout[:7]) == (0, "1 added"), ended.stderr


class TestCheck:
    """Whether all is well."""

    def test_a_root_that_is_no_url_any_more(self, tmp_path: Path) -> None:
        """An earlier version took it; what was meant as a password is not said."""
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "image.fits").write_bytes(FAMILIES["tan"]())
        assert run_command("ingest", "data", folder=tmp_path).returncode == 0
        with closing(sqlite3.connect(tmp_path / "soda-data" / "catalog.sqlite")) as catalog:
            roots = json.dumps(["s3://AKIAIOSF:wJalr/S3CRET@bucket/x"])
            catalog.execute("UPDATE collection SET roots = ?", [roots])
            catalog.commit()
        ended = run_command("check", folder=tmp_path)
        assert ended.returncode == 1
        assert (
            "collection data: its root s3://…@bucket/x cannot be used: a URL with " in ended.stderr
        )
        assert not re.search("CRET|AKIA|wJalr", ended.stderr + ended.stdout)

    def test_without_a_catalog_it_says_so_and_makes_none(self, tmp_path: Path) -> None:
        ended = run_command("check", folder=tmp_path)
        assert ended.returncode == 1
        assert "no catalog at soda-data/catalog.sqlite; run ingest" in ended.stderr
        assert list(tmp_path.iterdir()) == []

    def test_an_empty_catalog_is_none_to_rely_on(self, tmp_path: Path) -> None:
        """Often it is that of another folder, or of another setting."""
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "notes.txt").write_text("")
        assert run_command("ingest", "data", folder=tmp_path).returncode == 1
        ended = run_command("check", folder=tmp_path)
        assert ended.returncode == 1
        assert "catalog: soda-data/catalog.sqlite is empty; run ingest" in ended.stderr
        assert ended.stdout == "0 datasets checked, 1 problem\n"

    def test_what_became_of_files(self, tmp_path: Path) -> None:
        """One that ingest can take again is told apart from one that it will not."""
        (tmp_path / "data").mkdir()
        for name in ("same", "larger", "damaged", "folder"):
            (tmp_path / "data" / f"{name}.fits").write_bytes(FAMILIES["tan"]())
        assert run_command("ingest", "data", folder=tmp_path).returncode == 0
        (tmp_path / "data" / "larger.fits").write_bytes(FAMILIES["mef"]())
        (tmp_path / "data" / "damaged.fits").write_bytes(FAMILIES["tan"]()[:3000])
        (tmp_path / "data" / "folder.fits").unlink()
        (tmp_path / "data" / "folder.fits").mkdir()
        ended = run_command("check", folder=tmp_path)
        assert ended.returncode == 1
        assert ended.stdout == "4 datasets checked, 3 problems\n"
        said = dict(re.findall(r"^ivo://\S+\?(\S+): (.*)$", ended.stderr, re.MULTILINE))
        assert said["larger.fits"] == "its file has changed since it was ingested"
        assert said["damaged.fits"].startswith("its file has changed since it was ingested, and ")
        assert said["damaged.fits"].endswith(": ingest takes it out of the catalog")
        assert said["folder.fits"] == "cannot be opened: not a file"
        ended = run_command("ingest", "data", folder=tmp_path)
        assert "1 changed, 0 moved, 1 unchanged, 2 removed" in ended.stdout

    def test_wrong_settings_are_wrong_usage(self, tmp_path: Path) -> None:
        path = _settings_file(tmp_path / "soda.toml", prot="1")
        assert run_command("check", "--config", str(path), folder=tmp_path).returncode == 2
        path = _settings_file(tmp_path / "soda.toml", title="T")
        ended = run_command("check", "--config", str(path), folder=tmp_path)
        assert ended.returncode == 2
        assert "there is no " in ended.stderr
        assert "collections.toml: `collections` says where" in ended.stderr

    def test_all_is_well(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "image.fits").write_bytes(FAMILIES["tan"]())
        assert run_command("ingest", "data", folder=tmp_path).returncode == 0
        ended = run_command("check", folder=tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert "1 dataset checked, 0 problems\n" in ended.stdout

    def test_examples_that_were_copied_are_no_problem(self, tmp_path: Path) -> None:
        """The demo's collections are not missed where they came along; one's own are."""
        copied = resource_path("config/collections.toml").read_text(encoding="utf-8")
        (tmp_path / "collections.toml").write_text(f'{copied}\n[collections.mine]\nroot = "mine"\n')
        (tmp_path / "soda.toml").write_text('collections = "collections.toml"\ndata_dir = "."\n')
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "image.fits").write_bytes(FAMILIES["tan"]())
        config = ("--config", str(tmp_path / "soda.toml"))
        assert run_command("ingest", "data", *config, folder=tmp_path).returncode == 0
        ended = run_command("check", *config, folder=tmp_path)
        assert ended.returncode == 1
        (problem,) = [line for line in ended.stderr.splitlines() if "root" in line]
        assert problem.startswith("collection mine: its root")


def test_the_demo_leaves_a_folder_of_ones_own_alone(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "visits").mkdir(parents=True)
    (mine / "visits" / "a.fits").write_bytes(FAMILIES["tan"]())
    (mine / "truth.csv").write_text("mine")
    before = {one: one.stat() for one in tmp_path.rglob("*")}
    ended = run_command("demo", "--dir", "mine", "--no-serve", folder=tmp_path)
    assert ended.returncode == 2
    assert f"{mine} is not a demo archive, but not empty; name another --dir" in ended.stderr
    assert {one: one.stat() for one in tmp_path.rglob("*")} == before


def test_the_demo_fails_where_a_file_does(tmp_path: Path) -> None:
    (tmp_path / "demo" / "radio").mkdir(parents=True)
    (tmp_path / "demo" / MARKER).write_text("{}")
    (tmp_path / "demo" / "radio" / "broken.fits").write_bytes(b"SIMPLE")
    ended = run_command("demo", "--dir", "demo", "--no-serve", folder=tmp_path)
    assert ended.returncode == 1
    assert "broken.fits" in ended.stderr
