"""Datasets made ready for cutting: every HDU prepared, planes grouped.

Preparing parses WCS and may take milliseconds; it is done once for each version of a
dataset and shared by all requests after it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import cached_property
from typing import TYPE_CHECKING, Final

from soda_service import __version__
from soda_service.cutout.beams import has_beams
from soda_service.cutout.companions import is_companion
from soda_service.cutout.leaders import assign_leaders
from soda_service.cutout.naming import stem_of
from soda_service.cutout.preparedhdu import PreparedHdu
from soda_service.cutout.quickplan import QuickPlanner, is_ordinary
from soda_service.errors import UnknownDatasetError
from soda_service.fits.header import kept_primary
from soda_service.fits.newcards import commentary
from soda_service.fits.wcs import MOST_TABLE_BYTES, WcsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from soda_service.catalog.dataset import Dataset
    from soda_service.storage.pool import OpenFiles

_PRIMARIES: Final = 8
"""Headers kept of a primary HDU that is not cut: it has one, unless HDUs are left out."""

PREPARED_BYTES: Final = 64 * 1024 * 1024
"""Of all prepared datasets together."""

_OF_THE_FILE_ONLY: Final = {"INDXADDR": "INDEX", "JSONADDR": "JSON"}
"""The primary header's address of a table, and the EXTNAME of that, in files of lsst.images."""


class PreparedDataset:
    """A dataset whose every HDU is prepared and whose planes know what they belong to."""

    def __init__(self, dataset: Dataset, files: OpenFiles) -> None:
        self.dataset = dataset
        self._files = files
        self.origin_cards = commentary(
            "HISTORY", f"Cutout by soda-service {__version__} of\n  {dataset.publisher_did}"
        )
        """HISTORY cards that every cut HDU carries."""
        primary = dataset.hdus[0].layout.header
        self.hdus = tuple(PreparedHdu(hdu, primary, self._read_hdus) for hdu in dataset.hdus)
        self.stem = stem_of(dataset)
        """What the name of an answer begins with."""
        planes = [hdu.planes for hdu in dataset.hdus if hdu.planes is not None]
        self.etag_base = f"{dataset.publisher_did}|{dataset.version.etag}|{__version__}|{planes}"
        """What makes the entity tags of this version of the dataset unlike any other's."""
        self._primaries: dict[tuple[tuple[int, ...], int, bool], bytes] = {}
        self._set_tables_apart()
        assign_leaders(
            [hdu for hdu in self.hdus if hdu.is_cuttable],
            [hdu for hdu in self.hdus if hdu.is_constant],
        )
        header = dataset.hdus[0].layout.header
        of_file = {name for keyword, name in _OF_THE_FILE_ONLY.items() if keyword in header}
        for hdu in self.hdus:
            layout = hdu.hdu.layout
            hdu.is_about_the_file = not layout.is_image and layout.name.upper() in of_file
        self.has_companions = any(is_companion(hdu) for hdu in self.hdus)
        """Whether there are HDUs that only go along with others."""
        self.has_beams = any(has_beams(hdu) for hdu in self.hdus)
        """Whether the beams of a cube stand in a table."""

    @property
    def memory(self) -> int:
        """Bytes that it takes, about."""
        return sum(hdu.memory for hdu in self.hdus)

    @cached_property
    def quick_planner(self) -> QuickPlanner | None:
        """Who plans ordinary requests, where the dataset is ordinary."""
        return QuickPlanner(self) if is_ordinary(self) else None

    def kept_primary(
        self, kept: tuple[int, ...], extensions: int, *, images_are_whole: bool = False
    ) -> bytes:
        """The header of a primary HDU that is not cut, first of the HDUs with the numbers *kept*.

        *extensions* is how many HDUs follow it, copies of tables included. *images_are_whole*
        says that none of them is cut.
        """
        key = kept, extensions, images_are_whole
        header = self._primaries.get(key)
        if header is None:
            numbers = {old: new for new, old in enumerate(kept)}
            header = kept_primary(
                self.dataset.hdus[0].layout.header,
                extensions=extensions,
                hdu_numbers=None if kept == tuple(range(len(kept))) else numbers,
                images_are_whole=images_are_whole,
            )
            if len(self._primaries) < _PRIMARIES:
                self._primaries[key] = header
        return header

    def _read_hdus(self, needed: Iterable[tuple[str, int]]) -> bytes:
        """The HDUs with these EXTNAMEs and EXTVERs, as they stand in the file, joined."""
        wanted = {(name.upper(), version) for name, version in needed}
        layouts = [
            hdu.layout
            for hdu in self.dataset.hdus
            if (hdu.layout.name.upper(), hdu.layout.version) in wanted
        ]
        if sum(layout.end - layout.header_offset for layout in layouts) > MOST_TABLE_BYTES:
            raise WcsError("the tables that the coordinates refer to are larger than can be right")
        try:
            dataset = self.dataset
            with self._files.borrow(dataset.url, dataset.version, dataset.is_packed) as source:
                tables = b"".join(
                    source.read(layout.header_offset, layout.end - layout.header_offset)
                    for layout in layouts
                )
                source.check_unchanged()
        except FileNotFoundError:
            raise UnknownDatasetError(self.dataset.publisher_did, "its file is gone") from None
        return tables

    def _set_tables_apart(self) -> None:
        """Lookup tables are images of pixels that no request may choose from."""
        lookups = {
            (table.name, table.version) for hdu in self.hdus for table in hdu.tables if table.moves
        }
        for hdu in self.hdus:
            if (hdu.hdu.layout.name, hdu.hdu.layout.version) in lookups:
                hdu.is_cuttable = False


class PreparedDatasets:
    """The prepared datasets used last; safe to use from several threads.

    As many as *limit*, and as fit into *memory* bytes; the one used last in any case.
    """

    def __init__(self, limit: int, files: OpenFiles, *, memory: int = PREPARED_BYTES) -> None:
        self._limit = limit
        self._memory = memory
        self._files = files
        self._lock = threading.Lock()
        self._prepared: OrderedDict[str, PreparedDataset] = OrderedDict()

    def peek(self, dataset: Dataset) -> PreparedDataset | None:
        """The prepared form of this very object, if it is here; never blocks for long."""
        identifier = dataset.publisher_did
        with self._lock:
            found = self._prepared.get(identifier)
            if found is None or found.dataset is not dataset:
                return None
            self._prepared.move_to_end(identifier)
            return found

    def get(self, dataset: Dataset) -> PreparedDataset:
        """The prepared form of *dataset*, made now if need be; may block."""
        found = self.peek(dataset)
        if found is not None:
            return found
        made = PreparedDataset(dataset, self._files)
        _ = made.quick_planner  # made here, where it may take milliseconds
        with self._lock:
            self._prepared[dataset.publisher_did] = made
            self._prepared.move_to_end(dataset.publisher_did)
            # Counted anew, because what was small may have built its acceleration structure since.
            memory = sum(one.memory for one in self._prepared.values())
            while len(self._prepared) > self._limit or (
                memory > self._memory and len(self._prepared) > 1
            ):
                memory -= self._prepared.popitem(last=False)[1].memory
        return made
