"""One budget for all answers: never more than it, and nobody waits for ever."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, strategies as st
from support.rangeserver import MODIFIED_NS, Fault, RangeServer, range_server

from soda_service.errors import SourceUnavailableError
from soda_service.storage.blockcache import BLOCK_BYTES, BlockCache
from soda_service.storage.flight import SMALL_REQUEST, FlyingBytes, HeldBytes
from soda_service.storage.remote import run_bands
from soda_service.storage.remoteplace import RemoteLimits, RemoteRoot
from soda_service.storage.runs import RunGrid
from soda_service.storage.source import FileVersion
from soda_service.storage.stores import RemoteStores

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTENT = np.random.default_rng(8).bytes(9_000_000)
BAND = 256 * 1024


class TestFlying:
    """Who finds no room waits, but not for long."""

    def test_room_is_given_up_to_the_budget(self) -> None:
        """And again when it is given back."""
        room = FlyingBytes(100, patience=0.0)
        assert room.take(60)
        assert room.take_at_once(40)
        assert not room.take_at_once(1)
        assert not room.take(1)
        room.give_back(60)
        assert room.take(60)
        assert room.size == 100

    def test_more_than_the_budget_flies_alone(self) -> None:
        """Else it never would."""
        room = FlyingBytes(100, patience=0.0)
        assert room.take(500)
        assert not room.take_at_once(1)
        room.give_back(500)
        assert room.size == 0

    def test_who_waits_is_woken(self) -> None:
        """By whoever gives back enough."""
        room = FlyingBytes(100, patience=60.0)
        assert room.take(80)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(room.take, 50)
            room.give_back(80)
            assert waiting.result(30)
        assert room.size == 50


class TestHeld:
    """Who comes late gets less, and never waits."""

    @given(st.lists(st.integers(0, 200), max_size=60))
    def test_all_shares_together_are_within_the_budget(self, wanted: list[int]) -> None:
        """However many want however much."""
        held = HeldBytes(100)
        with ExitStack() as stack:
            shares = [stack.enter_context(held.share(one)) for one in wanted]
            assert sum(shares) == held.size <= 100
            assert all(
                0 <= share <= min(one, held.largest)
                for share, one in zip(shares, wanted, strict=True)
            )
        assert held.size == 0

    def test_one_alone_gets_the_largest_share(self) -> None:
        """And the next one less."""
        held = HeldBytes(1000)
        with held.share(5000) as first, held.share(5000) as second:
            assert first == held.largest == 250
            assert 0 < second < first


@pytest.fixture(name="server")
def _server() -> Iterator[RangeServer]:
    with range_server(image=CONTENT) as server:
        yield server


LIMITS = RemoteLimits(
    piece_bytes=8 * BLOCK_BYTES, flight_bytes=16 * BLOCK_BYTES, held_bytes=8 * 1024**2,
    timeout_seconds=60.0, retries=0, rest_seconds=0.0,
)  # fmt: skip
HASTY = replace(LIMITS, timeout_seconds=0.4)
"""For a server that is silent: nothing that is read may hang on them."""
GRID = RunGrid(3000, 20_000, (400,), (22_000,), 4)


def _expected() -> bytes:
    return b"".join(CONTENT[at : at + GRID.length] for at in GRID.starts().tolist())


class TestReading:
    """What sources do with it."""

    @pytest.mark.parametrize("held", [0, 100_000, 2 * 1024**2, 64 * 1024**2])
    def test_bands_are_the_runs_however_little_may_be_held(
        self, server: RangeServer, held: int
    ) -> None:
        """Fewer and longer ranges are asked for where there is room."""
        limits = RemoteLimits(held_bytes=held)
        with (
            RemoteStores([RemoteRoot(url=server.url("/"))], limits=limits) as stores,
            stores.open(server.url("/image")) as source,
        ):
            bands = [bytes(band) for band in run_bands(source, GRID, BAND, most_runs=1000)]
        assert b"".join(bands) == _expected()
        assert max(map(len, bands)) <= BAND
        largest = max(one.size for one in server.gets())
        assert largest <= max(1.2 * BAND, 1.2 * held // 4)

    def test_many_readers_stay_within_the_budget(self, server: RangeServer) -> None:
        """Each has got its first band and takes no more: a slow client."""
        with RemoteStores([RemoteRoot(url=server.url("/"))], limits=LIMITS) as stores:
            way = stores.open(server.url("/image"))._way
            with ExitStack() as stack:
                readers = []
                for _ in range(12):
                    source = stack.enter_context(stores.open(server.url("/image")))
                    bands = source.bands(GRID, BAND, most_runs=1000)
                    readers.append(stack.enter_context(closing(bands)))  # type: ignore[type-var] # an iterator that closes
                firsts = [bytes(next(reader)) for reader in readers]
                assert 0 < way.held.size <= LIMITS.held_bytes
                rests = [b"".join(map(bytes, reader)) for reader in readers]
                assert {a + b for a, b in zip(firsts, rests, strict=True)} == {_expected()}
            assert way.held.size == way.flying.size == 0

    @pytest.mark.parametrize("fault", [Fault.CUT, Fault.SHORT, Fault.SILENT, Fault.OTHER_TAG])
    def test_what_fails_gives_its_room_back(self, server: RangeServer, fault: Fault) -> None:
        """That of the requests beside it, too, which come or do not."""
        limits = HASTY if fault is Fault.SILENT else LIMITS
        with RemoteStores([RemoteRoot(url=server.url("/"))], limits=limits) as stores:
            version = FileVersion(len(CONTENT), MODIFIED_NS, server.tag("/image"))
            source = stores.open(server.url("/image"), version)
            server.always = fault
            for grid in (GRID, RunGrid(0, 4_000_000)):
                with pytest.raises(SourceUnavailableError):
                    list(source.bands(grid, BAND, most_runs=1000))
            way = source._way
            ended = threading.Event()
            for _ in range(1200):
                if not way.flying.size:
                    break
                ended.wait(0.05)
            assert way.held.size == way.flying.size == 0

    def test_who_finds_no_room_reads_by_small_requests(self, server: RangeServer) -> None:
        """A store that hangs has taken all of it."""
        with RemoteStores(
            [RemoteRoot(url=server.url("/"))], limits=LIMITS, cache=BlockCache(0)
        ) as stores:
            source = stores.open(server.url("/image"))
            source._way.flying.take(LIMITS.flight_bytes)
            server.forget()
            assert source.read_runs(RunGrid(5, 3_000_000)) == CONTENT[5:3_000_005]
            assert max(one.size for one in server.gets()) <= SMALL_REQUEST
            assert server.most_at_once == 1
