"""Cutouts of rows in RICE while their index is made, and after: the same bytes all the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits

from soda_service.geometry.dali import parse_pixels

if TYPE_CHECKING:
    from pathlib import Path

    from support.cutouts import Workbench


def test_a_cutout_stays_the_same_when_its_rows_are_indexed(
    bench: Workbench, tmp_path: Path
) -> None:
    stored = np.random.default_rng(6).normal(10, 3, (300, 2000)).astype("f4")
    path = tmp_path / "rows.fits.fz"
    fits.CompImageHDU(
        stored, compression_type="RICE_1", tile_shape=(1, 2000), quantize_method=1
    ).writeto(path)
    with fits.open(path) as hdus:
        expected = hdus[1].data[20:220, 1700:1950].astype("f4")
    subject = bench.of(path)
    try:
        answers = []
        for _ in range(4):
            answers.append(subject.cut(section=parse_pixels("[1701:1950,21:220]")))
            subject.cutter.wait_for_indexes()
        images = subject.cutter._images._images.values()
        assert [image.index is not None for image in images] == [True]
        assert answers[1:] == answers[:-1]
        assert np.array_equal(fits.HDUList.fromstring(answers[0])[1].data, expected)
    finally:
        subject.cutter.close()
