"""When the machine itself stood still: whoever lends its cores may take them away.

On each core a process that goes before all others wakes every half of a millisecond. What keeps
all of these from waking at the same time is no program of this machine. What keeps one of them is
either the same, or the kernel, which for a millisecond or three gives a core to nobody.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SLEEP = 0.0005
_LATE = 0.0003
"""Less is the kernel's own."""
_PRIORITY = 99


class Interval(NamedTuple):
    """From one moment to another, as `time.perf_counter` tells them to every process."""

    start: float
    end: float


class Standstills:
    """When cores stood still; known once the watch is over."""

    def __init__(self) -> None:
        self.is_known = False
        """Not where nobody may go before all others: that takes the rights of an administrator."""
        self.of_all: Sequence[Interval] = ()
        """When all cores did."""
        self.of_any: Sequence[Interval] = ()
        """When at least one did."""


def within(intervals: Sequence[Interval], start: float, end: float) -> float:
    """Seconds of *intervals* between two moments."""
    return sum(max(0.0, min(end, one.end) - max(start, one.start)) for one in intervals)


@contextmanager
def watched() -> Iterator[Standstills]:
    """Watch for as long as the block lasts."""
    found = Standstills()
    command = [sys.executable, __file__]
    watchers = [
        subprocess.Popen([*command, str(core)], stdout=subprocess.PIPE, text=True)
        for core in sorted(os.sched_getaffinity(0))
    ]
    try:
        for one in watchers:
            assert one.stdout is not None
            one.stdout.readline()  # it watches
        yield found
    finally:
        for one in watchers:
            one.terminate()
        seen = [json.loads(one.communicate(timeout=20)[0] or "null") for one in watchers]
    if None not in seen:
        cores = [[Interval(*one) for one in core] for core in seen]
        found.is_known, found.of_all, found.of_any = True, at_once(cores), joined(cores)


def joined(cores: Sequence[Sequence[Interval]]) -> list[Interval]:
    """What lies in an interval of any core, in order."""
    whole: list[Interval] = []
    for one in sorted(one for core in cores for one in core):
        if whole and one.start <= whole[-1].end:
            whole[-1] = Interval(whole[-1].start, max(whole[-1].end, one.end))
        else:
            whole.append(one)
    return whole


def at_once(cores: Sequence[Sequence[Interval]]) -> list[Interval]:
    """The parts that intervals of every core have in common; those of a core are in order."""
    common, *others = cores
    for core in others:
        common = [
            Interval(max(one.start, other.start), min(one.end, other.end))
            for one in common
            for other in core
            if one.start < other.end and other.start < one.end
        ]
    return list(common)


def _watch(core: int) -> None:
    """Tell when this process did not wake on *core* though it was time, until it is terminated."""
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    os.sched_setaffinity(0, {core})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    except PermissionError:
        print(flush=True)
        signal.pause()
        print("null")
        return
    late = []
    print(flush=True)
    while not told:
        due = time.perf_counter() + _SLEEP
        time.sleep(_SLEEP)
        now = time.perf_counter()
        if now - due > _LATE:
            late.append((due, now))
    print(json.dumps(late))


if __name__ == "__main__":
    _watch(int(sys.argv[1]))
