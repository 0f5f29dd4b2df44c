"""What the parameters of a request say; no other module knows their names.

Names are compared without regard to ASCII case (DALI 1.1 §3.1). A blank value is an absent one,
and values that are repeated letter for letter count once. Whatever text comes, the outcome is a
value or a UsageError.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

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
    circle_of,
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
from soda_service.web.mediatypes import (
    fits_type,
    is_plain_text,
    is_text_table,
    links_type,
    table_type,
)
from soda_service.web.urlencoded import lenient_text, spellings, split, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from soda_service.discovery.sia2 import Form
    from soda_service.geometry.shapes import Interval, Shape

ID: Final = "ID"
CIRCLE: Final = "CIRCLE"
POLYGON: Final = "POLYGON"
POS: Final = "POS"
RANGE: Final = "RANGE"
BOX: Final = "BOX"
MOC: Final = "MOC"
STAMP: Final = "STAMP"
PIXELS: Final = "PIXELS"
BAND: Final = "BAND"
TIME: Final = "TIME"
POL: Final = "POL"
DETAIL: Final = "CUTOUTDETAIL"
HDU: Final = "HDU"
EDGE: Final = "EDGE"
FILL: Final = "FILL"
MASK: Final = "MASK"
HEADERONLY: Final = "HEADERONLY"
PROOF: Final = "PROOF"
COMPRESS: Final = "COMPRESS"
CHECKSUM: Final = "CHECKSUM"
CALIB: Final = "CALIB"
FORMAT: Final = "FORMAT"
RESPONSEFORMAT: Final = "RESPONSEFORMAT"
MAXREC: Final = "MAXREC"
RUNID: Final = "RUNID"

INTERVALS: Final = (BAND, TIME, "FOV", "SPATRES", "SPECRP", "EXPTIME", "TIMERES")
TEXTS: Final = (
    ID, "COLLECTION", "FACILITY", "INSTRUMENT", "DPTYPE", "DPSUBTYPE", "TARGET", FORMAT,
)  # fmt: skip
"""DPSUBTYPE is none of the standard's: Rubin's notebooks send it."""

_TAKEN_EVERYWHERE = frozenset({RUNID, "REQUEST", "VERSION"})
"""What DALI lets a client send to any service, and what versions before the standards had."""

PLAIN_PARAMETERS: Final = _TAKEN_EVERYWHERE | {ID, CIRCLE, POLYGON, POS, RANGE, BOX, MOC}
"""Those of the common request to SODA, which is understood without looking for any other."""

FORM_PARAMETERS: Final = frozenset({EDGE, FILL, MASK, HEADERONLY, CHECKSUM, PROOF, COMPRESS})
SODA_PARAMETERS: Final = PLAIN_PARAMETERS | FORM_PARAMETERS | {
    STAMP, PIXELS, HDU, BAND, TIME, POL, DETAIL, FORMAT, RESPONSEFORMAT,
}  # fmt: skip
SIA_PARAMETERS: Final = _TAKEN_EVERYWHERE | {
    *INTERVALS, *TEXTS, POS, POL, CALIB, MAXREC, RESPONSEFORMAT,
}  # fmt: skip
LINKS_PARAMETERS: Final = _TAKEN_EVERYWHERE | {ID, RESPONSEFORMAT}

_SPELT: Final = spellings(SODA_PARAMETERS | SIA_PARAMETERS)

MAX_SHAPES: Final = 1_000
"""Shapes of one search; one with more is refused, for each is compared with every footprint."""
MAX_ALL_VERTICES: Final = 10_000
"""Vertices of the polygons of one search together."""

_ECHOED: Final = 100
_ECHOED_LENGTH: Final = 500

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


def ordinary_cutout(encoded: bytes) -> CutoutParams | None:
    """What `Params.cutout` makes of an identifier and a circle, spelt as nearly all clients do.

    It takes a third of the time. None where there is anything else, or anything wrong.
    """
    identifier, _, numbers = encoded.partition(b"&CIRCLE=")
    blank = _ORDINARY_BLANKS.get(numbers.translate(None, _OF_NUMBERS))
    if (
        blank is None
        or len(numbers) > _ORDINARY_LENGTH
        or identifier[:3] != b"ID="
        or b"&" in identifier
    ):
        return None
    try:
        circle = circle_of(*map(float, numbers.split(blank)))
    except (ValueError, TypeError):
        return None  # no number, or not three of them
    text = text_of(ID, identifier[3:], is_common=True)
    return CutoutParams(CutoutRequest(text, circle), None) if circle and text else None


class Params:
    """The parameters of one request under their folded names."""

    __slots__ = ("_values", "size")

    def __init__(self, encoded: bytes, parts: Iterable[tuple[str, str]] = ()) -> None:
        """From what is urlencoded, and from the parts of a multipart body."""
        self.size = len(encoded)
        """Of what came, about."""
        self._values = split(encoded, _SPELT)
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
        values = self._values.get(RUNID)
        if not values:
            return None
        names = {lenient_text(value) for value in values}
        if len(names) > 1:
            raise _several(RUNID, len(names))
        return names.pop()[:64]

    @property
    def wants_text_table(self) -> bool:
        """Whether the answer was asked for as a table of text: its errors are text too."""
        values = self._values.get(RESPONSEFORMAT, ())
        return any(is_text_table(lenient_text(value)) for value in values)

    def cutout(self) -> CutoutParams:
        """What SODA 1.0 §3 makes of them, and the parameters of this service's own."""
        values = self._values
        # Looking once for all that is rarely there keeps the common request quick.
        is_plain = values.keys() <= PLAIN_PARAMETERS
        if not is_plain and not values.keys() <= SODA_PARAMETERS:
            self._note_unknown(SODA_PARAMETERS)
        identifier = self._one(ID)
        if identifier is None:
            raise UsageError(
                f"{ID} is missing: it says which dataset to cut, "
                f"{CIRCLE}, {POLYGON} or {POS} what of it"
            )
        place = self._place()
        if is_plain and not isinstance(place, (Stamp, PixelSection)):
            return CutoutParams(CutoutRequest(identifier, place), None)
        form = PLAIN if values.keys().isdisjoint(FORM_PARAMETERS) else self._form()
        request = CutoutRequest(
            identifier=identifier,
            shape=None if isinstance(place, (Stamp, PixelSection)) else place,
            band=self._interval(BAND),
            time=self._interval(TIME),
            pol=self._pol(),
            detail=self._one(DETAIL),
            stamp=place if isinstance(place, Stamp) else None,
            section=place if isinstance(place, PixelSection) else None,
            hdus=tuple([_named(HDU, parse_hdu_name, text) for text in self._all(HDU)]),
            form=form,
        )
        formats = FORMAT in values or RESPONSEFORMAT in values
        return CutoutParams(request, self._fits_format(form) if formats else None)

    def _form(self) -> CutoutForm:
        """How the answer is given, where anything is said of it."""
        edge, packing = self._one(EDGE), self._one(COMPRESS)
        fill = tuple([_named(FILL, parse_fill, text) for text in self._all(FILL)])
        form = CutoutForm(
            checksums=self._boolean(CHECKSUM),
            edge=Edge.TRIM if edge is None else _named(EDGE, parse_edge, edge),
            fill=fill or (BLANK,),
            masked=self._boolean(MASK),
            header_only=self._boolean(HEADERONLY),
            proof=self._boolean(PROOF) if self._one(PROOF) is not None else None,
            packing=Packing.NONE if packing is None else _named(COMPRESS, parse_packing, packing),
        )
        return PLAIN if form == PLAIN else form

    def query(self) -> QueryParams:
        """What SIA 2.0 §2.1 makes of them."""
        self._note_unknown(SIA_PARAMETERS)
        form, media_type = self._table_format()
        bands, times, fov, spatres, specrp, exptime, timeres = map(self._intervals, INTERVALS)
        ids, collections, facilities, instruments, dptypes, dpsubtypes, targets, formats = map(
            self._all, TEXTS
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
            calibs=tuple(map(_calib, self._all(CALIB))),
            targets=targets,
            formats=formats,
        )
        return QueryParams(query, self._maxrec(), form, media_type, self._echo(SIA_PARAMETERS))

    def links(self) -> LinksParams:
        """What DataLink 1.1 §2.1 makes of them."""
        self._note_unknown(LINKS_PARAMETERS)
        return LinksParams(self._all(ID), self._links_format())

    def _echo(self, known: frozenset[str]) -> tuple[tuple[str, str], ...]:
        names = [name for name in self._values if name in known]
        said = ((name, text[:_ECHOED_LENGTH]) for name in names for text in self._all(name))
        return tuple(islice(said, _ECHOED))

    def _note_unknown(self, known: frozenset[str]) -> None:
        """No standard asks to refuse what it does not name; the operator may want to know."""
        unknown = sorted(self._values.keys() - known)
        if unknown:
            names = ", ".join(ascii(name[:40]) for name in unknown[:10])
            plural = "s" if len(unknown) > 1 else ""
            _log.info("%d unknown parameter%s ignored: %s", len(unknown), plural, names)

    def _all(self, name: str) -> tuple[str, ...]:
        """The different values of *name*."""
        values = self._values.get(name)
        if values is None:
            return ()
        if len(values) == 1:
            text = text_of(name, values[0], is_common=name == ID)
            return (text,) if text else ()
        return tuple(dict.fromkeys(text for value in values if (text := text_of(name, value))))

    def _one(self, name: str) -> str | None:
        """The value of *name*; raises MultiValuedParamNotSupported where there are several."""
        values = self._values.get(name)
        if values is None:
            return None
        if len(values) == 1:
            return text_of(name, values[0], is_common=name == ID) or None
        texts = self._all(name)
        if name == ID:
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
        texts = self._all(POS)
        if len(texts) > MAX_SHAPES:
            raise UsageError(f"{POS} came with {len(texts)} values and may have {MAX_SHAPES}")
        shapes = tuple(parse_pos(text, allow_point=True) for text in texts)
        vertices = sum(len(one.vertices) for one in shapes if isinstance(one, Polygon))
        if vertices > MAX_ALL_VERTICES:
            raise UsageError(
                f"the polygons of {POS} have {vertices} vertices together "
                f"and may have {MAX_ALL_VERTICES}"
            )
        return shapes

    def _interval(self, name: str) -> Interval | None:
        text = self._one(name)
        return None if text is None else _named(name, parse_interval, text)

    def _intervals(self, name: str) -> tuple[Interval, ...]:
        return tuple(_named(name, parse_interval, text) for text in self._all(name))

    def _pol(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(parse_pol, self._all(POL))))

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
        for name in (FORMAT, RESPONSEFORMAT):
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
        text = self._one(RESPONSEFORMAT)
        if text is None:
            return None
        found = parse(text)
        if found is None:
            raise UsageError(f"{RESPONSEFORMAT} is {expected}, got {text[:100]!r}")
        return found

    def _maxrec(self) -> int | None:
        """DALI 1.1 §3.4.4."""
        text = self._one(MAXREC)
        if text is None:
            return None
        number = _named(MAXREC, parse_integer, text)
        if number < 0:
            raise UsageError(f"{MAXREC} is not negative, got {text[:100]!r}")
        return number


def _several(name: str, count: int) -> MultiValuedParamNotSupported:
    return MultiValuedParamNotSupported(f"{name} takes one value, got {count} different ones")


def _named(name: str, parse: Callable[[str], _Value], text: str) -> _Value:
    """What *parse* makes of *text*; its refusal says which parameter it was."""
    try:
        return parse(text)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None


def _calib(text: str) -> int:
    """SIA 2.0 §2.1.15, with the levels of ObsCore 1.1."""
    level = _named(CALIB, parse_integer, text)
    if not 0 <= level <= 4:
        raise UsageError(f"{CALIB} is a whole number from 0 to 4, got {text[:100]!r}")
    return level


_PLACES: Final[dict[str, Callable[[str], Shape | Stamp | PixelSection]]] = {
    CIRCLE: parse_circle,
    POLYGON: parse_polygon,
    POS: parse_pos,
    # SODA 1.0 has it inside POS only; Aladin Lite sends it as it sends CIRCLE.
    RANGE: parse_range,
    MOC: parse_moc,
    BOX: parse_box,
    STAMP: parse_stamp,
    PIXELS: parse_pixels,
}

_OF_NUMBERS: Final = b"-.0123456789e"
_ORDINARY_LENGTH: Final = 64
"""Of three numbers; a longer one is for the parser to refuse."""
_ORDINARY_BLANKS: Final = {b"++": b"+", b"%%": b"%20"}
"""What is left of three numbers where those bytes are taken away, and what stands between them."""

_BOOLEANS: Final = {"0": False, "1": True, "false": False, "true": True}
