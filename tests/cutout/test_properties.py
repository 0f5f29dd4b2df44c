"""What holds for cutouts whatever the shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st
from support.cutouts import File, compare

from soda_service.cutout.form import CutoutForm
from soda_service.cutout.plan import NOT_QUICK
from soda_service.geometry.shapes import Circle, Polygon, Range

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.cutouts import Subject, Workbench

    from soda_service.geometry.shapes import Shape

TWICE: Final = (
    *("tan_sip", "tpv", "alternates", "ltv", "cube_radio", "mef", "lookup_distortion"),
    *("missing_crpix", "plate_solution_and_tan", "ra_wrap", "unsigned_16", "compressed_tiles"),
    *("swapped_axes_sip", "detector_distortion", "tab_spectral", "mef_two_chips"),
)
SUMMED: Final = CutoutForm(checksums=True)
RELAXED: Final = settings(
    max_examples=12,
    # The workbench is the same for all examples, and meant to be.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def place_on(subject: Subject, x: float, y: float) -> tuple[float, float]:
    """Longitude and latitude of a pixel of the first image, 0-based."""
    sky = subject.grid(next(subject.sky_images())).pixel_to_sky(np.array([x]), np.array([y]))
    lon, lat = np.degrees(np.arctan2(sky[1], sky[0])), np.degrees(np.arcsin(sky[2]))
    return float(lon[0] % 360), float(lat[0])


def pixel_of(subject: Subject) -> float:
    """Degrees along a side of a pixel in the middle."""
    width, height = subject.grid(next(subject.sky_images())).naxis
    grid = subject.grid(next(subject.sky_images()))
    middle, next_one = grid.pixel_to_sky(
        np.array([width / 2, width / 2 + 1]), np.array([height / 2, height / 2 + 1])
    ).T
    return float(np.degrees(np.linalg.norm(middle - next_one))) / 2**0.5


@pytest.mark.parametrize("name", TWICE)
@RELAXED
@given(
    x=st.floats(0, 1), y=st.floats(0, 1), radius=st.floats(2, 9),
    dx=st.floats(-0.3, 0.3), dy=st.floats(-0.3, 0.3), part=st.floats(0.01, 0.5),
)  # fmt: skip
def test_a_cutout_of_a_cutout_is_a_cutout(
    bench: Workbench, name: str, x: float, y: float, radius: float,
    dx: float, dy: float, part: float,
) -> None:  # fmt: skip
    """The same HDUs, pixels and cards, but for the HISTORY that tells of both steps."""
    subject = bench.family(name)
    width, height = subject.grid(next(subject.sky_images())).naxis
    at = (x * (width - 1), y * (height - 1))
    pixel = pixel_of(subject)
    outer = Circle(*place_on(subject, *at), radius * pixel)
    inner = Circle(
        *place_on(subject, at[0] + dx * radius, at[1] + dy * radius), part * radius * pixel
    )
    once = subject.cut(inner)
    first = subject.cut(outer)
    assert first is not None
    path = subject.folder / f"first_{name}.fits"
    path.write_bytes(first)
    again = bench.of(path)
    twice = again.cut(inner)
    again.cutter.close()
    assert (once is None) == (twice is None)
    if once is None or twice is None:
        return
    compare(subject, once)
    for one, other in zip(File(once).hdus, File(twice).hdus, strict=True):
        assert one.key == other.key
        assert one.raw_data == other.raw_data
        own = [card for card in one.cards if card[:8] != b"HISTORY "]
        assert [card for card in other.cards if card[:8] != b"HISTORY "] == own
        if one.section is not None:
            assert other.mentions == one.mentions + 1


@st.composite
def shapes(draw: st.DrawFn, place: Callable[[float, float], tuple[float, float]]) -> Shape:
    """Circles, polygons and ranges on, around and far from an image."""
    lon, lat = place(draw(st.floats(-0.3, 1.3)), draw(st.floats(-0.3, 1.3)))
    size = draw(st.sampled_from([1e-6, 3e-4, 1e-3, 4e-3, 0.05, 3.0]))
    match draw(st.sampled_from(["circle", "polygon", "range"])):
        case "circle":
            return Circle(lon, lat, size)
        case "polygon":
            turn = draw(st.floats(0, 2 * np.pi))
            corners = draw(st.integers(3, 6))
            angles = turn + 2 * np.pi * np.arange(corners) / corners
            stretch = np.cos(np.radians(lat))
            return Polygon(
                tuple(
                    (float((lon + size * np.cos(angle) / stretch) % 360),
                     float(np.clip(lat + size * np.sin(angle), -90, 90)))
                    for angle in angles
                )
            )  # fmt: skip
        case _:
            half = min(size / np.cos(np.radians(lat)), 90.0)
            low, high = max(lat - size, -90.0), min(lat + size, 90.0)
            return Range(float((lon - half) % 360), float((lon + half) % 360), low, high)


QUICK: Final = ("tan_sip", "mef", "cube_radio", "unsigned_16", "ra_wrap", "compressed_tiles")


@pytest.mark.parametrize("name", QUICK)
@settings(RELAXED, max_examples=40)
@given(data=st.data())
def test_all_ways_lead_to_the_same(bench: Workbench, name: str, data: st.DataObject) -> None:
    """`plan_quickly` and `plan`, `cut_resident` and `cut`."""
    subject = bench.family(name)
    width, height = subject.grid(next(subject.sky_images())).naxis
    shape = data.draw(shapes(lambda x, y: place_on(subject, x * (width - 1), y * (height - 1))))
    if isinstance(shape, Polygon):
        assume(len(set(shape.vertices)) == len(shape.vertices))
    request = subject.request(shape)
    plan = subject.cutter.plan(request)
    quick = subject.cutter.plan_quickly(request)
    if quick is not NOT_QUICK:
        assert quick == plan
    if plan is not None:
        figures = compare(subject, subject.made(plan))
        assert figures.pixels
        assert figures.sky_mas < 0.1


@pytest.mark.parametrize("name", QUICK)
def test_plain_requests_are_quick(bench: Workbench, name: str) -> None:
    """Once the dataset has been met, most circles inside the image need no other thread."""
    subject = bench.family(name)
    width, height = subject.grid(next(subject.sky_images())).naxis
    middle = place_on(subject, width / 2, height / 2)
    quick = 0
    for part in np.linspace(0.1, 0.3, 11):
        request = subject.request(Circle(*middle, part * min(width, height) * pixel_of(subject)))
        plan = subject.cutter.plan(request)
        assert plan is not None
        contents = b"".join(subject.cutter.cut(plan))
        found = subject.cutter.plan_quickly(request)
        quick += found is not NOT_QUICK
        if name != "compressed_tiles":
            resident = subject.cutter.cut_resident(plan)
            assert resident is not None
            assert b"".join(resident) == contents
    assert quick >= 5
    far = subject.request(Circle((middle[0] + 90) % 360, -middle[1], 0.01))
    assert subject.cutter.plan_quickly(far) in (None, NOT_QUICK)
    assert subject.cutter.plan(far) is None


def test_nothing_is_quick_before_it_is_known(bench: Workbench, tmp_path: Path) -> None:
    """The first request prepares the dataset, which may block."""
    path = tmp_path / "fresh.fits"
    path.write_bytes(bench.family("tan").raw)
    fresh = bench.of(path)
    request = fresh.request(Circle(150.1, 2.2, 0.001))
    assert fresh.cutter.plan_quickly(request) is NOT_QUICK
    plan = fresh.cutter.plan(request)
    assert plan is not None
    assert fresh.cutter.cut_resident(plan) is None
    fresh.cutter.close()


def test_entity_tags_tell_answers_apart(bench: Workbench) -> None:
    """Other boxes, details or sums are other bytes; the same request is the same tag."""
    subject = bench.family("mef")
    small, large = Circle(150.1, 2.2, 0.0005), Circle(150.1, 2.2, 0.002)
    plans = [
        subject.plan(small), subject.plan(large), subject.plan(small, form=SUMMED),
        subject.plan(form=SUMMED), subject.plan(),
    ]  # fmt: skip
    tags = [plan.etag for plan in plans if plan is not None]
    assert len(set(tags)) == len(plans)
    again = subject.plan(small)
    assert again is not None
    assert again.etag == tags[0]
    assert again == plans[0]
