"""Named HDUs, masked pixels, headers alone: the form of an answer."""

from __future__ import annotations

import io
import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, strategies as st
from support.cutouts import File, Hdu, Workbench, compare
from support.images import HEIGHT, WIDTH, extension, primary, ramp, sky_cards

from soda_service.config import CollectionConfig
from soda_service.cutout.form import (
    BLANK,
    CutoutForm,
    Edge,
    Packing,
    format_fill,
    parse_edge,
    parse_fill,
)
from soda_service.cutout.selection import (
    HduName,
    format_hdu_name,
    named,
    parse_hdu_name,
    plain_names,
)
from soda_service.errors import UsageError
from soda_service.geometry.dali import parse_box, parse_pixels
from soda_service.geometry.frames import PixelSection, Stamp
from soda_service.geometry.shapes import Circle, Interval, Polygon, Range
from soda_service.render.headertext import header_text

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from support.cutouts import Subject

    from soda_service.geometry.shapes import Shape

MIDDLE = Circle(150.1, 2.2, 0.001)
MASKED = CutoutForm(masked=True)
ALONE = CutoutForm(header_only=True)


def hdus(*texts: str) -> tuple[HduName, ...]:
    """The names that these texts are."""
    return tuple(map(parse_hdu_name, texts))


def keys(contents: bytes | None) -> list[tuple[str, int]]:
    """EXTNAME and EXTVER of every HDU."""
    assert contents is not None
    return [one.key for one in File(contents).hdus]


# ---------------------------------------------------------------- named HDUs


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("IMAGE",), ["IMAGE"]),
        (("variance", "image"), ["IMAGE", "VARIANCE"]), (("1",), ["IMAGE"]),
        (("0", "3"), ["VARIANCE"]), (("MASK,1",), ["MASK"]), (("catalog",), ["CATALOG"]),
        (("0",), []), (("PRIMARY",), []), (("2", "MASK", "mask , 1"), ["MASK"]),
    ],
)  # fmt: skip
def test_hdus_by_name_and_number(
    bench: Workbench, names: tuple[str, ...], expected: list[str]
) -> None:
    """In the order of the file, the primary header always with them; whole, or cut."""
    subject = bench.family("mef")
    wanted = [("PRIMARY", 1), *((name, 3 if name == "CATALOG" else 1) for name in expected)]
    whole = subject.cut(hdus=hdus(*names))
    assert keys(whole) == wanted
    for one in File(whole or b"").hdus[1:]:
        mother = next(other for other in subject.parent.hdus if other.key == one.key)
        assert (one.raw_header, one.raw_data) == (mother.raw_header, mother.raw_data)
    for asked in ({"shape": MIDDLE}, {"section": parse_pixels("[3:9,*]")}):
        if expected in (["CATALOG"], []):
            with pytest.raises(UsageError, match="no image to cut"):
                subject.plan(hdus=hdus(*names), **asked)
            continue
        contents = subject.cut(hdus=hdus(*names), **asked)
        assert keys(contents) == wanted
        assert contents is not None
        compare(subject, contents)


def test_versions_of_one_name(bench: Workbench) -> None:
    """All of them, unless one is named."""
    subject = bench.family("mef_two_chips")
    assert keys(subject.cut(hdus=hdus("SCI")))[1:] == [("SCI", 1), ("SCI", 2)]
    assert keys(subject.cut(hdus=hdus("sci,2")))[1:] == [("SCI", 2)]
    assert keys(subject.cut(hdus=hdus("DQ,1", "SCI,2")))[1:] == [("DQ", 1), ("SCI", 2)]


@pytest.mark.parametrize("name", ["NOTHING", "IMAGE,2", "17", "-1", "CATALOG,0"])
def test_a_name_that_none_has(bench: Workbench, name: str) -> None:
    """The error says what there is."""
    with pytest.raises(UsageError, match=r"no HDU .* among 0 \(PRIMARY,1\), 1 \(IMAGE,1\), 2 "):
        bench.family("mef").plan(hdus=hdus("IMAGE", name))


def test_tables_that_coordinates_need_come_with_a_named_image(bench: Workbench) -> None:
    """As with a detail."""
    subject = bench.family("lookup_distortion")
    contents = subject.cut(section=parse_pixels("[5:30,4:40]"), hdus=hdus("SCI"))
    assert keys(contents) == [one.key for one in subject.parent.hdus]
    assert contents is not None
    assert compare(subject, contents).sky_mas < 0.1


def test_a_primary_image_that_is_not_named(bench: Workbench, tmp_path: Path) -> None:
    """Leaves its header; named, it comes with its pixels."""
    path = tmp_path / "two.fits"
    path.write_bytes(
        primary(ramp(WIDTH, HEIGHT), [*sky_cards(), ("OBJECT", "x")])
        + extension(ramp(WIDTH, HEIGHT), [("EXTNAME", "A"), *sky_cards()])
    )
    subject = bench.of(path)
    for asked in ({}, {"shape": MIDDLE}, {"stamp": Stamp(150.1, 2.2, (5, 6))}):
        bare, plane = File(subject.cut(hdus=hdus("A"), **asked) or b"").hdus
        assert (bare.header["NAXIS"], bare.header["OBJECT"]) == (0, "x")
        assert plane.is_image
        (first,) = File(subject.cut(hdus=hdus("0"), **asked) or b"").hdus
        assert first.is_image
    subject.cutter.close()


def test_names_choose_among_the_hdus_of_a_detail(bench: Workbench, tmp_path: Path) -> None:
    """Those that are not of it are not there."""
    path = tmp_path / "mef.fits"
    path.write_bytes(bench.family("mef").raw)
    details = [{"name": "Masked", "hdus": ["IMAGE", "MASK"], "description": "two planes"}]
    made = CollectionConfig.model_validate({"root": str(tmp_path), "details": details})
    subject = bench.of(path, bench.collections.model_copy(update={"collections": {"own": made}}))
    contents = subject.cut(MIDDLE, detail="Masked", hdus=hdus("MASK"))
    assert keys(contents) == [("PRIMARY", 1), ("MASK", 1)]
    with pytest.raises(
        UsageError, match=r"'VARIANCE' among 0 \(PRIMARY,1\), 1 \(IMAGE,1\), 2 \(MASK,1\)$"
    ):
        subject.plan(MIDDLE, detail="Masked", hdus=hdus("VARIANCE"))
    subject.cutter.close()


@given(st.text(max_size=30) | st.from_regex(r"[A-Z ,]{0,9}[0-9]{0,4}", fullmatch=True))
def test_any_text_is_a_name_or_a_usage_error(text: str) -> None:
    """And what is read is written so that it reads the same."""
    try:
        name = parse_hdu_name(text)
    except UsageError:
        return
    assert parse_hdu_name(format_hdu_name(name)) == name


@pytest.mark.parametrize("name", ["mef", "mef_two_chips", "tan", "lookup_distortion", "many_hdus"])
def test_every_hdu_has_a_name_of_its_own(bench: Workbench, tmp_path: Path, name: str) -> None:
    """It can be asked for by what the descriptor calls it."""
    if name == "many_hdus":
        path = tmp_path / "many.fits"
        odd = ["", "7", "a,b", "a,3", "a", "A", "SCI", "sci", "", " x"]
        path.write_bytes(primary(None) + b"".join(
            extension(ramp(4, 5), [("EXTNAME", one)] if one else []) for one in odd))  # fmt: skip
        subject = bench.of(path)
    else:
        subject = bench.family(name)
    there = subject.dataset.hdus
    names = plain_names(there)
    assert len(set(names)) == len(there)
    for one, text in zip(there, names, strict=True):
        assert named(there, hdus(text)) == [one]
    if name == "mef_two_chips":
        assert names[:3] == ["PRIMARY", "SCI,1", "ERR,1"]


# ---------------------------------------------------------------- masks


def centres_held(one: Hdu, wcs: Any, shape: Shape) -> NDArray[np.bool_]:
    """Which pixels' centres lie in *shape*, by astropy and plain formulas."""
    assert one.stored is not None
    y, x = np.indices(one.stored.shape[-2:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        place = wcs.celestial.pixel_to_world(x, y).icrs
    lon, lat = place.ra.deg, place.dec.deg
    match shape:
        case Circle():
            apart = place.separation(SkyCoord(shape.lon, shape.lat, unit="deg")).deg
            return np.asarray(apart <= shape.radius)
        case Range():
            width = (shape.lon2 - shape.lon1) % 360
            inside = (lon - shape.lon1) % 360 <= width
            return np.asarray(inside & (lat >= shape.lat1) & (lat <= shape.lat2))
        case Polygon():
            sides = []
            vectors = [_vector(*vertex) for vertex in shape.vertices]
            at = np.stack(_vector(lon, lat))
            for here, there in zip(vectors, [*vectors[1:], vectors[0]], strict=True):
                sides.append(np.tensordot(np.cross(here, there), at, 1) >= 0)
            return np.asarray(np.all(sides, axis=0) | ~np.any(sides, axis=0))
        case _:
            raise AssertionError(shape)


def _vector(lon: Any, lat: Any) -> Any:
    lon, lat = np.radians(lon), np.radians(lat)
    return np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


SHAPES: tuple[Shape, ...] = (
    Circle(150.1003, 2.2001, 0.00213),
    Range(150.0981, 150.1012, 2.1979, 2.2013),
    Polygon(((150.098, 2.1985), (150.1021, 2.1979), (150.1007, 2.2024))),
    parse_box("150.10007 2.20003 0.0024 0.0036"),
)


@pytest.mark.parametrize("name", ["tan", "tan_sip", "tpv", "swapped_axes_sip", "cube_radio",
                                  "lookup_distortion", "fk5", "compressed_rice_1_f4_dither_1",
                                  "gzipped", "cube_spectral_first"])  # fmt: skip
@pytest.mark.parametrize("shape", SHAPES, ids=["circle", "range", "polygon", "box"])
def test_what_is_outside_of_a_shape_is_masked(bench: Workbench, name: str, shape: Shape) -> None:
    """By the centres of pixels; what is inside is as it was."""
    subject = bench.family(name)
    plain = subject.cut(shape)
    form = CutoutForm(masked=True, fill=(BLANK, -5), checksums=name in {"tan", "cube_radio"})
    masked = subject.cut(shape, form=form)
    if plain is None:
        assert masked is None
        return
    assert masked is not None
    checked = 0
    child = File(masked)
    for one, other in zip(child.hdus, File(plain).hdus, strict=True):
        if one.section is None:
            assert (one.raw_header, one.raw_data) == (other.raw_header, other.raw_data)
            continue
        assert one.stored is not None
        assert other.stored is not None
        assert one.stored.shape == other.stored.shape
        wcs = child.wcs(one.index, "")
        axes = (wcs.wcs.lng, wcs.wcs.lat)
        inside = _on_axes(one, wcs, shape, axes)
        value = np.nan if one.header["BITPIX"] < 0 else one.header.get("BLANK", -5)
        expected = np.where(inside, other.stored, np.array(value).astype(other.stored.dtype))
        assert np.array_equal(one.stored, expected, equal_nan=one.stored.dtype.kind == "f")
        checked += int((~inside).sum())
    assert checked
    if form.checksums:
        with fits.open(io.BytesIO(masked), checksum=True) as opened, warnings.catch_warnings():
            warnings.simplefilter("error")
            assert all(one.verify_datasum() == 1 for one in opened if "DATASUM" in one.header)


def _on_axes(one: Hdu, wcs: Any, shape: Shape, axes: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask of an image of any number of axes; the sky's may be any two of them."""
    assert one.stored is not None
    naxis = one.stored.shape[::-1]
    low, high = sorted(axes)
    plane = np.zeros((naxis[high], naxis[low]), "u1")
    flat = Hdu(one.index, one.header, b"", b"", is_compressed=False, hdu=None)
    flat.__dict__["stored"] = plane
    held = centres_held(flat, wcs, shape)
    full = [1] * len(naxis)
    full[low], full[high] = naxis[low], naxis[high]
    return np.broadcast_to(held.reshape(full[::-1]), one.stored.shape)


def test_a_mask_and_a_frame_together(bench: Workbench) -> None:
    """Beyond the edge everything is filled, inside what the shape does not hold."""
    subject = bench.family("tan_sip")
    shape = Circle(*_sky(subject, 1.0, 45.0), 0.0013)
    contents = subject.cut(shape, form=CutoutForm(masked=True, edge=Edge.PAD))
    assert contents is not None
    child = File(contents)
    (one,) = child.hdus
    held = centres_held(one, child.wcs(0, ""), shape)
    assert one.stored is not None
    assert one.section is not None
    mother = subject.parent.hdus[0].stored
    assert mother is not None
    (x1, _), (y1, y2) = one.section[1]
    assert x1 < 1
    assert y2 > HEIGHT
    for y, x in np.ndindex(one.stored.shape):
        there = x1 + x >= 1 and y1 + y <= HEIGHT
        expected = mother[y1 + y - 1, x1 + x - 1] if there and held[y, x] else np.nan
        assert np.array_equal(one.stored[y, x], np.array(expected, "f4"), equal_nan=True)
    assert 0 < one.header["CUTCOVER"] < 1


def _sky(subject: Subject, x: float, y: float) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        place = WCS(subject.parent.hdus[0].header).pixel_to_world(x, y).icrs
    return float(place.ra.deg), float(place.dec.deg)


def test_integers_without_blank_want_a_value(bench: Workbench) -> None:
    """A mask plane has no pixel that means nothing: it is said which HDU, and asked what to do."""
    subject = bench.family("mef")
    with pytest.raises(UsageError, match=r"HDU 2 \(MASK,1\).*integers and no BLANK"):
        subject.plan(MIDDLE, form=MASKED)
    assert subject.plan(MIDDLE, form=MASKED, hdus=hdus("IMAGE")) is not None
    assert subject.plan(MIDDLE, form=CutoutForm(masked=True, fill=(BLANK, 0))) is not None


def test_only_shapes_have_an_outside(bench: Workbench) -> None:
    """Nothing else can be masked."""
    subject = bench.family("tan")
    asks: list[dict[str, Any]] = [
        {}, {"stamp": Stamp(150.1, 2.2, (3, 3))}, {"section": parse_pixels("[1:2,*]")},
        {"hdus": hdus("0")},
    ]  # fmt: skip
    for asked in asks[1:]:
        with pytest.raises(UsageError, match="outside of a shape"):
            subject.plan(form=MASKED, **asked)


# ---------------------------------------------------------------- headers alone


@pytest.mark.parametrize("name", ["mef", "much_metadata", "compressed_rice_1_i2", "gzipped",
                                  "lookup_distortion", "cube_radio"])  # fmt: skip
@pytest.mark.parametrize("asked", [
    {"shape": MIDDLE}, {"section": parse_pixels("[2:9,3:8]")}, {"hdus": hdus("0")}, {},
    {"section": parse_pixels("[-2:9,3:8]"), "edge": Edge.PAD},
    {"shape": MIDDLE, "checksums": True},
], ids=["circle", "section", "hdu", "file", "padded", "summed"])  # fmt: skip
def test_headers_alone_are_those_of_the_answer(
    bench: Workbench, name: str, asked: dict[str, Any]
) -> None:
    """Card by card; astropy reads each of them."""
    subject = bench.family(name)
    asked = dict(asked)
    more: dict[str, Any] = {key: asked.pop(key) for key in ("edge", "checksums") if key in asked}
    more["fill"] = (BLANK, 0)
    plan = subject.plan(**asked, form=CutoutForm(header_only=True, **more))
    whole = subject.cut(**asked, form=CutoutForm(**more))
    if plan is None:
        assert whole is None
        return
    text = subject.made(plan)
    assert whole is not None
    assert plan.filename.endswith(".txt")
    assert plan.media_type == "text/plain;charset=us-ascii"
    if not asked:
        whole = subject.raw
    parts = text.decode("ascii").split("\n\n")
    found = File(whole).hdus
    assert len(parts) == len(found)
    for part, one in zip(parts, found, strict=True):
        lines = part.rstrip("\n").split("\n")
        assert [line.encode() for line in lines[:-1]] == one.cards
        assert lines[-1] == "END".ljust(80)
        header = fits.Header.fromstring(part, sep="\n")
        assert [card.image for card in header.cards] == [
            card.image for card in fits.Header.fromstring(one.raw_header.decode()).cards
        ]


def test_headers_that_are_not_text() -> None:
    """One line each all the same."""
    hostile = b"COMMENT a\nb\0\xff".ljust(80) + b" " * 80 + b"END".ljust(80) + b" " * 80
    text = header_text([hostile, b"END".ljust(80)])
    assert text.split(b"\n") == [
        b"COMMENT a?b??".ljust(80), b" " * 80, b"END".ljust(80), b"", b"END".ljust(80), b"",
    ]  # fmt: skip


def test_headers_alone_open_no_file(bench: Workbench, tmp_path: Path) -> None:
    """What is in the catalog is enough."""
    path = tmp_path / "fleeting.fits"
    path.write_bytes(bench.family("tan").raw)
    subject = bench.of(path)
    plan = subject.plan(MIDDLE, form=ALONE)
    assert plan is not None
    path.unlink()
    assert len(b"".join(subject.cutter.cut(plan))) == plan.size
    subject.cutter.close()


# ---------------------------------------------------------------- entity tags


def test_entity_tags_tell_forms_apart(bench: Workbench) -> None:
    """Whatever decides about the bytes decides about the tag."""
    subject = bench.family("mef")
    section, stamp = parse_pixels("[-3:9,1:9]"), Stamp(150.1, 2.2, (4, 4))
    near = Circle(150.1, 2.2, 0.001 + 1e-9)
    asks: list[dict[str, Any]] = [
        {}, {"hdus": hdus("IMAGE")}, {"hdus": hdus("MASK")}, {"section": section},
        {"section": section, "hdus": hdus("IMAGE")},
        {"section": section, "edge": Edge.PAD, "fill": (BLANK, 0)},
        {"section": section, "edge": Edge.PAD, "fill": (BLANK, 1)},
        {"section": section, "edge": Edge.PAD, "fill": (1,)},
        {"shape": MIDDLE}, {"shape": MIDDLE, "masked": True, "fill": (1,)},
        {"shape": near, "masked": True, "fill": (1,)}, {"shape": MIDDLE, "header_only": True},
        {"shape": MIDDLE, "checksums": True}, {"header_only": True}, {"stamp": stamp},
        {"shape": MIDDLE, "header_only": True, "checksums": True},
    ]  # fmt: skip
    tags = set()
    fields = ("edge", "fill", "masked", "header_only", "checksums")
    for asked in asks:
        form = CutoutForm(**{key: asked[key] for key in fields if key in asked})
        rest = {key: value for key, value in asked.items() if key not in fields}
        plan = subject.plan(form=form, **rest)
        assert plan is not None
        assert subject.plan(form=form, **rest) == plan
        tags.add(plan.etag)
    assert len(tags) == len(asks)


def test_a_form_that_says_nothing_changes_nothing(bench: Workbench) -> None:
    """Edges that are not reached, values that fill nothing."""
    subject = bench.family("tan")
    plain = subject.cut(MIDDLE)
    assert plain == subject.cut(MIDDLE, form=CutoutForm(edge=Edge.REFUSE))
    assert plain == subject.cut(MIDDLE, form=CutoutForm(fill=(7,)))
    assert subject.cut(form=CutoutForm(edge=Edge.PAD, fill=(7,))) == subject.raw
    cube = bench.family("cube_radio")
    band = Interval(0.0, 1.0)
    assert cube.cut(band=band) == cube.cut(band=band, form=CutoutForm(edge=Edge.REFUSE))


# ---------------------------------------------------------------- spelling


@given(st.text(max_size=80) | st.floats().map(repr) | st.integers().map(str))
def test_any_text_is_a_value_or_a_usage_error(text: str) -> None:
    """Whole numbers are exact."""
    for parse in (parse_edge, parse_fill):
        try:
            value = parse(text)
        except UsageError:
            continue
        if isinstance(value, (int, float)):
            again = parse_fill(format_fill(value))
            assert again == value or (math.isnan(value) and math.isnan(float(text)))
            assert type(again) is type(value)


def test_spellings() -> None:
    """In any case."""
    assert parse_edge(" Pad ") is Edge.PAD
    assert parse_fill("blank") is BLANK
    assert parse_fill("-9223372036854775808") == -(2**63)
    assert isinstance(parse_fill("1e3"), float)
    for text in ("inf", "", "1 2", "0x10", "1e999", "1_000", "--1", "9" * 65):
        with pytest.raises(UsageError):
            parse_fill(text)
    for text in ("", "clip", "paddd"):
        with pytest.raises(UsageError, match="trim, pad or refuse"):
            parse_edge(text)


def test_tags_of_unlike_answers_differ(bench: Workbench) -> None:
    """Also where HDUs and boxes are the same, and only headers are not."""
    subject = bench.family("mef")
    every = tuple(HduName(index=one.layout.index) for one in subject.dataset.hdus)
    answers: dict[str, bytes] = {}
    for hdus in ((), every):
        for form in (CutoutForm(header_only=True), CutoutForm(packing=Packing.GZIP)):
            plan = subject.plan(hdus=hdus, form=form)
            assert plan is not None
            contents = b"".join(subject.cutter.cut(plan))
            assert answers.setdefault(plan.etag, contents) == contents


def test_a_mask_needs_a_shape_even_for_a_whole_file(bench: Workbench) -> None:
    """Not an unmasked file under a name that says nothing of it."""
    with pytest.raises(UsageError, match="outside of a shape"):
        bench.family("tan").plan(form=CutoutForm(masked=True))


def test_sums_of_every_hdu(bench: Workbench) -> None:
    """Those cut and those copied whole, tables that move among them."""
    for name, asked in (
        ("mef", {"hdus": (HduName(index=1),)}),
        ("lookup_distortion", {"section": PixelSection(((0, 20), (0, 20)))}),
    ):
        contents = bench.family(name).cut(form=CutoutForm(checksums=True), **asked)
        assert contents is not None
        with fits.open(io.BytesIO(contents), checksum=True) as hdus:  # which warns of wrong ones
            for hdu in hdus:
                assert {"CHECKSUM", "DATASUM"} <= set(hdu.header)


def test_work_for_sums_counts_as_size(bench: Workbench) -> None:
    """Headers alone are small, but sums of their pixels have to be made."""
    subject = bench.family("tan")
    stamp = Stamp(150.1, 2.2, (4000, 3000))
    for checksums in (False, True):
        form = CutoutForm(header_only=True, checksums=checksums, edge=Edge.PAD)
        plan = subject.plan(stamp=stamp, form=form)
        assert plan is not None
        assert (plan.computed_size > 4 * 12_000_000) == checksums
        assert plan.size < 100_000
