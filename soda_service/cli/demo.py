"""`soda-service demo`: the demo archive, ingested and served."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from soda_service.cli.ingest import make_rows_ready, tell_skipped, told
from soda_service.cli.options import Host, Port
from soda_service.cli.progress import progress
from soda_service.cli.serve import run_service


def demo(
    *,
    directory: Annotated[
        Path, typer.Option("--dir", help="Where the demo archive lies, or shall lie.")
    ] = Path("demo-archive"),
    host: Host = None,
    port: Port = None,
    serve_it: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Serve the archive when it is ready.")
    ] = True,
) -> None:
    """Write a small archive of an invented sky, ingest it, and serve it."""
    from soda_service.catalog.ingest import ingest as run_ingest
    from soda_service.config import load_collections, load_settings, resource_path
    from soda_service.demo.archive import write_archive
    from soda_service.server import refuse_busy_port
    from soda_service.storage.source import is_remote

    directory = directory.resolve()
    places: dict[str, object] = {
        "collections": resource_path("config/collections.toml"),
        "catalog": f"sqlite:///{directory / 'catalog.sqlite'}",
        "cache_dir": directory / "cache",
        "spool_dir": directory / "spool",
    }
    # A container keeps its catalog elsewhere and says so in the environment.
    places = {key: at for key, at in places.items() if f"SODA_{key.upper()}" not in os.environ}
    settings = load_settings(None, host=host, port=port, data_dir=directory, **places)
    if serve_it:
        refuse_busy_port(settings)  # before the work rather than after it
    with progress("Writing the demo archive") as advance:
        write_archive(directory, progress=advance)
    collections = load_collections(settings.collections)
    roots = [
        root
        for config in collections.collections.values()
        if config.root is not None
        if not is_remote(config.root) and (root := directory / config.root).is_dir()
    ]
    with progress("Reading headers") as advance:
        report = run_ingest(roots, settings, collections, progress=advance, problem=tell_skipped)
    make_rows_ready(settings)
    typer.echo(told(report))
    if serve_it:
        run_service(settings, announce=_urls_to_try)
    elif report.failed:
        raise typer.Exit(1)


def _urls_to_try(base: str) -> None:
    from soda_service.demo.archive import examples

    typer.echo("Try:")
    for title, path in examples():
        typer.echo(f"  {title}\n    {base}{path}")
