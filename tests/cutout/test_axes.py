"""Boxes along axes beside the sky: wavelength, time, polarization, and axes of one pixel."""

from __future__ import annotations

import io
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from support.cutouts import compare, places_on
from support.images import (
    COUPLED_FAMILIES,
    POLARIZATION_FAMILIES,
    SPECTRAL_FAMILIES,
    TEMPORAL_FAMILIES,
    primary,
    ramp,
    sky_cards,
)

from soda_service.cutout.form import BLANK, CutoutForm, Edge
from soda_service.demo.instruments import radio
from soda_service.errors import UsageError
from soda_service.geometry.dali import parse_pixels
from soda_service.geometry.shapes import Circle, Interval

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from support.cutouts import Subject, Workbench

C = 299792458.0
"""Metres in a second."""


def section_of(subject: Subject, **asked: Any) -> str | None:
    """The box of the first image, after all of the cutout has been compared; None for no pixel."""
    plan = subject.plan(**asked)
    if plan is None:
        return None
    figures = compare(subject, subject.made(plan))
    assert figures.pixels
    assert figures.places
    assert figures.sky_mas < 0.1
    assert figures.other_axes < 2e-12
    assert figures.values == 0
    assert not figures.lost
    return next(one.box.section for one in plan.hdus if one.box)


def between(one: float, other: float) -> Interval:
    """An interval whatever the order."""
    return Interval(min(one, other), max(one, other))


def frequency_edge(number: float) -> float:
    """Wavelength of an edge of `cube_frequency`: 4 is between the third and the fourth channel."""
    return C / (1.4204e9 + 2.5e5 * (number - 0.5 - 4.0))


@pytest.mark.parametrize(
    ("band", "channels"),
    [
        (between(frequency_edge(4.2), frequency_edge(6.3)), "4:6"),
        (between(frequency_edge(4.0001), frequency_edge(4.9999)), "4:4"),
        (between(frequency_edge(7.5), frequency_edge(7.5)), "7:7"),
        (Interval(-inf, frequency_edge(9.5)), "9:11"),
        (Interval(frequency_edge(2.5), inf), "1:2"),
        (Interval(), "1:11"),
        (Interval(0.0, 1.0), "1:11"),
        (Interval(1e-9, 1e-3), None),
        (Interval(frequency_edge(0.9), 1.0), None),
    ],
)
def test_channels_by_wavelength(bench: Workbench, band: Interval, channels: str | None) -> None:
    """Of a cube in frequency, in a barycentric frame: the longest wave comes first."""
    found = section_of(bench.family("cube_frequency"), band=band)
    assert found == (None if channels is None else f"[1:17,1:13,{channels}]")


@pytest.mark.parametrize("name", SPECTRAL_FAMILIES)
def test_any_band_with_a_place_on_the_sky(bench: Workbench, name: str) -> None:
    """All channels of the box by an open band; a part of them by half the range."""
    subject = bench.family(name)
    (prepared,) = [
        one for one in subject.cutter._prepared.get(subject.dataset).hdus if one.is_cuttable
    ]
    assert prepared.wcs is not None
    spectral = prepared.wcs.spectral
    if spectral is None:
        assert subject.plan(band=Interval()) is None
        return
    edges = spectral.edges
    shape = places_on(subject.grid(next(subject.sky_images())))[0].shape
    whole = section_of(subject, shape=shape, band=Interval())
    plain = section_of(subject, shape=shape)
    assert whole == plain
    assert whole is not None
    middle = len(edges) // 2
    some = between(float(edges[0]), float(edges[middle]))
    part = section_of(subject, shape=shape, band=some)
    assert part is not None
    pairs = part[1:-1].split(",")
    assert pairs[spectral.axis] == f"1:{max(middle, 1)}"
    assert section_of(subject, band=Interval(1e-30, 1e-29)) is None


@pytest.mark.parametrize(
    ("name", "states", "planes"),
    [
        ("cube_stokes", ("I",), "1:1"),
        ("cube_stokes", ("V", "I", "Q"), "1:4"),
        ("cube_stokes", ("I", "Q", "U", "V", "RR"), "1:4"),
        ("cube_stokes", ("XX", "LL"), None),
        ("cube_stokes_linear", ("YX",), "4:4"),
        ("cube_stokes_and_frequency", ("U",), "1:1"),
        ("cube_stokes_and_frequency", ("I", "Q"), "2:3"),
        ("degenerate_axes", ("I",), None),
    ],
)
def test_planes_by_polarization(
    bench: Workbench, name: str, states: tuple[str, ...], planes: str | None
) -> None:
    """STOKES counts up or down, from plane 1 or from another."""
    found = section_of(bench.family(name), pol=states)
    if name == "degenerate_axes":
        assert found == "[1:61,1:47,1:1,1:1]"
    else:
        assert (found and found[1:-1].split(",")[2]) == planes


@pytest.mark.parametrize(
    ("name", "states", "planes"),
    [
        ("cube_stokes", ("V", "Q"), "2:4:2"),
        ("cube_stokes", ("V", "I"), "1:4:3"),
        ("cube_stokes_linear", ("XX", "XY"), "1:3:2"),
        ("cube_stokes_and_frequency", ("U", "I"), "1:3:2"),
    ],
)
@pytest.mark.parametrize("shape", [None, Circle(150.1, 2.2, 0.003)], ids=["all", "circle"])
def test_states_between_are_left_out(
    bench: Workbench, name: str, states: tuple[str, ...], planes: str, shape: Circle | None
) -> None:
    """The smallest evenly spaced axis that holds what was asked for, told truly by its header."""
    subject = bench.family(name)
    contents = subject.cut(shape, pol=states)
    assert contents is not None
    with fits.open(io.BytesIO(contents)) as cut, fits.open(subject.path) as parent:
        said = next(line for line in cut[0].header["HISTORY"] if "section [" in line)
        section = said.partition("[")[2].rstrip("]").split(",")
        assert section[2] == planes
        slices = tuple(
            slice(int(low) - 1, int(high), int(step[0]) if step else 1)
            for low, high, *step in (one.split(":") for one in section)
        )[::-1]
        assert np.array_equal(cut[0].data, parent[0].data[slices])
        places = np.indices(cut[0].data.shape).reshape(cut[0].data.ndim, -1)
        steps = np.array([one.step for one in slices])[:, None]
        starts = np.array([one.start for one in slices])[:, None]
        found = WCS(cut[0].header).all_pix2world(*places[::-1], 0)
        expected = WCS(parent[0].header).all_pix2world(*(starts + steps * places)[::-1], 0)
        assert np.array(found) == pytest.approx(np.array(expected), rel=1e-13, abs=1e-10)
    assert subject.cut(shape, pol=states[::-1]) == contents


@pytest.mark.parametrize(
    ("name", "states", "planes"),
    [
        ("cube_stokes", ("V", "Q"), slice(1, 4, 2)),
        ("cube_stokes", ("V", "I"), slice(0, 4, 3)),
        ("cube_stokes_linear", ("XX", "XY"), slice(0, 3, 2)),
        ("cube_stokes_and_frequency", ("U", "I"), slice(0, 3, 2)),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("edge", [Edge.TRIM, Edge.PAD])
def test_states_between_are_left_out_of_what_is_filled(
    bench: Workbench, name: str, states: tuple[str, ...], planes: slice, masked: bool, edge: Edge
) -> None:
    """Padded and masked answers have the same planes, pixels and coordinates as without POL."""
    subject = bench.family(name)
    shape = Circle(150.12, 2.2, 0.012)  # beyond the edge of some 17 by 13 pixels of 2 mdeg
    form = CutoutForm(edge=edge, masked=masked, fill=(BLANK, -7), checksums=True, proof=True)
    every = subject.cut(shape, form=form)
    some = subject.cut(shape, form=form, pol=states)
    assert every is not None
    assert some is not None
    with fits.open(io.BytesIO(every)) as all_planes, fits.open(io.BytesIO(some)) as cut:
        parent, child = all_planes[0], cut[0]
        axis = next(n for n in range(1, 5) if parent.header[f"CTYPE{n}"] == "STOKES")
        slices = [slice(None)] * parent.data.ndim
        slices[-axis] = planes
        assert parent.data[tuple(slices)].tobytes() == child.data.tobytes()
        filled = np.isnan(child.data) | (child.data == -7)
        assert filled.any() == (masked or edge is Edge.PAD)
        assert child.verify_checksum() == child.verify_datasum() == 1
        assert child.header.get("CUTCOVER") == parent.header.get("CUTCOVER")
        assert child.header["CUTAXSER"] < 1e-9
        numbers = np.arange(parent.header[f"NAXIS{axis}"])[planes]
        world = linear_world(child.header, axis, np.arange(len(numbers)))
        assert list(world) == list(linear_world(parent.header, axis, numbers))


def linear_world(header: fits.Header, axis: int, at: NDArray[np.int_]) -> NDArray[np.float64]:
    """World coordinates of 0-based pixels of an axis that is alone."""
    crval, crpix, cdelt = (header[f"{key}{axis}"] for key in ("CRVAL", "CRPIX", "CDELT"))
    return np.asarray(crval + cdelt * (at + 1 - crpix), dtype=np.float64)


def test_a_section_and_states(bench: Workbench) -> None:
    """Of the planes that the section has, those that hold the states."""
    subject = bench.family("cube_stokes")
    for planes, states, expected in (
        ("1:3", ("I", "V"), "1:1"),
        ("1:3", ("I", "U"), "1:3:2"),
        ("0:9", ("I", "V"), "1:4:3"),
        ("2:4", ("I", "Q", "V"), "2:4:2"),
        ("2:3", ("I", "V"), None),
    ):
        section = parse_pixels(f"[-1:4,*,{planes}]")
        for edge, rows in ((Edge.TRIM, "1:4"), (Edge.PAD, "-1:4")):
            plan = subject.plan(
                section=section, pol=states, form=CutoutForm(edge=edge, fill=(BLANK, 0))
            )
            if expected is None:
                assert plan is None
                continue
            assert plan is not None
            header = fits.Header.fromstring(plan.hdus[0].header.decode("ascii"))
            said = next(line for line in header["HISTORY"] if "section [" in line)
            assert said.partition("section ")[2] == f"[{rows},1:13,{expected}]"


def test_what_lies_beside_an_axis_is_no_answer(bench: Workbench, tmp_path: Path) -> None:
    """A band that misses the cube is 204, whatever flat image is beside the cube."""
    flat = fits.ImageHDU(np.zeros((13, 17), np.float32), name="FIELDMAP")
    with fits.open(bench.family("cube_frequency").path) as hdus:
        fits.HDUList([*hdus, flat]).writeto(tmp_path / "file.fits")
    subject = bench.of(tmp_path / "file.fits")
    assert subject.plan(band=Interval(1e-9, 2e-9)) is None
    inside = subject.plan(band=between(frequency_edge(4.2), frequency_edge(6.3)))
    assert inside is not None
    assert [one.hdu.layout.name for one in inside.hdus] == ["", "FIELDMAP"]
    subject.cutter.close()


def test_distances_from_the_parents_first_pixel_are_refused(
    bench: Workbench, tmp_path: Path
) -> None:
    """An odd power of it in wcslib's TPU depends on where that pixel was, which no card can say.

    A cutout by pixels says that its positions are not true, and a proof refuses it.
    """
    cards = [*sky_cards("TPU"), ("PV1_1", 1.0), ("PV2_1", 1.0), ("PV1_3", 1e-3)]
    (tmp_path / "tpu.fits").write_bytes(primary(ramp(61, 47), cards))
    subject = bench.of(tmp_path / "tpu.fits")
    with pytest.raises(UsageError, match="PV1_3: an odd power of the distance"):
        subject.plan(Circle(150.1, 2.2, 0.01))
    contents = subject.cut(section=parse_pixels("[11:40,5:30]"))
    header = fits.getheader(io.BytesIO(contents or b""))
    assert "  positions are not true here: TPU counts in pixels of the parent" in header["HISTORY"]
    assert [str(card) for card in header["PV*"].cards] == [
        str(card) for card in fits.getheader(subject.path)["PV*"].cards
    ]
    cut = WCS(header).all_pix2world([[20.0, 20.0]], 0)
    parent = WCS(fits.getheader(subject.path)).all_pix2world([[30.0, 24.0]], 0)
    assert np.abs(cut - parent).max() * 3.6e6 > 1
    subject.cutter.close()


def test_every_axis_at_once(bench: Workbench) -> None:
    """Sky, polarization and wavelength of one hypercube."""
    found = section_of(
        bench.family("cube_stokes_and_frequency"),
        shape=Circle(150.1, 2.2, 0.003),
        pol=("I",),
        band=Interval(),
    )
    assert found is not None
    assert found[1:-1].split(",")[2:] == ["3:3", "1:6"]


def test_time_in_utc(bench: Workbench) -> None:
    """Steps of six hours: the first begins an eighth of a day before MJD 58000.5, plus MJDREFF."""
    subject = bench.family("cube_time_utc")
    start = 58000.25 + 0.5 - 1.5 * 0.25
    inside = Interval(start + 2.1 * 0.25, start + 3.9 * 0.25)
    assert section_of(subject, time=inside) == "[1:17,1:13,3:4]"
    assert section_of(subject, time=Interval(-inf, start - 0.1)) is None


def test_time_in_another_scale(bench: Workbench) -> None:
    """TDB is 69.2 seconds ahead of UTC in 2017: more than two of the steps of 30 seconds."""
    subject = bench.family("cube_time")
    ahead = 69.184
    begin = 58000.0 + (4 * 30.0 - 15.0 - ahead + 1) / 86400
    inside = Interval(begin, begin + 28 / 86400)
    assert section_of(subject, time=inside) == "[1:17,1:13,5:5]"


def test_time_in_a_table(bench: Workbench) -> None:
    """TIME-TAB in TAI, 37 s ahead of UTC: the table goes along, and holds at every plane."""
    subject = bench.family("tab_time")
    begin = 58000.25 + (3600 * 3**1.5 - 37) / 86400
    plan = subject.plan(time=Interval(begin, begin + 3600 * (5**1.5 - 3**1.5) / 86400))
    assert plan is not None
    assert plan.hdus[0].box is not None
    assert plan.hdus[0].box.section == "[1:17,1:13,4:6]"
    assert [one.hdu.layout.name for one in plan.hdus] == ["", "WCS-TAB"]
    assert compare(subject, subject.made(plan)).values == 0
    assert subject.plan(time=Interval(58003.0, inf)) is None


@pytest.mark.parametrize(
    ("name", "asked", "noted"),
    [
        ("cube_wavelength", {"band": Interval()}, "SPECSYS is absent"),
        ("cube_frequency", {"band": Interval()}, None),
        ("cube_wavelength", {"shape": Circle(150.1, 2.2, 0.003)}, None),
    ],
)
def test_what_is_uncertain_of_an_axis_is_said(
    bench: Workbench, name: str, asked: dict[str, Any], noted: str | None
) -> None:
    """In the cutout's HISTORY, where that axis was limited."""
    contents = bench.family(name).cut(**asked)
    assert contents is not None
    history = str(fits.getheader(io.BytesIO(contents))["HISTORY"])
    assert ("taken as" in history) == (noted is not None)
    assert (noted or "") in history


def table_axis(path: Path, coordinates: Sequence[float], index: Sequence[float]) -> Path:
    """A cube of eight planes whose wavelengths, in micrometres, stand in a table."""
    count = len(coordinates)
    image = fits.PrimaryHDU(np.zeros((8, 13, 17), np.int16))
    for spec in sky_cards():
        if isinstance(spec, tuple) and spec[0] != "WCSAXES":
            image.header[spec[0]] = spec[1]
    image.header.update({
        "CTYPE3": "WAVE-TAB", "CUNIT3": "um", "CRPIX3": 1.0, "CRVAL3": 1.0, "CDELT3": 1.0,
        "PS3_0": "WCS-TAB", "PV3_1": 1, "PV3_2": 1, "PV3_3": 1, "PS3_1": "COORD", "PS3_2": "INDEX",
    })  # fmt: skip
    row = {"COORD": coordinates, "INDEX": index}
    columns = [
        fits.Column(name, f"{count}D", dim=f"(1,{count})" if name == "COORD" else None,
                    array=np.array([values]))
        for name, values in row.items()
    ]  # fmt: skip
    table = fits.BinTableHDU.from_columns(columns, name="WCS-TAB")
    table.header["EXTVER"] = 1
    fits.HDUList([image, table]).writeto(path)
    return path


@pytest.mark.parametrize(
    ("index", "told"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8], 8),
        ([1, 2, 3, 4, 5, 6, 7.9, 8], 8),
        ([1, 1.1, 3, 4, 5, 6, 7, 8], 8),
        ([1, 2, 3, 4, 5], 5),
    ],
)
def test_a_table_that_ends_near_the_last_planes(
    bench: Workbench, tmp_path: Path, index: list[float], told: int
) -> None:
    """Every plane with a wavelength is found by it; beyond the table there is none to be found."""
    rows = np.array(index)
    path = table_axis(tmp_path / "table.fits", (1 + rows / 10).tolist(), index)
    subject = bench.of(path)
    for plane in range(1, told + 1):
        wavelength = (1 + plane / 10) * 1e-6
        plan = subject.plan(band=Interval(wavelength, wavelength))
        assert plan is not None
        assert plan.hdus[0].box is not None
        assert plan.hdus[0].box.section.endswith(f",{plane}:{plane}]")
    assert subject.plan(band=Interval(1.95e-6, 3e-6)) is None
    subject.cutter.close()


def test_a_table_that_rises_and_falls_is_refused(bench: Workbench, tmp_path: Path) -> None:
    """Between its edges a plane then holds what lies at neither."""
    path = table_axis(tmp_path / "table.fits", [1, 5, 3, 8, 2, 9, 1.5, 7], list(range(1, 9)))
    subject = bench.of(path)
    with pytest.raises(UsageError, match="CTYPE3: the coordinates of its table rise and fall"):
        subject.plan(band=Interval(8e-6, 8e-6))
    subject.cutter.close()


def test_what_is_said_makes_another_answer(bench: Workbench) -> None:
    """The box is the same, the header is not, and neither is the entity tag."""
    subject = bench.family("cube_wavelength")
    circle = Circle(150.1, 2.2, 0.003)
    plain, limited = subject.plan(circle), subject.plan(circle, band=Interval())
    assert plain is not None
    assert limited is not None
    assert [one.box for one in plain.hdus] == [one.box for one in limited.hdus]
    assert subject.made(plain) != subject.made(limited)
    assert plain.etag != limited.etag


@pytest.mark.parametrize(
    ("name", "asked", "reason"),
    [
        ("cube_velocity_no_rest", {"band": Interval()}, "RESTFRQ"),
        ("cube_frequency_slanted", {"band": Interval()}, "PC3_1"),
    ],
)
def test_an_axis_that_cannot_be_told_is_refused_with_the_reason(
    bench: Workbench, name: str, asked: dict[str, Any], reason: str
) -> None:
    """By `plan` and `plan_quickly` alike."""
    subject = bench.family(name)
    for plan in (subject.cutter.plan, subject.cutter.plan_quickly):
        with pytest.raises(UsageError, match=reason):
            plan(subject.request(**asked))


@pytest.mark.parametrize(
    "asked", [{"band": Interval()}, {"time": Interval()}, {"pol": ("I",)}], ids=str
)
def test_what_is_unknown_of_a_dataset_is_never_met(bench: Workbench, asked: dict[str, Any]) -> None:
    """An image without the axis, whose limits the catalog does not know: no overlap."""
    subject = bench.family("tan")
    assert subject.dataset.obscore.pol_states is None
    assert subject.dataset.obscore.em_min is None
    for plan in (subject.cutter.plan, subject.cutter.plan_quickly):
        assert plan(subject.request(**asked)) is None


def test_every_list_has_members() -> None:
    """The parametrizations above are not empty."""
    assert len(SPECTRAL_FAMILIES) > 10
    assert TEMPORAL_FAMILIES
    assert POLARIZATION_FAMILIES
    assert COUPLED_FAMILIES


def test_a_spectrum_is_cut_without_a_sky(bench: Workbench) -> None:
    """One axis of wavelengths, from 4000 Angstrom in steps of 2."""
    subject = bench.family("spectrum")
    plan = subject.plan(band=Interval(4010e-10, 4020e-10))
    assert plan is not None
    assert plan.hdus[0].box is not None
    assert plan.hdus[0].box.section == "[6:11]"
    assert compare(subject, subject.made(plan)).values == 0


def test_the_radio_cube_of_the_demo(bench: Workbench, tmp_path: Path) -> None:
    """One polarization and a few channels around a place."""
    (product,) = radio()
    path = tmp_path / "radio.fits"
    path.write_bytes(product.make())
    subject = bench.of(path)
    grid = subject.grid(0)
    sky = grid.pixel_to_sky(np.array([40.0]), np.array([30.0]))[:, 0]
    place = Circle(
        float(np.degrees(np.arctan2(sky[1], sky[0])) % 360), float(np.degrees(np.arcsin(sky[2]))),
        0.01,
    )  # fmt: skip
    header = subject.parent.hdus[0].header
    axis = next(n for n in range(1, 5) if header[f"CTYPE{n}"] == "FREQ")
    value, pixel, step = (header[f"{key}{axis}"] for key in ("CRVAL", "CRPIX", "CDELT"))
    frequencies = value + (np.array([10.0, 14.0]) - pixel) * step
    everything = section_of(subject, shape=place)
    some = section_of(subject, shape=place, band=between(*(C / frequencies)), pol=("I",))
    assert everything is not None
    assert some is not None
    first, last = (int(one) for one in some[1:-1].split(",")[axis - 1].split(":"))
    # A frame other than the barycentre shifts the band by as much as 30 km/s.
    shift = 1e-4 * value / abs(step) + 1
    assert abs(first - 10) <= shift
    assert abs(last - 14) <= shift
    assert last - first in (3, 4, 5)
    assert some.split(",")[:2] == everything.split(",")[:2]
    subject.cutter.close()
