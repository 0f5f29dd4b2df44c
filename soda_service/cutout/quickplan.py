"""The plan of the ordinary request, a shape and nothing else, without the planner's detours.

Most of what a planner decides about such a request is the same for every shape: which HDUs there
are, which of them share a grid, what is copied whole, how headers move. Here it is decided once
for a dataset. What is left are the boxes, the cards that move with them, and the sum of the bytes.
Datasets and shapes that are not ordinary go to the planner, whose plans are the same to the byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from soda_service.cutout.naming import FITS_MEDIA_TYPE, etag_of, filename_of
from soda_service.cutout.plan import NOT_QUICK, CutoutPlan, HduPlan
from soda_service.fits.cards import BLOCK_SIZE, CARD_SIZE
from soda_service.fits.layout import HduKind
from soda_service.fits.newcards import commentary
from soda_service.geometry.pixelbox import PixelBox, box_around_quickly
from soda_service.render.fits import padding_size

if TYPE_CHECKING:
    from soda_service.catalog.dataset import DatasetHdu
    from soda_service.cutout.plan import Quickness
    from soda_service.cutout.prepared import PreparedDataset
    from soda_service.cutout.preparedhdu import PreparedHdu
    from soda_service.fits.header import HeaderCutter
    from soda_service.geometry.shapes import Shape


class _Image(NamedTuple):
    """An image that is cut."""

    hdu: DatasetHdu
    leader: int
    """Number of its grid."""
    cutter: HeaderCutter
    history: bytes
    """The HISTORY card that says which section of the parent this is, up to the section."""
    other_axes: tuple[int, ...]
    """Lengths of the axes after the two on the sky."""
    pixel_size: int
    """Bytes of a pixel and all others along the other axes."""


class QuickPlanner:
    """Plans for one dataset; safe to use from several threads."""

    def __init__(self, prepared: PreparedDataset) -> None:
        """For a dataset that `is_ordinary`."""
        self._prepared = prepared
        hdus = [one for one in prepared.hdus if not one.is_of_parent_only]
        self._kept = tuple([one.hdu.layout.index for one in hdus])
        self._left_out = tuple([one.left_out_card for one in prepared.hdus if one not in hdus])
        self._form = b"".join(self._left_out).decode("ascii")
        self._leaders = [one for one in hdus if one.leader is one]
        self._grids = [(one, one.grid) for one in self._leaders if one.grid is not None]
        self._numbers = " ".join(str(one.hdu.layout.index) for one in hdus)
        self._steps = [self._step(one) for one in hdus]
        self._is_copy = all(
            one.hdu.layout.kind is HduKind.IMAGE for one in hdus if one.leader is not None
        )

    def plan(self, shape: Shape) -> CutoutPlan | Quickness | None:
        """The plan, None where no image is met, NOT_QUICK where the planner has to say."""
        boxes = []
        for leader, grid in self._grids:
            box = box_around_quickly(shape, grid, leader.ready_sky_index)
            if not isinstance(box, PixelBox):
                # An image that is missed leaves the answer, and the others' headers change.
                return box if len(self._leaders) == 1 else NOT_QUICK
            boxes.append((box, box.section))
        left_out = self._left_out
        size = 0
        planned = []
        sections = []
        origin = self._prepared.origin_cards
        for step in self._steps:
            if isinstance(step, HduPlan):
                sections.append("whole")
                planned.append(step)
                size += len(step.header) + step.data_size + padding_size(step.data_size)
                continue
            hdu, number, cutter, history, other_axes, pixel_size = step
            box, section = boxes[number]
            (x, y), (end_x, end_y) = box.lower, box.upper
            data_size = (end_x - x) * (end_y - y) * pixel_size
            if other_axes:
                box = PixelBox((x, y, *[0] * len(other_axes)), (end_x, end_y, *other_axes))
                section = box.section
            card = (history + section.encode("ascii")).ljust(CARD_SIZE)
            if len(card) > CARD_SIZE:
                card = commentary("HISTORY", card[8:].decode("ascii"))
            header = cutter.cut(box, (origin, card, *left_out) if left_out else (origin, card))
            sections.append(section)
            planned.append(HduPlan(hdu, header, box, data_size))
            size += len(header) + -(-data_size // BLOCK_SIZE) * BLOCK_SIZE
        prepared = self._prepared
        return CutoutPlan(
            prepared.dataset,
            tuple(planned),
            size,
            filename_of(prepared.stem, sections),
            FITS_MEDIA_TYPE,
            etag_of(prepared.etag_base, self._numbers, sections, self._form),
            is_copy=self._is_copy,
        )

    def _step(self, one: PreparedHdu) -> _Image | HduPlan:
        layout = one.hdu.layout
        extensions = len(self._kept) - 1
        if one.leader is not None:
            other_axes = layout.naxis[2:]
            pixel_size = PixelBox.whole(layout.naxis[2:]).pixel_count * abs(layout.bitpix) // 8
            return _Image(
                one.hdu,
                self._leaders.index(one.leader),
                one.header_cutter(extensions, {}),
                commentary("HISTORY", one.history_prefix).rstrip() + b" ",
                other_axes,
                pixel_size,
            )
        if layout.index == 0:
            header = self._prepared.kept_primary(self._kept, extensions)
        else:
            header = layout.header.render()
        return HduPlan(one.hdu, header, None, layout.data_size)


def is_ordinary(prepared: PreparedDataset) -> bool:
    """Whether a `QuickPlanner` can plan for the dataset.

    There are images on the sky, on the first two axes of each; all images are on the sky, and
    none needs a table that would have to move with it. Nothing else depends on the box either.
    """
    images = [one for one in prepared.hdus if one.is_cuttable]
    if prepared.has_companions or any(one.is_constant and one.leader for one in prepared.hdus):
        return False
    return bool(images) and all(
        one.leader is not None
        and one.sky_axes == (0, 1)
        and not any(table.moves for table in one.tables)
        for one in images
    )
