"""Requests worth showing: made from what the catalog holds, and known to work."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from soda_service.cutout.request import CutoutRequest
from soda_service.errors import SodaServiceError, SourceUnavailableError
from soda_service.geometry.shapes import Circle
from soda_service.geometry.vectors import middle_of
from soda_service.storage.disks import DiskHangsError
from soda_service.storage.source import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from soda_service.catalog.dataset import ObsCore
    from soda_service.catalog.summaries import CollectionSummary
    from soda_service.web.services import Services

_log = logging.getLogger(__name__)

_PIXELS: Final = 100
"""Radius of an example, in pixels, where the dataset is larger."""

_PIECES: Final = 3
"""Of a dataset, in whose middles an example is sought."""

_PATIENCE_SECONDS: Final = 3.0
"""After which what cannot be reached is taken for a place that makes all wait who ask there."""

_PAGE_SECONDS: Final = 5.0
"""For which a page waits for what it would show."""


@dataclass(frozen=True, slots=True)
class Showpiece:
    """A collection with a dataset of it and a circle that a cutout can be made of."""

    collection: CollectionSummary
    identifier: str
    circle: Circle


def showpieces(services: Services) -> list[Showpiece]:
    """One for each collection that has any; blocks."""
    found = (_showpiece(services, collection) for collection in services.store.collections())
    return [one for one in found if one is not None]


async def showpieces_soon(services: Services) -> list[Showpiece]:
    """The same, none where they take long: a page is to come though a disk hangs."""
    try:
        async with asyncio.timeout(_PAGE_SECONDS):
            return await services.threads.call(showpieces, services)
    except (TimeoutError, DiskHangsError):
        return []


def warm_up(services: Services) -> None:
    """Plan one cutout of each collection, so that no client waits for what is loaded late.

    Half a second, which would otherwise be the first request's. What goes wrong here will go
    wrong there too, and be told to somebody who can act on it.
    """
    try:
        shown = showpieces(services)
    except Exception:  # noqa: BLE001 - a service that cannot do this can still say so
        _log.warning("nothing could be tried at the start", exc_info=True)
    else:
        _log.debug("cutouts of %d collections were tried", len(shown))


def _showpiece(services: Services, collection: CollectionSummary) -> Showpiece | None:
    """The first of a few datasets that can be cut.

    Where a store or a network file system does not answer, none is tried after that: each would
    be waited for. A file of this machine that cannot be read says nothing of the next one.
    """
    for facts in collection.examples:
        identifier = facts.obs_publisher_did
        began = time.monotonic()
        try:
            for circle in _circles_in(services, facts):
                request = CutoutRequest(identifier=identifier, shape=circle)
                if services.cutter.plan(request) is not None:
                    return Showpiece(collection, identifier, circle)
        except DiskHangsError:
            return None
        except SourceUnavailableError as error:
            if is_remote(error.path) or time.monotonic() - began > _PATIENCE_SECONDS:
                return None
        except SodaServiceError:
            continue
    return None


def _circles_in(services: Services, facts: ObsCore) -> Iterator[Circle]:
    """Small circles about the middle of a dataset and about the middles of pieces of it.

    The middle of a camera's chips may lie in the gap between them. Raises what resolving raises.
    """
    if facts.s_ra is None or facts.s_dec is None:
        return
    yield _circle(facts.s_ra, facts.s_dec, facts)
    footprint = services.resolver.resolve(facts.obs_publisher_did).footprint
    if footprint is None:
        return
    for piece in footprint.polygons[:_PIECES]:
        yield _circle(*middle_of(piece.vertices), facts)


def _circle(lon: float, lat: float, facts: ObsCore) -> Circle:
    """A small circle about a place of a dataset, its numbers short enough to read."""
    radii = [0.1]
    if facts.s_fov:
        radii.append(facts.s_fov / 8)
    if facts.s_pixel_scale:
        radii.append(_PIXELS * facts.s_pixel_scale / 3600)
    return Circle(round(lon, 5) % 360, round(lat, 5), float(f"{min(radii):.2g}"))
