"""`make bench`: what this machine allows, what the service reaches, and the ratio, in one run.

Machines are noisy, so every figure is a ratio to something measured beside it, and each
pair is measured several times in turn; the medians are printed.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import archive
import http_load
import library
import peers

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = 100
"""Enough that no file is asked for twice in a row."""
ROUNDS = 5
SECONDS = 4.0


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement")
    parser.add_argument(
        "--only", choices=["library", "rate", "memory", "start"], help="one part alone"
    )
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soda-bench-"))
    try:
        rows = []
        for row in _rows(folder, arguments):
            print(*row, sep="  ", flush=True)
            rows.append(row)
    finally:
        shutil.rmtree(folder)
    width = max(len(row[0]) for row in rows)
    print()
    print(f"{'work':{width}}  {'seen':>28}  {'bar':>12}")
    for work, seen, bar in rows:
        print(f"{work:{width}}  {seen:>28}  {bar:>12}")


def _rows(folder: Path, arguments: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    if arguments.only in {None, "library"}:
        yield from library.rows(folder, arguments.files)
    if arguments.only in {None, "rate"}:
        yield from _rate(folder, arguments)
    if arguments.only in {None, "memory"}:
        yield from _memory(folder)
    if arguments.only in {None, "start"}:
        yield from _start(folder)


def _rate(folder: Path, arguments: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    """Requests per second of random 200x200 cutouts, against constant bytes of that size."""
    print(f"writing {arguments.files} files of 2048x2048 float32 ...", flush=True)
    fields = archive.write_fields(folder / "fields", count=arguments.files)
    with http_load.served(folder, fields) as server:
        for name, some in (("TAN", fields[::2]), ("TAN-SIP", fields[1::2]), ("both", fields)):
            yield from _against_constant(server, some, name, arguments)
        size = server.warm(server.cutout_targets(fields[:1], pixels=200))
    static = peers.nginx_rate(folder, size, arguments.seconds)
    yield (
        "  nginx serving such a file, told beside it",
        "nginx is not installed" if static is None else f"{static.per_second:.0f}/s",
        "",
    )


def _against_constant(
    server: http_load.Server, fields: list[archive.Field], name: str, arguments: argparse.Namespace
) -> Iterator[tuple[str, str, str]]:
    targets = server.cutout_targets(fields, pixels=200)
    constant_target = f"/constant/{server.warm(targets)}"
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
        f"HTTP, 200x200 of {len(fields)} files ({name}), against constant bytes",
        f"{cutouts:.0f}/s of {constant:.0f}/s = {ratio:.2f}",
        ">= 0.40",
    )
    yield "  the same by server CPU", f"{cost:.0f} us a request, {cpu:.2f}", ""


def _memory(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Anonymous memory of a worker while eight clients each stream a 1 GB cutout."""
    field = archive.write_large(folder / "large")
    with http_load.served(folder, [field]) as server:
        peak = server.peak_memory(field, clients=8)
    yield (
        f"anonymous memory, 8 clients x {peak.bytes_each / 1e9:.2f} GB",
        f"{peak.megabytes:.0f} MB ({peak.gigabytes_per_second:.2f} GB/s)",
        "< 250 MB",
    )


def _start(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Seconds from the start of the process to the first answer."""
    seconds = statistics.median(http_load.start_seconds(folder) for _ in range(5))
    yield "first answer after the start", f"{seconds:.2f} s", "< 2 s"


if __name__ == "__main__":
    main()
