"""Whether the catalog that is served is still the file under its name.

A file that is open goes on being read when it is removed: the service answers from what nobody
can add to any more. Where another catalog is put in its place it goes over to that.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOOK_SECONDS = 10.0

_logger = logging.getLogger(__name__)


@contextmanager
def watched(path: Path) -> Iterator[None]:
    """Tell the log, within the block, when the catalog at *path* is removed or replaced."""
    ended = threading.Event()
    path = path.absolute()
    args = (path, file_at(path), ended)
    threading.Thread(target=_look_on, args=args, name="catalog-presence", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _look_on(path: Path, first: tuple[int, int] | None, ended: threading.Event) -> None:
    seen = last = first
    while not ended.wait(_LOOK_SECONDS):
        now = file_at(path)
        if now == seen:
            continue
        seen = now
        if now is not None and now == last:
            _logger.warning("the catalog %s is back", path)
        elif now is None:
            _logger.error(
                "the catalog %s is gone or cannot be looked at; what was open is still served, but "
                "no new worker can start: put it back, or run `soda-service ingest`",
                path,
            )
        else:
            last = now
            # Those who serve look more often, and may have said already what becomes of it.
            _logger.info("the catalog %s is another file than before", path)


def file_at(path: Path) -> tuple[int, int] | None:
    """Which file that is; None where there is none, or nobody can tell."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
