"""Wavelengths, times and polarizations of axes, against hand computation and astropy's units."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import LSRD, LSRK, SkyCoord
from astropy.time import Time
from astropy.utils import iers
from astropy.wcs import Wcsprm
from hypothesis import given, settings, strategies as st
from support.images import (
    POLARIZATION_FAMILIES,
    SPECTRAL_FAMILIES,
    TEMPORAL_FAMILIES,
    TIMES,
    CardSpec,
    card_bytes,
    linear_cards,
    sky_cards,
    without,
)
from support.wcs import first_image

from soda_service.fits.axes import AxisRange, Polarization
from soda_service.fits.cards import Header
from soda_service.fits.wcs import ImageWcs, WcsError
from soda_service.geometry.shapes import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHANNELS = np.arange(12) + 0.5
"""FITS pixel coordinates of the edges of eleven channels."""


def spectral(name: str) -> AxisRange:
    """The spectral axis of a family."""
    axis = first_image(name).wcs().spectral
    assert axis is not None
    assert not axis.problem
    return axis


def axis_of(cards: list[CardSpec], length: int = 11, *more: CardSpec) -> ImageWcs:
    """Coordinates of a cube with these cards for the third axis."""
    text = [*without(sky_cards(), "WCSAXES"), *cards, *more]
    header = Header.parse(b"".join(card_bytes(card) for card in text))
    return ImageWcs.of(header, (17, 13, length))


def linear(crpix: float, crval: float, cdelt: float) -> NDArray[np.float64]:
    """World values at the edges of eleven channels."""
    return np.asarray(crval + cdelt * (CHANNELS - crpix), dtype=np.float64)


FREQUENCY = linear(4.0, 1.4204e9, 2.5e5)
HYDROGEN = 1.420405751786e9 * u.Hz
CARBON_MONOXIDE = 1.15271202e11 * u.Hz
EXPECTED = {
    "cube_frequency": (FREQUENCY * u.Hz).to(u.m, u.spectral()),
    "cube_frequency_descending": (linear(4.0, 1.4204, -2.5e-4) * u.GHz).to(u.m, u.spectral()),
    "cube_spectral_first": (FREQUENCY * u.Hz).to(u.m, u.spectral()),
    "cube_velocity": (linear(6.0, 100.0, 5.5) * u.km / u.s).to(
        u.m, u.doppler_radio(CARBON_MONOXIDE)
    ),
    "cube_velocity_optical": (linear(6.0, 1e6, 5500.0) * u.m / u.s).to(
        u.m, u.doppler_optical(6.5628e-7 * u.m)
    ),
    "cube_wavelength": (linear(1.0, 4750.0, 1.25) * u.AA).to(u.m),
    "cube_energy": (linear(1.0, 0.5, 0.75) * u.keV).to(u.m, u.spectral()),
    "cube_wavelength_log": 5e-7 * np.exp(linear(2.0, 0, 5e-9) / 5e-7) * u.m,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_edges_are_wavelengths_in_vacuum(name: str) -> None:
    """Whatever the axis is linear in, edge by edge."""
    expected = EXPECTED[name].to_value(u.m)
    # wcslib's electronvolt is that of 1986, a ten-millionth off.
    tolerance = 1e-7 if name == "cube_energy" else 1e-12
    np.testing.assert_allclose(spectral(name).edges, expected, rtol=tolerance)


def test_frequency_sampling_of_a_wavelength_axis() -> None:
    """WAVE-F2W is linear in frequency, and CDELT is the slope at the reference (Paper III §3)."""
    slope = -1e-4 * (299792458.0 / 0.211**2)
    frequency = 299792458.0 / 0.211 + slope * (CHANNELS - 6.0)
    edges = spectral("cube_frequency_to_wavelength").edges
    np.testing.assert_allclose(edges, 299792458.0 / frequency, rtol=1e-12)


def test_felo_is_optical_velocity_sampled_in_frequency() -> None:
    """AIPS's FELO-HEL (Paper III §3.4): linear in frequency, and heliocentric."""
    axis = spectral("cube_felo")
    rest = 299792458.0 / HYDROGEN.value
    reference = rest * (1 + 5e5 / 299792458.0)
    inner = 299792458.0 / axis.edges
    np.testing.assert_allclose(np.diff(inner), np.diff(inner)[0], rtol=1e-9)
    middle = 299792458.0 / ((inner[5] + inner[6]) / 2)
    assert middle == pytest.approx(reference, rel=1e-12)
    assert not axis.frame_note


def test_air_wavelengths_become_vacuum_ones() -> None:
    """By the formula of the standard: n - 1 is 291.47e-6 at 656 nm."""
    edges = spectral("cube_wavelength_air").edges
    air = linear(3.0, 656.28, 0.5) * 1e-9
    assert np.interp(656.279e-9, air, edges) == pytest.approx(656.4703e-9, abs=1e-13)


def test_a_table_of_wavelengths_is_read() -> None:
    """WAVE-TAB: pixel centres are the table's values."""
    table = 5e-7 + 1e-9 * np.arange(9.0) ** 1.5
    edges = spectral("tab_spectral").edges
    assert len(edges) == 10
    np.testing.assert_allclose(edges[1:-1], (table[:-1] + table[1:]) / 2, rtol=1e-12)


def test_a_table_is_in_the_units_of_its_axis() -> None:
    """AWAV-TAB in nanometres, with an index vector: values in air, told in vacuum."""
    edges = spectral("tab_spectral_indexed").edges
    at = 20 + 10 * (np.arange(10) + 0.5 - 2)
    air = np.interp(at, (0, 15, 40, 55, 90, 120), 500 + 3 * np.arange(6.0) ** 1.2)
    # Paper III, equation 65, at half a micrometre: 287.6155 + 4 * 1.62887 + 16 * 0.0136.
    np.testing.assert_allclose(edges[1:-1] / (air[1:-1] * 1e-9), 1 + 294.35e-6, atol=5e-7)


@pytest.mark.parametrize(
    ("ctype", "value", "equivalence"),
    [
        ("VELO", 1e7, u.doppler_relativistic(HYDROGEN)),
        ("ZOPT", 0.25, None),
        ("BETA", 0.1, None),
        ("WAVN", 47.4, u.spectral()),
    ],
)
def test_the_rarer_quantities(ctype: str, value: float, equivalence: object) -> None:
    """At the reference pixel, which lies on an edge here."""
    unit = {"VELO": "m/s", "ZOPT": "", "BETA": "", "WAVN": "m-1"}[ctype]
    cards = linear_cards(3, ctype, unit, 3.5, value, value * 1e-4)
    axis = axis_of(cards, 11, ("RESTFRQ", HYDROGEN.value)).spectral
    assert axis is not None
    rest = HYDROGEN.to_value(u.m, u.spectral())
    by_hand = {"ZOPT": rest * 1.25, "BETA": rest * math.sqrt(1.1 / 0.9)}
    if ctype in by_hand:
        expected = by_hand[ctype]
    else:
        quantity = value * u.Unit({"VELO": "m/s", "WAVN": "1/m"}[ctype])
        expected = quantity.to_value(u.m, equivalence)
    assert axis.edges[3] == pytest.approx(expected, rel=1e-12)


def test_frequencies_of_zero_and_less_are_endless_wavelengths() -> None:
    """An axis that reaches below zero has no upper bound."""
    axis = axis_of(linear_cards(3, "FREQ", "Hz", 1.0, 0.0, 1e9)).spectral
    assert axis is not None
    assert axis.edges[0] == math.inf
    assert axis.bounds == Interval(299792458.0 / 10.5e9, math.inf)
    assert axis.box(Interval(1.0, math.inf)) == (0, 1)
    assert axis.box(Interval(299792458.0 / 1e9, 299792458.0 / 1e9)) == (1, 2)


def test_velocities_without_a_line_say_what_is_missing() -> None:
    """Nothing can be selected, and the cube is fine otherwise."""
    axis = first_image("cube_velocity_no_rest").wcs().spectral
    assert axis is not None
    assert axis.bounds is None
    with pytest.raises(WcsError, match="RESTFRQ"):
        axis.box(Interval(1, 2))


def test_an_axis_that_is_not_alone_cannot_be_cut() -> None:
    """Slit spectra: the wavelength depends on the place."""
    axis = first_image("cube_frequency_slanted").wcs().spectral
    assert axis is not None
    with pytest.raises(WcsError, match="PC3_1"):
        axis.box(Interval(0.2, 0.3))


# ---------------------------------------------------------------- standards of rest


@pytest.mark.parametrize(("system", "frame"), [("LSRK", LSRK), ("LSRD", LSRD)])
@pytest.mark.parametrize(("lon", "lat"), [(150.1, 2.2), (271.0, 30.0), (10.0, -60.0)])
def test_local_standards_of_rest_are_astropys(
    system: str, frame: type, lon: float, lat: float
) -> None:
    """The shift is that of a source at rest at the barycentre, seen from the frame."""
    cards = [
        *without(sky_cards(crval=(lon, lat), crpix=(9.0, 7.0)), "WCSAXES"),
        *linear_cards(3, "FREQ", "Hz", 4.0, 1.4204e9, 2.5e5),
        ("SPECSYS", system),
    ]
    header = Header.parse(b"".join(card_bytes(card) for card in cards))
    axis = ImageWcs.of(header, (17, 13, 11)).spectral
    assert axis is not None
    assert not axis.frame_note
    here = SkyCoord(
        lon * u.deg, lat * u.deg, 1 * u.kpc,
        pm_ra_cosdec=0 * u.mas / u.yr, pm_dec=0 * u.mas / u.yr, radial_velocity=0 * u.km / u.s,
    )  # fmt: skip
    velocity = here.transform_to(frame()).radial_velocity.to_value(u.m / u.s)
    # What the frame sees receding at this velocity stands still for the barycentre.
    stretched = 299792458.0 / FREQUENCY / (1 + velocity / 299792458.0)
    np.testing.assert_allclose(axis.edges, stretched, rtol=1e-8)


def test_topocentric_axes_need_velosys() -> None:
    """Without it they are taken as they are, and say so."""
    cards = linear_cards(3, "FREQ", "Hz", 4.0, 1.4204e9, 2.5e5)
    plain = axis_of(cards, 11, ("SPECSYS", "TOPOCENT")).spectral
    moved = axis_of(cards, 11, ("SPECSYS", "TOPOCENT"), ("VELOSYS", 29979.2458)).spectral
    assert plain is not None
    assert moved is not None
    assert "TOPOCENT" in plain.frame_note
    assert not moved.frame_note
    np.testing.assert_allclose(moved.edges / plain.edges, 1.0001, rtol=1e-8)


def test_an_absent_standard_of_rest_is_noted() -> None:
    """Tens of km/s are several channels of a radio cube: somebody should know."""
    assert "absent" in spectral("cube_wavelength").frame_note
    assert not spectral("cube_frequency").frame_note


# ---------------------------------------------------------------- selection


@pytest.mark.parametrize("name", SPECTRAL_FAMILIES)
def test_a_single_wavelength_selects_the_pixel_that_holds_it(name: str) -> None:
    """The middle of every channel, whichever way the axis runs."""
    axis = first_image(name).wcs().spectral
    if name == "more_world_axes":
        assert axis is None
        return
    assert axis is not None
    for pixel in range(len(axis.edges) - 1):
        middle = float(axis.edges[pixel : pixel + 2].mean())
        assert axis.box(Interval(middle, middle)) == (pixel, pixel + 1)


@pytest.mark.parametrize(
    ("cards", "kind"),
    [
        (linear_cards(3, "FREQ", "Hz", 1.0, 1e9, 1.0), "spectral"),
        ([*linear_cards(3, "TIME", "s", 1.0, 0.0, 1.0), ("MJDREF", 58000.0)], "temporal"),
    ],
)
def test_no_axis_takes_memory_without_end(cards: list[CardSpec], kind: str) -> None:
    """A file of a few kilobytes can claim any length: a million are kept, and counted."""
    axis = getattr(axis_of(cards, 20_000), kind)
    assert axis.nbytes == 8 * 20_001
    assert axis_of(cards, 20_000).nbytes >= axis.nbytes
    longest = getattr(axis_of(cards, 1_000_000), kind)
    assert not longest.problem
    beyond = getattr(axis_of(cards, 1_000_001), kind)
    assert "NAXIS3" in beyond.problem
    assert "1000000 pixels" in beyond.problem
    assert beyond.nbytes == 0


def test_planes_of_polarization_are_few() -> None:
    """Longer axes are of something else."""
    cards = linear_cards(3, "STOKES", "", 1.0, 1.0, 1.0)
    many = axis_of(cards, 10_000)
    assert many.polarization is not None
    assert many.polarization.states == ("I", "Q", "U", "V", "POLI", "POLA")
    assert many.nbytes >= 8 * 10_000
    more = axis_of(cards, 10_001).polarization
    assert more is not None
    assert "NAXIS3" in more.problem


def test_edges_belong_to_one_pixel() -> None:
    """A pixel owns its lower edge; the last value of all belongs to nobody else either."""
    axis = AxisRange(2, np.array([1.0, 2.0, 3.0, 4.0]))
    assert axis.box(Interval(2, 2)) == (1, 2)
    assert axis.box(Interval(1, 1)) == (0, 1)
    assert axis.box(Interval(4, 4)) == (2, 3)
    assert axis.box(Interval(1, 2)) == (0, 1)
    assert axis.box(Interval(2, 3.5)) == (1, 3)
    assert axis.box(Interval(2.1, 2.1 + 1e-9)) == (1, 2)
    assert axis.box(Interval(0, 0.999)) is None
    assert axis.box(Interval(4.001, math.inf)) is None
    assert axis.box(Interval()) == (0, 3)
    assert axis.box(Interval(-math.inf, 1.5)) == (0, 1)


@settings(max_examples=200)
@given(
    st.lists(st.integers(-200, 200), min_size=2, max_size=12, unique=True),
    st.booleans(),
    st.integers(-210, 210),
    st.integers(0, 200),
)
def test_selection_equals_brute_force(
    edges: list[int], falling: bool, low: int, width: int
) -> None:
    """Pixels that share more than a point with the interval."""
    ordered = sorted(edges, reverse=falling)
    axis = AxisRange(0, np.array(ordered, dtype=float))
    interval = Interval(low + 0.25, low + 0.25 + width)
    meeting = [
        pixel
        for pixel, pair in enumerate(pairwise(ordered))
        if min(pair) <= interval.upper and max(pair) >= interval.lower
    ]
    expected = (meeting[0], meeting[-1] + 1) if meeting else None
    assert axis.box(interval) == expected


# ---------------------------------------------------------------- time


def test_times_are_utc() -> None:
    """Against astropy.time, without its tables from the network."""
    with iers.conf.set_temp("auto_download", False):
        edges = np.arange(8) + 0.5
        reference = Time(58000.0, (edges - 1) * 30 / 86400, format="mjd", scale="tdb")
        expected = reference.utc.mjd
    axis = first_image("cube_time").wcs().temporal
    assert axis is not None
    assert axis.axis == 2
    np.testing.assert_allclose(axis.edges, expected, rtol=0, atol=1e-9)
    utc = first_image("cube_time_utc").wcs().temporal
    assert utc is not None
    np.testing.assert_allclose(utc.edges, 58000.25 + 0.5 + 0.25 * (edges - 2), atol=1e-12)


@pytest.mark.parametrize(
    ("scale", "seconds"),
    [
        ("UTC", 0.0),
        ("TAI", -37.0),
        ("TT", -69.184),
        ("GPS", -18.0),
        ("IAT", -37.0),
        ("ET", -69.184),
    ],
)
def test_scales_differ_from_utc_by_known_seconds(scale: str, seconds: float) -> None:
    """In 2020; TIMESYS holds for an axis called TIME, the axis' own name before it."""
    reference: tuple[CardSpec, ...] = (("DATEREF", "2020-05-31T12:00:00"), ("TIMEOFFS", 10.0))
    by_name = axis_of(linear_cards(3, scale, "s", 0.5, 50.0, 1.0), 5, *reference).temporal
    by_system = axis_of(
        linear_cards(3, "TIME", "min", 0.5, 50.0 / 60, 1.0), 5, *reference, ("TIMESYS", scale)
    ).temporal
    for axis in (by_name, by_system):
        assert axis is not None
        assert not axis.problem
        assert axis.edges[0] == pytest.approx(59000.5 + (60 + seconds) / 86400, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "scale", "unit", "days_after"),
    [("cube_time_log", "tt", 1.0, (2.0, 0.5, 0.25)),
     ("cube_time_log_of_a_scale", "tai", 1 / 86.4, (1.0, 2.0, 0.5))],
)  # fmt: skip
def test_logarithmic_times(
    name: str, scale: str, unit: float, days_after: tuple[float, float, float]
) -> None:
    """By wcslib for the axis, astropy.time for the scale; TIME-LOG and TAI--LOG alike."""
    crpix, crval, cdelt = days_after
    wcsprm = Wcsprm(header=b"".join(
        card_bytes(card) for card in linear_cards(1, "TIME-LOG", "d", crpix, crval, cdelt)
    ))  # fmt: skip
    values = wcsprm.p2s((np.arange(8.0) + 0.5).reshape(-1, 1), 1)["world"][:, 0]
    expected = Time(58000.0, values * unit, format="mjd", scale=scale).utc.mjd
    axis = first_image(name).wcs().temporal
    assert axis is not None
    np.testing.assert_allclose(axis.edges, expected, rtol=0, atol=1e-9)


def test_times_in_a_table() -> None:
    """TIME-TAB and UTC--TAB: the middles of planes are the table's values, in UTC."""
    axis = first_image("tab_time").wcs().temporal
    assert axis is not None
    reference = Time(58000.0, 0.25, format="mjd", scale="tai")
    middles = (TIMES[:-1] + TIMES[1:]) / 2
    expected = (reference + middles * u.s).utc.mjd
    np.testing.assert_allclose(axis.edges[1:-1], expected, rtol=0, atol=1e-9)
    assert axis.bounds is not None
    indexed = first_image("tab_time_indexed").wcs().temporal
    assert indexed is not None
    assert indexed.axis == 0
    at = 20 + 10 * (np.arange(10) + 0.5 - 2)
    days = np.interp(at, (0, 15, 40, 55, 90, 120), 0.5 * np.arange(6.0) ** 1.2)
    np.testing.assert_allclose(indexed.edges[:-1], 59000.5 + days[:-1], rtol=0, atol=1e-9)


def test_seconds_of_utc_go_by_whatever_the_clocks_say() -> None:
    """A day with a leap second is longer (2016-12-31), and seconds count it as astropy does."""
    cards = linear_cards(3, "UTC", "s", 0.5, 0.0, 86400.0)
    axis = axis_of(cards, 3, ("DATEREF", "2016-12-31")).temporal
    assert axis is not None
    expected = (Time("2016-12-31", scale="utc") + np.arange(4) * 86400 * u.s).mjd
    np.testing.assert_allclose(axis.edges, expected, rtol=0, atol=1e-10)
    assert axis.edges[2] == pytest.approx(57755 - 1 / 86400, abs=2 / 86400)


def test_days_of_utc_from_nowhere_are_mjd() -> None:
    """Without a reference, MJD 0 is it: nobody counts leap seconds from 1858."""
    axis = axis_of(linear_cards(3, "UTC", "d", 0.5, 58000.25, 0.5), 3).temporal
    assert axis is not None
    assert list(axis.edges) == [58000.25, 58000.75, 58001.25, 58001.75]


@pytest.mark.parametrize(
    ("given", "day"),
    [
        ([("MJDREF", 50000.0), ("JDREF", 2450001.5), ("DATEREF", "2000-01-01")], 50000.0),
        ([("MJDREF", 50000.0), ("MJDREFI", 50001), ("MJDREFF", 0.5)], 50001.5),
        ([("JDREFI", 2450002), ("JDREF", 2450009.5), ("DATEREF", "2000-01-01")], 50001.5),
        ([("JDREF", 2450009.5), ("DATEREF", "2000-01-01")], 50009.0),
        ([("DATEREF", "2000-01-01")], 51544.0),
        ([("DATEREF", "+02000-01-01T06:00:00.0")], 51544.25),
    ],
)
def test_of_several_reference_times_one_holds(given: list[CardSpec], day: float) -> None:
    """MJD before JD before the date, two parts before one (FITS 4.0 §9.2.2)."""
    axis = axis_of(linear_cards(3, "UT1", "d", 0.5, 1.0, 1.0), 2, *given).temporal
    assert axis is not None
    assert axis.edges[0] == pytest.approx(day + 1, abs=1e-9)


@pytest.mark.parametrize(
    ("unit", "seconds"),
    [("min", 60), ("h", 3600), ("d", 86400), ("D", 86400), ("a", 31557600), ("yr", 31557600),
     ("cy", 3155760000), ("ms", 1e-3), ("ks", 1e3), ("days", 86400), ("Hours", 3600),
     ("SEC", 1), ("Myr", 31557600e6), ("ta", 31556925.25), ("Ba", 31556925.97)],
)  # fmt: skip
def test_units_of_time(unit: str, seconds: float) -> None:
    """CUNIT for the axis; where it is absent, TIMEUNIT, which TIMEOFFS always has."""
    step = 1000 / seconds
    cards = linear_cards(3, "UT1", unit, 0.5, step, step)
    reference: tuple[CardSpec, ...] = (("MJDREF", 58000.0),)
    own = axis_of(cards, 2, *reference, ("TIMEUNIT", "d"), ("TIMEOFFS", 2.0)).temporal
    of_all = axis_of(
        without(cards, "CUNIT3"), 2, *reference, ("TIMEUNIT", unit), ("TIMEOFFS", step)
    ).temporal
    assert own is not None
    assert of_all is not None
    assert own.edges[1] == pytest.approx(58002 + 2000 / 86400, abs=1e-8)
    assert of_all.edges[1] == pytest.approx(58000 + 3000 / 86400, abs=1e-8)


def test_times_far_from_the_observer_are_noted() -> None:
    """TREFPOS: nobody brings them back to the Earth, which is up to 500 s away."""
    cards = linear_cards(3, "TDB", "s", 0.5, 0.0, 1.0)
    at_home = axis_of(cards, 2, ("MJDREF", 58000.0), ("TREFPOS", "TOPOCENT")).temporal
    away = axis_of(cards, 2, ("MJDREF", 58000.0), ("TREFPOS", "BARYCENTER")).temporal
    assert at_home is not None
    assert away is not None
    assert not at_home.frame_note
    assert "TREFPOS = BARYCENTER" in away.frame_note
    np.testing.assert_allclose(at_home.edges, away.edges, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("ctype", "blamed"),
    [
        ("LOCAL", "CTYPE3 = 'LOCAL'"),
        ("TIME-LOG", "CRVAL3 = 0"),
        ("UTC--TAB", "CTYPE3 = 'UTC--TAB'"),
    ],
)
def test_axes_of_time_that_cannot_be_told_say_why(ctype: str, blamed: str) -> None:
    """They are axes of time all the same: a request for a time is not ignored."""
    axis = axis_of(linear_cards(3, ctype, "s", 1.0, 0.0, 1.0), 5).temporal
    assert axis is not None
    assert blamed in axis.problem


@pytest.mark.parametrize("ctype", ["UTC-TAB", "TIME--LOG", "TIMELAG", "PHASE", "UTC-GRI", "TIMES"])
def test_what_is_no_axis_of_time(ctype: str) -> None:
    """Phases and lags are none (FITS 4.0 §9.6), nor is what the 4-3 form does not allow."""
    assert axis_of(linear_cards(3, ctype, "s", 1.0, 1.0, 1.0), 5).temporal is None


@pytest.mark.parametrize(
    ("more", "blamed"),
    [
        ([("TIMESYS", "LOCAL")], "TIMESYS"),
        ([("TIMEUNIT", "fortnight")], "fortnight"),
        ([("DATEREF", "yesterday")], "DATEREF"),
        ([("DATEREF", "2020-13-01")], "DATEREF"),
    ],
)
def test_times_that_cannot_be_told_say_why(more: list[CardSpec], blamed: str) -> None:
    """The problem names the card."""
    cards = [card for card in linear_cards(3, "TIME", "", 1, 0, 1) if card[1] != ""]
    axis = axis_of(cards, 5, *more).temporal
    assert axis is not None
    assert blamed in axis.problem


@pytest.mark.parametrize("name", TEMPORAL_FAMILIES)
def test_a_time_selects_its_plane(name: str) -> None:
    """The middle of each plane, and the whole."""
    axis = first_image(name).wcs().temporal
    assert axis is not None
    bounds = axis.bounds
    assert bounds is not None
    count = len(axis.edges) - 1
    for pixel in range(count):
        middle = float(axis.edges[pixel : pixel + 2].mean())
        assert axis.box(Interval(middle, middle)) == (pixel, pixel + 1)
    assert axis.box(bounds) == (0, count)


@pytest.mark.parametrize(
    ("ctype", "unit", "metres"),
    [("WAVE", "ANGSTROM", 1e-10), ("WAVE", "angstroms", 1e-10), ("WAVE", "A", 1e-10),
     ("WAVE", "NM", 1e-9), ("WAVE", "micron", 1e-6), ("WAVE", "MICRONS", 1e-6)],
)  # fmt: skip
def test_units_of_wavelengths_as_people_write_them(ctype: str, unit: str, metres: float) -> None:
    axis = axis_of(linear_cards(3, ctype, unit, 1.0, 5000.0, 2.0), 3).spectral
    assert axis is not None
    np.testing.assert_allclose(axis.edges, metres * np.array([4999, 5001, 5003, 5005]), rtol=1e-14)


@pytest.mark.parametrize(
    ("ctype", "unit", "standard"),
    [("VRAD", "KM/S", "km/s"), ("VOPT", "M/S", "m/s"), ("VELO", "km/sec", "km/s"),
     ("ENER", "KEV", "keV"), ("ENER", "EV", "eV")],
)  # fmt: skip
def test_other_spectral_units_as_people_write_them(ctype: str, unit: str, standard: str) -> None:
    line: CardSpec = ("RESTFRQ", 1.420405752e9)
    said, meant = (
        axis_of(linear_cards(3, ctype, one, 1.0, 20.0, 1.0), 3, line).spectral
        for one in (unit, standard)
    )
    assert said is not None
    assert meant is not None
    assert not meant.problem
    assert list(said.edges) == list(meant.edges)


def test_what_wcslib_refuses_has_the_number_of_the_axis_in_the_file() -> None:
    """It sees the axis alone, as the first one."""
    axis = axis_of(linear_cards(3, "WAVE", "furlong", 1.0, 20.0, 1.0), 3).spectral
    assert axis is not None
    assert "CUNIT3" in axis.problem
    assert "CUNIT1" not in axis.problem


@pytest.mark.parametrize("count", ["9223372036854775807", "1000", "-1", "1.5", "'1'", "1E"])
@pytest.mark.parametrize("name", ["tab_spectral", "tab_time", "tab_time_indexed"])
def test_a_table_that_claims_columns_without_end_is_refused(name: str, count: str) -> None:
    """Readers would make room for them all, some six gigabytes."""
    image = first_image(name)
    at = image.tables.index(b"TFIELDS =")
    lying = f"TFIELDS = {count}".ljust(80).encode()
    tables = image.tables[:at] + lying + image.tables[at + 80 :]
    wcs = ImageWcs.of(image.header, image.naxis, tables=tables)
    axis = wcs.spectral or wcs.temporal
    assert axis is not None
    assert "TFIELDS" in axis.problem
    assert axis.bounds is None


# ---------------------------------------------------------------- polarization


@pytest.mark.parametrize(
    ("name", "states"),
    [
        ("cube_stokes", ("I", "Q", "U", "V")),
        ("cube_stokes_linear", ("XX", "YY", "XY", "YX")),
        ("cube_stokes_and_frequency", ("U", "Q", "I")),
        ("degenerate_axes", ("I",)),
    ],
)
def test_states_follow_the_numbers_of_fits(name: str, states: tuple[str, ...]) -> None:
    """Table 29 of FITS 4.0, in the order of the planes."""
    assert name in POLARIZATION_FAMILIES
    axis = first_image(name).wcs().polarization
    assert axis is not None
    assert axis.states == states


def test_wanted_states_are_held_by_the_shortest_run() -> None:
    """Those that do not exist do not matter; none at all is None."""
    axis = Polarization(2, ("I", "Q", None, "V"))
    assert axis.states == ("I", "Q", "V")
    assert axis.box(("Q",)) == (1, 2)
    assert axis.box(("I", "V")) == (0, 4)
    assert axis.box(("V", "XX")) == (3, 4)
    assert axis.box(("XX", "YY")) is None


def test_a_reference_of_zero_is_not_absent() -> None:
    """CRVAL = 0 with CRPIX = 0 makes pixel 1 Stokes I."""
    axis = axis_of(linear_cards(3, "STOKES", "", 0.0, 0.0, 1.0), 4).polarization
    assert axis is not None
    assert axis.states == ("I", "Q", "U", "V")
