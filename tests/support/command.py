"""The service as its command line runs it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_PROGRAM = ("-m", "soda_service")
_READY = "soda-service ready at "


@dataclass(frozen=True, slots=True)
class Served:
    """A server that has said that it is ready."""

    base: str
    """With a slash at the end."""
    announced: str
    """What the command printed up to the ready line."""
    log: list[str]
    """Lines of standard error so far; grows."""
    process: subprocess.Popen[str]


def run_command(
    *arguments: str, folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What a command that ends said, and how it ended; it runs in *folder*."""
    return subprocess.run(
        [sys.executable, "-m", "soda_service", *arguments],
        cwd=folder, env={**os.environ, **(environment or {})},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@contextmanager
def served(
    *arguments: str,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    program: Sequence[str] = _PROGRAM,
) -> Iterator[Served]:
    """A command that serves, on a free port, started in *folder* and ended with the block.

    *program* is what Python is told to run it.
    """
    with subprocess.Popen(
        [sys.executable, *program, *arguments, "--port", "0"],
        cwd=folder,
        env={**os.environ, **(environment or {}), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        log: list[str] = []
        # Both pipes are drained all the time: a full one would stop the server.
        errors = process.stderr
        drain = threading.Thread(target=lambda: log.extend(errors), daemon=True)
        drain.start()
        rest = threading.Thread(target=process.stdout.read, daemon=True)
        try:
            out: list[str] = []
            for line in process.stdout:
                out.append(line)
                if line.startswith(_READY):
                    break
            else:
                process.wait(10)
                drain.join(10)
                raise RuntimeError("the service did not start:\n" + "".join(log[-40:]))
            rest.start()
            yield Served(out[-1].removeprefix(_READY).strip(), "".join(out), log, process)
        finally:
            process.terminate()
            process.wait(30)
            drain.join(10)
            if rest.ident is not None:
                rest.join(10)
