"""Prepared datasets: as many as fit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from soda_service.cutout.prepared import PreparedDatasets

if TYPE_CHECKING:
    from support.cutouts import Workbench


def test_what_does_not_fit_into_memory_leaves(bench: Workbench) -> None:
    """The one used longest ago first; the one used last stays, however large it is."""
    subject = bench.family("tan")
    datasets = [replace(subject.dataset) for _ in range(4)]
    for number, one in enumerate(datasets):
        facts = replace(one.obscore, obs_publisher_did=f"ivo://archive.example/x?{number}")
        datasets[number] = replace(one, obscore=facts)
    files = subject.cutter._files
    size = PreparedDatasets(1, files).get(datasets[0]).memory
    kept = PreparedDatasets(100, files, memory=3 * size)
    for one in datasets[:3]:
        kept.get(one)
    assert all(kept.peek(one) for one in datasets[:3])
    kept.get(datasets[3])
    assert [kept.peek(one) is not None for one in datasets] == [False, True, True, True]
    # One of them turns out to be larger than all were.
    last = kept.peek(datasets[3])
    assert last is not None
    next(hdu for hdu in last.hdus if hdu.grid is not None).sky_index()
    assert last.memory > 3 * size
    kept.get(datasets[0])
    assert [kept.peek(one) is not None for one in datasets] == [True, False, False, False]
