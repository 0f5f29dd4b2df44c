"""What an answer is called: its media type, its file name, and its entity tag."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from soda_service.catalog.dataset import Dataset

FITS_MEDIA_TYPE: Final = "application/fits"
GZIP_MEDIA_TYPE: Final = "application/gzip"

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._+-]")
_SUFFIX: Final = re.compile(r"(\.(fits|fit|fts))?(\.(gz|fz|bz2|Z))?$", re.IGNORECASE)
_LONGEST_PART: Final = 80


def file_name(dataset: Dataset) -> str:
    """The file's own name, with nothing in it that a header of HTTP could not carry."""
    return _UNSAFE.sub("_", dataset.file_name) or "dataset.fits"


def stem_of(dataset: Dataset) -> str:
    """What the name of an answer begins with: the file's own name but for its suffixes."""
    return _SUFFIX.sub("", file_name(dataset))


def filename_of(
    stem: str, sections: list[str], parts: Sequence[str] = (), suffix: str = "fits"
) -> str:
    """The parent's name with *parts*, and the box of the first image.

    Where there is neither a part nor a box, it says that it is a cutout.
    """
    what = _safe_part(parts) if parts else ""
    for section in sections:
        if section[0] == "[":
            box = section[1:-1].replace(":", "-").replace(",", "_")
            what = f"{what}_{box}" if what else box
            break
    return f"{stem}_{what or 'cutout'}.{suffix}"


def _safe_part(parts: Sequence[str]) -> str:
    """*parts* as a part of a file name; what would be too long, and lossy, ends with a digest."""
    text = "_".join(parts)
    safe = _UNSAFE.sub("_", text)
    if safe == text and len(text) <= _LONGEST_PART:
        return text
    return f"{safe[:_LONGEST_PART]}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def etag_of(etag_base: str, numbers: str, sections: list[str], form: str = "") -> str:
    """The entity tag, quotes included, from everything that decides about the bytes of the answer.

    *numbers* are those of the HDUs with blanks between them.
    """
    text = f"{etag_base}|{numbers}|{' '.join(sections)}|{form}"
    return f'"{hashlib.blake2b(text.encode(), digest_size=15).hexdigest()}"'
