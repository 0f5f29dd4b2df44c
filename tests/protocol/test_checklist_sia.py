"""SIA 2.0, line by line, over the wire; a test is named after the line that it stands for.

What a query should find is worked out here from all rows of the service, one by one.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from support.documents import (
    assert_valid_votable,
    descriptor,
    elements,
    input_params,
    parse_xml,
    stated,
    strings,
)
from support.tables import Row, fields_of, number, results_of, rows_of, status_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2
    from support.wire import Wire

    Predicate = Callable[[Row], bool]

QUERY = "sia/query"
VOTABLE = "application/x-votable+xml"
LINKS = "application/x-votable+xml;content=datalink"
FIELD = "CIRCLE 53.124 -27.74 0.01"
FAULTS = r"(UsageFault|TransientFault|FatalFault|DefaultFault)(:|$)"

PARAMETERS = (
    "POS", "BAND", "TIME", "POL", "FOV", "SPATRES", "SPECRP", "EXPTIME", "TIMERES", "ID",
    "COLLECTION", "FACILITY", "INSTRUMENT", "DPTYPE", "CALIB", "TARGET", "FORMAT", "MAXREC",
    "RESPONSEFORMAT",
)  # fmt: skip


@pytest.fixture(scope="module", name="archive")
def _archive(wire: Wire) -> list[Row]:
    """Every row of the service."""
    rows = rows_of(wire.get(QUERY).content)
    assert len(rows) == 38
    return rows


def found(answer: httpx2.Response) -> list[str]:
    """The identifiers in an answer, sorted; each once."""
    assert answer.status_code == 200, answer.text
    assert status_of(answer.content)[0] == "OK"
    names = sorted(row["obs_publisher_did"] for row in rows_of(answer.content))
    assert len(names) == len(set(names))
    return names


def expected(archive: list[Row], is_match: Predicate) -> list[str]:
    """The identifiers of the rows that match."""
    return sorted(row["obs_publisher_did"] for row in archive if is_match(row))


def fault(answer: httpx2.Response) -> str:
    """The message of an answer that refuses (SIA 2.0 §3.2, DALI 1.1 §4.4.2)."""
    assert answer.status_code == 400
    assert answer.headers["content-type"] == VOTABLE
    assert_valid_votable(answer.content)
    status, message = status_of(answer.content)
    assert status == "ERROR"
    assert message.startswith("UsageFault: ")
    assert not results_of(answer.content).findall("{*}TABLE")
    return message


def meets(lower: str, upper: str, low: float, high: float) -> Predicate:
    """That the columns' interval and [low, high] have a point in common; a null has none."""
    return lambda row: number(row[lower]) <= high and number(row[upper]) >= low


# ------------------------------------------------------------------ resources


def test_sia_001_query_is_a_sibling_of_capabilities(wire: Wire) -> None:
    """Clients take the last segment away and find both VOSI resources there."""
    for name in ("capabilities", "availability"):
        assert wire.get(QUERY.rpartition("/")[0] + "/" + name).status_code == 200


def test_sia_002_get_post_and_multipart_are_the_same(wire: Wire) -> None:
    """A form's fields count wherever they stand."""
    asked = {"POS": FIELD, "COLLECTION": ["visits", "coadds"], "MAXREC": 100}
    answers = [
        wire.get(QUERY, **asked),
        wire.post(QUERY, **asked),
        wire.post_parts(QUERY, **asked),
    ]
    assert len({answer.content for answer in answers}) == 1
    assert len(found(answers[0])) == 14
    scattered = wire.post_parts(QUERY + "?MAXREC=100&COLLECTION=coadds", POS=FIELD,
                                COLLECTION="visits")  # fmt: skip
    assert found(scattered) == found(answers[0])


def test_sia_004_the_capability_is_declared(wire: Wire) -> None:
    """Exactly this standardID, vs:ParamHTTP, role std, version 2.0, and the URL that answers."""
    for path in ("sia/capabilities", "capabilities"):
        root = parse_xml(wire.get(path).content)
        (capability,) = elements(root, "capability[@standardID='ivo://ivoa.net/std/SIA#query-2.0']")
        (interface,) = elements(capability, "interface")
        assert interface.get("{http://www.w3.org/2001/XMLSchema-instance}type") == "vs:ParamHTTP"
        assert (interface.get("role"), interface.get("version")) == ("std", "2.0")
        (url,) = elements(interface, "accessURL")
        assert url.text == wire.base + QUERY
        assert url.get("use") in {None, "base"}


# ------------------------------------------------------------------ parameters


def test_sia_005_every_parameter_constrains(wire: Wire) -> None:
    """None of the nineteen is ignored: each has a value that finds nothing, or another answer."""
    nothing = {
        "POS": "CIRCLE 10 10 1", "BAND": "1e-12", "TIME": "1", "POL": "RR", "FOV": "170 175",
        "SPATRES": "1e6", "SPECRP": "1e9", "EXPTIME": "1e9", "TIMERES": "1",
        "ID": "ivo://no.such/x?y", "COLLECTION": "none", "FACILITY": "none", "INSTRUMENT": "none",
        "DPTYPE": "spectrum", "CALIB": "0", "TARGET": "none", "FORMAT": "image/png",
    }  # fmt: skip
    for name, value in nothing.items():
        assert found(wire.get(QUERY, **{name: value})) == [], name
    assert len(rows_of(wire.get(QUERY, MAXREC=2).content)) == 2
    assert wire.get(QUERY, RESPONSEFORMAT="text/xml").headers["content-type"] == "text/xml"
    assert {*nothing, "MAXREC", "RESPONSEFORMAT"} == set(PARAMETERS)


def test_sia_006_no_parameters_is_everything(wire: Wire, archive: list[Row]) -> None:
    """Also where parameters are there but blank, as Aladin sends them."""
    everything = expected(archive, anything)
    assert found(wire.get(QUERY)) == everything
    blank = dict.fromkeys(PARAMETERS, "")
    assert found(wire.get(QUERY, **blank)) == everything
    assert found(wire.post(QUERY, **blank)) == everything
    assert found(wire.post_parts(QUERY, **blank)) == everything
    assert found(wire.get(QUERY, POS="  ", TIME="\t")) == everything


def is_exactly(column: str, value: str) -> Predicate:
    """That the column holds these very letters."""
    return lambda row: row[column] == value


def has_state(state: str) -> Predicate:
    """That this polarization state is among the row's."""
    return lambda row: f"/{state}/" in row["pol_states"]


def anything(_row: Row) -> bool:
    """Every row."""
    return True


REPEATED: list[tuple[dict[str, object], Predicate]] = [
    (
        {"COLLECTION": ["visits", "radio"]},
        lambda row: row["obs_collection"] in {"visits", "radio"},
    ),
    ({"CALIB": [2, 3, 1]}, lambda row: row["calib_level"] in {"1", "2", "3"}),
    (
        {"BAND": ["2.1e-6", "0.2 0.3"]},
        lambda row: (
            meets("em_min", "em_max", 2.1e-6, 2.1e-6)(row)
            or meets("em_min", "em_max", 0.2, 0.3)(row)
        ),
    ),
    (
        {"TIME": ["-Inf 52000", "60668 +Inf"], "COLLECTION": ["infrared", "visits"]},
        lambda row: (
            row["obs_collection"] in {"infrared", "visits"}
            and (
                meets("t_min", "t_max", -math.inf, 52000)(row)
                or meets("t_min", "t_max", 60668, math.inf)(row)
            )
        ),
    ),
    (
        {"EXPTIME": ["30", "2000 3000"], "FACILITY": ["Laputa Space Telescope"]},
        lambda row: (
            row["facility_name"] == "Laputa Space Telescope"
            and (number(row["t_exptime"]) == 30 or 2000 <= number(row["t_exptime"]) <= 3000)
        ),
    ),
    ({"POS": ["CIRCLE 10 10 1", FIELD]}, anything),
    ({"POL": ["V", "RR"]}, lambda row: "/V/" in row["pol_states"]),
]


@pytest.mark.parametrize(("asked", "is_match"), REPEATED, ids=lambda value: str(value)[:40])
def test_sia_007_or_within_a_name_and_between_names(
    wire: Wire, archive: list[Row], asked: dict[str, object], is_match: Predicate
) -> None:
    """Repeated values are alternatives, different names must all hold."""
    want = expected(archive, is_match)
    assert want
    assert found(wire.get(QUERY, **asked)) == want
    assert found(wire.post(QUERY, **asked)) == want


@pytest.mark.parametrize(
    "asked",
    [{"MAXREC": [1, 2]}, {"RESPONSEFORMAT": ["votable", "text/xml"]}],
    ids=["MAXREC", "RESPONSEFORMAT"],
)
def test_sia_007_what_takes_one_value_refuses_two(wire: Wire, asked: dict[str, object]) -> None:
    """DALI 1.1 §3.2; the same value twice counts once."""
    fault(wire.get(QUERY, **asked))
    assert wire.get(QUERY, MAXREC=[0, 0]).status_code == 200


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("TIMERES", "t_resolution", "-Inf +Inf"), ("POL", "pol_states", "I"),
        ("SPECRP", "em_res_power", "-Inf +Inf"), ("BAND", "em_min", "-Inf Inf"),
        ("TIME", "t_min", "-Inf Inf"), ("FOV", "s_fov", "-inf inf"),
        ("SPATRES", "s_resolution", "-Inf Inf"), ("EXPTIME", "t_exptime", "-Inf Inf"),
    ],
)  # fmt: skip
def test_sia_008_a_null_matches_no_constraint(
    wire: Wire, archive: list[Row], name: str, column: str, value: str
) -> None:
    """Not even the one that any number meets."""
    want = expected(archive, lambda row: row[column] != "" and "/I/" in row["pol_states"] + "/I/")
    assert found(wire.get(QUERY, **{name: value})) == want


def test_sia_009_request_and_its_like_do_no_harm(wire: Wire) -> None:
    """What older versions demanded, what DALI allows, and what a client's own fancy adds."""
    asked = {"request": "query", "VERSION": "2.0", "RUNID": "night-7", "whatever": "x", "r": 0.3}
    assert len(found(wire.get(QUERY, **asked))) == 38


INTERVALS = {
    "BAND": ("em_min", "em_max"), "TIME": ("t_min", "t_max"), "FOV": ("s_fov", "s_fov"),
    "SPATRES": ("s_resolution", "s_resolution"), "SPECRP": ("em_res_power", "em_res_power"),
    "EXPTIME": ("t_exptime", "t_exptime"), "TIMERES": ("t_resolution", "t_resolution"),
}  # fmt: skip


@pytest.mark.parametrize("name", INTERVALS)
def test_sia_020_029_030_every_form_of_an_interval(
    wire: Wire, archive: list[Row], name: str
) -> None:
    """A scalar, a pair, either end open, both; bounds belong to the interval."""
    lower, upper = INTERVALS[name]
    values = sorted({number(row[column]) for row in archive for column in (lower, upper)
                     if row[column]})  # fmt: skip
    ends = [*values, *((low + high) / 2 for low, high in pairwise(values))]
    ends = ends[:: max(1, len(ends) // 8)] or [1.0]
    for at in ends:
        for text, low, high in (
            (f"{at!r}", at, at),
            (f"{at!r} {at!r}", at, at),
            (f"-Inf {at!r}", -math.inf, at),
            (f"{at!r} +Inf", at, math.inf),
            (f" {at!r}\t  {at * 1.01!r} ", at, at * 1.01),
        ):
            want = expected(archive, meets(lower, upper, low, high))
            assert found(wire.get(QUERY, **{name: text})) == want, text
    for text in ("-Inf +Inf", "-inf inf", "-INF INF"):
        want = expected(archive, meets(lower, upper, -math.inf, math.inf))
        assert found(wire.get(QUERY, **{name: text})) == want, text


def test_sia_020_a_plus_that_was_lost_is_still_infinity(wire: Wire, archive: list[Row]) -> None:
    """`+Inf` in a raw query string arrives as ` Inf`."""
    answer = wire.client.get(f"{wire.base}{QUERY}?BAND=1e-6+%2BInf")
    raw = wire.client.get(f"{wire.base}{QUERY}?BAND=1e-6++Inf")
    want = expected(archive, meets("em_min", "em_max", 1e-6, math.inf))
    assert found(answer) == found(raw) == want


def test_sia_021_values_are_in_the_units_of_the_columns(wire: Wire, archive: list[Row]) -> None:
    """Metres, MJD, degrees, arcseconds, seconds; no other unit may be named."""
    assert found(wire.get(QUERY, BAND="6.2e-7", COLLECTION="visits"))
    assert found(wire.get(QUERY, EXPTIME="30", COLLECTION="visits"))
    assert found(wire.get(QUERY, SPATRES="0.3 0.4")) == [
        "ivo://demo.invalid/drizzled?lc4201010_drz.fits"
    ]
    assert found(wire.get(QUERY, FOV="0.02 0.04")) == [
        "ivo://demo.invalid/drizzled?lc4201010_drz.fits"
    ]
    for text in ("620 nm", "6.2e-7m", "1mm"):
        fault(wire.get(QUERY, BAND=text))


BAD_INTERVALS = [
    "x", "1 2 3", "2 1", "NaN", "nan 1", "1,2", "1/2", "1_0", "0x10", "+Inf", "Inf -Inf", "--1",
    "1e", "٣", "infinity", "1e999", "1 2;DROP TABLE", "9" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("name", INTERVALS)
def test_sia_022_an_interval_that_is_none_is_refused(wire: Wire, name: str) -> None:
    """Reversed, NaN, units, other alphabets, floods; the message names the parameter."""
    for text in BAD_INTERVALS:
        answer = wire.post(QUERY, **{name: text})
        message = fault(answer)
        assert name in message, text
        assert len(answer.content) < 2000


SHAPES = [
    "CIRCLE 53.124 -27.74 0.01", "CIRCLE 53.124 -27.74 0", "CIRCLE 413.124 -27.74 0.01",
    "CIRCLE -306.876 -27.74 0.01", "CIRCLE 53.124 -27.74 180",
    "RANGE 53.1 53.14 -27.75 -27.73", "RANGE -Inf +Inf -Inf +Inf", "RANGE 53.1 Inf -Inf inf",
    "RANGE 0 360 -90 90", "RANGE -Inf +Inf -27.8 -27.7", "RANGE 53.1 53.2 -Inf +Inf",
    "RANGE 50 10 -30 -20", "RANGE 53.124 53.124 -27.74 -27.74",
    "POLYGON 53.1 -27.75 53.14 -27.75 53.12 -27.73",
    "POLYGON 53.14 -27.75 53.1 -27.75 53.12 -27.73",
    "POLYGON 53.1 -27.75 53.14 -27.75 53.12 -27.73 53.1 -27.75",
    "circle 53.124 -27.74 0.01", "Range 53.1 53.14 -27.75 -27.73",
    "polygon 53.1 -27.75 53.14 -27.75 53.12 -27.73", "  CIRCLE\t53.124   -27.74  1e-2 ",
]  # fmt: skip


@pytest.mark.parametrize("pos", SHAPES, ids=lambda pos: " ".join(pos.split())[:40])
def test_sia_023_to_028_shapes_that_hold_the_field(wire: Wire, pos: str) -> None:
    """Every shape, wrapping longitudes, infinities, either winding, any case of the keyword."""
    assert len(found(wire.get(QUERY, POS=pos))) == 38


ELSEWHERE = [
    "CIRCLE 233.124 27.74 1", "CIRCLE 53.124 -28.5 0.5", "CIRCLE 53.124 62.26 89.8",
    "RANGE 54 53 -27.75 -27.73", "RANGE 53.1 53.14 -27.5 +Inf", "RANGE 0 360 89 90",
    "RANGE 0 360.0 89.0 +Inf", "POLYGON 55 -27 56 -27 56 -28", "POLYGON 0 80 120 80 240 80",
    "POLYGON 53 -27 54 -27 54 -26",
]  # fmt: skip


@pytest.mark.parametrize("pos", ELSEWHERE)
def test_sia_023_to_028_shapes_elsewhere(wire: Wire, pos: str) -> None:
    """Never the complement, and a wrap goes the right way round."""
    assert found(wire.get(QUERY, POS=pos)) == []


BAD_SHAPES = [
    "CIRCLE", "CIRCLE 1 2", "CIRCLE 1 2 3 4", "CIRCLE NaN 2 3", "CIRCLE 1 2 -3", "CIRCLE 1 91 1",
    "CIRCLE 1 2 181", "CIRCLE 1 2 Inf", "CIRCLE Inf 2 1", "CIRCLE 1,2,3", "CIRCLE ICRS 1 2 3",
    "RANGE 1 2 3", "RANGE 1 2 4 3", "RANGE 1 2 -91 0", "RANGE NaN NaN NaN NaN", "RANGE +Inf 1 1 2",
    "POLYGON 1 1 2 2", "POLYGON 1 1 2 2 3", "POLYGON 1 1 1 1 1 1", "POLYGON 1 1 2 2 3 NaN",
    "POLYGON 0 0 180 0 90 1", "POLYGON 0 0 120 0 240 0", "POLYGON 1 1 2 1 2 95", "BOX 1 2 3 4",
    "1 2 3", "POINT 1 2", "C\u0130RCLE 1 2 3", "CIRCLE\u00a01\u00a02\u00a03", "\x00",
    "CIRCLE 1 2 3\x00",
    "POLYGON " + "1 2 " * 30_000, "CIRCLE " * 10_000,
]  # fmt: skip


@pytest.mark.parametrize("pos", BAD_SHAPES, ids=lambda pos: ascii(pos[:30]))
def test_sia_023_to_028_shapes_that_are_none(wire: Wire, pos: str) -> None:
    """Refused in the standard's form, with what came cut short."""
    answer = wire.post(QUERY, POS=pos)
    fault(answer)
    assert len(answer.content) < 2000


def test_sia_031_polarization(wire: Wire, archive: list[Row]) -> None:
    """A whole state between slashes, or no match."""
    for state in ("I", "Q", "U", "V", "RR", "LL", "RL", "LR", "XX", "YY", "XY", "YX", "POLI",
                  "POLA"):  # fmt: skip
        want = expected(archive, has_state(state))
        assert found(wire.get(QUERY, POL=state)) == want
    for text in ("Y", "Z", "/I/", "I Q", "IQ", "*"):
        assert "POL" in fault(wire.get(QUERY, POL=text))


TEXTS = {
    "COLLECTION": "obs_collection", "FACILITY": "facility_name", "INSTRUMENT": "instrument_name",
    "DPTYPE": "dataproduct_type", "TARGET": "target_name",
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_sia_032_texts_match_exactly(wire: Wire, archive: list[Row], name: str) -> None:
    """Letter for letter: no case folding, wildcards, parts, or quoting tricks."""
    column = TEXTS[name]
    for value in {row[column] for row in archive}:
        want = expected(archive, is_exactly(column, value))
        assert found(wire.get(QUERY, **{name: value})) == want
        for other in (value.swapcase(), value[:-1], value + "%", value[:-1] + "_", value + "*",
                      f"{value} ", f" {value}", f"{value}' OR '1'='1"):  # fmt: skip
            assert found(wire.get(QUERY, **{name: other})) == [], other
    for value in ("%", "*", "_", "'", '"', "é", "\x00", "x" * 100_000):
        assert found(wire.post(QUERY, **{name: value})) == []


def test_sia_033_identifiers_match_in_any_case(wire: Wire, archive: list[Row]) -> None:
    """The whole IVOID, but no part of it."""
    for row in archive[:: len(archive) // 5]:
        name = row["obs_publisher_did"]
        assert found(wire.get(QUERY, ID=name)) == [name]
        assert found(wire.get(QUERY, ID=name.upper())) == [name]
        assert found(wire.get(QUERY, ID=[name.lower(), name.upper()])) == [name]
        assert found(wire.get(QUERY, ID=name[:-1])) == []
        assert found(wire.get(QUERY, ID=name + "%")) == []


def test_sia_034_calibration_level(wire: Wire, archive: list[Row]) -> None:
    """A whole number from 0 to 4."""
    for level in range(5):
        want = expected(archive, is_exactly("calib_level", str(level)))
        assert found(wire.get(QUERY, CALIB=level)) == want
    for text in ("5", "-1", "2.0", "two", "1 2", "NaN", "٢", "1e0", "9" * 5000):
        assert "CALIB" in fault(wire.post(QUERY, CALIB=text))


def test_sia_035_images_and_cubes_alone(wire: Wire, archive: list[Row]) -> None:
    """No other product is ever a row; another product type is no error."""
    assert {row["dataproduct_type"] for row in archive} == {"image", "cube"}
    for other in ("spectrum", "timeseries", "IMAGE"):
        assert found(wire.get(QUERY, DPTYPE=other)) == []


def test_sia_036_format_is_that_of_access_url(wire: Wire) -> None:
    """Blanks around `;` do not count; FITS is what the links lead to, not what access_url gives."""
    for text in (LINKS, "application/x-votable+xml; content=datalink"):
        assert len(found(wire.get(QUERY, FORMAT=text))) == 38
    for text in ("application/fits", "application/x-votable+xml", "image/fits", "all", "datalink"):
        assert found(wire.get(QUERY, FORMAT=text)) == []
    assert len(found(wire.get(QUERY, FORMAT=["image/fits", LINKS]))) == 38


# ------------------------------------------------------------------ MAXREC, self-description


def test_sia_050_maxrec(wire: Wire, archive: list[Row]) -> None:
    """Exactly so many rows, all of them of the archive, and OVERFLOW where there are more."""
    everything = expected(archive, anything)
    for maxrec, status in ((1, "OVERFLOW"), (37, "OVERFLOW"), (38, "OK"), (39, "OK"),
                           (10**17, "OK"), (10**50, "OK")):  # fmt: skip
        answer = wire.get(QUERY, MAXREC=maxrec)
        assert answer.status_code == 200
        assert_valid_votable(answer.content)
        rows = rows_of(answer.content)
        assert len(rows) == min(maxrec, 38)
        assert {row["obs_publisher_did"] for row in rows} <= set(everything)
        assert status_of(answer.content)[0] == status
    answer = wire.get(QUERY, POS=["CIRCLE 10 10 1", FIELD], MAXREC=3)
    assert (len(rows_of(answer.content)), status_of(answer.content)[0]) == (3, "OVERFLOW")
    answer = wire.get(QUERY, POS="CIRCLE 10 10 1", MAXREC=3)
    assert (rows_of(answer.content), status_of(answer.content)[0]) == ([], "OK")


def test_sia_051_maxrec_0_describes_the_service(wire: Wire) -> None:
    """All columns, no rows, OVERFLOW as DALI 1.1 §3.4.4 demands."""
    answer = wire.get(QUERY, MAXREC=0, POS=FIELD)
    assert answer.status_code == 200
    assert_valid_votable(answer.content)
    assert rows_of(answer.content) == []
    assert status_of(answer.content)[0] == "OVERFLOW"
    full = wire.get(QUERY)
    assert [dict(field.attrib) for field in fields_of(answer.content)] == [
        dict(field.attrib) for field in fields_of(full.content)
    ]


def test_sia_052_a_maxrec_that_is_none_is_refused(wire: Wire) -> None:
    """Negative, fractional, or no number."""
    for text in ("-1", "-0.5", "1.5", "1e3", "many", "NaN", "Inf", "0x1", "1 2", "9" * 400):
        assert "MAXREC" in fault(wire.get(QUERY, MAXREC=text))


def test_sia_053_054_every_answer_describes_the_service(wire: Wire) -> None:
    """As DataLink 1.1 §4.4 spells it and as SIA 2.0 §3.1.2 did, each parameter once."""
    for asked in ({"MAXREC": 0}, {"MAXREC": 1}, {"POS": "CIRCLE 10 10 1"}):
        document = wire.get(QUERY, **asked).content
        for condition in (
            "@type='meta' and @utype='adhoc:this'",
            "@type='meta' and @utype='adhoc:service' and @name='this'",
        ):
            this = descriptor(document, condition)
            assert stated(this, "standardID") == ["ivo://ivoa.net/std/SIA#query-2.0"]
            assert stated(this, "accessURL") == [wire.base + QUERY]
            params = input_params(this)
            assert set(params) >= set(PARAMETERS)
            assert {param.get("value") for param in params.values()} == {""}
            units = {name: params[name].get("unit") for name in INTERVALS}
            assert units == {"BAND": "m", "TIME": "d", "FOV": "deg", "SPATRES": "arcsec",
                             "SPECRP": None, "EXPTIME": "s", "TIMERES": "s"}  # fmt: skip


def test_sia_055_what_there_is_to_choose_from(wire: Wire, archive: list[Row]) -> None:
    """OPTIONs name every value that a row has; each of them, sent back, finds something."""
    this = descriptor(wire.get(QUERY, MAXREC=0).content, "@utype='adhoc:this'")
    params = input_params(this)
    for name, column in {**TEXTS, "CALIB": "calib_level", "FORMAT": "access_format"}.items():
        options = strings(params[name], "v:VALUES/v:OPTION/@value")
        if name == "TARGET":
            assert options == []
            continue
        assert sorted(options) == sorted({row[column] for row in archive})
        for option in options:
            assert found(wire.get(QUERY, **{name: option}))


# ------------------------------------------------------------------ the answer

OBSCORE = {
    "dataproduct_type": ("char", None, "meta.code.class", "ObsDataset.dataProductType"),
    "calib_level": ("int", None, "meta.code;obs.calib", "ObsDataset.calibLevel"),
    "obs_collection": ("char", None, "meta.id", "DataID.collection"),
    "obs_id": ("char", None, "meta.id", "DataID.observationID"),
    "obs_publisher_did": ("char", None, "meta.ref.ivoid", "Curation.publisherDID"),
    "access_url": ("char", None, "meta.ref.url", "Access.reference"),
    "access_format": ("char", None, "meta.code.mime", "Access.format"),
    "access_estsize": ("long", "kbyte", "phys.size;meta.file", "Access.size"),
    "target_name": ("char", None, "meta.id;src", "Target.name"),
    "s_ra": ("double", "deg", "pos.eq.ra",
             "Char.SpatialAxis.Coverage.Location.Coord.Position2D.Value2.C1"),
    "s_dec": ("double", "deg", "pos.eq.dec",
              "Char.SpatialAxis.Coverage.Location.Coord.Position2D.Value2.C2"),
    "s_fov": ("double", "deg", "phys.angSize;instr.fov",
              "Char.SpatialAxis.Coverage.Bounds.Extent.diameter"),
    "s_region": ("char", None, "pos.outline;obs.field",
                 "Char.SpatialAxis.Coverage.Support.Area"),
    "s_resolution": ("double", "arcsec", "pos.angResolution",
                     "Char.SpatialAxis.Resolution.Refval.value"),
    "s_xel1": ("long", None, "meta.number", "Char.SpatialAxis.numBins1"),
    "s_xel2": ("long", None, "meta.number", "Char.SpatialAxis.numBins2"),
    "t_min": ("double", "d", "time.start;obs.exposure",
              "Char.TimeAxis.Coverage.Bounds.Limits.StartTime"),
    "t_max": ("double", "d", "time.end;obs.exposure",
              "Char.TimeAxis.Coverage.Bounds.Limits.StopTime"),
    "t_exptime": ("double", "s", "time.duration;obs.exposure",
                  "Char.TimeAxis.Coverage.Support.Extent"),
    "t_resolution": ("double", "s", "time.resolution", "Char.TimeAxis.Resolution.Refval.value"),
    "t_xel": ("long", None, "meta.number", "Char.TimeAxis.numBins"),
    "em_min": ("double", "m", "em.wl;stat.min",
               "Char.SpectralAxis.Coverage.Bounds.Limits.LoLimit"),
    "em_max": ("double", "m", "em.wl;stat.max",
               "Char.SpectralAxis.Coverage.Bounds.Limits.HiLimit"),
    "em_res_power": ("double", None, "spect.resolution",
                     "Char.SpectralAxis.Resolution.ResolPower.refVal"),
    "em_xel": ("long", None, "meta.number", "Char.SpectralAxis.numBins"),
    "o_ucd": ("char", None, "meta.ucd", "Char.ObservableAxis.ucd"),
    "pol_states": ("char", None, "meta.code;phys.polarization",
                   "Char.PolarizationAxis.stateList"),
    "pol_xel": ("long", None, "meta.number", "Char.PolarizationAxis.numBins"),
    "facility_name": ("char", None, "meta.id;instr.tel", "Provenance.ObsConfig.Facility.name"),
    "instrument_name": ("char", None, "meta.id;instr", "Provenance.ObsConfig.Instrument.name"),
}  # fmt: skip
"""The thirty mandatory columns of ObsCore 1.1: datatype, unit, UCD, utype."""


def test_sia_060_obs_001_the_mandatory_columns(wire: Wire) -> None:
    """Each once, as ObsCore 1.1 names and types it; texts are char of any length."""
    fields = {str(field.get("name")): field for field in fields_of(wire.get(QUERY).content)}
    assert len(OBSCORE) == 30
    for name, (datatype, unit, ucd, utype) in OBSCORE.items():
        field = fields[name]
        assert (field.get("datatype"), field.get("unit")) == (datatype, unit), name
        assert (field.get("ucd"), field.get("utype")) == (ucd, "obscore:" + utype), name
        assert field.get("arraysize") == ("*" if datatype == "char" else None), name
    assert fields["s_region"].get("xtype") == "adql:REGION"
    assert all(field.get("xtype") is None for name, field in fields.items() if name != "s_region")


def test_sia_060_obs_columns_hold_what_obscore_says(archive: list[Row]) -> None:
    """No null where there may be none, kilobytes, slashes round states, vacuum metres, MJD."""
    for row in archive:
        for name in ("calib_level", "obs_collection", "obs_id", "obs_publisher_did"):
            assert row[name]
        assert row["obs_publisher_did"].startswith(f"ivo://demo.invalid/{row['obs_collection']}?")
        assert 5 < number(row["access_estsize"]) < 10_000
        assert number(row["em_min"]) < number(row["em_max"]) < 1
        assert 50_000 < number(row["t_min"]) <= number(row["t_max"]) < 61_000
        assert math.isclose(number(row["s_ra"]), 53.124, abs_tol=0.05)
        assert math.isclose(number(row["s_dec"]), -27.74, abs_tol=0.05)
        assert 0.02 < number(row["s_fov"]) < 0.3
        states = row["pol_states"]
        assert states == ("/I/Q/U/V/" if row["dataproduct_type"] == "cube" else "")
        assert number(row["pol_xel"] or "0") == states.strip("/").count("/") + bool(states)
        assert re.fullmatch(r"POLYGON ICRS( -?[0-9.]+){6,}", row["s_region"])


def test_obs_003_sizes_are_those_of_the_dataset(archive: list[Row]) -> None:
    """Pixels along the axes of the sky, planes along the others."""
    by_name = {row["obs_publisher_did"].partition("?")[2]: row for row in archive}
    visit, cube = by_name["2024110900036-94"], by_name["cuttlefish_hi.fits"]
    assert (visit["s_xel1"], visit["s_xel2"]) == ("436", "388")
    assert (cube["em_xel"], cube["pol_xel"]) == ("36", "4")


def test_sia_061_headers_of_the_answer(wire: Wire) -> None:
    """200 and the type of VOTable; what was asked for is what is said."""
    answer = wire.get(QUERY, MAXREC=1)
    assert answer.headers["content-type"] == VOTABLE
    for asked, said in (
        ("votable", VOTABLE), (VOTABLE, VOTABLE), ("VOTABLE", VOTABLE), ("text/xml", "text/xml"),
        ("application/x-votable+xml;serialization=tabledata", None),
    ):  # fmt: skip
        answer = wire.get(QUERY, MAXREC=1, RESPONSEFORMAT=asked)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(said or VOTABLE)
        assert_valid_votable(answer.content)


def test_sia_062_descriptors_of_links_and_cutouts(wire: Wire) -> None:
    """Both refer to the FIELD of the identifier, and their URLs answer."""
    document = wire.get(QUERY, POS=FIELD).content
    assert_valid_votable(document)
    (field,) = (one for one in fields_of(document) if one.get("name") == "obs_publisher_did")
    for standard, path in (
        ("ivo://ivoa.net/std/DataLink#links-1.1", "datalink/links"),
        ("ivo://ivoa.net/std/SODA#sync-1.0", "soda/sync"),
    ):
        service = descriptor(document, f"v:PARAM[@name='standardID' and @value='{standard}']")
        assert (service.get("type"), service.get("utype")) == ("meta", "adhoc:service")
        assert stated(service, "accessURL") == [wire.base + path]
        identifier = input_params(service)["ID"]
        assert (identifier.get("ref"), identifier.get("value")) == (field.get("ID"), "")


def test_sia_063_064_access_url_is_that_of_the_links(wire: Wire, archive: list[Row]) -> None:
    """It holds the ID, its format is the very string that clients compare, and it works."""
    for row in archive:
        assert row["access_format"] == LINKS
        assert row["access_url"].startswith(wire.base + "datalink/links?ID=")
    for row in archive[:: len(archive) // 5]:
        links = wire.get(row["access_url"])
        assert links.headers["content-type"] == LINKS
        assert {link["ID"] for link in rows_of(links.content)} == {row["obs_publisher_did"]}


def test_sia_070_071_errors_in_text_where_text_was_asked(wire: Wire) -> None:
    """Where csv or tsv was asked for, a line of text with the same fault; else VOTable."""
    for text in ("csv", "text/csv", "tsv", "text/tab-separated-values"):
        answer = wire.get(QUERY, RESPONSEFORMAT=text, POS="nonsense")
        assert answer.status_code == 400
        assert answer.headers["content-type"].startswith("text/plain")
        assert re.match(FAULTS, answer.text), answer.text
    for text in ("application/json", "image/png", "nonsense", "x" * 10_000, "é", "\x00"):
        assert "RESPONSEFORMAT" in fault(wire.post(QUERY, RESPONSEFORMAT=text))


def test_sia_072_dali_050_where_the_status_stands(wire: Wire) -> None:
    """In the one RESOURCE of type results, before the TABLE; its content is the message."""
    for asked, statuses in (({}, ["OK"]), ({"MAXREC": 3}, ["OK", "OVERFLOW"])):
        results = results_of(wire.get(QUERY, **asked).content)
        children = [(child.tag.rpartition("}")[2], child.get("name")) for child in results]
        assert children.index(("INFO", "QUERY_STATUS")) < [c[0] for c in children].index("TABLE")
        infos = strings(results, "v:INFO[@name='QUERY_STATUS']/@value")
        assert infos == statuses
    root = parse_xml(wire.get(QUERY, POS="nonsense").content)
    (info,) = elements(root, "//v:INFO[@name='QUERY_STATUS']")
    parent = info.getparent()
    assert parent is not None
    assert parent.get("type") == "results"
    assert info.get("value") == "ERROR"
    assert re.match(FAULTS, info.text or "")
