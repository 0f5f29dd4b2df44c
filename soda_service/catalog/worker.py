"""The process that indexes files for ingest: `python -m soda_service.catalog.worker DESCRIPTOR`.

Told over a socket (path, fingerprint of a place, the place if it has not been told before,
local part of an earlier reading if there was one, version of an object if it is known), it
answers with rows for the catalog or with a failure, in the same order.
"""

from __future__ import annotations

import logging
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Final

from soda_service.errors import (
    CorruptFileError,
    NoImageError,
    SodaServiceError,
    UnknownDatasetError,
)

if TYPE_CHECKING:
    from soda_service.catalog.indexer import Place
    from soda_service.catalog.rows import DatasetRows

_CACHE_BYTES: Final = 16 * 1024**2
"""For compressed objects, which are read from end to end when their size is in doubt."""

READY: Final = b"ready"
"""The first thing that the process says."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFailure:
    """A file that could not be indexed."""

    reason: str
    lasting: bool
    """Whether the file itself is to blame; otherwise trying again may help."""
    vanished: bool = False
    imageless: bool = False
    """Whether nothing is wrong with the file, but that it holds no image."""


def work(descriptor: int) -> None:
    """Index files until the caller hangs up, which it also does by dying."""
    connection = Connection(descriptor)
    # Late: the caller needs neither, and they take half a second each.
    from soda_service.catalog.indexer import index
    from soda_service.catalog.rows import rows_of
    from soda_service.storage.blockcache import BlockCache
    from soda_service.storage.stores import RemoteStores

    warnings.simplefilter("ignore")  # astropy warns of headers that are merely unusual
    places: dict[str, Place] = {}
    stores: dict[str, RemoteStores] = {}
    with suppress(EOFError, ConnectionError):  # the caller hung up, perhaps in mid-sentence
        connection.send_bytes(READY)
        while True:
            path, fingerprint, place, local_part, version = connection.recv()
            place = places.setdefault(fingerprint, place)
            try:
                if place.store is not None and fingerprint not in stores:
                    stores[fingerprint] = RemoteStores(
                        [place.store], limits=place.limits, cache=BlockCache(_CACHE_BYTES)
                    )
                reached = stores.get(fingerprint)
                dataset = index(path, place, local_part=local_part, stores=reached, version=version)
                answer: DatasetRows | IndexFailure = rows_of(dataset, place.fingerprint)
            except Exception as error:  # noqa: BLE001 - one file must not stop the others
                answer = failure_of(error)
            connection.send(answer)


def failure_of(error: Exception) -> IndexFailure:
    """What ingest reports of an exception."""
    match error:
        case UnknownDatasetError():
            return IndexFailure(reason="no such file", lasting=True, vanished=True)
        case NoImageError():
            return IndexFailure(reason=str(error), lasting=True, imageless=True)
        case CorruptFileError():
            return IndexFailure(reason=str(error), lasting=True)
        case SodaServiceError():
            return IndexFailure(reason=str(error), lasting=False)
        case _:
            _logger.error("cannot index a file", exc_info=error)
            reason = f"cannot be understood ({type(error).__name__}: {str(error)[:200]})"
            return IndexFailure(reason=reason, lasting=True)


if __name__ == "__main__":
    # What is sent must be of the module that the other side knows, not of `__main__`.
    from soda_service.catalog.worker import work

    work(int(sys.argv[1]))
