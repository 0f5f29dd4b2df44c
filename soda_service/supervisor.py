"""The worker processes of a server: kept alive, and told of in the log when one is not.

Uvicorn starts and stops them. What it says of one that died is a line of no importance without a
reason, one that cannot start takes those that serve down with it, and one that ends by a signal
takes along what its last answers had to say.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from typing import TYPE_CHECKING, Final, NoReturn

import uvicorn
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

if TYPE_CHECKING:
    from socket import socket
    from types import FrameType

STARTUP_FAILURE: Final = 3
"""Exit code of a process of uvicorn's that could not start."""

_PAUSE_SECONDS = 10.0
"""Between two attempts to start a worker that could not."""

_START_SECONDS = 300.0
"""For which a worker may begin; it is asked meanwhile, and its pipe holds so many questions."""

_DEATH_SECONDS: Final = 5.0
"""For which the end of a worker that was killed is waited for."""

_ADVICE: Final = {
    signal.SIGKILL: "; the kernel does so where memory is short, and its own log says so",
    signal.SIGSEGV: "; that is a fault of a library, or of the memory",
    signal.SIGBUS: "; a disk that is full or failing does that, too",
}
"""What an operator may look at, by the signal that ended a worker."""

_logger = logging.getLogger(__name__)


class WorkerConfig(uvicorn.Config):
    """How uvicorn is run, in a process that ends as the command line does."""

    def configure_logging(self) -> None:
        """Prepare the process; uvicorn calls this first in each one that it starts."""
        super().configure_logging()
        if multiprocessing.parent_process() is not None:
            leave_on_signals()


class Supervisor(Multiprocess):
    """Workers, each of which is replaced when it is gone."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self.has_failed = False
        """Whether it ended because no worker could start."""
        self._have_served: set[int | None] = set()
        self._begun: dict[int | None, float] = {}
        """When those that have not served yet were first looked at."""
        self._paused_until = 0.0

    def keep_subprocess_alive(self) -> None:
        """Replace workers that are gone, or do not answer any more; say so, and why."""
        for place, worker in enumerate(self.processes):
            # A terminal sends its signal to the workers as well: they are gone because they shall.
            if self.should_exit.is_set() or self.signal_queue:
                return
            if worker.process.is_alive() and self._answers(worker):
                continue
            has_served = worker.pid in self._have_served
            if has_served or time.monotonic() >= self._paused_until:
                self._replace(place, worker)

    def _answers(self, worker: Process) -> bool:
        """Whether a worker that has served lives; one that begins may take its time."""
        seconds = self.config.timeout_worker_healthcheck
        if worker.pid in self._have_served:
            return worker.ping(seconds)
        if worker.is_ready(seconds):
            self._have_served.add(worker.pid)
            _logger.info("worker %s answers", worker.pid)
            return True
        begun = self._begun.setdefault(worker.pid, time.monotonic())
        return time.monotonic() - begun < _START_SECONDS

    def _replace(self, place: int, worker: Process) -> None:
        is_hung = worker.exitcode is None
        worker.kill()
        # One that hangs in a disk may not even die.
        worker.process.join(_DEATH_SECONDS)
        self._begun.pop(worker.pid, None)
        has_served = worker.pid in self._have_served
        self._have_served &= {one.pid for one in self.processes if one is not worker}
        if worker.exitcode == STARTUP_FAILURE and not has_served and not self._have_served:
            # Nobody serves, and the next one would not, either.
            self.has_failed = True
            self.should_exit.set()
            return
        new = self._started_at(place)
        patience = self.config.timeout_worker_healthcheck if has_served else _START_SECONDS
        how = (
            f"did not answer for {patience:g} s and was killed"
            if is_hung
            else _end_of(worker.exitcode)
        )
        if has_served and worker.exitcode == 0:
            _logger.warning(
                "worker %s was told to stop, not by the process that keeps it; worker %s takes its "
                "place: to stop the service end process %s",
                worker.pid, new.pid, os.getpid(),
            )  # fmt: skip
        elif has_served:
            _logger.error(
                "worker %s %s; what it was answering is broken off, and worker %s takes its place",
                worker.pid, how, new.pid,
            )  # fmt: skip
        else:
            self._paused_until = time.monotonic() + _PAUSE_SECONDS
            _logger.error(
                "worker %s %s before it could serve, the lines above may say why; worker %s takes "
                "its place; should that fail as well, it is tried again every %g s",
                worker.pid, how, new.pid, _PAUSE_SECONDS,
            )  # fmt: skip

    def _started_at(self, place: int) -> Process:
        new = Process(self.config, self.sockets)
        new.start()
        self.processes[place] = new
        return new


def leave_on_signals() -> None:
    """Have SIGTERM and SIGINT end this process cleanly, its last lines of the log written.

    A server takes the signals over while it runs, and when it hands them back the process ends:
    by SystemExit, which lets answers that were broken off say so, unlike the signal itself.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _end_of(code: int | None) -> str:
    """How a process ended, after its exit code."""
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"was killed by signal {-code}"
    return f"was killed by {number.name}{_ADVICE.get(number, '')}"
