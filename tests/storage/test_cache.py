"""Inflated copies: made once, within a budget, whoever asks."""

from __future__ import annotations

import bz2
import fcntl
import gzip
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.lzw import packed, packed_zeros

from soda_service.errors import ConfigurationError, CorruptFileError, SourceUnavailableError
from soda_service.storage import cache as cache_module, inflate as inflate_module
from soda_service.storage.cache import InflatedCache
from soda_service.storage.disks import DiskHangsError
from soda_service.storage.inflate import inflated_pieces, is_compressed
from soda_service.storage.local import LocalSource
from soda_service.storage.source import FileVersion

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = np.arange(1_000_000, dtype="u2").tobytes()


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def _copies(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.inflated"))


def _content(cache: InflatedCache, path: Path) -> bytes:
    with cache.open(str(path)) as source:
        return source.read(0, source.version.size)


class TestInflating:
    """What comes out is what went in."""

    @pytest.mark.parametrize(
        "compressed",
        [
            pytest.param(gzip.compress(CONTENT), id="gzip"),
            pytest.param(gzip.compress(CONTENT[:777]) + gzip.compress(CONTENT[777:]), id="members"),
            pytest.param(gzip.compress(CONTENT) + bytes(1000), id="padded"),
            pytest.param(gzip.compress(CONTENT) + b"junk", id="junk"),
            pytest.param(bz2.compress(CONTENT), id="bzip2"),
            pytest.param(bz2.compress(CONTENT[:9]) + bz2.compress(CONTENT[9:]), id="streams"),
            pytest.param(packed(CONTENT), id="compress"),
        ],
    )
    def test_compressed_files_are_inflated(
        self, folder: Path, tmp_path: Path, compressed: bytes
    ) -> None:
        """However many streams they hold, and whatever they are called."""
        path = tmp_path / "image.fits"
        path.write_bytes(compressed)
        assert _content(InflatedCache(folder, 10**8), path) == CONTENT

    @pytest.mark.parametrize("cut", [262_143, 262_144, 262_145])
    def test_members_may_begin_anywhere(self, folder: Path, tmp_path: Path, cut: int) -> None:
        """Also where one piece that is read ends, or one byte to either side."""
        noise = np.random.default_rng(2).bytes(400_000)
        for size in range(262_000, 262_130):
            first = gzip.compress(noise[:size], compresslevel=0)
            if len(first) == cut:
                break
        else:
            pytest.fail("no first member has that size")
        path = tmp_path / "members.gz"
        path.write_bytes(first + gzip.compress(noise[size:]))
        assert _content(InflatedCache(folder, 10**8), path) == noise

    def test_other_files_are_opened_as_they_are(self, folder: Path, tmp_path: Path) -> None:
        """A name that ends in .gz makes no compressed file."""
        path = tmp_path / "plain.fits.gz"
        path.write_bytes(b"SIMPLE")
        with InflatedCache(folder, 10**8).open(str(path)) as source:
            assert source.path == str(path)
        assert _copies(folder) == []
        assert not is_compressed(b"")

    def test_a_missing_file_is_not_found(self, folder: Path, tmp_path: Path) -> None:
        """As from any source."""
        with pytest.raises(FileNotFoundError):
            InflatedCache(folder, 10**8).open(str(tmp_path / "nothing.gz"))


class TestKeeping:
    """A copy is made once for each version of a file."""

    def test_the_copy_is_used_again(self, folder: Path, tmp_path: Path) -> None:
        """By another cache over the same folder too."""
        path = tmp_path / "a.gz"
        path.write_bytes(gzip.compress(CONTENT))
        with InflatedCache(folder, 10**8).open(str(path)) as first:
            with InflatedCache(folder, 10**8).open(str(path)) as second:
                assert isinstance(first, LocalSource)
                assert isinstance(second, LocalSource)
                assert os.fstat(first.fileno()).st_ino == os.fstat(second.fileno()).st_ino
            first.check_unchanged()

    def test_a_changed_file_is_inflated_anew(self, folder: Path, tmp_path: Path) -> None:
        """And who still expects the old one is told."""
        path = tmp_path / "a.gz"
        path.write_bytes(gzip.compress(CONTENT))
        cache = InflatedCache(folder, 10**8)
        old = path.stat()
        assert _content(cache, path) == CONTENT
        path.write_bytes(gzip.compress(b"new"))
        assert _content(cache, path) == b"new"
        with pytest.raises(SourceUnavailableError):
            cache.open(str(path), FileVersion(old.st_size, old.st_mtime_ns))

    @pytest.mark.usefixtures("patient_disks")
    def test_threads_that_ask_at_once_inflate_once(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The others wait and get the same copy."""
        path = tmp_path / "a.gz"
        path.write_bytes(gzip.compress(CONTENT))
        inflations: list[int] = []

        def counted(source: LocalSource) -> Iterator[bytes]:
            inflations.append(1)
            return inflated_pieces(source)

        monkeypatch.setattr(cache_module, "inflated_pieces", counted)
        cache = InflatedCache(folder, 10**8)
        contents: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: contents.append(_content(cache, path)))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert contents == [CONTENT] * 6
        assert len(inflations) == 1

    def test_processes_that_ask_at_once_share_one_copy(self, folder: Path, tmp_path: Path) -> None:
        """None meets a copy that is not complete."""
        path = tmp_path / "a.gz"
        path.write_bytes(gzip.compress(CONTENT * 10))
        script = (
            "import os, sys; from pathlib import Path;"
            "from soda_service.storage.cache import InflatedCache;"
            "source = InflatedCache(Path(sys.argv[1]), 10**8).open(sys.argv[2]);"
            "print(os.fstat(source.fileno()).st_ino, source.version.size)"
        )
        command = [sys.executable, "-c", script, str(folder), str(path)]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        outputs = {process.communicate(timeout=60)[0] for process in running}
        assert len(outputs) == 1
        assert outputs.pop().split()[1] == str(len(CONTENT) * 10)

    def test_leftovers_of_a_killed_process_are_removed(self, folder: Path) -> None:
        """Unless the process that writes them is alive."""
        folder.mkdir()
        dead, alive = folder / f"{1:040x}.part", folder / f"{2:040x}.part"
        dead.write_bytes(b"half")
        alive.write_bytes(b"half")
        with cache_module._locked(alive):
            InflatedCache(folder, 10**8)
            assert alive.exists()
            assert not dead.exists()

    def test_what_a_killed_process_left_is_written_over(self, folder: Path, tmp_path: Path) -> None:
        """By a service that was there already; however long it is."""
        path = tmp_path / "a.gz"
        path.write_bytes(gzip.compress(CONTENT))
        cache = InflatedCache(folder, 10**8)
        folder.mkdir()
        with LocalSource.open(str(path)) as source:
            left = folder / f"{cache_module._key(source)}.part"
        left.write_bytes(bytes(2 * len(CONTENT)))
        assert _content(cache, path) == CONTENT
        assert [one.suffix for one in folder.iterdir()] == [".inflated"]


class _Held:
    """`inflated_pieces` that waits in the middle of the files of one name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.begun = threading.Event()
        self.goes_on = threading.Event()

    def __call__(self, source: LocalSource) -> Iterator[bytes]:
        for piece in inflated_pieces(source):
            yield piece
            if source.path.endswith(self._name):
                self.begun.set()
                assert self.goes_on.wait(60)


class TestWaiting:
    """Who makes a copy may have to wait for a disk; others wait for that copy only."""

    @pytest.fixture(name="held")
    def _held(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Held]:
        held = _Held("slow.gz")
        monkeypatch.setattr(cache_module, "inflated_pieces", held)
        yield held
        held.goes_on.set()

    def test_nobody_waits_for_the_copy_of_another_file(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: _Held
    ) -> None:
        """Not even where their names begin alike."""
        key = cache_module._key
        monkeypatch.setattr(cache_module, "_key", lambda source: "0" * 8 + key(source)[8:])
        slow, quick = tmp_path / "slow.gz", tmp_path / "quick.gz"
        for path in (slow, quick):
            path.write_bytes(gzip.compress(CONTENT))
        cache = InflatedCache(folder, 10**8)
        contents: dict[Path, bytes] = {}
        threads = [
            threading.Thread(
                target=lambda path=path: contents.update({path: _content(cache, path)})
            )
            for path in (slow, quick)
        ]
        threads[0].start()
        assert held.begun.wait(60)
        threads[1].start()
        threads[1].join(30)
        alone = list(contents)
        held.goes_on.set()
        for thread in threads:
            thread.join(60)
        assert alone == [quick]
        assert contents == {slow: CONTENT, quick: CONTENT}

    def test_who_waits_for_the_same_file_asks_its_disk(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: _Held
    ) -> None:
        """So that a disk that hangs is seen to."""
        path = tmp_path / "slow.gz"
        path.write_bytes(gzip.compress(CONTENT))
        cache = InflatedCache(folder, 10**8)
        first = threading.Thread(target=_content, args=(cache, path))
        first.start()
        assert held.begun.wait(60)

        def silent(source: LocalSource) -> None:
            raise DiskHangsError(source.path)

        monkeypatch.setattr(LocalSource, "ask_disk", silent)
        with pytest.raises(DiskHangsError):
            cache.open(str(path))
        held.goes_on.set()
        first.join(60)
        assert _content(cache, path) == CONTENT

    @pytest.mark.usefixtures("patient_disks")
    def test_one_thread_waits_for_long_and_others_come_back(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: _Held
    ) -> None:
        """A large file takes minutes; the other threads have other files to read."""
        path = tmp_path / "slow.gz"
        path.write_bytes(gzip.compress(CONTENT))
        cache = InflatedCache(folder, 10**8)
        asked: set[int] = set()
        ask_disk = LocalSource.ask_disk
        several = threading.Event()

        def noted(source: LocalSource) -> None:
            asked.add(threading.get_ident())
            if len(asked) == 2:
                several.set()
            ask_disk(source)

        monkeypatch.setattr(LocalSource, "ask_disk", noted)
        outcomes: list[bytes | str] = []

        def ask() -> None:
            try:
                outcomes.append(_content(cache, path))
            except SourceUnavailableError as error:
                outcomes.append(str(error))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        threads[0].start()
        assert held.begun.wait(60)
        for waiting in threads[1:]:
            waiting.start()
        assert several.wait(60)  # in the beginning each of them waits
        assert outcomes == []
        monkeypatch.setattr(cache_module, "_PATIENCE_SECONDS", 0.0)
        with pytest.raises(SourceUnavailableError, match="being inflated"):
            cache.open(str(path))
        end = time.monotonic() + 60
        while len(outcomes) < 1:
            assert time.monotonic() < end
            time.sleep(0.01)
        held.goes_on.set()
        for thread in threads:
            thread.join(60)
        assert outcomes == ["the file is being inflated for others; try again", CONTENT, CONTENT]
        assert _content(cache, path) == CONTENT
        assert cache._first == {}

    def test_who_waits_makes_the_copy_that_another_one_could_not(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And the other one's is gone by then."""
        path = tmp_path / "a.gz"
        path.write_bytes(gzip.compress(CONTENT))
        cache = InflatedCache(folder, 10**8)
        waits, outcomes = threading.Event(), []
        ask_disk = LocalSource.ask_disk

        def asked(source: LocalSource) -> None:
            waits.set()
            ask_disk(source)

        def failing(source: LocalSource) -> Iterator[bytes]:
            monkeypatch.setattr(cache_module, "inflated_pieces", inflated_pieces)
            yield b"something"
            second.start()
            assert waits.wait(60)
            raise SourceUnavailableError("no luck", path=source.path)

        monkeypatch.setattr(LocalSource, "ask_disk", asked)
        monkeypatch.setattr(cache_module, "inflated_pieces", failing)
        second = threading.Thread(target=lambda: outcomes.append(_content(cache, path)))
        with pytest.raises(SourceUnavailableError, match="no luck"):
            cache.open(str(path))
        second.join(60)
        assert outcomes == [CONTENT]
        assert [one.suffix for one in folder.iterdir()] == [".inflated"]

    def test_a_copy_that_was_taken_away_is_never_mistaken_for_another(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever empties caches may do so while one is made, and the next begin anew."""
        path = tmp_path / "a.gz"
        path.write_bytes(gzip.compress(CONTENT))

        def robbed(source: LocalSource) -> Iterator[bytes]:
            yield from inflated_pieces(source)
            (unfinished,) = folder.glob("*.part")
            unfinished.unlink()
            unfinished.write_bytes(b"the next one's")

        monkeypatch.setattr(cache_module, "inflated_pieces", robbed)
        cache = InflatedCache(folder, 10**8)
        with pytest.raises(SourceUnavailableError, match="cannot be inflated"):
            cache.open(str(path))
        assert [one.read_bytes() for one in folder.iterdir()] == [b"the next one's"]

    def test_a_lock_of_what_has_another_name_by_then_is_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It was renamed, as it is when it is complete, just before it could be locked."""
        unfinished, complete = tmp_path / "a.part", tmp_path / "a.inflated"
        unfinished.write_bytes(b"content")
        flock = fcntl.flock

        def late(descriptor: int, how: int) -> None:
            unfinished.rename(complete)
            flock(descriptor, how)

        monkeypatch.setattr(fcntl, "flock", late)
        with cache_module._locked(unfinished) as held:
            assert held is None
        assert complete.read_bytes() == b"content"


class TestBudget:
    """The folder does not grow beyond what it may."""

    def test_the_longest_unused_copies_go(self, folder: Path, tmp_path: Path) -> None:
        """Those used lately stay."""
        size = len(CONTENT)
        cache = InflatedCache(folder, 20 * 1024 * 1024 + 3 * size)
        paths = []
        for number in range(6):
            path = tmp_path / f"{number}.gz"
            path.write_bytes(gzip.compress(bytes([number]) + CONTENT))
            paths.append(path)
        inodes = {}
        for path in paths[:3]:
            with cache.open(str(path)) as source:
                assert isinstance(source, LocalSource)
                inodes[path] = os.fstat(source.fileno()).st_ino
        with cache.open(str(paths[0])):
            pass
        cache._budget = 16 * 1024 * 1024 + 2 * size + 100
        with cache.open(str(paths[3])):
            pass
        left = {path.stat().st_ino for path in _copies(folder)}
        assert inodes[paths[0]] in left
        assert inodes[paths[1]] not in left

    def test_an_evicted_copy_stays_readable(self, folder: Path, tmp_path: Path) -> None:
        """Its reader notices nothing."""
        path = tmp_path / "a.gz"
        path.write_bytes(gzip.compress(CONTENT))
        cache = InflatedCache(folder, 10**8)
        with cache.open(str(path)) as source:
            cache._budget = 1
            cache._make_room(0)
            assert _copies(folder) == []
            assert source.read(0, len(CONTENT)) == CONTENT
            source.check_unchanged()

    def test_the_folder_is_brought_within_the_budget_at_start(self, folder: Path) -> None:
        """An operator may lower it."""
        folder.mkdir()
        (folder / "x.inflated").write_bytes(bytes(1000))
        InflatedCache(folder, 500)
        assert _copies(folder) == []

    def test_a_folder_that_cannot_be_used_is_a_wrong_setting(self, tmp_path: Path) -> None:
        """The operator is told which one, and why, before anything is asked for."""
        (tmp_path / "file").touch()
        (tmp_path / "astray").symlink_to("nowhere")
        (tmp_path / "round").symlink_to("round")
        for name, why in {
            "file": "Not a directory",
            "file/cache": "Not a directory",
            "astray": "it is a link to what is not there",
            "astray/cache": "astray is a link to what is not there",
            "round": "symbolic links",
            "round/cache": "symbolic links",
        }.items():
            with pytest.raises(ConfigurationError, match=f"{tmp_path / name}: .*{why}"):
                InflatedCache(tmp_path / name, 1000)

    def test_a_folder_that_is_removed_just_then_is_made_again(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever empties caches may do so while a service starts."""
        folder.mkdir()
        scandir = os.scandir

        def removing(path: Path) -> Iterator[os.DirEntry[str]]:
            folder.rmdir()
            return scandir(path)

        with monkeypatch.context() as patch:
            patch.setattr("os.scandir", removing)
            cache = InflatedCache(folder, 10**8)
        assert not folder.exists()
        compressed = tmp_path / "a.fits.gz"
        compressed.write_bytes(gzip.compress(CONTENT))
        assert _content(cache, compressed) == CONTENT

    def test_the_folder_is_made_when_it_is_needed(self, folder: Path, tmp_path: Path) -> None:
        """Files that are not compressed leave nothing behind."""
        cache = InflatedCache(folder / "deep", 10**8)
        plain, compressed = tmp_path / "a.fits", tmp_path / "a.fits.gz"
        plain.write_bytes(CONTENT)
        compressed.write_bytes(gzip.compress(CONTENT))
        assert _content(cache, plain) == CONTENT
        assert not folder.exists()
        assert _content(cache, compressed) == CONTENT
        assert len(_copies(folder / "deep")) == 1


class TestDamage:
    """Bad files are refused and leave nothing behind."""

    @pytest.mark.parametrize(
        "damaged",
        [
            pytest.param(gzip.compress(CONTENT)[:-1], id="no end"),
            pytest.param(gzip.compress(CONTENT)[:1000], id="half"),
            pytest.param(gzip.compress(CONTENT)[:5], id="header"),
            pytest.param(b"\x1f\x8b", id="magic"),
            pytest.param(gzip.compress(CONTENT)[:-6] + b"\0" * 6, id="check sum"),
            pytest.param(b"\x1f\x8b\x08\0" + b"\xff" * 500, id="noise"),
            pytest.param(gzip.compress(CONTENT) + gzip.compress(CONTENT)[:99], id="second member"),
            pytest.param(bz2.compress(CONTENT)[:-9], id="bzip2 without end"),
            pytest.param(b"BZh9" + b"\xff" * 500, id="bzip2 noise"),
            pytest.param(b"\x1f\x9d\x90" + b"\xff" * 500, id="compress noise"),
            pytest.param(b"\x1f\x9d\x91" + packed(b"a")[3:], id="compress of 17 bits"),
            pytest.param(b"\x1f\x9d", id="compress magic"),
            pytest.param(packed(b"a")[:-1], id="compress half a code"),
        ],
    )
    def test_damaged_files_are_corrupt(self, folder: Path, tmp_path: Path, damaged: bytes) -> None:
        """Again and again, without a path in the message."""
        path = tmp_path / "damaged.gz"
        path.write_bytes(damaged)
        cache = InflatedCache(folder, 10**8)
        for _ in range(2):
            with pytest.raises(CorruptFileError) as caught:
                cache.open(str(path))
            assert caught.value.path == str(path)
            assert str(tmp_path) not in str(caught.value)
        assert list(folder.glob("*.part")) == _copies(folder) == []

    def test_what_exceeds_the_budget_is_refused(self, folder: Path, tmp_path: Path) -> None:
        """Long before it has filled the disk."""
        path = tmp_path / "large.gz"
        path.write_bytes(gzip.compress(bytes(5_000_000)))
        with pytest.raises(CorruptFileError, match="more than 3000000"):
            InflatedCache(folder, 3_000_000).open(str(path))

    def test_a_bomb_is_refused(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No image shrinks to a five-thousandth, whatever the budget is."""
        monkeypatch.setattr(inflate_module, "_SMALL", 100_000)
        path = tmp_path / "bomb.bz2"
        path.write_bytes(bz2.compress(bytes(5_000_000)))
        with pytest.raises(CorruptFileError, match="inflates to more"):
            InflatedCache(folder, 10**12).open(str(path))

    def test_a_bomb_of_codes_is_refused(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """LZW makes two megabytes of zeros three kilobytes, and a hundred megabytes thirty."""
        monkeypatch.setattr(inflate_module, "_SMALL", 100_000)
        monkeypatch.setattr(inflate_module, "_LARGEST_RATIO", 100)
        path = tmp_path / "bomb.Z"
        path.write_bytes(packed_zeros(2000))
        assert path.stat().st_size < 4000
        with pytest.raises(CorruptFileError, match="inflates to more"):
            InflatedCache(folder, 10**12).open(str(path))

    def test_a_bad_file_is_inflated_once(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Repeated requests for it cost nothing."""
        path = tmp_path / "damaged.gz"
        path.write_bytes(gzip.compress(CONTENT)[:-1])
        cache = InflatedCache(folder, 10**8)
        with pytest.raises(CorruptFileError) as first:
            cache.open(str(path))
        monkeypatch.setattr(cache_module, "inflated_pieces", None)
        with pytest.raises(CorruptFileError) as second:
            cache.open(str(path))
        assert str(first.value) == str(second.value)

    def test_a_mended_file_is_tried_again(self, folder: Path, tmp_path: Path) -> None:
        """The memory of what is bad goes by version."""
        path = tmp_path / "mended.gz"
        path.write_bytes(gzip.compress(CONTENT)[:-1])
        cache = InflatedCache(folder, 10**8)
        with pytest.raises(CorruptFileError):
            cache.open(str(path))
        path.write_bytes(gzip.compress(CONTENT))
        assert _content(cache, path) == CONTENT


def test_local_sources_serve_as_the_cache_gives_them(folder: Path, tmp_path: Path) -> None:
    """A copy is a source like any other, its version the copy's own."""
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(CONTENT))
    with InflatedCache(folder, 10**8).open(str(path)) as source:
        assert isinstance(source, LocalSource)
        assert source.version.size == len(CONTENT)
