"""PSF cubes: whole, or the plane for the place that is cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
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
