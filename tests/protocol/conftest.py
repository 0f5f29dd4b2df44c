"""A running demo service, started as a user would start it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from support.demo import DemoService

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo archive, written and ingested by the command line."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "soda_service", "demo", "--dir", str(folder), "--no-serve"]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def demo(demo_folder: Path) -> Iterator[DemoService]:
    """The demo archive behind a server on a free port; ended with the session."""
    command = [sys.executable, "-m", "soda_service", "demo", "--dir", str(demo_folder)]
    with subprocess.Popen(
        [*command, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        log: list[str] = []
        # The log is drained all the time: a full pipe would stop the server.
        errors = process.stderr
        drain = threading.Thread(target=lambda: log.extend(errors), daemon=True)
        drain.start()
        out = []
        for line in process.stdout:
            out.append(line)
            if line.startswith("soda-service ready at "):
                break
        else:
            process.wait(10)
            drain.join(10)
            raise RuntimeError("the service did not start:\n" + "".join(log[-40:]))
        base = out[-1].removeprefix("soda-service ready at ").strip()
        rest = threading.Thread(target=process.stdout.read, daemon=True)
        rest.start()
        try:
            yield DemoService(base=base, folder=demo_folder, announced="".join(out), log=log)
        finally:
            process.terminate()
            process.wait(30)
            rest.join(10)
            drain.join(10)
