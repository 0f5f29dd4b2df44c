"""The forms of an SIA answer, as a running service sends them and others read them."""

from __future__ import annotations

import csv
import io
import subprocess
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import pyvo
from support.documents import as_images, assert_valid_votable, parse_xml, read_votable
from support.programs import require_program

if TYPE_CHECKING:
    from pathlib import Path

    from support.demo import DemoService

QUERY = "sia/query"
VOTABLE = "application/x-votable+xml"
BINARY2 = f"{VOTABLE};serialization=BINARY2"
FIELD = (53.124, -27.74, 0.05)
VISITS = "lsst.visit_image"


@pytest.fixture(name="tabledata", scope="module")
def _tabledata(demo: DemoService) -> bytes:
    """Everything there is, in the default form."""
    return demo.get(QUERY).content


@pytest.fixture(name="binary", scope="module")
def _binary(demo: DemoService) -> bytes:
    """The same in BINARY2."""
    answer = demo.get(QUERY, RESPONSEFORMAT=BINARY2)
    assert (answer.status_code, answer.headers["content-type"]) == (200, BINARY2)
    return answer.content


@pytest.fixture(name="rows", scope="module")
def _rows(tabledata: bytes) -> list[dict[str, str]]:
    """The texts of all cells, under the names of their columns."""
    root = parse_xml(tabledata)
    names = [str(field.get("name")) for field in root.iter("{*}FIELD")]
    return [
        dict(zip(names, (cell.text or "" for cell in row), strict=True))
        for row in root.iter("{*}TR")
    ]


def test_astropy_reads_binary_rows_as_the_others(tabledata: bytes, binary: bytes) -> None:
    """Each value of each column."""
    assert_valid_votable(binary)
    assert b"<TR>" not in binary
    text, packed = (read_votable(one).get_first_table().array for one in (tabledata, binary))
    assert len(text) == len(packed) > 30
    for name in text.dtype.names:
        for value, other in zip(text[name].filled(), packed[name].filled(), strict=True):
            assert value == other or (value != value and other != other), name  # noqa: PLR0124 - NaN


def test_pyvo_reads_binary_rows_as_the_others(tabledata: bytes, binary: bytes) -> None:
    """Through the typed attributes of its records; links can be followed."""
    names = (
        "s_ra",
        "t_min",
        "em_max",
        "access_url",
        "access_estsize",
        "calib_level",
        "target_name",
    )
    one, other = (
        [[str(getattr(image, name)) for name in names] for image in as_images(document)]
        for document in (tabledata, binary)
    )
    assert one == other
    links = as_images(binary)[0].getdatalink()
    assert [row.semantics for row in links].count("#cutout") == 1


def test_stilts_reads_all_forms_alike(
    demo: DemoService, tmp_path: Path, tabledata: bytes, binary: bytes
) -> None:
    """Every cell of the VOTables; of CSV, the texts and the numbers."""
    comma = demo.get(QUERY, RESPONSEFORMAT="csv").content
    said = [
        _as_tst(tmp_path, document, form)
        for document, form in ((tabledata, "votable"), (binary, "votable"), (comma, "csv"))
    ]
    assert said[0] == said[1]
    assert len(said[0].splitlines()) > 30
    columns = "cmd=keepcols 'obs_publisher_did access_url s_region s_ra s_dec t_min em_min'"
    kept = [
        _as_tst(tmp_path, document, form, columns)
        for document, form in ((tabledata, "votable"), (comma, "csv"))
    ]
    assert kept[0] == kept[1]


@pytest.mark.parametrize(
    ("asked", "said", "delimiter"),
    [
        ("csv", "text/csv;charset=utf-8;header=present", ","),
        ("text/csv", "text/csv;charset=utf-8;header=present", ","),
        ("text/csv;header=present", "text/csv;charset=utf-8;header=present", ","),
        ("tsv", "text/tab-separated-values;charset=utf-8", "\t"),
        ("text/tab-separated-values", "text/tab-separated-values;charset=utf-8", "\t"),
    ],
)
def test_lines_of_text_have_the_same_cells(
    demo: DemoService, rows: list[dict[str, str]], asked: str, said: str, delimiter: str
) -> None:
    """A line of names, then one for each row; null is empty."""
    answer = demo.get(QUERY, RESPONSEFORMAT=asked)
    assert answer.headers["content-type"] == said
    lines = io.StringIO(answer.content.decode("utf-8"), newline="")
    assert list(csv.DictReader(lines, delimiter=delimiter, strict=True)) == rows


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("votable", VOTABLE),
        (VOTABLE, VOTABLE),
        (f"{VOTABLE};serialization=tabledata", f"{VOTABLE};serialization=TABLEDATA"),
        (f"{VOTABLE}; charset=utf-8", f"{VOTABLE};charset=utf-8"),
        ("text/xml", "text/xml"),
    ],
)
def test_other_names_of_votable_are_answered_with_themselves(
    demo: DemoService, rows: list[dict[str, str]], asked: str, said: str
) -> None:
    """DALI 1.1 §3.4.3; the rows are TABLEDATA."""
    answer = demo.get(QUERY, RESPONSEFORMAT=asked)
    assert answer.headers["content-type"] == said
    assert answer.content.count(b"<TR>") == len(rows)


@pytest.mark.parametrize("asked", ["csv", "tsv", BINARY2])
def test_limits_hold_in_every_form(demo: DemoService, asked: str) -> None:
    """Lines of text cannot say that there is more; MAXREC=0 gives the names alone."""
    for maxrec in (0, 3):
        answer = demo.get(QUERY, RESPONSEFORMAT=asked, MAXREC=maxrec)
        assert answer.status_code == 200
        if asked == BINARY2:
            assert len(read_votable(answer.content).get_first_table().array) == maxrec
            assert b'value="OVERFLOW"' in answer.content
        else:
            assert len(answer.text.splitlines()) == 1 + maxrec


@pytest.mark.parametrize("asked", ["csv", "text/csv", "tsv", "text/tab-separated-values;x=1"])
def test_errors_are_text_where_text_was_asked(demo: DemoService, asked: str) -> None:
    """SIA 2.0 §3.2."""
    answer = demo.get(QUERY, RESPONSEFORMAT=asked, POS="nonsense")
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.startswith("UsageFault: ")


@pytest.mark.parametrize(
    "asked",
    ["json", "fits", "votable/b2", f"{VOTABLE};serialization=FITS", f"{VOTABLE};content=datalink"],
)
def test_other_forms_are_refused_in_votable(demo: DemoService, asked: str) -> None:
    """DALI 1.1 §3.4.3: rather than something else than was asked for."""
    answer = demo.get(QUERY, RESPONSEFORMAT=asked)
    assert (answer.status_code, answer.headers["content-type"]) == (400, VOTABLE)
    assert b"UsageFault: RESPONSEFORMAT" in answer.content


@pytest.mark.parametrize("asked", ["csv", "tsv", BINARY2])
def test_links_have_no_other_form(demo: DemoService, asked: str) -> None:
    """DataLink 1.1 §3.3."""
    answer = demo.get("datalink/links", ID="ivo://demo.invalid/x?y", RESPONSEFORMAT=asked)
    assert (answer.status_code, answer.headers["content-type"]) == (400, VOTABLE)
    assert b"UsageFault: RESPONSEFORMAT" in answer.content


def test_a_plus_that_was_not_encoded_is_understood(demo: DemoService) -> None:
    """People paste media types into URLs."""
    answer = httpx2.get(f"{demo.base}{QUERY}?MAXREC=1&RESPONSEFORMAT={BINARY2}", timeout=60)
    assert (answer.status_code, answer.headers["content-type"]) == (200, BINARY2)


def test_pyvo_searches_by_subtype(demo: DemoService, rows: list[dict[str, str]]) -> None:
    """As Rubin's notebooks do; exactly, and in any case of the name."""
    service = pyvo.dal.SIA2Service(demo.base + "sia")
    visits = sorted(
        row["obs_publisher_did"] for row in rows if row["dataproduct_subtype"] == VISITS
    )
    assert 0 < len(visits) < len(rows)
    assert _found(service.search(dpsubtype=VISITS)) == visits
    assert _found(service.search(DPSUBTYPE=VISITS)) == visits
    assert _found(service.search(pos=FIELD, calib_level=2, dpsubtype=VISITS)) == visits
    assert _found(service.search(dpsubtype=VISITS.upper())) == []
    assert _found(service.search(dpsubtype="lsst.visit")) == []
    two = service.search(dpsubtype=[VISITS, "lsst.difference_image"])
    assert {row["dataproduct_subtype"] for row in two} == {VISITS, "lsst.difference_image"}


def _found(images: Any) -> list[str]:
    return sorted(row.obs_publisher_did for row in images)


def _as_tst(folder: Path, document: bytes, form: str, *commands: str) -> str:
    file = folder / "table"
    file.write_bytes(document)
    words = ["tpipe", f"in={file}", f"ifmt={form}", *commands, "omode=out", "ofmt=tst"]
    done = subprocess.run(
        [require_program("stilts"), *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    # Above the rule stand remarks on the columns, which only a VOTable has.
    return done.stdout[done.stdout.index("\n-") :]
