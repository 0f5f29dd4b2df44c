"""The command line: `soda-service demo | ingest | serve | cut | check`.

Nothing heavy is imported before a command runs: `--help` needs neither numpy nor astropy.
Exit codes: 0 fine, 1 something failed, 2 wrong usage.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
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
    with _progress("Writing the demo archive") as advance:
        write_archive(directory, progress=advance)
    collections = load_collections(settings.collections)
    roots = [
        root
        for config in collections.collections.values()
        if config.root is not None
        if not is_remote(config.root) and (root := directory / config.root).is_dir()
    ]
    with _progress("Reading headers") as advance:
        report = run_ingest(roots, settings, collections, progress=advance, problem=_tell_skipped)
    _make_ready(settings)
    typer.echo(_told(report))
    if serve_it:
        _serve(settings, announce=_urls_to_try)
    elif report.failed:
        raise typer.Exit(1)


@app.command()
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
    from soda_service.catalog.ingest import IngestInterrupted, ingest as run_ingest
    from soda_service.config import load_collections, load_settings

    settings = load_settings(config)
    collections = load_collections(settings.collections)
    try:
        with _progress("Reading headers") as advance:
            report = run_ingest(
                [_path_or_url(path) for path in paths],
                settings,
                collections,
                collection=collection,
                workers=workers,
                move=move,
                allow_empty=allow_empty,
                progress=advance,
                problem=_tell_skipped,
            )
    except IngestInterrupted as stopped:
        typer.echo(
            f"stopped: {_told(stopped.report)}. The catalog keeps these; run it again for the rest",
            err=True,
        )
        raise typer.Exit(130) from None
    _make_ready(settings)
    typer.echo(_told(report))
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
    range_: Annotated[str | None, typer.Option("--range", help='"RA1 RA2 DEC1 DEC2".')] = None,
    box: Annotated[
        str | None, typer.Option(help='"RA DEC WIDTH [HEIGHT]", degrees, north up.')
    ] = None,
    moc: Annotated[
        str | None, typer.Option(help='"9/1234 10/4940-4942": a coverage map as text.')
    ] = None,
    stamp: Annotated[
        str | None, typer.Option(help='"RA DEC NX [NY]": so many pixels around a position.')
    ] = None,
    pixels: Annotated[
        str | None, typer.Option(help=r'"\[x1:x2,y1:y2,*]": a section of the image, from 1.')
    ] = None,
    band: Annotated[str | None, typer.Option(help='"LOWER UPPER", metres of wavelength.')] = None,
    time: Annotated[str | None, typer.Option(help='"LOWER UPPER", MJD, UTC.')] = None,
    pol: Annotated[list[str] | None, typer.Option(help="Polarization state; repeatable.")] = None,
    detail: Annotated[str | None, typer.Option(help="Named set of HDUs.")] = None,
    hdu: Annotated[
        list[str] | None,
        typer.Option(help="HDU: EXTNAME, EXTNAME,EXTVER or a number from 0; repeatable."),
    ] = None,
    edge: Annotated[
        str | None,
        typer.Option(help="trim (default), pad or refuse what reaches out of the image."),
    ] = None,
    fill: Annotated[
        list[str] | None,
        typer.Option(help="A value, NaN or BLANK: pads and masks; repeatable."),
    ] = None,
    masked: Annotated[
        bool, typer.Option("--mask", help="Fill pixels whose centres are outside of the shape.")
    ] = False,
    header_only: Annotated[
        bool, typer.Option("--header-only", help="Headers as text, one card a line.")
    ] = False,
    checksums: Annotated[
        bool,
        typer.Option("--checksum", "--checksums", help="Compute CHECKSUM and DATASUM anew."),
    ] = False,
    proof: Annotated[
        bool | None,
        typer.Option("--proof/--no-proof", help="Compare coordinates with the parent's."),
    ] = None,
    compress: Annotated[
        str, typer.Option(help="none, fz (images tile by tile) or gz (the file).")
    ] = "none",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write; - is standard output.")
    ] = None,
    config: Config = None,
) -> None:
    """Make one cutout without a server, by the same engine."""
    from soda_service.config import load_settings
    from soda_service.cutout.form import CutoutForm, Edge, parse_edge, parse_fill, parse_packing
    from soda_service.cutout.request import CutoutRequest
    from soda_service.cutout.selection import parse_hdu_name
    from soda_service.errors import UsageError
    from soda_service.geometry import dali
    from soda_service.geometry.moc import parse_moc

    spelt: list[tuple[Callable[[str], Shape], str | None]] = [
        (dali.parse_circle, circle), (dali.parse_polygon, polygon), (dali.parse_pos, pos),
        (dali.parse_range, range_), (dali.parse_box, box), (parse_moc, moc),
    ]  # fmt: skip
    shapes = [parse(text) for parse, text in spelt if text is not None]
    if len(shapes) + (stamp is not None) + (pixels is not None) > 1:
        raise UsageError(
            "one of --circle, --polygon, --pos, --range, --box, --moc, --stamp and --pixels, "
            "not several"
        )
    made = CutoutForm(
        checksums=checksums,
        edge=parse_edge(edge) if edge is not None else Edge.TRIM,
        masked=masked,
        header_only=header_only,
        proof=proof,
        packing=parse_packing(compress),
    )
    if fill:
        made = replace(made, fill=tuple([parse_fill(text) for text in fill]))
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
            stamp=dali.parse_stamp(stamp) if stamp is not None else None,
            section=dali.parse_pixels(pixels) if pixels is not None else None,
            hdus=tuple([parse_hdu_name(text) for text in hdu or ()]),
            form=made,
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


def _make_ready(settings: Settings) -> None:
    """Make the rows of searches ready that are not, a few milliseconds for a hundred."""
    from soda_service.catalog.store import CatalogStore
    from soda_service.discovery.readyrows import make_ready
    from soda_service.web.urls import SiteUrls

    with closing(CatalogStore(settings)) as store:
        counts = make_ready(store, SiteUrls(""))
        total = next(counts, 0)
        if total == 0:
            return
        with _progress("Making rows ready") as advance:
            for count in counts:
                total += count
                advance(total, None, "")


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
    from soda_service.catalog.remotes import catalog_stores
    from soda_service.catalog.resolver import FixedResolver, Resolver
    from soda_service.catalog.store import CatalogStore
    from soda_service.config import load_collections
    from soda_service.cutout.cutter import Cutter
    from soda_service.storage.remotesettings import block_cache, remote_limits
    from soda_service.storage.stores import RemoteStores

    with ExitStack() as stack:
        if source[:6].lower() == "ivo://":
            if not settings.catalog_path.exists():
                typer.echo(f"soda-service: {no_catalog(settings)}", err=True)
                raise typer.Exit(1)
            store = stack.enter_context(closing(CatalogStore(settings)))
            stores = stack.enter_context(catalog_stores(settings, store))
            resolver: Resolver | FixedResolver = Resolver(store, settings, stores=stores)
            identifier = source
        else:
            collections = load_collections(settings.collections)
            stores = stack.enter_context(
                RemoteStores((), limits=remote_limits(settings), cache=block_cache(settings))
            )
            path = _path_or_url(source)
            if isinstance(path, Path):
                path = path.resolve()
            dataset = index_file(path, settings, collections, stores)
            resolver, identifier = FixedResolver(dataset), dataset.publisher_did
        if not keeps_copies:
            folder = stack.enter_context(TemporaryDirectory(prefix="soda-service-"))
            settings = settings.model_copy(
                update={"cache_dir": Path(folder), "spool_dir": Path(folder) / "spool"}
            )
        cutter = stack.enter_context(closing(Cutter(resolver, settings, stores)))
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
    is_gzip, is_called_gzip = plan.media_type == "application/gzip", target.suffix == ".gz"
    if is_gzip != is_called_gzip:
        is_or_not = "compressed by gzip, which its name does not say" if is_gzip else (
            "not compressed by gzip, as its name says; --compress gz does that"
        )  # fmt: skip
        typer.echo(f"soda-service: {target} is {is_or_not}", err=True)
    typer.echo(f"{target}: {target.stat().st_size} bytes", err=True)


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


def _path_or_url(text: str) -> Path | str:
    """A path of this machine, or the URL of something in a store."""
    from soda_service.storage.source import is_remote

    return text if is_remote(text) else _local_path(text)


def _local_path(text: str) -> Path:
    from urllib.parse import unquote, urlsplit

    from soda_service.errors import UsageError

    parts = urlsplit(text)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if "://" in text:
        raise UsageError(
            f"only files, folders and URLs of s3, gs, az, http and https can be read, got {text!r}"
        )
    return Path(text)


def _tell_skipped(path: str, reason: str) -> None:
    typer.echo(f"skipped {path}: {reason}", err=True)


def _told(report: IngestReport) -> str:
    return (
        f"{report.added} added, {report.changed} changed, {report.moved} moved, "
        f"{report.unchanged} unchanged, {report.removed} removed, {report.failures} skipped"
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
    from rich.table import Column

    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=15, justify="right")),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        # Names change in length all the time: the bar must not.
        TextColumn(
            "{task.fields[current]}", markup=False, table_column=Column(no_wrap=True, ratio=1)
        ),
    )
    with Progress(*columns, console=Console(stderr=True), expand=True) as bar:
        task = bar.add_task(title, total=None, current="")

        def advance(done: int, total: int | None, current: str) -> None:
            bar.update(task, completed=done, total=total, current=current.rpartition("/")[2])

        yield advance
