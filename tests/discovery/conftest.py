"""A catalog of hand-made datasets, and what asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.catalogs import allsky, cube, make_settings, make_store, unplaced, visit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from soda_service.catalog.store import CatalogStore
    from soda_service.config import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a catalog of their own."""
    return make_settings(tmp_path, links_limit=3, maxrec_default=5, maxrec_limit=6)


@pytest.fixture
def store(settings: Settings) -> Iterator[CatalogStore]:
    """A catalog of four odd datasets."""
    store = make_store(settings, visit(), cube(), allsky(), unplaced())
    yield store
    store.close()
