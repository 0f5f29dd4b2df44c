"""Blocks kept in memory and on disk: what comes out is what went in, within the budgets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from soda_service.errors import ConfigurationError
from soda_service.storage.blockcache import BLOCK_BYTES, BlockCache, Part
from soda_service.storage.blockfolder import BlockFolder

KEY = "ab" * 20
OTHER = "cd" * 20


def content_of(number: int, start: int = 0, stop: int = BLOCK_BYTES) -> memoryview:
    """Bytes of a block that no other block has."""
    return memoryview(number.to_bytes(4, "big") * (BLOCK_BYTES // 4))[start:stop]


def files_in(folder: Path) -> list[Path]:
    """The blocks on disk."""
    return sorted(folder.glob("*/*.block"))


class TestMemory:
    """Blocks in memory."""

    def test_a_block_comes_back(self) -> None:
        """Whole, in part, and not at all for another object."""
        cache = BlockCache(10 * BLOCK_BYTES)
        start = 3 * BLOCK_BYTES
        cache.put(KEY, start, content_of(3))
        assert cache.get(KEY, start, start + BLOCK_BYTES) == content_of(3)
        assert cache.peek(KEY, start + 10, start + 20) == content_of(3, 10, 20)
        assert cache.get(OTHER, start, start + 1) is None
        assert cache.get(KEY, start - 1, start) is None

    @given(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 100)), max_size=12))
    def test_parts_of_a_block_are_never_mixed_up(self, ranges: list[tuple[int, int]]) -> None:
        """Whatever came in which order, what is given is right, and the last is there."""
        whole = bytes(range(200))
        cache = BlockCache(1_000_000)
        for start, length in ranges:
            stop = min(start + length, 200)
            cache.put(KEY, start, memoryview(whole)[start:stop])
            assert bytes(cache.peek(KEY, start, stop) or b"") == whole[start:stop]
            for low, high in ((0, 100), (50, 60), (start, 200)):
                found = cache.peek(KEY, low, high)
                assert found is None or bytes(found) == whole[low:high]

    def test_touching_parts_become_one(self) -> None:
        """So that readings side by side serve a reading over both."""
        cache = BlockCache(1_000_000)
        whole = bytes(range(100))
        for start, stop in ((40, 60), (60, 100), (0, 45)):
            cache.put(KEY, start, memoryview(whole)[start:stop])
        assert bytes(cache.peek(KEY, 0, 100) or b"") == whole

    def test_the_budget_holds_and_the_oldest_goes(self) -> None:
        """Counted are the blocks with what an entry takes."""
        cache = BlockCache(4 * BLOCK_BYTES)
        for number in range(3):
            cache.put(KEY, number * BLOCK_BYTES, content_of(number))
        cache.peek(KEY, 0, 1)
        cache.put(KEY, 3 * BLOCK_BYTES, content_of(3))
        there = [cache.peek(KEY, at * BLOCK_BYTES, at * BLOCK_BYTES + 1) for at in range(4)]
        assert [one is not None for one in there] == [True, False, True, True]
        assert cache.size <= 4 * BLOCK_BYTES

    def test_blocks_are_forgotten_when_asked(self) -> None:
        """Whole ones before the one in which the range ends."""
        cache = BlockCache(10 * BLOCK_BYTES)
        for number in range(4):
            cache.put(KEY, number * BLOCK_BYTES, content_of(number))
        cache.forget(KEY, BLOCK_BYTES + 5, 3 * BLOCK_BYTES + 5)
        there = [cache.peek(KEY, at * BLOCK_BYTES, at * BLOCK_BYTES + 1) for at in range(4)]
        assert [one is not None for one in there] == [True, False, False, True]
        assert 2 * BLOCK_BYTES < cache.size < 3 * BLOCK_BYTES

    def test_no_budget_keeps_nothing(self) -> None:
        """A cache of nothing is a cache."""
        cache = BlockCache(0)
        cache.put(KEY, 0, content_of(0))
        assert cache.peek(KEY, 0, 1) is None
        assert cache.size == 0

    def test_threads_do_not_disturb_each_other(self) -> None:
        """Many put and take what is more than fits."""
        cache = BlockCache(5 * BLOCK_BYTES)

        def work(seed: int) -> bool:
            for step in range(200):
                number = (seed * 7 + step) % 12
                start = number * BLOCK_BYTES
                found = cache.peek(KEY, start, start + BLOCK_BYTES)
                if found is not None and found != content_of(number):
                    return False
                cache.put(KEY, start, content_of(number))
            return True

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(4)))
        assert 0 < cache.size <= 5 * BLOCK_BYTES


class TestDisk:
    """Blocks on disk."""

    def test_a_block_outlives_the_process(self, tmp_path: Path) -> None:
        """Another cache finds it, and has it in memory from then on."""
        BlockCache(0, BlockFolder(tmp_path, 10**9)).put(KEY, 0, content_of(7))
        cache = BlockCache(10 * BLOCK_BYTES, BlockFolder(tmp_path, 10**9))
        assert cache.peek(KEY, 0, 10) is None
        assert cache.get(KEY, 5, 10) == content_of(7, 5, 10)
        assert cache.peek(KEY, 0, BLOCK_BYTES) == content_of(7)

    def test_the_budget_holds_and_the_oldest_goes(self, tmp_path: Path) -> None:
        """A block that was read is not the oldest."""
        folder = BlockFolder(tmp_path, 20 * BLOCK_BYTES)
        for number in range(15):
            folder.put(KEY, number, Part(number * BLOCK_BYTES, content_of(number)))
            os.utime(files_in(tmp_path)[-1])
        for path in files_in(tmp_path):
            os.utime(path, ns=(10**9 * int(path.stem.rpartition("-")[2], 16), 0))
        assert folder.get(KEY, 0) is not None
        for number in range(15, 40):
            folder.put(KEY, number, Part(number * BLOCK_BYTES, content_of(number)))
            total = sum(path.stat().st_size for path in files_in(tmp_path))
            assert total <= 20 * BLOCK_BYTES
        assert folder.get(KEY, 1) is None
        assert folder.get(KEY, 39) is not None

    def test_a_smaller_budget_holds_from_the_start(self, tmp_path: Path) -> None:
        """An operator may lower it."""
        folder = BlockFolder(tmp_path, 10**9)
        for number in range(10):
            folder.put(KEY, number, Part(number * BLOCK_BYTES, content_of(number)))
        BlockFolder(tmp_path, 5 * BLOCK_BYTES)
        assert len(files_in(tmp_path)) <= 4

    @pytest.mark.parametrize("damage", ["short", "flipped", "empty", "moved", "long", "header"])
    def test_damage_is_noticed(self, tmp_path: Path, damage: str) -> None:
        """A damaged block is none, and is gone."""
        folder = BlockFolder(tmp_path, 10**9)
        folder.put(KEY, 2, Part(2 * BLOCK_BYTES, content_of(2)))
        (path,) = files_in(tmp_path)
        raw = bytearray(path.read_bytes())
        match damage:
            case "short":
                del raw[-1000:]
            case "flipped":
                raw[1000] ^= 1
            case "empty":
                raw.clear()
            case "moved":
                raw[8] ^= 1
            case "long":
                raw += bytes(10)
            case _:
                del raw[5:]
        path.write_bytes(raw)
        assert folder.get(KEY, 2) is None
        assert not path.exists()

    def test_a_block_under_another_name_is_not_taken(self, tmp_path: Path) -> None:
        """A file renamed by hand, say."""
        folder = BlockFolder(tmp_path, 10**9)
        folder.put(KEY, 2, Part(2 * BLOCK_BYTES, content_of(2)))
        (path,) = files_in(tmp_path)
        path.rename(path.with_name(f"{KEY}-3.block"))
        assert folder.get(KEY, 3) is None

    def test_what_nobody_finished_is_removed(self, tmp_path: Path) -> None:
        """Once it is old; a fresh one may still be written to."""
        (tmp_path / "ab").mkdir()
        old, fresh = tmp_path / "ab" / "old.part", tmp_path / "ab" / "fresh.part"
        old.write_bytes(b"x")
        fresh.write_bytes(b"x")
        os.utime(old, (1, 1))
        BlockFolder(tmp_path, 10**9)
        assert not old.exists()
        assert fresh.exists()

    def test_a_folder_that_fails_is_no_error(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Blocks are fetched again then; the log says so, once."""
        folder = BlockFolder(tmp_path / "blocks", 10**9)
        (tmp_path / "blocks" / KEY[:2]).write_text("in the way")
        for _ in range(3):
            folder.put(KEY, 0, Part(0, content_of(0)))
            assert folder.get(KEY, 0) is None
        assert len(caplog.records) == 1

    def test_a_folder_that_cannot_be_is_a_wrong_setting(self, tmp_path: Path) -> None:
        """It is said at the start."""
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigurationError, match="cannot use the folder"):
            BlockFolder(tmp_path / "file" / "blocks", 1)

    def test_processes_share_a_folder_and_may_be_killed(self, tmp_path: Path) -> None:
        """Three write over each other and over the budget; one is killed; no block is wrong."""
        program = textwrap.dedent(
            f"""
            import sys
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            from pathlib import Path
            from test_blockcache import KEY, BLOCK_BYTES, BlockFolder, Part, content_of
            folder = BlockFolder(Path({str(tmp_path)!r}), 10 * BLOCK_BYTES)
            print("ready", flush=True)
            step = 0
            while step < int(sys.argv[1]):
                number = (step * int(sys.argv[2])) % 17
                folder.put(KEY, number, Part(number * BLOCK_BYTES, content_of(number)))
                found = folder.get(KEY, (number + 3) % 17)
                assert found is None or found.content == content_of((number + 3) % 17)
                step += 1
            """
        )
        endless, *others = [
            subprocess.Popen(
                [sys.executable, "-c", program, steps, stride], stdout=subprocess.PIPE, text=True
            )
            for steps, stride in (("1000000000", "5"), ("300", "3"), ("300", "7"))
        ]
        for process in others:
            assert process.communicate(timeout=120)[0] == "ready\n"
            assert process.returncode == 0
        endless.send_signal(signal.SIGKILL)
        endless.communicate(timeout=30)
        folder = BlockFolder(tmp_path, 10 * BLOCK_BYTES)
        found = [folder.get(KEY, number) for number in range(17)]
        assert any(found)
        assert all(one is None or one.content == content_of(at) for at, one in enumerate(found))
        assert sum(path.stat().st_size for path in files_in(tmp_path)) <= 10 * BLOCK_BYTES
