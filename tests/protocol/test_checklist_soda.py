"""SODA 1.0 {sync}, line by line, over the wire; a test is named after the line it stands for.

What a cutout should be is worked out by astropy from the parent file (`support.pieces`).
"""

from __future__ import annotations

import gzip
import io
import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from support.documents import elements, parse_xml
from support.pieces import pieces, sky_of, within_circle, within_polygon, within_range
from support.truth import parent_file

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2
    from support.pieces import Flags, Piece
    from support.wire import Wire

SYNC = "soda/sync"
VISIT = "ivo://demo.invalid/visits?2024110900036-94"
CUBE = "ivo://demo.invalid/radio?cuttlefish_hi.fits"
STACK = "ivo://demo.invalid/stacks?utopia.field.0042.stk.g.fits.fz"
INFRARED = "ivo://demo.invalid/infrared?aJ_asky_991104s0420117.fits.gz"
DRIZZLED = "ivo://demo.invalid/drizzled?lc4201010_drz.fits"
DIFFERENCE = "ivo://demo.invalid/differences?2024110900036-94"
INSTRUMENTS = [
    VISIT, CUBE, STACK, INFRARED, DRIZZLED, DIFFERENCE,
    "ivo://demo.invalid/templates?template_r.fits", "ivo://demo.invalid/coadds?coadd_g.fits",
]  # fmt: skip
CIRCLE = "53.124 -27.74 0.003"
ELSEWHERE = "10 -27.74 0.01"
LABELS = (
    "Error", "AuthenticationError", "AuthorizationError", "ServiceUnavailable", "UsageError",
    "MultiValuedParamNotSupported",
)  # fmt: skip


def refusal(answer: httpx2.Response, status: int = 400, label: str = "UsageError") -> str:
    """The text of an answer that refuses (SODA 1.0 §5.2)."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].partition(";")[0] == "text/plain"
    assert answer.text.startswith(label + ": ")
    assert label in LABELS
    assert len(answer.content) < 2000
    return answer.text


def cutout(answer: httpx2.Response) -> fits.HDUList:
    """The FITS file in an answer."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/fits"
    assert len(answer.content) % 2880 == 0
    return fits.HDUList.fromstring(answer.content)


def true_pieces(wire: Wire, answer: httpx2.Response, name: str) -> list[Piece]:
    """The images of an answer, each of which is what it says it is."""
    cutout(answer)
    found = pieces(answer.content, parent_file(wire.folder, name))
    assert found
    for piece in found:
        piece.assert_true()
    return found


# ------------------------------------------------------------------ resources


def test_soda_001_002_003_the_capability_is_declared(wire: Wire) -> None:
    """Sync is a sibling of capabilities and availability; there is no async to announce."""
    for path in ("soda/capabilities", "capabilities"):
        root = parse_xml(wire.get(path).content)
        found = elements(
            root, "capability[@standardID='ivo://ivoa.net/std/SODA#sync-1.0']/interface"
        )
        assert len(found) == 1
        xsi = "{http://www.w3.org/2001/XMLSchema-instance}type"
        assert (found[0].get(xsi), found[0].get("role")) == ("vs:ParamHTTP", "std")
        (url,) = elements(found[0], "accessURL")
        assert (url.text, url.get("use")) == (wire.base + SYNC, "base")
        assert not elements(root, "capability[contains(@standardID, 'async')]")
    assert wire.get("soda/availability").status_code == 200
    refusal(wire.get("soda/async"), 404)


def test_soda_005_get_post_and_multipart_are_the_same(wire: Wire) -> None:
    """Names in any case, in the query string and in both kinds of body."""
    for asked in (
        {"ID": VISIT, "CIRCLE": CIRCLE},
        {"id": CUBE, "Circle": CIRCLE, "pol": ["I", "Q"], "band": "0.2136 0.2138"},
    ):
        answers = [
            wire.get(SYNC, **asked),
            wire.post(SYNC, **asked),
            wire.post_parts(SYNC, **asked),
        ]
        half = dict(list(asked.items())[1:])
        at = wire.url(SYNC, **dict(list(asked.items())[:1])).removeprefix(wire.base)
        answers += [wire.post(at, **half), wire.post_parts(at, **half)]
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1


# ------------------------------------------------------------------ ID


def test_soda_010_the_id(wire: Wire) -> None:
    """Missing is 400, unknown 404, in any case the same dataset; once is enough, twice is one."""
    for asked in ({}, {"CIRCLE": CIRCLE}, {"ID": ""}, {"ID": " ", "CIRCLE": CIRCLE}):
        assert "ID" in refusal(wire.get(SYNC, **asked))
        assert "ID" in refusal(wire.post(SYNC, **asked))
        assert "ID" in refusal(wire.post_parts(SYNC, **asked))
    refusal(wire.get(SYNC, ID="ivo://demo.invalid/visits?none", CIRCLE=CIRCLE), 404)
    refusal(wire.get(SYNC, ID=VISIT[:-1], CIRCLE=CIRCLE), 404)
    want = wire.get(SYNC, ID=VISIT, CIRCLE=CIRCLE).content
    assert wire.get(SYNC, ID=VISIT.upper(), CIRCLE=CIRCLE).content == want
    assert wire.get(SYNC, ID=[VISIT, VISIT], CIRCLE=[CIRCLE, CIRCLE]).content == want


@pytest.mark.parametrize("name", INSTRUMENTS, ids=lambda name: name.split("/")[3].split("?")[0])
def test_soda_022_an_id_alone_is_the_file(wire: Wire, name: str) -> None:
    """Byte for byte, compressed or not, under its own name."""
    answer = wire.get(SYNC, ID=name)
    file = parent_file(wire.folder, name)
    assert answer.content == file.read_bytes()
    assert answer.headers["content-length"] == str(file.stat().st_size)
    assert f'filename="{file.name}"' in answer.headers["content-disposition"]
    head = wire.ask("HEAD", SYNC, ID=name)
    assert head.headers["etag"] == answer.headers["etag"]


# ------------------------------------------------------------------ shapes

SHAPES: dict[str, tuple[str, str, Callable[..., Flags], list[float]]] = {
    "circle": ("CIRCLE", "{}", within_circle, [53.1215, -27.7361, 0.0107]),
    "pos-circle": ("POS", "CIRCLE {}", within_circle, [53.1215, -27.7361, 0.0107]),
    "pos-circle-lower-case": ("POS", "circle {}", within_circle, [53.1284, -27.7423, 0.0041]),
    "pos-range": ("POS", "RANGE {}", within_range, [53.1121, 53.1307, -27.7453, -27.7391]),
    "polygon": ("POLYGON", "{}", within_polygon,
                [53.1111, -27.7444, 53.1333, -27.7413, 53.1188, -27.7301]),
    "polygon-reversed": ("POLYGON", "{}", within_polygon,
                         [53.1188, -27.7301, 53.1333, -27.7413, 53.1111, -27.7444]),
    "pos-polygon": ("POS", "POLYGON {}", within_polygon,
                    [53.1111, -27.7444, 53.1333, -27.7444, 53.1351, -27.7321, 53.1099, -27.7311]),
    "range-of-aladin": ("RANGE", "{}", within_range, [53.1121, 53.1307, -27.7453, -27.7391]),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", INSTRUMENTS, ids=lambda name: name.split("/")[3].split("?")[0])
def test_soda_011_to_014_021_every_shape(wire: Wire, name: str, shape: str) -> None:
    """The smallest box of whole pixels; each pixel the parent's, where the parent has it."""
    parameter, form, within, numbers = SHAPES[shape]
    text = form.format(" ".join(map(str, numbers)))
    answer = wire.get(SYNC, ID=name, **{parameter: text})
    found = true_pieces(wire, answer, name)
    for piece in found:
        sky = sky_of(piece.parent.header)
        piece.assert_best(within(sky, *numbers), more=4 if within is within_polygon else 1)
    assert len({str(piece.box[-2:]) for piece in found}) == 1, "one grid is cut by one box"


def test_soda_012_range_with_infinities_and_wrap(wire: Wire) -> None:
    """All of the sky is all of the pixels; a band of declination takes full rows of the sky."""
    whole = np.asarray(fits.getdata(parent_file(wire.folder, CUBE)))
    for text in ("-Inf +Inf -Inf +Inf", "0 360 -90 90", "53 54 -Inf inf", "-Inf 54 -28 +Inf",
                 "300 54 -28 -27", "-60 54 -28 -27"):  # fmt: skip
        (image,) = cutout(wire.get(SYNC, ID=CUBE, POS=f"RANGE {text}"))
        assert np.array_equal(image.data, whole, equal_nan=True), text
    assert wire.get(SYNC, ID=CUBE, POS="RANGE 54 53 -28 -27").status_code == 204


def test_soda_013_values_without_a_keyword(wire: Wire) -> None:
    """CIRCLE and POLYGON are numbers; a radius is above 0 and at most 180."""
    for parameter, texts in {
        "CIRCLE": ["CIRCLE 53 -27 1", "53 -27", "53 -27 1 1", "53 -27 0", "53 -27 -0", "53 -27 -1",
                   "53 -27 180.001", "53 -27 NaN", "NaN NaN NaN", "53 -27 Inf", "53 -97 1", "a b c",
                   "53,-27,1", "53°  -27 1", "1e400 0 1", "9" * 5000 + " 0 1"],
        "POLYGON": ["POLYGON 53 -27 54 -27 54 -28", "53 -27 54 -27", "53 -27 54 -27 54",
                    "53 -27 53 -27 53 -27", "0 0 90 0 180 0", "0 0 120 0 240 0", "1 1 2 2 NaN 3",
                    "1 1 2 2 3 Inf", "53 -27 54 -27 54 -91", "1 2 " * 20_000],
        "POS": ["53 -27 1", "BOX 53 -27 1 1", "CIRCLE 53 -27 0", "RANGE 53 54 -27 -28",
                "RANGE 53 54 -27", "RANGE NaN 54 -28 -27", "POLYGON 1 1 2 2", "CIRCLE", "x"],
        "RANGE": ["RANGE 53 54 -28 -27", "53 54 -27 -28", "53 54"],
    }.items():  # fmt: skip
        for text in texts:
            refusal(wire.post(SYNC, ID=VISIT, **{parameter: text}))
    assert wire.get(SYNC, ID=VISIT, CIRCLE="53.124 -27.74 1e-12").status_code == 200
    assert wire.get(SYNC, ID=VISIT, CIRCLE="53.124 -27.74 180").status_code == 200


def test_soda_014_polygons_close_themselves(wire: Wire) -> None:
    """A repeated last vertex, either winding, longitudes a turn away: the same answer."""
    texts = [
        "53.11 -27.74 53.13 -27.74 53.12 -27.73",
        "53.11 -27.74 53.13 -27.74 53.12 -27.73 53.11 -27.74",
        "53.12 -27.73 53.13 -27.74 53.11 -27.74",
        "413.11 -27.74 53.13 -27.74 -306.88 -27.73",
    ]
    answers = [wire.get(SYNC, ID=VISIT, POLYGON=text) for text in texts]
    answers += [wire.get(SYNC, ID=VISIT, POS=f"POLYGON {text}") for text in texts]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1


def test_soda_020_a_region_over_the_edge_is_clipped(wire: Wire) -> None:
    """Up to the edge and no further; round a corner; larger than the image."""
    file = parent_file(wire.folder, VISIT)
    sky = sky_of(fits.getheader(file, "IMAGE"))
    height, width = sky.shape
    for row, column in ((0, 0), (height - 1, width - 1), (0, width - 1), (height // 2, 0)):
        at = sky[row, column]
        circle = (at.ra.deg, at.dec.deg, 0.004)
        answer = wire.get(SYNC, ID=VISIT, CIRCLE=" ".join(map(repr, map(float, circle))),
                          CUTOUTDETAIL="Image")  # fmt: skip
        (piece,) = true_pieces(wire, answer, VISIT)
        piece.assert_best(within_circle(sky, *circle))
    answer = wire.get(SYNC, ID=VISIT, CIRCLE="53.124 -27.74 5", CUTOUTDETAIL="Image")
    (piece,) = true_pieces(wire, answer, VISIT)
    assert piece.image.shape == (height, width)


# ------------------------------------------------------------------ BAND, TIME, POL


def channels() -> list[float]:
    """Wavelengths of the centres of the cube's channels, descending."""
    return [299_792_458.0 / (1.403e9 + (at + 1 - 18) * 4e5) for at in range(36)]


@pytest.mark.parametrize(("first", "last"), [(0, 0), (7, 7), (7, 12), (35, 35), (0, 35), (30, 35)])
def test_soda_015_016_band_selects_channels(wire: Wire, first: int, last: int) -> None:
    """The channels from one centre to another; a point gives one, an interval at least one."""
    centres = channels()
    low, high = centres[last], centres[first]
    texts = [f"{low!r} {high!r}"] + [repr(low)] * (first == last)
    texts += [f"{low!r} +Inf"] * (first == 0) + [f"-Inf {high!r}"] * (last == 35)
    for text in texts:
        answer = wire.get(SYNC, ID=CUBE, CIRCLE=CIRCLE, BAND=text)
        (piece,) = true_pieces(wire, answer, CUBE)
        assert piece.box[1] == slice(first, last + 1)
        header = piece.image.header
        assert header["CRPIX3"] == 18 - first
        # The frequency of the first channel, by the cutout's own cards.
        frequency = header["CRVAL3"] + (1 - header["CRPIX3"]) * header["CDELT3"]
        assert 299_792_458.0 / frequency == pytest.approx(centres[first], rel=1e-12)


def test_soda_015_band_within_one_channel(wire: Wire) -> None:
    """An interval that holds no centre still lies in a channel."""
    at = 299_792_458.0 / (1.403e9 + 1e5)
    answer = wire.get(SYNC, ID=CUBE, BAND=f"{at!r} {at * (1 + 1e-9)!r}", POL="I")
    (piece,) = true_pieces(wire, answer, CUBE)
    assert (piece.box[1], piece.box[0]) == (slice(17, 18), slice(0, 1))
    assert piece.image.shape[2:] == (64, 72)


def test_soda_015_017_values_that_are_no_intervals(wire: Wire) -> None:
    """To the letter."""
    for parameter in ("BAND", "TIME"):
        for text in ("x", "1 2 3", "2 1", "NaN", "NaN NaN", "1 NaN", "1,2", "1/2", "550nm",
                     "+Inf +Inf",
                     "-Inf -Inf", "0x1 2", "1_0 20", "9" * 5000):  # fmt: skip
            text_of = refusal(wire.post(SYNC, ID=CUBE, CIRCLE=CIRCLE, **{parameter: text}))
            assert parameter in text_of, text


def test_soda_016_band_beyond_the_cube_is_204(wire: Wire) -> None:
    """Neither gives a pixel, whatever the circle."""
    for text in ("5e-7 6e-7", "0.3 +Inf", "-Inf 0.2", "0.22"):
        assert wire.get(SYNC, ID=CUBE, CIRCLE=CIRCLE, BAND=text).status_code == 204


def test_soda_016_017_an_axis_that_is_no_axis(wire: Wire) -> None:
    """BAND and TIME of an image without such an axis: all of it, or nothing."""
    whole = wire.get(SYNC, ID=VISIT, CIRCLE=CIRCLE)
    for asked in ({"BAND": "6e-7 6.1e-7"}, {"BAND": "-Inf +Inf"}, {"TIME": "60623 60624"},
                  {"TIME": "60623.2566"}, {"TIME": "-Inf Inf", "BAND": "6e-7"}):  # fmt: skip
        answer = wire.get(SYNC, ID=VISIT, CIRCLE=CIRCLE, **asked)
        assert answer.content == whole.content, asked
    for asked in ({"BAND": "1e-6 2e-6"}, {"TIME": "50000 60000"}, {"TIME": "60624 +Inf"},
                  {"BAND": "6e-7", "TIME": "1"}, {"BAND": "1", "TIME": "60623.2566"}):  # fmt: skip
        assert wire.get(SYNC, ID=VISIT, CIRCLE=CIRCLE, **asked).status_code == 204, asked
    for text in ("58546.5 58546.6", "-Inf +Inf"):
        assert wire.get(SYNC, ID=CUBE, CIRCLE=CIRCLE, TIME=text).status_code == 200
    assert wire.get(SYNC, ID=CUBE, CIRCLE=CIRCLE, TIME="60000 60001").status_code == 204


@pytest.mark.parametrize(
    ("states", "first", "last"),
    [(["I"], 0, 0), (["V"], 3, 3), (["I", "Q"], 0, 1), (["U", "Q"], 1, 2), (["q", "Q"], 1, 1),
     (["I", "Q", "U", "V"], 0, 3), (["V", "RR"], 3, 3), (["XY", "I"], 0, 0)],
    ids=str,
)  # fmt: skip
def test_soda_018_019_polarization_states(
    wire: Wire, states: list[str], first: int, last: int
) -> None:
    """All states form one filter: those of them that exist, in one file."""
    for answer in (wire.get(SYNC, ID=CUBE, CIRCLE=CIRCLE, POL=states),
                   wire.post(SYNC, ID=CUBE, CIRCLE=CIRCLE, POL=states)):  # fmt: skip
        (piece,) = true_pieces(wire, answer, CUBE)
        assert piece.box[0] == slice(first, last + 1)
        assert piece.box[1] == slice(0, 36)
        assert piece.image.header["CRPIX4"] == 1 - first


def test_soda_018_states_apart_are_in_one_file(wire: Wire) -> None:
    """I and V: both are there, nothing else is, and the axis says which plane is which."""
    apart = wire.get(SYNC, ID=CUBE, CIRCLE=CIRCLE, POL=["V", "I"])
    (whole,) = true_pieces(wire, wire.get(SYNC, ID=CUBE, CIRCLE=CIRCLE), CUBE)
    with fits.open(io.BytesIO(apart.content)) as hdus:
        header = hdus[0].header
        codes = [header["CRVAL4"] + (at + 1 - header["CRPIX4"]) * header["CDELT4"]
                 for at in range(header["NAXIS4"])]  # fmt: skip
        assert codes == [1, 4]
        assert np.array_equal(hdus[0].data, whole.image.data[::3])


def test_soda_019_states_that_do_not_exist(wire: Wire) -> None:
    """No such word is an error, no such plane is no pixel."""
    for text in ("X", "/I/", "I Q", "IQUV", "Stokes I", "1", "*", "x" * 5000):
        assert "POL" in refusal(wire.post(SYNC, ID=CUBE, CIRCLE=CIRCLE, POL=text))
    refusal(wire.get(SYNC, ID=CUBE, CIRCLE=CIRCLE, POL=["I", "nonsense"]))
    assert wire.get(SYNC, ID=CUBE, CIRCLE=CIRCLE, POL="RR").status_code == 204
    assert wire.get(SYNC, ID=CUBE, CIRCLE=CIRCLE, POL=["XX", "YY"]).status_code == 204


def test_all_axes_at_once(wire: Wire) -> None:
    """A circle, a band and a state of the cube: the intersection."""
    centres = channels()
    asked = {"CIRCLE": "53.124 -27.74 0.01", "BAND": f"{centres[20]!r} {centres[10]!r}"}
    (piece,) = true_pieces(wire, wire.get(SYNC, ID=CUBE, POL=["Q", "U"], **asked), CUBE)
    assert (piece.box[0], piece.box[1]) == (slice(1, 3), slice(10, 21))
    piece.assert_best(within_circle(sky_of(piece.parent.header), 53.124, -27.74, 0.01))


# ------------------------------------------------------------------ multiplicity, unknown names


@pytest.mark.parametrize(
    "asked",
    [
        {"CIRCLE": [CIRCLE, ELSEWHERE]},
        {"POLYGON": ["53.1 -27.7 53.2 -27.7 53.2 -27.8", "53.1 -27.7 53.2 -27.7 53.2 -27.9"]},
        {"POS": [f"CIRCLE {CIRCLE}", f"CIRCLE {ELSEWHERE}"]},
        {"CIRCLE": CIRCLE, "POLYGON": "53.1 -27.7 53.2 -27.7 53.2 -27.8"},
        {"CIRCLE": CIRCLE, "POS": f"CIRCLE {CIRCLE}"},
        {"POS": f"CIRCLE {CIRCLE}", "RANGE": "53 54 -28 -27"},
        {"BAND": ["0.2136 0.2138", "0.2137 0.2139"]},
        {"TIME": ["1 2", "1 3"]},
        {"CUTOUTDETAIL": ["a", "b"]},
        {"CHECKSUM": ["0", "1"]},
        {"RESPONSEFORMAT": ["application/fits", "image/fits"]},
        {"CIRCLE": [CIRCLE, "nonsense"]},
    ],
    ids="+".join,
)
def test_soda_023_040_several_values_where_one_is_taken(
    wire: Wire, asked: dict[str, object]
) -> None:
    """Its own label, and never silently the first or the last."""
    for answer in (wire.get(SYNC, ID=CUBE, **asked), wire.post(SYNC, ID=CUBE, **asked)):
        refusal(answer, 400, "MultiValuedParamNotSupported")
    answer = wire.get(SYNC, ID=[CUBE, VISIT], CIRCLE=CIRCLE)
    refusal(answer, 400, "MultiValuedParamNotSupported")


def test_soda_040_the_same_value_twice_is_one(wire: Wire) -> None:
    """As clients repeat what a descriptor fixes."""
    asked = {"CIRCLE": CIRCLE, "BAND": "0.2136 0.2138", "CUTOUTDETAIL": "", "CHECKSUM": "0"}
    want = wire.get(SYNC, ID=CUBE, **asked).content
    assert (
        wire.get(SYNC, ID=CUBE, **{key: [text] * 3 for key, text in asked.items()}).content == want
    )


def test_soda_024_what_is_not_known_is_ignored(wire: Wire) -> None:
    """And what is blank is absent, as Aladin sends it."""
    want = wire.get(SYNC, ID=VISIT, CIRCLE=CIRCLE).content
    extra = {
        "RUNID": "n7",
        "REQUEST": "x",
        "VERSION": "1.0",
        "r": "0.1",
        "UPLOAD": "a,b",
        "a;b": "c",
    }
    assert wire.get(SYNC, ID=VISIT, CIRCLE=CIRCLE, **extra).content == want
    blank = dict.fromkeys(("POS", "POLYGON", "TIME", "BAND", "POL", "CUTOUTDETAIL", "CHECKSUM"), "")
    assert wire.get(SYNC, ID=VISIT, CIRCLE=CIRCLE, **blank).content == want
    assert wire.post_parts(SYNC, ID=VISIT, CIRCLE=CIRCLE, **blank).content == want


def test_soda_025_response_formats(wire: Wire) -> None:
    """FITS under the name that was asked for; any other fails."""
    for asked, said in (("fits", "application/fits"), ("application/fits", "application/fits"),
                        ("image/fits", "image/fits"), ("IMAGE/FITS", "image/fits")):  # fmt: skip
        for name in ("RESPONSEFORMAT", "FORMAT"):
            answer = wire.get(SYNC, ID=VISIT, CIRCLE=CIRCLE, **{name: asked})
            assert answer.headers["content-type"] == said
    for asked in ("image/png", "votable", "application/x-votable+xml", "csv", "é", "x" * 9000):
        refusal(wire.post(SYNC, ID=VISIT, CIRCLE=CIRCLE, RESPONSEFORMAT=asked))


# ------------------------------------------------------------------ details


def test_details_of_a_visit(wire: Wire) -> None:
    """With a shape each detail is cut, without one its HDUs are whole."""
    file = parent_file(wire.folder, VISIT)
    with fits.open(file) as parent:
        names = [hdu.name for hdu in parent]
        wanted = {"Image": names[:2], "MaskedImage": names[:4], "Exposure": names}
        for detail, its in wanted.items():
            cut = cutout(wire.get(SYNC, ID=VISIT, CUTOUTDETAIL=detail, CIRCLE=CIRCLE))
            assert [hdu.name for hdu in cut] == its
            whole = wire.get(SYNC, ID=VISIT, CUTOUTDETAIL=detail)
            for hdu in cutout(whole)[1:]:
                assert hdu.header.tostring() == parent[hdu.name].header.tostring()
                assert np.array_equal(hdu.data, parent[hdu.name].data, equal_nan=hdu.is_image)
        assert [h.name for h in cutout(wire.get(SYNC, ID=VISIT, CIRCLE=CIRCLE))] == names


def test_a_detail_that_does_not_exist(wire: Wire) -> None:
    """A UsageError that says which there are; details are the dataset's own."""
    text = refusal(wire.get(SYNC, ID=VISIT, CUTOUTDETAIL="Thumbnail", CIRCLE=CIRCLE))
    assert all(name in text for name in ("Image", "MaskedImage", "Exposure", "Thumbnail"))
    refusal(wire.get(SYNC, ID=CUBE, CUTOUTDETAIL="MaskedImage", CIRCLE=CIRCLE))
    refusal(wire.get(SYNC, ID=VISIT, CUTOUTDETAIL="x" * 5000))
    refusal(wire.get(SYNC, ID=VISIT, CUTOUTDETAIL="../IMAGE"))


# ------------------------------------------------------------------ the answer


@pytest.mark.parametrize("coding", ["gzip", "gzip, br, zstd", "*", "identity;q=0, *", "deflate"])
def test_soda_050_fits_is_never_compressed_for_transport(wire: Wire, coding: str) -> None:
    """Exact length, no Content-Encoding; the connection cannot tell otherwise."""
    plain = wire.get(SYNC, {"Accept-Encoding": "identity"}, ID=VISIT, CIRCLE=CIRCLE)
    for name, asked in (
        (VISIT, {"CIRCLE": CIRCLE}),
        (INFRARED, {}),
        (INFRARED, {"CIRCLE": CIRCLE}),
    ):
        answer = wire.get(SYNC, {"Accept-Encoding": coding}, ID=name, **asked)
        assert answer.headers["content-length"] == str(len(answer.content))
        assert "transfer-encoding" not in answer.headers
        assert "no-transform" in answer.headers["cache-control"]
        if name == VISIT:
            assert answer.content == plain.content
    assert gzip.decompress(wire.get(SYNC, ID=INFRARED).content)[:6] == b"SIMPLE"


def test_soda_050_headers_of_a_cutout(wire: Wire) -> None:
    """Type, exact length, a filename of its own, when the parent changed, and nothing of ranges."""
    seen = set()
    for name in INSTRUMENTS:
        answer = wire.get(SYNC, ID=name, CIRCLE=CIRCLE)
        cutout(answer)
        assert answer.headers["content-length"] == str(len(answer.content))
        match = re.fullmatch(r'attachment; filename="([A-Za-z0-9._+-]+\.fits)"',
                             answer.headers["content-disposition"])  # fmt: skip
        assert match is not None
        seen.add(match[1])
        assert "accept-ranges" not in answer.headers
        modified = parsedate_to_datetime(answer.headers["last-modified"]).timestamp()
        assert modified == int(parent_file(wire.folder, name).stat().st_mtime)
    assert len(seen) == len(INSTRUMENTS)


def test_soda_050_head_is_get_without_the_body(wire: Wire) -> None:
    """All headers alike, for a cutout, a file, nothing, and an error."""
    varying = {"date", "x-request-id"}
    for asked in ({"ID": VISIT, "CIRCLE": CIRCLE}, {"ID": CUBE}, {"ID": VISIT, "CIRCLE": ELSEWHERE},
                  {"ID": VISIT, "CIRCLE": "x"}, {"ID": "x"}, {}):  # fmt: skip
        got, head = wire.get(SYNC, **asked), wire.ask("HEAD", SYNC, **asked)
        assert (head.status_code, head.content) == (got.status_code, b"")
        for answer in (got, head):
            for name in varying:
                answer.headers.pop(name)
        assert dict(head.headers) == dict(got.headers)


def test_soda_050_conditions(wire: Wire) -> None:
    """The ETag belongs to the bytes: another request has another, the same request is 304."""
    asked = {"ID": VISIT, "CIRCLE": CIRCLE}
    first = wire.get(SYNC, **asked)
    tag = first.headers["etag"]
    assert re.fullmatch(r'"[^"]+"', tag)
    for match in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = wire.get(SYNC, {"If-None-Match": match}, **asked)
        assert (answer.status_code, answer.headers["etag"]) == (304, tag)
    assert wire.get(SYNC, {"If-None-Match": '"other"'}, **asked).status_code == 200
    since = first.headers["last-modified"]
    assert wire.get(SYNC, {"If-Modified-Since": since}, **asked).status_code == 304
    others = [{"CUTOUTDETAIL": "Image"}, {"CHECKSUM": "1"}, {"CIRCLE": "53.124 -27.74 0.004"},
              {"CIRCLE": ""}]  # fmt: skip
    tags = {tag, *(wire.get(SYNC, **{**asked, **other}).headers["etag"] for other in others)}
    assert len(tags) == len(others) + 1


def test_soda_051_no_overlap_is_204(wire: Wire) -> None:
    """An empty body, neither type nor length, by every method; and the connection goes on."""
    for name in INSTRUMENTS:
        for asked in ({"CIRCLE": ELSEWHERE}, {"POS": "RANGE 0 10 -90 90"},
                      {"POLYGON": "10 10 11 10 11 11", "CHECKSUM": "1"}):  # fmt: skip
            for answer in (wire.get(SYNC, ID=name, **asked), wire.post(SYNC, ID=name, **asked),
                           wire.ask("HEAD", SYNC, ID=name, **asked)):  # fmt: skip
                assert (answer.status_code, answer.content) == (204, b"")
                assert not {"content-type", "content-length", "transfer-encoding"} & {
                    *answer.headers
                }


def test_soda_052_053_errors_are_text_with_a_label(wire: Wire) -> None:
    """Also what the router refuses: another method, another path."""
    refusal(wire.get(SYNC, ID=VISIT, CIRCLE="x"), 400)
    for method in ("PUT", "DELETE", "PATCH"):
        answer = wire.ask(method, SYNC, ID=VISIT)
        refusal(answer, 405)
        assert {"GET", "POST", "HEAD"} <= {*re.split(r",\s*", answer.headers["allow"])}
    for path in ("soda/", "soda/nothing", "soda/sync/", "soda/sync/x", "soda//sync", "soda"):
        refusal(wire.get(path, ID=VISIT), 404)


# ------------------------------------------------------------------ headers of the cutout


@pytest.mark.parametrize("name", INSTRUMENTS, ids=lambda name: name.split("/")[3].split("?")[0])
def test_checksums(wire: Wire, name: str) -> None:
    """Asked for, they are right; not asked for, no wrong one is left behind."""
    for asked in ({"CHECKSUM": "1"}, {"CHECKSUM": "true"}, {"CHECKSUM": "0"}, {}):
        answer = wire.get(SYNC, ID=name, CIRCLE=CIRCLE, **asked)
        assert answer.headers["content-length"] == str(len(answer.content))
        # astropy warns where a sum is wrong, and a warning is a failure here.
        with fits.open(io.BytesIO(answer.content), checksum=True) as hdus:
            for hdu in hdus:
                _ = hdu.data
                if asked.get("CHECKSUM") in {"1", "true"} and hdu.header["NAXIS"] and hdu.is_image:
                    assert {"CHECKSUM", "DATASUM"} <= {*hdu.header}
    for text in ("yes", "2", "on", "x" * 3000):
        refusal(wire.get(SYNC, ID=name, CIRCLE=CIRCLE, CHECKSUM=text))


@pytest.mark.parametrize("name", INSTRUMENTS, ids=lambda name: name.split("/")[3].split("?")[0])
def test_the_header_is_the_parents_with_its_origin(wire: Wire, name: str) -> None:
    """Every card of the parent but those that move; HISTORY says what was cut out of what."""
    moves = re.compile(
        r"NAXIS\d|CRPIX\d[A-Z]?$|CRVAL\dA|LT[VM]|CHECKSUM|DATASUM|HISTORY|COMMENT|$|"
        r"SIMPLE|XTENSION|EXTEND|NEXTEND"
    )
    found = true_pieces(wire, wire.get(SYNC, ID=name, CIRCLE=CIRCLE), name)
    for piece in found:
        mine, its = piece.image.header, piece.parent.header
        for axis in (1, 2):
            if f"CRVAL{axis}A" in its:
                # The pixel's place on the detector, whichever of the two numbers moved.
                mine_at, its_at = (one[f"CRVAL{axis}A"] + one.get(f"CDELT{axis}A", 1.0)
                                   * (1 - one[f"CRPIX{axis}A"]) for one in (mine, its))  # fmt: skip
                assert mine_at == its_at + piece.lower[axis - 1]
        for card in its.cards:
            if moves.match(card.keyword) is None:
                assert mine[card.keyword] == card.value, card.keyword
        history = "".join(str(line) for line in mine["HISTORY"])
        section = ",".join(
            f"{low + 1}:{low + length}"
            for low, length in zip(piece.lower, piece.image.shape[::-1], strict=True)
        )
        assert name in history
        assert f"[{section}]" in history
        assert "soda-service" in history.lower()
