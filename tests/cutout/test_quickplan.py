"""The short way to a plan against the planner, whose plans it must repeat to the byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.cutouts import places_on
from support.images import SKY_FAMILIES

from soda_service.cutout.places import exact_box
from soda_service.cutout.plan import NOT_QUICK, CutoutPlan
from soda_service.cutout.planner import Planner

if TYPE_CHECKING:
    from support.cutouts import Workbench


@pytest.mark.parametrize("name", SKY_FAMILIES)
def test_its_plans_are_the_planners(bench: Workbench, name: str) -> None:
    """Header, boxes, size, name and entity tag, for shapes all over each image of a file."""
    subject = bench.family(name)
    prepared = subject.cutter._prepared.get(subject.dataset)
    quick = prepared.quick_planner
    if quick is None:
        return
    for index in subject.sky_images():
        grid = subject.grid(index)
        prepared.hdus[index].sky_index()
        for place in places_on(grid):
            plan = quick.plan(place.shape)
            if plan is not NOT_QUICK:
                assert plan == Planner(prepared, subject.request(place.shape), exact_box).plan()


def test_most_files_have_one(bench: Workbench) -> None:
    """It is for the ordinary ones, and nearly all are: of several planes, of more axes."""
    with_one = [
        name
        for name in SKY_FAMILIES
        if bench.family(name).cutter._prepared.get(bench.family(name).dataset).quick_planner
    ]
    assert len(with_one) > 0.8 * len(SKY_FAMILIES)


@pytest.mark.parametrize("name", ["tan", "tan_sip", "mef", "cube_radio"])
def test_the_cutter_goes_the_short_way(
    bench: Workbench, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A circle well inside an image needs no planner, and no second way for a second plane."""
    subject = bench.family(name)
    place = places_on(subject.grid(next(subject.sky_images())))[0]
    expected = subject.plan(place.shape)

    def refuse(*_: object) -> None:
        raise AssertionError("the planner was asked")

    monkeypatch.setattr(Planner, "plan", refuse)
    found = subject.cutter.plan_quickly(subject.request(place.shape))
    assert isinstance(found, CutoutPlan)
    assert found == expected
