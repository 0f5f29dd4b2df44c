"""Ingest of many files: memory that does not grow with them, and nothing read without need.

What Python holds is counted by tracemalloc; what the processes take, by the system.
"""

from __future__ import annotations

import gc
import os
import tracemalloc
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.images import primary, sky_cards

from soda_service.catalog import batches, crew, ingest as ingest_module, walk
from soda_service.catalog.indexer import index
from soda_service.catalog.ingest import ingest
from soda_service.catalog.rows import rows_of
from soda_service.catalog.store import CatalogStore
from soda_service.catalog.walk import Places

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.archive import Archive

_MARK = b"########"

_BYTES_EACH = 60
"""Of memory that another file may cost: less than its path would."""


def write_many(archive: Archive, count: int, *, in_each: int) -> list[Path]:
    """So many small files, alike but for a card, in folders of *in_each*."""
    content = primary(np.zeros((4, 5), np.int16), [*sky_cards(), ("OBSID", _MARK.decode())])
    start, _, end = content.partition(_MARK)
    paths = []
    for number in range(count):
        folder = archive.folder / f"folder{number // in_each:06}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"an image with quite a long name, number {number:06}.fits"
        path.write_bytes(start + b"%08d" % number + end)
        paths.append(path)
    return paths


@contextmanager
def traced() -> Iterator[None]:
    """Counts what Python holds."""
    gc.collect()
    gc.freeze()  # else what other tests left is gone through at every note of the gauge
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.unfreeze()


def workers() -> list[int]:
    """The processes that read headers now."""
    return [
        int(child)
        for task in Path("/proc/self/task").iterdir()
        for child in (task / "children").read_text().split()
        if b"catalog.worker" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def own_memory(process: int) -> int:
    """Bytes of *process* that it shares with no other."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_"))


class Gauge:
    """Notes the memory of an ingest of *count* files in each quarter of it but the first.

    The least of each counts: what waits to be written comes and goes. The very end does not:
    when all files have been found, the lists of their folders go.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        # Numbers, and no lists of them, which would grow with the files.
        self.held = {1: 10**12, 2: 10**12, 3: 10**12}
        self.workers = {1: 10**12, 2: 10**12, 3: 10**12}

    def __call__(self, done: int, *_: object) -> None:
        quarter = (done - 1) * 4 // self.count
        if quarter in self.held and done < self.count * 0.95:
            gc.collect()
            held = tracemalloc.get_traced_memory()[0]
            self.held[quarter] = min(held, self.held[quarter])
            used = sum(own_memory(process) for process in workers())
            self.workers[quarter] = min(used, self.workers[quarter])

    def growth(self, memory: dict[int, int]) -> float:
        """Bytes for each file from one quarter to the next.

        The smaller of both: what is imported late comes once, what grows with files always does.
        """
        return min(memory[2] - memory[1], memory[3] - memory[2]) / (self.count / 4)


@pytest.mark.parametrize("in_each", [50, 1])
def test_memory_does_not_grow_with_new_files(
    archive: Archive, in_each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What waits is bounded, and so little that it does not hide what grows.
    monkeypatch.setattr(walk, "_LISTED_AT_ONCE", 10)
    monkeypatch.setattr(ingest_module, "_LOOKED_UP", 10)
    monkeypatch.setattr(batches, "_BATCH", 3)
    # What is imported and remembered once is no growth; nor is the list of a folder, which is
    # shorter here than the stretches that are compared.
    write_many(replace(archive, folder=archive.folder / "first"), 30, in_each=in_each)
    ingest([archive.folder], archive.settings, archive.collections, workers=2)
    write_many(archive, 900, in_each=in_each)
    gauge = Gauge(930)
    with traced():
        report = ingest(
            [archive.folder], archive.settings, archive.collections, workers=2, progress=gauge
        )
    assert report.added == 900
    # A folder costs a number that tells it from those entered before.
    assert gauge.growth(gauge.held) < _BYTES_EACH + (100 if in_each == 1 else 0)
    assert gauge.growth(gauge.workers) < 5_000


def test_unchanged_files_are_not_opened_and_cost_no_memory(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_many(archive, 4000, in_each=500)
    places = Places(archive.settings, archive.collections, ())
    place = places.of(str(archive.folder), str(archive.folder))
    store = CatalogStore(archive.settings)
    store.holdings.save_collection(place.collection, place.root, place.config)
    plain = index(str(paths[0]), place)
    rows = []
    for path in paths:
        status = path.stat()
        local_part = os.path.relpath(path, archive.folder)
        dataset = replace(
            plain,
            url=str(path),
            local_part=local_part,
            version=type(plain.version)(status.st_size, status.st_mtime_ns),
            obscore=replace(plain.obscore, obs_publisher_did=f"ivo://archive.example/{local_part}"),
        )
        rows.append(rows_of(dataset, place.fingerprint))
    store.holdings.write(rows)
    store.close()
    del rows

    def nobody(*_: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(crew, "_Worker", nobody)
    gauge = Gauge(4000)
    with traced():
        report = ingest(
            [archive.folder], archive.settings, archive.collections, workers=2, progress=gauge
        )
    assert (report.unchanged, report.added, report.failures) == (4000, 0, 0)
    assert gauge.growth(gauge.held) < _BYTES_EACH


def test_files_that_fail_cost_no_memory(archive: Archive) -> None:
    """But for the first thousand, whose reasons are kept."""
    for number in range(3600):
        (archive.folder / f"link{number:05}.fits").symlink_to("nowhere")
    held: dict[int, int] = {}
    told = 0

    def problem(path: str, reason: str) -> None:
        nonlocal told
        told += 1
        if not told % 1200:
            held[told] = tracemalloc.get_traced_memory()[0]

    with traced():
        report = ingest(
            [archive.folder], archive.settings, archive.collections, workers=1, problem=problem
        )
    assert (report.failures, len(report.failed)) == (3600, 1000)
    assert (held[3600] - held[1200]) / 2400 < _BYTES_EACH
