"""The wheel holds all that the service needs, and runs far from this checkout.

It is installed into an environment of its own, and tests of this suite run there against it,
from another folder: what they import, and what the programs that they start import, is the
installed package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from support.checkout import ROOT, require_checkout

require_checkout()

SUBSET = (
    "test_config.py",
    "test_cli.py::TestCheck",
    "test_cli.py::TestIngest::test_a_folder_without_fits_files",
    "votable/test_document.py",
    "protocol/test_search_and_cut.py",
    "protocol/test_whole_chain.py",
)
"""Settings, commands, templates, and a cutout over the wire by the server that was installed."""


@pytest.fixture(scope="module", name="wheel")
def _wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a network: the build backend is one of the test requirements."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module", name="installed")
def _installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment where the wheel is installed, and this checkout is not.

    What the package needs is taken from the environment of this process: a line in a .pth
    file adds its folder, but not what the .pth files there add, this checkout say.
    """
    folder = tmp_path_factory.mktemp("environment")
    _run("-m", "venv", "--without-pip", "--symlinks", str(folder), folder=folder)
    python = folder / "bin" / "python"
    paths = {name: sysconfig.get_path(name) for name in ("purelib", "platlib")}
    site = Path(
        _run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))",
             folder=folder, python=python).strip()
    )  # fmt: skip
    (site / "requirements.pth").write_text("\n".join(dict.fromkeys(paths.values())))
    _run("-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index",
         "--force-reinstall", "--ignore-installed", str(wheel), folder=folder)  # fmt: skip
    return python


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


def test_it_is_the_wheel_that_is_imported(installed: Path, tmp_path: Path) -> None:
    where = _run("-c", "import soda_service; print(soda_service.__file__)",
                 folder=tmp_path, python=installed)  # fmt: skip
    assert where.startswith(str(installed.parent.parent))
    command = installed.parent / "soda-service"
    said = subprocess.run(
        [command, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith("soda-service ")


def test_the_suite_runs_against_it_from_another_folder(installed: Path, tmp_path: Path) -> None:
    said = _run(
        "-m", "pytest", *(str(ROOT / "tests" / name) for name in SUBSET),
        "-x", "-p", "no:cacheprovider", "-p", "no:randomly",
        folder=tmp_path, python=installed,
    )  # fmt: skip
    assert f"soda_service from {installed.parent.parent}" in said
    assert " passed" in said
    assert not (tmp_path / "soda_service").exists()


def test_a_copy_of_the_suite_needs_no_checkout(installed: Path, tmp_path: Path) -> None:
    """The tests and what pytest is told, copied elsewhere; what is about the checkout says so."""
    shutil.copytree(
        ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    said = _run(
        "-m", "pytest", "tests/test_docs.py", "tests/test_compose.py", "tests/test_wheel.py",
        "tests/test_config.py", "tests/fits/test_proof.py",
        "-p", "no:cacheprovider", "-p", "no:randomly",
        folder=tmp_path, python=installed,
    )  # fmt: skip
    assert f"soda_service from {installed.parent.parent}" in said
    assert "it is about the checkout, which is not here" in said
    assert " passed" in said
    assert " failed" not in said


def test_the_whole_suite_can_be_run_so(installed: Path, tmp_path: Path) -> None:
    """Every test is found, and what it imports is there."""
    said = _run(
        "-m", "pytest", str(ROOT / "tests"), "--collect-only", "-q", "-p", "no:cacheprovider",
        folder=tmp_path, python=installed,
    )  # fmt: skip
    assert " tests collected" in said


def _run(*words: str, folder: Path, python: Path | str = sys.executable) -> str:
    """What Python says, run in *folder* with no word of this checkout in its environment."""
    environment = {
        name: value for name, value in os.environ.items()
        if name not in {"PYTHONPATH", "VIRTUAL_ENV", "PYTEST_ADDOPTS"}
    }  # fmt: skip
    done = subprocess.run(
        [python, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout
