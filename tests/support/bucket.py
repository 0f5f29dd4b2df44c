"""An archive in a bucket of a real S3 server, ingested and served as any other."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support.s3server import put
from support.service import running

from soda_service.app import create_app
from soda_service.catalog.check import check_catalog
from soda_service.catalog.ingest import ingest
from soda_service.config import CollectionConfig, CollectionsFile, Settings, StoreConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from obstore.store import S3Store
    from support.s3server import AskedOfS3, S3Server
    from support.service import LiveService

    from soda_service.catalog.check import CheckReport
    from soda_service.catalog.tally import IngestReport

KEYS = {"access_key_id": "BUCKET_TEST_ID", "secret_access_key": "BUCKET_TEST_SECRET"}
"""Options of the store to the variables that have them."""


@dataclass
class Bucket:
    """A bucket, the catalog of what is in it, and the settings of both."""

    s3: S3Server
    store: S3Store
    name: str
    settings: Settings
    collections: CollectionsFile

    @property
    def url(self) -> str:
        """The root of the collection `sky`."""
        return f"s3://{self.name}/sky"

    def put(self, name: str, content: bytes) -> str:
        """Store *content* below the root; its entity tag."""
        return put(self.store, f"sky/{name}", content)

    def ingest(self, *urls: str, workers: int = 1, **options: object) -> IngestReport:
        """Ingest *urls*, or the whole collection."""
        options = {"workers": workers, **options}
        return ingest(urls or (self.url,), self.settings, self.collections, **options)  # type: ignore[arg-type]  # options are ingest's own

    def check(self) -> CheckReport:
        """What `soda-service check` finds."""
        return check_catalog(self.settings, self.collections)

    @contextmanager
    def served(self, **changes: object) -> Iterator[LiveService]:
        """The service over the catalog; counting begins when it answers."""
        settings = self.settings.model_copy(update={"log_requests": False, **changes})
        with running(create_app(settings)) as live:
            live.get("/health")
            self.s3.asked()
            yield live

    def asked(self) -> list[AskedOfS3]:
        """What the store was asked for since the last time."""
        return self.s3.asked()

    def did(self, name: str) -> str:
        """The identifier of the object *name*."""
        return f"ivo://archive.example/sky?{name}"


def make_bucket(s3: S3Server, name: str, folder: Path, **settings: object) -> Bucket:
    """An empty bucket whose catalog is in *folder*; the environment must have the `KEYS`."""
    store = StoreConfig(endpoint=s3.endpoint, region="us-east-1", secrets=KEYS)
    sky = CollectionConfig(root=f"s3://{name}/sky", store=store)
    return Bucket(
        s3=s3,
        store=s3.make_bucket(name),
        name=name,
        settings=Settings(
            authority="archive.example",
            catalog=f"sqlite:///{folder}/catalog.sqlite",
            data_dir=folder,
            cache_dir=folder / "cache",
            spool_dir=folder / "spool",
            **settings,  # type: ignore[arg-type]  # pydantic checks them
        ),
        collections=CollectionsFile(collections={"sky": sky}),
    )
