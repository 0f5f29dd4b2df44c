"""A service over a few files with a cutter that does as told.

What a cutout must look like on the wire when a disk fails in the middle, or when its
reader goes away, real files cannot be made to show at the right moment.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, cast

from starlette.routing import Route

from soda_service.app import create_app
from soda_service.catalog.resolver import Resolver
from soda_service.cutout.plan import NOT_QUICK, CutoutPlan, Quickness
from soda_service.errors import CorruptFileError, SourceUnavailableError
from soda_service.storage.bands import MadeBands
from soda_service.storage.source import FileVersion
from soda_service.web.connection import LimitedHttp
from soda_service.web.services import Services

from .catalogs import AUTHORITY, make_dataset, make_settings, make_store
from .service import LiveService, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

    from soda_service.catalog.dataset import Dataset
    from soda_service.config import Settings
    from soda_service.cutout.cutter import Cutter
    from soda_service.cutout.request import CutoutRequest
    from soda_service.storage.bands import Bands

PLAIN: Final = f"ivo://{AUTHORITY}/visits?plain.fits"
CONTENT: Final = {
    "plain.fits": bytes(range(251)) * 4001,
    "deep/er/o b+c&d.fits.gz": b"gzipped, as far as anybody can tell",
    "empty.fits": b"",
    "gone.fits": b"soon deleted",
}
"""Local part to bytes of each dataset; the last one's file is deleted after it was ingested."""

SMALL: Final = bytes(range(256)) * 45
BAND: Final = bytes(range(251)) * 1024
SECRET: Final = "/srv/secret/place.fits"
ETAG: Final = '"0123456789abcdef"'
MODIFIED_NS: Final = 1_700_000_000_500_000_000
SIZES: Final = {
    "large": 64 * len(BAND), "broken": 8 * len(BAND), "short": 8 * len(BAND),
    "long": 9 * len(BAND), "refused": 8 * len(BAND), "hung": 8 * len(BAND), "huge": 10**12,
}  # fmt: skip


class ScriptedCutter:
    """Takes the name of what shall happen from the detail of the request.

    None: a small answer that is in memory. `cold`: one that is not. `slow`: one that cannot
    be planned quickly. `held`: the same, when told.
    `nothing`: no overlap. `large`: many bands. `huge`: above every limit.
    `broken`, `short`, `long`: fails, ends too early or gives too much on the way. `refused`:
    fails at the first band. `hung`: gives nothing more on the way, until told. `corrupt`,
    `bug`: fails while planning.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self.made = 0
        """Bands so far."""
        self.closed = threading.Event()
        """Set when a stream of bands has been closed."""
        self.is_held = threading.Event()
        """Set when a plan is `held`; it is made once the next event is set."""
        self.goes_on = threading.Event()

    def plan(self, request: CutoutRequest) -> CutoutPlan | None:
        """The plan of what shall happen."""
        dataset = self._resolver.resolve(request.identifier)
        what = request.detail or ""
        match what:
            case "nothing":
                return None
            case "corrupt":
                raise CorruptFileError("HDU 1 is truncated at byte 2880", path=SECRET)
            case "bug":
                raise ZeroDivisionError(f"in {SECRET}")
            case "slow":
                time.sleep(0.05)
            case "held":
                self.is_held.set()
                self.goes_on.wait(60)
            case _:
                pass
        return CutoutPlan(
            dataset=dataset,
            hdus=(),
            size=SIZES.get(what, len(SMALL)),
            filename=what or "small.fits",
            media_type="application/fits",
            etag=ETAG,
        )

    def plan_quickly(self, request: CutoutRequest) -> CutoutPlan | Quickness | None:
        """The same, unless it shall be slow."""
        return NOT_QUICK if request.detail in {"slow", "held"} else self.plan(request)

    def cut_resident(self, plan: CutoutPlan) -> list[bytes] | None:
        """The small answer, unless it shall come from elsewhere."""
        return [SMALL] if plan.size == len(SMALL) and plan.filename != "cold" else None

    def close(self) -> None:
        """Nothing is held."""

    def bands(self, plan: CutoutPlan) -> Bands:
        """The same as what is sent."""
        return MadeBands(self.cut(plan))

    def cut(self, plan: CutoutPlan) -> Iterator[bytes]:
        """The bands of what was planned."""
        try:
            if plan.filename == "refused":
                raise SourceUnavailableError("the disk does not answer", path=SECRET)
            if plan.size == len(SMALL):
                yield SMALL[:1000]
                yield SMALL[1000:]
                return
            for number in range(plan.size // len(BAND)):
                if plan.filename in {"broken", "short"} and number == 4:
                    if plan.filename == "short":
                        return
                    raise SourceUnavailableError("the disk does not answer", path=SECRET)
                if plan.filename == "hung" and number == 4:
                    self.is_held.set()
                    self.goes_on.wait(60)
                self.made += 1
                yield BAND + BAND if plan.filename == "long" else BAND
        finally:
            self.closed.set()


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Files on disk and their datasets; `secret.txt` beside them is no dataset."""

    folder: Path
    datasets: tuple[Dataset, ...]


@dataclass(frozen=True, kw_only=True)
class ScriptedService:
    """A live service and what happens behind it."""

    live: LiveService
    cutter: ScriptedCutter
    settings: Settings


def write_archive(folder: Path) -> Archive:
    """The files of `CONTENT` in *folder*."""
    (folder / "secret.txt").write_text("nobody may read this")
    datasets = []
    for local_part, content in CONTENT.items():
        path = folder / local_part
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(MODIFIED_NS, MODIFIED_NS))
        status = path.stat()
        identifier = f"ivo://{AUTHORITY}/visits?{local_part}"
        plain = make_dataset("visits", local_part)
        datasets.append(
            replace(
                plain,
                obscore=replace(plain.obscore, obs_publisher_did=identifier),
                url=str(path),
                local_part=local_part,
                version=FileVersion(status.st_size, status.st_mtime_ns),
                media_type="application/gzip" if path.suffix == ".gz" else "application/fits",
            )
        )
    (folder / "gone.fits").unlink()
    return Archive(folder=folder, datasets=tuple(datasets))


@contextmanager
def serving(
    archive: Archive,
    folder: Path,
    *,
    is_empty: bool = False,
    protocol: type[LimitedHttp] = LimitedHttp,
    buffer_bytes: int | None = None,
    **changes: object,
) -> Iterator[ScriptedService]:
    """The service over *archive* with its catalog in *folder* and *changes* to the settings.

    For *protocol* and *buffer_bytes* see `running`.
    """
    settings = make_settings(folder, **{"log_requests": False, **changes})
    make_store(settings, *(() if is_empty else archive.datasets)).close()
    cutters: list[ScriptedCutter] = []

    def make_services(settings: Settings) -> Services:
        services = Services.of(settings)
        services.cutter.close()
        assert isinstance(services.resolver, Resolver)
        cutters.append(ScriptedCutter(services.resolver))
        return replace(services, cutter=cast("Cutter", cutters[0]))

    bugs = [Route(path, _Bug()) for path in ("/bug", "/soda/bug", "/sia/bug")]
    bugs.append(Route("/late-bug", _LateBug()))
    app = create_app(settings, routes=bugs, make_services=make_services)
    with running(app, protocol=protocol, buffer_bytes=buffer_bytes) as live:
        yield ScriptedService(live=live, cutter=cutters[0], settings=settings)


class _Bug:
    """An endpoint that nobody has debugged."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive, send
        raise RuntimeError(f"password=hunter2 in {SECRET}")


class _LateBug:
    """The same, found out when the answer has begun."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        headers = [(b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise RuntimeError(f"password=hunter2 in {SECRET}")
