"""What the settings and the collections say of stores, in the stores' own words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from soda_service.config import StoreConfig
from soda_service.storage.blockcache import BLOCK_BYTES, BlockCache
from soda_service.storage.blockfolder import BlockFolder
from soda_service.storage.remoteplace import PIECE_BYTES, RemoteLimits, RemoteRoot

if TYPE_CHECKING:
    from soda_service.config import Settings

_FOLDER: Final = "blocks"
"""Below `cache_dir`."""
_FLYING_SHARE: Final = 4
"""The part of the bytes on their way that may be on that between the store and this process."""


def remote_root(url: str, config: StoreConfig | None) -> RemoteRoot:
    """The root at *url*, to be reached as *config* says."""
    config = config or StoreConfig()
    return RemoteRoot(
        url=url,
        anonymous=config.anonymous,
        endpoint=config.endpoint,
        region=config.region,
        virtual_hosted=config.virtual_hosted,
        options=config.options,
        secrets=config.secrets,
    )


def remote_limits(settings: Settings) -> RemoteLimits:
    """How stores are read."""
    whole = settings.remote_flight_bytes
    flight = whole // _FLYING_SHARE
    return RemoteLimits(
        gap_bytes=settings.remote_gap_bytes,
        piece_bytes=min(PIECE_BYTES, flight // BLOCK_BYTES * BLOCK_BYTES),
        flight_bytes=flight,
        held_bytes=whole - flight,
        parallel=settings.remote_parallel,
        connections=settings.remote_connections,
        timeout_seconds=settings.remote_timeout_seconds,
        retries=settings.remote_retries,
        retry_seconds=settings.remote_retry_seconds,
        rest_seconds=settings.remote_rest_seconds,
        fresh_seconds=settings.remote_fresh_seconds,
    )


def block_cache(settings: Settings) -> BlockCache:
    """Where what has been read of stores is kept.

    Raises ConfigurationError where the folder cannot be used.
    """
    folder = None
    if settings.remote_disk_bytes:
        folder = BlockFolder(settings.cache_dir / _FOLDER, settings.remote_disk_bytes)
    return BlockCache(settings.remote_memory_bytes, folder)
