"""The faces of a cube on a third axis, against wcslib, which takes the three axes together."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from support.images import CardSpec, header_bytes
from support.wcs import milliarcseconds

from soda_service.fits.cards import Header
from soda_service.fits.wcs import ImageWcs, WcsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

PLAIN: dict[str, object] = {
    "CTYPE1": "RA---TSC", "CTYPE2": "DEC--TSC", "CTYPE3": "CUBEFACE",
    "CRPIX1": 10.5, "CRPIX2": 8.5, "CRPIX3": 1.0, "CRVAL1": 40.0, "CRVAL2": 0.0,
    "CDELT1": -4.5, "CDELT2": 5.625, "CDELT3": 1.0,
}  # fmt: skip
NAXIS = (20, 16, 6)

DESCRIPTIONS: dict[str, tuple[tuple[int, ...], dict[str, object]]] = {
    "TSC": (NAXIS, {}),
    "CSC": (NAXIS, {"CTYPE1": "RA---CSC", "CTYPE2": "DEC--CSC"}),
    "QSC": (NAXIS, {"CTYPE1": "GLON-QSC", "CTYPE2": "GLAT-QSC"}),
    "turned": (NAXIS, {"CRVAL1": 200.0, "CRVAL2": 10.0, "LONPOLE": 17.0}),
    "of arcminutes": (NAXIS, {"CUNIT1": "arcmin", "CUNIT2": "arcmin",
                              "CDELT1": -270.0, "CDELT2": 337.5}),
    "by CD": (NAXIS, {"CD1_1": -4.3, "CD1_2": 1.1, "CD2_1": 0.9, "CD2_2": 5.0, "CD3_3": 1.0}),
    "by PC": (NAXIS, {"PC1_1": 0.9, "PC1_2": 0.4, "PC2_1": -0.4, "PC2_2": 0.9}),
    "swapped": (NAXIS, {"CTYPE1": "DEC--TSC", "CTYPE2": "RA---TSC", "CRVAL1": 10, "CRVAL2": 40}),
    "backwards": (NAXIS, {"CRPIX3": 6.0, "CDELT3": -1.0}),
    "the faces 2 to 4": ((20, 16, 3), {"CRPIX3": -1.0}),
    "more planes than faces": ((20, 16, 9), {"CRPIX3": 3.0}),
    "every second plane": ((20, 16, 11), {"CDELT3": 0.5}),
    "with a value of reference": (NAXIS, {"CRVAL3": 3.0}),
    "shifted from face to face": (NAXIS, {"PC1_3": 0.25, "PC2_3": -0.125}),
    "with an offset": (NAXIS, {"PV1_0": 1, "PV1_1": 12.0, "PV1_2": 20.0}),
    "faces first": ((6, 20, 16), {
        "CTYPE1": "CUBEFACE", "CTYPE2": "RA---TSC", "CTYPE3": "DEC--TSC",
        "CRPIX1": 1.0, "CRPIX2": 10.5, "CRPIX3": 8.5, "CRVAL1": 0.0, "CRVAL2": 40.0,
        "CDELT1": 1.0, "CDELT2": -4.5, "CDELT3": 5.625,
    }),
}  # fmt: skip


def header_of(naxis: tuple[int, ...], changed: dict[str, object]) -> bytes:
    lengths = {f"NAXIS{axis}": length for axis, length in enumerate(naxis, 1)}
    cards: list[CardSpec] = [("SIMPLE", True), ("BITPIX", -32), ("NAXIS", len(naxis))]
    cards += [*lengths.items(), *(PLAIN | changed).items()]  # type: ignore[list-item]  # the dict says less of its values than the cards are
    return header_bytes(cards)


def of(naxis: tuple[int, ...], changed: dict[str, object]) -> ImageWcs:
    return ImageWcs.of(Header.parse(header_of(naxis, changed)), naxis)


def by_astropy(naxis: tuple[int, ...], changed: dict[str, object]) -> Any:
    return WCS(fits.Header.fromstring(header_of(naxis, changed)))


def icrs_of(wcs: Any, *pixels: Floats) -> Floats:
    """ICRS unit vectors (3, N) of pixels (0-based) of the three axes; NaN off the sky."""
    world = np.array(wcs.all_pix2world(*pixels, 0))
    lon, lat = np.radians(world[[wcs.wcs.lng, wcs.wcs.lat]])
    vectors = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    if wcs.wcs.lngtyp == "GLON":
        from astropy.coordinates import Galactic, SkyCoord

        known = np.isfinite(vectors[0])
        place = SkyCoord(*vectors[:, known], representation_type="cartesian", frame=Galactic)
        vectors[:, known] = place.icrs.cartesian.xyz.value
    return vectors


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_every_plane_lies_where_wcslib_has_it(name: str) -> None:
    """Within a microarcsecond, beyond the edges of the image too; and where it has none."""
    naxis, changed = DESCRIPTIONS[name]
    wcs, judge = of(naxis, changed), by_astropy(naxis, changed)
    assert wcs.celestial is None
    assert wcs.faces is not None
    first, second, faces = wcs.faces.axes
    rng = np.random.default_rng(5)
    known = dict(wcs.faces.planes)
    seen = 0
    for plane in range(naxis[faces]):
        pixels = np.zeros((3, 400))
        pixels[first] = rng.uniform(-4.0, naxis[first] + 3.0, 400)
        pixels[second] = rng.uniform(-4.0, naxis[second] + 3.0, 400)
        pixels[faces] = plane
        expected = icrs_of(judge, *pixels)
        if plane not in known:
            assert np.isnan(expected).all()
            continue
        found = known[plane].pixel_to_sky(pixels[first], pixels[second])
        # At the very edge of the plane that holds all faces the two may round differently.
        there = np.isfinite(expected[0])
        assert (there == np.isfinite(found[0])).all()
        assert milliarcseconds(found[:, there], expected[:, there]).max(initial=0.0) < 1e-3
        seen += int(there.sum())
    assert seen > 400


@pytest.mark.parametrize("code", ["TSC", "CSC", "QSC"])
def test_points_of_one_row_lie_where_they_lie_among_others(code: str) -> None:
    """By itself wcslib gives others on the polar faces, by degrees; on a turned cube too."""
    named: dict[str, object] = {"CTYPE1": f"RA---{code}", "CTYPE2": f"DEC--{code}"}
    for turned in ({}, {"PC1_1": 0.6, "PC1_2": 0.8, "PC2_1": -0.75, "PC2_2": 0.75}):
        wcs = of(NAXIS, named | turned)
        assert wcs.faces is not None
        for _, grid in wcs.faces.planes:
            x, y = np.meshgrid(np.arange(20.0), np.arange(16.0))
            together = grid.pixel_to_sky(x.ravel(), y.ravel()).reshape(3, 16, 20)
            for row in range(16):
                alone = grid.pixel_to_sky(x[row], y[row])
                np.testing.assert_allclose(alone, together[:, row], atol=1e-15, equal_nan=True)
            slanted = grid.pixel_to_sky(np.arange(16.0), np.arange(16.0))
            diagonal = together[:, np.arange(16), np.arange(16)]
            np.testing.assert_allclose(slanted, diagonal, atol=1e-15, equal_nan=True)


@pytest.mark.parametrize("plane", range(6))
def test_a_single_face_is_an_ordinary_sky(plane: int) -> None:
    """As a cutout of one face has it, and where the description alone has the third axis."""
    for naxis in ((20, 16, 1), (20, 16)):
        changed: dict[str, object] = {"CRPIX3": 1.0 - plane, "WCSAXES": 3}
        wcs = of(naxis, changed)
        assert wcs.faces is None
        assert wcs.celestial is not None
        assert wcs.sky_grids == (wcs.celestial,)
        x, y = (one.ravel() for one in np.meshgrid(np.arange(20.0), np.arange(16.0)))
        expected = icrs_of(by_astropy((20, 16, 1), changed), x, y, 0 * x)
        assert milliarcseconds(wcs.celestial.pixel_to_sky(x, y), expected).max() < 1e-3


def test_the_inverse_of_a_face() -> None:
    wcs = of(NAXIS, {})
    assert wcs.faces is not None
    for _, grid in wcs.faces.planes:
        x, y = np.array([1.0, 9.0, 18.7]), np.array([14.1, 8.0, 0.2])
        found = grid.sky_to_pixel(grid.pixel_to_sky(x, y))
        np.testing.assert_allclose(found, (x, y), atol=1e-9)


@pytest.mark.parametrize(
    ("changed", "blamed"),
    [
        ({"CRPIX3": 100.0}, "CRPIX3"),
        ({"CDELT3": 0.0}, "PC3_3"),
        ({"CRPIX3": 1.5}, "CRPIX3"),
        ({"PC3_1": 0.1}, "PC3_1"),
        ({"CUNIT3": "m"}, "CUNIT3 = 'm'"),
        ({"CTYPE4": "CUBEFACE"}, "CTYPE3 and CTYPE4"),
        ({"CPDIS1": "Polynomial"}, "CPDIS1"),
    ],
)
def test_cubes_whose_faces_cannot_be_told(changed: dict[str, object], blamed: str) -> None:
    with pytest.raises(WcsError, match=blamed):
        of(NAXIS, changed)


def test_faces_can_be_pickled() -> None:
    wcs = of(NAXIS, {})
    again = pickle.loads(pickle.dumps(wcs))
    assert again.faces is not None
    assert wcs.faces is not None
    for (plane, grid), (other_plane, other) in zip(
        wcs.faces.planes, again.faces.planes, strict=True
    ):
        assert plane == other_plane
        place = np.array([3.0]), np.array([4.0])
        np.testing.assert_array_equal(grid.pixel_to_sky(*place), other.pixel_to_sky(*place))
