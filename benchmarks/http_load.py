"""A server in a process of its own, and clients that ask it as fast as it answers."""

from __future__ import annotations

import multiprocessing
import os
import random
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import archive
import psutil
import standstill

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTIONS = 4
"""Connections kept alive to one worker: more would only wait."""
MANY_CONNECTIONS = 16
"""To several: of four, the kernel may give three to one of them."""

_HEAD_BYTES = 2048
"""That the head of an answer has at most."""

STORM = 0.005
AFTERMATH = 0.1
"""Seconds; see `Hold.calm`."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What one measurement saw."""

    per_second: float
    cpu_us: float
    """CPU of the server's process, microseconds a request."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """What was seen while large answers were streamed."""

    bytes_each: int
    gigabytes_per_second: float
    megabytes: float
    """The largest anonymous memory of the server's process."""


@dataclass(frozen=True, slots=True)
class Hold:
    """For how long an event loop was held; milliseconds. `measured_app.Held` says what they are."""

    whole: float
    at_most: float
    """Without the time for which all cores of the machine stood still, as the next."""
    at_least: float
    without: float | None
    """The second without the time for which any core stood still; None where that is not known."""
    calm: float | None
    """The second but for what happened up to `AFTERMATH` after a core had stood still for `STORM`:
    then the work that has piled up is done, and may be found undone by another core that does."""
    calm_share: float
    """How much of the time that leaves."""
    median_answer: float
    waits: _Waits
    """Of the loop's own thread."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running service."""

    port: int
    pid: int

    def cutout_targets(
        self, fields: list[archive.Field], *, pixels: int, seed: int = 7
    ) -> list[str]:
        """Request targets of circles *pixels* wide at random places within each field.

        Another *seed* gives other places.
        """
        chance = random.Random(seed)
        radius = pixels / 2 * archive.SCALE
        targets = []
        for _ in range(20):
            for field in fields:
                reach = (field.naxis / 2 - pixels) * archive.SCALE * 0.8
                lat = field.lat + chance.uniform(-reach, reach)
                lon = field.lon + chance.uniform(-reach, reach)
                circle = quote(f"{lon % 360:.7f} {lat:.7f} {radius:.9f}")
                targets.append(f"/soda/sync?ID={quote(field.identifier)}&CIRCLE={circle}")
        chance.shuffle(targets)
        return targets

    def warm(self, targets: list[str]) -> int:
        """Ask for everything once; the median size of the answers."""
        sizes: list[int] = []
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        sizes.extend(len(_get(connection, target)) for target in targets)
        connection.close()
        return sorted(sizes)[len(sizes) // 2]

    def rate(self, targets: list[str], seconds: float, *, connections: int = CONNECTIONS) -> Rate:
        """Requests per second for random ones of *targets*."""
        return measure(self.port, self.pid, targets, seconds, connections=connections)

    def stream(self, field: archive.Field, *, clients: int, each_second: float = inf) -> Streamed:
        """*clients* ask for nearly the whole field at once; see `stream`."""
        width = field.naxis * archive.SCALE * 0.98
        box = f"RANGE {field.lon - width} {field.lon + width} {field.lat - 5} {field.lat + 5}"
        target = f"/soda/sync?ID={quote(field.identifier)}&POS={quote(box)}"
        return stream(self.port, self.pid, target, clients=clients, each_second=each_second)

    def longest_hold(self, targets: list[str]) -> Hold:
        """How long the event loop was held at most while it answered *targets* one by one."""
        taken = []
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        with standstill.watched() as machine:
            _get(connection, "/held")
            before, began = _waits(self.pid), time.perf_counter()
            for target in targets:
                start = time.perf_counter()
                _get(connection, target)
                taken.append(time.perf_counter() - start)
            run = standstill.Interval(began, time.perf_counter())
            seen, after = _get(connection, "/held"), _waits(self.pid)
        connection.close()
        return longest(seen, machine, run, sorted(taken)[len(taken) // 2], after.since(before))

    def hold_while_loading(self) -> Hold:
        """The same for a worker that has just begun, until it has loaded what it loads late."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        with standstill.watched() as machine:
            _get(connection, "/held")
            before, began = _waits(self.pid), time.perf_counter()
            _get(connection, "/")  # shows a cutout, and so waits for all that one needs
            run = standstill.Interval(began, time.perf_counter())
            seen, after = _get(connection, "/held"), _waits(self.pid)
        connection.close()
        return longest(seen, machine, run, run.end - run.start, after.since(before))


def stream(port: int, pid: int, target: str, *, clients: int, each_second: float = inf) -> Streamed:
    """*clients* ask for *target* at once and read it, no more than so many bytes a second."""
    sizes: list[int] = []
    threads = [
        threading.Thread(target=_drain, args=(port, target, sizes, each_second))
        for _ in range(clients)
    ]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    peak = 0
    while any(thread.is_alive() for thread in threads):
        peak = max(peak, _anonymous_bytes(pid))
        time.sleep(0.01)
    seconds = time.monotonic() - start
    if len(sizes) != clients or len(set(sizes)) != 1:
        raise RuntimeError(f"the clients got {sizes} bytes")
    return Streamed(sizes[0], sum(sizes) / seconds / 1e9, peak / 1e6)


@contextmanager
def served(folder: Path, fields: list[archive.Field], *, workers: int = 1) -> Iterator[Server]:
    """The service, its catalog filled with *fields*; one worker serves constant bytes too."""
    environment = _environment(folder)
    roots = sorted({str(field.path.parent) for field in fields})
    subprocess.run(
        [sys.executable, "-m", "soda_service", "ingest", *roots], env=environment, check=True
    )
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("measured_app.py")), str(port)]
    if workers > 1:
        options = ["--port", str(port), "--workers", str(workers)]
        command = [sys.executable, "-m", "soda_service", "serve", *options]
    # The log is written, as it is by default, but not to this terminal.
    nowhere = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdout=nowhere, stderr=nowhere) as process:
        try:
            wait_for(port, "/health")
            yield Server(port, process.pid)
        finally:
            process.terminate()
            process.wait(20)


def start_seconds(folder: Path) -> float:
    """Seconds until `soda-service serve` answers its first request.

    Installing it compiles all modules. So does the first call here, whatever the environment
    says about bytecode: it takes longer, and the following ones count.
    """
    port = free_port()
    environment = _environment(folder)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    start = time.monotonic()
    command = [sys.executable, "-m", "soda_service", "serve", "--port", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(port, "/health")
            return time.monotonic() - start
        finally:
            process.terminate()
            process.wait(20)


def measure(
    port: int, pid: int, targets: list[str], seconds: float, *, connections: int = CONNECTIONS
) -> Rate:
    """Requests per second, and CPU of the server's process with its children, for *targets*."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        pool.apply(_ask, (port, targets, 0.2, connections))
        before = cpu_seconds(pid)
        count, taken = pool.apply(_ask, (port, targets, seconds, connections))
        used = cpu_seconds(pid) - before
    return Rate(count / taken, used / count * 1e6)


def wait_for(port: int, target: str) -> None:
    """Until the server answers *target* with 200; at most a minute."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", target)
            if connection.getresponse().status == 200:
                return
        except (OSError, HTTPException):
            time.sleep(0.01)
        finally:
            connection.close()
    raise RuntimeError(f"no server answers on port {port}")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "SODA_CATALOG": f"sqlite:///{folder / 'catalog.sqlite'}",
        "SODA_CACHE_DIR": str(folder / "cache"),
        "SODA_AUTHORITY": archive.AUTHORITY,
    }


def _ask(port: int, targets: list[str], seconds: float, connections: int) -> tuple[int, float]:
    """Keep so many requests under way over kept-alive connections; how many, how long.

    One thread and plain sockets, so that the client costs less than the server; and of an answer
    it takes the head alone: the rest comes as far as the kernel and is thrown away there.
    """
    import selectors

    requests = [f"GET {target} HTTP/1.1\r\nHost: bench\r\n\r\n".encode() for target in targets]
    chance = random.Random(11)
    head, rest = bytearray(_HEAD_BYTES), bytearray(1 << 20)
    chooser = selectors.DefaultSelector()
    for _ in range(connections):
        opened = socket.create_connection(("127.0.0.1", port))
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        chooser.register(opened, selectors.EVENT_READ, [0])
        opened.sendall(chance.choice(requests))
    count, start = 0, time.monotonic()
    while (now := time.monotonic()) - start < seconds:
        for key, _ in chooser.select(1):
            assert isinstance(key.fileobj, socket.socket)
            connection, missing = key.fileobj, key.data
            if missing[0] == 0:
                got = connection.recv_into(head)
                missing[0] = _answer_length(head[:got])
            else:
                got = connection.recv_into(rest, 0, socket.MSG_TRUNC)
            if got == 0:
                raise RuntimeError("the server closed a connection")
            missing[0] -= got
            if missing[0] == 0:
                count += 1
                connection.sendall(chance.choice(requests))
    return count, now - start


def _answer_length(start: bytearray) -> int:
    """Bytes of an answer with its header, from its first bytes."""
    head, _, _ = bytes(start).partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head[:200])
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(head) + 4 + int(line.partition(b":")[2])
    raise RuntimeError("an answer without Content-Length")


def _get(connection: HTTPConnection, target: str) -> bytes:
    connection.request("GET", target)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{target}: {answer.status} {body[:200]!r}")
    return body


def longest(
    seen: bytes,
    machine: standstill.Standstills,
    run: standstill.Interval,
    median_answer: float,
    waits: _Waits,
) -> Hold:
    """The longest holds of what `/held` has *seen* in a *run*; *median_answer* in seconds."""
    storms = standstill.joined([
        [one._replace(end=one.end + AFTERMATH) for one in machine.of_any
         if one.end - one.start >= STORM]
    ])  # fmt: skip
    whole = at_most = at_least = without = calm = 0.0
    for line in seen.decode().splitlines():
        due, came, late, most, least = map(float, line.split())
        of_all = standstill.within(machine.of_all, due, came)
        whole, at_most = max(whole, late), max(at_most, most - of_all)
        at_least = max(at_least, least - of_all)
        without = max(without, most - standstill.within(machine.of_any, due, came))
        if not standstill.within(storms, due, came):
            calm = max(calm, most - of_all)
    return Hold(
        whole=whole * 1e3,
        at_most=at_most * 1e3,
        at_least=at_least * 1e3,
        without=without * 1e3 if machine.is_known else None,
        calm=calm * 1e3 if machine.is_known else None,
        calm_share=1.0 - standstill.within(storms, *run) / (run.end - run.start),
        median_answer=median_answer * 1e3,
        waits=waits,
    )


class _Waits(NamedTuple):
    """What a thread has waited for since it began, as Linux counts it."""

    disk_bytes: int
    """That it fetched from a disk itself."""
    pages: int
    """That it touched and that had to be fetched (major faults)."""

    def since(self, before: _Waits) -> _Waits:
        """What has come since then."""
        return _Waits(self.disk_bytes - before.disk_bytes, self.pages - before.pages)


def _waits(pid: int) -> _Waits:
    """Of the first thread of a process, which runs its event loop."""
    task = Path(f"/proc/{pid}/task/{pid}")
    counts = dict(line.split(": ") for line in (task / "io").read_text().splitlines())
    state = (task / "stat").read_text().rpartition(")")[2].split()
    return _Waits(int(counts["read_bytes"]), int(state[9]))


def _drain(port: int, target: str, sizes: list[int], each_second: float) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("GET", target)
    answer = connection.getresponse()
    size, buffer = 0, bytearray(1 << 20 if each_second == inf else 1 << 16)
    start = time.monotonic()
    while got := answer.readinto(buffer):
        size += got
        time.sleep(max(0.0, start + size / each_second - time.monotonic()))
    if answer.status == 200:
        sizes.append(size)
    connection.close()


def cpu_seconds(pid: int) -> float:
    """What a process and its children have used so far."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


def _anonymous_bytes(pid: int) -> int:
    """RssAnon of /proc: what would have to be swapped; mapped files do not count."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0
