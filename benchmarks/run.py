"""`make bench`: what this machine allows, what the service reaches, and the ratio, in one run.

Machines are noisy, so every figure is a ratio to something measured beside it, and each
pair is measured several times in turn; the medians are printed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import archive
import http_load
import library
import peers
import sia

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Row = tuple[str, str, str]

FILES = 100
"""Enough that no file is asked for twice in a row."""
ROUNDS = 5
SECONDS = 4.0
SLOW_CLIENTS = 8
SLOW = 25e6
"""Bytes a second that each of them takes."""

_COUNTING = """
from time import perf_counter
end, count = perf_counter() + 1.0, 0
while perf_counter() < end:
    for _ in range(1000):
        count += 1
print(count)
"""


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement")
    parser.add_argument("--only", choices=list(_PARTS), help="one part alone")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soda-bench-"))
    try:
        rows = []
        for name, part in _PARTS.items():
            if arguments.only in {None, name}:
                place = folder / name
                place.mkdir()
                for row in part(place, arguments):
                    print(*row, sep="  ", flush=True)
                    rows.append(row)
    finally:
        shutil.rmtree(folder)
    width = max(len(row[0]) for row in rows)
    print()
    print(f"{'work':{width}}  {'seen':>28}  {'bar':>12}")
    for work, seen, bar in rows:
        print(f"{work:{width}}  {seen:>28}  {bar:>12}")


def _fields(folder: Path, arguments: argparse.Namespace) -> list[archive.Field]:
    print(f"writing {arguments.files} files of 2048x2048 float32 ...", flush=True)
    return archive.write_fields(folder / "fields", count=arguments.files)


def _library(folder: Path, arguments: argparse.Namespace) -> Iterator[Row]:
    return library.rows(folder, arguments.files)


def _rate(folder: Path, arguments: argparse.Namespace) -> Iterator[Row]:
    """Requests per second of random cutouts, against constant bytes of their size."""
    fields = _fields(folder, arguments)
    paths = [field.path for field in fields]
    with archive.in_memory(paths), http_load.served(folder, fields) as server:
        for pixels, which, some in (
            (50, "both", fields),
            (200, "TAN", fields[::2]),
            (200, "TAN-SIP", fields[1::2]),
            (200, "both", fields),
        ):
            yield from _against_constant(server, some, pixels, which, arguments)
        sizes = {
            pixels: server.warm(server.cutout_targets(fields[:1], pixels=pixels))
            for pixels in (50, 200)
        }
    for pixels, size in sizes.items():
        with peers.nginx(folder / f"nginx-{pixels}", size) as static:
            seen = "nginx is not installed"
            if static is not None:
                rate = http_load.measure(*static, ["/file.fits"], arguments.seconds)
                seen = f"{rate.per_second:.0f}/s"
        yield f"  nginx serving a file as large as {pixels}x{pixels}, told beside it", seen, ""


def _against_constant(
    server: http_load.Server,
    fields: list[archive.Field],
    pixels: int,
    which: str,
    arguments: argparse.Namespace,
) -> Iterator[Row]:
    targets = server.cutout_targets(fields, pixels=pixels)
    # Of every file, but other places than those that are measured.
    known = server.warm(server.cutout_targets(fields, pixels=pixels, seed=8))
    constant_target = f"/constant/{known}"
    pairs = [
        (server.rate([constant_target], arguments.seconds),
         server.rate(targets, arguments.seconds))
        for _ in range(arguments.rounds)
    ]  # fmt: skip
    constant = statistics.median(one.per_second for one, _ in pairs)
    cutouts = statistics.median(other.per_second for _, other in pairs)
    ratio = statistics.median(b.per_second / a.per_second for a, b in pairs)
    cost = statistics.median(b.cpu_us for _, b in pairs)
    cpu = statistics.median(a.cpu_us / b.cpu_us for a, b in pairs)
    yield (
        f"HTTP, {pixels}x{pixels} of {len(fields)} files ({which}), against constant bytes",
        f"{cutouts:.0f}/s of {constant:.0f}/s = {ratio:.2f}",
        ">= 0.55",
    )
    yield "  the same by server CPU", f"{cost:.0f} us a request, {cpu:.2f}", ""


def _workers(folder: Path, arguments: argparse.Namespace) -> Iterator[Row]:
    """Two workers against one, whose clients take a share of the same processors.

    What two processes reach that share nothing at all is told beside it: processors may be two
    halves of one core, or slower while both are busy.
    """
    fields = _fields(folder, arguments)
    rates: dict[int, list[float]] = {1: [], 2: []}
    loops: dict[int, list[int]] = {1: [], 2: []}
    with (
        http_load.served(folder, fields, workers=1) as one,
        http_load.served(folder, fields, workers=2) as two,
    ):
        targets = one.cutout_targets(fields, pixels=200)
        for server in (one, two, two):  # either of the two workers meets every file
            server.warm(targets)
        for _ in range(arguments.rounds):
            for count, server in ((1, one), (2, two)):
                rate = server.rate(
                    targets, arguments.seconds, connections=http_load.MANY_CONNECTIONS
                )
                rates[count].append(rate.per_second)
                loops[count].append(_loops(count))
    ratio = statistics.median(b / a for a, b in zip(rates[1], rates[2], strict=True))
    yield (
        f"HTTP, 200x200, two workers against one; {os.cpu_count()} processors with the client",
        f"{statistics.median(rates[2]):.0f}/s of {statistics.median(rates[1]):.0f}/s = {ratio:.2f}",
        ">= 1.6",
    )
    alone = statistics.median(b / a for a, b in zip(loops[1], loops[2], strict=True))
    yield "  two processes that only count, against one, told beside it", f"{alone:.2f}", ""


def _loops(processes: int) -> int:
    """How far so many processes, which do nothing else, count in a second."""
    command = [sys.executable, "-c", _COUNTING]
    counting = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    return sum(int(one.communicate()[0]) for one in counting)


def _stream(folder: Path, arguments: argparse.Namespace) -> Iterator[Row]:
    """A cutout of a gigabyte against nginx with a file of that size, and what it takes."""
    field = archive.write_large(folder / "large")
    with archive.in_memory([field.path]), http_load.served(folder, [field]) as server:
        size = server.stream(field, clients=1).bytes_each
        with peers.nginx(folder / "nginx", size) as static:
            ours, theirs = [], []
            with archive.in_memory((folder / "nginx").glob("static/*")):
                for _ in range(2 * arguments.rounds):
                    ours.append(server.stream(field, clients=1))
                    if static is not None:
                        theirs.append(http_load.stream(*static, "/file.fits", clients=1))
        eight = server.stream(field, clients=SLOW_CLIENTS, each_second=SLOW)
    speed = statistics.median(one.gigabytes_per_second for one in ours)
    seen = f"{speed:.2f} GB/s; nginx is not installed"
    if theirs:
        pairs = zip(ours, theirs, strict=True)
        ratio = statistics.median(a.gigabytes_per_second / b.gigabytes_per_second for a, b in pairs)
        other = statistics.median(one.gigabytes_per_second for one in theirs)
        seen = f"{speed:.2f} of {other:.2f} GB/s = {ratio:.2f}"
    yield f"one cutout of {size / 1e9:.2f} GB, against nginx with a file as large", seen, ">= 1.0"
    peak = max(one.megabytes for one in ours)
    yield "  anonymous memory of the worker", f"{peak:.0f} MB", "< 150 MB"
    slow = f"{SLOW_CLIENTS} clients that take {SLOW / 1e6:.0f} MB/s each"
    yield f"  the same with {slow}", f"{eight.megabytes:.0f} MB", "< 200 MB"


def _cold(folder: Path, arguments: argparse.Namespace) -> Iterator[Row]:
    """How long the event loop was held where no page of any file was in memory."""
    fields = _fields(folder, arguments)
    for pixels in (200, 1000):
        # Pages that a process has touched stay: each file is asked once, by a new server.
        with http_load.served(folder, fields) as server:
            if pixels == 200:
                yield _held("first second of a worker", server.hold_while_loading(), "< 5 ms")
            targets = server.cutout_targets(fields, pixels=pixels)
            first_of = {parse_qs(urlsplit(one).query)["ID"][0]: one for one in targets}
            http_load.wait_for(server.port, "/")
            os.sync()  # what has not been written cannot be dropped
            for field in fields:
                _drop(field.path)
            for pages, bar in (("cold", "< 5 ms"), ("warm", "")):
                seen = server.longest_hold(list(first_of.values()))
                yield _held(f"{pixels}x{pixels} of {len(fields)} files, {pages}", seen, bar)


def _held(where: str, seen: http_load.Hold, bar: str) -> Row:
    """The bar is for what is ours at most; what a clock sees is the machine's in part."""
    without = "?" if seen.without is None else f"{seen.without:.1f}"
    calm = "?" if seen.calm is None else f"{seen.calm:.1f}"
    spread = (
        f"{without} where no core stood still, {calm} in the {seen.calm_share:.0%} of the time "
        f"that was calm, {seen.at_least:.1f} at least, {seen.whole:.1f} by the clock; the loop "
        f"itself fetched {seen.waits.disk_bytes} bytes and waited for {seen.waits.pages} pages"
    )
    found = f"{seen.at_most:.1f} ms ({spread}); answers {seen.median_answer:.1f} ms"
    return f"event loop held at most, {where}", found, bar


def _drop(path: Path) -> None:
    """Have the kernel forget the pages of a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _start(folder: Path, _arguments: argparse.Namespace) -> Iterator[Row]:
    """Seconds from the start of the process to the first answer."""
    seconds = statistics.median(http_load.start_seconds(folder) for _ in range(5))
    yield "first answer after the start", f"{seconds:.2f} s", "< 1.5 s"


def _sia(folder: Path, _arguments: argparse.Namespace) -> Iterator[Row]:
    return sia.rows(folder)


_PARTS: dict[str, Callable[[Path, argparse.Namespace], Iterator[Row]]] = {
    "library": _library,
    "rate": _rate,
    "workers": _workers,
    "stream": _stream,
    "cold": _cold,
    "sia": _sia,
    "start": _start,
}

if __name__ == "__main__":
    main()
