"""Names and values as they come: `application/x-www-form-urlencoded`.

Names are folded, values are left as they are until somebody asks for their text. A value that is
empty or blank is an absent one; a plus sign is a blank.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from soda_service.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_PARAMETERS: Final = 10_000
"""A request with more of them is refused: splitting them would hold up the others."""

_SHORT: Final = 256
"""Bytes of a value whose text is kept."""

Raw = bytes | str
"""A value as it came: still urlencoded, or text already."""


def spellings(names: Iterable[str]) -> dict[bytes, str]:
    """The common spellings of *names*, for `split`: to look them up is quicker than to fold."""
    return {
        spelling.encode(): name for name in names for spelling in (name, name.lower(), name.title())
    }


def split(encoded: bytes, spelt: dict[bytes, str]) -> dict[str, list[Raw]]:
    """The values that are not empty, under folded names; values are decoded when asked for.

    *spelt* are the common `spellings` of names.
    """
    if len(encoded) > MAX_PARAMETERS and encoded.count(b"&") >= MAX_PARAMETERS:
        raise UsageError(f"a request has at most {MAX_PARAMETERS} parameters")
    values: dict[str, list[Raw]] = {}
    for part in encoded.split(b"&"):
        name, _, value = part.partition(b"=")
        if value:
            key = spelt.get(name) or _fold(name)
            if key in values:
                values[key].append(value)
            else:
                values[key] = [value]
    return values


def text_of(name: str, raw: Raw, *, is_common: bool = False) -> str:
    """The value, empty where it is blank. Raises UsageError where it is not UTF-8.

    Of short values that are common, because the same come again and again, the text is kept.
    """
    if is_common and len(raw) <= _SHORT and isinstance(raw, bytes):
        return _remembered(name, raw)
    return _decoded(name, raw)


@lru_cache(maxsize=4096)
def _remembered(name: str, raw: bytes) -> str:
    return _decoded(name, raw)


def _decoded(name: str, raw: Raw) -> str:
    if isinstance(raw, bytes):
        if b"+" in raw:
            raw = raw.replace(b"+", b" ")
        if b"%" in raw:
            # Blanks are most of what is escaped; the rest takes ten times as long.
            raw = raw.replace(b"%20", b" ")
            if b"%" in raw:
                raw = unquote_to_bytes(raw)
        try:
            raw = raw.decode()
        except UnicodeDecodeError:
            raise UsageError(f"{name} is not UTF-8") from None
    return "" if raw.isspace() else raw


def lenient_text(raw: Raw) -> str:
    """The value, blank or not; what is not UTF-8 is replaced (U+FFFD)."""
    if isinstance(raw, str):
        return raw
    return unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8", "replace")


def _fold(name: bytes) -> str:
    decoded = unquote_to_bytes(name.replace(b"+", b" "))
    return decoded.upper().decode("utf-8", "replace")
