"""What is asked of the catalog, in values; how it was spelt is the edge's affair.

Source: SIA 2.0 §2.1. Several values of one constraint are alternatives; several
constraints must all hold; a column that is null meets no constraint. What rows must meet is
written as SQL here and not built of SQLAlchemy's objects, which took a quarter of a search.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from soda_service.geometry.shapes import Interval, Shape

    Parameter = str | int | float

ACCESS_FORMAT: Final = "application/x-votable+xml;content=datalink"
"""`access_format` of every dataset (SIA 2.0 §3.1.3)."""

_LARGEST: Final = sys.float_info.max


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogQuery:
    """The constraints of one query; an empty one constrains nothing."""

    shapes: tuple[Shape, ...] = ()
    """Meet where a shape and the footprint have a point in common."""
    bands: tuple[Interval, ...] = ()
    """Vacuum wavelength in metres, against `em_min` to `em_max`."""
    times: tuple[Interval, ...] = ()
    """MJD, UTC, against `t_min` to `t_max`."""
    pols: tuple[str, ...] = ()
    fov: tuple[Interval, ...] = ()
    """Degrees."""
    spatres: tuple[Interval, ...] = ()
    """Arcseconds."""
    specrp: tuple[Interval, ...] = ()
    exptime: tuple[Interval, ...] = ()
    """Seconds."""
    timeres: tuple[Interval, ...] = ()
    """Seconds."""
    ids: tuple[str, ...] = ()
    """Publisher DIDs, without regard to case."""
    collections: tuple[str, ...] = ()
    facilities: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()
    dptypes: tuple[str, ...] = ()
    dpsubtypes: tuple[str, ...] = ()
    calibs: tuple[int, ...] = ()
    targets: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    """Media types, blanks around `;` and `=` set aside."""


def fold(identifier: str) -> str:
    """The form in which identifiers are compared: ASCII letters in small ones (SIA 2.0 §2.1.10).

    Other letters are left alone: no identifier of the catalog has any.
    """
    return identifier.lower() if identifier.isascii() else identifier


class Condition(NamedTuple):
    """What a row must meet."""

    sql: str
    """With a question mark for each parameter. A null meets it as little as anything else."""
    parameters: tuple[Parameter, ...] = ()


def is_impossible(query: CatalogQuery) -> bool:
    """Whether no dataset can meet it, whatever the catalog holds."""
    return bool(query.formats) and not any(map(_is_access_format, query.formats))


def conditions(query: CatalogQuery) -> list[Condition]:
    """What a row of `dataset`, called d, must meet, shapes left out.

    No index is entered by them: the unary plus takes a column out of the planner's sight.
    """
    return [
        *_meet("+d.em_min", "+d.em_max", query.bands),
        *_meet("+d.t_min", "+d.t_max", query.times),
        *_meet("+d.s_fov", "+d.s_fov", query.fov),
        *_meet("+d.s_resolution", "+d.s_resolution", query.spatres),
        *_meet("+d.em_res_power", "+d.em_res_power", query.specrp),
        *_meet("+d.t_exptime", "+d.t_exptime", query.exptime),
        *_meet("+d.t_resolution", "+d.t_resolution", query.timeres),
        *_equal("+d.did_folded", list(map(fold, query.ids))),
        *_equal("+d.target_name", query.targets),
        *facet_conditions(query, "+d."),
    ]


def facet_conditions(query: CatalogQuery, prefix: str) -> list[Condition]:
    """Those that `schema.facet` can tell by itself; *prefix* is written before each column."""
    return [
        *_hold(f"{prefix}pol_states", query.pols),
        *_equal(f"{prefix}obs_collection", query.collections),
        *_equal(f"{prefix}facility_name", query.facilities),
        *_equal(f"{prefix}instrument_name", query.instruments),
        *_equal(f"{prefix}dataproduct_type", query.dptypes),
        *_equal(f"{prefix}dataproduct_subtype", query.dpsubtypes),
        *_equal(f"{prefix}calib_level", query.calibs),
    ]


def identifier_condition(query: CatalogQuery) -> Condition | None:
    """That the identifier of b is one that was asked for; here the index may be entered."""
    return next(_equal("b.did_folded", list(map(fold, query.ids))), None)


def target_condition(query: CatalogQuery) -> Condition | None:
    """That the target of b is one that was asked for; here the index may be entered."""
    return next(_equal("b.target_name", query.targets), None)


def _is_access_format(name: str) -> bool:
    return re.sub(r"\s*([;=])\s*", r"\1", name.strip()) == ACCESS_FORMAT


def _meet(lower: str, upper: str, intervals: tuple[Interval, ...]) -> Iterator[Condition]:
    """That the row's interval has a point in common with one of *intervals*; both are closed."""
    merged = merged_intervals(intervals)
    if len(merged) == 1:
        ((low, high),) = merged
        yield Condition(f"{lower} <= ? AND {upper} >= ?", (high, low))
    elif merged:
        # A long chain of ORs would exceed the depth of expressions that SQLite allows.
        yield Condition(
            f"EXISTS (SELECT 1 FROM json_each(?) AS one"  # noqa: S608 - names of columns
            f" WHERE {lower} <= json_extract(one.value, '$[1]')"
            f" AND {upper} >= json_extract(one.value, '$[0]'))",
            (json.dumps(merged),),
        )


def merged_intervals(intervals: Iterable[Interval]) -> list[tuple[float, float]]:
    """The same numbers in intervals that are apart, infinities made finite for JSON."""
    merged: list[tuple[float, float]] = []
    for one in sorted(intervals, key=lambda interval: (interval.lower, interval.upper)):
        low, high = (max(-_LARGEST, min(_LARGEST, end)) for end in (one.lower, one.upper))
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def _hold(column: str, states: tuple[str, ...]) -> Iterator[Condition]:
    """That one of *states* is among the row's: `/Y/` and never a part of `/XY/`."""
    if states:
        yield Condition(
            f"EXISTS (SELECT 1 FROM json_each(?) AS one"  # noqa: S608 - the name of a column
            f" WHERE instr({column}, one.value) > 0)",
            (json.dumps([f"/{state}/" for state in states]),),
        )


def _equal(column: str, values: Sequence[str | int]) -> Iterator[Condition]:
    asked = list(dict.fromkeys(values))
    wanted = [value for value in asked if not isinstance(value, str) or _is_unicode(value)]
    if asked and not wanted:
        yield Condition("0")
    elif len(wanted) == 1:
        yield Condition(f"{column} = ?", (wanted[0],))
    elif wanted:
        # One parameter however many values: their number has no limit of its own.
        yield Condition(
            f"{column} IN (SELECT value FROM json_each(?))",  # noqa: S608 - the name of a column
            (json.dumps(wanted),),
        )


def _is_unicode(text: str) -> bool:
    """Whether *text* can be stored at all: half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
