"""Options and fixtures of the whole suite."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.golden import Golden

import soda_service
from soda_service.storage import disks

# A machine that stands still for a moment is no fault of what is tested.
settings.register_profile(
    "search",
    settings.get_profile("default"),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("suite", settings.get_profile("search"), derandomize=True)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes the golden files anew instead of comparing with them."""
    parser.addoption(
        "--update-golden", action="store_true", help="write tests/golden anew from what is seen"
    )


def pytest_report_header() -> str:
    """Which package is tested: this checkout, or one that is installed elsewhere."""
    return f"soda_service from {Path(soda_service.__file__).parent}"


@pytest.fixture
def patient_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who reads is taken to be lost while the machine stands still.

    Else, where two are in one file just then, a third one would be sent away.
    """
    monkeypatch.setattr(disks, "SILENT_SECONDS", 60.0)


@pytest.fixture
def golden(pytestconfig: pytest.Config) -> Golden:
    """The golden files, to compare documents with."""
    return Golden(
        Path(__file__).parent / "golden", is_updating=pytestconfig.getoption("--update-golden")
    )
