"""`soda-service check`: what is wrong with settings, folders and datasets."""

from __future__ import annotations

import typer

from soda_service.cli.options import Config
from soda_service.cli.progress import progress
from soda_service.cli.wording import counted


def check(*, config: Config = None) -> None:
    """Look at the settings, the folders and every dataset of the catalog; say what is wrong."""
    from soda_service.catalog.check import check_catalog
    from soda_service.config import load_collections, load_settings

    settings = load_settings(config)
    collections = load_collections(settings.collections)
    with progress("Checking datasets") as advance:
        report = check_catalog(settings, collections, progress=advance)
    for subject, told in (*report.remarks, *report.problems):
        typer.echo(f"{subject}: {told}", err=True)
    counts = [
        f"{counted(report.checked, 'dataset')} checked",
        counted(len(report.problems), "problem"),
        *([counted(len(report.remarks), "remark")] if report.remarks else []),
    ]
    typer.echo(", ".join(counts))
    if report.problems:
        raise typer.Exit(1)
