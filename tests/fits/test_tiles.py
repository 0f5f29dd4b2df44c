"""Headers of tile-compressed images: what can be one, and what stands in it."""

from __future__ import annotations

import io

import pytest
from astropy.io import fits
from hypothesis import given, strategies as st
from support.images import extension, primary, ramp, sky_cards

from soda_service.fits.cards import Header, render_cards
from soda_service.fits.newcards import card
from soda_service.fits.tiles import (
    TileColumn,
    TileLayout,
    compressed_header,
    compressible_image,
    rebased_dither,
)

LAYOUT = TileLayout(
    tile=(61, 10),
    columns=(
        TileColumn(name="COMPRESSED_DATA", code="B", varies=True),
        TileColumn(name="ZSCALE", code="D"),
        TileColumn(name="FLAGS", code="X", repeat=9),
    ),
    cards=card("ZCMPTYPE", "RICE_1"),
)


def header_of(raw: bytes) -> bytes:
    """The first header of a file."""
    return Header.parse(raw).render()


@pytest.mark.parametrize("wide", [False, True])
def test_rows_are_as_wide_as_astropy_finds_them(wide: bool) -> None:
    """A descriptor of 8 or 16 bytes, a double, nine bits."""
    image = compressible_image(header_of(primary(ramp(61, 47), sky_cards())))
    assert image is not None
    raw = compressed_header(image, LAYOUT, heap_size=2880, longest=(99, 0, 0), wide=wide)
    whole = fits.PrimaryHDU().header.tostring().encode() + raw + bytes(2880 * 2)
    with fits.open(io.BytesIO(whole), disable_image_compression=True) as hdus:
        table = hdus[1]
        assert table.columns.dtype.itemsize == LAYOUT.width(wide=wide)
        assert len(table.data) == 5
        assert table.columns["COMPRESSED_DATA"].format == f"1{'Q' if wide else 'P'}B(99)"


def test_the_size_of_a_header_is_known_before_its_numbers_are() -> None:
    """So that the table can be written before it."""
    image = compressible_image(header_of(extension(ramp(61, 47), sky_cards())))
    assert image is not None
    sizes = {
        len(compressed_header(image, LAYOUT, heap_size=size, longest=(size, 0, 0), wide=wide))
        for size in (0, 12345, 2**40)
        for wide in (False, True)
    }
    assert len(sizes) == 1


@given(
    name=st.text("ABC_", min_size=1, max_size=8),
    code=st.sampled_from("LBIJKAEDCM"),
    repeat=st.integers(0, 99),
    varies=st.booleans(),
    wide=st.booleans(),
)
def test_a_column_is_read_as_it_was_written(
    name: str, code: str, repeat: int, varies: bool, wide: bool
) -> None:
    """TFORM and back."""
    column = TileColumn(name=name, code=code, repeat=1 if varies else repeat, varies=varies)
    assert TileColumn.of(name, column.form(77, wide=wide)) == column


@pytest.mark.parametrize("form", ["", "PB", "2PB(5)", "1PX(8)", "1Z", "B1", "-1B", "1PB(5) or so"])
def test_what_is_no_column(form: str) -> None:
    """Two arrays in a cell, bits in the heap, and nonsense; a lone `PB` is `1PB`."""
    column = TileColumn.of("X", form)
    assert (column is not None) == (form == "PB")


@pytest.mark.parametrize(
    "cards",
    [
        [card("SIMPLE", value=True), card("BITPIX", 8), card("NAXIS", 0)],
        [card("XTENSION", "BINTABLE"), card("BITPIX", 8), card("NAXIS", 2), card("NAXIS1", 8),
         card("NAXIS2", 1), card("PCOUNT", 0), card("GCOUNT", 1), card("TFIELDS", 1)],
        [card("SIMPLE", value=True), card("BITPIX", 16), card("NAXIS", 2), card("NAXIS1", 0),
         card("NAXIS2", 7), card("GROUPS", value=True), card("PCOUNT", 3), card("GCOUNT", 5)],
        [card("XTENSION", "IMAGE"), card("BITPIX", 8), card("NAXIS", 1), card("NAXIS1", 8),
         card("PCOUNT", 16), card("GCOUNT", 1)],
        [card("SIMPLE", value=True), card("NAXIS", 1), card("BITPIX", 8), card("NAXIS1", 8)],
        [card("SIMPLE", value=True), card("BITPIX", 8), card("NAXIS", 1), card("NAXIS1", 8),
         card("BITPIX", 16)],
        [card("SIMPLE", value=True), card("BITPIX", 8), card("NAXIS", 1), card("NAXIS1", 8),
         card("BLANK", "none")],
    ],
)  # fmt: skip
def test_what_is_no_image_that_can_be_compressed(cards: list[bytes]) -> None:
    """No pixels, tables, groups, and headers that are not in order."""
    assert compressible_image(render_cards(*cards)) is None


@given(first=st.integers(1, 10_000), tiles=st.integers(0, 50_000), more=st.integers(0, 500))
def test_a_dither_is_rebased(first: int, tiles: int, more: int) -> None:
    """Every tile keeps the random numbers that it had; ZDITHER0 stays within its bounds."""
    again = rebased_dither(first, tiles)
    assert 1 <= again <= 10_000
    assert (again - 1 + more) % 10_000 == (first - 1 + tiles + more) % 10_000
