"""What is remembered of compressed images: used again, made beside the requests, bounded."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.tilefiles import rice, simple_file

from soda_service.errors import CorruptFileError
from soda_service.fits.layout import scan_hdus
from soda_service.geometry.pixelbox import PixelBox
from soda_service.pixels.reader import open_reader
from soda_service.pixels.tiledimages import TiledImages
from soda_service.storage.local import LocalSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from soda_service.fits.layout import HduLayout

STORED = np.random.default_rng(2).normal(80, 9, (50, 1024)).astype("i4")
RIGHT = PixelBox((1000, 0), (1024, 50))
"""Of each row the end: nearly all pixels are decoded in vain."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return _write(tmp_path / "image.fits")


@pytest.fixture
def source(path: Path) -> Iterator[LocalSource]:
    with LocalSource.open(str(path)) as opened:
        yield opened


def _write(path: Path) -> Path:
    cards = [("ZVAL1", 32), ("ZVAL2", 4)]
    path.write_bytes(simple_file(STORED, (1024, 1), "RICE_1", rice(), cards))
    return path


def _layout(source: LocalSource) -> HduLayout:
    return list(scan_hdus(source.read, source.version.size))[-1]


def _cut(images: TiledImages, source: LocalSource, box: PixelBox = RIGHT) -> None:
    layout = _layout(source)
    pixels = b"".join(open_reader(layout, source, images).bands(box, 4096))
    assert pixels == STORED[box.slices].astype(">i4").tobytes()
    images.wait()


def test_an_index_is_made_once_it_would_have_paid(source: LocalSource) -> None:
    images = TiledImages(10**7)
    image = images.get(_layout(source), source)
    _cut(images, source, PixelBox((0, 0), (1024, 50)))
    assert image.decoded_in_vain == 0
    made = []
    for _ in range(4):
        _cut(images, source)
        made.append(image.index is not None)
    assert made == [False, False, True, True]
    assert images.get(_layout(source), source) is image
    assert images.nbytes == image.nbytes > 50 * 8 * 8


def test_no_more_is_remembered_than_the_budget(tmp_path: Path) -> None:
    """The image used last keeps its table; those not used for longest lose what they have."""
    paths = [_write(tmp_path / f"{number}.fits") for number in range(4)]
    images = TiledImages(14_000)
    for path in paths:
        with LocalSource.open(str(path)) as source:
            for _ in range(4):
                _cut(images, source)
            image = images.get(_layout(source), source)
            assert image.index is not None
            assert images.nbytes <= 14_000
    with LocalSource.open(str(paths[0])) as source:
        assert images.get(_layout(source), source).index is None


def test_no_index_within_a_budget_of_nothing(source: LocalSource) -> None:
    images = TiledImages(0)
    for _ in range(4):
        _cut(images, source)
    image = images.get(_layout(source), source)
    assert image.index is None
    assert not image.is_worth_an_index


def test_a_file_that_has_changed_is_another(path: Path, source: LocalSource) -> None:
    """Its index is not made of the new content, and the new content has an image of its own."""
    images = TiledImages(10**7)
    layout = _layout(source)
    image = images.get(layout, source)
    image.decoded_in_vain = STORED.size
    os.utime(path, ns=(1, 1))
    images.get(layout, source)
    images.wait()
    assert image.index is None
    assert not image.is_worth_an_index
    with LocalSource.open(str(path)) as new:
        assert images.get(_layout(new), new) is not image


def test_a_vanished_file_is_not_asked_for_again(path: Path, source: LocalSource) -> None:
    images = TiledImages(10**7)
    layout = _layout(source)
    image = images.get(layout, source)
    image.decoded_in_vain = STORED.size
    path.unlink()
    images.get(layout, source)
    images.wait()
    assert not image.is_worth_an_index


def test_a_tile_outside_of_the_file_hinders_no_other(tmp_path: Path) -> None:
    """The whole table is not remembered then, and no index made; who wants the tile is told."""
    path = _write(tmp_path / "image.fits")
    content = bytearray(path.read_bytes())
    with LocalSource.open(str(path)) as source:
        at = _layout(source).data_offset + 20 * 8
    content[at : at + 4] = (10**9).to_bytes(4, "big")
    path.write_bytes(content)
    with LocalSource.open(str(path)) as source:
        images = TiledImages(10**7)
        for _ in range(4):
            _cut(images, source, PixelBox((1000, 21), (1024, 50)))
            _cut(images, source, PixelBox((1000, 0), (1024, 20)))
        layout = _layout(source)
        image = images.get(layout, source)
        assert image.index is None
        assert image.all_tiles is None
        with pytest.raises(CorruptFileError, match="tile 21 does not lie inside the heap"):
            list(open_reader(layout, source, images).bands(RIGHT, 4096))


def test_nothing_is_made_after_the_end(source: LocalSource) -> None:
    images = TiledImages(10**7)
    images.close()
    for _ in range(5):
        _cut(images, source)
    assert images.get(_layout(source), source).index is None
