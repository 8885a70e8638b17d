"""Verdicts that are not believed: a catalogue's threshold, and rows that correct what was charged without belief."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Versions from before had the default; rows from before correct nothing."""
    column = sa.Column("min_confidence", sa.Integer(), nullable=False, server_default="31")
    op.add_column("catalogue_versions", column)
    op.add_column("usage", sa.Column("corrects", sa.Text(), nullable=True))
    op.create_index("ix_usage_corrects", "usage", ["corrects"])


def downgrade() -> None:
    """Refused: a ledger is never thrown away."""
    raise NotImplementedError("there is no way back from this revision; restore a backup instead")
