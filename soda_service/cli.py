"""The command line: `soda-service demo | ingest | serve | cut | check`.

Nothing heavy is imported before a command runs: `--help` needs neither numpy nor astropy.
Exit codes: 0 fine, 1 something failed, 2 wrong usage.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from soda_service import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from soda_service.catalog.ingest import IngestReport
    from soda_service.config import Settings
    from soda_service.cutout.cutter import CutoutPlan, Cutter
    from soda_service.cutout.request import CutoutRequest
    from soda_service.geometry.shapes import Shape

app = typer.Typer(
    name="soda-service",
    help="Image cutouts for astronomy: SIA 2.0, DataLink 1.1 and SODA 1.0 over FITS files.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Config = Annotated[
    Path | None,
    typer.Option("--config", help="Settings file; else $SODA_CONFIG, else the defaults."),
]
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")]

_NAMING_A_CACHE = ("SODA_CONFIG", "SODA_CACHE_DIR")
"""Variables by which a person has said where inflated copies of files shall be kept."""


def main() -> None:
    """Run the command line; every error of ours is one line on standard error."""
    from soda_service.errors import ConfigurationError, SodaServiceError, UsageError

    try:
        app()
    except (ConfigurationError, UsageError) as error:
        print(f"soda-service: {error}", file=sys.stderr)  # noqa: T201 - this is a command line
        raise SystemExit(2) from None
    except SodaServiceError as error:
        path = getattr(error, "path", "")
        where = f"{path}: " if path else ""
        print(f"soda-service: {where}{error}", file=sys.stderr)  # noqa: T201 - the same
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


@app.callback(invoke_without_command=True)
def _root(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        typer.echo(f"soda-service {__version__}")
        raise typer.Exit


@app.command()
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

    directory = directory.resolve()
    places: dict[str, object] = {
        "collections": resource_path("config/collections.toml"),
        "catalog": f"sqlite:///{directory / 'catalog.sqlite'}",
        "cache_dir": directory / "cache",
    }
    # A container keeps its catalog elsewhere and says so in the environment.
    places = {key: at for key, at in places.items() if f"SODA_{key.upper()}" not in os.environ}
    settings = load_settings(None, host=host, port=port, data_dir=directory, **places)
    with _progress("Writing the demo archive") as advance:
        write_archive(directory, progress=advance)
    collections = load_collections(settings.collections)
    roots = [
        root
        for config in collections.collections.values()
        if config.root is not None and (root := directory / config.root).is_dir()
    ]
    with _progress("Reading headers") as advance:
        report = run_ingest(roots, settings, collections, progress=advance)
    _tell(report)
    if serve_it:
        _serve(settings, announce=_urls_to_try)
    elif report.failed:
        raise typer.Exit(1)


@app.command()
def ingest(
    paths: Annotated[list[str], typer.Argument(help="Files and folders of FITS files.")],
    *,
    collection: Annotated[
        str | None, typer.Option(help="Name of the collection that the files belong to.")
    ] = None,
    config: Config = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read headers; default: all cores.")
    ] = None,
) -> None:
    """Read the headers of FITS files into the catalog; run it again after any change."""
    from soda_service.catalog.ingest import ingest as run_ingest
    from soda_service.config import load_collections, load_settings

    settings = load_settings(config)
    collections = load_collections(settings.collections)
    with _progress("Reading headers") as advance:
        report = run_ingest(
            [_local_path(path) for path in paths],
            settings,
            collections,
            collection=collection,
            workers=workers,
            progress=advance,
        )
    _tell(report)
    if report.failed:
        raise typer.Exit(1)


@app.command()
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

    _serve(load_settings(config, host=host, port=port, workers=workers))


@app.command()
def cut(
    source: Annotated[str, typer.Argument(metavar="FILE-OR-ID")],
    *,
    circle: Annotated[str | None, typer.Option(help='"RA DEC RADIUS", ICRS degrees.')] = None,
    polygon: Annotated[str | None, typer.Option(help='"RA DEC RA DEC RA DEC ...".')] = None,
    pos: Annotated[
        str | None, typer.Option(help='"CIRCLE ...", "RANGE ra1 ra2 dec1 dec2" or "POLYGON ...".')
    ] = None,
    band: Annotated[str | None, typer.Option(help='"LOWER UPPER", metres of wavelength.')] = None,
    time: Annotated[str | None, typer.Option(help='"LOWER UPPER", MJD, UTC.')] = None,
    pol: Annotated[list[str] | None, typer.Option(help="Polarization state; repeatable.")] = None,
    detail: Annotated[str | None, typer.Option(help="Named set of HDUs.")] = None,
    checksums: Annotated[
        bool, typer.Option("--checksums", help="Compute CHECKSUM and DATASUM anew.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write; - is standard output.")
    ] = None,
    config: Config = None,
) -> None:
    """Make one cutout without a server, by the same engine."""
    from soda_service.config import load_settings
    from soda_service.cutout.request import CutoutRequest
    from soda_service.errors import UsageError
    from soda_service.geometry import dali

    shapes: list[Shape] = []
    shapes += [dali.parse_circle(text) for text in (circle,) if text is not None]
    shapes += [dali.parse_polygon(text) for text in (polygon,) if text is not None]
    shapes += [dali.parse_pos(text) for text in (pos,) if text is not None]
    if len(shapes) > 1:
        raise UsageError("one of --circle, --polygon and --pos, not several")
    settings = load_settings(config)
    keeps_copies = config is not None or any(os.environ.get(name) for name in _NAMING_A_CACHE)
    with _cutter_for(source, settings, keeps_copies=keeps_copies) as (cutter, identifier):
        request = CutoutRequest(
            identifier=identifier,
            shape=shapes[0] if shapes else None,
            band=dali.parse_interval(band) if band is not None else None,
            time=dali.parse_interval(time) if time is not None else None,
            pol=tuple(dict.fromkeys(dali.parse_pol(state) for state in pol or ())),
            detail=detail,
            checksums=checksums,
        )
        _write_cutout(cutter, request, output)


@app.command()
def check(*, config: Config = None) -> None:
    """Look at the settings, the folders and every dataset of the catalog; say what is wrong."""
    from soda_service.catalog.check import check_catalog
    from soda_service.config import load_collections, load_settings

    settings = load_settings(config)
    collections = load_collections(settings.collections)
    with _progress("Checking datasets") as advance:
        report = check_catalog(settings, collections, progress=advance)
    for subject, problem in report.problems:
        typer.echo(f"{subject}: {problem}", err=True)
    typer.echo(f"{report.checked} datasets checked, {len(report.problems)} problems")
    if report.problems:
        raise typer.Exit(1)


def _serve(settings: Settings, *, announce: Callable[[str], None] | None = None) -> None:
    from soda_service.server import run

    run(settings, announce=announce)


def _urls_to_try(base: str) -> None:
    from soda_service.demo.archive import examples

    typer.echo("Try:")
    for title, path in examples():
        typer.echo(f"  {title}\n    {base}{path}")


@contextmanager
def _cutter_for(
    source: str, settings: Settings, *, keeps_copies: bool
) -> Iterator[tuple[Cutter, str]]:
    """A cutter that knows *source*, and its identifier there.

    Inflated copies of files are removed afterwards unless *keeps_copies*.
    """
    from soda_service.catalog.check import no_catalog
    from soda_service.catalog.ingest import index_file
    from soda_service.catalog.resolver import FixedResolver, Resolver
    from soda_service.catalog.store import CatalogStore
    from soda_service.config import load_collections
    from soda_service.cutout.cutter import Cutter

    with ExitStack() as stack:
        if source[:6].lower() == "ivo://":
            if not settings.catalog_path.exists():
                typer.echo(f"soda-service: {no_catalog(settings)}", err=True)
                raise typer.Exit(1)
            store = stack.enter_context(closing(CatalogStore(settings)))
            resolver: Resolver | FixedResolver = Resolver(store, settings)
            identifier = source
        else:
            collections = load_collections(settings.collections)
            dataset = index_file(_local_path(source).resolve(), settings, collections)
            resolver, identifier = FixedResolver(dataset), dataset.publisher_did
        if not keeps_copies:
            folder = stack.enter_context(TemporaryDirectory(prefix="soda-service-"))
            settings = settings.model_copy(update={"cache_dir": Path(folder)})
        cutter = stack.enter_context(closing(Cutter(resolver, settings)))
        yield cutter, identifier


def _write_cutout(cutter: Cutter, request: CutoutRequest, output: Path | None) -> None:
    plan = cutter.plan(request)
    if plan is None:
        typer.echo("soda-service: no pixel of the file lies in what was asked for", err=True)
        raise typer.Exit(1)
    if output == Path("-"):
        for chunk in cutter.cut(plan):
            sys.stdout.buffer.write(chunk)
        return
    target = output or Path(plan.filename)
    _write_whole(target, cutter, plan)
    typer.echo(f"{target}: {plan.size} bytes", err=True)


def _write_whole(target: Path, cutter: Cutter, plan: CutoutPlan) -> None:
    """Write beside *target* and move it into place: no half a file under a good name."""
    partial = target.with_name(target.name + ".part")
    try:
        with partial.open("wb") as file:
            for chunk in cutter.cut(plan):
                file.write(chunk)
        partial.replace(target)
    except OSError as error:
        from soda_service.errors import UsageError

        raise UsageError(f"cannot write {target}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def _local_path(text: str) -> Path:
    from urllib.parse import unquote, urlsplit

    from soda_service.errors import UsageError

    parts = urlsplit(text)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if "://" in text:
        raise UsageError(f"only local files and folders can be read, got {text!r}")
    return Path(text)


def _tell(report: IngestReport) -> None:
    for path, reason in report.failed:
        typer.echo(f"skipped {path}: {reason}", err=True)
    typer.echo(
        f"{report.added} added, {report.changed} changed, {report.unchanged} unchanged, "
        f"{report.removed} removed, {len(report.failed)} skipped"
    )


@contextmanager
def _progress(title: str) -> Iterator[Callable[[int, int | None, str], None]]:
    """A progress bar on standard error, and the function that moves it (done, total, name)."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[current]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, current="")

        def advance(done: int, total: int | None, current: str) -> None:
            bar.update(task, completed=done, total=total, current=current[-60:])

        yield advance
