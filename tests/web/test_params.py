"""Parameters: any text is a value or a UsageError."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings, strategies as st

from soda_service.cutout.form import BLANK, PLAIN, CutoutForm, Edge
from soda_service.cutout.selection import HduName
from soda_service.errors import MultiValuedParamNotSupported, UsageError
from soda_service.geometry.dali import parse_box
from soda_service.geometry.frames import PixelSection, Stamp
from soda_service.geometry.shapes import Circle, Interval, Polygon, Range
from soda_service.votable.delimited import Delimited
from soda_service.votable.document import MEDIA_TYPE as VOTABLE, Serialization
from soda_service.web.params import (
    LINKS_PARAMETERS,
    MAX_SHAPES,
    SIA_PARAMETERS,
    SODA_PARAMETERS,
    Params,
    ordinary_cutout,
)

if TYPE_CHECKING:
    from soda_service.cutout.request import CutoutRequest


def cutout(query: str | bytes) -> CutoutRequest:
    """What SODA makes of *query*."""
    encoded = query if isinstance(query, bytes) else query.encode()
    return Params(encoded).cutout().request


NUMBERS = st.one_of(
    st.floats(-1e3, 1e3).map(str),
    st.integers(-400, 400).map(str),
    st.sampled_from(["", "-0", "1e-05", "1E2", "1e400", ".5", "5.", "+5", "1_0", "nan", "-", "e"]),
)  # fmt: skip
BLANKS = st.sampled_from(["+", "%20", "%2B", " ", "++", "%", "%20%20", ",", ""])


class TestTheOrdinaryCutout:
    """An identifier and a circle, which are understood without the rest."""

    @pytest.mark.parametrize(
        "query",
        [
            "ID=ivo%3A%2F%2Fx.example%2Fa%3Fb.fits&CIRCLE=10.5+-2.25+0.01",
            "ID=ivo://x.example/a?b=c&CIRCLE=10%20-2%201e-05",
            "ID=a+b&CIRCLE=360.0+90.0+180",
        ],
    )
    def test_it_is(self, query: str) -> None:
        found = ordinary_cutout(query.encode())
        assert found is not None
        assert found == Params(query.encode()).cutout()

    @pytest.mark.parametrize(
        "query",
        [
            "",
            "ID=a",
            "CIRCLE=1+2+3",
            "ID=a&CIRCLE=1+2+3&ID=a",
            "ID=a&CIRCLE=1+2+3&POL=I",
            "ID=a&RUNID=r&CIRCLE=1+2+3",
            "ID=a&CIRCLE=1+2+3&CIRCLE=1+2+3",
            "id=a&CIRCLE=1+2+3",
            "ID=&CIRCLE=1+2+3",
            "ID=%20&CIRCLE=1+2+3",
            "ID=a&CIRCLE=1+2%203",
            "ID=a&CIRCLE=1+2+0",
            "ID=a&CIRCLE=1+91+1",
            "ID=a&CIRCLE=1+2+",
            "ID=a&CIRCLE=1_0+2+3",
            "ID=a&CIRCLE=nan+2+3",
            "ID=a&CIRCLE=1+2+inf",
            "ID=a&CIRCLE=1e5+2+3",
            f"ID=a&CIRCLE=1.{'0' * 70}+2+3",
        ],
    )
    def test_it_is_not(self, query: str) -> None:
        assert ordinary_cutout(query.encode()) is None

    @settings(max_examples=1000)
    @given(
        st.tuples(NUMBERS, BLANKS, NUMBERS, BLANKS, NUMBERS),
        st.sampled_from(["a", "%C3%A9", "%2B+"]),
    )
    def test_nothing_is_understood_otherwise(self, parts: tuple[str, ...], identifier: str) -> None:
        """What is taken for ordinary is what the rest makes of it."""
        query = f"ID={identifier}&CIRCLE={''.join(parts)}".encode()
        found = ordinary_cutout(query)
        if found is not None:
            assert found == Params(query).cutout()


class TestNamesAndValues:
    """What holds for every protocol."""

    @pytest.mark.parametrize("blank", ["", "+", "%20%09", "%0A"])
    def test_a_blank_value_is_absent(self, blank: str) -> None:
        """Aladin sends `TIME=&BAND=&POL=`."""
        request = cutout(f"ID=x&TIME={blank}&BAND={blank}&POL={blank}&CIRCLE={blank}")
        assert (request.time, request.band, request.pol, request.shape) == (None, None, (), None)

    def test_a_name_alone_is_absent(self) -> None:
        """Neither `BAND` without `=` nor empty pieces are values."""
        assert cutout("&&ID=x&BAND&&=&=3&").band is None

    def test_identical_values_count_once(self) -> None:
        """A document of several IDs makes pyvo repeat them."""
        assert cutout("ID=x&ID=x&id=x").identifier == "x"

    def test_different_values_of_one_are_refused(self) -> None:
        """Never the first, never the last."""
        with pytest.raises(MultiValuedParamNotSupported, match="ID"):
            cutout("ID=x&ID=y")

    def test_identifiers_are_the_same_whatever_their_case(self) -> None:
        """As everywhere; the first spelling is the one that is said again."""
        assert cutout("ID=ivo://A/b&ID=IVO://a/B").identifier == "ivo://A/b"
        with pytest.raises(MultiValuedParamNotSupported, match="ID takes one value, got 2"):
            cutout("ID=x&ID=X&ID=y")

    def test_a_search_takes_so_many_shapes(self) -> None:
        """The message has what came and what may come; each polygon has a limit of its own."""
        circles = [f"POS=CIRCLE+{place / 10}+0+1" for place in range(MAX_SHAPES + 1)]
        assert len(Params("&".join(circles[1:]).encode()).query().query.shapes) == MAX_SHAPES
        with pytest.raises(UsageError, match=rf"{MAX_SHAPES + 1} .* {MAX_SHAPES}"):
            Params("&".join(circles).encode()).query()

    def test_a_search_takes_so_many_vertices(self) -> None:
        """Of all its polygons together."""
        rims = [
            "POS=POLYGON+"
            + "+".join(f"{turn * 0.36:.2f}+{40 + turn % 2 + more / 100}" for turn in range(1000))
            for more in range(11)
        ]
        assert len(Params("&".join(rims[:10]).encode()).query().query.shapes) == 10
        with pytest.raises(UsageError, match=r"11000 .* 10000"):
            Params("&".join(rims).encode()).query()

    def test_run_id_is_for_the_log(self) -> None:
        """At most 64 characters of it (DALI 1.1 §3.4.6)."""
        assert Params(b"RUNID=" + b"a" * 100).run_id == "a" * 64
        assert Params(b"ID=x").run_id is None
        assert Params(b"RUNID=a%20b&runid=a%20b").run_id == "a b"
        with pytest.raises(MultiValuedParamNotSupported, match="RUNID"):
            _ = Params(b"RUNID=a&RUNID=b").run_id

    def test_parts_of_a_form_stand_beside_the_query(self) -> None:
        """The parts of a multipart body are text already: nothing is decoded twice."""
        request = Params(b"ID=x", [("circle", "1 2 3"), ("Pol", "I"), ("POL", "")]).cutout().request
        assert request.shape == Circle(1, 2, 3)
        assert request.pol == ("I",)
        assert Params(b"", [("ID", "a%20b+c")]).cutout().request.identifier == "a%20b+c"


class TestCutouts:
    """SODA 1.0 §3."""

    @pytest.mark.parametrize(
        ("text", "shape"),
        [
            ("CIRCLE=1 2 3", Circle(1, 2, 3)),
            ("POS=circle 1 2 3", Circle(1, 2, 3)),
            ("POLYGON=1 1 2 1 2 2", Polygon(((1, 1), (2, 1), (2, 2)))),
            ("POS=POLYGON 1 1 2 1 2 2", Polygon(((1, 1), (2, 1), (2, 2)))),
            ("POS=RANGE 1 2 3 4", Range(1, 2, 3, 4)),
            ("RANGE=1 2 3 4", Range(1, 2, 3, 4)),
        ],
    )
    def test_shapes(self, text: str, shape: object) -> None:
        """Each spelling of a shape is that shape."""
        name, _, value = text.partition("=")
        assert cutout("ID=x&" + urlencode({name: value})).shape == shape

    @pytest.mark.parametrize(
        "query",
        [
            "CIRCLE=1+2+3&CIRCLE=1+2+4",
            "CIRCLE=1+2+3&POS=CIRCLE+1+2+3",
            "CIRCLE=1+2+3&POLYGON=1+1+2+1+2+2",
            "POS=CIRCLE+1+2+3&POS=RANGE+1+2+3+4",
            "RANGE=1+2+3+4&POS=RANGE+1+2+3+4",
            "BOX=1+2+3&CIRCLE=1+2+3",
            "STAMP=1+2+3&STAMP=1+2+4",
            "STAMP=1+2+3&PIXELS=[1:2]",
            "PIXELS=[1:2]&POS=RANGE+1+2+3+4",
            "EDGE=pad&EDGE=trim",
            "MASK=0&MASK=1",
            "BAND=1+2&BAND=1+3",
            "TIME=1+2&TIME=1+3",
            "CUTOUTDETAIL=a&CUTOUTDETAIL=b",
            "RESPONSEFORMAT=fits&RESPONSEFORMAT=image/fits",
        ],
    )
    def test_one_of_each_axis(self, query: str) -> None:
        """SODA 1.0 §3.1: what is not supported is said, never silently chosen."""
        with pytest.raises(MultiValuedParamNotSupported):
            cutout("ID=x&" + query)

    @pytest.mark.parametrize("query", ["", "CIRCLE=1+2+3", "ID=", "ID=+", "identifier=x"])
    def test_id_is_needed(self, query: str) -> None:
        """The bare sync URL explains itself."""
        with pytest.raises(UsageError, match="ID is missing"):
            cutout(query)

    @pytest.mark.parametrize(
        ("text", "interval"),
        [
            ("300 +Inf", Interval(300, math.inf)),
            ("300  Inf", Interval(300, math.inf)),
            ("-inf 5e-7", Interval(-math.inf, 5e-7)),
            ("5", Interval(5, 5)),
        ],
    )
    @pytest.mark.parametrize("name", ["BAND", "TIME"])
    def test_open_intervals_with_or_without_their_plus(
        self, name: str, text: str, interval: Interval
    ) -> None:
        """A raw `+` in a query string is a blank; the sign is not missed."""
        for encoded in (quote(text), text.replace(" ", "%20"), text.replace(" ", "+")):
            request = cutout(f"ID=x&{name}={encoded}")
            assert {"BAND": request.band, "TIME": request.time}[name] == interval

    def test_several_polarizations_are_one_filter(self) -> None:
        """SODA 1.0 §3.3.6."""
        assert cutout("ID=x&POL=i&POL=Q&POL=I").pol == ("I", "Q")

    @pytest.mark.parametrize(
        ("text", "expected"),
        [("1", True), ("true", True), ("TRUE", True), ("0", False), ("", False)],
    )
    def test_checksum_is_a_boolean(self, text: str, expected: bool) -> None:
        """DALI 1.1 §3.3.2."""
        assert cutout(f"ID=x&CHECKSUM={text}").form.checksums is expected

    @pytest.mark.parametrize(
        ("query", "media_type"),
        [
            ("", None),
            ("RESPONSEFORMAT=fits", "application/fits"),
            ("RESPONSEFORMAT=application/fits", "application/fits"),
            ("RESPONSEFORMAT=image/fits", "image/fits"),
            ("FORMAT=IMAGE/FITS%3B+x=1", "image/fits"),
        ],
    )
    def test_fits_by_its_names(self, query: str, media_type: str | None) -> None:
        """The asked spelling is the one that is sent (DALI 1.1 §3.4.3)."""
        assert Params(f"ID=x&{query}".encode()).cutout().media_type == media_type

    @pytest.mark.parametrize(
        "query",
        [
            "CIRCLE=1+2", "CIRCLE=CIRCLE+1+2+3", "CIRCLE=nan+2+3", "CIRCLE=1+2+-1", "CIRCLE=1+2+0",
            "CIRCLE=1+2+181", "CIRCLE=1+91+1", "CIRCLE=1_0+2+3", "CIRCLE=%D9%A1+2+3",
            "POLYGON=1+2+3+4", "POLYGON=1+2+3+4+5", "POS=BOX+1+2+3+4", "POS=1+2+3", "RANGE=1+2+3",
            "BAND=2+1", "BAND=nan", "BAND=1+2+3", "TIME=2024-01-01", "POL=Z", "POL=I,Q",
            "CHECKSUM=yes", "RESPONSEFORMAT=png", "FORMAT=zip", "RESPONSEFORMAT=votable",
            "BOX=1+2", "BOX=1+2+0", "STAMP=1+2", "STAMP=1+2+3.5", "PIXELS=5:1", "PIXELS=[1:9:2]",
            "EDGE=clip", "FILL=inf", "FILL=zero", "MASK=maybe", "HEADERONLY=2",
            "RESPONSEFORMAT=text/plain", "HEADERONLY=0&RESPONSEFORMAT=text/plain",
        ],
    )  # fmt: skip
    def test_nonsense_is_a_usage_error(self, query: str) -> None:
        """Malformed, infinite, negative, huge, and other alphabets."""
        with pytest.raises(UsageError):
            cutout("ID=x&" + query)

    def test_pixels_and_stamps(self) -> None:
        """Places of other kinds than shapes; brackets need no encoding."""
        request = cutout("id=x&stamp=150.1+2.2+64+48")
        assert (request.stamp, request.shape) == (Stamp(150.1, 2.2, (64, 48)), None)
        for query in ("PIXELS=[1:5,*]", "pixels=%5B1%3A5%2C%2A%5D", "PIXELS=1:5,*"):
            request = cutout("ID=x&" + query)
            assert (request.section, request.shape) == (PixelSection(((0, 5), None)), None)
        assert cutout("ID=x&BOX=10+20+1+2").shape == parse_box("10 20 1 2")

    def test_hdus_are_named_several_times(self) -> None:
        """By name, name and version, or number."""
        request = cutout("ID=x&HDU=sci,2&HDU=0&HDU=MASK&HDU=0")
        assert request.hdus == (HduName(name="SCI", version=2), HduName(index=0), HduName(
            name="MASK"))  # fmt: skip
        assert not request.is_whole_file

    def test_forms(self) -> None:
        """What is not said is the constant of the plain request; so is what says nothing."""
        assert cutout("ID=x&CIRCLE=1+2+3").form is PLAIN
        assert cutout("ID=x&CIRCLE=1+2+3&EDGE=TRIM&MASK=0&CHECKSUM=&FILL=BLANK").form is PLAIN
        asked = cutout("ID=x&EDGE=Pad&FILL=BLANK&FILL=-1&MASK=1&HEADERONLY=true&CHECKSUM=1")
        assert asked.form == CutoutForm(
            checksums=True, edge=Edge.PAD, fill=(BLANK, -1), masked=True, header_only=True
        )
        assert Params(b"ID=x&HEADERONLY=1&RESPONSEFORMAT=text/plain").cutout().media_type is None

    @pytest.mark.parametrize("name", sorted(SODA_PARAMETERS - {"ID", "CUTOUTDETAIL", "RUNID"}))
    @pytest.mark.parametrize("text", ["", "+", "%20%09"])
    def test_blank_values_say_nothing(self, name: str, text: str) -> None:
        """As if the parameter were not there."""
        assert cutout(f"ID=x&{name}={text}") == cutout("ID=x")

    @given(
        st.sampled_from(sorted(SODA_PARAMETERS - {"ID", "CUTOUTDETAIL", "RUNID"})),
        st.text(max_size=40),
    )
    def test_any_value_is_read_or_refused(self, name: str, text: str) -> None:
        """With a UsageError, never another."""
        with contextlib.suppress(UsageError):
            cutout("ID=x&" + urlencode({name: text}))

    def test_the_parameter_that_was_wrong_is_named(self) -> None:
        """Of two intervals in a request the message says which."""
        with pytest.raises(UsageError, match=r"TIME.*'later'"):
            cutout("ID=x&BAND=1+2&TIME=later")


class TestQueries:
    """SIA 2.0 §2.1."""

    def test_no_parameters_are_a_query(self) -> None:
        """It finds everything."""
        asked = Params(b"").query()
        assert asked.maxrec is None
        assert asked.query == type(asked.query)()

    def test_every_parameter_reaches_its_constraint(self) -> None:
        """All nineteen and DPSUBTYPE, each with two values where it may have several."""
        given_values = [
            ("POS", "CIRCLE 1 2 0"), ("POS", "RANGE 1 2 3 4"), ("BAND", "1 2"), ("BAND", "5"),
            ("TIME", "3 4"), ("POL", "I"), ("POL", "xx"), ("FOV", "1 +Inf"), ("SPATRES", "1 2"),
            ("SPECRP", "3 4"), ("EXPTIME", "5 6"), ("TIMERES", "7 8"), ("ID", "ivo://a/b?c"),
            ("COLLECTION", "visits"), ("COLLECTION", "coadds"), ("FACILITY", "F"),
            ("INSTRUMENT", "I"), ("DPTYPE", "image"), ("dpsubtype", "lsst.visit_image"),
            ("CALIB", "2"), ("CALIB", "3"), ("TARGET", "M 31"), ("FORMAT", "application/fits"),
            ("MAXREC", "7"),
            ("RESPONSEFORMAT", "votable"),
        ]  # fmt: skip
        asked = Params(urlencode(given_values).encode()).query()
        query = asked.query
        assert query.shapes == (Circle(1, 2, 0), Range(1, 2, 3, 4))
        assert query.bands == (Interval(1, 2), Interval(5, 5))
        assert query.times == (Interval(3, 4),)
        assert query.pols == ("I", "XX")
        assert query.fov == (Interval(1, math.inf),)
        assert query.spatres == (Interval(1, 2),)
        assert query.specrp == (Interval(3, 4),)
        assert query.exptime == (Interval(5, 6),)
        assert query.timeres == (Interval(7, 8),)
        assert query.ids == ("ivo://a/b?c",)
        assert query.collections == ("visits", "coadds")
        assert query.facilities == ("F",)
        assert query.instruments == ("I",)
        assert query.dptypes == ("image",)
        assert query.dpsubtypes == ("lsst.visit_image",)
        assert query.calibs == (2, 3)
        assert query.targets == ("M 31",)
        assert query.formats == ("application/fits",)
        assert asked.maxrec == 7
        assert asked.media_type == "application/x-votable+xml"
        assert ("TARGET", "M 31") in asked.echo

    @pytest.mark.parametrize(
        "query",
        [
            "MAXREC=-1", "MAXREC=1.5", "MAXREC=1" + "0" * 100, "MAXREC=x", "MAXREC=1&MAXREC=2",
            "CALIB=5", "CALIB=-1", "CALIB=1.0", "POS=CIRCLE+1+2+-1", "POS=CIRCLE+nan+nan+1",
            "FOV=2+1", "TIMERES=soon",
            "RESPONSEFORMAT=json", "RESPONSEFORMAT=votable/b2", "RESPONSEFORMAT=fits",
            "RESPONSEFORMAT=csv&RESPONSEFORMAT=tsv", "RESPONSEFORMAT=text/csv%3Bheader=absent",
            "RESPONSEFORMAT=text/csv%3Bcharset=utf-16",
            "RESPONSEFORMAT=application/x-votable%2Bxml%3Bserialization=FITS",
            "RESPONSEFORMAT=application/x-votable%2Bxml%3Bcontent=datalink",
            "RESPONSEFORMAT=text/csv%3Bserialization=BINARY2",
        ],
    )  # fmt: skip
    def test_nonsense_is_a_usage_error(self, query: str) -> None:
        """The fault of SIA 2.0 §3.2 comes from these."""
        with pytest.raises(UsageError):
            Params(query.encode()).query()

    @pytest.mark.parametrize(
        ("text", "form", "media_type"),
        [
            ("votable", Serialization.TABLEDATA, VOTABLE),
            ("VOTable", Serialization.TABLEDATA, VOTABLE),
            (VOTABLE, Serialization.TABLEDATA, VOTABLE),
            ("text/xml", Serialization.TABLEDATA, "text/xml"),
            (
                f"{VOTABLE};serialization=tabledata",
                Serialization.TABLEDATA,
                f"{VOTABLE};serialization=TABLEDATA",
            ),
            (
                f"{VOTABLE}; Serialization = binary2",
                Serialization.BINARY2,
                f"{VOTABLE};serialization=BINARY2",
            ),
            (
                f'{VOTABLE}; charset="UTF-8"; serialization=BINARY2; unknown=1',
                Serialization.BINARY2,
                f"{VOTABLE};serialization=BINARY2;charset=utf-8",
            ),
            (f"{VOTABLE};serialization=;charset", Serialization.TABLEDATA, VOTABLE),
            ("csv", Delimited.CSV, "text/csv;charset=utf-8;header=present"),
            ("text/csv; header=present", Delimited.CSV, "text/csv;charset=utf-8;header=present"),
            ("TSV", Delimited.TSV, "text/tab-separated-values;charset=utf-8"),
            (
                "text/tab-separated-values",
                Delimited.TSV,
                "text/tab-separated-values;charset=utf-8",
            ),
        ],
    )
    def test_forms_of_the_answer(self, text: str, form: object, media_type: str) -> None:
        """DALI 1.1 §3.4.3: what was asked is what is sent, parameters too."""
        for encoded in (quote(text, safe=""), text.replace(" ", "%20")):
            asked = Params(f"RESPONSEFORMAT={encoded}".encode()).query()
            assert (asked.form, asked.media_type) == (form, media_type)

    @pytest.mark.parametrize("name", ["csv", "text/csv", "TSV", "text/tab-separated-values%3Bx=1"])
    def test_text_tables_ask_for_text_errors(self, name: str) -> None:
        """SIA 2.0 §3.2: the error takes the form of the answer."""
        assert Params(f"RESPONSEFORMAT={name}".encode()).wants_text_table
        assert not Params(b"RESPONSEFORMAT=votable").wants_text_table


class TestLinks:
    """DataLink 1.1 §2.1."""

    def test_ids_are_many_and_may_be_none(self) -> None:
        """In the order they came, each once."""
        assert Params(b"ID=b&ID=a&id=b").links().identifiers == ("b", "a")
        assert Params(b"").links().identifiers == ()

    @pytest.mark.parametrize(
        ("text", "media_type"),
        [
            ("votable", "application/x-votable+xml"),
            ("application/x-votable+xml;content=datalink", "application/x-votable+xml"),
            (f"{VOTABLE}; serialization=TABLEDATA", f"{VOTABLE};serialization=TABLEDATA"),
            ("text/xml", "text/xml"),
        ],
    )
    def test_names_of_votable(self, text: str, media_type: str) -> None:
        """DataLink 1.1 §2.1.2."""
        assert Params(f"RESPONSEFORMAT={quote(text)}".encode()).links().media_type == media_type

    @pytest.mark.parametrize(
        "text", ["csv", "tsv", f"{VOTABLE};serialization=BINARY2", f"{VOTABLE};content=other"]
    )
    def test_links_are_tabledata(self, text: str) -> None:
        """DataLink 1.1 §3.3."""
        with pytest.raises(UsageError, match="RESPONSEFORMAT"):
            Params(f"RESPONSEFORMAT={quote(text)}".encode()).links()


NAMES = sorted(SODA_PARAMETERS | SIA_PARAMETERS | LINKS_PARAMETERS)
PIECES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["CIRCLE 1 2 3", "1 2 3", "1 1 2 1 2 2", "0 1 0 1", "1 2", "-Inf +Inf", "nan", "1e999", "0",
         "I", "fits", "votable", "POLYGON", "RANGE -Inf Inf -Inf Inf", "\0", "1\t2\n3"]
    ),
    st.lists(st.floats() | st.integers(), max_size=8).map(lambda many: " ".join(map(str, many))),
)  # fmt: skip
QUERIES = st.one_of(
    st.binary(max_size=60),
    st.lists(st.tuples(st.sampled_from(NAMES), PIECES), max_size=6).map(
        lambda pairs: urlencode(pairs, errors="surrogatepass").encode()
    ),
    st.lists(st.tuples(st.sampled_from(NAMES), st.binary(max_size=12)), max_size=6).map(
        lambda pairs: b"&".join(name.encode() + b"=" + value for name, value in pairs)
    ),
)


@settings(max_examples=300)
@given(QUERIES)
def test_any_query_string_is_a_value_or_a_usage_error(query: bytes) -> None:
    """No text makes anything else, in any protocol."""
    for reading in (Params.cutout, Params.query, Params.links):
        with contextlib.suppress(UsageError):
            assert reading(Params(query)) is not None


@given(
    st.sampled_from(["votable", VOTABLE, "text/xml", "csv", "text/csv", "tsv", "fits", "text"]),
    st.lists(
        st.tuples(
            st.sampled_from(["serialization", "charset", "header", "content", "x", ""]),
            st.sampled_from(
                ["", "=", "=tabledata", "=BINARY2", '="utf-8"', "=present", "=datalink"]
            ),
        ),
        max_size=3,
    ),
)
def test_any_media_type_is_taken_or_refused(name: str, parameters: list[tuple[str, str]]) -> None:
    """Its parameters may be many, empty, and of any other media type's."""
    text = ";".join([name, *("".join(pair) for pair in parameters)])
    for reading in (Params.cutout, Params.query, Params.links):
        with contextlib.suppress(UsageError):
            assert reading(Params(f"ID=x&RESPONSEFORMAT={quote(text)}".encode())) is not None
