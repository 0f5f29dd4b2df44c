"""The demo archive on disk: written once, completed where it was interrupted.

Files appear under their names only when they are whole. A marker says which edition of this
package wrote them; another edition writes all of them anew.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from soda_service.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Progress = Callable[[int, int | None, str], None]

MARKER = "demo-archive.json"
"""Below the folder; names the edition and the files."""

_AUTHORITY = "demo.invalid"
_NEAR_THE_PEAK = "visits?2024110900036-94"


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenArchive:
    """What lies in the folder now."""

    folder: Path
    files: tuple[str, ...]
    """Below the folder, with `/`."""
    written: tuple[str, ...]
    """Those of `files` that were not there before."""


def write_archive(folder: Path, progress: Progress | None = None) -> WrittenArchive:
    """Write what is missing of the demo archive into *folder*, making that if need be.

    *progress* hears (files done, files in all, name of the file now). Raises UsageError where
    nothing can be written, and for a folder of something else: its files stay as they are.
    """
    try:
        _refuse_other_folder(folder)
        return _write_archive(folder, progress or _silent)
    except OSError as error:
        raise UsageError(f"cannot write the demo archive: {error}") from None


def examples() -> tuple[tuple[str, str], ...]:
    """Requests worth trying: a title, and what follows the service's base URL with its slash."""
    from .sky import TRANSIENT

    place = f"{TRANSIENT.ra} {TRANSIENT.dec}"
    visit = f"ivo://{_AUTHORITY}/{_NEAR_THE_PEAK}"
    cube = f"ivo://{_AUTHORITY}/radio?cuttlefish_hi.fits"
    return (
        ("A page about this service", ""),
        ("What has seen the transient", _url("sia/query", POS=f"CIRCLE {place} 0.001")),
        ("What can be had of one visit", _url("datalink/links", ID=visit)),
        (
            "A cutout of that visit around the transient (FITS)",
            _url("soda/sync", ID=visit, CIRCLE=f"{place} 0.01"),
        ),
        (
            "The hydrogen line of its host galaxy, out of a radio cube (FITS)",
            _url("soda/sync", ID=cube, CIRCLE=f"{place} 0.02", BAND="0.21360 0.21380", POL="I"),
        ),
    )


def _url(path: str, **parameters: str) -> str:
    return f"{path}?{urlencode(parameters, quote_via=quote)}"


def _silent(_done: int, _total: int | None, _name: str) -> None:
    pass


def _refuse_other_folder(folder: Path) -> None:
    """Raise UsageError where *folder* holds anything, but no marker.

    What a new file system has, and hidden files, are nothing.
    """
    if not folder.is_dir() or (folder / MARKER).is_file():
        return
    names = {one.name for one in folder.iterdir()} - {"lost+found"}
    if any(not name.startswith(".") for name in names):
        raise UsageError(f"{folder} is not a demo archive, but not empty; name another --dir")


def _write_archive(folder: Path, progress: Progress) -> WrittenArchive:
    # astropy, in the instruments, takes half a second that an archive already whole can save.
    folder.mkdir(parents=True, exist_ok=True)
    edition = _edition()
    marker = _read_marker(folder)
    if marker.edition == edition and all((folder / name).is_file() for name in marker.files):
        progress(len(marker.files), len(marker.files), "")
        return WrittenArchive(folder=folder, files=marker.files, written=())
    from .instruments import products

    makers = {product.path: product.make for product in products()}
    makers |= {"truth.csv": _truth_table, "lightcurve.csv": _light_curve}
    if marker.edition != edition:
        # Removed before the marker changes: a file that is there is then always of its edition.
        for name in {*marker.files, *makers}:
            (folder / name).unlink(missing_ok=True)
        content = {"edition": edition, "files": list(makers)}
        _write_whole(folder / MARKER, json.dumps(content, indent=1).encode())
    missing = [name for name in makers if not (folder / name).is_file()]
    for done, name in enumerate(missing, len(makers) - len(missing)):
        progress(done, len(makers), name)
        _write_whole(folder / name, makers[name]())
    progress(len(makers), len(makers), "")
    return WrittenArchive(folder=folder, files=tuple(makers), written=tuple(missing))


@dataclass(frozen=True, slots=True)
class _Marker:
    edition: str
    files: tuple[str, ...]


def _read_marker(folder: Path) -> _Marker:
    """What was written before; nothing, where the marker is missing or is not ours."""
    try:
        content = json.loads((folder / MARKER).read_bytes())
        edition, files = str(content["edition"]), tuple(str(name) for name in content["files"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return _Marker("", ())
    inside = all(
        not (path := PurePosixPath(name)).is_absolute() and ".." not in path.parts for name in files
    )
    return _Marker(edition, files) if inside and files else _Marker("", ())


def _edition() -> str:
    """A fingerprint of the code that decides what is in the files."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for module in sorted(here.glob("*.py")):
        digest.update(module.name.encode() + b"\0" + module.read_bytes())
    return digest.hexdigest()[:16]


def _write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name ends so that a scan for FITS files passes over it.
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _truth_table() -> bytes:
    from .sky import truth

    rows = truth()
    assert rows.dtype.names is not None
    return _csv(rows.dtype.names, rows.tolist())


def _light_curve() -> bytes:
    from .sky import TRANSIENT
    from .survey import VISITS

    rows = [
        (visit.number, visit.band, round(visit.middle, 6), round(visit.transient_flux, 3),
         TRANSIENT.ra, TRANSIENT.dec)
        for visit in VISITS
    ]  # fmt: skip
    return _csv(("visit", "band", "mjd", "flux_njy", "ra", "dec"), rows)


def _csv(columns: tuple[str, ...], rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()
