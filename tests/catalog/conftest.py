"""Fixtures of the catalog's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.archive import Archive
from support.catalogs import cube, hostile, make_settings, make_store, unplaced, visit

from soda_service.config import Settings, load_collections, resource_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from soda_service.catalog.store import CatalogStore


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """An empty one, with what the shipped configuration says of all collections."""
    folder = tmp_path / "archive"
    folder.mkdir()
    shipped = load_collections(resource_path("config/collections.toml"))
    made = Archive(
        folder=folder,
        settings=Settings(
            authority="archive.example",
            catalog=f"sqlite:///{tmp_path}/catalog.sqlite",
            data_dir=tmp_path,
            cache_dir=tmp_path / "cache",
        ),
        collections=shipped.model_copy(update={"collections": {}}),
    )
    yield made
    for store in made.stores:
        store.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CatalogStore]:
    """A catalog with a few odd datasets."""
    made = make_store(make_settings(tmp_path), visit(), cube(), unplaced(), hostile())
    yield made
    made.close()
