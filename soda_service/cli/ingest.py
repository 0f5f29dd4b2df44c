"""`soda-service ingest`: files into the catalog."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from soda_service.cli.options import Config, path_or_url
from soda_service.cli.progress import progress
from soda_service.cli.wording import shown

if TYPE_CHECKING:
    from soda_service.catalog.store import CatalogStore
    from soda_service.catalog.tally import IngestReport
    from soda_service.config import Settings


def ingest(
    paths: Annotated[
        list[str],
        typer.Argument(help="Files and folders of FITS files, or URLs: s3://BUCKET/PREFIX."),
    ],
    *,
    collection: Annotated[
        str | None, typer.Option(help="Name of the collection that the files belong to.")
    ] = None,
    config: Config = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read headers; default: all cores.")
    ] = None,
    move: Annotated[
        bool,
        typer.Option(
            "--move",
            help="With --collection: take files out of another collection; identifiers change.",
        ),
    ] = False,
    allow_empty: Annotated[
        bool,
        typer.Option(
            "--allow-empty",
            help="Remove the datasets of a collection's root that is empty or gone.",
        ),
    ] = False,
) -> None:
    """Read the headers of FITS files into the catalog; run it again after any change."""
    from soda_service.catalog.ingest import ingest as run_ingest
    from soda_service.catalog.store import CatalogStore
    from soda_service.catalog.tally import IngestInterrupted
    from soda_service.config import load_collections, load_settings
    from soda_service.errors import SourceUnavailableError

    settings = load_settings(config)
    collections = load_collections(settings.collections)
    # It is held open to tell whether it is the same catalog in the end.
    with closing(CatalogStore(settings)) as store:
        try:
            with progress("Reading headers") as advance:
                report = run_ingest(
                    [path_or_url(path) for path in paths],
                    settings,
                    collections,
                    collection=collection,
                    workers=workers,
                    move=move,
                    allow_empty=allow_empty,
                    progress=advance,
                    problem=tell_skipped,
                )
        except IngestInterrupted as stopped:
            typer.echo(_told_of_stop(stopped.report), err=True)
            raise typer.Exit(130) from None
        _make_ready(store)
        typer.echo(told(report))
        fault = store.fault()
    if fault is not None:
        raise SourceUnavailableError(f"{fault} What was done is in the one before: run it again")
    if report.failed:
        raise typer.Exit(1)


def make_rows_ready(settings: Settings) -> None:
    """Make the rows of searches ready that are not, a few milliseconds for a hundred."""
    from soda_service.catalog.store import CatalogStore

    with closing(CatalogStore(settings)) as store:
        _make_ready(store)


def _make_ready(store: CatalogStore) -> None:
    from soda_service.discovery.readyrows import make_ready
    from soda_service.web.urls import SiteUrls

    counts = make_ready(store.holdings, SiteUrls(""))
    total = next(counts, 0)
    if total == 0:
        return
    with progress("Making rows ready") as advance:
        advance(total, None, "")
        for count in counts:
            total += count
            advance(total, None, "")
        advance(total, total, "")


def tell_skipped(path: str, reason: str) -> None:
    """One line for a file that is no dataset."""
    typer.echo(f"skipped {shown(path)}: {reason}", err=True)


def _told_of_stop(report: IngestReport) -> str:
    done = told(report)
    if done == told(replace(report, added=0, changed=0, moved=0, unchanged=0, removed=0)):
        return "stopped: the catalog is as it was; run it again"
    return f"stopped: {done}. The catalog keeps these; run it again for the rest"


def told(report: IngestReport) -> str:
    """What was done, in one line."""
    skipped = report.failures + report.imageless
    return (
        f"{report.added} added, {report.changed} changed, {report.moved} moved, "
        f"{report.unchanged} unchanged, {report.removed} removed, {skipped} skipped"
    )
