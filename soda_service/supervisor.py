"""The worker processes of a server: kept alive, and told of in the log when one is not.

Uvicorn starts and stops them. What it says of one that died is a line of no importance without a
reason, one that cannot start takes those that serve down with it, one that does not stop is waited
for without end, and one that ends by a signal takes along what its last answers had to say.
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

_ROUND_SECONDS: Final = 0.5
"""Between two looks at the workers; uvicorn has it so."""

_SILENT_SECONDS: Final = 5.0
"""For which a worker may leave a question unanswered; see `Supervisor._answers`."""

_START_SECONDS = 300.0
"""For which a worker may begin."""

_STOP_SECONDS = 30.0
"""For which a worker that shall stop may take beyond the time that its last answers have."""

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
    """Workers, each of which is replaced when it is gone, and none of which is waited for.

    A thread of each worker answers what is asked through its pipe with whether it serves.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self.has_failed = False
        """Whether it ended because no worker could start."""
        self._have_served: set[Process] = set()
        self._begun: dict[Process, float] = {}
        """When each worker was started."""
        self._silent_rounds: dict[Process, int] = {}
        """How often each worker that has been asked had not answered yet."""
        self._outdated: list[Process] = []
        """Workers that serve until there are new ones in their place."""
        self._leaving: dict[Process, float] = {}
        """Workers that were told to stop, and until when they may."""
        self._stopped: set[Process] = set()
        """Workers that have ended, for a reason that may be on its way to this process."""
        self._paused_until = 0.0

    def init_processes(self) -> None:
        """Start the first workers."""
        self._start_missing()

    def keep_subprocess_alive(self) -> None:
        """Replace workers that are gone, or do not answer any more; say so, and why.

        And see to it that those go, and come, of whom a signal has told that they shall.
        """
        if self.should_exit.is_set():
            return
        self._retire_surplus()
        for worker in tuple(self.processes):
            lives = worker.process.is_alive() and self._answers(worker)
            if self.should_exit.is_set() or self.signal_queue:
                return
            has_served = worker in self._have_served
            has_left = worker.exitcode is not None and (worker.exitcode == 0 or not has_served)
            if has_left and worker not in self._stopped:
                # A terminal tells workers as well as this process, which may hear of it last; who
                # begins does not yet end with 0 then.
                self._stopped.add(worker)
                if worker.exitcode == STARTUP_FAILURE and not self._have_served:
                    self._pause()  # for the others, which may serve: then this one is replaced
            elif (
                worker.exitcode == STARTUP_FAILURE
                and not self._have_served
                and all(one.exitcode is not None for one in self.processes)
            ):
                # Nobody serves, and the next one would not, either.
                self.has_failed = True
                self.should_exit.set()
                return
            elif not lives and (has_served or not self._is_paused()):
                self._replace(worker)
        self._start_missing()
        self._kill_belated()
        multiprocessing.active_children()  # asks those that were let go how they have ended

    def restart_all(self) -> None:
        """Have new workers take the place of all, each as soon as it serves."""
        self._outdated = list(self.processes)

    def handle_ttin(self) -> None:
        """Have one worker more."""
        self.processes_num += 1
        _logger.info("workers wanted: %s", self.processes_num)

    def handle_ttou(self) -> None:
        """Have one worker less, but not none."""
        self.processes_num = max(1, self.processes_num - 1)
        _logger.info("workers wanted: %s", self.processes_num)

    def terminate_all(self) -> None:
        """Tell all workers to stop."""
        for worker in tuple(self.processes):
            self._let_go(worker)

    def join_all(self) -> None:
        """Wait for the ends of all workers, which a hanging disk or a stopped process delays."""
        for worker, end in self._leaving.items():
            worker.process.join(max(0.0, end - time.monotonic()))
            if worker.exitcode is None:
                self._kill(worker)
                worker.process.join(_DEATH_SECONDS)

    def _is_paused(self) -> bool:
        return time.monotonic() < self._paused_until

    def _answers(self, worker: Process) -> bool:
        """Whether a worker lives, asked and not waited for; one that begins may take its time.

        Its silence counts in looks: while the machine stands still nobody answers, nor looks.
        """
        try:
            if worker.parent_conn.poll():
                serves = worker.parent_conn.recv()
                del self._silent_rounds[worker]
                if serves and worker not in self._have_served:
                    self._have_served.add(worker)
                    _logger.info("worker %s answers", worker.pid)
            if worker in self._silent_rounds:
                self._silent_rounds[worker] += 1
            else:
                worker.parent_conn.send(b"ping")
                self._silent_rounds[worker] = 0
        except (OSError, EOFError):
            return False
        if worker in self._have_served:
            return self._silent_rounds[worker] * _ROUND_SECONDS < _SILENT_SECONDS
        return time.monotonic() - self._begun[worker] < _START_SECONDS

    def _replace(self, worker: Process) -> None:
        is_hung = worker.exitcode is None
        worker.kill()
        # One that hangs in a disk may not even die.
        worker.process.join(_DEATH_SECONDS)
        has_served = worker in self._have_served
        self._forget(worker)
        successor = self._start()
        if not is_hung:
            how = _end_of(worker.exitcode)
        elif has_served:
            how = f"did not answer for {_SILENT_SECONDS:g} s and was killed"
        else:
            how = f"was not ready within {_START_SECONDS:g} s and was killed"
        if has_served and worker.exitcode == 0:
            _logger.warning(
                "worker %s was told to stop, not by the process that keeps it; %s: to stop the "
                "service end process %s",
                worker.pid, successor, os.getpid(),
            )  # fmt: skip
        elif has_served:
            _logger.error(
                "worker %s %s; what it was answering is broken off, and %s",
                worker.pid, how, successor,
            )  # fmt: skip
        else:
            self._pause()
            _logger.error(
                "worker %s %s before it could serve, the lines above may say why; %s; should that "
                "fail as well, it is tried again every %g s",
                worker.pid, how, successor, _PAUSE_SECONDS,
            )  # fmt: skip

    def _retire_surplus(self) -> None:
        """Let one worker go that is wanted no more, or in whose place a new one serves."""
        self._outdated = [one for one in self._outdated if one in self.processes]
        if len(self.processes) <= self.processes_num:
            return
        if not self._outdated:
            beginning = [one for one in self.processes if one not in self._have_served]
            self._let_go((beginning or self.processes)[-1])
        elif self.processes[-1] in self._have_served:
            self._let_go(self._outdated[0])

    def _start_missing(self) -> None:
        """Start as many workers as are wanted, and one more while there are old ones."""
        wanted = self.processes_num + bool(self._outdated)
        while len(self.processes) < wanted and not self._is_paused():
            has, said = len(self.processes), self._start()
            if self._is_paused():
                _logger.error(
                    "%s of %s workers run; %s; it is tried again every %g s",
                    has, wanted, said, _PAUSE_SECONDS,
                )  # fmt: skip

    def _start(self) -> str:
        """Start a worker, and say so; where memory, processes or files are short, say that."""
        try:
            new = Process(self.config, self.sockets)
            new.start()
        except OSError as error:
            self._pause()
            return f"no other can be started ({error.strerror})"
        self.processes.append(new)
        self._begun[new] = time.monotonic()
        return f"worker {new.pid} takes its place"

    def _pause(self) -> None:
        self._paused_until = time.monotonic() + _PAUSE_SECONDS

    def _let_go(self, worker: Process) -> None:
        """Have it stop, once its answers have left."""
        self._forget(worker)
        worker.terminate()
        self._leaving[worker] = time.monotonic() + self._patience

    @property
    def _patience(self) -> float:
        """Seconds for which a worker may stop."""
        return (self.config.timeout_graceful_shutdown or 0) + _STOP_SECONDS

    def _kill_belated(self) -> None:
        """Kill those that have not stopped in time; how they end is not waited for."""
        for worker, end in tuple(self._leaving.items()):
            is_late = worker.exitcode is None and time.monotonic() >= end
            if is_late:
                self._kill(worker)
            if is_late or worker.exitcode is not None:
                del self._leaving[worker]

    def _kill(self, worker: Process) -> None:
        worker.kill()
        _logger.error(
            "worker %s was told to stop, did not within %g s and was killed; what it was answering "
            "is broken off",
            worker.pid, self._patience,
        )  # fmt: skip

    def _forget(self, worker: Process) -> None:
        self.processes.remove(worker)
        self._have_served.discard(worker)
        self._stopped.discard(worker)
        self._silent_rounds.pop(worker, None)
        self._begun.pop(worker, None)


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
