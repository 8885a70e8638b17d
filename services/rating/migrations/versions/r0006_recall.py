"""The last ask of each lane that was answered, so that none is answered again after a look into the log."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; every ask that was booked before was answered."""
    op.add_column("campaign_leases", sa.Column("answered", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute("UPDATE campaign_leases SET answered = sequence")


def downgrade() -> None:
    """Refused: what was answered would be forgotten, and answered again."""
    raise NotImplementedError("there is no way back from this revision; restore a backup instead")
