"""The survey camera: its visits, and what is made of them.

Fluxes are nJy, angles degrees unless a name says arcsec, times MJD (UTC).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits
from astropy.time import Time

from .fitsfile import (
    WRITTEN,
    Card,
    empty_primary,
    fits_bytes,
    header_of,
    lossless_image,
    plain_image,
)
from .paint import Grid, Psf, chance, paint_sky, paint_transient
from .sky import CENTRE, TRANSIENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_LENGTH_OF_DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One exposure of the survey camera."""

    number: int
    """Night and sequence number, as in 2024110900031."""
    band: str
    mjd: float
    """Start of the exposure."""
    rotation: float
    """Position angle of the y axis."""
    offset: tuple[float, float]
    """Of the boresight from the field's centre, arcsec (east, north)."""
    seeing: float
    """arcsec, FWHM."""

    @property
    def name(self) -> str:
        """Number and band, as file names have them."""
        return f"{self.number}_{self.band}"

    @property
    def middle(self) -> float:
        """MJD of the middle of the exposure."""
        return self.mjd + _VISIT_EXPOSURE / 2 / _LENGTH_OF_DAY

    @property
    def transient_flux(self) -> float:
        """Of the transient, in this visit."""
        return TRANSIENT.flux(self.band, self.middle)


_VISIT_EXPOSURE = 30.0
_VISIT_NAXIS = (436, 388)
_VISIT_SCALE = 1.2  # arcsec
_VISIT_CORNER = (1024, 512)  # of these pixels in the whole detector
_VISIT_DEPTH = {"g": 480.0, "r": 560.0}  # noise of a pixel of empty sky, nJy
_GAIN_NJY = 42.0  # nJy for one electron
_DETECTOR = 94

_NIGHTS = (60_606.2512, 60_617.2406, 60_623.2555, 60_631.2117, 60_645.1934, 60_668.1508)

VISITS: tuple[Visit, ...] = tuple(
    Visit(
        number=int(day) * 100_000 + 31 + 2 * night + place,
        band=band,
        mjd=mjd + 0.001 * place,
        rotation=(37.0 * night + 11.0 * place + 8.0) % 360.0,
        offset=(
            24.0 * ((night * 3 + place) % 5 - 2) / 2,
            18.0 * ((night * 2 + 3 * place) % 5 - 2) / 2,
        ),
        seeing=2.7 + 0.11 * ((night * 5 + place * 3) % 6),
    )
    for night, (mjd, day) in enumerate(
        zip(
            _NIGHTS,
            ("20241023", "20241103", "20241109", "20241117", "20241201", "20241224"),
            strict=True,
        )
    )
    for place, band in enumerate("gr")
)
"""A dozen exposures in two bands; the transient is absent in the first two."""

_MASK_PLANES = (
    "BAD", "SAT", "INTRP", "CR", "EDGE", "DETECTED", "DETECTED_NEGATIVE", "SUSPECT", "NO_DATA",
)  # fmt: skip
_BIT = {name: 1 << bit for bit, name in enumerate(_MASK_PLANES)}


@dataclass(frozen=True, slots=True)
class _Exposed:
    """A visit's pixels: what shone, what was added by chance, and what is wrong with them."""

    static: Floats
    transient: Floats
    noise: Floats
    variance: Floats
    mask: NDArray[np.int32]


def _expose(visit: Visit) -> _Exposed:
    grid = _visit_grid(visit)
    psf = Psf.of_width(visit.seeing / _VISIT_SCALE)
    static, transient = grid.blank(), grid.blank()
    paint_sky(static, grid, psf, band=visit.band)
    paint_transient(transient, grid, psf, flux=visit.transient_flux)
    variance = _VISIT_DEPTH[visit.band] ** 2 + _GAIN_NJY * (static + transient)
    generator = chance("visit", visit.name)
    noise = generator.standard_normal(static.shape) * np.sqrt(variance)
    mask = _blemishes(grid, generator)
    mask[static + transient > 4.0e5] |= _BIT["SAT"]
    dead = mask & _BIT["NO_DATA"] != 0
    noise[dead] = variance[dead] = np.nan
    return _Exposed(static, transient, noise, variance, mask)


def visit_file(visit: Visit) -> bytes:
    """Everything there is of a visit."""
    exposed = _expose(visit)
    light = exposed.static + exposed.transient
    hdus = _masked_image(
        light + exposed.noise,
        _with_detections(exposed.mask, light, exposed.variance),
        exposed.variance,
        wcs=_visit_wcs(visit),
        build=plain_image,
    )
    primary = empty_primary([*_visit_cards(visit, "visit_image"), *_camera_cards(visit)])
    return fits_bytes([primary, *hdus, _psf_table(visit), _amplifier_table(visit)])


def difference_file(visit: Visit) -> bytes:
    """The visit without what does not vary."""
    exposed = _expose(visit)
    hdus = _masked_image(
        exposed.transient + exposed.noise,
        _with_detections(exposed.mask, exposed.transient, exposed.variance),
        exposed.variance,
        wcs=_visit_wcs(visit),
        build=lossless_image,
    )
    cards = [
        *_visit_cards(visit, "difference_image"),
        ("TEMPLATE", f"template_{visit.band}.fits", "what was taken away"),
    ]
    return fits_bytes([empty_primary(cards), *hdus])


def template_file(band: str) -> bytes:
    """The patch of sky without what varies."""
    return _stacked(band, product="template_coadd", transient=0.0, fwhm=2.5)


def coadd_file(band: str) -> bytes:
    """The patch of sky in the mean."""
    fluxes = [visit.transient_flux for visit in VISITS if visit.band == band]
    return _stacked(band, product="deep_coadd", transient=sum(fluxes) / len(fluxes), fwhm=2.9 / 1.2)


_PATCH_NAXIS = (516, 472)


def _stacked(band: str, *, product: str, transient: float, fwhm: float) -> bytes:
    wcs = _patch_wcs()
    grid = Grid(header_of(wcs), _PATCH_NAXIS)
    psf = Psf.of_width(fwhm)
    light = grid.blank()
    paint_sky(light, grid, psf, band=band)
    paint_transient(light, grid, psf, flux=transient)
    seen = [visit for visit in VISITS if visit.band == band]
    number = sum(_covers(visit, grid).astype(np.float64) for visit in seen)
    with np.errstate(divide="ignore"):
        variance = np.where(
            number > 0, (_VISIT_DEPTH[band] ** 2 + _GAIN_NJY * light) / number, np.nan
        )
    noise = chance(product, band).standard_normal(light.shape) * np.sqrt(variance)
    mask = np.where(number > 0, 0, _BIT["NO_DATA"]).astype(np.int32)
    hdus = _masked_image(
        light + noise, _with_detections(mask, light, variance), variance, wcs=wcs, build=plain_image
    )
    cards: list[Card] = [
        *_survey_cards(product, band),
        ("OBSID", f"patch-5063-14-{band}", "observation identifier"),
        ("TRACT", 5063, "tract of the sky map"),
        ("PATCH", 14, "patch of the tract"),
        *_time_cards(seen[0].mjd, seen[-1].mjd + _VISIT_EXPOSURE / _LENGTH_OF_DAY),
        ("EXPTIME", _VISIT_EXPOSURE * len(seen), "[s] total exposure"),
        ("NVISITS", len(seen), "number of visits"),
        *((f"VISIT{n:03d}", visit.number, "") for n, visit in enumerate(seen, 1)),
    ]
    return fits_bytes([empty_primary(cards), *hdus])


def _masked_image(
    image: Floats,
    mask: NDArray[np.int32],
    variance: Floats,
    *,
    wcs: Sequence[Card],
    build: Callable[..., Any],
) -> list[Any]:
    planes: list[Card] = [(f"MP_{name}", bit, "") for bit, name in enumerate(_MASK_PLANES)]
    image_cards: list[Card] = [("EXTTYPE", "IMAGE", ""), ("BUNIT", "nJy", "")]
    mask_cards: list[Card] = [("EXTTYPE", "MASK", ""), *planes]
    variance_cards: list[Card] = [("EXTTYPE", "VARIANCE", ""), ("BUNIT", "nJy**2", "")]
    inherit: Card = ("INHERIT", True, "the primary header holds here too")
    return [
        build(image.astype(np.float32), [*image_cards, inherit, *wcs], name="IMAGE"),
        build(mask, [*mask_cards, inherit, *wcs], name="MASK"),
        build(variance.astype(np.float32), [*variance_cards, inherit, *wcs], name="VARIANCE"),
    ]


def _blemishes(grid: Grid, generator: np.random.Generator) -> NDArray[np.int32]:
    """Edges, two dead columns and a few cosmic rays, the latter interpolated over."""
    width, height = grid.naxis
    mask = np.zeros((height, width), np.int32)
    mask[:8] = mask[-8:] = _BIT["EDGE"]
    mask[:, :8] |= _BIT["EDGE"]
    mask[:, -8:] |= _BIT["EDGE"]
    mask[:, 61:63] |= _BIT["BAD"] | _BIT["NO_DATA"]
    for _ in range(7):
        x, y = generator.integers(20, width - 40), generator.integers(20, height - 40)
        steps = np.arange(generator.integers(4, 16))
        slope = generator.uniform(-1, 1)
        rows = (y + slope * steps).astype(int)
        mask[rows, x + steps] |= _BIT["CR"] | _BIT["INTRP"]
    return mask


def _with_detections(mask: NDArray[np.int32], light: Floats, variance: Floats) -> NDArray[np.int32]:
    detected = light > 5 * np.sqrt(np.nan_to_num(variance, nan=np.inf))
    return mask | np.where(detected, _BIT["DETECTED"], 0).astype(np.int32)


def _visit_wcs(visit: Visit) -> list[Card]:
    angle = np.radians(visit.rotation)
    scale = _VISIT_SCALE / 3600
    east, north = (value / 3600 for value in visit.offset)
    distortion: list[Card] = [("A_ORDER", 3, "SIP"), ("B_ORDER", 3, "")]
    forward = {
        "A_2_0": 3.1e-6, "A_1_1": -1.7e-6, "A_0_2": 0.9e-6, "A_3_0": 4.3e-9, "A_1_2": 3.9e-9,
        "B_2_0": -0.8e-6, "B_1_1": 2.3e-6, "B_0_2": 2.9e-6, "B_2_1": 4.1e-9, "B_0_3": 4.6e-9,
    }  # fmt: skip
    distortion += [(key, value, "") for key, value in forward.items()]
    distortion += [("AP_ORDER", 3, "approximate inverse"), ("BP_ORDER", 3, "")]
    distortion += [(key.replace("_", "P_", 1), -value, "") for key, value in forward.items()]
    return [
        ("RADESYS", "ICRS", "celestial frame"),
        ("CTYPE1", "RA---TAN-SIP", ""),
        ("CTYPE2", "DEC--TAN-SIP", ""),
        ("CRPIX1", _VISIT_NAXIS[0] / 2 + 7.25, "reference pixel"),
        ("CRPIX2", _VISIT_NAXIS[1] / 2 - 4.5, "reference pixel"),
        ("CRVAL1", round(CENTRE[0] + east / np.cos(np.radians(CENTRE[1])), 10), "[deg]"),
        ("CRVAL2", round(CENTRE[1] + north, 10), "[deg]"),
        ("CUNIT1", "deg", ""),
        ("CUNIT2", "deg", ""),
        ("CD1_1", -scale * np.cos(angle), ""),
        ("CD1_2", scale * np.sin(angle), ""),
        ("CD2_1", scale * np.sin(angle), ""),
        ("CD2_2", scale * np.cos(angle), ""),
        *distortion,
        *_parent_cards(_VISIT_CORNER),
    ]


def _parent_cards(corner: tuple[int, int]) -> list[Card]:
    """Where the array lies in something larger: IRAF's LTV, and alternate A as the camera has it.

    *corner* is the first pixel in 0-based coordinates of the larger thing.
    """
    return [
        ("LTV1", float(-corner[0]), "physical to image coordinates"),
        ("LTV2", float(-corner[1]), ""),
        ("LTM1_1", 1.0, ""),
        ("LTM2_2", 1.0, ""),
        ("CTYPE1A", "LINEAR", "pixels of the parent"),
        ("CTYPE2A", "LINEAR", ""),
        ("CRPIX1A", 1.0, ""),
        ("CRPIX2A", 1.0, ""),
        ("CRVAL1A", float(corner[0]), "of the first column"),
        ("CRVAL2A", float(corner[1]), "of the first row"),
        ("CUNIT1A", "pixel", ""),
        ("CUNIT2A", "pixel", ""),
    ]


def _patch_wcs() -> list[Card]:
    scale = _VISIT_SCALE / 3600
    return [
        ("RADESYS", "ICRS", "celestial frame"),
        ("CTYPE1", "RA---TAN", ""),
        ("CTYPE2", "DEC--TAN", ""),
        ("CRPIX1", _PATCH_NAXIS[0] / 2 + 831.5, "the tract's centre"),
        ("CRPIX2", _PATCH_NAXIS[1] / 2 - 402.0, "the tract's centre"),
        ("CRVAL1", 52.81, "[deg]"),
        ("CRVAL2", -27.877, "[deg]"),
        ("CUNIT1", "deg", ""),
        ("CUNIT2", "deg", ""),
        ("CD1_1", -scale, ""),
        ("CD1_2", 0.0, ""),
        ("CD2_1", 0.0, ""),
        ("CD2_2", scale, ""),
        *_parent_cards((9000, 12000)),
    ]


def _visit_grid(visit: Visit) -> Grid:
    return Grid(header_of(_visit_wcs(visit)), _VISIT_NAXIS)


def _covers(visit: Visit, grid: Grid) -> NDArray[np.bool_]:
    """Which pixels of *grid* the visit has seen, to a pixel or so: distortion is left out."""
    ra, dec = np.array([CENTRE[0]]), np.array([CENTRE[1]])
    x0, y0 = grid.pixels(ra, dec)
    rows, columns = np.indices(grid.naxis[::-1])
    east = -(columns - x0) - visit.offset[0] / _VISIT_SCALE
    north = rows - y0 - visit.offset[1] / _VISIT_SCALE
    angle = np.radians(visit.rotation)
    u = -east * np.cos(angle) + north * np.sin(angle) + _VISIT_NAXIS[0] / 2 + 6.25
    v = east * np.sin(angle) + north * np.cos(angle) + _VISIT_NAXIS[1] / 2 - 5.5
    seen: NDArray[np.bool_] = (u >= 0) & (u < _VISIT_NAXIS[0]) & (v >= 0) & (v < _VISIT_NAXIS[1])
    return seen


def _survey_cards(product: str, band: str) -> list[Card]:
    return [
        ("ORIGIN", "Erewhon Observatory", "an invented place"),
        ("TELESCOP", "Erewhon 6.5m", "an invented telescope"),
        ("INSTRUME", "ErewhonCam", "an invented camera"),
        ("PRODUCT", product, "kind of product"),
        ("OBJECT", "Cuttlefish Field", "name of the field"),
        ("FILTER", band, "band"),
        ("DATE", WRITTEN, "when this file was written"),
    ]


def _visit_cards(visit: Visit, product: str) -> list[Card]:
    return [
        *_survey_cards(product, visit.band),
        ("OBSID", str(visit.number), "observation identifier"),
        ("VISIT", visit.number, "night and sequence number"),
        ("DETECTOR", _DETECTOR, "number of the detector"),
        *_time_cards(visit.mjd, visit.mjd + _VISIT_EXPOSURE / _LENGTH_OF_DAY),
        ("EXPTIME", _VISIT_EXPOSURE, "[s] exposure"),
        ("ROTPA", visit.rotation, "[deg] position angle of the y axis"),
        ("SEEING", round(visit.seeing, 3), "[arcsec] FWHM"),
    ]


def _camera_cards(visit: Visit) -> list[Card]:
    """What instruments write and nobody reads, until somebody does."""
    pipeline = (
        "isr: overscan, crosstalk, linearity, defects, saturation; calibrate: background, "
        "astrometry, photometry; finalise: aperture corrections, summary statistics"
    )
    cards: list[Card] = [
        ("LONGSTRN", "OGIP 1.0", "long strings may be continued"),
        ("PIPELINE", pipeline, "steps that were run"),
        ("AIRMASS", round(1.02 + visit.number % 7 * 0.031, 4), "at the middle of the exposure"),
        ("MAGZERO", 27.34 if visit.band == "g" else 27.21, "[mag] of one electron"),
        ("GAIN", 1.61, "[electron/adu]"),
        ("COMMENT", "Everything in this file is invented; see truth.csv beside the archive.", ""),
    ]
    for raft in range(5):
        for sensor in range(4):
            place = f"DEMO CAM RAFT{raft}{sensor}"
            step = (visit.number * 7 + raft * 31 + sensor * 17) % 101
            cards += [
                (f"{place} TEMP", round(173.0 + step / 100, 2), "[K]"),
                (f"{place} VOLTAGE", round(24.5 + step / 1000, 3), "[V]"),
                (f"{place} STATE", "NOMINAL" if step else "WATCH", ""),
            ]
    for number, package in enumerate(("isr", "astrometry", "photometry", "psf", "skymap"), 1):
        cards += [
            (f"DEMO PKG{number} NAME", package, ""),
            (f"DEMO PKG{number} VERSION", f"4.{number}.0+{visit.number % 97:02d}", ""),
        ]
    cards += [
        ("HISTORY", f"step {step} of 8 finished without complaint", "") for step in range(1, 9)
    ]
    return cards


def _psf_table(visit: Visit) -> Any:
    parts = Psf.of_width(visit.seeing / _VISIT_SCALE).parts
    columns = [
        fits.Column("fraction", "D", array=np.array([share for share, _ in parts])),
        fits.Column("sigma", "D", unit="pixel", array=np.array([sigma for _, sigma in parts])),
    ]
    return fits.BinTableHDU.from_columns(columns, name="PSF", ver=1)


def _amplifier_table(visit: Visit) -> Any:
    number = np.arange(1, 17)
    noise = 5.0 + (visit.number % 13 + number * 5 % 7) / 10
    columns = [
        fits.Column("amplifier", "4A", array=np.array([f"C{n:02d}" for n in number])),
        fits.Column("gain", "E", unit="electron/adu", array=1.55 + number / 100),
        fits.Column("read_noise", "E", unit="electron", array=noise),
        fits.Column("saturation", "J", unit="electron", array=90_000 + 500 * number),
    ]
    return fits.BinTableHDU.from_columns(columns, name="AMPLIFIERS", ver=1)


def _time_cards(begin: float, end: float) -> list[Card]:
    return [
        ("TIMESYS", "UTC", "time scale"),
        ("DATE-BEG", Time(begin, format="mjd", precision=3).isot, "start"),
        ("DATE-END", Time(end, format="mjd", precision=3).isot, "end"),
        ("MJD-BEG", round(begin, 9), "[d] start"),
        ("MJD-END", round(end, 9), "[d] end"),
    ]
