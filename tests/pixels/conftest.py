"""Files of the zoo on disk, each with what astropy reads of it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from support.images import write_family

from soda_service.fits.layout import scan_hdus
from soda_service.storage.cache import InflatedCache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from soda_service.fits.layout import HduLayout
    from soda_service.storage.source import RunSource


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooFile:
    """A file of the zoo, open."""

    source: RunSource
    images: tuple[tuple[HduLayout, NDArray[np.generic]], ...]
    """Each image with its stored values, big-endian, as astropy reads all of them."""


@pytest.fixture(name="zoo_file", scope="session")
def _zoo_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ZooFile]:
    """Gives the file of a family; written and read once."""
    folder = tmp_path_factory.mktemp("zoo")
    inflated = InflatedCache(folder / "cache", 10**9)

    @cache
    def open_family(name: str) -> ZooFile:
        path = write_family(name, folder)
        source = inflated.open(str(path))
        layouts = [hdu for hdu in scan_hdus(source.read, source.version.size) if hdu.is_image]
        stored = _stored_values(path)
        images = [(layout, stored[layout.index]) for layout in layouts]
        return ZooFile(source=source, images=tuple(images))

    return open_family


def _stored_values(path: Path) -> list[NDArray[np.generic]]:
    with warnings.catch_warnings():
        # Astropy complains of what the zoo does on purpose.
        warnings.simplefilter("ignore")
        with fits.open(path, do_not_scale_image_data=True, memmap=False) as hdus:
            arrays = [np.asarray([] if hdu.data is None else hdu.data) for hdu in hdus]
    return [
        array.astype(array.dtype.newbyteorder(">")) if array.dtype.fields is None else array
        for array in arrays
    ]
