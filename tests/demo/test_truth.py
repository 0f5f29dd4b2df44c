"""What was written shows the true sky: positions and fluxes measured from the files alone."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from astropy.wcs.utils import skycoord_to_pixel

from soda_service.demo.sky import FREQUENCY, TRANSIENT, truth
from soda_service.demo.survey import VISITS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MEASURED = 6
"""Standard stars measured in each image: the brightest that lie well inside."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An image as an astronomer would read it: calibrated pixels and their WCS."""

    pixels: Floats
    """nJy in a pixel, the background taken away."""
    wcs: Any
    sigma: float
    """Of the core of the point spread function, in pixels."""

    def place(self, ra: Floats, dec: Floats) -> tuple[Floats, Floats]:
        """0-based pixel coordinates of ICRS positions."""
        x, y = skycoord_to_pixel(SkyCoord(ra, dec, unit="deg"), self.wcs, mode="all")
        return np.atleast_1d(x), np.atleast_1d(y)


def wcs_of(header: fits.Header) -> Any:
    """The celestial axes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)  # PC001001 is meant to be old
        return WCS(header).celestial


def fwhm(pixels: float) -> float:
    """Sigma of a Gaussian that is *pixels* wide at half its height."""
    return pixels / 2.3548


def survey(path: Path) -> Seen:
    """A file of the survey camera."""
    with fits.open(path) as hdus:
        image = hdus["IMAGE"].data.astype(float)
        assert (hdus["MASK"].header["MP_NO_DATA"], hdus["MASK"].header["MP_SAT"]) == (8, 1)
        assert np.array_equal(np.isnan(image), hdus["MASK"].data & (1 << 8) != 0)
        assert np.array_equal(np.isnan(image), np.isnan(hdus["VARIANCE"].data))
        seeing = hdus[0].header.get("SEEING", 3.0)
        return Seen(image, wcs_of(hdus["IMAGE"].header), fwhm(seeing / 1.2))


def stack(path: Path) -> Seen:
    """A stack, its asinh scaling undone."""
    with fits.open(path) as hdus:
        header, value = hdus[1].header, hdus[1].data.astype(float)
        assert hdus[1].compression_type == "RICE_1"
        counts = header["BOFFSET"] + 2 * header["BSOFTEN"] * np.sinh(value / 1.085736204758129)
        njy = counts * 10 ** (-0.4 * (header["FPA.ZP"] - 31.4))
        return Seen(njy, wcs_of(header), fwhm(2.6))


def infrared(path: Path) -> Seen:
    """An infrared image, its background taken away."""
    assert path.read_bytes()[:2] == b"\x1f\x8b"
    with fits.open(path) as hdus:
        header, counts = hdus[0].header, hdus[0].data - float(hdus[0].header["SKYVAL"])
        njy = counts * 10 ** (-0.4 * (header["MAGZP"] - 31.4))
        return Seen(njy, wcs_of(header), fwhm(header["SEEING"]))


def drizzled(path: Path) -> Seen:
    """The science plane of a mosaic."""
    with fits.open(path) as hdus:
        science, weight, context = (hdus[name].data for name in ("SCI", "WHT", "CTX"))
        assert np.array_equal(weight == 0, context == 0)
        assert np.array_equal(weight == 0, science == 0)
        assert len(np.unique(context)) > 4
        njy = science.astype(float) * 10 ** (-0.4 * (hdus[0].header["PHOTABZP"] - 31.4))
        return Seen(njy, wcs_of(hdus["SCI"].header), fwhm(2.4))


@dataclass(frozen=True, slots=True)
class Case:
    """An instrument and how well it can be measured."""

    pattern: str
    read: Callable[[Path], Seen]
    band: str
    pixels: float
    """How far a centroid may lie from the truth."""
    flux: float
    """How far a flux may lie from the truth, as a share of it."""


CASES = [
    *(Case(f"visits/*_{band}.fits", survey, band, 0.06, 0.04) for band in "gr"),
    *(Case(f"templates/*_{band}.fits", survey, band, 0.04, 0.03) for band in "gr"),
    *(Case(f"coadds/*_{band}.fits", survey, band, 0.04, 0.03) for band in "gr"),
    *(Case(f"stacks/*.{band}.fits.fz", stack, band, 0.05, 0.03) for band in "grizy"),
    *(Case(f"infrared/a{band}_*", infrared, band, 0.2, 0.15) for band in "JHK"),
    Case("drizzled/*", drizzled, "F606W", 0.04, 0.03),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.pattern)
def test_stars_lie_where_the_truth_says(archive_folder: Path, case: Case) -> None:
    """Centroids and fluxes of standard stars, measured in each file of an instrument."""
    paths = sorted(archive_folder.glob(case.pattern))
    assert paths
    for path in paths:
        seen = case.read(path)
        assert seen.pixels.shape[0] != seen.pixels.shape[1]
        found = 0
        for x, y, flux in standards(seen, case.band):
            at_x, at_y = centroid(seen.pixels, x, y, sigma=seen.sigma)
            assert np.hypot(at_x - x, at_y - y) < case.pixels, (path.name, x, y, at_x, at_y)
            measured = aperture(seen.pixels, at_x, at_y, radius=5.5 * seen.sigma)
            assert measured == pytest.approx(flux * inside(5.5), rel=case.flux), path.name
            found += 1
        assert found >= 4, path.name


def standards(seen: Seen, band: str) -> list[tuple[float, float, float]]:
    """(x, y, flux) of the brightest standard stars well inside the image, on good pixels."""
    stars = truth()[truth()["kind"] == "standard"]
    stars = stars[np.argsort(-stars[f"flux_{band}"])]
    x, y = seen.place(stars["ra"], stars["dec"])
    margin = 8 * seen.sigma
    height, width = seen.pixels.shape
    inner = (x > margin) & (x < width - margin) & (y > margin) & (y < height - margin)
    chosen = []
    columns = (x[inner], y[inner], stars[f"flux_{band}"][inner])
    for at_x, at_y, flux in zip(*(column.tolist() for column in columns), strict=True):
        reach = int(np.ceil(6 * seen.sigma))
        cx, cy = round(at_x), round(at_y)
        stamp = seen.pixels[cy - reach : cy + reach + 1, cx - reach : cx + reach + 1]
        if np.isfinite(stamp).all() and (stamp != 0).all():
            chosen.append((at_x, at_y, flux))
    return chosen[:MEASURED]


def centroid(pixels: Floats, x: float, y: float, *, sigma: float) -> tuple[float, float]:
    """The Gaussian-weighted centroid near (x, y), started from the brightest pixel there."""
    cx, cy = round(x), round(y)
    stamp = pixels[cy - 3 : cy + 4, cx - 3 : cx + 4]
    row, column = divmod(int(np.argmax(stamp)), stamp.shape[1])
    at_x, at_y = float(cx - 3 + column), float(cy - 3 + row)
    grid = np.indices(pixels.shape)
    rows, columns = grid[0], grid[1]
    for _ in range(20):
        weight = np.exp(-0.5 * ((columns - at_x) ** 2 + (rows - at_y) ** 2) / sigma**2)
        near = weight > 1e-6
        light = weight[near] * pixels[near]
        step_x = 2 * np.sum(light * (columns[near] - at_x)) / np.sum(light)
        step_y = 2 * np.sum(light * (rows[near] - at_y)) / np.sum(light)
        at_x, at_y = at_x + step_x, at_y + step_y
    return at_x, at_y


def aperture(pixels: Floats, x: float, y: float, *, radius: float) -> float:
    """The sum of the pixels whose centres lie within *radius*."""
    rows, columns = np.indices(pixels.shape)
    return float(pixels[(columns - x) ** 2 + (rows - y) ** 2 <= radius**2].sum())


def inside(radius: float) -> float:
    """The share of a star's light within *radius* core sigmas: a core in a halo 2.2 times wider."""
    return 1 - 0.88 * math.exp(-0.5 * radius**2) - 0.12 * math.exp(-0.5 * (radius / 2.2) ** 2)


@pytest.mark.parametrize("visit", VISITS, ids=lambda visit: visit.name)
def test_the_difference_holds_the_transient_and_nothing_else(
    archive_folder: Path, visit: Any
) -> None:
    """As bright as the light curve says, in noise as large as the variance says."""
    seen = survey(archive_folder / f"differences/difference_{visit.name}.fits")
    with fits.open(archive_folder / f"differences/difference_{visit.name}.fits") as hdus:
        assert {hdu.compression_type for hdu in hdus[1:]} == {"GZIP_2", "RICE_1"}
        noise = np.sqrt(hdus["VARIANCE"].data)
    (x,), (y,) = seen.place(np.array([TRANSIENT.ra]), np.array([TRANSIENT.dec]))
    light = aperture(seen.pixels, x, y, radius=5.5 * seen.sigma)
    error = 5 * np.nanmedian(noise) * np.sqrt(np.pi) * 5.5 * seen.sigma
    assert light == pytest.approx(TRANSIENT.flux(visit.band, visit.middle) * inside(5.5), abs=error)
    rows, columns = np.indices(seen.pixels.shape)
    elsewhere = np.hypot(columns - x, rows - y) > 15
    strange = np.abs(seen.pixels / noise)[elsewhere & np.isfinite(seen.pixels)]
    assert strange.max() < 6
    assert strange.std() < 1


def test_a_difference_is_the_visit_without_the_template_sky(archive_folder: Path) -> None:
    """The same noise in both: their difference is smooth sky, bright where the stars are."""
    name = VISITS[5].name
    visit = survey(archive_folder / f"visits/visit_{name}.fits")
    difference = survey(archive_folder / f"differences/difference_{name}.fits")
    static = visit.pixels - difference.pixels
    for x, y, flux in standards(visit, "r"):
        light = aperture(static, x, y, radius=5.5 * visit.sigma)
        assert light == pytest.approx(flux * inside(5.5), rel=0.02)
    assert np.nanmedian(static) < 300


def test_the_cube_has_the_line_where_it_should(archive_folder: Path) -> None:
    """Frequency, width and height of the hydrogen line."""
    header, cube = read_cube(archive_folder)
    host = truth()[truth()["line_mjy"] > 0]
    assert len(host) == 1
    column, row = (round(float(value[0])) for value in place_in_cube(header, host))
    spectrum = cube[0, :, row, column]
    channels = np.arange(header["NAXIS3"])
    frequency = header["CRVAL3"] + (channels + 1 - header["CRPIX3"]) * header["CDELT3"]
    far = np.abs(frequency - host["line_frequency"][0]) > 3 * host["line_fwhm"][0]
    line = spectrum - spectrum[far].mean()
    middle = np.sum(line * frequency) / np.sum(line)
    assert middle == pytest.approx(host["line_frequency"][0], abs=1.5e5)
    width = 2.3548 * np.sqrt(np.sum(line * (frequency - middle) ** 2) / np.sum(line))
    assert width == pytest.approx(host["line_fwhm"][0], rel=0.25)
    assert line.max() == pytest.approx(host["line_mjy"][0] / 1e3, rel=0.15)


def test_the_cube_has_the_continuum_and_its_polarization(archive_folder: Path) -> None:
    """Stokes parameters of the other sources, which keep out of each other's beams."""
    header, cube = read_cube(archive_folder)
    sources = truth()[(truth()["radio_mjy"] > 0) & (truth()["line_mjy"] == 0)]
    x, y = place_in_cube(header, sources)
    frequency = header["CRVAL3"] + (np.arange(header["NAXIS3"]) - 17) * header["CDELT3"]
    measured = 0
    for at_x, at_y, source in zip(x, y, sources, strict=True):
        column, row = round(at_x), round(at_y)
        if not (2 < column < 69 and 2 < row < 61):
            continue
        beam = np.exp(-0.5 * ((column - at_x) ** 2 + (row - at_y) ** 2) / (3 / 2.3548) ** 2)
        flux = (source["radio_mjy"] / 1e3) * np.mean(
            (frequency / FREQUENCY) ** source["spectral_index"]
        )
        i, q, u, v = cube[:, :, row, column].mean(axis=1) / beam
        assert i == pytest.approx(flux, abs=1e-3)
        assert np.hypot(q, u) == pytest.approx(flux * source["pol_fraction"], abs=1e-3)
        angle = np.radians(source["pol_angle"])
        assert q == pytest.approx(flux * source["pol_fraction"] * np.cos(2 * angle), abs=1e-3)
        assert v == pytest.approx(0, abs=1e-3)
        measured += 1
    assert measured >= 6


def read_cube(folder: Path) -> tuple[fits.Header, Floats]:
    """Header and values (Stokes, frequency, y, x)."""
    with fits.open(folder / "radio/cuttlefish_hi.fits") as hdus:
        return hdus[0].header, hdus[0].data.astype(float)


def place_in_cube(header: fits.Header, sources: NDArray[np.void]) -> tuple[Floats, Floats]:
    """0-based pixel coordinates of sources."""
    sky = SkyCoord(sources["ra"], sources["dec"], unit="deg")
    x, y = skycoord_to_pixel(sky, wcs_of(header), mode="all")
    return x, y


def test_the_truth_is_complete_and_standards_stand_alone() -> None:
    """No source without numbers, and no standard star with company."""
    table = truth()
    assert len(table) > 600
    assert not table.flags.writeable
    assert len(set(table["name"])) == len(table)
    for name in table.dtype.names or ():
        if name not in ("name", "kind"):
            assert np.isfinite(table[name]).all()
    sky = SkyCoord(table["ra"], table["dec"], unit="deg")
    for star in np.flatnonzero(table["kind"] == "standard"):
        separation = sky[star].separation(sky).arcsec
        assert np.sort(separation)[1] > 11
