"""Compressed answers hold what the plain ones hold."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from support.cutouts import places_on
from support.images import COMPRESSED_FAMILIES

from soda_service.cutout.cutter import AbandonedError
from soda_service.cutout.form import CutoutForm, Edge, Packing
from soda_service.errors import UsageError
from soda_service.geometry.frames import Stamp

if TYPE_CHECKING:
    from support.cutouts import Subject, Workbench

    from soda_service.geometry.shapes import Shape

FAMILIES = ["tan", "mef", "unsigned_16", "cube_radio", "gzipped", *COMPRESSED_FAMILIES]


def packed(subject: Subject, packing: Packing, shape: Shape | None) -> bytes:
    """The answer, as large as was said before its first byte."""
    plan = subject.plan(shape, form=CutoutForm(packing=packing))
    assert plan is not None
    assert plan.filename.endswith(f".fits.{packing.value}")
    with subject.cutter.pack(plan) as made:
        contents = b"".join(made.chunks())
        assert len(contents) == made.size
    assert b"".join(subject.cutter.cut(plan)) == contents
    assert subject.cutter.cut_resident(plan) is None
    return contents


def plain(subject: Subject, shape: Shape | None) -> bytes:
    """The answer without packing; an identifier alone gives the file."""
    made = subject.cut(shape)
    assert made is not None
    return gzip.decompress(made) if made.startswith(b"\x1f\x8b") else made


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("whole", [False, True])
def test_gzip(bench: Workbench, name: str, whole: bool) -> None:
    """Unpacked it is the plain answer; of a whole file, all but what compression had changed."""
    subject = bench.family(name)
    shape = None if whole else places_on(subject.grid(next(subject.sky_images())))[0].shape
    assert gzip.decompress(packed(subject, Packing.GZIP, shape)) == plain(subject, shape)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("whole", [False, True])
def test_tiles(bench: Workbench, name: str, whole: bool) -> None:
    """Every HDU has the name, the order and the pixels, to the bit, that it has uncompressed."""
    subject = bench.family(name)
    shape = None if whole else places_on(subject.grid(next(subject.sky_images())))[0].shape
    contents = packed(subject, Packing.TILES, shape)
    with (
        fits.open(io.BytesIO(contents), do_not_scale_image_data=True) as mine,
        fits.open(io.BytesIO(plain(subject, shape)), do_not_scale_image_data=True) as other,
    ):
        skip = len(mine) - len(other)  # a primary image cannot be compressed where it stands
        assert skip in (0, 1)
        for one, its in zip(list(mine)[skip:], other, strict=True):
            assert one.header.get("EXTNAME") == its.header.get("EXTNAME")
            if its.data is None or not its.is_image:
                continue
            kind = its.data.dtype.newbyteorder("=")
            assert one.data.dtype.newbyteorder("=") == kind
            mine_bits, its_bits = (np.ascontiguousarray(a.data, kind).tobytes() for a in (one, its))
            assert mine_bits == its_bits


def test_headers_are_not_packed(bench: Workbench) -> None:
    """Text is text."""
    subject = bench.family("tan")
    shape = places_on(subject.grid(0))[0].shape
    with pytest.raises(UsageError, match="not compressed"):
        subject.plan(shape, form=CutoutForm(packing=Packing.GZIP, header_only=True))


def test_entity_tags_tell_them_apart(bench: Workbench) -> None:
    """A cache must not give one for the other."""
    subject = bench.family("tan")
    shape = places_on(subject.grid(0))[0].shape
    plans = [subject.plan(shape, form=CutoutForm(packing=one)) for one in Packing]
    assert len({plan.etag for plan in plans if plan is not None}) == 3


@pytest.mark.parametrize("packing", [Packing.TILES, Packing.GZIP])
def test_packing_ends_when_nobody_waits(bench: Workbench, packing: Packing) -> None:
    """Soon, and its place on the disk is free again."""
    subject = bench.family("tan")
    form = CutoutForm(packing=packing, edge=Edge.PAD)
    plan = subject.plan(stamp=Stamp(150.1, 2.2, (4000, 3000)), form=form)
    assert plan is not None
    asked = 0

    def stopped() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    with pytest.raises(AbandonedError):
        subject.cutter.pack(plan, stopped)
    assert asked == 4
    assert subject.cutter._spools.taken == 0
