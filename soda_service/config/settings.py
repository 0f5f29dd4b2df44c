"""Settings of the service.

They come from a TOML file (`config/soda.toml` lists every one with its default); an
environment variable `SODA_<SETTING>` wins over the file. Unknown keys are errors.
"""

from __future__ import annotations

import json
import os
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from soda_service.config.resources import resource_path
from soda_service.config.tomlfile import MOST_SHOWN, first_problem, read_toml, without_secrets
from soda_service.errors import ConfigurationError

ENVIRONMENT_PREFIX = "SODA_"
CONFIG_VARIABLE = "SODA_CONFIG"
"""Names the settings file."""

_SQLITE = "sqlite:///"

_Bytes = Annotated[int, Field(gt=0)]


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
    remote_flight_bytes: int = Field(default=64 * 1024**2, ge=1024**2)
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

    @field_validator("data_dir")
    @classmethod
    def _is_utf8(cls, value: Path) -> Path:
        # The catalog has the paths of all that lies below it.
        try:
            str(value).encode()
        except UnicodeEncodeError:
            raise ValueError("must be a path in UTF-8") from None
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
    values = read_toml(named) if named else {}
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
        raise ConfigurationError(first_problem(error, origin, Settings.model_fields)) from None


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


def _anchored(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """*values* with relative paths made absolute, starting from *folder*."""
    anchored = {"collections": "collections.toml", **values}
    for key in ("collections", "data_dir", "cache_dir", "spool_dir"):
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
                    f"got {without_secrets(value)[:MOST_SHOWN]!r} in the environment variable "
                    f"{variable}"
                )
    return "a list in the environment is not JSON"
