"""The documents and the page: what the service says of itself."""

from __future__ import annotations

import json
import re
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from lxml import etree
from support.catalogs import AUTHORITY, HOSTILE_AS_READ
from support.scripted import PLAIN, SMALL

from soda_service.web import showcase

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from support.service import LiveService

PREFIXES = ("", "/sia", "/datalink", "/soda")
READ = [
    "/", "/health", "/soda/examples", "/files/visits/plain.fits",
    *(f"{one}/{document}" for one in PREFIXES for document in ("capabilities", "availability")),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a page is to show is waited for, however slow the machine is."""
    monkeypatch.setattr(showcase, "_PAGE_SECONDS", 600)


class _Page(HTMLParser):
    """Collects what a page refers to, and checks that its elements nest."""

    VOID = frozenset({"meta", "link", "br", "img", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.resources: list[str] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a":
            self.links.append(given["href"] or "")
        elif given.get("src") or given.get("href"):
            self.resources.append(given.get("src") or given.get("href") or "")
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


class TestDocuments:
    """VOSI 1.1, DALI examples, liveness."""

    @pytest.mark.parametrize("path", READ)
    def test_head_answers_wherever_get_does(self, live: LiveService, path: str) -> None:
        """With the same headers."""
        got, head = live.get(path), live.head(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        for name in ("content-type", "content-length"):
            assert head.headers[name] == got.headers[name]

    @pytest.mark.parametrize("prefix", PREFIXES)
    def test_capabilities_say_when_they_changed(self, live: LiveService, prefix: str) -> None:
        """VOSI-003: Last-Modified, for HEAD too; every URL is of this service."""
        answer = live.get(f"{prefix}/capabilities")
        assert answer.headers["content-type"] == "text/xml"
        assert parsedate_to_datetime(answer.headers["last-modified"]).year > 2000
        urls = [one.text for one in etree.fromstring(answer.content).iter("accessURL")]
        assert urls
        assert all(url is not None and url.startswith(live.base + "/") for url in urls)

    @pytest.mark.parametrize("prefix", PREFIXES)
    def test_availability(self, live: LiveService, prefix: str) -> None:
        """The catalog is asked."""
        root = etree.fromstring(live.get(f"{prefix}/availability").content)
        assert root.findtext("{*}available") == "true"
        assert "4 datasets" in (root.findtext("{*}note") or "")

    def test_every_example_works(self, live: LiveService) -> None:
        """The links of the document are followed."""
        answer = live.get("/soda/examples")
        assert answer.headers["content-type"] == "application/xhtml+xml"
        links = [
            str(one.get("href"))
            for one in etree.fromstring(answer.content).iter("{http://www.w3.org/1999/xhtml}a")
        ]
        cutouts = [link for link in links if "/soda/sync?" in link]
        assert cutouts
        assert all(live.client.get(link).content == SMALL for link in cutouts)

    def test_health_is_short(self, live: LiveService) -> None:
        """And is not kept by caches."""
        answer = live.get("/health")
        assert answer.text == "ok\n"
        assert answer.headers["cache-control"] == "no-store"

    def test_post_is_like_get(self, live: LiveService) -> None:
        """For SIA and DataLink, which DALI lets clients ask either way."""
        got = live.get("/datalink/links", ID=PLAIN)
        assert got.headers["content-type"] == "application/x-votable+xml;content=datalink"
        posted = live.client.post(live.url("/datalink/links"), data={"id": PLAIN})
        assert posted.content == got.content
        asked = {"POS": "CIRCLE 150 2 1", "MAXREC": "2"}
        got = live.get("/sia/query", POS=asked["POS"], MAXREC=asked["MAXREC"])
        assert got.headers["content-type"] == "application/x-votable+xml"
        posted = live.client.post(live.url("/sia/query"), data=asked)
        multipart = live.client.post(
            live.url("/sia/query"), files={name: (None, value) for name, value in asked.items()}
        )
        assert posted.content == multipart.content == got.content

    @pytest.mark.parametrize("path", ["/sia/query", "/datalink/links"])
    def test_text_xml_may_be_asked_for(self, live: LiveService, path: str) -> None:
        """DALI 1.1 §3.4.3: the asked type is the one that is sent."""
        answer = live.get(path, RESPONSEFORMAT="text/xml")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/xml"

    @pytest.mark.parametrize(
        ("asked", "said", "separator"),
        [
            ("csv", "text/csv;charset=utf-8;header=present", ","),
            ("text/tab-separated-values", "text/tab-separated-values;charset=utf-8", "\t"),
        ],
    )
    def test_images_as_lines_of_text(
        self, live: LiveService, asked: str, said: str, separator: str
    ) -> None:
        """Names first, a line for each image; HEAD has the same headers."""
        answer = live.get("/sia/query", RESPONSEFORMAT=asked, MAXREC="2")
        assert (answer.status_code, answer.headers["content-type"]) == (200, said)
        lines = answer.text.splitlines()
        assert len(lines) == 3
        assert "obs_publisher_did" in lines[0].split(separator)
        head = live.head("/sia/query", RESPONSEFORMAT=asked, MAXREC="2")
        assert head.headers["content-type"] == said

    def test_links_say_how_they_are_serialized(self, live: LiveService) -> None:
        """Where that was asked; they have no other form."""
        asked = "application/x-votable+xml;serialization=TABLEDATA"
        answer = live.get("/datalink/links", ID=PLAIN, RESPONSEFORMAT=asked)
        assert answer.headers["content-type"] == (
            "application/x-votable+xml;content=datalink;serialization=TABLEDATA"
        )

    def test_a_long_document_is_streamed(
        self, serve: Callable[..., AbstractContextManager[LiveService]]
    ) -> None:
        """And is whole all the same."""
        identifiers = [f"ivo://{AUTHORITY}/visits?{n:0200}" for n in range(3000)]
        with serve(links_limit=5000) as live:
            answer = live.client.post(live.url("/datalink/links"), data={"ID": identifiers})
            head = live.head("/datalink/links", ID=identifiers[:200])
        assert answer.headers["transfer-encoding"] == "chunked"
        rows = etree.fromstring(answer.content).findall(".//{*}TR")
        assert len(rows) == 3000
        assert (head.status_code, head.content) == (200, b"")


class TestPage:
    """The page for people."""

    def test_it_is_well_formed_and_needs_nothing_else(self, live: LiveService) -> None:
        """No script, no style sheet, no image from anywhere."""
        answer = live.get("/")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        page = _Page(answer.text)
        assert all(one.startswith("data:") for one in page.resources)
        assert "<script" not in answer.text
        assert '<html lang="en">' in answer.text

    def test_its_links_work(self, live: LiveService) -> None:
        """Each of them."""
        links = [link for link in _Page(live.get("/").text).links if not link.startswith("#")]
        kinds = ("/sia/query?POS", "/datalink/links?", "/soda/sync?", "/soda/examples", "/capab")
        assert all(any(kind in link for link in links) for kind in kinds)
        for link in links:
            assert live.client.get(link).status_code == 200, link

    def test_its_snippets_name_this_service(self, live: LiveService) -> None:
        """They can be pasted as they are."""
        text = "".join(_Page(live.get("/").text).text)
        assert f'SIA2Service("{live.base}/sia' in text
        curl = re.search(r"curl .* '(\S+)'", text)
        assert curl is not None
        assert live.client.get(curl[1]).content == SMALL

    def test_settings_are_escaped(
        self, serve: Callable[..., AbstractContextManager[LiveService]]
    ) -> None:
        """Whatever the operator called the service."""
        with serve(title=HOSTILE_AS_READ, contact="</p><script>") as live:
            text = live.get("/").text
        _Page(text)
        assert "<b>" not in text
        assert "<script" not in text

    def test_an_empty_catalog_has_a_page(
        self, serve: Callable[..., AbstractContextManager[LiveService]]
    ) -> None:
        """It says what to do next; the examples are none."""
        with serve(is_empty=True) as live:
            assert "soda-service ingest" in live.get("/").text
            assert live.get("/soda/examples").status_code == 200


class TestLog:
    """One line for each request."""

    def test_lines_of_text(
        self,
        serve: Callable[..., AbstractContextManager[LiveService]],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """With the id, the status, the size and the run; a client writes no lines of its own."""
        with serve(log_requests=True) as live:
            live.get("/soda/sync", {"X-Request-ID": "seven"}, ID=PLAIN, RUNID="run\n2026 forged")
            for path in ("/soda/sync", "/sia/query", "/datalink/links"):
                refused = live.get(path, BAND="x", RESPONSEFORMAT="x", RUNID="refused-run")
                assert refused.status_code == 400
        lines = capsys.readouterr().err.splitlines()
        line = next(one for one in lines if "[seven]" in one)
        assert sum(one.endswith(" run refused-run") for one in lines) == 3
        pattern = r"\S+Z INFO soda_service.access \[seven\] 127.0.0.1 GET /soda/sync\?ID=\S+ 200 "
        assert re.match(pattern + rf"{len(SMALL)} bytes \d+\.\d\d ms run run\\n2026 forged$", line)

    def test_lines_of_json(
        self,
        serve: Callable[..., AbstractContextManager[LiveService]],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Each of them an object."""
        with serve(log_requests=True, log_format="json") as live:
            live.get("/soda/sync", {"X-Request-ID": "eight"}, ID="x")
        lines = [json.loads(one) for one in capsys.readouterr().err.splitlines() if "eight" in one]
        facts = next(one for one in lines if one["logger"] == "soda_service.access")
        assert (facts["status"], facts["method"], facts["client"]) == (404, "GET", "127.0.0.1")

    def test_it_can_be_shut(
        self,
        serve: Callable[..., AbstractContextManager[LiveService]],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """By its own setting or by the level."""
        for changes in ({"log_requests": False}, {"log_requests": True, "log_level": "warning"}):
            with serve(**changes) as live:
                live.get("/health")
            assert "/health" not in capsys.readouterr().err
