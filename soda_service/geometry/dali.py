"""DALI values: text into values and back.

`parse_` and `format_` are inverse pairs. Any other text raises UsageError, and never anything
else, with a message that says what was wrong and what came. Longitudes outside 0 to 360 are
reduced (DALI 1.2 §3.7); latitudes outside -90 to 90 are refused. Sources: DALI 1.1 §3.3,
DALI 1.2 (PR) §3, SIA 2.0 §2.1, SODA 1.0 §3.3. Boxes and stamps are this service's own, and
image sections are those of cfitsio, without steps.
"""

from __future__ import annotations

import re
from itertools import pairwise
from math import inf, isinf, radians, tan
from typing import TYPE_CHECKING, assert_never

import numpy as np

from soda_service.errors import UsageError

from .frames import PixelSection, Stamp
from .moc import Moc, format_moc
from .shapes import Circle, Interval, Polygon, Range
from .vectors import enclosing_axis, lon_lat, unit_vector

if TYPE_CHECKING:
    from .shapes import PlainShape, Shape
    from .vectors import Vector

POL_STATES = (
    "I", "Q", "U", "V", "RR", "LL", "RL", "LR", "XX", "YY", "XY", "YX", "POLI", "POLA",
)  # fmt: skip
"""The polarization states, in the canonical order of ObsCore 1.1 §B.6.6."""

MAX_VERTICES = 1_000
"""Vertices of a polygon; one with more is refused, for each costs time in every search."""

MAX_STAMP = 1_000_000
"""Pixels of a stamp along one axis."""

_WIDEST_BOX = 170.0
"""Degrees: the corners of a wider one are all but opposite to each other."""

_MAX_TEXT = 512
_MAX_NUMBER_TEXT = 64
_MAX_POLYGON_TEXT = 640_000

_BLANKS = " \t\r\n\f\v"
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_THREE_NUMBERS = re.compile(
    " ".join([r"([+-]?[0-9]{1,20}(?:\.[0-9]{1,30})?)"] * 3)
).fullmatch  # fmt: skip
"""As nearly every client writes them; in one go they are read five times faster."""
_INFINITY = re.compile(r"[+-]?inf", re.IGNORECASE | re.ASCII)
_INTEGER = re.compile(r"[+-]?[0-9]{1,100}")
_PIXEL_NUMBER = re.compile(r"[+-]?[0-9]{1,15}")
_MANY_DIGITS = re.compile(r"[+-]?[0-9]{16,}")
_SAME_POINT = 1e-15
"""Points closer than this, in radians, are one: it is what a double can tell apart."""


def parse_circle(text: str) -> Circle:
    """The circle of `lon lat radius`."""
    found = _THREE_NUMBERS(text)
    circle = circle_of(*map(float, found.groups())) if found is not None else None
    return circle or _circle(text, "CIRCLE", smallest=None)


def circle_of(lon: float, lat: float, radius: float) -> Circle | None:
    """The circle of these degrees; None where no parser would take them for one."""
    if 0.0 <= lon <= 360.0 and -90.0 <= lat <= 90.0 and 0.0 < radius <= 180.0:
        return Circle(lon, lat, radius)
    return None


def parse_polygon(text: str) -> Polygon:
    """The polygon of `lon lat lon lat …`; a repeated closing vertex is dropped."""
    words = _words(text, "POLYGON", longest=_MAX_POLYGON_TEXT)
    if len(words) % 2 or len(words) < 6:
        raise _refusal(
            "POLYGON needs an even number of at least six numbers with blanks between them", text
        )
    if len(words) > 2 * (MAX_VERTICES + 1) or (
        len(words) > 2 * MAX_VERTICES and words[:2] != words[-2:]
    ):
        raise _refusal(f"POLYGON has {len(words) // 2} vertices and may have {MAX_VERTICES}", text)
    numbers = [_finite(word, "POLYGON", text) for word in words]
    vertices = tuple(
        (_longitude(lon), _latitude(lat, "POLYGON", text))
        for lon, lat in zip(numbers[::2], numbers[1::2], strict=True)
    )
    return Polygon(_distinct_vertices(vertices, text))


def parse_range(text: str) -> Range:
    """The range of `lon1 lon2 lat1 lat2`; -Inf and +Inf stand for the ends of the sphere."""
    words = _words(text, "RANGE")
    if len(words) != 4:
        raise _refusal("RANGE needs four numbers", text)
    lon1, lon2, lat1, lat2 = (_number(word, "RANGE", text) for word in words)
    if inf in {lon1, lat1} or -inf in {lon2, lat2}:
        raise _refusal("RANGE is empty: a lower bound is +Inf or an upper bound is -Inf", text)
    south = -90.0 if isinf(lat1) else _latitude(lat1, "RANGE", text)
    north = 90.0 if isinf(lat2) else _latitude(lat2, "RANGE", text)
    if south > north:
        raise _refusal("RANGE has its latitudes in the wrong order", text)
    west = 0.0 if isinf(lon1) else lon1
    east = 360.0 if isinf(lon2) else lon2
    is_all_round = east - west >= 360.0
    west, east = _longitude(west), _longitude(east)
    if is_all_round or east - west >= 360.0:  # the second: reduced, and rounded to a full turn
        return Range(0.0, 360.0, south, north)
    return Range(west, east, south, north)


def parse_pos(text: str, *, allow_point: bool = False) -> PlainShape:
    """The shape of `CIRCLE …`, `RANGE …` or `POLYGON …`, the keyword in any case.

    *allow_point* admits a radius of 0, as SIA 2.0 does.
    """
    if len(text) > _MAX_POLYGON_TEXT:
        raise _refusal(f"POS is longer than {_MAX_POLYGON_TEXT} characters", text)
    keyword, *after = text.split(maxsplit=1)[:2] or [""]
    rest = after[0] if after else ""
    match keyword.upper():
        case "CIRCLE":
            return _circle(rest, "CIRCLE", smallest=0.0 if allow_point else None)
        case "RANGE":
            return parse_range(rest)
        case "POLYGON":
            return parse_polygon(rest)
        case _:
            raise _refusal("POS starts with CIRCLE, RANGE or POLYGON", text)


def parse_box(text: str) -> Polygon:
    """The box of `lon lat width`, or `lon lat width height`: a rectangle with north up.

    Its edges are great circles, its middle lines have the given lengths: in the tangent plane
    of its centre it is a rectangle.
    """
    words = _words(text, "BOX")
    if len(words) not in {3, 4}:
        raise _refusal("BOX needs a position, a width and perhaps a height", text)
    lon, lat, width, height = [_finite(word, "BOX", text) for word in (*words, words[-1])[:4]]
    if not (0 < width <= _WIDEST_BOX and 0 < height <= _WIDEST_BOX):
        raise _refusal(f"the sides of BOX are above 0 and at most {_WIDEST_BOX:g} degrees", text)
    lon, lat = _longitude(lon), _latitude(lat, "BOX", text)
    centre, east = np.array(unit_vector(lon, lat)), np.array(unit_vector(lon + 90, 0))
    east = tan(radians(width / 2)) * east
    # A right angle towards the pole along the meridian of the centre, at a pole too.
    north = tan(radians(height / 2)) * np.array(unit_vector(lon, lat + 90))
    corners = [centre + x * east + y * north for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    lons, lats = lon_lat(np.array(corners).T)
    vertices = tuple(zip(lons.tolist(), lats.tolist(), strict=True))
    return Polygon(_distinct_vertices(vertices, text))


def parse_stamp(text: str) -> Stamp:
    """The stamp of `lon lat n`, or `lon lat nx ny`: so many pixels around a position."""
    words = _words(text, "STAMP")
    if len(words) not in {3, 4}:
        raise _refusal("STAMP needs a position and one or two numbers of pixels", text)
    lon, lat = (_finite(word, "STAMP", text) for word in words[:2])
    if not all(_PIXEL_NUMBER.fullmatch(word) for word in words[2:]):
        raise _refusal("STAMP has whole numbers of pixels", text)
    width, height = int(words[2]), int(words[-1])
    if not (1 <= width <= MAX_STAMP and 1 <= height <= MAX_STAMP):
        raise _refusal(f"STAMP has 1 to {MAX_STAMP} pixels along an axis", text)
    return Stamp(_longitude(lon), _latitude(lat, "STAMP", text), (width, height))


def parse_pixels(text: str) -> PixelSection:
    """The pixels of an image section, `[x1:x2,y1:y2,*]`: 1-based, both ends included.

    `*` is a whole axis and a single number one pixel; the brackets may be left out.
    """
    if len(text) > _MAX_TEXT:
        raise _refusal(f"PIXELS is longer than {_MAX_TEXT} characters", text)
    inside = text.strip(_BLANKS)
    if inside.startswith("[") and inside.endswith("]"):
        inside = inside[1:-1]
    return PixelSection(tuple([_pixel_limits(part, text) for part in inside.split(",")]))


def _pixel_limits(part: str, text: str) -> tuple[int, int] | None:
    first, *others = [word.strip(_BLANKS) for word in part.split(":")]
    if first == "-*":
        raise _refusal("PIXELS cannot turn an axis round", text)
    if first == "*":
        others = ["*", *others]
    if len(others) == 2 and _PIXEL_NUMBER.fullmatch(others[1]):
        if int(others[1]) != 1:
            raise _refusal("PIXELS takes every pixel: steps other than 1 are not offered", text)
        others.pop()
    if first == "*" and len(others) == 1:
        return None
    numbers = [first, *others]
    if any(_MANY_DIGITS.fullmatch(word) for word in numbers):
        raise _refusal("PIXELS has a number that is too large", text)
    if len(numbers) > 2 or not all(_PIXEL_NUMBER.fullmatch(word) for word in numbers):
        raise _refusal("PIXELS is [x1:x2,y1:y2,...] or has * for an axis", text)
    low, high = int(numbers[0]), int(numbers[-1])
    if low > high:
        raise _refusal(f"PIXELS has {low} before {high}, and cannot turn an axis round", text)
    return low - 1, high


def parse_interval(text: str) -> Interval:
    """The interval of two numbers, or of one number that is both its ends."""
    words = _words(text, "an interval")
    if len(words) not in {1, 2}:
        raise _refusal("an interval needs one or two numbers", text)
    lower, upper = (_number(word, "an interval", text) for word in (words[0], words[-1]))
    if lower == inf or upper == -inf:
        raise _refusal("the interval is empty: it starts at +Inf or ends at -Inf", text)
    if lower > upper:
        raise _refusal("the interval has its bounds in the wrong order", text)
    return Interval(lower, upper)


def parse_integer(text: str) -> int:
    """The integer of decimal digits with an optional sign."""
    stripped = text[:_MAX_TEXT].strip(_BLANKS)
    if not _INTEGER.fullmatch(stripped) or len(text) > _MAX_TEXT:
        raise _refusal("not an integer of up to 100 digits", text)
    return int(stripped)


def parse_pol(text: str) -> str:
    """The polarization state, in upper case as ObsCore 1.1 §B.6.6 spells it."""
    state = text[:_MAX_TEXT].strip(_BLANKS).upper()
    if state not in POL_STATES or not text.isascii() or len(text) > _MAX_TEXT:
        raise _refusal(f"POL is one of {' '.join(POL_STATES)}", text)
    return state


def format_circle(circle: Circle) -> str:
    """The text that `parse_circle` reads as *circle*."""
    return _format_numbers(circle.lon, circle.lat, circle.radius)


def format_polygon(polygon: Polygon) -> str:
    """The text that `parse_polygon` reads as *polygon*."""
    return _format_numbers(*(number for vertex in polygon.vertices for number in vertex))


def format_range(sky_range: Range) -> str:
    """The text that `parse_range` reads as *sky_range*."""
    return _format_numbers(sky_range.lon1, sky_range.lon2, sky_range.lat1, sky_range.lat2)


def format_pos(shape: Shape) -> str:
    """The text that `parse_pos` reads as *shape*; a MOC, which POS does not take, is told alike."""
    match shape:
        case Circle():
            return f"CIRCLE {format_circle(shape)}"
        case Polygon():
            return f"POLYGON {format_polygon(shape)}"
        case Range():
            return f"RANGE {format_range(shape)}"
        case Moc():
            return f"MOC {format_moc(shape)}"
        case _:
            assert_never(shape)


def format_stamp(stamp: Stamp) -> str:
    """The text that `parse_stamp` reads as *stamp*."""
    width, height = stamp.naxis
    return f"{_format_numbers(stamp.lon, stamp.lat)} {width} {height}"


def format_pixels(section: PixelSection) -> str:
    """The text that `parse_pixels` reads as *section*."""
    axes = [f"{one[0] + 1}:{one[1]}" if one else "*" for one in section.axes]
    return f"[{','.join(axes)}]"


def format_interval(interval: Interval) -> str:
    """The text that `parse_interval` reads as *interval*."""
    return _format_numbers(interval.lower, interval.upper)


def _circle(text: str, what: str, *, smallest: float | None) -> Circle:
    """A circle whose radius is above 0, or not below *smallest* where that is given."""
    words = _words(text, what)
    if len(words) != 3:
        raise _refusal(f"{what} needs three numbers, with blanks between them", text)
    lon, lat, radius = [_finite(word, what, text) for word in words]
    if radius > 180.0 or radius < 0.0 or (radius == 0.0 and smallest is None):
        # DALI 1.1 §3.3.6 has (0, 180]; SIA 2.0 §2.1.1 does not exclude 0.
        least = "above" if smallest is None else "at least"
        raise _refusal(f"the radius of {what} is not {least} 0 and at most 180 degrees", text)
    return Circle(_longitude(lon), _latitude(lat, what, text), radius)


def _words(text: str, what: str, *, longest: int = _MAX_TEXT) -> list[str]:
    if len(text) > longest:
        raise _refusal(f"{what} is longer than {longest} characters", text)
    if not text.isascii():  # str.split() would take a no-break space for a blank
        raise _refusal(f"{what} holds characters other than ASCII", text)
    return text.split()


def _finite(word: str, what: str, text: str) -> float:
    number = _number(word, what, text)
    if isinf(number):
        raise _refusal(f"{what} takes no infinities", text)
    return number


def _number(word: str, what: str, text: str) -> float:
    if len(word) <= _MAX_NUMBER_TEXT:
        if _NUMBER.fullmatch(word):
            number = float(word)
            if isinf(number):
                raise _refusal(f"{what} holds a number beyond a double", text)
            return number
        if _INFINITY.fullmatch(word):
            return -inf if word[0] == "-" else inf
    raise _refusal(f"{what} holds {_excerpt(word)}, which is not a number", text)


def _longitude(lon: float) -> float:
    return lon if 0.0 <= lon <= 360.0 else lon % 360.0


def _latitude(lat: float, what: str, text: str) -> float:
    if not -90.0 <= lat <= 90.0:
        raise _refusal(f"{what} has a latitude outside -90 to 90", text)
    return lat


def _distinct_vertices(
    vertices: tuple[tuple[float, float], ...], text: str
) -> tuple[tuple[float, float], ...]:
    """*vertices* without repeated neighbours, if they make a polygon."""
    kept: list[tuple[float, float]] = []
    points: list[Vector] = []
    for vertex in vertices:
        point = unit_vector(*vertex)
        if not points or not _are_one(points[-1], point):
            kept.append(vertex)
            points.append(point)
    while len(points) > 1 and _are_one(points[0], points[-1]):
        kept.pop()
        points.pop()
    if len(set(points)) < 3:
        raise _refusal("POLYGON needs three different vertices", text)
    if any(_are_one(a, (-b[0], -b[1], -b[2])) for a, b in pairwise([*points, points[0]])):
        raise _refusal("POLYGON has an edge between opposite points of the sphere", text)
    if not _fit_in_hemisphere(points):
        raise _refusal("POLYGON does not fit in an open hemisphere", text)
    return tuple(kept)


def _fit_in_hemisphere(points: list[Vector]) -> bool:
    x, y, z = map(sum, zip(*points, strict=True))
    least = 1e-6 * len(points)  # an axis this short decides nothing
    if all(x * a + y * b + z * c > least for a, b, c in points):
        return True
    return enclosing_axis(np.array(points).T) is not None


def _are_one(a: Vector, b: Vector) -> bool:
    (x, y, z), (u, v, w) = a, b
    return abs(x - u) <= _SAME_POINT and abs(y - v) <= _SAME_POINT and abs(z - w) <= _SAME_POINT


def _format_numbers(*numbers: float) -> str:
    return " ".join(map(_format_number, numbers))


def _format_number(number: float) -> str:
    if isinf(number):
        return "+Inf" if number > 0 else "-Inf"
    return repr(float(number))


def _refusal(reason: str, text: str) -> UsageError:
    return UsageError(f"{reason}, got {_excerpt(text)}")


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:100] + "…")
