"""The tables of the rating database. `services/rating/migrations` builds them; a test keeps the two equal.

Octets and micro-units are whole numbers of any size: numeric on PostgreSQL, decimal text on SQLite, whose integers end
at 2^63 and whose numeric columns would turn larger ones into floats. Sums of them go through `exact_sum`.
"""

from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.types import TypeDecorator, TypeEngine

WHOLE_NUMBER_LIMIT = 10**36
"""Amounts of one record stay below this, so that the sum of a hundred of the largest still fits NUMERIC(38, 0)."""


class WholeNumber(TypeDecorator[int]):
    """An int of up to 38 digits, exact on every database."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """NUMERIC(38, 0) where the database is exact with it, text elsewhere."""
        return dialect.type_descriptor(Numeric(38, 0) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Decimal | str | None:
        """To the database: a Decimal or its text."""
        if value is None:
            return None
        return Decimal(value) if dialect.name == "postgresql" else str(value)

    def process_result_value(self, value: object, dialect: Dialect) -> int | None:  # noqa: ARG002 - given by SQLAlchemy
        """From the database."""
        return None if value is None else int(str(value))


class exact_sum(GenericFunction[int]):  # noqa: N801 - SQL functions are lower-case
    """Sum of a WholeNumber column; null over no rows."""

    type = WholeNumber()
    inherit_cache = True


class exact_add(GenericFunction[int]):  # noqa: N801
    """Sum of two WholeNumbers."""

    type = WholeNumber()
    inherit_cache = True


@compiles(exact_sum, "postgresql")
def _sum_in_postgres(element: exact_sum, compiler: SQLCompiler, **options: Any) -> str:
    return f"sum({compiler.process(element.clauses, **options)})"


@compiles(exact_add, "postgresql")
def _add_in_postgres(element: exact_add, compiler: SQLCompiler, **options: Any) -> str:
    left, right = (compiler.process(clause, **options) for clause in element.clauses)
    return f"({left} + {right})"


def add_texts(left: str | None, right: str | None) -> str | None:
    """What `exact_add` does on SQLite."""
    return None if left is None or right is None else str(int(left) + int(right))


class TextSum:
    """What `exact_sum` does on SQLite: an aggregate of decimal texts."""

    def __init__(self) -> None:
        self._total: int | None = None

    def step(self, value: str | None) -> None:
        """One row."""
        if value is not None:
            self._total = (self._total or 0) + int(value)

    def finalize(self) -> str | None:
        """The sum as text."""
        return None if self._total is None else str(self._total)


_RisingId = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

catalogue_versions = Table(
    "catalogue_versions",
    metadata,
    Column("sequence", _RisingId, primary_key=True, autoincrement=True),
    Column("version", Text, nullable=False, unique=True),
    Column("currency", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("published_at_ms", BigInteger, nullable=False),
    Column("min_confidence", Integer, nullable=False, server_default="31"),
    sqlite_autoincrement=True,
)

catalogue_objects = Table(
    "catalogue_objects",
    metadata,
    Column("version", Text, ForeignKey("catalogue_versions.version"), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("object_id", Text, primary_key=True),
    Column("body", Text, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("currency", Text),
    Column("payment", Text),
    Column("time_zone", Text),
    Column("cycle_day", Integer),
    Column("segment", Text),
    Column("age_band", Text),
    Column("consumption_level", Text),
    Column("tier", Text),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("changed_at_ms", BigInteger, nullable=False),
)

account_members = Table(
    "account_members",
    metadata,
    Column("subscriber_id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.account_id"), nullable=False, index=True),
)

commands = Table(
    "commands",
    metadata,
    Column("command_id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.account_id"), nullable=False, index=True),
    Column("type", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("issued_at_ms", BigInteger, nullable=False),
)

products = Table(
    "products",
    metadata,
    Column("account_id", Text, ForeignKey("accounts.account_id"), primary_key=True),
    Column("product_id", Text, primary_key=True),
    Column("offering_id", Text, nullable=False),
    Column("catalogue_version", Text, nullable=False),
    Column("start_ms", BigInteger, nullable=False),
    Column("end_ms", BigInteger),
    Column("ordered_by", Text, nullable=False),
    Column("cancelled_by", Text),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", _RisingId, primary_key=True, autoincrement=True),
    Column("topic", Text, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("value", LargeBinary),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("partition", Integer),
    sqlite_autoincrement=True,
)

ledger_offsets = Table(
    "ledger_offsets",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
    Column("booked_until_ms", BigInteger, nullable=False),
)

usage = Table(
    "usage",
    metadata,
    Column("usage_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("account_id", Text, nullable=False),
    Column("subscriber_id", Text, nullable=False),
    Column("source_topic", Text, nullable=False),
    Column("source_partition", BigInteger, nullable=False),
    Column("first_offset", BigInteger, nullable=False),
    Column("last_offset", BigInteger, nullable=False),
    Column("ordinal", BigInteger, nullable=False),
    Column("start_ms", BigInteger, nullable=False),
    Column("end_ms", BigInteger, nullable=False),
    Column("rated_at_ms", BigInteger, nullable=False),
    Column("catalogue_version", Text, nullable=False),
    Column("category", Text),
    Column("application", Text),
    Column("service", Text),
    Column("rule_id", Text),
    Column("rating_group", BigInteger),
    Column("treatment", Text),
    Column("product_id", Text),
    Column("offering_id", Text),
    Column("sponsor_id", Text),
    Column("record_count", BigInteger, nullable=False),
    Column("octets", WholeNumber, nullable=False),
    Column("charged_octets", WholeNumber, nullable=False),
    Column("free_octets", WholeNumber, nullable=False),
    Column("sponsored_octets", WholeNumber, nullable=False),
    Column("blocked_octets", WholeNumber, nullable=False),
    Column("not_charged_octets", WholeNumber, nullable=False),
    Column("currency", Text),
    Column("amount_micros", WholeNumber, nullable=False),
    Column("price_id", Text),
    Column("price_octets_from", WholeNumber),
    Column("price_octets_to", WholeNumber),
    Column("evidence", Text),
    Column("cause", Text),
    Column("corrects", Text),
    Column("timed_octets", WholeNumber, nullable=False, server_default="0"),
    Column("log_partition", Integer, nullable=False),
    Column("log_offset", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("booked_at_ms", BigInteger, nullable=False),
    Column("connections", BigInteger, nullable=False, server_default="0"),
    Column("credit_micros", WholeNumber, nullable=False, server_default="0"),
    Column("circumstances", Text),
    Column("price_offering_id", Text),
    Index("ix_usage_account", "account_id", "end_ms", "usage_id"),
    Index("ix_usage_subscriber", "subscriber_id", "end_ms", "usage_id"),
    Index("ix_usage_end", "end_ms", "usage_id"),
    Index("ix_usage_corrects", "corrects"),
)

corrections = Table(
    "corrections",
    metadata,
    Column("usage_id", Text, ForeignKey("usage.usage_id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("command_id", Text, ForeignKey("commands.command_id"), nullable=False),
    Column("account_id", Text, nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("amount_micros", WholeNumber, nullable=False),
    Column("octets", WholeNumber, nullable=False),
    Column("ordered_at_ms", BigInteger, nullable=False),
)

refused_commands = Table(
    "refused_commands",
    metadata,
    Column("command_id", Text, ForeignKey("commands.command_id"), primary_key=True),
    Column("cause", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("refused_at_ms", BigInteger, nullable=False),
)

movements = Table(
    "movements",
    metadata,
    Column("usage_id", Text, ForeignKey("usage.usage_id"), primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("bucket_id", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("amount", WholeNumber, nullable=False),
    Column("remaining", WholeNumber, nullable=False),
    Index("ix_movements_bucket", "account_id", "bucket_id"),
)

sponsorships = Table(
    "sponsorships",
    metadata,
    Column("usage_id", Text, ForeignKey("usage.usage_id"), primary_key=True),
    Column("campaign_id", Text, primary_key=True),
    Column("octets", WholeNumber, nullable=False),
    Column("budget_octets", WholeNumber, nullable=False),
    Column("connections", BigInteger, nullable=False, server_default="0"),
    Index("ix_sponsorships_campaign_id", "campaign_id"),
)

buckets = Table(
    "buckets",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("bucket_id", Text, primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("bucket_key", Text, nullable=False, unique=True),
    Column("product_id", Text),
    Column("offering_id", Text),
    Column("catalogue_version", Text, nullable=False),
    Column("currency", Text),
    Column("remaining", WholeNumber, nullable=False),
    Column("granted", WholeNumber),
    Column("valid_from_ms", BigInteger),
    Column("valid_until_ms", BigInteger),
    Column("changed_at_ms", BigInteger, nullable=False),
    Index("ix_buckets_product", "product_id"),
)

campaign_budgets = Table(
    "campaign_budgets",
    metadata,
    Column("campaign_id", Text, primary_key=True),
    Column("limit_octets", BigInteger, nullable=False),
    Column("granted_octets", BigInteger, nullable=False),
    Column("returned_octets", BigInteger, nullable=False),
    CheckConstraint("returned_octets >= 0 AND returned_octets <= granted_octets", name="ck_campaign_budgets_returned"),
    CheckConstraint("granted_octets - returned_octets <= limit_octets", name="ck_campaign_budgets_limit"),
)

campaign_leases = Table(
    "campaign_leases",
    metadata,
    Column("campaign_id", Text, ForeignKey("campaign_budgets.campaign_id"), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("granted_octets", BigInteger, nullable=False),
    Column("returned_octets", BigInteger, nullable=False),
    Column("used_octets", BigInteger, nullable=False),
    Column("answered", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("used_octets >= 0 AND returned_octets >= 0", name="ck_campaign_leases_signs"),
    CheckConstraint("used_octets + returned_octets <= granted_octets", name="ck_campaign_leases_granted"),
)

refused_usage = Table(
    "refused_usage",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("cause", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("usage_id", Text),
    Column("record_key", LargeBinary),
    Column("value", LargeBinary),
    Column("refused_at_ms", BigInteger, nullable=False),
)
