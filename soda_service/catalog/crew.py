"""Processes that index files for ingest.

Each is a Python of its own, told what to do over a socket: it imports nothing of the
caller's, and when a file makes it die (astropy's C code has done so), the caller knows which
file that was and goes on.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from time import clock_gettime_ns
from typing import TYPE_CHECKING, Final

from soda_service.catalog.worker import READY, IndexFailure
from soda_service.errors import SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from soda_service.catalog.indexer import Place
    from soda_service.catalog.rows import DatasetRows
    from soda_service.storage.source import FileVersion

_MODULE: Final = "soda_service.catalog.worker"

_QUEUED: Final = 3
"""Files sent to a process ahead of its answers, so that it need not wait for the next."""

_TICK_SECONDS: Final = 0.25

_END_SECONDS: Final = 5.0
"""How long a process that was killed is waited for."""

_CPU_CLOCK: Final = 2
"""CPUCLOCK_SCHED of Linux: what the scheduler has counted."""

FILE_SECONDS: Final = 900.0
"""How long a file may take: long enough to inflate 100 GB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexTask:
    """A file to be indexed."""

    path: str
    place: Place
    known_id: int | None
    """Row of the catalog that the file has already."""
    version: FileVersion | None = None
    """As a list of the store gave it; None where the file is to be asked."""
    earlier_local_part: str | None = None
    """That of an earlier reading, for a file that changed where it stands."""


class Crew:
    """Up to *size* processes that index files. To be used by one thread, and closed."""

    def __init__(self, size: int, *, file_seconds: float | None = None) -> None:
        """A file that takes longer than *file_seconds*, else FILE_SECONDS, is given up."""
        self._size = size
        self._file_seconds = FILE_SECONDS if file_seconds is None else file_seconds
        self._workers: list[_Worker] = []

    def index(
        self, tasks: Iterable[IndexTask]
    ) -> Iterator[tuple[IndexTask, DatasetRows | IndexFailure] | None]:
        """Each task with what came of it, as they come; None now and then while none comes.

        *tasks* is drawn from only as far as the processes can take it.
        """
        source = iter(tasks)
        again: deque[IndexTask] = deque()
        exhausted = False
        while True:
            while self._has_room and not (exhausted and not again):
                task = again.popleft() if again else next(source, None)
                if task is None:
                    exhausted = True
                    break
                self._free().send(task)
            busy = [worker for worker in self._workers if worker.queue]
            if not busy:
                return
            came = False
            for worker in self._answering(busy):
                came = True
                task = worker.queue.popleft()
                answer = worker.receive()
                if isinstance(answer, IndexFailure) and not worker.alive:
                    again.extend(worker.queue)
                    self._workers.remove(worker)
                yield task, answer
            if not came:
                yield None

    @property
    def at_work(self) -> list[str]:
        """The files that are being read, as any thread may ask."""
        return [task.path for worker in tuple(self._workers) for task in tuple(worker.queue)[:1]]

    @property
    def worked(self) -> int:
        """Nanoseconds of a processor that the processes have taken; more, once one goes on.

        A process that a disk holds up takes none until it has an answer.
        """
        return sum(worker.worked for worker in self._workers)

    def drop_ended(self) -> None:
        """Forget processes that ended while they had nothing to do, killed for memory say.

        Otherwise the next file would be blamed for it.
        """
        for worker in [one for one in self._workers if not one.is_running]:
            worker.end()
            self._workers.remove(worker)

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    @property
    def _has_room(self) -> bool:
        return len(self._workers) < self._size or any(
            len(worker.queue) < _QUEUED for worker in self._workers
        )

    def _free(self) -> _Worker:
        """The process with the least to do, a new one where all have something; given room."""
        least = min(self._workers, key=lambda worker: len(worker.queue), default=None)
        if least is None or (least.queue and len(self._workers) < self._size):
            least = _Worker(self._file_seconds)
            self._workers.append(least)
        return least

    @staticmethod
    def _answering(busy: list[_Worker]) -> list[_Worker]:
        """Those of *busy* that have answered, have died, or have taken too long."""
        ready = set(wait([worker.connection for worker in busy], _TICK_SECONDS))
        return [one for one in busy if (one.connection in ready and one.has_news()) or one.overdue]


class _Worker:
    """One process and the files that it has been sent, the one at work first."""

    def __init__(self, file_seconds: float) -> None:
        self._file_seconds = file_seconds
        try:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                self._process = _started(theirs)
                self.connection = Connection(ours.detach())
        except OSError as error:  # the system has no more descriptors, processes or memory
            raise _cannot_start(error.strerror or "unknown reason") from None
        self.queue: deque[IndexTask] = deque()
        self.alive = True
        self._started = False
        self._places: set[str] = set()
        self._since = time.monotonic()

    def send(self, task: IndexTask) -> None:
        """Hand over *task*; a place goes over once."""
        if not self.queue:
            self._since = time.monotonic()
        fingerprint = task.place.fingerprint
        place = None if fingerprint in self._places else task.place
        self._places.add(fingerprint)
        self.queue.append(task)
        with suppress(ConnectionError):  # it died; `receive` will tell
            self.connection.send(
                (task.path, fingerprint, place, task.earlier_local_part, task.version)
            )

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    @property
    def worked(self) -> int:
        """See that of the crew; where the system does not tell, the process is always at work."""
        try:
            # The clock of another process, as clock_getcpuclockid(3) makes it of the number.
            return clock_gettime_ns(~self._process.pid << 3 | _CPU_CLOCK)
        except OSError:
            return int(time.monotonic() * 1e9)

    @property
    def overdue(self) -> bool:
        """Whether the file at work has taken longer than any may."""
        return time.monotonic() - self._since > self._file_seconds

    def has_news(self) -> bool:
        """Whether `receive` need not wait; to be asked when the connection has something."""
        if not self._started:
            try:
                self._started = self.connection.recv_bytes() == READY
            except (EOFError, OSError):
                raise _cannot_start(f"it {self._ending()}") from None
            return self.connection.poll(0)
        return True

    def receive(self) -> DatasetRows | IndexFailure:
        """The answer about the first file of the queue, or how it ended the process.

        That reading takes too long may be the fault of the file, or of its disk or store.
        """
        if self.overdue and not self.connection.poll(0):
            self.end()
            return IndexFailure(
                reason=f"reading it took over {self._file_seconds:.0f} s", lasting=False
            )
        self._since = time.monotonic()
        try:
            answer: DatasetRows | IndexFailure = self.connection.recv()
        except (EOFError, OSError):
            reason = f"the process that read its headers {self._ending()}"
            return IndexFailure(reason=reason, lasting=True)
        return answer

    def end(self) -> None:
        """Stop the process, whatever it is doing.

        One that a disk holds, and does not let be killed, ends when the disk lets go of it.
        """
        self.alive = False
        self.connection.close()
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)

    def _ending(self) -> str:
        self.connection.close()
        self.alive = False
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:  # it has gone silent without ending
            self.end()
            return "told nothing any more"
        return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _started(theirs: socket.socket) -> subprocess.Popen[bytes]:
    """A process at the other end of *theirs*; raises OSError."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(  # noqa: S603 - our own module, no shell
        [sys.executable, "-m", _MODULE, str(theirs.fileno())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        env=environment,
        process_group=0,  # a terminal's Ctrl-C is for the caller, who decides when to stop
    )


def _cannot_start(reason: str) -> SourceUnavailableError:
    return SourceUnavailableError(f"a process that reads headers cannot start: {reason}")
