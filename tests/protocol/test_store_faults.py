"""A store that misbehaves, seen by a client of the service over a real socket.

The answer is right, or an error, or the connection breaks; what has begun is never shorter than
it said and complete to look at, and afterwards the service answers as if nothing had been.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import numpy as np
import pytest
from astropy.io import fits
from support.command import run_command, served
from support.rangeserver import Fault, range_server
from support.service import running
from support.turn import until

from soda_service.app import create_app
from soda_service.catalog.ingest import ingest
from soda_service.config import CollectionConfig, CollectionsFile, Settings, StoreConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray
    from support.command import Served
    from support.rangeserver import RangeServer
    from support.service import LiveService

SIDE = 2400
DID = "ivo://archive.example/far?image.fits"
CIRCLE = "150.0 2.0 0.005"
PATIENT: dict[str, Any] = {
    "remote_timeout_seconds": 60.0,
    "remote_retries": 1,
    "remote_retry_seconds": 60.0,
    "remote_rest_seconds": 0.0,
    "remote_fresh_seconds": 3600.0,
    "remote_flight_bytes": 4 * 1024**2,
    "remote_memory_bytes": 0,
    "log_requests": False,
}
"""Nothing should be remembered here."""
HASTY = {"remote_timeout_seconds": 0.5}
"""For a store that does not answer: nobody should wait long. What is right may come too late, too,
so nothing that is to go well may hang on its going well at once."""
STUBBORN = {**HASTY, "remote_retries": 20}
"""For one that does not answer once; a machine that stands still for a while is outlasted, too."""
NEVER_COMES = (Fault.SILENT, Fault.TRICKLE)


def _image() -> tuple[NDArray[np.float32], bytes]:
    pixels = np.arange(SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    header = fits.Header()
    header.update(
        CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=150.0, CRVAL2=2.0, CRPIX1=SIDE / 2,
        CRPIX2=SIDE / 2, CDELT1=-1e-4, CDELT2=1e-4,
    )  # fmt: skip
    written = io.BytesIO()
    fits.PrimaryHDU(pixels, header).writeto(written)
    return pixels, written.getvalue()


PIXELS, CONTENT = _image()


@pytest.fixture(name="own_store")
def _own_store() -> Iterator[RangeServer]:
    """One that no test has used before."""
    with range_server() as server:
        server.contents["/files/image.fits"] = CONTENT
        yield server


@pytest.fixture(name="all_tests_store", scope="module")
def _all_tests_store() -> Iterator[RangeServer]:
    with range_server() as server:
        server.contents["/files/image.fits"] = CONTENT
        yield server


@pytest.fixture(name="store")
def _store(all_tests_store: RangeServer) -> RangeServer:
    """One that behaves, so far."""
    all_tests_store.contents["/files/image.fits"] = CONTENT
    all_tests_store.faults.clear()
    all_tests_store.always = None
    all_tests_store.forget()
    return all_tests_store


def _settings(folder: Path, **changes: Any) -> Settings:
    return Settings(
        authority="archive.example",
        catalog=f"sqlite:///{folder}/catalog.sqlite",
        data_dir=folder,
        cache_dir=folder / "cache",
        spool_dir=folder / "spool",
        **{**PATIENT, **changes},
    )


@contextmanager
def serving(store: RangeServer, folder: Path, **changes: Any) -> Iterator[LiveService]:
    """The service over the image of *store*, which has read its headers only.

    It is set up as *changes* say; what reads the headers has patience.
    """
    settings = _settings(folder)
    far = CollectionConfig(root=store.url("/files"))
    collections = CollectionsFile(collections={"far": far})
    report = ingest([store.url("/files/image.fits")], settings, collections, workers=1)
    assert (report.added + report.unchanged, report.failed) == (1, [])
    with running(create_app(_settings(folder, **changes))) as live:
        store.forget()
        yield live


@pytest.fixture(name="all_tests_live", scope="module")
def _all_tests_live(
    all_tests_store: RangeServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveService]:
    with serving(all_tests_store, tmp_path_factory.mktemp("far")) as live:
        yield live


@pytest.fixture(name="all_tests_hasty", scope="module")
def _all_tests_hasty(
    all_tests_store: RangeServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveService]:
    with serving(all_tests_store, tmp_path_factory.mktemp("hasty"), **HASTY) as live:
        yield live


@pytest.fixture(name="live")
def _live(store: RangeServer, all_tests_live: LiveService) -> LiveService:
    """A service that has recovered from the test before."""
    return _recovered(all_tests_live, store)


@pytest.fixture(name="hasty")
def _hasty(store: RangeServer, all_tests_hasty: LiveService) -> LiveService:
    """The same with less patience."""
    return _recovered(all_tests_hasty, store)


@pytest.fixture(name="suited")
def _suited(request: pytest.FixtureRequest, fault: Fault) -> LiveService:
    """The one with the patience that the test's *fault* needs."""
    suited: LiveService = request.getfixturevalue("hasty" if fault in NEVER_COMES else "live")
    return suited


def _recovered(live: LiveService, store: RangeServer) -> LiveService:
    _assert_right_at_last(live)
    store.forget()
    return live


def _assert_right_after(live: LiveService, fault: Fault) -> None:
    """As if *fault* had not been: at once, where an answer that comes is never too late."""
    if fault in NEVER_COMES:
        _assert_right_at_last(live)
    else:
        _assert_right(_cut(live))


def _assert_right_at_last(live: LiveService) -> None:
    """As soon as the service finds that the store is well."""
    end = time.monotonic() + 60
    while (answer := _cut(live)).status_code == 503 and time.monotonic() < end:
        time.sleep(0.02)
    _assert_right(answer)


def _cut(live: LiveService) -> httpx2.Response:
    return live.get("/soda/sync", ID=DID, CIRCLE=CIRCLE)


def _assert_right(answer: httpx2.Response) -> None:
    assert answer.status_code == 200
    with fits.open(io.BytesIO(answer.content)) as hdus:
        first = SIDE // 2 - 51
        part = PIXELS[first : first + 101, first : first + 101]
        np.testing.assert_array_equal(hdus[0].data, part)


@pytest.mark.parametrize(
    ("root", "options"),
    [
        ("gs://bucket/files", {}),
        ("az://bucket/files", {"account_name": "account"}),
        ("s3://bucket/files", {"region": "us-east-1"}),
    ],
)
def test_stores_of_every_kind(
    own_store: RangeServer, tmp_path: Path, root: str, options: dict[str, str]
) -> None:
    """Each by its own protocol; a HEAD and a GET for the headers, a GET for the pixels."""
    own_store.contents["/bucket/files/image.fits"] = CONTENT
    settings = _settings(tmp_path)
    reached = StoreConfig(anonymous=True, endpoint=own_store.url(""), options=options)
    far = CollectionConfig(root=root, store=reached)
    collections = CollectionsFile(collections={"far": far})
    report = ingest([f"{root}/image.fits"], settings, collections, workers=1)
    assert (report.added, report.failed) == (1, [])
    with running(create_app(settings)) as live:
        own_store.forget()
        _assert_right(_cut(live))
        assert [one.method for one in own_store.asked] == ["GET"]


def test_a_server_without_lists_says_so(own_store: RangeServer, tmp_path: Path) -> None:
    """What has been ingested from it stays."""
    with serving(own_store, tmp_path) as live:
        settings = _settings(tmp_path)
        far = CollectionConfig(root=own_store.url("/files"))
        collections = CollectionsFile(collections={"far": far})
        report = ingest([own_store.url("/files/")], settings, collections, workers=1)
        assert report.removed == 0
        assert "gives no lists (WebDAV); name its files" in report.failed[0][1]
        _assert_right(_cut(live))


def _broken_answer(
    url: str, tell: Callable[[int], None] = lambda _: None, *, may_fail: bool = False
) -> bytes:
    """What came before the connection broke; *tell* is told of each piece.

    Nothing where it *may_fail* before it has begun, and did.
    """
    got = bytearray()
    with httpx2.Client(timeout=60) as client, client.stream("GET", url) as answer:
        if may_fail and answer.status_code == 503:
            return b""
        assert answer.status_code == 200
        assert int(answer.headers["content-length"]) > SIDE * SIDE * 4
        pieces = answer.iter_bytes()
        try:
            for piece in pieces:
                got += piece
                tell(len(got))
        except httpx2.RemoteProtocolError:
            return bytes(got)
    pytest.fail("the answer looks complete")


@pytest.mark.parametrize(
    "fault",
    [Fault.CUT, Fault.SHUT, Fault.TRICKLE, Fault.SILENT, Fault.BUSY, Fault.THROTTLED],
)
def test_what_passes_nobody_notices(own_store: RangeServer, tmp_path: Path, fault: Fault) -> None:
    """The requests are counted: nobody else's come to this store."""
    changes, most = (STUBBORN, 21) if fault in NEVER_COMES else ({}, 2)
    with serving(own_store, tmp_path, **changes) as live:
        own_store.faults.append(fault)
        _assert_right(_cut(live))
        # Where half a second is the limit, the second answer may have come too late as well.
        assert 2 <= len(own_store.gets()) <= most


LASTING = [
    (Fault.WHOLE, "does not serve ranges"),
    (Fault.OTHER_RANGE, "does not answer as it should"),
    (Fault.LIES_ABOUT_SIZE, "has changed"),
    (Fault.SHORT, "fewer bytes"),
    (Fault.LONG, "more bytes"),
    (Fault.OTHER_TAG, "has changed"),
    (Fault.NO_TAG, "has changed"),
    (Fault.CUT, "does not answer"),
    (Fault.SHUT, "is not there"),
    (Fault.TRICKLE, "does not answer"),
    (Fault.SILENT, "does not answer in time"),
    (Fault.BUSY, "too busy"),
    (Fault.THROTTLED, "too busy"),
    (Fault.FORBIDDEN, "refuses access"),
    (Fault.MISSING, "is gone"),
    (Fault.ROUND, "does not answer"),
]


@pytest.mark.parametrize(("fault", "message"), LASTING)
def test_what_does_not_pass_is_503_until_it_does(
    store: RangeServer, suited: LiveService, fault: Fault, message: str
) -> None:
    live = suited
    store.always = fault
    for path in ("/soda/sync", "/files/far/image.fits"):
        wanted = {"ID": DID, "CIRCLE": CIRCLE} if path == "/soda/sync" else {}
        answer = live.client.get(live.url(path, **wanted))
        assert answer.status_code == 503
        assert answer.text.startswith("ServiceUnavailable: ")
        assert message in answer.text
        assert "127.0.0.1" not in answer.text
        assert "image" not in answer.text
        assert "retry-after" in answer.headers
    assert live.get("/health").status_code == 200
    store.always = None
    _assert_right_after(live, fault)


@pytest.mark.parametrize("fault", [fault for fault, _ in LASTING])
@pytest.mark.parametrize("path", ["/soda/sync", "/files/far/image.fits"])
def test_what_begins_in_the_middle_breaks_the_connection(
    store: RangeServer, suited: LiveService, fault: Fault, path: str
) -> None:
    wanted = {"ID": DID, "PIXELS": "[*,*]"} if path == "/soda/sync" else {}
    end = time.monotonic() + 60
    got, may_fail = b"", True
    while not got and may_fail:
        # What comes at first may be too late for who has no patience.
        may_fail = fault in NEVER_COMES and time.monotonic() < end
        store.faults.clear()
        store.faults.extend([None] * 4)
        store.always = fault
        got = _broken_answer(suited.url(path, **wanted), may_fail=may_fail)
    assert 0 < len(got) < SIDE * SIDE * 4
    store.faults.clear()
    store.always = None
    _assert_right_after(suited, fault)


@pytest.mark.parametrize("path", ["/soda/sync", "/files/far/image.fits"])
def test_an_object_that_changes_between_two_ranges_is_never_mixed(
    store: RangeServer, live: LiveService, path: str
) -> None:
    wanted = {"ID": DID, "PIXELS": "[*,*]"} if path == "/soda/sync" else {}
    changed = bytearray(CONTENT)
    changed[-10_000_000:] = bytes(10_000_000)

    def change(_: int) -> None:
        store.contents["/files/image.fits"] = bytes(changed)

    got = _broken_answer(live.url(path, **wanted), change)
    begin = CONTENT.index(PIXELS[0, :50].astype(">f4").tobytes())
    assert bytes(got[-1000:]) in CONTENT[begin:-10_000_000] or len(got) < begin
    after = live.get("/files/far/image.fits")
    assert after.status_code == 200
    assert after.content == bytes(changed)


def test_a_redirect_is_followed_to_the_same_object_only(
    store: RangeServer, live: LiveService
) -> None:
    with range_server() as other:
        store.elsewhere = other.url("/copy")
        other.contents["/copy"] = CONTENT
        store.always = Fault.ELSEWHERE
        _assert_right(_cut(live))
        other.contents["/copy"] = bytes(len(CONTENT))
        answer = _cut(live)
        assert answer.status_code == 503
        assert "has changed" in answer.text


def _cuts(live: LiveService, clients: ThreadPoolExecutor) -> list[Future[int]]:
    """The statuses of six requests made at one time."""

    def ask(_: int) -> int:
        return httpx2.get(live.url("/soda/sync", ID=DID, CIRCLE=CIRCLE), timeout=120).status_code

    return [clients.submit(ask, number) for number in range(6)]


def test_a_slow_store_holds_up_nobody_else(own_store: RangeServer, tmp_path: Path) -> None:
    """What needs no thread is answered while all threads wait."""
    store = own_store
    with serving(store, tmp_path, threads=2) as live, ThreadPoolExecutor(6) as clients:
        store.gate.clear()
        waiting = _cuts(live, clients)
        end = time.monotonic() + 60
        while store.most_at_once < 2:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert live.get("/health").status_code == 200
        assert live.get("/sia/query", POS="CIRCLE 150 2 0.1").status_code == 200
        assert not any(one.done() for one in waiting)
        store.gate.set()
        assert [one.result() for one in waiting] == [200] * 6


def test_a_silent_store_is_left_alone(own_store: RangeServer, tmp_path: Path) -> None:
    """Once the first requests have found out, in bounded time, the others need not wait."""
    store = own_store
    limits = {**HASTY, "remote_retries": 0, "remote_rest_seconds": 1000.0}
    with serving(store, tmp_path, threads=2, **limits) as live, ThreadPoolExecutor(6) as clients:
        store.always = Fault.SILENT
        assert [one.result() for one in _cuts(live, clients)] == [503] * 6
        until(lambda: store.asked)  # by who may have given up before it was heard
        assert "has not answered lately" in _cut(live).text
        assert len(store.asked) <= 2


def test_clients_that_go_away_leave_nothing_behind(own_store: RangeServer, tmp_path: Path) -> None:
    store = own_store
    with serving(store, tmp_path, threads=2, remote_timeout_seconds=10.0) as live:
        store.delay = 0.3
        target = live.url("/soda/sync", ID=DID, PIXELS="[*,*]").removeprefix(live.base)
        for _ in range(8):
            with socket.create_connection(("127.0.0.1", live.port)) as client:
                client.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                time.sleep(0.05)
        store.delay = 0.0
        _assert_right(_cut(live))
        # Nobody goes on reading for them: 24 requests would give each of them all it wanted.
        end = time.monotonic() + 60
        while store._now and time.monotonic() < end:
            time.sleep(0.02)
        assert not store._now
        assert len(store.gets()) < 8 * 10


def test_slow_clients_hold_a_gulp_each(store: RangeServer, live: LiveService) -> None:
    """The rest of what they want is not asked for before they take what there is."""
    begun = threading.Barrier(5)

    def ask() -> None:
        with httpx2.Client(timeout=60) as client:
            url = live.url("/soda/sync", ID=DID, PIXELS="[*,*]")
            with client.stream("GET", url) as answer:
                next(answer.iter_raw(1000))
                begun.wait(60)
                begun.wait(60)

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    begun.wait(60)
    settled = -1
    while settled != len(store.asked):
        settled = len(store.asked)
        time.sleep(0.3)
    asked = sum(one.size for one in store.gets())
    begun.wait(60)
    for client in clients:
        client.join(60)
    # What sockets hold is the kernel's; beside it there is a gulp of each, and one ahead.
    assert asked < 4 * (12 * 1024**2)
    assert asked < 0.6 * 4 * len(CONTENT)


def _large_image_served(
    store: RangeServer, folder: Path, **options: int
) -> AbstractContextManager[Served]:
    """The service over an image of 100 MB, in a process of its own."""
    header = fits.Header()
    header.update(
        CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=150.0, CRVAL2=2.0, CRPIX1=1.0, CRPIX2=1.0,
        CDELT1=-1e-4, CDELT2=1e-4,
    )  # fmt: skip
    written = io.BytesIO()
    fits.PrimaryHDU(np.zeros((5000, 5000), np.float32), header).writeto(written)
    store.contents["/files/large.fits"] = written.getvalue()
    settings = [f"{name} = {value}" for name, value in options.items()]
    (folder / "soda.toml").write_text("\n".join(['authority = "archive.example"', *settings]))
    (folder / "collections.toml").write_text(f'[collections.far]\nroot = "{store.url("/files")}"\n')
    configured = ("--config", "soda.toml")
    url = store.url("/files/large.fits")
    assert run_command("ingest", url, *configured, folder=folder).returncode == 0
    return served("serve", *configured, folder=folder)


LARGE = "soda/sync?ID=ivo://archive.example/far?large.fits&PIXELS=[*,*]"


def test_memory_does_not_grow_with_what_is_read(own_store: RangeServer, tmp_path: Path) -> None:
    """Four clients at once, each with an answer of 100 MB."""
    options = {"remote_memory_bytes": 16_000_000, "remote_flight_bytes": 16_777_216}
    with _large_image_served(own_store, tmp_path, **options) as service:

        def take(_: int) -> int:
            with httpx2.stream("GET", service.base + LARGE, timeout=60) as answer:
                return sum(len(piece) for piece in answer.iter_raw())

        whole = take(0)
        assert whole > 5000 * 5000 * 4
        before = _anonymous_bytes(service.process.pid)
        most = before
        with ThreadPoolExecutor(4) as clients:
            waiting = [clients.submit(take, number) for number in range(4)]
            while not all(one.done() for one in waiting):
                most = max(most, _anonymous_bytes(service.process.pid))
                time.sleep(0.02)
        assert {one.result() for one in waiting} == {whole}
        assert most - before < 60 * 1024**2


def test_eight_slow_clients_take_less_than_200_megabytes(
    own_store: RangeServer, tmp_path: Path
) -> None:
    """As the settings come; each takes a bit now and then of an answer of 100 MB."""
    with _large_image_served(own_store, tmp_path) as service, ExitStack() as stack:
        clients = [
            stack.enter_context(httpx2.stream("GET", service.base + LARGE, timeout=60))
            for _ in range(8)
        ]
        pieces = [client.iter_raw(65_536) for client in clients]
        most = taken = 0
        while taken < 8 * 14 * 1024**2:
            for one in pieces:
                taken += len(next(one))
            most = max(most, _anonymous_bytes(service.process.pid))
            time.sleep(0.005)
        assert most < 200e6


def _anonymous_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("Linux says so since 4.5")
