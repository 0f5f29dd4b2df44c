"""A dataset: one file with its identifier, its HDUs and its ObsCore facts.

Units are those of ObsCore 1.1: degrees, metres (vacuum wavelength), MJD days, seconds, arcseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from soda_service.config import PlaneRule
    from soda_service.fits.layout import HduLayout
    from soda_service.geometry.shapes import Circle, Polygon
    from soda_service.storage.source import FileVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class ObsCore:
    """The ObsCore 1.1 columns that do not depend on where the service runs.

    The names, units and meanings are those of ObsCore 1.1 §4 and its table 6; None is null.
    `access_url` and `access_format` are added by discovery.
    """

    dataproduct_type: str | None
    """`image` or `cube`."""
    dataproduct_subtype: str | None
    calib_level: int
    obs_collection: str
    obs_id: str
    obs_publisher_did: str
    obs_title: str | None
    access_estsize: int
    """kbyte."""
    target_name: str | None
    s_ra: float | None
    s_dec: float | None
    s_fov: float | None
    s_region: str | None
    """STC-S text: `POLYGON ICRS …` or `UNION ICRS (…)`; the exact match uses `Footprint`."""
    s_resolution: float | None
    s_pixel_scale: float | None
    """arcsec."""
    s_xel1: int | None
    s_xel2: int | None
    t_min: float | None
    t_max: float | None
    t_exptime: float | None
    t_resolution: float | None
    t_xel: int | None
    em_min: float | None
    em_max: float | None
    em_res_power: float | None
    em_xel: int | None
    lsst_band: str | None
    """Name of the filter, in the column where Rubin-style notebooks look for it."""
    o_ucd: str | None
    pol_states: str | None
    """`/I/Q/`, in the canonical order of ObsCore 1.1 §B.6.6."""
    pol_xel: int | None
    facility_name: str | None
    instrument_name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Where on the sky the pixels of a dataset lie."""

    polygons: tuple[Polygon, ...]
    """Great-circle polygons, one for each separate piece; an all-sky image has many."""
    cap: Circle
    """A circle that holds them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetHdu:
    """An HDU of a dataset with the role that its collection gives it."""

    layout: HduLayout
    role: str
    """`science`, `mask`, `variance`, `weight`, `noise`, `psf`… or empty."""
    planes: PlaneRule | None = None
    """By what rule a cutout gets one plane of it; None for what is no such cube."""

    @property
    def names(self) -> frozenset[str]:
        """What it may be called in capitals: EXTNAME, or PRIMARY for want of one, and role."""
        layout = self.layout
        name = layout.name.strip().upper() or ("PRIMARY" if layout.index == 0 else "")
        return frozenset({name, self.role.upper()} - {""})


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """A named set of HDUs that a collection offers (what CUTOUTDETAIL names)."""

    name: str
    """As it stands in the request, `Image` say."""
    hdus: tuple[str, ...]
    """EXTNAMEs, or roles, of the image HDUs and tables it holds; `*` is every HDU."""
    description: str

    def holds(self, hdu: DatasetHdu) -> bool:
        """Whether *hdu* is one of its HDUs, by EXTNAME or role in any case."""
        wanted = {name.upper() for name in self.hdus}
        return "*" in wanted or not wanted.isdisjoint(hdu.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """Another dataset that has to do with this one (DataLink 1.1 §3.2.6)."""

    semantics: str
    """A core term, `#progenitor` say."""
    publisher_did: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Relations:
    """The other datasets that have to do with one."""

    found: tuple[Relation, ...] = ()
    is_complete: bool = True
    """Whether these are all; a rule that names very many is cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One file of a collection."""

    obscore: ObsCore
    footprint: Footprint | None
    url: str
    """Absolute path of the file, or the URL of an object in a store."""
    local_part: str
    """What follows `?` in the publisher DID."""
    version: FileVersion
    media_type: str
    """Of the whole file: `application/fits`, or `application/gzip` for a .gz file."""
    hdus: tuple[DatasetHdu, ...]
    details: tuple[Detail, ...]
    """Those of the collection's that the file has; the first is the plain one. Never empty."""

    @property
    def file_name(self) -> str:
        """The last part of its path, or of its URL as the store has it."""
        name = self.url.rpartition("/")[2]
        return unquote(name) if self.url.startswith(("http://", "https://")) else name

    @property
    def is_packed(self) -> bool:
        """Whether the file is compressed as a whole."""
        return self.media_type != "application/fits"

    @property
    def publisher_did(self) -> str:
        """The identifier."""
        return self.obscore.obs_publisher_did

    @property
    def collection(self) -> str:
        """The collection's name."""
        return self.obscore.obs_collection
