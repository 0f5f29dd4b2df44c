"""Catalogs of many invented datasets: what a search sees of them is complete, files there are none.

They are spread evenly over the sky, in the order of their times, so that neighbours on the sky
lie far apart in the catalog.
"""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING, Any

import archive
import numpy as np

from soda_service.catalog import schema
from soda_service.catalog.dataset import Dataset, Footprint, ObsCore
from soda_service.catalog.rows import rows_of
from soda_service.catalog.store import CatalogStore
from soda_service.config import CollectionConfig, Settings
from soda_service.discovery.readyrows import make_ready
from soda_service.geometry.shapes import Circle, Polygon
from soda_service.geometry.vectors import unit_vectors
from soda_service.storage.source import FileVersion
from soda_service.web.urls import SiteUrls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from soda_service.catalog.rows import Cell

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

COLLECTIONS = 12
BANDS = {
    "u": (3.2e-7, 4.0e-7),
    "g": (4.0e-7, 5.5e-7),
    "r": (5.5e-7, 7.0e-7),
    "i": (6.9e-7, 8.2e-7),
    "z": (8.2e-7, 9.2e-7),
    "y": (9.5e-7, 1.1e-6),
}
FIRST_DAY, LAST_DAY = 58_000.0, 62_000.0
"""MJD."""
HALF = 0.1
"""Of the width of every field, degrees."""

_GULP = 5_000


def collection_of(number: int) -> str:
    """The collection of a dataset."""
    return f"survey-{number % COLLECTIONS}"


def identifier(number: int) -> str:
    """The DID of a dataset."""
    return f"ivo://{archive.AUTHORITY}/{collection_of(number)}?{_local_part(number)}"


def invent(folder: Path, count: int) -> None:
    """Fill the catalog in *folder* with *count* datasets, and make their rows ready."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "catalog.sqlite"
    settings = Settings.model_validate({"catalog": f"sqlite:///{path}"})
    store = CatalogStore(settings)
    for number in range(COLLECTIONS):
        store.holdings.save_collection(collection_of(number), "/archive", CollectionConfig())
    store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # Nothing is lost where this stops half-way: it is invented again.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        # The sky is met in no order, so all of its tree is needed all the time.
        connection.execute("PRAGMA cache_size = -6000000")
        connection.execute("BEGIN EXCLUSIVE")
        _fill(connection, count)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
    store = CatalogStore(settings)
    for _ in make_ready(store.holdings, SiteUrls("")):
        pass
    store.close()


def _fill(connection: sqlite3.Connection, count: int) -> None:
    chance = np.random.default_rng(5)
    for start in range(0, count, _GULP):
        numbers = np.arange(start, min(start + _GULP, count))
        lons = chance.uniform(0, 360, len(numbers))
        lats = np.degrees(np.arcsin(chance.uniform(-0.999, 0.999, len(numbers))))
        corners = _corners(lons, lats)
        cells = list(_cells(numbers, count, lons, lats, corners))
        pieces = [
            (schema.FIRST_PIECE + row_id * schema.MOST_PIECES, row_id)
            for row_id in (numbers + 1).tolist()
        ]
        boxes = [(*piece, *box) for piece, box in zip(pieces, _boxes(corners), strict=True)]
        connection.executemany(_insert("dataset", tuple(cells[0])), cells)
        connection.executemany("INSERT INTO piece (id, dataset_id) VALUES (?, ?)", pieces)
        connection.executemany(_INSERT_BOX, boxes)


@cache
def _insert(table: str, columns: tuple[str, ...]) -> str:
    places = ", ".join(f":{name}" for name in columns)
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"


def _local_part(number: int) -> str:
    return f"{number // 5000:06}/exposure-{number:09}.fits"


def _corners(lons: Floats, lats: Floats) -> Floats:
    """Of a square field around each place: longitudes and latitudes (2, N, 4), degrees."""
    width = HALF / np.cos(np.radians(np.minimum(np.abs(lats), 87.0)))
    east, north = np.array([1.0, -1.0, -1.0, 1.0]), np.array([-1.0, -1.0, 1.0, 1.0])
    return np.stack(
        [
            (lons[:, None] + width[:, None] * east) % 360.0,
            np.clip(lats[:, None] + HALF * north, -90.0, 90.0),
        ]
    )


def _boxes(corners: Floats) -> list[list[float]]:
    """As `sky_box`, a little wider than it: no arc bulges by more than that."""
    vectors = unit_vectors(corners[0].ravel(), corners[1].ravel()).reshape(3, -1, 4)
    bulge = math.radians(2 * HALF) ** 2
    ends = np.stack([vectors.min(axis=2) - bulge, vectors.max(axis=2) + bulge], axis=1)
    boxes: list[list[float]] = ends.reshape(6, -1).T.tolist()
    return boxes


def _cells(
    numbers: Ints, count: int, lons: Floats, lats: Floats, corners: Floats
) -> Iterator[dict[str, Cell]]:
    """The rows of `dataset`."""
    same = {**rows_of(_dataset(), "invented").dataset, "scan": 1, "revision": 1}
    start = np.frombuffer(_head_of(4), np.uint8)
    packed = np.moveaxis(corners, 0, 2).astype("<f8").reshape(len(numbers), -1).view(np.uint8)
    polygons = np.concatenate([np.tile(start, (len(numbers), 1)), packed], axis=1)
    names = list(BANDS)
    places = zip(numbers.tolist(), lons.tolist(), lats.tolist(), strict=True)
    vertices = np.moveaxis(corners, 0, 2).reshape(len(numbers), -1).tolist()
    for at, (number, lon, lat) in enumerate(places):
        band = names[number % 7 % len(names)]
        em_min, em_max = BANDS[band]
        t_min = FIRST_DAY + (LAST_DAY - FIRST_DAY) * number / count
        exposure = 30.0 + number % 300
        did = identifier(number)
        yield {
            **same,
            "id": number + 1,
            "collection_id": 1 + number % COLLECTIONS,
            "did_folded": did,
            "local_part": _local_part(number),
            "path": f"/archive/{collection_of(number)}/{_local_part(number)}",
            "size": 33_600_000 + number,
            "modified_ns": 1_700_000_000_000_000_000 + number,
            "cap_lon": lon,
            "cap_lat": lat,
            "polygons": polygons[at].tobytes(),
            "obs_collection": collection_of(number),
            "obs_id": f"exposure-{number:09}",
            "obs_publisher_did": did,
            "obs_title": f"Exposure {number} of survey {number % COLLECTIONS} in {band}",
            "target_name": f"field {number % 20_011}",
            "s_ra": lon,
            "s_dec": lat,
            "s_region": "POLYGON ICRS " + " ".join(map(repr, vertices[at])),
            "t_min": t_min,
            "t_max": t_min + exposure / 86_400,
            "t_exptime": exposure,
            "em_min": em_min,
            "em_max": em_max,
            "lsst_band": band,
        }


def _head_of(vertices: int) -> bytes:
    """What stands before the vertices of one polygon (`catalog.rows`)."""
    return np.array([1, vertices], "<u4").tobytes()


def _dataset() -> Dataset:
    """What all of them have in common."""
    polygon = Polygon(((1.0, -1.0), (0.0, -1.0), (0.0, 1.0), (1.0, 1.0)))
    facts: dict[str, Any] = dict.fromkeys(ObsCore.__dataclass_fields__)
    return Dataset(
        obscore=ObsCore(**(facts | _FACTS)),
        footprint=Footprint(polygons=(polygon,), cap=Circle(0.0, 0.0, HALF * 1.5)),
        url="",
        local_part="",
        version=FileVersion(0, 0),
        media_type="application/fits",
        hdus=(),
        details=(),
    )


_INSERT_BOX = (
    f"INSERT INTO piece_box (id, dataset_id, {', '.join(schema.BOX_COLUMNS)})"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)

_FACTS: dict[str, Any] = {
    "dataproduct_type": "image",
    "dataproduct_subtype": "science",
    "calib_level": 2,
    "obs_collection": "",
    "obs_id": "",
    "obs_publisher_did": "",
    "access_estsize": 33_600,
    "s_fov": HALF * 3,
    "s_resolution": 0.83,
    "s_pixel_scale": 0.2,
    "s_xel1": 4096,
    "s_xel2": 4096,
    "t_xel": 1,
    "em_xel": 1,
    "o_ucd": "phot.flux.density",
    "pol_xel": 0,
    "facility_name": "Erewhon Observatory",
    "instrument_name": "ErewhonCam",
}
