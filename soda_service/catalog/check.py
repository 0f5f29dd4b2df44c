"""A look at every dataset of the catalog, whether it is still what the catalog says."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from soda_service.catalog.headersource import HeaderSource
from soda_service.catalog.indexer import SCIENCE, hdu_wcs
from soda_service.catalog.query import fold
from soda_service.catalog.store import CatalogStore
from soda_service.config import resource_path
from soda_service.errors import SodaServiceError
from soda_service.fits.layout import scan_hdus
from soda_service.fits.wcs import WcsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from soda_service.catalog.dataset import Dataset
    from soda_service.config import CollectionsFile, Settings


@dataclass(slots=True, kw_only=True)
class CheckReport:
    """What a check found."""

    checked: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)
    """Publisher DID, or the setting or collection, and what is wrong; one may have several."""


def no_catalog(settings: Settings) -> str:
    """What is said where there is none."""
    return f"no catalog at {settings.catalog_path}; run ingest"


def check_catalog(
    settings: Settings,
    collections: CollectionsFile,
    *,
    progress: Callable[[int, int | None, str], None] | None = None,
) -> CheckReport:
    """Look at the folders, then open every dataset and compare it with the catalog.

    Nothing is changed or made. *progress* is told (datasets done, datasets in all, publisher
    DID). Raises ConfigurationError for a catalog that cannot be used.
    """
    report = CheckReport()
    if not settings.data_dir.is_dir():
        report.problems.append(("data_dir", f"there is no folder {settings.data_dir}"))
    if not settings.catalog_path.exists():
        report.problems.append(("catalog", no_catalog(settings)))
        return report
    foreign, example = 0, ""
    ours = fold(f"ivo://{settings.authority}/")
    store = CatalogStore(settings)
    try:
        report.problems += _missing_roots(settings, collections, store)
        total = store.count()
        for identifier in store.identifiers():
            dataset = store.get(identifier)
            if dataset is not None:  # else an ingest removed it meanwhile
                found = _problems(dataset, settings)
                report.problems += [(identifier, problem) for problem in found]
                if not fold(identifier).startswith(ours):
                    foreign, example = foreign + 1, example or identifier
            report.checked += 1
            if progress is not None:
                progress(report.checked, total, identifier)
    finally:
        store.close()
    if foreign:
        reason = (
            f"the setting is {settings.authority}, but {foreign} datasets have identifiers of "
            f"another, {example} say: set it back, or run ingest to name them anew"
        )
        report.problems.append(("authority", reason))
    return report


def _missing_roots(
    settings: Settings, collections: CollectionsFile, store: CatalogStore
) -> Iterator[tuple[str, str]]:
    """The roots of collections that are not there, but should be.

    The shipped collections are examples: their roots matter where datasets lie below them.
    """
    shipped = resource_path("config/collections.toml")
    is_own = settings.collections.resolve() != shipped.resolve()
    roots = {
        (str((settings.data_dir / config.root).resolve()), name): is_own
        for name, config in collections.collections.items()
        if config.root is not None
    }
    for row in store.collection_rows():
        for root in row.roots:
            roots.setdefault((root, row.name), False)
    for (root, name), matters in roots.items():
        if not Path(root).is_dir() and (matters or store.has_below(root)):
            yield f"collection {name}", f"its root {root} is not there"


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
