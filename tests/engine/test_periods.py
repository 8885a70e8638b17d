"""Billing periods: zone, anchor, exclusive ends, clocks that change."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.engine.periods import (
    DAY_MS,
    MOVE_MS,
    Window,
    add_days,
    cycle_at,
    end_of_days,
    is_open,
    is_time_zone,
    next_cycle_end,
    next_turn_ms,
)
from tests.engine.world import ms

ZONES = ("UTC", "Europe/Paris", "America/New_York", "Asia/Kathmandu", "Pacific/Kiritimati", "Pacific/Pago_Pago",
         "Africa/Casablanca", "America/Santiago", "Asia/Beirut", "Australia/Lord_Howe")  # fmt: skip


@pytest.mark.parametrize(
    ("at", "day", "start", "end"),
    [
        ("2026-03-10 12:00", 1, "2026-03-01", "2026-04-01"),
        ("2026-03-10 12:00", 10, "2026-03-10", "2026-04-10"),
        ("2026-03-09 23:59:59", 10, "2026-02-10", "2026-03-10"),
        ("2026-03-10 00:00", 10, "2026-03-10", "2026-04-10"),
        ("2026-01-31 00:00", 31, "2026-01-31", "2026-02-28"),
        ("2026-02-28 00:00", 31, "2026-02-28", "2026-03-31"),
        ("2024-02-29 00:00", 30, "2024-02-29", "2024-03-30"),
        ("2026-12-31 23:00", 31, "2026-12-31", "2027-01-31"),
        ("2026-01-05 00:00", 29, "2025-12-29", "2026-01-29"),
    ],
)
def test_a_cycle_begins_at_local_midnight_of_its_day(at: str, day: int, start: str, end: str) -> None:
    for zone in ("UTC", "Europe/Paris", "America/New_York", "Asia/Kathmandu"):
        assert cycle_at(ms(at, zone), time_zone=zone, cycle_day=day) == (ms(start, zone), ms(end, zone))


def test_month_end_keeps_its_anchor() -> None:
    """Case 27: a cycle of the 31st ends on each month's last day and returns to the 31st."""
    ends, at_ms = [], ms("2026-01-31")
    for _ in range(12):
        at_ms = next_cycle_end(at_ms, time_zone="UTC", cycle_day=31)
        ends.append(at_ms)
    days = ["02-28", "03-31", "04-30", "05-31", "06-30", "07-31", "08-31", "09-30", "10-31", "11-30", "12-31"]
    assert ends == [ms(f"2026-{day}") for day in days] + [ms("2027-01-31")]


@pytest.mark.parametrize(
    ("zone", "day", "hours"), [("Europe/Paris", "2026-03-29", 23), ("Europe/Paris", "2026-10-25", 25)]
)
def test_a_day_is_as_long_as_the_clocks_make_it(zone: str, day: str, hours: int) -> None:
    """Case 28: the same local time a day later, across both changes of the clocks."""
    start = ms(day, zone)
    assert add_days(start, 1, time_zone=zone) - start == hours * 3_600_000


def test_a_midnight_that_does_not_exist_is_the_end_of_the_gap() -> None:
    # In 2018 Sao Paulo's clocks went from 00:00 to 01:00 on 4 November.
    start, _ = cycle_at(ms("2018-11-10", "UTC"), time_zone="America/Sao_Paulo", cycle_day=4)
    assert start == ms("2018-11-04 03:00", "UTC")


def test_a_midnight_that_comes_twice_means_its_first_coming() -> None:
    # In 2026 Beirut's clocks go back from 24:00 to 23:00 on 24 October, Havana's from 01:00 to 00:00 on 1 November.
    start, _ = cycle_at(ms("2026-11-10", "UTC"), time_zone="America/Havana", cycle_day=1)
    assert start == ms("2026-11-01 04:00", "UTC")


def test_a_change_of_zone_makes_no_second_bill() -> None:
    """Case 28: moving from UTC+14 to UTC-11 shifts the anchor by 25 hours; the next cycle is a whole one."""
    end = ms("2026-04-01", "Pacific/Kiritimati")
    assert next_cycle_end(end, time_zone="Pacific/Pago_Pago", cycle_day=1) == ms("2026-05-01", "Pacific/Pago_Pago")


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../etc/passwd", "/etc/localtime", "Europe", "Europe/Paris\0"])
def test_what_is_no_zone_is_told_apart(name: str) -> None:
    assert not is_time_zone(name)
    assert is_time_zone("Europe/Paris")


@given(
    st.integers(0, 4_000_000_000_000), st.sampled_from(ZONES), st.integers(1, 31), st.sampled_from(ZONES),
    st.integers(1, 31),
)  # fmt: skip
@settings(deadline=None)
def test_cycles_follow_each_other_without_gap(at_ms: int, zone: str, day: int, other: str, other_day: int) -> None:
    start, end = cycle_at(at_ms, time_zone=zone, cycle_day=day)
    assert start <= at_ms < end
    assert cycle_at(start, time_zone=zone, cycle_day=day) == (start, end)
    assert cycle_at(end - 1, time_zone=zone, cycle_day=day) == (start, end)
    following = next_cycle_end(end, time_zone=zone, cycle_day=day)
    assert cycle_at(end, time_zone=zone, cycle_day=day) == (end, following)
    # A cycle after a change is no longer than a month, but for the hours that the zones differ by.
    moved = next_cycle_end(end, time_zone=other, cycle_day=other_day)
    assert 0 < moved - end <= 31 * DAY_MS + MOVE_MS + 3_600_000
    assert next_cycle_end(moved, time_zone=other, cycle_day=other_day) - moved >= 28 * DAY_MS - 3_600_000


@pytest.mark.parametrize(
    ("day", "end"), [(1, "2026-05-01"), (2, "2026-04-02"), (15, "2026-04-15"), (31, "2026-04-30"), (30, "2026-04-30")]
)
def test_the_cycle_after_a_new_anchor_ends_with_it(day: int, end: str) -> None:
    for zone in ("UTC", "Europe/Paris", "Asia/Beirut"):
        assert next_cycle_end(ms("2026-04-01", zone), time_zone=zone, cycle_day=day) == ms(end, zone)


DAILY = Window(frozenset(range(7)), 22 * 60, 6 * 60)
WEEKEND = Window(frozenset({5, 6}), 0, 24 * 60)


@pytest.mark.parametrize(
    ("window", "at", "opened"),
    [
        (DAILY, "2026-03-10 21:59", False),
        (DAILY, "2026-03-10 22:00", True),
        (DAILY, "2026-03-11 00:00", True),
        (DAILY, "2026-03-11 05:59:59", True),
        (DAILY, "2026-03-11 06:00", False),
        (WEEKEND, "2026-03-13 23:59:59", False),
        (WEEKEND, "2026-03-14 00:00", True),
        (WEEKEND, "2026-03-15 23:59:59", True),
        (WEEKEND, "2026-03-16 00:00", False),
        (Window(frozenset({4}), 23 * 60, 60), "2026-03-14 00:30", True),
        (Window(frozenset({4}), 23 * 60, 60), "2026-03-13 00:30", False),
        (Window(frozenset({0}), 12 * 60, 12 * 60), "2026-03-17 11:59", True),
        (Window(frozenset({0}), 12 * 60, 12 * 60), "2026-03-17 12:00", False),
    ],
)
def test_a_window_is_a_stretch_of_local_time_also_across_midnight(window: Window, at: str, opened: bool) -> None:
    """Case 28: in the subscriber's zone."""
    for zone in ("UTC", "Europe/Paris", "Asia/Kathmandu"):
        assert is_open([window], ms(at, zone), time_zone=zone) is opened


@pytest.mark.parametrize(("night", "hours"), [("2026-03-28", 7), ("2026-10-24", 9), ("2026-06-10", 8)])
def test_a_night_is_as_long_as_the_clocks_make_it(night: str, hours: int) -> None:
    start = ms(f"{night} 22:00", "Europe/Paris")
    end = next_turn_ms([DAILY], start, time_zone="Europe/Paris")
    assert end == start + hours * 3_600_000


def minutes(clock: str) -> int:
    return int(clock[:2]) * 60 + int(clock[3:])


@pytest.mark.parametrize(
    ("start", "end"),
    [("02:30", "03:30"), ("02:30", "02:45"), ("23:00", "02:30"), ("01:00", "02:15"), ("02:00", "03:00"),
     ("02:10", "02:10"), ("00:00", "24:00")],
)  # fmt: skip
@pytest.mark.parametrize(
    ("zone", "day"), [("Europe/Berlin", "2026-03-29"), ("Australia/Lord_Howe", "2026-10-04"), ("UTC", "2026-03-29")]
)
def test_a_window_goes_by_what_the_clock_shows_where_it_is_set_forward(
    start: str, end: str, zone: str, day: str
) -> None:
    """Case 28: what begins or ends at a time that the clock skips does so when the clock goes past it."""
    window = Window(frozenset(range(7)), minutes(start), minutes(end))
    begins, ends = window.start_minute, window.end_minute
    midnight = ms(day, zone)
    for at_ms in range(midnight, midnight + 5 * 3_600_000, 60_000):
        local = datetime.fromtimestamp(at_ms / 1000, ZoneInfo(zone))
        shown = local.hour * 60 + local.minute
        inside = begins <= shown < ends if begins < ends else shown >= begins or shown < ends
        assert is_open([window], at_ms, time_zone=zone) is inside, local
        assert (next_turn_ms([window], at_ms, time_zone=zone) or 0) > at_ms


@pytest.mark.parametrize(
    ("zone", "begun", "days", "end"),
    [
        ("UTC", "2026-03-10 00:00", 1, "2026-03-11 00:00"),
        ("Asia/Kathmandu", "2026-03-10 23:59", 1, "2026-03-11 00:00"),
        ("Europe/Paris", "2026-03-28 12:00", 7, "2026-04-04 00:00"),
        # There is no midnight on the 29th: the clocks go from 00:00 to 01:00, which begins the day.
        ("Asia/Beirut", "2026-03-28 20:00", 1, "2026-03-29 01:00"),
        ("Asia/Beirut", "2026-03-29 01:00", 1, "2026-03-30 00:00"),
    ],
)
def test_days_by_the_calendar_end_at_midnight_and_the_first_counts_whole(
    zone: str, begun: str, days: int, end: str
) -> None:
    assert end_of_days(ms(begun, zone), days, time_zone=zone, anchor="calendar") == ms(end, zone)


@pytest.mark.parametrize(
    ("start", "end", "stretches"),
    [
        # Clocks go back from 03:00 to 02:00 at 01:00 UTC.
        ("02:00", "03:00", ["00:00-02:00"]),
        ("02:00", "02:30", ["00:00-00:30", "01:00-01:30"]),
        ("02:30", "03:30", ["00:30-01:00", "01:30-02:30"]),
        ("01:30", "02:30", ["23:30-00:30", "01:00-01:30"]),
        ("03:00", "04:00", ["02:00-03:00"]),
        ("22:00", "06:00", ["20:00-05:00"]),
    ],
)
def test_case_28_the_hour_that_comes_twice_is_in_a_window_both_times(
    start: str, end: str, stretches: list[str]
) -> None:
    window = Window(frozenset(range(7)), minutes(start), minutes(end))
    from_ms, until_ms = ms("2026-10-24 15:00"), ms("2026-10-25 12:00")
    assert turns_of(window, from_ms, until_ms) == stretches


@pytest.mark.parametrize(
    ("start", "end", "stretches"),
    [
        # Clocks go forward from 02:00 to 03:00 at 01:00 UTC.
        ("02:00", "03:00", []),
        ("02:15", "02:45", []),
        ("01:30", "02:30", ["00:30-01:00"]),
        ("02:30", "03:30", ["01:00-01:30"]),
        ("22:00", "06:00", ["21:00-04:00"]),
    ],
)
def test_case_28_the_hour_that_is_skipped_is_in_no_window(start: str, end: str, stretches: list[str]) -> None:
    window = Window(frozenset(range(7)), minutes(start), minutes(end))
    from_ms, until_ms = ms("2026-03-28 15:00"), ms("2026-03-29 12:00")
    assert turns_of(window, from_ms, until_ms) == stretches


def turns_of(window: Window, from_ms: int, until_ms: int) -> list[str]:
    """When a window is open in Paris, in UTC, by its own turns; each turn is looked at from both sides."""
    stretches, at_ms, opened = [], from_ms, is_open([window], from_ms, time_zone="Europe/Paris")
    while (turn := next_turn_ms([window], at_ms, time_zone="Europe/Paris") or until_ms) < until_ms:
        assert is_open([window], turn - 1, time_zone="Europe/Paris") is opened
        now = is_open([window], turn, time_zone="Europe/Paris")
        if now and not opened:
            stretches.append(f"{datetime.fromtimestamp(turn / 1000, UTC):%H:%M}-")
        elif opened and not now:
            stretches[-1] += f"{datetime.fromtimestamp(turn / 1000, UTC):%H:%M}"
        at_ms, opened = turn, now
    return stretches


def test_without_windows_nothing_turns() -> None:
    assert next_turn_ms([], 0, time_zone="UTC") is None
    assert not is_open([], 0, time_zone="UTC")


@given(
    st.integers(0, 4_000_000_000_000), st.sampled_from(ZONES),
    st.lists(
        st.builds(Window, st.frozensets(st.integers(0, 6), min_size=1), st.integers(0, 1439), st.integers(0, 1440)),
        min_size=1, max_size=3,
    ),
)  # fmt: skip
@settings(deadline=None)
def test_nothing_changes_between_two_turns(at_ms: int, zone: str, windows: list[Window]) -> None:
    turn = next_turn_ms(windows, at_ms, time_zone=zone)
    assert turn is not None
    assert at_ms < turn <= at_ms + 8 * DAY_MS
    now = is_open(windows, at_ms, time_zone=zone)
    for between in (at_ms + 1, (at_ms + turn) // 2, turn - 1):
        assert is_open(windows, max(at_ms, between), time_zone=zone) is now
