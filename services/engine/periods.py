"""Billing periods: the subscriber's time zone, anchored to a day of the month, ends exclusive.

All times are epoch milliseconds UTC. A cycle begins at local midnight of its anchor day; a month that is too short
for the anchor uses its last day and the next one returns to the anchor (31 January, 28 February, 31 March).
"""

import bisect
import calendar
import functools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAY_MS = 86_400_000
MIN_CYCLE_MS = 27 * DAY_MS
"""No cycle is shorter, but for an account's first: a change of zone or anchor never makes two bills out of one."""


def is_time_zone(name: str) -> bool:
    """Whether `name` is an IANA time zone that this installation knows."""
    try:
        _zone(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


@functools.lru_cache(maxsize=4096)
def cycle_at(at_ms: int, *, time_zone: str, cycle_day: int) -> tuple[int, int]:
    """The cycle that holds `at_ms`: start inclusive, end exclusive. `cycle_day` is 1 to 31."""
    local = _local(at_ms, time_zone)
    start = _anchor(local.year, local.month, time_zone, cycle_day)
    if start > at_ms:
        year, month = _month_after(local.year, local.month, -1)
        return _anchor(year, month, time_zone, cycle_day), start
    year, month = _month_after(local.year, local.month, 1)
    return start, _anchor(year, month, time_zone, cycle_day)


@functools.lru_cache(maxsize=4096)
def next_cycle_end(end_ms: int, *, time_zone: str, cycle_day: int) -> int:
    """The end of the cycle that begins when another ended: the first anchor that leaves it MIN_CYCLE_MS or more."""
    return cycle_at(end_ms + MIN_CYCLE_MS - 1, time_zone=time_zone, cycle_day=cycle_day)[1]


def add_days(at_ms: int, days: int, *, time_zone: str) -> int:
    """The same local time of day, `days` later: a day is 23 or 25 hours long where the clocks change."""
    local = _local(at_ms, time_zone).replace(tzinfo=None) + timedelta(days=days)
    return _epoch_ms(local, time_zone)


Anchor = Literal["activation", "calendar"]
"""Where days end that were granted: at the time of day of their beginning, or at local midnight."""


def end_of_days(from_ms: int, days: int, *, time_zone: str, anchor: Anchor) -> int:
    """The end of `days` that begin at `from_ms`. By the calendar, the day that they begin on is the first of them."""
    if anchor == "activation":
        return add_days(from_ms, days, time_zone=time_zone)
    today = _local(from_ms, time_zone)
    return _epoch_ms(datetime(today.year, today.month, today.day) + timedelta(days=days), time_zone)


def days_between(from_ms: int, until_ms: int, *, time_zone: str) -> int:
    """Local days from the one that holds `from_ms` up to, and without, the one that holds `until_ms`; never below 0."""
    days = _local(until_ms, time_zone).date() - _local(from_ms, time_zone).date()
    return max(0, days.days)


class Window(NamedTuple):
    """A weekly stretch of local time: the weekdays on which it begins (Monday is 0), and minutes of the day.

    An end that is not after the start lies on the next day.
    """

    weekdays: frozenset[int]
    start_minute: int
    end_minute: int


def is_open(windows: Sequence[Window], at_ms: int, *, time_zone: str) -> bool:
    """Whether `at_ms` lies in one of `windows`; starts are inclusive, ends exclusive."""
    return any(start <= at_ms < end for start, end in _stretches(windows, at_ms, time_zone))


def next_turn_ms(windows: Sequence[Window], at_ms: int, *, time_zone: str) -> int | None:
    """The first time after `at_ms` at which one of `windows` begins or ends; None without windows."""
    edges = (edge for stretch in _stretches(windows, at_ms, time_zone) for edge in stretch)
    return min((edge for edge in edges if edge > at_ms), default=None)


def _stretches(windows: Sequence[Window], at_ms: int, time_zone: str) -> Iterator[tuple[int, int]]:
    """Start and end of each stretch that begins between yesterday and a week from now."""
    today = _local(at_ms, time_zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    for window in windows:
        length = window.end_minute - window.start_minute
        for day in range(-1, 9):
            midnight = today + timedelta(days=day)
            if midnight.weekday() in window.weekdays:
                start = midnight + timedelta(minutes=window.start_minute)
                end = midnight + timedelta(minutes=window.end_minute, days=length <= 0)
                yield _shown_ms(start, time_zone), _shown_ms(end, time_zone)


def _anchor(year: int, month: int, time_zone: str, cycle_day: int) -> int:
    day = min(cycle_day, calendar.monthrange(year, month)[1])
    return _epoch_ms(datetime(year, month, day), time_zone)


def _shown_ms(local: datetime, time_zone: str) -> int:
    """The first instant at which the clock shows `local`, or has gone past it where it is set forward."""
    at_ms = _epoch_ms(local, time_zone)
    skipped = _local(at_ms, time_zone).replace(tzinfo=None) - local
    if not skipped:
        return at_ms
    # The clock goes on where the gap ends, which is at most as long before as the gap is.
    instants = range(at_ms - skipped // timedelta(milliseconds=1), at_ms + 1)
    return instants[bisect.bisect_left(instants, local, key=lambda ms: _local(ms, time_zone).replace(tzinfo=None))]


def _epoch_ms(local: datetime, time_zone: str) -> int:
    # fold = 0: a local time that comes twice means its first coming; one that is skipped means the instant when it
    # would have come, so a midnight that does not exist is the end of the gap.
    at = local.replace(tzinfo=_zone(time_zone), fold=0).astimezone(UTC)
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _local(at_ms: int, time_zone: str) -> datetime:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).astimezone(_zone(time_zone))


def _month_after(year: int, month: int, months: int) -> tuple[int, int]:
    years, month_index = divmod(month - 1 + months, 12)
    return year + years, month_index + 1


@functools.lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
