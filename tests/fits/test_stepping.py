"""Headers of every so-manyth plane, as astropy reads them."""

from __future__ import annotations

import warnings
from decimal import Decimal

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from soda_service.fits.cards import Header
from soda_service.fits.stepping import can_step, stepped_header

Cards = dict[str, object]
SKY: Cards = {
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": -30.0,
    "CRPIX1": 2.0, "CRPIX2": 1.5, "CDELT1": -0.01, "CDELT2": 0.01,
}  # fmt: skip


def header_of(cards: Cards, naxis: tuple[int, ...] = (3, 2, 7)) -> fits.Header:
    """An image header with these cards."""
    header = fits.PrimaryHDU(np.zeros(naxis[::-1], np.int16)).header
    for keyword, value in cards.items():
        header[keyword] = value
    return header


def stepped(header: fits.Header, axis: int, step: int) -> fits.Header:
    """What `stepped_header` makes of it."""
    made = stepped_header(header.tostring().encode("ascii"), axis, step)
    assert len(made) % 2880 == 0
    return fits.Header.fromstring(made.decode("ascii"))


def parsed(header: fits.Header) -> Header:
    """The same header as the engine has it."""
    return Header.parse(header.tostring().encode("ascii"))


@pytest.mark.parametrize("step", [1, 2, 3, 6])
@pytest.mark.parametrize(
    "third",
    [
        {"CTYPE3": "STOKES", "CRVAL3": 1.0, "CRPIX3": 1.0, "CDELT3": 1.0},
        {"CTYPE3": "STOKES", "CRVAL3": -1, "CRPIX3": 4, "CDELT3": -1},
        {"CTYPE3": "STOKES", "CRVAL3": 2.0, "CRPIX3": 2.0},
        {"CTYPE3": "STOKES", "CRPIX3": -1.0, "CDELT3": 1.0},
        {"CTYPE3": "STOKES", "CRVAL3": 1.5, "CRPIX3": 2.25, "CDELT3": 0.1, "CUNIT3": ""},
        {"CTYPE3": "STOKES", "CDELT3": 2.0, "PC3_3": 0.5, "CRPIX3": 3.0},
        {"CTYPE3": "STOKES", "CRVAL3": 1.0, "CRPIX3": 1.0, "CDELT3": 1.0, "CROTA3": 0.0},
    ],
)
def test_planes_keep_their_coordinates(third: Cards, step: int) -> None:
    """Every plane that is left has the world coordinate that it had, and the sky does not move."""
    parent = header_of({**SKY, **third})
    child = stepped(parent, 2, step)
    assert child["NAXIS3"] == 6 // step + 1
    planes = np.arange(0, 7, step)
    was = WCS(parent).all_pix2world(1.0, 0.0, planes, 0)
    now = WCS(child).all_pix2world(1.0, 0.0, np.arange(len(planes)), 0)
    assert np.array(now) == pytest.approx(np.array(was), abs=1e-12)


def test_a_matrix_and_an_alternate() -> None:
    """CD has the step; each alternate has its own."""
    matrix: Cards = {"CD1_1": -0.01, "CD2_2": 0.01, "CD3_3": 1.0, "CD1_3": 0.0}
    sky = {key: value for key, value in SKY.items() if not key.startswith("CDELT")}
    alternate: Cards = {"CTYPE3B": "PLANE", "CRVAL3B": 100.0, "CRPIX3B": 1.0, "CDELT3B": 10.0}
    first: Cards = {"CTYPE3": "STOKES", "CRVAL3": 1.0, "CRPIX3": 1.0}
    parent = header_of({**sky, **matrix, **first, **alternate})
    child = stepped(parent, 2, 3)
    assert child["CD3_3"] == 3.0
    assert child["CDELT3B"] == 30.0
    assert "CDELT3" not in child
    for key in (" ", "B"):
        values = WCS(child, key=key).all_pix2world(0.0, 0.0, [0, 1, 2], 0)[2]
        expected = WCS(parent, key=key).all_pix2world(0.0, 0.0, [0, 3, 6], 0)[2]
        assert values == pytest.approx(expected)


@pytest.mark.parametrize(
    "cards",
    [
        {"CD1_1": -0.01, "CD2_2": 0.01, "CTYPE3": "STOKES", "CRVAL3": 1.0, "CRPIX3": 1.0,
         "CDELT3": 5.0},
        {**SKY, "CTYPE3": "STOKES", "CRVAL3": 1.0, "CRPIX3": 1.0, "CDELT3": 1.0, "WCSAXESA": 3,
         "CTYPE1A": "X", "CRPIX1A": 2.0, "CTYPE2A": "Y", "CRPIX2A": 2.0},
        {**SKY, "CTYPE3": "STOKES", "CRVAL3": 1.0, "CRPIX3": 1.0, "CDELT3": 1.0, "WCSAXESA": 3,
         "CTYPE1A": "X", "CD1_1A": 2.0, "CTYPE2A": "Y", "CD2_2A": 2.0, "CDELT3A": 4.0},
    ],
)  # fmt: skip
# astropy tells that it takes the parent's missing element for 1.
@pytest.mark.filterwarnings("ignore:'cdfix' made the change")
def test_an_axis_of_which_a_description_says_nothing(cards: Cards) -> None:
    """Readers take defaults for it: pixels by number, and 1 beside the elements of CD."""
    parent = header_of(cards)
    child = stepped(parent, 2, 3)
    for key in sorted({"A" if name.endswith("A") and name != "CTYPEA" else " " for name in cards}):
        values = WCS(child, key=key).all_pix2world(0.0, 0.0, [0, 1, 2], 0)[2]
        expected = WCS(parent, key=key).all_pix2world(0.0, 0.0, [0, 3, 6], 0)[2]
        assert values == pytest.approx(expected)


@pytest.mark.parametrize("element", ["PC03_03", "PC003003", "PC3_03", "PC3_3"])
@pytest.mark.parametrize("alternate", ["", "A"])
def test_every_form_of_a_matrix_counts(element: str, alternate: str) -> None:
    """The diagonal is part of the step, however wcslib lets it be written."""
    if element == "PC003003" and alternate:
        return  # there is no such form
    third: Cards = {"CTYPE3": "STOKES", "CRVAL3": 2.0, "CRPIX3": 2.0, "CDELT3": 0.5}
    cards = {f"{key}{alternate}": value for key, value in {**SKY, **third, element: 4.0}.items()}
    parent = header_of(cards)
    child = stepped(parent, 2, 3)
    with warnings.catch_warnings():
        # astropy tells which forms should not be written.
        warnings.simplefilter("ignore", FITSFixedWarning)
        was, now = (WCS(one, key=alternate or " ") for one in (parent, child))
    expected = was.all_pix2world(0.0, 0.0, [0, 3, 6], 0)[2]
    assert expected[1] == expected[0] + 6.0
    assert now.all_pix2world(0.0, 0.0, [0, 1, 2], 0)[2] == pytest.approx(expected)


def test_a_description_without_the_axis_stays_without_it() -> None:
    """WCSAXES says that it has two axes, and no card names a third."""
    third: Cards = {"CTYPE3": "STOKES", "CRVAL3": 1.0, "CRPIX3": 1.0, "CDELT3": 1.0}
    other: Cards = {"WCSAXESA": 2} | {f"{key}A": value for key, value in SKY.items()}
    parent = header_of({**SKY, **third, **other})
    child = stepped(parent, 2, 3)
    was, now = (
        [str(card) for card in one.cards if card.keyword.endswith("A")] for one in (parent, child)
    )
    assert now == was
    named = stepped(header_of({**SKY, **third, **other, "CNAME3A": "plane"}), 2, 3)
    assert [named[key] for key in ("CRPIX3A", "CRVAL3A", "CDELT3A")] == [1.0, 1.0, 3.0]


@pytest.mark.parametrize("literal", ["9E999999", "1E999000", "1E-400", "1E400", "-Inf", "1_0"])
def test_numbers_out_of_all_bounds_are_not_reckoned_with(literal: str) -> None:
    """Neither a failure of arithmetic nor a zero comes of them."""
    third: Cards = {"CTYPE3": "STOKES", "CRVAL3": 1.0, "CRPIX3": 1.0, "CDELT3": 1.0}
    raw = parsed(header_of({**SKY, **third, "CTYPE3A": "X"})).raw
    header = Header(raw + f"CDELT3A = {literal}".encode().ljust(80))
    assert not can_step(header, 2)


def test_sizes_are_those_of_what_is_left() -> None:
    """Of the axis itself; others stay."""
    third: Cards = {"CTYPE3": "STOKES", "CRVAL3": 1.0, "CRPIX3": 1.0, "CDELT3": 1.0}
    child = stepped(header_of({**third, "SUBSIZE3": 7, "SUBSIZE2": 2, "SUBSTRT3": 5}), 2, 3)
    assert [child[key] for key in ("NAXIS3", "SUBSIZE3", "SUBSIZE2", "SUBSTRT3")] == [3, 3, 2, 5]


def test_cards_of_the_hierarch_convention_are_others() -> None:
    """Whatever their names, they stay as they are."""
    third: Cards = {"CTYPE3": "STOKES", "CRVAL3": 1.0, "CRPIX3": 1.0, "CDELT3": 1.0}
    lines = [b"HIERARCH CRVAL3 = 7.0", b"HIERARCH PV3_1 = 7.0", b"HIERARCH SUBSIZE3 = 7"]
    raw = b"".join(line.ljust(80) for line in lines)
    header = Header(parsed(header_of(third)).raw + raw)
    assert Header.parse(stepped_header(header.render(), 2, 3)).raw.endswith(raw)


def test_i_and_v() -> None:
    """The numbers that the standards' readers look for, exactly as they would be written."""
    third: Cards = {"CTYPE3": "STOKES", "CRVAL3": 1.0, "CRPIX3": 1.0, "CDELT3": 1.0}
    child = stepped(header_of(third, (3, 2, 4)), 2, 3)
    assert [child[key] for key in ("NAXIS3", "CRVAL3", "CRPIX3", "CDELT3")] == [2, 1.0, 1.0, 3.0]


def test_digits_are_kept() -> None:
    """Arithmetic is decimal: a tenth stays one."""
    third: Cards = {"CTYPE3": "STOKES", "CRVAL3": 0.1, "CRPIX3": 0.0, "CDELT3": 0.1}
    raw = stepped_header(header_of(third).tostring().encode("ascii"), 2, 3)
    numbers = {
        card[:6].decode(): Decimal(card[10:30].decode().strip())
        for card in (raw[at : at + 80] for at in range(0, len(raw), 80))
        if card[:6] in (b"CRVAL3", b"CDELT3")
    }
    assert numbers == {"CRVAL3": Decimal("0.2"), "CDELT3": Decimal("0.3")}


@pytest.mark.parametrize(
    "tied",
    [
        {"PC3_1": 0.1}, {"CD2_3": 0.1}, {"PV3_1": 1.0}, {"PS3_0": "TABLE"}, {"LTV3": 1.0},
        {"LTM3_3": 0.5}, {"CPDIS3": "LOOKUP"}, {"CROTA3": 3.0}, {"CRVAL3": "one"},
        {"PC003001": 0.2}, {"PC03_01": 0.2}, {"CD02_03": 0.2}, {"PV03_1": 1.0}, {"CDELT3A": 1e200},
        {"CRPIX3B": 1e-200}, {"PC3_3": 1.0, "PC03_03": 2.0}, {"DATASEC": "[1:3,1:2,2:7]"},
    ],
)  # fmt: skip
def test_a_tied_axis_is_not_stepped_along(tied: Cards) -> None:
    """What is more than a line is left to be cut in one piece."""
    third: Cards = {"CTYPE3": "STOKES", "CRVAL3": 1.0, "CRPIX3": 1.0, "CDELT3": 1.0}
    header = parsed(header_of({**SKY, **third, **tied}))
    assert not can_step(header, 2)
    assert can_step(parsed(header_of({**SKY, **third, "DATASEC": "[1:3,1:2]"})), 2)
    with pytest.raises(ValueError, match="axis 3"):
        stepped_header(header.render(), 2, 3)
