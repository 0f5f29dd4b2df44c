"""URLs: how the endpoints are spelt, and where the world sees them.

Every absolute URL in every document is made here. It starts with the setting `public_url`,
else with what the request says: its Host, and what `X-Forwarded-Proto`, `X-Forwarded-Host`
and `X-Forwarded-Prefix` say where the request comes from a configured proxy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from soda_service.discovery.urls import Service
from soda_service.web.querystrings import cutout_query, links_queries, links_query, position_query

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Network, IPv6Network

    from starlette.types import Scope

    from soda_service.catalog.dataset import Dataset
    from soda_service.config import Settings
    from soda_service.geometry.shapes import Circle

QUERY: Final = "/sia/query"
LINKS: Final = "/datalink/links"
SYNC: Final = "/soda/sync"
EXAMPLES: Final = "/soda/examples"
FILES: Final = "/files/"
COVERAGE: Final = "/coverage/"
HEALTH: Final = "/health"
CAPABILITIES: Final = {
    Service.WHOLE: "/capabilities",
    Service.SIA: "/sia/capabilities",
    Service.DATALINK: "/datalink/capabilities",
    Service.SODA: "/soda/capabilities",
}
AVAILABILITY: Final = {
    Service.WHOLE: "/availability",
    Service.SIA: "/sia/availability",
    Service.DATALINK: "/datalink/availability",
    Service.SODA: "/soda/availability",
}

_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
_DID: Final = re.compile(r"ivo://[^/?]+/([^?]*)\?(.*)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SiteUrls:
    """The URLs of the service as one client sees them (see `discovery.urls.Urls`)."""

    base: str
    """`https://host/prefix`, without a slash at the end."""

    @property
    def root(self) -> str:
        """The page for people."""
        return self.base + "/"

    @property
    def query_endpoint(self) -> str:
        """SIA 2.0 {query}."""
        return self.base + QUERY

    @property
    def links_endpoint(self) -> str:
        """DataLink {links}."""
        return self.base + LINKS

    @property
    def sync_endpoint(self) -> str:
        """SODA {sync}."""
        return self.base + SYNC

    @property
    def examples(self) -> str:
        """The DALI examples of SODA."""
        return self.base + EXAMPLES

    def capabilities(self, service: Service) -> str:
        """The VOSI capabilities of *service*."""
        return self.base + CAPABILITIES[service]

    def availability(self, service: Service) -> str:
        """The VOSI availability of *service*."""
        return self.base + AVAILABILITY[service]

    def query(self, circle: Circle) -> str:
        """What shows a place."""
        return f"{self.query_endpoint}?{position_query(circle)}"

    def links(self, identifier: str) -> str:
        """The links document of one dataset."""
        return f"{self.links_endpoint}?{links_query(identifier)}"

    def links_of_each(self, identifiers: Sequence[str]) -> list[str]:
        """The links documents of many."""
        before = self.links_endpoint + "?"
        return [before + query for query in links_queries(identifiers)]

    def sync(
        self, identifier: str, *, circle: Circle | None = None, detail: str | None = None
    ) -> str:
        """A synchronous cutout of one dataset."""
        return f"{self.sync_endpoint}?{cutout_query(identifier, circle=circle, detail=detail)}"

    def coverage(self, collection: str, document: str) -> str:
        """The part of the sky that *collection* covers, as one of `web.coverage.DOCUMENTS`."""
        return f"{self.base}{COVERAGE}{quote(collection, safe='')}/{document}"

    def file(self, dataset: Dataset) -> str:
        """The whole file of *dataset*."""
        return self.base + FILES + file_path(dataset.publisher_did)


class Proxies:
    """Which peers may say what the client's own request looked like."""

    def __init__(self, networks: tuple[IPv4Network | IPv6Network, ...]) -> None:
        self._networks = networks
        self._trusts = lru_cache(maxsize=1024)(self._is_in_networks)

    def trusted(self, scope: Scope) -> bool:
        """Whether the request comes straight from a configured proxy."""
        if not self._networks or scope.get("client") is None:
            return False
        return self._trusts(scope["client"][0])

    def client(self, scope: Scope) -> str:
        """The address of the client, as far as it can be believed."""
        peer = scope.get("client")
        if peer is None:
            return "-"
        address: str = peer[0]
        if not self._networks or not self._trusts(address):
            return address
        # Each proxy appends whom it heard from: the last that is no proxy is the client.
        forwarded = [part.strip() for part in forwarded_values(scope, b"x-forwarded-for")]
        for hop in reversed(forwarded):
            if not _is_address(hop):
                break
            address = hop
            if not self._trusts(hop):
                break
        return address

    def _is_in_networks(self, host: str) -> bool:
        if not _is_address(host):
            return False
        address = ip_address(host)
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)


class UrlsFactory:
    """Makes the URLs that fit a request."""

    def __init__(self, settings: Settings, proxies: Proxies) -> None:
        self._fixed = SiteUrls(settings.public_url) if settings.public_url else None
        self._proxies = proxies

    def of(self, scope: Scope) -> SiteUrls:
        """The URLs to put into the answer to this request."""
        if self._fixed is not None:
            return self._fixed
        scheme: str = scope["scheme"]
        host = _last_header(scope, b"host")
        prefix: str = scope.get("root_path", "")
        if self._proxies.trusted(scope):
            scheme = _last_header(scope, b"x-forwarded-proto").lower() or scheme
            host = _last_header(scope, b"x-forwarded-host") or host
            prefix = _last_header(scope, b"x-forwarded-prefix").rstrip("/") + prefix
        if scheme not in {"http", "https"}:
            scheme = "http"
        if not _HOST.fullmatch(host):
            host = _own_host(scope)
        if not _PREFIX.fullmatch(prefix):
            prefix = ""
        return SiteUrls(f"{scheme}://{host}{prefix}")


def file_path(identifier: str) -> str:
    """The path below FILES of the dataset *identifier*, percent-encoded."""
    match = _DID.fullmatch(identifier)
    if match is None:
        return quote(identifier, safe="")
    return f"{quote(match[1])}/{quote(match[2])}"


def identifier_of(authority: str, path: str) -> str:
    """The publisher DID that *path*, decoded and below FILES, stands for; the inverse of above."""
    collection, _, local_part = path.partition("/")
    return f"ivo://{authority}/{collection}?{local_part}"


def forwarded_values(scope: Scope, name: bytes) -> list[str]:
    """The values of a list header, in the order in which hops wrote them."""
    joined = b",".join(value for key, value in scope["headers"] if key == name)
    return joined.decode("latin-1").split(",") if joined else []


def _last_header(scope: Scope, name: bytes) -> str:
    """What the nearest hop wrote: those before it may have been the client itself."""
    values = forwarded_values(scope, name)
    return values[-1].strip() if values else ""


def _own_host(scope: Scope) -> str:
    host, port = scope.get("server") or ("localhost", None)
    name = f"[{host}]" if ":" in host else host
    return f"{name}:{port}" if port else name


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
