"""What is mounted, as a test wants it to seem."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from soda_service.storage import networkfile

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def pretend_network(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str = "nfs4") -> None:
    """Let *folder*, and all of its file system, seem to be of this *kind*."""
    device = folder.stat().st_dev
    mounts = folder / "mountinfo"
    mounts.write_text(
        "21 29 0:19 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
        f"36 29 {os.major(device)}:{os.minor(device)} / /archive rw,noatime shared:1 master:2 -"
        f" {kind} server:/export rw,vers=4.2\n"
    )
    monkeypatch.setattr(networkfile, "_MOUNTS", mounts)
    monkeypatch.setattr(networkfile, "_mounted", networkfile._Mounted())
