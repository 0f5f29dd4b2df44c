"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """*number* and *noun*, which takes an s unless it is one of them."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
