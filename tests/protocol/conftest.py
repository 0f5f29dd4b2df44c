"""A running demo service, started as a user would start it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2
import pytest
from support.command import run_command, served
from support.demo import DemoService
from support.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo archive, written and ingested by the command line."""
    folder = tmp_path_factory.mktemp("demo")
    done = run_command("demo", "--dir", str(folder), "--no-serve", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def demo(demo_folder: Path) -> Iterator[DemoService]:
    """The demo archive behind a server on a free port; ended with the session."""
    with served("demo", "--dir", str(demo_folder), folder=demo_folder) as service:
        yield DemoService(
            base=service.base, folder=demo_folder, announced=service.announced, log=service.log
        )


@pytest.fixture(scope="session")
def wire(demo: DemoService) -> Iterator[Wire]:
    """The demo service, by a client that looks twice at every answer."""
    with httpx2.Client(timeout=60, trust_env=False) as client:
        yield Wire(base=demo.base, folder=demo.folder, client=client)
