"""Where the files of the demo archive are, by their identifiers."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from soda_service.config import load_collections, resource_path

COLLECTIONS = load_collections(resource_path("config/collections.toml")).collections


def parent_file(folder: Path, identifier: str) -> Path:
    """The file of the demo archive below *folder* that has this publisher DID.

    Looked up by name, not by the service's own catalog, so that a test has its own opinion.
    """
    collection = identifier.split("/", 3)[3].partition("?")[0]
    local = unquote(identifier.partition("?")[2])
    root = COLLECTIONS[collection].root
    assert root is not None
    path = folder / root / local
    if path.is_file():
        return path
    number = local.partition("-")[0]
    found = sorted((folder / root).rglob(f"*{number}*"))
    assert len(found) == 1, f"{identifier} should be one file, found {found}"
    return Path(found[0])
