"""Local files: every way to the bytes gives the same bytes, or an error that names no path."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from soda_service.errors import ConfigurationError, CorruptFileError, SourceUnavailableError
from soda_service.storage import mapping
from soda_service.storage.local import RESIDENT_LIMIT, LocalSource, local_path
from soda_service.storage.mapping import FileMapping
from soda_service.storage.runs import RunGrid
from soda_service.storage.source import FileVersion, open_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from soda_service.storage.disks import Touch
    from soda_service.storage.source import Write

SIZE = 3_000_000


@pytest.fixture(name="path", scope="module")
def _path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("local") / "a file with blanks é.dat"
    path.write_bytes(np.random.default_rng(1).bytes(SIZE))
    return path


@pytest.fixture(name="content", scope="module")
def _content(path: Path) -> bytes:
    return path.read_bytes()


@pytest.fixture(name="source")
def _source(path: Path) -> Iterator[LocalSource]:
    with LocalSource.open(str(path)) as source:
        yield source


class TestOpening:
    """A URL becomes a source or a clear error."""

    def test_paths_and_file_urls_name_the_same_file(self, path: Path) -> None:
        """Blanks and letters beyond ASCII survive being quoted."""
        with open_source(str(path)) as one, open_source(path.as_uri()) as other:
            assert one.read(0, 100) == other.read(0, 100)
            assert one.version == other.version

    def test_the_version_is_size_and_time(self, path: Path) -> None:
        """Nanoseconds are kept."""
        os.utime(path, ns=(5, 1_700_000_000_123_456_789))
        with LocalSource.open(str(path)) as again:
            assert again.version == FileVersion(SIZE, 1_700_000_000_123_456_789)

    @pytest.mark.parametrize("url", ["https://host/a.fits", "s3://b/a.fits", "a.fits", "", "file:a",
                                     "file://other/a.fits", "file:///a.fits?x=1"])  # fmt: skip
    def test_other_urls_are_refused(self, url: str) -> None:
        """Only what is surely a local file is opened."""
        with pytest.raises(ConfigurationError):
            local_path(url)

    @pytest.mark.parametrize("missing", ["nothing.fits", "a file with blanks é.dat/inside"])
    def test_a_missing_file_is_not_found(self, path: Path, missing: str) -> None:
        """The message does not tell where it was looked for."""
        with pytest.raises(FileNotFoundError) as caught:
            LocalSource.open(str(path.parent / missing))
        assert str(path.parent) not in str(caught.value)

    def test_what_is_no_file_is_refused(self, tmp_path: Path) -> None:
        """A folder, and a pipe nobody writes to, neither hang nor crash: a fault that lasts."""
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path, tmp_path / "pipe"):
            with pytest.raises(CorruptFileError, match="not a file") as caught:
                LocalSource.open(str(path))
            assert caught.value.path == str(path)
            assert str(path) not in str(caught.value)

    def test_a_forbidden_file_is_unavailable(self, tmp_path: Path) -> None:
        """Permission may be given later: trying again may help."""
        path = tmp_path / "secret"
        path.write_bytes(b"x")
        path.chmod(0)
        outcome = _run(
            f"""
            import os
            if os.geteuid() == 0:
                os.setuid(65534)
            try:
                LocalSource.open({str(path)!r})
            except (SourceUnavailableError, FileNotFoundError) as error:
                print(type(error).__name__, str(tmp) in str(error))
            """,
            tmp_path,
        )
        assert outcome.stdout.split() == ["SourceUnavailableError", "False"]

    def test_a_path_with_a_nul_is_unavailable(self) -> None:
        """No other exception gets out."""
        with pytest.raises(SourceUnavailableError):
            LocalSource.open("/a\0b")


class TestReading:
    """Bytes are the file's."""

    @given(st.integers(0, SIZE), st.integers(0, 5000))
    def test_read_gives_the_bytes_or_says_that_the_file_ends(
        self, path: Path, start: int, length: int
    ) -> None:
        """Never fewer bytes than asked for."""
        with LocalSource.open(str(path)) as source:
            if start + length <= SIZE:
                assert source.read(start, length) == path.read_bytes()[start : start + length]
            else:
                with pytest.raises(CorruptFileError):
                    source.read(start, length)

    def test_negative_ranges_are_bugs(self, source: LocalSource) -> None:
        """They are no fault of the file."""
        for start, length in ((-1, 10), (10, -1)):
            with pytest.raises(ValueError, match="no such range"):
                source.read(start, length)

    @settings(max_examples=150)
    @given(
        st.sampled_from((1, 2, 4, 8)),
        st.integers(1, 3000),
        st.integers(0, 40_000),
        st.integers(1, 60),
        st.integers(1, 4),
        st.booleans(),
    )
    def test_runs_come_out_as_slices_do(
        self, path: Path, itemsize: int, items: int, gap: int, rows: int, planes: int, cold: bool
    ) -> None:
        """By the mapping, by reads of each run, and by reads over the gaps."""
        length = itemsize * items
        step = length + itemsize * gap
        rows = min(rows, max(1, SIZE // (2 * planes * step)))
        plane = step * rows + 128 * itemsize
        if planes > 1 and planes * plane > SIZE:
            planes = 1
        grid = RunGrid(16, length, (planes, rows), (plane, step), itemsize)
        if grid.end > SIZE:
            return
        content = path.read_bytes()
        expected = b"".join(
            content[16 + z * plane + y * step :][:length]
            for z in range(planes)
            for y in range(rows)
        )
        with _ColdSource.open(str(path)) if cold else LocalSource.open(str(path)) as source:
            assert bytes(source.read_runs(grid)) == expected
            quick = copied(source, grid)
        assert quick is None if cold or grid.size > RESIDENT_LIMIT else quick == expected

    def test_a_cold_box_takes_few_reads(self, path: Path) -> None:
        """Two hundred rows with small gaps are read as one span."""
        with _ColdSource.open(str(path)) as source:
            source.read_runs(RunGrid(4000, 800, (200,), (10_000,), 4))
            assert source.reads == 1
            assert source.bytes_read == 199 * 10_000 + 800

    def test_wide_gaps_are_left_out(self, path: Path) -> None:
        """Rows far apart are read one by one, and nothing between them."""
        with _ColdSource.open(str(path)) as source:
            source.read_runs(RunGrid(0, 800, (10,), (290_000,), 4))
            assert (source.reads, source.bytes_read) == (10, 8000)


class TestResidence:
    """What is said of the page cache is true."""

    def test_a_file_just_read_is_resident(self, source: LocalSource) -> None:
        """All of it, and no byte behind its end."""
        source.read(0, SIZE)
        assert source.is_resident(0, SIZE)
        assert not source.is_resident(0, SIZE + 1)
        assert not source.is_resident(-1, 10)
        assert not source.is_resident(5, 0)

    def test_what_is_called_resident_is_read_without_waiting(self, source: LocalSource) -> None:
        """Of a file that the kernel was asked to evict, which not every file system does.

        What is not resident may still be read so: the kernel fetches it, and some disks are quick.
        """
        source.read(0, SIZE)
        os.fsync(source.fileno())
        os.posix_fadvise(source.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        said = source.is_resident(2_000_000, 10)
        try:
            really = os.preadv(source.fileno(), [bytearray(10)], 2_000_000, os.RWF_NOWAIT) == 10
        except BlockingIOError:
            really = False
        assert really or not said

    def test_another_users_file_is_read_without_waiting(self, tmp_path: Path) -> None:
        """There the kernel says of every page that it is resident, and is not believed."""
        outcome = _run(
            """
            import os
            if os.geteuid() == 0:
                os.setuid(65534)
            source = LocalSource.open("/etc/passwd")
            size = source.version.size
            content = source.read(0, size)
            assert source.is_resident(0, size)
            assert copied(source, RunGrid(0, size)) == content
            rows = copied(source, RunGrid(5, 20, (4, 3), (100, 25)))
            starts = [5 + 100 * z + 25 * y for z in range(4) for y in range(3)]
            assert rows == b"".join(content[at : at + 20] for at in starts)
            print(source._map().may_be_asked)
            """,
            tmp_path,
        )
        assert outcome.stdout.split() == ["False"], outcome.stderr

    def test_a_box_too_large_is_not_copied_at_once(self, source: LocalSource) -> None:
        """The event loop is not held for it."""
        source.read(0, SIZE)
        assert copied(source, RunGrid(0, RESIDENT_LIMIT)) is not None
        assert copied(source, RunGrid(0, RESIDENT_LIMIT + 1)) is None

    def test_many_distant_planes_are_asked_about_one_by_one(self, tmp_path: Path) -> None:
        """A cube may be far larger than what is asked about in one call."""
        path = tmp_path / "cube"
        path.touch()
        os.truncate(path, 200_000_000)
        grid = RunGrid(1000, 40, (12, 5), (15_000_000, 4000), 4)
        with LocalSource.open(str(path)) as source:
            assert bytes(source.read_runs(grid)) == bytes(2400)
            assert copied(source, grid) in (None, bytes(2400))


class TestChangingFiles:
    """A file changed under the reader gives an error, not wrong bytes and no crash."""

    def test_a_truncated_file_does_not_kill_the_process(self, tmp_path: Path) -> None:
        """Touching a mapped page behind the end would."""
        outcome = _run(
            """
            path = tmp / "shrinks"
            path.write_bytes(bytes(2_000_000))
            source = LocalSource.open(str(path))
            grid = RunGrid(0, 400, (200,), (8000,), 4)
            assert copied(source, grid) == bytes(80_000)
            os.truncate(path, 10_000)
            assert copied(source, grid) is None
            for read in (lambda: source.read_runs(grid), lambda: source.read(500_000, 10)):
                try:
                    read()
                except (SourceUnavailableError, CorruptFileError) as error:
                    print(type(error).__name__)
            """,
            tmp_path,
        )
        assert outcome.returncode == 0, outcome.stderr
        assert len(outcome.stdout.split()) == 2

    def test_a_rewritten_file_is_noticed(self, tmp_path: Path) -> None:
        """Half of the old content and half of the new one are never given out as one."""
        path = tmp_path / "rewritten"
        path.write_bytes(bytes(100_000))
        with LocalSource.open(str(path)) as source:
            path.write_bytes(b"\1" * 100_000)
            os.utime(path, ns=(1, 1))
            grid = RunGrid(0, 400, (20,), (4000,), 4)
            assert copied(source, grid) is None
            with pytest.raises(SourceUnavailableError):
                source.read_runs(grid)
            with pytest.raises(SourceUnavailableError):
                source.check_unchanged()

    def test_a_file_replaced_by_renaming_stays_readable(self, tmp_path: Path) -> None:
        """The reader goes on with the content that it opened."""
        path, new = tmp_path / "old", tmp_path / "new"
        path.write_bytes(bytes(10_000))
        new.write_bytes(b"\1" * 20_000)
        with LocalSource.open(str(path)) as source:
            new.rename(path)
            assert source.read(0, 10_000) == bytes(10_000)
            source.check_unchanged()

    def test_an_empty_file_has_no_bytes(self, tmp_path: Path) -> None:
        """And is no special case."""
        path = tmp_path / "empty"
        path.touch()
        with LocalSource.open(str(path)) as source:
            assert source.read(0, 0) == b""
            assert copied(source, RunGrid(0, 1)) is None


def copied(source: LocalSource, grid: RunGrid) -> bytes | None:
    """What `resident_runs` gives, if it gives anything."""
    runs = source.resident_runs(grid)
    return None if runs is None else bytes(runs)


class TestWriteResident:
    """Bytes that are given away where they lie."""

    LONG: Final = RunGrid(100, 10_000, (20,), (11_000,))

    def test_the_same_bytes(self, path: Path) -> None:
        path.read_bytes()
        got: list[bytes] = []
        with LocalSource.open(str(path)) as source:
            pieces: list[bytes | RunGrid] = [b"head", self.LONG, RunGrid(7, 9000), b"foot"]
            taken = source.write_resident(pieces, _keep_in(got))
            expected = b"".join(
                piece if isinstance(piece, bytes) else bytes(source.read_runs(piece))
                for piece in pieces
            )
        assert b"".join(got) == expected
        assert taken == len(expected)

    @pytest.mark.parametrize(
        "grid",
        [
            RunGrid(0, 100, (50,), (200,)),
            RunGrid(0, 9000, (2, 2), (30_000, 10_000)),
            RunGrid(0, 10**9),
        ],
        ids=["short runs", "two dimensions", "behind the end"],
    )
    def test_what_is_not_written(self, path: Path, grid: RunGrid) -> None:
        path.read_bytes()
        got: list[bytes] = []
        with LocalSource.open(str(path)) as source:
            assert source.write_resident([b"head", grid], _keep_in(got)) == 0
        assert got == []

    def test_a_file_that_has_changed(self, content: bytes, tmp_path: Path) -> None:
        changing = tmp_path / "changing"
        changing.write_bytes(content)
        got: list[bytes] = []
        with LocalSource.open(str(changing)) as source:
            os.utime(changing, ns=(0, 0))
            assert source.write_resident([self.LONG], _keep_in(got)) == 0
        assert got == []

    @pytest.mark.parametrize("deed", ["touched", "truncated"])
    def test_one_that_changes_meanwhile(self, content: bytes, tmp_path: Path, deed: str) -> None:
        """What the kernel took may be of either, and nobody must think it whole."""
        changing = tmp_path / "changing"
        changing.write_bytes(content)
        end, ours = socket.socketpair()

        def write(buffers: Sequence[bytes | memoryview]) -> int:
            if deed == "touched":
                os.utime(changing, ns=(0, 0))
            else:
                os.truncate(changing, 50_000)
            return os.writev(ours.fileno(), buffers)

        with end, ours, LocalSource.open(str(changing)) as source:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            with pytest.raises(SourceUnavailableError, match="changes"):
                source.write_resident([self.LONG], write)

    def test_a_mapping_that_is_lost_meanwhile(self, path: Path) -> None:
        """As on a disk that fails while another thread copies: zeros stand in its place."""
        path.read_bytes()
        with LocalSource.open(str(path)) as source:

            def write(buffers: Sequence[bytes | memoryview]) -> int:
                address = np.frombuffer(buffers[0], np.uint8).ctypes.data
                assert any(one.mend(address) for one in list(mapping._mappings.values()))
                return sum(map(len, buffers))

            with pytest.raises(SourceUnavailableError, match="lost"):
                source.write_resident([self.LONG], write)


def _keep_in(got: list[bytes]) -> Write:
    def write(buffers: Sequence[bytes | memoryview]) -> int:
        got.extend(map(bytes, buffers))
        return sum(map(len, buffers))

    return write


@pytest.mark.parametrize("grid", [RunGrid(3, 700), RunGrid(11, 1001, (50, 3), (30_000, 2000))])
def test_in_a_thread_the_same_is_copied(path: Path, content: bytes, grid: RunGrid) -> None:
    """By the way that lets others go on."""
    path.read_bytes()
    with LocalSource.open(str(path)) as source:
        runs = source.resident_runs(grid, in_thread=True)
    assert runs == b"".join(content[at : at + grid.length] for at in grid.starts().tolist())


class _ColdSource(LocalSource):
    """As if nothing were in the page cache; counts what it reads."""

    reads = 0
    bytes_read = 0

    def resident_runs(self, grid: RunGrid, *, in_thread: bool = False) -> None:
        del grid, in_thread

    def _fill(self, start: int, buffer: memoryview, touch: Touch) -> None:
        self.reads += 1
        self.bytes_read += len(buffer)
        super()._fill(start, buffer, touch)


def _run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs *script* in a process of its own, which may die."""
    beginning = """
    import os
    from pathlib import Path
    from soda_service.errors import CorruptFileError, SourceUnavailableError
    from soda_service.storage.local import LocalSource
    from soda_service.storage.runs import RunGrid

    def copied(source, grid):
        runs = source.resident_runs(grid)
        return None if runs is None else bytes(runs)
    """
    text = textwrap.dedent(beginning) + f"tmp = Path({str(folder)!r})\n" + textwrap.dedent(script)
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=False, timeout=60
    )


def test_two_threads_that_map_together_ask_about_their_own_mapping(
    path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each copies through a mapping that is still there, though the other's took its place."""
    path.read_bytes()
    first_is_mapping, second_is_done = threading.Event(), threading.Event()
    asked: list[tuple[int, list[int]]] = []
    told, resident = mapping._kernel_tells, FileMapping.has_resident

    def tell(descriptor: int, size: int) -> bool:
        if not first_is_mapping.is_set():
            first_is_mapping.set()
            assert second_is_done.wait(20)
        return told(descriptor, size)

    def ask(mapped: FileMapping, start: int, end: int, *, in_thread: bool = False) -> bool:
        asked.append((mapped.address, addresses_of_mappings(path)))
        return resident(mapped, start, end, in_thread=in_thread)

    monkeypatch.setattr(mapping, "_kernel_tells", tell)
    monkeypatch.setattr(FileMapping, "has_resident", ask)
    grid = RunGrid(5, 1000)
    with LocalSource.open(str(path)) as source, ThreadPoolExecutor(1) as threads:
        first = threads.submit(source.resident_runs, grid)
        assert first_is_mapping.wait(20)
        second = source.resident_runs(grid)
        second_is_done.set()
        copies = first.result(), second, source.resident_runs(grid)
    assert copies == (content[5:1005],) * 3
    assert len(asked) == 3
    for address, mapped in asked:
        assert address in mapped


def addresses_of_mappings(path: Path) -> list[int]:
    """Where the kernel says that this process has the file mapped."""
    lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    quoted = str(path).replace("\n", "\\012")
    return [int(line.partition("-")[0], 16) for line in lines if line.endswith(quoted)]
