"""A folder of real files with a catalog beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from support.images import write_family

from soda_service.catalog.ingest import ingest
from soda_service.catalog.query import CatalogQuery
from soda_service.catalog.store import CatalogStore
from soda_service.config import CollectionConfig, CollectionsFile, Settings

if TYPE_CHECKING:
    from pathlib import Path

    from soda_service.catalog.dataset import ObsCore
    from soda_service.catalog.tally import IngestReport


@dataclass
class Archive:
    """A folder of files, its catalog, and the settings of both."""

    folder: Path
    settings: Settings
    collections: CollectionsFile
    stores: list[CatalogStore] = field(default_factory=list)

    def ingest(
        self, *paths: Path, collection: str | None = None, move: bool = False
    ) -> IngestReport:
        """Ingest *paths*, or the whole folder."""
        return ingest(
            paths or [self.folder],
            self.settings,
            self.collections,
            collection=collection,
            move=move,
            workers=1,
        )

    def add(self, family: str, below: str = "", name: str | None = None) -> Path:
        """Write a file of the zoo."""
        folder = self.folder / below
        folder.mkdir(parents=True, exist_ok=True)
        path = write_family(family, folder)
        return path.rename(path.with_name(name)) if name else path

    @property
    def store(self) -> CatalogStore:
        """The catalog, opened at the first use."""
        if not self.stores:
            self.stores.append(CatalogStore(self.settings))
        return self.stores[0]

    def rows(self) -> dict[str, ObsCore]:
        """Everything in the catalog, by the local part of the identifier."""
        found = self.store.find(CatalogQuery(), 10_000)
        return {row.obs_publisher_did.partition("?")[2]: row for row in found}

    def configure(self, name: str, **settings: object) -> None:
        """Let the collection *name* be configured so, and no other."""
        config = CollectionConfig.model_validate(settings)
        self.collections = CollectionsFile(
            **{**self.collections.model_dump(), "collections": {name: config}}
        )
