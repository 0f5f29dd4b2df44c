"""Disks on which collections lie, and for which this machine does not answer alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from soda_service.storage.disks import mounts_of_others
from soda_service.storage.source import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from soda_service.catalog.store import CollectionRow


class OtherDisk(NamedTuple):
    """One that another machine, or another program, answers for."""

    place: str
    """Where it is mounted."""
    kind: str
    """Of its file system, in the words of the kernel."""
    collections: tuple[str, ...]
    """Whose roots lie on it, or above it."""


def other_disks(collections: Iterable[CollectionRow]) -> list[OtherDisk]:
    """Those on which files of *collections* may lie, in the order of their places.

    Where links below the roots lead is not looked for. No such disk is asked anything.
    """
    names: dict[tuple[str, str], list[str]] = {}
    for row in collections:
        mounts = {
            one for root in row.roots if not is_remote(root) for one in mounts_of_others(root)
        }
        for mount in mounts:
            names.setdefault((mount.place, mount.kind), []).append(row.name)
    return [OtherDisk(*where, tuple(those)) for where, those in sorted(names.items())]
