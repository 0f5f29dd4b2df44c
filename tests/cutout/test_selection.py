"""Which HDUs an answer holds, and what becomes of those that are not cut."""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from support.cutouts import File, compare, places_on, separation
from support.images import (
    COMPRESSED_FAMILIES,
    FAMILIES,
    HEIGHT,
    ROTATED_CD,
    SKY_FAMILIES,
    TABLE_WCS_FAMILIES,
    WIDTH,
    extension,
    primary,
    ramp,
    sky_cards,
    without,
)
from support.realdata import real_file

from soda_service.config import CollectionConfig
from soda_service.cutout.form import CutoutForm, Packing
from soda_service.cutout.plan import NOT_QUICK
from soda_service.cutout.selection import parse_hdu_name
from soda_service.errors import UsageError
from soda_service.geometry.dali import parse_pixels
from soda_service.geometry.shapes import Circle, Polygon, Range

if TYPE_CHECKING:
    from pathlib import Path

    from support.cutouts import Subject, Workbench

MIDDLE = Circle(150.1, 2.2, 0.001)
MASKED = CutoutForm(masked=True)
GZIPPED = CutoutForm(packing=Packing.GZIP)
ELSEWHERE = Circle(330.1, -2.2, 0.5)


def of_collection(bench: Workbench, path: Path, **config: object) -> Subject:
    """The file *path* as a file of a collection configured so."""
    made = CollectionConfig.model_validate({"root": str(path.parent), **config})
    return bench.of(path, bench.collections.model_copy(update={"collections": {"own": made}}))


def written(folder: Path, contents: bytes, name: str = "file.fits") -> Path:
    """A file in *folder*."""
    path = folder / name
    path.write_bytes(contents)
    return path


def names_of(contents: bytes) -> list[tuple[str, int]]:
    """EXTNAME and EXTVER of every HDU."""
    return [one.key for one in File(contents).hdus]


# ---------------------------------------------------------------- nothing to cut


@pytest.mark.parametrize("name", ["tan_sip", "mef", "cube_radio", "gzipped", "pole_tan"])
@pytest.mark.parametrize(
    "shape",
    [
        ELSEWHERE,
        Polygon(((330.0, -2.0), (331.0, -2.0), (331.0, -3.0))),
        Range(330.0, 331.0, -3.0, -2.0),
    ],
)
def test_a_shape_elsewhere_gives_nothing(bench: Workbench, name: str, shape: Any) -> None:
    """No error, no bytes: SODA 1.0 §5.1."""
    assert bench.family(name).plan(shape) is None


def test_whole_files_go_out_as_they_are(bench: Workbench) -> None:
    """Compressed or not."""
    for name in ("tan", "mef", "gzipped", "compressed_tiles"):
        subject = bench.family(name)
        plan = subject.plan()
        assert plan is not None
        assert subject.made(plan) == subject.path.read_bytes()
        assert plan.filename == subject.path.name
        assert plan.media_type == ("application/gzip" if name == "gzipped" else "application/fits")


# ---------------------------------------------------------------- extensions


def test_an_exposure_keeps_its_order_names_and_tables(bench: Workbench) -> None:
    """Planes with one box, the table to the byte."""
    subject = bench.family("mef")
    plan = subject.plan(MIDDLE)
    assert plan is not None
    contents = subject.made(plan)
    assert names_of(contents) == [one.key for one in subject.parent.hdus]
    boxes = {one.box for one in plan.hdus if one.box}
    assert len(boxes) == 1
    table, parent_table = File(contents).hdus[-1], subject.parent.hdus[-1]
    assert table.raw_header == parent_table.raw_header
    assert table.raw_data == parent_table.raw_data
    assert (
        plan.filename
        == f"mef_{next(iter(boxes)).section[1:-1].replace(':', '-').replace(',', '_')}.fits"
    )


def test_chips_that_are_missed_are_left_out(bench: Workbench) -> None:
    """With their planes; the quality plane without coordinates follows its chip."""
    subject = bench.family("mef_two_chips")
    contents = subject.cut(Circle(150.13, 2.2, 0.0005))
    assert contents is not None
    assert names_of(contents) == [("PRIMARY", 1), ("SCI", 2), ("ERR", 2), ("DQ", 2)]
    assert len({one.section and one.section[1] for one in File(contents).hdus[1:]}) == 1
    compare(subject, contents)


def test_a_primary_image_that_is_missed_leaves_its_header(bench: Workbench, tmp_path: Path) -> None:
    """Without what describes the pixels."""
    contents = primary(ramp(WIDTH, HEIGHT), [*sky_cards(), ("OBJECT", "there")]) + extension(
        ramp(23, 31), [("EXTNAME", "FAR"), *sky_cards(crval=(12.0, 40.0), crpix=(9.0, 17.0))]
    )
    subject = bench.of(written(tmp_path, contents))
    answer = subject.cut(Circle(12.0, 40.0, 0.0005))
    assert answer is not None
    first, second = File(answer).hdus
    assert first.header["NAXIS"] == 0
    assert first.header["OBJECT"] == "there"
    assert "CTYPE1" not in first.header
    assert second.header["EXTNAME"] == "FAR"
    compare(subject, answer)
    subject.cutter.close()


def test_planes_follow_their_own_chip_where_versions_do_not_tell(
    bench: Workbench, tmp_path: Path
) -> None:
    """SCI and ERR of two chips, all of EXTVER 1, where ERR knows nothing of the distortion."""

    def chip(name: str, lon: float, shift: float) -> bytes:
        wcs = without(sky_cards(crval=(lon, 2.2), crpix=(27.5 + shift, 30.25)), "CDELT1", "CDELT2")
        return extension(ramp(WIDTH, HEIGHT), [("EXTNAME", name), *wcs, *ROTATED_CD])

    path = written(
        tmp_path,
        primary(None)
        + chip("SCI1", 150.1, 0) + chip("ERR1", 150.1, 0.4)
        + chip("SCI2", 150.13, 0) + chip("ERR2", 150.13, 0.4),
    )  # fmt: skip
    roles = {"SCI1": "science", "SCI2": "science", "ERR1": "noise", "ERR2": "noise"}
    subject = of_collection(bench, path, roles=roles)
    for lon, names in ((150.1, ["SCI1", "ERR1"]), (150.13, ["SCI2", "ERR2"])):
        plan = subject.plan(Circle(lon, 2.2, 0.0005))
        assert plan is not None
        assert [one.hdu.layout.name for one in plan.hdus] == ["", *names]
        assert plan.hdus[1].box == plan.hdus[2].box
    subject.cutter.close()


# ---------------------------------------------------------------- details


DETAILS = [
    {"name": "Image", "hdus": ["IMAGE"], "description": "the image"},
    {"name": "Masked", "hdus": ["IMAGE", "mask"], "description": "with its mask"},
    {"name": "All", "hdus": ["*"], "description": "everything"},
    {"name": "Table", "hdus": ["CATALOG"], "description": "no image"},
]


def test_details_select_hdus_whole_or_cut(bench: Workbench, tmp_path: Path) -> None:
    """By name or role, the primary header always with them."""
    subject = of_collection(bench, written(tmp_path, FAMILIES["mef"]()), details=DETAILS)
    for detail, names in (
        ("Image", ["PRIMARY", "IMAGE"]),
        ("Masked", ["PRIMARY", "IMAGE", "MASK"]),
        ("All", ["PRIMARY", "IMAGE", "MASK", "VARIANCE", "CATALOG"]),
    ):
        whole, cut = subject.cut(detail=detail), subject.cut(MIDDLE, detail=detail)
        assert whole is not None
        assert cut is not None
        assert [name for name, _ in names_of(whole)] == names
        assert [name for name, _ in names_of(cut)] == names
        for one in File(whole).hdus[1:]:
            mother = next(other for other in subject.parent.hdus if other.key == one.key)
            assert one.raw_header == mother.raw_header
            assert one.raw_data == mother.raw_data
        assert compare(subject, cut).hdus == len(set(names) - {"PRIMARY", "CATALOG"})
    assert subject.plan(ELSEWHERE, detail="Image") is None
    table = subject.cut(detail="Table")
    assert table is not None
    assert [name for name, _ in names_of(table)] == ["PRIMARY", "CATALOG"]
    with pytest.raises(UsageError, match="no image to cut"):
        subject.plan(MIDDLE, detail="Table")
    with pytest.raises(UsageError, match="Image, Masked, All, Table, got 'Nothing'"):
        subject.plan(detail="Nothing")
    subject.cutter.close()


def test_a_primary_image_that_is_not_of_the_detail_stays_at_home(
    bench: Workbench, tmp_path: Path
) -> None:
    """Its header comes; so it does by the name PRIMARY, with the pixels."""
    contents = primary(
        ramp(WIDTH, HEIGHT), [*sky_cards(), ("NEXTEND", 2), ("OBJECT", "x")]
    ) + b"".join(
        extension(ramp(WIDTH, HEIGHT), [("EXTNAME", name), *sky_cards()]) for name in ("A", "B")
    )
    subject = of_collection(
        bench,
        written(tmp_path, contents),
        details=[
            {"name": "A", "hdus": ["A"], "description": "one plane"},
            {"name": "First", "hdus": ["PRIMARY", "B"], "description": "two planes"},
        ],
    )
    for asked in ({}, {"shape": MIDDLE}):
        answer = subject.cut(detail="A", **asked)
        assert answer is not None
        bare, plane = File(answer).hdus
        assert (bare.header["NAXIS"], bare.header["NEXTEND"]) == (0, 1)
        assert bare.header["OBJECT"] == "x"
        assert plane.header["EXTNAME"] == "A"
        answer = subject.cut(detail="First", **asked)
        assert answer is not None
        first, plane = File(answer).hdus
        assert (first.header["NAXIS"], first.header["NEXTEND"]) == (2, 1)
        assert plane.header["EXTNAME"] == "B"
        assert first.is_image
    subject.cutter.close()


# ---------------------------------------------------------------- tables that coordinates need


@pytest.mark.parametrize("name", TABLE_WCS_FAMILIES)
def test_tables_of_coordinates_travel(bench: Workbench, name: str) -> None:
    """Even where only the image was asked for; lookup tables move, others stay as they are."""
    subject = bench.family(name)
    contents = subject.cut(Circle(*_middle_of(subject), 0.001))
    assert contents is not None
    assert names_of(contents) == [one.key for one in subject.parent.hdus]
    figures = compare(subject, contents)
    assert figures.places
    assert figures.sky_mas < 0.1


@pytest.mark.parametrize("name", ["ASDF", "WCSCORR"])
@pytest.mark.parametrize("kind", ["table", "bytes"])
def test_a_coordinate_system_of_the_parent_stays_behind(
    bench: Workbench, tmp_path: Path, name: str, kind: str
) -> None:
    """A gwcs would say the parent's coordinates of the cutout's pixels; the header says so."""
    column = fits.Column("text", "10A", array=np.array(["#ASDF 1.0"]))
    table: Any = (
        fits.BinTableHDU.from_columns([column], name=name)
        if kind == "table"
        else fits.ImageHDU(np.arange(9, dtype=np.uint8), name=name)
    )
    image = fits.ImageHDU(ramp(61, 47), fits.Header(sky_cards()), name="SCI")
    path = tmp_path / "file.fits"
    fits.HDUList([fits.PrimaryHDU(), image, table]).writeto(path)
    subject = bench.of(path)
    request = subject.request(MIDDLE)
    contents = subject.cut(MIDDLE)
    assert contents is not None
    assert names_of(contents) == [("PRIMARY", 1), ("SCI", 1)]
    assert f"without HDU 2 ({name},1)" in str(File(contents).hdus[1].header["HISTORY"])
    assert subject.cutter.plan_quickly(request) in (NOT_QUICK, subject.plan(MIDDLE))
    assert names_of(subject.cut() or b"")[-1] == (name, 1)
    subject.cutter.close()


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"shape": MIDDLE}, r"mef_\d+-\d+_\d+-\d+.fits"),
        ({"hdus": ("SCI",)}, "mef_SCI.fits"),
        ({"hdus": ("1", "dq,1")}, "mef_HDU1_DQ-1.fits"),
        ({"hdus": ("1", "1", "SCI"), "shape": MIDDLE}, r"mef_HDU1_SCI_\d+-\d+_\d+-\d+.fits"),
        ({"detail": "All"}, "mef_All.fits"),
        ({"detail": "All", "shape": MIDDLE}, r"mef_All_\d+-\d+_\d+-\d+.fits"),
        ({"shape": MIDDLE, "form": MASKED}, r"mef_masked_\d+-\d+_\d+-\d+.fits"),
        ({"hdus": ("SCI",), "form": GZIPPED}, "mef_SCI.fits.gz"),
    ],
)
def test_names_of_answers_tell_what_was_chosen(
    bench: Workbench, tmp_path: Path, asked: dict[str, Any], name: str
) -> None:
    """So that two downloads do not take each other's place."""
    path = tmp_path / "mef.fits"
    images = [fits.ImageHDU(ramp(61, 47), fits.Header(sky_cards()), name=one)
              for one in ("SCI", "DQ")]  # fmt: skip
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    subject = bench.of(path)
    if "hdus" in asked:
        asked = {**asked, "hdus": tuple(map(parse_hdu_name, asked["hdus"]))}
    plan = subject.plan(**asked)
    assert plan is not None
    assert re.fullmatch(name, plan.filename)
    subject.cutter.close()


def lsst_file(path: Path, *, with_addresses: bool = True) -> None:
    """As lsst.images writes them: an index with the addresses of all HDUs, and a tree in JSON."""
    image = fits.ImageHDU(ramp(61, 47), fits.Header(sky_cards()), name="IMAGE")
    mask = fits.ImageHDU(ramp(61, 47, dtype="i4"), fits.Header(sky_cards()), name="MASK")
    tree = fits.BinTableHDU.from_columns(
        [fits.Column("JSON", "22A", array=np.array(['{"yx0":[1000,2000]}']))], name="JSON"
    )
    index = fits.BinTableHDU.from_columns(
        [fits.Column("HDRADDR", "K", array=np.array([0, 2880, 17280]))], name="INDEX"
    )
    primary = fits.PrimaryHDU()
    if with_addresses:
        for keyword in ("INDXADDR", "INDXSIZE", "JSONADDR", "JSONSIZE"):
            primary.header[keyword] = 40320
    fits.HDUList([primary, image, mask, tree, index]).writeto(path)


def test_addresses_in_the_parents_file_stay_behind(bench: Workbench, tmp_path: Path) -> None:
    """A reader of lsst.images would be led astray; others see no index that is false."""
    lsst_file(tmp_path / "visit.fits")
    subject = bench.of(tmp_path / "visit.fits")
    contents = subject.cut(MIDDLE)
    assert contents is not None
    assert names_of(contents) == [("PRIMARY", 1), ("IMAGE", 1), ("MASK", 1)]
    found = File(contents).hdus
    assert "INDXADDR" not in found[0].header
    assert "JSONADDR" not in found[0].header
    shape = places_on(subject.grid(1))[0].shape
    assert subject.cutter._prepared.get(subject.dataset).quick_planner is not None
    assert subject.cutter.plan_quickly(subject.request(shape)) == subject.plan(shape)
    history = str(found[1].header["HISTORY"])
    assert "without HDU 3 (JSON,1)" in history
    assert "without HDU 4 (INDEX,1)" in history
    # HDUs whole, but not the file: their addresses are others.
    names = tuple(map(parse_hdu_name, ("IMAGE", "JSON", "INDEX")))
    assert names_of(subject.cut(hdus=names) or b"") == [("PRIMARY", 1), ("IMAGE", 1)]
    # The file as it is has them all.
    assert subject.cut() == subject.path.read_bytes()
    subject.cutter.close()


def test_a_table_called_index_is_none_of_them(bench: Workbench, tmp_path: Path) -> None:
    """Unless the primary header says where it lies."""
    lsst_file(tmp_path / "visit.fits", with_addresses=False)
    subject = bench.of(tmp_path / "visit.fits")
    assert names_of(subject.cut(MIDDLE) or b"")[-2:] == [("JSON", 1), ("INDEX", 1)]
    subject.cutter.close()


def test_a_real_file_of_rubin(bench: Workbench) -> None:
    """Cut by section, because its coordinates are not those of its pixels."""
    subject = bench.of(real_file("rubin_visit_image-1.0.0-dp1.fits"))
    contents = subject.cut(section=parse_pixels("[2:9,3:11]"))
    names = [key[0] for key in names_of(contents or b"")]
    assert names == ["PRIMARY", "IMAGE", "MASK", "VARIANCE", "PSF/PIFF/INTERP/SOLUTION"]
    subject.cutter.close()


def test_a_detail_brings_the_tables_it_needs(bench: Workbench, tmp_path: Path) -> None:
    """Not those of others."""
    path = written(tmp_path, FAMILIES["lookup_distortion"]())
    subject = of_collection(
        bench, path, details=[{"name": "Image", "hdus": ["SCI"], "description": "the image"}]
    )
    contents = subject.cut(Circle(*_middle_of(subject), 0.001), detail="Image")
    assert contents is not None
    assert names_of(contents) == [one.key for one in subject.parent.hdus]
    assert compare(subject, contents).sky_mas < 0.1
    subject.cutter.close()


def test_images_that_share_a_table_get_their_own_where_boxes_differ(
    bench: Workbench, tmp_path: Path
) -> None:
    """Each under its own EXTVER, and NEXTEND counts them."""
    family = FAMILIES["lookup_distortion"]()
    opened = File(family)
    start = opened.hdus[1].hdu.fileinfo()["hdrLoc"]
    end = opened.hdus[2].hdu.fileinfo()["hdrLoc"]
    image = family[start:end]
    version = re.search(rb"EXTVER  = +1 ", image)
    assert version is not None
    other = image.replace(version[0], version[0][:-2] + b"2 ", 1)
    crpix = re.search(rb"CRPIX1  = +27.5 ", other)
    assert crpix is not None
    other = other.replace(crpix[0], crpix[0].replace(b"27.5", b"47.5"), 1)
    contents = primary(None, [("NEXTEND", 4)]) + image + other + family[end:]
    subject = bench.of(written(tmp_path, contents))
    answer = subject.cut(Circle(150.1005, 2.2, 0.0012))
    assert answer is not None
    made = File(answer)
    assert [one.key for one in made.hdus] == [
        ("PRIMARY", 1), ("SCI", 1), ("SCI", 2), ("WCSDVARR", 1), ("WCSDVARR", 2),
        ("WCSDVARR", 3), ("WCSDVARR", 4),
    ]  # fmt: skip
    assert made.hdus[0].header["NEXTEND"] == 6
    figures = compare(subject, answer)
    assert figures.hdus == 2
    assert figures.lost == set()
    assert figures.sky_mas < 0.1
    # The comparison is not blind: without its own table the second image is elsewhere.
    wrong = answer.replace(b"'EXTVER: 3'", b"'EXTVER: 1'").replace(b"'EXTVER: 4'", b"'EXTVER: 2'")
    assert wrong != answer
    assert compare(subject, wrong).sky_mas > 1
    subject.cutter.close()


def _middle_of(subject: Subject) -> tuple[float, float]:
    grid = subject.grid(next(subject.sky_images()))
    width, height = grid.naxis
    sky = grid.pixel_to_sky(np.array([width / 2]), np.array([height / 2]))[:, 0]
    return float(np.degrees(np.arctan2(sky[1], sky[0])) % 360), float(np.degrees(np.arcsin(sky[2])))


# ---------------------------------------------------------------- provenance and sums


@pytest.mark.parametrize("name", ["tan", "mef", "compressed_rice_1_i2", "gzipped"])
def test_history_says_where_it_comes_from(bench: Workbench, name: str) -> None:
    """Identifier, HDU, box and software, in each HDU that was cut."""
    subject = bench.family(name)
    contents = subject.cut(MIDDLE)
    assert contents is not None
    cut = [one for one in File(contents).hdus if one.section is not None]
    assert cut
    for one in cut:
        said = "".join(str(line) for line in one.header["HISTORY"])
        assert subject.dataset.publisher_did in said.replace(" ", "")
        assert "soda-service" in said


@pytest.mark.parametrize(
    "name",
    ["much_metadata", "mef", "cube_radio", "compressed_rice_1_f4_dither_1", "lookup_distortion",
     "unsigned_64", "gzipped", "primary_and_extension"],
)  # fmt: skip
def test_sums_are_right_or_absent(bench: Workbench, name: str) -> None:
    """Absent unless asked for; then as astropy computes them."""
    subject = bench.family(name)
    shape = Circle(*_middle_of(subject), 0.001)
    plain, summed = subject.cut(shape), subject.cut(shape, form=CutoutForm(checksums=True))
    assert plain is not None
    assert summed is not None
    assert all(
        "CHECKSUM" not in one.header and "DATASUM" not in one.header
        for one in File(plain).hdus
        if one.section is not None
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(io.BytesIO(summed), checksum=True) as hdus:
            checked = 0
            for hdu, one in zip(hdus, File(summed).hdus, strict=True):
                if one.section is not None:
                    assert hdu.verify_checksum() == 1
                    assert hdu.verify_datasum() == 1
                    checked += 1
    assert checked
    figures = compare(subject, summed)
    assert figures.lost == set()
    assert figures.values == 0


def test_astropy_verifies_without_a_word(bench: Workbench) -> None:
    """Strictly, for cutouts of every kind of pixel."""
    for name in ("tan", "mef", "cube_radio", "scaled", "blank", *COMPRESSED_FAMILIES[::5]):
        subject = bench.family(name)
        contents = subject.cut(Circle(*_middle_of(subject), 0.001))
        assert contents is not None
        with fits.open(io.BytesIO(contents)) as hdus:
            hdus.verify("exception")
            for hdu in hdus:
                assert hdu.data is None or hdu.data.size


def test_a_reader_finds_the_centre_of_the_circle(bench: Workbench) -> None:
    """End to end and without any of the comparisons above: the place asked for is in the file."""
    for name in ("tan_sip", "tpv", "galactic", "swapped_axes", "mef"):
        assert name in SKY_FAMILIES
        subject = bench.family(name)
        lon, lat = _middle_of(subject)
        contents = subject.cut(Circle(lon, lat, 0.001))
        assert contents is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            hdu = next(one for one in fits.open(io.BytesIO(contents)) if one.data is not None)
            wcs = WCS(hdu.header)
            middle = wcs.pixel_to_world((hdu.data.shape[1] - 1) / 2, (hdu.data.shape[0] - 1) / 2)
        found = np.array([[middle.icrs.ra.deg], [middle.icrs.dec.deg]])
        assert separation(found, np.array([[lon], [lat]]))[0] < 3e-4
