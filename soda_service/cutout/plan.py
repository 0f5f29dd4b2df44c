"""What has been decided about a cutout before a pixel is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from soda_service.geometry.pixelbox import NOT_QUICK, Quickness

if TYPE_CHECKING:
    from soda_service.catalog.dataset import Dataset, DatasetHdu
    from soda_service.geometry.pixelbox import PixelBox

__all__ = ["NOT_QUICK", "CutoutPlan", "HduPlan", "Quickness"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HduPlan:
    """One HDU of the answer."""

    hdu: DatasetHdu
    header: bytes
    """Complete: with END, padded to whole blocks."""
    box: PixelBox | None
    """Of the parent's pixels; None where the data unit is copied as it stands."""
    data_size: int
    """Bytes of the data unit without padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutoutPlan:
    """Boxes, headers and size of one answer; pure data."""

    dataset: Dataset
    hdus: tuple[HduPlan, ...]
    """Empty where the file is to be handed out as it is."""
    size: int
    """Bytes of the answer."""
    filename: str
    media_type: str
    etag: str
    """Strong entity tag, quotes included: of the dataset, its version and the boxes."""
    checksums: bool
    """Whether CHECKSUM and DATASUM of the cut HDUs are computed from the pixels."""

    @property
    def modified_ns(self) -> int:
        """When the parent file was last modified, nanoseconds since 1970."""
        return self.dataset.version.modified_ns
