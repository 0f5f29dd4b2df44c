"""Settings of collections: what `ingest` scans, and how it understands headers.

They come from a TOML file, `config/collections.toml`. Unknown keys are errors.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from soda_service.config.tomlfile import first_problem, read_toml
from soda_service.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

SettableColumn = Literal[
    "dataproduct_type", "dataproduct_subtype", "calib_level", "obs_id", "obs_title",
    "target_name", "s_ra", "s_dec", "s_fov", "s_resolution", "s_pixel_scale",
    "t_min", "t_max", "t_exptime", "t_resolution", "t_xel",
    "em_min", "em_max", "em_res_power", "em_xel", "lsst_band", "o_ucd",
    "pol_states", "pol_xel", "facility_name", "instrument_name",
]  # fmt: skip
"""ObsCore columns that a collection may give; the others follow from the file itself."""


class _Table(BaseModel):
    """A table of the file; a key that is not known is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FieldFilter(_Table):
    """Where a photometric filter lies, vacuum wavelength in metres."""

    em_min: float = Field(gt=0, allow_inf_nan=False)
    em_max: float = Field(gt=0, allow_inf_nan=False)
    em_res_power: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Effective wavelength over width; from the two limits where it is not given."""
    band: str | None = None
    """What stands in `lsst_band`; the name in the header where this is not given."""

    @model_validator(mode="after")
    def _is_interval(self) -> Self:
        if self.em_min >= self.em_max:
            raise ValueError("em_min must be below em_max")
        return self


class DetailConfig(_Table):
    """A named set of HDUs that requests may ask for."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")
    hdus: tuple[str, ...]
    description: str = ""


LinkColumn = Literal["obs_id", "lsst_band", "target_name", "instrument_name"]
"""ObsCore columns by which datasets may be linked."""


class LinkRule(_Table):
    """Which other datasets, or which HDUs of the same one, a links document names.

    Either `collection` with `on`: every dataset of that collection whose ObsCore columns
    `on` have the same values; or `detail`: these HDUs of the same file.
    """

    semantics: str = Field(pattern=r"^(#[a-z-]+|https?://\S+)$")
    collection: str | None = None
    on: Annotated[tuple[LinkColumn, ...], Field(min_length=1)] = ("obs_id",)
    """One column, or several that must all agree; a null agrees with nothing."""
    detail: str | None = None
    description: str = ""

    @field_validator("on", mode="before")
    @classmethod
    def _is_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.collection is None) == (self.detail is None):
            raise ValueError("needs either collection or detail")
        return self


class StoreConfig(_Table):
    """How the store of a collection is reached; `storage.remoteplace.RemoteRoot` says more."""

    anonymous: bool = False
    endpoint: str = Field(default="", pattern=r"^(https?://[^\s@]+)?$")
    region: str = ""
    virtual_hosted: bool = False
    options: dict[str, str] = {}
    secrets: dict[str, str] = {}
    """Option to the name of the environment variable that has it."""

    @field_validator("options")
    @classmethod
    def _are_no_secrets(cls, value: dict[str, str]) -> dict[str, str]:
        # They would end up in the catalog, and in whatever keeps the file.
        told = [key for key in value if _SECRET(key)]
        if told:
            raise ValueError(f"{told[0]} belongs into secrets, as the name of a variable")
        return value


_SECRET = re.compile(
    r"secret|token|password|sas|(account|access|storage|master)_key$|^key$", re.IGNORECASE
).search


class PlaneRule(_Table):
    """Where on the images of its file each plane of a cube of PSFs, or the like, belongs.

    Pixels are those of the first image that is cut, axis 1 being x.
    """

    by: Literal["keywords", "table", "grid"]
    """In the cube's header; in another HDU; or along its third axis (x) and its fourth (y), which
    count in pixels of the image by CRPIX, CRVAL and CDELT."""
    x: str = ""
    """Keyword with `{n}` for the number of the plane, or column of the table; likewise `y`."""
    y: str = ""
    yx: str = ""
    """Keyword of both in one text, y first, `(1023.5, 511.5)` say."""
    others: tuple[str, ...] = ()
    """Keywords with `{n}` that say more of a plane."""
    table: str = ""
    """EXTNAME of the table with a row for each plane."""
    plane: str = ""
    """Column that numbers the planes; without it, the rows follow them."""
    first: Literal[0, 1] = 1
    """Number of the first plane."""
    origin: Literal[0, 1] = 1
    """Number of the first pixel."""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        needed = {"keywords": () if self.yx else ("x", "y"), "table": ("x", "y", "table")}
        for name in needed.get(self.by, ()):
            if not getattr(self, name):
                raise ValueError(f"planes by {self.by} need {name}")
        patterns = (
            [one for one in (self.x, self.y, self.yx) if one] if self.by == "keywords" else []
        )
        for pattern in (*patterns, *self.others):
            if not re.fullmatch(r"[A-Z0-9_-]{0,7}\{n\}[A-Z0-9_-]{0,7}", pattern):
                raise ValueError(f"{pattern!r} is no keyword with {{n}} in it")
        return self


class CollectionConfig(_Table):
    """How the files of one collection are found and understood."""

    title: str = ""
    description: str = ""
    root: str | None = None
    """Folder, relative to the setting `data_dir`, or the URL of a place in a store."""
    store: StoreConfig | None = None
    """How that store is reached."""
    include: tuple[str, ...] = (
        "*.fits", "*.fit", "*.fts", "*.fits.gz", "*.fit.gz", "*.fts.gz", "*.fits.fz", "*.fz",
    )  # fmt: skip
    """Patterns of file names, without regard to case."""
    publisher_did: str | None = Field(default=None, pattern=r"\{[^{}]+\}")
    """Template of header keywords for the local part of the DID, `{OBSID}/{CCD}` say."""
    constants: dict[SettableColumn, str | int | float] = {}
    """ObsCore column to value, for every dataset of the collection."""
    keywords: dict[SettableColumn, tuple[str, ...]] = {}
    """ObsCore column to the header keywords that may give it, the first that is there winning."""
    filters: dict[str, FieldFilter] = {}
    """Filter name, as the header spells it, to its wavelengths."""
    roles: dict[str, str] = {}
    """EXTNAME to role."""
    planes: dict[str, PlaneRule] = {}
    """EXTNAME of a cube to the rule by which a cutout gets one plane of it."""
    details: tuple[DetailConfig, ...] = ()
    links: tuple[LinkRule, ...] = ()

    @model_validator(mode="after")
    def _agree(self) -> Self:
        names = [detail.name for detail in self.details]
        if len(set(names)) < len(names):
            raise ValueError("two details have the same name")
        for link in self.links:
            if link.detail is not None and link.detail not in names:
                raise ValueError(f"a link names the detail {link.detail!r}, which is not there")
        return self


class CollectionsFile(_Table):
    """`config/collections.toml`."""

    keywords: dict[SettableColumn, tuple[str, ...]] = {}
    filters: dict[str, FieldFilter] = {}
    roles: dict[str, str] = {}
    collections: dict[str, CollectionConfig] = {}

    @field_validator("collections")
    @classmethod
    def _differ(cls, value: dict[str, CollectionConfig]) -> dict[str, CollectionConfig]:
        if len({name.lower() for name in value}) < len(value):
            raise ValueError("two names of collections differ in case only")
        return value

    def named(self, name: str) -> CollectionConfig:
        """The collection *name*, with what holds for all collections filled in."""
        own = self.collections.get(name, CollectionConfig())
        return own.model_copy(
            update={
                "keywords": {**self.keywords, **own.keywords},
                "filters": {**self.filters, **own.filters},
                "roles": {**self.roles, **own.roles},
            }
        )


_ABSENT: Final = (
    "`collections` says where collections are described, and without it they stand beside the "
    "settings"
)


def load_collections(path: Path) -> CollectionsFile:
    """The collections described in *path*. Raises ConfigurationError."""
    values = read_toml(path, if_absent=_ABSENT)
    try:
        return CollectionsFile(**values)
    except ValidationError as error:
        raise ConfigurationError(first_problem(error, f"in {path}")) from None
