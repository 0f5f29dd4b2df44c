"""Answers in bands: the same bytes whether they had to be waited for or were at hand."""

from __future__ import annotations

import os
from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from soda_service.errors import SourceUnavailableError
from soda_service.storage.bands import BAND_BYTES, CopiedBands, MadeBands
from soda_service.storage.local import LocalSource
from soda_service.storage.runs import RunGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from random import Random

    from soda_service.storage.bands import Bands

SIZE = 3_000_000
CONTENT = np.random.default_rng(1).bytes(SIZE)


@pytest.fixture(scope="module", name="path")
def _path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bands") / "content"
    path.write_bytes(CONTENT)
    return path


def opened(path: Path) -> closing[LocalSource]:
    """What `CopiedBands` opens."""
    return closing(LocalSource.open(str(path)))


@st.composite
def pieces(draw: st.DrawFn) -> list[bytes | RunGrid]:
    """Bytes, and runs of the file: few or many, short or long."""
    drawn: list[bytes | RunGrid] = []
    for _ in range(draw(st.integers(0, 6))):
        if draw(st.booleans()):
            drawn.append(bytes(draw(st.sampled_from((0, 0, 7, 5000, 14_400)))))
            continue
        length = draw(st.integers(1, 100_000))
        step = length + draw(st.integers(0, 5000))
        count = draw(st.integers(1, SIZE // step))
        start = draw(st.integers(0, SIZE - step * count))
        drawn.append(RunGrid(start, length, (count,), (step,)))
    return drawn


def expected(drawn: list[bytes | RunGrid]) -> bytes:
    """The answer, run by run."""
    parts = []
    for one in drawn:
        if isinstance(one, bytes):
            parts.append(one)
        else:
            parts += [CONTENT[at : at + one.length] for at in one.starts().tolist()]
    return b"".join(parts)


class Kernel:
    """Takes some of what is written, and keeps it."""

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self.got = bytearray()

    def write(self, buffers: Sequence[bytes | memoryview]) -> int:
        """As `os.writev` does to a socket that may be full."""
        taken = b"".join(buffers)[: self._most()]
        self.got += taken
        return len(taken)


@settings(max_examples=100)
@given(pieces(), st.randoms(use_true_random=False))
def test_written_at_hand_or_not(path: Path, drawn: list[bytes | RunGrid], chance: Random) -> None:
    """In any mixture of waiting, taking what is at hand, and writing what the kernel takes."""
    kernel = Kernel(lambda: chance.choice((0, 1, 70_000, 10**9)))
    with closing(CopiedBands(opened(path), drawn)) as bands:
        while True:
            if chance.random() < 0.5 and bands.write(kernel.write):
                continue
            at_hand = (
                bands.at_hand(chance.choice((5000, BAND_BYTES))) if chance.random() < 0.5 else None
            )
            band = next(bands, None) if at_hand is None else at_hand
            if band is None:
                break
            kernel.got += band
    assert bytes(kernel.got) == expected(drawn)


def test_padding_of_nothing_is_no_band(path: Path) -> None:
    """As after a data unit of whole blocks, before a header that does not fit into the band."""
    drawn: list[bytes | RunGrid] = []
    for number in range(4):
        drawn += [bytes(14_400), RunGrid(number * 500_000, 1_036_800), b""]
    kernel = Kernel(lambda: 10**9)
    with closing(CopiedBands(opened(path), drawn)) as bands:
        kernel.got += next(bands)
        while bands.write(kernel.write):
            pass
        for band in bands:
            assert len(band) > 0
            kernel.got += band
    assert bytes(kernel.got) == expected(drawn)


def test_the_last_band_is_not_written(path: Path) -> None:
    """What was copied is looked at before it is sent; the others are not copied."""
    kernel = Kernel(lambda: BAND_BYTES)
    with closing(CopiedBands(opened(path), [RunGrid(0, SIZE)])) as bands:
        assert bands.write(kernel.write) == 0  # nothing is open
        first = next(bands)
        while bands.may_be_written():
            assert bands.write(kernel.write)
        assert bands.write(kernel.write) == 0
        last = b"".join(bytes(band) for band in bands)
    assert len(kernel.got) >= SIZE - 3 * BAND_BYTES
    assert bytes(first) + kernel.got + last == CONTENT


@settings(max_examples=60)
@given(pieces(), st.randoms(use_true_random=False))
def test_at_hand_or_not(path: Path, drawn: list[bytes | RunGrid], chance: Random) -> None:
    """In any mixture of waiting and taking what is at hand."""
    got = []
    with closing(CopiedBands(opened(path), drawn)) as bands:
        while True:
            at_hand = bands.at_hand() if chance.random() < 0.5 else None
            band = next(bands, None) if at_hand is None else at_hand
            if band is None:
                break
            got.append(bytes(band))
    assert b"".join(got) == expected(drawn)
    assert all(len(one) <= BAND_BYTES for one in got)
    # Small pieces are joined: two bands that follow each other would not fit into one.
    assert all(len(a) + len(b) > BAND_BYTES // 2 for a, b in pairwise(got))


def test_nothing_is_opened_before_the_first_band(path: Path) -> None:
    """Who asks what is at hand must not wait for a disk."""
    bands = CopiedBands(opened(path), [RunGrid(0, SIZE)])
    assert bands.at_hand() is None
    next(bands)
    assert bands.at_hand() is not None
    bands.close()
    assert next(bands, None) is None


def test_what_is_not_in_memory_is_not_at_hand(tmp_path: Path) -> None:
    """It is read where waiting does no harm; the same band comes then."""
    path = tmp_path / "cold"
    path.write_bytes(CONTENT)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        source = LocalSource.open(str(path))
        if source.is_resident(0, SIZE):
            source.close()
            pytest.skip("this file system keeps pages that it is told to forget")
    rows = RunGrid(0, 1000, (1000,), (3000,))
    with closing(CopiedBands(closing(source), [b"head", RunGrid(0, BAND_BYTES), rows])) as bands:
        assert next(bands) == b"head"
        os.posix_fadvise(source.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert bands.at_hand() is None
        assert bytes(next(bands)) == CONTENT[:BAND_BYTES]
        # Nor is what came with it: it is in the kernel's hands as yet.
        source.read(0, SIZE)
        assert source.is_resident(0, SIZE)
        assert not bands.may_be_written()
        assert bands.at_hand() is None
        assert b"".join(bytes(band) for band in bands) == expected([rows])


def test_after_some_cold_bands_memory_is_looked_at_again(tmp_path: Path) -> None:
    """One page that is missing does not make the rest of a large answer slow."""
    size = 24 * BAND_BYTES
    content = np.random.default_rng(2).bytes(size)
    path = tmp_path / "large"
    path.write_bytes(content)
    source = LocalSource.open(str(path))
    with closing(CopiedBands(closing(source), [RunGrid(0, size)])) as bands:
        assert bytes(next(bands)) == content[:BAND_BYTES]
        assert bands.may_be_written()
        os.fsync(source.fileno())
        os.posix_fadvise(source.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if source.is_resident(0, size):
            pytest.skip("this file system keeps pages that it is told to forget")
        got = [content[:BAND_BYTES]]
        while (band := bands.at_hand()) is not None:
            got.append(bytes(band))
        begin = len(got)
        got.append(bytes(next(bands)))
        source.read(0, size)
        while not bands.may_be_written():
            assert bands.at_hand() is None
            got.append(bytes(next(bands)))
        assert bands.at_hand() is not None
        assert begin + 10 < len(got) < begin + 20
        assert b"".join(got) == content[: len(got) * BAND_BYTES]


def test_a_file_changes_is_not_mixed(tmp_path: Path) -> None:
    """What came before stays, and then it breaks off."""
    path = tmp_path / "changing"
    path.write_bytes(CONTENT)
    with closing(CopiedBands(opened(path), [RunGrid(0, SIZE)])) as bands:
        next(bands)
        path.write_bytes(bytes(SIZE))
        os.utime(path, ns=(0, 0))
        assert bands.at_hand() is None
        with pytest.raises(SourceUnavailableError):
            next(bands)


def test_a_file_that_was_open_before_is_closed(path: Path) -> None:
    """Though no band was ever asked for: the threads may have been too busy."""
    source = LocalSource.open(str(path))
    bands = CopiedBands(closing(source), [RunGrid(0, SIZE)], source=source)
    bands.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(source.fileno())


def test_many_runs_are_not_at_hand(path: Path) -> None:
    """Each may cost a page fault, which the event loop has no time for."""
    source = LocalSource.open(str(path))
    runs = RunGrid(0, 8, (2000,), (1000,))
    with closing(CopiedBands(closing(source), [runs], source=source)) as bands:
        assert bands.at_hand() is None
        assert bytes(next(bands)) == expected([runs])


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    """Closing what was never opened is no fault."""

    class Missing(closing[LocalSource]):
        def __init__(self) -> None:
            pass

        def __enter__(self) -> LocalSource:
            return LocalSource.open(str(tmp_path / "missing"))

    bands = CopiedBands(Missing(), [RunGrid(0, 10)])
    with pytest.raises(FileNotFoundError):
        next(bands)
    bands.close()


def test_made_bands_are_never_at_hand() -> None:
    """They are made in a thread, and closing ends what makes them."""
    ended = []

    def made() -> Iterator[bytes]:
        try:
            yield b"a"
            yield b"b"
        finally:
            ended.append(True)

    bands: Bands = MadeBands(made())
    assert next(bands) == b"a"
    assert bands.at_hand() is None
    bands.close()
    assert ended
    assert next(bands, None) is None
