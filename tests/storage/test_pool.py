"""The pool of open files: few stay open, and none is closed under a reader."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from soda_service.storage.disks import disk_of
from soda_service.storage.local import LocalSource
from soda_service.storage.pool import OpenFiles
from soda_service.storage.source import FileVersion


class _Opener:
    """Opens local files and remembers them."""

    def __init__(self) -> None:
        self.opened: list[LocalSource] = []

    def __call__(self, url: str, version: FileVersion, packed: bool | None = None) -> LocalSource:
        assert packed is None
        source = LocalSource.open(url)
        assert source.version == version
        self.opened.append(source)
        return source

    @property
    def open_now(self) -> int:
        return sum(source.fileno() >= 0 for source in self.opened)


@pytest.fixture(name="opener")
def _opener() -> _Opener:
    return _Opener()


@pytest.fixture(name="files")
def _files(tmp_path: Path) -> list[tuple[str, FileVersion]]:
    made = []
    for number in range(8):
        path = tmp_path / f"file{number}"
        path.write_bytes(bytes([number]) * 1000)
        made.append(_key(path))
    return made


def _key(path: Path) -> tuple[str, FileVersion]:
    status = path.stat()
    return str(path), FileVersion(status.st_size, status.st_mtime_ns)


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_file_is_opened_once(opener: _Opener, files: list[tuple[str, FileVersion]]) -> None:
    """Later borrowers get the same source, without blocking too."""
    pool = OpenFiles(4, opener)
    assert pool.peek(*files[0]) is None
    with pool.borrow(*files[0]) as one, pool.borrow(*files[0]) as other:
        assert one is other
    found = pool.peek(*files[0])
    assert found is not None
    with found as again:
        assert again is one
    assert len(opener.opened) == 1


def test_the_longest_unused_is_closed(
    opener: _Opener, files: list[tuple[str, FileVersion]]
) -> None:
    """Never more than the limit are open while nothing is borrowed."""
    pool = OpenFiles(3, opener)
    for key in files[:3]:
        pool.borrow(*key).__exit__(None, None, None)
    pool.borrow(*files[0]).__exit__(None, None, None)
    pool.borrow(*files[3]).__exit__(None, None, None)
    assert opener.open_now == len(pool) == 3
    assert pool.peek(*files[1]) is None
    assert pool.peek(*files[0]) is not None


def test_a_borrowed_source_is_not_closed(
    opener: _Opener, files: list[tuple[str, FileVersion]]
) -> None:
    """Even when the pool is full of others, or has been closed."""
    pool = OpenFiles(2, opener)
    with pool.borrow(*files[7]) as source:
        for key in files[:6]:
            pool.borrow(*key).__exit__(None, None, None)
        assert source.read(0, 3) == b"\7\7\7"
        pool.close()
        assert source.read(0, 3) == b"\7\7\7"
        assert opener.open_now == 1
    assert opener.open_now == 0


def test_a_replaced_file_is_opened_anew(opener: _Opener, tmp_path: Path) -> None:
    """Readers of the old content keep it; it is closed with the last of them."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    pool = OpenFiles(4, opener)
    with pool.borrow(*_key(path)) as old:
        (tmp_path / "new").write_bytes(b"newer")
        (tmp_path / "new").rename(path)
        with pool.borrow(*_key(path)) as new:
            assert (old.read(0, 3), new.read(0, 5)) == (b"old", b"newer")
        assert opener.open_now == 2
    assert opener.open_now == len(pool) == 1


def test_what_cannot_be_opened_leaves_no_trace(opener: _Opener, tmp_path: Path) -> None:
    """The error is the opener's own."""
    pool = OpenFiles(4, opener)
    with pytest.raises(FileNotFoundError):
        pool.borrow(str(tmp_path / "nothing"), FileVersion(1, 1))
    assert len(pool) == 0


@pytest.mark.usefixtures("patient_disks")
def test_many_threads_share_few_sources(
    opener: _Opener, files: list[tuple[str, FileVersion]]
) -> None:
    """Each reads its own bytes although the pool changes all the time."""
    pool = OpenFiles(2, opener)
    wrong: list[int] = []
    finished: list[int] = []

    def read(first: int) -> None:
        for number in range(300):
            which = (first + number * 3) % len(files)
            with pool.borrow(*files[which]) as source:
                if source.read(500, 4) != bytes([which]) * 4:
                    wrong.append(which)
        finished.append(first)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(6)]
    disk_of("/")  # which opens the list of what is mounted, once for all
    descriptors = _open_descriptors()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(finished) == len(threads)
    assert opener.open_now == len(pool) <= 2
    pool.close()
    assert opener.open_now == 0
    assert _open_descriptors() <= descriptors


def test_what_is_discarded_is_opened_anew(
    opener: _Opener, files: list[tuple[str, FileVersion]]
) -> None:
    """And closed, once its last borrower has given it back."""
    pool = OpenFiles(4, opener)
    with pool.borrow(*files[0]) as one:
        pool.discard(*files[0])
        assert one.read(0, 1) == bytes([0])
        with pool.borrow(*files[0]) as other:
            assert other is not one
    assert len(opener.opened) == 2
    assert opener.open_now == 1
    pool.discard(*files[0])
    pool.discard(*files[1])
    assert opener.open_now == 0
