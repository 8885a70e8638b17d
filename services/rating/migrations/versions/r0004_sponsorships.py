"""Who paid for sponsored usage: the campaigns behind each row."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_WHOLE = sa.Text().with_variant(sa.Numeric(38, 0), "postgresql")


def upgrade() -> None:
    """Create the table; rows booked before it name their sponsor only."""
    op.create_table(
        "sponsorships",
        sa.Column("usage_id", sa.Text(), nullable=False),
        sa.Column("campaign_id", sa.Text(), nullable=False),
        sa.Column("octets", _WHOLE, nullable=False),
        sa.Column("budget_octets", _WHOLE, nullable=False),
        sa.ForeignKeyConstraint(["usage_id"], ["usage.usage_id"], name="fk_sponsorships_usage_id"),
        sa.PrimaryKeyConstraint("usage_id", "campaign_id", name="pk_sponsorships"),
    )
    op.create_index("ix_sponsorships_campaign_id", "sponsorships", ["campaign_id"])


def downgrade() -> None:
    """Remove the table."""
    op.drop_table("sponsorships")
