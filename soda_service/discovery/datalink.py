"""DataLink 1.1 answers: what goes with datasets, and how their cutouts are made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from soda_service.discovery.descriptors import (
    PLAIN_SERVICE,
    dataset_descriptor,
    describe,
    example_url,
    generic_descriptor,
    is_named,
    service_of,
)
from soda_service.discovery.faults import explain
from soda_service.discovery.framing import add_descriptor, framed
from soda_service.discovery.obscore import LINKS_MEDIA_TYPE
from soda_service.errors import ConfigurationError
from soda_service.votable.document import Status, load_template, set_status, votable_chunks
from soda_service.votable.table import blocks_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lxml.etree import _Element as Element

    from soda_service.catalog.dataset import Dataset, Relations
    from soda_service.catalog.store import CollectionRow
    from soda_service.config import LinkRule, Settings
    from soda_service.discovery.urls import Urls
    from soda_service.votable.table import Field

CUTOUT_MEDIA_TYPE: Final = "application/fits"

_MOST_ROWS: Final = 50_000
"""Once a document has so many, no further dataset is answered: its rows are held in memory."""


class DatasetResolver(Protocol):
    """What a links document needs of a resolver."""

    def resolve(self, identifier: str) -> Dataset:
        """The dataset; raises UnknownDatasetError."""


class LinkStore(Protocol):
    """What a links document needs of a catalog."""

    def related(self, dataset: Dataset) -> Relations:
        """The other datasets that have to do with *dataset*."""

    def collection_rows(self) -> Sequence[CollectionRow]:
        """Every collection with its rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A row of a links document (DataLink 1.1 §3.2), named as its columns are but `ID`.

    Exactly one of `access_url`, `service_def` and `error_message` is given.
    """

    identifier: str
    """The ID as it came."""
    semantics: str
    description: str | None = None
    access_url: str | None = None
    service_def: str | None = None
    error_message: str | None = None
    content_type: str | None = None
    content_length: int | None = None
    """Bytes."""
    content_qualifier: str | None = None
    local_semantics: str | None = None
    link_auth: str | None = "false"
    link_authorized: bool | None = True
    cutout_detail: str | None = None
    """The plain detail of the dataset, in every row of it; for service descriptors."""


def answer(
    identifiers: Sequence[str],
    *,
    resolver: DatasetResolver,
    store: LinkStore,
    urls: Urls,
    settings: Settings,
) -> Iterator[bytes]:
    """The links of *identifiers*, in chunks; blocks here, at the chunks no more.

    Identical identifiers count once; those beyond the limit of the settings are left out
    whole, which the document says by OVERFLOW (DataLink 1.1 §2.1.1), as it does where a
    dataset has to do with more others than are told of. A bad identifier is a
    row of the document, never an exception. No identifier gives an empty table.
    """
    asked = tuple(dict.fromkeys(identifiers))
    taken = asked[: settings.links_limit]
    template = load_template("datalink.xml")
    root = framed(template, settings, urls)
    finder = _LinkFinder(resolver, store, urls)
    links: list[Link] = []
    answered = 0
    for identifier in taken:
        if len(links) >= _MOST_ROWS:
            break
        links += finder.links_of(identifier)
        answered += 1
    if answered < len(asked) or not finder.is_complete:
        set_status(root, Status.OVERFLOW)
    if len(asked) == 1:
        descriptors = finder.descriptors_of_one()
    else:
        ids = {field.name: field.id or "" for field in template.fields}
        descriptors = finder.descriptors_of_all(ids["ID"], ids.get("cutout_detail", ""))
    for descriptor in descriptors:
        add_descriptor(root, descriptor)
    readers = [_attribute_of(field) for field in template.fields]
    rows = ([getattr(link, attribute) for attribute in readers] for link in links)
    return votable_chunks(root, template.fields, blocks_of(rows), explain=explain)


class _LinkFinder:
    """Finds links, and remembers which cutout services they name."""

    def __init__(
        self,
        resolver: DatasetResolver,
        store: LinkStore,
        urls: Urls,
    ) -> None:
        self._resolver = resolver
        self._store = store
        self._urls = urls
        self.is_complete = True
        """Whether every link was told of so far."""
        self._first: Dataset | None = None
        self._rules: dict[str, tuple[LinkRule, ...]] | None = None
        self._details: dict[str, list[str]] = {}
        """XML ID of a service to the names of the details that it stands for."""
        self._examples: dict[str, str] = {}

    def links_of(self, identifier: str) -> list[Link]:
        """The rows of one identifier; what goes wrong is a row."""
        try:
            dataset = self._resolver.resolve(identifier)
            links = [*self._own_links(dataset), *self._links_to_others(dataset)]
        except Exception as error:  # noqa: BLE001 - DataLink 1.1 §3.4: one bad ID spoils no other
            return [_error_link(identifier, error)]
        self._first = self._first or dataset
        for detail in dataset.details:
            name = detail.name if is_named(dataset, detail) else ""
            service = service_of(dataset, detail)
            if service not in self._details:
                self._details[service] = [name]
                self._examples[service] = example_url(dataset, name, self._urls)
            elif name not in self._details[service]:
                self._details[service].append(name)
        plain = dataset.details[0]
        told = plain.name if is_named(dataset, plain) else None
        return [replace(link, identifier=identifier, cutout_detail=told) for link in links]

    def descriptors_of_one(self) -> Iterator[Element]:
        """The services that the links of one dataset name, with its limits, the plain one first."""
        if self._first is None:
            return
        details = reversed(self._first.details)
        by_service = {service_of(self._first, detail): detail for detail in details}
        for service in self._details:
            yield dataset_descriptor(self._first, by_service[service], self._urls)

    def descriptors_of_all(self, id_column: str, detail_column: str) -> Iterator[Element]:
        """The services that the links of many datasets name, the plain one first.

        Which dataset is meant, and which plain detail it has where they differ, stands in the
        columns with these XML IDs.
        """
        for service, names in self._details.items():
            yield generic_descriptor(
                service,
                names,
                self._urls,
                id_column=id_column,
                detail_column=detail_column if service == PLAIN_SERVICE else "",
                example=self._examples[service],
            )

    def _own_links(self, dataset: Dataset) -> Iterator[Link]:
        facts = dataset.obscore
        kind = f"#{facts.dataproduct_type}" if facts.dataproduct_type else None
        title = facts.obs_title or facts.obs_id
        yield Link(
            identifier=dataset.publisher_did,
            semantics="#this",
            description=f"{title}: the whole file",
            access_url=self._urls.file(dataset),
            content_type=dataset.media_type,
            content_length=dataset.version.size,
            content_qualifier=kind,
            local_semantics="file",
        )
        for detail in dataset.details:
            is_plain = detail is dataset.details[0]
            yield Link(
                identifier=dataset.publisher_did,
                semantics="#cutout" if is_plain else "#proc",
                description=f"{title}: cutout of {describe(detail)}",
                service_def=service_of(dataset, detail),
                content_type=CUTOUT_MEDIA_TYPE,
                content_qualifier=kind,
                local_semantics=service_of(dataset, detail),
            )
        yield from self._links_to_parts(dataset, title)

    def _links_to_parts(self, dataset: Dataset, title: str) -> Iterator[Link]:
        """Links to HDUs of the file itself, as the rules of its collection say."""
        if self._rules is None:
            self._rules = {row.name: row.config.links for row in self._store.collection_rows()}
        details = {detail.name: detail for detail in dataset.details}
        for rule in self._rules.get(dataset.collection, ()):
            if rule.detail is None or rule.detail not in details:
                continue
            part = rule.description or describe(details[rule.detail])
            yield Link(
                identifier=dataset.publisher_did,
                semantics=rule.semantics,
                description=f"{title}: {part}",
                access_url=self._urls.sync(dataset.publisher_did, detail=rule.detail),
                content_type=CUTOUT_MEDIA_TYPE,
                local_semantics=rule.detail.lower(),
            )

    def _links_to_others(self, dataset: Dataset) -> Iterator[Link]:
        relations = self._store.related(dataset)
        self.is_complete = self.is_complete and relations.is_complete
        for relation in relations.found:
            yield Link(
                identifier=dataset.publisher_did,
                semantics=relation.semantics,
                description=relation.description or relation.publisher_did,
                access_url=self._urls.links(relation.publisher_did),
                content_type=LINKS_MEDIA_TYPE,
            )


def _error_link(identifier: str, error: Exception) -> Link:
    return Link(
        identifier=identifier,
        semantics="#this",
        error_message=explain(error, identifier),
        link_auth=None,
        link_authorized=None,
    )


def _attribute_of(field: Field) -> str:
    attribute = "identifier" if field.name == "ID" else field.name
    if attribute not in Link.__dataclass_fields__:
        raise ConfigurationError(f"datalink.xml has an unknown column: {field.name!r}")
    return attribute
