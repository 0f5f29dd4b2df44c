"""Lookup tables of distortions: HDUs that count in the parent's pixels, and move with the image.

A table serves every image that names it. Where these are cut by different boxes, each further
box gets a copy of its own under a new EXTVER, and its image is told so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from soda_service.cutout.plan import HduPlan
from soda_service.fits.distortion import move_lookup_table
from soda_service.geometry.pixelbox import PixelBox

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from soda_service.cutout.preparedhdu import PreparedHdu


class Whole:
    """Marks an HDU that is copied as it stands."""


WHOLE: Final = Whole()

_Offsets = tuple[int, ...]
_NO_VERSIONS: Final[Mapping[tuple[str, int], int]] = {}


class MovedTables:
    """The lookup tables of one answer."""

    def __init__(self, kept: Sequence[tuple[PreparedHdu, PixelBox | Whole | None]]) -> None:
        self.copies: list[HduPlan] = []
        """Further copies, to stand at the end of the answer."""
        self._offsets: dict[tuple[str, int], _Offsets] = {}
        self._versions: dict[int, dict[tuple[str, int], int]] = {}
        wanted = [
            (one, (table.name, table.version), box.lower)
            for one, box in kept
            if isinstance(box, PixelBox)
            for table in one.tables
            if table.moves
        ]
        if not wanted:
            return
        tables = {
            (one.hdu.layout.name, one.hdu.layout.version): one for one, box in kept if box is WHOLE
        }
        self._place(wanted, tables)

    def versions(self, image: PreparedHdu) -> Mapping[tuple[str, int], int]:
        """Which tables, by name and EXTVER, this image finds under another EXTVER."""
        return self._versions.get(image.hdu.layout.index, _NO_VERSIONS)

    def moved_header(self, one: PreparedHdu) -> bytes | None:
        """The complete header of a table that moves, None for any other HDU."""
        layout = one.hdu.layout
        offsets = self._offsets.get((layout.name, layout.version))
        return None if offsets is None else move_lookup_table(layout.header, offsets)

    def _place(
        self,
        wanted: list[tuple[PreparedHdu, tuple[str, int], _Offsets]],
        tables: Mapping[tuple[str, int], PreparedHdu],
    ) -> None:
        made: dict[tuple[tuple[str, int], _Offsets], int] = {}
        for image, key, offsets in wanted:
            table = tables.get(key)
            if table is None:
                continue
            if self._offsets.setdefault(key, offsets) == offsets:
                continue
            if (key, offsets) not in made:
                used = [version for name, version in tables if name == key[0]]
                used += [version for (name, _), version in made.items() if name[0] == key[0]]
                made[key, offsets] = max(used) + 1
                layout = table.hdu.layout
                header = move_lookup_table(layout.header, offsets, version=made[key, offsets])
                self.copies.append(HduPlan(table.hdu, header, None, layout.data_size))
            versions = self._versions.setdefault(image.hdu.layout.index, {})
            versions[key] = made[key, offsets]
