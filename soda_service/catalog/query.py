"""What is asked of the catalog, in values; how it was spelt is the edge's affair.

Source: SIA 2.0 §2.1. Several values of one constraint are alternatives; several
constraints must all hold; a column that is null meets no constraint.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from sqlalchemy import ColumnElement, and_, false, func, literal, select, text

from soda_service.catalog.schema import dataset

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Column

    from soda_service.geometry.shapes import Interval, Shape

ACCESS_FORMAT: Final = "application/x-votable+xml;content=datalink"
"""`access_format` of every dataset (SIA 2.0 §3.1.3)."""

_LARGEST: Final = sys.float_info.max

_Value = TypeVar("_Value", str, int)


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


def conditions(query: CatalogQuery) -> list[ColumnElement[bool]] | None:
    """What a row must meet, shapes left out; None where no row can."""
    if query.formats and not any(_is_access_format(name) for name in query.formats):
        return None
    columns = dataset.c
    return [
        *_meet(columns.em_min, columns.em_max, query.bands),
        *_meet(columns.t_min, columns.t_max, query.times),
        *_hold(query.pols),
        *_meet(columns.s_fov, columns.s_fov, query.fov),
        *_meet(columns.s_resolution, columns.s_resolution, query.spatres),
        *_meet(columns.em_res_power, columns.em_res_power, query.specrp),
        *_meet(columns.t_exptime, columns.t_exptime, query.exptime),
        *_meet(columns.t_resolution, columns.t_resolution, query.timeres),
        *_equal(columns.did_folded, map(fold, query.ids)),
        *_equal(columns.obs_collection, query.collections),
        *_equal(columns.facility_name, query.facilities),
        *_equal(columns.instrument_name, query.instruments),
        *_equal(columns.dataproduct_type, query.dptypes),
        *_equal(columns.dataproduct_subtype, query.dpsubtypes),
        *_equal(columns.calib_level, query.calibs),
        *_equal(columns.target_name, query.targets),
    ]


def _is_access_format(name: str) -> bool:
    return re.sub(r"\s*([;=])\s*", r"\1", name.strip()) == ACCESS_FORMAT


def _meet(
    lower: Column[float], upper: Column[float], intervals: tuple[Interval, ...]
) -> Iterator[ColumnElement[bool]]:
    """That the row's interval has a point in common with one of *intervals*; both are closed."""
    merged = _merged(intervals)
    if len(merged) == 1:
        ((low, high),) = merged
        yield and_(lower <= high, upper >= low)
    elif merged:
        # A long chain of ORs would exceed the depth of expressions that SQLite allows.
        one = func.json_each(json.dumps(merged)).table_valued("value")
        low_end, high_end = (
            func.json_extract(one.c.value, literal(f"$[{place}]")) for place in (0, 1)
        )
        yield select(1).select_from(one).where(lower <= high_end, upper >= low_end).exists()


def _merged(intervals: tuple[Interval, ...]) -> list[tuple[float, float]]:
    """The same numbers in intervals that are apart, infinities made finite for JSON."""
    merged: list[tuple[float, float]] = []
    for one in sorted(intervals, key=lambda interval: (interval.lower, interval.upper)):
        low, high = (max(-_LARGEST, min(_LARGEST, end)) for end in (one.lower, one.upper))
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def _hold(states: tuple[str, ...]) -> Iterator[ColumnElement[bool]]:
    """That one of *states* is among the row's: `/Y/` and never a part of `/XY/`."""
    if states:
        one = func.json_each(json.dumps([f"/{state}/" for state in states])).table_valued("value")
        found = func.instr(dataset.c.pol_states, one.c.value) > 0
        yield select(1).select_from(one).where(found).exists()


def _equal(column: Column[_Value], values: Iterable[_Value]) -> Iterator[ColumnElement[bool]]:
    asked = list(dict.fromkeys(values))
    wanted = [value for value in asked if not isinstance(value, str) or _is_unicode(value)]
    if asked and not wanted:
        yield false()
    elif len(wanted) == 1:
        yield column == wanted[0]
    elif wanted:
        # One parameter however many values: their number has no limit of its own.
        one = func.json_each(json.dumps(wanted)).table_valued("value")
        yield column.in_(select(one.c.value))


def _is_unicode(text: str) -> bool:
    """Whether *text* can be stored at all: half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def candidates(boxes: list[tuple[float, ...]]) -> ColumnElement[bool]:
    """That one of the row's pieces may meet one of *boxes* (see `sky_box`)."""
    return dataset.c.id.in_(
        text(
            "SELECT b.dataset_id FROM json_each(:boxes) AS q CROSS JOIN piece_box AS b"
            " ON b.max_x >= json_extract(q.value, '$[0]')"
            " AND b.min_x <= json_extract(q.value, '$[1]')"
            " AND b.max_y >= json_extract(q.value, '$[2]')"
            " AND b.min_y <= json_extract(q.value, '$[3]')"
            " AND b.max_z >= json_extract(q.value, '$[4]')"
            " AND b.min_z <= json_extract(q.value, '$[5]')"
        )
        .bindparams(boxes=json.dumps(boxes))
        .columns(dataset.c.id)
    )
