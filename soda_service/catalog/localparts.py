"""What follows the `?` of a publisher DID: which characters of a name it has as they are."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

_SAFE: Final = "/-._~:"
"""What stands in the local part as it is: it needs no encoding in a query (RFC 3986 §3.4)."""


def encoded_local_part(text: str | bytes) -> str:
    """*text*, a file's path below its root say, as it stands in identifiers."""
    if isinstance(text, str):
        text = text.encode("utf-8", "replace")
    return quote(text, safe=_SAFE)


def encoded_identifier(identifier: str) -> str | None:
    """*identifier* with what is not allowed in one encoded; None where nothing is.

    Whoever pastes an identifier into a URL as it is sends what its `%20` stand for.
    """
    resource, mark, local_part = identifier.partition("?")
    encoded = f"{resource}{mark}{encoded_local_part(local_part)}"
    return encoded if encoded != identifier else None
