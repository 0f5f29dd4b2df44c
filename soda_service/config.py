"""Settings of the service and of its collections.

`Settings` come from a TOML file (`config/soda.toml` lists every one with its default); an
environment variable `SODA_<SETTING>` wins over the file. `CollectionsFile` comes from
`config/collections.toml`. Unknown keys are errors in both.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from difflib import get_close_matches
from importlib import resources
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from soda_service.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

ENVIRONMENT_PREFIX = "SODA_"
CONFIG_VARIABLE = "SODA_CONFIG"
"""Names the settings file."""

_SQLITE = "sqlite:///"

_MOST_SHOWN = 200
"""Characters of a wrong value that are shown."""

_Bytes = Annotated[int, Field(gt=0)]


def resource_path(name: str) -> Path:
    """The file or folder *name* (`config/soda.toml`, `votable_templates`…) of this installation.

    In a wheel it lies inside the package; in a checkout, at the top of the repository.
    """
    inside = Path(str(resources.files("soda_service"))) / "resources" / name
    return inside if inside.exists() else Path(__file__).resolve().parent.parent / name


class Settings(BaseSettings):
    """Everything an operator may set; `config/soda.toml` says what each is for."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, extra="forbid", frozen=True, env_ignore_empty=True
    )

    title: str = Field(default="soda-service", min_length=1)
    contact: str = ""
    authority: str = Field(default="demo.invalid", pattern=r"^[A-Za-z0-9][A-Za-z0-9._~-]{2,}$")
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8080, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=256)
    public_url: str = ""
    trusted_proxies: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ("*",)

    catalog: str = "sqlite:///soda-data/catalog.sqlite"
    collections: Path = Path("collections.toml")
    data_dir: Path = Path()
    cache_dir: Path = Path("soda-data/cache")
    cache_bytes: _Bytes = 20_000_000_000
    result_cache_bytes: int = Field(default=0, ge=0)
    spool_dir: Path = Path("soda-data/spool")
    spool_bytes: _Bytes = 20_000_000_000

    maxrec_default: int = Field(default=10_000, ge=1)
    maxrec_limit: int = Field(default=1_000_000, ge=1)
    links_limit: int = Field(default=1_000, ge=1)
    cutout_bytes: _Bytes = 4 * 1024**3
    proof: bool = False
    proof_limit_mas: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    request_bytes: _Bytes = 1024**2
    threads: int = Field(default=8, ge=1, le=1024)
    plan_cache_datasets: int = Field(default=2_000, ge=1)
    open_files: int = Field(default=256, ge=1)
    tile_memory_bytes: int = Field(default=256 * 1024**2, ge=0)

    remote_memory_bytes: int = Field(default=256 * 1024**2, ge=0)
    remote_disk_bytes: int = Field(default=0, ge=0)
    remote_gap_bytes: int = Field(default=128 * 1024, ge=0)
    remote_flight_bytes: int = Field(default=16 * 1024**2, ge=1024**2)
    remote_parallel: int = Field(default=16, ge=1, le=1024)
    remote_connections: int = Field(default=32, ge=1, le=1024)
    remote_timeout_seconds: float = Field(default=20.0, gt=0, allow_inf_nan=False)
    remote_retries: int = Field(default=4, ge=0, le=100)
    remote_retry_seconds: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    remote_rest_seconds: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    remote_fresh_seconds: float = Field(default=60.0, ge=0, allow_inf_nan=False)

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    log_requests: bool = True

    @field_validator("title", "contact", "host", "public_url", "catalog")
    @classmethod
    def _is_printable(cls, value: str) -> str:
        # Neither an XML document nor an environment variable could hold anything else.
        if not value.isprintable():
            raise ValueError("must be one line of printable characters")
        return value

    @field_validator("collections", "data_dir", "cache_dir", "spool_dir")
    @classmethod
    def _is_path(cls, value: Path) -> Path:
        if "\0" in str(value):
            raise ValueError("must be a path")
        return value

    @field_validator("public_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if not value:
            return value
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.query:
            raise ValueError("must be an absolute http or https URL without a query")
        return value.rstrip("/")

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            ip_network(text)
        return value

    @field_validator("catalog")
    @classmethod
    def _is_catalog(cls, value: str) -> str:
        if not value.startswith(_SQLITE) or not value.removeprefix(_SQLITE).strip("/"):
            raise ValueError("must be sqlite:///PATH")
        return value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.maxrec_default > self.maxrec_limit:
            raise ValueError(
                f"maxrec_default, {self.maxrec_default}, must not exceed "
                f"maxrec_limit, {self.maxrec_limit}"
            )
        return self

    @property
    def proxy_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks whose forwarded headers are believed."""
        return tuple(ip_network(text) for text in self.trusted_proxies)

    @property
    def catalog_path(self) -> Path:
        """The file of an SQLite catalog."""
        return Path(self.catalog.removeprefix(_SQLITE))

    @classmethod
    def settings_customise_sources(  # the signature is pydantic's
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What the caller gives and nothing else: `load_settings` alone reads the environment."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


def load_settings(config: Path | None = None, **overrides: object) -> Settings:
    """The settings in the file *config*, else in `$SODA_CONFIG`, else the defaults.

    *overrides* are what the command line said; they win over everything. Relative paths in
    a file are relative to the file. Raises ConfigurationError, saying which key is wrong.
    """
    from_environment = os.environ.get(CONFIG_VARIABLE)
    named = config or (Path(from_environment) if from_environment else None)
    values = _read_toml(named) if named else {}
    _refuse_unknown_environment()
    if named:
        values = _anchored(values, named.resolve().parent)
    else:
        values.setdefault("collections", resource_path("config/collections.toml"))
    chosen = {key: value for key, value in overrides.items() if value is not None}
    try:
        return Settings(**{**values, **EnvSettingsSource(Settings)(), **chosen})
    except SettingsError:
        raise ConfigurationError(_not_json()) from None
    except ValidationError as error:
        key = str(next(iter(error.errors()[0]["loc"]), ""))
        variable, _ = _variable(key)
        if key in chosen:
            origin = "on the command line"
        elif variable:
            origin = f"in the environment variable {variable}"
        else:
            origin = f"in {named}" if named else ""
        raise ConfigurationError(_first_problem(error, origin, Settings.model_fields)) from None


def put_into_environment(settings: Settings) -> None:
    """Let `load_settings()` make these very settings, here and in processes started from here.

    Whatever the environment said before of settings is gone, `$SODA_CONFIG` included: its
    file would come back wherever a variable is empty.
    """
    environment = settings_environment(settings)
    for name in list(os.environ):
        # Variables count in any case.
        if name.upper() in environment or name == CONFIG_VARIABLE:
            del os.environ[name]
    os.environ.update(environment)


def settings_environment(settings: Settings) -> dict[str, str]:
    """The variables from which `load_settings()` makes these very settings again.

    An empty one counts as not set: `$SODA_CONFIG` must not be set beside them.
    """
    values = settings.model_dump(mode="json")
    return {
        ENVIRONMENT_PREFIX + name.upper(): value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
    }


SettableColumn = Literal[
    "dataproduct_type", "dataproduct_subtype", "calib_level", "obs_id", "obs_title",
    "target_name", "s_ra", "s_dec", "s_fov", "s_resolution", "s_pixel_scale",
    "t_min", "t_max", "t_exptime", "t_resolution", "t_xel",
    "em_min", "em_max", "em_res_power", "em_xel", "lsst_band", "o_ucd",
    "pol_states", "pol_xel", "facility_name", "instrument_name",
]  # fmt: skip
"""ObsCore columns that a collection may give; the others follow from the file itself."""


class FieldFilter(BaseModel):
    """Where a photometric filter lies, vacuum wavelength in metres."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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


class DetailConfig(BaseModel):
    """A named set of HDUs that requests may ask for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")
    hdus: tuple[str, ...]
    description: str = ""


LinkColumn = Literal["obs_id", "lsst_band", "target_name", "instrument_name"]
"""ObsCore columns by which datasets may be linked."""


class LinkRule(BaseModel):
    """Which other datasets, or which HDUs of the same one, a links document names.

    Either `collection` with `on`: every dataset of that collection whose ObsCore columns
    `on` have the same values; or `detail`: these HDUs of the same file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

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


class StoreConfig(BaseModel):
    """How the store of a collection is reached; `storage.stores.RemoteRoot` says more."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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


class PlaneRule(BaseModel):
    """Where on the images of its file each plane of a cube of PSFs, or the like, belongs.

    Pixels are those of the first image that is cut, axis 1 being x.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

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


class CollectionConfig(BaseModel):
    """How the files of one collection are found and understood."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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


class CollectionsFile(BaseModel):
    """`config/collections.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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


def load_collections(path: Path) -> CollectionsFile:
    """The collections described in *path*. Raises ConfigurationError."""
    try:
        return CollectionsFile(**_read_toml(path))
    except ValidationError as error:
        raise ConfigurationError(_first_problem(error, f"in {path}")) from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from None


def _anchored(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """*values* with relative paths made absolute, starting from *folder*."""
    anchored = {"collections": "collections.toml", **values}
    for key in ("collections", "data_dir", "cache_dir"):
        if isinstance(anchored.get(key), str):
            anchored[key] = str(folder / anchored[key])
    catalog = anchored.get("catalog")
    if isinstance(catalog, str) and catalog.startswith(_SQLITE) and catalog != _SQLITE:
        anchored["catalog"] = f"{_SQLITE}{folder / catalog.removeprefix(_SQLITE)}"
    return anchored


def _refuse_unknown_environment() -> None:
    known = {ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields}
    known |= {CONFIG_VARIABLE}
    for name in os.environ:
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known | _NOT_SETTINGS:
            raise ConfigurationError(f"the environment variable {name} is not a setting")


_NOT_SETTINGS = frozenset({"SODA_REQUIRE_ALL", "SODA_TEST_DATA"})
"""Variables of the test suite, which starts the service with them in its environment."""


def _variable(setting: str) -> tuple[str, str]:
    """The environment variable that gives *setting* and what it says; empty where none does."""
    wanted = ENVIRONMENT_PREFIX + setting.upper()
    return next(
        ((name, value) for name, value in os.environ.items() if value and name.upper() == wanted),
        ("", ""),
    )


def _not_json() -> str:
    """What is wrong with the environment where a list in it cannot be read."""
    for name, field in Settings.model_fields.items():
        variable, value = _variable(name)
        if variable and not isinstance(field.default, str | int | float | Path):
            try:
                json.loads(value)
            except ValueError:
                return (
                    f"{name} must be a list in JSON, {json.dumps(field.default)} say, "
                    f"got {value[:_MOST_SHOWN]!r} in the environment variable {variable}"
                )
    return "a list in the environment is not JSON"


def _first_problem(error: ValidationError, origin: str, known: Iterable[str] = ()) -> str:
    """The key, what is allowed, what came and where; *known* are keys that may be meant."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = get_close_matches(key, known, 1)
        return f"{key} {origin} is not known" + (f"; is {near[0]} meant?" if near else "")
    if first["type"] == "missing":
        return f"{key} is missing {origin}"
    # pydantic: `Input should be …, unable to …`, or `Value error, …` for our own words.
    message = re.sub(r"^\w+ should ", "must ", first["msg"]).removeprefix("Value error, ")
    message = message.partition(", unable to")[0]
    said = f"{key} {message}" if message.startswith("must ") else f"{key}: {message}"
    shown = "" if isinstance(first["input"], dict) else f", got {first['input']!r:.{_MOST_SHOWN}}"
    return f"{said.removeprefix(': ')}{shown} {origin}".rstrip()
