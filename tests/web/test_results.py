"""Answers that are kept: made once, sent often, over a real socket."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, Final

import httpx2
import pytest
from support.command import run_command, served
from support.images import write_family
from support.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEEPING: Final = {"SODA_RESULT_CACHE_BYTES": "100000000"}
CIRCLE: Final = "150.1 2.2 0.002"
COMPRESSED: Final = "ivo://demo.invalid/data?compressed_rice_1_i2.fits.fz"
PLAIN: Final = "ivo://demo.invalid/data?tan_sip.fits"
COMPUTED: Final = [
    {"ID": COMPRESSED, "CIRCLE": CIRCLE},
    {"ID": COMPRESSED, "CIRCLE": CIRCLE, "COMPRESS": "gz"},
    {"ID": PLAIN, "CIRCLE": CIRCLE, "COMPRESS": "fz"},
    {"ID": PLAIN, "CIRCLE": CIRCLE, "MASK": "1"},
]


@pytest.fixture(name="archive")
def _archive(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    write_family("compressed_rice_1_i2", tmp_path / "data")
    write_family("tan_sip", tmp_path / "data")
    done = run_command("ingest", "data", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


@pytest.fixture(name="wire")
def _wire(archive: Path) -> Iterator[Wire]:
    with (
        served("serve", folder=archive, environment=KEEPING) as server,
        httpx2.Client(timeout=30, trust_env=False) as client,
    ):
        yield Wire(base=server.base, folder=archive, client=client)


def kept(archive: Path, wanted: int = 1) -> list[Path]:
    """The files of the answers; they get their names once the clients have the last byte."""
    end = time.monotonic() + 20
    while True:
        found = sorted((archive / "soda-data" / "cache" / "results").glob("*/*.answer"))
        if len(found) >= wanted or time.monotonic() > end:
            return found
        time.sleep(0.01)


@pytest.mark.parametrize("asked", COMPUTED)
def test_the_second_time_it_is_read(wire: Wire, archive: Path, asked: dict[str, str]) -> None:
    """What lies in the folder is what is sent, with the same headers."""
    first = wire.get("soda/sync", **asked)
    assert first.status_code == 200
    (path,) = kept(archive)
    assert path.read_bytes() == first.content
    # Nobody else knows these bytes: they can come out of this file only.
    marked = b"MARK" + first.content[4:]
    status = path.stat()
    path.write_bytes(marked)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = wire.get("soda/sync", **asked)
    assert again.content == marked
    same = {"etag", "last-modified", "content-type", "content-length", "content-disposition"}
    assert {key: again.headers[key] for key in same} == {key: first.headers[key] for key in same}
    head = wire.ask("HEAD", "soda/sync", **asked)
    assert {key: head.headers[key] for key in same} == {key: first.headers[key] for key in same}


def test_what_is_copied_is_not_kept(wire: Wire, archive: Path) -> None:
    """Reading it again from the file is as quick; neither are headers alone."""
    assert wire.get("soda/sync", ID=PLAIN, CIRCLE=CIRCLE).status_code == 200
    assert wire.get("soda/sync", ID=PLAIN).status_code == 200
    assert wire.get("soda/sync", ID=PLAIN, CIRCLE=CIRCLE, HEADERONLY="1").status_code == 200
    assert wire.get("soda/sync", **COMPUTED[0]).status_code == 200
    assert len(kept(archive)) == 1


def test_another_version_is_another_answer(wire: Wire, archive: Path) -> None:
    """The tag has the version of the file in it."""
    asked = COMPUTED[0]
    first = wire.get("soda/sync", **asked)
    file = archive / "data" / "compressed_rice_1_i2.fits.fz"
    shutil.copy(file, file.with_suffix(".new"))
    file.with_suffix(".new").replace(file)
    os.utime(file)
    second = wire.get("soda/sync", **asked)
    assert second.status_code == 200
    assert second.headers["etag"] != first.headers["etag"]
    assert len(kept(archive, 2)) == 2


def test_another_process_reads_it(archive: Path) -> None:
    """After a restart it is there; without the setting nobody looks."""
    answers = []
    for environment in (KEEPING, KEEPING, {}):
        with (
            served("serve", folder=archive, environment=environment) as server,
            httpx2.Client(timeout=30, trust_env=False) as client,
        ):
            wire = Wire(base=server.base, folder=archive, client=client)
            answers.append(wire.get("soda/sync", **COMPUTED[0]).content)
        (path,) = kept(archive)
        path.write_bytes(path.read_bytes()[:-4] + b"MARK")
    assert answers[1] == answers[0][:-4] + b"MARK"
    assert answers[2] == answers[0]
