"""pyvo, unmodified, from the search for images to pixels that are right."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import pyvo
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from pyvo.dal.adhoc import SodaQuery
from support.truth import parent_file

if TYPE_CHECKING:
    from support.demo import DemoService

RA, DEC = 53.124, -27.74
RADIUS = 0.01

pytestmark = pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")


@pytest.fixture(name="images")
def _images(demo: DemoService) -> Any:
    return pyvo.dal.SIA2Service(demo.base + "sia").search(pos=(RA, DEC, RADIUS))


@pytest.fixture(name="visit_links")
def _visit_links(images: Any) -> Any:
    visit = next(row for row in images if row["dataproduct_subtype"] == "lsst.visit_image")
    return visit.getdatalink()


def test_a_search_finds_every_instrument(images: Any) -> None:
    """The field's centre is in every collection of the demo."""
    found = {row["obs_collection"] for row in images}
    assert len(found) >= 7
    assert all(row.access_format == "application/x-votable+xml;content=datalink" for row in images)


def test_typed_attributes_of_a_record(images: Any) -> None:
    """Every ObsCore column can be read through pyvo's typed attributes."""
    for row in images:
        assert abs(row.s_dec.to_value(u.deg) - DEC) < 1
        assert row.access_estsize.to_value(u.kbyte) > 0
        assert row.t_min is None or row.t_min <= row.t_max


def test_search_by_every_argument(demo: DemoService) -> None:
    """The visits of one night in one band, by level, subtype, instrument and epoch."""
    service = pyvo.dal.SIA2Service(demo.base + "sia")
    one = service.search(pos=(RA, DEC, RADIUS), calib_level=2)[0]
    again = service.search(
        pos=(RA, DEC, RADIUS * u.deg),
        band=(one.em_min, one.em_max),
        time=(one.t_min, one.t_max),
        calib_level=one.calib_level,
        collection=one.obs_collection,
        facility=one.facility_name,
        instrument=one.instrument_name,
        data_type="image",
        publisher_did=one.obs_publisher_did,
        dpsubtype="lsst.visit_image",
        maxrec=5,
    )
    assert [row.obs_publisher_did for row in again] == [one.obs_publisher_did]


def test_links_of_all_images_in_one_request(images: Any) -> None:
    """iter_datalinks posts all IDs; each answer has #this and one #cutout."""
    count = 0
    for links in images.iter_datalinks():
        semantics = [row.semantics for row in links]  # pyvo sorts them
        assert semantics.count("#this") == 1
        assert semantics.count("#cutout") == 1
        count += 1
    assert count == len(images)


@pytest.mark.parametrize("post", [False, True], ids=["GET", "POST"])
def test_a_circle_gives_the_pixels_of_the_parent(
    demo: DemoService, visit_links: Any, *, post: bool
) -> None:
    """SodaQuery with a circle: the box, to the bit, at the same place on the sky."""
    query = SodaQuery.from_resource(visit_links, visit_links.get_adhocservice_by_id("cutout-sync"))
    query.circle = (RA, DEC, RADIUS)
    with fits.open(io.BytesIO(query.execute_stream(post=post).read())) as cutout:
        assert [hdu.name for hdu in cutout] == ["PRIMARY", "IMAGE"]
        _assert_same_pixels_and_sky(demo, visit_links, cutout)


def test_a_polygon_and_a_range(demo: DemoService, visit_links: Any) -> None:
    """The other two shapes, through pyvo's setters."""
    half = 0.005
    corners = (RA - half, DEC - half, RA + half, DEC - half, RA + half, DEC + half)
    service = visit_links.get_adhocservice_by_id("cutout-sync")
    polygon = SodaQuery.from_resource(visit_links, service)
    polygon.polygon = corners
    around = SodaQuery.from_resource(visit_links, service)
    around.range = (RA - half, RA + half, DEC - half, DEC + half)
    for query in (polygon, around):
        with fits.open(io.BytesIO(query.execute_stream().read())) as cutout:
            _assert_same_pixels_and_sky(demo, visit_links, cutout)


def test_details_of_a_visit(demo: DemoService, visit_links: Any) -> None:
    """MaskedImage has three planes of one box; Exposure has the tables, whole."""
    parent = fits.open(parent_file(demo.folder, visit_links["ID"][0]))
    names = {}
    for detail in ("cutout-sync-maskedimage", "cutout-sync-exposure"):
        query = SodaQuery.from_resource(visit_links, visit_links.get_adhocservice_by_id(detail))
        query.circle = (RA, DEC, RADIUS)
        with fits.open(io.BytesIO(query.execute_stream().read())) as cutout:
            names[detail] = [hdu.name for hdu in cutout]
            shapes = {cutout[name].shape for name in ("IMAGE", "MASK", "VARIANCE")}
            assert len(shapes) == 1
            _assert_same_pixels_and_sky(demo, visit_links, cutout)
            for table in (hdu for hdu in cutout if isinstance(hdu, fits.BinTableHDU)):
                assert np.array_equal(table.data, parent[table.name].data)
                assert table.header.tostring() == parent[table.name].header.tostring()
    assert names["cutout-sync-maskedimage"] == ["PRIMARY", "IMAGE", "MASK", "VARIANCE"]
    assert names["cutout-sync-exposure"] == [hdu.name for hdu in parent]
    parent.close()


def test_a_radio_cube_by_band_and_polarization(demo: DemoService, images: Any) -> None:
    """BAND in metres and POL cut the planes of a frequency and a Stokes axis."""
    cube = next(row for row in images if row["dataproduct_type"] == "cube")
    links = cube.getdatalink()
    query = SodaQuery.from_resource(links, links.get_adhocservice_by_id("cutout-sync"))
    query.circle = (RA, DEC, RADIUS)
    lower, upper = cube.em_min.to_value(u.m), cube.em_max.to_value(u.m)
    third = (upper - lower) / 3
    query.band = (lower + third, upper - third) * u.m
    query.pol.add("I")
    with fits.open(io.BytesIO(query.execute_stream().read())) as cutout:
        whole = fits.getheader(parent_file(demo.folder, cube.obs_publisher_did))
        header = cutout[0].header
        axes = {header[f"CTYPE{axis}"].strip(): header[f"NAXIS{axis}"] for axis in (3, 4)}
        assert axes["STOKES"] == 1
        assert 0 < axes["FREQ"] < max(whole["NAXIS3"], whole["NAXIS4"]) / 2
        _assert_same_pixels_and_sky(demo, links, cutout)


def test_a_stamp_by_the_parameters_of_this_service(demo: DemoService, visit_links: Any) -> None:
    """Found in the descriptor by name, with the HDUs that may be chosen; sent as any other."""
    service = visit_links.get_adhocservice_by_id("cutout-sync-maskedimage")
    (group,) = (one for one in service.groups if one.name == "inputParams")
    params = {one.name: one for one in group.entries}
    assert [option[1] for option in params["HDU"].values.options] == ["IMAGE", "MASK", "VARIANCE"]
    assert params["STAMP"].ucd == "pos;instr.pixel"
    query = SodaQuery.from_resource(visit_links, service)
    query["STAMP"] = f"{RA} {DEC} 31 20"
    query["HDU"] = "mask"
    query["EDGE"] = "refuse"
    with fits.open(io.BytesIO(query.execute_stream().read())) as cutout:
        assert [hdu.name for hdu in cutout] == ["PRIMARY", "MASK"]
        assert cutout["MASK"].shape == (20, 31)
        _assert_same_pixels_and_sky(demo, visit_links, cutout)


def test_no_overlap_is_an_empty_answer(visit_links: Any) -> None:
    """Pyvo reads SODA's 204 as no bytes."""
    query = SodaQuery.from_resource(visit_links, visit_links.get_adhocservice_by_id("cutout-sync"))
    query.circle = (RA + 90, DEC, RADIUS)
    assert query.execute_stream().read() == b""


def test_an_error_reaches_the_user(visit_links: Any) -> None:
    """The message of a refused value is what pyvo's user sees."""
    query = SodaQuery.from_resource(visit_links, visit_links.get_adhocservice_by_id("cutout-sync"))
    query["CUTOUTDETAIL"] = "nonsense"
    query.execute_stream()
    with pytest.raises(pyvo.DALServiceError, match=r"UsageError.*nonsense"):
        query.raise_if_error()


def test_an_unknown_dataset_is_a_row(demo: DemoService) -> None:
    """A links document names the fault in the row of the ID that failed."""
    links = pyvo.dal.adhoc.DatalinkResults.from_result_url(
        demo.url("datalink/links", ID="ivo://demo.invalid/nothing?here")
    )
    assert str(links[0].error_message).startswith("NotFoundFault: ")


def _assert_same_pixels_and_sky(demo: DemoService, links: Any, cutout: fits.HDUList) -> None:
    """Each cut image is a slice of its parent, by value and by position to 0.1 mas."""
    with fits.open(parent_file(demo.folder, links["ID"][0])) as parent:
        for hdu in cutout:
            if not hdu.is_image or hdu.header["NAXIS"] == 0:
                continue
            whole = parent[0] if hdu.name == "PRIMARY" else parent[hdu.name, hdu.ver]
            lower = _offset(hdu.header, whole.header)
            slices = tuple(
                slice(low, low + length) for low, length in zip(lower[::-1], hdu.shape, strict=True)
            )
            assert hdu.data.tobytes() == whole.data[slices].tobytes()
            assert _largest_distance_mas(hdu, whole, lower) < 0.1


def _offset(header: fits.Header, parent: fits.Header) -> list[int]:
    """How far each axis moved, by CRPIX."""
    moved = [
        parent[f"CRPIX{axis}"] - header[f"CRPIX{axis}"] for axis in range(1, header["NAXIS"] + 1)
    ]
    assert np.allclose(moved, np.round(moved), atol=1e-9)
    return [round(one) for one in moved]


def _largest_distance_mas(hdu: Any, parent: Any, lower: list[int]) -> float:
    """Of any pixel's sky position from that of the same pixel in the parent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        wcs, parent_wcs = WCS(hdu.header).celestial, WCS(parent.header).celestial
    rows, columns = np.indices(hdu.shape[-2:])
    here = wcs.pixel_to_world(columns, rows)
    there = parent_wcs.pixel_to_world(columns + lower[0], rows + lower[1])
    return float(here.separation(there).to_value(u.mas).max())
