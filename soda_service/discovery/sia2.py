"""SIA 2.0 answers: the images that a query finds, as an ObsCore table."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final, Protocol

from soda_service.discovery.descriptors import PLAIN_SERVICE, generic_descriptor
from soda_service.discovery.faults import explain
from soda_service.discovery.framing import (
    add_descriptor,
    add_options,
    framed,
    param_of,
    self_description,
)
from soda_service.discovery.obscore import LINKS_MEDIA_TYPE, ObsCoreTable
from soda_service.votable.delimited import Delimited, delimited_chunks
from soda_service.votable.document import (
    Serialization,
    Status,
    load_template,
    set_status,
    votable,
    votable_chunks,
)
from soda_service.votable.table import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lxml.etree import _Element as Element

    from soda_service.catalog.query import CatalogQuery
    from soda_service.catalog.store import DistinctColumn
    from soda_service.config import Settings
    from soda_service.discovery.urls import Urls
    from soda_service.votable.table import Block, Field, Value

    _Rows = Sequence[Sequence[Value]]


class ImageStore(Protocol):
    """What a search needs of a catalog."""

    def find_rows(self, query: CatalogQuery, limit: int, columns: Sequence[str]) -> Iterator[_Rows]:
        """ObsCore *columns* of at most *limit* datasets that *query* matches, in gulps."""

    def distinct(self, column: DistinctColumn) -> Sequence[str]:
        """The values of an ObsCore column, in order, null left out."""


ENUMERATED_COLUMNS: Final[tuple[DistinctColumn, ...]] = (
    "obs_collection", "facility_name", "instrument_name", "dataproduct_type",
    "dataproduct_subtype", "calib_level",
)  # fmt: skip
"""Columns whose values a client may choose from (SIA 2.0 §2.1.20)."""


Form = Serialization | Delimited
"""What an answer may be written as."""


def answer(
    query: CatalogQuery,
    *,
    store: ImageStore,
    urls: Urls,
    settings: Settings,
    form: Form = Serialization.TABLEDATA,
    maxrec: int | None = None,
    echo: Sequence[tuple[str, str]] = (),
) -> Iterator[bytes]:
    """The whole answer to *query*, in chunks; blocks, both here and at each chunk.

    *maxrec* is what the client asked for: None is the default of the settings, whose limit
    holds in any case; with 0 nothing is searched and the document describes the service
    (DALI 1.1 §3.4.4). *echo* are names and values of parameters, to be said again in the
    document. The search is made before this returns, so what it raises comes before the
    first byte; what fails after that is told at the end of a VOTable, and raised where the
    form has no place for it.
    """
    template = load_template("sia2.xml")
    table = ObsCoreTable(template.fields, urls)
    limit = min(settings.maxrec_default if maxrec is None else maxrec, settings.maxrec_limit)
    # One row more than is answered tells whether there are more.
    found = _begun(store.find_rows(query, limit + 1, table.facts)) if limit else ()
    blocks: Iterable[Block] = map(table.block, found)
    if isinstance(form, Delimited):
        return delimited_chunks(form, template.fields, blocks, limit=limit)
    root = framed(template, settings, urls)
    _echo(root, echo)
    column = _column_id(template.fields)
    add_descriptor(root, generic_descriptor(PLAIN_SERVICE, (), urls, id_column=column))
    if limit == 0:
        set_status(root, Status.OVERFLOW)
        _list_options(self_description(root), template.fields, store)
    return votable_chunks(
        root, template.fields, blocks, serialization=form, limit=limit, explain=explain
    )


def _begun(found: Iterator[_Rows]) -> Iterator[_Rows]:
    """*found*, its first rows being fetched already, so that a search that fails fails now."""
    for first in found:
        return chain((first,), found)
    return iter(())


def _column_id(fields: Sequence[Field]) -> str:
    """XML ID of the column of identifiers, to which descriptors refer (DataLink 1.1 §4.5)."""
    return next(field.id or field.name for field in fields if field.name == "obs_publisher_did")


def _echo(root: Element, echo: Sequence[tuple[str, str]]) -> None:
    """Say again what was asked, in INFO elements before the table (DALI 1.1 §4.4.3)."""
    last = root.findall(f"{votable('RESOURCE')}/{votable('INFO')}")[-1]
    for name, value in reversed(echo):
        info = root.makeelement(votable("INFO"), {"name": clean(name), "value": clean(value)})
        info.tail = last.tail
        last.addnext(info)


def _list_options(this: Element, fields: Sequence[Field], store: ImageStore) -> None:
    """Name the values there are of each column that a parameter constrains."""
    by_name = {field.name: field for field in fields}
    for column in ENUMERATED_COLUMNS:
        param = param_of(this, by_name[column]) if column in by_name else None
        if param is not None:
            add_options(param, store.distinct(column))
    access_format = param_of(this, by_name["access_format"])
    if access_format is not None:
        add_options(access_format, (LINKS_MEDIA_TYPE,))
