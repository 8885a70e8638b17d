"""When things are, for the reference model. Moments are in UTC; days, months and clocks are the subscriber's."""

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from tests.engine.reference_prices import whole

WEEKDAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def first_ms_after(ms: Fraction) -> int:
    """The end of the millisecond in which a moment lies; a moment at an end belongs to what ended."""
    return -whole(-ms)


def clock(at: datetime, zone: str) -> datetime:
    """What calendar and clock show there."""
    return at.astimezone(ZoneInfo(zone))


def days_after(at: datetime, days: int, zone: str) -> datetime:
    """When the clock shows the same, so many days later."""
    return (clock(at, zone) + timedelta(days=days)).replace(fold=0).astimezone(UTC)


def end_of_term(at: datetime, offering: dict[str, Any], zone: str) -> datetime:
    """When a term that begins then ends: with the clock, or at midnight, the day of the beginning being the first."""
    if offering.get("anchor") == "calendar":
        return begins(clock(at, zone).date() + timedelta(days=offering["term_days"]), zone)
    return days_after(at, offering["term_days"], zone)


def begins(day: date, zone: str) -> datetime:
    """The moment at which a day begins."""
    return datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC)


def cycle_of(at: datetime, zone: str, anchor: int) -> tuple[datetime, datetime]:
    """Where the cycle begins and ends that a moment lies in: on the anchor day, or the last of a month without it."""
    today = clock(at, zone).date()
    months = [today.year * 12 + today.month - 1 + n for n in (-1, 0, 1)]
    edges = [begins(anchor_day(month // 12, month % 12 + 1, anchor), zone) for month in months]
    return max(edge for edge in edges if edge <= at), min(edge for edge in edges if edge > at)


def anchor_day(year: int, month: int, anchor: int) -> date:
    """The day of a month on which its cycle begins."""
    return date(year, month, min(anchor, monthrange(year, month)[1]))


def is_within(window: dict[str, Any], shown: datetime) -> bool:
    """Whether what a clock shows is in a window of the week."""
    minute = shown.hour * 60 + shown.minute
    texts = window.get("start", "00:00"), window.get("end", "24:00")
    start, end = (int(text[:2]) * 60 + int(text[3:]) for text in texts)
    days = window.get("days") or WEEKDAYS
    today, yesterday = WEEKDAYS[shown.weekday()], WEEKDAYS[(shown.weekday() - 1) % 7]
    if start < end:
        return today in days and start <= minute < end
    return (today in days and minute >= start) or (yesterday in days and minute < end)
