"""What an answer has of HDUs with a plane, or a row, for each place or plane of an image.

Of a companion it may be the one plane that belongs to where the image is cut, and that plane's
row in the table of places; of a table of beams the rows of the planes that are left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from soda_service.cutout.beams import has_beams, is_beams, lacks_planes, rows_of_planes
from soda_service.cutout.companions import header_of_plane, is_companion, plane_for, rule_of
from soda_service.cutout.places import NotQuickError
from soda_service.cutout.tables import WHOLE, Whole
from soda_service.fits.cards import render_cards
from soda_service.fits.newcards import commentary
from soda_service.geometry.pixelbox import PixelBox

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from soda_service.cutout.companions import Plane
    from soda_service.cutout.prepared import PreparedDataset
    from soda_service.cutout.preparedhdu import PreparedHdu
    from soda_service.fits.tablerows import BinaryTable

    Placed = tuple[PreparedHdu, PixelBox | Whole | None]
    """An HDU and what is given of it; None is nothing."""


class Planes:
    """The planes and rows of one answer."""

    def __init__(self, prepared: PreparedDataset, *, may_block: bool) -> None:
        self._prepared = prepared
        self._may_block = may_block
        self._image_offset: tuple[int, ...] = ()
        """First pixels of the image that companions go with, where they do not go whole."""
        self._planes: dict[int, Plane] = {}
        """By number of the HDU, what is left of companions that do not go whole."""
        self._tables: dict[int, tuple[bytes, bytes]] = {}
        """By number of the HDU, header and data of tables of which rows are left out."""

    def cut_companions(self, placed: list[Placed], image: PixelBox) -> list[Placed]:
        """*placed*, with the planes that belong to where *image*, the first box, is cut.

        Raises NotQuickError where a table would have to be waited for.
        """
        return [(hdu, self._companion(hdu, place, image)) for hdu, place in placed]

    def cut_beams(self, placed: list[Placed]) -> None:
        """Leave those rows in the table of beams whose planes are left; raises as the above."""
        image = next(
            ((one, box) for one, box in placed if isinstance(box, PixelBox) and has_beams(one)),
            None,
        )
        if image is None or not lacks_planes(*image):
            return
        for one, box in placed:
            if box is not WHOLE or not is_beams(one):
                continue
            table = self._rows_of(one)
            found = None if table is None else rows_of_planes(table, *image)
            if table is not None and found is not None:
                self._cut_table(one, table, *found)

    def header_of(self, one: PreparedHdu, header: bytes) -> bytes:
        """The complete *header* of a cut HDU, or what becomes of it where one plane is left."""
        plane = self._planes.get(one.hdu.layout.index)
        return header if plane is None else header_of_plane(header, one, plane, self._image_offset)

    def table_of(self, one: PreparedHdu) -> tuple[bytes, bytes] | None:
        """Header and data of a table of which rows are left out; None for any other HDU."""
        return self._tables.get(one.hdu.layout.index)

    def _companion(
        self, hdu: PreparedHdu, place: PixelBox | Whole | None, image: PixelBox
    ) -> PixelBox | Whole | None:
        if place is not WHOLE or not is_companion(hdu) or rule_of(hdu) is None:
            return place
        plane = plane_for(hdu, image, self._find_table)
        if plane is None:
            return place
        self._image_offset = image.lower
        self._planes[hdu.hdu.layout.index] = plane
        if plane.table is not None:
            self._cut_places(hdu, plane, plane.table)
        return plane.box

    def _find_table(self, name: str) -> tuple[PreparedHdu, BinaryTable] | None:
        """The first table with that EXTNAME, whether or not it is in the answer."""
        for hdu in self._prepared.hdus:
            layout = hdu.hdu.layout
            if layout.name.strip().upper() == name.upper() and not layout.is_image:
                rows = self._rows_of(hdu)
                return None if rows is None else (hdu, rows)
        return None

    def _rows_of(self, hdu: PreparedHdu) -> BinaryTable | None:
        """The rows of a table; raises NotQuickError where they would have to be waited for."""
        if not self._may_block and not hdu.has_table:
            raise NotQuickError
        return hdu.table

    def _cut_places(self, cube: PreparedHdu, plane: Plane, table: PreparedHdu) -> None:
        """Leave one row in a table of places, that of *plane*, and move it with the image."""
        rule, rows = rule_of(cube), table.table
        assert rule is not None
        assert rows is not None
        changed = {}
        for name, offset in zip((rule.x, rule.y), self._image_offset, strict=False):
            values = rows.numbers(name)
            assert values is not None
            changed[name] = values[plane.row : plane.row + 1] - offset
        if rule.plane:
            changed[rule.plane] = np.array([float(rule.first)])
        self._cut_table(table, rows, np.array([plane.row]), changed, {})

    def _cut_table(
        self,
        one: PreparedHdu,
        table: BinaryTable,
        rows: NDArray[np.intp],
        changed: Mapping[str, NDArray[np.float64]],
        cards: Mapping[str, int],
    ) -> None:
        """Plan for a table of these *rows*, with what is *changed* in them."""
        told = commentary("HISTORY", f"  {one.called}: {len(rows)} of {table.count} rows")
        made, data = table.cut(
            rows, changed=changed, cards=cards, provenance=self._prepared.origin_cards + told
        )
        self._tables[one.hdu.layout.index] = render_cards(made), data
