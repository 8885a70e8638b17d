"""Connections that ended while a campaign paid for them."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of rows that are there nobody counted connections."""
    op.add_column("sponsorships", sa.Column("connections", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Refused: a ledger is never thrown away."""
    raise NotImplementedError("there is no way back from this revision; restore a backup instead")
