"""Tables as lines of text: CSV and TSV, in UTF-8, the names of the columns first.

Null and empty text are alike empty. Characters that a VOTable could not carry are dropped
here too, so that an answer says the same in every form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from soda_service.votable.cells import join_rows, text_encoder
from soda_service.votable.table import LimitedBlocks, clean, gather

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from soda_service.votable.table import Block, Field


def delimited_chunks(
    form: Delimited, fields: Sequence[Field], blocks: Iterable[Block], *, limit: int | None = None
) -> Iterator[bytes]:
    """The table in chunks, in bounded memory.

    At most *limit* rows are written; that there was another cannot be said. What *blocks* raise
    is raised, mid-way too: a table that broke off would look complete.
    """
    return gather(_pieces(form.value, fields, LimitedBlocks(blocks, limit)))


def _pieces(rule: _Rule, fields: Sequence[Field], blocks: Iterable[Block]) -> Iterator[bytes]:
    names = rule.separator.join(rule.escape(field.name) for field in fields)
    yield f"{names}{rule.line_end}".encode()
    encoders = [text_encoder(field, escape=rule.escape, plain=rule.plain) for field in fields]
    for block in blocks:
        cells = [encoder.encode(column)[0] for encoder, column in zip(encoders, block, strict=True)]
        for rows in join_rows(cells, rule.separator, len(block[0])):
            yield f"{rule.line_end.join(rows)}{rule.line_end}".encode()


def _quoted(text: str) -> str:
    """A field of RFC 4180 §2."""
    text = clean(text)
    if _NEEDS_QUOTES(text) is None:
        return text
    return '"' + text.replace('"', '""') + '"'


def _backslashed(text: str) -> str:
    """The media type knows no way to write tab and line ends; a backslash leads them in."""
    return _SPECIAL_IN_TSV.sub(lambda match: _BACKSLASHED[match.group()], clean(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    separator: str
    line_end: str
    escape: Callable[[str], str]
    plain: bytes
    """The characters that `escape` leaves alone wherever they stand."""


_NEEDS_QUOTES: Final = re.compile(r'[",\r\n]').search
_SPECIAL_IN_TSV: Final = re.compile(r"[\\\t\r\n]")
_BACKSLASHED: Final = {"\\": r"\\", "\t": r"\t", "\r": r"\r", "\n": r"\n"}

_PRINTABLE: Final = bytes(range(0x20, 0x7F))


class Delimited(Enum):
    """How cells and lines are set apart."""

    CSV = _Rule(
        separator=",", line_end="\r\n", escape=_quoted, plain=_PRINTABLE.translate(None, b'",')
    )
    """RFC 4180."""
    TSV = _Rule(
        separator="\t", line_end="\n", escape=_backslashed, plain=_PRINTABLE.translate(None, b"\\")
    )
    """text/tab-separated-values."""
