"""MOCs as files, read by mocpy and by astropy."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import mocpy
import numpy as np
import pytest
from astropy.io import fits
from support.mocs import reference

from soda_service.geometry.moc import parse_moc
from soda_service.render.moc import moc_fits, moc_json, moc_text

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ["3/10-12 5/45 56 29/", "0/0-11", "10/", "10/1-7 12000000", "13/805306367", "14/3221225471",
         "1/1-2 4 2/12-14 21 23 25 8/"]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_mocpy_reads_all_three(text: str, tmp_path: Path) -> None:
    moc = parse_moc(text)
    expected = reference(moc)
    (tmp_path / "moc.fits").write_bytes(moc_fits(moc, name="visits"))
    (tmp_path / "moc.json").write_bytes(moc_json(moc))
    (tmp_path / "moc.txt").write_bytes(moc_text(moc))
    for name, form in (("fits", "fits"), ("json", "json"), ("txt", "ascii")):
        back = mocpy.MOC.load(tmp_path / f"moc.{name}", format=form)
        assert back == expected
        assert back.max_order == moc.order


@pytest.mark.parametrize("text", TEXTS)
def test_the_table_says_what_it_is(text: str) -> None:
    """MOC 2.0 §5, and the canonical order of §6.1."""
    moc = parse_moc(text)
    raw = moc_fits(moc, name="a 'name'")
    assert len(raw) % 2880 == 0
    with fits.open(io.BytesIO(raw)) as hdus:
        hdus.verify("exception")
        primary, table = hdus
        assert primary.header["NAXIS"] == 0
        header = table.header
        assert header["MOCVERS"] == "2.0"
        assert header["MOCDIM"] == "SPACE"
        assert header["ORDERING"] == "NUNIQ"
        assert header["COORDSYS"] == "C"
        assert header["MOCORD_S"] == header["MOCORDER"] == moc.order
        assert header["TFORM1"] == ("1J" if moc.order < 14 else "1K")
        assert header["EXTNAME"] == "a 'name'"
        numbers = table.data["UNIQ"]
        assert numbers.size == moc.cell_count
        assert (np.diff(numbers.astype(np.int64)) > 0).all()


def test_json_names_the_finest_order() -> None:
    assert json.loads(moc_json(parse_moc("1/1 2 4 2/12-14 8/"))) == {
        "1": [1, 2, 4],
        "2": [12, 13, 14],
        "8": [],
    }
