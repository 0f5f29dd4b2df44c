"""Stamps, image sections and what becomes of edges: numpy's padding is the judge."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import HealthCheck, given, settings, strategies as st
from support.cutouts import File, compare, separation
from support.images import FAMILIES, HEIGHT, WIDTH, extension, primary, ramp, sky_cards

from soda_service.cutout.form import BLANK, CutoutForm, Edge
from soda_service.cutout.plan import NOT_QUICK, CutoutPlan
from soda_service.errors import UsageError
from soda_service.geometry.dali import parse_pixels
from soda_service.geometry.frames import Stamp
from soda_service.geometry.shapes import Circle, Interval, Polygon

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from support.cutouts import Hdu, Section, Subject, Workbench

PADDED = CutoutForm(edge=Edge.PAD)
REFUSED = CutoutForm(edge=Edge.REFUSE)
NAMED = (
    *("tan", "tan_sip", "tan_sip_no_inverse", "tpv", "galactic", "fk5_of_1975", "swapped_axes_sip"),
    *("cd_rotated", "pole_tan", "pole_zea", "ra_wrap", "lookup_distortion", "detector_distortion"),
    *("cube_radio", "mef", "crota", "projection_bon", "car_strip", "compressed_rice_1_i2"),
)
MANY = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def frame_of(parent: NDArray[np.generic], section: Section, fill: object) -> NDArray[np.generic]:
    """What numpy makes of a section, 1-based and closed, that may reach out of the image."""
    slices, before = [], []
    shape = [high - low + 1 for low, high in section][::-1]
    for (low, high), length in zip(section[::-1], parent.shape, strict=True):
        slices.append(slice(max(low - 1, 0), min(high, length)))
        before.append(max(1 - low, 0))
    part = parent[tuple(slices)]
    margins = [
        (front, whole - front - size)
        for front, whole, size in zip(before, shape, part.shape, strict=True)
    ]
    padded: NDArray[np.generic] = np.pad(
        part, margins, constant_values=np.array(fill).astype(parent.dtype)
    )
    return padded


def cut_hdus(contents: bytes) -> list[Hdu]:
    """The HDUs that were cut."""
    return [one for one in File(contents).hdus if one.section is not None]


def same(one: NDArray[np.generic], other: NDArray[np.generic]) -> bool:
    """Whether two arrays are the same; NaN is NaN."""
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def assert_framed(subject: Subject, contents: bytes, fill: object = np.nan) -> float:
    """Pixels, coordinates and CUTCOVER of padded HDUs are right; the least coverage is given."""
    child = File(contents)
    least = 1.0
    for one in child.hdus:
        if one.section is None:
            continue
        number, section = one.section
        mother = subject.parent.hdus[number]
        assert one.stored is not None
        assert mother.stored is not None
        expected = frame_of(mother.stored, section, fill)
        assert same(one.stored, expected)
        inside = frame_of(np.ones(mother.stored.shape, "u1"), section, 0)
        assert one.header["CUTCOVER"] == inside.mean()
        least = min(least, one.header["CUTCOVER"])
        _assert_same_sky(subject, child, one)
    return least


def _assert_same_sky(subject: Subject, child: File, one: Hdu) -> None:
    """Of pixels that the parent has not, too: the parent's own formula goes on beyond its edge."""
    assert one.section is not None
    number, section = one.section
    corners = np.array([[low, high] for low, high in section], float)
    pixels = np.array([np.linspace(low, high, 7) for low, high in section], float)
    pixels[0] = pixels[0][[3, 0, 6, 1, 5, 2, 4]]
    mine = child.world(one.index, "", pixels - corners[:, :1] + 1)
    theirs = subject.parent.world(number, "", pixels)
    assert isinstance(mine, np.ndarray)
    assert isinstance(theirs, np.ndarray)
    wcs = subject.parent.wcs(number, "")
    if wcs.has_celestial and wcs.naxis == 2:
        lon = wcs.wcs.lng
        order = [lon, 1 - lon]
        assert separation(mine[order], theirs[order]).max() < 1e-9
    np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-9)


# ---------------------------------------------------------------- stamps


def sky_of(subject: Subject, index: int, x: float, y: float) -> tuple[float, float]:
    """ICRS of a pixel, 0-based, by astropy."""
    wcs = WCS(subject.parent.hdus[index].header, subject.parent.opened).celestial
    found = wcs.pixel_to_world(x, y).icrs
    return float(found.ra.deg), float(found.dec.deg)


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
def test_a_stamp_has_as_many_pixels_as_were_asked_for(bench: Workbench, name: str) -> None:
    """Everywhere, with the position in its middle as astropy sees it."""
    subject = bench.family(name)
    index = next(subject.sky_images())
    width, height = subject.grid(index).naxis
    axes = subject.grid(index).axes
    random = np.random.default_rng(5)
    for size in ((1, 1), (7, 4), (8, 9), (120, 90)):
        for _ in range(5):
            x, y = random.uniform(-0.49, width - 0.51), random.uniform(-0.49, height - 0.51)
            lon, lat = sky_of(subject, index, x, y)
            form = CutoutForm(edge=Edge.PAD, fill=(BLANK, -7))
            contents = subject.cut(stamp=Stamp(lon, lat, size), form=form)
            assert contents is not None
            (*_, (_, section)) = [one.section for one in cut_hdus(contents)
                                  if one.section and one.section[0] == index]  # fmt: skip
            for axis, at, count in zip(axes, (x, y), size, strict=True):
                low, high = section[axis]
                assert high - low + 1 == count
                assert abs((low + high) / 2 - 1 - at) <= 0.5 + 1e-6
            trimmed = subject.cut(stamp=Stamp(lon, lat, size))
            assert trimmed is not None
            compare(subject, trimmed, coordinates=False)


@MANY
@given(
    st.floats(-60, 120), st.floats(-50, 100), st.integers(1, 70), st.integers(1, 70),
    st.sampled_from(["tan_sip", "tan", "mef", "tpv"]),
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
def test_stamps_at_the_edge(
    bench: Workbench, x: float, y: float, width: int, height: int, name: str
) -> None:
    """Padded they have their size and say how much is there; trimmed they are what is left."""
    subject = bench.family(name)
    index = next(subject.sky_images())
    naxis = subject.grid(index).naxis
    stamp = Stamp(*sky_of(subject, index, x, y), (width, height))
    lower = [math.floor(at - (n - 1) / 2 + 0.5) for at, n in ((x, width), (y, height))]
    found = [(low, low + n) for low, n in zip(lower, stamp.naxis, strict=True)]
    if any(min(abs(at - (n - 1) / 2 - 0.5 - k) for k in (low, low - 1)) < 1e-6
           for at, n, low in zip((x, y), stamp.naxis, lower, strict=True)):  # fmt: skip
        return  # between two pixels: rounding decides
    is_met = all(low < length and high > 0 for (low, high), length in zip(
        found, naxis, strict=True))  # fmt: skip
    is_inside = all(low >= 0 and high <= length for (low, high), length in zip(
        found, naxis, strict=True))  # fmt: skip
    form = CutoutForm(edge=Edge.PAD, fill=(BLANK, 0))
    contents = subject.cut(stamp=stamp, form=form)
    assert (contents is not None) == is_met
    if contents is None:
        assert subject.cut(stamp=stamp, form=REFUSED) is None
        return
    hdus = cut_hdus(contents)
    assert {one.section[1] for one in hdus if one.section} == {
        tuple((low + 1, high) for low, high in found)
    }
    fill = 0 if any(one.header["BITPIX"] > 0 for one in hdus) else np.nan
    if fill:
        assert (assert_framed(subject, contents) == 1) == is_inside
    if is_inside:
        assert subject.cut(stamp=stamp, form=REFUSED) == subject.cut(stamp=stamp)
    else:
        with pytest.raises(UsageError, match="refused"):
            subject.plan(stamp=stamp, form=REFUSED)


def test_planes_of_one_grid_have_the_same_stamp(bench: Workbench) -> None:
    """Image, mask and variance; each padded with a value of its own kind."""
    subject = bench.family("mef")
    stamp = Stamp(*sky_of(subject, 1, 1.2, 3.4), (9, 12))
    contents = subject.cut(stamp=stamp, form=CutoutForm(edge=Edge.PAD, fill=(BLANK, 5)))
    assert contents is not None
    hdus = cut_hdus(contents)
    assert len({one.section[1] for one in hdus if one.section}) == 1
    fills = [5 if one.header["BITPIX"] > 0 else np.nan for one in hdus]
    assert len(set(map(str, fills))) == 2
    for one, fill in zip(hdus, fills, strict=True):
        assert one.section is not None
        mother = subject.parent.hdus[one.section[0]].stored
        assert one.stored is not None
        assert mother is not None
        assert same(one.stored, frame_of(mother, one.section[1], fill))


def test_a_stamp_of_a_position_elsewhere_is_nothing(bench: Workbench) -> None:
    """No error, whatever shall become of edges; and an error where there is no sky at all."""
    for name in ("tan_sip", "mef", "pole_zea", "galactic"):
        for form in (CutoutForm(), PADDED, REFUSED):
            far = Stamp(330.1, -12.2, (5, 5))
            plan = bench.family(name).plan(stamp=far, form=form)
            assert plan is None
    with pytest.raises(UsageError, match="cannot be cut by sky position"):
        bench.family("no_wcs").plan(stamp=Stamp(150.1, 2.2, (5, 5)))


def test_a_stamp_is_found_where_the_inverse_points_elsewhere(bench: Workbench) -> None:
    """A map that shows places twice: one of them is inside."""
    subject = bench.family("csc_all_sky")
    index = next(subject.sky_images())
    stamp = Stamp(*sky_of(subject, index, 60.2, 23.6), (3, 3))
    contents = subject.cut(stamp=stamp)
    assert contents is not None
    (one,) = cut_hdus(contents)
    wcs = WCS(one.header).celestial
    middle = wcs.pixel_to_world(np.arange(3), np.full(3, 1)).icrs
    apart = middle.separation(SkyCoord(stamp.lon, stamp.lat, unit="deg")).deg
    assert np.nanmin(apart) < 6


# ---------------------------------------------------------------- sections


@pytest.mark.parametrize("name", ["tan", "no_wcs", "cube_radio", "mef", "compressed_tiles",
                                  "gzipped", "lookup_distortion", "unsigned_16"])  # fmt: skip
@pytest.mark.parametrize("text", ["[3:20,5:9]", "[*,7]", "50:90,-4:12", "[-5:0,*]", "[1:1,1:1]"])
def test_sections_of_pixels(bench: Workbench, name: str, text: str) -> None:
    """Those of the image, whatever its coordinates are; trailing axes whole."""
    subject = bench.family(name)
    contents = subject.cut(section=parse_pixels(text))
    limits = parse_pixels(text).axes
    images = [one for one in subject.parent.hdus if one.is_image and one.key[0] != "WCSDVARR"]
    expected = {}
    for one in images:
        assert one.stored is not None
        naxis = one.stored.shape[::-1]
        whole = [(0, length) for length in naxis]
        chosen = [one or other for one, other in zip(limits, whole, strict=False)] + whole[2:]
        section = tuple(
            (max(low, 0) + 1, min(high, length))
            for (low, high), length in zip(chosen, naxis, strict=True)
        )
        if all(low <= high for low, high in section):
            expected[one.index] = section
    if contents is None:
        assert not expected
        return
    assert dict(filter(None, (one.section for one in cut_hdus(contents)))) == expected
    compare(subject, contents, coordinates=name != "no_wcs")


@pytest.mark.parametrize("name", ["tan_sip", "no_wcs", "cube_radio", "lookup_distortion", "tpv",
                                  "detector_distortion", "compressed_rice_1_f4_dither_1",
                                  "ltv"])  # fmt: skip
@pytest.mark.parametrize("text", ["[-3:20,5:9]", "[*,-7:100]", "9:900,-4:12", "[1:61,3:49]"])
def test_sections_that_are_padded(bench: Workbench, name: str, text: str) -> None:
    """As numpy pads; coordinates go on."""
    subject = bench.family(name)
    contents = subject.cut(section=parse_pixels(text), form=PADDED)
    assert contents is not None
    if name == "no_wcs":
        (one,) = cut_hdus(contents)
        assert one.section is not None
        mother = subject.parent.hdus[one.section[0]].stored
        assert one.stored is not None
        assert mother is not None
        assert same(one.stored, frame_of(mother, one.section[1], np.nan))
        return
    assert assert_framed(subject, contents) < 1


@pytest.mark.parametrize("name", ["tan_sip", "ltv", "alternates"])
def test_a_cutout_of_a_padded_cutout(bench: Workbench, tmp_path: Path, name: str) -> None:
    """The pixels and coordinates of one cutout; CUTCOVER is of the last one only."""
    subject = bench.family(name)
    path = tmp_path / "padded.fits"
    path.write_bytes(subject.cut(section=parse_pixels("[-5:30,-3:20]"), form=PADDED) or b"")
    padded = bench.of(path)
    twice = File(padded.cut(section=parse_pixels("[3:20,8:12]")) or b"").hdus[0]
    once = File(subject.cut(section=parse_pixels("[-3:14,4:8]"), form=PADDED) or b"").hdus[0]
    assert twice.stored is not None
    assert once.stored is not None
    assert same(twice.stored, once.stored)
    assert "CUTCOVER" not in twice.header
    for keyword in once.header:
        if keyword not in {"CUTCOVER", "HISTORY", "COMMENT", "EXTEND", ""}:
            assert twice.header[keyword] == once.header[keyword], keyword
    again = padded.cut(section=parse_pixels("[3:20,-8:12]"), form=PADDED)
    assert again is not None
    assert again.count(b"CUTCOVER=") == 1
    padded.cutter.close()


def test_sections_of_the_image_follow_a_frame(bench: Workbench) -> None:
    """DATASEC says where the parent's data lie, though the frame is as large as the image."""
    contents = bench.family("ltv").cut(section=parse_pixels("[-3:57,1:47]"), form=PADDED)
    assert contents is not None
    header = cut_hdus(contents)[0].header
    assert (header["NAXIS1"], header["NAXIS2"]) == (WIDTH, HEIGHT)
    assert header["DATASEC"] == "[7:61,2:46]"
    assert header["LTV1"] == -96


def test_sections_of_more_axes_than_an_image_has(bench: Workbench) -> None:
    """Named with the HDU; another HDU may be chosen."""
    with pytest.raises(UsageError, match=r"HDU 0.*3 axes for an image of 2"):
        bench.family("tan").plan(section=parse_pixels("[*,*,1]"))
    assert bench.family("cube_radio").plan(section=parse_pixels("[*,*,1]")) is not None


def test_a_section_of_images_of_several_sizes(bench: Workbench, tmp_path: Path) -> None:
    """Each gives what it has; where none has any, there is nothing."""
    path = tmp_path / "sizes.fits"
    path.write_bytes(
        primary(ramp(20, 10), sky_cards()) + extension(ramp(9, 31)) + extension(ramp(61, 5))
    )
    subject = bench.of(path)
    contents = subject.cut(section=parse_pixels("[5:30,4:12]"))
    assert contents is not None
    sections = [one.section and one.section[1] for one in cut_hdus(contents)]
    assert sections == [((5, 20), (4, 10)), ((5, 9), (4, 12)), ((5, 30), (4, 5))]
    compare(subject, contents)
    contents = subject.cut(section=parse_pixels("[5:30,12:13]"))
    assert contents is not None
    assert [one.section for one in File(contents).hdus] == [None, (1, ((5, 9), (12, 13)))]
    assert subject.plan(section=parse_pixels("[100:120,1:2]")) is None
    assert subject.plan(section=parse_pixels("[100:120,1:2]"), form=PADDED) is None
    subject.cutter.close()


def test_a_section_and_a_band(bench: Workbench) -> None:
    """The planes of both."""
    subject = bench.family("cube_radio")
    whole = subject.cut(section=parse_pixels("[5:9,5:9]"))
    axes = next(one.header for one in cut_hdus(whole or b""))
    spectral = next(n for n in (3, 4) if axes[f"CTYPE{n}"].startswith("FREQ"))
    text = "[5:9,5:9,*,*]".replace("*", "2:3", 1) if spectral == 3 else "[5:9,5:9,*,2:3]"
    contents = subject.cut(section=parse_pixels(text), band=Interval(0.0, 1.0))
    assert contents is not None
    (one,) = cut_hdus(contents)
    assert one.section is not None
    assert one.section[1][spectral - 1] == (2, 3)
    assert subject.cut(section=parse_pixels(text), band=Interval(5.0, 6.0)) is None


def test_a_stamp_of_two_polarizations(bench: Workbench) -> None:
    """Only those, as for a circle, whether or not pixels are filled."""
    subject = bench.family("cube_stokes")
    index = next(subject.sky_images())
    there = Stamp(*sky_of(subject, index, 4.0, 5.0), (3, 4))
    at_edge = Stamp(*sky_of(subject, index, 0.0, 0.0), (3, 4))
    planes = []
    for stamp, form in ((there, PADDED), (at_edge, CutoutForm()), (at_edge, PADDED)):
        contents = subject.cut(stamp=stamp, pol=("V", "I"), form=form)
        one = next(one for one in File(contents or b"").hdus if one.is_image)
        axis = next(n for n in range(1, 5) if one.header.get(f"CTYPE{n}") == "STOKES")
        planes.append((one.header[f"NAXIS{axis}"], one.header[f"CDELT{axis}"]))
    assert planes == [(2, 3)] * 3


# ---------------------------------------------------------------- edges of shapes


@pytest.mark.parametrize("name", ["tan", "tan_sip", "tpv", "galactic", "cd_rotated", "car_strip"])
@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
def test_shapes_at_the_edge(bench: Workbench, tmp_path: Path, name: str) -> None:
    """Padded, the frame is the box in an image that is larger on all sides."""
    subject = bench.family(name)
    index = next(subject.sky_images())
    larger = bench.of(_larger(subject, index, 40, tmp_path / "larger.fits"))
    scale = subject.parent.wcs(index, "").proj_plane_pixel_scales()[0].to_value("deg")
    inside = Circle(*sky_of(subject, index, 30.0, 20.0), 3.2 * scale)
    corner = Circle(*sky_of(subject, index, 2.0, 44.0), 6.7 * scale)
    three = [sky_of(subject, index, *at) for at in ((-22.3, 10.1), (20.2, -5.9), (31.4, 60.6))]
    for shape, is_inside in ((inside, True), (corner, False), (Polygon(tuple(three)), False)):
        contents = subject.cut(shape, form=PADDED)
        assert contents is not None
        assert (assert_framed(subject, contents) == 1) == is_inside
        (section,) = [one.section[1] for one in cut_hdus(contents) if one.section]
        plan = larger.plan(shape)
        assert plan is not None
        (box,) = [one.box for one in plan.hdus if one.box is not None]
        limits = zip(box.lower, box.upper, strict=True)
        assert section == tuple((low - 40 + 1, high - 40) for low, high in limits)
        if is_inside:
            assert subject.cut(shape, form=REFUSED) == subject.cut(shape)
        else:
            with pytest.raises(UsageError, match="less than all was to be refused"):
                subject.plan(shape, form=REFUSED)
    assert subject.plan(Circle(330.0, 2.0, 0.1), form=PADDED) is None
    larger.cutter.close()


def _larger(subject: Subject, index: int, margin: int, path: Path) -> Path:
    """A file of the same image with so many more pixels on each side."""
    one = subject.parent.hdus[index]
    assert one.stored is not None
    header = one.header.copy()
    header["CRPIX1"] += margin
    header["CRPIX2"] += margin
    fits.PrimaryHDU(np.pad(one.stored, margin), header).writeto(path, output_verify="ignore")
    return path


def test_a_shape_that_goes_on_without_end(bench: Workbench) -> None:
    """No frame is as large as that."""
    subject = bench.family("tan")
    with pytest.raises(UsageError, match="goes on for more than"):
        subject.plan(Circle(150.1, 2.2, 80.0), form=PADDED)
    with pytest.raises(UsageError):
        subject.plan(Circle(150.1, 2.2, 80.0), form=REFUSED)
    assert subject.plan(Circle(150.1, 2.2, 80.0)) is not None


def test_what_is_inside_is_planned_at_once(bench: Workbench) -> None:
    """Without waiting, and as one piece: the ordinary stamp is as quick as a circle."""
    subject = bench.family("tan")
    stamp = Stamp(150.1, 2.2, (8, 8))
    assert subject.plan(stamp=stamp) is not None
    for asked in (
        {"stamp": stamp}, {"section": parse_pixels("[1:5,1:5]")}, {"stamp": stamp, "form": PADDED},
        {"shape": Circle(150.1, 2.2, 0.0005), "form": PADDED},
    ):  # fmt: skip
        request = subject.request(**asked)
        plan = subject.cutter.plan_quickly(request)
        assert plan == subject.cutter.plan(request)
        assert isinstance(plan, CutoutPlan)
        assert plan.is_copy
        b"".join(subject.cutter.cut(plan))
        assert subject.cutter.cut_resident(plan) is not None
    corner = Polygon(((150.1056, 2.194), (150.1054, 2.1942), (150.105, 2.1939)))
    request = subject.request(corner, form=PADDED)
    assert subject.plan(corner, form=PADDED) is not None
    assert subject.cutter.plan_quickly(request) is NOT_QUICK


# ---------------------------------------------------------------- what fills


def filled(bench: Workbench, folder: Path, dtype: str, cards: Any = (), **form: Any) -> Any:
    """The padded section of an image of one type."""
    path = folder / f"{dtype}.fits"
    path.write_bytes(primary(ramp(WIDTH, HEIGHT, dtype=dtype), [*sky_cards(), *cards]))
    subject = bench.of(path)
    try:
        contents = subject.cut(
            section=parse_pixels("[-1:5,*]"), form=CutoutForm(edge=Edge.PAD, **form)
        )
    finally:
        subject.cutter.close()
    assert contents is not None
    stored = cut_hdus(contents)[0].stored
    assert stored is not None
    return stored[0, 0]


@pytest.mark.parametrize(
    ("dtype", "cards", "fill", "expected"),
    [
        ("f4", [], (-1.5,), -1.5), ("f8", [], (10**300,), 1e300), ("f8", [], (7,), 7.0),
        ("i2", [("BLANK", -99)], (BLANK,), -99), ("i2", [], (-32768,), -32768),
        ("i2", [("BZERO", 32768.0)], (5,), 5 - 32768), ("i2", [("BZERO", 32768)], (65535,), 32767),
        ("i4", [("BZERO", 2147483648), ("BSCALE", 1.0)], (0,), -(2**31)),
        ("i8", [("BZERO", 9223372036854775808)], (2**64 - 1,), 2**63 - 1),
        ("u1", [("BZERO", -128)], (-128,), 0), ("u1", [("BZERO", -128.0)], (127.0,), 255),
        ("i2", [("BZERO", 32768), ("BLANK", -32768)], (BLANK,), -32768),
        ("i2", [("BZERO", 32768), ("BSCALE", 2.0)], (5,), 5), ("i2", [("BZERO", 100)], (5,), 5),
        ("u1", [], (255,), 255), ("u1", [], (3.0,), 3),
        ("i8", [], (2**63 - 1,), 2**63 - 1), ("i4", [], (math.nan, BLANK, 0.5, 8), 8),
        ("i4", [("BLANK", 3)], (math.nan, BLANK, 8), 3),
    ],
)  # fmt: skip
def test_what_a_type_can_hold_fills_it(
    bench: Workbench, tmp_path: Path, dtype: str, cards: Any, fill: Any, expected: object
) -> None:
    """Unsigned integers, and signed bytes, as they are meant; else stored values, unscaled."""
    assert filled(bench, tmp_path, dtype, cards, fill=fill) == expected


@pytest.mark.parametrize(
    ("cards", "fill", "told"),
    [
        ([], 7, "with 7 for the pixels beyond the edge"),
        ([("BZERO", 32768)], 7, "with 7 (stored as -32761) for the pixels"),
        ([("BZERO", 100), ("BSCALE", 0.5)], 7, "with the stored value 7 for the pixels"),
        ([("BZERO", 32768), ("BLANK", -32768)], BLANK, "with BLANK (-32768) for the pixels"),
    ],
)
def test_what_fills_is_told(
    bench: Workbench, tmp_path: Path, cards: Any, fill: Any, told: str
) -> None:
    """And astropy, which scales, reads the value that was asked for."""
    path = tmp_path / "file.fits"
    path.write_bytes(primary(ramp(WIDTH, HEIGHT, dtype="i2"), [*sky_cards(), *cards]))
    subject = bench.of(path)
    form = CutoutForm(edge=Edge.PAD, fill=(fill,))
    contents = subject.cut(section=parse_pixels("[-1:5,*]"), form=form)
    (path.parent / "cut.fits").write_bytes(contents or b"")
    with fits.open(path.parent / "cut.fits") as cut:
        assert told in str(cut[0].header["HISTORY"]).replace("\n", "")
        if fill is not BLANK and "stored value" not in told:
            assert cut[0].data[0, 0] == fill
    subject.cutter.close()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_floats_are_nan_by_default(bench: Workbench, tmp_path: Path, dtype: str) -> None:
    """BLANK is NaN for them."""
    assert np.isnan(filled(bench, tmp_path, dtype))
    assert np.isnan(filled(bench, tmp_path, dtype, fill=(BLANK, 0)))


@pytest.mark.parametrize(
    ("dtype", "cards", "fill"),
    [
        ("i2", [], (BLANK,)), ("i2", [("BLANK", 70000)], (BLANK,)), ("i2", [], (32768,)),
        ("u1", [], (-1,)), ("u1", [], (256,)), ("i4", [], (math.nan,)), ("i4", [], (0.5,)),
        ("i2", [("BZERO", 32768)], (-1,)), ("i2", [("BZERO", 32768)], (65536,)),
        ("u1", [("BZERO", -128)], (128,)), ("i8", [("BZERO", 2**63)], (2**64,)),
        ("i8", [], (2**63,)), ("i2", [], (1e30,)), ("f4", [], (10**400,)), ("f4", [], (1e300,)),
    ],
)  # fmt: skip
def test_what_a_type_cannot_hold_is_refused(
    bench: Workbench, tmp_path: Path, dtype: str, cards: Any, fill: Any
) -> None:
    """Before anything is sent, and only where something has to be filled."""
    with pytest.raises(UsageError, match=r"HDU 0.*to be filled.*FILL takes one"):
        filled(bench, tmp_path, dtype, cards, fill=fill)
    subject = bench.of(tmp_path / f"{dtype}.fits")
    form = CutoutForm(edge=Edge.PAD, fill=fill)
    assert subject.cut(section=parse_pixels("[2:5,*]"), form=form) is not None
    subject.cutter.close()


def test_families_are_there() -> None:
    """The lists above name what there is."""
    assert set(NAMED) <= set(FAMILIES)
