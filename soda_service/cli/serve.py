"""`soda-service serve`: the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from soda_service.cli.options import Config, Host, Port

if TYPE_CHECKING:
    from collections.abc import Callable

    from soda_service.config import Settings


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

    run_service(load_settings(config, host=host, port=port, workers=workers))


def run_service(settings: Settings, *, announce: Callable[[str], None] | None = None) -> None:
    """Serve until a signal says stop; *announce* is called with the base URL when it answers."""
    from soda_service.server import run

    run(settings, announce=announce)
