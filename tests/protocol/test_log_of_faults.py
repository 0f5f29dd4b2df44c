"""What the log of a running service says of files that break: one line, and no traceback."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

import httpx2
import numpy as np
import pytest
from astropy.io import fits
from support.command import run_command, served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.command import Served

SIDE = 2400
"""23 MB: more than sockets hold."""
DID = "ivo://demo.invalid/disk?image.fits"
SYNC = ("soda/sync", {"ID": DID, "PIXELS": "[*,*]"})
FILE: tuple[str, dict[str, str]] = ("files/disk/image.fits", {})


@pytest.fixture(name="image")
def _image(tmp_path: Path) -> Path:
    path = tmp_path / "disk" / "image.fits"
    path.parent.mkdir()
    fits.PrimaryHDU(np.ones((SIDE, SIDE), dtype=np.float32)).writeto(path)
    return path


@pytest.fixture(name="service")
def _service(image: Path, tmp_path: Path) -> Iterator[Served]:
    ended = run_command("ingest", str(image.parent), folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    with served("serve", folder=tmp_path, environment={"SODA_LOG_REQUESTS": "false"}) as service:
        yield service


def _lines(service: Served, name: str) -> list[str]:
    """Lines of the log that belong to the request *name*, once there are any, and all others."""
    end = time.monotonic() + 60
    while not any(f"[{name}]" in line for line in service.log) and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.2)  # for what must not come
    return [line for line in service.log if " INFO " not in line]


@pytest.mark.parametrize("asked", [SYNC, FILE])
def test_an_answer_that_breaks_off(
    service: Served, image: Path, asked: tuple[str, dict[str, str]]
) -> None:
    path, parameters = asked
    with (
        httpx2.Client(timeout=60, trust_env=False) as client,
        client.stream(
            "GET", service.base + path, params=parameters, headers={"X-Request-ID": "late"}
        ) as answer,
    ):
        pieces = answer.iter_bytes()
        next(pieces)
        os.truncate(image, 10_000_000)
        with pytest.raises(httpx2.RemoteProtocolError):
            list(pieces)
    (line,) = _lines(service, "late")
    assert re.search(r" (ERROR|WARNING) \S+ \[late\] an answer broke off: ", line)
    assert f"{DID} ({image}): " in line


@pytest.mark.parametrize("asked", [SYNC, FILE])
def test_every_request_for_a_broken_file(
    service: Served, image: Path, asked: tuple[str, dict[str, str]]
) -> None:
    """The first, which reads its headers anew, and those after it."""
    path, parameters = asked
    os.truncate(image, 10_000_000)
    for name in ("first", "second"):
        answer = httpx2.get(
            service.base + path,
            params=parameters,
            headers={"X-Request-ID": name},
            timeout=60,
            trust_env=False,
        )
        assert answer.status_code == 500
        *_, line = lines = _lines(service, name)
        assert re.search(rf" ERROR \S+ \[{name}\] {re.escape(DID)} \({image}\): ", line)
        assert len([one for one in lines if f"[{name}]" in one]) == 1
    assert len(lines) == 2, lines
