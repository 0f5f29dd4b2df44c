"""What the kernel says is mounted where, and which of that a path leads to."""

from __future__ import annotations

import os
import re
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_LINKS: Final = 40
"""That the kernel follows in one path."""

_LOCAL: Final = frozenset(
    (
        "aufs", "bcachefs", "btrfs", "cramfs", "devtmpfs", "ecryptfs", "erofs", "exfat", "ext2",
        "ext3", "ext4", "f2fs", "hfsplus", "hugetlbfs", "iso9660", "jfs", "jffs2", "minix",
        "msdos", "nilfs2", "ntfs", "ntfs3", "overlay", "proc", "ramfs", "reiserfs", "rootfs",
        "squashfs", "sysfs", "tmpfs", "ubifs", "udf", "vfat", "xfs", "zfs",
    )
)  # fmt: skip
"""File systems of this machine's own disks and memory. All others ask somebody."""

_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """What the kernel says of one that is mounted."""

    number: str
    """The kernel's, which no other mount has as long as this one is in use."""
    place: str
    """An absolute path without links."""
    kind: str
    """Of file system: `ext4`, `nfs4`, `fuse.sshfs`."""

    @property
    def is_local(self) -> bool:
        """Whether this machine alone answers for it."""
        return self.kind in _LOCAL


class MountList:
    """The list at one time."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        """*lines* as proc_pid_mountinfo(5) describes them; what is none is passed over."""
        self._on: dict[tuple[str, str], Mount] = {}
        """By the number of the mount on which one stands, and its place."""
        self._root: Mount | None = None
        listed = [one for one in map(_parsed, lines) if one is not None]
        numbers = {mount.number for _, mount in listed}
        for parent, mount in listed:
            if mount.place == "/" and (parent not in numbers or parent == mount.number):
                self._root = mount
            else:
                self._on[parent, mount.place] = mount

    def all(self) -> set[Mount]:
        """Every mount."""
        return {*self._on.values(), *([self._root] if self._root else [])}

    def below(self, place: str) -> list[Mount]:
        """Those that are seen below *place*, a path without links, and not hidden by others."""
        start = place.rstrip("/") + "/"
        there = [one for one in self._on.values() if one.place.startswith(start)]
        return [one for one in there if self._at(one.place) is one]

    def followed(self, path: str) -> tuple[str, Mount | None]:
        """*path* without links, and the mount on which it lies; None where the list does not tell.

        Links are followed as the kernel would, as long as they lie on disks of this machine:
        others are not even asked what is a link.
        """
        here, mount = "/", self._at("/")
        rest = deque(path.split("/"))
        links = 0
        while rest and mount is not None:
            name = rest.popleft()
            if name in {"", "."}:
                continue
            if name == "..":
                here = os.path.dirname(here)  # noqa: PTH120 - strings are what there is
                mount = self._at(here)
                continue
            here = f"{here.rstrip('/')}/{name}"
            upper = self._upper(mount, here)
            if upper is not mount or not mount.is_local or links > _MOST_LINKS:
                mount = upper
                continue
            try:
                target = os.readlink(here)  # noqa: PTH115 - the same
            except (OSError, ValueError):
                continue  # no link, or nothing
            links += 1
            rest.extendleft(reversed(target.split("/")))
            here = "/" if target.startswith("/") else os.path.dirname(here)  # noqa: PTH120 - the same
            mount = self._at(here)
        return here, mount

    def _at(self, place: str) -> Mount | None:
        """The mount that holds *place*, a path without links."""
        if self._root is None:
            return None
        mount, here = self._upper(self._root, "/"), ""
        for name in place.split("/"):
            if name:
                here = f"{here}/{name}"
                mount = self._upper(mount, here)
        return mount

    def _upper(self, mount: Mount, place: str) -> Mount:
        """What is mounted at *place* of this mount, and on that, if anything is; else itself."""
        for _ in range(len(self._on)):
            upper = self._on.get((mount.number, place))
            if upper is None:
                break
            mount = upper
        return mount


def _parsed(line: bytes) -> tuple[str, Mount] | None:
    """The number of what it is mounted on, and the mount; None for what is no such line."""
    mount, _, what = line.partition(b" - ")
    try:
        number, parent, _, _, place, *_ = mount.split()
        kind = what.split()[0]
    except (ValueError, IndexError):
        return None
    name = _ESCAPE.sub(lambda found: bytes((int(found[1], 8),)), place)
    return os.fsdecode(parent), Mount(*map(os.fsdecode, (number, name, kind)))
