"""Example circles: small, and in the middle of the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from astropy.io.votable.ucd import parse_ucd
from hypothesis import given, strategies as st
from support.catalogs import URLS, visit
from support.images import FAMILIES

from soda_service.catalog.dataset import Dataset, DatasetHdu, Detail, Footprint
from soda_service.discovery.descriptors import dataset_descriptor, example_circle
from soda_service.fits.layout import scan_hdus
from soda_service.geometry.dali import format_circle, parse_circle, parse_polygon
from soda_service.geometry.shapes import Polygon
from soda_service.geometry.sphere import bounding_cap, contains
from soda_service.geometry.vectors import lon_lat, unit_vectors


@given(st.floats(0, 360, exclude_max=True), st.floats(-90, 90), st.floats(1e-4, 20))
def test_the_example_is_inside_a_square(lon: float, lat: float, size: float) -> None:
    """Across right ascension 0 and at the poles too."""
    ring = np.radians(size) * np.array([(1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0)])
    towards = unit_vectors([lon], [lat])[:, 0]
    east = np.array([-np.sin(np.radians(lon)), np.cos(np.radians(lon)), 0.0])
    corners = towards[:, None] + np.outer(east, ring[:, 0])
    corners += np.outer(np.cross(towards, east), ring[:, 1])
    lons, lats = lon_lat(corners / np.linalg.norm(corners, axis=0))
    square = Polygon(tuple(zip(lons.tolist(), lats.tolist(), strict=True)))
    circle = example_circle(square)
    assert 0 < circle.radius < size / 5
    assert contains(square, unit_vectors([circle.lon], [circle.lat])).all()
    assert parse_circle(format_circle(circle)) == circle


def test_a_footprint_of_pieces_has_one_outline() -> None:
    """SODA 1.0 §4.2: MAX covers the data, the gap between two detectors included."""
    pieces = (
        Polygon(((150.0, 2.0), (150.1, 2.0), (150.1, 2.1), (150.0, 2.1))),
        Polygon(((150.2, 2.0), (150.3, 2.0), (150.3, 2.1), (150.2, 2.1))),
    )
    dataset = visit()
    whole = Polygon(((150.0, 2.0), (150.3, 2.0), (150.3, 2.1), (150.0, 2.1)))
    footprint = Footprint(polygons=pieces, cap=bounding_cap(whole))
    described = dataset_descriptor(replace(dataset, footprint=footprint), dataset.details[0], URLS)
    limit = described.find(".//{*}PARAM[@name='POLYGON']/{*}VALUES/{*}MAX")
    assert limit is not None
    hull = parse_polygon(limit.get("value", ""))
    assert set(hull.vertices) >= set(whole.vertices)
    # A great circle between the southern corners would pass north of those between them.
    assert set(hull.vertices) - set(whole.vertices) == {(150.1, 2.0), (150.2, 2.0)}


def _hdus_of(family: str) -> tuple[DatasetHdu, ...]:
    contents = FAMILIES[family]()
    layouts = scan_hdus(lambda start, length: contents[start : start + length], len(contents))
    return tuple(DatasetHdu(layout=layout, role="") for layout in layouts)


def _options_of(dataset: Dataset, detail: Detail) -> list[str | None]:
    described = dataset_descriptor(dataset, detail, URLS)
    options = described.findall(".//{*}PARAM[@name='HDU']/{*}VALUES/{*}OPTION")
    return [option.get("value") for option in options]


def test_the_hdus_of_one_dataset_are_offered() -> None:
    """Those of the detail, images first, each by a name that no other one has."""
    dataset = replace(visit(), hdus=_hdus_of("mef"))
    image, masked, everything = dataset.details
    assert _options_of(dataset, image) == ["IMAGE"]
    assert _options_of(dataset, masked) == ["IMAGE", "MASK", "VARIANCE"]
    assert _options_of(dataset, everything) == ["IMAGE", "MASK", "VARIANCE", "PRIMARY", "CATALOG"]
    chips = replace(visit(), hdus=_hdus_of("mef_two_chips"))
    assert _options_of(chips, everything)[:2] == ["SCI,1", "ERR,1"]
    assert len(set(_options_of(chips, everything))) == len(chips.hdus)


def test_every_parameter_has_three_factors_of_its_own() -> None:
    """Name, UCD and unit; the UCDs are words of the vocabulary, and what is ours has its own."""
    params = dataset_descriptor(visit(), visit().details[0], URLS).findall(".//{*}GROUP/{*}PARAM")
    own = [one for one in params if one.get("ucd") != "pos.outline;obs"]
    assert len({one.get("ucd") for one in own}) == len(own) > 8
    for param in params:
        parse_ucd(param.get("ucd"), check_controlled_vocabulary=True)
        assert len(param.findtext("{*}DESCRIPTION") or "") > 20
