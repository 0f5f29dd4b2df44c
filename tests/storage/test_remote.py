"""Objects by range over HTTP: the right bytes by few requests, or the right error, never a hang."""

from __future__ import annotations

import re
import socket
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings, strategies as st
from support.leaping import LeapingTime
from support.rangeserver import MODIFIED_NS, Fault, RangeServer, range_server

from soda_service.errors import ConfigurationError, CorruptFileError, SourceUnavailableError
from soda_service.fits.layout import scan_hdus
from soda_service.geometry.pixelbox import PixelBox
from soda_service.pixels.reader import open_reader
from soda_service.storage import objectstore
from soda_service.storage.blockcache import BLOCK_BYTES, BlockCache
from soda_service.storage.blockfolder import BlockFolder
from soda_service.storage.headerwindow import HeaderWindow
from soda_service.storage.local import LocalSource
from soda_service.storage.objectstore import ObjectChangedError
from soda_service.storage.remote import RESIDENT_LIMIT, RemoteSource
from soda_service.storage.remoteplace import RemoteLimits, RemoteRoot, place_of
from soda_service.storage.runs import RunGrid
from soda_service.storage.source import FileVersion, RunSource, is_remote, open_source
from soda_service.storage.stores import RemoteStores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIZE = 24_000_000
CONTENT = np.random.default_rng(4).bytes(SIZE)

_Read = TypeVar("_Read")

PATIENT = RemoteLimits(timeout_seconds=60.0, retries=2, retry_seconds=60.0, rest_seconds=0.0)
"""For servers that misbehave, but answer."""
HASTY = replace(PATIENT, timeout_seconds=0.4)
"""For those that do not: a test should not wait long. What is right may come too late, too."""
STUBBORN = replace(HASTY, retries=20)
"""For one that does not answer once; a machine that stands still for a while is outlasted, too."""
NEVER_COMES = (Fault.SILENT, Fault.TRICKLE)


@pytest.fixture(name="server")
def _server() -> Iterator[RangeServer]:
    with range_server(image=CONTENT) as server:
        yield server


@contextmanager
def opened(
    server: RangeServer,
    *,
    limits: RemoteLimits | None = None,
    memory: int = 64 * 1024 * 1024,
    folder: BlockFolder | None = None,
    version: FileVersion | None = None,
) -> Iterator[RemoteSource]:
    """The image of *server*; counting begins when it is open."""
    root = RemoteRoot(url=server.url("/"))
    with (
        RemoteStores([root], limits=limits, cache=BlockCache(memory, folder)) as stores,
        stores.open(server.url("/image"), version) as source,
    ):
        server.forget()
        yield source


def version_of(server: RangeServer) -> FileVersion:
    """What a catalog would know."""
    return FileVersion(len(server.contents["/image"]), MODIFIED_NS, server.tag("/image"))


def at_last(read: Callable[[], _Read]) -> _Read:
    """What *read* gives as soon as the store is in time for `HASTY`."""
    end = time.monotonic() + 60
    while True:
        try:
            return read()
        except SourceUnavailableError:
            if time.monotonic() > end:
                raise
            time.sleep(1.0)


def runs_of(grid: RunGrid, content: bytes = CONTENT) -> bytes:
    """What the grid's runs are, cut out one by one."""
    return b"".join(content[at : at + grid.length] for at in grid.starts().tolist())


class TestOpening:
    """An object has a version."""

    def test_the_version_is_size_time_and_tag(self, server: RangeServer) -> None:
        """One HEAD tells."""
        with RemoteStores([RemoteRoot(url=server.url(""))]) as stores:
            source = stores.open(server.url("/image"))
            assert source.version == version_of(server)
            assert source.path == server.url("/image")
            assert stores.version_of(server.url("/image")) == source.version
        assert [one.method for one in server.asked] == ["HEAD", "HEAD"]

    def test_a_known_version_costs_no_request(self, server: RangeServer) -> None:
        """Nor does an object that is gone: the first reading tells."""
        with opened(server, version=version_of(server)) as source:
            assert not server.asked
            assert source.read(5, 10) == CONTENT[5:15]
        assert [(one.method, one.start, one.stop) for one in server.asked] == [("GET", 5, 15)]
        assert server.asked[0].if_match == server.tag("/image")

    def test_the_etag_tells_tags_apart_and_keeps_those_of_files(self) -> None:
        """It is another for each entity tag, and a legal one whatever the store's looks like."""
        plain, one, other = (FileVersion(9, 8, tag) for tag in ("", '"a"', 'W/"b\\"'))
        assert plain.etag == '"9-8"'
        assert len({plain.etag, one.etag, other.etag}) == 3
        assert all(tag.etag.strip('"').replace("-", "").isalnum() for tag in (one, other))

    def test_a_missing_object_is_not_found(self, server: RangeServer) -> None:
        """The message names nothing."""
        with RemoteStores([RemoteRoot(url=server.url("/"))]) as stores:
            with pytest.raises(FileNotFoundError) as caught:
                stores.open(server.url("/nothing"))
            assert stores.version_of(server.url("/nothing")) is None
        assert "nothing" not in str(caught.value)

    def test_a_server_that_says_nothing_of_versions_is_not_trusted(
        self, server: RangeServer
    ) -> None:
        """A change could not be noticed."""
        server.tags = server.times = False
        with (
            RemoteStores([RemoteRoot(url=server.url("/"))]) as stores,
            pytest.raises(SourceUnavailableError, match="neither ETag nor Last-Modified"),
        ):
            stores.open(server.url("/image"))

    def test_names_are_quoted_as_urls_are(self, server: RangeServer) -> None:
        """Blanks, percent signs, letters beyond ASCII."""
        path = "/a b/é%20#1?+;[x]~'.fits"
        server.contents[path] = b"12345"
        with RemoteStores([RemoteRoot(url=server.url("/a%20b"))]) as stores:
            source = stores.open(server.url("/a%20b/%C3%A9%2520%231%3F+;%5Bx%5D~'.fits"))
            assert source.read(0, 5) == b"12345"
            assert place_of(source.path) == place_of(place_of(source.path).url)
        assert {one.path for one in server.asked} == {path}


class TestWhatMayBeReached:
    """The operator's roots, and nothing else."""

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1:1/allowed/x.fits",
            "{base}/other/x.fits",
            "{base}/allowedtoo/x.fits",
            "{base}/allowed/../other/x.fits",
            "{base}/allowed/%2e%2e/other/x.fits",
            "{base}/allowed//x.fits",
            "{base}/allowed/x.fits?a=1",
            "{base}/allowed/x.fits#a",
            "{base}/allowed/x%00.fits",
            "{base}/allowed/x%FF.fits",
            "{base}/allowed/x%0d%0aHost:y",
            "http://user:word@127.0.0.1/allowed/x.fits",
            "https://127.0.0.1/allowed/x.fits",
            "s3://bucket/allowed/x.fits",
            "ftp://host/allowed/x.fits",
            "file:///allowed/x.fits",
            "http:///allowed/x",
            "allowed/x.fits",
            "",
        ],
    )
    def test_other_urls_are_refused_without_a_request(self, server: RangeServer, url: str) -> None:
        """By opening, by asking for the version and by listing."""
        url = url.replace("{base}", server.url(""))
        with RemoteStores([RemoteRoot(url=server.url("/allowed"))]) as stores:
            assert not stores.holds(url)
            for reach in (stores.open, stores.version_of, lambda url: list(stores.list(url))):
                with pytest.raises(ConfigurationError):
                    reach(url)
        assert not server.asked

    @pytest.mark.parametrize(
        "url",
        [
            "s3://AKIAIOSF:wJalr/S3CRET@bucket/x.fits",
            "s3://AKIAIOSF:wJalrS3CRET@bucket/x.fits",
            "gs://user:/S3CRET@bucket/x.fits",
            "az://S3CRET@bucket/x.fits",
            "s3://bucket:9000/x.fits",
            "s3://[::1]/x.fits",
            "https://user:pa/S3CRET@host/x.fits",
            "https://user:/S3CRET@host/x.fits",
            "https://user:8a/S3CRET@host/x.fits",
            "https://user:80:80/S3CRET@host/x.fits",
            "https://user:99999/S3CRET@host/x.fits",
            "https://user:123456/S3CRET@host/x.fits",
            "https://user:\u0661/S3CRET@host/x.fits",
            "https://[::1]:pa/S3CRET@host/x.fits",
            "https://[::1/S3CRET@host/x.fits",
            "https://::1/x.fits",
            "https://user%3Apa/S3CRET@host/x.fits",
        ],
    )
    def test_a_user_is_no_bucket_and_no_host(self, url: str) -> None:
        """Wherever a slash stands in the password; and nothing of it is said again."""
        with pytest.raises(ConfigurationError, match="with a user") as caught:
            place_of(url)
        assert not re.search("CRET|AKIA|wJalr|user:|bucket", str(caught.value))

    @pytest.mark.parametrize(
        ("url", "authority", "key"),
        [
            ("s3://bucket/a@b:c.fits", "bucket", "a@b:c.fits"),
            ("s3://My_bucket.of-9/2026:01/x@y/z:@.fits", "My_bucket.of-9", "2026:01/x@y/z:@.fits"),
            ("az://container/@", "container", "@"),
            ("http://host:8080/a@b:c.fits", "host:8080", "a@b:c.fits"),
            ("http://host:65535/user:word@x", "host:65535", "user:word@x"),
            ("https://Host.example/a:b@c", "host.example", "a:b@c"),
            ("http://127.0.0.1/a%40b", "127.0.0.1", "a@b"),
            ("http://[::1]/a@b", "[::1]", "a@b"),
            ("http://[2001:DB8::1.2.3.4]:80/a@b:c", "[2001:db8::1.2.3.4]:80", "a@b:c"),
        ],
    )
    def test_keys_may_have_what_users_have(self, url: str, authority: str, key: str) -> None:
        """`@` and `:` behind the first slash."""
        place = place_of(url)
        assert place[1:] == (authority, key)
        assert place_of(place.url) == place

    def test_an_object_whose_key_has_them_is_read(self, server: RangeServer) -> None:
        """By its URL, over the wire."""
        server.contents["/a/b@c:d.fits"] = CONTENT[:1000]
        with (
            RemoteStores([RemoteRoot(url=server.url("/a"))]) as stores,
            stores.open(server.url("/a/b@c:d.fits")) as source,
        ):
            assert source.read(10, 100) == CONTENT[10:110]

    def test_without_stores_only_files_are_opened(self, server: RangeServer) -> None:
        """As it always was."""
        with pytest.raises(ConfigurationError, match="only absolute paths"):
            open_source(server.url("/image"))
        assert not server.asked

    def test_files_and_objects_are_opened_by_their_urls(
        self, server: RangeServer, tmp_path: Path
    ) -> None:
        """One function for both."""
        path = tmp_path / "image"
        path.write_bytes(CONTENT[:1000])
        with RemoteStores([RemoteRoot(url=server.url("/"))]) as stores:
            for url in (str(path), path.as_uri(), server.url("/image")):
                source: RunSource = open_source(url, stores)
                with source:
                    assert source.read(10, 100) == CONTENT[10:110]
        assert [is_remote(url) for url in (str(path), path.as_uri(), "S3://a/b", "/s3://a/b")] == [
            False, False, True, False
        ]  # fmt: skip

    def test_wrong_settings_are_said_at_the_start(self) -> None:
        """Before anything is reached."""
        root = RemoteRoot(url="s3://bucket/a")
        for roots in (
            [root, RemoteRoot(url="s3://bucket/a/")],
            [RemoteRoot(url="/a/folder")],
            [RemoteRoot(url="s3://b", secrets={"secret_access_key": "NO_SUCH_VARIABLE"})],
            [RemoteRoot(url="http://host/", endpoint="http://other")],
        ):
            with pytest.raises(ConfigurationError):
                RemoteStores(roots)
        for wrong in ({"piece_bytes": 1000}, {"flight_bytes": 1000}, {"parallel": 0}):
            with pytest.raises(ConfigurationError):
                RemoteLimits(**wrong)

    def test_a_setting_that_obstore_does_not_know_is_a_wrong_one(self) -> None:
        """Its name is told."""
        with (
            RemoteStores([RemoteRoot(url="s3://b", options={"colour": "red"})]) as stores,
            pytest.raises(ConfigurationError, match="colour"),
        ):
            stores.open("s3://b/x", FileVersion(1, 1, '"x"'))


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_other_stores_are_read_by_their_own_protocols(server: RangeServer, scheme: str) -> None:
    """The paths and headers of Google's and Microsoft's stores, by a server of ours."""
    server.contents["/bucket/a b/image"] = CONTENT[:1000]
    root = RemoteRoot(
        url=f"{scheme}://bucket/a b",
        anonymous=True,
        endpoint=server.url(""),
        options={"account_name": "account"} if scheme == "az" else {},
    )
    with RemoteStores([root]) as stores:
        source = stores.open(f"{scheme}://bucket/a b/image")
        assert source.read(10, 500) == CONTENT[10:510]
        assert source.version.tag == server.tag("/bucket/a b/image")
    assert [one.method for one in server.asked] == ["HEAD", "GET"]


class TestBoxes:
    """Requests and bytes, counted at the server."""

    @pytest.mark.parametrize(
        ("grid", "requests", "ratio"),
        [
            pytest.param(RunGrid(2880, 1_000_000), 1, 1.0, id="rows as wide as the image"),
            pytest.param(RunGrid(2880, 15_000_000), 2, 1.0, id="many of them"),
            pytest.param(RunGrid(2880, 14_000, (300,), (16_000,), 4), 1, 1.2, id="nearly as wide"),
            pytest.param(
                RunGrid(2880, 500_000, (2,), (20_000_000,), 4), 2, 1.0, id="two planes far apart"
            ),
            pytest.param(
                RunGrid(2880, 4_000_000, (4,), (4_700_000,), 4), 3, 1.2, id="wide gaps, wider runs"
            ),
            pytest.param(
                RunGrid(2880, 800, (200,), (16_384,), 4), 1, 20.4, id="200 x 200 of 4096 columns"
            ),
            pytest.param(
                RunGrid(2880, 800, (200,), (40_000,), 4), 1, 49.8, id="200 x 200 of 10000 columns"
            ),
            pytest.param(
                RunGrid(2880, 800, (40,), (500_000,), 4), 40, 1.0, id="200 x 40 of 125000 columns"
            ),
        ],
    )
    def test_cost_of_a_box(
        self, server: RangeServer, grid: RunGrid, requests: int, ratio: float
    ) -> None:
        """No HEAD, no LIST; and nothing at all when it is wanted again, unless it is large."""
        with opened(server, version=version_of(server)) as source:
            assert source.read_runs(grid) == runs_of(grid)
            assert {one.method for one in server.asked} == {"GET"}
            assert {one.if_match for one in server.asked} == {server.tag("/image")}
            assert len(server.asked) <= requests
            assert sum(one.size for one in server.asked) <= ratio * grid.size
            server.forget()
            assert source.read_runs(grid) == runs_of(grid)
            is_large = grid.size > 6 * 1024**2
            assert bool(server.asked) == is_large

    def test_large_boxes_drive_nothing_out(self, server: RangeServer) -> None:
        """On disk they are kept, if anything is."""
        small, large = RunGrid(2880, 50_000), RunGrid(4_000_000, 15_000_000)
        with opened(server, memory=2_000_000) as source:
            source.read_runs(small)
            source.read_runs(large)
            server.forget()
            assert source.read_runs(small) == runs_of(small)
            assert not server.asked

    def test_a_gulp_of_a_box_nearly_as_wide_is_two_requests(self, server: RangeServer) -> None:
        """Wherever it begins."""
        with opened(server) as source:
            rows = source.gulp_bytes // 100_000
            grid = RunGrid(200_001, 100_000, (rows,), (119_000,))
            assert source.read_runs(grid) == runs_of(grid)
            assert len(server.asked) <= 2
            assert sum(one.size for one in server.asked) <= 1.2 * grid.size

    def test_a_smaller_gap_trades_bytes_for_requests(self, server: RangeServer) -> None:
        """The operator's setting."""
        grid = RunGrid(2880, 800, (200,), (40_000,), 4)
        with opened(server, limits=RemoteLimits(gap_bytes=10_000)) as source:
            assert source.read_runs(grid) == runs_of(grid)
        assert len(server.asked) == 200
        assert sum(one.size for one in server.asked) == grid.size

    def test_ranges_are_asked_for_in_parallel_but_not_all_at_once(
        self, server: RangeServer
    ) -> None:
        """By number, and by bytes."""
        server.delay = 0.05
        far = RunGrid(0, 800, (40,), (500_000,))
        with opened(server, limits=RemoteLimits(parallel=5)) as source:
            assert source.read_runs(far) == runs_of(far)
            assert 1 < server.most_at_once <= 5
        limits = RemoteLimits(piece_bytes=BLOCK_BYTES, flight_bytes=3 * BLOCK_BYTES)
        with opened(server, limits=limits) as source:
            whole = RunGrid(1000, 3_000_000)
            assert source.read_runs(whole) == runs_of(whole)
            assert 1 < server.most_at_once <= 3
            assert max(one.size for one in server.asked) <= BLOCK_BYTES

    def test_memory_is_bounded_by_what_flies(self, server: RangeServer) -> None:
        """A narrow box reads the whole of the file, and holds little of it."""
        limits = RemoteLimits(piece_bytes=BLOCK_BYTES, flight_bytes=4 * BLOCK_BYTES)
        grid = RunGrid(0, 100, (SIZE // 20_000,), (20_000,))
        with opened(server, limits=limits, memory=0) as source:
            source.read(0, 1)
            tracemalloc.start()
            assert source.read_runs(grid) == runs_of(grid)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        # The server is in this process and holds what it sends.
        assert peak < 12 * 1024 * 1024

    @settings(max_examples=60, suppress_health_check=[*HealthCheck])
    @given(
        st.integers(0, 3_000_000),
        st.integers(1, 700_000),
        st.integers(1, 6),
        st.integers(0, 700_000),
        st.integers(1, 3),
        st.integers(0, 500_000),
    )
    def test_any_grid_is_what_slices_give(
        self, start: int, length: int, rows: int, gap: int, planes: int, more: int
    ) -> None:
        """One cache for all of them: what is kept of one serves the next."""
        row = length + gap
        grid = RunGrid(start, length, (planes, rows), (rows * row + more, row))
        if grid.end > SIZE:
            return
        assert _shared_source().read_runs(grid) == runs_of(grid)
        assert _shared_source().resident_runs(grid) in (None, runs_of(grid))

    def test_ends_are_checked_before_a_request(self, server: RangeServer) -> None:
        """What the version says is the end."""
        with opened(server) as source:
            for start, length in ((SIZE - 5, 6), (SIZE + 1, 0)):
                with pytest.raises(CorruptFileError, match="ends before"):
                    source.read(start, length)
            with pytest.raises(CorruptFileError, match="ends before"):
                source.read_runs(RunGrid(SIZE - 100, 10, (3,), (50,)))
            with pytest.raises(ValueError, match="no such range"):
                source.read(-1, 5)
            assert source.read(SIZE, 0) == b""
            assert not server.asked
            assert source.read(SIZE - 5, 5) == CONTENT[-5:]

    def test_threads_read_one_source(self, server: RangeServer) -> None:
        """Each gets its own bytes."""
        with opened(server, memory=2_000_000) as source, ThreadPoolExecutor(6) as pool:
            grids = [RunGrid(at * 300_000, 5_000, (20,), (12_000,)) for at in range(30)] * 2
            for grid, runs in zip(grids, pool.map(source.read_runs, grids), strict=True):
                assert runs == runs_of(grid)

    def test_reading_on_makes_few_requests(self, server: RangeServer) -> None:
        """As files that are sent whole, or inflated, are read."""
        with opened(server) as source:
            step = 100_000
            for at in range(0, 12_000_000, step):
                assert source.read(at, step) == CONTENT[at : at + step]
            assert len(server.asked) < 12
            assert sum(one.size for one in server.asked) < 22_000_000

    def test_a_file_that_passes_drives_nothing_out(
        self, server: RangeServer, tmp_path: Path
    ) -> None:
        """Neither of memory nor of the disk, beyond its first few megabytes."""
        server.contents["/hot"] = CONTENT[:2_000_000]
        folder = BlockFolder(tmp_path, 20_000_000)
        cache = BlockCache(20_000_000, folder)
        with RemoteStores([RemoteRoot(url=server.url("/"))], cache=cache) as stores:
            hot, passing = (stores.open(server.url(path)) for path in ("/hot", "/image"))
            hot.read(0, 2_000_000)
            step = 256 * 1024
            for at in range(0, SIZE - step, step):
                assert passing.read(at, step) == CONTENT[at : at + step]
            server.forget()
            assert hot.read(0, 2_000_000) == CONTENT[:2_000_000]
            assert not server.asked
        on_disk = sum(path.stat().st_size for path in tmp_path.glob("*/*.block"))
        assert on_disk < 2_000_000 + 12_000_000

    def test_ranges_are_brought_in_ahead(self, server: RangeServer) -> None:
        """Scattered readings make no request when what they want was prefetched."""
        wanted = [(at * 700_000, at * 700_000 + 40_000) for at in range(12)]
        with opened(server) as source:
            source.prefetch(wanted)
            assert len(server.asked) == 12
            server.forget()
            for start, stop in wanted:
                assert source.read(start, stop - start) == CONTENT[start:stop]
            assert not server.asked


_KEPT: list[RemoteSource] = []


@pytest.fixture(autouse=True, scope="module")
def _shared() -> Iterator[None]:
    """A source with a small cache for examples that follow each other."""
    limits = RemoteLimits(piece_bytes=2 * BLOCK_BYTES, flight_bytes=4 * BLOCK_BYTES)
    with (
        range_server(image=CONTENT) as server,
        opened(server, limits=limits, memory=4_000_000) as s,
    ):
        _KEPT.append(s)
        yield
        _KEPT.clear()


def _shared_source() -> RemoteSource:
    return _KEPT[0]


class TestResident:
    """What is in memory is copied without waiting."""

    GRID = RunGrid(2880, 800, (200,), (16_384,), 4)

    def test_given_only_when_it_was_read(self, server: RangeServer) -> None:
        """And no request is made either way."""
        with opened(server) as source:
            assert source.resident_runs(self.GRID) is None
            assert not server.asked
            source.read_runs(self.GRID)
            server.forget()
            assert source.resident_runs(self.GRID) == runs_of(self.GRID)
            inner = RunGrid(2880 + 20 * 16_384 + 80, 400, (100,), (16_384,), 4)
            assert source.resident_runs(inner) == runs_of(inner)
            assert not server.asked

    def test_none_for_much_and_for_far(self, server: RangeServer) -> None:
        """The event loop must not copy for long."""
        with opened(server) as source:
            for grid in (
                RunGrid(0, RESIDENT_LIMIT + 1),
                RunGrid(0, 10, (20_000,), (20,)),
                RunGrid(0, 100, (200,), (100_000,)),
            ):
                source.read_runs(grid)
                assert source.resident_runs(grid) is None
            assert source.resident_runs(RunGrid(SIZE - 5, 10)) is None

    def test_the_disk_is_not_memory(self, server: RangeServer, tmp_path: Path) -> None:
        """Blocks on disk save the request, but not the waiting."""
        version = version_of(server)
        folder = BlockFolder(tmp_path, 10**9)
        with opened(server, folder=folder, version=version) as source:
            source.read_runs(self.GRID)
        with opened(server, folder=folder, version=version) as source:
            assert source.resident_runs(self.GRID) is None
            assert source.read_runs(self.GRID) == runs_of(self.GRID)
            # Whether it is still the same object is asked once, as the source is new.
            assert [one.method for one in server.asked] == ["HEAD"]
            assert source.resident_runs(self.GRID) == runs_of(self.GRID)


class TestFreshness:
    """A change is noticed."""

    GRID = RunGrid(2880, 800, (200,), (16_384,), 4)

    def test_a_change_is_noticed_by_the_next_request(self, server: RangeServer) -> None:
        """By If-Match, and from then on without a request."""
        with opened(server) as source:
            source.read_runs(self.GRID)
            server.contents["/image"] = bytes(SIZE)
            with pytest.raises(ObjectChangedError, match="has changed"):
                source.read(20_000_000, 10)
            server.forget()
            for read in (lambda: source.read(0, 1), source.check_unchanged):
                with pytest.raises(ObjectChangedError, match="has changed"):
                    read()
            assert source.resident_runs(self.GRID) is None
            assert not server.asked

    def test_what_is_kept_is_confirmed_once_in_a_while(self, server: RangeServer) -> None:
        """By a request of its own, where there is no other."""
        with opened(server, limits=RemoteLimits(fresh_seconds=0)) as source:
            source.read_runs(self.GRID)
            assert source.resident_runs(self.GRID) is None
            server.forget()
            assert source.read_runs(self.GRID) == runs_of(self.GRID)
            assert [one.method for one in server.asked] == ["HEAD"]
            server.contents["/image"] = bytes(SIZE)
            with pytest.raises(ObjectChangedError, match="has changed"):
                source.read_runs(self.GRID)

    @pytest.mark.parametrize("kept", [False, True])
    def test_an_object_that_is_gone(self, server: RangeServer, *, kept: bool) -> None:
        """Is told apart for the one who looks into the log."""
        with opened(server, limits=RemoteLimits(fresh_seconds=0)) as source:
            if kept:
                source.read_runs(self.GRID)
            del server.contents["/image"]
            with pytest.raises(ObjectChangedError, match="is gone") as caught:
                source.read_runs(self.GRID)
            assert caught.value.path == server.url("/image")
            assert "127.0.0.1" not in str(caught.value)

    @pytest.mark.parametrize("size", [1000, SIZE - 1, SIZE + 1])
    def test_another_size_is_a_change(self, server: RangeServer, size: int) -> None:
        """A range behind the new end too."""
        with opened(server) as source:
            server.contents["/image"] = bytes(size)
            with pytest.raises(ObjectChangedError):
                source.read(SIZE - 10, 10)

    def test_weak_tags_are_compared_here(self, server: RangeServer) -> None:
        """If-Match would match none."""
        server.weak_tags = True
        with opened(server) as source:
            assert source.version.tag.startswith("W/")
            assert source.read(0, 100) == CONTENT[:100]
            assert server.asked[0].if_match is None
            server.contents["/image"] = bytes(SIZE)
            with pytest.raises(ObjectChangedError):
                source.read(1000, 100)

    def test_without_tags_the_time_tells(self, server: RangeServer) -> None:
        """As with files."""
        server.tags = False
        with opened(server) as source:
            assert source.version == FileVersion(SIZE, MODIFIED_NS)
            assert source.read(0, 100) == CONTENT[:100]
        with (
            opened(server, version=FileVersion(SIZE, MODIFIED_NS - 10**9)) as source,
            pytest.raises(ObjectChangedError),
        ):
            source.read(0, 100)

    def test_another_version_shares_nothing(self, server: RangeServer) -> None:
        """Two versions side by side in one cache."""
        with RemoteStores([RemoteRoot(url=server.url("/"))], cache=BlockCache(10**7)) as stores:
            old = stores.open(server.url("/image"))
            assert old.read(0, 100) == CONTENT[:100]
            server.contents["/image"] = bytes(SIZE)
            new = stores.open(server.url("/image"))
            assert new.read(0, 100) == bytes(100)
            assert old.read(0, 100) == CONTENT[:100]


PASSING = [Fault.CUT, Fault.SHUT, Fault.TRICKLE, Fault.SILENT, Fault.BUSY, Fault.THROTTLED]


class TestFaults:
    """A server that misbehaves."""

    @pytest.mark.parametrize("fault", PASSING)
    def test_what_passes_is_tried_again(self, server: RangeServer, fault: Fault) -> None:
        """The bytes are right all the same."""
        comes = fault not in NEVER_COMES
        limits = PATIENT if comes else STUBBORN
        with opened(server, limits=limits, version=version_of(server)) as source:
            server.faults.append(fault)
            assert source.read(1000, 60_000) == CONTENT[1000:61_000]
            # Where a second is short, the answer to it may have come too late as well.
            assert 2 <= len(server.asked) <= (2 if comes else 1 + STUBBORN.retries)

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            (Fault.WHOLE, "does not serve ranges"),
            (Fault.OTHER_RANGE, "does not answer as it should"),
            (Fault.LIES_ABOUT_SIZE, "has changed"),
            (Fault.SHORT, "fewer bytes"),
            (Fault.LONG, "more bytes"),
            (Fault.OTHER_TAG, "has changed"),
            (Fault.NO_TAG, "has changed"),
            (Fault.FORBIDDEN, "refuses access"),
            (Fault.MISSING, "is gone"),
            (Fault.CUT, "does not answer as it should"),
            (Fault.SHUT, "is not there, or does not answer in time"),
            (Fault.TRICKLE, "does not answer"),
            (Fault.SILENT, "is not there, or does not answer in time"),
            (Fault.BUSY, "is too busy"),
            (Fault.THROTTLED, "is too busy"),
        ],
    )
    def test_what_does_not_pass_is_an_error(
        self, server: RangeServer, fault: Fault, message: str
    ) -> None:
        """After a bounded number of tries; nothing of it is kept."""
        grid = RunGrid(1000, 50_000, (3,), (1_000_000,))
        limits = HASTY if fault in NEVER_COMES else PATIENT
        with opened(server, limits=limits, version=version_of(server)) as source:
            server.always = fault
            with pytest.raises(SourceUnavailableError, match=message) as caught:
                source.read_runs(grid)
            assert len(server.asked) <= len(grid.starts()) * (limits.retries + 1)
            assert caught.value.path == server.url("/image")
            assert source.resident_runs(grid) is None
            if "changed" not in message and "gone" not in message:
                server.always = None
                read = partial(source.read_runs, grid)
                assert (at_last(read) if limits is HASTY else read()) == runs_of(grid)

    def test_a_change_between_two_ranges_is_noticed(self, server: RangeServer) -> None:
        """Even by a server that does not heed If-Match."""
        with opened(server, limits=PATIENT) as source:
            server.faults.extend([Fault.CUT, Fault.OTHER_TAG])
            with pytest.raises(SourceUnavailableError):
                source.read(1000, 60_000)

    def test_a_server_that_does_not_answer_is_left_alone(
        self, server: RangeServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Threads that would wait for it are free for others; one request tries it again."""
        limits = replace(HASTY, retries=1, rest_seconds=1000.0)
        clock = LeapingTime()
        monkeypatch.setattr(objectstore, "time", clock)
        with (
            opened(server, limits=limits, version=version_of(server)) as source,
            ThreadPoolExecutor(4) as pool,
        ):
            server.always = Fault.SILENT
            with pytest.raises(SourceUnavailableError, match="does not answer"):
                source.read(0, 10)
            server.forget()
            for read in [pool.submit(source.read, at, 10) for at in range(8)]:
                with pytest.raises(SourceUnavailableError, match="has not answered lately"):
                    read.result()
            assert not server.asked
            clock.ahead += 1001
            reads = [pool.submit(source.read, at * BLOCK_BYTES, 10) for at in range(4)]
            messages = sorted(str(read.exception()) for read in reads)
            assert ["lately" in message for message in messages] == [False, True, True, True]
            server.always = None

            places = iter(range(0, SIZE, 2 * BLOCK_BYTES))

            def read_after_a_rest() -> None:
                clock.ahead += 1001
                at = next(places)
                for start in (at, at + BLOCK_BYTES):  # the second one has not to wait
                    assert source.read(start, 10) == CONTENT[start : start + 10]

            at_last(read_after_a_rest)

    def test_a_server_that_is_not_there(self) -> None:
        """Refused connections are tried again, and then an error."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        url = f"http://127.0.0.1:{port}/x"
        with RemoteStores([RemoteRoot(url=url)], limits=HASTY) as stores:
            source = stores.open(url, FileVersion(10, 1, '"x"'))
            with pytest.raises(SourceUnavailableError, match="does not answer"):
                source.read(0, 10)
            with pytest.raises(SourceUnavailableError, match="does not answer"):
                stores.version_of(url)

    @settings(max_examples=15, suppress_health_check=[*HealthCheck])
    @given(
        st.lists(
            # A server that gives other bytes under the same tag cannot be found out.
            st.sampled_from([fault for fault in Fault if fault is not Fault.LIES_ABOUT_SIZE]),
            max_size=8,
        )
    )
    def test_never_wrong_bytes(self, server: RangeServer, faults: list[Fault]) -> None:
        """Whatever goes wrong in which order: the right bytes or one of two errors."""
        grid = RunGrid(1000, 30_000, (4,), (1_000_000,))
        limits = HASTY if {*NEVER_COMES} & {*faults} else PATIENT
        with opened(server, limits=limits, version=version_of(server)) as source:
            server.faults.clear()
            server.faults.extend(faults)
            try:
                assert source.read_runs(grid) == runs_of(grid)
            except SourceUnavailableError:
                assert faults

    def test_a_server_that_cannot_list_says_so(self, server: RangeServer) -> None:
        """Plain HTTP has no lists."""
        with (
            RemoteStores([RemoteRoot(url=server.url("/"))], limits=PATIENT) as stores,
            pytest.raises(SourceUnavailableError, match="cannot be listed"),
        ):
            list(stores.list(server.url("/")))


@pytest.fixture(name="image", scope="module")
def _image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty primary with a long header, two images of 4 MB, a compressed one, a table."""
    random = np.random.default_rng(8)
    primary = fits.PrimaryHDU()
    for number in range(1500):
        primary.header[f"KEY{number}"] = number
    stars = np.round(random.normal(100, 5, (300, 400))).astype(np.int16)
    hdus = fits.HDUList([
        primary,
        fits.ImageHDU(random.normal(size=(1000, 1050)).astype(np.float32), name="SCI"),
        fits.ImageHDU(random.normal(size=(1000, 1050)).astype(np.float32), name="VAR"),
        fits.CompImageHDU(stars, name="STARS", compression_type="RICE_1", tile_shape=(50, 80)),
        fits.BinTableHDU.from_columns([fits.Column("A", "J", array=np.arange(50))], name="TAB"),
    ])  # fmt: skip
    path = tmp_path_factory.mktemp("remote") / "image.fits"
    hdus.writeto(path)
    return path


class TestFits:
    """What the service does with a source, with one that is far away."""

    @pytest.mark.parametrize("gulp_bytes", [2880, 65_536])
    def test_headers_are_read_without_the_images(
        self, server: RangeServer, image: Path, gulp_bytes: int
    ) -> None:
        """The same layouts as from the file; some gulps are the price."""
        server.contents["/image"] = image.read_bytes()
        size = image.stat().st_size
        with LocalSource.open(str(image)) as local, opened(server, memory=0) as source:
            expected = list(scan_hdus(local.read, size))
            window = HeaderWindow(source, gulp_bytes=gulp_bytes)
            assert list(scan_hdus(window.read_at, size)) == expected
        assert {one.method for one in server.asked} == {"GET"}
        if gulp_bytes == 65_536:
            assert len(server.asked) <= 1 + len(expected)
            assert sum(one.size for one in server.asked) < 0.05 * size

    def test_boxes_of_plain_and_compressed_images(self, server: RangeServer, image: Path) -> None:
        """Against astropy's full reading."""
        server.contents["/image"] = image.read_bytes()
        with LocalSource.open(str(image)) as local:
            layouts = list(scan_hdus(local.read, image.stat().st_size))
        with opened(server) as source, fits.open(image) as hdus:
            for index, box in (
                (1, PixelBox((100, 50), (300, 250))),
                (2, PixelBox((0, 0), (1050, 1000))),
                (3, PixelBox((70, 40), (170, 160))),
            ):
                reader = open_reader(layouts[index], cast("LocalSource", source))
                stored = b"".join(reader.bands(box, 256 * 1024))
                data = hdus[index].data[box.slices]
                assert stored == data.astype(data.dtype.newbyteorder(">")).tobytes()
        assert {one.method for one in server.asked} == {"GET"}
