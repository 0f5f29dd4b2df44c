"""The workbench of the cutter's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from astropy import log
from support.cutouts import Workbench

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """Files of the zoo and real ones, indexed once; their cutters are shared by all tests."""
    made = Workbench(tmp_path_factory.mktemp("bench"))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_advice() -> Iterator[None]:
    """Keep astropy from explaining at length what SIP without its suffix means: it is meant."""
    level = log.level
    log.setLevel("ERROR")
    yield
    log.setLevel(level)
