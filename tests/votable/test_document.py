"""Documents out of templates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st
from lxml import etree
from support.catalogs import HOSTILE, HOSTILE_AS_READ
from support.documents import (
    assert_valid_vosi,
    assert_valid_votable,
    complaints_of_stilts,
    parse_xml,
    read_votable,
    votable_schema,
)

from soda_service.config import resource_path
from soda_service.errors import ConfigurationError
from soda_service.votable.document import (
    Serialization,
    Status,
    Template,
    error_document,
    load_template,
    render,
    set_status,
    votable_chunks,
)
from soda_service.votable.table import blocks_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.golden import Golden

TABLE = b"""<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">
  <!-- for the operator -->
  <RESOURCE type="results">
    <DESCRIPTION>{what}</DESCRIPTION>
    <INFO name="QUERY_STATUS" value="OK"/>
    <INFO name="said" value="before {what} after"/>
    <TABLE>
      <FIELD name="text" datatype="char" arraysize="*"/>
      <DATA><TABLEDATA/></DATA>
    </TABLE>
  </RESOURCE>
</VOTABLE>"""


def statuses(document: bytes) -> list[tuple[str | None, str | None]]:
    """Value and content of every QUERY_STATUS, in order, with the table between them."""
    root = parse_xml(document)
    return [
        ("TABLE", None)
        if element.tag.endswith("TABLE")
        else (element.get("value"), element.text and element.text.strip())
        for element in root[0]
        if element.tag.endswith("}TABLE") or element.get("name") == "QUERY_STATUS"
    ]


def written(
    rows: Iterator[tuple[str]],
    *,
    limit: int | None = None,
    status: Status = Status.OK,
    serialization: Serialization = Serialization.TABLEDATA,
) -> bytes:
    """A whole document of *rows*."""
    template = Template("test.xml", TABLE)
    root = template.fill({"what": "x"})
    set_status(root, status)
    return b"".join(
        votable_chunks(
            root,
            template.fields,
            blocks_of(rows),
            serialization=serialization,
            limit=limit,
            explain=lambda e: f"Fault: {e}",
        )
    )


def test_placeholders_are_filled_in_text_and_attributes() -> None:
    """The same name may stand in many places; comments are left out."""
    seen = render(Template("test.xml", TABLE).fill({"what": "this"}))
    assert b"<DESCRIPTION>this</DESCRIPTION>" in seen
    assert b'value="before this after"' in seen
    assert b"operator" not in seen


def test_a_value_cannot_break_out_of_its_place() -> None:
    """Markup and placeholders in a value are text."""
    root = parse_xml(render(Template("test.xml", TABLE).fill({"what": HOSTILE})))
    assert root[0][0].text == HOSTILE_AS_READ
    assert root[0][2].get("value") == f"before {HOSTILE_AS_READ} after"


@given(st.text())
def test_any_text_may_be_filled_in(text: str) -> None:
    """No value makes the document ill-formed."""
    parse_xml(render(Template("test.xml", TABLE).fill({"what": text})))


def test_filling_leaves_the_template_as_it_was() -> None:
    """One request's values never reach another."""
    template = Template("test.xml", TABLE)
    first = render(template.fill({"what": "first"}))
    assert b"first" not in render(template.fill({"what": "second"}))
    assert first == render(template.fill({"what": "first"}))


def test_an_unknown_placeholder_names_the_template() -> None:
    """An operator who wrote it is told where."""
    with pytest.raises(ConfigurationError, match=r"test\.xml.*\{what\}"):
        Template("test.xml", TABLE).fill({})


def test_a_broken_template_names_itself() -> None:
    """The same for what is not XML at all."""
    with pytest.raises(ConfigurationError, match=r"test\.xml is not XML"):
        Template("test.xml", b"<VOTABLE>")


def test_templates_reach_no_file_and_no_host() -> None:
    """An entity that names a file stays unresolved."""
    xml = b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/hostname">]><a>{what}&e;</a>'
    seen = render(Template("test.xml", xml).fill({"what": "x"}))
    assert b"<a>x&e;</a>" in seen


def test_rows_end_with_the_table_when_all_is_well() -> None:
    """One status, before the table."""
    seen = written(iter([("a",), ("b",)]), limit=2)
    assert_valid_votable(seen)
    assert statuses(seen) == [("OK", None), ("TABLE", None)]


def test_a_row_too_many_is_told_after_the_table() -> None:
    """Exactly as many rows as were allowed, then OVERFLOW (DALI 1.1 §4.4.1)."""
    seen = written(iter([("a",), ("b",), ("c",)]), limit=2)
    assert_valid_votable(seen)
    assert statuses(seen) == [("OK", None), ("TABLE", None), ("OVERFLOW", None)]
    assert seen.count(b"<TR>") == 2


def test_rows_that_fail_on_the_way_are_told_after_the_table() -> None:
    """What came before the failure is there; the document is whole (DALI 1.1 §4.4.2)."""

    def failing() -> Iterator[tuple[str]]:
        yield ("a",)
        raise OSError(f"disk {HOSTILE}")

    seen = written(failing())
    assert_valid_votable(seen)
    assert statuses(seen)[2] == ("ERROR", f"Fault: disk {HOSTILE_AS_READ}")
    assert seen.count(b"<TR>") == 1


def test_statuses_stand_around_binary_rows_too() -> None:
    """The rows that came are there, and what became of the others is said."""

    def failing() -> Iterator[tuple[str]]:
        yield ("a",)
        raise OSError("gone")

    for rows, limit, last in (
        (iter([("a",), ("b",)]), 1, ("OVERFLOW", None)),
        (failing(), None, ("ERROR", "Fault: gone")),
    ):
        seen = written(rows, limit=limit, serialization=Serialization.BINARY2)
        assert_valid_votable(seen)
        assert statuses(seen) == [("OK", None), ("TABLE", None), last]
        assert list(read_votable(seen).get_first_table().array["text"]) == ["a"]


def test_the_status_before_the_table_can_be_set() -> None:
    """Where it is known beforehand that not all is said."""
    assert statuses(written(iter(()), status=Status.OVERFLOW))[0] == ("OVERFLOW", None)


def test_error_documents(golden: Golden, tmp_path: Path) -> None:
    """The message is the content of QUERY_STATUS and starts with the fault."""
    seen = error_document("UsageFault", "MAXREC is a whole number, got 'x'")
    assert_valid_votable(seen)
    assert statuses(seen) == [("ERROR", "UsageFault: MAXREC is a whole number, got 'x'")]
    golden.check("error.xml", seen)
    assert complaints_of_stilts("votlint", seen, tmp_path) == []


def test_error_documents_survive_hostile_messages() -> None:
    """What a client sent comes back in the message, harmless."""
    seen = error_document("UsageFault", HOSTILE)
    assert_valid_votable(seen)
    assert statuses(seen) == [("ERROR", f"UsageFault: {HOSTILE_AS_READ}")]


@pytest.mark.parametrize("name", ["sia2.xml", "datalink.xml", "soda-descriptor.xml", "error.xml"])
def test_templates_are_valid_votables_as_they_stand(name: str) -> None:
    """Whoever edits one can check it with any validator."""
    votable_schema().assertValid(etree.parse(str(resource_path("votable_templates") / name)))


@pytest.mark.parametrize("name", ["capabilities", "availability"])
def test_templates_of_vosi_are_valid_as_they_stand(name: str) -> None:
    """The same for VOSI."""
    document = etree.tostring(
        etree.parse(str(resource_path("votable_templates") / f"{name}.xml")), encoding="US-ASCII"
    )
    assert_valid_vosi(document, "capabilities" if name == "capabilities" else "availability")


def test_templates_are_read_once() -> None:
    """A request opens no file for them."""
    assert load_template("error.xml") is load_template("error.xml")


def test_a_missing_template_is_named() -> None:
    """An installation without its templates says so."""
    with pytest.raises(ConfigurationError, match=r"absent\.xml"):
        load_template("absent.xml")
