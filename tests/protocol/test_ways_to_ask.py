"""The service's own parameters over a socket: lengths, tags, HEAD, errors."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits
from support.truth import parent_file

from soda_service.geometry.healpix import cells_at
from soda_service.geometry.vectors import unit_vectors

if TYPE_CHECKING:
    from support.wire import Wire

PLACE = "53.124 -27.74"
SYNC = "soda/sync"
CELL = int(cells_at(unit_vectors(53.124, -27.74))[0]) >> 2 * (29 - 12)
"""The HEALPix cell of order 12 (an arcminute) at that place."""


@pytest.fixture(name="visit", scope="module")
def _visit(wire: Wire) -> str:
    answer = wire.get("sia/query", RESPONSEFORMAT="csv", COLLECTION="visits", MAXREC=1)
    names, values = (line.split(",") for line in answer.text.splitlines()[:2])
    return values[names.index("obs_publisher_did")]


WAYS: dict[str, dict[str, Any]] = {
    "box": {"BOX": f"{PLACE} 0.01 0.02"},
    "stamp": {"STAMP": f"{PLACE} 32"},
    "padded": {"PIXELS": "[-9:10,5:15]", "EDGE": "pad", "FILL": ["BLANK", "0"]},
    "masked": {"CIRCLE": f"{PLACE} 0.005", "MASK": "true", "HDU": ["IMAGE", "VARIANCE"]},
    "moc": {"MOC": f"12/{CELL}", "HDU": ["IMAGE", "MASK", "VARIANCE"]},
    "proved": {"CIRCLE": f"{PLACE} 0.005", "PROOF": "1"},
    "tiles": {"CIRCLE": f"{PLACE} 0.005", "COMPRESS": "fz"},
    "gzip": {"CIRCLE": f"{PLACE} 0.005", "COMPRESS": "gz"},
    "headers": {"CIRCLE": f"{PLACE} 0.005", "HEADERONLY": "1"},
    "sums": {"STAMP": f"{PLACE} 9", "CHECKSUM": "1", "HEADERONLY": "1"},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_answered_alike(wire: Wire, visit: str, way: str) -> None:
    """GET, HEAD and POST agree on length and tag, and what is known is not sent again."""
    asked = {"ID": visit, **WAYS[way]}
    got = wire.get(SYNC, **asked)
    assert got.status_code == 200, got.text
    assert int(got.headers["content-length"]) == len(got.content)
    head = wire.ask("HEAD", SYNC, **asked)
    for name in ("content-length", "etag", "content-type", "content-disposition"):
        assert head.headers[name] == got.headers[name]
    again = wire.get(SYNC, {"If-None-Match": got.headers["etag"]}, **asked)
    assert (again.status_code, again.content) == (304, b"")
    posted = wire.client.post(wire.base + SYNC, data=asked)
    assert posted.content == got.content
    if "HEADERONLY" in asked:
        assert got.headers["content-type"] == "text/plain;charset=us-ascii"
        assert "SIMPLE" in fits.Header.fromstring(got.text.split("\n\n")[0], sep="\n")
        return
    packing = asked.get("COMPRESS", "")
    content = gzip.decompress(got.content) if packing == "gz" else got.content
    assert got.headers["content-type"] == f"application/{'gzip' if packing == 'gz' else 'fits'}"
    assert f'.fits{packing and "."}{packing}"' in got.headers["content-disposition"]
    with fits.open(io.BytesIO(content)) as cutout:
        cutout.verify("exception")
        for hdu in cutout:
            was_cut = hdu.is_image and hdu.data is not None
            assert ("CUTWCSER" in hdu.header) == ("PROOF" in asked and was_cut)
        names = [hdu.name for hdu in cutout if hdu.is_image and hdu.data is not None]
        assert names == asked.get("HDU", ["IMAGE", "MASK", "VARIANCE"])


def test_a_padded_section_is_the_parents(wire: Wire, visit: str) -> None:
    """Where there are pixels; nothing where there are none, and the header says how many."""
    answer = wire.get(SYNC, ID=visit, HDU="image", **WAYS["padded"])
    with (
        fits.open(parent_file(wire.folder, visit)) as parent,
        fits.open(io.BytesIO(answer.content)) as cutout,
    ):
        image = cutout["IMAGE"]
        assert image.shape == (11, 20)
        assert np.isnan(image.data[:, :10]).all()
        assert np.array_equal(image.data[:, 10:], parent["IMAGE"].data[4:15, :10])
        assert image.header["CUTCOVER"] == 0.5
        assert image.header["CRPIX1"] == parent["IMAGE"].header["CRPIX1"] + 10


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"HDU": "NOTHING"}, "UsageError: there is no HDU 'NOTHING' among 0 (PRIMARY,1), 1 "),
        ({"STAMP": f"{PLACE} 0"}, "UsageError: STAMP has 1 to "),
        ({"STAMP": f"{PLACE} 1000000", "EDGE": "pad", "HDU": "IMAGE"}, "UsageError: the cutout"),
        ({"PIXELS": "[1:2,1:2,1:2]"}, "UsageError: HDU 1 (IMAGE,1): the section has 3 axes"),
        ({"PIXELS": "[0:2,*]", "EDGE": "refuse"}, "UsageError: HDU 1 (IMAGE,1) ends: of [0:2"),
        ({"PIXELS": "[0:2,*]", "EDGE": "pad"}, "UsageError: HDU 2 (MASK,1) has pixels to be"),
        ({"PIXELS": "[1:2]", "BOX": "1 2 3"}, "MultiValuedParamNotSupported: one shape is taken"),
        ({"PIXELS": "[1:2]", "MASK": "1"}, "UsageError: only what is outside of a shape"),
        ({"COMPRESS": "zip"}, "UsageError: COMPRESS: a compression is none, fz or gz, got 'zip'"),
        ({"PROOF": "2"}, "UsageError: PROOF is 0, 1, true or false, got '2'"),
        ({"MOC": "30/1"}, "UsageError: "),
        ({"MOC": "3/1", "BOX": "1 2 3"}, "MultiValuedParamNotSupported: one shape is taken"),
        ({"STAMP": f"{PLACE} 9", "COMPRESS": "gz", "HEADERONLY": "1"}, "UsageError: headers are"),
        ({"EDGE": "x"}, "UsageError: EDGE: an edge is trim, pad or refuse, got 'x'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(wire: Wire, visit: str, asked: dict[str, str], said: str) -> None:
    """400, plain text, a label of the standard."""
    answer = wire.get(SYNC, ID=visit, **asked)
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.startswith(said)


def test_nothing_there_is_204(wire: Wire, visit: str) -> None:
    """Whatever becomes of edges."""
    for asked in ({"PIXELS": "[-9:0,*]"}, {"STAMP": "233 27 5"}, {"BOX": "233 27 0.1"}):
        for edge in ("trim", "pad", "refuse"):
            answer = wire.get(SYNC, ID=visit, EDGE=edge, FILL="0", **asked)
            assert (answer.status_code, answer.content) == (204, b"")
