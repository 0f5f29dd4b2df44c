"""`soda-service serve`: the service."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from soda_service.cli.options import Config, Host, Port
from soda_service.cli.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from soda_service.config import Settings

_log = logging.getLogger(__name__)


def serve(
    *,
    config: Config = None,
    host: Host = None,
    port: Port = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that answer requests.")
    ] = None,
) -> None:
    """Run the service."""
    from soda_service.config import load_settings
    from soda_service.server import refuse_busy_port

    settings = load_settings(config, host=host, port=port, workers=workers)
    refuse_busy_port(settings)  # before the catalog is opened, which may bring it up to date
    _look_at_catalog(settings)
    run_service(settings)


def _look_at_catalog(settings: Settings) -> None:
    """Say once what an empty service would only show: nothing has been ingested into its catalog.

    Raises ConfigurationError where the catalog was named and its folder is not there: that is
    a slip of the pen, or a disk that is not mounted, and no place for a new catalog.
    """
    from soda_service.catalog.store import CatalogStore
    from soda_service.errors import ConfigurationError
    from soda_service.web.log import configure_logging

    path = settings.catalog_path
    if "catalog" in settings.model_fields_set and _is_absent(path.parent):
        raise ConfigurationError(
            f"there is no folder {path.parent} for the catalog {settings.catalog}; "
            "`soda-service ingest` makes both, else mend the setting or mount the disk"
        )
    configure_logging(settings)
    with closing(CatalogStore(settings)) as store:
        datasets = store.count()
        if datasets == 0:
            _log.warning(
                "the catalog %s is empty, so nothing can be found or cut: run "
                "`soda-service ingest` with the same settings; the service may go on meanwhile",
                path,
            )
        else:
            _log.info("the catalog %s has %s", path.absolute(), counted(datasets, "dataset"))


def _is_absent(folder: Path) -> bool:
    try:
        return not folder.is_dir()
    except OSError:
        return False  # opening the catalog says what is wrong


def run_service(settings: Settings, *, announce: Callable[[str], None] | None = None) -> None:
    """Serve until a signal says stop; *announce* is called with the base URL when it answers."""
    from soda_service.catalog.presence import watched
    from soda_service.server import run

    with watched(settings.catalog_path):
        run(settings, announce=announce)
