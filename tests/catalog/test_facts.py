"""ObsCore facts against what astropy says of the same files."""

from __future__ import annotations

import io
import warnings
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from hypothesis import given, settings as hypothesis_settings, strategies as st
from support.images import FAMILIES, SKY_FAMILIES, TABLE_WCS_FAMILIES, primary, ramp, sky_cards

from soda_service.catalog.dates import parse_clock, parse_date, parse_days, to_utc
from soda_service.catalog.facts import TEXT_LIMIT, clean_text
from soda_service.catalog.indexer import index, place_in
from soda_service.config import CollectionConfig, Settings, load_collections, resource_path
from soda_service.geometry.shapes import Circle
from soda_service.geometry.sphere import contains, intersects

if TYPE_CHECKING:
    from pathlib import Path

    from soda_service.catalog.dataset import Dataset

GENERAL = load_collections(resource_path("config/collections.toml")).named("none at all")

_EPOCH = datetime(1858, 11, 17)  # noqa: DTZ001 - the dates of hypothesis are naive too

ASTROPY_AGREES = [
    "tan", "tan_sip", "tpv", "cd_rotated", "crota", "pc_rotated", "galactic", "fk5", "ra_wrap",
    "ra_wrap_below", "pole_tan", "pole_zea", "zpn", "swapped_axes", "arcsec_units",
    "compressed_rice_1_i2", "gzipped", "mef", "cube_frequency",
]  # fmt: skip


def indexed(tmp_path: Path, content: bytes, name: str = "x.fits", **config: object) -> Dataset:
    """The dataset in a file of this content; *config* goes before the shipped configuration."""
    path = tmp_path / name
    path.write_bytes(content)
    known = GENERAL.model_dump()
    merged = {
        key: {**known[key], **value} if isinstance(value, dict) else value
        for key, value in config.items()
    }
    place = place_in(
        Settings(),
        collection="c",
        root=str(tmp_path),
        config=CollectionConfig.model_validate({**known, **merged}),
    )
    return index(str(path), place)


def image(*cards: object) -> bytes:
    """A small image on the sky with more cards."""
    return primary(ramp(61, 47), [*sky_cards(), *cards])  # type: ignore[list-item] # of any kind


@pytest.mark.parametrize("name", ASTROPY_AGREES)
def test_place_on_the_sky_is_astropys(tmp_path: Path, name: str) -> None:
    suffix = ".fits.gz" if name == "gzipped" else ".fits"
    dataset = indexed(tmp_path, FAMILIES[name](), f"{name}{suffix}")
    with fits.open(dataset.url) as hdus, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hdu = next(one for one in hdus if one.header.get("NAXIS", 0) >= 2 and one.is_image)
        wcs = WCS(hdu.header).celestial
        width, height = (hdu.header[f"NAXIS{axis}"] for axis in sorted(_sky_axes(hdu.header)))
        x, y = np.meshgrid([-0.5, (width - 1) / 2, width - 0.5], [-0.5, height - 0.5])
        sky = wcs.pixel_to_world(x, y).icrs.ravel()
        middle = wcs.pixel_to_world((width - 1) / 2, (height - 1) / 2).icrs
    obscore = dataset.obscore
    assert (obscore.s_xel1, obscore.s_xel2) == (width, height)
    assert obscore.s_ra == pytest.approx(middle.ra.deg, abs=1e-8)
    assert obscore.s_dec == pytest.approx(middle.dec.deg, abs=1e-8)
    assert dataset.footprint is not None
    for point in sky:
        place = Circle(point.ra.deg, point.dec.deg, 1e-6)
        assert any(intersects(place, piece) for piece in dataset.footprint.polygons)
        assert intersects(place, dataset.footprint.cap)
    largest = max(middle.separation(sky).deg)
    assert obscore.s_fov == pytest.approx(2 * largest, rel=0.05)
    assert obscore.s_region is not None
    assert obscore.s_region.startswith("POLYGON ICRS ")


def _sky_axes(header: fits.Header) -> list[int]:
    kinds = ("RA", "DEC", "GLON", "GLAT")
    return [axis for axis in (1, 2, 3, 4) if str(header.get(f"CTYPE{axis}", "")).startswith(kinds)]


@pytest.mark.parametrize("name", SKY_FAMILIES)
def test_no_image_on_the_sky_goes_without_a_place(tmp_path: Path, name: str) -> None:
    dataset = indexed(tmp_path, FAMILIES[name]())
    obscore = dataset.obscore
    assert dataset.footprint is not None
    assert obscore.s_ra is not None
    assert obscore.s_dec is not None
    assert 0 <= obscore.s_ra < 360
    assert -90 <= obscore.s_dec <= 90
    assert obscore.s_fov is not None
    assert 0 < obscore.s_fov <= 360
    cap = dataset.footprint.cap
    middle = Circle(obscore.s_ra, obscore.s_dec, 1e-9)
    inside = any(intersects(middle, piece) for piece in dataset.footprint.polygons)
    assert inside or name == "mef_two_chips"  # whose middle is the gap
    for piece in dataset.footprint.polygons:
        lon, lat = np.radians(np.array(piece.vertices)).T
        corners = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
        assert contains(Circle(cap.lon, cap.lat, min(180.0, cap.radius + 1e-9)), corners).all()


def test_lookup_tables_are_used(tmp_path: Path) -> None:
    assert "lookup_distortion" in TABLE_WCS_FAMILIES
    assert indexed(tmp_path, FAMILIES["lookup_distortion"]()).footprint is not None


def test_images_of_one_grid_are_one_polygon(tmp_path: Path) -> None:
    """However they are called: both are of science, and cover the same."""
    content = FAMILIES["tan"]()
    with fits.open(io.BytesIO(content)) as hdus:
        image = hdus[0]
        twins = [
            fits.ImageHDU(image.data, image.header, name="SCI", ver=version) for version in (1, 2)
        ]
        twice = fits.HDUList([fits.PrimaryHDU(), *twins])
        made = io.BytesIO()
        twice.writeto(made)
    one = indexed(tmp_path, content).obscore.s_region
    assert one is not None
    assert one.startswith("POLYGON ")
    assert indexed(tmp_path, made.getvalue()).obscore.s_region == one


def test_chips_are_one_region(tmp_path: Path) -> None:
    dataset = indexed(tmp_path, FAMILIES["mef_two_chips"]())
    assert dataset.obscore.s_region is not None
    assert dataset.obscore.s_region.startswith("UNION ICRS (POLYGON ICRS ")
    assert dataset.obscore.s_region.endswith(")")
    assert dataset.footprint is not None
    single = [hdu.layout.naxis for hdu in dataset.hdus if hdu.role == "science"]
    assert len(single) > 1
    assert dataset.obscore.s_xel1 is not None
    assert dataset.obscore.s_xel2 is not None
    # Chips that do not overlap need a picture of more pixels than both have.
    assert dataset.obscore.s_xel1 * dataset.obscore.s_xel2 >= 0.95 * sum(
        width * height for width, height in single
    )


def test_an_image_without_coordinates_is_a_dataset(tmp_path: Path) -> None:
    dataset = indexed(tmp_path, FAMILIES["no_wcs"]())
    assert dataset.footprint is None
    assert (dataset.obscore.s_ra, dataset.obscore.s_region) == (None, None)
    assert dataset.obscore.dataproduct_type == "image"


@pytest.mark.parametrize(
    ("cards", "column", "value"),
    [
        ([("MJD-OBS", 55555.25)], "t_min", 55555.25),
        ([("MJD-OBS", "55555.25")], "t_min", 55555.25),
        ([("MJD-OBS", 2455555.75)], "t_min", 55555.25),
        ([("DATE-OBS", "2010-12-25T06:00:00")], "t_min", 55555.25),
        ([("DATE-OBS", "2010-12-25"), ("TIME-OBS", "06:00:00.0")], "t_min", 55555.25),
        (
            [("DATE-OBS", "2010-12-25"), ("TAIHMS", "06:00:34.00"), ("TIMESYS", "TAI")],
            "t_min",
            55555.25,
        ),
        ([("DATE-OBS", "25/12/99")], "t_min", 51537.0),
        ([("DATE-OBS", "yesterday"), ("DATE_OBS", "2010-12-25T06:00:00")], "t_min", 55555.25),
        ([("DATE-BEG", "2010-12-25T06:00:34"), ("TIMESYS", "TAI")], "t_min", 55555.25),
        ([("MJD-OBS", 55555.0), ("EXPTIME", 8640.0)], "t_max", 55555.1),
        ([("MJD-OBS", 55555.0), ("MJD-END", 55554.0), ("EXPTIME", 8640.0)], "t_max", 55555.1),
        ([("MJD-END", 55555.1), ("EXPTIME", 8640.0)], "t_min", 55555.0),
        ([("EXPTIME", -1.0)], "t_exptime", None),
        ([("EXPTIME", "12.5")], "t_exptime", 12.5),
        ([("EXPTIME", "1_0")], "t_exptime", None),
        ([("EXPTIME", True)], "t_exptime", None),
        ([("OBJECT", "  M  31 ")], "target_name", "M 31"),
        ([("OBJECT", "   "), ("TARGNAME", "M 33")], "target_name", "M 33"),
        ([("FILTER", "r")], "em_min", 5.510e-7),
        ([("FILTER", "r")], "lsst_band", "r"),
        ([("FILTER1", "CLEAR1L"), ("FILTER2", "F814W")], "lsst_band", "F814W"),
        ([("FILTER", "g DECam SDSS c0001 4720.0 1520.0")], "em_max", 5.480e-7),
        ([("FILTER", "g DECam SDSS c0001 4720.0 1520.0")], "lsst_band", "g"),
        ([("FILTER", "KS")], "em_min", 2.028e-6),
        ([("FILTER", "unheard of")], "lsst_band", "unheard of"),
        ([("FILTER", "unheard of")], "em_min", None),
        ([("FILTER", 7)], "lsst_band", None),
        ([("OBSID", 1234)], "obs_id", "1234"),
        ([("BMAJ", 0.01)], "s_resolution", 36.0),
    ],
)
def test_keywords_become_columns(
    tmp_path: Path, cards: list[object], column: str, value: object
) -> None:
    found = getattr(indexed(tmp_path, image(*cards)).obscore, column)
    if isinstance(value, float):
        assert found == pytest.approx(value, abs=1e-9 if value > 1 else 1e-12)
    else:
        assert found == value


def test_constants_win_and_defaults_come_last(tmp_path: Path) -> None:
    dataset = indexed(
        tmp_path,
        image(("OBJECT", "M 31"), ("FILTER", "g")),
        "some file.fits.gz",
        constants={"target_name": "M 33", "calib_level": 3, "o_ucd": "phot.count", "s_ra": 1.5},
    )
    obscore = dataset.obscore
    assert (obscore.target_name, obscore.calib_level, obscore.o_ucd) == ("M 33", 3, "phot.count")
    assert obscore.s_ra == 1.5
    assert obscore.obs_id == "some file"
    assert obscore.obs_collection == "c"
    assert obscore.access_estsize == -(-len(image(("OBJECT", "M 31"), ("FILTER", "g"))) // 1000)
    plain = indexed(tmp_path, image()).obscore
    assert (plain.calib_level, plain.o_ucd) == (2, "phot.flux.density")
    assert (plain.dataproduct_type, plain.pol_states, plain.em_min) == ("image", None, None)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("cube_frequency", "cube"), ("degenerate_axes", "image"), ("plain_third_axis", "cube"),
     ("cube_spectral_first", "cube"), ("tan", "image"), ("mef", "image")],
)  # fmt: skip
def test_product_types(tmp_path: Path, name: str, kind: str) -> None:
    assert indexed(tmp_path, FAMILIES[name]()).obscore.dataproduct_type == kind


def test_axes_of_a_radio_cube(tmp_path: Path) -> None:
    dataset = indexed(tmp_path, FAMILIES["cube_stokes_and_frequency"]())
    header = dataset.hdus[0].layout.header
    axis = next(number for number in (3, 4) if str(header[f"CTYPE{number}"]) == "FREQ")
    count = dataset.hdus[0].layout.naxis[axis - 1]
    pixels = np.array([0.5, count + 0.5]) - float(header[f"CRPIX{axis}"])  # type: ignore[arg-type] # it is a number
    frequency = float(header[f"CRVAL{axis}"]) + pixels * float(header[f"CDELT{axis}"])  # type: ignore[arg-type] # it is a number
    edges = sorted(299_792_458.0 / frequency)
    obscore = dataset.obscore
    assert (obscore.em_min, obscore.em_max) == pytest.approx(tuple(edges), rel=1e-4)
    assert obscore.em_xel == count
    assert obscore.pol_states is not None
    states = obscore.pol_states.strip("/").split("/")
    assert obscore.pol_states == f"/{'/'.join(states)}/"
    assert obscore.pol_xel == len(states)


@pytest.mark.parametrize("name", ["cube_time", "cube_time_log", "tab_time", "tab_time_indexed"])
def test_time_axis(tmp_path: Path, name: str) -> None:
    obscore = indexed(tmp_path, FAMILIES[name]()).obscore
    assert obscore.t_min is not None
    assert obscore.t_max is not None
    assert obscore.t_min < obscore.t_max
    assert obscore.t_xel is not None


@pytest.mark.parametrize("scale", ["utc", "tai", "tt", "tdb"])
def test_time_scales_are_astropys(scale: str) -> None:
    days = [41320.0, 45000.25, 50630.9999, 57754.01, 60000.5]
    for mjd in days:
        expected = Time(mjd, format="mjd", scale=scale).utc.mjd
        assert to_utc(mjd, scale.upper()) == pytest.approx(expected, abs=3e-8)
    assert to_utc(60000.0, "LOCAL") == 60000.0


@given(st.datetimes())
def test_iso_dates_are_read(moment: datetime) -> None:
    expected = (moment - _EPOCH) / timedelta(days=1)
    assert parse_date(moment.isoformat()) == pytest.approx(expected, abs=1e-9)


@given(st.text(max_size=40))
def test_other_text_is_no_date(text: str) -> None:
    for parse in (parse_date, parse_clock):
        found = parse(text)
        assert found is None or isinstance(found, float)
    assert parse_days(float("nan")) is None
    assert parse_days(1e300) is None


@given(st.text(max_size=500))
@hypothesis_settings(max_examples=200)
def test_clean_text_is_clean(text: str) -> None:
    cleaned = clean_text(text)
    assert len(cleaned) <= TEXT_LIMIT
    assert cleaned == cleaned.strip()
    assert cleaned.isprintable()
    assert clean_text(cleaned) == cleaned
    cleaned.encode()


def test_hostile_strings_are_tamed(tmp_path: Path) -> None:
    content = image(("OBJECT", "EVIL"), ("INSTRUME", "X" * 60)).replace(b"EVIL", b"\x1b[\x00\x07")
    obscore = indexed(tmp_path, content).obscore
    assert obscore.target_name == "["
    assert obscore.instrument_name == "X" * 60


def test_roles(tmp_path: Path) -> None:
    dataset = indexed(tmp_path, FAMILIES["mef"]())
    roles = {hdu.layout.name: hdu.role for hdu in dataset.hdus if hdu.layout.is_image}
    assert roles["IMAGE" if "IMAGE" in roles else "SCI"] == "science"
    assert set(roles.values()) - {"science"}
    plain = indexed(tmp_path, FAMILIES["tan"]())
    assert [hdu.role for hdu in plain.hdus] == ["science"]
