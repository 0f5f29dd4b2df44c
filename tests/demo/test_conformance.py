"""Every file of the archive in the eyes of fitsverify."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from support.programs import require_program

if TYPE_CHECKING:
    from soda_service.demo.archive import WrittenArchive


def test_fitsverify_finds_no_fault(archive: WrittenArchive) -> None:
    """Neither errors nor warnings, checksums included."""
    program = require_program("fitsverify")
    names = [name for name in archive.files if not name.endswith(".csv")]
    assert len(names) == 38
    done = subprocess.run(
        [program, "-q", *names], cwd=archive.folder, capture_output=True, text=True, check=False
    )
    said = [line.strip() for line in done.stdout.splitlines()]
    assert said == [f"verification OK: {name}" for name in names]
