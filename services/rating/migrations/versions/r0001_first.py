"""The first schema: catalogue, accounts, outbox, ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_WHOLE = sa.Text().with_variant(sa.Numeric(38, 0), "postgresql")
_RISING = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create every table."""
    _create_catalogue()
    _create_accounts()
    _create_outbox()
    _create_ledger()
    _create_usage()
    _create_balances()


def downgrade() -> None:
    """Refused: a ledger is never thrown away."""
    raise NotImplementedError("there is no way back from the first revision; restore a backup instead")


def _texts(*names: str, nullable: bool = True) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=nullable) for name in names]


def _longs(*names: str, nullable: bool = False) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), nullable=nullable) for name in names]


def _wholes(*names: str, nullable: bool = False) -> list[sa.Column[str]]:
    return [sa.Column(name, _WHOLE, nullable=nullable) for name in names]


def _create_catalogue() -> None:
    op.create_table(
        "catalogue_versions",
        sa.Column("sequence", _RISING, autoincrement=True, nullable=False),
        *_texts("version", "currency", "digest", nullable=False),
        *_longs("published_at_ms"),
        sa.PrimaryKeyConstraint("sequence", name="pk_catalogue_versions"),
        sa.UniqueConstraint("version", name="uq_catalogue_versions_version"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "catalogue_objects",
        *_texts("version", "kind", "object_id", "body", nullable=False),
        sa.ForeignKeyConstraint(["version"], ["catalogue_versions.version"], name="fk_catalogue_objects_version"),
        sa.PrimaryKeyConstraint("version", "kind", "object_id", name="pk_catalogue_objects"),
    )


def _create_accounts() -> None:
    op.create_table(
        "accounts",
        *_texts("account_id", nullable=False),
        *_texts("currency", "payment", "time_zone"),
        sa.Column("cycle_day", sa.Integer()),
        *_texts("segment", "age_band", "consumption_level"),
        *_longs("created_at_ms", "changed_at_ms"),
        sa.PrimaryKeyConstraint("account_id", name="pk_accounts"),
    )
    op.create_table(
        "account_members",
        *_texts("subscriber_id", "account_id", nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"], name="fk_account_members_account_id"),
        sa.PrimaryKeyConstraint("subscriber_id", name="pk_account_members"),
    )
    op.create_index("ix_account_members_account_id", "account_members", ["account_id"])
    op.create_table(
        "commands",
        *_texts("command_id", "account_id", "type", "body", nullable=False),
        *_longs("issued_at_ms"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"], name="fk_commands_account_id"),
        sa.PrimaryKeyConstraint("command_id", name="pk_commands"),
    )
    op.create_index("ix_commands_account_id", "commands", ["account_id"])
    op.create_table(
        "products",
        *_texts("account_id", "product_id", "offering_id", "catalogue_version", nullable=False),
        *_longs("start_ms"),
        *_longs("end_ms", nullable=True),
        *_texts("ordered_by", nullable=False),
        *_texts("cancelled_by"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"], name="fk_products_account_id"),
        sa.PrimaryKeyConstraint("account_id", "product_id", name="pk_products"),
    )


def _create_outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", _RISING, autoincrement=True, nullable=False),
        *_texts("topic", nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("value", sa.LargeBinary()),
        *_longs("created_at_ms"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sqlite_autoincrement=True,
    )


def _create_ledger() -> None:
    op.create_table(
        "ledger_offsets",
        *_texts("topic", nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        *_longs("next_offset", "booked_until_ms"),
        sa.PrimaryKeyConstraint("topic", "partition", name="pk_ledger_offsets"),
    )
    op.create_table(
        "refused_usage",
        *_texts("topic", nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        *_longs("offset"),
        *_texts("cause", "detail", nullable=False),
        *_texts("usage_id"),
        sa.Column("record_key", sa.LargeBinary()),
        sa.Column("value", sa.LargeBinary()),
        *_longs("refused_at_ms"),
        sa.PrimaryKeyConstraint("topic", "partition", "offset", name="pk_refused_usage"),
    )


def _create_usage() -> None:
    op.create_table(
        "usage",
        *_texts("usage_id", "kind", "account_id", "subscriber_id", "source_topic", nullable=False),
        *_longs("source_partition", "first_offset", "last_offset", "ordinal", "start_ms", "end_ms", "rated_at_ms"),
        *_texts("catalogue_version", nullable=False),
        *_texts("category", "application", "service", "rule_id"),
        *_longs("rating_group", nullable=True),
        *_texts("treatment", "product_id", "offering_id", "sponsor_id"),
        *_longs("record_count"),
        *_wholes("octets", "charged_octets", "free_octets", "sponsored_octets", "blocked_octets"),
        *_wholes("not_charged_octets"),
        *_texts("currency"),
        *_wholes("amount_micros"),
        *_texts("price_id"),
        *_wholes("price_octets_from", "price_octets_to", nullable=True),
        *_texts("evidence", "cause"),
        sa.Column("log_partition", sa.Integer(), nullable=False),
        *_longs("log_offset"),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        *_longs("booked_at_ms"),
        sa.PrimaryKeyConstraint("usage_id", name="pk_usage"),
    )
    op.create_index("ix_usage_account", "usage", ["account_id", "end_ms", "usage_id"])
    op.create_index("ix_usage_subscriber", "usage", ["subscriber_id", "end_ms", "usage_id"])
    op.create_index("ix_usage_end", "usage", ["end_ms", "usage_id"])


def _create_balances() -> None:
    op.create_table(
        "movements",
        *_texts("usage_id", nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        *_texts("account_id", "bucket_id", "unit", nullable=False),
        *_wholes("amount", "remaining"),
        sa.ForeignKeyConstraint(["usage_id"], ["usage.usage_id"], name="fk_movements_usage_id"),
        sa.PrimaryKeyConstraint("usage_id", "ordinal", name="pk_movements"),
    )
    op.create_index("ix_movements_bucket", "movements", ["account_id", "bucket_id"])
    op.create_table(
        "buckets",
        *_texts("account_id", "bucket_id", "unit", "bucket_key", nullable=False),
        *_texts("product_id", "offering_id"),
        *_texts("catalogue_version", nullable=False),
        *_texts("currency"),
        *_wholes("remaining"),
        *_wholes("granted", nullable=True),
        *_longs("valid_from_ms", "valid_until_ms", nullable=True),
        *_longs("changed_at_ms"),
        sa.PrimaryKeyConstraint("account_id", "bucket_id", "unit", name="pk_buckets"),
        sa.UniqueConstraint("bucket_key", name="uq_buckets_bucket_key"),
    )
    op.create_index("ix_buckets_product", "buckets", ["product_id"])
