"""What a row of usage was rated by: connections, granted money, how it came, and whose price it was."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_WHOLE = sa.Text().with_variant(sa.Numeric(38, 0), "postgresql")


def upgrade() -> None:
    """Add the columns; rows that are there have had neither connections nor granted money as far as they tell."""
    op.add_column("usage", sa.Column("connections", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("usage", sa.Column("credit_micros", _WHOLE, nullable=False, server_default="0"))
    op.add_column("usage", sa.Column("circumstances", sa.Text()))
    op.add_column("usage", sa.Column("price_offering_id", sa.Text()))


def downgrade() -> None:
    """Refused: a ledger is never thrown away."""
    raise NotImplementedError("there is no way back from this revision; restore a backup instead")
