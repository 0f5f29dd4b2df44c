"""TABLEDATA: rows as XML (VOTable 1.4 §5.1), in pure ASCII.

Characters beyond ASCII become character references, so that a document says the same
whatever encoding a client assumes (VOTable 1.4 §8 defaults to US-ASCII). Characters that
XML 1.0 cannot carry at all are dropped.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from soda_service.votable.cells import join_rows, text_encoder
from soda_service.votable.table import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from soda_service.votable.table import Block, Field


def tabledata_pieces(fields: Sequence[Field], blocks: Iterable[Block]) -> Iterator[bytes]:
    """The content of TABLEDATA, in pieces of whole rows.

    A value of the wrong type is a bug of the caller and raises TypeError or ValueError; the
    other rows of its block are then lost, never half a row written.
    """
    columns = TextColumns(fields)
    for block in blocks:
        for rows in join_rows(columns.of(block), BETWEEN_CELLS, len(block[0])):
            yield f"{BEFORE_ROWS}{BETWEEN_ROWS.join(rows)}{AFTER_ROWS}".encode("ascii")


class TextColumns:
    """Writes blocks of a table of *fields*, column by column."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self._encoders = [text_encoder(field, escape=escape, plain=_PLAIN) for field in fields]

    def of(self, block: Block) -> list[Sequence[str] | str]:
        """The cells of each column; a single one where all rows have the same."""
        pairs = zip(self._encoders, block, strict=True)
        return [encoder.encode(column)[0] for encoder, column in pairs]


def escape(text: str) -> str:
    """*text* as ASCII that may stand in element content and in attribute values alike."""
    return _SPECIAL.sub(_reference, clean(text))


def _reference(match: re.Match[str]) -> str:
    character = match.group()
    return _NAMED.get(character) or f"&#{ord(character)};"


BETWEEN_CELLS: Final = "</TD><TD>"
BEFORE_ROWS: Final = "<TR><TD>"
BETWEEN_ROWS: Final = "</TD></TR>\n<TR><TD>"
AFTER_ROWS: Final = "</TD></TR>\n"

_SPECIAL: Final = re.compile(r"[^ !#-%(-;=?-~]")
_PLAIN: Final = bytes(code for code in range(128) if not _SPECIAL.match(chr(code)))
_NAMED: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
