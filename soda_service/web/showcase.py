"""Requests worth showing: made from what the catalog holds, and known to work."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from soda_service.cutout.request import CutoutRequest
from soda_service.errors import SodaServiceError
from soda_service.geometry.shapes import Circle

if TYPE_CHECKING:
    from soda_service.catalog.dataset import ObsCore
    from soda_service.catalog.summaries import CollectionSummary
    from soda_service.web.services import Services

_log = logging.getLogger(__name__)

_PIXELS: Final = 100
"""Radius of an example, in pixels, where the dataset is larger."""


@dataclass(frozen=True, slots=True)
class Showpiece:
    """A collection with a dataset of it and a circle that a cutout can be made of."""

    collection: CollectionSummary
    identifier: str
    circle: Circle


def showpieces(services: Services) -> list[Showpiece]:
    """One for each collection that has any; blocks."""
    return [
        Showpiece(collection, collection.example.obs_publisher_did, circle)
        for collection in services.store.collections()
        if collection.example is not None
        and (circle := _circle_in(collection.example)) is not None
        and _works(services, collection.example.obs_publisher_did, circle)
    ]


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


def _circle_in(facts: ObsCore) -> Circle | None:
    """A small circle about the middle of a dataset, its numbers short enough to read."""
    if facts.s_ra is None or facts.s_dec is None:
        return None
    radii = [0.1]
    if facts.s_fov:
        radii.append(facts.s_fov / 8)
    if facts.s_pixel_scale:
        radii.append(_PIXELS * facts.s_pixel_scale / 3600)
    return Circle(round(facts.s_ra, 5) % 360, round(facts.s_dec, 5), float(f"{min(radii):.2g}"))


def _works(services: Services, identifier: str, circle: Circle) -> bool:
    try:
        plan = services.cutter.plan(CutoutRequest(identifier=identifier, shape=circle))
    except SodaServiceError:
        return False
    return plan is not None
