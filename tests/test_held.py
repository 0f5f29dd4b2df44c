"""The benchmark's word on who held the event loop, for which a bar is set."""

from __future__ import annotations

import sys
import threading
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType


@pytest.fixture(name="benchmark", scope="module")
def _benchmark() -> ModuleType:
    return _module("measured_app")


@pytest.fixture(name="machine", scope="module")
def _machine() -> ModuleType:
    return _module("standstill")


def _module(name: str) -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Seconds: the timer was to go off after one, and did after ten.
@pytest.mark.parametrize(
    ("queued", "others", "at_most", "at_least"),
    [
        pytest.param(0.0, 9.0, 9.0, 9.0, id="no wait for a core: a call, or the interpreter"),
        pytest.param(7.0, 0.0, 3.0, 3.0, id="six waited while nobody of ours ran"),
        pytest.param(7.0, 2.0, 5.0, 3.0, id="two of them may have been for ours"),
        pytest.param(7.0, 30.0, 9.0, 3.0, id="all of them may"),
        pytest.param(1.0, 0.0, 9.0, 9.0, id="the wait may have been over when it was due"),
    ],
)
def test_who_held_the_loop(
    benchmark: ModuleType, queued: float, others: float, at_most: float, at_least: float
) -> None:
    """The waits excuse what nobody of ours can have caused, and nothing else."""
    before = benchmark.Moment(100.0, 50.0, {1: 4.0, 2: 8.0})
    # A thread that has begun meanwhile counts from nothing, one that has ended not at all.
    now = benchmark.Moment(100.0 + queued, 60.0, {1: 4.0 + others / 2, 3: others / 2})
    hold = benchmark.hold_between(before, now, 1.0)
    assert hold == pytest.approx((9.0, at_most, at_least))


@pytest.mark.skipif(sys.platform != "linux", reason="these clocks are Linux's")
def test_the_clocks_tell_whose_time_it_is(benchmark: ModuleType) -> None:
    """What another thread computes is told of it, as its own clock has it."""
    clocks = benchmark.Clocks()
    began, work, worked, leave = (threading.Event() for _ in range(4))
    seen: list[float] = []

    def compute() -> None:
        seen.append(threading.get_native_id())
        began.set()
        work.wait(30)
        start = time.thread_time()
        sum(range(1_000_000))
        seen.append(time.thread_time() - start)
        worked.set()
        leave.wait(30)

    thread = threading.Thread(target=compute)
    thread.start()
    began.wait(30)
    before = clocks.moment()
    work.set()
    worked.wait(30)
    after = clocks.moment()
    leave.set()
    thread.join()
    number, spent = seen
    assert after.others[number] - before.others[number] >= spent > 0
    assert threading.get_native_id() not in after.others
    assert after.at > before.at
    assert after.queued >= before.queued


def test_when_cores_stood_still(machine: ModuleType) -> None:
    """All of them, any of them, and how much of it lies in a time."""
    first = [machine.Interval(0.0, 2.0), machine.Interval(5.0, 9.0)]
    second = [machine.Interval(1.0, 3.0), machine.Interval(6.0, 7.0), machine.Interval(8.0, 12.0)]
    of_all = machine.at_once([first, second])
    of_any = machine.joined([first, second])
    assert of_all == [(1.0, 2.0), (6.0, 7.0), (8.0, 9.0)]
    assert of_any == [(0.0, 3.0), (5.0, 12.0)]
    assert machine.within(of_all, 1.5, 8.25) == pytest.approx(1.75)
    assert machine.within(of_any, 2.5, 6.0) == pytest.approx(1.5)
    assert machine.at_once([first, []]) == []
    assert machine.joined([[], []]) == []


@pytest.mark.skipif(sys.platform != "linux", reason="these priorities are Linux's")
def test_a_watch(machine: ModuleType) -> None:
    """What it sees lies in its time; without the rights to watch nothing is said."""
    start = time.perf_counter()
    with machine.watched() as found:
        time.sleep(0.2)
    end = time.perf_counter()
    assert machine.within(found.of_any, start, end) <= end - start
    assert all(start < one.start < one.end < end for one in found.of_any)
    assert found.is_known or not (found.of_all or found.of_any)
