"""Coordinates against astropy's own reading of the same files."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from contextlib import nullcontext

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings, strategies as st
from support.images import (
    BEYOND_ASTROPY_FAMILIES,
    BROKEN_WCS_FAMILIES,
    COUPLED_FAMILIES,
    FACES_FAMILIES,
    FAMILIES,
    HEIGHT,
    IMAGE_FAMILIES,
    ROTATED_CD,
    SIP,
    SKY_FAMILIES,
    TABLE_WCS_FAMILIES,
    WIDTH,
    CardSpec,
    card_bytes,
    linear_cards,
    primary,
    ramp,
    sky_cards,
    without,
)
from support.wcs import first_image, image_of, milliarcseconds

from soda_service.fits.cards import Header
from soda_service.fits.wcs import ImageWcs, WcsError, needed_tables
from soda_service.geometry.vectors import unit_vectors

APPROXIMATE_INVERSE = ("projection_csc", "csc_all_sky")
"""wcslib's inverse of CSC is a fit that is good to a hundredth of a degree of a cube's face."""
SEVERAL_PIXELS = ("tsc_all_sky", "csc_all_sky", "qsc_all_sky", "car_over_all_sky")
"""A direction has more than one pixel, and any of them will do."""


def wcs_of(cards: list[CardSpec], naxis: tuple[int, ...] = (WIDTH, HEIGHT)) -> ImageWcs:
    """The coordinates that these cards describe."""
    return ImageWcs.of(Header.parse(b"".join(card_bytes(card) for card in cards)), naxis)


def pixels_of(naxis: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Positions all over an image, outer edges of the pixels and corners included."""
    generator = np.random.default_rng(5)
    x = np.concatenate(
        [generator.uniform(-0.5, naxis[0] - 0.5, 400), [-0.5, naxis[0] - 0.5, -0.5, 0]]
    )
    y = np.concatenate(
        [generator.uniform(-0.5, naxis[1] - 0.5, 400), [-0.5, naxis[1] - 0.5, naxis[1] - 0.5, 0]]
    )
    return x, y


@pytest.mark.parametrize("name", SKY_FAMILIES)
def test_pixels_have_the_place_on_the_sky_that_astropy_gives_them(name: str) -> None:
    """To a hundredth of a milliarcsecond, and undefined where it says undefined."""
    image = first_image(name)
    grid = image.grid()
    x, y = pixels_of(grid.naxis)
    ours, theirs = grid.pixel_to_sky(x, y), image.astropy_sky(x, y)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    assert np.isfinite(ours).any()
    assert np.nanmax(milliarcseconds(ours, theirs)) < 0.01


@pytest.mark.parametrize("name", SKY_FAMILIES)
def test_the_inverse_finds_the_pixel_again(name: str) -> None:
    """From the sky back to the pixel, or where a direction has several, to one of them."""
    grid = first_image(name).grid()
    x, y = pixels_of(grid.naxis)
    sky = grid.pixel_to_sky(x, y)
    on_sky = np.isfinite(sky[0])
    again_x, again_y = grid.sky_to_pixel(sky)
    assert np.isfinite(again_x[on_sky]).all()
    if name not in APPROXIMATE_INVERSE:
        back = grid.pixel_to_sky(again_x[on_sky], again_y[on_sky])
        assert milliarcseconds(back, sky[:, on_sky]).max() < 0.01
    if name not in (*APPROXIMATE_INVERSE, *SEVERAL_PIXELS):
        apart = np.hypot(again_x - x, again_y - y)[on_sky]
        # A pixel of the outermost meridian of a whole-sky map has a twin on the other side.
        assert np.median(apart) < 1e-6
        assert (apart[:400] < 1e-5).all()


@pytest.mark.parametrize("name", SKY_FAMILIES)
def test_the_axes_of_the_sky_are_named_in_order(name: str) -> None:
    """The pixel axes are those of the CTYPEs, whatever stands between and around them."""
    image = first_image(name)
    grid = image.grid()
    ctypes = [str(image.header.get(f"CTYPE{axis + 1}", "")) for axis in range(len(image.naxis))]
    expected = [n for n, one in enumerate(ctypes) if one[:4] in CELESTIAL] or [0, 1]
    assert grid.axes == tuple(expected)
    assert grid.naxis == tuple(image.naxis[axis] for axis in expected)


CELESTIAL = {"RA--", "DEC-", "GLON", "GLAT", "ELON", "ELAT", "SLON", "SLAT"}


@pytest.mark.parametrize("name", ["tan", "galactic", "tan_sip", "swapped_axes_sip", "fk4_no_e"])
def test_gnomonic_images_take_the_short_way_and_it_equals_wcslib(name: str) -> None:
    """One matrix instead of wcslib: a millionth of a milliarcsecond, a billionth of a pixel."""
    grid = first_image(name).grid()
    assert grid._plane is not None
    x, y = pixels_of(grid.naxis)
    short = grid.pixel_to_sky(x, y)
    short_back = np.array(grid.sky_to_pixel(short))
    grid._plane = grid._plane_inverse = None
    long_back = np.array(grid.sky_to_pixel(short))
    assert np.abs(short - grid.pixel_to_sky(x, y)).max() < 1e-14
    assert np.abs(short_back - long_back).max() < 2e-9


def test_zpx_is_the_surface_of_tnx_under_the_projection_of_zpn() -> None:
    """The two families share their surface; wcslib's ZPN takes it from there."""
    x, y = pixels_of((WIDTH, HEIGHT))
    flat = first_image("tnx").grid().pixel_to_sky(x, y)
    plane = WCS(naxis=2)
    plane.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    plane.wcs.crval = 150.1, 2.2
    lon, lat = np.degrees(np.arctan2(flat[1], flat[0])), np.degrees(np.arcsin(flat[2]))
    xi, eta = plane.wcs_world2pix(lon, lat, 1)
    plane.wcs.ctype = ["RA---ZPN", "DEC--ZPN"]
    plane.wcs.set_pv([(2, 0, 0.0), (2, 1, 1.0), (2, 2, 0.0), (2, 3, 37400.0)])
    lon, lat = np.radians(plane.wcs_pix2world(xi, eta, 1))
    expected = np.stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))
    ours = first_image("zpx").grid().pixel_to_sky(x, y)
    assert milliarcseconds(ours, expected).max() < 0.01
    assert milliarcseconds(ours, flat).max() > 0.1


@pytest.mark.parametrize("name", ["tan", "tan_sip", "sin_limb", "whole_zea", "ait_all_sky"])
def test_directions_without_a_pixel_are_nan_and_do_no_harm(name: str) -> None:
    """Behind the tangent plane, beyond the limb, or no direction at all."""
    grid = first_image(name).grid()
    middle = grid.pixel_to_sky([30.0], [20.0])
    directions = np.concatenate([middle, -middle, np.full((3, 1), np.nan)], axis=1)
    x, y = grid.sky_to_pixel(directions)
    assert (x[0], y[0]) == (pytest.approx(30), pytest.approx(20))
    assert np.isnan((x[2], y[2])).all()
    if name in ("tan", "tan_sip", "sin_limb"):
        assert np.isnan((x[1], y[1])).all()


def test_a_distortion_that_is_not_invertible_gives_nan_or_a_true_pixel() -> None:
    """What the iteration answers is right, even where a polynomial folds the sky over."""
    strong: list[CardSpec] = [("A_ORDER", 2), ("A_2_0", 0.02), ("B_ORDER", 2), ("B_0_2", 0.03)]
    cards = [*without(sky_cards("TAN-SIP"), "CDELT1", "CDELT2"), *ROTATED_CD, *strong]
    grid = wcs_of(cards).celestial
    assert grid is not None
    x, y = np.meshgrid(np.linspace(-400.0, 400, 41), np.linspace(-300.0, 300, 37))
    plain = wcs_of([*without(sky_cards(), "CDELT1", "CDELT2"), *ROTATED_CD]).celestial
    assert plain is not None
    sky = plain.pixel_to_sky(x.ravel(), y.ravel())
    found = np.array(grid.sky_to_pixel(sky))
    there = np.isfinite(found[0])
    assert 0 < there.sum() < there.size
    assert milliarcseconds(grid.pixel_to_sky(*found[:, there]), sky[:, there]).max() < 0.01


NO_SKY = sorted(
    set(IMAGE_FAMILIES)
    - {*SKY_FAMILIES, *BROKEN_WCS_FAMILIES, *COUPLED_FAMILIES, *BEYOND_ASTROPY_FAMILIES}
    - {*FACES_FAMILIES}
)


@pytest.mark.parametrize("name", NO_SKY)
def test_images_without_a_sky_say_so(name: str) -> None:
    """No celestial axes is None, not an error."""
    assert first_image(name).wcs().celestial is None


# ---------------------------------------------------------------- cards


BLAMED = {
    "wcs_singular": "CD1_j",
    "wcs_zero_cdelt": "CDELT1",
    "wcs_huge_crpix": "CRPIX1",
    "wcs_text_crval": "CRVAL1",
    "wcs_infinite_crpix": "CRPIX1",
    "wcs_nan_crval": "CRVAL2",
    "wcs_absurd_sip": "A_ORDER",
    "wcs_half_sip": "B_ORDER",
    "wcs_longitude_alone": "CTYPE1",
    "wcs_two_projections": "CTYPE2",
    "wcs_unknown_projection": "CTYPE1",
    "wcs_unknown_unit": "CUNIT1",
    "wcs_absurd_axes": "WCSAXES",
    "wcs_unknown_frame": "RADESYS",
    "wcs_helioprojective": "CTYPE",
    "wcs_nan_crpix": "CRPIX2",
    "wcs_minus_infinite_crpix": "CRPIX1",
    "wcs_endless_crpix": "CRPIX1",
    "wcs_crval_beyond_all": "CRVAL1",
    "wcs_sip_order_99": "A_ORDER",
    "wcs_pv_flood": "CTYPE1",
    "wcs_parameter_100": "PV1_100",
    "wcs_sky_in_a_table": "CTYPE1",
    "wcs_cd_against_pc": "CD1_1 and PC1_1",
    "wcs_distance_from_parent_pixel": "PV2_3",
    "wcs_short_codes": "CTYPE1",
    "wcs_ecliptic_of_1975": "EQUINOX",
    "wcs_three_longitudes": "CTYPE3",
    "wcs_lookup_is_not_there": "DP1: there is no HDU WCSDVARR,7",
}


@pytest.mark.parametrize("name", BROKEN_WCS_FAMILIES)
def test_broken_coordinates_are_refused_with_the_card_to_blame(name: str) -> None:
    """One sentence that names the card."""
    image = image_of(FAMILIES[name]())
    with pytest.raises(WcsError, match=BLAMED[name]):
        image.wcs()


def test_a_sky_that_moves_with_frequency_is_refused() -> None:
    """The box would differ from plane to plane."""
    with pytest.raises(WcsError, match="PC1_3"):
        first_image("cube_rotated_into_frequency").wcs()


def test_a_slanted_spectral_axis_leaves_the_sky_alone() -> None:
    """Only the spectral axis says that it cannot be told."""
    wcs = first_image("cube_frequency_slanted").wcs()
    assert wcs.spectral is not None
    assert "PC3_1" in wcs.spectral.problem
    plain = first_image("cube_frequency").grid()
    assert wcs.celestial is not None
    x, y = pixels_of(plain.naxis)
    np.testing.assert_allclose(wcs.celestial.pixel_to_sky(x, y), plain.pixel_to_sky(x, y))


@pytest.mark.parametrize(
    ("kept", "least"),
    [
        (["PC1_3   = 1E-20"], ["PC1_3   = 1E-6"]),
        (["PC2_3   = 9E-9", "PC1_3   = -9E-9"], ["PC2_3   = 6E-8", "PC1_3   = -6E-8"]),
        (["PC3_1   = 1E-12", "PC3_2   = -1E-12"], ["PC3_1   = 1E-6"]),
    ],
)
def test_a_coupling_that_moves_nothing_is_passed_over(kept: list[str], least: list[str]) -> None:
    """By a ten-millionth of a pixel, says astropy, all along the other axes; more is refused."""
    naxis = (20, 15, 5)
    sky = ["CTYPE1  = 'RA---TAN'", "CTYPE2  = 'DEC--TAN'", "CRVAL1  = 150.0", "CRVAL2  = 2.0"]
    sky += ["CRPIX1  = 20.5", "CRPIX2  = 15.25", "CDELT1  = -0.001", "CDELT2  = 0.001"]
    third = ["CTYPE3  = 'FREQ    '", "CRVAL3  = 1E9", "CDELT3  = 1E6", "CRPIX3  = 1.0"]
    third += ["SPECSYS = 'BARYCENT'", "PC1_2   = 0.3"]

    def described(lines: list[str]) -> Header:
        return Header(b"".join(line.encode().ljust(80) for line in [*sky, *third, *lines]))

    header = described(kept)
    wcs = ImageWcs.of(header, naxis)
    assert wcs.celestial is not None
    assert wcs.spectral is not None
    assert not wcs.spectral.problem
    theirs = WCS(fits.Header.fromstring(header.raw.decode("ascii")))
    x, y = pixels_of((20, 15))
    for plane in (-0.5, 4.5):
        longitude, latitude, _ = theirs.all_pix2world(x, y, plane, 0)
        expected = unit_vectors(longitude, latitude)
        apart = np.linalg.norm(wcs.celestial.pixel_to_sky(x, y) - expected, axis=0)
        assert apart.max() <= 1e-7 * np.radians(0.001) + 1e-15
    for at in (x.min(), x.max()):
        _, _, frequency = theirs.all_pix2world(at, y[0], np.arange(6) - 0.5, 0)
        np.testing.assert_allclose(299792458.0 / frequency, wcs.spectral.edges, rtol=1e-10)

    with pytest.raises(WcsError, match=r"PC[12]_3") if least[0][4] == "3" else nullcontext():
        refused = ImageWcs.of(described(least), naxis)
        assert refused.spectral is not None
        assert least[0][:5] in refused.spectral.problem


def test_the_only_pixel_of_a_coupled_axis_counts() -> None:
    """An axis of one pixel may be mixed into the sky: it is a constant."""
    cards = [
        *without(sky_cards(), "WCSAXES"),
        *linear_cards(3, "FREQ", "Hz", 5.0, 1.4e9, 1e6),
        ("PC1_3", 0.5),
    ]
    image = image_of(primary(ramp(WIDTH, HEIGHT, 1), [("WCSAXES", 3), *cards]))
    grid = image.grid()
    x, y = pixels_of(grid.naxis)
    # Pixel 1 lies four pixels below CRPIX3, and each moves the sky by half a pixel of axis 1.
    plain = wcs_of(sky_cards()).celestial
    assert plain is not None
    np.testing.assert_allclose(grid.pixel_to_sky(x, y), plain.pixel_to_sky(x - 2, y), atol=1e-15)


def test_equal_cd_and_pc_are_tolerated_and_contradictions_refused() -> None:
    """Programs write both; FITS 4.0 §8.1 forbids it."""
    cd: list[CardSpec] = [("CD1_1", -2e-4), ("CD2_2", 2e-4)]
    both = wcs_of([*sky_cards(), ("PC1_1", 1.0), ("PC2_2", 1.0), *cd]).celestial
    alone = wcs_of(sky_cards()).celestial
    assert both is not None
    assert alone is not None
    x, y = pixels_of(alone.naxis)
    np.testing.assert_allclose(both.pixel_to_sky(x, y), alone.pixel_to_sky(x, y), atol=1e-15)
    with pytest.raises(WcsError, match="CD1_1 and PC1_1"):
        wcs_of([*sky_cards(), ("PC1_1", 1.1), *cd])


@pytest.mark.parametrize("name", TABLE_WCS_FAMILIES)
def test_tables_are_named_and_missed(name: str) -> None:
    """What the file must bring along is told, and its absence named."""
    image = first_image(name)
    needed = needed_tables(image.header)
    if name == "tab_alternate":  # which nobody reads here; the table travels all the same
        assert not needed
        return
    assert needed
    assert all((one, version) in [(hdu.name, hdu.ver) for hdu in image.hdus]
               for one, version in needed)  # fmt: skip
    if name.startswith(("tab_spectral", "tab_time")):
        wcs = ImageWcs.of(image.header, image.naxis)
        axis = wcs.temporal if "time" in name else wcs.spectral
        assert axis is not None
        assert "-TAB" in axis.problem
    else:
        with pytest.raises(WcsError, match="there is no HDU"):
            ImageWcs.of(image.header, image.naxis)


def test_what_astropy_makes_of_tnx_does_not_reach_wcslib_twice() -> None:
    """WAT and CQDIS side by side make wcslib write beyond its buffers."""
    image = first_image("tnx")
    functions: list[CardSpec] = [("CQDIS1", "TPD"), ("DQ1", "NAXES: 2"), ("DQ1", "AXIS.1: 1")]
    raw = image.header.raw + b"".join(card_bytes(card) for card in functions)
    grid = ImageWcs.of(Header.parse(raw), image.naxis).celestial
    assert grid is not None
    x, y = pixels_of(grid.naxis)
    np.testing.assert_allclose(grid.pixel_to_sky(x, y), image.grid().pixel_to_sky(x, y), atol=1e-15)


def test_too_many_cards_are_refused() -> None:
    """Nobody describes an image in thousands of cards."""
    cards: list[CardSpec] = [("PV1_1", 1.0)] * 3000
    with pytest.raises(WcsError, match="more than 2000 cards"):
        wcs_of([*sky_cards(), *cards])


_KEYWORDS = [
    "WCSAXES", "CTYPE1", "CTYPE2", "CUNIT1", "CRPIX1", "CRVAL2", "CDELT1", "CD1_1", "CD1_2",
    "PC2_1", "PC001002", "PV1_1", "PV2_3", "PV2_99", "PS1_0", "LONPOLE", "LATPOLE", "RADESYS",
    "EQUINOX", "A_ORDER", "B_ORDER", "A_2_0", "B_1_1", "AP_ORDER", "CPDIS1", "DP1", "CQDIS1",
    "DQ1", "D2IMDIS2", "WAT1_001", "WAT2_001", "CROTA2", "CTYPE3", "RESTFRQ", "CUNIT3", "CRVAL3",
    "CDELT3", "MJDREF", "DATEREF", "TIMESYS", "SPECSYS", "VELOSYS", "AMDX1", "PPO3",
]  # fmt: skip
_VALUES = st.one_of(
    st.integers(-(10**15), 10**15),
    st.floats(-1e120, 1e120, allow_nan=False),
    st.sampled_from([0, 1, 2, 3, 1e-300, 90.0, 180.0, -1.0, True]),
    st.sampled_from([
        "RA---TPV", "DEC--TPV", "RA---ZPN", "GLON-CAR", "RA---TNX", "LOOKUP", "TPD", "EXTVER: 1",
        "NAXES: 2", "TPD.FWD.1: 1e300", "AXIS.1: 9000", "deg", "m", "Hz", "FREQ", "WAVE-TAB",
        "VOPT-F2W", "TIME", "STOKES", "FK4", "GAPPT", "LSRK", "TCB", "2000-13-45", "1e99999",
        'wtype=tnx axtype=ra lngcor = "3. 9. 9. 2. 1 1 1 1 1 1"', "", " ", "'", "&",
    ]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(_KEYWORDS), _VALUES), min_size=1, max_size=6))
def test_any_card_is_either_understood_or_refused(extra: list[tuple[str, object]]) -> None:
    """No card makes anything but coordinates or WcsError, and wcslib survives."""
    cards = b"".join(_raw_card(keyword, value) for keyword, value in extra)
    base = [*without(sky_cards("TAN-SIP"), "CDELT1", "CDELT2"), *ROTATED_CD, *SIP]
    header = Header.parse(b"".join(card_bytes(card) for card in base) + cards)
    try:
        wcs = ImageWcs.of(header, (WIDTH, HEIGHT, 4))
    except WcsError:
        return
    assert wcs.celestial is not None
    sky = wcs.celestial.pixel_to_sky([0.0, 5, 60], [0.0, 7, 46])
    norms = np.linalg.norm(sky, axis=0)
    assert (np.isnan(norms) | (np.abs(norms - 1) < 1e-9)).all()
    wcs.celestial.sky_to_pixel(sky)


def _raw_card(keyword: str, value: object) -> bytes:
    if isinstance(value, str):
        text = "'" + value.replace("'", "''") + "'"
    else:
        text = {True: "T", False: "F"}[value] if isinstance(value, bool) else repr(value)
    return f"{keyword:8}= {text}"[:80].encode().ljust(80)


# ---------------------------------------------------------------- as an object


@pytest.mark.parametrize("name", ["tan_sip", "cube_frequency", "lookup_distortion", "fk4"])
def test_coordinates_survive_pickling(name: str) -> None:
    """They are handed to other processes at ingest."""
    wcs = first_image(name).wcs()
    again = pickle.loads(pickle.dumps(wcs))
    grid = wcs.celestial
    assert grid is not None
    x, y = pixels_of(grid.naxis)
    np.testing.assert_array_equal(again.celestial.pixel_to_sky(x, y), grid.pixel_to_sky(x, y))


@pytest.mark.parametrize("name", ["tan_sip", "tpv", "sin_limb"])
def test_threads_do_not_disturb_each_other(name: str) -> None:
    """Wcslib and the SIP code keep scratch space; nobody sees another's."""
    grid = first_image(name).grid()
    jobs = []
    for seed in range(4):
        generator = np.random.default_rng(seed)
        x, y = generator.uniform(0, 46, (2, 300))
        sky = grid.pixel_to_sky(x, y)
        jobs.append((x, y, sky, grid.sky_to_pixel(sky)))
    wrong: list[int] = []

    def work(number: int) -> None:
        x, y, sky, pixels = jobs[number]
        for _ in range(60):
            same = np.array_equal(grid.pixel_to_sky(x, y), sky, equal_nan=True)
            if not same or not np.array_equal(grid.sky_to_pixel(sky), pixels, equal_nan=True):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_module_itself_does_not_import_astropy() -> None:
    """astropy.wcs costs 0.4 s, which `--help` must not pay."""
    code = "import sys, soda_service.fits.wcs; sys.exit('astropy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
