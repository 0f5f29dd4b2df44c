"""The box around a shape on a plane whose pixels are distorted before they are points of it.

An ordinary circle's is told by the derivatives of the distortion at its centre, that of any other
shape by samples of its edge. What is not certain is NOT_QUICK.
"""

from __future__ import annotations

from math import hypot, sqrt
from typing import TYPE_CHECKING, Final

import numpy as np

from .edgelimits import DOUBT, box_of, chain_limits, circle_limits, is_inside
from .edgesamples import ELLIPSE_BACK, chain
from .shapes import Circle, Polygon
from .skyplane import NOT_QUICK, Quickness, is_outside

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .edgelimits import Found
    from .shapes import PlainShape as Shape
    from .skyplane import Distortion, Ellipse, SkyPlane

    Floats = NDArray[np.float64]

_STEEP: Final = 0.5
"""Slope of a distortion from which on it is not called nearly none."""
_SHORT_STEP: Final = 0.01
"""Pixels of a step after which the next would change nothing that counts."""
_BOWED: Final = 0.1
"""Part of its half width by which a distorted ellipse may be bowed and is still called one."""
_STEPS: Final = 12
_CONVERGED: Final = 1e-18
"""Square pixels, of all samples together."""


def find_on_distorted_plane(
    shape: Shape, plane: SkyPlane, distortion: Distortion, naxis: tuple[int, int]
) -> Found | Quickness | None:
    """First pixel and one past the last of the box, None for no overlap, or NOT_QUICK.

    The edge of the shape is known on the plane; where the distortion is injective, and the
    edge's pixels lie inside the image, they enclose all of the shape.
    """
    if distortion.slope >= _STEEP:
        return NOT_QUICK
    if isinstance(shape, Circle):
        ellipse = plane.ellipse(shape)
        found = _distorted_ellipse(ellipse, distortion, naxis) if ellipse is not None else None
        if found is not None:
            return found
    limits = plane.limits(shape)
    if limits is None:
        return NOT_QUICK
    if is_outside(limits, naxis, reach=distortion.reach):
        return None
    return _find_by_distorted_samples(shape, plane, distortion, naxis)


def _distorted_ellipse(
    ellipse: Ellipse, distortion: Distortion, naxis: tuple[int, int]
) -> Found | None:
    """The box of an ellipse on the plane from the distortion's first two derivatives at its centre.

    With M = 1 + f' there, a point w beside the centre on the plane belongs to the pixel
    p + v - M⁻¹ f''(v, v) / 2 with v = M⁻¹ w, and to what third derivatives add. v is on an
    ellipse again, whose extremes the second term moves by its value there; what it adds by moving
    them along the ellipse, and all else that is left out, is bounded and counts as doubt. None
    where that is too much. As the ellipse grows from its centre its limits only widen, so that
    no pixel of it lies outside the image, where nothing would be known of the distortion.
    """
    x0, y0, xx, xy, yy = ellipse
    f, g = distortion.moved(x0, y0)
    x, y = x0 - f, y0 - g  # nearly the pixel of the centre; Newton's steps do the rest
    for _ in range(2):
        f, g, f_x, g_x, f_y, g_y, f_xx, g_xx, f_xy, g_xy, f_yy, g_yy = distortion.expanded(x, y)
        one, other = 1.0 + f_x, 1.0 + g_y
        area = one * other - f_y * g_x
        if not area > 0.0:
            return None
        a, b, c, d = other / area, -f_y / area, -g_x / area, one / area  # M⁻¹
        f += x - x0
        g += y - y0
        step_x, step_y = a * f + b * g, c * f + d * g
        x -= step_x
        y -= step_y
        step = hypot(step_x, step_y)
        if step < _SHORT_STEP:
            break
    # The ellipse of v.
    ax, ay, cx, cy = a * xx + b * xy, a * xy + b * yy, c * xx + d * xy, c * xy + d * yy
    v_xx, v_xy, v_yy = ax * a + ay * b, ax * c + ay * d, cx * c + cy * d
    if not (v_xx > 0.0 and v_yy > 0.0):
        return None
    half_x, half_y = sqrt(v_xx), sqrt(v_yy)
    aside_x, aside_y = v_xy / half_y, v_xy / half_x
    # The quadratic forms M⁻¹ f'', and their values at the extremes.
    p_xx, p_xy, p_yy = a * f_xx + b * g_xx, a * f_xy + b * g_xy, a * f_yy + b * g_yy
    q_xx, q_xy, q_yy = c * f_xx + d * g_xx, c * f_xy + d * g_xy, c * f_yy + d * g_yy
    bow_x = 0.5 * (p_xx * v_xx + 2.0 * p_xy * half_x * aside_y + p_yy * aside_y * aside_y)
    bow_y = 0.5 * (q_xx * aside_x * aside_x + 2.0 * q_xy * aside_x * half_y + q_yy * v_yy)
    if abs(bow_x) > _BOWED * half_x or abs(bow_y) > _BOWED * half_y:
        return None
    stretch = 1.0 / (1.0 - distortion.slope)
    bend, twist = distortion.bend, distortion.twist
    square = v_xx + v_yy
    across, on_plane = sqrt(square), xx + yy
    doubt = (
        # the third derivatives of the map from the plane to pixels
        stretch**4 * (3.0 * stretch * bend * bend + twist) * on_plane * sqrt(on_plane) / 6.0
        # extremes that move along the ellipse
        + max((p_xx * p_xx + 2.0 * p_xy * p_xy + p_yy * p_yy) / half_x,
              (q_xx * q_xx + 2.0 * q_xy * q_xy + q_yy * q_yy) / half_y) * square * square / 2.0
        # the last of Newton's steps, and derivatives from where it began
        + stretch * step * (bend * (step + across) + stretch * (twist + bend * bend) * square)
        + DOUBT
    )  # fmt: skip
    limits = [x - half_x - bow_x, y - half_y - bow_y, x + half_x - bow_x, y + half_y - bow_y, doubt]
    return box_of(limits, naxis) if is_inside(limits, naxis) else None


def _find_by_distorted_samples(
    shape: Shape, plane: SkyPlane, distortion: Distortion, naxis: tuple[int, int]
) -> Found | Quickness:
    points, parts = _edge_on_plane(shape, plane)
    if points is None:
        return NOT_QUICK
    pixels = points.copy()
    for _ in range(_STEPS):
        missed = points - distortion.distort(pixels)
        pixels += missed
        square = float(np.vdot(missed, missed))
        if square <= _CONVERGED:
            break
    else:
        return NOT_QUICK
    edge = pixels.T
    reaches = chain_limits(edge, parts) if parts else circle_limits(edge)
    if reaches is None or not is_inside(reaches, naxis):
        return NOT_QUICK
    reaches[-1] += DOUBT
    return box_of(reaches, naxis) or NOT_QUICK


def _edge_on_plane(shape: Shape, plane: SkyPlane) -> tuple[Floats | None, int]:
    """Points of the edge, shape (N, 2), and how many there are to a side; 0 for a circle."""
    if isinstance(shape, Circle):
        ellipse = plane.ellipse(shape)
        if ellipse is None:
            return None, 0
        x, y, xx, xy, yy = ellipse
        root = sqrt(xx)
        skew = xy / root if root else 0.0
        halves = np.array([[x, y], [root, skew], [0.0, sqrt(max(0.0, yy - skew * skew))]])
        return ELLIPSE_BACK.T @ halves, 0
    if isinstance(shape, Polygon) and (corners := plane.corners(shape)):
        weights, parts = chain(len(corners))
        return weights.T @ np.array(corners), parts
    return None, 0
