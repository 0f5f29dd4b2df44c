"""One object store or HTTP server: what it is asked for, and what its answers mean.

Requests are repeated after errors that may pass (connections that end, timeouts, 5xx, 429),
ever later, for a bounded time. Each answer is compared with the version that was asked for.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from soda_service import __version__
from soda_service.errors import ConfigurationError, SourceUnavailableError
from soda_service.storage.blockcache import BLOCK_BYTES, Part
from soda_service.storage.remoteplace import BUCKETS, HTTP, RemotePlace, place_of
from soda_service.storage.source import FileVersion
from soda_service.storage.spans import blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from obstore import GetOptions, ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

    from soda_service.storage.remoteplace import RemoteLimits, RemoteRoot
    from soda_service.storage.spans import Span

    Put = Callable[[int, memoryview], None]
    """Is given a place in the object and what stands there."""

_LISTED_AT_ONCE: Final = 1000
"""Objects of a page: what S3 gives at most in one answer."""
_CONNECT_SECONDS: Final = 5
_LONGEST_TAG: Final = 512
_NS: Final = 10**9

_LACKS_HEADERS: Final = "header"
"""What obstore says of a page that is no object: it has no length, say."""

_REASONS: Final = {
    "169.254.169.254": "there are no credentials for the store",
    "metadata.google.internal": "there are no credentials for the store",
    "without LOCATION": "the bucket is in another region",
    "401 Unauthorized": "the store refuses access",
    "403 Forbidden": "the store refuses access",
    "404 Not Found": "there is no such bucket",
    "405 Method Not Allowed": "the server gives no lists (WebDAV); name its files one by one",
    "501 Not Implemented": "the server gives no lists (WebDAV); name its files one by one",
    "429 Too Many Requests": "the store is too busy",
    "503 Service Unavailable": "the store is too busy",
    "error sending request": "the store is not there, or does not answer in time",
    "operation timed out": "the store does not answer in time",
}
"""Part of what obstore says to what is told; the first that fits."""

_logger = logging.getLogger(__name__)


class StoredObject(NamedTuple):
    """An object that was listed."""

    url: str
    version: FileVersion


class Store:
    """What is below one root; every method may block, for a bounded time.

    Errors carry the URL of the object as their `path`.
    """

    def __init__(self, root: RemoteRoot, limits: RemoteLimits) -> None:
        """Raises ConfigurationError where obstore does not take the settings of *root*."""
        self.limits = limits
        self._rest = _Rest(limits)
        try:
            self._store = _opened(root, limits)
        except _errors() as error:
            reason = _first_line(error)
            raise ConfigurationError(f"the store {root.url} cannot be used: {reason}") from None

    def version_of(self, place: RemotePlace) -> FileVersion:
        """The version of the object now, by one request.

        Raises FileNotFoundError, which names nothing, and SourceUnavailableError.
        """
        import obstore

        try:
            with self._rest.request(place):
                version = _version(obstore.head(self._store, place.key))
        except FileNotFoundError:
            raise FileNotFoundError("no such object") from None
        except _errors() as error:
            raise _failure(error, place) from None
        if not version.tag and not version.modified_ns:
            raise SourceUnavailableError(
                "the server gives neither ETag nor Last-Modified: a change could not be noticed",
                path=place.url,
            )
        return version

    def confirm(self, place: RemotePlace, version: FileVersion) -> None:
        """Asks, by one request, whether the object is still that of *version*.

        Raises ObjectChangedError where it is not, and SourceUnavailableError.
        """
        try:
            found = self.version_of(place)
        except FileNotFoundError as error:
            raise _failure(error, place) from None
        _check(found, version, place)

    def confirm_answers(self, place: RemotePlace) -> None:
        """Asks for the entry of *place*, whether there is one or not.

        Raises SourceUnavailableError where the server is not there or refuses.
        """
        import obstore

        try:
            with self._rest.request(place):
                obstore.head(self._store, place.key)
        except FileNotFoundError:
            return
        except _errors() as error:
            if _LACKS_HEADERS not in str(error):
                raise _failure(error, place, "cannot be reached") from None

    def fetch(self, place: RemotePlace, version: FileVersion, span: Span) -> list[Part]:
        """The bytes of *span*, taken apart at the borders of blocks, by one request.

        Raises ObjectChangedError where the object is no more that of *version*, and
        SourceUnavailableError.
        """
        with self._answer(place, version, span) as stream:
            return _parts(stream, span, place)

    def fetch_into(self, place: RemotePlace, version: FileVersion, span: Span, put: Put) -> None:
        """The same as they come: *put* is given each piece, which may be in vain.

        Until this returns they may turn out to be fewer or more than they should be.
        """
        with self._answer(place, version, span) as stream:
            at = span.start
            for chunk in stream:
                if at + len(chunk) > span.stop:
                    raise _too_many(place)
                put(at, memoryview(chunk))
                at += len(chunk)
        if at < span.stop:
            raise _too_few(place)

    @contextmanager
    def _answer(
        self, place: RemotePlace, version: FileVersion, span: Span
    ) -> Iterator[Iterable[bytes]]:
        """What is sent for *span* of the object, which is that of *version*."""
        import obstore

        options: GetOptions = {"range": (span.start, span.stop)}
        if version.tag and not version.tag.startswith("W/"):
            options["if_match"] = version.tag
        elif version.modified_ns:
            # A weak tag matches nothing (RFC 9110 §13.1.1).
            options["if_unmodified_since"] = datetime.fromtimestamp(version.modified_ns // _NS, UTC)
        try:
            with self._rest.request(place):
                result = obstore.get(self._store, place.key, options=options)
                _check(_version(result.meta), version, place)
                if result.range != (span.start, span.stop):
                    raise SourceUnavailableError(
                        "the store gives other bytes than asked for", path=place.url
                    )
                yield result.stream(min_chunk_size=BLOCK_BYTES)
        except _errors() as error:
            raise _failure(error, place) from None

    def list(self, place: RemotePlace) -> Iterator[StoredObject]:
        """The objects below *place*, page by page. Raises SourceUnavailableError."""
        import obstore

        try:
            for page in obstore.list(self._store, place.key or None, chunk_size=_LISTED_AT_ONCE):
                for meta in page:
                    url = place._replace(key=meta["path"]).url
                    if url.endswith("/"):
                        continue  # what stands for a folder in some stores
                    if _can_be_named(url):
                        yield StoredObject(url, _version(meta))
                    else:
                        _logger.warning("%r is left out: its name is not supported", url)
        except _errors() as error:
            raise _failure(error, place, "cannot be listed") from None


class _Rest:
    """Keeps threads from waiting for a store that does not answer: they have other work.

    A request that fails after its whole time has passed makes the store rest. After that one
    request at a time finds out whether it answers again; all others fail at once.
    """

    def __init__(self, limits: RemoteLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._until: float | None = None
        self._is_being_tried = False

    @contextmanager
    def request(self, place: RemotePlace) -> Iterator[None]:
        """Around a request; raises SourceUnavailableError while the store rests."""
        begin = time.monotonic()
        with self._lock:
            if self._until is not None:
                if self._is_being_tried or begin < self._until:
                    raise SourceUnavailableError(
                        "the store has not answered lately", path=place.url
                    )
                self._is_being_tried = True
        until = None
        try:
            yield
        except BaseException:
            end = time.monotonic()
            if self._limits.rest_seconds and end - begin >= self._limits.timeout_seconds:
                until = end + self._limits.rest_seconds
            raise
        finally:
            with self._lock:
                self._until = until
                self._is_being_tried = False


class ObjectChangedError(SourceUnavailableError):
    """An object is no more the one that was asked for: it was replaced, or removed."""


def _opened(root: RemoteRoot, limits: RemoteLimits) -> ObjectStore:
    from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store  # where there are stores

    place = place_of(root.url)
    base = root.endpoint or (place.url if place.scheme in HTTP else "")
    client: ClientConfig = {
        "allow_http": base.startswith("http://"),
        "connect_timeout": timedelta(seconds=min(_CONNECT_SECONDS, limits.timeout_seconds)),
        "timeout": timedelta(seconds=limits.timeout_seconds),
        "pool_max_idle_per_host": str(limits.connections),
        "user_agent": f"soda-service/{__version__}",
    }
    retry: RetryConfig = {
        "max_retries": limits.retries,
        "retry_timeout": timedelta(seconds=limits.retry_seconds),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=5),
            "base": 2,
        },
    }
    # The keys are obstore's, and it refuses those it does not know.
    config: Any = dict(root.options)
    config |= {name: os.environ[variable] for name, variable in root.secrets.items()}
    if root.anonymous and place.scheme in BUCKETS:
        config["skip_signature"] = True
    match place.scheme:
        case "s3":
            config["virtual_hosted_style_request"] = root.virtual_hosted
            config |= {"endpoint": root.endpoint} if root.endpoint else {}
            config |= {"region": root.region} if root.region else {}
            return S3Store(
                place.authority, config=config, client_options=client, retry_config=retry
            )
        case "gs":
            config |= {"base_url": root.endpoint} if root.endpoint else {}
            return GCSStore(
                place.authority, config=config, client_options=client, retry_config=retry
            )
        case "az":
            config |= {"endpoint": root.endpoint} if root.endpoint else {}
            return AzureStore(
                place.authority, config=config, client_options=client, retry_config=retry
            )
        case _:
            if config:
                raise ValueError("an HTTP server has no options")
            return HTTPStore(place._replace(key="").url, client_options=client, retry_config=retry)


def _version(meta: ObjectMeta) -> FileVersion:
    """Whole seconds: lists know fractions of them that answers to other requests do not."""
    modified = max(0, int(meta["last_modified"].timestamp()))
    return FileVersion(meta["size"], modified * _NS, _tag(meta["e_tag"]))


def _can_be_named(url: str) -> bool:
    try:
        place_of(url)
    except ConfigurationError:
        return False
    return True


def _tag(tag: str | None) -> str:
    """*tag* with the quotes that lists leave out in some stores; empty for one that is none."""
    if not tag or len(tag) > _LONGEST_TAG or not tag.isascii() or not tag.isprintable():
        return ""
    return tag if tag.endswith('"') else f'"{tag}"'


def _check(found: FileVersion, version: FileVersion, place: RemotePlace) -> None:
    """Raises ObjectChangedError where *found* is of another content than *version*.

    Times count only where there is no tag: copies of one object may have several.
    """
    same_time = bool(version.tag) or found.modified_ns == version.modified_ns
    if found.size != version.size or found.tag != version.tag or not same_time:
        raise ObjectChangedError("the object has changed since it was looked at", path=place.url)


def _parts(stream: Iterable[bytes], span: Span, place: RemotePlace) -> list[Part]:
    """The bytes of *stream*, which should be those of *span*, each block in memory of its own."""
    edges = blocks(span, BLOCK_BYTES)
    buffers = [bytearray(one.stop - one.start) for one in edges]
    number = at = 0
    for chunk in stream:
        rest = memoryview(chunk)
        while rest:
            if number == len(buffers):
                raise _too_many(place)
            room = min(len(buffers[number]) - at, len(rest))
            buffers[number][at : at + room] = rest[:room]
            rest, at = rest[room:], at + room
            if at == len(buffers[number]):
                number, at = number + 1, 0
    if number < len(buffers):
        raise _too_few(place)
    return [
        Part(one.start, memoryview(buffer).toreadonly())
        for one, buffer in zip(edges, buffers, strict=True)
    ]


def _too_many(place: RemotePlace) -> SourceUnavailableError:
    return SourceUnavailableError("the store gives more bytes than it says", path=place.url)


def _too_few(place: RemotePlace) -> SourceUnavailableError:
    return SourceUnavailableError("the store gives fewer bytes than it says", path=place.url)


def _errors() -> tuple[type[Exception], ...]:
    """What obstore raises; an error of a file's content is none of it."""
    from obstore.exceptions import BaseError

    return (BaseError, OSError, ValueError)


def _failure(
    error: Exception, place: RemotePlace, what: str = "cannot be read"
) -> SourceUnavailableError:
    """What to tell; the log has the rest, which names hosts and keys."""
    from obstore import exceptions

    text = _first_line(error)
    _logger.warning("%s %s: %s: %s", place.url, what, type(error).__name__, text)
    if isinstance(error, FileNotFoundError):
        return ObjectChangedError("the object is gone", path=place.url)
    # A range behind the end of the object: it is shorter than it was.
    if isinstance(error, exceptions.PreconditionError) or "416 Range Not Satisfiable" in text:
        return ObjectChangedError("the object has changed since it was looked at", path=place.url)
    if isinstance(error, (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)):
        reason = "the store refuses access"
    elif isinstance(error, exceptions.NotSupportedError):
        reason = "the server does not serve ranges"
    else:
        found = (reason for part, reason in _REASONS.items() if part in text)
        reason = next(found, "the store does not answer as it should")
    return SourceUnavailableError(f"{what}: {reason}", path=place.url)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:500]
