"""Which HDUs of a dataset a request is about: those of a detail, and those that it names."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from soda_service.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from soda_service.catalog.dataset import DatasetHdu, Detail

_MAX_TEXT: Final = 200
_MOST_LISTED: Final = 40
_INDEX: Final = re.compile(r"[0-9]{1,9}")
_VERSIONED: Final = re.compile(r"(.*\S)\s*,\s*([+-]?[0-9]{1,9})")
_PRIMARY: Final = "PRIMARY"


@dataclass(frozen=True, slots=True, kw_only=True)
class HduName:
    """How a request names HDUs: by number, or by name with or without version."""

    index: int | None = None
    """0 is the primary HDU, as cfitsio counts."""
    name: str = ""
    """EXTNAME, in capitals; PRIMARY is the primary HDU where that has none."""
    version: int | None = None
    """EXTVER; None is every one."""

    def fits(self, hdu: DatasetHdu) -> bool:
        """Whether this is a name of *hdu*."""
        layout = hdu.layout
        if self.index is not None:
            return layout.index == self.index
        return _name(hdu) == self.name and self.version in {None, layout.version}


def parse_hdu_name(text: str) -> HduName:
    """`SCI`, `SCI,2` or `3`; a number alone is always an index."""
    stripped = text.strip()
    if not stripped or len(text) > _MAX_TEXT or not stripped.isprintable():
        raise UsageError(
            f"an HDU is EXTNAME, EXTNAME,EXTVER or a number from 0, got {text[:100]!r}"
        )
    if _INDEX.fullmatch(stripped):
        return HduName(index=int(stripped))
    if versioned := _VERSIONED.fullmatch(stripped):
        return HduName(name=versioned[1].upper(), version=int(versioned[2]))
    return HduName(name=stripped.upper())


def format_hdu_name(name: HduName) -> str:
    """The text that `parse_hdu_name` reads as *name*."""
    if name.index is not None:
        return str(name.index)
    return name.name if name.version is None else f"{name.name},{name.version}"


def of_detail(hdus: Iterable[DatasetHdu], detail: Detail) -> list[DatasetHdu]:
    """The HDUs that *detail* holds, by EXTNAME or role, in the order of the file."""
    return [one for one in hdus if detail.holds(one)]


def named(hdus: Sequence[DatasetHdu], names: Sequence[HduName]) -> list[DatasetHdu]:
    """Those of *hdus* that have one of these names, in the order of the file.

    Raises UsageError, which lists what there is, for a name that none has.
    """
    for name in names:
        if not any(name.fits(one) for one in hdus):
            raise UsageError(f"there is no HDU {format_hdu_name(name)!r} among {_listed(hdus)}")
    return [one for one in hdus if any(name.fits(one) for name in names)]


def plain_names(hdus: Sequence[DatasetHdu]) -> list[str]:
    """A name for each of *hdus* that no other one has, in the form that requests use."""
    counts = Counter(_name(one) for one in hdus)
    keys = Counter((_name(one), one.layout.version) for one in hdus)
    found = []
    for one in hdus:
        name, version = _name(one), one.layout.version
        is_short = counts[name] == 1
        wanted = HduName(name=name, version=None if is_short else version)
        text = format_hdu_name(wanted)
        try:
            is_read = parse_hdu_name(text) == wanted
        except UsageError:
            is_read = False
        fits = is_read and keys[name, version] == 1
        found.append(text if fits else str(one.layout.index))
    return found


def _name(hdu: DatasetHdu) -> str:
    layout = hdu.layout
    return layout.name.strip().upper() or (_PRIMARY if layout.index == 0 else "")


def _listed(hdus: Sequence[DatasetHdu]) -> str:
    """What there is, for people."""
    texts = []
    for one in hdus[:_MOST_LISTED]:
        name, version = _name(one), one.layout.version
        texts.append(f"{one.layout.index} ({ascii(name)[1:-1]},{version})" if name
                     else str(one.layout.index))  # fmt: skip
    more = len(hdus) - _MOST_LISTED
    return ", ".join(texts) + (f" and {more} more" if more > 0 else "")
