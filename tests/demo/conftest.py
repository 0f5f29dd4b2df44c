"""The demo archive, written once for all tests of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from soda_service.demo.archive import WrittenArchive, write_archive

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> WrittenArchive:
    """A complete archive in a folder of its own; not to be changed."""
    return write_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="session")
def archive_folder(archive: WrittenArchive) -> Path:
    """Where that archive lies."""
    return archive.folder
