"""Entity tags of objects in stores."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Give datasets a tag; those of a catalog of 0001 are files and have none."""
    op.add_column("dataset", sa.Column("tag", sa.Text(), nullable=False, server_default=""))
