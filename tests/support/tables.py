"""VOTables as a plain reader sees them: rows of texts, and how the query went."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lxml import etree

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

_V = "{http://www.ivoa.net/xml/VOTable/v1.3}"

Row = dict[str, str]
"""Column name to the text of the cell; a null is empty."""


def results_of(document: bytes) -> Element:
    """The one RESOURCE of type results."""
    found = [
        resource
        for resource in etree.fromstring(document).findall(_V + "RESOURCE")
        if resource.get("type") == "results"
    ]
    assert len(found) == 1
    return found[0]


def fields_of(document: bytes) -> list[Element]:
    """The columns of its table, in order."""
    return results_of(document).findall(f"{_V}TABLE/{_V}FIELD")


def rows_of(document: bytes) -> list[Row]:
    """The rows of its table; each has as many cells as there are columns (VOTable 1.4 §5.1)."""
    names = [str(field.get("name")) for field in fields_of(document)]
    rows = results_of(document).findall(f"{_V}TABLE/{_V}DATA/{_V}TABLEDATA/{_V}TR")
    return [
        dict(zip(names, (cell.text or "" for cell in row.findall(_V + "TD")), strict=True))
        for row in rows
    ]


def status_of(document: bytes) -> tuple[str, str]:
    """What the last QUERY_STATUS says: OK, OVERFLOW or ERROR, and its text."""
    last = [
        info for info in results_of(document).findall(_V + "INFO")
        if info.get("name") == "QUERY_STATUS"
    ][-1]  # fmt: skip
    return str(last.get("value")), (last.text or "").strip()


def number(text: str) -> float:
    """The number in a cell, NaN where it is null."""
    return float(text) if text else math.nan
