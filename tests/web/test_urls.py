"""URLs: where the world sees the service."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, strategies as st

from soda_service.config import Settings
from soda_service.discovery.urls import Service, Urls
from soda_service.geometry.shapes import Circle
from soda_service.web.urls import Proxies, SiteUrls, UrlsFactory

PROXY = "10.0.0.7"


def scope(client: str = "192.0.2.1", **headers: str) -> dict[str, Any]:
    """A request from *client*; underscores in names of headers stand for hyphens."""
    raw = [
        (name.replace("_", "-").encode(), value.encode("latin-1"))
        for name, value in headers.items()
    ]
    return {
        "type": "http", "scheme": "http", "server": ("127.0.0.1", 8080), "client": (client, 5),
        "root_path": "", "headers": raw,
    }  # fmt: skip


def base(request: dict[str, Any], **settings: object) -> str:
    """What the URLs in the answer to *request* begin with."""
    chosen = Settings.model_validate(
        {"trusted_proxies": ("10.0.0.0/8", "2001:db8::/32"), **settings}
    )
    return UrlsFactory(chosen, Proxies(chosen.proxy_networks)).of(request).base


FORWARDED = {
    "host": "inner:8080",
    "x_forwarded_proto": "https",
    "x_forwarded_host": "archive.example",
    "x_forwarded_prefix": "/cutouts/",
}


def test_the_setting_wins() -> None:
    """Over anything that a request says."""
    assert (
        base(scope(PROXY, **FORWARDED), public_url="https://a.example/b/") == "https://a.example/b"
    )


def test_the_host_of_the_request() -> None:
    """With its port, in every notation."""
    for host in ("localhost:8080", "archive.example", "[::1]:8080", "192.0.2.7", "my_host"):
        assert base(scope(host=host)) == f"http://{host}"


@pytest.mark.parametrize(
    "host",
    ["", "a b", "evil/path", "a@b", "x:y", "a:123456", '"><script>', "[::1", "a\x00b", "é", "a?b",
     "a#b", "a" * 300],
)  # fmt: skip
def test_a_host_that_is_none_is_not_repeated(host: str) -> None:
    """The address that the socket has stands in."""
    assert base(scope(host=host)) == "http://127.0.0.1:8080"


def test_forwarded_headers_of_a_configured_proxy() -> None:
    """Scheme, host and prefix."""
    expected = "https://archive.example/cutouts"
    assert base(scope(PROXY, **FORWARDED)) == expected
    assert base(scope("2001:db8::7", **FORWARDED)) == expected
    assert base(scope("::ffff:10.0.0.7", **FORWARDED)) == expected


@pytest.mark.parametrize("client", ["192.0.2.1", "11.0.0.7", "::1", "testclient"])
def test_forwarded_headers_of_anybody_else_are_ignored(client: str) -> None:
    """Otherwise a client could choose what others find in a cache."""
    assert base(scope(client, **FORWARDED)) == "http://inner:8080"


def test_the_nearest_hop_is_believed() -> None:
    """What stands before it may be the client's own."""
    request = scope(PROXY, **{**FORWARDED, "x_forwarded_host": "evil.example, archive.example"})
    assert base(request) == "https://archive.example/cutouts"


@pytest.mark.parametrize(
    "forwarded",
    [{"x_forwarded_proto": "javascript"}, {"x_forwarded_host": "a b"},
     {"x_forwarded_prefix": "//x"}, {"x_forwarded_prefix": "/a?b"}],
)  # fmt: skip
def test_nonsense_of_a_proxy_is_not_repeated(forwarded: dict[str, str]) -> None:
    """A proxy may forward what it did not check."""
    made = base(scope(PROXY, host="inner:8080", **forwarded))
    assert made in {"http://inner:8080", "http://127.0.0.1:8080"}


@given(st.text(alphabet=st.characters(max_codepoint=255)))
def test_no_host_breaks_out(host: str) -> None:
    """Whatever comes, the base is a URL of nothing but plain characters."""
    made = base(scope(host=host))
    assert not set(made) & set(" <>\"'?#@\\\r\n\0")
    assert made.count("//") == 1


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", "198.51.100.9", "192.0.2.1"),
        (PROXY, "198.51.100.9", "198.51.100.9"),
        (PROXY, "1.2.3.4, 198.51.100.9, 10.1.1.1", "198.51.100.9"),
        (PROXY, "rubbish", PROXY),
        (PROXY, "", PROXY),
    ],
)
def test_the_client_in_the_log(peer: str, forwarded: str, client: str) -> None:
    """The last hop that is no proxy of ours."""
    proxies = Proxies((ip_network("10.0.0.0/8"),))
    assert proxies.client(scope(peer, x_forwarded_for=forwarded)) == client


def test_every_url_starts_with_the_base() -> None:
    """And is what discovery asks for."""
    urls: Urls = SiteUrls("https://a.example/b")
    did = "ivo://a.example/c?d e"
    made = [
        urls.root, urls.query_endpoint, urls.links_endpoint, urls.sync_endpoint, urls.examples,
        *(urls.capabilities(one) for one in Service), *(urls.availability(one) for one in Service),
        urls.links(did), urls.sync(did, circle=Circle(1, 2, 3), detail="Image"),
    ]  # fmt: skip
    assert all(url.startswith("https://a.example/b/") for url in made)
    assert len(set(made)) == len(made)
    assert (
        urls.links(did) == "https://a.example/b/datalink/links?ID=ivo%3A%2F%2Fa.example%2Fc%3Fd%20e"
    )
    assert made[-1].endswith("&CIRCLE=1.0%202.0%203.0&CUTOUTDETAIL=Image")
