"""Ready rows, facets, and an index over facet, time and wavelength.

All that follows from the rows of `dataset` is made here and kept by triggers; the ready rows
are left to the next ingest.
"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import context, op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_VALUES = (
    "collection_id", "obs_collection", "facility_name", "instrument_name", "dataproduct_type",
    "dataproduct_subtype", "calib_level", "lsst_band", "pol_states",
)  # fmt: skip
_BOUNDS = ("t_min", "t_max", "em_min", "em_max")


def upgrade() -> None:
    """Add the tables, fill them from the datasets, and let triggers keep them."""
    op.create_table(
        "ready_row",
        sa.Column(
            "dataset_id",
            sa.Integer(),
            sa.ForeignKey("dataset.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("form", sa.Integer(), nullable=False),
        sa.Column("tabledata", sa.LargeBinary(), nullable=False),
        sa.Column("head", sa.LargeBinary(), nullable=False),
        sa.Column("link_length", sa.Integer(), nullable=False),
        sa.Column("tail", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "facet",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("datasets", sa.Integer(), nullable=False),
        sa.Column("collection_id", sa.Integer(), nullable=False),
        sa.Column("obs_collection", sa.Text(), nullable=False),
        sa.Column("facility_name", sa.Text()),
        sa.Column("instrument_name", sa.Text()),
        sa.Column("dataproduct_type", sa.Text()),
        sa.Column("dataproduct_subtype", sa.Text()),
        sa.Column("calib_level", sa.Integer(), nullable=False),
        sa.Column("lsst_band", sa.Text()),
        sa.Column("pol_states", sa.Text()),
    )
    op.create_index("facet_by_values", "facet", list(_VALUES))
    op.execute(
        "CREATE VIRTUAL TABLE dataset_span USING rtree("
        "id, min_facet, max_facet, min_t, max_t, min_em, max_em)"
    )
    values = ", ".join(_VALUES)
    op.execute(
        f"INSERT INTO facet (datasets, {values}) "  # noqa: S608 - names of columns, written above
        f"SELECT count(*), {values} FROM dataset GROUP BY {values}"
    )
    for first, end in _gulps():
        op.execute(
            f"INSERT INTO dataset_span SELECT d.id, {_span('d')} FROM dataset AS d "  # noqa: S608 - the same
            f"JOIN facet ON {_same('d')} WHERE d.id >= {first} AND d.id < {end} ORDER BY d.id"
        )
    op.drop_index("dataset_by_time", "dataset")
    changed = ", ".join((*_VALUES, *_BOUNDS))
    op.execute(f"CREATE TRIGGER dataset_added AFTER INSERT ON dataset BEGIN {_ADD} END")
    op.execute(f"CREATE TRIGGER dataset_gone AFTER DELETE ON dataset BEGIN {_REMOVE} END")
    op.execute(
        f"CREATE TRIGGER dataset_changed AFTER UPDATE OF {changed} ON dataset "
        f"BEGIN {_REMOVE} {_ADD} END"
    )
    op.execute(
        "CREATE TRIGGER ready_row_stale AFTER UPDATE OF revision ON dataset "
        "BEGIN DELETE FROM ready_row WHERE dataset_id = OLD.id; END"
    )


def _gulps() -> Iterator[tuple[int, int]]:
    """All ids of datasets, by whoever tells how far it is if there is somebody."""
    upgrade = context.config.attributes.get("upgrade")
    if upgrade is None:
        return iter([(0, 2**63 - 1)])
    return iter(upgrade.gulps("an index over time and wavelength is made"))


def _same(row: str) -> str:
    """That `facet` has the values of *row*."""
    return " AND ".join(f"facet.{name} IS {row}.{name}" for name in _VALUES)


def _span(row: str) -> str:
    """The box of *row*: its facet times a million, days and nanometres, all a little wider.

    An R*Tree with boxes that have no extent finds no good order for them. What is null stands
    apart from all the rest, and no number is so large that it would hide the others.
    """
    t = [f"max(-1e8, min(1e8, {end}({row}.t_min, {row}.t_max)))" for end in ("min", "max")]
    em = [f"max(0.0, min(1e15, 1e9 * {end}({row}.em_min, {row}.em_max)))" for end in ("min", "max")]
    return (
        "1e6 * facet.id, 1e6 * facet.id + 4e5, "
        f"coalesce({t[0]} - 0.001, -1e9), coalesce({t[1]} + 0.001, -1e9), "
        f"coalesce({em[0]} - 0.5, -1e9), coalesce({em[1]} + 0.5, -1e9)"
    )


_NEW = ", ".join(f"NEW.{name}" for name in _VALUES)
_ADD = (
    f"INSERT INTO facet (datasets, {', '.join(_VALUES)}) SELECT 0, {_NEW} "  # noqa: S608 - the same
    f"WHERE NOT EXISTS (SELECT 1 FROM facet WHERE {_same('NEW')}); "
    f"UPDATE facet SET datasets = datasets + 1 WHERE {_same('NEW')}; "
    f"INSERT INTO dataset_span SELECT NEW.id, {_span('NEW')} FROM facet WHERE {_same('NEW')};"
)
_REMOVE = (
    f"DELETE FROM dataset_span WHERE id = OLD.id; "  # noqa: S608 - the same
    f"UPDATE facet SET datasets = datasets - 1 WHERE {_same('OLD')}; "
    f"DELETE FROM facet WHERE {_same('OLD')} AND datasets = 0;"
)
