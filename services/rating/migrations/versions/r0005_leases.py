"""Budgets of campaigns and their leases; records of the outbox that are meant for a lane."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables and the column."""
    op.add_column("outbox", sa.Column("partition", sa.Integer()))
    op.create_table(
        "campaign_budgets",
        sa.Column("campaign_id", sa.Text(), nullable=False),
        *_longs("limit_octets", "granted_octets", "returned_octets"),
        sa.PrimaryKeyConstraint("campaign_id", name="pk_campaign_budgets"),
        sa.CheckConstraint(
            "returned_octets >= 0 AND returned_octets <= granted_octets", name="ck_campaign_budgets_returned"
        ),
        sa.CheckConstraint("granted_octets - returned_octets <= limit_octets", name="ck_campaign_budgets_limit"),
    )
    op.create_table(
        "campaign_leases",
        sa.Column("campaign_id", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        *_longs("sequence", "granted_octets", "returned_octets", "used_octets"),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign_budgets.campaign_id"], name="fk_campaign_leases_campaign_id"
        ),
        sa.PrimaryKeyConstraint("campaign_id", "partition", name="pk_campaign_leases"),
        sa.CheckConstraint("used_octets >= 0 AND returned_octets >= 0", name="ck_campaign_leases_signs"),
        sa.CheckConstraint("used_octets + returned_octets <= granted_octets", name="ck_campaign_leases_granted"),
    )


def downgrade() -> None:
    """Refused: what lanes hold of a budget would be forgotten, and granted again."""
    raise NotImplementedError("there is no way back once budgets are leased; restore a backup instead")


def _longs(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]
