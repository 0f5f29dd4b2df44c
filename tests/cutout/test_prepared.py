"""Prepared datasets: as many as fit."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

from astropy.io import fits
from support.images import extension, primary, ramp, sky_cards

from soda_service.cutout.form import CutoutForm
from soda_service.cutout.prepared import PreparedDatasets
from soda_service.geometry.shapes import Circle

if TYPE_CHECKING:
    from pathlib import Path

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


def test_a_header_without_pixels_keeps_corners_only_where_no_image_is_cut(
    bench: Workbench, tmp_path: Path
) -> None:
    """Both answers are asked for twice: neither is given the other's header."""
    path = tmp_path / "corners.fits"
    path.write_bytes(primary(None, [("CORN1RA", 150.0)]) + extension(ramp(41, 43), sky_cards()))
    subject = bench.of(path)
    for _ in range(2):
        whole = subject.cut(form=CutoutForm(checksums=True))
        assert fits.getheader(io.BytesIO(whole or b""))["CORN1RA"] == 150.0
        cut = subject.cut(Circle(150.1, 2.2, 0.001))
        assert "CORN1RA" not in fits.getheader(io.BytesIO(cut or b""))
    subject.cutter.close()
