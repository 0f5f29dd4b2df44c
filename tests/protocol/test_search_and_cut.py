"""A search and a cutout agree on what a dataset has (decision 9)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from astropy.io.votable import parse_single_table

if TYPE_CHECKING:
    from support.demo import DemoService


@pytest.mark.parametrize(
    "asked",
    [{"BAND": "5.5e-7 6.5e-7"}, {"BAND": "0.2136 0.2138"}, {"TIME": "60600 60620"},
     {"TIME": "10 20"}, {"POL": "I"}, {"POL": "XX"}, {"BAND": "1 2"}],
    ids=str,
)  # fmt: skip
def test_what_a_search_finds_can_be_cut(demo: DemoService, asked: dict[str, object]) -> None:
    """For every dataset of the demo: found is 200, not found is 204."""
    for identifier in _identifiers(demo):
        found = _identifiers(demo, ID=identifier, **asked)
        answer = demo.get("soda/sync", ID=identifier, CIRCLE="53.124 -27.74 0.001", **asked)
        assert answer.status_code == (200 if found else 204), identifier


def _identifiers(demo: DemoService, **asked: object) -> list[str]:
    table = parse_single_table(io.BytesIO(demo.get("sia/query", **asked).content))
    return [str(one) for one in table.array["obs_publisher_did"]]
