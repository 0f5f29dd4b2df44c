"""The wheel holds all that the service needs, and runs far from this checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module", name="wheel")
def _wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a network: the build backend is one of the test requirements."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_templates_and_configuration_are_inside(wheel: Path) -> None:
    """Every file of the two folders at the top, and of the package, is there once."""
    inside = set(zipfile.ZipFile(wheel).namelist())
    for top in ("config", "votable_templates"):
        for path in (ROOT / top).iterdir():
            assert f"soda_service/resources/{top}/{path.name}" in inside
    for path in (ROOT / "soda_service").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(ROOT).as_posix() in inside
    assert not any(name.startswith(("tests/", "benchmarks/", "docs/")) for name in inside)


def test_it_runs_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    """Unpacked elsewhere, with nothing of the checkout in sight."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    where = _run(site, tmp_path, "-c", "import soda_service; print(soda_service.__file__)")
    assert where.startswith(str(site))
    said = _run(site, tmp_path, "-m", "soda_service", "demo", "--dir", "archive", "--no-serve")
    assert "38 added" in said


def _run(site: Path, folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return done.stdout
