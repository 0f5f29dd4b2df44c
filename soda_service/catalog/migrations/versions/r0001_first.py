"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make every table of a catalog."""
    op.create_table(
        "collection",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_folded", sa.Text(), nullable=False, unique=True),
        sa.Column("roots", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
    )
    op.create_table(
        "counters",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("scan", sa.Integer(), nullable=False),
    )
    op.create_table(
        "dataset",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("collection_id", sa.Integer(), sa.ForeignKey("collection.id"), nullable=False),
        sa.Column("did_folded", sa.Text(), nullable=False, unique=True),
        sa.Column("local_part", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False, unique=True),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("modified_ns", sa.Integer(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("scan", sa.Integer(), nullable=False),
        sa.Column("cap_lon", sa.Double()),
        sa.Column("cap_lat", sa.Double()),
        sa.Column("cap_radius", sa.Double()),
        sa.Column("polygons", sa.LargeBinary()),
        sa.Column("dataproduct_type", sa.Text()),
        sa.Column("dataproduct_subtype", sa.Text()),
        sa.Column("calib_level", sa.Integer(), nullable=False),
        sa.Column("obs_collection", sa.Text(), nullable=False),
        sa.Column("obs_id", sa.Text(), nullable=False),
        sa.Column("obs_publisher_did", sa.Text(), nullable=False),
        sa.Column("obs_title", sa.Text()),
        sa.Column("access_estsize", sa.Integer(), nullable=False),
        sa.Column("target_name", sa.Text()),
        sa.Column("s_ra", sa.Double()),
        sa.Column("s_dec", sa.Double()),
        sa.Column("s_fov", sa.Double()),
        sa.Column("s_region", sa.Text()),
        sa.Column("s_resolution", sa.Double()),
        sa.Column("s_pixel_scale", sa.Double()),
        sa.Column("s_xel1", sa.Integer()),
        sa.Column("s_xel2", sa.Integer()),
        sa.Column("t_min", sa.Double()),
        sa.Column("t_max", sa.Double()),
        sa.Column("t_exptime", sa.Double()),
        sa.Column("t_resolution", sa.Double()),
        sa.Column("t_xel", sa.Integer()),
        sa.Column("em_min", sa.Double()),
        sa.Column("em_max", sa.Double()),
        sa.Column("em_res_power", sa.Double()),
        sa.Column("em_xel", sa.Integer()),
        sa.Column("lsst_band", sa.Text()),
        sa.Column("o_ucd", sa.Text()),
        sa.Column("pol_states", sa.Text()),
        sa.Column("pol_xel", sa.Integer()),
        sa.Column("facility_name", sa.Text()),
        sa.Column("instrument_name", sa.Text()),
    )
    op.create_index("dataset_by_band", "dataset", ["collection_id", "lsst_band"])
    op.create_index("dataset_by_observation", "dataset", ["collection_id", "obs_id"])
    op.create_index("dataset_by_target", "dataset", ["target_name"])
    op.create_index("dataset_by_time", "dataset", ["t_min", "t_max"])
    op.create_table(
        "hdu",
        sa.Column(
            "dataset_id",
            sa.Integer(),
            sa.ForeignKey("dataset.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("position", sa.Integer(), primary_key=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("bitpix", sa.Integer(), nullable=False),
        sa.Column("naxis", sa.Text(), nullable=False),
        sa.Column("header_offset", sa.Integer(), nullable=False),
        sa.Column("data_offset", sa.Integer(), nullable=False),
        sa.Column("data_size", sa.Integer(), nullable=False),
        sa.Column("cards", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "piece",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column(
            "dataset_id",
            sa.Integer(),
            sa.ForeignKey("dataset.id", ondelete="CASCADE"),
            nullable=False,
        ),
    )
    op.create_index("piece_by_dataset", "piece", ["dataset_id"])
    op.execute(
        "CREATE VIRTUAL TABLE piece_box USING rtree("
        "id, min_x, max_x, min_y, max_y, min_z, max_z, +dataset_id)"
    )
    op.execute(
        "CREATE TRIGGER piece_gone AFTER DELETE ON piece "
        "BEGIN DELETE FROM piece_box WHERE id = OLD.id; END"
    )
    op.execute("INSERT INTO counters (id, revision, scan) VALUES (1, 0, 0)")
