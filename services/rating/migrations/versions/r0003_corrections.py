"""What was ordered to be corrected: one row for each usage row and correction, so that none is corrected twice."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_WHOLE = sa.Text().with_variant(sa.Numeric(38, 0), "postgresql")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "corrections",
        sa.Column("usage_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("command_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("amount_micros", _WHOLE, nullable=False),
        sa.Column("octets", _WHOLE, nullable=False),
        sa.Column("ordered_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["usage_id"], ["usage.usage_id"], name="fk_corrections_usage_id"),
        sa.ForeignKeyConstraint(["command_id"], ["commands.command_id"], name="fk_corrections_command_id"),
        sa.PrimaryKeyConstraint("usage_id", "number", name="pk_corrections"),
    )
    op.create_index("ix_corrections_account_id", "corrections", ["account_id"])


def downgrade() -> None:
    """Refused: a ledger is never thrown away."""
    raise NotImplementedError("there is no way back from this revision; restore a backup instead")
