"""Whole files, their ranges, and nothing else."""

from __future__ import annotations

from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given, strategies as st
from support.catalogs import AUTHORITY, URLS
from support.scripted import CONTENT

from soda_service.web.files import ByteRange, RangeVerdict, parse_range_header
from soda_service.web.urls import file_path, identifier_of

if TYPE_CHECKING:
    from support.scripted import Archive
    from support.service import LiveService

PATH = "/files/visits/plain.fits"
WHOLE = CONTENT["plain.fits"]
SIZE = len(WHOLE)


class TestWholeFiles:
    """Without a range."""

    def test_the_bytes_and_what_they_are(self, live: LiveService, archive: Archive) -> None:
        """Length, type, name, tag and date."""
        answer = live.get(PATH)
        assert answer.status_code == 200
        assert answer.content == WHOLE
        assert answer.headers["content-length"] == str(SIZE)
        assert answer.headers["content-type"] == "application/fits"
        assert answer.headers["content-disposition"] == 'inline; filename="plain.fits"'
        assert answer.headers["accept-ranges"] == "bytes"
        version = archive.datasets[0].version
        assert answer.headers["etag"] == version.etag
        assert answer.headers["last-modified"] == formatdate(
            version.modified_ns // 10**9, usegmt=True
        )

    def test_head(self, live: LiveService) -> None:
        """The same without the bytes; a range changes nothing."""
        got = live.get(PATH)
        for headers in ({}, {"Range": "bytes=0-9"}):
            head = live.head(PATH, headers)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == got.headers["content-length"]
            assert head.headers["etag"] == got.headers["etag"]

    def test_unknown_parameters_are_ignored(self, live: LiveService) -> None:
        """JS9 appends `?r=0.123`."""
        assert live.get(PATH, r="0.123").content == WHOLE

    def test_compressed_files_are_what_they_are(self, live: LiveService) -> None:
        """A .gz is a type, not a coding that a client would undo."""
        name = "deep/er/o b+c&d.fits.gz"
        answer = live.get("/files/visits/" + quote(name), {"Accept-Encoding": "gzip"})
        assert answer.content == CONTENT[name]
        assert answer.headers["content-type"] == "application/gzip"
        assert "content-encoding" not in answer.headers
        assert "filename*=UTF-8''o%20b%2Bc%26d.fits.gz" in answer.headers["content-disposition"]

    def test_an_empty_file(self, live: LiveService) -> None:
        """It has a length, and no byte of it can be asked for."""
        answer = live.get("/files/visits/empty.fits")
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == "0"
        assert live.get("/files/visits/empty.fits", {"Range": "bytes=0-"}).status_code == 416

    def test_a_file_that_is_gone(self, live: LiveService) -> None:
        """404, as if it had never been."""
        assert live.get("/files/visits/gone.fits").status_code == 404

    def test_conditions(self, live: LiveService) -> None:
        """304 with the tag and without a body."""
        first = live.get(PATH)
        for condition in (
            {"If-None-Match": first.headers["etag"]},
            {"If-Modified-Since": first.headers["last-modified"]},
        ):
            answer = live.get(PATH, condition)
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] == first.headers["etag"]
        assert live.get(PATH, {"If-None-Match": '"x"'}).status_code == 200
        assert live.get(PATH, {"If-Match": first.headers["etag"]}).content == first.content
        for condition in (
            {"If-Match": '"x"'},
            {"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        ):
            assert live.get(PATH, condition).status_code == 412


class TestRanges:
    """RFC 9110 §14."""

    @pytest.mark.parametrize(
        ("asked", "start", "stop"),
        [
            ("bytes=0-0", 0, 1),
            ("bytes=0-", 0, SIZE),
            ("bytes=5-9", 5, 10),
            ("BYTES=300000-999999", 300_000, 1_000_000),
            (f"bytes=10-{SIZE * 2}", 10, SIZE),
            ("bytes=-7", SIZE - 7, SIZE),
            (f"bytes=-{SIZE * 2}", 0, SIZE),
            (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        ],
    )
    def test_a_range(self, live: LiveService, asked: str, start: int, stop: int) -> None:
        """Exactly those bytes, and which they are."""
        answer = live.get(PATH, {"Range": asked})
        assert answer.status_code == 206
        assert answer.content == WHOLE[start:stop]
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
        assert answer.headers["content-length"] == str(stop - start)

    @pytest.mark.parametrize(
        "asked", [f"bytes={SIZE}-", f"bytes={SIZE + 5}-{SIZE + 9}", "bytes=-0"]
    )
    def test_ranges_beyond_the_end(self, live: LiveService, asked: str) -> None:
        """416 says how long the file is."""
        answer = live.get(PATH, {"Range": asked})
        assert answer.status_code == 416
        assert answer.headers["content-range"] == f"bytes */{SIZE}"

    @pytest.mark.parametrize(
        "asked",
        ["bytes=", "bytes=-", "bytes=9-5", "bytes=a-b", "bytes=+1-2", "bytes=1_0-20", "lines=1-2",
         "bytes=0-1,5-6", "bytes = 1-2", "1-2", "bytes=" + "9" * 30 + "-"],
    )  # fmt: skip
    def test_what_is_not_one_range_gives_all(self, live: LiveService, asked: str) -> None:
        """A server may ignore a Range that it does not understand."""
        answer = live.get(PATH, {"Range": asked})
        assert answer.status_code == 200
        assert answer.content == WHOLE

    def test_if_range(self, live: LiveService) -> None:
        """The range while it is the same version; otherwise all of the new one."""
        first = live.get(PATH)
        tag, date = first.headers["etag"], first.headers["last-modified"]
        for condition, status in [
            (tag, 206), (date, 206), (f"W/{tag}", 200), ('"other"', 200), ("rubbish", 200),
            ("Fri, 01 Jan 2100 00:00:00 GMT", 200),
        ]:  # fmt: skip
            answer = live.get(PATH, {"Range": "bytes=2-4", "If-Range": condition})
            assert answer.status_code == status, condition

    @given(st.integers(0, 50), st.none() | st.integers(0, 60), st.none() | st.integers(0, 60))
    def test_any_range_is_within_the_file(
        self, size: int, first: int | None, last: int | None
    ) -> None:
        """And is the one that a slice of bytes would give."""
        content = bytes(range(size))
        text = f"bytes={'' if first is None else first}-{'' if last is None else last}"
        found = parse_range_header(text.encode(), size)
        if isinstance(found, RangeVerdict):
            return
        assert isinstance(found, ByteRange)
        assert 0 <= found.start < found.stop <= size
        expected = content[-last or size :] if first is None and last else content[first or 0 :]
        if first is not None and last is not None:
            expected = content[first : last + 1]
        assert content[found.start : found.stop] == expected


class TestTricks:
    """Paths that hope to leave the archive."""

    @pytest.mark.parametrize(
        "target",
        [
            "/files/visits/secret.txt",
            "/files/visits/../secret.txt",
            "/files/visits/%2e%2e/secret.txt",
            "/files/../../../../etc/passwd",
            "/files/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
            "/files/..%2f..%2f..%2fetc/passwd",
            "/files/..%5c..%5c..%5cetc%5cpasswd",
            "/files/%252e%252e/%252e%252e/etc/passwd",
            "/files//etc/passwd",
            "/files/visits//etc/passwd",
            "/files/visits//plain.fits",
            "/files/visits/./plain.fits",
            "/files/visits/deep/../plain.fits",
            "/files/visits/plain.fits/",
            "/files/visits/plain.fits%00.txt",
            "/files/visits/plain.fits%0a",
            "/files/visits%3Fplain.fits",
            "/files/visits/plain.fits%3Fx",
            "/files/visits/%ff%fe",
            "/files/",
            "/files/visits",
            "/files/visits/",
            "/files/visits/deep",
            "/files/file:///etc/passwd",
            "//files/visits/plain.fits",
            "/files/visits/%%%",
        ],
    )
    def test_nothing_but_datasets_is_reached(
        self, live: LiveService, archive: Archive, target: str
    ) -> None:
        """404, and no word of what there is on the disk."""
        status, headers, body = live.raw("GET", target)
        assert status in {404, 400}
        assert b"nobody may read this" not in body
        assert b"root:" not in body
        assert str(archive.folder).encode() not in body
        assert headers["content-type"].startswith("text/plain")

    def test_an_absolute_target(self, live: LiveService) -> None:
        """What a proxy would be asked is answered like any request."""
        status, _, body = live.raw("GET", f"{live.base}/files/visits/../../../../etc/passwd")
        assert status == 404
        assert b"root:" not in body

    @pytest.mark.parametrize("local_part", [*CONTENT, "a?b#c%25.fits", "x/../y"])
    def test_paths_and_identifiers_are_inverse(self, local_part: str, archive: Archive) -> None:
        """The link in a document leads to its dataset."""
        del archive
        identifier = f"ivo://{AUTHORITY}/visits?{local_part}"
        path = file_path(identifier)
        assert path.isascii()
        assert "?" not in path
        assert "#" not in path
        from urllib.parse import unquote

        assert identifier_of(AUTHORITY, unquote(path)) == identifier

    def test_links_to_files_work(self, live: LiveService, archive: Archive) -> None:
        """Each of them, but for the one that was deleted."""
        for dataset in archive.datasets[:-1]:
            path = urlsplit(URLS.file(dataset)).path.removeprefix("/vo")
            assert live.get(path).content == CONTENT[dataset.local_part]
