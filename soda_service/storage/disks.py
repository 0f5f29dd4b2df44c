"""Which disk a file is on, and what is known of disks that do not answer.

A question to a disk may take for ever: its server has gone, its cable is loose. Who asks is
lost until it answers, and nothing can call him back. So nobody asks but inside of a `Touch`:
it tells the others how long somebody has been waiting. Who keeps threads replaces those that are
lost (`web.threads`), and once enough of them are, nobody is let near that disk any more but
now and then one, to see. As soon as an answer comes, all are let in again.

A disk is what is mounted at one place, which the kernel tells without asking it. One server may
answer for many: once threads are lost in some, those of others that have given no answer lately
are tried by one at first.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self

from soda_service.errors import SourceUnavailableError
from soda_service.storage.mountlist import MountList

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from soda_service.storage.mountlist import Mount

SILENT_SECONDS: Final = 2.0
"""Who has been waiting for longer in one question is taken to be lost."""

HANGS_SECONDS: Final = 10.0
"""Nobody is let wait for longer who can still be told so."""

MOST_LOST: Final = 8
"""Threads that may be lost before disks that give no answer are tried by one at a time only.

In all disks together; where it is a disk of this machine, in that one.
"""

_MOST_TRIED: Final = 2 * MOST_LOST
"""That are lost with those who tried, before trials become rare."""

_MOST_AT_ALL: Final = 48
"""That may be lost in one disk; with so many in all, two in one that gives no answer are enough."""

_MOST_EVERYWHERE: Final = 128
"""That may be lost in all disks together: half of those that can be replaced."""

_MOST_OVER_ONE: Final = 2
"""That may be lost over one file."""

_TRIAL_SECONDS: Final = 10.0
_RARE_TRIAL_SECONDS: Final = 60.0
"""Between two trials of a disk that gives no answer."""

_FIRST_ANSWER_SECONDS: Final = 0.25
"""Within which a disk that was only idle has answered who tries it, and others may follow."""

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
        self._first_answer = threading.Condition(self._lock)
        self._inside: set[Touch] = set()
        self._answered = 0.0
        """When an answer came last."""
        self._tried = 0.0
        """When somebody was let in last to see whether one comes."""
        self._leaving: deque[int] = deque()
        self._is_closing = False

    def touched(self, path: str, key: Hashable = None) -> Touch:
        """A block within which the disk is asked about *path*.

        Entering raises DiskHangsError where the disk hangs, and where somebody else is lost over
        this *key*, else this path.
        """
        return Touch(self, path, path if key is None else key)

    def awaited(self, path: str) -> Wait:
        """The same for who asks nothing himself, but waits for others that ask the disk."""
        return Wait(self, path, path)

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
        with self._lock:
            touch.since = self._let_in(touch, time.monotonic())
            self._inside.add(touch)

    def leave(self, touch: Touch, *, has_answered: bool) -> None:
        """For `Touch`."""
        with self._lock:
            self._inside.discard(touch)
            if has_answered:
                if self._answered < self._tried:
                    self._first_answer.notify_all()
                self._answered = time.monotonic()

    def answers(self, now: float) -> None:
        """For `Touch`: an answer has come at this time."""
        self._answered = now

    def _let_in(self, touch: Touch, now: float) -> float:
        """Since when *touch* is to be taken to wait. Under the lock; raises DiskHangsError."""
        lost = self._lost(now) if self._inside else []
        if lost and _is_hopeless([now - one.since for one in lost if one.key == touch.key]):
            raise DiskHangsError(touch.path)
        is_answering = now - self._answered < SILENT_SECONDS
        if is_answering and not lost:
            return now
        in_all = len(lost) if self.is_local else _lost_threads(now)
        if in_all < MOST_LOST:
            return now
        if len(lost) >= _MOST_AT_ALL or in_all >= _MOST_EVERYWHERE:
            raise DiskHangsError(touch.path)
        # Where others hang, too, what came may have been in the memory of this machine.
        if is_answering and in_all - len(lost) < MOST_LOST:
            return now
        if self._answered >= self._tried or self._may_be_tried(len(lost), in_all, now):
            if not touch.asks:
                return now
            self._tried = now
            return now - SILENT_SECONDS  # taken to be lost from the start, and so replaced soon
        if not self.is_local and now - self._tried < _FIRST_ANSWER_SECONDS:
            self._first_answer.wait(_FIRST_ANSWER_SECONDS)
            if self._answered >= self._tried:
                return time.monotonic()
        raise DiskHangsError(touch.path)

    def _may_be_tried(self, lost: int, in_all: int, now: float) -> bool:
        """Whether somebody may, after one who has had no answer yet."""
        if in_all >= _MOST_AT_ALL and lost >= _MOST_OVER_ONE:
            return False  # those who are lost will know
        pause = _TRIAL_SECONDS if in_all < _MOST_TRIED else _RARE_TRIAL_SECONDS
        return now - self._tried >= pause

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

    asks: ClassVar[bool] = True
    """Whether its end is an answer of the disk's."""

    def __init__(self, disk: Disk, path: str, key: Hashable) -> None:
        self._disk = disk
        self._outer: Touch | None = None
        self.path = path
        self.key = key
        self.since = 0.0
        """When the question that has no answer yet was asked; earlier where it is but a trial."""

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
        has_answered = self.asks and (kind is None or not issubclass(kind, DiskHangsError))
        if self._outer is None:
            del _touches[thread]
        else:
            if has_answered:
                self._outer.goes_on()
            _touches[thread] = self._outer
        self._disk.leave(self, has_answered=has_answered)


class Wait(Touch):
    """A block of one thread in which it waits for others: it is lost where all of them are."""

    __slots__ = ()

    asks: ClassVar[bool] = False

    def look_at(self, threads: Iterable[int]) -> None:
        """Take note of the *threads* whose end it awaits; none where it is not this disk's fault.

        Raises DiskHangsError where the disk has given none of them an answer for long.
        """
        now = time.monotonic()
        touches = [touch_of(thread) for thread in threads]
        self.since = max((now if one is None else one.since for one in touches), default=now)
        if now - self.since > HANGS_SECONDS:
            raise DiskHangsError(self.path)


_touches: Final[dict[int, Touch]] = {}
"""Of each thread that asks a disk now, by its number."""


def _is_hopeless(waited: list[float]) -> bool:
    """Whether nobody else is to wait for a file over which some are lost, for so long."""
    return len(waited) >= _MOST_OVER_ONE or max(waited, default=0.0) > HANGS_SECONDS


def _lost_threads(now: float) -> int:
    """How many are lost in all disks."""
    # The copy: others come and go meanwhile.
    return sum(now - one.since > SILENT_SECONDS for one in _touches.copy().values())


def touch_of(thread: int) -> Touch | None:
    """What the thread of this number asks a disk now."""
    return _touches.get(thread)


def disk_of(path: str) -> Disk:
    """The disk on which the absolute *path* lies; asks no disk that is not this machine's own."""
    return _mounted.disk_of(path)


def mounts_now() -> int:
    """A number that is another one whenever something has been mounted or taken away."""
    return _mounted.now()


def mounts_of_others(folder: str) -> list[Mount]:
    """What is mounted at or below *folder*, or holds it, that is not this machine's own.

    In the order of the places; *folder* is an absolute path. Asks none of these disks.
    """
    return _mounted.of_others(folder)


class Mounted:
    """What the kernel says is mounted where; safe to use from several threads."""

    def __init__(self, mounts: Path = _MOUNTS) -> None:
        self._path = mounts
        self._lock = threading.Lock()
        self._descriptor = -1
        self._poll = select.poll()
        self._mounts = MountList([])
        self._disks: dict[Mount, Disk] = {}
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
        _, mount = self._mounts.followed(path)
        if mount is None:
            return self._unknown
        with self._lock:
            disk = self._disks.get(mount)
            if disk is None:
                disk = self._disks[mount] = Disk(is_local=mount.is_local)
            return disk

    def of_others(self, folder: str) -> list[Mount]:
        """See `mounts_of_others`."""
        self.now()
        mounts = self._mounts
        place, mount = mounts.followed(folder)
        found = {*mounts.below(place), *([mount] if mount else [])}
        return sorted((one for one in found if not one.is_local), key=lambda one: one.place)

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
        self._mounts = MountList(lines)
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


_mounted = Mounted()
