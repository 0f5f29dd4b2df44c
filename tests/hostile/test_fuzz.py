"""A few inputs of `fuzz.py` for every target, and whether it notices what goes wrong.

What longer runs have found is in `support.hostile` and in docs/robustness.md.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hostile import fuzz

from soda_service.fits.layout import scan_hdus

COUNTS = {
    "layout": 500, "cutter": 1000, "wcs": 200, "file": 100, "tiles": 100, "inflate": 1000,
    "text": 1000, "query": 1000,
}  # fmt: skip
"""Inputs of each target: what takes about a second. An ordinary run is a look, not a search."""
SECONDS = 300.0
"""More than any machine needs for them."""


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_random_damage_is_understood_or_refused(name: str) -> None:
    """Nothing else happens, and both happen."""
    outcome = fuzz.run(name, seed=1, count=COUNTS[name], seconds=SECONDS)
    assert outcome.findings == []
    assert outcome.tried == COUNTS[name]
    assert 0 < outcome.understood < outcome.tried


def test_a_process_that_dies_is_noticed_and_the_rest_goes_on() -> None:
    """With the input that killed it; those after it kill another one."""
    outcome = fuzz.run("itself", seed=1, count=500, seconds=SECONDS)
    findings = outcome.findings
    assert findings is not None
    assert len([one for one in findings if one.startswith("DIED with -11 of 1 bytes")]) == 2


@pytest.mark.parametrize(("raw", "finding"), [(b"r", "ZeroDivisionError"), (b"s", "")])
def test_what_goes_wrong_is_said(raw: bytes, finding: str) -> None:
    """An exception, or nothing."""
    said, was_understood = fuzz.judged(fuzz.ITSELF, raw)
    assert finding in said
    assert bool(said) == bool(finding)
    assert was_understood == (raw == b"s")


@pytest.mark.parametrize(("raw", "finding"), [(b"m", "took"), (b"s", "")])
def test_memory_that_an_input_takes_is_said(raw: bytes, finding: str) -> None:
    """In a process of its own, which takes no more than this needs."""
    program = (
        "import sys; from hostile import fuzz; fuzz.MEMORY = 50_000_000;"
        f"sys.stdout.write(fuzz.judged(fuzz.ITSELF, {raw!r})[0])"
    )
    tests = str(Path(fuzz.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": tests},
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    assert done.stdout.partition(" ")[0] == finding
    if finding:
        assert int(done.stdout.split()[1]) > 50_000_000


def test_an_input_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the time that it has."""
    monkeypatch.setattr(fuzz, "INPUT_SECONDS", 1)
    before = signal.signal(signal.SIGALRM, fuzz._too_long)
    try:
        said, _ = fuzz.judged(fuzz.ITSELF, b"l")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert "took over 1 s" in said


def test_the_same_number_gives_the_same_input() -> None:
    """So that what was found can be found again."""
    seeds = fuzz.TARGETS["layout"].seeds()
    made = [fuzz.change_file(random.Random(7), seeds[0]) for _ in range(2)]
    assert made[0] == made[1] != seeds[0]
    hdus = list(scan_hdus(lambda start, length: seeds[0][start : start + length], len(seeds[0])))
    assert hdus
