"""A look at every dataset of the catalog, whether it is still what the catalog says."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from soda_service.catalog.headersource import HeaderSource
from soda_service.catalog.indexer import hdu_wcs
from soda_service.catalog.otherdisks import other_disks
from soda_service.catalog.query import fold
from soda_service.catalog.remotes import catalog_roots
from soda_service.catalog.store import CatalogStore
from soda_service.catalog.walk import is_below, root_of
from soda_service.catalog.watch import Watch
from soda_service.config import load_collections, resource_path, without_secrets
from soda_service.errors import ConfigurationError, CorruptFileError, SodaServiceError
from soda_service.fits.layout import scan_hdus
from soda_service.fits.wcs import WcsError
from soda_service.storage.remotesettings import remote_limits, remote_root
from soda_service.storage.source import is_remote
from soda_service.storage.stores import RemoteStores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from soda_service.catalog.dataset import Dataset
    from soda_service.config import CollectionsFile, Settings


_IN_THREADS = (
    "its files below {place} ({kind}) are read in threads only, never at once: another machine or "
    "program answers for them"
)
_NOWHERE = "no science image of it has celestial coordinates: only PIXELS cuts it"


@dataclass(slots=True, kw_only=True)
class CheckReport:
    """What a check found."""

    checked: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)
    """Publisher DID, or the setting or collection, and what is wrong; one may have several."""
    remarks: list[tuple[str, str]] = field(default_factory=list)
    """The same of what is not wrong, but may not have been meant."""


def no_catalog(settings: Settings) -> str:
    """What is said where there is none."""
    return f"no catalog at {settings.catalog_path}; run ingest, or say in SODA_CATALOG where it is"


def check_catalog(
    settings: Settings,
    collections: CollectionsFile,
    *,
    progress: Callable[[int, int | None, str], None] | None = None,
) -> CheckReport:
    """Look at the folders and stores, then open every dataset and compare it with the catalog.

    Datasets in a store that cannot be reached are counted, not opened. Nothing is changed or
    made. *progress* is told (datasets done, datasets in all, publisher DID). Raises
    ConfigurationError for a catalog that cannot be used.
    """
    report = CheckReport()
    if lack := _lack(settings.data_dir):
        report.problems.append(("data_dir", f"the folder {lack}"))
    try:
        settings.catalog_path.stat()
    except (FileNotFoundError, NotADirectoryError):
        report.problems.append(("catalog", no_catalog(settings)))
        return report
    except OSError as error:
        problem = f"{settings.catalog_path} cannot be looked at: {error.strerror}"
        report.problems.append(("catalog", problem))
        return report
    foreign, example = 0, ""
    ours = fold(f"ivo://{settings.authority}/")
    store = CatalogStore(settings)
    stores = RemoteStores(
        (), limits=remote_limits(settings), find_roots=lambda: catalog_roots(store)
    )
    try:
        asked = [""]
        with Watch(lambda: asked):
            roots = _roots(settings, collections, store)
            report.problems += _missing_roots(roots, store, asked)
            unreached = dict(_unreached_roots(roots, collections, stores))
            report.problems += [(name, problem) for name, problem in unreached.values()]
            report.remarks += _other_disks(store)
            total = store.count()
            report.problems += _emptiness(total, settings)
            for identifier in store.identifiers():
                dataset = store.get(identifier)
                lost = dataset is not None and _is_below_any(dataset.url, unreached)
                if dataset is not None and not lost:  # else an ingest removed it meanwhile
                    asked[0] = dataset.url
                    found = [*_problems(dataset, settings, stores)]
                    asked[0] = ""
                    report.problems += [(identifier, problem) for problem in found]
                    if not found and dataset.footprint is None:
                        report.remarks.append((identifier, _NOWHERE))
                    if not fold(identifier).startswith(ours):
                        foreign, example = foreign + 1, example or identifier
                report.checked += 1
                if progress is not None:
                    progress(report.checked, total, identifier)
        for root, (name, _) in unreached.items():
            if count := store.holdings.count_below(root):
                report.problems.append((name, f"its {count} datasets there were not looked at"))
    finally:
        stores.close()
        store.close()
    if foreign:
        reason = (
            f"the setting is {settings.authority}, but {foreign} datasets have identifiers of "
            f"another, {example} say: set it back, or run ingest to name them anew"
        )
        report.problems.append(("authority", reason))
    return report


def _other_disks(store: CatalogStore) -> Iterator[tuple[str, str]]:
    for disk in other_disks(store.collection_rows()):
        told = _IN_THREADS.format(place=disk.place, kind=disk.kind)
        yield from ((f"collection {name}", told) for name in disk.collections)


def _emptiness(total: int, settings: Settings) -> Iterator[tuple[str, str]]:
    if not total:
        yield "catalog", f"{settings.catalog_path} is empty; run ingest"


def _roots(
    settings: Settings, collections: CollectionsFile, store: CatalogStore
) -> dict[tuple[str, str], bool]:
    """Root and name of every collection, and whether the root matters without datasets below it.

    The shipped collections are examples, wherever they have been copied to: theirs do not.
    """
    shipped = load_collections(resource_path("config/collections.toml")).collections
    roots = {
        (root, name): config != shipped.get(name)
        for name, config in collections.collections.items()
        if (root := root_of(config, settings)) is not None
    }
    for row in store.collection_rows():
        for root in row.roots:
            roots.setdefault((root, row.name), False)
    return roots


def _missing_roots(
    roots: dict[tuple[str, str], bool], store: CatalogStore, asked: list[str]
) -> Iterator[tuple[str, str]]:
    """The roots of collections that are not there, but should be; *asked* has the one looked at."""
    for (root, name), matters in roots.items():
        if is_remote(root):
            continue
        asked[0] = root
        lack = _lack(Path(root))
        asked[0] = ""
        if lack and (matters or store.holdings.has_below(root)):
            yield f"collection {name}", f"its root {lack}"


def _lack(folder: Path) -> str:
    """Which folder *folder* is, and why it cannot be used as one; empty where it can."""
    shown = without_secrets(str(folder))
    try:
        is_folder = stat.S_ISDIR(folder.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_folder = False
    except OSError as error:
        return f"{shown} cannot be looked at: {error.strerror}"
    return "" if is_folder else f"{shown} is not there"


def _unreached_roots(
    roots: dict[tuple[str, str], bool], collections: CollectionsFile, stores: RemoteStores
) -> Iterator[tuple[str, tuple[str, str]]]:
    """The roots in stores that do not answer, the names of their collections, and why.

    A root of the catalog is reached as the service reaches it, one that has never been ingested
    as the file of collections says.
    """
    for root, name in roots:
        if not is_remote(root):
            continue
        try:
            if not stores.holds(root):
                stores.add(remote_root(root, collections.named(name).store))
            stores.try_to_reach(root)
        except SodaServiceError as error:
            # A URL that is none, as an earlier version may have taken, may hold a password.
            shown = root
            if isinstance(error, ConfigurationError):
                shown = f"{without_secrets(root)} cannot be used:"
            yield root, (f"collection {name}", f"its root {shown} {error}")


def _is_below_any(url: str, roots: Iterable[str]) -> bool:
    return any(is_below(url, root) for root in roots)


def _problems(dataset: Dataset, settings: Settings, stores: RemoteStores) -> Iterator[str]:
    try:
        limit = settings.cache_bytes
        with HeaderSource(dataset.url, inflated_limit=limit, stores=stores) as source:
            if not source.version.is_of_same_content(dataset.version):
                yield f"its file has changed since it was ingested{_damage(source)}"
                return
            layouts = tuple(scan_hdus(source.read_at, source.size))
            if layouts != tuple(hdu.layout for hdu in dataset.hdus):
                yield "its HDUs are not those that the catalog has"
                return
            yield from _sky_problems(dataset, source)
    except SodaServiceError as error:
        yield str(error)


def _damage(source: HeaderSource) -> str:
    """What an ingest would say of a file that cannot be used any more; empty for a good one."""
    try:
        for _ in scan_hdus(source.read_at, source.size):
            pass
    except CorruptFileError as error:
        return f", and {error}: ingest takes it out of the catalog"
    return ""


def _sky_problems(dataset: Dataset, source: HeaderSource) -> Iterator[str]:
    for hdu in dataset.hdus:
        if not hdu.layout.is_image:
            continue
        try:
            hdu_wcs(hdu, dataset.hdus, source)
        except WcsError as error:
            yield f"HDU {hdu.layout.index} cannot be cut by sky position: {error}"
