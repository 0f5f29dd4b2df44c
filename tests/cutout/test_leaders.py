"""Planes of one grid: what an image without coordinates takes from the plane that it lies over.

The oracle is the parent: the values of a cutout are its values under the section that astropy's
WCS of the leading plane gives, and those of the other planes under the same section.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings, strategies as st
from support.cutouts import compare
from support.images import extension, header_bytes, primary, ramp, sky_cards

from soda_service.cutout.form import BLANK, CutoutForm, Edge
from soda_service.cutout.prepared import PreparedDataset
from soda_service.fits.celestial import CelestialGrid
from soda_service.geometry.dali import parse_pixels
from soda_service.geometry.shapes import Circle, Interval

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from support.cutouts import Subject, Workbench
    from support.images import CardSpec

SHAPE = Circle(150.1, 2.2, 0.0011)
WAVE: list[CardSpec] = [
    ("CTYPE3", "WAVE"), ("CUNIT3", "um"), ("CRVAL3", 5.0), ("CRPIX3", 1.0), ("CDELT3", 0.1),
    ("SPECSYS", "BARYCENT"),
]  # fmt: skip
STOKES: list[CardSpec] = [
    ("CTYPE3", "STOKES"), ("CRVAL3", 1.0), ("CRPIX3", 1.0), ("CDELT3", 1.0)
]  # fmt: skip
TO_LATER_AXES = str.maketrans("12", "23")
BAND = Interval(5.25e-6, 5.45e-6)
"""The fourth and the fifth plane, from edge to edge."""


def in_planes(cards: Sequence[CardSpec]) -> list[CardSpec]:
    return [card for card in (*sky_cards(), *cards) if card[0] != "WCSAXES"]


def named(name: str, *cards: CardSpec, version: int = 1) -> list[CardSpec]:
    return [("EXTNAME", name), ("EXTVER", version), *cards]


def subject_of(bench: Workbench, folder: Path, *hdus: bytes, roles: Any = None) -> Subject:
    path = folder / "planes.fits"
    path.write_bytes(primary(None) + b"".join(hdus))
    given = {} if roles is None else {"roles": roles}
    return bench.of(path, bench.collections.model_copy(update=given))


def arrays(contents: bytes | None) -> dict[str, NDArray[np.generic]]:
    """The values of the image extensions by their names, after the cards have been compared."""
    assert contents is not None
    with fits.open(io.BytesIO(contents)) as hdus:
        return {one.name: np.array(one.data) for one in hdus[1:]}


def notes(contents: bytes | None, name: str) -> str:
    header = fits.getheader(io.BytesIO(contents or b""), name)
    return " ".join(str(line).strip() for line in header.get("HISTORY", []))


@pytest.mark.parametrize("shape", [None, SHAPE])
def test_planes_without_coordinates_have_the_channels_of_the_cube(
    bench: Workbench, tmp_path: Path, shape: Circle | None
) -> None:
    """Whether they say nothing at all, or only where they lie on the sky, as JWST's do."""
    cubes = {
        name: ramp(41, 43, 10, start=1000 * number)
        for number, name in enumerate(["SCI", "ERR", "DQ"])
    }
    subject = subject_of(
        bench,
        tmp_path,
        extension(cubes["SCI"], named("SCI", *in_planes(WAVE))),
        extension(cubes["ERR"], named("ERR")),
        extension(cubes["DQ"], named("DQ", *sky_cards())),
    )
    contents = subject.cut(shape, band=BAND)
    compare(subject, contents or b"")
    found = arrays(contents)
    middles = 5.0 + 0.1 * np.arange(10)
    planes = np.flatnonzero((middles > 5.25) & (middles < 5.45))
    rows = columns = slice(None)
    if shape is not None:
        with fits.open(subject.path) as hdus:
            sky = WCS(hdus["SCI"].header).celestial
        (x,), (y,) = sky.all_world2pix([150.1], [2.2], 0)
        reach = 0.0011 / 2e-4
        columns = slice(int(np.floor(x - reach + 0.5)), int(np.floor(x + reach + 0.5)) + 1)
        rows = slice(int(np.floor(y - reach + 0.5)), int(np.floor(y + reach + 0.5)) + 1)
    for name, cube in cubes.items():
        assert (found[name] == cube[planes[0] : planes[-1] + 1, rows, columns]).all()
        assert found[name].shape == found["SCI"].shape
    subject.cutter.close()


def test_an_axis_that_means_something_else_is_not_the_leaders(
    bench: Workbench, tmp_path: Path
) -> None:
    """Nor that of a cube of another length."""
    subject = subject_of(
        bench,
        tmp_path,
        extension(ramp(41, 43, 10), named("SCI", *in_planes(WAVE))),
        extension(ramp(41, 43, 10), named("OTHER", *in_planes(STOKES))),
        extension(ramp(41, 43, 8), named("SHORT")),
    )
    found = arrays(subject.cut(SHAPE, band=BAND))
    assert [found[name].shape[0] for name in ("SCI", "OTHER", "SHORT")] == [2, 10, 8]
    assert len({one.shape[1:] for one in found.values()}) == 1
    subject.cutter.close()


def test_a_mask_has_the_wavelengths_of_the_spectrum_it_lies_over(
    bench: Workbench, tmp_path: Path
) -> None:
    """Where it is certain which one that is: the only one of its version and size."""
    wave = [(card[0].replace("3", "1"), *card[1:]) for card in WAVE]
    bluer = [(*card[:1], 4.9 if card[0] == "CRVAL1" else card[1]) for card in wave]
    first, second = ramp(12, start=100), ramp(12, start=200)
    subject = subject_of(
        bench,
        tmp_path,
        extension(first, named("FLUX", *wave)),
        extension(second, named("FLUX", *bluer, version=2)),
        extension(first, named("IVAR")),
        extension(second, named("IVAR", version=2)),
        extension(first, named("IVAR", version=3)),
        extension(first, named("OTHER", ("CTYPE1", "PHASE"))),
        extension(ramp(13), named("LONGER")),
    )
    contents = subject.cut(band=BAND)
    compare(subject, contents or b"")
    with fits.open(io.BytesIO(contents or b"")) as cut:
        for name in ("FLUX", "IVAR"):
            assert (cut[name, 1].data == first[3:5]).all()
            assert (cut[name, 2].data == second[4:6]).all()
        lengths = [len(cut[name].data) for name in (("IVAR", 3), "OTHER", "LONGER")]
        assert lengths == [12, 12, 13]
    subject.cutter.close()


@pytest.mark.parametrize(
    ("of_the_mask", "planes"), [([], [0, 3]), ([("CPDIS3", "LOOKUP")], [0, 1, 2, 3])]
)
def test_states_between_are_left_out_of_all_planes_or_of_none(
    bench: Workbench, tmp_path: Path, of_the_mask: list[CardSpec], planes: list[int]
) -> None:
    cube, mask = ramp(41, 43, 4), ramp(41, 43, 4, dtype="i2", start=9)
    subject = subject_of(
        bench,
        tmp_path,
        extension(cube, named("SCI", *in_planes(STOKES))),
        extension(mask, named("DQ", *of_the_mask)),
    )
    found = arrays(subject.cut(pol=("I", "V")))
    assert (found["SCI"] == cube[planes]).all()
    assert (found["DQ"] == mask[planes]).all()
    subject.cutter.close()


@pytest.mark.parametrize("naxis", [(10, 41, 43), (41, 41, 41)])
def test_a_plane_lies_over_the_sky_of_a_cube_on_whichever_axes_that_is(
    bench: Workbench, tmp_path: Path, naxis: tuple[int, int, int]
) -> None:
    sky = [(card[0].translate(TO_LATER_AXES), *card[1:]) for card in sky_cards()[1:]]
    wave = [(card[0].replace("3", "1"), *card[1:]) for card in WAVE]
    cube, mask, flat = ramp(*naxis), ramp(*naxis, dtype="i4", start=7), ramp(*naxis[1:], start=5)
    subject = subject_of(
        bench,
        tmp_path,
        extension(cube, named("SCI", *sky, *wave)),
        extension(mask, named("DQ")),
        extension(flat, named("FLAT")),
    )
    found = arrays(subject.cut(SHAPE))
    with fits.open(subject.path) as hdus:
        (x,), (y,) = WCS(hdus["SCI"].header).celestial.all_world2pix([150.1], [2.2], 0)
    low_x, low_y = (int(np.floor(at - 5.5 + 0.5)) for at in (x, y))
    end_x, end_y = (int(np.floor(at + 5.5 + 0.5)) + 1 for at in (x, y))
    assert (found["SCI"] == cube[low_y:end_y, low_x:end_x]).all()
    assert (found["DQ"] == mask[low_y:end_y, low_x:end_x]).all()
    assert (found["FLAT"] == flat[low_y:end_y, low_x:end_x]).all()
    subject.cutter.close()


def test_an_image_whose_own_coordinates_are_broken_is_nobodys_plane(
    bench: Workbench, tmp_path: Path
) -> None:
    """It is copied whole, and what is cut says why; asked by pixels it is cut as any other."""
    far = [*sky_cards(crval=(151.1, 2.2)), ("A_ORDER", 2), ("A_2_0", 1e-6)]
    other = ramp(41, 43, start=5000)
    subject = subject_of(
        bench,
        tmp_path,
        extension(ramp(41, 43), named("CCD1", *sky_cards())),
        extension(other, named("CCD2", *far)),
    )
    contents = subject.cut(SHAPE)
    compare(subject, contents or b"")
    found = arrays(contents)
    assert (found["CCD2"] == other).all()
    assert found["CCD1"].size < 200
    said = notes(contents, "CCD1")
    assert "with all of HDU 2 (CCD2,1), whose place is not known: A_ORDER stands without" in said
    assert "HISTORY" not in fits.getheader(io.BytesIO(contents or b""), "CCD2")
    found = arrays(subject.cut(section=parse_pixels("[5:9,6:12]")))
    assert (found["CCD2"] == other[5:12, 4:9]).all()
    subject.cutter.close()


def test_a_broken_plane_that_has_a_role_beside_its_image_is_cut_with_it(
    bench: Workbench, tmp_path: Path
) -> None:
    broken = [*sky_cards(), ("A_ORDER", 2), ("A_2_0", 1e-6)]
    mask = ramp(41, 43, start=5000)
    hdus = [
        extension(ramp(41, 43), named("SCI", *sky_cards())),
        extension(mask, named("DQ", *broken)),
        extension(mask, named("DQ", *broken, version=2)),
    ]
    subject = subject_of(bench, tmp_path, *hdus, roles={"SCI": "science", "DQ": "quality"})
    contents = subject.cut(SHAPE)
    with fits.open(io.BytesIO(contents or b"")) as cut:
        assert cut["DQ", 1].data.shape == cut["SCI"].data.shape
        assert cut["DQ", 2].data.shape == mask.shape
    subject.cutter.close()


@pytest.mark.parametrize(
    "cards",
    [
        [("CTYPE1", "WAVE"), ("CUNIT1", "nm"), ("CRVAL1", 500.0), ("CDELT1", 1.0),
         ("CTYPE2", "LINEAR")],
        [("CTYPE1", "XOFFSET"), ("CTYPE2", "YOFFSET")],
        [("CTYPE2", "STOKES"), ("CRVAL2", 1.0)],
    ],
)  # fmt: skip
def test_an_image_of_other_coordinates_is_no_plane_of_one_of_its_size(
    bench: Workbench, tmp_path: Path, cards: list[CardSpec]
) -> None:
    spectrum = ramp(41, 43, start=5000)
    subject = subject_of(
        bench,
        tmp_path,
        extension(ramp(41, 43), named("ACQ", *sky_cards())),
        extension(spectrum, named("SPEC2D", *cards)),
        extension(spectrum, named("MASK", ("CTYPE1", "LINEAR"), ("CTYPE2", "PIXEL"))),
    )
    found = arrays(subject.cut(SHAPE))
    assert (found["SPEC2D"] == spectrum).all()
    assert found["MASK"].shape == found["ACQ"].shape
    subject.cutter.close()


def constant(*cards: CardSpec, version: int = 1, size: tuple[int, int] = (41, 43)) -> bytes:
    """An HDU of HST without data, all of whose pixels are the same."""
    first: list[CardSpec] = [
        ("XTENSION", "IMAGE"), ("BITPIX", -32), ("NAXIS", 0), ("PCOUNT", 0), ("GCOUNT", 1),
    ]  # fmt: skip
    sizes: list[CardSpec] = [("NPIX1", size[0]), ("NPIX2", size[1]), ("PIXVALUE", 0.5)]
    return header_bytes([*first, *named("ERR", *cards, version=version), *sizes])


@pytest.mark.parametrize("asked", ["shape", "section", "padded"])
def test_constant_pixels_are_cut_like_the_image_they_belong_to(
    bench: Workbench, tmp_path: Path, asked: str
) -> None:
    subject = subject_of(
        bench,
        tmp_path,
        extension(ramp(41, 43), named("SCI", *sky_cards())),
        constant(*sky_cards()),
        extension(ramp(41, 43), named("SCI", *sky_cards(crval=(151.1, 2.2)), version=2)),
        constant(*sky_cards(crval=(151.1, 2.2)), version=2),
        constant(*sky_cards(), version=3),
        constant(*sky_cards(), version=1, size=(40, 43)),
    )
    requests: dict[str, dict[str, Any]] = {
        "shape": {"shape": SHAPE},
        "section": {"section": parse_pixels("[5:20,6:50]")},
        "padded": {
            "section": parse_pixels("[-3:20,6:12]"),
            "form": CutoutForm(edge=Edge.PAD, fill=(BLANK, 0), proof=True, checksums=True),
        },
    }
    plan = subject.plan(**requests[asked])
    assert plan is not None
    contents = subject.made(plan)
    with fits.open(io.BytesIO(contents)) as cut, fits.open(subject.path) as parent:
        kept = [(one.name, one.ver, one.header.get("NPIX1")) for one in cut[1:]]
        size = cut["SCI", 1].data.shape[::-1]
        moved = [("SCI", 1, None), ("ERR", 1, size[0])]
        if asked != "shape":
            moved += [("SCI", 2, None), ("ERR", 2, size[0])]
        assert kept == [*moved, ("ERR", 3, 41), ("ERR", 1, 40)]
        header = cut["ERR", 1].header
        assert (header["NAXIS"], header["NPIX1"], header["NPIX2"]) == (0, *size)
        assert header["PIXVALUE"] == 0.5
        assert "section" in notes(contents, "ERR")
        for keyword in ("CRPIX1", "CRPIX2"):
            assert header[keyword] == cut["SCI", 1].header[keyword]
            assert header[keyword] != parent["ERR", 1].header[keyword]
        assert cut["ERR", 3].header["CRPIX1"] == parent["ERR", 3].header["CRPIX1"]
    subject.cutter.close()


def described(code: str, *, step: float = 1.0, **cards: float | str) -> list[CardSpec]:
    """A grid of galactic coordinates, its origin in the middle of 60 by 30 pixels."""
    values: dict[str, Any] = {
        "WCSAXES": 2, "CTYPE1": f"GLON-{code}", "CTYPE2": f"GLAT-{code}", "CRVAL1": 0.0,
        "CRVAL2": 0.0, "CRPIX1": 30.5, "CRPIX2": 15.5, "CDELT1": -step, "CDELT2": step,
    }  # fmt: skip
    return list((values | cards).items())


def prepared_of(subject: Subject) -> PreparedDataset:
    return PreparedDataset(subject.dataset, subject.cutter._files)


def judge_each_by_its_own_sky(subject: Subject, shape: Circle, *, tightly: bool = True) -> None:
    """By astropy: each image has all its pixels whose middles are in *shape*, and few others.

    Middles that are less than 0.04 degrees from the circle are passed over: a hundredth of a pixel.
    *tightly* is to count the others.
    """
    contents = subject.cut(shape)
    around = SkyCoord(shape.lon, shape.lat, unit="deg")
    with fits.open(subject.path) as parent, fits.open(io.BytesIO(contents or b"")) as cut:
        names = {hdu.name for hdu in cut}
        for hdu in parent[1:]:
            sky = WCS(hdu.header)
            y, x = np.indices(hdu.data.shape)
            lon, lat = sky.all_pix2world(np.column_stack([x.ravel(), y.ravel()]), 0).T
            known = np.flatnonzero(np.isfinite(lon) & np.isfinite(lat))
            there = SkyCoord(lon[known], lat[known], unit="deg", frame="galactic")
            inside = known[there.separation(around).deg < shape.radius - 0.04]
            wanted = hdu.data.ravel()[inside]
            if not len(wanted):
                continue
            assert hdu.name in names
            values = cut[hdu.name].data
            assert np.isin(wanted, values).all()
            sides = np.ptp(np.divmod(inside, hdu.data.shape[1]), axis=1) + 1
            assert not tightly or (np.array(values.shape) <= sides + 2).all()


PAIRS: dict[str, tuple[list[CardSpec], list[CardSpec]]] = {
    "two projections": (described("AIT", step=6), described("CAR", step=6)),
    "two of equal area": (described("AIT", step=6), described("MOL", step=6)),
    "mirrored": (described("AIT", step=6), described("AIT", step=6, CDELT1=6.0)),
    "upside down": (described("AIT", step=6), described("AIT", step=6, CDELT1=6.0, CDELT2=-6.0)),
    "two scales of all the sky": (described("AIT", step=6), described("AIT", step=6.3)),
    "two scales of half the sky": (described("SIN", step=4.2), described("SIN", step=4.5)),
    "one within the other": (described("SIN", step=4.2), described("ZEA", step=4.2)),
    "a point and all the sky": (described("SIN", step=80), described("AIT", step=6)),
    "two points": (described("SIN", step=80), described("SIN", step=70)),
    "a line and another": (
        described("SIN", step=4.2, CDELT1=-80), described("SIN", step=4.2, CDELT1=-70)
    ),
    "corners and middle agree": (described("TAN"), [
        *described("TAN", CTYPE1="GLON-TAN-SIP", CTYPE2="GLAT-TAN-SIP"),
        # u (u² - 4 v²) is none at the corners, where |u| is 2 |v|.
        ("A_ORDER", 3), ("A_3_0", 1e-3), ("A_1_2", -1e-3 * (29.5 / 14.5) ** 2), ("B_ORDER", 2),
    ]),
}  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("turned", [False, True])
def test_grids_of_one_size_and_middle_are_told_apart(
    bench: Workbench, tmp_path: Path, pair: str, turned: bool
) -> None:
    """Whatever of their corners is not on the sky; each is cut where it shows the circle."""
    first, second = reversed(PAIRS[pair]) if turned else PAIRS[pair]
    subject = subject_of(
        bench,
        tmp_path,
        extension(ramp(60, 30), named("FIRST", *first)),
        extension(ramp(60, 30, start=5000), named("SECOND", *second)),
    )
    images = prepared_of(subject).hdus[1:]
    assert [one.leader for one in images] == list(images)
    lon, lat, radius = (8, 4, 3) if pair == "corners and middle agree" else (40, 20, 9)
    place = SkyCoord(lon, lat, unit="deg", frame="galactic").icrs
    circle = Circle(place.ra.deg, place.dec.deg, radius)
    judge_each_by_its_own_sky(subject, circle, tightly="point" not in pair and "line" not in pair)
    subject.cutter.close()


def changed(cards: list[CardSpec], keyword: str, by: float) -> list[CardSpec]:
    """The same with a number that differs."""
    return [(card[0], float(card[1]) + by) if card[0] == keyword else card for card in cards]


def in_cd(cards: list[CardSpec]) -> list[CardSpec]:
    """The same with a matrix in the place of CDELT."""
    names = {"CDELT1": "CD1_1", "CDELT2": "CD2_2"}
    return [(names.get(card[0], card[0]), *card[1:]) for card in cards]


@pytest.mark.parametrize(
    "cards",
    [
        described("TAN"),
        described("AIT", step=6),
        described("CAR", step=6),
        described("SIN", step=4.2),
        described("TAN", CRPIX1=1e5, CDELT1=-1e-4, CDELT2=1e-4),
        described("SIN", step=4.2, CRPIX1=14.5),
        # The middle is not on the sky.
        described("SIN", step=6, CRPIX1=15.5, CRPIX2=8.5),
    ],
)
@pytest.mark.parametrize("shift", [0.0, 0.002])
def test_a_grid_that_is_written_otherwise_is_the_same(
    bench: Workbench, tmp_path: Path, cards: list[CardSpec], shift: float
) -> None:
    """By a matrix for CDELT, and a few thousandths of a pixel away."""
    moved = changed(in_cd(cards), "CRPIX1", shift)
    subject = subject_of(
        bench,
        tmp_path,
        extension(ramp(60, 30), named("SCI", *cards)),
        extension(ramp(60, 30), named("ERR", *moved)),
        extension(ramp(60, 30), named("OTHER", *changed(moved, "CRPIX1", 0.03))),
    )
    science, error, other = prepared_of(subject).hdus[1:]
    assert error.leader is science
    assert other.leader is other
    subject.cutter.close()


@pytest.mark.parametrize("step", [4.2, 80])
def test_the_same_cards_are_one_grid_however_little_of_it_is_on_the_sky(
    bench: Workbench, tmp_path: Path, step: float
) -> None:
    """Other cards between them, and what they say in their comments, do not matter."""
    cards = described("SIN", step=step, CRPIX1=5.5)
    subject = subject_of(
        bench,
        tmp_path,
        extension(ramp(60, 30), named("SCI", *cards)),
        extension(ramp(60, 30), named("ERR", *cards[:4], ("BUNIT", "Jy"), *cards[4:])),
    )
    science, error = prepared_of(subject).hdus[1:]
    assert error.leader is science
    subject.cutter.close()


@settings(max_examples=15)
@given(
    codes=st.tuples(*[st.sampled_from(["AIT", "CAR", "MOL", "SIN", "ZEA", "SFL"])] * 2),
    steps=st.tuples(*[st.sampled_from([4.0, 4.0, 4.02, 5.0])] * 2),
    middles=st.tuples(*[st.sampled_from([30.5, 30.5, 30.502, 33.0])] * 2),
    lon=st.floats(-100, 100),
    lat=st.floats(-60, 60),
)  # fmt: skip
def test_images_of_any_grids_show_the_shape(
    bench: Workbench,
    codes: tuple[str, ...],
    steps: tuple[float, ...],
    middles: tuple[float, ...],
    lon: float,
    lat: float,
) -> None:
    images = [
        extension(ramp(60, 30, start=5000 * number),
                  named(f"M{number}", *described(code, step=step, CRPIX1=middle)))
        for number, (code, step, middle) in enumerate(zip(codes, steps, middles, strict=True))
    ]  # fmt: skip
    subject = subject_of(bench, bench.folder, *images)
    place = SkyCoord(lon, lat, unit="deg", frame="galactic").icrs
    # At the edge of a projection a box may reach far beyond the middles that are in the circle.
    judge_each_by_its_own_sky(subject, Circle(place.ra.deg, place.dec.deg, 9), tightly=False)
    subject.cutter.close()


def test_chips_of_one_size_are_told_apart_by_looking_at_each_once(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chips = [
        extension(ramp(7, 5), named("SCI", *sky_cards(crval=(150.1 + 0.1 * number, 2.2)),
                                    version=number + 1))
        for number in range(60)
    ]  # fmt: skip
    masks = [extension(ramp(7, 5), named("DQ", version=number + 1)) for number in range(60)]
    subject = subject_of(bench, tmp_path, *chips, *masks)
    asked = []
    real = CelestialGrid.pixel_to_sky

    def counted(self: CelestialGrid, x: Any, y: Any) -> Any:
        asked.append(self)
        return real(self, x, y)

    monkeypatch.setattr(CelestialGrid, "pixel_to_sky", counted)
    prepared = PreparedDataset(subject.dataset, subject.cutter._files)
    images, followers = prepared.hdus[1:61], prepared.hdus[61:]
    assert [one.leader for one in images] == list(images)
    assert [one.leader for one in followers] == list(images)
    assert len(asked) <= 3 * len(images)
    subject.cutter.close()


def test_the_axes_of_a_long_spectrum_count_as_memory(bench: Workbench, tmp_path: Path) -> None:
    wave: list[CardSpec] = [
        ("CTYPE1", "WAVE"), ("CUNIT1", "um"), ("CRVAL1", 5.0), ("CRPIX1", 1.0), ("CDELT1", 1e-6),
    ]  # fmt: skip
    subject = subject_of(bench, tmp_path, extension(ramp(500_000), named("SCI", *wave)))
    prepared = PreparedDataset(subject.dataset, subject.cutter._files)
    spectral = prepared.hdus[1].spectral
    assert spectral is not None
    assert prepared.memory > spectral.edges.nbytes >= 8 * 500_001
    subject.cutter.close()
