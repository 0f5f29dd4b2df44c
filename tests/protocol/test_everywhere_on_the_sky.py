"""Searches and cutouts where the sky is awkward: RA 0, poles, all-sky maps, other frames.

A service of its own over a folder of the zoo, ingested and served by the command line. Where
each pixel is on the sky is astropy's opinion, of the file alone.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import httpx2
import numpy as np
import pytest
from astropy.io import fits
from support.command import run_command, served
from support.images import file_name, write_family
from support.pieces import pieces, sky_of, within_circle
from support.programs import require_program
from support.tables import rows_of
from support.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from astropy.coordinates import SkyCoord

FAMILIES = (
    "tan", "ra_wrap", "ra_wrap_below", "pole_tan", "pole_zea", "pole_south_zea",
    "pole_arc_hemisphere", "whole_zea", "tan_huge", "sin_limb", "car_all_sky", "car_strip",
    "ait_all_sky", "mol_all_sky", "hpx_all_sky", "galactic", "fk4", "swapped_axes", "one_pixel",
    "one_row", "tan_sip", "tpv", "zpn", "cube_spectral_first",
)  # fmt: skip
PLANE = "cube_spectral_first"
STORED = (
    "mef", "mef_two_chips", "unsigned_16", "unsigned_64", "scaled", "blank", "signed_8",
    "nan_payloads_f4", "compressed_rice_1_i2", "compressed_hcompress_1_i4", "compressed_plio_1",
    "compressed_gzip_2_f4_lossless", "gzipped_mef", "lookup_distortion", "cube_time_utc",
    "cube_stokes_and_frequency", "degenerate_axes", "much_metadata", "alternates", "ltv",
)  # fmt: skip


@pytest.fixture(scope="module", name="zoo")
def _zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    folder = tmp_path_factory.mktemp("zoo")
    (folder / "zoo").mkdir()
    for family in {*FAMILIES, *STORED}:
        write_family(family, folder / "zoo")
    done = run_command("ingest", "zoo", folder=folder)
    assert done.returncode == 0, done.stderr
    with (
        served("serve", folder=folder) as server,
        httpx2.Client(timeout=60, trust_env=False) as client,
    ):
        yield Wire(base=server.base, folder=folder, client=client)


def did(family: str) -> str:
    """The identifier of a family's file."""
    return f"ivo://demo.invalid/zoo?{file_name(family)}"


def path_of(zoo: Wire, family: str) -> Path:
    """Where it lies."""
    return zoo.folder / "zoo" / file_name(family)


def sky(zoo: Wire, family: str) -> SkyCoord:
    """Where its pixels are, ICRS; NaN where they are nowhere."""
    return sky_of(fits.getheader(path_of(zoo, family), 0))


def some_of(coordinates: SkyCoord) -> list[tuple[float, float]]:
    """Corners, edges and a few pixels within, as far as they are on the sky."""
    height, width = coordinates.shape
    rows = sorted({0, height // 3, height - 2, height - 1} & {*range(height)})
    columns = sorted({0, width // 2, width - 1})
    places = [coordinates[row, column] for row in rows for column in columns]
    return [(float(one.ra.deg), float(one.dec.deg)) for one in places if np.isfinite(one.ra.deg)]


@pytest.mark.parametrize("family", FAMILIES)
def test_sia_023_no_image_is_missed(zoo: Wire, family: str) -> None:
    """Whatever shape holds the centre of any pixel finds the image."""
    name = did(family)
    shapes = []
    for lon, lat in some_of(sky(zoo, family)):
        east = float(min(1e-5 / max(np.cos(np.radians(lat)), 1e-9), 90.0))
        south, north = max(lat - 1e-5, -90.0), min(lat + 1e-5, 90.0)
        west, end = (lon - east) % 360, (lon + east) % 360
        shapes += [f"CIRCLE {lon!r} {lat!r} 1e-6", f"RANGE {west!r} {end!r} {south!r} {north!r}"]
        if abs(lat) < 89:
            shapes.append(f"POLYGON {west!r} {south!r} {end!r} {south!r} {lon!r} {north!r}")
    assert shapes
    for shape in shapes:
        rows = rows_of(zoo.get("sia/query", POS=shape, ID=name).content)
        assert [row["obs_publisher_did"] for row in rows] == [name], shape


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "sin_limb"])
def test_sia_023_no_image_is_found_where_it_is_not(zoo: Wire, family: str) -> None:
    """Circles that end a few pixels beyond the image find it no more.

    Not where it ends at the limb of the sphere: the last pixel there is 20 degrees long.
    """
    coordinates = sky(zoo, family)
    seen = coordinates[np.isfinite(coordinates.ra.deg)]
    steps = np.concatenate([one[1:].separation(one[:-1]).deg.ravel()
                            for one in (coordinates, coordinates.T) if one.shape[0] > 1]
                           or [np.array([1e-3])])  # fmt: skip
    margin = 3 * float(np.nanmedian(steps)) + 1e-6
    golden = np.arange(300) * 0.618_033_988_749
    lons, lats = golden % 1 * 360, np.degrees(np.arcsin(np.linspace(-1, 1, 300)))
    circles = []
    for lon, lat in zip(lons.tolist(), lats.tolist(), strict=True):
        apart = within(seen, lon, lat)
        if apart > margin:
            circles.append(f"CIRCLE {lon} {lat} {min(apart - margin, 170.0) * 0.5}")
    rows = rows_of(zoo.post("sia/query", POS=circles or "CIRCLE 0 0 1", ID=did(family)).content)
    assert (rows == []) == bool(circles)


def within(seen: SkyCoord, lon: float, lat: float) -> float:
    """Degrees from a place to the nearest pixel centre."""
    lons, lats = np.radians(seen.ra.deg), np.radians(seen.dec.deg)
    here = np.radians([lon, lat])
    cosine = np.sin(lats) * np.sin(here[1]) + np.cos(lats) * np.cos(here[1]) * np.cos(
        lons - here[0]
    )
    return float(np.degrees(np.arccos(np.clip(cosine.max(), -1, 1))))


def test_sia_024_026_ranges_across_ra_0_and_caps(zoo: Wire) -> None:
    """Either way of writing a wrap, and the two poles."""

    def found(pos: str) -> set[str]:
        rows = rows_of(zoo.get("sia/query", POS=pos).content)
        return {row["obs_publisher_did"] for row in rows}

    wrap, below = did("ra_wrap"), did("ra_wrap_below")
    for pos in ("RANGE 359.9 0.1 -32 -30", "RANGE -0.1 0.1 -32 -30", "RANGE 359.9 360.1 -32 -30",
                "CIRCLE 0 -31 0.01", "CIRCLE 360 -31 0.01",
                "POLYGON 359.9 -31.1 0.1 -31.1 0 -30.9"):  # fmt: skip
        assert wrap in found(pos), pos
        assert below not in found(pos), pos
    for pos in ("RANGE 0.1 359.9 -32 -30", "RANGE 1 359 -Inf +Inf"):
        assert not {wrap, below} & found(pos)
    assert {wrap, below} <= found("RANGE 359.99 0.01 -Inf +Inf")
    for pos in ("RANGE 0 360 89 90", "RANGE -Inf +Inf 89.9 +Inf", "CIRCLE 0 90 0.0001",
                "CIRCLE 123 90 0", "RANGE 10 11 89 +Inf",
                "POLYGON 0 89 120 89 240 89"):  # fmt: skip
        assert {did("pole_tan"), did("pole_zea")} <= found(pos), pos
        assert did("pole_south_zea") not in found(pos)
    assert did("pole_south_zea") in found("CIRCLE 0 -90 0.001")


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "tpv"])
def test_soda_020_021_cutouts_everywhere(zoo: Wire, family: str) -> None:
    """A circle round pixels in the middle and at the edge: right box, pixels and positions."""
    coordinates = sky(zoo, family)
    height, width = coordinates.shape
    for row, column in ((height // 2, width // 2), (0, width // 3), (height - 1, width - 1)):
        here = coordinates[row, column]
        if not np.isfinite(here.ra.deg):
            continue
        scale = here.separation(coordinates[max(row - 1, 0), max(column - 1, 0)]).deg or 1e-4
        if not np.isfinite(scale):
            continue
        circle = (float(here.ra.deg), float(here.dec.deg), 2.7 * float(scale))
        answer = zoo.get("soda/sync", ID=did(family), CIRCLE=" ".join(map(repr, circle)))
        assert answer.status_code == 200
        (piece,) = pieces(answer.content, path_of(zoo, family))
        piece.assert_true()
        inside = within_circle(coordinates, *circle)
        assert inside[row, column]
        # All of the pixels inside, and not much more: strong distortions change the scale.
        piece.assert_best(inside, more=3)


def test_soda_051_beside_the_image_is_204(zoo: Wire) -> None:
    """Just beyond the edge across RA 0 and beyond the pole."""
    for family, circle in (("ra_wrap", "359.9 -31 0.05"), ("ra_wrap", "0.1 -31 0.05"),
                           ("pole_tan", "77 89.9 0.05"), ("pole_south_zea", "0 0 1"),
                           ("car_strip", "200 80 1")):  # fmt: skip
        assert zoo.get("soda/sync", ID=did(family), CIRCLE=circle).status_code == 204


@pytest.mark.parametrize("family", [name for name in STORED if name != "lookup_distortion"])
def test_stored_values_and_coordinates(zoo: Wire, family: str) -> None:
    """Scaling, unsigned integers, NaN payloads, every compression, many HDUs, more axes."""
    lon, lat = (150.13, 2.2) if family == "mef_two_chips" else (150.1, 2.2)
    answer = zoo.get("soda/sync", ID=did(family), CIRCLE=f"{lon} {lat} 0.0021")
    assert answer.status_code == 200
    found = pieces(answer.content, path_of(zoo, family))
    assert found
    for piece in found:
        if "CTYPE1" in piece.parent.header:
            piece.assert_true()
        for keyword in ("BSCALE", "BZERO", "BLANK", "BITPIX"):
            assert piece.image.header.get(keyword) == piece.parent.header.get(keyword)


def test_lookup_tables_move_with_the_image(zoo: Wire) -> None:
    """Distortion by tables in other HDUs, read by astropy out of the cutout itself."""
    answer = zoo.get("soda/sync", ID=did("lookup_distortion"), CIRCLE="150.1 2.2 0.0021")
    found = pieces(answer.content, path_of(zoo, "lookup_distortion"))
    (science,) = (piece for piece in found if piece.image.name == "SCI")
    with fits.open(path_of(zoo, "lookup_distortion")) as parent:
        science.assert_true(parent, fits.HDUList.fromstring(answer.content))


def test_time_axis(zoo: Wire) -> None:
    """TIME selects planes by MJD, to the edges of each."""
    header = fits.getheader(path_of(zoo, "cube_time_utc"))
    start = header["MJDREFI"] + header["MJDREFF"] + header["CRVAL3"]
    for plane in range(header["NAXIS3"]):
        middle = start + (plane + 1 - header["CRPIX3"]) * header["CDELT3"]
        for text in (
            f"{middle!r} {middle!r}",
            f"{middle!r}",
            f"{middle - 0.05!r} {middle + 0.05!r}",
        ):
            answer = zoo.get("soda/sync", ID=did("cube_time_utc"), TIME=text)
            (piece,) = pieces(answer.content, path_of(zoo, "cube_time_utc"))
            assert piece.box[0] == slice(plane, plane + 1)
            piece.assert_true()
    answer = zoo.get("soda/sync", ID=did("cube_time_utc"), TIME="-Inf +Inf")
    assert pieces(answer.content, path_of(zoo, "cube_time_utc"))[0].box[0] == slice(0, 7)
    assert zoo.get("soda/sync", ID=did("cube_time_utc"), TIME="1 2").status_code == 204


def test_fitsverify_complains_of_nothing_that_the_parent_lacks(zoo: Wire, tmp_path: Path) -> None:
    """Every family's cutout, with checksums and without."""
    program = require_program("fitsverify")
    complaints = {}
    for family in sorted({*FAMILIES, *STORED}):
        parent = path_of(zoo, family)
        complaints[family] = _complaints(program, parent)
        for checksum in ("0", "1"):
            answer = zoo.get(
                "soda/sync", ID=did(family), CIRCLE="150.1 2.2 179.9", CHECKSUM=checksum
            )
            assert answer.status_code == 200
            path = tmp_path / f"{family}-{checksum}.fits"
            path.write_bytes(answer.content)
            assert _complaints(program, path) <= complaints[family], family


def _complaints(program: str, path: Path) -> set[str]:
    """The texts of its errors and warnings, without the places."""
    done = subprocess.run([program, path], capture_output=True, text=True, check=False)
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    return {
        line.partition(":")[2].strip()
        for line in lines
        if line.startswith(("*** Error", "*** Warning"))
    }
