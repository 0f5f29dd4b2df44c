"""Files that another machine answers for are read in threads, and only there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.mounts import pretend_network

from soda_service.storage import networkfile
from soda_service.storage.networkfile import NetworkFile, is_on_network
from soda_service.storage.runs import RunGrid
from soda_service.storage.source import open_source

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "lustre"])
def test_the_kernel_says_what_is_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """By the number of the device."""
    pretend_network(tmp_path, monkeypatch, kind)
    assert is_on_network(str(tmp_path))
    assert not is_on_network("/sys")
    assert not is_on_network(str(tmp_path / "nothing"))


@pytest.mark.parametrize("kind", ["ext4", "fuseblk", "overlay", "tmpfs"])
def test_disks_are_not_on_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Nor is anything where the kernel does not tell."""
    pretend_network(tmp_path, monkeypatch, kind)
    assert not is_on_network(str(tmp_path))
    monkeypatch.setattr(networkfile, "_MOUNTS", tmp_path / "nothing")
    monkeypatch.setattr(networkfile, "_mounted", networkfile._Mounted())
    assert not is_on_network(str(tmp_path))


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
