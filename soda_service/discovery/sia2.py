"""SIA 2.0 answers: the images that a query finds, as an ObsCore table."""

from __future__ import annotations

from collections.abc import Generator
from functools import lru_cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

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
from soda_service.discovery.readyrows import READY_COLUMNS, ReadyTable
from soda_service.votable.delimited import Delimited, delimited_chunks
from soda_service.votable.document import (
    ECHO,
    Frame,
    Serialization,
    Status,
    load_template,
    set_status,
    votable,
    votable_chunks,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from lxml.etree import _Element as Element

    from soda_service.catalog.query import CatalogQuery
    from soda_service.catalog.store import DistinctColumn
    from soda_service.config import Settings
    from soda_service.discovery.urls import Urls
    from soda_service.votable.document import Template
    from soda_service.votable.table import Block, Field, Value

    _Rows = Sequence[Sequence[Value]]
    _Cells = Sequence[Sequence[object]]
    _Write = Callable[[Iterable[Block]], Iterator[bytes]]


_Gulp = TypeVar("_Gulp")


class ImageStore(Protocol):
    """What a search needs of a catalog."""

    def find_rows(self, query: CatalogQuery, limit: int, columns: Sequence[str]) -> Iterator[_Rows]:
        """ObsCore *columns* of at most *limit* datasets that *query* matches, in gulps."""

    def is_ready(self, form: int) -> bool:
        """Whether its rows were made ready in *form*, or most of them."""

    def find_ready(
        self,
        query: CatalogQuery,
        limit: int,
        ready: Sequence[str],
        columns: Sequence[str],
        *,
        form: int,
    ) -> Iterator[tuple[_Cells, Mapping[int, Sequence[Value]]]]:
        """The same with columns of rows made ready; and by place the facts of rows without."""

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
    write: _Write | None = None
    # One row more than is answered tells whether there are more.
    if limit == 0:
        blocks: Iterator[Block] = iter(())
    elif isinstance(form, Serialization) and (ready := _ready(table, store)):
        blocks = _ready_blocks(ready, query, limit + 1, store, table.facts, form)
        write = partial(ready.pieces, serialization=form)
    else:
        blocks = _blocks(store.find_rows(query, limit + 1, table.facts), table.block)
    if isinstance(form, Delimited):
        return delimited_chunks(form, template.fields, blocks, limit=limit)
    if limit == 0:
        root = _document(template, settings, urls)
        set_status(root, Status.OVERFLOW)
        _list_options(self_description(root), template.fields, store)
        frame = Frame.of(root, form)
    else:
        frame = _frame(template, settings, urls, form)
    return votable_chunks(
        frame.echoing(echo),
        template.fields,
        blocks,
        serialization=form,
        limit=limit,
        explain=explain,
        write=write,
    )


@lru_cache(maxsize=16)
def _frame(
    template: Template, settings: Settings, urls: Urls, serialization: Serialization
) -> Frame:
    """What is the same in all answers to those who see the service at *urls*."""
    return Frame.of(_document(template, settings, urls), serialization)


def _document(template: Template, settings: Settings, urls: Urls) -> Element:
    """The document with a place for what was asked (DALI 1.1 §4.4.3), and without rows."""
    root = framed(template, settings, urls)
    last = root.findall(f"{votable('RESOURCE')}/{votable('INFO')}")[-1]
    place = root.makeelement(votable("INFO"), {"name": ECHO, "value": ""})
    place.tail = last.tail
    last.addnext(place)
    column = _column_id(template.fields)
    add_descriptor(root, generic_descriptor(PLAIN_SERVICE, (), urls, id_column=column))
    return root


def _ready(table: ObsCoreTable, store: ImageStore) -> ReadyTable | None:
    """The ready rows that *store* has of *table*, if it has any."""
    ready = ReadyTable.of(table)
    return ready if ready is not None and store.is_ready(ready.form) else None


def _ready_blocks(
    ready: ReadyTable,
    query: CatalogQuery,
    limit: int,
    store: ImageStore,
    facts: Sequence[str],
    serialization: Serialization,
) -> Iterator[Block]:
    columns = READY_COLUMNS[serialization]
    found = store.find_ready(query, limit, columns, facts, form=ready.form)
    return _blocks(found, lambda gulp: ready.block(*gulp, serialization))


def _blocks(found: Iterator[_Gulp], make: Callable[[_Gulp], Block]) -> Iterator[Block]:
    """What *make* makes of *found*, whose first rows are fetched now: here a search may fail."""
    for first in found:
        return _made(chain((first,), found), make, found)
    return iter(())


def _made(
    gulps: Iterator[_Gulp], make: Callable[[_Gulp], Block], found: Iterator[_Gulp]
) -> Iterator[Block]:
    """What *make* makes; where it fails the search ends now, and lets go of its connection."""
    try:
        yield from map(make, gulps)
    finally:
        if isinstance(found, Generator):  # other iterators hold nothing
            found.close()


def _column_id(fields: Sequence[Field]) -> str:
    """XML ID of the column of identifiers, to which descriptors refer (DataLink 1.1 §4.5)."""
    return next(field.id or field.name for field in fields if field.name == "obs_publisher_did")


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
