#!/usr/bin/env python
"""A transient in three images: the visit, its template, and their difference.

This is what a notebook about a supernova begins with. Given the service's address, it

1. asks SIA which images have seen the place (`pyvo.dal.SIA2Service`),
2. takes the visit nearest in time to the date you give, its template and its difference image,
3. follows the links of each to its cutout service, and gets a small piece around the place,
4. resamples the visit onto the template's pixels (`reproject`), so that they can be compared
   pixel by pixel, and
5. measures how bright the place is in each.

    python docs/rubin_triplet.py --url http://127.0.0.1:8080 [--plot triplet.png]

It needs pyvo and reproject (`pip install '.[notebook]'`), and matplotlib for --plot. Nothing but
the service itself is asked over the network.
"""

from __future__ import annotations

import argparse
import io
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_area, proj_plane_pixel_scales
from pyvo.dal import DALServiceError, SIA2Service
from pyvo.dal.adhoc import SodaQuery
from reproject import reproject_interp

# The demo archive's transient. Its brightness peaks at MJD 60620.
PLACE = SkyCoord(53.124, -27.74, unit="deg", frame="icrs")
NEAR_THE_PEAK = 60_623.0

# The light of a star is spread over some 3 arcsec by the air of the demo's invented mountain.
APERTURE = 6.0 * u.arcsec


@dataclass
class Stamp:
    """A cutout: pixels in nJy, their variance, and where they lie on the sky."""

    name: str
    image: np.ndarray
    variance: np.ndarray
    wcs: WCS


def main() -> int:
    """Do the five steps and print a table."""
    options = command_line().parse_args()
    place = SkyCoord(options.ra, options.dec, unit="deg", frame="icrs")

    try:
        found = images_of(place, options.url)
    except (DALServiceError, OSError):
        sys.exit(f"no image service answers at {options.url}; `make demo` starts one")
    visit = nearest_visit(found, options.band, options.mjd)
    template = one_of(found, "lsst.template_coadd", lsst_band=options.band)
    difference = one_of(found, "lsst.difference_image", obs_id=visit["obs_id"])

    radius = options.radius * u.deg
    stamps = [
        cut_out(visit, "visit", place, radius),
        cut_out(template, "template", place, radius),
        cut_out(difference, "difference", place, radius),
    ]
    stamps.insert(1, onto_grid(stamps[0], stamps[1], "visit, resampled"))

    print(f"Visit {visit['obs_id']} in {options.band}, begun at MJD {visit['t_min']:.5f}")
    print(f"Place {place.ra.deg:.6f} {place.dec.deg:+.6f}, aperture {APERTURE}")
    print()
    print(f"{'image':<18} {'pixels':>9} {'x':>8} {'y':>8} {'flux [nJy]':>12} {'error':>9}")
    for stamp in stamps:
        x, y = stamp.wcs.world_to_pixel(place)
        flux, error = brightness(stamp, place)
        size = "x".join(str(length) for length in reversed(stamp.image.shape))
        print(f"{stamp.name:<18} {size:>9} {x:8.2f} {y:8.2f} {flux:12.0f} {error:9.0f}")
    resampled, reference = brightness(stamps[1], place)[0], brightness(stamps[2], place)[0]
    print(f"{'resampled visit - template':<46} {resampled - reference:12.0f}")

    if options.plot:
        plot(stamps, place, options.plot)
    return 0


def command_line() -> argparse.ArgumentParser:
    """What may be said on the command line."""
    parser = argparse.ArgumentParser(description="A transient in visit, template and difference.")
    parser.add_argument("--url", required=True, help="of the service, http://127.0.0.1:8080 say")
    parser.add_argument("--ra", type=float, default=PLACE.ra.deg, help="ICRS, degrees")
    parser.add_argument("--dec", type=float, default=PLACE.dec.deg, help="ICRS, degrees")
    parser.add_argument("--radius", type=float, default=0.01, help="of the cutouts, degrees")
    parser.add_argument("--band", default="r", help="g or r in the demo")
    parser.add_argument("--mjd", type=float, default=NEAR_THE_PEAK, help="take the nearest visit")
    parser.add_argument("--plot", metavar="FILE", help="draw the images into this file")
    return parser


def images_of(place: SkyCoord, url: str) -> list[Any]:
    """Every image of the survey that has seen *place*, one SIA record each."""
    service = SIA2Service(f"{url.rstrip('/')}/sia")
    return list(service.search(pos=(place, 1 * u.arcsec), maxrec=10_000))


def nearest_visit(records: list[Any], band: str, mjd: float) -> Any:
    """The visit in *band* that began nearest to *mjd*."""
    visits = [
        record
        for record in records
        if record["dataproduct_subtype"] == "lsst.visit_image" and record["lsst_band"] == band
    ]
    if not visits:
        sys.exit(f"no visit in {band} has seen this place")
    return min(visits, key=lambda record: abs(record["t_min"] - mjd))


def one_of(records: list[Any], subtype: str, **values: str) -> Any:
    """The first record of that subtype whose columns have these *values*."""
    for record in records:
        right = all(str(record[column]) == str(value) for column, value in values.items())
        if record["dataproduct_subtype"] == subtype and right:
            return record
    return sys.exit(f"no {subtype} has seen this place")


def cut_out(record: Any, name: str, place: SkyCoord, radius: u.Quantity) -> Stamp:
    """A piece of the image of *record* around *place*, by the service that its links name."""
    links = record.getdatalink()
    # The links name one service for each way to cut: the image alone, the image with its mask
    # and variance, or everything in the file. The middle one is what a measurement needs.
    service = links.get_adhocservice_by_id("cutout-sync-maskedimage")
    query = SodaQuery.from_resource(links, service)
    query.circle = (place.ra, place.dec, radius)
    content = query.execute_stream().read()
    if not content:  # 204: the circle lies beside the image
        sys.exit(f"the {name} has no pixel there")
    with fits.open(io.BytesIO(content)) as hdus:
        image = hdus["IMAGE"].data.astype(float)
        variance = hdus["VARIANCE"].data.astype(float)
        return Stamp(name, image, variance, WCS(hdus["IMAGE"].header))


def onto_grid(stamp: Stamp, reference: Stamp, name: str) -> Stamp:
    """*stamp* resampled onto the pixels of *reference*."""
    shape = reference.image.shape
    image, _ = reproject_interp((stamp.image, stamp.wcs), reference.wcs, shape_out=shape)
    variance, _ = reproject_interp((stamp.variance, stamp.wcs), reference.wcs, shape_out=shape)
    # Interpolation keeps the light of a square arcsecond; a pixel's is that times its area.
    ratio = proj_plane_pixel_area(reference.wcs) / proj_plane_pixel_area(stamp.wcs)
    return Stamp(name, image * ratio, variance * ratio**2, reference.wcs)


def brightness(stamp: Stamp, place: SkyCoord) -> tuple[float, float]:
    """Light within the aperture around *place*, and its error, nJy."""
    x, y = stamp.wcs.world_to_pixel(place)
    rows, columns = np.indices(stamp.image.shape)
    scale = proj_plane_pixel_scales(stamp.wcs)[0] * u.deg
    radius = (APERTURE / scale).to_value(u.one)
    near = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
    return float(np.nansum(stamp.image[near])), float(np.sqrt(np.nansum(stamp.variance[near])))


def plot(stamps: list[Stamp], place: SkyCoord, file: str) -> None:
    """Draw the stamps side by side, each on its own sky."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        sys.exit("--plot needs matplotlib")
    figure = Figure(figsize=(4 * len(stamps), 4), layout="constrained")
    for number, stamp in enumerate(stamps, 1):
        axes = figure.add_subplot(1, len(stamps), number, projection=stamp.wcs)
        low, high = np.nanpercentile(stamp.image, (5, 99.5))
        axes.imshow(stamp.image, origin="lower", cmap="gray_r", vmin=low, vmax=high)
        axes.plot(place.ra.deg, place.dec.deg, "o", transform=axes.get_transform("icrs"),
                  markersize=18, markerfacecolor="none", markeredgecolor="tab:red")  # fmt: skip
        axes.set_title(stamp.name)
    figure.savefig(file, dpi=100)


if __name__ == "__main__":
    sys.exit(main())
