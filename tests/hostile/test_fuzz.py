"""A few seconds of `fuzz.py` on every target, and whether it notices what goes wrong.

What longer runs have found is in `support.hostile` and in docs/robustness.md.
"""

from __future__ import annotations

import random
import signal

import pytest
from hostile import fuzz

from soda_service.fits.layout import scan_hdus

SECONDS = 1.5
"""For each target; an ordinary run is a look, not a search."""


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_random_damage_is_understood_or_refused(name: str) -> None:
    """Nothing else happens, and both happen."""
    outcome = fuzz.run(name, seed=1, count=4000, seconds=SECONDS)
    assert outcome.findings == []
    assert outcome.tried > 10
    assert 0 < outcome.understood < outcome.tried


def test_a_process_that_dies_is_noticed_and_the_rest_goes_on() -> None:
    """With the input that killed it."""
    outcome = fuzz.run("itself", seed=1, count=30, seconds=5)
    findings = outcome.findings
    assert findings is not None
    assert [one for one in findings if one.startswith("DIED with -11 of 1 bytes")]


@pytest.mark.parametrize(
    ("raw", "finding"), [(b"r", "ZeroDivisionError"), (b"m", "bytes"), (b"s", "")]
)
def test_what_goes_wrong_is_said(raw: bytes, finding: str) -> None:
    """An exception, memory, or nothing."""
    said, was_understood = fuzz.judged(fuzz.ITSELF, raw)
    assert finding in said
    assert bool(said) == bool(finding)
    assert was_understood == (raw == b"s")


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
