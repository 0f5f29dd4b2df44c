"""Errors take the form of the protocol whose path they happen below."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx2
import pytest
from lxml import etree
from support.scripted import PLAIN, SECRET

from soda_service.discovery.faults import explain
from soda_service.errors import (
    AuthenticationError,
    AuthorizationError,
    CorruptFileError,
    SourceUnavailableError,
    UnknownDatasetError,
)
from soda_service.web.errors import error_response
from soda_service.web.log import _is_news

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from support.service import LiveService

VOTABLE = "application/x-votable+xml"
STATUS = "{*}RESOURCE[@type='results']/{*}INFO[@name='QUERY_STATUS'][@value='ERROR']"


def fault(answer: httpx2.Response) -> str:
    """The message of an error document."""
    assert answer.headers["content-type"] == VOTABLE
    info = etree.fromstring(answer.content).find(STATUS)
    assert info is not None
    return info.text or ""


class TestRouter:
    """404 and 405, which no endpoint writes."""

    @pytest.mark.parametrize("path", ["/soda/", "/soda/async", "/soda/sync/", "/soda/sync/x"])
    def test_unknown_paths_of_soda(self, live: LiveService, path: str) -> None:
        """Text with a legal label."""
        answer = live.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text.startswith("UsageError: ")

    @pytest.mark.parametrize(
        "path", ["/sia/", "/sia/query/", "/sia/query/capabilities", "/datalink/nope"]
    )
    def test_unknown_paths_of_sia_and_datalink(self, live: LiveService, path: str) -> None:
        """VOTable; pyvo goes on to the sibling when …/query/capabilities is 404."""
        answer = live.get(path)
        assert answer.status_code == 404
        assert fault(answer).startswith("UsageFault: ")

    @pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "PROPFIND"])
    def test_methods_that_nobody_answers(self, live: LiveService, method: str) -> None:
        """405 with Allow, in each form."""
        soda = live.client.request(method, live.url("/soda/sync"))
        assert soda.status_code == 405
        assert soda.text.startswith("UsageError: ")
        assert set(soda.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
        assert fault(live.client.request(method, live.url("/sia/query"))).startswith("UsageFault: ")

    def test_documents_are_only_read(self, live: LiveService) -> None:
        """VOSI 1.1 §2."""
        assert live.client.post(live.url("/capabilities")).status_code == 405
        assert live.client.post(live.url("/soda/availability")).status_code == 405

    def test_paths_outside_the_protocols(self, live: LiveService) -> None:
        """Text; the path is shown harmlessly."""
        status, headers, body = live.raw("GET", "/%3Cscript%3E%0D%0AX-Evil:1")
        assert status == 404
        assert headers["content-type"].startswith("text/plain")
        assert "x-evil" not in headers
        assert b"\r" not in body


class TestQueries:
    """SIA 2.0 §3.2, DataLink 1.1 §3.4."""

    @pytest.mark.parametrize("query", ["POS=BOX", "BAND=2+1", "MAXREC=-1", "MAXREC=1&MAXREC=2"])
    def test_usage_faults(self, live: LiveService, query: str) -> None:
        """400, VOTable, the label first; multiple values are no label of SIA."""
        answer = live.client.get(live.base + "/sia/query?" + query)
        assert answer.status_code == 400
        assert fault(answer).startswith("UsageFault: ")

    @pytest.mark.parametrize("name", ["csv", "text/tab-separated-values"])
    def test_text_where_a_text_table_was_asked_for(self, live: LiveService, name: str) -> None:
        """By GET and by POST."""
        for answer in (
            live.get("/sia/query", RESPONSEFORMAT=name, POS="x"),
            live.client.post(live.url("/sia/query"), data={"RESPONSEFORMAT": name, "POS": "x"}),
        ):
            assert answer.status_code == 400
            assert answer.headers["content-type"].startswith("text/plain")
            assert answer.text.startswith("UsageFault: ")

    def test_unknown_format_of_links(self, live: LiveService) -> None:
        """The request fails as a whole."""
        answer = live.get("/datalink/links", ID=PLAIN, RESPONSEFORMAT="hdf5")
        assert answer.status_code == 400
        assert fault(answer).startswith("UsageFault: ")

    def test_hostile_text_comes_back_harmless(self, live: LiveService) -> None:
        """What was sent is quoted in a document that stays well-formed."""
        answer = live.get("/sia/query", POS="</INFO><x>&\0\x1b\ud7ff é")
        assert "</INFO><x>" in fault(answer)


class TestBugs:
    """What nobody planned."""

    @pytest.mark.parametrize(
        ("path", "label"), [("/bug", "Error"), ("/soda/bug", "Error"), ("/sia/bug", "FatalFault")]
    )
    def test_a_bug_is_500_with_a_request_id(
        self, live: LiveService, path: str, label: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The log has the traceback; the client has the id to ask by, and no more."""
        answer = live.get(path, {"X-Request-ID": "my-id-7"})
        assert answer.status_code == 500
        message = fault(answer) if label == "FatalFault" else answer.text.strip()
        assert message == f"{label}: internal error, request my-id-7"
        assert SECRET not in answer.text
        assert "hunter2" in caplog.text
        assert live.get("/health").status_code == 200

    @pytest.mark.parametrize("path", ["/bug", "/late-bug"])
    def test_the_log_has_one_traceback(
        self, live: LiveService, path: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Whether or not the answer had begun."""
        with suppress(httpx2.RemoteProtocolError):
            live.get(path)
        assert live.get("/health").status_code == 200
        assert [one.exc_info is not None for one in caplog.records] == [True]
        assert caplog.text.count("Traceback") == 1
        assert "hunter2" in caplog.text


class TestBrokenFiles:
    """What is wrong with a file is for the operator; the client gets the id to ask by."""

    def test_the_log_has_dataset_and_place_in_one_line(
        self, live: LiveService, caplog: pytest.LogCaptureFixture
    ) -> None:
        """And the client has no place."""
        asked = live.url("/soda/sync", ID=PLAIN, CUTOUTDETAIL="corrupt")
        answer = live.client.get(asked, headers={"X-Request-ID": "my-id-8"})
        assert answer.text == "Error: HDU 1 is truncated at byte 2880, request my-id-8\n"
        (record,) = caplog.records
        expected = f"{PLAIN} ({SECRET}): HDU 1 is truncated at byte 2880"
        assert (record.levelname, record.getMessage()) == ("ERROR", expected)
        assert record.exc_info is None

    @pytest.mark.parametrize(
        ("detail", "level", "line"),
        [
            ("broken", "WARNING", f" ({SECRET}): the disk does not answer"),
            ("short", "ERROR", ": 1028096 bytes were still to come, got 0"),
        ],
    )
    def test_one_line_for_an_answer_that_broke_off(
        self,
        live: LiveService,
        detail: str,
        level: str,
        line: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """By the service; what the server adds, the handler of the log leaves out."""
        with pytest.raises(httpx2.RemoteProtocolError):
            live.get("/soda/sync", ID=PLAIN, CUTOUTDETAIL=detail)
        assert live.get("/health").status_code == 200
        record, *others = caplog.records
        assert (record.levelname, record.exc_info) == (level, None)
        assert record.getMessage() == f"an answer broke off: {PLAIN}{line}"
        assert [_is_news(one) for one in others] == [False]


@pytest.mark.parametrize(
    ("error", "status", "fault"),
    [
        (AuthenticationError("who are you?"), 401, "UsageFault: who are you?"),
        (AuthorizationError("not you"), 403, "UsageFault: not you"),
        (UnknownDatasetError("x"), 404, "NotFoundFault: no such dataset: 'x'"),
        (SourceUnavailableError("later"), 503, "TransientFault: later, request -"),
        (CorruptFileError("broken"), 500, "FatalFault: broken, request -"),
    ],
)
def test_a_document_and_a_row_of_one_have_one_label(
    error: Exception, status: int, fault: str
) -> None:
    """Whichever of the two a client sees."""
    answer = error_response(error, {"type": "http", "path": "/datalink/links", "method": "GET"})
    assert answer.status_code == status
    info = etree.fromstring(bytes(answer.body)).find(STATUS)
    assert info is not None
    assert info.text == explain(error) == fault


class TestRequestIds:
    """In every answer."""

    def test_an_id_is_made_and_differs(self, live: LiveService) -> None:
        """On success and on failure."""
        ids = {live.get(path).headers["x-request-id"] for path in ("/health", "/soda/sync", "/no")}
        assert len(ids) == 3

    @pytest.mark.parametrize("given", ["", "a b", "x" * 129, "é", "a\tb", "<x>"])
    def test_ids_that_are_not_sane_are_replaced(self, live: LiveService, given: str) -> None:
        """They would spoil the log."""
        headers = {b"X-Request-ID": given.encode("latin-1")}
        seen = live.client.get(live.url("/health"), headers=headers).headers["x-request-id"]
        assert re.fullmatch(r"[0-9a-f]{16,}", seen)


class TestCors:
    """Pages of other origins may read everything, errors included."""

    PATHS = ("/health", "/soda/sync", "/soda/nope", "/sia/query?POS=x", "/sia/bug", "/files/x/y")

    @pytest.mark.parametrize("path", PATHS)
    def test_every_answer_says_so(self, live: LiveService, path: str) -> None:
        """200, 400, 404 and 500 alike."""
        answer = live.client.get(live.base + path, headers={"Origin": "https://a.example"})
        assert answer.headers["access-control-allow-origin"] == "*"
        exposed = answer.headers["access-control-expose-headers"].lower().split(", ")
        assert {"content-length", "content-disposition", "etag", "x-request-id"} <= set(exposed)

    @pytest.mark.parametrize("path", PATHS)
    def test_preflight(self, live: LiveService, path: str) -> None:
        """Content-Type and Authorization may be sent."""
        answer = live.client.options(
            live.base + path,
            headers={
                "Origin": "https://a.example",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type, authorization",
            },
        )
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-allow-headers"] == "content-type, authorization"

    def test_named_origins_alone(
        self, serve: Callable[..., AbstractContextManager[LiveService]]
    ) -> None:
        """Others are not told anything, and caches keep the answers apart."""
        with serve(cors_origins=("https://a.example",)) as live:
            ours = live.get("/health", {"Origin": "https://a.example"})
            theirs = live.get("/health", {"Origin": "https://b.example"})
            nobodys = live.get("/health")
        assert ours.headers["access-control-allow-origin"] == "https://a.example"
        assert "access-control-allow-origin" not in theirs.headers
        assert "access-control-allow-origin" not in nobodys.headers
        assert all(one.headers["vary"] == "Origin" for one in (ours, theirs, nobodys))


class TestBodies:
    """Bodies that are too large."""

    @pytest.mark.parametrize("path", ["/soda/sync", "/sia/query", "/datalink/links"])
    def test_a_declared_hundred_megabytes(self, live: LiveService, path: str) -> None:
        """Refused before any of it is read."""
        with socket.create_connection(("127.0.0.1", live.port), timeout=30) as client:
            client.sendall(
                f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n"
                "Content-Type: application/x-www-form-urlencoded\r\n"
                "Expect: 100-continue\r\n\r\n".encode()
            )
            answer = client.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"\r\nconnection: close\r\n" in answer.lower()
        assert b"100 Continue" not in answer

    @pytest.mark.parametrize("path", ["/soda/sync", "/sia/query"])
    def test_a_streamed_hundred_megabytes(self, live: LiveService, path: str) -> None:
        """Refused once it is too long; the client hears of it, and the service goes on."""

        def flood() -> Iterator[bytes]:
            yield b"ID="
            for _ in range(100):
                yield b"x" * 1_000_000

        answer = live.client.post(
            live.url(path),
            content=flood(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert answer.status_code == 413
        if path == "/soda/sync":
            assert answer.text.startswith("UsageError: the body is longer than")
        else:
            assert fault(answer).startswith("UsageFault: the body is longer than")
        assert live.get("/health").text == "ok\n"

    def test_a_body_of_a_get_is_not_read(self, live: LiveService) -> None:
        """Whatever it is."""
        answer = live.client.request("GET", live.url("/health"), content=b"x" * 3_000_000)
        assert answer.status_code == 200

    @pytest.mark.parametrize(("length", "expected"), [(60_000, 404), (1_000_000, 414)])
    def test_an_endless_query_string(self, live: LiveService, length: int, expected: int) -> None:
        """The longest are more than the HTTP parser takes (RFC 9112 §3)."""
        status, headers, _ = live.raw("GET", "/soda/sync?ID=" + "x" * length)
        assert status == expected
        assert headers["content-type"].startswith("text/plain")
        assert live.get("/health").status_code == 200

    def test_a_client_that_leaves_in_the_middle_of_its_body(
        self, live: LiveService, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is nobody's error."""
        with socket.create_connection(("127.0.0.1", live.port), timeout=30) as client:
            client.sendall(
                b"POST /soda/sync HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nID=x"
            )
        for _ in range(3):
            assert live.get("/health").status_code == 200
        assert not [one for one in caplog.records if one.levelname == "ERROR"]
