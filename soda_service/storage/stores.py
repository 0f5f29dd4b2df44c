"""Object stores and HTTP servers, as far as the operator has named them.

What is reached is what lies below a `RemoteRoot`; any other URL is refused before anything is
sent. URLs are written `s3://BUCKET/KEY`, `gs://BUCKET/KEY`, `az://CONTAINER/KEY`, with the key
as it is, and `http(s)://HOST/PATH`, with the path quoted as ever (RFC 3986 §2.1).

Requests are repeated after errors that may pass (connections that end, timeouts, 5xx, 429),
ever later, for a bounded time. Each answer is compared with the version that was asked for.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from string import ascii_letters, digits
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, unquote

from soda_service import __version__
from soda_service.errors import ConfigurationError, SourceUnavailableError
from soda_service.storage.blockcache import BLOCK_BYTES, BlockCache, Part
from soda_service.storage.source import FileVersion
from soda_service.storage.spans import blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import Any, Self

    from obstore import GetOptions, ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

    from soda_service.storage.remote import RemoteSource
    from soda_service.storage.spans import Span

_BUCKETS: Final = ("s3", "gs", "az")
_HTTP: Final = ("http", "https")
_AUTHORITY: Final = frozenset(ascii_letters + digits + "._-:[]")
PIECE_BYTES: Final = 8 * 1024 * 1024
_LISTED_AT_ONCE: Final = 1000
"""Objects of a page: what S3 gives at most in one answer."""
_CONNECT_SECONDS: Final = 5
_LONGEST_TAG: Final = 512
_NS: Final = 10**9

_FOUND_SECONDS: Final = 1.0
"""How long roots that have been looked for are believed to be all."""

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
    """Most bytes that one reading has asked for and not yet passed on."""
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
        if min(self.parallel, self.connections) < 1 or min(self.gap_bytes, self.retries) < 0:
            raise ConfigurationError("parallel, connections, gap_bytes or retries is too small")


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
        key = quote(self.key, safe="/-._~!$&'()*+,;=:@") if self.scheme in _HTTP else self.key
        return f"{self.scheme}://{self.authority}/{key}"


class StoredObject(NamedTuple):
    """An object that was listed."""

    url: str
    version: FileVersion


def place_of(url: str) -> RemotePlace:
    """The place that *url* names. Raises ConfigurationError where no store could have it."""
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    authority, _, key = rest.partition("/")
    if not separator or scheme not in _BUCKETS + _HTTP or not authority:
        raise ConfigurationError("not the URL of an object in a store")
    if not set(authority) <= _AUTHORITY:
        raise ConfigurationError("a URL with such a host, or with a user, is not supported")
    if scheme in _HTTP:
        authority = authority.lower()
        if {"?", "#"} & {*key}:
            raise ConfigurationError("a URL with a query or a fragment is not supported")
        # What is no UTF-8 becomes a letter that is not printable.
        key = unquote(key, errors="surrogateescape")
    key = key.removesuffix("/")
    if not key.isprintable() or (key and {"", ".", ".."} & {*key.split("/")}):
        raise ConfigurationError("a URL with such a path is not supported")
    return RemotePlace(scheme, authority, key)


class RemoteStores:
    """What lies below the operator's roots; safe to use from several threads.

    A process that forks must not have used it before.
    """

    def __init__(
        self,
        roots: Iterable[RemoteRoot],
        *,
        limits: RemoteLimits | None = None,
        cache: BlockCache | None = None,
        find_roots: Callable[[], Iterable[RemoteRoot]] | None = None,
    ) -> None:
        """Nothing is reached yet. *find_roots* is asked where *roots* do not hold what is wanted.

        Raises ConfigurationError for a URL that is none, two roots of one URL, and a secret
        that the environment does not have; such roots from *find_roots* are logged.
        """
        self.limits = limits or RemoteLimits()
        self.cache = cache or BlockCache(0)
        self._find_roots = find_roots
        self._found_at = float("-inf")
        self._roots: dict[RemotePlace, RemoteRoot] = {}
        self._stores: dict[RemotePlace, Store] = {}
        self._lock = threading.Lock()
        self._finding = threading.Lock()
        for root in roots:
            place = place_of(root.url)
            if place in self._roots:
                raise ConfigurationError(f"two roots have the URL {place.url}")
            self.add(root)
        self._pool = ThreadPoolExecutor(self.limits.connections, thread_name_prefix="stores")

    def add(self, root: RemoteRoot) -> None:
        """Let what is below *root* be reached as it says, whatever was said of its URL before.

        Raises ConfigurationError for a URL that is none and for a secret that the environment
        does not have.
        """
        place = place_of(root.url)
        missing = [name for name in root.secrets.values() if name not in os.environ]
        if missing:
            raise ConfigurationError(f"the environment has no variable {missing[0]}")
        if root.endpoint and place.scheme in _HTTP:
            raise ConfigurationError(f"{place.url} is HTTP and has no other endpoint")
        with self._lock:
            if self._roots.get(place) != root:
                self._roots[place] = root
                self._stores.pop(place, None)

    def open_known(self, url: str, version: FileVersion | None = None) -> RemoteSource:
        """The same as `open` for a URL that the catalog has.

        That it cannot be reached as things are set up is SourceUnavailableError: those who ask
        have not done wrong. The log says what it is.
        """
        try:
            return self.open(url, version)
        except ConfigurationError as error:
            raise _not_set_up(error, url) from None

    def open(self, url: str, version: FileVersion | None = None) -> RemoteSource:
        """The object at *url*; without a request where its *version* is known.

        Raises FileNotFoundError, which names nothing, where there is none;
        SourceUnavailableError where the store does not tell, or does not say how one version
        is told from the next; ConfigurationError where it lies below no root.
        """
        from soda_service.storage.remote import RemoteSource  # it needs this module

        place = place_of(url)
        store = self._store(place)
        if version is None:
            version = store.version_of(place)
        return RemoteSource(store, place, version, cache=self.cache, pool=self._pool)

    def version_of(self, url: str) -> FileVersion | None:
        """The version of the object at *url* now, by one request; None where there is none.

        Raises SourceUnavailableError, ConfigurationError as `open` does.
        """
        place = place_of(url)
        try:
            return self._store(place).version_of(place)
        except FileNotFoundError:
            return None

    def version_of_known(self, url: str) -> FileVersion | None:
        """The same as `version_of` for a URL that the catalog has; see `open_known`."""
        try:
            return self.version_of(url)
        except ConfigurationError as error:
            raise _not_set_up(error, url) from None

    def list(self, url: str) -> Iterator[StoredObject]:
        """The objects below *url*, in the order and the pages in which the store gives them.

        HTTP servers must speak WebDAV for it. What could not be opened by its URL is left out,
        and logged. Raises SourceUnavailableError, on the way too,
        and ConfigurationError where *url* lies below no root.
        """
        place = place_of(url)
        yield from self._store(place).list(place)

    def try_to_reach(self, url: str) -> None:
        """One request that any store answers which lets its objects be read.

        Raises SourceUnavailableError, whose message says why it does not, and ConfigurationError.
        """
        place = place_of(url)
        store = self._store(place)
        if place.scheme in _BUCKETS:
            next(store.list(place), None)
        else:
            store.confirm_answers(place)

    def holds(self, url: str) -> bool:
        """Whether *url* lies below a root."""
        try:
            place = place_of(url)
        except ConfigurationError:
            return False
        if self._root(place) is None:
            self._look_for_roots()
        return self._root(place) is not None

    def close(self) -> None:
        """Let go of the threads, once they have ended what they do."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _root(self, place: RemotePlace) -> RemotePlace | None:
        """The deepest root that holds *place*."""
        key = place.key
        while True:
            root = place._replace(key=key)
            if root in self._roots:
                return root
            if not key:
                return None
            key = key.rpartition("/")[0]

    def _store(self, place: RemotePlace) -> Store:
        root = self._root(place)
        if root is None:
            self._look_for_roots()
            root = self._root(place)
        if root is None:
            raise ConfigurationError(f"{place.url} lies below the root of no collection")
        with self._lock:
            store = self._stores.get(root)
            if store is None:
                store = self._stores[root] = Store(self._roots[root], self.limits)
        return store

    def _look_for_roots(self) -> None:
        """Learn what has been added since, by an ingest in another process say."""
        if self._find_roots is None:
            return
        # Who comes while others look waits for what they find.
        with self._finding:
            if time.monotonic() - self._found_at < _FOUND_SECONDS:
                return
            for root in self._find_roots():
                try:
                    self.add(root)
                except ConfigurationError as error:
                    _logger.warning("%s cannot be reached: %s", root.url, error)
            self._found_at = time.monotonic()


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
                return _parts(result.stream(min_chunk_size=BLOCK_BYTES), span, place)
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
    base = root.endpoint or (place.url if place.scheme in _HTTP else "")
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
    if root.anonymous and place.scheme in _BUCKETS:
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
                raise SourceUnavailableError(
                    "the store gives more bytes than it says", path=place.url
                )
            room = min(len(buffers[number]) - at, len(rest))
            buffers[number][at : at + room] = rest[:room]
            rest, at = rest[room:], at + room
            if at == len(buffers[number]):
                number, at = number + 1, 0
    if number < len(buffers):
        raise SourceUnavailableError("the store gives fewer bytes than it says", path=place.url)
    return [
        Part(one.start, memoryview(buffer).toreadonly())
        for one, buffer in zip(edges, buffers, strict=True)
    ]


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


def _not_set_up(error: ConfigurationError, url: str) -> SourceUnavailableError:
    _logger.error("%s: %s", url, error)
    return SourceUnavailableError("its store is not set up as it should be", path=url)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:500]
