"""Service descriptors of cutouts: how SODA is called, for one dataset or for many.

The PARAMs stand in the template `soda-descriptor.xml` and are found by their UCDs, as
clients find them (SODA 1.0 §3.5).
"""

from __future__ import annotations

from math import atan2, degrees, dist, floor, hypot, log10
from typing import TYPE_CHECKING, Final

from soda_service.cutout.selection import of_detail, plain_names
from soda_service.discovery.framing import add_options, input_params, remove
from soda_service.errors import ConfigurationError
from soda_service.geometry.dali import MAX_VERTICES, format_circle, format_polygon
from soda_service.geometry.hull import convex_hull
from soda_service.geometry.shapes import Circle
from soda_service.geometry.vectors import unit_vector
from soda_service.votable.document import load_template, votable
from soda_service.votable.table import format_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lxml.etree import _Element as Element

    from soda_service.catalog.dataset import Dataset, Detail
    from soda_service.discovery.urls import Urls
    from soda_service.geometry.shapes import Polygon

PLAIN_SERVICE: Final = "cutout-sync"
"""XML ID of the descriptor of the first detail."""

_ID: Final = "meta.id;meta.dataset"
_REGION: Final = "pos.outline;obs"
_BAND: Final = "em.wl;stat.interval"
_TIME: Final = "time.interval;obs.exposure"
_POL: Final = "meta.code;phys.polarization"
_DETAIL: Final = "meta.code;obs.param"
_HDU: Final = "meta.id;meta.file"
_ON_SKY: Final = frozenset(
    {_REGION, "pos.outline;phys.angSize", "pos;instr.pixel", "meta.code;pos.outline"}
)
"""What needs an image that lies on the sky: shapes, boxes, stamps and masks."""

_MOST_OPTIONS: Final = 300
"""HDUs that are listed; of a file with more, none."""

_LIMITS: Final = ("circle_max", "polygon_max", "band_min", "band_max", "time_min", "time_max")


def service_of(dataset: Dataset, detail: Detail) -> str:
    """XML ID of the descriptor of *detail*: the first one is the plain one."""
    if detail is dataset.details[0]:
        return PLAIN_SERVICE
    return f"{PLAIN_SERVICE}-{detail.name.lower()}"


def is_named(dataset: Dataset, detail: Detail) -> bool:
    """Whether a request has to name *detail*, which it need not where there is no choice."""
    return len(dataset.details) > 1 or detail.hdus != ("*",)


def dataset_descriptor(dataset: Dataset, detail: Detail, urls: Urls) -> Element:
    """How *detail* of *dataset* is cut, with the limits of that dataset (SODA 1.0 §4.2)."""
    facts = dataset.obscore
    name = detail.name if is_named(dataset, detail) else ""
    resource = _resource(
        service_of(dataset, detail),
        urls,
        {
            "description": f"Cutouts of {facts.obs_title or facts.obs_id}: {describe(detail)}",
            "identifier": dataset.publisher_did,
            "detail": name,
            "example_url": example_url(dataset, name, urls),
            **_limits(dataset),
        },
    )
    params = input_params(resource)
    if _POL in params and facts.pol_states:
        add_options(params[_POL], facts.pol_states.strip("/").split("/"))
    if _HDU in params:
        hdus = of_detail(dataset.hdus, detail)
        if len(hdus) <= _MOST_OPTIONS:
            # Images first: a menu may begin with the first one chosen.
            names = sorted(
                zip(hdus, plain_names(hdus), strict=True),
                key=lambda one: not one[0].layout.is_image,
            )
            add_options(params[_HDU], [name for _, name in names])
    _leave_out(resource, {*_ON_SKY, _BAND, _TIME, _POL, _DETAIL} - _useful(dataset, name))
    return resource


def generic_descriptor(
    service: str,
    details: Sequence[str],
    urls: Urls,
    *,
    id_column: str,
    detail_column: str = "",
    example: str = "",
) -> Element:
    """How the datasets of a table are cut, those named in the FIELD with the XML ID *id_column*.

    *details* are the names of the details that *service* stands for in that table, empty for
    every HDU. A single one is fixed; which one of several it is stands in *detail_column*, or
    is left to the client where there is no such column.
    """
    fixed = details[0] if len(details) == 1 else ""
    resource = _resource(
        service,
        urls,
        {
            "description": "Cutouts of the datasets of this table" + (fixed and f" ({fixed})"),
            "identifier": "",
            "detail": fixed,
            "example_url": example,
        },
    )
    params = input_params(resource)
    if _ID not in params:
        raise ConfigurationError(f"soda-descriptor.xml has no PARAM with the UCD {_ID}")
    params[_ID].set("ref", id_column)
    if tuple(details) == ("",):
        _leave_out(resource, {_DETAIL})
    elif len(details) > 1 and _DETAIL in params and detail_column:
        params[_DETAIL].set("ref", detail_column)
    elif len(details) > 1 and _DETAIL in params:
        add_options(params[_DETAIL], [name for name in details if name])
    return resource


def describe(detail: Detail) -> str:
    """What *detail* holds, for people."""
    if detail.description:
        return detail.description
    return "every HDU" if detail.hdus == ("*",) else ", ".join(detail.hdus)


def example_url(dataset: Dataset, detail: str, urls: Urls) -> str:
    """A small cutout in the middle of the first piece of the footprint; empty without one.

    *detail* is the name of a detail, or empty for every HDU.
    """
    if dataset.footprint is None or not dataset.footprint.polygons:
        return ""
    circle = example_circle(dataset.footprint.polygons[0])
    return urls.sync(dataset.publisher_did, circle=circle, detail=detail or None)


def example_circle(polygon: Polygon) -> Circle:
    """A small circle in the middle of *polygon*, in numbers that are pleasant to read."""
    vectors = [unit_vector(*vertex) for vertex in polygon.vertices]
    x, y, z = (sum(parts) for parts in zip(*vectors, strict=True))
    lon, lat = degrees(atan2(y, x)) % 360, degrees(atan2(z, hypot(x, y)))
    centre = unit_vector(lon, lat)
    reach = degrees(max(dist(centre, vector) for vector in vectors))
    radius = max(reach, 1e-6) / 20
    digits = max(4, 2 - floor(log10(radius)))
    return Circle(round(lon, digits) % 360, round(lat, digits), float(f"{radius:.2g}"))


def _resource(service: str, urls: Urls, values: dict[str, str]) -> Element:
    """The filled RESOURCE without the limits and PARAMs for which *values* have nothing."""
    unknown = dict.fromkeys(_LIMITS, "")
    root = load_template("soda-descriptor.xml").fill(
        {"sync_endpoint": urls.sync_endpoint, **unknown, **values}
    )
    resource = root.find(votable("RESOURCE"))
    if resource is None:
        raise ConfigurationError("soda-descriptor.xml has no RESOURCE")
    resource.set("ID", service)
    resource.set("name", service)
    for param in resource.findall(f"{votable('PARAM')}[@name='exampleURL']"):
        if not param.get("value"):
            remove(param)
    for values_of in list(resource.iter(votable("VALUES"))):
        for limit in list(values_of):
            if not limit.get("value"):
                remove(limit)
        if not len(values_of):
            remove(values_of)
    return resource


def _leave_out(resource: Element, ucds: set[str]) -> None:
    for group in resource.findall(votable("GROUP")):
        for param in list(group):
            if param.get("ucd") in ucds:
                remove(param)


def _useful(dataset: Dataset, detail: str) -> set[str]:
    """UCDs of what can select something in *dataset*: an axis of one sample has no parts."""
    facts = dataset.obscore
    useful: set[str] = set()
    if dataset.footprint is not None:
        useful |= _ON_SKY
    if _is_cut_along(facts.em_xel, facts.em_min, facts.em_max):
        useful.add(_BAND)
    if _is_cut_along(facts.t_xel, facts.t_min, facts.t_max):
        useful.add(_TIME)
    if facts.pol_states:
        useful.add(_POL)
    if detail:
        useful.add(_DETAIL)
    return useful


def _limits(dataset: Dataset) -> dict[str, str]:
    """MIN and MAX of the PARAMs; of a region only MAX, which covers the data (SODA 1.0 §4.2)."""
    facts = dataset.obscore
    limits = {
        **_interval("band", facts.em_min, facts.em_max),
        **_interval("time", facts.t_min, facts.t_max),
    }
    footprint = dataset.footprint
    if footprint is None:
        return limits
    cap = footprint.cap
    if cap.radius > 0:
        limits["circle_max"] = format_circle(cap)
    whole = (
        footprint.polygons[0] if len(footprint.polygons) == 1 else convex_hull(footprint.polygons)
    )
    if whole is not None and len(whole.vertices) <= MAX_VERTICES:
        limits["polygon_max"] = format_polygon(whole)
    return limits


def _interval(axis: str, lower: float | None, upper: float | None) -> dict[str, str]:
    limits = {}
    if lower is not None:
        limits[f"{axis}_min"] = format_number(lower)
    if upper is not None:
        limits[f"{axis}_max"] = format_number(upper)
    return limits


def _is_cut_along(samples: int | None, lower: float | None, upper: float | None) -> bool:
    return samples is not None and samples > 1 and lower is not None and upper is not None
