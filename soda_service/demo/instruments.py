"""The imagined instruments: each public function gives the files of one of them.

To add an instrument, write a function that gives `Product`s and name it in `INSTRUMENTS`.
Fluxes are nJy, angles degrees unless a name says arcsec, times MJD (UTC).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from . import survey
from .fitsfile import (
    WRITTEN,
    Card,
    empty_primary,
    fits_bytes,
    gzipped,
    header_of,
    packed_bytes,
    plain_image,
    primary_image,
)
from .paint import Grid, Psf, chance, paint_points, paint_sky
from .sky import CENTRE, FREQUENCY, LINE_REST_FREQUENCY, truth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_NJY_MAGNITUDE = 31.4  # AB magnitude of 1 nJy


@dataclass(frozen=True, slots=True)
class Product:
    """A file of the archive, not yet made."""

    path: str
    """Below the archive's folder, with `/`; its first part is the collection's root."""
    make: Callable[[], bytes]
    """Pure: the same bytes at every call, in any process."""


def products() -> tuple[Product, ...]:
    """Every file of the archive, in the order of `INSTRUMENTS`."""
    return tuple(chain.from_iterable(instrument() for instrument in INSTRUMENTS))


# --- A survey camera: visits, their templates, differences and coadds


def visits() -> Iterator[Product]:
    """Calibrated single exposures: IMAGE, MASK and VARIANCE in TAN-SIP, and two tables."""
    for visit in survey.VISITS:
        yield Product(f"visits/visit_{visit.name}.fits", partial(survey.visit_file, visit))


def differences() -> Iterator[Product]:
    """What is left of each visit when its template is taken away; tile-compressed, losslessly."""
    for visit in survey.VISITS:
        yield Product(
            f"differences/difference_{visit.name}.fits", partial(survey.difference_file, visit)
        )


def templates() -> Iterator[Product]:
    """The sky without the transient, one for each band."""
    for band in "gr":
        yield Product(f"templates/template_{band}.fits", partial(survey.template_file, band))


def coadds() -> Iterator[Product]:
    """The mean of all visits of a band, the transient's mean brightness included."""
    for band in "gr":
        yield Product(f"coadds/coadd_{band}.fits", partial(survey.coadd_file, band))


# --- A wide stack survey: RICE, asinh scaling, old matrix keywords ----------------------------

_STACK_NAXIS = (660, 580)
_STACK_SCALE = 0.5  # arcsec
_STACK_NOISE = {"g": 150.0, "r": 160.0, "i": 190.0, "z": 260.0, "y": 420.0}  # nJy in a pixel
_STACK_EXPOSURE = 860.0


def stacks() -> Iterator[Product]:
    """Stacks in grizy as 16-bit RICE tiles of asinh magnitudes."""
    for band in "grizy":
        yield Product(f"stacks/utopia.field.0042.stk.{band}.fits.fz", partial(_stack_file, band))


def _stack_file(band: str) -> bytes:
    wcs: list[Card] = [
        ("CTYPE1", "RA---TAN", ""),
        ("CTYPE2", "DEC--TAN", ""),
        ("CRVAL1", 53.85, "centre of the projection cell"),
        ("CRVAL2", -27.2, "centre of the projection cell"),
        ("CRPIX1", -4290.0, "far outside: one of many cells"),
        ("CRPIX2", 4189.0, ""),
        ("CDELT1", _STACK_SCALE / 3600, ""),
        ("CDELT2", _STACK_SCALE / 3600, ""),
        ("PC001001", -1.0, ""),
        ("PC001002", 0.0, ""),
        ("PC002001", 0.0, ""),
        ("PC002002", 1.0, ""),
        ("RADESYS", "FK5", ""),
        ("EQUINOX", 2000.0, ""),
    ]
    grid = Grid(header_of(wcs), _STACK_NAXIS)
    light = grid.blank()
    paint_sky(light, grid, Psf.of_width(1.3 / _STACK_SCALE), band=band)
    zero_point = 25.0 + 2.5 * np.log10(_STACK_EXPOSURE)
    counts_per_njy = 10 ** (0.4 * (zero_point - _NJY_MAGNITUDE))
    sigma = np.sqrt(_STACK_NOISE[band] ** 2 + 2.0 * light)
    counts = counts_per_njy * (light + sigma * chance("stack", band).standard_normal(light.shape))
    counts[_cell_gap(counts.shape)] = np.nan
    softening = 2.0 * _STACK_NOISE[band] * counts_per_njy
    stored, scaling = _asinh_scaled(counts, softening=softening, offset=0.25 * softening)
    cards: list[Card] = [
        ("DATE", WRITTEN, "when this file was written"),
        *wcs,
        ("HISTORY", "stack of exposures that nobody took", ""),
        ("STK_TYPE", "DEEP_STACK", "type of stack"),
        ("SKYCELL", "field.0042", "cell of the sky"),
        ("NINPUTS", 20, "number of input images"),
        *((f"INP_{n:04d}", f"u{5479 + n}{band}0280o.wrp.field.0042.fits", "") for n in range(20)),
        *((f"SCL_{n:04d}", 31.5 + n / 16, "input scale") for n in range(20)),
        ("EXPTIME", _STACK_EXPOSURE, "[s] total exposure"),
        ("MJD-OBS", 55_930.25, "mean epoch of the inputs"),
        ("FPA.TELESCOPE", "UtopiaOne", "an invented telescope"),
        ("FPA.INSTRUMENT", "UtopiaGPC", "an invented camera"),
        ("FPA.FILTERID", f"{band}.00000", "filter"),
        ("FPA.OBJECT", "Cuttlefish Field", ""),
        ("FPA.ZP", float(zero_point), "[mag] of one count, AB"),
        ("CELL.GAIN", 1.0, ""),
        ("CELL.SATURATION", 1.0e8, ""),
        ("OBSID", f"stk-0042-{band}", "observation identifier"),
    ]
    return packed_bytes(stored, cards, scaling=scaling)


def _asinh_scaled(
    counts: Floats, *, softening: float, offset: float
) -> tuple[NDArray[np.int16], list[Card]]:
    """Stored integers, and the cards that turn them back into counts.

    value = BZERO + BSCALE * stored;
    counts = BOFFSET + 2 BSOFTEN sinh(value / 1.0857), the number being 2.5 log10(e).
    """
    pogson = 2.5 * np.log10(np.e)
    value = pogson * np.arcsinh((counts - offset) / (2 * softening))
    scale, zero, blank = 0.004, 3.25, -32_768
    stored = np.full(counts.shape, blank, np.int16)
    good = np.isfinite(value)
    stored[good] = np.round((value[good] - zero) / scale).astype(np.int16)
    return stored, [
        ("BSCALE", scale, "value = BZERO + BSCALE * stored"),
        ("BZERO", zero, ""),
        ("BLANK", blank, "no data"),
        ("BSOFTEN", float(softening), "counts = BOFFSET + 2 BSOFTEN sinh(value/1.0857)"),
        ("BOFFSET", float(offset), ""),
    ]


def _cell_gap(shape: tuple[int, ...]) -> tuple[slice, slice]:
    """A gap between two chips that no exposure of the stack has filled."""
    return slice(shape[0] // 7, shape[0] // 7 + 4), slice(shape[1] // 2, None)


# --- An infrared sky survey: gzip, SIN, CROTA2, no RADESYS ------------------------------------

_INFRARED_NAXIS = (352, 416)
_INFRARED_NOISE = {"J": 9_000.0, "H": 12_000.0, "K": 14_000.0}  # nJy in a pixel
_INFRARED_ZERO_POINT = {"J": 20.93, "H": 20.71, "K": 20.06}


def infrared() -> Iterator[Product]:
    """Atlas images in J, H and K, gzipped."""
    for band in "JHK":
        yield Product(
            f"infrared/a{band}_asky_991104s0420117.fits.gz", partial(_infrared_file, band)
        )


def _infrared_file(band: str) -> bytes:
    wcs: list[Card] = [
        ("CTYPE1", "RA---SIN", "orthographic"),
        ("CTYPE2", "DEC--SIN", ""),
        ("CRPIX1", 176.5, "reference pixel"),
        ("CRPIX2", 208.5, "reference pixel"),
        ("CRVAL1", 53.1315, "[deg] right ascension, equinox 2000"),
        ("CRVAL2", -27.7318, "[deg] declination, equinox 2000"),
        ("CDELT1", -2.777777845e-4, "[deg]"),
        ("CDELT2", 2.777777845e-4, "[deg]"),
        ("CROTA2", 7.435957782e-3, "[deg]"),
        ("EQUINOX", 2000.0, ""),
    ]
    grid = Grid(header_of(wcs), _INFRARED_NAXIS)
    light = grid.blank()
    paint_sky(light, grid, Psf.of_width(2.9), band=band)
    counts_per_njy = 10 ** (0.4 * (_INFRARED_ZERO_POINT[band] - _NJY_MAGNITUDE))
    noise = chance("infrared", band).standard_normal(light.shape) * _INFRARED_NOISE[band]
    background = {"J": 110.0, "H": 405.0, "K": 642.0}[band]
    cards: list[Card] = [
        *wcs,
        ("ORIGIN", "Atlantis", "an invented place"),
        ("TELNAME", "Atlantis South", "an invented telescope"),
        ("OBJECT", "Cuttlefish Field", "name of the field"),
        ("FILTER", band.lower(), "band: j, h, k"),
        ("UT_DATE", "991104", "UT date of the scan (yymmdd)"),
        ("DATE-OBS", "1999-11-04T04:12:38.50", "start of the scan (UTC)"),
        ("EXPTIME", 7.8, "[s] on every piece of sky"),
        ("SCANNO", 42, "scan of the night"),
        ("COADDNO", 117, "image of the scan"),
        ("OBSID", f"991104s042-117-{band.lower()}", "observation identifier"),
        ("MAGZP", _INFRARED_ZERO_POINT[band], "[mag] of one count, AB"),
        ("SKYVAL", background, "[DN] background, not subtracted"),
        ("SEEING", 2.9, "[arcsec] FWHM"),
        ("BUNIT", "DN", ""),
        ("DATE", WRITTEN, "when this file was written"),
        *(("COMMENT", text, "") for text in ("Everything here is invented.", "See truth.csv.")),
    ]
    pixels = (background + counts_per_njy * (light + noise)).astype(np.float32)
    return gzipped(fits_bytes([primary_image(pixels, cards)]))


# --- A space telescope: drizzled science, weight and context ----------------------------------

_DRIZZLED_NAXIS = (540, 468)
_DRIZZLED_SCALE = 0.15  # arcsec
_DRIZZLED_EXPOSURES = 4
_DRIZZLED_EXPOSURE = 2_080.0
_DRIZZLED_ZERO_POINT = 26.49


def drizzled() -> Iterator[Product]:
    """A drizzled mosaic of four dithered exposures: SCI, WHT and CTX."""
    yield Product("drizzled/lc4201010_drz.fits", _drizzled_file)


def _drizzled_file() -> bytes:
    angle = np.radians(-57.343)
    scale = _DRIZZLED_SCALE / 3600
    wcs: list[Card] = [
        ("WCSAXES", 2, "axes of the coordinate system"),
        ("CRPIX1", 288.827, "reference pixel"),
        ("CRPIX2", 221.807, "reference pixel"),
        ("CRVAL1", 53.12435, "[deg]"),
        ("CRVAL2", -27.73956, "[deg]"),
        ("CTYPE1", "RA---TAN", ""),
        ("CTYPE2", "DEC--TAN", ""),
        ("CD1_1", -scale * np.cos(angle), ""),
        ("CD1_2", scale * np.sin(angle), ""),
        ("CD2_1", scale * np.sin(angle), ""),
        ("CD2_2", scale * np.cos(angle), ""),
        ("RADESYS", "ICRS", ""),
        ("ORIENTAT", -57.343, "[deg] position angle of the y axis"),
    ]
    grid = Grid(header_of(wcs), _DRIZZLED_NAXIS)
    light = grid.blank()
    paint_sky(light, grid, Psf.of_width(0.36 / _DRIZZLED_SCALE), band="F606W")
    context = _drizzle_context(grid)
    seen = sum(((context >> bit) & 1 for bit in range(_DRIZZLED_EXPOSURES)), start=0 * context)
    weight = seen * (_DRIZZLED_EXPOSURE / _DRIZZLED_EXPOSURES)
    rate = light * 10 ** (0.4 * (_DRIZZLED_ZERO_POINT - _NJY_MAGNITUDE))
    good = weight > 0
    science = np.zeros_like(rate)
    noise = chance("drizzled").standard_normal(rate.shape)
    science[good] = rate[good] + noise[good] * np.sqrt((0.09 + rate[good]) / weight[good])
    common: list[Card] = [("INHERIT", True, "inherits the primary header"), *wcs]
    return fits_bytes(
        [
            empty_primary(_drizzled_cards()),
            plain_image(
                science.astype(np.float32), [("BUNIT", "ELECTRONS/S", ""), *common], name="SCI"
            ),
            plain_image(weight.astype(np.float32), [("BUNIT", "S", ""), *common], name="WHT"),
            plain_image(context.astype(np.int32), common, name="CTX"),
        ]
    )


def _drizzle_context(grid: Grid) -> NDArray[np.int64]:
    """A bit for each exposure that has seen the pixel."""
    width, height = grid.naxis
    rows, columns = np.indices((height, width))
    context = np.zeros((height, width), np.int64)
    for exposure in range(_DRIZZLED_EXPOSURES):
        shift_x, shift_y = 9.0 * (exposure % 2) - 4.5, 11.0 * (exposure // 2) - 5.5
        tilt = 0.05
        u = (columns - width / 2 - shift_x) + tilt * (rows - height / 2)
        v = (rows - height / 2 - shift_y) - tilt * (columns - width / 2)
        inside = (abs(u) < 0.46 * width) & (abs(v) < 0.45 * height)
        context |= np.where(inside, 1 << exposure, 0)
    return context


def _drizzled_cards() -> list[Card]:
    return [
        ("DATE", WRITTEN, "when this file was written"),
        ("NEXTEND", 3, "number of extensions"),
        ("FILENAME", "lc4201010_drz.fits", "name of the file"),
        ("FILETYPE", "SCI", "type of data"),
        ("TELESCOP", "LAPUTA", "an invented space telescope"),
        ("INSTRUME", "LWC", "an invented camera"),
        ("DETECTOR", "UVIS", "detector in use"),
        ("ROOTNAME", "lc4201010", "root of the observation's name"),
        ("OBSID", "lc4201010", "observation identifier"),
        ("TARGNAME", "Cuttlefish Field", "name of the target"),
        ("RA_TARG", CENTRE[0], "[deg] of the target"),
        ("DEC_TARG", CENTRE[1], "[deg] of the target"),
        ("DATE-OBS", "2011-07-17", "UT date of the first exposure"),
        ("TIME-OBS", "06:43:12", "UT time of the first exposure"),
        ("EXPSTART", 55_759.28, "[d] start of the first exposure, MJD"),
        ("EXPEND", 55_759.34, "[d] end of the last exposure, MJD"),
        ("EXPTIME", _DRIZZLED_EXPOSURE, "[s] total exposure"),
        ("FILTER", "F606W", "filter"),
        ("PHOTPLAM", 5_887.7, "[Angstrom] pivot wavelength"),
        ("PHOTABZP", _DRIZZLED_ZERO_POINT, "[mag] of one electron a second, AB"),
        ("NDRIZIM", _DRIZZLED_EXPOSURES, "exposures in the product"),
        *((f"D{n:03d}DATA", f"lc4201a{n}q_flt.fits[sci,1]", "") for n in range(1, 5)),
        *((f"D{n:03d}PIXF", 0.8, "size of the drop") for n in range(1, 5)),
    ]


# --- A radio array: a spectral cube in four Stokes parameters ---------------------------------

_CUBE_NAXIS = (72, 64)
_CUBE_SCALE = 5.0  # arcsec
_CUBE_BEAM = 15.0  # arcsec, FWHM
_CUBE_CHANNELS = 36
_CUBE_STEP = 4.0e5  # Hz
_CUBE_FIRST = 1.3962e9  # Hz
_CUBE_NOISE = 4.0e-4  # Jy/beam


def radio() -> Iterator[Product]:
    """RA, DEC, FREQ, STOKES with a line of the host galaxy."""
    yield Product("radio/cuttlefish_hi.fits", _radio_file)


def _radio_file() -> bytes:
    celestial: list[Card] = [
        ("CTYPE1", "RA---SIN", ""),
        ("CRVAL1", 53.118, ""),
        ("CDELT1", -_CUBE_SCALE / 3600, ""),
        ("CRPIX1", 37.0, ""),
        ("CUNIT1", "deg", ""),
        ("CTYPE2", "DEC--SIN", ""),
        ("CRVAL2", -27.7335, ""),
        ("CDELT2", _CUBE_SCALE / 3600, ""),
        ("CRPIX2", 33.0, ""),
        ("CUNIT2", "deg", ""),
        ("RADESYS", "FK5", ""),
        ("EQUINOX", 2000.0, ""),
        ("LONPOLE", 180.0, ""),
        ("LATPOLE", -27.7335, ""),
        ("PV2_1", 0.0, ""),
        ("PV2_2", 0.0, ""),
    ]
    grid = Grid(header_of(celestial), _CUBE_NAXIS)
    sources = truth()[truth()["radio_mjy"] > 0]
    cube = chance("radio").standard_normal((4, _CUBE_CHANNELS, *_CUBE_NAXIS[::-1]))
    cube *= _CUBE_NOISE
    frequency = _CUBE_FIRST + _CUBE_STEP * np.arange(_CUBE_CHANNELS, dtype=np.float64)
    beam = _CUBE_BEAM / _CUBE_SCALE / 2.3548
    x, y = grid.pixels(sources["ra"], sources["dec"])
    for at_x, at_y, source in zip(x, y, sources, strict=True):
        shape = grid.blank()
        # Jy/beam: the peak, not the sum, is the flux.
        unit = np.array([2 * np.pi * beam**2])
        paint_points(shape, np.array([at_x]), np.array([at_y]), unit, psf=Psf(((1.0, beam),)))
        cube += _stokes_spectrum(source, frequency)[:, :, None, None] * shape
    return fits_bytes([primary_image(cube.astype(np.float32), _radio_cards(celestial))])


def _stokes_spectrum(source: np.void, frequency: Floats) -> Floats:
    """Jy in I, Q, U, V at each frequency; the line is not polarized."""
    continuum = source["radio_mjy"] / 1e3 * (frequency / FREQUENCY) ** source["spectral_index"]
    line = np.zeros_like(frequency)
    if source["line_mjy"] > 0:
        sigma = source["line_fwhm"] / 2.3548
        offset = (frequency - source["line_frequency"]) / sigma
        line = source["line_mjy"] / 1e3 * np.exp(-0.5 * offset**2)
    polarized = continuum * source["pol_fraction"]
    angle = 2 * np.radians(source["pol_angle"])
    return np.stack(
        (continuum + line, polarized * np.cos(angle), polarized * np.sin(angle), 0 * continuum)
    )


def _radio_cards(celestial: Sequence[Card]) -> list[Card]:
    return [
        ("BMAJ", _CUBE_BEAM / 3600, "[deg] beam"),
        ("BMIN", _CUBE_BEAM / 3600, "[deg] beam"),
        ("BPA", 0.0, "[deg] beam"),
        ("BTYPE", "Intensity", ""),
        ("BUNIT", "Jy/beam", ""),
        ("OBJECT", "Cuttlefish Field", ""),
        ("WCSAXES", 4, ""),
        *celestial,
        ("CTYPE3", "FREQ", ""),
        ("CRVAL3", _CUBE_FIRST + _CUBE_STEP * 17, ""),
        ("CDELT3", _CUBE_STEP, ""),
        ("CRPIX3", 18.0, ""),
        ("CUNIT3", "Hz", ""),
        ("CTYPE4", "STOKES", ""),
        ("CRVAL4", 1.0, ""),
        ("CDELT4", 1.0, ""),
        ("CRPIX4", 1.0, ""),
        ("RESTFRQ", LINE_REST_FREQUENCY, "[Hz] 21 cm line of hydrogen"),
        ("SPECSYS", "BARYCENT", "spectral reference frame"),
        ("TELESCOP", "Brobdingnag Array", "an invented array"),
        ("INSTRUME", "L-band", "an invented receiver"),
        ("OBSERVER", "L. Gulliver", ""),
        ("OBSID", "bro-0042", "observation identifier"),
        ("DATE-OBS", "2019-03-04T10:21:07.0", "start (UTC)"),
        ("TIMESYS", "UTC", ""),
        ("EXPTIME", 21_600.0, "[s] on source"),
        ("ORIGIN", "Brobdingnag", "an invented place"),
        ("DATE", WRITTEN, "when this file was written"),
        ("HISTORY", "imaged without an interferometer", ""),
    ]


INSTRUMENTS: tuple[Callable[[], Iterator[Product]], ...] = (
    visits, templates, differences, coadds, stacks, infrared, drizzled, radio,
)  # fmt: skip
"""Whose files make the archive."""
