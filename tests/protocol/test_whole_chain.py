"""From a search to pixels, by the documents alone, for every dataset of the demo.

No client library: what a document says is followed to the letter. The truth about the sky is
that of the archive's own code (`soda_service.demo.sky`).
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits
from support.command import run_command
from support.documents import elements, input_params, parse_xml, stated
from support.pieces import centroid, pieces, place
from support.programs import require_program
from support.tables import Row, rows_of
from support.truth import parent_file

from soda_service.demo.sky import TRANSIENT, truth

if TYPE_CHECKING:
    from pathlib import Path

    import httpx2
    from support.wire import Wire

SODA = "ivo://ivoa.net/std/SODA#sync-1.0"


@pytest.fixture(scope="module", name="images")
def _images(wire: Wire) -> list[Row]:
    """What has seen the transient."""
    rows = rows_of(wire.get("sia/query", POS=f"CIRCLE {TRANSIENT.ra} {TRANSIENT.dec} 0").content)
    assert {row["obs_collection"] for row in rows} == {
        "visits", "templates", "differences", "coadds", "stacks", "infrared", "drizzled", "radio",
    }  # fmt: skip
    return rows


def cut(wire: Wire, row: Row, lon: float, lat: float, radius: float) -> httpx2.Response:
    """The plain cutout of a row, by its links document and the descriptor in it."""
    links = wire.get(row["access_url"]).content
    (link,) = (one for one in rows_of(links) if one["semantics"] == "#cutout")
    (service,) = elements(parse_xml(links), f"/v:VOTABLE/v:RESOURCE[@ID='{link['service_def']}']")
    assert stated(service, "standardID") == [SODA]
    (url,) = stated(service, "accessURL")
    params = input_params(service)
    fixed = {name: text for name, param in params.items() if (text := param.get("value"))}
    assert "CIRCLE" in params
    return wire.get(url, **fixed, CIRCLE=f"{lon!r} {lat!r} {radius!r}")


def star_for(row: Row, folder: Path) -> tuple[float, float]:
    """Where a bright lonely star is that lies well inside an image, on good pixels."""
    sources = truth()
    if row["obs_collection"] == "radio":
        # The brightest thing in the cube's mean.
        host = sources[sources["line_mjy"] > 0][0]
        return float(host["ra"]), float(host["dec"])
    stars = sources[sources["kind"] == "standard"]
    with fits.open(parent_file(folder, row["obs_publisher_did"])) as hdus:
        image = next(hdu for hdu in hdus if hdu.is_image and hdu.header["NAXIS"])
        pixels = np.asarray(image.data, float)
        for star in stars[np.argsort(-stars["flux_r"])]:
            x, y = place(image.header, star["ra"], star["dec"])
            stamp = pixels[
                max(round(y) - 9, 0) : round(y) + 10, max(round(x) - 9, 0) : round(x) + 10
            ]
            if stamp.shape == (19, 19) and np.isfinite(stamp).all() and (stamp != 0).all():
                return float(star["ra"]), float(star["dec"])
    raise AssertionError(f"no star in {row['obs_publisher_did']}")


@pytest.mark.parametrize(
    "collection",
    ["visits", "templates", "coadds", "stacks", "infrared", "drizzled", "radio"],
)
def test_the_star_is_where_the_cutout_says(wire: Wire, images: list[Row], collection: str) -> None:
    """In every image of every instrument: its light falls where the cutout's own WCS puts it."""
    for row in images:
        if row["obs_collection"] != collection:
            continue
        lon, lat = star_for(row, wire.folder)
        scale = float(row["s_fov"]) / np.hypot(float(row["s_xel1"]), float(row["s_xel2"]))
        # Other sources of the cube are no further than seven pixels away.
        radius = (4 if collection == "radio" else 8) * float(scale)
        answer = cut(wire, row, lon, lat, radius)
        assert answer.status_code == 200
        with fits.HDUList.fromstring(answer.content) as hdus:
            image = next(hdu for hdu in hdus if hdu.is_image and hdu.header["NAXIS"])
            pixels = np.asarray(image.data, float)
            while pixels.ndim > 2:
                pixels = pixels[0] if len(pixels) == 4 else pixels.mean(axis=0)
            x, y = place(image.header, lon, lat)
            assert max(pixels.shape) < 30
            at_x, at_y = centroid(pixels)
            assert np.hypot(at_x - x, at_y - y) < 0.5, row["obs_publisher_did"]


def test_the_transient_rises_and_fades(wire: Wire, images: list[Row]) -> None:
    """In the cutouts of the difference images, as the light curve has it."""
    seen = 0
    for row in images:
        if row["obs_collection"] != "differences":
            continue
        answer = cut(wire, row, TRANSIENT.ra, TRANSIENT.dec, 0.004)
        with fits.HDUList.fromstring(answer.content) as hdus:
            x, y = place(hdus["IMAGE"].header, TRANSIENT.ra, TRANSIENT.dec)
            peak = np.nanmax(
                hdus["IMAGE"].data[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2]
            )
            noise = float(np.sqrt(np.nanmedian(hdus["VARIANCE"].data)) if "VARIANCE" in hdus
                          else 600.0)  # fmt: skip
        flux = TRANSIENT.flux(row["lsst_band"], float(row["t_min"]))
        # The middle pixel of a star 2.5 pixels wide holds about a tenth of its light.
        assert (peak > 6 * noise) == (flux * 0.1 > 6 * noise), (row["obs_id"], peak, flux)
        seen += flux > 0
    assert seen == 10


def test_every_dataset_is_cut_right(wire: Wire, images: list[Row]) -> None:
    """All of them: pixels to the bit, positions to 0.1 mas, for a circle at the transient."""
    for row in images:
        answer = cut(wire, row, TRANSIENT.ra, TRANSIENT.dec, 0.003)
        assert answer.status_code == 200, row["obs_publisher_did"]
        found = pieces(answer.content, parent_file(wire.folder, row["obs_publisher_did"]))
        assert found
        for piece in found:
            piece.assert_true()


def test_fitsverify_finds_no_fault_in_any_cutout(
    wire: Wire, images: list[Row], tmp_path: Path
) -> None:
    """Neither errors nor warnings: the parents have none. Every dataset, every kind of request."""
    program = require_program("fitsverify")
    place_of = f"{TRANSIENT.ra} {TRANSIENT.dec}"
    kinds: dict[str, dict[str, Any]] = {
        "circle": {"CIRCLE": f"{place_of} 0.003"},
        "checksums": {"CIRCLE": f"{place_of} 0.003", "CHECKSUM": "1"},
        "whole": {"CIRCLE": f"{place_of} 5", "CHECKSUM": "1"},
        "range": {"POS": "RANGE 53.1 53.13 -Inf -27.73"},
        "box": {"BOX": f"{place_of} 0.004 0.003"},
        "stamp": {"STAMP": f"{place_of} 12 9"},
        "padded": {"STAMP": f"{place_of} 3000 11", "EDGE": "pad", "FILL": ["BLANK", "0"],
                   "CHECKSUM": "1"},
        "masked": {"CIRCLE": f"{place_of} 0.003", "MASK": "1", "FILL": ["BLANK", "0"]},
        "section": {"PIXELS": "[3:40,-5:20]", "EDGE": "pad", "FILL": ["BLANK", "0"]},
    }  # fmt: skip
    names: list[str] = []
    first = {row["obs_collection"]: row for row in images}
    for row in images:
        its = kinds if row is first[row["obs_collection"]] else {"circle": kinds["circle"]}
        if row["dataproduct_type"] == "cube":
            its = {**its, "plane": {"BAND": "0.2136 0.2137", "POL": "Q", "CHECKSUM": "1"}}
        for kind, asked in its.items():
            answer = wire.get("soda/sync", ID=row["obs_publisher_did"], **asked)
            assert answer.status_code == 200
            names.append(f"{len(names):03}-{row['obs_collection']}-{kind}.fits")
            (tmp_path / names[-1]).write_bytes(answer.content)
    for detail in ("Image", "MaskedImage", "Exposure"):
        for kind, asked in {"cut": kinds["checksums"], "uncut": {}}.items():
            visit = first["visits"]["obs_publisher_did"]
            answer = wire.get("soda/sync", ID=visit, CUTOUTDETAIL=detail, **asked)
            names.append(f"{len(names):03}-{detail}-{kind}.fits")
            (tmp_path / names[-1]).write_bytes(answer.content)
    done = subprocess.run(
        [program, "-q", *names], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    said = [line.strip() for line in done.stdout.splitlines()]
    assert said == [f"verification OK: {name}" for name in names]


def test_a_cutout_can_be_cut_again(wire: Wire, images: list[Row], tmp_path: Path) -> None:
    """By the command line, out of a file that the service gave: the same pixels of the parent."""
    row = next(row for row in images if row["obs_collection"] == "visits")
    first = cut(wire, row, TRANSIENT.ra, TRANSIENT.dec, 0.02)
    (tmp_path / "first.fits").write_bytes(first.content)
    circle = f"{TRANSIENT.ra} {TRANSIENT.dec} 0.004"
    done = run_command(
        "cut", "first.fits", "--circle", circle, "-o", "second.fits", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    straight = wire.get(
        "soda/sync", ID=row["obs_publisher_did"], CIRCLE=circle, CUTOUTDETAIL="Image"
    ).content
    with (
        fits.open(tmp_path / "second.fits") as twice,
        fits.HDUList.fromstring(straight) as once,
    ):
        assert np.array_equal(twice["IMAGE"].data, once["IMAGE"].data, equal_nan=True)
        assert twice["IMAGE"].header["CRPIX1"] == once["IMAGE"].header["CRPIX1"]
        assert len(twice["IMAGE"].header["HISTORY"]) > len(once["IMAGE"].header["HISTORY"])


def test_the_command_line_makes_the_same_bytes(
    wire: Wire, images: list[Row], tmp_path: Path
) -> None:
    """One engine: `soda-service cut` of an identifier and /soda/sync agree to the byte."""
    environment = {
        "SODA_CATALOG": f"sqlite:///{wire.folder / 'catalog.sqlite'}",
        "SODA_DATA_DIR": str(wire.folder),
        "SODA_CACHE_DIR": str(tmp_path / "cache"),
    }
    circle = f"{TRANSIENT.ra} {TRANSIENT.dec} 0.003"
    for collection in ("visits", "infrared"):
        row = next(row for row in images if row["obs_collection"] == collection)
        name = row["obs_publisher_did"]
        done = run_command(
            "cut", name, "--circle", circle, "-o", "out.fits",
            folder=tmp_path, environment=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        answer = wire.get("soda/sync", ID=name, CIRCLE=circle)
        assert (tmp_path / "out.fits").read_bytes() == answer.content
