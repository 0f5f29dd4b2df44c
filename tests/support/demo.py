"""What tests need to know about a running demo service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import httpx2

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class DemoService:
    """A demo service that answers at *base*."""

    base: str
    """With a slash at the end."""
    folder: Path
    """Of the archive."""
    announced: str
    """What the command printed up to the ready line."""
    log: list[str]
    """Lines of standard error so far; grows."""

    def url(self, path: str, **parameters: object) -> str:
        """The absolute URL of *path*; a parameter given as a list is repeated."""
        query = urlencode(parameters, doseq=True)
        return f"{self.base}{path}" + (f"?{query}" if query else "")

    def get(self, path: str, **parameters: object) -> httpx2.Response:
        """The answer to a GET."""
        return httpx2.get(self.url(path, **parameters), timeout=60)
