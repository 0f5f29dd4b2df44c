"""SODA 1.0 {sync}: the hot path, and `/soda/examples`."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from soda_service.cutout.cutter import AbandonedError
from soda_service.cutout.form import Packing
from soda_service.cutout.plan import NOT_QUICK, CutoutPlan, Quickness
from soda_service.errors import SodaServiceError, UsageError
from soda_service.storage.bands import CopiedBands, MadeBands
from soda_service.storage.runs import RunGrid
from soda_service.storage.source import is_remote
from soda_service.web.atonce import Answer
from soda_service.web.bodies import ClientGoneError
from soda_service.web.errors import DATASET_KEY
from soda_service.web.params import ordinary_cutout
from soda_service.web.paramsource import params_at_once, parsed, read_params
from soda_service.web.responses import (
    CONDITIONS,
    http_date,
    is_unmodified,
    require_version,
    send_bands,
    send_empty,
    send_head,
    send_pieces,
    unless_gone,
)

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from soda_service.cutout.request import CutoutRequest
    from soda_service.storage.bands import Bands
    from soda_service.web.params import CutoutParams
    from soda_service.web.responses import RawHeaders
    from soda_service.web.services import Services

# FITS is never compressed behind the client's back, here or by a proxy: the length that is
# promised is that of the file.
_NO_TRANSFORM: Final = (b"cache-control", b"no-transform")


class _Planned(NamedTuple):
    """What was found when an answer at once was asked for.

    In the scope under `_PLANNED`, or what is wrong with the parameters.
    """

    asked: CutoutParams
    plan: CutoutPlan | Quickness | None


_PLANNED: Final = "soda_service.planned"


class SyncEndpoint:
    """Answers a request for one cutout; an ASGI application."""

    def at_once(self, scope: Scope) -> Answer | None:
        """The answer to a GET, where its pixels lie in memory; see `atonce.Endpoint`."""
        services: Services = scope["state"]["services"]
        if not CONDITIONS.isdisjoint([name for name, _ in scope["headers"]]):
            return None
        asked = ordinary_cutout(scope["query_string"])
        if asked is None:
            params = params_at_once(scope)
            if params is None:
                return None
            try:
                asked = params.cutout()
            except SodaServiceError as error:
                scope[_PLANNED] = error
                return None
        scope[_PLANNED] = _Planned(asked, NOT_QUICK)
        plan = services.cutter.plan_quickly(asked.request)
        scope[_PLANNED] = _Planned(asked, plan)
        if (
            plan is None
            or isinstance(plan, Quickness)
            or plan.size > services.settings.cutout_bytes
        ):
            return None
        pieces = services.cutter.cut_resident(plan)
        if pieces is None:
            return None
        headers = _headers(plan, asked.media_type)
        headers.append((b"content-length", b"%d" % plan.size))
        return Answer(headers, pieces, plan.size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Plan, and if there is anything to send, send it."""
        services: Services = scope["state"]["services"]
        cutter = services.cutter
        planned: _Planned | SodaServiceError | None = scope.pop(_PLANNED, None)
        if isinstance(planned, SodaServiceError):
            raise planned
        if planned is None:
            params = await read_params(scope, receive, limit=services.settings.request_bytes)
            asked = await parsed(params, params.cutout)
        else:
            asked = planned.asked
        try:
            plan = cutter.plan_quickly(asked.request) if planned is None else planned.plan
            if isinstance(plan, Quickness):
                plan = await services.long_work.call(cutter.plan, asked.request)
            if plan is None:
                # SODA 1.0 §5.1: no pixels is 204, not an error.
                await send_empty(send, 204, [])
                return
            size = max(plan.size, plan.computed_size)
            if size > services.settings.cutout_bytes:
                _refuse(asked.request, size, services.settings.cutout_bytes)
            await _send(scope, receive, send, plan, asked.media_type, services)
        except AbandonedError:
            raise ClientGoneError from None
        except Exception:
            scope[DATASET_KEY] = asked.request.identifier
            raise


def _refuse(request: CutoutRequest, size: int, most: int) -> NoReturn:
    in_pixels = request.stamp is not None or request.section is not None
    less = "for fewer pixels" if in_pixels else "for less of the sky"
    raise UsageError(f"the cutout would have {size} bytes, and at most {most} are sent; ask {less}")


async def _send(
    scope: Scope,
    receive: Receive,
    send: Send,
    plan: CutoutPlan,
    media_type: str | None,
    services: Services,
) -> None:
    if scope["method"] != "POST":
        etag, modified_ns = plan.etag.encode("ascii"), plan.modified_ns
        require_version(scope, etag=etag, modified_ns=modified_ns)
        if is_unmodified(scope, etag=etag, modified_ns=modified_ns):
            await _confirm(plan, services)
            await send_empty(send, 304, _version_headers(plan))
            return
    headers = _headers(plan, media_type)
    is_packed = plan.form.packing is not Packing.NONE
    if scope["method"] == "HEAD" and not is_packed:
        await _confirm(plan, services)
        await send_head(send, headers, plan.size)
        return
    pieces = services.cutter.cut_resident(plan)
    if pieces is not None:
        await send_pieces(scope, send, headers, pieces, length=plan.size)
        return
    # The first band of a file that is compressed as a whole waits until it is inflated.
    threads = services.long_work
    results = services.results if plan.is_worth_keeping else None
    kept = None if results is None else await threads.call(results.open, plan.etag)
    if kept is not None:
        try:
            await _confirm(plan, services)
        except BaseException:
            kept.close()
            raise
        length = kept.version.size
        if scope["method"] == "HEAD":
            kept.close()
            await send_head(send, headers, length)
            return
        bands: Bands = CopiedBands(closing(kept), [RunGrid(0, length)], source=kept)
        await send_bands(scope, receive, send, headers, bands, length=length, threads=threads)
    elif is_packed:
        await _send_packed(scope, receive, send, headers, plan, services)
    else:
        stop = None
        if plan.form.checksums:
            # Sums stand before the pixels, and all of these are read for them.
            stopped = threading.Event()
            bands, stop = services.cutter.bands(plan, stopped.is_set), stopped.set
        else:
            bands = services.cutter.bands(plan)
        if results is not None:
            bands = results.keeping(plan.etag, bands, plan.size)
        await send_bands(
            scope, receive, send, headers, bands, length=plan.size, threads=threads, stop=stop
        )


def _version_headers(plan: CutoutPlan) -> RawHeaders:
    """Those of the answer that tell which version of it this is."""
    return [
        (b"etag", plan.etag.encode("ascii")),
        (b"last-modified", http_date(plan.modified_ns)),
        _NO_TRANSFORM,
    ]


def _headers(plan: CutoutPlan, media_type: str | None) -> RawHeaders:
    """Those of the answer but for its length; *media_type* is what FITS was to be called."""
    content_type = media_type if media_type and plan.media_type in _FITS else plan.media_type
    return [
        *_version_headers(plan),
        (b"content-type", content_type.encode("ascii")),
        (b"content-disposition", b'attachment; filename="%b"' % plan.filename.encode("ascii")),
    ]


async def _confirm(plan: CutoutPlan, services: Services) -> None:
    """A file has been looked at already; an object in a store has not where nothing is read."""
    if is_remote(plan.dataset.url):
        await services.long_work.call(services.cutter.confirm, plan)


async def _send_packed(
    scope: Scope,
    receive: Receive,
    send: Send,
    headers: RawHeaders,
    plan: CutoutPlan,
    services: Services,
) -> None:
    """An answer whose size is known once it lies on disk, for HEAD too."""
    stopped = threading.Event()
    packing = services.long_work.call(services.cutter.pack, plan, stopped.is_set)
    packed = await unless_gone(receive, packing, stopped.set)
    with packed:
        if scope["method"] == "HEAD":
            await send_head(send, headers, packed.size)
            return
        bands = MadeBands(packed.chunks())
        if services.results is not None:
            bands = services.results.keeping(plan.etag, bands, packed.size)
        threads = services.long_work
        await send_bands(scope, receive, send, headers, bands, length=packed.size, threads=threads)


_FITS: Final = frozenset({"application/fits", "image/fits"})
