"""What stands beside these tests in a checkout: documents, Makefile, container, package.

The suite may be copied elsewhere and run against an installed package. What it says of the
checkout itself is then left out, by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
"""The folder above that of the tests."""


def require_checkout() -> None:
    """Skip the test, or the module that calls it at import, where the tests stand alone."""
    if not (ROOT / "soda_service" / "__init__.py").is_file():
        pytest.skip("it is about the checkout, which is not here", allow_module_level=True)
