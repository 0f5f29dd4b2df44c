"""`soda-service cut`: one cutout without a server."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand, TyperOption

from soda_service.cli.options import Config, path_or_url
from soda_service.cli.wording import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # Typer brings a click of its own, and has no public name for what a command is given.
    from typer._click.core import Context

    from soda_service.config import Settings
    from soda_service.cutout.cutter import CutoutPlan, Cutter
    from soda_service.cutout.request import CutoutRequest
    from soda_service.errors import UsageError
    from soda_service.geometry.shapes import Shape

_NAMING_A_CACHE = ("SODA_CONFIG", "SODA_CACHE_DIR")
"""Variables by which a person has said where inflated copies of files shall be kept."""


class CutCommand(TyperCommand):
    """`cut`, where what is said twice is refused: of two circles one would be cut in silence."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Parse as any command does; raises UsageError."""
        from soda_service.errors import UsageError

        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        once = [one for one in given if isinstance(one, TyperOption) and not one.multiple]
        for number, option in enumerate(once):
            if option in once[:number] and not option.is_flag:
                raise UsageError(f"{option.opts[-1]} is given more than once, and takes one value")
        return super().parse_args(ctx, args)


def cut(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE-OR-ID",
            help="A FITS file, its URL (s3://BUCKET/KEY), or an identifier of the catalog (ivo://...).",
        ),
    ],
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
        bool,
        typer.Option("--header-only", help="Headers as text, one card a line; `-o -` shows them."),
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
        Path | None,
        typer.Option("-o", "--output", help="File to write, or to replace; - is standard output."),
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
    from soda_service.errors import UnknownDatasetError
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
            path = path_or_url(source)
            if isinstance(path, Path):
                path = path.resolve()
            try:
                dataset = index_file(path, settings, collections, stores)
            except UnknownDatasetError:
                raise UnknownDatasetError(shown(str(path)), "no such file") from None
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
        _write_to_standard_output(cutter, plan)
        return
    target = output if output is not None else Path(plan.filename)
    _refuse_folder(target)
    _refuse_to_lose(target, plan, request, may_replace=output is not None)
    _write_whole(target, cutter, plan, may_replace=output is not None)
    is_gzip, is_called_gzip = plan.media_type == "application/gzip", target.suffix == ".gz"
    if is_gzip != is_called_gzip:
        is_or_not = "compressed by gzip, which its name does not say" if is_gzip else (
            "not compressed by gzip, as its name says; --compress gz does that"
        )  # fmt: skip
        typer.echo(f"soda-service: {target} is {is_or_not}", err=True)
    if target.is_file():  # a device or a pipe does not tell
        typer.echo(f"{target}: {target.stat().st_size} bytes", err=True)


def _write_to_standard_output(cutter: Cutter, plan: CutoutPlan) -> None:
    from soda_service.errors import UsageError

    if sys.stdout is None:  # closed by the shell: `>&-`
        raise UsageError("cannot write standard output: it is closed")
    for chunk in cutter.cut(plan):
        with _told_of_standard_output():
            sys.stdout.buffer.write(chunk)
    with _told_of_standard_output():
        sys.stdout.buffer.flush()


@contextmanager
def _told_of_standard_output() -> Iterator[None]:
    """Raise UsageError where it cannot be written."""
    from soda_service.errors import UsageError

    try:
        yield
    except BrokenPipeError:
        raise  # whoever reads has had enough, and needs no word of it
    except OSError as error:
        # What is still held back would be tried again, and told of, when the process ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        raise UsageError(f"cannot write standard output: {error.strerror}") from None


def _refuse_folder(target: Path) -> None:
    """Raise UsageError where *target* is a folder, be it `.` or `/`, which have no name."""
    from soda_service.errors import UsageError

    with suppress(OSError):  # to write to it will fail as well, and say why
        if target.is_dir():
            raise UsageError(f"cannot write {target}: {os.strerror(errno.EISDIR)}")


def _refuse_to_lose(
    target: Path, plan: CutoutPlan, request: CutoutRequest, *, may_replace: bool
) -> None:
    """Raise UsageError where *target* is the very file that is cut, or is there unasked for."""
    from soda_service.errors import UsageError
    from soda_service.storage.local import local_path
    from soda_service.storage.source import is_remote

    with suppress(OSError):  # what is not there is not the same
        url = plan.dataset.url
        if not is_remote(url) and target.samefile(local_path(url)):
            if request.is_whole_file and not may_replace:
                raise UsageError(
                    "no place was given, so this is the whole file: say where, by --circle say, "
                    "or give another name with -o"
                )
            raise UsageError(f"{target} is the file that is cut; give another name with -o")
    if not may_replace and os.path.lexists(target):
        raise _already_there(target)


def _already_there(target: Path) -> UsageError:
    from soda_service.errors import UsageError

    return UsageError(f"{target} is already there; say -o {target} to replace it")


def _write_whole(target: Path, cutter: Cutter, plan: CutoutPlan, *, may_replace: bool) -> None:
    """Write beside *target* and move it into place: no half a file under a good name."""
    from soda_service.errors import UsageError

    partial = target.with_name(f".soda-service-{token_hex(8)}.part")
    try:
        if target.exists() and not (target.is_file() or target.is_dir()):
            # A pipe or a device is written to; moved away, it would be lost.
            _write(target, "wb", cutter, plan)
            return
        _write(partial, "xb", cutter, plan)
        if may_replace:
            partial.replace(target)
        else:
            _move_where_nothing_is(partial, target)
    except OSError as error:
        raise UsageError(f"cannot write {shown(str(target))}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def _write(path: Path, mode: str, cutter: Cutter, plan: CutoutPlan) -> None:
    with path.open(mode) as file:
        for chunk in cutter.cut(plan):
            file.write(chunk)


def _move_where_nothing_is(partial: Path, target: Path) -> None:
    """Give *partial* the name *target*; UsageError where somebody has taken that meanwhile."""
    try:
        target.hardlink_to(partial)  # unlike a rename, never in another file's place
    except FileExistsError:
        raise _already_there(target) from None
    except OSError:
        # A file system without hard links.
        if os.path.lexists(target):
            raise _already_there(target) from None
        partial.replace(target)
