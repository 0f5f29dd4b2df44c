"""STILTS finds nothing to complain about in the documents of a running service."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from support.programs import require_program

if TYPE_CHECKING:
    from pathlib import Path

    from support.demo import DemoService

VISIT = "ivo://demo.invalid/visits?2024110900036-94"


@pytest.mark.parametrize(
    "identifiers",
    [
        [VISIT],
        [VISIT, "ivo://demo.invalid/visits?2024110900035-94"],
        [VISIT, "ivo://no.such/x?y"],
        [],
    ],
    ids=["one", "two", "one-unknown", "none"],
)
def test_datalinklint_is_silent(demo: DemoService, tmp_path: Path, identifiers: list[str]) -> None:
    """One ID, several, an unknown one, none."""
    document = tmp_path / "links.xml"
    document.write_bytes(demo.get("datalink/links", ID=identifiers).content)
    assert _complaints("datalinklint", f"votable={document}") == ""


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("sia/query", {"MAXREC": 0}),
        ("sia/query", {"MAXREC": 3}),
        ("sia/query", {"POS": "CIRCLE 53.124 -27.74 0.1"}),
        ("sia/query", {"POS": "nonsense"}),
        ("datalink/links", {"ID": VISIT}),
    ],
    ids=["self-description", "overflow", "rows", "error", "links"],
)
def test_votlint_is_silent(
    demo: DemoService, tmp_path: Path, path: str, parameters: dict[str, object]
) -> None:
    """Every kind of VOTable, units and UCDs included."""
    document = tmp_path / "document.xml"
    document.write_bytes(demo.get(path, **parameters).content)
    assert _complaints("votlint", f"votable={document}", "ucd=true", "unit=true") == ""


def test_cone_search_over_sia(demo: DemoService, tmp_path: Path) -> None:
    """STILTS' own SIA 2 client gets the rows that it asks for."""
    rows = _run(
        "cone",
        "servicetype=sia2",
        f"serviceurl={demo.base}sia/query",
        "lon=53.124",
        "lat=-27.74",
        "radius=0.01",
        "ocmd=keepcols obs_publisher_did",
        "ofmt=csv",
        f"out={tmp_path / 'rows.csv'}",
    )
    assert "error" not in rows.lower()
    assert VISIT in (tmp_path / "rows.csv").read_text()


_TOLERATED = (
    # pyvo cannot read a numeric parameter with an empty value and no arraysize.
    'arraysize="1" deprecated since VOTable 1.3 Erratum #3',
    # STILTS 3.4.7 is older than this term of the vocabulary.
    "'coderived'",
)


def _complaints(task: str, *words: str) -> str:
    """What a linter of STILTS prints about errors and warnings; it exits 0 whatever it finds."""
    said = _run(task, *words).splitlines()
    return "\n".join(
        line
        for line in said
        if line.startswith(("ERROR", "WARNING")) and not any(text in line for text in _TOLERATED)
    )


def _run(*words: str) -> str:
    program = require_program("stilts")
    done = subprocess.run(
        [program, *words], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
