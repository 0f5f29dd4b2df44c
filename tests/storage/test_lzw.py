"""Files of `compress`: what comes out is what went in, in little memory."""

from __future__ import annotations

import subprocess
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from support.lzw import packed, packed_zeros
from support.programs import require_program

from soda_service.storage.lzw import unpacked_pieces

NOISE = np.random.default_rng(3).integers(0, 20, 60_000).astype("u1").tobytes()
CONTENTS = {
    "nothing": b"",
    "one byte": b"a",
    "a code that stands for the string it makes": b"aaaaaaa",
    "codes of nine bits": NOISE[:300],
    "the last one of nine bits": NOISE[:340],
    "noise": NOISE,
    "strings longer than a piece": bytes(120_000) + NOISE[:999] + bytes(120_000),
    "every byte": bytes(range(256)) * 40,
}


def _unpacked(content: bytes) -> bytes:
    return b"".join(
        unpacked_pieces(lambda start, size: content[start : start + size], len(content))
    )


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("widest", [10, 12, 16])
@pytest.mark.parametrize("clear_at", [0, 37, 1000])
@pytest.mark.parametrize("block", [True, False])
def test_what_was_packed(name: str, widest: int, clear_at: int, block: bool) -> None:
    """Codes of any width, a dictionary that is emptied anywhere, or that cannot be."""
    content = CONTENTS[name]
    assert _unpacked(packed(content, widest, clear_at=clear_at, block=block)) == content


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("widest", [10, 13, 16])
def test_what_the_program_packed(name: str, widest: int) -> None:
    """The one of Debian's ncompress."""
    program = require_program("compress")
    content = CONTENTS[name]
    run = subprocess.run(
        [program, "-c", "-f", "-b", str(widest)], input=content, stdout=subprocess.PIPE, check=True
    )
    assert _unpacked(run.stdout) == content


def test_a_vector_made_by_hand() -> None:
    """abababa: a, b, ab, aba."""
    codes = [97, 98, 257, 259]
    bits = sum(code << 9 * place for place, code in enumerate(codes))
    assert _unpacked(b"\x1f\x9d\x90" + bits.to_bytes(5, "little")) == b"abababa"


@settings(max_examples=200)
@given(st.binary(max_size=400), st.sampled_from([0x8A, 0x90, 0x10, 0x0C]))
def test_any_bytes_end_in_bytes_or_in_an_error(rest: bytes, flags: int) -> None:
    """Never in anything else, and never in no end."""
    try:
        unpacked = _unpacked(bytes([0x1F, 0x9D, flags]) + rest)
    except ValueError:
        return
    # The longest string that so many codes can make, each time.
    assert len(unpacked) <= (8 * len(rest) // 9 + 1) ** 2


def test_memory_stays_bounded() -> None:
    """Fifty megabytes of zeros: thousands of strings, of thousands of bytes each."""
    content = packed_zeros(10_000)
    tracemalloc.start()
    try:
        pieces = unpacked_pieces(lambda start, size: content[start : start + size], len(content))
        size = sum(map(len, pieces))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 10_000 * 10_001 // 2
    assert peak < 10_000_000
