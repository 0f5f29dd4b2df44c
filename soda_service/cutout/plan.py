"""What has been decided about a cutout before a pixel is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from soda_service.cutout.form import PLAIN, CutoutForm
from soda_service.fits.layout import HduKind
from soda_service.geometry.pixelbox import NOT_QUICK, PixelBox, Quickness

if TYPE_CHECKING:
    from soda_service.catalog.dataset import Dataset, DatasetHdu
    from soda_service.pixels.filled import Filling

__all__ = ["NOT_QUICK", "CutoutPlan", "HduPlan", "Quickness"]


class HduPlan(NamedTuple):
    """One HDU of the answer."""

    hdu: DatasetHdu
    header: bytes
    """Complete: with END, padded to whole blocks."""
    box: PixelBox | None
    """Of the parent's pixels; None where the data unit is copied as it stands."""
    data_size: int
    """Bytes of the data unit without padding."""
    filling: Filling | None = None
    """What is not the parent's: pixels around the box, and masked ones."""
    made: bytes | None = None
    """The data unit where it is neither the parent's nor a box of it: a table of fewer rows."""

    @property
    def is_copied(self) -> bool:
        """Whether the data unit is made of runs of the parent's file as they stand."""
        if self.made is not None or self.filling is not None:
            return False
        is_plain = type(self.box) is PixelBox and self.hdu.layout.kind is HduKind.IMAGE
        return self.box is None or is_plain


class CutoutPlan(NamedTuple):
    """Boxes, headers and size of one answer; pure data."""

    dataset: Dataset
    hdus: tuple[HduPlan, ...]
    """Empty where the file is to be handed out as it is."""
    size: int
    """Bytes of the answer."""
    filename: str
    media_type: str
    etag: str
    """Strong entity tag, quotes included: of everything that decides about the bytes."""
    form: CutoutForm = PLAIN
    is_copy: bool = False
    """Whether it is headers and runs of the file, and nothing is computed of pixels."""

    computed_size: int = 0
    """Bytes that have to be made for the answer, if they are more than its size: those that only
    sums are taken of."""

    @property
    def is_worth_keeping(self) -> bool:
        """Whether making it again takes more than reading it again: its pixels are computed."""
        return bool(self.hdus) and not self.is_copy and not self.form.header_only

    @property
    def modified_ns(self) -> int:
        """When the parent file was last modified, nanoseconds since 1970."""
        return self.dataset.version.modified_ns
