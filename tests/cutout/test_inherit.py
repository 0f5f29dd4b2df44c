"""INHERIT = T: what times and wavelengths count from may stand in the primary header alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.time import Time
from support.cutouts import compare
from support.images import extension, linear_cards, primary, ramp, sky_cards

from soda_service.errors import UsageError
from soda_service.geometry.dali import parse_pixels
from soda_service.geometry.shapes import Circle, Interval

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from support.cutouts import Subject, Workbench
    from support.images import CardSpec

TIMES = linear_cards(3, "TIME", "s", 1.0, 100.0, 30.0)
VELOCITIES = linear_cards(3, "VRAD", "m/s", 1.0, 0.0, 1000.0)
REFERENCE: list[CardSpec] = [("MJDREFI", 58000), ("MJDREFF", 0.25), ("TIMESYS", "TT")]
LINE: list[CardSpec] = [("RESTFRQ", 1.420405752e9), ("SPECSYS", "LSRK")]
INHERITS: list[CardSpec] = [("INHERIT", True)]
LIGHT = 299792458.0
AROUND = Circle(150.1, 2.2, 1.0)


def written(
    bench: Workbench,
    folder: Path,
    axis: Sequence[CardSpec],
    above: Sequence[CardSpec],
    own: Sequence[CardSpec],
) -> Subject:
    """A cube of 17 x 13 x 9 in an extension, with cards of its own and of the primary header."""
    path = folder / "inherits.fits"
    path.write_bytes(primary(None, above) + extension(ramp(17, 13, 9), [*sky_cards(), *axis, *own]))
    return bench.of(path)


def planes(subject: Subject, **asked: Any) -> str | None:
    """The planes of a cutout that was compared with its parent, as a section has them."""
    plan = subject.plan(**asked)
    if plan is None:
        return None
    figures = compare(subject, subject.made(plan))
    assert figures.pixels
    assert figures.values == 0
    assert not figures.lost
    (section,) = [one.box.section for one in plan.hdus if one.box]
    return section[1:-1].split(",")[2]


def at(seconds: NDArray[np.float64] | float, reference: float, scale: str) -> Interval:
    """Five seconds either side of that many *seconds* after a reference MJD."""
    middle = float(Time(reference, np.asarray(seconds) / 86400, format="mjd", scale=scale).utc.mjd)
    return Interval(middle - 5 / 86400, middle + 5 / 86400)


def test_times_count_from_what_the_primary_header_says(bench: Workbench, tmp_path: Path) -> None:
    subject = written(bench, tmp_path, TIMES, REFERENCE, INHERITS)
    for plane in (1, 5, 9):
        asked = at(100.0 + 30 * (plane - 1), 58000.25, "tt")
        assert planes(subject, time=asked) == f"{plane}:{plane}"
    assert planes(subject, time=Interval(0.0, 1.0)) is None
    assert subject.dataset.obscore.t_min == pytest.approx(
        Time(58000.25, 85 / 86400, format="mjd", scale="tt").utc.mjd, abs=1e-9
    )


@pytest.mark.parametrize("own", [[], [("INHERIT", False)], [("INHERIT", "T")]])
def test_without_inherit_they_do_not(bench: Workbench, tmp_path: Path, own: list[CardSpec]) -> None:
    """The reference is then MJD 0 (FITS 4.0 §9.2.2), in UTC."""
    subject = written(bench, tmp_path, TIMES, REFERENCE, own)
    asked = Interval(100 / 86400 - 1e-5, 100 / 86400 + 1e-5)
    assert planes(subject, time=asked) == "1:1"


@pytest.mark.parametrize(
    ("own", "reference", "scale"),
    [
        # Two parts go before one in one header, but the extension's own go before all.
        ([("MJDREF", 57000.0)], 57000.0, "tt"),
        ([("DATEREF", "2014-12-09")], 57000.0, "tt"),
        ([("TIMESYS", "TAI")], 58000.25, "tai"),
        # An undefined value says nothing.
        ([("TIMESYS", None)], 58000.25, "tt"),
    ],
)
def test_what_the_extension_says_goes_before(
    bench: Workbench, tmp_path: Path, own: list[CardSpec], reference: float, scale: str
) -> None:
    subject = written(bench, tmp_path, TIMES, REFERENCE, [*INHERITS, *own])
    assert planes(subject, time=at(100.0 + 30 * 3, reference, scale)) == "4:4"


def test_wavelengths_have_their_line_and_their_frame_from_there(
    bench: Workbench, tmp_path: Path
) -> None:
    """As the same cube with the cards in its own header; not where it does not inherit."""
    alone = written(bench, tmp_path, VELOCITIES, [], LINE)
    image = alone.dataset.obscore
    inherits = written(bench, tmp_path, VELOCITIES, LINE, INHERITS)
    assert inherits.dataset.obscore.em_min == image.em_min
    assert inherits.dataset.obscore.em_max == image.em_max
    assert image.em_min is not None
    assert image.em_min == pytest.approx(LIGHT / 1.420405752e9, rel=1e-4)
    middle = Interval(0.2111061 * (1 + 3300 / LIGHT), 0.2111061 * (1 + 3600 / LIGHT))
    assert planes(inherits, band=middle) == planes(alone, band=middle)
    bare = written(bench, tmp_path, VELOCITIES, LINE, [])
    with pytest.raises(UsageError, match="RESTFRQ and RESTWAV are absent"):
        bare.plan(band=middle)


def test_an_aips_name_of_the_frame_goes_before_specsys(bench: Workbench, tmp_path: Path) -> None:
    """VELO-HEL is heliocentric, whatever SPECSYS the primary header has."""
    axis = linear_cards(3, "VELO-HEL", "m/s", 1.0, 0.0, 1000.0)
    alone = written(bench, tmp_path, axis, [], LINE[:1]).dataset.obscore
    inherits = written(bench, tmp_path, axis, LINE, INHERITS).dataset.obscore
    assert inherits.em_min == alone.em_min


def test_the_sky_is_told_by_the_image_alone(bench: Workbench, tmp_path: Path) -> None:
    """As by wcslib and astropy, with which `planes` compares every pixel."""
    above: list[CardSpec] = [("EQUINOX", 1950.0), ("RADESYS", "FK4")]
    path = tmp_path / "equinox.fits"
    cards = [*sky_cards(radesys=None), *INHERITS]
    path.write_bytes(primary(None, above) + extension(ramp(17, 13), cards))
    subject = bench.of(path)
    plan = subject.plan(shape=AROUND)
    assert plan is not None
    assert compare(subject, subject.made(plan)).sky_mas == 0


# ---------------------------------------------------------------- values of another kind


@pytest.mark.parametrize(
    "wrong",
    [
        ("MJDREF", "58000.25"),
        ("MJDREF", ""),
        ("MJDREF", True),
        ("MJDREFI", "58000"),
        ("MJDREFF", "0.25"),
        ("JDREF", "2458000.5"),
        ("JDREFI", "J2458000"),
        ("TIMEOFFS", "3"),
        ("MJDREF", 1e200),
        ("DATEREF", 58000.25),
        ("TIMESYS", 1),
        ("TIMEUNIT", 86400.0),
    ],
)
@pytest.mark.parametrize("is_inherited", [False, True])
def test_a_value_of_another_kind_is_an_error_for_time_alone(
    bench: Workbench, tmp_path: Path, wrong: CardSpec, is_inherited: bool
) -> None:
    """The card is named; the sky and the pixels do not need it."""
    above, own = ([wrong], INHERITS) if is_inherited else ([], [wrong])
    subject = written(bench, tmp_path, TIMES, above, own)
    with pytest.raises(UsageError, match=f"{wrong[0]} = "):
        subject.plan(time=Interval(58000.0, 58001.0))
    by_sky = subject.plan(shape=AROUND)
    assert by_sky is not None
    assert compare(subject, subject.made(by_sky)).sky_mas == 0
    by_pixels = subject.plan(section=parse_pixels("[2:5,3:4,2:3]"))
    assert by_pixels is not None
    assert compare(subject, subject.made(by_pixels)).values == 0


def test_a_card_that_is_not_needed_is_no_error(bench: Workbench, tmp_path: Path) -> None:
    """MJD goes before JD."""
    own: list[CardSpec] = [*REFERENCE, ("JDREF", "unknown")]
    subject = written(bench, tmp_path, TIMES, [], own)
    assert planes(subject, time=at(100.0, 58000.25, "tt")) == "1:1"


@pytest.mark.parametrize(
    "wrong", [("RESTFRQ", "1.420405752E9"), ("RESTFREQ", "HI"), ("SPECSYS", 3)]
)
def test_the_same_for_wavelengths(bench: Workbench, tmp_path: Path, wrong: CardSpec) -> None:
    line = [] if wrong[0].startswith("REST") else LINE[:1]
    subject = written(bench, tmp_path, VELOCITIES, [], [*line, wrong])
    with pytest.raises(UsageError, match=f"{wrong[0]} = "):
        subject.plan(band=Interval(0.2, 0.3))
    assert subject.plan(shape=AROUND) is not None
