"""DALI 1.1, VOSI 1.1 and VOTable 1.4 over the wire, and what browsers and downloads need.

A test is named after the line of the standard, or of the contract, that it stands for.
"""

from __future__ import annotations

import html
import re
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest
from astropy.io import fits
from lxml import etree
from support.documents import assert_valid_vosi, assert_valid_votable, elements, parse_xml, strings
from support.tables import rows_of, status_of
from support.truth import parent_file

if TYPE_CHECKING:
    import httpx2
    from support.wire import Wire

SERVICES = ("", "sia/", "datalink/", "soda/")
VISIT = "ivo://demo.invalid/visits?2024110900036-94"
CUBE = "ivo://demo.invalid/radio?cuttlefish_hi.fits"
CUBE_FILE = "files/radio/cuttlefish_hi.fits"
CIRCLE = "53.124 -27.74 0.003"

DOCUMENTS: dict[str, dict[str, object]] = {
    "soda/sync": {"ID": VISIT, "CIRCLE": CIRCLE},
    "sia/query": {"MAXREC": 2},
    "datalink/links": {"ID": VISIT},
    "soda/examples": {},
    CUBE_FILE: {},
    "health": {},
    "": {},
    **{f"{service}{name}": {} for service in SERVICES for name in ("capabilities", "availability")},
}
"""A request for each endpoint that succeeds."""

ERRORS: list[tuple[str, str, dict[str, object], int]] = [
    ("GET", "soda/sync", {}, 400),
    ("GET", "soda/sync", {"ID": "x"}, 404),
    ("GET", "sia/query", {"POS": "x"}, 400),
    ("GET", "datalink/links", {"RESPONSEFORMAT": "x"}, 400),
    ("DELETE", "soda/sync", {}, 405),
    ("PUT", "sia/query", {}, 405),
    ("POST", "sia/capabilities", {}, 405),
    ("GET", "nothing", {}, 404),
    ("GET", "files/none/none.fits", {}, 404),
    ("POST", CUBE_FILE, {}, 405),
]


# ------------------------------------------------------------------ capabilities, availability


@pytest.mark.parametrize("service", SERVICES)
def test_vosi_002_003_capabilities(wire: Wire, service: str) -> None:
    """Valid by the schema, last modified at some time, by HEAD too; what it names answers."""
    answer = wire.get(service + "capabilities")
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] in {"text/xml", "application/xml"}
    root = parse_xml(answer.content)
    assert root.tag == "{http://www.ivoa.net/xml/VOSICapabilities/v1.0}capabilities"
    assert {child.tag for child in root.iterchildren(etree.Element)} == {"capability"}
    for url in strings(root, "//accessURL/text()"):
        assert wire.get(url.strip()).status_code in {200, 400}, url
    head = wire.ask("HEAD", service + "capabilities")
    assert head.headers["last-modified"] == answer.headers["last-modified"]
    assert parsedate_to_datetime(head.headers["last-modified"]).timestamp() <= time.time()
    assert head.headers["content-length"] == str(len(answer.content))
    assert_valid_vosi(answer.content, "capabilities")


def test_vosi_006_007_the_list_of_capabilities(wire: Wire) -> None:
    """What is there, and no more: no async while there are no jobs; VOSI's own URLs are full."""
    here = {
        "": ["SIA#query-2.0", "DataLink#links-1.1", "SODA#sync-1.0", "DALI#examples"],
        "sia/": ["SIA#query-2.0"], "datalink/": ["DataLink#links-1.1"],
        "soda/": ["SODA#sync-1.0", "DALI#examples"],
    }  # fmt: skip
    for service, its in here.items():
        root = parse_xml(wire.get(service + "capabilities").content)
        wanted = {"VOSI#capabilities", "VOSI#availability", *its}
        named = strings(root, "capability/@standardID")
        assert sorted(named) == sorted(f"ivo://ivoa.net/std/{one}" for one in wanted)
        for name in ("capabilities", "availability"):
            (url,) = elements(
                root, f"capability[@standardID='ivo://ivoa.net/std/VOSI#{name}']//accessURL"
            )
            assert (url.text, url.get("use")) == (wire.base + service + name, "full")
        assert not elements(root, "//securityMethod")


@pytest.mark.parametrize("service", SERVICES)
def test_vosi_004_005_availability(wire: Wire, service: str) -> None:
    """Valid by the schema: it is available, since an instant of the past."""
    answer = wire.get(service + "availability")
    assert answer.status_code == 200
    root = parse_xml(answer.content)
    (available,) = elements(root, "a:available")
    (since,) = elements(root, "a:upSince")
    assert available.text == "true"
    began = datetime.fromisoformat(str(since.text).strip())
    assert began < datetime.now(UTC)
    assert any("38" in (note.text or "") for note in elements(root, "a:note"))
    assert_valid_vosi(answer.content, "availability")


def test_vosi_001_other_methods_are_405(wire: Wire) -> None:
    """And say which there are."""
    for service in SERVICES:
        for name in ("capabilities", "availability"):
            for method in ("POST", "PUT", "DELETE"):
                answer = wire.ask(method, service + name)
                assert answer.status_code == 405
                assert {*re.split(r",\s*", answer.headers["allow"])} >= {"GET", "HEAD"}


def test_pyvo_trap_6_a_wrong_guess_of_capabilities_is_404(wire: Wire) -> None:
    """Clients try below {query} first and go on from a 404 only (CLIENTS §0)."""
    for path in ("sia/query/capabilities", "sia/query/availability", "sia//capabilities",
                 "datalink/links/capabilities", "soda/sync/capabilities"):  # fmt: skip
        assert wire.get(path).status_code == 404


# ------------------------------------------------------------------ examples


def test_dali_005_examples(wire: Wire) -> None:
    """Well-formed, one vocab, each with an id, a resource, a name; and all of them work."""
    answer = wire.get("soda/examples")
    assert answer.status_code == 200
    root = parse_xml(answer.content)
    assert strings(root, "//@vocab") == ["http://www.ivoa.net/rdf/examples#"]
    examples = elements(root, "//*[@vocab]//*[@typeof='example']")
    assert len(examples) >= 5
    ids = [str(one.get("id")) for one in examples]
    assert len(ids) == len(set(ids))
    for one, name in zip(examples, ids, strict=True):
        assert one.get("resource") == f"#{name}"
        (title,) = elements(one, ".//*[@property='name']")
        assert len(title) == 0
        assert title.text
        assert strings(one, ".//*[@property='capability']/text()") == [
            "ivo://ivoa.net/std/SODA#sync-1.0"
        ]
        pairs = {}
        for pair in elements(one, ".//*[@property='generic-parameter' and @typeof='keyval']"):
            (key,) = strings(pair, "*[@property='key']/text()")
            (value,) = strings(pair, "*[@property='value']/text()")
            pairs[key] = value
        cutout = wire.get("soda/sync", **pairs)
        assert cutout.status_code == 200
        assert any(hdu.header["NAXIS"] for hdu in fits.HDUList.fromstring(cutout.content))
        (link,) = strings(one, ".//h:a/@href")
        assert wire.get(link).content == cutout.content


# ------------------------------------------------------------------ parameters


def test_dali_020_names_in_any_case(wire: Wire) -> None:
    """Folded in the query string and both kinds of body; values are not."""
    for name in ("MAXREC", "maxrec", "MaxRec"):
        for answer in (wire.get("sia/query", **{name: 1}), wire.post("sia/query", **{name: 1}),
                       wire.post_parts("sia/query", **{name: 1})):  # fmt: skip
            assert len(rows_of(answer.content)) == 1
    assert rows_of(wire.get("sia/query", collection="VISITS").content) == []
    answer = wire.client.get(f"{wire.base}sia/query?%4dAXREC=1&m%61xrec=1")
    assert len(rows_of(answer.content)) == 1


def test_dali_029_a_run_id_is_kept_in_the_log(wire: Wire, demo_log: list[str]) -> None:
    """So that who calls can find the lines of the run."""
    mark = f"run-{time.time_ns()}"
    assert wire.get("soda/sync", ID=VISIT, CIRCLE=CIRCLE, RUNID=mark).status_code == 200
    assert wire.get("sia/query", MAXREC=1, runid=mark + "b").status_code == 200
    end = time.monotonic() + 60
    while not all(any(text in line for line in demo_log) for text in (mark, mark + "b")):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert wire.get("soda/sync", ID=VISIT, CIRCLE=CIRCLE, RUNID="x" * 10_000).status_code == 200


@pytest.fixture(name="demo_log")
def _demo_log(demo: object) -> list[str]:
    log: list[str] = demo.log  # type: ignore[attr-defined] # what the fixture gives
    return log


def test_dali_030_bodies_of_other_kinds_are_refused(wire: Wire) -> None:
    """In each protocol's form; a form of no fields is no error."""
    for content_type in ("application/json", "text/plain", "application/xml", None, "", "nonsense"):
        answer = wire.post_body("soda/sync", b'{"ID": 1}', content_type)
        assert answer.status_code == 400
        assert answer.text.startswith("UsageError: ")
        answer = wire.post_body("sia/query", b'{"ID": 1}', content_type)
        assert status_of(answer.content)[0] == "ERROR"
    assert wire.post_body("sia/query", b"", None).status_code == 200
    assert wire.post_body("sia/query", b"", "application/json").status_code == 200
    assert wire.post_body(
        "datalink/links", b"&&&=&=x&", "application/x-www-form-urlencoded"
    ).is_success


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=", b"x"),
        ("multipart/form-data; boundary=a", b"no boundary at all"),
        ("multipart/form-data; boundary=a", b"--a\r\n\r\nno name\r\n--a--\r\n"),
        ("multipart/form-data; boundary=a",
         b"--a\r\nContent-Disposition: form-data; name=\"ID\"\r\n\r\nunfinished"),
        ("multipart/form-data; boundary=" + "a" * 5000, b"--a\r\n\r\n"),
        ("multipart/form-data; boundary=\xff".encode("latin-1").decode("latin-1"), b"--\xff--"),
        ("multipart/form-data; charset=punycode; boundary=a",
         b"--a\r\nContent-Disposition: form-data; name=\"\xff\"\r\n\r\nx\r\n--a--\r\n"),
    ],
)  # fmt: skip
def test_dali_030_multipart_that_is_none(wire: Wire, content_type: str, body: bytes) -> None:
    """Refused as the client's fault, or read as a form of nothing; never the server's fault."""
    for path in ("soda/sync", "sia/query?MAXREC=1", "datalink/links"):
        answer = wire.client.post(
            wire.base + path,
            content=body,
            headers={b"Content-Type": content_type.encode("latin-1")},
        )
        assert answer.status_code in {200, 400}
        assert answer.headers["x-request-id"]
        if path == "soda/sync":
            assert answer.text.startswith("UsageError: ")
        else:
            assert_valid_votable(answer.content)
    wire.assert_alive()


def test_dali_030_a_part_may_be_a_file(wire: Wire) -> None:
    """An upload, which no parameter here takes, is passed over."""
    answer = wire.client.post(
        wire.base + "soda/sync",
        data={"ID": VISIT, "CIRCLE": CIRCLE},
        files={"UPLOAD": ("x.fits", b"\x00\xff" * 5000, "application/fits")},
    )
    assert answer.content == wire.get("soda/sync", ID=VISIT, CIRCLE=CIRCLE).content


# ------------------------------------------------------------------ VOTable


@pytest.mark.parametrize(
    ("path", "asked"),
    [("sia/query", {}), ("sia/query", {"MAXREC": 0}), ("sia/query", {"POS": "x"}),
     ("datalink/links", {}), ("datalink/links", {"ID": [VISIT, CUBE]}),
     ("datalink/links", {"ID": "none"}), ("sia/nothing", {}), ("datalink/nothing", {})],
    ids=str,
)  # fmt: skip
def test_vot_001_to_013_documents(wire: Wire, path: str, asked: dict[str, object]) -> None:
    """Version 1.4, ASCII, valid; strings char with arraysize *; units are VOUnits."""
    document = wire.get(path, **asked).content
    assert_valid_votable(document)
    root = parse_xml(document)
    assert root.tag == "{http://www.ivoa.net/xml/VOTable/v1.3}VOTABLE"
    assert root.get("version") == "1.4"
    assert len(elements(root, "v:RESOURCE[@type='results']")) == 1
    for one in elements(root, "//v:FIELD | //v:PARAM"):
        assert one.get("datatype") in {"char", "int", "long", "double", "boolean"}
        assert one.get("arraysize") == "*" or one.get("datatype") != "char"
        assert one.get("unit") in {None, "deg", "arcsec", "m", "d", "s", "byte", "kbyte"}
    for field in elements(root, "//v:FIELD[@unit='d']"):
        (time_frame,) = elements(root, f"//v:TIMESYS[@ID='{field.get('ref')}']")
        assert (time_frame.get("timescale"), time_frame.get("timeorigin")) == ("UTC", "MJD-origin")
    for name in ("s_ra", "s_dec"):
        for field in elements(root, f"//v:FIELD[@name='{name}']"):
            assert elements(root, f"//v:COOSYS[@ID='{field.get('ref')}' and @system='ICRS']")


def test_dali_053_the_query_is_said_again(wire: Wire) -> None:
    """What was asked stands in the answer, escaped."""
    text = "<x>&\"'é\u2603"
    root = parse_xml(wire.get("sia/query", TARGET=text, MAXREC=3).content)
    said = {one.get("name"): one.get("value") for one in elements(root, "//v:INFO")}
    assert said["TARGET"] == text
    assert said["MAXREC"] == "3"
    assert said["standardID"] == "ivo://ivoa.net/std/SIA"


# ------------------------------------------------------------------ browsers


def test_cors_on_every_answer(wire: Wire) -> None:
    """A page elsewhere may read answers, errors too, and the headers that it needs."""
    origin = {"Origin": "https://aladin.example"}
    for path, asked in DOCUMENTS.items():
        answer = wire.get(path, origin, **asked)
        assert answer.status_code == 200, path
        assert answer.headers["access-control-allow-origin"] == "*"
    for method, path, asked, status in ERRORS:
        answer = wire.ask(method, path, origin, **asked)
        assert answer.status_code == status, path
        assert answer.headers["access-control-allow-origin"] == "*"
        exposed = answer.headers["access-control-expose-headers"].lower()
        for name in ("content-disposition", "content-length", "x-request-id", "etag"):
            assert name in exposed


@pytest.mark.parametrize("path", [*DOCUMENTS, "nothing"])
def test_cors_preflight(wire: Wire, path: str) -> None:
    """Every path answers OPTIONS with what may be asked of it, and no body."""
    answer = wire.ask(
        "OPTIONS", path,
        {"Origin": "https://aladin.example", "Access-Control-Request-Method": "POST",
         "Access-Control-Request-Headers": "authorization, range, x-request-id"},
    )  # fmt: skip
    assert answer.status_code in {200, 204}
    assert answer.content == b""
    assert {"GET", "HEAD", "POST"} <= {
        *re.split(r",\s*", answer.headers["access-control-allow-methods"])
    }
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert {"authorization", "range", "x-request-id"} <= {*re.split(r",\s*", allowed)}


def test_request_ids(wire: Wire) -> None:
    """Each request has its own; one that a proxy gave is kept if it is harmless."""
    ids = {wire.get("health").headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20
    assert wire.get("nothing", {"X-Request-ID": "abc-123"}).headers["x-request-id"] == "abc-123"
    for text in ("a b", "x" * 1000, "é", "<script>", ""):
        answer = wire.client.get(
            wire.base + "nothing", headers={b"X-Request-ID": text.encode("utf-8")}
        )
        assert re.fullmatch(r"[A-Za-z0-9._:/+=@-]{1,128}", answer.headers["x-request-id"])
        assert answer.headers["x-request-id"] != text


@pytest.mark.parametrize("path", DOCUMENTS)
def test_head_is_get_without_the_body(wire: Wire, path: str) -> None:
    """Everywhere; the length is that of the body of the GET, where it is told."""
    got, head = wire.get(path, **DOCUMENTS[path]), wire.ask("HEAD", path, **DOCUMENTS[path])
    assert (head.status_code, head.content) == (200, b"")
    varying = {"date", "x-request-id"}
    assert {name: text for name, text in head.headers.items() if name not in varying} == {
        name: text for name, text in got.headers.items() if name not in varying
    }


# ------------------------------------------------------------------ files


@pytest.fixture(scope="module", name="cube")
def _cube(wire: Wire) -> bytes:
    return parent_file(wire.folder, CUBE).read_bytes()


def test_files_whole_and_head(wire: Wire, cube: bytes) -> None:
    """All of its bytes, its length, a strong ETag, ranges offered; HEAD the same."""
    answer = wire.get(CUBE_FILE)
    assert answer.content == cube
    assert answer.headers["content-type"] == "application/fits"
    assert answer.headers["accept-ranges"] == "bytes"
    assert re.fullmatch(r'"[^"]+"', answer.headers["etag"])
    head = wire.ask("HEAD", CUBE_FILE)
    assert head.headers["content-length"] == str(len(cube))
    # JS9 appends a random number; nobody minds.
    assert wire.get(CUBE_FILE, r="0.123").content == cube


RANGES = [
    ("bytes=0-9", 0, 10), ("bytes=0-0", 0, 1), ("bytes=2880-5759", 2880, 5760),
    ("bytes=100-", 100, None), ("bytes=-100", -100, None), ("bytes=0-99999999999", 0, None),
    ("BYTES=5-9", 5, 10), ("bytes=-99999999999", 0, None),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "start", "stop"), RANGES, ids=[text for text, *_ in RANGES])
def test_files_ranges(wire: Wire, cube: bytes, asked: str, start: int, stop: int | None) -> None:
    """206 with those very bytes and where they are."""
    answer = wire.get(CUBE_FILE, {"Range": asked})
    want = cube[start:stop]
    assert (answer.status_code, answer.content) == (206, want)
    low = start if start >= 0 else len(cube) + start
    said = f"bytes {low}-{low + len(want) - 1}/{len(cube)}"
    assert answer.headers["content-range"] == said
    assert answer.headers["content-length"] == str(len(want))


@pytest.mark.parametrize(
    "asked", ["bytes=99999999999-", "bytes=99999999999-99999999999", "bytes=-0"]
)
def test_files_ranges_beyond_the_end(wire: Wire, cube: bytes, asked: str) -> None:
    """416, with the length, in text."""
    answer = wire.get(CUBE_FILE, {"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(cube)}"
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    "asked",
    ["bytes=", "bytes=-", "bytes=5-2", "bytes=a-b", "bytes=0-1,5-9", "lines=0-5", "bytes 0-5",
     "bytes=-1-5", "bytes=0x0-5", "bytes=+1-5", "0-5", "", "bytes=" + "9" * 5000 + "-"],
)  # fmt: skip
def test_files_ranges_that_are_none(wire: Wire, cube: bytes, asked: str) -> None:
    """Ignored, as RFC 9110 allows: all of the file."""
    answer = wire.get(CUBE_FILE, {"Range": asked})
    assert (answer.status_code, len(answer.content)) == (200, len(cube))


def test_files_conditions(wire: Wire, cube: bytes) -> None:
    """If-None-Match, If-Modified-Since, and If-Range with the right and the wrong version."""
    whole = wire.get(CUBE_FILE)
    tag, modified = whole.headers["etag"], whole.headers["last-modified"]
    assert wire.get(CUBE_FILE, {"If-None-Match": tag}).status_code == 304
    assert wire.get(CUBE_FILE, {"If-None-Match": '"x"'}).status_code == 200
    assert wire.get(CUBE_FILE, {"If-Modified-Since": modified}).status_code == 304
    part = {"Range": "bytes=0-9"}
    assert wire.get(CUBE_FILE, {**part, "If-Range": tag}).status_code == 206
    assert wire.get(CUBE_FILE, {**part, "If-Range": modified}).status_code == 206
    for other in ('"other"', f"W/{tag}", "Thu, 01 Jan 1998 00:00:00 GMT", "nonsense", ""):
        answer = wire.get(CUBE_FILE, {**part, "If-Range": other})
        assert (answer.status_code, len(answer.content)) == (200, len(cube)), other


PATHS = [
    "/files/", "/files", "/files//", "/files/.", "/files/..", "/files/../", "/files/radio",
    "/files/radio/", "/files/radio/..", "/files/radio/../catalog.sqlite",
    "/files/radio/../radio/cuttlefish_hi.fits", "/files/radio/./cuttlefish_hi.fits",
    "/files/radio//cuttlefish_hi.fits", "/files//radio/cuttlefish_hi.fits",
    "/files/radio/cuttlefish_hi.fits/", "/files/radio/cuttlefish_hi.fits%00",
    "/files/radio/cuttlefish_hi.fits%0a", "/files/radio/cuttlefish_hi.fits.gz",
    "/files/../../../../../../etc/passwd", "/files/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/files/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd", "/files/..%5c..%5c..%5cetc%5cpasswd",
    "/files/%252e%252e/%252e%252e/etc/passwd", "/files/....//....//etc/passwd",
    "/files//etc/passwd", "/files/%2fetc%2fpasswd", "/files/file:///etc/passwd",
    "/files/http://127.0.0.1/", "/files/radio/\\..\\..\\etc", "/files/radio/~root",
    "/files/truth.csv", "/files/demo-archive.json", "/files/catalog.sqlite", "/files/cache/",
    "/files/radio/%ff%fe", "/files/radio/%c0%ae%c0%ae/x", "/files/radio/*", "/files/*/*",
    "/files/radio/cuttlefish_hi.fits?x/../../etc/passwd#", "/files/%", "/files/%zz",
    "/files/radio%3Fx",
    "/files/" + "a/" * 3000, "/files/" + "x" * 60_000, "/../etc/passwd", "/..", "//", "/./health",
    "/static/../../etc/passwd", "/files/visits/visit_2024110900036_r.fits",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ascii(path[:50]))
def test_files_nothing_else_can_be_reached(wire: Wire, cube: bytes, path: str) -> None:
    """Only what was ingested, only by its own path; the rest is 404 and tells nothing."""
    answer = wire.target(path)
    if path.startswith("/files/radio/cuttlefish_hi.fits?"):
        assert (answer.status, answer.body) == (200, cube)
        return
    assert answer.status == 404
    assert answer.body.startswith(b"UsageError: ")
    assert b"root:" not in answer.body
    assert len(answer.body) < 2000


def test_the_page_for_people(wire: Wire) -> None:
    """It says what this is, and every link of its own works."""
    answer = wire.get("")
    assert answer.headers["content-type"].startswith("text/html")
    links = {html.unescape(link) for link in re.findall(r'href="([^"]+)"', answer.text)}
    own = [link for link in links if link.startswith(wire.base)]
    assert len(own) > 5
    for link in own:
        assert wire.get(link).status_code == 200, link
    for name in ("visits", "templates", "differences", "coadds", "stacks", "infrared", "drizzled",
                 "radio"):  # fmt: skip
        assert name in answer.text


def test_dali_040_lengths(wire: Wire) -> None:
    """Short answers have their length; each has a type."""
    for path, asked in DOCUMENTS.items():
        answer: httpx2.Response = wire.get(path, **asked)
        assert answer.headers["content-length"] == str(len(answer.content)), path
