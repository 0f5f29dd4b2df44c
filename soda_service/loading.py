"""What a worker loads once it answers, and what its garbage collector need not look at.

A command line that only prints help must not wait for these modules, nor must whoever waits
for the ready line; but the first request should not either. They are loaded in a thread, all
but a few whose code is one piece that takes the interpreter for longer than the loop may wait.

A full collection keeps the interpreter for a millisecond per two thousand objects, and so
holds the event loop, whichever thread it falls to. While these modules were loaded there was
one, of 50 milliseconds.
"""

from __future__ import annotations

import gc
import threading
from importlib import import_module
from pkgutil import resolve_name
from typing import Final

SOLID_MODULES: Final = ("erfa", "pydoc")
"""Modules among these whose code is read in one piece, in 4 to 6 milliseconds each."""

LATE: Final = (
    # The first dataset that is met; it brings the coordinates and units that rarer headers need.
    "astropy.wcs",
    # The first file that is opened, whichever disk it is on.
    "soda_service.storage.networkfile",
    # The first tile in RICE, and in GZIP; each of these functions loads a module of its own.
    "imagecodecs:rcomp_decode",
    "imagecodecs:gzip_decode",
)
"""What ours load late, and what of the first requests they need it for."""


def begin_loading() -> threading.Thread:
    """Have `LATE` loaded, and no collection until they are; the thread that does it.

    What has been loaded by then stays for good. It is put out of the collector's reach, which
    otherwise would walk through all of it each time to find nothing.
    """
    for name in SOLID_MODULES:
        import_module(name)
    gc.disable()
    thread = threading.Thread(target=_load, name="loading")
    thread.start()
    return thread


def _load() -> None:
    try:
        for name in LATE:
            resolve_name(name)
    finally:
        gc.freeze()
        gc.enable()
