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
MOVE_MS = 26 * 3_600_000
"""What the clocks of two zones differ by at most: the midnights of one date lie no further apart."""


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
    """The end of the cycle that begins when another ended: the next anchor, so it is short where that was changed.

    Where the zone was changed, the cycle before ended at no midnight of this one; then what is left of the same day is
    no cycle, and belongs to the next.
    """
    today = _local(end_ms, time_zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    moved = _epoch_ms(today, time_zone) != end_ms
    return cycle_at(end_ms + MOVE_MS - 1 if moved else end_ms, time_zone=time_zone, cycle_day=cycle_day)[1]


def add_days(at_ms: int, days: int, *, time_zone: str) -> int:
    """The same local time of day, `days` later: a day is 23 or 25 hours long where the clocks change."""
    local = _local(at_ms, time_zone).replace(tzinfo=None) + timedelta(days=days)
    return _epoch_ms(local, time_zone)


def holds(from_ms: int, until_ms: int | None, at_ms: int) -> bool:
    """Whether a time is in a period: start inclusive, end exclusive, None for one without an end."""
    return from_ms <= at_ms and (until_ms is None or at_ms < until_ms)


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
    """Whether the local clock shows a time in one of `windows` at `at_ms`; starts are inclusive, ends exclusive.

    So what comes twice when clocks go back is in a window both times, and what is skipped never is.
    """
    local = _local(at_ms, time_zone)
    today, minute = local.weekday(), local.hour * 60 + local.minute
    return any(_shows(window, today, minute) for window in windows)


def next_turn_ms(windows: Sequence[Window], at_ms: int, *, time_zone: str) -> int | None:
    """The first time after `at_ms` at which one of `windows` begins or ends; None without windows."""
    edges = {edge for edge in _edges(windows, at_ms, time_zone) if edge > at_ms}
    # Where the clocks change, a window may turn once more than its own times say.
    turns = {
        edge
        for edge in _changes_of_clocks(windows, at_ms, time_zone)
        if edge > at_ms
        and is_open(windows, edge, time_zone=time_zone) != is_open(windows, edge - 1, time_zone=time_zone)
    }
    return min(edges | turns, default=None)


def _shows(window: Window, today: int, minute: int) -> bool:
    begun, over = minute >= window.start_minute, minute >= window.end_minute
    if window.start_minute < window.end_minute:
        return today in window.weekdays and begun and not over
    return (today in window.weekdays and begun) or ((today - 1) % 7 in window.weekdays and not over)


def _edges(windows: Sequence[Window], at_ms: int, time_zone: str, *, fold: int = 0) -> Iterator[int]:
    """Start and end of each window that begins between yesterday and a week from now."""
    today = _local(at_ms, time_zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    for window in windows:
        length = window.end_minute - window.start_minute
        for day in range(-1, 9):
            midnight = today + timedelta(days=day)
            if midnight.weekday() in window.weekdays:
                start = midnight + timedelta(minutes=window.start_minute)
                end = midnight + timedelta(minutes=window.end_minute, days=length <= 0)
                yield from (_shown_ms(edge, time_zone, fold=fold) for edge in (start, end))


def _changes_of_clocks(windows: Sequence[Window], at_ms: int, time_zone: str) -> Iterator[int]:
    """From yesterday to a week from now: when the clocks change, and the second coming of what comes twice then."""
    day_ms = at_ms - DAY_MS
    for _ in range(10):
        before, after = (_local(time_ms, time_zone).utcoffset() for time_ms in (day_ms, day_ms + DAY_MS))
        if before != after:
            yield _first_ms_with(after, day_ms, day_ms + DAY_MS, time_zone)
            yield from _edges(windows, at_ms, time_zone, fold=1)
        day_ms += DAY_MS


def _first_ms_with(offset: timedelta | None, from_ms: int, until_ms: int, time_zone: str) -> int:
    while until_ms - from_ms > 1:
        middle = (from_ms + until_ms) // 2
        from_ms, until_ms = (from_ms, middle) if _local(middle, time_zone).utcoffset() == offset else (middle, until_ms)
    return until_ms


def _anchor(year: int, month: int, time_zone: str, cycle_day: int) -> int:
    day = min(cycle_day, calendar.monthrange(year, month)[1])
    return _epoch_ms(datetime(year, month, day), time_zone)


def _shown_ms(local: datetime, time_zone: str, *, fold: int) -> int:
    """The first instant at which the clock shows `local`, or has gone past it where it is set forward.

    With `fold` 1 the second one, where it comes twice.
    """
    at_ms = _epoch_ms(local, time_zone, fold=fold)
    skipped = _local(at_ms, time_zone).replace(tzinfo=None) - local
    if not skipped or fold:
        return at_ms
    # The clock goes on where the gap ends, which is at most as long before as the gap is.
    instants = range(at_ms - skipped // timedelta(milliseconds=1), at_ms + 1)
    return instants[bisect.bisect_left(instants, local, key=lambda ms: _local(ms, time_zone).replace(tzinfo=None))]


def _epoch_ms(local: datetime, time_zone: str, *, fold: int = 0) -> int:
    # A local time that comes twice means its first coming, unless `fold` is 1; one that is skipped means the instant
    # when it would have come, so a midnight that does not exist is the end of the gap.
    at = local.replace(tzinfo=_zone(time_zone), fold=fold).astimezone(UTC)
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _local(at_ms: int, time_zone: str) -> datetime:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).astimezone(_zone(time_zone))


def _month_after(year: int, month: int, months: int) -> tuple[int, int]:
    years, month_index = divmod(month - 1 + months, 12)
    return year + years, month_index + 1


@functools.lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
