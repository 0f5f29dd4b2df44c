"""Which images of a dataset lie pixel over pixel, so that one box on the sky serves them all.

The first image of each sky grid is the leader of the others: SCI of its ERR and DQ, say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from soda_service.cutout.preparedhdu import PreparedHdu
    from soda_service.fits.wcs import CelestialGrid

_SAME_GRID_PIXELS: Final = 0.01
"""Planes whose corners agree this well on the sky are cut with one box."""


def assign_leaders(images: Sequence[PreparedHdu]) -> None:
    """Give each of *images*, in the order of the file, its leader if it has one."""
    leaders: list[PreparedHdu] = []
    for image in images:
        if image.grid is None and image.faces is None:
            continue
        image.leader = _leader_of(leaders, image)
        if image.leader is image:
            leaders.append(image)
    for image in images:
        if image.grid is None and image.faces is None:
            image.leader = _companion_leader(leaders, image)


def _leader_of(leaders: list[PreparedHdu], image: PreparedHdu) -> PreparedHdu:
    """The plane whose grid *image*, which has coordinates, lies over; itself where there is none.

    HST's ERR may carry its own, undistorted WCS beside SCI's: where a collection gives both
    a role, being of one size and version and showing the same place is enough.
    """
    distances = [(_distance(one, image), one) for one in leaders]
    same = [one for (apart, _), one in distances if apart <= _SAME_GRID_PIXELS]
    if same:
        return same[0]
    planes = [
        (middles, number, one)
        for number, ((_, middles), one) in enumerate(distances)
        if one.hdu.role and image.hdu.role and one.hdu.role != image.hdu.role
        if one.hdu.layout.version == image.hdu.layout.version
        if middles < min(one.sky_naxis) / 2
    ]
    return min(planes)[2] if planes else image


def _distance(leader: PreparedHdu, image: PreparedHdu) -> tuple[float, float]:
    """Pixels between the same points of two images: the most of corners and middle, the middle's.

    Infinite where the images are of different sizes, or their middles are not on the sky.
    Corners that are not are left out.
    """
    if leader.sky_naxis != image.sky_naxis:
        return np.inf, np.inf
    assert leader.wcs is not None
    assert image.wcs is not None
    if leader.faces is not None and image.faces is not None:
        planes, others = leader.faces.planes, image.faces.planes
        if [at for at, _ in planes] != [at for at, _ in others]:
            return np.inf, np.inf
    pairs = zip(leader.wcs.sky_grids, image.wcs.sky_grids, strict=True)
    apart = [_grids_apart(*pair) for pair in pairs]
    return max(most for most, _ in apart), max(middle for _, middle in apart)


def _grids_apart(grid: CelestialGrid, other: CelestialGrid) -> tuple[float, float]:
    """The same of two grids of one size."""
    width, height = grid.naxis
    x = np.array([0.0, width - 1, 0, width - 1, (width - 1) / 2])
    y = np.array([0.0, 0, height - 1, height - 1, (height - 1) / 2])
    sky_of_one, sky_of_other = grid.pixel_to_sky(x, y), other.pixel_to_sky(x, y)
    step = grid.pixel_to_sky(x[4:] + 1, y[4:]) - sky_of_one[:, 4:]
    apart = np.linalg.norm(sky_of_one - sky_of_other, axis=0) / np.linalg.norm(step)
    if np.isnan(apart[4]):
        return np.inf, np.inf
    return float(np.nanmax(apart)), float(apart[4])


def _companion_leader(leaders: list[PreparedHdu], image: PreparedHdu) -> PreparedHdu | None:
    """The plane that an image without coordinates (HST's DQ, say) lies over, if it is certain."""
    fitting = [
        one
        for one in leaders
        if one.sky_naxis == image.lengths_of(one.faces.axes if one.faces else (0, 1))
    ]
    same_version = [one for one in fitting if one.hdu.layout.version == image.hdu.layout.version]
    certain = same_version if len(same_version) == 1 else fitting
    return certain[0] if len(certain) == 1 else None
