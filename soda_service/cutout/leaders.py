"""Which images of a dataset lie pixel over pixel, so that one box on the sky serves them all.

The first image of each sky grid is the leader of the others: SCI of its ERR and DQ, say. An image
follows one that shows the same place, or, where it says nothing of where it lies, the one that
its size and version point to. Where all their axes have the same lengths the leader is the lender
of what the image does not say of the others: ERR's wavelengths are SCI's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from soda_service.cutout.preparedhdu import PreparedHdu
    from soda_service.fits.wcs import CelestialGrid

    Floats = NDArray[np.float64]
    _Kind = tuple[tuple[int, ...], tuple[int, ...]]
    """Lengths of the sky's axes and numbers of the planes that have grids."""

_SAME_GRID_PIXELS: Final = 0.01
"""Planes whose corners agree this well on the sky are cut with one box."""
_PLACES: Final = 5
"""Places that tell where a grid lies: its corners and its middle."""


def assign_leaders(images: Sequence[PreparedHdu], constants: Iterable[PreparedHdu] = ()) -> None:
    """Give each of *images*, in the order of the file, its leader and lender if it has them.

    *constants* are HDUs without data that stand for images of one value.
    """
    known = _Leaders(len(images))
    others = []
    for image in images:
        if image.grid is None and image.faces is None:
            others.append(image)
        else:
            image.follow(known.of(image) if image.sky_planes else image)
    for image in others:
        leader = known.by_role(image) if image.wcs_problem else known.beside(image)
        if leader is not None:
            image.follow(leader)
    _assign_lenders([one for one in others if one.leader is None and not one.wcs_problem])
    for constant in constants:
        leader = _leader_of_constant(images, constant)
        if leader is not None:
            constant.follow(leader)


def _assign_lenders(images: Iterable[PreparedHdu]) -> None:
    """Give images without a sky, which have no leader, the spectrum that they lie over."""
    lenders: dict[tuple[int, ...], list[PreparedHdu]] = {}
    silent: list[PreparedHdu] = []
    for image in images:
        if image.spectral or image.temporal or image.polarization:
            lenders.setdefault(image.naxis, []).append(image)
        elif not any(map(image.describes, range(len(image.naxis)))):
            silent.append(image)
    for image in silent:
        lender = _certain_of(lenders.get(image.naxis, []), image)
        if lender is not None:
            image.borrow_from(lender)


def _certain_of(fitting: list[PreparedHdu], image: PreparedHdu) -> PreparedHdu | None:
    """The one of these that has the version of *image*, or the only one."""
    version = image.hdu.layout.version
    same_version = [one for one in fitting if one.hdu.layout.version == version]
    certain = same_version if len(same_version) == 1 else fitting
    return certain[0] if len(certain) == 1 else None


def _leader_of_constant(images: Sequence[PreparedHdu], constant: PreparedHdu) -> PreparedHdu | None:
    """The leader of the first image of its version that has the size it stands for."""
    for image in images:
        if image.hdu.layout.version != constant.hdu.layout.version or image.leader is None:
            continue
        if image.sky_axes == (0, 1) and image.sky_naxis == constant.naxis:
            return image.leader
    return None


class _Leaders:
    """The leaders found so far."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._groups: dict[_Kind, _Group] = {}
        self._sizes: dict[tuple[tuple[int, ...], tuple[int, ...]], list[PreparedHdu]] = {}
        """By their axes of the sky and the lengths of these."""

    def of(self, image: PreparedHdu) -> PreparedHdu:
        """The plane whose grid *image*, which has coordinates, lies over; itself for the first.

        HST's ERR may carry its own, undistorted WCS beside SCI's: where a collection gives both
        a role, being of one size and version and showing the same place is enough.
        """
        faces = () if image.faces is None else tuple([at for at, _ in image.faces.planes])
        kind = image.sky_naxis, faces
        group = self._groups.get(kind)
        if group is None:
            group = self._groups[kind] = _Group(self._most, len(image.sky_planes))
        places, steps = _places_of(image)
        most, middles = group.distances(places)
        same = np.flatnonzero(most <= _SAME_GRID_PIXELS).tolist()
        near = np.flatnonzero(middles < min(image.sky_naxis) / 2)
        nearest_first = near[np.argsort(middles[near], kind="stable")].tolist()
        planes = (at for at in nearest_first if _are_planes_of_one(group.leaders[at], image))
        number: int | None = same[0] if same else next(planes, None)
        if number is not None:
            return group.leaders[number]
        group.add(image, places, steps)
        self._sizes.setdefault((image.sky_axes, image.sky_naxis), []).append(image)
        return image

    def beside(self, image: PreparedHdu) -> PreparedHdu | None:
        """The plane that an image without coordinates (HST's DQ, say) lies over, if certain."""
        return _certain_of(self._fitting(image), image)

    def by_role(self, image: PreparedHdu) -> PreparedHdu | None:
        """The same for an image whose coordinates cannot be used: only if its role says so."""
        fitting = [one for one in self._fitting(image) if _are_planes_of_one(one, image)]
        return fitting[0] if len(fitting) == 1 else None

    def _fitting(self, image: PreparedHdu) -> list[PreparedHdu]:
        """Leaders of the size of *image*, which tells nothing else of their axes on the sky."""
        fitting: list[PreparedHdu] = []
        for (axes, naxis), leaders in self._sizes.items():
            over = image.axes_over(axes)
            if not over or image.lengths_of(over) != naxis:
                continue
            if image.wcs_problem or not any(map(image.describes, over)):
                fitting += leaders
        return fitting


class _Group:
    """Leaders whose grids have the same lengths, with where they lie."""

    def __init__(self, most: int, grids: int) -> None:
        self.leaders: list[PreparedHdu] = []
        self._places = np.empty((most, grids, 3, _PLACES))
        self._steps = np.empty((most, grids))

    def add(self, leader: PreparedHdu, places: Floats, steps: Floats) -> None:
        """One more, with what `_places_of` tells of it."""
        self._places[len(self.leaders)] = places
        self._steps[len(self.leaders)] = steps
        self.leaders.append(leader)

    def distances(self, places: Floats) -> tuple[Floats, Floats]:
        """From each leader the most of the distances of all *places*, and that of the middles.

        In the leader's pixels. Infinite where a middle is not on the sky; corners that are not
        are left out.
        """
        count = len(self.leaders)
        apart = np.sqrt(((self._places[:count] - places) ** 2).sum(axis=2))
        with np.errstate(divide="ignore", invalid="ignore"):
            apart /= self._steps[:count, :, None]
        apart = np.where(np.isnan(apart[..., -1:]), np.inf, apart)
        most: Floats = np.fmax.reduce(apart, axis=(1, 2))
        middles: Floats = apart[..., -1].max(axis=1)
        return most, middles


def _are_planes_of_one(one: PreparedHdu, other: PreparedHdu) -> bool:
    """Whether the collection gives two HDUs of one version different roles."""
    roles = one.hdu.role, other.hdu.role
    return (
        bool(all(roles))
        and roles[0] != roles[1]
        and (one.hdu.layout.version == other.hdu.layout.version)
    )


def _places_of(image: PreparedHdu) -> tuple[Floats, Floats]:
    """Directions of corners and middle, shape (grids, 3, 5), and radians of a pixel there."""
    found = [_places_on(grid) for _, grid in image.sky_planes]
    return np.stack([places for places, _ in found]), np.array([step for _, step in found])


def _places_on(grid: CelestialGrid) -> tuple[Floats, float]:
    width, height = grid.naxis
    middle = (width - 1) / 2
    x = np.array([0.0, width - 1, 0, width - 1, middle, middle + 1])
    y = np.array([0.0, 0, height - 1, height - 1, (height - 1) / 2, (height - 1) / 2])
    directions = grid.pixel_to_sky(x, y)
    step = float(np.linalg.norm(directions[:, -1] - directions[:, -2]))
    return directions[:, :_PLACES], step
