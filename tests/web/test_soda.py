"""SODA {sync} over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import httpx2
import pytest
from support.clock import Clock
from support.scripted import BAND, ETAG, PLAIN, SECRET, SIZES, SMALL, serving
from support.service import SMALL_BUFFER, connect

from soda_service.web import connection, responses

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.scripted import Archive, ScriptedService
    from support.service import LiveService

SYNC = "/soda/sync"
LARGE = f"GET {SYNC}?ID={PLAIN}&CUTOUTDETAIL=large HTTP/1.1\r\nHost: x\r\n\r\n".encode()


@pytest.fixture(name="clock")
def _clock() -> Clock:
    """That of `narrow`."""
    return Clock()


@pytest.fixture(name="narrow")
def _narrow(archive: Archive, clock: Clock, tmp_path: Path) -> Iterator[ScriptedService]:
    """A service whose sockets hold less than a band."""
    with serving(archive, tmp_path, protocol=clock.protocol, buffer_bytes=SMALL_BUFFER) as service:
        yield service


class TestAnswers:
    """What a cutout looks like."""

    @pytest.mark.parametrize("detail", [None, "cold", "slow"])
    def test_a_small_cutout(self, live: LiveService, detail: str | None) -> None:
        """The same bytes and headers, whether they were at hand or not."""
        answer = live.get(SYNC, ID=PLAIN, CIRCLE="1 2 3", CUTOUTDETAIL=detail or "")
        assert answer.status_code == 200
        assert answer.content == SMALL
        assert answer.headers["content-length"] == str(len(SMALL))
        assert answer.headers["content-type"] == "application/fits"
        name = f'attachment; filename="{detail or "small.fits"}"'
        assert answer.headers["content-disposition"] == name
        assert answer.headers["etag"] == ETAG
        modified = parsedate_to_datetime(answer.headers["last-modified"])
        assert modified.timestamp() == 1_700_000_000
        assert answer.headers["cache-control"] == "no-transform"

    def test_a_large_cutout_comes_in_bands(self, live: LiveService) -> None:
        """With its exact length, and nothing left out."""
        with live.client.stream("GET", live.url(SYNC, ID=PLAIN, CUTOUTDETAIL="large")) as answer:
            assert answer.headers["content-length"] == str(SIZES["large"])
            assert "transfer-encoding" not in answer.headers
            content = answer.read()
        assert content == BAND * 64

    def test_head_answers_as_get_does(self, live: LiveService) -> None:
        """All headers, no body, and no band is made for it."""
        for detail in ("cold", "large"):
            got = live.client.stream("GET", live.url(SYNC, ID=PLAIN, CUTOUTDETAIL=detail))
            with got as answer:
                headers = dict(answer.headers)
                answer.read()
            head = live.head(SYNC, ID=PLAIN, CUTOUTDETAIL=detail)
            assert (head.status_code, head.content) == (200, b"")
            varying = {"date", "x-request-id"}
            assert {k: v for k, v in head.headers.items() if k not in varying} == {
                k: v for k, v in headers.items() if k not in varying
            }

    def test_no_overlap_is_204_with_nothing(self, live: LiveService) -> None:
        """SODA 1.0 §5.1; neither a type nor a length of what is not there."""
        for method in ("GET", "HEAD", "POST"):
            url = live.url(SYNC, ID=PLAIN, CUTOUTDETAIL="nothing")
            answer = live.client.request(method, url)
            assert (answer.status_code, answer.content) == (204, b"")
            assert "content-type" not in answer.headers
            assert "content-length" not in answer.headers
            assert "transfer-encoding" not in answer.headers

    def test_fits_is_never_compressed_for_transport(self, live: LiveService) -> None:
        """Accept-Encoding changes nothing, and no Range is offered."""
        for detail in ("cold", "large"):
            answer = live.get(
                SYNC, {"Accept-Encoding": "gzip, br", "Range": "bytes=0-9"}, ID=PLAIN,
                CUTOUTDETAIL=detail,
            )  # fmt: skip
            assert answer.status_code == 200
            assert "content-encoding" not in answer.headers
            assert "accept-ranges" not in answer.headers

    @pytest.mark.parametrize("asked", ["fits", "application/fits", "image/fits"])
    def test_the_asked_name_of_fits_is_sent(self, live: LiveService, asked: str) -> None:
        """DALI 1.1 §3.4.3."""
        expected = asked if "/" in asked else "application/fits"
        answer = live.get(SYNC, ID=PLAIN, RESPONSEFORMAT=asked)
        assert answer.headers["content-type"] == expected

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"If-None-Match": ETAG}, 304),
            ({"If-None-Match": f'"other", W/{ETAG}'}, 304),
            ({"If-None-Match": "*"}, 304),
            ({"If-None-Match": '"other"'}, 200),
            (
                {"If-None-Match": '"other"', "If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
                200,
            ),
            ({"If-Modified-Since": "Tue, 14 Nov 2023 22:13:20 GMT"}, 304),
            ({"If-Modified-Since": "Tue, 14 Nov 2023 22:13:19 GMT"}, 200),
            ({"If-Modified-Since": "yesterday"}, 200),
            ({"If-Match": ETAG}, 200),
            ({"If-Match": "*"}, 200),
            ({"If-Match": f'"other", {ETAG}'}, 200),
            ({"If-Match": ETAG, "If-Unmodified-Since": "Tue, 14 Nov 2023 22:13:19 GMT"}, 200),
            ({"If-Match": ETAG, "If-None-Match": ETAG}, 304),
            ({"If-Unmodified-Since": "Tue, 14 Nov 2023 22:13:20 GMT"}, 200),
            ({"If-Unmodified-Since": "yesterday"}, 200),
        ],
    )
    def test_conditions(self, live: LiveService, headers: dict[str, str], status: int) -> None:
        """A cutout that the client has is not sent again."""
        answer = live.get(SYNC, headers, ID=PLAIN)
        assert answer.status_code == status
        assert answer.headers["etag"] == ETAG
        assert answer.content == (SMALL if status == 200 else b"")

    @pytest.mark.parametrize(
        "headers",
        [
            {"If-Match": '"other"'},
            {"If-Match": f"W/{ETAG}"},
            {"If-Match": '"other"', "If-None-Match": ETAG},
            {"If-Unmodified-Since": "Tue, 14 Nov 2023 22:13:19 GMT"},
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_another_version_or_nothing(
        self, live: LiveService, headers: dict[str, str], method: str
    ) -> None:
        """RFC 9110 §13.1.1, §13.1.4: who wants what is here no more gets nothing else for it."""
        answer = live.client.request(method, live.url(SYNC, ID=PLAIN), headers=headers)
        assert answer.status_code == 412
        assert answer.headers["content-type"].startswith("text/plain")
        said = answer.text.startswith("UsageError: ")
        assert said is (method == "GET")


class TestRequests:
    """The ways to ask."""

    def test_post_urlencoded(self, live: LiveService) -> None:
        """As a form, and with some parameters left in the query string."""
        answer = live.client.post(live.url(SYNC), data={"id": PLAIN, "CIRCLE": "1 2 3"})
        assert answer.content == SMALL
        answer = live.client.post(live.url(SYNC, ID=PLAIN), data={"Circle": "1 2 3"})
        assert answer.content == SMALL

    def test_post_multipart(self, live: LiveService) -> None:
        """Parts of other names are nothing to us, whatever they hold."""
        answer = live.client.post(
            live.url(SYNC),
            files=[
                ("ID", (None, PLAIN)),
                ("circle", (None, "1 2 3")),
                ("UPLOAD", ("x.bin", b"\0\xff")),
            ],
        )
        assert answer.status_code == 200
        assert answer.content == SMALL

    def test_a_part_that_is_a_file_is_a_value(self, live: LiveService) -> None:
        """`curl -F CIRCLE=@file`, as one sends a large MOC; it is never left out in silence."""
        circle = ("circle", ("c.txt", b"1 2 3\r\n"))
        answer = live.client.post(live.url(SYNC, ID=PLAIN), files=[circle])
        assert answer.content == SMALL
        for held in (b"1 2", b"\0\xff"):
            answer = live.client.post(live.url(SYNC, ID=PLAIN), files=[("CIRCLE", ("c", held))])
            assert answer.status_code == 400
            assert answer.text.startswith("UsageError: ")
        other = ("CIRCLE", ("d.txt", b"3 2 1"))
        answer = live.client.post(live.url(SYNC, ID=PLAIN), files=[circle, other])
        assert answer.text.startswith("MultiValuedParamNotSupported: ")

    def test_files_without_end(self, live: LiveService) -> None:
        files = [(f"x{number}", ("x", b"x")) for number in range(101)]
        answer = live.client.post(live.url(SYNC, ID=PLAIN), files=files)
        assert answer.status_code == 400
        assert answer.text.startswith("UsageError: ")

    def test_post_without_a_body(self, live: LiveService) -> None:
        """Parameters may all stand in the query string."""
        assert live.client.post(live.url(SYNC, ID=PLAIN)).content == SMALL

    @pytest.mark.parametrize(
        ("content_type", "body"),
        [
            ("application/json", b'{"ID": "x"}'),
            ("", b"ID=x"),
            ("multipart/form-data", b"--x\r\n"),
            ("multipart/form-data; boundary=x", b"--y\r\nnonsense"),
            (
                "multipart/form-data; boundary=x",
                b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--",
            ),
            (
                "multipart/form-data; boundary=x; charset=punycode",
                b'--x\r\nContent-Disposition: form-data; name="ID"\r\n\r\n\xff\xff\r\n--x--\r\n',
            ),
            ("application/x-www-form-urlencoded", b"ID=%FF"),
        ],
    )  # fmt: skip
    def test_bodies_that_cannot_be_read(
        self, live: LiveService, content_type: str, body: bytes
    ) -> None:
        """Each of them is the client's mistake, never ours."""
        answer = live.client.post(
            live.url(SYNC), content=body, headers={"Content-Type": content_type}
        )
        assert answer.status_code in {400, 404}
        assert answer.text.startswith("UsageError: ")

    def test_a_connection_serves_many(self, live: LiveService) -> None:
        """Keep-alive holds over answers of every kind."""
        connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=30)
        try:
            for detail in ("", "cold", "nothing", "large", "corrupt", "", "huge", "slow"):
                connection.request("GET", live.url(SYNC, ID=PLAIN, CUTOUTDETAIL=detail))
                answer = connection.getresponse()
                answer.read()
                assert not answer.will_close
        finally:
            connection.close()


class TestFailures:
    """SODA 1.0 §5.2 and what lies behind it."""

    @pytest.mark.parametrize(
        ("detail", "status", "start"),
        [
            ("corrupt", 500, "Error: HDU 1 is truncated at byte 2880, request "),
            ("bug", 500, "Error: internal error, request "),
            ("refused", 503, "ServiceUnavailable: the disk does not answer, request "),
            ("huge", 400, "UsageError: the cutout would have 1000000000000 bytes"),
        ],
    )
    def test_failures_before_the_first_byte(
        self, live: LiveService, detail: str, status: int, start: str
    ) -> None:
        """A label, a sentence, and nothing that is the operator's alone."""
        answer = live.get(SYNC, ID=PLAIN, CUTOUTDETAIL=detail)
        assert answer.status_code == status
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text.startswith(start)
        assert SECRET not in answer.text
        assert "Traceback" not in answer.text
        assert ("retry-after" in answer.headers) == (status == 503)

    def test_both_sizes_are_named(self, live: LiveService) -> None:
        """What it would be and what may be."""
        text = live.get(SYNC, ID=PLAIN, CUTOUTDETAIL="huge").text
        assert str(10**12) in text
        assert str(4 * 1024**3) in text

    @pytest.mark.parametrize(
        ("place", "less"),
        [
            ({"CIRCLE": "150 2 1"}, "less of the sky"),
            ({"STAMP": "150 2 9"}, "fewer pixels"),
            ({"PIXELS": "[1:9,1:9]"}, "fewer pixels"),
        ],
    )
    def test_what_to_ask_for_instead(
        self, live: LiveService, place: dict[str, str], less: str
    ) -> None:
        """In the terms of the request."""
        answer = live.client.get(live.url(SYNC, ID=PLAIN, CUTOUTDETAIL="huge", **place))
        assert answer.status_code == 400
        assert answer.text.endswith(f"are sent; ask for {less}\n")

    @pytest.mark.parametrize(
        ("unknown", "said"),
        [
            ({"X": "1"}, "1 unknown parameter ignored: 'X'"),
            ({"X": "1", "Y": "2"}, "2 unknown parameters ignored: 'X', 'Y'"),
        ],
    )
    def test_unknown_parameters_are_logged(
        self,
        live: LiveService,
        unknown: dict[str, str],
        said: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        with caplog.at_level("INFO"):
            answer = live.client.get(live.url(SYNC, ID=PLAIN, **unknown))
        assert answer.status_code == 200
        assert said in caplog.text

    @pytest.mark.parametrize("detail", ["broken", "short", "long"])
    def test_a_failure_on_the_way_breaks_the_connection(
        self, live: LiveService, detail: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What is short never looks complete."""
        with live.client.stream("GET", live.url(SYNC, ID=PLAIN, CUTOUTDETAIL=detail)) as answer:
            assert answer.status_code == 200
            with pytest.raises(httpx2.RemoteProtocolError):
                answer.read()
        assert live.get(SYNC, ID=PLAIN).content == SMALL
        assert caplog.records

    def test_a_client_that_goes_away_stops_the_work(self, narrow: ScriptedService) -> None:
        """Its iterator is closed soon, with few bands more than it read."""
        cutter, live = narrow.cutter, narrow.live
        with connect(live.port, buffer_bytes=SMALL_BUFFER) as client:
            client.sendall(LARGE)
            client.recv(1000)
        assert cutter.closed.wait(60)
        assert 0 < cutter.made < 10

    def test_a_client_that_reads_slowly_holds_the_work_up(self, narrow: ScriptedService) -> None:
        """Bands are not made ahead of a reader who does not take them."""
        cutter, live = narrow.cutter, narrow.live
        with connect(live.port, buffer_bytes=SMALL_BUFFER) as client:
            client.sendall(LARGE)
            client.recv(1000)
            # Meanwhile others are served, and time passes.
            for _ in range(20):
                assert live.get(SYNC, ID=PLAIN, CUTOUTDETAIL="slow").status_code == 200
            assert 0 < cutter.made < 10
        assert cutter.closed.wait(60)

    def test_a_client_that_stops_reading_is_cut_off(
        self, narrow: ScriptedService, clock: Clock
    ) -> None:
        """While it still holds its end open; one that reads slowly is not."""
        cutter, live = narrow.cutter, narrow.live
        patience = connection.STALL_SECONDS
        with connect(live.port, buffer_bytes=8 * 1024) as client:
            clock.say(client, LARGE)
            for _ in range(20):
                # More than its own socket holds, less than what the server waits to get rid of.
                left = 48 * 1024
                while left:
                    taken = len(client.recv(left))
                    assert taken
                    left -= taken
                clock.move(0.7 * patience)
                assert not cutter.closed.is_set()
            while not cutter.closed.wait(0.01):
                clock.move(patience)
            received = 0
            with contextlib.suppress(ConnectionResetError):
                while taken := len(client.recv(65536)):
                    received += taken
            assert received < SIZES["large"] / 2

    def test_a_disk_that_hangs_on_the_way_breaks_the_connection(
        self, scripted: ScriptedService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The client learns of it while the disk still hangs, and what was open is closed later."""
        cutter, live = scripted.cutter, scripted.live
        for event in (cutter.closed, cutter.goes_on, cutter.is_held):
            event.clear()
        band = responses._Ahead.band

        async def patient(ahead: responses._Ahead) -> responses.Band | None:
            """The next band; of one that does not hang, it is waited for as long as it takes."""
            while ahead._making is not None and not ahead._making.done():
                if cutter.is_held.is_set():
                    break
                await asyncio.sleep(0.005)
            return await band(ahead)

        try:
            url = live.url(SYNC, ID=PLAIN, CUTOUTDETAIL="hung")
            with monkeypatch.context() as hasty:
                hasty.setattr(responses, "STALL_SECONDS", 0.2)
                hasty.setattr(responses._Ahead, "band", patient)
                with (
                    live.client.stream("GET", url) as answer,
                    pytest.raises(httpx2.RemoteProtocolError),
                ):
                    answer.read()
            assert cutter.is_held.is_set()
            assert not cutter.closed.is_set()
            assert live.get(SYNC, ID=PLAIN, CUTOUTDETAIL="cold").content == SMALL
        finally:
            cutter.goes_on.set()
        assert cutter.closed.wait(60)

    def test_short_work_does_not_wait_behind_long_work(self, scripted: ScriptedService) -> None:
        """Every thread for long work is held; searches and the others are answered."""
        cutter, live = scripted.cutter, scripted.live
        for event in (cutter.goes_on, cutter.is_held):
            event.clear()
        path = live.url(SYNC, ID=PLAIN, CUTOUTDETAIL="held")
        try:
            with ThreadPoolExecutor(20) as clients:
                held = [clients.submit(httpx2.get, path, timeout=60) for _ in range(20)]
                assert cutter.is_held.wait(60)
                assert live.get("/availability").status_code == 200
                assert live.get("/sia/query", MAXREC="1").status_code == 200
                assert live.get("/datalink/links", ID=PLAIN).status_code == 200
                assert live.get(SYNC, ID=PLAIN).content == SMALL
                assert not any(one.done() for one in held)
                cutter.goes_on.set()
                assert {one.result().status_code for one in held} == {200}
        finally:
            cutter.goes_on.set()

    @pytest.mark.parametrize("query", ["", "?", "?CIRCLE=1+2+3", "?ID=", "?r=0.5"])
    def test_the_bare_url_explains_itself(self, live: LiveService, query: str) -> None:
        """Aladin Lite opens it; it must not think the service broken."""
        answer = live.client.get(live.base + SYNC + query)
        assert answer.status_code == 400
        assert answer.text.startswith("UsageError: ID is missing")

    @pytest.mark.parametrize(
        "identifier",
        ["x", "ivo://archive.example/visits?nope", "/etc/passwd", "file:///etc/passwd", "../../x",
         "http://127.0.0.1/", "ivo://archive.example/visits?../secret.txt", "\0", "a" * 5000,
         "ivo://archive.example/visits?gone.fits", "'; DROP TABLE dataset; --", "%"],
    )  # fmt: skip
    def test_unknown_identifiers(self, live: LiveService, identifier: str) -> None:
        """404 with the label UsageError, whatever the identifier looks like."""
        answer = live.get(SYNC, ID=identifier)
        assert answer.status_code == 404
        assert answer.text.startswith("UsageError: ")

    def test_identifiers_have_no_case(self, live: LiveService) -> None:
        """SIA 2.0 §2.1.10 compares them so."""
        assert live.get(SYNC, ID=PLAIN.upper()).status_code == 200

    @pytest.mark.parametrize(
        ("query", "label"),
        [
            ("CIRCLE=1+2", "UsageError"),
            ("CIRCLE=nan+nan+nan", "UsageError"),
            ("CIRCLE=1+2+inf", "UsageError"),
            ("RESPONSEFORMAT=video/mp4", "UsageError"),
            ("CIRCLE=1+2+3&POS=RANGE+1+2+3+4", "MultiValuedParamNotSupported"),
            ("ID=ivo://other", "MultiValuedParamNotSupported"),
        ],
    )
    def test_usage_errors(self, live: LiveService, query: str, label: str) -> None:
        """400, text/plain, the label first."""
        answer = live.client.get(live.url(SYNC, ID=PLAIN) + "&" + query)
        assert answer.status_code == 400
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text.startswith(f"{label}: ")
