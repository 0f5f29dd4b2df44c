"""Datasets as rows of the catalog, and rows as datasets.

Polygons are stored as little-endian numbers: a 32-bit count of polygons, a 32-bit count of
vertices for each, then longitude and latitude of every vertex as 64-bit floats, degrees.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from soda_service.catalog.dataset import Dataset, DatasetHdu, Detail, Footprint, ObsCore
from soda_service.catalog.query import fold
from soda_service.catalog.skybox import sky_box
from soda_service.fits.cards import Header
from soda_service.fits.layout import HduKind, HduLayout
from soda_service.geometry.shapes import Circle, Polygon
from soda_service.storage.source import FileVersion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import RowMapping

    from soda_service.catalog.skybox import SkyBox
    from soda_service.config import CollectionConfig, DetailConfig, PlaneRule

    _Row = RowMapping | Mapping[str, Any]
    Cell = str | int | float | bytes | None
    Fact = str | int | float | None
    """A cell of an ObsCore column."""

OBSCORE_NAMES: Final = tuple(field.name for field in fields(ObsCore))

_COMPRESSION_LEVEL: Final = 3
"""Headers shrink to a sixth; higher levels win a hundredth and cost twice the time."""

_EVERY_HDU: Final = Detail(name="All", hdus=("*",), description="every HDU of the file")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRows:
    """One dataset as the catalog stores it, but for the numbers that the catalog gives."""

    collection: str
    dataset: dict[str, Cell]
    hdus: tuple[dict[str, Cell], ...]
    boxes: tuple[SkyBox, ...]
    """One for each polygon of the footprint."""

    @property
    def publisher_did(self) -> str:
        """The dataset's identifier."""
        return str(self.dataset["obs_publisher_did"])

    @property
    def path(self) -> str:
        """Absolute path of the dataset's file."""
        return str(self.dataset["path"])

    @property
    def version(self) -> FileVersion:
        """Of that file."""
        size, modified_ns = self.dataset["size"], self.dataset["modified_ns"]
        assert isinstance(size, int)
        assert isinstance(modified_ns, int)
        return FileVersion(size, modified_ns, str(self.dataset["tag"]))

    @property
    def header_bytes(self) -> int:
        """Of its headers, compressed: by far the most of it."""
        return sum(len(cards) for hdu in self.hdus if isinstance(cards := hdu["cards"], bytes))


def rows_of(dataset: Dataset, fingerprint: str) -> DatasetRows:
    """What is stored of *dataset*; *fingerprint* tells what made it."""
    footprint = dataset.footprint
    cap = footprint.cap if footprint else None
    polygons = footprint.polygons if footprint else ()
    return DatasetRows(
        collection=dataset.collection,
        dataset={
            "did_folded": fold(dataset.publisher_did),
            "local_part": dataset.local_part,
            "path": dataset.url,
            "size": dataset.version.size,
            "modified_ns": dataset.version.modified_ns,
            "tag": dataset.version.tag,
            "media_type": dataset.media_type,
            "fingerprint": fingerprint,
            "cap_lon": cap.lon if cap else None,
            "cap_lat": cap.lat if cap else None,
            "cap_radius": cap.radius if cap else None,
            "polygons": _packed(polygons) if footprint else None,
            **{name: getattr(dataset.obscore, name) for name in OBSCORE_NAMES},
        },
        hdus=tuple(_hdu_row(hdu) for hdu in dataset.hdus),
        boxes=tuple(sky_box(polygon) for polygon in polygons),
    )


def dataset_of(row: _Row, hdus: Iterable[_Row], config: CollectionConfig) -> Dataset:
    """The dataset that *row* and its HDUs describe, with those details of *config* that it has."""
    rules = plane_rules(config)
    found = tuple(_hdu_of(hdu, rules) for hdu in hdus)
    return Dataset(
        obscore=obscore_of(row),
        footprint=_footprint_of(row),
        url=row["path"],
        local_part=row["local_part"],
        version=FileVersion(row["size"], row["modified_ns"], row["tag"]),
        media_type=row["media_type"],
        hdus=found,
        details=details_of(config.details, found),
    )


def plane_rules(config: CollectionConfig) -> dict[str, PlaneRule]:
    """EXTNAME in capitals to the rule for the planes of that cube."""
    return {name.upper(): rule for name, rule in config.planes.items()}


def details_of(
    configured: Iterable[DetailConfig], hdus: Sequence[DatasetHdu]
) -> tuple[Detail, ...]:
    """Those details of a collection of which *hdus* have at least one HDU.

    One of every HDU where that leaves none.
    """
    named = (
        Detail(name=one.name, hdus=one.hdus, description=one.description) for one in configured
    )
    present = tuple(detail for detail in named if any(detail.holds(hdu) for hdu in hdus))
    return present or (_EVERY_HDU,)


def obscore_of(row: _Row) -> ObsCore:
    """The ObsCore facts in *row*."""
    return ObsCore(**{name: row[name] for name in OBSCORE_NAMES})


def polygons_of(packed: bytes) -> tuple[Polygon, ...]:
    """The polygons in the form of the module's second paragraph."""
    count = int.from_bytes(packed[:4], "little")
    sizes = np.frombuffer(packed, "<u4", count, 4)
    numbers = np.frombuffer(packed, "<f8", -1, 4 + 4 * count).reshape(-1, 2)
    polygons: list[Polygon] = []
    start = 0
    for size in sizes.tolist():
        vertices = numbers[start : start + size].tolist()
        polygons.append(Polygon(tuple((lon, lat) for lon, lat in vertices)))
        start += size
    return tuple(polygons)


def _packed(polygons: tuple[Polygon, ...]) -> bytes:
    sizes = np.array([len(polygons), *(len(one.vertices) for one in polygons)], "<u4")
    numbers = np.array([vertex for one in polygons for vertex in one.vertices], "<f8")
    return sizes.tobytes() + numbers.tobytes()


def _footprint_of(row: _Row) -> Footprint | None:
    packed = row["polygons"]
    if packed is None:
        return None
    lon, lat, radius = (row[f"cap_{name}"] for name in ("lon", "lat", "radius"))
    return Footprint(polygons=polygons_of(packed), cap=Circle(lon, lat, radius))


def _hdu_row(hdu: DatasetHdu) -> dict[str, Cell]:
    layout = hdu.layout
    return {
        "position": layout.index,
        "kind": layout.kind.value,
        "name": layout.name,
        "version": layout.version,
        "role": hdu.role,
        "bitpix": layout.bitpix,
        "naxis": json.dumps(layout.naxis),
        "header_offset": layout.header_offset,
        "data_offset": layout.data_offset,
        "data_size": layout.data_size,
        "cards": zlib.compress(layout.header.raw, _COMPRESSION_LEVEL),
    }


def _hdu_of(row: _Row, rules: Mapping[str, PlaneRule]) -> DatasetHdu:
    layout = HduLayout(
        index=row["position"],
        kind=HduKind(row["kind"]),
        name=row["name"],
        version=row["version"],
        bitpix=row["bitpix"],
        naxis=tuple(json.loads(row["naxis"])),
        header=Header(zlib.decompress(row["cards"])),
        header_offset=row["header_offset"],
        data_offset=row["data_offset"],
        data_size=row["data_size"],
    )
    return DatasetHdu(layout=layout, role=row["role"], planes=rules.get(layout.name.upper()))
