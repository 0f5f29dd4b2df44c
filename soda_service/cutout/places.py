"""Where in each HDU the pixels lie that a request asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from soda_service.cutout.companions import is_companion
from soda_service.cutout.form import Edge
from soda_service.cutout.tables import WHOLE, Whole
from soda_service.errors import UsageError
from soda_service.fits.wcs import WcsError
from soda_service.geometry.frames import (
    MOST_BEYOND,
    Frame,
    SteppedFrame,
    frame_around,
    frame_of_section,
    frame_of_stamp,
    is_surely_inside,
    place_of,
)
from soda_service.geometry.pixelbox import (
    NOT_QUICK,
    PixelBox,
    SteppedBox,
    box_around,
    box_around_quickly,
)
from soda_service.geometry.shapes import Circle

if TYPE_CHECKING:
    from collections.abc import Callable

    from soda_service.cutout.preparedhdu import PreparedHdu
    from soda_service.cutout.request import CutoutRequest
    from soda_service.fits.axes import Polarization
    from soda_service.fits.wcs import CelestialGrid
    from soda_service.geometry.frames import PixelSection, Stamp
    from soda_service.geometry.shapes import Shape

    FindBox = Callable[[Shape, PreparedHdu], PixelBox | None]

_Box = TypeVar("_Box", PixelBox, Frame)


class NotQuickError(Exception):
    """The quick way to a box does not apply; between the planner and the cutter only."""


def exact_box(shape: Shape, leader: PreparedHdu) -> PixelBox | None:
    """The box around *shape* in the grid of *leader*; may block."""
    if leader.faces is not None:
        return _box_on_faces(shape, leader)
    assert leader.grid is not None
    quick = box_around_quickly(shape, leader.grid, leader.ready_sky_index)
    if quick is not NOT_QUICK:
        return quick
    return box_around(shape, leader.grid, leader.sky_index())


def _box_on_faces(shape: Shape, leader: PreparedHdu) -> PixelBox | None:
    """The box of three axes around what *shape* meets on each of the faces of a cube."""
    assert leader.faces is not None
    boxes = [
        PixelBox((*box.lower, plane), (*box.upper, plane + 1))
        for plane, grid in leader.faces.planes
        if (box := box_around(shape, grid, leader.face_index(plane))) is not None
    ]
    if not boxes:
        return None
    lower = tuple(map(min, zip(*(box.lower for box in boxes), strict=True)))
    return PixelBox(lower, tuple(map(max, zip(*(box.upper for box in boxes), strict=True))))


def quick_box(shape: Shape, leader: PreparedHdu) -> PixelBox | None:
    """The same without blocking; raises NotQuickError where that cannot be done."""
    if leader.faces is not None:
        raise NotQuickError
    assert leader.grid is not None
    box = box_around_quickly(shape, leader.grid, leader.ready_sky_index)
    if box is NOT_QUICK:
        raise NotQuickError
    return box


class Places:
    """The places of one request, those of planes that share a grid found once."""

    def __init__(self, request: CutoutRequest, find_box: FindBox) -> None:
        self._request = request
        self._find_box = find_box
        self.limits_world_axes: Final = bool(request.band or request.time or request.pol)
        """Whether the spectrum, the time or the polarization is limited."""
        self._sky_boxes: dict[int, PixelBox | None] = {}
        self._is_boxed = any(
            one is not None for one in (request.shape, request.stamp, request.section)
        )
        """Whether pixels of the image are asked for, by the sky or by themselves."""

    def of(self, hdu: PreparedHdu) -> PixelBox | Whole | None:
        """The box to cut, `WHOLE` for what is copied, None for what the request misses.

        It is a `Frame` where the answer goes on beyond the image. Raises UsageError.
        """
        if not hdu.is_cuttable and (hdu.leader is None or not self._is_boxed):
            return WHOLE
        request = self._request
        if request.section is not None:
            if is_companion(hdu) and not any(name.fits(hdu.hdu) for name in request.hdus):
                return WHOLE
            return self._edged(hdu, _section_of(hdu, request.section))
        if request.shape is None and request.stamp is None:
            return self._limited(hdu, PixelBox.whole(hdu.naxis))
        return WHOLE if hdu.leader is None else self._on_sky(hdu, hdu.leader)

    # ------------------------------------------------------------ on the sky

    def _on_sky(self, hdu: PreparedHdu, leader: PreparedHdu) -> PixelBox | None:
        sky = self._sky_box(leader)
        if sky is None:
            return None
        naxis = hdu.naxis
        lower, upper = [0] * len(naxis), list(naxis)
        for axis, low, high in zip(hdu.sky_axes, sky.lower, sky.upper, strict=True):
            lower[axis], upper[axis] = low, high
        box = type(sky)(tuple(lower), tuple(upper))
        if isinstance(box, Frame):
            return self._edged(hdu, box)
        return self._limited(hdu, box) if self.limits_world_axes else box

    def _sky_box(self, leader: PreparedHdu) -> PixelBox | None:
        """The box of all planes that share *leader*'s grid, found once."""
        index = leader.hdu.layout.index
        if index not in self._sky_boxes:
            shape = self._request.shape
            if shape is None:
                assert self._request.stamp is not None
                box: PixelBox | None = self._stamp_frame(self._request.stamp, leader)
            else:
                box = self._find_box(shape, leader)
                if self._request.form.edge is not Edge.TRIM and box is not None:
                    box = self._shape_frame(shape, leader, box)
            self._sky_boxes[index] = box
        return self._sky_boxes[index]

    def _stamp_frame(self, stamp: Stamp, leader: PreparedHdu) -> Frame | None:
        if leader.faces is not None:
            return self._stamp_on_faces(stamp, leader)
        grid = leader.grid
        assert grid is not None
        place = place_of(stamp, grid)
        if not _is_in(place, grid):
            # The inverse map is a hint: where a position has several pixels, one may be inside.
            box = self._find_box(Circle(stamp.lon, stamp.lat, 0.0), leader)
            if box is not None:
                near = float(box.lower[0]), float(box.lower[1])
                place = place_of(stamp, grid, near=near) or near
        return None if place is None else frame_of_stamp(stamp, place)

    def _stamp_on_faces(self, stamp: Stamp, leader: PreparedHdu) -> Frame | None:
        """The frame on the face of a cube that has the position; on the first if several have."""
        assert leader.faces is not None
        for plane, grid in leader.faces.planes:
            place = place_of(stamp, grid)
            if place is not None and _is_in(place, grid):
                frame = frame_of_stamp(stamp, place)
                return Frame((*frame.lower, plane), (*frame.upper, plane + 1))
        box = self._find_box(Circle(stamp.lon, stamp.lat, 0.0), leader)
        if box is None:
            return None
        x, y, plane = box.lower
        near = float(x), float(y)
        grid = dict(leader.faces.planes)[plane]
        frame = frame_of_stamp(stamp, place_of(stamp, grid, near=near) or near)
        return Frame((*frame.lower, plane), (*frame.upper, plane + 1))

    def _shape_frame(self, shape: Shape, leader: PreparedHdu, box: PixelBox) -> Frame | PixelBox:
        """The box as it would be if the image went on."""
        if leader.faces is not None:
            *sky, faces = leader.sky_naxis
            first, last = box.lower[2], box.upper[2] - 1
            flat = PixelBox(box.lower[:2], box.upper[:2])
            if first == last and is_surely_inside(shape, flat, (sky[0], sky[1])):
                return box
            raise UsageError(
                f"the shape meets the edge of a face of the cube in {leader.called}, beyond which "
                f"lie others of its {faces} faces: only EDGE=trim is defined there"
            )
        assert leader.grid is not None
        if is_surely_inside(shape, box, leader.grid.naxis):
            return box
        if self._find_box is quick_box:
            raise NotQuickError
        frame = frame_around(shape, leader.grid, leader.sky_index())
        if frame is None:
            raise UsageError(
                f"the shape goes on for more than {MOST_BEYOND} pixels beyond {leader.called}"
            )
        return frame

    # ------------------------------------------------------------ edges and other axes

    def _edged(self, hdu: PreparedHdu, frame: Frame) -> PixelBox | None:
        """What is given of *frame*, part of which the image may not have."""
        limited = self._limited(hdu, frame)
        held = limited.trimmed(hdu.naxis) if limited is not None else None
        if limited is None or held is None:
            return None
        is_all = (held.lower, held.upper) == (limited.lower, limited.upper)
        match Edge.TRIM if is_all else self._request.form.edge:
            case Edge.TRIM:
                return held
            case Edge.PAD:
                return limited
            case Edge.REFUSE:
                raise UsageError(
                    f"{hdu.called} ends: of {limited.section} it has {held.section} only, "
                    "and less than all was to be refused"
                )

    def _limited(self, hdu: PreparedHdu, box: _Box) -> _Box | None:
        """*box* with what the request wants of the spectrum, the time and the polarization."""
        if not self.limits_world_axes:
            return box
        request, polarization = self._request, hdu.polarization
        limits: list[tuple[int, tuple[int, int] | None]] = []
        try:
            if request.band is not None and hdu.spectral is not None:
                limits.append((hdu.spectral.axis, hdu.spectral.box(request.band)))
            if request.time is not None and hdu.temporal is not None:
                limits.append((hdu.temporal.axis, hdu.temporal.box(request.time)))
            if request.pol and polarization is not None:
                axis = polarization.axis
                within = box.lower[axis], box.upper[axis]
                limits.append((axis, polarization.box(request.pol, within)))
        except WcsError as error:
            raise UsageError(f"{hdu.called} cannot be cut along that axis: {error}") from None
        for axis, limit in limits:
            if limit is None:
                return None
            low, high = max(limit[0], box.lower[axis]), min(limit[1], box.upper[axis])
            if low >= high:
                return None
            box = box.replaced(axis, low, high)
        return self._stepped(hdu, polarization, box) if request.pol else box

    def _stepped(self, hdu: PreparedHdu, polarization: Polarization | None, box: _Box) -> _Box:
        """*box* without planes of unwanted states, where all others follow in equal steps."""
        if polarization is None:
            return box
        axis = polarization.axis
        step = polarization.step(self._request.pol, (box.lower[axis], box.upper[axis]))
        if step == 1 or not hdu.can_step(axis):
            return box
        kind = SteppedFrame if isinstance(box, Frame) else SteppedBox
        return kind(box.lower, box.upper, axis, step)


def _is_in(place: tuple[float, float] | None, grid: CelestialGrid) -> bool:
    """Whether a place is known and lies in the image."""
    return place is not None and all(
        -0.5 <= at <= length - 0.5 for at, length in zip(place, grid.naxis, strict=True)
    )


def _section_of(hdu: PreparedHdu, section: PixelSection) -> Frame:
    try:
        return frame_of_section(section, hdu.naxis)
    except ValueError as error:
        raise UsageError(f"{hdu.called}: the section has {error}; choose others with HDU") from None
