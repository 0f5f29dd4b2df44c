"""What is mounted, as a test wants it to seem."""

from __future__ import annotations

from typing import TYPE_CHECKING

from soda_service.storage import disks

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def pretend_network(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str = "nfs4") -> None:
    """Let *folder* seem to be the place where something of this *kind* is mounted."""
    mounts = folder / "mountinfo"
    place = str(folder.resolve()).replace("\\", "\\134").replace(" ", "\\040")
    mounts.write_text(
        "20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "21 20 0:19 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
        f"36 20 0:40 / {place} rw,noatime shared:1 master:2 - {kind} server:/export rw,vers=4.2\n"
    )
    monkeypatch.setattr(disks, "_mounted", disks.Mounted(mounts))
