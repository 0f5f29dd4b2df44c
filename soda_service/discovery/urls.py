"""The URLs that documents name, as discovery asks for them.

How they are spelt (prefix, public address, percent-encoding, names of parameters) is the
edge's affair; every one of them is absolute and stands unescaped, ready for a document
to escape.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from soda_service.catalog.dataset import Dataset
    from soda_service.geometry.shapes import Circle


class Service(StrEnum):
    """The protocols that have capabilities and availability of their own, and their sum.

    The values name the templates of the documents: `capabilities-sia.xml`.
    """

    WHOLE = "whole"
    SIA = "sia"
    DATALINK = "datalink"
    SODA = "soda"


class Urls(Protocol):
    """Where the endpoints and the things behind them are."""

    def __hash__(self) -> int:
        """The same where all of them are the same."""

    @property
    def root(self) -> str:
        """The page for people, `https://host/prefix/`."""

    @property
    def query_endpoint(self) -> str:
        """SIA 2.0 {query}, without a query string."""

    @property
    def links_endpoint(self) -> str:
        """DataLink {links}, without a query string."""

    @property
    def sync_endpoint(self) -> str:
        """SODA {sync}, without a query string."""

    @property
    def examples(self) -> str:
        """The DALI examples of SODA."""

    def capabilities(self, service: Service) -> str:
        """The VOSI capabilities of *service*."""

    def availability(self, service: Service) -> str:
        """The VOSI availability of *service*."""

    def links(self, identifier: str) -> str:
        """The links document of one dataset: the identifier is percent-encoded in it."""

    def links_of_each(self, identifiers: Sequence[str]) -> Sequence[str]:
        """The same for many datasets, many times quicker.

        Each begins with `links_endpoint`, and goes on the same wherever clients see the service.
        """

    def sync(
        self, identifier: str, *, circle: Circle | None = None, detail: str | None = None
    ) -> str:
        """A synchronous cutout of one dataset, ready to be fetched."""

    def file(self, dataset: Dataset) -> str:
        """The whole file of *dataset*."""
