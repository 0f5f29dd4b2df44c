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
    input_params,
    self_description,
)
from soda_service.discovery.obscore import LINKS_MEDIA_TYPE, row_maker
from soda_service.votable.document import (
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

    from soda_service.catalog.dataset import ObsCore
    from soda_service.catalog.query import CatalogQuery
    from soda_service.catalog.store import DistinctColumn
    from soda_service.config import Settings
    from soda_service.discovery.urls import Urls
    from soda_service.votable.table import Field


class ImageStore(Protocol):
    """What a search needs of a catalog."""

    def find(self, query: CatalogQuery, limit: int) -> Iterator[ObsCore]:
        """At most *limit* datasets that *query* matches."""

    def distinct(self, column: DistinctColumn) -> Sequence[str]:
        """The values of an ObsCore column, in order, null left out."""


ENUMERATED_COLUMNS: Final[tuple[DistinctColumn, ...]] = (
    "obs_collection", "facility_name", "instrument_name", "dataproduct_type", "calib_level",
)  # fmt: skip
"""Columns whose values a client may choose from (SIA 2.0 §2.1.20)."""


def answer(
    query: CatalogQuery,
    *,
    store: ImageStore,
    urls: Urls,
    settings: Settings,
    maxrec: int | None = None,
    echo: Sequence[tuple[str, str]] = (),
) -> Iterator[bytes]:
    """The whole answer to *query*, in chunks; blocks, both here and at each chunk.

    *maxrec* is what the client asked for: None is the default of the settings, whose limit
    holds in any case; with 0 nothing is searched and the document describes the service
    (DALI 1.1 §3.4.4). *echo* are names and values of parameters, to be said again in the
    document. The search is made before this returns, so what it raises comes before the
    first byte; what fails after that is told at the end of the document.
    """
    template = load_template("sia2.xml")
    root = framed(template, settings, urls)
    _echo(root, echo)
    column = _column_id(template.fields)
    add_descriptor(root, generic_descriptor(PLAIN_SERVICE, (), urls, id_column=column))
    make_row = row_maker(template.fields, urls)
    limit = min(settings.maxrec_default if maxrec is None else maxrec, settings.maxrec_limit)
    if limit == 0:
        set_status(root, Status.OVERFLOW)
        _list_options(self_description(root), template.fields, store)
        found: Iterable[ObsCore] = ()
    else:
        found = _begun(store.find(query, limit + 1))
    return votable_chunks(root, template.fields, map(make_row, found), limit=limit, explain=explain)


def _begun(found: Iterator[ObsCore]) -> Iterator[ObsCore]:
    """*found*, its first row being fetched already, so that a search that fails fails now."""
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
    """Name the values there are: a parameter has the UCD of the column that it constrains."""
    params = input_params(this)
    by_name = {field.name: field for field in fields}
    for column in ENUMERATED_COLUMNS:
        param = params.get(by_name[column].ucd or "")
        if param is not None:
            add_options(param, store.distinct(column))
    access_format = params.get(by_name["access_format"].ucd or "")
    if access_format is not None:
        add_options(access_format, (LINKS_MEDIA_TYPE,))
