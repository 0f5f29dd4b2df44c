"""DALI values: what is read, what is refused, and that writing and reading are inverse."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from soda_service.errors import UsageError
from soda_service.geometry import dali
from soda_service.geometry.frames import PixelSection, Stamp
from soda_service.geometry.shapes import Circle, Interval, Polygon, Range
from soda_service.geometry.vectors import unit_vectors

if TYPE_CHECKING:
    from collections.abc import Callable

    from soda_service.geometry.shapes import Shape

PARSERS: list[Callable[[str], object]] = [
    dali.parse_circle,
    dali.parse_polygon,
    dali.parse_range,
    dali.parse_pos,
    dali.parse_interval,
    dali.parse_integer,
    dali.parse_pol,
    dali.parse_box,
    dali.parse_stamp,
    dali.parse_pixels,
]

words = st.one_of(
    st.floats().map(repr),
    st.integers().map(str),
    st.sampled_from(
        [
            "CIRCLE",
            "range",
            "Polygon",
            "-Inf",
            "+INF",
            "inf",
            "nan",
            "1_0",
            "0x10",
            "1e999",
            "\u0663",
            "[1:2,3:4]",
            "*",
            "5:9:1",
        ]
    ),
    st.text(max_size=6),
)
texts = st.one_of(
    st.text(max_size=60),
    st.lists(words, max_size=12).map(" ".join),
    st.builds(
        lambda keyword, numbers: " ".join([keyword, *map(repr, numbers)]),
        st.sampled_from(["CIRCLE", "RANGE", "POLYGON"]),
        st.lists(st.floats(-400, 400), min_size=2, max_size=12),
    ),
)
longitudes = st.floats(0.0, 360.0)
latitudes = st.floats(-90.0, 90.0)


@pytest.mark.parametrize("parse", PARSERS)
@given(text=texts)
def test_any_text_is_a_value_or_a_usage_error(parse: Callable[[str], object], text: str) -> None:
    try:
        parse(text)
    except UsageError as error:
        message = str(error)
    else:
        return
    assert message
    assert len(message) < 700


@given(text=texts)
def test_what_was_read_is_written_so_that_it_reads_the_same(text: str) -> None:
    pairs: tuple[tuple[Callable[[str], Any], Callable[[Any], str]], ...] = (
        (dali.parse_circle, dali.format_circle),
        (dali.parse_polygon, dali.format_polygon),
        (dali.parse_range, dali.format_range),
        (dali.parse_pos, dali.format_pos),
        (dali.parse_interval, dali.format_interval),
        (dali.parse_stamp, dali.format_stamp),
        (dali.parse_pixels, dali.format_pixels),
    )
    for parse, write in pairs:
        try:
            value = parse(text)
        except UsageError:
            continue
        assert parse(write(value)) == value


@given(lon=longitudes, lat=latitudes, radius=st.floats(0.0, 180.0, exclude_min=True))
def test_every_circle_survives(lon: float, lat: float, radius: float) -> None:
    circle = Circle(lon, lat, radius)
    assert dali.parse_circle(dali.format_circle(circle)) == circle
    assert dali.parse_pos(dali.format_pos(circle)) == circle


@given(bounds=st.lists(st.floats(allow_nan=False), min_size=2, max_size=2).map(sorted))
def test_every_interval_survives(bounds: list[float]) -> None:
    interval = Interval(*bounds)
    if interval.lower == inf or interval.upper == -inf:
        return
    assert dali.parse_interval(dali.format_interval(interval)) == interval


@given(numbers=st.tuples(*[st.floats(-800, 800)] * 2, latitudes, latitudes))
def test_every_range_that_is_read_is_normal_and_survives(
    numbers: tuple[float, float, float, float],
) -> None:
    lon1, lon2, lat1, lat2 = numbers
    lat1, lat2 = sorted((lat1, lat2))
    read = dali.parse_range(f"{lon1!r} {lon2!r} {lat1!r} {lat2!r}")
    assert 0.0 <= read.lon1 <= 360.0
    assert 0.0 <= read.lon2 <= 360.0
    assert (read.lat1, read.lat2) == (lat1, lat2)
    assert dali.parse_range(dali.format_range(read)) == read


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("CIRCLE 12 34 0.5", Circle(12.0, 34.0, 0.5)),
        ("circle\t+12. 34e0\n.5", Circle(12.0, 34.0, 0.5)),
        ("  Circle -10 34 5", Circle(350.0, 34.0, 5.0)),
        ("CIRCLE 360 -90 180", Circle(360.0, -90.0, 180.0)),
        ("RANGE 12 18 34 36", Range(12.0, 18.0, 34.0, 36.0)),
        ("RANGE 0 360 89 +Inf", Range(0.0, 360.0, 89.0, 90.0)),
        ("RANGE -Inf +Inf -inf INF", Range(0.0, 360.0, -90.0, 90.0)),
        ("RANGE 359 1 -1 1", Range(359.0, 1.0, -1.0, 1.0)),
        ("RANGE -1 1 -1 1", Range(359.0, 1.0, -1.0, 1.0)),
        ("RANGE 350 370 0 1", Range(350.0, 10.0, 0.0, 1.0)),
        ("RANGE -180 180 0 1", Range(0.0, 360.0, 0.0, 1.0)),
        ("RANGE 10 10 0 1", Range(10.0, 10.0, 0.0, 1.0)),
        ("RANGE 270 +Inf 0 1", Range(270.0, 360.0, 0.0, 1.0)),
        ("RANGE -Inf 90 0 1", Range(0.0, 90.0, 0.0, 1.0)),
        (
            "POLYGON 12 34 14 34 14 36 12 36",
            Polygon(((12.0, 34.0), (14.0, 34.0), (14.0, 36.0), (12.0, 36.0))),
        ),
        (
            "POLYGON 12 34 14 34 14 34 14 36 12 34",
            Polygon(((12.0, 34.0), (14.0, 34.0), (14.0, 36.0))),
        ),
        (
            "POLYGON 0 80 120 80 240 80 360 80",
            Polygon(((0.0, 80.0), (120.0, 80.0), (240.0, 80.0))),
        ),
    ],
)
def test_positions_that_are_read(text: str, shape: Shape) -> None:
    assert dali.parse_pos(text) == shape


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "CIRCLE, RANGE or POLYGON"),
        ("BOX 1 2 3 4", "CIRCLE, RANGE or POLYGON"),
        ("CIRCLE", "three numbers"),
        ("CIRCLE 1 2", "three numbers"),
        ("CIRCLE 1 2 3 4", "three numbers"),
        ("CIRCLE 1,2,3", "three numbers"),
        ("CIRCLE 1 2 x", "'x'"),
        ("CIRCLE 1_0 2 3", "'1_0'"),
        ("CIRCLE 1 2 infinity", "'infinity'"),
        ("CIRCLE 1 2 NaN", "'NaN'"),
        ("CIRCLE 1 2 Inf", "no infinities"),
        ("CIRCLE 1 2 1e400", "beyond a double"),
        ("CIRCLE 1 91 1", "latitude"),
        ("CIRCLE 1 2 0", "radius"),
        ("CIRCLE 1 2 -1", "radius"),
        ("CIRCLE 1 2 180.1", "radius"),
        ("CIRCLE \u0661 2 3", "ASCII"),
        ("CIRCLE 1\u00a02 3", "ASCII"),
        ("RANGE 1 2 3", "four numbers"),
        ("RANGE 1 2 4 3", "wrong order"),
        ("RANGE Inf 2 3 4", "empty"),
        ("RANGE 1 2 3 -Inf", "empty"),
        ("POLYGON 1 2 3 4", "six numbers"),
        ("POLYGON 1 2 3 4 5 6 7", "even number"),
        ("POLYGON 1 2 1 2 3 4 3 4", "three different"),
        ("POLYGON 1 2 3 4 1 2 3 4", "three different"),
        ("POLYGON 0 90 10 90 20 90", "three different"),
        ("POLYGON 0 0 180 0 90 45", "opposite"),
        ("POLYGON 0 0 120 0 240 0", "hemisphere"),
        ("POLYGON 0 -1 90 1 180 -1 270 1", "hemisphere"),
    ],
)
def test_positions_that_are_refused(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        dali.parse_pos(text)


def test_a_polygon_that_all_but_fills_a_hemisphere_is_read() -> None:
    assert len(dali.parse_polygon("0 1e-6 120 1e-6 240 1e-6").vertices) == 3


def test_a_radius_of_zero_is_a_point_where_that_is_allowed() -> None:
    assert dali.parse_pos("CIRCLE 1 2 0", allow_point=True) == Circle(1.0, 2.0, 0.0)
    with pytest.raises(UsageError, match="not at least 0 and at most 180"):
        dali.parse_pos("CIRCLE 1 2 -1", allow_point=True)
    with pytest.raises(UsageError, match="not above 0 and at most 180"):
        dali.parse_pos("CIRCLE 1 2 0")


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("1 2", Interval(1.0, 2.0)),
        ("1", Interval(1.0, 1.0)),
        ("-Inf 2e-7", Interval(-inf, 2e-7)),
        ("1 +inf", Interval(1.0, inf)),
        ("1  INF", Interval(1.0, inf)),  # a plus that the query string made a blank
        ("-Inf Inf", Interval(-inf, inf)),
    ],
)
def test_intervals_that_are_read(text: str, interval: Interval) -> None:
    assert dali.parse_interval(text) == interval


@pytest.mark.parametrize("text", ["", "2 1", "1 2 3", "nan", "1 nan", "Inf", "-Inf -Inf", "a"])
def test_intervals_that_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        dali.parse_interval(text)


def test_integers_and_polarizations() -> None:
    assert dali.parse_integer(" -17 ") == -17
    assert dali.parse_integer("9" * 100) == 10**100 - 1
    assert dali.parse_pol(" poli") == "POLI"
    for text in ("", "1.0", "1e3", "9" * 101, "0x1", "\u0661"):
        with pytest.raises(UsageError):
            dali.parse_integer(text)
    for text in ("", "J", "I Q", "\u0131"):
        with pytest.raises(UsageError):
            dali.parse_pol(text)


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("text", ["1" * 1_000_000, "1 " * 500_000, "CIRCLE " + "1" * 1_000_000])
def test_a_megabyte_is_refused_with_a_short_message(
    parse: Callable[[str], object], text: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert len(str(caught.value)) < 400


def test_the_largest_polygon_is_read_and_a_larger_one_is_not() -> None:
    text = " ".join(f"{turn * 0.36:.2f} {40 + turn % 2}" for turn in range(1_000))
    assert len(dali.parse_polygon(text).vertices) == 1_000
    assert len(dali.parse_polygon(text + " 0.00 40").vertices) == 1_000
    with pytest.raises(UsageError, match=r"1001 vertices .* 1000"):
        dali.parse_polygon(text + " 1 2")


@given(
    longitudes, st.floats(-90.0, 90.0), st.floats(1e-6, 170.0), st.floats(1e-6, 170.0)
)  # fmt: skip
def test_a_box_is_a_rectangle_of_the_tangent_plane(
    lon: float, lat: float, width: float, height: float
) -> None:
    """North up at every place, the poles and the meridian of 0 among them."""
    polygon = dali.parse_box(f"{lon!r} {lat!r} {width!r} {height!r}")
    corners = unit_vectors(*zip(*polygon.vertices, strict=True))
    (centre,) = unit_vectors(lon, lat).T
    turn, tilt = np.radians([lon, lat])
    east = np.array([-np.sin(turn), np.cos(turn), 0.0])
    north = np.array([-np.sin(tilt) * np.cos(turn), -np.sin(tilt) * np.sin(turn), np.cos(tilt)])
    x, y = (east @ corners) / (centre @ corners), (north @ corners) / (centre @ corners)
    half = np.tan(np.radians([width, height]) / 2)
    np.testing.assert_allclose(x, half[0] * np.array([-1, 1, 1, -1]), 1e-9, 1e-13)
    np.testing.assert_allclose(y, half[1] * np.array([-1, -1, 1, 1]), 1e-9, 1e-13)


def test_boxes() -> None:
    """A width alone is the height, too."""
    assert dali.parse_box("150 2 0.1") == dali.parse_box("150 2 0.1 0.1")
    assert dali.parse_box("-210 2 0.1") == dali.parse_box("150 2 0.1 0.1")
    for text in ("150 2", "150 2 0", "150 2 -1 1", "150 2 1 171", "150 91 1", "1 2 3 4 5",
                 "1 2 inf", "1 2 nan", "1 2 1e-20"):  # fmt: skip
        with pytest.raises(UsageError):
            dali.parse_box(text)


def test_stamps() -> None:
    """Whole numbers of pixels, the first along the first axis."""
    assert dali.parse_stamp("150.1 -2 64") == Stamp(150.1, -2.0, (64, 64))
    assert dali.parse_stamp(" -10 +2.5  64 48 ") == Stamp(350.0, 2.5, (64, 48))
    for text in ("150 2", "150 2 0", "150 2 5 -1", "150 2 5.0", "1 2 3 4 5", "1 95 3", "1 2 1e3",
                 "1 2 1000001", "1 2 9999999999999999999"):  # fmt: skip
        with pytest.raises(UsageError, match="STAMP"):
            dali.parse_stamp(text)


@pytest.mark.parametrize(
    ("text", "axes"),
    [
        ("[1:10,3:4]", ((0, 10), (2, 4))),
        ("[*,3:3]", (None, (2, 3))),
        (" [ 5 , * ] ", ((4, 5), None)),
        ("-3:0", ((-4, 0),)),
        ("[1:10:1,*:1]", ((0, 10), None)),
        ("*", (None,)),
    ],
)
def test_sections_that_are_read(text: str, axes: Any) -> None:
    """From 1 and closed becomes from 0 and half-open."""
    assert dali.parse_pixels(text) == PixelSection(axes)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[10:1]", "10 before 1"), ("[1:10:2]", "steps"), ("[*:-1]", "steps"), ("[-*]", "round"),
        ("[]", "is"), ("", "is"), ("[1:2", "is"), ("1:2:3:4", "is"), ("[a:b]", "is"),
        ("[1.5:2]", "is"), ("[1:2,]", "is"), ("1:*", "is"), ("[1 2:3]", "is"),
        ("[1:9999999999999999]", "too large"), ("[-99999999999999999999:1]", "too large"),
    ],
)  # fmt: skip
def test_sections_that_are_refused(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"PIXELS .*{reason}"):
        dali.parse_pixels(text)
