"""Workers that die, hang, are stopped or cannot start: what goes on, and what the log says."""

from __future__ import annotations

import os
import resource
import signal
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

import httpx2
import numpy as np
import pytest
from astropy.io import fits
from support.command import run_command, served
from support.images import FAMILIES
from support.processes import children_of, has_ended, state_of
from support.service import SMALL_BUFFER, connect
from support.turn import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.command import Served

_HASTY: Final = """
import soda_service.server
import soda_service.supervisor
from soda_service.cli import main

soda_service.server._LAST_ANSWERS_SECONDS = 1
soda_service.supervisor._PAUSE_SECONDS = 1
main()
"""
"""The command line, which waits for last answers and between two attempts for a second."""

_IMPATIENT: Final = _HASTY.replace(
    "main()",
    """
soda_service.supervisor._STOP_SECONDS = 0
main()
""",
)
"""The same, that waits for a second for those who stop."""

_CALM: Final = _IMPATIENT.replace("main()", "soda_service.supervisor._SILENT_SECONDS = 600\nmain()")
"""The same, that waits for ten minutes for workers that do not answer."""

_LATE: Final = """
import os
import signal

from soda_service.cli import main
from soda_service.supervisor import Supervisor

look = Supervisor.keep_subprocess_alive


def look_and_be_told(supervisor):
    looked_after = tuple(supervisor.processes)
    look(supervisor)
    if any(worker.exitcode is not None for worker in looked_after):
        os.kill(os.getpid(), signal.SIGTERM)


Supervisor.keep_subprocess_alive = look_and_be_told
"""
"""To be followed by main(): hears that it shall stop once it has seen that a worker has."""

_THIRD: Final = """
import os
import signal

import soda_service.supervisor
from soda_service.cli import main

start = soda_service.supervisor.Process.start
started = 0


def start_and_befall(worker):
    global started
    start(worker)
    started += 1
    if started == 3:
        befall(worker.pid)


soda_service.supervisor.Process.start = start_and_befall
"""
"""To be followed by main(): what `befall` says happens to the third worker."""

_FIRST_FAILS: Final = """
import os
import signal
import sys
from multiprocessing import get_context

import soda_service.server
import soda_service.supervisor
from soda_service.cli import main

soda_service.server._LAST_ANSWERS_SECONDS = 1
soda_service.supervisor._PAUSE_SECONDS = 1
soda_service.supervisor._STOP_SECONDS = 0
start = soda_service.supervisor.Process.start


def fail(worker):
    worker.process = get_context("spawn").Process(target=sys.exit, args=(3,))
    soda_service.supervisor.Process.start = second
    start(worker)


def second(worker):
    soda_service.supervisor.Process.start = start
    start(worker)
    befall(worker.pid)


soda_service.supervisor.Process.start = fail
"""
"""To be followed by main(): the first worker ends like one that cannot start.

What `befall` says happens to the second one.
"""


def _answering(service: Served) -> list[int]:
    """The numbers of the two workers that answer first."""

    def told() -> list[str]:
        return [line.split()[-2] for line in service.log if line.endswith(" answers\n")]

    until(lambda: len(told()) >= 2)
    return [int(number) for number in told()[:2]]


@contextmanager
def _stopped(process: int) -> Iterator[None]:
    """A process that does nothing within the block, and is not left behind like that."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)


@contextmanager
def _without_files(process: int) -> Iterator[None]:
    """A process that can open nothing within the block, and so cannot start another one."""
    limits = resource.prlimit(process, resource.RLIMIT_NOFILE)
    resource.prlimit(process, resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_NOFILE, limits)


def _told_of(service: Served, worker: int) -> str:
    """The one line that the supervisor writes of the end of this worker."""

    def told() -> list[str]:
        return [
            line
            for line in service.log
            if f"soda_service.supervisor [-] worker {worker} " in line and " INFO " not in line
        ]

    until(lambda: bool(told()))
    (line,) = told()
    return line


@pytest.mark.parametrize(
    ("number", "level", "said"),
    [
        (signal.SIGKILL, "ERROR", "was killed by SIGKILL; the kernel does so where memory is"),
        (signal.SIGSTOP, "ERROR", "did not answer for 5 s and was killed"),
        (signal.SIGTERM, "WARNING", "was told to stop"),
    ],
)
def test_a_worker_that_is_gone_is_told_of_and_replaced(
    tmp_path: Path, number: signal.Signals, level: str, said: str
) -> None:
    with served("serve", "--workers", "2", folder=tmp_path) as service:
        worker = _answering(service)[0]
        os.kill(worker, number)
        line = _told_of(service, worker)
        assert f" {level} soda_service.supervisor " in line
        assert f"worker {worker} {said}" in line
        assert "takes its place" in line
        until(lambda: sum(one.endswith(" answers\n") for one in service.log) == 3)
        assert _said(service, "health").is_success
        service.process.terminate()
        assert service.process.wait(60) == 0


def test_a_worker_that_cannot_start_leaves_the_others_alone(tmp_path: Path) -> None:
    """It is tried again until it can, and the log says that."""
    with served("serve", "--workers", "2", folder=tmp_path, program=("-c", _HASTY)) as service:
        worker = _answering(service)[0]
        cache = tmp_path / "soda-data" / "cache"
        if cache.exists():
            cache.rename(tmp_path / "elsewhere")
        cache.touch()  # no folder
        os.kill(worker, signal.SIGKILL)
        until(lambda: sum("before it could serve" in line for line in service.log) >= 3)
        assert _said(service, "health").is_success
        cache.unlink()
        until(lambda: sum(line.endswith(" answers\n") for line in service.log) == 3)
        service.process.terminate()
        assert service.process.wait(60) == 0


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (
            signal.SIGKILL,
            "what it was answering is broken off, and no other can be started",
        ),
        (signal.SIGHUP, "2 of 3 workers run; no other can be started"),
        (signal.SIGTTIN, "2 of 3 workers run; no other can be started"),
    ],
)
def test_a_worker_that_cannot_be_started_is_tried_again(
    tmp_path: Path, number: signal.Signals, said: str
) -> None:
    """Where memory, processes or open files are short; the others serve meanwhile."""
    with served("serve", "--workers", "2", folder=tmp_path, program=("-c", _HASTY)) as service:
        workers = _answering(service)
        with _without_files(service.process.pid):
            is_death = number == signal.SIGKILL
            os.kill(workers[0] if is_death else service.process.pid, number)
            until(lambda: sum("(Too many open files)" in line for line in service.log) >= 2)
            first, *_ = (line for line in service.log if "(Too many open files)" in line)
            assert " ERROR soda_service.supervisor " in first
            assert said in first
            assert _said(service, "health").is_success
            assert not has_ended(workers[1])
        answering = 4 if number == signal.SIGHUP else 3
        until(lambda: sum(line.endswith(" answers\n") for line in service.log) == answering)
        service.process.terminate()
        assert service.process.wait(60) == 0
    assert "Traceback" not in "".join(service.log)


def test_a_worker_that_does_not_begin_is_killed(tmp_path: Path) -> None:
    """It may take its time, but not for ever."""
    program = f"""{_THIRD}
def befall(worker):
    os.kill(worker, signal.SIGSTOP)
    soda_service.supervisor._START_SECONDS = 1

main()
"""
    with served("serve", "--workers", "2", folder=tmp_path, program=("-c", program)) as service:
        worker, other = _answering(service)
        os.kill(worker, signal.SIGKILL)
        until(lambda: any("was not ready" in line for line in service.log))
        (line,) = (line for line in service.log if "was not ready" in line)
        assert " ERROR soda_service.supervisor " in line
        assert "was not ready within 1 s and was killed before it could serve" in line
        assert "takes its place" in line
        assert not has_ended(other)


@pytest.mark.parametrize("begins", [True, False])
def test_a_worker_that_cannot_start_before_another_has(tmp_path: Path, *, begins: bool) -> None:
    """It may be the only one; whether the other serves is waited for, but not for ever."""
    deed = "pass" if begins else "os.kill(worker, signal.SIGSTOP)"
    program = f"{_FIRST_FAILS}\ndef befall(worker): {deed}\n\nmain()"
    with served("serve", "--workers", "2", folder=tmp_path, program=("-c", program)) as service:
        until(lambda: any("before it could serve" in line for line in service.log))
        (line,) = (line for line in service.log if "before it could serve" in line)
        assert "ended with exit code 3 before it could serve" in line
        assert "takes its place" in line
        until(lambda: sum(line.endswith(" answers\n") for line in service.log) == 1 + begins)
        assert _said(service, "health").is_success
        service.process.terminate()
        assert service.process.wait(60) == 0


def test_a_worker_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    """The service stops all the same, and nobody takes the place of who does not answer."""
    with (
        served("serve", "--workers", "2", folder=tmp_path, program=("-c", _IMPATIENT)) as service,
        ExitStack() as held,
    ):
        worker = _answering(service)[0]
        with _stopped(service.process.pid):
            held.enter_context(_stopped(worker))
            service.process.terminate()
        assert service.process.wait(60) == 0
        assert state_of(worker) == ""
    line = _told_of(service, worker)
    assert " ERROR soda_service.supervisor " in line
    assert f"worker {worker} was told to stop, did not within 1 s and was killed" in line
    assert "takes its place" not in "".join(service.log)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_that_a_terminal_stops_are_not_replaced(
    tmp_path: Path, number: signal.Signals
) -> None:
    """It tells them as it tells the process that keeps them; they may be the faster ones."""
    with served("serve", "--workers", "2", folder=tmp_path) as service:
        workers = _answering(service)
        with _stopped(service.process.pid):
            for one in (*workers, service.process.pid):
                os.kill(one, number)
            until(lambda: [state_of(one) for one in workers] == ["Z", "Z"])
        assert service.process.wait(60) == 0
    log = "".join(service.log)
    assert "takes its place" not in log, log
    assert " ERROR " not in log, log


def test_a_signal_that_comes_after_the_workers_have_gone(tmp_path: Path) -> None:
    """The kernel may give it to a thread that runs when the workers have been looked at."""
    program = ("-c", f"{_LATE}\nmain()")
    with served("serve", "--workers", "2", folder=tmp_path, program=program) as service:
        workers = _answering(service)
        with _stopped(service.process.pid):
            for worker in workers:
                os.kill(worker, signal.SIGTERM)
        assert service.process.wait(60) == 0
    log = "".join(service.log)
    assert "takes its place" not in log, log
    assert " ERROR " not in log, log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_after_one_that_begins_has_gone(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Which ends otherwise than those who serve."""
    program = f"{_LATE}{_THIRD}\ndef befall(worker): os.kill(worker, {number:d})\n\nmain()"
    with served("serve", "--workers", "2", folder=tmp_path, program=("-c", program)) as service:
        _answering(service)
        service.process.send_signal(signal.SIGTTIN)
        assert service.process.wait(60) == 0
    log = "".join(service.log)
    assert "workers wanted: 3" in log
    assert "takes its place" not in log, log
    assert " ERROR " not in log, log


def test_fewer_workers(tmp_path: Path) -> None:
    """One that is wanted no more is not waited for, though it does not stop."""
    with served("serve", "--workers", "2", folder=tmp_path, program=("-c", _CALM)) as service:
        workers = _answering(service)
        first, last = (one for one in children_of(service.process.pid) if one in workers)
        with _stopped(last):
            service.process.send_signal(signal.SIGTTOU)
            until(lambda: any(line.endswith(" workers wanted: 1\n") for line in service.log))
            os.kill(first, signal.SIGKILL)
            assert "takes its place" in _told_of(service, first)
            until(lambda: sum(line.endswith(" answers\n") for line in service.log) == 3)
            assert _said(service, "health").is_success
        until(lambda: state_of(last) == "")
        service.process.terminate()
        assert service.process.wait(60) == 0


def test_new_workers_for_old_ones(tmp_path: Path) -> None:
    """Each old one goes when a new one serves; who does not stop keeps nobody from that."""
    with served("serve", "--workers", "2", folder=tmp_path, program=("-c", _CALM)) as service:
        workers = _answering(service)
        first, last = (one for one in children_of(service.process.pid) if one in workers)
        with _stopped(last):
            service.process.send_signal(signal.SIGHUP)
            until(lambda: sum(line.endswith(" answers\n") for line in service.log) == 4)
            assert f"worker {last} was told to stop, did not" in _told_of(service, last)
        until(lambda: (state_of(first), state_of(last)) == ("", ""))
        assert _said(service, "health").is_success
        service.process.terminate()
        assert service.process.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_each_answer_that_a_stop_breaks_off_is_a_line_of_the_log(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "data").mkdir()
    large = np.zeros((3000, 3000), np.float64)
    fits.PrimaryHDU(large).writeto(tmp_path / "data" / "large.fits")
    assert run_command("ingest", "data", folder=tmp_path).returncode == 0
    with (
        served("serve", "--workers", "2", folder=tmp_path, program=("-c", _HASTY)) as service,
        ExitStack() as clients,
    ):
        _answering(service)
        port = int(service.base.rsplit(":", 1)[1].strip("/"))
        for _ in range(12):
            client = clients.enter_context(connect(port, buffer_bytes=SMALL_BUFFER))
            client.sendall(b"GET /files/data/large.fits HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1)
        service.process.send_signal(number)
        assert service.process.wait(60) == 0
    log = "".join(service.log)
    assert "Traceback" not in log, log
    assert log.count(": the service stops\n") == 12, log


def _said(service: Served, path: str, **parameters: str) -> httpx2.Response:
    return httpx2.get(f"{service.base}{path}", params=parameters, timeout=60, trust_env=False)


def _says(service: Served, path: str, *words: str) -> bool:
    """Whether whoever answers says all these; the other worker may not have looked yet."""
    said = _said(service, path).text
    return all(one in said for one in words)


def _of_each(service: Served, path: str, **parameters: str) -> set[int]:
    """The codes of so many answers that each of two workers has given some."""
    return {_said(service, path, **parameters).status_code for _ in range(20)}


def test_a_catalog_that_is_removed_and_made_anew(tmp_path: Path) -> None:
    """Nobody makes an empty one in its place; the new one is served without another start."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.fits").write_bytes(FAMILIES["tan"]())
    assert run_command("ingest", "first", folder=tmp_path).returncode == 0
    catalog = tmp_path / "soda-data" / "catalog.sqlite"
    first, second = (f"ivo://demo.invalid/{name}?{name}.fits" for name in ("first", "second"))
    with served("serve", "--workers", "2", folder=tmp_path, program=("-c", _HASTY)) as service:
        worker = _answering(service)[0]
        assert _of_each(service, "soda/sync", ID=first) == {200}
        catalog.unlink()
        until(lambda: _says(service, "availability", ":available>false<", "is gone"))
        assert _of_each(service, "soda/sync", ID=first) == {200}
        os.kill(worker, signal.SIGKILL)
        until(lambda: sum("before it could serve" in line for line in service.log) >= 2)
        refusals = [line for line in service.log if "there is no catalog" in line]
        assert len(refusals) >= 2
        assert all("soda-service ingest" in line for line in refusals)
        assert "Traceback" not in "".join(service.log)
        assert not catalog.exists()
        assert run_command("ingest", "second", folder=tmp_path).returncode == 0
        until(lambda: sum(line.endswith(" answers\n") for line in service.log) == 3)
        until(lambda: _of_each(service, "soda/sync", ID=second) == {200})
        until(lambda: _of_each(service, "soda/sync", ID=first) == {404})
        until(lambda: _says(service, "availability", ":available>true<", "1 dataset can be found"))
        until(lambda: _says(service, "sia/query?FORMAT=all", "second"))
        until(lambda: _of_each(service, "coverage/second") == {200})
        (tmp_path / "first" / "third.fits").write_bytes(FAMILIES["tan"]())
        assert run_command("ingest", "first", folder=tmp_path).returncode == 0
        until(lambda: _of_each(service, "soda/sync", ID=first) == {200})
        service.process.terminate()
        assert service.process.wait(60) == 0
