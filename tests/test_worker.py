"""A worker's first moments: what it has loaded, and what no request has to load."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx2
import pytest
from astropy.io import fits
from support.command import run_command
from support.images import write_family

from soda_service.loading import LATE, SOLID_MODULES

if TYPE_CHECKING:
    from collections.abc import Iterator

_FAMILIES: Final = ("tan", "tan_sip", "compressed_rice_1_f4_none", "gzipped")


@pytest.fixture(name="archive", scope="module")
def _archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a catalog of one file of each family."""
    folder = tmp_path_factory.mktemp("archive")
    (folder / "data").mkdir()
    for name in _FAMILIES:
        write_family(name, folder / "data")
    assert run_command("ingest", "data", folder=folder).returncode == 0
    return folder


@contextmanager
def _worker(folder: Path) -> Iterator[httpx2.Client]:
    """A client of `support.latemodules`, which serves the catalog in *folder*."""
    # Nobody else gets the port: it is listened on before the worker is there.
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    command = [sys.executable, "-m", "support.latemodules", str(listener.fileno())]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with (
        (folder / "log").open("w") as log,
        listener,
        subprocess.Popen(
            command, cwd=folder, env=environment, stderr=log, pass_fds=[listener.fileno()]
        ) as process,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        try:
            assert client.get("/health").is_success  # which waits until it is there
            yield client
        finally:
            process.terminate()
            process.wait(30)


def _cutouts(data: Path) -> Iterator[dict[str, str]]:
    """Parameters of a cutout of each file, a few pixels about where its coordinates begin."""
    for path in sorted(data.iterdir()):
        with fits.open(path) as hdus:
            header = next(one.header for one in hdus if "CRVAL1" in one.header)
        circle = f"{header['CRVAL1']} {header['CRVAL2']} 0.002"
        yield {"ID": f"ivo://demo.invalid/data?{path.name}", "CIRCLE": circle}


def test_requests_load_nothing(archive: Path) -> None:
    """The first ones of each kind find all modules there; what is loaded late is loaded once."""
    with _worker(archive) as client:
        memory = client.get("/begin").json()
        for parameters in _cutouts(archive / "data"):
            answer = client.get("/soda/sync", params=parameters)
            assert answer.is_success, answer.text
            assert answer.content
        for path in ("/", "/soda/examples", "/sia/query?MAXREC=3", "/sia/query?POS=CIRCLE 1 1 1"):
            assert client.get(path).is_success
        assert client.get("/loaded").json() == []
    # What was loaded is out of the collector's reach, which works again for all that comes.
    assert memory["collects"]
    assert memory["frozen"] > 50_000


def test_help_loads_none_of_it() -> None:
    """The modules are named, and only a worker loads them."""
    late = {*SOLID_MODULES, *(one.partition(":")[0] for one in LATE)}
    code = (
        "import json, sys\n"
        "import soda_service.cli, soda_service.loading\n"
        "print(json.dumps(list(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert not late & set(json.loads(ended.stdout))
