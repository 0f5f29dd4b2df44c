"""Outside programs that some tests speak to: skipped by name, or required."""

from __future__ import annotations

import os
import shutil

import pytest


def require_program(name: str) -> str:
    """The path of the program *name*; without it the test is skipped, saying so.

    With SODA_REQUIRE_ALL=1 in the environment, as in continuous integration, it fails.
    """
    path = shutil.which(name)
    if path is not None:
        return path
    if os.environ.get("SODA_REQUIRE_ALL") == "1":
        pytest.fail(f"{name} is not installed, and SODA_REQUIRE_ALL=1 requires it")
    pytest.skip(f"{name} is not installed")
