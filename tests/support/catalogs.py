"""Datasets written by hand in a real catalog, for the rooms that only talk about them.

Each of them is odd in its own way; none has a file. The numbers agree with each other as
those of an ingested file would.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from soda_service.catalog.dataset import Dataset, DatasetHdu, Detail, Footprint, ObsCore
from soda_service.catalog.query import CatalogQuery
from soda_service.catalog.rows import rows_of
from soda_service.catalog.store import CatalogStore
from soda_service.config import CollectionConfig, DetailConfig, LinkRule, Settings
from soda_service.errors import UnknownDatasetError
from soda_service.fits.cards import Header
from soda_service.fits.layout import HduKind, HduLayout
from soda_service.geometry.shapes import Circle, Polygon
from soda_service.storage.source import FileVersion
from soda_service.web.urls import SiteUrls

if TYPE_CHECKING:
    from pathlib import Path

AUTHORITY = "archive.example"

URLS = SiteUrls("https://archive.example/vo")

HOSTILE = "<b>&amp; \"quoted\" 'too' ]]> \x00\x08\x1b\x7f\x9f\ufffe {title} é☃𝄞 --> \\"
"""Text that breaks documents which are written carelessly."""

HOSTILE_AS_READ = "<b>&amp; \"quoted\" 'too' ]]>  {title} é☃𝄞 --> \\"
"""What a reader of a document must see of it."""


def make_dataset(collection: str, name: str, **facts: Any) -> Dataset:
    """A plain image with other *facts*; what is no ObsCore column is a field of Dataset."""
    own = {key: facts.pop(key) for key in list(facts) if key in Dataset.__dataclass_fields__}
    obscore = replace(_PLAIN_FACTS, obs_collection=collection, obs_id=name)
    obscore = replace(
        obscore,
        obs_publisher_did=f"ivo://{AUTHORITY}/{collection}?{name}.fits",
        **facts,
    )
    plain = Dataset(
        obscore=obscore,
        footprint=_SQUARE,
        url=f"/archive/{collection}/{name}.fits",
        local_part=f"{name}.fits",
        version=FileVersion(2_000_160, 1_700_000_000_000_000_000),
        media_type="application/fits",
        hdus=(),
        details=(Detail(name="All", hdus=("*",), description="every HDU of the file"),),
    )
    return replace(plain, **own)


def planes(*names: str) -> tuple[DatasetHdu, ...]:
    """Images with these EXTNAMEs, one after the other; nobody looks into them."""
    return tuple(
        DatasetHdu(
            layout=HduLayout(
                index=number,
                kind=HduKind.IMAGE if name else HduKind.EMPTY,
                name=name,
                version=1,
                bitpix=-32,
                naxis=(7200, 3600),
                header=Header(b""),
                header_offset=number * 5760,
                data_offset=number * 5760 + 2880,
                data_size=2880,
            ),
            role="",
        )
        for number, name in enumerate(names)
    )


def visit(name: str = "visit-1", **facts: Any) -> Dataset:
    """An image with three details, as Rubin's visits have."""
    return make_dataset(
        "visits",
        name,
        hdus=planes("", "IMAGE", "MASK", "VARIANCE"),
        details=tuple(
            Detail(name=one.name, hdus=one.hdus, description=one.description) for one in _DETAILS
        ),
        **facts,
    )


def cube(name: str = "cube-1") -> Dataset:
    """A radio cube across right ascension 0 with spectral, temporal and polarization axes."""
    return make_dataset(
        "cubes",
        name,
        dataproduct_type="cube",
        obs_title=None,
        s_ra=0.0,
        s_dec=-27.5,
        em_min=0.2098,
        em_max=0.2103,
        em_xel=48,
        t_min=60000.0,
        t_max=60000.5,
        t_xel=5,
        pol_states="/I/Q/U/",
        pol_xel=3,
        footprint=Footprint(
            polygons=(Polygon(((0.5, -28.0), (359.5, -28.0), (359.5, -27.0), (0.5, -27.0))),),
            cap=Circle(0.0, -27.5, 0.6687),
        ),
        version=FileVersion(5_000_000_000, 1),
    )


def allsky() -> Dataset:
    """An image whose footprint no single polygon holds."""
    north = Polygon(((0.0, 10.0), (120.0, 10.0), (240.0, 10.0)))
    south = Polygon(((0.0, -10.0), (120.0, -10.0), (240.0, -10.0)))
    return make_dataset(
        "surveys",
        "allsky",
        s_fov=360.0,
        footprint=Footprint(polygons=(north, south), cap=Circle(0.0, 0.0, 180.0)),
        media_type="application/gzip",
    )


def unplaced() -> Dataset:
    """An image that says nothing of the sky, and nulls wherever they are allowed."""
    nothing = {
        name: None
        for name, annotation in ObsCore.__annotations__.items()
        if "None" in str(annotation)
    }
    return make_dataset("surveys", "unplaced", footprint=None, **nothing)


def hostile() -> Dataset:
    """An image every text of which tries to break the document."""
    texts = {
        name: HOSTILE
        for name, annotation in ObsCore.__annotations__.items()
        if "str" in str(annotation)
        and name not in {"obs_collection", "obs_publisher_did", "dataproduct_type", "pol_states"}
    }
    return make_dataset(
        "hostile",
        "hostile",
        **texts,
        s_ra=float("inf"),
        s_dec=float("nan"),
        s_resolution=float("-inf"),
        hdus=planes("A<B"),
        details=(Detail(name="Odd", hdus=("A<B",), description=HOSTILE),),
    )


class StoreResolver:
    """Resolves from a catalog alone: the datasets of this module have no files to look at."""

    def __init__(self, store: CatalogStore) -> None:
        self._store = store

    def resolve(self, identifier: str) -> Dataset:
        """The dataset; raises UnknownDatasetError."""
        dataset = self._store.get(identifier)
        if dataset is None:
            raise UnknownDatasetError(identifier)
        return dataset


def make_settings(folder: Path, **settings: object) -> Settings:
    """Settings with a catalog in *folder*."""
    values = {
        "title": "An archive & <more>",
        "contact": "astro@archive.example",
        "authority": AUTHORITY,
        "catalog": f"sqlite:///{folder}/catalog.sqlite",
        **settings,
    }
    return Settings.model_validate(values)


def make_store(settings: Settings, *datasets: Dataset) -> CatalogStore:
    """A catalog that holds *datasets*, with the rules of `CONFIGS`."""
    store = CatalogStore(settings)
    for name in dict.fromkeys(one.collection for one in datasets):
        store.holdings.save_collection(name, "/archive", CONFIGS.get(name, CollectionConfig()))
    store.holdings.write([rows_of(one, "by hand") for one in datasets])
    return store


def found(store: CatalogStore, **constraints: object) -> list[str]:
    """The obs_ids that a query finds."""
    query = CatalogQuery(**constraints)  # type: ignore[arg-type] # any field
    return [row.obs_id for row in store.find(query, 100)]


_DETAILS = (
    DetailConfig(name="Image", hdus=("IMAGE",), description="the image"),
    DetailConfig(name="MaskedImage", hdus=("IMAGE", "MASK", "VARIANCE"), description=""),
    DetailConfig(name="Exposure", hdus=("*",), description=""),
)

CONFIGS = {
    "visits": CollectionConfig(
        details=_DETAILS,
        links=(
            LinkRule(semantics="#coderived", collection="cubes", on=("target_name",)),
            LinkRule(semantics="#noise", detail="MaskedImage", description="mask and variance"),
        ),
    ),
    "hostile": CollectionConfig(
        details=(DetailConfig(name="Odd", hdus=("A<B",), description=HOSTILE_AS_READ),),
    ),
}
"""What ingest would have read from the configuration."""

_SQUARE = Footprint(
    polygons=(Polygon(((150.2, 1.9), (149.8, 1.9), (149.8, 2.1), (150.2, 2.1))),),
    cap=Circle(150.0, 2.0, 0.2236),
)

_PLAIN_FACTS = ObsCore(
    dataproduct_type="image",
    dataproduct_subtype=None,
    calib_level=2,
    obs_collection="",
    obs_id="",
    obs_publisher_did="",
    obs_title="A field",
    access_estsize=2000,
    target_name="NGC 1",
    s_ra=150.0,
    s_dec=2.0,
    s_fov=0.4472,
    s_region="POLYGON ICRS 150.2 1.9 149.8 1.9 149.8 2.1 150.2 2.1",
    s_resolution=0.8,
    s_pixel_scale=0.2,
    s_xel1=7200,
    s_xel2=3600,
    t_min=60623.25,
    t_max=60623.256,
    t_exptime=30.0,
    t_resolution=30.0,
    t_xel=1,
    em_min=4.02e-07,
    em_max=5.52e-07,
    em_res_power=3.2,
    em_xel=1,
    lsst_band="g",
    o_ucd="phot.flux.density",
    pol_states=None,
    pol_xel=0,
    facility_name="Erewhon Observatory",
    instrument_name="ErewhonCam",
)
