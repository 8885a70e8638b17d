"""Commands that their lane refused, with its reason."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table; refusals that the log still holds are read into it."""
    op.create_table(
        "refused_commands",
        sa.Column("command_id", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("refused_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["command_id"], ["commands.command_id"], name="fk_refused_commands_command_id"),
        sa.PrimaryKeyConstraint("command_id", name="pk_refused_commands"),
    )


def downgrade() -> None:
    """Refused: orders that were refused would be pending again, for ever."""
    raise NotImplementedError("there is no way back from this revision; restore a backup instead")
