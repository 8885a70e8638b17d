"""The operator's own grading of an account."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; unknown until the account's profile is changed again."""
    op.add_column("accounts", sa.Column("tier", sa.Text()))


def downgrade() -> None:
    """Forget it; the lanes still know."""
    op.drop_column("accounts", "tier")
