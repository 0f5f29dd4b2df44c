"""Every command and every snippet of the README and the tutorial does what it says.

They name port 8080 and this checkout's folders; here they run against a server on a free port.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from astropy.io import fits
from support.checkout import ROOT, require_checkout
from support.programs import require_program

if TYPE_CHECKING:
    from support.demo import DemoService

require_checkout()

SCRIPTS = Path(sys.executable).parent


def _blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def _commands(document: str) -> list[str]:
    """The commands of all shell blocks, one a line, comments left out."""
    joined = "".join(_blocks(document, "sh")).replace("\\\n", " ")
    return [line for raw in joined.splitlines() if (line := re.sub(r"\s+#.*$", "", raw).strip())]


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}", "HOME": str(folder)}


def test_the_readme_has_no_other_commands() -> None:
    """A command that is added gets a test here."""
    programs = [
        re.sub(r"^(SODA_\w+=\S+ )?\.venv/bin/", "", line).split()[:2]
        for line in _commands("README.md")
    ]
    assert programs == [
        ["make", "demo"],
        ["make", "test"],
        ["curl", "--fail"],
        ["soda-service", "ingest"],
        ["soda-service", "serve"],
        ["soda-service", "cut"],
        ["soda-service", "check"],
    ]
    assert len(_blocks("README.md", "python")) == 1


def test_make_demo(tmp_path: Path) -> None:
    """The first command: it serves, and says so with the line that scripts wait for."""
    make = require_program("make")
    venv = SCRIPTS.parent
    command = [make, "demo", f"VENV={venv}", f"DEMO_DIR={tmp_path / 'archive'}", "PORT=0"]
    # What `make test` runs in is installed already; a test does not install it again.
    command += [f"--assume-old={venv}/.installed"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("soda-service ready at "):
                break
        os.killpg(process.pid, 15)
        process.stdout.read()
    assert re.fullmatch(r"soda-service ready at http://127\.0\.0\.1:\d+/\n", said[-1])
    assert any("soda/sync?ID=" in line for line in said)


def test_make_test_runs_the_suite() -> None:
    """The second command, as far as can be told from within it."""
    make = require_program("make")
    said = subprocess.run(
        [make, "--dry-run", "test", f"VENV={SCRIPTS.parent}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert f"{SCRIPTS}/python -m pytest" in said


def test_curl(demo: DemoService, tmp_path: Path) -> None:
    """The line by curl, with the port of this server."""
    require_program("curl")
    line = next(one for one in _commands("README.md") if one.startswith("curl"))
    subprocess.run(_here(line, demo), shell=True, cwd=tmp_path, check=True, timeout=60)
    with fits.open(tmp_path / "cutout.fits") as cutout:
        assert cutout["IMAGE"].data.size > 100


@pytest.mark.parametrize("document", ["README.md", "docs/tutorial.md"])
def test_python_snippets(demo: DemoService, tmp_path: Path, document: str) -> None:
    """The snippets of one document, one after the other in one notebook."""
    script = tmp_path / "notebook.py"
    script.write_text(_here("\n".join(_blocks(document, "python")), demo), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "IMAGE" in done.stdout


def test_your_own_files(demo_folder: Path, tmp_path: Path) -> None:
    """Ingest, serve and cut, on a folder of somebody's files."""
    mine = tmp_path / "mine"
    mine.mkdir()
    original = min((demo_folder / "visits").rglob("*.fits"))
    (mine / "image.fits").write_bytes(original.read_bytes())
    ingest, serve, cut = (
        line.removeprefix(".venv/bin/")
        for line in _commands("README.md")
        if line.startswith(".venv/bin/soda-service")
    )
    run = {"cwd": tmp_path, "env": _environment(tmp_path), "shell": True, "timeout": 120}
    ingest = ingest.replace("/path/to/your/fits", str(mine))
    subprocess.run(ingest, **run, check=True)  # type: ignore[call-overload] # keywords of a dict
    with subprocess.Popen(
        f"exec {serve} --port 0", shell=True, cwd=tmp_path, env=_environment(tmp_path),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("soda-service ready at ")
        finally:
            process.terminate()
    cut = cut.replace("image.fits", str(mine / "image.fits"))
    cut = re.sub(r'"53.1 -27.8 0.01"', '"53.124 -27.74 0.01"', cut)
    subprocess.run(cut, **run, check=True)  # type: ignore[call-overload] # keywords of a dict
    with fits.open(tmp_path / "cutout.fits") as cutout:
        assert "IMAGE" in [hdu.name for hdu in cutout]


def test_the_catalog_of_the_demo(demo: DemoService, tmp_path: Path) -> None:
    """The last command finds it while the demo runs; without the variable there is none."""
    line = next(one for one in _commands("README.md") if one.startswith("SODA_CATALOG="))
    (tmp_path / "demo-archive").symlink_to(demo.folder)
    environment = _environment(tmp_path)
    for name in [one for one in environment if one.startswith("SODA_")]:
        del environment[name]
    variable, command = line.split(" .venv/bin/", 1)
    for said, code in ((f"{variable} {command}", 0), (command, 1)):
        ended = subprocess.run(
            said, shell=True, cwd=tmp_path, env=environment, check=False, timeout=120,
            capture_output=True, text=True,
        )  # fmt: skip
        assert ended.returncode == code, ended.stderr
    assert "no catalog at soda-data/catalog.sqlite" in " ".join(ended.stderr.split())


def test_curl_without_overlap(demo: DemoService, tmp_path: Path) -> None:
    """It ends with 0, and the file is empty."""
    require_program("curl")
    line = next(one for one in _commands("README.md") if one.startswith("curl"))
    elsewhere = _here(line, demo).replace("CIRCLE=53.124%20-27.74", "CIRCLE=10%2010")
    assert "10%2010" in elsewhere
    subprocess.run(elsewhere, shell=True, cwd=tmp_path, check=True, timeout=60)
    file = tmp_path / "cutout.fits"
    assert not file.exists() or file.stat().st_size == 0


def _here(text: str, demo: DemoService) -> str:
    return text.replace("http://127.0.0.1:8080/", demo.base)
