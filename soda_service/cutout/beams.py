"""The beams of a radio cube: CASA's table BEAMS, with a row for each channel and polarization.

Whoever reads it takes row and channel together: radio-beam and spectral-cube want as many rows as
there are channels, CASA looks for CHAN and POL, which count planes of the cube from 0, and NCHAN
and NPOL rows. So the rows go with the planes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from soda_service.geometry.pixelbox import SteppedBox

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from soda_service.cutout.preparedhdu import PreparedHdu
    from soda_service.fits.tablerows import BinaryTable
    from soda_service.geometry.pixelbox import PixelBox

_NAME: Final = "BEAMS"


def is_beams(hdu: PreparedHdu) -> bool:
    """Whether *hdu* is such a table."""
    return hdu.hdu.layout.name.strip().upper() == _NAME and not hdu.hdu.layout.is_image


def has_beams(image: PreparedHdu) -> bool:
    """Whether the beams of *image* stand in the table."""
    return image.is_cuttable and image.hdu.layout.header.get("CASAMBM") is True


def lacks_planes(image: PreparedHdu, box: PixelBox) -> bool:
    """Whether *box* has not all channels and polarizations of *image*, or has them elsewhere."""
    naxis = image.hdu.layout.naxis
    return any(
        box.lower[axis] != 0 or box.naxis[axis] != naxis[axis] for axis in _axes(image).values()
    )


def rows_of_planes(
    table: BinaryTable, image: PreparedHdu, box: PixelBox
) -> tuple[NDArray[np.intp], dict[str, NDArray[np.float64]], dict[str, int]] | None:
    """The rows for the planes of *box*: their places, their CHAN and POL, and NCHAN and NPOL.

    None where the table does not belong to the axes of *image*.
    """
    kept = np.ones(table.count, dtype=bool)
    numbers: dict[str, NDArray[np.float64]] = {}
    counts: dict[str, int] = {}
    for name, axis in _axes(image).items():
        plane = table.numbers(name)
        if plane is None:
            continue
        if not ((plane >= 0) & (plane < image.hdu.layout.naxis[axis])).all():
            return None
        step = box.step if isinstance(box, SteppedBox) and box.axis == axis else 1
        low, high = box.lower[axis], box.upper[axis]
        kept &= (plane >= low) & (plane < high) & ((plane - low) % step == 0)
        numbers[name] = (plane - low) // step
        counts[f"N{name}"] = box.naxis[axis]
    rows = np.flatnonzero(kept)
    return rows, {name: values[rows] for name, values in numbers.items()}, counts


def _axes(image: PreparedHdu) -> dict[str, int]:
    """The axes that the columns CHAN and POL count along, 0-based, as far as there are such."""
    found = {}
    if image.spectral is not None:
        found["CHAN"] = image.spectral.axis
    if image.polarization is not None:
        found["POL"] = image.polarization.axis
    return found
