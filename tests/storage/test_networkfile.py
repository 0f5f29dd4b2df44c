"""Files that another machine answers for are read in threads, and only there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from support.mounts import pretend_network

from soda_service.storage.disks import Touch
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
            assert source.resident_runs(grid) is None


def test_a_slow_disk_is_seen_to_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each MiB, not only at the end of what was asked for."""
    content = np.random.default_rng(5).bytes(8 * 1024 * 1024)
    path = tmp_path / "file"
    path.write_bytes(content)
    pretend_network(tmp_path, monkeypatch)
    answers: list[Touch] = []
    goes_on = Touch.goes_on

    def counted(touch: Touch) -> None:
        answers.append(touch)
        goes_on(touch)

    monkeypatch.setattr(Touch, "goes_on", counted)
    with open_source(str(path)) as source:
        buffer = bytearray(len(content))
        for read in (
            lambda: source.read(0, len(content)),
            lambda: source.read_runs(RunGrid(0, len(content))),
            lambda: source.read_into(0, memoryview(buffer)) or buffer,
        ):
            answers.clear()
            assert read() == content
            assert len(answers) >= 8
