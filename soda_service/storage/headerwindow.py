"""Reading an object in a store here and there, as who looks for headers does."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from soda_service.storage.remote import RemoteSource


class HeaderWindow:
    """Reads an object here and there, forwards, without what lies between; one thread only.

    What `scan_hdus` wants: headers are small, and the pixels between them are left out.
    """

    def __init__(self, source: RemoteSource, *, gulp_bytes: int = 64 * 1024) -> None:
        """Each request asks for *gulp_bytes*, or for as much as is wanted where that is more."""
        self._source = source
        self._gulp = gulp_bytes
        self._start = 0
        self._content = b""

    def read_at(self, start: int, length: int) -> bytes:
        """Up to *length* bytes from *start*; fewer only where the object ends."""
        size = self._source.version.size
        stop = min(start + length, size)
        if start >= stop:
            return b""
        end = self._start + len(self._content)
        if start < self._start or stop > end:
            kept = self._content[start - self._start :] if self._start <= start <= end else b""
            begin = start + len(kept)
            more = min(max(stop - begin, self._gulp), size - begin)
            self._content = kept + self._source.read_once(begin, more)
            self._start = start
        return self._content[start - self._start : stop - self._start]
