"""Parameters: the only place that knows their names.

Names are compared without regard to ASCII case (DALI 1.1 §3.1), a blank value is an absent
one, and values that are repeated letter for letter count once. Whatever text comes, the
outcome is a value or a UsageError.
"""

from __future__ import annotations

import asyncio
import logging
import string
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar
from urllib.parse import quote, unquote_to_bytes, urlencode

from starlette.datastructures import Headers

from soda_service.catalog.query import CatalogQuery, fold
from soda_service.cutout.form import (
    BLANK,
    PLAIN,
    CutoutForm,
    Edge,
    Packing,
    parse_edge,
    parse_fill,
    parse_packing,
)
from soda_service.cutout.request import CutoutRequest
from soda_service.cutout.selection import parse_hdu_name
from soda_service.errors import MultiValuedParamNotSupported, UsageError
from soda_service.geometry.dali import (
    format_circle,
    parse_box,
    parse_circle,
    parse_integer,
    parse_interval,
    parse_pixels,
    parse_pol,
    parse_polygon,
    parse_pos,
    parse_range,
    parse_stamp,
)
from soda_service.geometry.frames import PixelSection, Stamp
from soda_service.geometry.moc import parse_moc
from soda_service.geometry.shapes import Polygon
from soda_service.votable.document import MEDIA_TYPE as VOTABLE, Serialization
from soda_service.web.bodies import read_body, read_parts
from soda_service.web.log import RUN_ID_KEY
from soda_service.web.mediatypes import (
    fits_type,
    is_plain_text,
    is_text_table,
    links_type,
    table_type,
)

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Iterable,
        Sequence,
    )

    from starlette.types import Receive, Scope

    from soda_service.discovery.sia2 import Form
    from soda_service.geometry.shapes import Circle, Interval, Shape

MAX_PARAMETERS: Final = 10_000
"""A request with more of them is refused: splitting them would hold up the others."""

MAX_SHAPES: Final = 1_000
"""Shapes of one search; one with more is refused, for each is compared with every footprint."""
MAX_ALL_VERTICES: Final = 10_000
"""Vertices of the polygons of one search together."""

_AT_ONCE: Final = 16 * 1024
"""Bytes of parameters that are understood in less than a millisecond or two."""

_ECHOED: Final = 100
_ECHOED_LENGTH: Final = 500

_ID: Final = "ID"
_CIRCLE: Final = "CIRCLE"
_POLYGON: Final = "POLYGON"
_POS: Final = "POS"
_RANGE: Final = "RANGE"
_BOX: Final = "BOX"
_MOC: Final = "MOC"
_STAMP: Final = "STAMP"
_PIXELS: Final = "PIXELS"
_BAND: Final = "BAND"
_TIME: Final = "TIME"
_POL: Final = "POL"
_DETAIL: Final = "CUTOUTDETAIL"
_HDU: Final = "HDU"
_EDGE: Final = "EDGE"
_FILL: Final = "FILL"
_MASK: Final = "MASK"
_HEADERONLY: Final = "HEADERONLY"
_PROOF: Final = "PROOF"
_COMPRESS: Final = "COMPRESS"
_CHECKSUM: Final = "CHECKSUM"
_CALIB: Final = "CALIB"
_FORMAT: Final = "FORMAT"
_RESPONSEFORMAT: Final = "RESPONSEFORMAT"
_MAXREC: Final = "MAXREC"
_RUNID: Final = "RUNID"

_INTERVALS: Final = (_BAND, _TIME, "FOV", "SPATRES", "SPECRP", "EXPTIME", "TIMERES")
_TEXTS: Final = (
    _ID, "COLLECTION", "FACILITY", "INSTRUMENT", "DPTYPE", "DPSUBTYPE", "TARGET", _FORMAT,
)  # fmt: skip
"""DPSUBTYPE is none of the standard's: Rubin's notebooks send it."""

_TAKEN_EVERYWHERE = frozenset({_RUNID, "REQUEST", "VERSION"})
"""What DALI lets a client send to any service, and what versions before the standards had."""

_PLAIN_PARAMETERS: Final = _TAKEN_EVERYWHERE | {_ID, _CIRCLE, _POLYGON, _POS, _RANGE, _BOX, _MOC}
"""Those of the common request to SODA, which is understood without looking for any other."""

_FORM_PARAMETERS: Final = frozenset(
    {_EDGE, _FILL, _MASK, _HEADERONLY, _CHECKSUM, _PROOF, _COMPRESS}
)
SODA_PARAMETERS: Final = _PLAIN_PARAMETERS | _FORM_PARAMETERS | {
    _STAMP, _PIXELS, _HDU, _BAND, _TIME, _POL, _DETAIL, _FORMAT, _RESPONSEFORMAT,
}  # fmt: skip
SIA_PARAMETERS: Final = _TAKEN_EVERYWHERE | {
    *_INTERVALS, *_TEXTS, _POS, _POL, _CALIB, _MAXREC, _RESPONSEFORMAT,
}  # fmt: skip
LINKS_PARAMETERS: Final = _TAKEN_EVERYWHERE | {_ID, _RESPONSEFORMAT}

_Value = TypeVar("_Value")

_log = logging.getLogger(__name__)


class CutoutParams(NamedTuple):
    """What a request to SODA {sync} says."""

    request: CutoutRequest
    media_type: str | None
    """The name for FITS that was asked for (DALI 1.1 §3.4.3), if any was."""


@dataclass(frozen=True, slots=True)
class QueryParams:
    """What a request to SIA 2.0 {query} says."""

    query: CatalogQuery
    maxrec: int | None
    form: Form
    media_type: str
    """Of the answer."""
    echo: tuple[tuple[str, str], ...]
    """Names and values, for the answer to say again (DALI 1.1 §4.4.3); not more than a few."""


@dataclass(frozen=True, slots=True)
class LinksParams:
    """What a request to DataLink {links} says."""

    identifiers: tuple[str, ...]
    media_type: str | None
    """The name for VOTable that was asked for, if any was, with its parameters."""


class Params:
    """The parameters of one request under their folded names."""

    __slots__ = ("_values", "size")

    def __init__(self, encoded: bytes, parts: Iterable[tuple[str, str]] = ()) -> None:
        """From what is urlencoded, and from the parts of a multipart body."""
        self.size = len(encoded)
        """Of what came, about."""
        self._values = _split(encoded)
        for name, value in parts:
            self.size += len(value)
            if value:
                key = name.encode("utf-8", "replace").upper().decode()
                self._values.setdefault(key, []).append(value)

    @property
    def run_id(self) -> str | None:
        """What the client calls its run, for the log (DALI 1.1 §3.4.6).

        Raises MultiValuedParamNotSupported where it calls it by several names.
        """
        values = self._values.get(_RUNID)
        if not values:
            return None
        names = {_lenient_text(value) for value in values}
        if len(names) > 1:
            raise _several(_RUNID, len(names))
        return names.pop()[:64]

    @property
    def wants_text_table(self) -> bool:
        """Whether the answer was asked for as a table of text: its errors are text too."""
        values = self._values.get(_RESPONSEFORMAT, ())
        return any(is_text_table(_lenient_text(value)) for value in values)

    def cutout(self) -> CutoutParams:
        """What SODA 1.0 §3 makes of them, and the parameters of this service's own."""
        values = self._values
        # Looking once for all that is rarely there keeps the common request quick.
        is_plain = values.keys() <= _PLAIN_PARAMETERS
        if not is_plain and not values.keys() <= SODA_PARAMETERS:
            self._note_unknown(SODA_PARAMETERS)
        identifier = self._one(_ID)
        if identifier is None:
            raise UsageError(
                f"{_ID} is missing: it says which dataset to cut, "
                f"{_CIRCLE}, {_POLYGON} or {_POS} what of it"
            )
        place = self._place()
        if is_plain and not isinstance(place, (Stamp, PixelSection)):
            return CutoutParams(CutoutRequest(identifier, place), None)
        form = PLAIN if values.keys().isdisjoint(_FORM_PARAMETERS) else self._form()
        request = CutoutRequest(
            identifier=identifier,
            shape=None if isinstance(place, (Stamp, PixelSection)) else place,
            band=self._interval(_BAND),
            time=self._interval(_TIME),
            pol=self._pol(),
            detail=self._one(_DETAIL),
            stamp=place if isinstance(place, Stamp) else None,
            section=place if isinstance(place, PixelSection) else None,
            hdus=tuple([_named(_HDU, parse_hdu_name, text) for text in self._all(_HDU)]),
            form=form,
        )
        formats = _FORMAT in values or _RESPONSEFORMAT in values
        return CutoutParams(request, self._fits_format(form) if formats else None)

    def _form(self) -> CutoutForm:
        """How the answer is given, where anything is said of it."""
        edge, packing = self._one(_EDGE), self._one(_COMPRESS)
        fill = tuple([_named(_FILL, parse_fill, text) for text in self._all(_FILL)])
        form = CutoutForm(
            checksums=self._boolean(_CHECKSUM),
            edge=Edge.TRIM if edge is None else _named(_EDGE, parse_edge, edge),
            fill=fill or (BLANK,),
            masked=self._boolean(_MASK),
            header_only=self._boolean(_HEADERONLY),
            proof=self._boolean(_PROOF) if self._one(_PROOF) is not None else None,
            packing=Packing.NONE if packing is None else _named(_COMPRESS, parse_packing, packing),
        )
        return PLAIN if form == PLAIN else form

    def query(self) -> QueryParams:
        """What SIA 2.0 §2.1 makes of them."""
        self._note_unknown(SIA_PARAMETERS)
        form, media_type = self._table_format()
        bands, times, fov, spatres, specrp, exptime, timeres = map(self._intervals, _INTERVALS)
        ids, collections, facilities, instruments, dptypes, dpsubtypes, targets, formats = map(
            self._all, _TEXTS
        )
        query = CatalogQuery(
            shapes=self._shapes(),
            bands=bands,
            times=times,
            pols=self._pol(),
            fov=fov,
            spatres=spatres,
            specrp=specrp,
            exptime=exptime,
            timeres=timeres,
            ids=ids,
            collections=collections,
            facilities=facilities,
            instruments=instruments,
            dptypes=dptypes,
            dpsubtypes=dpsubtypes,
            calibs=tuple(map(_calib, self._all(_CALIB))),
            targets=targets,
            formats=formats,
        )
        return QueryParams(query, self._maxrec(), form, media_type, self._echo(SIA_PARAMETERS))

    def links(self) -> LinksParams:
        """What DataLink 1.1 §2.1 makes of them."""
        self._note_unknown(LINKS_PARAMETERS)
        return LinksParams(self._all(_ID), self._links_format())

    def _echo(self, known: frozenset[str]) -> tuple[tuple[str, str], ...]:
        names = [name for name in self._values if name in known]
        said = ((name, text[:_ECHOED_LENGTH]) for name in names for text in self._all(name))
        return tuple(islice(said, _ECHOED))

    def _note_unknown(self, known: frozenset[str]) -> None:
        """No standard asks to refuse what it does not name; the operator may want to know."""
        unknown = sorted(self._values.keys() - known)
        if unknown:
            names = ", ".join(ascii(name[:40]) for name in unknown[:10])
            _log.info("%d unknown parameters ignored: %s", len(unknown), names)

    def _all(self, name: str) -> tuple[str, ...]:
        """The different values of *name*."""
        values = self._values.get(name)
        if values is None:
            return ()
        if len(values) == 1:
            text = _text(name, values[0])
            return (text,) if text else ()
        return tuple(dict.fromkeys(text for value in values if (text := _text(name, value))))

    def _one(self, name: str) -> str | None:
        """The value of *name*; raises MultiValuedParamNotSupported where there are several."""
        values = self._values.get(name)
        if values is None:
            return None
        if len(values) == 1:
            return _text(name, values[0]) or None
        texts = self._all(name)
        if name == _ID:
            # Identifiers are compared without regard to case.
            texts = tuple({fold(text): text for text in reversed(texts)}.values())
        if len(texts) > 1:
            raise _several(name, len(texts))
        return texts[0] if texts else None

    def _place(self) -> Shape | Stamp | PixelSection | None:
        """The one place that was asked for, however it was spelt."""
        given = given_text = None
        for name in self._values:
            if name not in _PLACES or (text := self._one(name)) is None:
                continue
            if given is not None:
                raise MultiValuedParamNotSupported(f"one shape is taken, got {given} and {name}")
            given, given_text = name, text
        return _PLACES[given](given_text) if given and given_text else None

    def _shapes(self) -> tuple[Shape, ...]:
        """Those of a search."""
        texts = self._all(_POS)
        if len(texts) > MAX_SHAPES:
            raise UsageError(f"{_POS} came with {len(texts)} values and may have {MAX_SHAPES}")
        shapes = tuple(parse_pos(text, allow_point=True) for text in texts)
        vertices = sum(len(one.vertices) for one in shapes if isinstance(one, Polygon))
        if vertices > MAX_ALL_VERTICES:
            raise UsageError(
                f"the polygons of {_POS} have {vertices} vertices together "
                f"and may have {MAX_ALL_VERTICES}"
            )
        return shapes

    def _interval(self, name: str) -> Interval | None:
        text = self._one(name)
        return None if text is None else _named(name, parse_interval, text)

    def _intervals(self, name: str) -> tuple[Interval, ...]:
        return tuple(_named(name, parse_interval, text) for text in self._all(name))

    def _pol(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(parse_pol, self._all(_POL))))

    def _boolean(self, name: str) -> bool:
        """DALI 1.1 §3.3.2."""
        text = self._one(name)
        if text is None:
            return False
        value = _BOOLEANS.get(text.strip().lower())
        if value is None:
            raise UsageError(f"{name} is 0, 1, true or false, got {text[:100]!r}")
        return value

    def _fits_format(self, form: CutoutForm) -> str | None:
        media_type = None
        for name in (_FORMAT, _RESPONSEFORMAT):
            text = self._one(name)
            if text is not None:
                if form.header_only and is_plain_text(text):
                    continue
                media_type = fits_type(text)
                if media_type is None:
                    raise UsageError(
                        f"{name} is application/fits or image/fits, got {text[:100]!r}"
                    )
        return media_type

    def _table_format(self) -> tuple[Form, str]:
        """The form of a table, and the media type to send it under."""
        asked = self._response_format(
            table_type,
            f"votable, {VOTABLE} (with serialization=TABLEDATA or BINARY2), text/xml, csv or tsv",
        )
        return asked or (Serialization.TABLEDATA, VOTABLE)

    def _links_format(self) -> str | None:
        """The media type of links, where one was asked for."""
        return self._response_format(links_type, f"votable, {VOTABLE} (as TABLEDATA) or text/xml")

    def _response_format(
        self, parse: Callable[[str], _Value | None], expected: str
    ) -> _Value | None:
        """What *parse* makes of RESPONSEFORMAT, if it is there; where that is None, a refusal."""
        text = self._one(_RESPONSEFORMAT)
        if text is None:
            return None
        found = parse(text)
        if found is None:
            raise UsageError(f"{_RESPONSEFORMAT} is {expected}, got {text[:100]!r}")
        return found

    def _maxrec(self) -> int | None:
        """DALI 1.1 §3.4.4."""
        text = self._one(_MAXREC)
        if text is None:
            return None
        number = _named(_MAXREC, parse_integer, text)
        if number < 0:
            raise UsageError(f"{_MAXREC} is not negative, got {text[:100]!r}")
        return number


async def read_params(scope: Scope, receive: Receive, *, limit: int) -> Params:
    """The parameters in the query string and, for POST, in the body.

    A body of more than *limit* bytes is Refusal 413, as soon as that is known.
    """
    query: bytes = scope["query_string"]
    params = await _noted(scope, query)
    if scope["method"] != "POST":
        return params
    body = await read_body(scope, receive, limit)
    headers = Headers(scope=scope)
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not body:
        return params
    if content_type == "application/x-www-form-urlencoded":
        return await _noted(scope, query + b"&" + body)
    if content_type == "multipart/form-data":
        return await _noted(scope, query, await read_parts(headers, body, most=MAX_PARAMETERS))
    raise UsageError(
        "a body is application/x-www-form-urlencoded or multipart/form-data, "
        f"got {content_type[:100]!r}"
    )


async def parsed(params: Params, parse: Callable[[], _Value]) -> _Value:
    """What *parse*, a method of *params*, makes of them: in a thread where they are long."""
    return await asyncio.to_thread(parse) if params.size > _AT_ONCE else parse()


async def _noted(scope: Scope, encoded: bytes, parts: Sequence[tuple[str, str]] = ()) -> Params:
    """The parameters; their RUNID is put into *scope* before anything can be wrong with others."""
    long = len(encoded) > _AT_ONCE
    params = await asyncio.to_thread(Params, encoded, parts) if long else Params(encoded, parts)
    if params.run_id is not None:
        scope[RUN_ID_KEY] = params.run_id
    return params


def links_query(identifier: str) -> str:
    """The query string that asks {links} for one dataset."""
    return f"{_ID}={quote(identifier, safe='')}"


def links_queries(identifiers: Sequence[str]) -> list[str]:
    """The same for each of *identifiers*, twenty times quicker."""
    encoded = "\n".join(identifiers).encode()
    if encoded.count(b"\n") != len(identifiers) - 1:
        return [links_query(identifier) for identifier in identifiers]
    reserved = set(encoded.translate(None, _UNRESERVED + b"%\n"))
    for byte in (ord("%"), *reserved):
        encoded = encoded.replace(bytes([byte]), b"%%%02X" % byte)
    return [f"{_ID}={value}" for value in encoded.decode("ascii").split("\n")]


def cutout_parameters(
    identifier: str, *, circle: Circle | None, detail: str | None
) -> tuple[tuple[str, str], ...]:
    """What asks {sync} for a cutout, as names and values."""
    given = [(_ID, identifier)]
    if circle is not None:
        given.append((_CIRCLE, format_circle(circle)))
    if detail is not None:
        given.append((_DETAIL, detail))
    return tuple(given)


def cutout_query(identifier: str, *, circle: Circle | None, detail: str | None) -> str:
    """The same as a query string."""
    given = cutout_parameters(identifier, circle=circle, detail=detail)
    return urlencode(given, quote_via=quote, safe="")


def position_query(circle: Circle) -> str:
    """The query string that asks SIA 2.0 {query} what shows a place."""
    return f"{_POS}={quote(f'{_CIRCLE} {format_circle(circle)}', safe='')}"


_UNRESERVED: Final = (string.ascii_letters + string.digits + "-._~").encode()
"""RFC 3986 §2.3."""

_SHORT: Final = 256
"""Bytes of an identifier whose text is remembered."""

_Raw = bytes | str
"""A value as it came: still urlencoded, or text already."""


def _split(encoded: bytes) -> dict[str, list[_Raw]]:
    """The values that are not empty, under folded names; values are decoded when asked for."""
    if len(encoded) > MAX_PARAMETERS and encoded.count(b"&") >= MAX_PARAMETERS:
        raise UsageError(f"a request has at most {MAX_PARAMETERS} parameters")
    values: dict[str, list[_Raw]] = {}
    for part in encoded.split(b"&"):
        name, _, value = part.partition(b"=")
        if value:
            key = _SPELT.get(name) or _fold(name)
            if key in values:
                values[key].append(value)
            else:
                values[key] = [value]
    return values


def _several(name: str, count: int) -> MultiValuedParamNotSupported:
    return MultiValuedParamNotSupported(f"{name} takes one value, got {count} different ones")


def _fold(name: bytes) -> str:
    decoded = unquote_to_bytes(name.replace(b"+", b" "))
    return decoded.upper().decode("utf-8", "replace")


def _text(name: str, raw: _Raw) -> str:
    """The value, empty where it is blank. Raises UsageError where it is not UTF-8."""
    if name == _ID and len(raw) <= _SHORT and isinstance(raw, bytes):
        return _identifier(raw)
    return _decoded(name, raw)


@lru_cache(maxsize=4096)
def _identifier(raw: bytes) -> str:
    """A short identifier; the same ones come again and again."""
    return _decoded(_ID, raw)


def _decoded(name: str, raw: _Raw) -> str:
    if isinstance(raw, bytes):
        if b"+" in raw:
            raw = raw.replace(b"+", b" ")
        if b"%" in raw:
            # Blanks are most of what is escaped; the rest takes ten times as long.
            raw = raw.replace(b"%20", b" ")
            if b"%" in raw:
                raw = unquote_to_bytes(raw)
        try:
            raw = raw.decode()
        except UnicodeDecodeError:
            raise UsageError(f"{name} is not UTF-8") from None
    return "" if raw.isspace() else raw


def _lenient_text(raw: _Raw) -> str:
    return raw if isinstance(raw, str) else unquote_to_bytes(raw).decode("utf-8", "replace")


def _named(name: str, parse: Callable[[str], _Value], text: str) -> _Value:
    """What *parse* makes of *text*; its refusal says which parameter it was."""
    try:
        return parse(text)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None


def _calib(text: str) -> int:
    """SIA 2.0 §2.1.15, with the levels of ObsCore 1.1."""
    level = _named(_CALIB, parse_integer, text)
    if not 0 <= level <= 4:
        raise UsageError(f"{_CALIB} is a whole number from 0 to 4, got {text[:100]!r}")
    return level


_PLACES: Final[dict[str, Callable[[str], Shape | Stamp | PixelSection]]] = {
    _CIRCLE: parse_circle,
    _POLYGON: parse_polygon,
    _POS: parse_pos,
    # SODA 1.0 has it inside POS only; Aladin Lite sends it as it sends CIRCLE.
    _RANGE: parse_range,
    _MOC: parse_moc,
    _BOX: parse_box,
    _STAMP: parse_stamp,
    _PIXELS: parse_pixels,
}

_SPELT: Final = {
    spelling.encode(): name
    for name in SODA_PARAMETERS | SIA_PARAMETERS
    for spelling in (name, name.lower(), name.title())
}
"""The common spellings of names: looking them up is quicker than folding."""

_BOOLEANS: Final = {"0": False, "1": True, "false": False, "true": True}
