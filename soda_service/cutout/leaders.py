"""Which images of a dataset lie pixel over pixel, so that one box on the sky serves them all.

The first image of each sky grid is the leader of the others: SCI of its ERR and DQ, say. An image
follows one whose coordinates are the same card for card, or agree on a lattice of places, or, where
it says nothing of where it lies, the one that its size and version point to. Where all their axes
have the same lengths the leader is the lender of what the image does not say of the others: ERR's
wavelengths are SCI's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from soda_service.fits.cards import CARD_SIZE
from soda_service.fits.wcskeywords import may_describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from soda_service.cutout.preparedhdu import PreparedHdu
    from soda_service.fits.wcs import CelestialGrid

    Floats = NDArray[np.float64]
    _Kind = tuple[tuple[int, ...], tuple[int, ...]]
    """Lengths of the sky's axes and numbers of the planes that have grids."""

_SAME_GRID_PIXELS: Final = 0.01
"""Planes whose places agree this well on the sky are cut with one box."""
_SIDE: Final = 9
"""Places along each side of the lattice that tells where a grid lies; odd, for the middle."""
_PLACES: Final = _SIDE**2
_MIDDLE: Final = _PLACES // 2
_INSET: Final = 0.1
"""Pixels from the outermost places to the edges, which may be where a projection ends."""
_FEWEST: Final = 6
"""Places on the sky that tell a grid: a polynomial of second degree has as many coefficients."""
_MOST_COMPARED: Final = 16
"""Leaders of one middle that an image is compared with; many such can only be meant to cost."""


def assign_leaders(images: Sequence[PreparedHdu], constants: Iterable[PreparedHdu] = ()) -> None:
    """Give each of *images*, in the order of the file, its leader and lender if it has them.

    *constants* are HDUs without data that stand for images of one value.
    """
    known = _Leaders()
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

    def __init__(self) -> None:
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
            group = self._groups[kind] = _Group(len(image.sky_planes))
        cards = _describing_cards(image)
        leader = group.by_cards.get(cards)
        if leader is not None:
            return leader
        lattice = _lattice_of(image)
        middles = group.middle_distances(lattice)
        number = group.agreeing_with(lattice, middles)
        if number is not None:
            group.by_cards[cards] = group.leaders[number]
            return group.leaders[number]
        near = np.flatnonzero(middles < min(image.sky_naxis) / 2)
        nearest_first: list[int] = near[np.argsort(middles[near], kind="stable")].tolist()
        for at in nearest_first:
            if _are_planes_of_one(group.leaders[at], image):
                return group.leaders[at]
        group.by_cards[cards] = image
        group.add(image, lattice)
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


class _Lattice(NamedTuple):
    """Where the grids of an image lie: one, or one for each face of a cube."""

    places: Floats
    """Directions, shape (grids, 3, places), row by row; NaN where there is no sky."""
    pixels: Floats
    """Radians from one pixel to the next there, across its narrow side, shape (grids, places).

    Zero where that is not known: such a place agrees with itself alone.
    """

    @property
    def is_telling(self) -> bool:
        """Whether so much of it is on the sky that another that agrees is the same grid."""
        on_sky = ~np.isnan(self.places[:, 0]).reshape(-1, _SIDE, _SIDE)
        for grid in on_sky:
            y, x = np.nonzero(grid)
            if len(x) < _FEWEST:
                return False
            x, y = len(x) * x - x.sum(), len(y) * y - y.sum()
            if (x @ x) * (y @ y) == (x @ y) ** 2:  # all on one line
                return False
        return True


class _Group:
    """Leaders whose grids have the same lengths, with where they lie."""

    def __init__(self, grids: int) -> None:
        self.leaders: list[PreparedHdu] = []
        self.by_cards: dict[bytes, PreparedHdu] = {}
        """By the cards that describe its coordinates the leader of an image on its grid."""
        self._lattices: list[_Lattice] = []
        self._middles = np.empty((4, grids, 3))
        self._steps = np.empty((4, grids))

    def add(self, leader: PreparedHdu, lattice: _Lattice) -> None:
        """One more leader."""
        count = len(self.leaders)
        if count == len(self._steps):
            self._middles = np.concatenate([self._middles, np.empty_like(self._middles)])
            self._steps = np.concatenate([self._steps, np.empty_like(self._steps)])
        self._middles[count] = lattice.places[:, :, _MIDDLE]
        self._steps[count] = lattice.pixels[:, _MIDDLE]
        self._lattices.append(lattice)
        self.leaders.append(leader)

    def middle_distances(self, lattice: _Lattice) -> Floats:
        """From the middle of each leader to this one, in the leader's pixels.

        The farthest where there are several grids. Infinite where one of two is not on the sky,
        NaN where both are not.
        """
        count = len(self.leaders)
        middles, theirs = lattice.places[:, :, _MIDDLE], self._middles[:count]
        apart = np.sqrt(((theirs - middles) ** 2).sum(axis=2))
        with np.errstate(divide="ignore", invalid="ignore"):
            apart = np.where(apart > 0, apart / self._steps[:count], apart)
        one_has_sky = np.isnan(theirs[..., 0]) != np.isnan(middles[:, 0])
        farthest: Floats = np.where(one_has_sky, np.inf, apart).max(axis=1)
        return farthest

    def agreeing_with(self, lattice: _Lattice, middles: Floats) -> int | None:
        """The number of the first leader whose lattice is this one.

        *middles* are the distances of their middles. Each place must be within a hundredth of
        the leader's pixel there, or on neither sky.
        """
        alike = np.flatnonzero(~(middles > _SAME_GRID_PIXELS))[:_MOST_COMPARED]
        if not len(alike) or not lattice.is_telling:
            return None
        no_sky = np.isnan(lattice.places[:, 0])
        numbers: list[int] = alike.tolist()
        for number in numbers:
            theirs = self._lattices[number]
            apart = np.sqrt(((theirs.places - lattice.places) ** 2).sum(axis=1))
            same = apart <= _SAME_GRID_PIXELS * theirs.pixels
            if (same | (no_sky & np.isnan(theirs.places[:, 0]))).all():
                return number
        return None


def _are_planes_of_one(one: PreparedHdu, other: PreparedHdu) -> bool:
    """Whether the collection gives two HDUs of one version different roles."""
    roles = one.hdu.role, other.hdu.role
    return (
        bool(all(roles))
        and roles[0] != roles[1]
        and (one.hdu.layout.version == other.hdu.layout.version)
    )


def _describing_cards(image: PreparedHdu) -> bytes:
    """The cards of its header that coordinates are read from, as they stand."""
    raw = image.image_header.raw
    cards = (raw[at : at + CARD_SIZE] for at in range(0, len(raw), CARD_SIZE))
    return b"".join([card for card in cards if may_describe(card[:8])])


def _lattice_of(image: PreparedHdu) -> _Lattice:
    lattices = [_lattice_on(grid) for _, grid in image.sky_planes]
    return _Lattice(
        np.stack([one.places for one in lattices]), np.stack([one.pixels for one in lattices])
    )


def _lattice_on(grid: CelestialGrid) -> _Lattice:
    """Of one grid, without the axis of the grids."""
    width, height = grid.naxis
    x, y = (np.linspace(_INSET - 0.5, length - 0.5 - _INSET, _SIDE) for length in (width, height))
    x, y = np.tile(x, _SIDE), np.repeat(y, _SIDE)
    # Half a pixel towards the middle, which is on the image, if not on the sky.
    aside_x = np.where(x > (width - 1) / 2, -0.5, 0.5)
    aside_y = np.where(y > (height - 1) / 2, -0.5, 0.5)
    directions = grid.pixel_to_sky(
        np.concatenate([x, x + aside_x, x]), np.concatenate([y, y, y + aside_y])
    )
    places, along_x, along_y = np.split(directions, 3, axis=1)
    across = _narrow_side((along_x - places) * 2, (along_y - places) * 2)
    return _Lattice(places, np.nan_to_num(across, nan=0.0))


def _narrow_side(x: Floats, y: Floats) -> Floats:
    """The least length that a step of one pixel in any direction has.

    *x* and *y* are the steps along the axes, shape (3, N): the smaller singular value of each
    pair, by its determinant, of which no digits are lost where a pixel is very oblique.
    """
    xx, yy, xy = (x * x).sum(axis=0), (y * y).sum(axis=0), (x * y).sum(axis=0)
    longest = np.sqrt((xx + yy) / 2 + np.hypot((xx - yy) / 2, xy))
    area = np.linalg.norm(np.cross(x, y, axis=0), axis=0)
    with np.errstate(invalid="ignore"):
        narrow: Floats = area / longest
    return narrow
