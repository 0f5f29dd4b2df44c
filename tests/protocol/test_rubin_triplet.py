"""The script of the tutorial's last chapter, run as a reader would run it."""

from __future__ import annotations

import math
import re
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.checkout import ROOT, require_checkout

from soda_service.demo.sky import TRANSIENT
from soda_service.demo.survey import VISITS

if TYPE_CHECKING:
    from support.demo import DemoService

require_checkout()

SCRIPT = ROOT / "docs" / "rubin_triplet.py"

ROW = re.compile(
    r"^(?P<name>visit, resampled|visit|template|difference) +(?P<width>\d+)x(?P<height>\d+)"
    r" +(?P<x>[\d.]+) +(?P<y>[\d.]+) +(?P<flux>-?\d+) +(?P<error>\d+)$",
    re.MULTILINE,
)


@pytest.mark.parametrize(
    ("band", "mjd"), [("r", 60_623.0), ("g", 60_631.0), ("r", 60_600.0)], ids=str
)
def test_it_finds_the_transient_as_bright_as_it_is(
    demo: DemoService, band: str, mjd: float
) -> None:
    """In the difference, and in the resampled visit less the template; nothing before the start."""
    said = run(demo, "--band", band, "--mjd", str(mjd))
    visit = min(
        (visit for visit in VISITS if visit.band == band), key=lambda visit: abs(visit.mjd - mjd)
    )
    assert f"Visit {visit.number} in {band}" in said
    rows = {row["name"]: row for row in ROW.finditer(said)}
    assert set(rows) == {"visit", "visit, resampled", "template", "difference"}
    for row in rows.values():
        # 0.01 degrees are 30 pixels: the place is in the middle of some 60.
        assert int(row["width"]) in range(60, 63)
        assert int(row["height"]) in range(60, 63)
        assert abs(float(row["x"]) - int(row["width"]) / 2) < 1.5
        assert abs(float(row["y"]) - int(row["height"]) / 2) < 1.5
    assert rows["visit"]["x"] == rows["difference"]["x"]
    assert rows["visit, resampled"]["x"] == rows["template"]["x"]
    expected = TRANSIENT.flux(band, visit.middle) * share_within(5.0, visit.seeing / 1.2)
    difference = rows["difference"]
    error = float(difference["error"])
    assert error < 9000
    assert float(difference["flux"]) == pytest.approx(expected, abs=4 * error)
    by_hand = float(rows["visit, resampled"]["flux"]) - float(rows["template"]["flux"])
    assert by_hand == pytest.approx(expected, abs=5 * error)


def test_it_says_when_nothing_is_there(demo: DemoService) -> None:
    """A place that no visit has seen is a sentence, not a traceback."""
    with pytest.raises(subprocess.CalledProcessError) as failure:
        run(demo, "--ra", "10", "--dec", "10")
    assert failure.value.stderr.splitlines()[-1] == "no visit in r has seen this place"


def test_it_says_when_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    command = [sys.executable, str(SCRIPT), "--url", url]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert ended.stderr == f"no image service answers at {url}; `make demo` starts one\n"


def run(demo: DemoService, *arguments: str) -> str:
    """What the script prints."""
    command = [sys.executable, str(SCRIPT), "--url", demo.base, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return done.stdout


def share_within(radius: float, fwhm: float) -> float:
    """The share of a star's light within *radius*: a core in a halo 2.2 times wider."""
    sigma = fwhm / 2.3548
    core = math.exp(-0.5 * (radius / sigma) ** 2)
    halo = math.exp(-0.5 * (radius / (2.2 * sigma)) ** 2)
    return 1 - 0.88 * core - 0.12 * halo
