"""Cutouts of everything, held against their parents by astropy, wcslib and fitsverify.

What is seen stands in docs/conformance.md, which `--update-golden` writes anew.
"""

from __future__ import annotations

import re
import shutil
from functools import cache
from typing import TYPE_CHECKING, Final

import pytest
from support.checkout import ROOT, require_checkout
from support.cutouts import Figures, File, Workbench, compare, measured
from support.images import (
    BEYOND_ASTROPY_FAMILIES,
    COUPLED_FAMILIES,
    FACES_FAMILIES,
    IMAGE_FAMILIES,
    SKY_FAMILIES,
    TAIL_FAMILIES,
)
from support.programs import require_program
from support.realdata import REAL_FILES, real_file

from soda_service.errors import CorruptFileError, UsageError
from soda_service.geometry.shapes import Circle

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.golden import Golden

CUT_FAMILIES: Final = (
    *SKY_FAMILIES, *FACES_FAMILIES, *BEYOND_ASTROPY_FAMILIES, "cube_frequency_slanted",
)  # fmt: skip
"""Families that can be cut by a place on the sky, bytes behind the end apart."""
REFUSED_FAMILIES: Final = tuple(name for name in IMAGE_FAMILIES if name not in CUT_FAMILIES)
"""Sound pixels without a place on the sky."""
UNREADABLE: Final = "5x5.fits"
"""The real file whose first cards hold NUL bytes."""

SKY_LIMIT: Final = 0.1
"""Milliarcseconds."""
OTHER_LIMIT: Final = 2e-12
"""Of the coordinate: rounding of the last digits, whichever way it is computed."""

TABLE: Final = ROOT / "docs" / "conformance.md"


@cache
def figures_of(bench: Workbench, name: str) -> Figures:
    """What is seen of one file, measured once."""
    subject = bench.real(name) if name in REAL_FILES else bench.family(name)
    return measured(
        subject, shutil.which("fitsverify"), coordinates=name not in BEYOND_ASTROPY_FAMILIES
    )


def assert_true_to_the_parent(figures: Figures, *, coordinates: bool = True) -> None:
    """All that is demanded of a cutout."""
    assert figures.cutouts
    assert figures.hdus
    assert figures.pixels
    assert figures.values == 0
    assert figures.lost == set()
    assert figures.complaints == set()
    assert figures.sky_mas < SKY_LIMIT
    assert figures.other_axes < OTHER_LIMIT
    if coordinates:
        assert figures.places


@pytest.mark.parametrize("name", CUT_FAMILIES)
def test_cutouts_of_the_zoo_are_true(bench: Workbench, name: str) -> None:
    """Pixels to the bit, places to 0.1 mas, cards to the byte, HDUs in their order."""
    assert_true_to_the_parent(
        figures_of(bench, name), coordinates=name not in BEYOND_ASTROPY_FAMILIES
    )


@pytest.mark.parametrize("name", [name for name in REAL_FILES if name != UNREADABLE])
def test_cutouts_of_real_files_are_true(bench: Workbench, name: str) -> None:
    """The same of files of many instruments."""
    assert_true_to_the_parent(figures_of(bench, name))


def test_fitsverify_was_asked() -> None:
    """Its absence is told here, once, or refused."""
    require_program("fitsverify")


def test_a_real_file_with_holes_in_its_cards_is_refused(bench: Workbench) -> None:
    """At the latest when a place on the sky is asked of it."""
    path = real_file(UNREADABLE)
    with pytest.raises((CorruptFileError, UsageError)):
        bench.of(path).plan(Circle(150.1, 2.2, 0.01))


@pytest.mark.parametrize("name", REFUSED_FAMILIES)
def test_what_has_no_place_on_the_sky_is_refused_with_the_reason(
    bench: Workbench, name: str
) -> None:
    """The card that is to blame, or that there is none."""
    with pytest.raises(UsageError, match="cannot be cut by sky position") as caught:
        bench.family(name).plan(Circle(150.1, 2.2, 0.01))
    reason = str(caught.value)
    if name.startswith("wcs_") or name in COUPLED_FAMILIES:
        assert re.search(r"HDU 0: [A-Z]+[0-9]*", reason)
    else:
        assert "no image of it has celestial coordinates" in reason


@pytest.mark.parametrize("name", TAIL_FAMILIES)
def test_bytes_behind_the_end_do_not_matter(bench: Workbench, name: str) -> None:
    """And do not go out."""
    subject = bench.family(name)
    sound = bench.family("tan")
    shape = Circle(150.1, 2.2, 0.001)
    contents, expected = subject.cut(shape), sound.cut(shape)
    assert contents is not None
    assert expected is not None
    assert b"\0" * 2880 not in contents
    # But for the name of the parent in HISTORY they are one.
    (one,), (other,) = File(contents).hdus, File(expected).hdus
    assert [card for card in one.cards if card[:8] != b"HISTORY "] == [
        card for card in other.cards if card[:8] != b"HISTORY "
    ]
    assert one.raw_data == other.raw_data


# ---------------------------------------------------------------- the judge


def _a_pixel(contents: bytes) -> bytes:
    return contents[:-2000] + bytes([contents[-2000] ^ 1]) + contents[-1999:]


def _a_place(contents: bytes) -> bytes:
    # The whole of the number is kept; a ten-millionth of a pixel is 0.08 microarcseconds.
    card = re.search(rb"CRPIX1  = +(-?[0-9.]+) ", contents)
    assert card is not None
    moved = f"{float(card[1]) + 0.001:.6f}".encode()
    return contents.replace(card[0].rstrip(), b"CRPIX1  = " + moved.rjust(20), 1)


def _a_card(contents: bytes) -> bytes:
    return contents.replace(b"KEY00017", b"KEY99999")


def _a_box(contents: bytes) -> bytes:
    return re.sub(rb"section \[([0-9]+):([0-9]+),", rb"section [\1:\2 ", contents)


@pytest.mark.parametrize("spoil", [_a_pixel, _a_place, _a_card, _a_box])
def test_the_comparison_notices(bench: Workbench, spoil: Callable[[bytes], bytes]) -> None:
    """One thing wrong at a time."""
    subject = bench.family("much_metadata")
    contents = subject.cut(Circle(150.1, 2.2, 0.002))
    assert contents is not None
    assert_true_to_the_parent(compare(subject, contents))
    spoilt = spoil(contents)
    assert spoilt != contents
    with pytest.raises((AssertionError, StopIteration)):
        assert_true_to_the_parent(compare(subject, spoilt))


# ---------------------------------------------------------------- the table


def test_the_table_says_what_is_seen(bench: Workbench, golden: Golden) -> None:
    """Rows of files that are not here, and of programs, are left as they are."""
    require_checkout()
    here = [name for name in REAL_FILES if name not in {"any", UNREADABLE}]
    written = TABLE.read_text(encoding="utf-8") if TABLE.exists() else ""
    known = {line.split("`")[1]: line for line in written.splitlines() if line.startswith("| `")}
    families = [row_of(name, figures_of(bench, name), known) for name in CUT_FAMILIES]
    real_names = sorted({*here, *(name for name in known if "." in name)})
    real = [
        row_of(name, figures_of(bench, name), known) if name in here else known[name]
        for name in real_names
    ]
    document = "\n".join([INTRODUCTION, *families, REAL_INTRODUCTION, *real, ""])
    if golden.is_updating:
        TABLE.write_text(document, encoding="utf-8")
    assert TABLE.exists(), "no docs/conformance.md: run pytest tests/cutout with --update-golden"
    assert TABLE.read_text(encoding="utf-8") == document


def row_of(name: str, figures: Figures, known: dict[str, str]) -> str:
    """One row, its numbers rounded so that no machine's last digit shows."""
    sky = f"{figures.sky_mas:.3f}" if figures.sky_mas >= 0.0005 else "0"
    if not figures.places:
        sky = "not astropy's"
    said = "nothing new" if not figures.complaints else "; ".join(sorted(figures.complaints))
    if shutil.which("fitsverify") is None and name in known:
        said = known[name].split("|")[-2].strip()
    # NAXIS1, NAXIS2... of one convention are one thing.
    left_out = sorted({re.sub(r"\d", "n", keyword) for keyword in figures.left_out})
    cells = [
        f"`{name}`",
        str(figures.hdus),
        _about(figures.pixels),
        sky,
        "0" if figures.values == 0 else f"{figures.values:.2g}",
        str(len(figures.lost)),
        ", ".join(left_out) or "none",
        said,
    ]
    return "| " + " | ".join(cells) + " |"


def _about(number: int) -> str:
    """Two digits of it."""
    digits = max(len(str(number)) - 2, 0)
    return f"{round(number, -digits):,}"


INTRODUCTION: Final = """\
# Conformance

What the tests see of cutouts, in one table. It is written by
`pytest tests/cutout/test_conformance.py --update-golden`, and the same test fails where the
code no longer gives these numbers.

Each file is cut by a circle in the middle, around two corners, inside one pixel, by polygons
inside and across the edge, and by a range. Every pixel of every cutout is compared with the
parent: its stored value to the bit (of compressed images with what astropy decompresses), its
place on the sky by astropy and wcslib, in every coordinate system of the header (`CTYPE1`,
`CTYPE1A`…), tables of distortion included. Every card is compared to the byte. fitsverify
sees the parent and cutouts in the middle and around a corner.

* **HDUs**: images that one request cuts at most.
* **pixels**: values compared, rounded.
* **sky**: largest distance in milliarcseconds between the place of a pixel in the cutout and
  its place in the parent; 0 is less than 0.0005.
* **values**: largest difference of stored values.
* **lost**: cards that are missing though no [rule](headers.md) says so.
* **left out**: keywords that a rule leaves out, because they would be untrue (n is a digit).
* **fitsverify**: complaints about a cutout that the parent does not draw.

Where it says "not astropy's", astropy does not read the coordinates (ZPX, and polynomials of
pixels in CPDISj). Pixels and cards are compared, and places by other means: ZPX against a
surface of another kind, polynomials of pixels by wcslib alone
(`tests/cutout/test_peers_faults.py`).

## The zoo

Small invented files, one for each trap (`tests/support/images.py`).

| file | HDUs | pixels | sky | values | lost | left out | fitsverify |
|---|---|---|---|---|---|---|---|"""

REAL_INTRODUCTION: Final = """
## Real files

Files of many instruments, which are not part of the project: set `SODA_TEST_DATA` to their
folder to repeat this. The rows of files that are not there are left alone.

| file | HDUs | pixels | sky | values | lost | left out | fitsverify |
|---|---|---|---|---|---|---|---|"""
