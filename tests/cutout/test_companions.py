"""PSF cubes: whole, or the plane for the place that is cut."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits
from pydantic import ValidationError
from support.cutouts import File
from support.images import HEIGHT, WIDTH, extension, primary, ramp, sky_cards

from soda_service.config import CollectionConfig
from soda_service.cutout.form import CutoutForm, Edge
from soda_service.cutout.selection import parse_hdu_name
from soda_service.geometry.dali import parse_pixels
from soda_service.geometry.frames import Stamp
from soda_service.geometry.shapes import Circle, Interval

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from support.cutouts import Hdu, Subject, Workbench

ZONES = [(10.5, 8.0), (31.0, 8.0), (51.5, 8.0), (10.5, 31.0), (31.0, 31.0), (51.5, 31.0)]
"""Centres of the planes, pixels from 1."""


def contents(*, with_places: bool = True) -> bytes:
    """An image, and a cube of one PSF for each zone of it."""
    cards: list[Any] = [("EXTNAME", "PSF"), ("OVERSAMP", 10)]
    for number, (x, y) in enumerate(ZONES, 1):
        cards += [(f"XCTR_{number}", x), (f"YCTR_{number}", y)] if with_places else []
        cards += [(f"XWID_{number}", 20.5), (f"YWID_{number}", 23)]
    image = extension(ramp(WIDTH, HEIGHT), [("EXTNAME", "IMAGE"), *sky_cards()])
    return primary(None) + image + extension(ramp(7, 5, len(ZONES)), cards)


def subject_of(bench: Workbench, folder: Path, role: str, **more: Any) -> Subject:
    path = folder / "spectral.fits"
    path.write_bytes(contents(**more))
    made = CollectionConfig.model_validate({"root": str(folder), "roles": {"PSF": role}})
    return bench.of(path, bench.collections.model_copy(update={"collections": {"own": made}}))


@pytest.fixture(name="by_position")
def _by_position(bench: Workbench, tmp_path: Path) -> Iterator[Subject]:
    subject = subject_of(bench, tmp_path, "psf-by-position")
    yield subject
    subject.cutter.close()


def psf_of(subject: Subject, **asked: Any) -> Hdu:
    """The cube that goes along."""
    answer = subject.cut(**asked)
    assert answer is not None
    found = File(answer).hdus[-1]
    assert found.key == ("PSF", 1)
    return found


@pytest.mark.parametrize(
    ("asked", "plane"),
    [
        ({"section": parse_pixels("[3:12,2:9]")}, 1),
        ({"section": parse_pixels("[40:61,1:9]")}, 3),
        ({"section": parse_pixels("[*,*]")}, 5),
        ({"shape": Circle(150.1, 2.2, 0.0005)}, 5),
        ({"stamp": Stamp(150.1, 2.2, (60, 3))}, 5),
        ({"stamp": Stamp(150.1, 2.2, (8, 90)), "form": CutoutForm(edge=Edge.PAD)}, 5),
    ],
)
def test_the_plane_for_the_place(by_position: Subject, asked: dict[str, Any], plane: int) -> None:
    """Its centre is given in pixels of the cutout; the axis stays."""
    found = psf_of(by_position, **asked)
    mother = by_position.parent.hdus[-1].stored
    assert mother is not None
    assert found.stored is not None
    assert np.array_equal(found.stored, mother[plane - 1 : plane])
    image = File(by_position.cut(**asked) or b"").hdus[1]
    assert image.section is not None
    (x1, _), (y1, _) = image.section[1]
    x, y = ZONES[plane - 1]
    assert (found.header["XCTR_1"], found.header["YCTR_1"]) == (x - x1 + 1, y - y1 + 1)
    assert (found.header["XWID_1"], found.header["YWID_1"]) == (20.5, 23)
    assert [key for key in found.header if key[1:4] in {"CTR", "WID"}] == [
        "XCTR_1", "YCTR_1", "XWID_1", "YWID_1",
    ]  # fmt: skip
    assert found.header["OVERSAMP"] == 10
    assert found.section == (2, ((1, 7), (1, 5), (plane, plane)))


def test_a_cutout_of_a_cutout_has_the_same_plane(
    bench: Workbench, by_position: Subject, tmp_path: Path
) -> None:
    """With its centre moved twice."""
    once = by_position.cut(section=parse_pixels("[40:61,1:9]"))
    folder = tmp_path / "again"
    folder.mkdir()
    again = subject_of(bench, folder, "psf-by-position")
    again.cutter.close()
    again.path.write_bytes(once or b"")
    made = CollectionConfig.model_validate(
        {"root": str(folder), "roles": {"PSF": "psf-by-position"}}
    )
    second = bench.of(
        again.path, bench.collections.model_copy(update={"collections": {"own": made}})
    )
    found = psf_of(second, section=parse_pixels("[5:9,2:8]"))
    assert (found.header["XCTR_1"], found.header["YCTR_1"]) == (51.5 - 39 - 4, 8.0 - 1)
    second.cutter.close()


def test_whole_where_nothing_says_otherwise(bench: Workbench, tmp_path: Path) -> None:
    """By its role, for want of places, and where no place is asked for."""
    for role, with_places in (("psf", True), ("psf-by-position", False)):
        subject = subject_of(bench, tmp_path, role, with_places=with_places)
        mother = subject.parent.hdus[-1]
        for found in (
            psf_of(subject, section=parse_pixels("[3:12,2:9]")),
            psf_of(subject, shape=Circle(150.1, 2.2, 5e-4)),
        ):
            assert (found.raw_header, found.raw_data) == (mother.raw_header, mother.raw_data)
        subject.cutter.close()
    subject = subject_of(bench, tmp_path, "psf-by-position")
    whole = subject.parent.hdus[-1].raw_data
    assert psf_of(subject, detail=subject.dataset.details[0].name).raw_data == whole
    assert psf_of(subject, hdus=(parse_hdu_name("PSF"),)).raw_data == whole
    assert subject.plan(band=Interval(1.0, 2.0)) is None
    subject.cutter.close()


def test_a_cube_that_is_named_is_cut(by_position: Subject) -> None:
    """By the section that was asked for."""
    found = psf_of(by_position, section=parse_pixels("[2:3,*,4:5]"), hdus=(parse_hdu_name("PSF"),))
    assert found.section == (2, ((2, 3), (1, 5), (4, 5)))


# ---------------------------------------------------------------- by the collection's own rule


def ruled(
    bench: Workbench, folder: Path, file: bytes, rule: dict[str, Any], name: str = "PSF"
) -> Subject:
    """A file in a collection with that rule for the cube *name*."""
    path = folder / "ruled.fits"
    path.write_bytes(file)
    made = CollectionConfig.model_validate({"root": str(folder), "planes": {name: rule}})
    return bench.of(path, bench.collections.model_copy(update={"collections": {"own": made}}))


def image_and(*hdus: bytes) -> bytes:
    return primary(None) + extension(
        ramp(WIDTH, HEIGHT), [("EXTNAME", "IMAGE"), *sky_cards()]
    ) + b"".join(hdus)  # fmt: skip


def places_table(**columns: tuple[str, Any]) -> bytes:
    """A table of places: code and values of its columns."""
    made = fits.BinTableHDU.from_columns(
        [
            fits.Column(name, code, array=np.array(values))
            for name, (code, values) in columns.items()
        ],
        name="PSF_POSITIONS",
    )
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), made]).writeto(buffer)
    return buffer.getvalue()[2880:]


@pytest.mark.parametrize("order", [None, [4, 2, 6, 1, 5, 3]])
@pytest.mark.parametrize("origin", [0, 1])
def test_places_in_a_table(
    bench: Workbench, tmp_path: Path, order: list[int] | None, origin: int
) -> None:
    """A row for each plane: that of the plane stays, moved, whichever way they are numbered."""
    x, y = (np.array(one) + origin - 1 for one in zip(*ZONES, strict=True))
    columns: dict[str, tuple[str, Any]] = {
        "XPIX": ("D", x), "YPIX": ("E", y), "FWHM": ("D", np.arange(6) * 0.25),
    }  # fmt: skip
    rule = {"by": "table", "table": "psf_positions", "x": "XPIX", "y": "YPIX", "origin": origin}
    numbers = order or [1, 2, 3, 4, 5, 6]
    if order is not None:
        columns["PLANE"] = ("J", order)
        rule["plane"] = "PLANE"
    cube = extension(ramp(7, 5, 6), [("EXTNAME", "PSF")])
    subject = ruled(bench, tmp_path, image_and(cube, places_table(**columns)), rule)
    mother = subject.parent.hdus[2].stored
    assert mother is not None
    for section, (x1, y1), row in (("[3:12,2:9]", (3, 2), 0), ("[40:61,30:33]", (40, 30), 5)):
        contents = subject.cut(section=parse_pixels(section), form=CutoutForm(checksums=True))
        (tmp_path / "cut.fits").write_bytes(contents or b"")
        with fits.open(tmp_path / "cut.fits", checksum=True) as cut:
            plane = numbers[row] - 1
            assert np.array_equal(cut["PSF"].data, mother[plane : plane + 1])
            (told,) = cut["PSF_POSITIONS"].data
            assert (told["XPIX"], told["YPIX"]) == (x[row] - x1 + 1, y[row] - y1 + 1)
            assert told["FWHM"] == row * 0.25
            assert order is None or told["PLANE"] == 1
            assert "1 of 6 rows" in str(cut["PSF_POSITIONS"].header["HISTORY"])
    subject.cutter.close()


def test_a_table_that_is_not_asked_for_tells_the_plane_all_the_same(
    bench: Workbench, tmp_path: Path
) -> None:
    """The answer has the HDUs that were named, and of the cube one plane."""
    x, y = zip(*ZONES, strict=True)
    table = places_table(X=("D", x), Y=("D", y))
    cube = extension(ramp(7, 5, 6), [("EXTNAME", "PSF")])
    rule = {"by": "table", "table": "PSF_POSITIONS", "x": "X", "y": "Y"}
    subject = ruled(bench, tmp_path, image_and(cube, table), rule)
    names = (parse_hdu_name("IMAGE"), parse_hdu_name("PSF"))
    contents = subject.cut(Circle(150.1, 2.2, 0.0005), hdus=names)
    assert [one.key[0] for one in File(contents or b"").hdus] == [
        "PRIMARY", "IMAGE", "PSF",
    ]  # fmt: skip
    assert File(contents or b"").hdus[-1].header["NAXIS3"] == 1
    subject.cutter.close()


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        ({"X": ("D", [1.0] * 5), "Y": ("D", [1.0] * 5)}, {}),
        ({"X": ("D", [1.0] * 6)}, {}),
        ({"X": ("D", [1.0] * 5 + [np.nan]), "Y": ("D", [1.0] * 6)}, {}),
        ({"X": ("D", [1.0] * 6), "Y": ("D", [1.0] * 6), "N": ("J", [1] * 6)}, {"plane": "N"}),
        ({"X": ("D", [1.0] * 6), "Y": ("D", [1.0] * 6)}, {"table": "ELSEWHERE"}),
        ({"X": ("D", [1.0] * 6), "Y": ("D", [1.0] * 6)}, {"plane": "NOWHERE"}),
    ],
    ids=["too few", "no column", "a place is missing", "one number", "no table", "no numbers"],
)
def test_a_table_that_does_not_tell_all_leaves_the_cube_whole(
    bench: Workbench, tmp_path: Path, table: dict[str, tuple[str, Any]], rule: dict[str, Any]
) -> None:
    cube = extension(ramp(7, 5, 6), [("EXTNAME", "PSF")])
    rule = {"by": "table", "table": "PSF_POSITIONS", "x": "X", "y": "Y", **rule}
    subject = ruled(bench, tmp_path, image_and(cube, places_table(**table)), rule)
    found = File(subject.cut(section=parse_pixels("[3:12,2:9]")) or b"").hdus
    assert [one.raw_data for one in found[2:]] == [
        one.raw_data for one in subject.parent.hdus[2:]
    ]  # fmt: skip
    subject.cutter.close()


def test_places_of_both_axes_in_one_keyword(bench: Workbench, tmp_path: Path) -> None:
    """As STPSF writes grids of PSFs for JWST and Roman: `(y, x)`, all numbered from 0."""
    cards: list[Any] = [("EXTNAME", "PSF"), ("OVERSAMP", 4)]
    cards += [(f"DET_YX{n}", f"({y - 1}, {x - 1})") for n, (x, y) in enumerate(ZONES)]
    rule = {"by": "keywords", "yx": "DET_YX{n}", "first": 0, "origin": 0}
    cube = extension(ramp(7, 5, 6), cards)
    subject = ruled(bench, tmp_path, image_and(cube), rule)
    mother = subject.parent.hdus[-1].stored
    assert mother is not None
    found = psf_of(subject, section=parse_pixels("[40:61,30:33]"))
    assert found.stored is not None
    assert np.array_equal(found.stored, mother[5:])
    assert [key for key in found.header if key.startswith("DET_YX")] == ["DET_YX0"]
    x, y = ZONES[5]
    # As photutils reads them.
    told = [float(one) for one in found.header["DET_YX0"].strip("()").split(",")]
    assert told == [y - 1 - 29, x - 1 - 39]
    subject.cutter.close()


def grid_of(header: fits.Header, axis: int) -> NDArray[np.float64]:
    """Pixels of the image, from 1, that the cells along an axis belong to."""
    cells = np.arange(1, header[f"NAXIS{axis}"] + 1)
    crpix, crval, cdelt = (header[f"{name}{axis}"] for name in ("CRPIX", "CRVAL", "CDELT"))
    return np.asarray(crval + cdelt * (cells - crpix), dtype=np.float64)


@pytest.mark.parametrize(
    ("section", "cell"),
    [("[1:8,1:8]", (0, 0)), ("[21:30,30:40]", (1, 2)), ("[*,*]", (1, 1)), ("[60:61,1:3]", (3, 0))],
)
def test_a_grid_of_cells(
    bench: Workbench, tmp_path: Path, section: str, cell: tuple[int, int]
) -> None:
    """Cells of 16 by 16 pixels as coadds in cells have them: axes 3 and 4 count in pixels."""
    cards: list[Any] = [
        ("EXTNAME", "PSF"), ("CRPIX3", 1.0), ("CRVAL3", 8.5), ("CDELT3", 16.0),
        ("CRPIX4", 1.0), ("CRVAL4", 8.5), ("CDELT4", 16.0),
    ]  # fmt: skip
    subject = ruled(bench, tmp_path, image_and(extension(ramp(7, 5, 4, 3), cards)), {"by": "grid"})
    mother = subject.parent.hdus[-1]
    assert mother.stored is not None
    asked = parse_pixels(section)
    found = psf_of(subject, section=asked)
    assert found.stored is not None
    x, y = cell
    assert np.array_equal(found.stored, mother.stored[y : y + 1, x : x + 1])
    first = [one[0] if one else 0 for one in asked.axes]
    for axis, at in ((3, x), (4, y)):
        expected = grid_of(mother.header, axis)[at] - first[axis - 3]
        assert list(grid_of(found.header, axis)) == [expected]
    subject.cutter.close()


@pytest.mark.parametrize(
    ("rule", "blamed"),
    [
        ({"by": "keywords"}, "need x"),
        ({"by": "keywords", "x": "XCTR_{n}"}, "need y"),
        ({"by": "keywords", "x": "XCTR", "y": "YCTR"}, "{n}"),
        ({"by": "keywords", "x": "xctr_{n}", "y": "yctr_{n}"}, "{n}"),
        ({"by": "table", "x": "X", "y": "Y"}, "need table"),
        ({"by": "magic"}, "keywords"),
        ({"by": "grid", "sort": 1}, "sort"),
    ],
)
def test_rules_that_say_too_little(rule: dict[str, Any], blamed: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(blamed)):
        CollectionConfig.model_validate({"planes": {"PSF": rule}})
