"""Cutouts that say by how much their coordinates differ from their parent's."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from astropy.io import fits
from support.cutouts import places_on
from support.images import SKY_FAMILIES

from soda_service.cutout.cutter import Cutter
from soda_service.cutout.form import CutoutForm, Edge
from soda_service.cutout.plan import NOT_QUICK
from soda_service.errors import UntrueHeaderError
from soda_service.fits.header import HeaderCutter

if TYPE_CHECKING:
    from support.cutouts import Workbench

    from soda_service.geometry.pixelbox import PixelBox

PROVED = CutoutForm(proof=True)


@pytest.mark.parametrize("name", SKY_FAMILIES[::3])
def test_every_cut_image_says_its_error(bench: Workbench, name: str) -> None:
    """It is told, it is small, and the request goes to a thread."""
    subject = bench.family(name)
    shape = places_on(subject.grid(next(subject.sky_images())))[0].shape
    assert subject.cutter.plan_quickly(subject.request(shape, form=PROVED)) is NOT_QUICK
    contents = subject.cut(shape, form=PROVED)
    assert contents is not None
    plan = subject.plan(shape, form=PROVED)
    assert plan is not None
    with fits.open(io.BytesIO(contents)) as hdus:
        for hdu, one in zip(hdus, plan.hdus, strict=True):
            if one.box is None:
                assert "CUTWCSNP" not in hdu.header
            elif hdu.header["CUTWCSNP"]:
                assert hdu.header.get("CUTWCSER", 0.0) < 0.1
                assert hdu.header.get("CUTAXSER", 0.0) < 1e-3


def test_with_padding_steps_and_sums(bench: Workbench) -> None:
    """The proof is of the header that goes out, and the sums are of the header with the proof."""
    subject = bench.family("cube_stokes")
    shape = places_on(subject.grid(0))[2].shape
    form = CutoutForm(proof=True, checksums=True, edge=Edge.PAD)
    for asked in ({"pol": ("I", "V"), "form": CutoutForm(proof=True)}, {"form": form}):
        contents = subject.cut(shape, **asked)
        assert contents is not None
        with fits.open(io.BytesIO(contents), checksum=True) as hdus:
            assert hdus[0].header["CUTWCSER"] < 1e-3
            assert hdus[0].header["CUTAXSER"] < 1e-6


def test_a_wrong_header_never_goes_out(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the header one pixel off, there would be no cutout."""
    subject = bench.family("tan_sip")
    shape = places_on(subject.grid(0))[0].shape
    real = HeaderCutter.cut

    def bent(self: HeaderCutter, box: PixelBox, provenance: tuple[bytes, ...] = ()) -> bytes:
        return real(self, box.replaced(0, box.lower[0] - 1, box.upper[0] - 1), provenance)

    monkeypatch.setattr(HeaderCutter, "cut", bent)
    with pytest.raises(UntrueHeaderError):
        subject.plan(shape, form=PROVED)


def test_the_service_may_prove_everything(bench: Workbench) -> None:
    """By a setting; a request may still say no."""
    subject = bench.family("tan")
    shape = places_on(subject.grid(0))[0].shape
    settings = bench.settings.model_copy(update={"proof": True})
    cutter = Cutter(subject.cutter._resolver, settings)
    try:
        proved = cutter.plan(subject.request(shape))
        plain = cutter.plan(subject.request(shape, form=CutoutForm(proof=False)))
    finally:
        cutter.close()
    assert proved is not None
    assert plain is not None
    assert b"CUTWCSER" in proved.hdus[0].header
    assert b"CUTWCSER" not in plain.hdus[0].header
