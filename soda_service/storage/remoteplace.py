"""Places in object stores and on HTTP servers: how they are written, and how they are reached.

URLs are written `s3://BUCKET/KEY`, `gs://BUCKET/KEY`, `az://CONTAINER/KEY`, with the key
as it is, and `http(s)://HOST/PATH`, with the path quoted as ever (RFC 3986 §2.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, unquote

from soda_service.errors import ConfigurationError
from soda_service.storage.blockcache import BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

BUCKETS: Final = ("s3", "gs", "az")
"""Schemes of stores that are divided into buckets."""
HTTP: Final = ("http", "https")
PIECE_BYTES: Final = 8 * 1024 * 1024
_BUCKET: Final = re.compile(r"[A-Za-z0-9._-]+")
_SERVER: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
"""Host, or IPv6 address, and port (RFC 3986 §3.2)."""
_LAST_PORT: Final = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRoot:
    """A place in a store below which objects may be read, and how it is reached.

    What is not given here comes from the environment as the makers of the store define it
    (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `GOOGLE_APPLICATION_CREDENTIALS`,
    `AZURE_STORAGE_ACCOUNT_NAME`…), or from the machine's own identity.
    """

    url: str
    """`s3://BUCKET[/PREFIX]`, `gs://…`, `az://CONTAINER…`, `http(s)://HOST[/PATH]`."""
    anonymous: bool = False
    """Requests are not signed, and no credentials are looked for."""
    endpoint: str = ""
    """URL of a server that speaks the protocol of the store; not for HTTP."""
    region: str = ""
    """Of an S3 bucket."""
    virtual_hosted: bool = False
    """The bucket stands in the host's name, not in the path; *endpoint* then has it too."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Other settings by the names that obstore has for them."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """The same, but the value is the name of the environment variable that has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteLimits:
    """How stores are read."""

    gap_bytes: int = 128 * 1024
    """Bytes between two wanted runs that are read rather than asked around."""
    piece_bytes: int = PIECE_BYTES
    """Most bytes of one request; a multiple of `BLOCK_BYTES`."""
    flight_bytes: int = 16 * 1024 * 1024
    """Most bytes that this process has asked for and not yet put where they belong.

    Beside them each thread may have asked for a megabyte."""
    held_bytes: int = 48 * 1024 * 1024
    """Most bytes of this process that were read of large boxes and wait for their clients.

    Beside them each answer has the band that is being sent, and the next."""
    parallel: int = 16
    """Most requests of one reading at one time."""
    connections: int = 32
    """Most requests of this process at one time."""
    timeout_seconds: float = 20.0
    """How long one request may take, its body included."""
    retries: int = 4
    retry_seconds: float = 30.0
    """How long after the first request another one may begin."""
    rest_seconds: float = 5.0
    """How long a store that did not answer in time is left alone; then one request tries it.

    0: it is asked always."""
    fresh_seconds: float = 60.0
    """How long what is kept may be given without asking whether the object is still the same."""

    def __post_init__(self) -> None:
        """Raises ConfigurationError where the limits contradict each other."""
        if self.piece_bytes < BLOCK_BYTES or self.piece_bytes % BLOCK_BYTES:
            raise ConfigurationError(f"piece_bytes must be a multiple of {BLOCK_BYTES}")
        if self.flight_bytes < self.piece_bytes:
            raise ConfigurationError("flight_bytes must not be less than piece_bytes")
        if min(self.parallel, self.connections) < 1:
            raise ConfigurationError("parallel and connections must be at least one")
        if min(self.gap_bytes, self.held_bytes, self.retries) < 0:
            raise ConfigurationError("gap_bytes, held_bytes and retries must not be negative")


class RemotePlace(NamedTuple):
    """Where an object lies."""

    scheme: str
    authority: str
    """Bucket, container, or host and port."""
    key: str
    """Without a slash at its ends; not quoted."""

    @property
    def url(self) -> str:
        """What `place_of` makes this of."""
        key = quote(self.key, safe="/-._~!$&'()*+,;=:@") if self.scheme in HTTP else self.key
        return f"{self.scheme}://{self.authority}/{key}"


def place_of(url: str) -> RemotePlace:
    """The place that *url* names.

    Raises ConfigurationError where no store could have it; the message repeats nothing of a URL
    that may have a password in it.
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    authority, _, key = rest.partition("/")
    if not separator or scheme not in BUCKETS + HTTP or not authority:
        raise ConfigurationError("not the URL of an object in a store")
    # The URL of a user whose password has a slash reads like a host, `user:pass`, and a path.
    is_sound = _is_server if scheme in HTTP else _BUCKET.fullmatch
    if not is_sound(authority):
        raise ConfigurationError("a URL with such a host, or with a user, is not supported")
    if scheme in HTTP:
        authority = authority.lower()
        if {"?", "#"} & {*key}:
            raise ConfigurationError("a URL with a query or a fragment is not supported")
        # What is no UTF-8 becomes a letter that is not printable.
        key = unquote(key, errors="surrogateescape")
    key = key.removesuffix("/")
    if not key.isprintable() or (key and {"", ".", ".."} & {*key.split("/")}):
        raise ConfigurationError("a URL with such a path is not supported")
    return RemotePlace(scheme, authority, key)


def _is_server(authority: str) -> bool:
    found = _SERVER.fullmatch(authority)
    return found is not None and int(found[1] or 0) <= _LAST_PORT
