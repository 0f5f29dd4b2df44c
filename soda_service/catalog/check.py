"""A look at every dataset of the catalog, whether it is still what the catalog says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from soda_service.catalog.headersource import HeaderSource
from soda_service.catalog.indexer import SCIENCE, hdu_wcs
from soda_service.catalog.store import CatalogStore
from soda_service.errors import SodaServiceError
from soda_service.fits.layout import scan_hdus
from soda_service.fits.wcs import WcsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from soda_service.catalog.dataset import Dataset
    from soda_service.config import Settings


@dataclass(slots=True, kw_only=True)
class CheckReport:
    """What a check found."""

    checked: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)
    """Publisher DID and what is wrong; a dataset may have several."""


def check_catalog(
    settings: Settings, *, progress: Callable[[int, int | None, str], None] | None = None
) -> CheckReport:
    """Open every dataset and compare it with the catalog; nothing is changed.

    *progress* is told (datasets done, datasets in all, publisher DID). Raises
    ConfigurationError for a catalog that cannot be used.
    """
    report = CheckReport()
    store = CatalogStore(settings)
    try:
        total = store.count()
        for identifier in store.identifiers():
            dataset = store.get(identifier)
            if dataset is not None:  # else an ingest removed it meanwhile
                found = _problems(dataset, settings)
                report.problems += [(identifier, problem) for problem in found]
            report.checked += 1
            if progress is not None:
                progress(report.checked, total, identifier)
    finally:
        store.close()
    return report


def _problems(dataset: Dataset, settings: Settings) -> Iterator[str]:
    try:
        with HeaderSource(dataset.url, inflated_limit=settings.cache_bytes) as source:
            if source.version != dataset.version:
                yield "its file has changed since it was ingested"
                return
            layouts = tuple(scan_hdus(source.read_at, source.size))
            if layouts != tuple(hdu.layout for hdu in dataset.hdus):
                yield "its HDUs are not those that the catalog has"
                return
            yield from _sky_problems(dataset, source)
    except SodaServiceError as error:
        yield str(error)


def _sky_problems(dataset: Dataset, source: HeaderSource) -> Iterator[str]:
    placed = False
    for hdu in dataset.hdus:
        if not hdu.layout.is_image:
            continue
        try:
            wcs = hdu_wcs(hdu, dataset.hdus, source)
        except WcsError as error:
            yield f"HDU {hdu.layout.index} cannot be cut by sky position: {error}"
            continue
        placed = placed or (hdu.role == SCIENCE and wcs.celestial is not None)
    if not placed:
        yield "no science image of it has celestial coordinates"
