"""FITS files out of parts: padded, complete, and with check sums that astropy agrees to."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, strategies as st

from soda_service.errors import CorruptFileError
from soda_service.render.fits import (
    FitsPart,
    checksummed,
    encode_checksum,
    fits_chunks,
    ones_complement_sum,
    padding_size,
    with_checksum_cards,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

ALL_ONES = 0xFFFFFFFF


def _part(pieces: Sequence[bytes], promised: int | None = None) -> FitsPart:
    size = sum(map(len, pieces)) if promised is None else promised
    return FitsPart(header=b"H" * 2880, data=pieces, data_size=size)


def _sent_until_error(part: FitsPart) -> tuple[bytes, CorruptFileError]:
    sent = b""
    chunks = fits_chunks([part], 100)
    while True:
        try:
            sent += next(chunks)
        except CorruptFileError as error:
            return sent, error


class TestChunks:
    """The bytes are the parts' own, in their order, and as many as promised."""

    @given(
        st.lists(st.lists(st.binary(max_size=4000), max_size=6), min_size=1, max_size=4),
        st.integers(1, 20_000),
    )
    def test_chunks_join_to_the_file(self, data: list[list[bytes]], chunk_bytes: int) -> None:
        """Header, data, zeros to the end of the block, next header."""
        parts = [_part(pieces) for pieces in data]
        whole = b"".join(fits_chunks(parts, chunk_bytes))
        expected = b""
        for pieces in data:
            expected += b"H" * 2880 + b"".join(pieces)
            expected += b"\0" * (-len(expected) % 2880)
        assert whole == expected
        assert len(whole) == sum(part.size for part in parts)

    def test_small_pieces_are_joined(self) -> None:
        """A header and a few rows are one chunk; no chunk is far from what was asked for."""
        pieces = [b"x" * 1000] * 1000
        sizes = [len(chunk) for chunk in fits_chunks([_part(pieces)], 100_000)]
        assert len(sizes) <= 12
        assert max(sizes) <= 100_000

    def test_large_pieces_are_not_copied(self) -> None:
        """What comes out is what went in."""
        band = b"x" * 200_000
        assert any(chunk is band for chunk in fits_chunks([_part([band])], 150_000))

    @pytest.mark.parametrize(("promised", "word"), [(2999, "more"), (3001, "fewer")])
    def test_a_broken_promise_is_an_error(self, promised: int, word: str) -> None:
        """And what was sent before it is shorter than the promised file."""
        sent, error = _sent_until_error(_part([b"x" * 1500] * 2, promised))
        assert word in str(error)
        assert len(sent) < 2880 + promised + padding_size(promised)

    def test_too_many_bytes_are_never_sent(self) -> None:
        """The surplus stops before it gets out."""
        sent, _ = _sent_until_error(_part([b"x" * 1500] * 9, 1500))
        assert len(sent) <= 2880 + 1500


class TestChecksums:
    """Sums as FITS 4.0 §4.4.2.7 and its appendix J define them."""

    @given(st.data())
    def test_astropy_agrees(self, data: st.DataObject) -> None:
        """For any pixels in any pieces, below any header."""
        dtype = data.draw(st.sampled_from((">f4", ">i2", "u1", ">f8", ">i4")))
        shape = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 60)))
        seed = data.draw(st.integers(0, 1000))
        pixels = np.random.default_rng(seed).normal(0, 120, shape).astype(dtype)
        header = fits.PrimaryHDU(pixels).header
        for number in range(data.draw(st.integers(0, 40))):
            header[f"KEY{number}"] = number * 1.1
        if data.draw(st.booleans()):
            header["CHECKSUM"] = "of the parent"
            header["DATASUM"] = "12345"
        planned = with_checksum_cards(header.tostring().encode("ascii"))
        stored = pixels.tobytes()
        step = data.draw(st.integers(1, 3000))
        pieces = [stored[at : at + step] for at in range(0, len(stored), step)]
        final = checksummed(planned, pieces)
        assert len(final) == len(planned)
        part = FitsPart(header=final, data=pieces, data_size=len(stored))
        whole = b"".join(fits_chunks([part], 5000))
        # A warning, which is an error here, is what a wrong sum gives.
        with fits.open(io.BytesIO(whole), checksum=True) as hdus:
            assert hdus[0].verify_checksum() == hdus[0].verify_datasum() == 1
            assert hdus[0].header.count("CHECKSUM") == hdus[0].header.count("DATASUM") == 1
            assert np.array_equal(hdus[0].data, pixels, equal_nan=True)

    def test_no_data_has_the_sum_zero(self) -> None:
        """A primary HDU without data."""
        header = with_checksum_cards(fits.PrimaryHDU().header.tostring().encode("ascii"))
        final = checksummed(header, [])
        with fits.open(io.BytesIO(final), checksum=True) as hdus:
            assert hdus[0].header["DATASUM"] == "0"
            assert hdus[0].verify_checksum() == 1

    @given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
    def test_the_sum_does_not_depend_on_the_pieces(self, data: bytes, cuts: list[int]) -> None:
        """Even where they end within a word."""
        edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        pieces = [data[low:high] for low, high in pairwise(edges)]
        assert ones_complement_sum(pieces) == _slow_sum(data)

    @given(st.integers(0, ALL_ONES))
    def test_the_characters_have_the_sum_that_they_say(self, value: int) -> None:
        """Turned left into word order, and without the zeros' own sum."""
        text = encode_checksum(value)
        assert len(text) == 16
        assert text.isascii()
        assert text.isalnum()
        turned = (text[1:] + text[:1]).encode("ascii")
        words = [int.from_bytes(turned[at : at + 4], "big") - 0x30303030 for at in (0, 4, 8, 12)]
        assert sum(words) == value


def _slow_sum(data: bytes) -> int:
    """Word by word, each carry added at once."""
    padded = data + b"\0" * (-len(data) % 4)
    total = 0
    for at in range(0, len(padded), 4):
        total += int.from_bytes(padded[at : at + 4], "big")
        if total > ALL_ONES:
            total -= ALL_ONES
    return total
