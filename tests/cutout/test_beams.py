"""CASA's table of beams goes with the planes of its cube."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits
from support.cutouts import File
from support.images import linear_cards, primary, ramp, sky_cards, without

from soda_service.cutout.form import CutoutForm, Edge
from soda_service.geometry.dali import parse_pixels
from soda_service.geometry.shapes import Circle, Interval

if TYPE_CHECKING:
    from pathlib import Path

    from support.cutouts import Subject, Workbench

CHANNELS, STATES = 9, 4
LIGHT = 299792458.0


def beams(channels: int = CHANNELS, states: int = STATES) -> fits.BinTableHDU:
    """As CASA's exportfits writes it: one row for each channel of each polarization."""
    pol, chan = (one.ravel() for one in np.indices((states, channels)))
    columns = [
        fits.Column("BMAJ", "1E", unit="arcsec", array=10 + chan + 100 * pol),
        fits.Column("BMIN", "1E", unit="arcsec", array=5 + chan + 100 * pol),
        fits.Column("BPA", "1E", unit="deg", array=chan * 1.0),
        fits.Column("CHAN", "1J", array=chan),
        fits.Column("POL", "1J", array=pol),
    ]
    table = fits.BinTableHDU.from_columns(columns, name="BEAMS", ver=1)
    table.header["NCHAN"] = channels
    table.header["NPOL"] = states
    return table


def subject_of(bench: Workbench, folder: Path, table: fits.BinTableHDU, **cards: Any) -> Subject:
    sky = without(sky_cards("SIN", cdelt=(-2e-3, 2.1e-3), crpix=(8.25, 7.5)), "WCSAXES")
    frequency = linear_cards(3, "FREQ", "Hz", 1.0, 1.4e9, 1e6)
    stokes = linear_cards(4, "STOKES", "", 1.0, 1.0, 1.0)
    more = [(key, value) for key, value in {"CASAMBM": True, **cards}.items()]
    image = primary(ramp(17, 13, CHANNELS, STATES), [*sky, *frequency, *stokes, *more])
    path = folder / "cube.fits"
    path.write_bytes(image)
    fits.append(path, table.data, table.header)
    return bench.of(path)


def band(low: float, high: float) -> Interval:
    """The wavelengths of channels from *low* to *high*, counted from 0 at the middle of one."""
    return Interval(LIGHT / (1.4e9 + 1e6 * high), LIGHT / (1.4e9 + 1e6 * low))


@pytest.mark.parametrize(
    ("asked", "channels", "states"),
    [
        ({"band": band(2.8, 5.2)}, [3, 4, 5], [0, 1, 2, 3]),
        ({"band": band(2.8, 5.2), "pol": ("Q", "U")}, [3, 4, 5], [1, 2]),
        ({"pol": ("I", "V")}, list(range(9)), [0, 3]),
        ({"pol": ("V",), "shape": Circle(150.1, 2.2, 0.004)}, list(range(9)), [3]),
        ({"section": parse_pixels("[2:5,*,7:9,1:2]")}, [6, 7, 8], [0, 1]),
        ({"section": parse_pixels("[2:5,*,1:1,1:1]")}, [0], [0]),
    ],
)
def test_a_row_for_each_plane_that_is_left(
    bench: Workbench, tmp_path: Path, asked: dict[str, Any], channels: list[int], states: list[int]
) -> None:
    """CHAN and POL count the cutout's planes, and each of them has the beam that it had."""
    subject = subject_of(bench, tmp_path, beams())
    form = CutoutForm(checksums=True)
    contents = subject.cut(**asked, form=form)
    assert contents is not None
    (tmp_path / "cut.fits").write_bytes(contents)
    with fits.open(tmp_path / "cut.fits", checksum=True) as cut:
        cube, table = cut[0], cut["BEAMS"]
        assert table.header["NCHAN"] == cube.header["NAXIS3"] == len(channels)
        assert table.header["NPOL"] == cube.header["NAXIS4"] == len(states)
        assert len(table.data) == len(channels) * len(states)
        assert cube.header["CASAMBM"] is True
        expected = {
            (chan, pol): 10 + channel + 100 * state
            for chan, channel in enumerate(channels)
            for pol, state in enumerate(states)
        }
        found = {(row["CHAN"], row["POL"]): row["BMAJ"] for row in table.data}
        assert found == expected
        assert f"{len(found)} of {CHANNELS * STATES} rows" in str(table.header["HISTORY"])
        # As a reader does that wants a beam for each channel of a state, in their order.
        for pol in range(len(states)):
            own = table.data[table.data["POL"] == pol]
            assert list(own["CHAN"]) == list(range(cube.data.shape[1]))
    subject.cutter.close()


def test_a_padded_cube_numbers_channels_from_its_own_first(
    bench: Workbench, tmp_path: Path
) -> None:
    subject = subject_of(bench, tmp_path, beams(states=1))
    form = CutoutForm(edge=Edge.PAD)
    contents = subject.cut(section=parse_pixels("[*,*,-1:2]"), form=form)
    (tmp_path / "cut.fits").write_bytes(contents or b"")
    with fits.open(tmp_path / "cut.fits") as cut:
        assert cut[0].header["NAXIS3"] == 4
        assert list(cut["BEAMS"].data["CHAN"]) == [2, 3]
        assert list(cut["BEAMS"].data["BMAJ"]) == [10, 11]
    subject.cutter.close()


@pytest.mark.parametrize(
    ("table", "cards", "asked"),
    [
        (beams(), {}, {"shape": Circle(150.1, 2.2, 0.004)}),
        (beams(), {}, {"band": Interval()}),
        (beams(), {"CASAMBM": False}, {"band": band(2.8, 5.2)}),
        (beams(channels=20), {}, {"band": band(2.8, 5.2)}),
    ],
    ids=["all planes", "every wavelength", "no beams", "of another cube"],
)
def test_it_stays_as_it_is(
    bench: Workbench, tmp_path: Path, table: fits.BinTableHDU, cards: dict[str, Any],
    asked: dict[str, Any],
) -> None:  # fmt: skip
    """Byte for byte, where no plane is missing or the table is not the cube's."""
    subject = subject_of(bench, tmp_path, table, **cards)
    contents = subject.cut(**asked)
    assert contents is not None
    mother, found = subject.parent.hdus[1], File(contents).hdus[1]
    assert (found.raw_header, found.raw_data) == (mother.raw_header, mother.raw_data)
    subject.cutter.close()


def test_what_has_to_be_read_is_not_waited_for(bench: Workbench, tmp_path: Path) -> None:
    """The quick way leaves it to a thread until the table is at hand, and then agrees."""
    subject = subject_of(bench, tmp_path, beams())
    request = subject.request(band=band(2.8, 5.2))
    _ = subject.plan(Circle(150.1, 2.2, 0.004))
    quick = subject.cutter.plan_quickly(request)
    assert not hasattr(quick, "hdus")
    plan = subject.cutter.plan(request)
    assert subject.cutter.plan_quickly(request) == plan
    subject.cutter.close()
