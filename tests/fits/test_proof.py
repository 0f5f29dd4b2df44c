"""Proofs: sound cutouts of the zoo pass, and every way of bending their coordinates is found."""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from astropy.io import fits
from support.checkout import ROOT, require_checkout
from support.images import (
    BROKEN_WCS_FAMILIES,
    FAMILIES,
    IMAGE_FAMILIES,
    SKY_FAMILIES,
    card_bytes,
    linear_cards,
    primary,
    ramp,
    sky_cards,
)
from support.realdata import REAL_FILES, real_hdus

from soda_service.errors import CorruptFileError, UntrueHeaderError
from soda_service.fits.cards import BLOCK_SIZE, Header, render_cards
from soda_service.fits.distortion import move_lookup_table, referred_tables
from soda_service.fits.header import cut_header, image_header
from soda_service.fits.layout import HduLayout, scan_hdus
from soda_service.fits.newcards import card
from soda_service.fits.proof import PROOF_KEYWORDS, Proof, Prover, proof_cards, with_proof_cards
from soda_service.fits.recast import MovingNumber
from soda_service.geometry.pixelbox import PixelBox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from support.images import CardSpec

NARROW = ("one_pixel", "one_row")
UNREADABLE = "5x5.fits"
"""The real file whose first cards hold NUL bytes."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One image of a file, and what of it goes out."""

    prover: Prover
    header: bytes
    offset: tuple[int, ...]
    tables: bytes

    def prove(self, header: bytes | None = None, tables: bytes | None = None) -> Proof:
        """Of the cutout, or of what became of it."""
        return self.prover.prove(
            self.header if header is None else header,
            self.offset,
            tables=self.tables if tables is None else tables,
        )

    def with_cards(self, change: Callable[[str, bytes], bytes]) -> bytes:
        """Its header with every card put through *change*."""
        return render_cards(*(change(one.keyword, one.raw) for one in Header.parse(self.header)))

    def moved(self, pattern: str, by: int) -> bytes:
        """Its header with the numbers of some keywords changed."""
        changed = 0

        def change(keyword: str, raw: bytes) -> bytes:
            nonlocal changed
            if not re.fullmatch(pattern, keyword):
                return raw
            changed += 1
            return MovingNumber(raw).plus(by)

        header = self.with_cards(change)
        assert changed
        return header


def file_of(name: str) -> tuple[bytes, tuple[HduLayout, ...]]:
    """The inflated bytes of a family, and its HDUs."""
    raw = FAMILIES[name]()
    raw = gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
    return raw, tuple(scan_hdus(lambda start, length: raw[start : start + length], len(raw)))


def cuts_of(raw: bytes, layouts: Sequence[HduLayout]) -> list[Cut]:
    """The middle of every image."""
    return [cut_of(raw, layouts, one) for one in layouts if one.is_image]


def cut_of(raw: bytes, layouts: Sequence[HduLayout], image: HduLayout) -> Cut:
    """A box within *image*, that begins nowhere at the image's edge unless it must."""
    box = PixelBox(
        tuple(length // 3 for length in image.naxis),
        tuple(max(length // 3 + 1, length * 4 // 5) for length in image.naxis),
    )
    header = image_header(image.header)
    known = {(one.name, one.version): one for one in layouts}
    tables, moved = b"", b""
    for table in referred_tables(header):
        if (layout := known.get((table.name, table.version))) is None:
            continue
        data = raw[layout.data_offset : layout.end]
        whole = layout.header.render()
        tables += whole + data
        moved += (move_lookup_table(layout.header, box.lower) if table.moves else whole) + data
    cut = cut_header(image.header, box, kind=image.kind, first=image.index == 0)
    return Cut(Prover(header, image.naxis, tables=tables), cut, box.lower, moved)


def first_cut(name: str) -> Cut:
    """Of a family's first image."""
    return cuts_of(*file_of(name))[0]


def cut_of_cards(naxis: Sequence[int], cards: Sequence[CardSpec]) -> Cut:
    """Of an image with these cards."""
    raw = primary(ramp(*naxis), cards)
    return cuts_of(raw, tuple(scan_hdus(lambda at, size: raw[at : at + size], len(raw))))[0]


@pytest.mark.parametrize("name", IMAGE_FAMILIES)
def test_cutouts_of_the_zoo_are_proved(name: str) -> None:
    """What goes out is right to a nanoarcsecond; what has a place on the sky was compared there."""
    cuts = cuts_of(*file_of(name))
    assert cuts
    for cut in cuts:
        proof = cut.prove()
        assert (proof.largest_mas or 0) < 1e-3
        assert (proof.largest_pixels or 0) < 1e-6
    if name in SKY_FAMILIES:
        assert max(cut.prove().largest_mas is not None for cut in cuts)
        assert max(cut.prove().points for cut in cuts) >= (81 if name not in NARROW else 1)


@pytest.mark.parametrize("name", [name for name in REAL_FILES if name != UNREADABLE])
def test_cutouts_of_real_files_are_proved(name: str) -> None:
    """Headers as instruments write them."""
    raw, layouts = real_hdus(name)
    for cut in cuts_of(raw, layouts)[:12]:
        proof = cut.prove()
        assert (proof.largest_mas or 0) < 1e-3
        assert (proof.largest_pixels or 0) < 1e-6


@pytest.mark.parametrize(
    "name", [name for name in SKY_FAMILIES if not name.startswith("plate_solution")]
)
@pytest.mark.parametrize("by", [1, -1])
def test_a_reference_pixel_off_by_one_is_found(name: str, by: int) -> None:
    """Whatever the projection, and wherever the sky is among the axes."""
    cut = next(one for one in cuts_of(*file_of(name)) if one.prove().largest_mas is not None)
    axes = [
        keyword[5]
        for keyword in (one.keyword for one in Header.parse(cut.header))
        if re.fullmatch("CRPIX[1-4]", keyword)
    ]
    assert axes
    for axis in axes:
        with pytest.raises(UntrueHeaderError, match=r"wrong by|cannot be told"):
            cut.prove(cut.moved(f"CRPIX{axis}", by))


@pytest.mark.parametrize("keyword", ["PC01_02B", "PC1_2B", "PC001_2B"])
def test_an_alternate_s_matrix_is_read_in_every_form(keyword: str) -> None:
    """One that turned with the cutout is found."""
    alternate: list[CardSpec] = [("CTYPE1B", "X"), ("CTYPE2B", "Y"), (keyword, 0.5)]
    cut = cut_of_cards((17, 13), [*sky_cards(), *alternate])
    assert cut.prove().largest_pixels == 0
    with pytest.raises(UntrueHeaderError, match=r"wrong by .* pixels"):
        cut.prove(cut.moved(keyword, 1))


@pytest.mark.parametrize("name", ["plate_solution", "plate_solution_and_tan"])
def test_a_plate_off_by_one_is_found(name: str) -> None:
    """Plate solutions count from CNPIX."""
    cut = first_cut(name)
    with pytest.raises(UntrueHeaderError, match=r"wrong by .* mas"):
        cut.prove(cut.moved("CNPIX2", -1))


@pytest.mark.parametrize("name", ["lookup_distortion", "detector_distortion"])
def test_a_table_that_stayed_behind_is_found(name: str) -> None:
    """Its CRVAL counts the parent's pixels: a cutout with the parent's table is bent."""
    raw, layouts = file_of(name)
    cut = first_cut(name)
    names = {"WCSDVARR", "D2IMARR"}
    parents = [one for one in layouts if one.name in names]
    unmoved = b"".join(raw[one.header_offset : one.end] for one in parents)
    assert len(parents) == 2
    with pytest.raises(UntrueHeaderError, match=r"wrong by .* mas"):
        cut.prove(tables=unmoved)
    # One of the two is enough.
    size = len(unmoved) // 2
    with pytest.raises(UntrueHeaderError, match=r"wrong by .* mas"):
        cut.prove(tables=cut.tables[:size] + unmoved[size:])


@pytest.mark.parametrize("name", ["lookup_distortion", "detector_distortion"])
def test_a_table_that_is_missing_is_found(name: str) -> None:
    """An image that names a table which does not go out with it cannot be read."""
    with pytest.raises(UntrueHeaderError, match="cannot be told"):
        first_cut(name).prove(tables=b"")


def test_wavelengths_of_another_table_are_found() -> None:
    """A -TAB axis is what its table says."""
    cut = first_cut("tab_spectral")
    assert cut.prove().largest_pixels is not None
    header, data = cut.tables[:-BLOCK_SIZE], cut.tables[-BLOCK_SIZE:]
    other = bytearray(data)
    other[3 * 8 : 4 * 8] = data[4 * 8 : 5 * 8]
    with pytest.raises(UntrueHeaderError, match=r"wrong by .* pixels"):
        cut.prove(tables=header + bytes(other))


@pytest.mark.parametrize("letter", ["A", "G", "P"])
def test_an_alternate_that_stayed_behind_is_found(letter: str) -> None:
    """Each of the alternates has reference pixels of its own, written or left to their default."""
    cut = first_cut("alternates")
    unit = "mas" if letter == "G" else "pixels"
    with pytest.raises(UntrueHeaderError, match=rf"'{letter}' .* wrong by .* {unit}"):
        cut.prove(cut.moved(f"CRPIX1{letter}", cut.offset[0]))


def test_an_alternate_that_was_lost_is_found() -> None:
    """All of them go out, or the cutout does not."""
    cut = first_cut("alternates")
    lost = cut.with_cards(lambda keyword, raw: b"" if re.fullmatch(".*[0-9]G", keyword) else raw)
    with pytest.raises(UntrueHeaderError, match=r"'G' .* is not in the cutout"):
        cut.prove(lost)


def test_an_alternate_on_the_sky_keeps_its_frame() -> None:
    """RADESYSa belongs to the description, and is read with it."""
    equatorial = [(f"{one[0]}B", one[1]) for one in sky_cards()]
    cut = cut_of_cards((61, 47), [*sky_cards(), *equatorial])
    assert cut.prove().points == 2 * 81
    fk5 = cut.with_cards(
        lambda keyword, raw: card("RADESYSB", "FK5") if keyword == "RADESYSB" else raw
    )
    with pytest.raises(UntrueHeaderError, match=r"'B' .* wrong by .* mas"):
        cut.prove(fk5)


def test_an_alternate_that_wcslib_does_not_know_is_compared_as_its_matrix() -> None:
    """Nobody can read it, but where it stays behind it is wrong all the same."""
    strange: list[CardSpec] = [
        *linear_cards(1, "XLON-QQQ", "deg", 3.0, 10.0, 0.1),
        *linear_cards(2, "XLAT-QQQ", "deg", 4.0, 20.0, 0.1),
    ]
    named = [(f"{one[0]}Q", one[1]) for one in strange]
    cut = cut_of_cards((61, 47), [*sky_cards(), *named])
    assert cut.prove().largest_pixels is not None
    with pytest.raises(UntrueHeaderError, match=r"'Q' .* wrong by 1 pixels"):
        cut.prove(cut.moved("CRPIX2Q", 1))


@pytest.mark.parametrize(
    "name", ["cube_frequency", "cube_wavelength_log", "cube_frequency_to_wavelength", "cube_time"]
)
def test_the_size_of_an_error_is_told_in_pixels(name: str) -> None:
    """A shift of one pixel is one, whatever the unit of the axis and its function."""
    cut = first_cut(name)
    with pytest.raises(UntrueHeaderError, match="wrong by") as caught:
        cut.prove(cut.moved("CRPIX3", 1))
    told = re.search(r"wrong by ([0-9.]+) pixels", str(caught.value))
    assert told is not None
    assert float(told[1]) == pytest.approx(1, abs=0.02)


def test_the_size_of_an_error_is_told_in_milliarcseconds() -> None:
    """A pixel of this image is 0.72 arcseconds high."""
    cut = first_cut("tan")
    with pytest.raises(UntrueHeaderError, match="wrong by 720 mas"):
        cut.prove(cut.moved("CRPIX2", 1))


@pytest.mark.parametrize("name", ["cube_rotated_into_frequency", "cube_frequency_slanted"])
def test_axes_that_turn_into_each_other_are_compared_together(name: str) -> None:
    """Where the sky cannot be told alone, it is told with the axis that it turns with."""
    cut = first_cut(name)
    proof = cut.prove()
    assert proof.largest_mas is not None
    assert proof.largest_pixels is not None
    with pytest.raises(UntrueHeaderError):
        cut.prove(cut.moved("CRPIX3", 1))


def test_what_is_slightly_wrong_passes_up_to_the_limit() -> None:
    """The limit is the caller's."""
    cut = first_cut("tan")
    shifted = cut.with_cards(
        lambda keyword, raw: card("CRVAL2", 2.2 + 1e-7) if keyword == "CRVAL2" else raw
    )
    proof = cut.prover.prove(shifted, cut.offset, most_mas=0.5)
    assert proof.largest_mas == pytest.approx(0.36, rel=1e-6)
    with pytest.raises(UntrueHeaderError):
        cut.prover.prove(shifted, cut.offset)


def test_a_box_that_begins_before_the_image_is_proved() -> None:
    """As it does where the edge is padded."""
    cut = first_cut("tan_sip")
    by = cut.offset[0] + 5
    padded = cut.moved("CRPIX1", by)
    offset = (-5, cut.offset[1])
    assert (cut.prover.prove(padded, offset).largest_mas or 1) < 1e-3


def test_a_box_of_every_third_pixel_is_proved() -> None:
    """As polarization states that do not stand beside each other are taken."""
    naxis = (17, 13, 4)
    cards = [*sky_cards(), *linear_cards(3, "STOKES", "", 1.0, 1.0, 1.0)]
    cut = cut_of_cards(naxis, [("WCSAXES", 3), *cards[1:]])
    every_third = {"CRPIX3": 1.0, "CRVAL3": 1.0, "CDELT3": 3.0, "NAXIS3": 2}
    header = cut.with_cards(
        lambda keyword, raw: card(keyword, every_third[keyword]) if keyword in every_third else raw
    )
    offset = (*cut.offset[:2], 0)
    proof = cut.prover.prove(header, offset, step=(1, 1, 3))
    assert proof.largest_pixels == 0
    with pytest.raises(UntrueHeaderError):
        cut.prover.prove(header, offset)


def test_an_image_without_coordinates_has_nothing_to_prove() -> None:
    """And its cutout says so."""
    cut = first_cut("no_wcs")
    proof = cut.prove()
    assert proof == Proof(None, None, 0)
    header = fits.Header.fromstring(with_proof_cards(cut.header, proof))
    assert header["CUTWCSNP"] == 0
    assert "CUTWCSER" not in header


@pytest.mark.parametrize("name", BROKEN_WCS_FAMILIES)
def test_what_nobody_can_read_is_no_obstacle(name: str) -> None:
    """A cutout by pixels of an image whose coordinates are broken."""
    assert first_cut(name).prove().largest_mas is None


def test_the_cards_are_read_by_astropy() -> None:
    """Figures, units, and nothing else has changed."""
    cut = first_cut("cube_frequency")
    proof = Proof(1.23456e-7, 0.000456789, 90)
    whole = with_proof_cards(cut.header, proof)
    assert len(whole) % BLOCK_SIZE == 0
    header = fits.Header.fromstring(whole)
    assert header["CUTWCSER"] == 1.23e-7
    assert header["CUTAXSER"] == 4.57e-4
    assert header["CUTWCSNP"] == 90
    assert header.comments["CUTWCSER"].startswith("[mas]")
    assert whole[: len(Header.parse(cut.header).raw)] == Header.parse(cut.header).raw
    assert all(len(keyword) <= 8 for keyword in PROOF_KEYWORDS)


def test_a_second_proof_takes_the_place_of_the_first() -> None:
    """A cutout that is cut again says how true the last one is."""
    cut = first_cut("tan")
    once = with_proof_cards(cut.header, Proof(0.05, None, 81))
    twice = with_proof_cards(once, Proof(1e-7, None, 81))
    assert fits.Header.fromstring(twice).count("CUTWCSER") == 1
    assert fits.Header.fromstring(twice)["CUTWCSER"] == 1e-7
    assert len(Header.parse(once)) == len(Header.parse(twice))


def test_a_full_block_is_followed_by_another() -> None:
    """Where END just fitted, the cards begin a block of their own."""
    cards = [card_bytes(("SIMPLE", True)), card_bytes(("BITPIX", 8)), card_bytes(("NAXIS", 0))]
    full = render_cards(*cards, *(card(f"KEY{number}", number) for number in range(32)))
    assert len(full) == BLOCK_SIZE
    more = with_proof_cards(full, Proof(None, None, 0))
    assert len(more) == 2 * BLOCK_SIZE
    assert Header.parse(more).integer("CUTWCSNP") == 0


def test_a_cutout_that_is_no_header_is_refused() -> None:
    """Bytes that end inside a card."""
    with pytest.raises(CorruptFileError):
        first_cut("tan").prove(b"CRPIX1")


@pytest.mark.parametrize("ctype", ["WCS-TAB", "WAVES-TAB", "-TAB"])
def test_a_table_of_which_an_axis_has_another_form_kills_nobody(ctype: str) -> None:
    """The axis BAND-TAB, second of its table, is then alone in wcslib, which frees memory twice.

    The cards are compared as the linear map that they spell out.
    """
    raw = FAMILIES["tab_alternate"]()
    at = raw.index(b"CTYPE1W =")
    said = f"CTYPE1W = '{ctype}'".ljust(80).encode()
    raw = raw[:at] + said + raw[at + 80 :]
    (cut,) = cuts_of(raw, tuple(scan_hdus(lambda at, size: raw[at : at + size], len(raw))))
    assert cut.prove().points


def test_every_card_of_the_proof_is_documented() -> None:
    """Each of them on its own, by name."""
    written = Header(proof_cards(Proof(1.0, 1.0, 1)))
    assert tuple(one.keyword for one in written) == PROOF_KEYWORDS
    require_checkout()
    described = (ROOT / "docs" / "headers.md").read_text("utf-8")
    assert all(f"`{keyword}`" in described for keyword in PROOF_KEYWORDS)
