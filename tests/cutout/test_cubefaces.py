"""Cutouts of the six faces of a cube around the sky, by shapes that may lie on several of them.

The oracle is wcslib by astropy, which takes the pixel coordinates of all three axes together: it
looks at 11 by 11 points in each pixel of each face.
"""

from __future__ import annotations

import io
import re
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings, strategies as st
from support.cutouts import compare
from support.images import FACES_FAMILIES, FAMILIES, CardSpec, extension, primary, ramp, sky_cards

from soda_service.cutout.form import BLANK, CutoutForm, Edge
from soda_service.cutout.quickplan import is_ordinary
from soda_service.errors import UsageError
from soda_service.geometry.dali import parse_pixels
from soda_service.geometry.frames import Stamp
from soda_service.geometry.shapes import Circle, Polygon, Range
from soda_service.geometry.sphere import contains, unit_vectors

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from support.cutouts import Subject, Workbench

    from soda_service.geometry.shapes import Shape

    Floats = NDArray[np.float64]

COUNT = 11
"""Samples along a pixel."""


@cache
def samples_of(header_text: str, naxis: tuple[int, int, int], count: int = COUNT) -> Floats:
    """ICRS vectors (3, faces, rows, columns, count, count) by wcslib's three axes."""
    columns, rows, faces = naxis
    wcs = WCS(fits.Header.fromstring(header_text))
    offsets = (np.arange(count) + 0.5) / count - 0.5
    face, y, x, dy, dx = np.meshgrid(
        np.arange(faces, dtype=float), np.arange(rows), np.arange(columns), offsets, offsets,
        indexing="ij",
    )  # fmt: skip
    lon, lat, _ = wcs.all_pix2world((x + dx).ravel(), (y + dy).ravel(), face.ravel(), 0)
    return unit_vectors(lon, lat).reshape(3, *x.shape)


def vectors_of(subject: Subject) -> Floats:
    header = subject.parent.hdus[0].header
    naxis = tuple(header[f"NAXIS{axis}"] for axis in (1, 2, 3))
    return samples_of(header.tostring(), naxis)


def met(vectors: Floats, shape: Shape) -> NDArray[np.bool_]:
    """Which samples the shape holds, (faces, rows, columns, count, count)."""
    flat = vectors.reshape(3, -1)
    held = np.zeros(flat.shape[1], dtype=bool)
    known = np.isfinite(flat[0])
    held[known] = contains(shape, flat[:, known])
    return held.reshape(vectors.shape[1:])


def box_of(subject: Subject, shape: Shape, **asked: Any) -> tuple[Floats, Floats] | None:
    """First pixel and one past the last of the three axes."""
    plan = subject.plan(shape, **asked)
    if plan is None:
        return None
    (hdu,) = plan.hdus
    assert hdu.box is not None
    return np.array(hdu.box.lower), np.array(hdu.box.upper)


def grown(shape: Shape, by: float) -> Shape:
    """A circle that is larger by as many degrees."""
    assert isinstance(shape, Circle)
    return Circle(shape.lon, shape.lat, min(shape.radius + by, 180.0))


@pytest.mark.parametrize("name", FACES_FAMILIES)
@settings(max_examples=40)
@given(
    lon=st.one_of(st.sampled_from([40.0, 85.0, 130.0, 220.0, 355.0, 0.0]), st.floats(0.0, 360.0)),
    lat=st.one_of(st.sampled_from([0.0, 35.26, 45.0, -45.0, 90.0, -90.0]), st.floats(-90.0, 90.0)),
    radius=st.sampled_from([0.5, 3.0, 11.0, 30.0, 80.0, 130.0]),
)
def test_the_box_holds_every_pixel_that_a_circle_meets_and_no_more(
    bench: Workbench, name: str, lon: float, lat: float, radius: float
) -> None:
    """All of the samples in the circle, and on each of six sides one that nearly is."""
    subject = bench.family(name)
    circle = Circle(lon, lat, radius)
    vectors = vectors_of(subject)
    found = box_of(subject, circle)
    seen = np.stack(np.nonzero(met(vectors, circle).any(axis=(-2, -1))))[::-1]
    if found is None:
        assert not seen.size
        return
    lower, upper = found
    assert (seen >= lower[:, None]).all()
    assert (seen < upper[:, None]).all()
    # A tenth of a pixel of five or six degrees more, and samples are in every side.
    near = met(vectors, grown(circle, 0.8)).any(axis=(-2, -1))
    places = np.stack(np.nonzero(near))[::-1]
    places = places[:, ((places >= lower[:, None]) & (places < upper[:, None])).all(axis=0)]
    assert (places.min(axis=1) == lower).all()
    assert (places.max(axis=1) == upper - 1).all()


SHAPES: dict[str, tuple[Shape, str]] = {
    "in one face": (Circle(40.0, 0.0, 6.0), "2:2"),
    "in the upper face": (Circle(10.0, 88.0, 6.0), "1:1"),
    "in the lower face": (Circle(10.0, -88.0, 6.0), "6:6"),
    "over an edge": (Circle(85.0, 3.0, 6.0), "2:3"),
    "over the edge of the first and the last": (Circle(355.0, 3.0, 6.0), "2:5"),
    "over a corner": (Circle(85.0, 35.3, 9.0), "1:3"),
    "along the equator": (Range(0.0, 360.0, -5.0, 5.0), "2:5"),
    "a polygon": (Polygon(((70.0, 20.0), (100.0, 20.0), (100.0, -20.0), (70.0, -20.0))), "2:3"),
    "everything": (Circle(0.0, 0.0, 180.0), "1:6"),
}


@pytest.mark.parametrize("name", FACES_FAMILIES)
@pytest.mark.parametrize("what", SHAPES)
def test_cutouts_are_true_at_every_pixel(bench: Workbench, name: str, what: str) -> None:
    """Pixels to the bit, places by astropy's three axes, cards to the byte."""
    subject = bench.family(name)
    shape, faces = SHAPES[what]
    contents = subject.cut(shape)
    assert contents is not None
    figures = compare(subject, contents)
    assert figures.pixels
    assert figures.places == figures.pixels
    assert figures.sky_mas < 1e-3
    assert figures.other_axes == 0.0
    assert figures.lost == set()
    header = fits.getheader(io.BytesIO(contents))
    assert re.search(r"section \[[0-9:]+,[0-9:]+,([0-9:]+)\]", str(header["HISTORY"]))[1] == faces  # type: ignore[index]  # there is one
    low, high = map(int, faces.split(":"))
    assert (header["NAXIS3"], header["CRPIX3"]) == (high - low + 1, 2.0 - low)
    proved = subject.cut(shape, form=CutoutForm(proof=True))
    card = fits.getheader(io.BytesIO(proved or b""))
    assert card["CUTWCSER"] < 1e-3
    assert card["CUTWCSNP"] >= 2 * 9 * 9 * min(high - low + 1, 2) // 2


def test_a_cutout_can_be_cut_again(bench: Workbench, tmp_path: Path) -> None:
    """Of some faces as the whole cube can; of one face it is an image like any other."""
    subject = bench.family("cube_faces_tsc")
    edge, middle = Circle(175.0, 3.0, 9.0), Circle(130.0, 3.0, 20.0)
    for shape, is_flat in ((edge, False), (middle, True)):
        (tmp_path / "cut.fits").write_bytes(subject.cut(shape) or b"")
        again = bench.of(tmp_path / "cut.fits")
        prepared = again.cutter._prepared.get(again.dataset)
        assert is_ordinary(prepared) == is_flat
        smaller = Circle(shape.lon, shape.lat, 5.5)
        first, second = box_of(subject, shape), box_of(again, smaller)
        direct = box_of(subject, smaller)
        assert first is not None
        assert second is not None
        assert direct is not None
        np.testing.assert_array_equal(second[0] + first[0], direct[0])
        np.testing.assert_array_equal(second[1] + first[0], direct[1])
        figures = compare(again, again.cut(smaller) or b"")
        assert figures.places
        assert figures.sky_mas < 1e-3
        again.cutter.close()


@pytest.mark.parametrize("face", range(6))
def test_a_stamp_lies_on_the_face_that_has_the_position(bench: Workbench, face: int) -> None:
    """As many pixels as were asked for, around the pixel that shows the position."""
    subject = bench.family("cube_faces_qsc")
    wcs = WCS(subject.parent.hdus[0].header)
    lon, lat, _ = (float(one) for one in wcs.all_pix2world(11.2, 6.9, face, 0))
    contents = subject.cut(stamp=Stamp(lon, lat, (5, 3)))
    section = re.search(r"section \[(\S+)\]", str(fits.getheader(io.BytesIO(contents or b""))))
    assert section is not None
    assert section[1] == f"10:14,7:9,{face + 1}:{face + 1}"
    assert compare(subject, contents or b"").sky_mas < 1e-3


def test_a_mask_is_that_of_each_face(bench: Workbench) -> None:
    """Pixels whose centres astropy has outside of the circle are filled."""
    subject = bench.family("cube_faces_csc")
    circle = Circle(85.0, 35.3, 20.0)
    contents = subject.cut(circle, form=CutoutForm(masked=True, fill=(BLANK,)))
    with fits.open(io.BytesIO(contents or b"")) as hdus:
        data, header = hdus[0].data, hdus[0].header
        face, y, x = np.indices(data.shape).astype(float)
        world = WCS(header).all_pix2world(x.ravel(), y.ravel(), face.ravel(), 0)
    inside = contains(circle, unit_vectors(world[0], world[1])).reshape(data.shape)
    assert (np.isfinite(data) == inside).all()
    assert inside.any(axis=(1, 2)).all()
    assert not inside.all()


def test_beyond_the_edge_of_a_face_lies_another(bench: Workbench) -> None:
    """Nothing can be padded there; within a face there is nothing to pad."""
    subject = bench.family("cube_faces_tsc")
    for edge in (Edge.PAD, Edge.REFUSE):
        form = CutoutForm(edge=edge, fill=(BLANK,))
        inside = Circle(40.0, 0.0, 6.0)
        plain, padded = box_of(subject, inside), box_of(subject, inside, form=form)
        assert plain is not None
        assert padded is not None
        np.testing.assert_array_equal(plain, padded)
        with pytest.raises(UsageError, match="only EDGE=trim"):
            subject.plan(Circle(85.0, 3.0, 6.0), form=form)


CARDS: list[CardSpec] = [
    ("WCSAXES", 4), ("CTYPE1", "CUBEFACE"), ("CTYPE2", "RA---TSC"), ("CTYPE3", "STOKES"),
    ("CTYPE4", "DEC--TSC"), ("CRPIX1", 1.0), ("CRPIX2", 9.0), ("CRPIX3", 1.0), ("CRPIX4", 7.0),
    ("CRVAL1", 0.0), ("CRVAL2", 40.0), ("CRVAL3", 1.0), ("CRVAL4", 0.0),
    ("CDELT1", 1.0), ("CDELT2", -5.0), ("CDELT3", 1.0), ("CDELT4", 6.0),
]  # fmt: skip


def test_axes_in_any_order_with_another_between(bench: Workbench, tmp_path: Path) -> None:
    """Faces on axis 1, polarization between longitude and latitude; masked besides."""
    path = tmp_path / "mixed.fits"
    path.write_bytes(primary(ramp(6, 17, 4, 13), CARDS))
    subject = bench.of(path)
    circle = Circle(85.0, 3.0, 14.0)
    plan = subject.plan(circle, pol=("Q", "U"))
    assert plan is not None
    expected = box_of(bench.family("cube_faces_tsc"), circle)
    assert expected is not None
    (x1, y1, f1), (x2, y2, f2) = expected
    assert plan.hdus[0].box is not None
    assert plan.hdus[0].box.lower == (f1, x1, 1, y1)
    assert plan.hdus[0].box.upper == (f2, x2, 3, y2)
    figures = compare(subject, subject.made(plan))
    assert figures.places
    assert figures.sky_mas < 1e-3
    form = CutoutForm(masked=True, fill=(BLANK,))
    masked = subject.cut(circle, pol=("Q", "U"), form=form)
    other = bench.family("cube_faces_tsc").cut(circle, form=form)
    with fits.open(io.BytesIO(masked or b"")) as mine, fits.open(io.BytesIO(other or b"")) as flat:
        seen = np.isfinite(mine[0].data).transpose(1, 3, 0, 2)  # Stokes, faces, rows, columns
        assert (seen == np.isfinite(flat[0].data)).all()
    subject.cutter.close()


def test_planes_of_one_cube_are_cut_with_one_box(bench: Workbench, tmp_path: Path) -> None:
    """A second cube with the same faces, one without coordinates, and one of other faces."""
    sky = [one for one in CUBE if one[0] != "CRPIX3"]
    path = tmp_path / "planes.fits"
    path.write_bytes(
        primary(ramp(17, 13, 6), CUBE)
        + extension(ramp(17, 13, 6), [*CUBE, ("EXTNAME", "ERR")])
        + extension(ramp(17, 13, 6), [("EXTNAME", "DQ")])
        + extension(ramp(17, 13, 6), [*sky, ("CRPIX3", 2.0), ("EXTNAME", "MOVED"), ("EXTVER", 2)])
    )
    subject = bench.of(path)
    plan = subject.plan(Circle(85.0, 3.0, 6.0))
    assert plan is not None
    boxes = [one.box for one in plan.hdus]
    assert boxes[0] is not None
    assert boxes[0] == boxes[1] == boxes[2]
    assert boxes[3] is not None
    assert boxes[3].lower == (*boxes[0].lower[:2], boxes[0].lower[2] + 1)
    figures = compare(subject, subject.made(plan))
    assert figures.hdus == 4
    assert figures.sky_mas < 1e-3
    subject.cutter.close()


CUBE: list[tuple[str, Any]] = [
    ("WCSAXES", 3), *[(one[0], one[1]) for one in sky_cards("TSC", crval=(40.0, 0.0),
     crpix=(9.0, 7.0), cdelt=(-5.0, 6.0)) if one[0] != "WCSAXES"],
    ("CTYPE3", "CUBEFACE"), ("CRPIX3", 1.0), ("CRVAL3", 0.0), ("CDELT3", 1.0),
]  # fmt: skip


@pytest.mark.parametrize("name", FACES_FAMILIES)
def test_the_catalog_knows_where_the_faces_are(bench: Workbench, name: str) -> None:
    """Six polygons, all over the sky; the axis of faces makes no cube of it."""
    dataset = bench.family(name).dataset
    assert dataset.footprint is not None
    assert len(dataset.footprint.polygons) == 6
    corners = samples_of(fits.Header.fromstring(FAMILIES[name]()[:5760]).tostring(), (17, 13, 6))
    for piece in corners.reshape(3, 6, -1).transpose(1, 0, 2):
        covered = np.zeros(piece.shape[1], dtype=bool)
        for polygon in dataset.footprint.polygons:
            covered |= contains(polygon, piece)
        assert covered.all()
    assert dataset.obscore.dataproduct_type == "image"
    assert dataset.obscore.s_region is not None
    assert dataset.obscore.s_region.startswith("UNION ICRS")


def test_a_row_of_a_polar_face_is_proved(bench: Workbench) -> None:
    """Of which wcslib has the positions wrong where it is asked for that row alone."""
    subject = bench.family("cube_faces_tsc")
    form = CutoutForm(proof=True)
    for section in ("[2:9,4:4,1:1]", "[2:9,4:4,5:6]", "[3:3,2:11,6:6]"):
        contents = subject.cut(section=parse_pixels(section), form=form)
        assert fits.getheader(io.BytesIO(contents or b""))["CUTWCSER"] < 1e-3


def test_pixels_of_any_faces(bench: Workbench) -> None:
    """By section, without the sky."""
    subject = bench.family("cube_faces_csc")
    figures = compare(subject, subject.cut(section=parse_pixels("[3:12,2:9,2:5]")) or b"")
    assert figures.places == 10 * 8 * 4
    assert figures.sky_mas < 1e-3
    assert figures.other_axes == 0.0


def test_a_point_between_two_pixels_is_in_one_of_them(bench: Workbench) -> None:
    """And where it lies in no image of a face, in none."""
    subject = bench.family("cube_faces_tsc")
    found = box_of(subject, Circle(40.5, 1.0, 0.0))
    assert found is not None
    assert (found[1] - found[0] == 1).all()
    assert box_of(subject, Circle(85.0, 35.2, 0.0)) is None
