"""From a file to a dataset: its headers are read, its HDUs are given roles, its facts found."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from soda_service.catalog.coverage import ScienceImage
from soda_service.catalog.dataset import Dataset, DatasetHdu
from soda_service.catalog.facts import Identity, clean_text, facts_of, header_value
from soda_service.catalog.headersource import HeaderSource
from soda_service.catalog.localparts import encoded_local_part
from soda_service.catalog.rows import details_of, plane_rules
from soda_service.errors import CorruptFileError, NoImageError
from soda_service.fits.header import image_header
from soda_service.fits.inherited import with_inherited
from soda_service.fits.layout import scan_hdus
from soda_service.fits.wcs import MOST_TABLE_BYTES, ImageWcs, WcsError, needed_tables
from soda_service.storage.objectstore import ObjectChangedError
from soda_service.storage.remoteplace import place_of
from soda_service.storage.remotesettings import remote_limits, remote_root
from soda_service.storage.source import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from soda_service.config import CollectionConfig, Settings
    from soda_service.fits.cards import Header
    from soda_service.fits.layout import HduLayout
    from soda_service.storage.remoteplace import RemoteLimits, RemoteRoot
    from soda_service.storage.source import FileVersion
    from soda_service.storage.stores import RemoteStores

INDEX_VERSION: Final = 2
"""Raised when the same file would be understood otherwise than before: all are read again."""

SCIENCE: Final = "science"

_MOST_HDUS: Final = 10_000
_MOST_HEADER_BYTES: Final = 64 * 1024**2

_FITS_SUFFIX: Final = re.compile(r"(\.(fits|fit|fts))?(\.(gz|fz|bz2))?$", re.IGNORECASE)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The collection that a file belongs to, and where in it the file lies."""

    collection: str
    root: str
    """Absolute path, or URL in a store, that the local part of the DID is relative to."""
    config: CollectionConfig
    """What holds for all collections is filled in."""
    authority: str
    inflated_limit: int
    """Bytes to which a compressed file may inflate."""
    limits: RemoteLimits
    """How stores are read."""

    fingerprint: str
    """Differs where a file would be understood differently."""

    @property
    def store(self) -> RemoteRoot | None:
        """How what lies below the root is reached, where that is in a store."""
        return remote_root(self.root, self.config.store) if is_remote(self.root) else None


def place_in(settings: Settings, *, collection: str, root: str, config: CollectionConfig) -> Place:
    """The place of files below *root* in *collection*."""
    return Place(
        collection=collection,
        root=root,
        config=config,
        authority=settings.authority,
        inflated_limit=settings.cache_bytes,
        limits=remote_limits(settings),
        fingerprint=_fingerprint(settings.authority, collection, root, config),
    )


def index(
    path: str,
    place: Place,
    *,
    local_part: str | None = None,
    stores: RemoteStores | None = None,
    version: FileVersion | None = None,
) -> Dataset:
    """The dataset in the file *path*, from its headers alone.

    *local_part* is that of an earlier reading, for a file that changed where it stands; a
    template of keywords goes before it. *version* is what a list of *stores* said of an object.
    Raises UnknownDatasetError when nothing is there,
    SourceUnavailableError when it cannot be read now, CorruptFileError when it is not an
    image in FITS or cannot be named.
    """
    try:
        return _indexed(path, place, local_part, stores, version)
    except ObjectChangedError:
        if version is None:
            raise
        # It was replaced since, or the list says less than the object does.
        return _indexed(path, place, local_part, stores, None)


def _indexed(
    path: str,
    place: Place,
    local_part: str | None,
    stores: RemoteStores | None,
    version: FileVersion | None,
) -> Dataset:
    limit = place.inflated_limit
    with HeaderSource(path, inflated_limit=limit, stores=stores, version=version) as source:
        try:
            layouts = _scan(source, path)
        except CorruptFileError:
            if source.is_size_proved:
                raise
            source.prove_size()
            layouts = _scan(source, path)
        rules = plane_rules(place.config)
        hdus = tuple(
            DatasetHdu(layout=layout, role=role, planes=rules.get(layout.name.upper()))
            for layout, role in zip(layouts, _roles(layouts, place.config), strict=True)
        )
        images = _science_images(hdus, source, path)
        source.assert_unchanged()
        media_type, version = source.media_type, source.version
    headers = _fact_headers(layouts, hdus)
    local_part = _local_part(path, place, headers, local_part)
    obscore, footprint = facts_of(
        Identity(
            collection=place.collection,
            publisher_did=publisher_did(place.authority, place.collection, local_part),
            obs_id=clean_text(_stem(path, place)) or local_part,
            file_size=version.size,
        ),
        place.config,
        headers,
        images,
    )
    return Dataset(
        obscore=obscore,
        footprint=footprint,
        url=path,
        local_part=local_part,
        version=version,
        media_type=media_type,
        hdus=hdus,
        details=details_of(place.config.details, hdus),
    )


def _fingerprint(authority: str, collection: str, root: str, config: CollectionConfig) -> str:
    told_elsewhere = {"title", "description", "links", "include", "root", "store"}
    settings = config.model_dump_json(exclude=told_elsewhere)
    text = "\n".join((str(INDEX_VERSION), authority, collection, root, settings))
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def publisher_did(authority: str, collection: str, local_part: str) -> str:
    """The identifier; *local_part* is percent-encoded already."""
    return f"ivo://{authority}/{quote(collection, safe='-._~')}?{local_part}"


def _scan(source: HeaderSource, path: str) -> list[HduLayout]:
    layouts: list[HduLayout] = []
    header_bytes = 0
    try:
        for layout in scan_hdus(source.read_at, source.size):
            layouts.append(layout)
            header_bytes += len(layout.header.raw)
            if len(layouts) > _MOST_HDUS or header_bytes > _MOST_HEADER_BYTES:
                break
    except CorruptFileError as error:
        raise CorruptFileError(str(error), path=path) from None
    if len(layouts) > _MOST_HDUS or header_bytes > _MOST_HEADER_BYTES:
        raise CorruptFileError("has more HDUs or header cards than can be right", path=path)
    if not any(layout.is_image for layout in layouts):
        raise NoImageError("holds no image", path=path)
    return layouts


def _roles(layouts: Sequence[HduLayout], config: CollectionConfig) -> list[str]:
    """The role of each HDU: as configured, else science for images where nothing else is."""
    configured = {name.upper(): role for name, role in config.roles.items()}
    roles = [configured.get(_type_name(layout).upper(), "") for layout in layouts]
    if SCIENCE in roles:
        return roles
    return [
        SCIENCE if not role and layout.is_image else role
        for layout, role in zip(layouts, roles, strict=True)
    ]


def _type_name(layout: HduLayout) -> str:
    """EXTNAME, or the EXTTYPE by which older LSST software tells the planes apart."""
    if layout.name:
        return layout.name
    kind = layout.header.get("EXTTYPE")
    return kind.strip() if isinstance(kind, str) else ""


def _science_images(
    hdus: Sequence[DatasetHdu], source: HeaderSource, path: str
) -> list[ScienceImage]:
    """The images with that role; where some have a place on the sky, those alone."""
    images: list[ScienceImage] = []
    for hdu in hdus:
        if hdu.role != SCIENCE or not hdu.layout.is_image:
            continue
        wcs: ImageWcs | None = None
        try:
            wcs = hdu_wcs(hdu, hdus, source)
        except WcsError as error:
            _logger.info("%s: HDU %d: no coordinates: %s", path, hdu.layout.index, error)
        images.append(ScienceImage(hdu.layout.naxis, wcs))
    placed = [image for image in images if image.wcs and image.wcs.sky_grids]
    return placed or images


def hdu_wcs(hdu: DatasetHdu, hdus: Sequence[DatasetHdu], source: HeaderSource) -> ImageWcs:
    """The coordinates of an image, given the HDUs of its file; raises WcsError."""
    header = image_header(hdu.layout.header)
    if hdu.layout.index:
        header = with_inherited(header, hdus[0].layout.header)
    tables = _tables(needed_tables(header), hdus, source)
    return ImageWcs.of(header, hdu.layout.naxis, tables=tables)


def _tables(
    needed: Iterable[tuple[str, int]], hdus: Sequence[DatasetHdu], source: HeaderSource
) -> bytes:
    """The HDUs of the file that an image's coordinates refer to, one after the other."""
    wanted = {(name.upper(), version) for name, version in needed}
    found = [hdu.layout for hdu in hdus if (hdu.layout.name.upper(), hdu.layout.version) in wanted]
    if sum(layout.end - layout.header_offset for layout in found) > MOST_TABLE_BYTES:
        raise WcsError("the tables of its distortion are larger than can be right")
    return b"".join(
        source.read_at(layout.header_offset, layout.end - layout.header_offset) for layout in found
    )


def _fact_headers(layouts: Sequence[HduLayout], hdus: Sequence[DatasetHdu]) -> list[Header]:
    """The primary header, then that of the first science image."""
    headers = [layouts[0].header]
    for hdu in hdus:
        if hdu.role == SCIENCE and hdu.layout.is_image:
            if hdu.layout.index > 0:
                headers.append(hdu.layout.header)
            break
    return headers


def _local_part(path: str, place: Place, headers: Sequence[Header], earlier: str | None) -> str:
    template = place.config.publisher_did
    if template is None:
        return earlier or encoded_local_part(os.fsencode(_relative(path, place)))

    def filled(found: re.Match[str]) -> str:
        value = header_value(found[1].strip(), headers)
        text = "" if value is None else clean_text(str(value))
        if not text:
            raise CorruptFileError(
                f"its headers lack {found[1]}, which its identifier is made of", path=path
            )
        return encoded_local_part(text)

    return re.sub(r"\{([^{}]+)\}", filled, template)


def _stem(path: str, place: Place) -> str:
    """The path below the root without the suffixes of FITS files."""
    relative = _relative(path, place)
    return _FITS_SUFFIX.sub("", relative) or relative


def _relative(path: str, place: Place) -> str:
    """The path below the root."""
    if is_remote(path):
        return place_of(path).key.removeprefix(place_of(place.root).key).lstrip("/")
    return os.path.relpath(path, place.root)
