"""Octets that buckets of time paid for: what a correction has to know beside the time drawn."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_WHOLE = sa.Text().with_variant(sa.Numeric(38, 0), "postgresql")


def upgrade() -> None:
    """Add the column; nothing booked before was paid for by time."""
    op.add_column("usage", sa.Column("timed_octets", _WHOLE, nullable=False, server_default="0"))


def downgrade() -> None:
    """Remove the column."""
    op.drop_column("usage", "timed_octets")
