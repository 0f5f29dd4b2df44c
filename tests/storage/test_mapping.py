"""Mappings: what is lost under them is zeros and known as such, and nobody dies of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from soda_service.errors import SodaServiceError
from soda_service.storage.local import LocalSource
from soda_service.storage.mapping import PAGE, FileMapping
from soda_service.storage.runs import RunGrid

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 64 * PAGE + 100


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    path = tmp_path / "mapped"
    path.write_bytes(b"\1" * SIZE)
    return path


@pytest.fixture(name="mapping")
def _mapping(path: Path) -> Iterator[FileMapping]:
    with path.open("rb") as file:
        yield FileMapping(file.fileno(), SIZE)


def test_what_was_truncated_is_zeros(path: Path, mapping: FileMapping) -> None:
    """From the first lost page on; what is still there is as it was."""
    said = []
    for begin, end in ((0, SIZE), (0, 10 * PAGE), (20 * PAGE, SIZE)):
        if begin == 0 and end < SIZE:
            os.truncate(path, end)
        piece = mapping.content[begin:end]
        said.append((int(piece.min()), int(piece.max()), mapping.is_torn))
    assert said == [(1, 1, False), (1, 1, False), (0, 0, True)]
    # Pages before the one that was touched first are not replaced with it.
    assert bytes(mapping.content) == b"\1" * (10 * PAGE) + bytes(SIZE - 10 * PAGE)


def test_other_mappings_are_left_alone(tmp_path: Path, path: Path, mapping: FileMapping) -> None:
    """A file that loses its pages does not harm the next one."""
    other = tmp_path / "other"
    other.write_bytes(b"\2" * SIZE)
    with other.open("rb") as file:
        sound = FileMapping(file.fileno(), SIZE)
    os.truncate(path, 0)
    assert not mapping.content.any()
    assert mapping.is_torn
    assert not sound.is_torn
    assert sound.content.min() == sound.content.max() == 2


def test_threads_that_lose_their_pages_together(path: Path, mapping: FileMapping) -> None:
    """Each copies on to its end, those without the interpreter's lock too."""
    together = threading.Barrier(8)
    os.truncate(path, 0)

    def copy(_: int) -> int:
        together.wait(20)
        return int(mapping.content.copy().sum())

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(copy, range(8))) == [0] * 8
    assert mapping.is_torn


def test_a_mapping_outlives_what_was_put_into_it(path: Path) -> None:
    """Let go of, it takes the zeros with it: nothing stays mapped."""
    name = str(path)
    for _ in range(50):
        path.write_bytes(b"\1" * SIZE)
        with path.open("rb") as file:
            mapping = FileMapping(file.fileno(), SIZE)
        os.truncate(path, PAGE)
        assert mapping.content.sum() == PAGE
        del mapping
    assert name not in Path("/proc/self/maps").read_text(errors="replace")


def test_files_truncated_and_written_while_they_are_copied(path: Path) -> None:
    """A copy is of one version, or none: never of zeros that nobody wrote."""
    grid = RunGrid(0, 16 * PAGE, (4,), (16 * PAGE,))
    done = threading.Event()

    def change() -> None:
        for number in range(150):
            time.sleep(0.01)  # longer than the clock of older kernels stands still
            os.truncate(path, 0)
            path.write_bytes(bytes([number % 200 + 1]) * SIZE)
        done.set()

    with ThreadPoolExecutor(1) as threads:
        changing = threads.submit(change)
        while not done.is_set() and not changing.done():
            with LocalSource.open(str(path)) as source:
                try:
                    for _ in range(20):
                        runs = source.resident_runs(grid)
                        if runs is not None:
                            octets = np.frombuffer(runs, np.uint8)
                            assert octets.min() == octets.max() != 0
                except SodaServiceError:
                    continue
        changing.result(60)
    assert done.is_set()


@pytest.mark.parametrize("sent", [False, True], ids=["touched", "sent"])
def test_other_errors_of_the_bus_end_the_process(tmp_path: Path, sent: bool) -> None:
    """What is not about a mapping of this service goes to who handled it before."""
    script = """
    import mmap, os, sys
    from pathlib import Path
    from soda_service.storage.mapping import FileMapping
    path = Path(sys.argv[1])
    path.write_bytes(bytes(100_000))
    file = path.open("rb")
    ours = FileMapping(file.fileno(), 100_000)
    theirs = mmap.mmap(file.fileno(), 100_000, prot=mmap.PROT_READ)
    os.truncate(path, 0)
    print(ours.content.sum(), ours.is_torn, flush=True)
    if sys.argv[2] == "True":
        os.kill(os.getpid(), 7)
    else:
        theirs[50_000]
    print("alive", flush=True)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "file"), str(sent)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == ["0", "True"]
    assert done.returncode == -signal.SIGBUS
