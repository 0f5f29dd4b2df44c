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
    encoders = [text_encoder(field, escape=escape, plain=_PLAIN) for field in fields]
    for block in blocks:
        cells = [encoder.encode(column)[0] for encoder, column in zip(encoders, block, strict=True)]
        for rows in join_rows(cells, "</TD><TD>", len(block[0])):
            yield f"<TR><TD>{_BETWEEN.join(rows)}</TD></TR>\n".encode("ascii")


def escape(text: str) -> str:
    """*text* as ASCII that may stand in element content and in attribute values alike."""
    return _SPECIAL.sub(_reference, clean(text))


def _reference(match: re.Match[str]) -> str:
    character = match.group()
    return _NAMED.get(character) or f"&#{ord(character)};"


_BETWEEN: Final = "</TD></TR>\n<TR><TD>"
_SPECIAL: Final = re.compile(r"[^ !#-%(-;=?-~]")
_PLAIN: Final = bytes(code for code in range(128) if not _SPECIAL.match(chr(code)))
_NAMED: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
