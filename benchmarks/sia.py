"""Searches in catalogs of many datasets: what one costs the server, and whether size matters.

`python benchmarks/sia.py 10000 10000000 --folder DIR` measures other sizes than `make bench`,
and leaves the catalogs in DIR for the next time. Ten million datasets take 30 GB and an hour.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from http.client import HTTPConnection
from math import acos, degrees, pi, sqrt
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import http_load
import manydatasets
import numpy as np
from manydatasets import COLLECTIONS, FIRST_DAY, HALF, LAST_DAY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZES = (10_000, 1_000_000)
"""Datasets of the catalogs that `make bench` compares."""
FEW = 10
"""Rows of a short answer, about."""
MANY = 10_000
"""Rows of a long one."""
REQUESTS = 300
_BINARY2 = "application/x-votable+xml;serialization=BINARY2"


def rows(folder: Path, sizes: tuple[int, ...] = SIZES) -> Iterator[tuple[str, str, str]]:
    """What searches cost in catalogs of these *sizes*, the smallest first."""
    smallest: dict[str, float] = {}
    for count in sizes:
        place = folder / f"sia-{count}"
        if not (place / "catalog.sqlite").exists():
            print(f"inventing {count} datasets ...", flush=True)
            manydatasets.invent(place, count)
        with _served(place) as (port, pid):
            for name, target in _long_searches(count).items():
                cost, found = _cost(port, pid, [target] * 10)
                # Rows of BINARY2 are not counted.
                seen = f"{(found or MANY) / cost:,.0f} rows a second of the server's CPU"
                yield f"SIA, {count} datasets, 10,000 rows, {name}", seen, ">= 300,000"
            for name, targets in _short_searches(count).items():
                cost, found = _cost(port, pid, targets)
                ratio = cost / smallest.setdefault(name, cost)
                yield (
                    f"SIA, {count} datasets, {name}",
                    f"{cost * 1e3:.2f} ms for {found:.1f} rows = {ratio:.2f}",
                    "" if count == sizes[0] else "<= 2",
                )


def _long_searches(count: int) -> dict[str, str]:
    """Requests whose answers have `MANY` rows."""
    reach = degrees(acos(max(-1.0, 1 - 2 * MANY / count)))
    asked: dict[str, dict[str, str]] = {
        "whatever it be, TABLEDATA": {},
        "whatever it be, BINARY2": {"RESPONSEFORMAT": _BINARY2},
        "a circle, TABLEDATA": {"POS": f"CIRCLE 120 -30 {reach}"},
        "a circle, BINARY2": {"POS": f"CIRCLE 120 -30 {reach}", "RESPONSEFORMAT": _BINARY2},
    }
    if count > COLLECTIONS * MANY:
        asked["COLLECTION, TABLEDATA"] = {"COLLECTION": "survey-3"}
    return {name: f"/sia/query?{urlencode({'MAXREC': MANY, **one})}" for name, one in asked.items()}


def _short_searches(count: int) -> dict[str, list[str]]:
    """Requests of each sort, many of them, whose answers have about `FEW` rows."""
    chance = random.Random(3)
    day = (LAST_DAY - FIRST_DAY) * FEW / count

    def place(rows: float) -> str:
        """A circle that about so many fields meet, each of which is like a circle itself."""
        reach = degrees(acos(max(-1.0, 1 - 2 * rows / count)))
        radius = max(reach - HALF * 2 / sqrt(pi), 0.001)
        lat = degrees(np.arcsin(chance.uniform(-1, 1)))
        return f"CIRCLE {chance.uniform(0, 360):.6f} {lat:.6f} {radius:.6f}"

    def time(length: float) -> str:
        start = chance.uniform(FIRST_DAY, LAST_DAY - length)
        return f"{start:.7f} {start + length:.7f}"

    def collection() -> str:
        return f"survey-{chance.randrange(COLLECTIONS)}"

    sorts: dict[str, Callable[[], dict[str, str]]] = {
        "a circle": lambda: {"POS": place(FEW)},
        "a circle and BAND": lambda: {"POS": place(7 * FEW), "BAND": "6.5e-7"},
        "a circle and COLLECTION": lambda: {
            "POS": place(COLLECTIONS * FEW),
            "COLLECTION": collection(),
        },
        "a circle and TIME": lambda: {"POS": place(10 * FEW), "TIME": time(400.0)},
        "TIME": lambda: {"TIME": time(day)},
        "TIME, BAND and COLLECTION": lambda: {
            "TIME": time(7 * COLLECTIONS * day),
            "BAND": "6.5e-7",
            "COLLECTION": collection(),
        },
        "COLLECTION and MAXREC": lambda: {"COLLECTION": collection(), "MAXREC": str(FEW)},
        "all the sky, COLLECTION and MAXREC": lambda: {
            "POS": "CIRCLE 0 0 180",
            "COLLECTION": collection(),
            "MAXREC": str(FEW),
        },
        "MAXREC alone": lambda: {"MAXREC": str(FEW)},
        "a facility that is not there": lambda: {"FACILITY": f"nobody's {chance.random()}"},
        "ID": lambda: {"ID": manydatasets.identifier(chance.randrange(count))},
    }
    return {
        name: [f"/sia/query?{urlencode(make())}" for _ in range(REQUESTS)]
        for name, make in sorts.items()
    }


@contextmanager
def _served(folder: Path) -> Iterator[tuple[int, int]]:
    """Port and process of the service over the catalog in *folder*."""
    port = http_load.free_port()
    environment = {
        **os.environ,
        "SODA_CATALOG": f"sqlite:///{folder / 'catalog.sqlite'}",
        "SODA_CACHE_DIR": str(folder / "cache"),
    }
    command = [sys.executable, "-m", "soda_service", "serve", "--port", str(port)]
    nowhere = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdout=nowhere, stderr=nowhere) as process:
        try:
            http_load.wait_for(port, "/health")
            yield port, process.pid
        finally:
            process.terminate()
            process.wait(20)


def _cost(port: int, pid: int, targets: list[str]) -> tuple[float, float]:
    """CPU seconds of the server, and rows of TABLEDATA in the answer: means of *targets*."""
    connection = HTTPConnection("127.0.0.1", port, timeout=600)
    count = 0
    for measured in (False, True):  # the first time warms
        before = http_load.cpu_seconds(pid)
        for target in targets:
            connection.request("GET", target)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{target}: {answer.status} {body[:200]!r}")
            count += body.count(b"<TR>") if measured else 0
    used = http_load.cpu_seconds(pid) - before
    connection.close()
    return used / len(targets), count / len(targets)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--folder", type=Path, help="of catalogs that stay")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soda-bench-") as folder:
        for row in rows(arguments.folder or Path(folder), tuple(sorted(arguments.sizes))):
            print(*row, sep="  ", flush=True)


if __name__ == "__main__":
    main()
