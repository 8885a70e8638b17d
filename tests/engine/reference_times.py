"""When things are, for the reference model."""

from datetime import UTC, datetime
from fractions import Fraction

from tests.engine.reference_prices import whole


def first_ms_after(ms: Fraction) -> int:
    """The end of the millisecond in which a moment lies; a moment at an end belongs to what ended."""
    return -whole(-ms)


def first_of_this_month(at: datetime) -> datetime:
    """Midnight UTC."""
    return datetime(at.year, at.month, 1, tzinfo=UTC)


def first_of_next_month(at: datetime) -> datetime:
    """Midnight UTC."""
    return datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)
