"""Readers of every kind: the bytes of any box are those of astropy's full read, sliced."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from support.images import GZIPPED_FAMILIES, IMAGE_FAMILIES

from soda_service.fits.layout import HduKind, scan_hdus
from soda_service.geometry.pixelbox import PixelBox
from soda_service.pixels.plain import runs_of
from soda_service.pixels.reader import open_reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from pixels.conftest import ZooFile

    from soda_service.fits.layout import HduLayout


def _boxes(naxis: tuple[int, ...]) -> st.SearchStrategy[PixelBox]:
    def axis(length: int) -> st.SearchStrategy[tuple[int, int]]:
        edges = st.tuples(st.integers(0, length - 1), st.integers(1, length))
        inside = edges.map(lambda pair: (min(pair), max(pair))).filter(
            lambda pair: pair[0] < pair[1]
        )
        return inside | st.just((0, length))

    return st.tuples(*map(axis, naxis)).map(
        lambda pairs: PixelBox(tuple(low for low, _ in pairs), tuple(high for _, high in pairs))
    )


@pytest.mark.parametrize("family", [*IMAGE_FAMILIES, *GZIPPED_FAMILIES])
def test_the_whole_image_and_its_first_pixel(
    zoo_file: Callable[[str], ZooFile], family: str
) -> None:
    """Of every image of every family."""
    file = zoo_file(family)
    assert file.images
    for layout, stored in file.images:
        reader = open_reader(layout, file.source)
        whole = PixelBox.whole(layout.naxis)
        assert b"".join(reader.bands(whole, 4096)) == stored.tobytes()
        first = PixelBox((0,) * len(layout.naxis), (1,) * len(layout.naxis))
        assert b"".join(reader.bands(first, 8)) == stored[first.slices].tobytes()


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_any_box_in_bands_of_any_size(
    zoo_file: Callable[[str], ZooFile], data: st.DataObject
) -> None:
    """Bit for bit, and no band is longer than asked for."""
    file = zoo_file(data.draw(st.sampled_from(IMAGE_FAMILIES)))
    layout, stored = data.draw(st.sampled_from(file.images))
    box = data.draw(_boxes(layout.naxis))
    band_bytes = 8 * data.draw(st.integers(1, 2000))
    reader = open_reader(layout, file.source)
    bands = [bytes(band) for band in reader.bands(box, band_bytes)]
    expected = stored[box.slices].tobytes()
    assert b"".join(bands) == expected
    assert max(map(len, bands)) <= band_bytes


def test_a_plain_image_in_memory_is_read_at_once(zoo_file: Callable[[str], ZooFile]) -> None:
    """Just written, its pages are in the page cache."""
    file = zoo_file("tan")
    layout, stored = file.images[0]
    box = PixelBox((3, 5), (50, 41))
    file.source.read(0, file.source.version.size)
    runs = file.source.resident_runs(runs_of(layout, box))
    assert runs == stored[box.slices].tobytes()


@pytest.mark.parametrize("family", ["tan", "compressed_tiles"])
def test_a_box_that_reaches_out_is_a_bug(zoo_file: Callable[[str], ZooFile], family: str) -> None:
    """It would read another row, or another HDU."""
    file = zoo_file(family)
    layout, _ = file.images[0]
    reader = open_reader(layout, file.source)
    width, height = layout.naxis
    for box in (PixelBox((0, 0), (width + 1, 1)), PixelBox((0, 0), (1, height + 1))):
        with pytest.raises(ValueError, match="reaches out"):
            list(reader.bands(box, 4096))
    with pytest.raises(ValueError, match=r"reaches out|zip"):
        list(reader.bands(PixelBox((0,), (1,)), 4096))


def test_only_images_have_readers(zoo_file: Callable[[str], ZooFile]) -> None:
    """Tables and empty HDUs are copied, not cut."""
    source = zoo_file("mef").source
    others: list[HduLayout] = [
        hdu for hdu in scan_hdus(source.read, source.version.size) if not hdu.is_image
    ]
    assert {hdu.kind for hdu in others} == {HduKind.EMPTY, HduKind.TABLE}
    for hdu in others:
        with pytest.raises(ValueError, match="no image"):
            open_reader(hdu, source)
