"""Real files of many instruments, where they are at hand: skipped by name, never required.

The folder is that of SODA_TEST_DATA, or a folder `data` with a `catalog.json` in a folder
beside the repository.
"""

from __future__ import annotations

import gzip
import os
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from soda_service.fits.layout import HduLayout, scan_hdus

_REPOSITORY: Final = Path(__file__).resolve().parents[2]


@cache
def real_folder() -> Path | None:
    """Where the real files lie, if anywhere."""
    if named := os.environ.get("SODA_TEST_DATA"):
        return Path(named)
    beside = sorted(_REPOSITORY.parent.glob("*/data/catalog.json"))
    return beside[0].parent if beside else None


def real_file(name: str) -> Path:
    """The file of this name; without it the test is skipped, saying so."""
    folder = real_folder()
    found = sorted(folder.rglob(glob_escaped(name))) if folder is not None else []
    if not found:
        pytest.skip(f"the real file {name} is not here")
    return found[0]


def glob_escaped(name: str) -> str:
    """A pattern that matches just this name."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def real_bytes(name: str) -> bytes:
    """The content of the file of this name, inflated where it is gzipped."""
    raw = real_file(name).read_bytes()
    return gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw


def real_hdus(name: str) -> tuple[bytes, tuple[HduLayout, ...]]:
    """The content of the file of this name and its HDUs."""
    raw = real_bytes(name)
    hdus = scan_hdus(lambda start, length: raw[start : start + length], len(raw))
    return raw, tuple(hdus)


def _present() -> tuple[str, ...]:
    folder = real_folder()
    if folder is None:
        return ()
    return tuple(sorted(path.name for path in folder.glob("files/*/*") if path.is_file()))


REAL_FILES: Final = _present() or ("any",)
"""Names of the real files that are here; one that is nowhere, so that the skip is seen."""
