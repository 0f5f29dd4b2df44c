"""Files that another machine answers for are read in threads, and only there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from support.mounts import pretend_network

from soda_service.storage.networkfile import NetworkFile
from soda_service.storage.runs import RunGrid
from soda_service.storage.source import open_source

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_its_bytes_are_those_of_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But they never are at hand."""
    content = np.random.default_rng(3).bytes(500_000)
    path = tmp_path / "file"
    path.write_bytes(content)
    pretend_network(tmp_path, monkeypatch)
    with open_source(str(path)) as source:
        assert isinstance(source, NetworkFile)
        for grid in (RunGrid(7, 400_000), RunGrid(100, 50, (20, 30), (20_000, 600))):
            expected = b"".join(content[at : at + grid.length] for at in grid.starts().tolist())
            assert source.read_runs(grid) == expected
            assert not source.copy_resident(grid, memoryview(bytearray(grid.size)))
