"""Which disk a file is on, and what is known of disks that do not answer.

A question to a disk may take for ever: its server has gone, its cable is loose. Who asks is
lost until it answers, and nothing can call him back. So nobody asks but inside of a `Touch`:
it tells the others how long somebody has been waiting. Who keeps threads replaces those that are
lost (`web.threads`), and once enough of them are, nobody is let near that disk any more but
now and then one, to see. As soon as an answer comes, all are let in again.

A disk is what is mounted at one place, which the kernel tells without asking it.
"""

from __future__ import annotations

import os
import re
import select
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from soda_service.errors import SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

SILENT_SECONDS: Final = 2.0
"""Who has been waiting for longer in one question is taken to be lost."""

HANGS_SECONDS: Final = 10.0
"""Nobody is let wait for longer who can still be told so."""

MOST_LOST: Final = 8
"""Threads that may be lost in one disk before it is tried now and then only."""

_MOST_TRIED: Final = 2 * MOST_LOST
"""That are lost with those who tried, before trials become rare."""

_MOST_AT_ALL: Final = 48
"""That may be lost in one disk: fewer than can be replaced."""

_MOST_OVER_ONE: Final = 2
"""That may be lost over one file."""

_TRIAL_SECONDS: Final = 10.0
_RARE_TRIAL_SECONDS: Final = 60.0
"""Between two trials of a disk that gives no answer."""

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

_MOUNTS: Final = Path("/proc/self/mountinfo")


class DiskHangsError(SourceUnavailableError):
    """The disk on which the file lies does not answer."""

    def __init__(self, path: str) -> None:
        super().__init__("the disk does not answer", path=path)


class Disk:
    """What is mounted at one place; safe to use from several threads."""

    def __init__(self, *, is_local: bool) -> None:
        self.is_local = is_local
        """Whether this machine alone answers for it: what is in memory needs no asking."""
        self._lock = threading.Lock()
        self._inside: set[Touch] = set()
        self._answered = 0.0
        """When an answer came last, or somebody was the first to ask."""
        self._tried = 0.0
        self._leaving: deque[int] = deque()
        self._is_closing = False

    def touched(self, path: str, key: Hashable = None) -> Touch:
        """A block within which the disk is asked about *path*.

        Entering raises DiskHangsError where the disk hangs, and where somebody else is lost over
        this *key*, else this path.
        """
        return Touch(self, path, path if key is None else key)

    def close_later(self, descriptor: int) -> None:
        """Close *descriptor* in a thread of the disk's: that, too, may ask it."""
        with self._lock:
            self._leaving.append(descriptor)
            if self._is_closing:
                return
            with suppress(RuntimeError):  # no thread is to be had now; the next one closes it
                threading.Thread(target=self._close_all, name="disk-closer", daemon=True).start()
                self._is_closing = True

    @property
    def lost(self) -> int:
        """How many are lost in it now."""
        return len(self._lost(time.monotonic()))

    def enter(self, touch: Touch) -> None:
        """For `Touch`; raises DiskHangsError."""
        now = time.monotonic()
        with self._lock:
            if not self._inside:
                self._answered = now
            elif not self._lets_in(touch.key, now):
                raise DiskHangsError(touch.path)
            touch.since = now
            self._inside.add(touch)

    def leave(self, touch: Touch, *, has_answered: bool) -> None:
        """For `Touch`."""
        with self._lock:
            self._inside.discard(touch)
            if has_answered:
                self._answered = time.monotonic()

    def answers(self, now: float) -> None:
        """For `Touch`: an answer has come at this time."""
        self._answered = now

    def _lets_in(self, key: Hashable, now: float) -> bool:
        lost = self._lost(now)
        over_it = [now - one.since for one in lost if one.key == key]
        if len(over_it) >= _MOST_OVER_ONE or max(over_it, default=0.0) > HANGS_SECONDS:
            return False
        if len(lost) < MOST_LOST:
            return True
        if len(lost) >= _MOST_AT_ALL:
            return False
        if now - self._answered < SILENT_SECONDS:
            return True
        pause = _TRIAL_SECONDS if len(lost) < _MOST_TRIED else _RARE_TRIAL_SECONDS
        if now - self._tried < pause:
            return False
        self._tried = now
        return True

    def _lost(self, now: float) -> list[Touch]:
        return [one for one in tuple(self._inside) if now - one.since > SILENT_SECONDS]

    def _close_all(self) -> None:
        while True:
            with self._lock:
                if not self._leaving:
                    self._is_closing = False
                    return
                descriptor = self._leaving.popleft()
            with suppress(OSError):  # of a disk that is gone; it is closed all the same
                os.close(descriptor)


class Touch:
    """A block of one thread in which a disk is asked, once or several times."""

    __slots__ = ("_disk", "_outer", "key", "path", "since")

    def __init__(self, disk: Disk, path: str, key: Hashable) -> None:
        self._disk = disk
        self._outer: Touch | None = None
        self.path = path
        self.key = key
        self.since = 0.0
        """When the question that has no answer yet was asked."""

    def goes_on(self) -> None:
        """An answer has come, and the next question follows."""
        self.since = now = time.monotonic()
        self._disk.answers(now)

    def __enter__(self) -> Self:
        self._disk.enter(self)
        thread = threading.get_ident()
        self._outer = _touches.get(thread)
        _touches[thread] = self
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        thread = threading.get_ident()
        has_answered = kind is None or not issubclass(kind, DiskHangsError)
        if self._outer is None:
            del _touches[thread]
        else:
            if has_answered:
                self._outer.goes_on()
            _touches[thread] = self._outer
        self._disk.leave(self, has_answered=has_answered)


_touches: Final[dict[int, Touch]] = {}
"""Of each thread that asks a disk now, by its number."""


def touch_of(thread: int) -> Touch | None:
    """What the thread of this number asks a disk now."""
    return _touches.get(thread)


def disk_of(path: str) -> Disk:
    """The disk on which the absolute *path* lies; asks no disk that is not this machine's own."""
    return _mounted.disk_of(path)


def mounts_now() -> int:
    """A number that is another one whenever something has been mounted or taken away."""
    return _mounted.now()


class _Mount(NamedTuple):
    number: str
    """The kernel's, which no other mount has as long as this one is in use."""
    kind: str


class Mounted:
    """What the kernel says is mounted where; safe to use from several threads."""

    def __init__(self, mounts: Path = _MOUNTS) -> None:
        self._path = mounts
        self._lock = threading.Lock()
        self._descriptor = -1
        self._poll = select.poll()
        self._mounts = _Mounts([])
        self._disks: dict[_Mount, Disk] = {}
        self._unknown = Disk(is_local=True)
        """For all, where the system does not tell."""
        self._count = 0
        self._is_old = True

    def now(self) -> int:
        """See `mounts_now`."""
        with self._lock:
            if self._is_old or self._poll.poll(0):
                self._read()
            return self._count

    def look_again(self) -> None:
        """Read the list anew, which `now` does when the kernel says that it has changed."""
        with self._lock:
            self._read()

    def disk_of(self, path: str) -> Disk:
        """See the function of the module."""
        self.now()
        mount = self._mounts.holding(path)
        if mount is None:
            return self._unknown
        with self._lock:
            disk = self._disks.get(mount)
            if disk is None:
                disk = self._disks[mount] = Disk(is_local=mount.kind in _LOCAL)
            return disk

    def _read(self) -> None:
        """Under the lock; what was known stays where the list cannot be read now."""
        self._is_old = True
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                # The kernel's list says so when it changes; it is always there to be read.
                self._poll.register(self._descriptor, select.POLLPRI | select.POLLERR)
            lines = _contents(self._descriptor).splitlines()
        except OSError as error:
            # Where there is no such list, there never is one.
            self._is_old = not isinstance(error, FileNotFoundError)
            return
        self._mounts = _Mounts(lines)
        self._is_old = False
        self._count += 1
        held = self._mounts.all()
        self._disks = {mount: disk for mount, disk in self._disks.items() if mount in held}


def _contents(descriptor: int) -> bytes:
    pieces = []
    size = 0
    while piece := os.pread(descriptor, 65536, size):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


class _Mounts:
    """The list of the kernel at one time; see proc_pid_mountinfo(5)."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._on: dict[tuple[str, str], _Mount] = {}
        """By the number of the mount on which one stands, and its place."""
        self._root: _Mount | None = None
        listed = [one for one in map(_parsed, lines) if one is not None]
        numbers = {mount.number for _, _, mount in listed}
        for parent, place, mount in listed:
            if place == "/" and (parent not in numbers or parent == mount.number):
                self._root = mount
            else:
                self._on[parent, place] = mount

    def all(self) -> set[_Mount]:
        """Every mount."""
        return {*self._on.values(), *([self._root] if self._root else [])}

    def holding(self, path: str) -> _Mount | None:
        """The mount on which *path* lies; None where the list does not tell.

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
            if upper is not mount or mount.kind not in _LOCAL or links > _MOST_LINKS:
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
        return mount

    def _at(self, place: str) -> _Mount | None:
        """The mount that holds *place*, a path without links."""
        if self._root is None:
            return None
        mount, here = self._upper(self._root, "/"), ""
        for name in place.split("/"):
            if name:
                here = f"{here}/{name}"
                mount = self._upper(mount, here)
        return mount

    def _upper(self, mount: _Mount, place: str) -> _Mount:
        """What is mounted at *place* of this mount, and on that, if anything is; else itself."""
        for _ in range(len(self._on)):
            upper = self._on.get((mount.number, place))
            if upper is None:
                break
            mount = upper
        return mount


def _parsed(line: bytes) -> tuple[str, str, _Mount] | None:
    """The number of what it is mounted on, where, and the mount; None for what is no such line."""
    mount, _, what = line.partition(b" - ")
    try:
        number, parent, _, _, place, *_ = mount.split()
        kind = what.split()[0]
    except (ValueError, IndexError):
        return None
    name = _ESCAPE.sub(lambda found: bytes((int(found[1], 8),)), place)
    return os.fsdecode(parent), os.fsdecode(name), _Mount(os.fsdecode(number), os.fsdecode(kind))


_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")

_mounted = Mounted()
