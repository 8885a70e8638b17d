"""Scopes: what covers what, and at which minutes of the week."""

import itertools
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalogue_scopes import Scope
from services.engine.periods import is_open
from services.engine.scopes import (
    MINUTES_OF_WEEK,
    WHOLE_WEEK,
    clock_of,
    covers,
    kinds_of,
    meet,
    overlapping,
    uncovered,
    week_of,
)
from services.engine.tariff import Reach, Traffic
from tests.engine.world import APPLICATIONS, ms

MONDAY = "2026-03-09"
RATS = ("UTRA", "NR", None)
APPS = ("netflix", "facebook", None)
CATEGORIES = ("voip_im", "social", "streaming", "other")


def reach(**scope: Any) -> Reach:
    return Reach.of(Scope.model_validate(scope))


windows = st.fixed_dictionaries(
    {
        "days": st.lists(st.sampled_from(["mon", "sat", "sun"]), max_size=2, unique=True),
        "start": st.sampled_from(["00:00", "06:00", "22:00"]),
        "end": st.sampled_from(["00:00", "06:00", "24:00"]),
    }
)
scopes = st.fixed_dictionaries(
    {
        "applications": st.lists(st.sampled_from(["netflix", "facebook"]), max_size=2, unique=True),
        "categories": st.lists(st.sampled_from(CATEGORIES), max_size=4, unique=True),
        "rat_types": st.lists(st.sampled_from(["UTRA", "NR"]), max_size=2, unique=True),
        "windows": st.lists(windows, max_size=2),
    }
)


@given(st.lists(windows, min_size=1, max_size=3), st.integers(0, MINUTES_OF_WEEK - 1))
def test_a_minute_of_the_week_is_open_when_the_engine_says_so(drawn: list[dict[str, Any]], minute: int) -> None:
    found = reach(windows=drawn).windows
    at_ms = ms(MONDAY) + minute * 60_000
    assert bool(week_of(found) >> minute & 1) == is_open(found, at_ms, time_zone=str(ZoneInfo("UTC")))


@given(scopes, st.lists(scopes, max_size=3))
def test_what_is_uncovered_is_what_nothing_fits(target: dict[str, Any], others: list[dict[str, Any]]) -> None:
    """Against every kind of traffic in turn, and every minute at which something can change."""
    wanted, rest = reach(**target), [reach(**other) for other in others]
    left = [
        (traffic, minute)
        for traffic in (Traffic(app, cat, None, rat) for app, cat, rat in itertools.product(APPS, CATEGORIES, RATS))
        if wanted.miss(traffic) is None
        for minute in range(0, MINUTES_OF_WEEK, 360)
        for minute in (minute, minute + 239, minute + 240)
        if week_of(wanted.windows) >> minute & 1
        and not any(one.miss(traffic) is None and week_of(one.windows) >> minute & 1 for one in rest)
    ]
    found = uncovered(wanted, rest)
    assert (found is None) == (not left)
    if found is not None:
        app, category, service, rat, *_ = found.names
        for name in CATEGORIES if category is None else (category,):
            traffic = Traffic(app, name, service, rat)
            if wanted.miss(traffic) is None:
                assert all(one.miss(traffic) is not None or not found.minutes & week_of(one.windows) for one in rest), (
                    traffic
                )


@given(scopes, scopes)
def test_one_scope_covers_another_when_nothing_of_that_is_left(one: dict[str, Any], other: dict[str, Any]) -> None:
    wide, narrow = reach(**{**one, "windows": []}), reach(**{**other, "windows": []})
    if covers(wide, narrow):
        assert uncovered(narrow, [wide]) is None


def test_all_zones_cover_everything_only_where_there_are_no_others() -> None:
    both = [reach(zones=["home"]), reach(zones=["abroad"])]
    assert uncovered(reach(), both) is not None
    assert uncovered(reach(), both, zones=("home", "abroad")) is None
    assert uncovered(reach(), both[:1], zones=("home", "abroad")) is not None


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"applications": ["netflix"]}, {"applications": ["facebook"]}, False),
        ({"applications": ["netflix"]}, {"categories": ["streaming"]}, True),
        ({"applications": ["netflix"]}, {"categories": ["social"]}, False),
        ({"applications": ["unheard-of"]}, {"categories": ["social"]}, True),
        ({"rat_types": ["NR"]}, {"applications": ["netflix"]}, True),
        ({"rat_types": ["NR"]}, {"rat_types": ["UTRA"]}, False),
        ({"zones": ["home"]}, {"zones": ["abroad"]}, False),
    ],
)
def test_scopes_meet_where_some_traffic_is_in_both(one: dict[str, Any], other: dict[str, Any], expected: bool) -> None:
    assert meet(reach(**one), reach(**other), APPLICATIONS) == expected
    assert meet(reach(**other), reach(**one), APPLICATIONS) == expected


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        ([{"days": ["mon"]}, {"days": ["tue"]}], None),
        ([{"days": ["mon"], "start": "22:00", "end": "06:00"}, {"days": ["tue"], "end": "06:00"}], (0, 1)),
        ([{"days": ["sun"], "start": "22:00", "end": "06:00"}, {"days": ["mon"], "end": "00:01"}], (0, 1)),
        ([{"days": ["sun"]}, {"days": ["mon"]}, {}], (0, 2)),
    ],
)
def test_windows_overlap_where_both_are_open(drawn: list[dict[str, Any]], expected: object) -> None:
    found = overlapping([reach(windows=[window]).windows[0] for window in drawn])
    assert found == expected


@pytest.mark.parametrize(
    ("drawn", "text"),
    [
        ([{"days": ["mon"], "start": "06:00", "end": "23:00"}], "mon 06:00 to 23:00"),
        ([{"days": ["sun"], "start": "22:00", "end": "06:00"}], "sun 22:00 to 06:00"),
        ([{}], "always"),
    ],
)
def test_minutes_are_told_as_the_clock_shows_them(drawn: list[dict[str, Any]], text: str) -> None:
    assert clock_of(week_of(reach(windows=drawn).windows)) == text


def test_a_tariff_that_tells_too_much_apart_is_not_called_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.engine.scopes.MAX_CELLS", 2)
    parts = [reach(categories=[name]) for name in CATEGORIES]
    assert uncovered(reach(), parts) is not None
    assert len(list(kinds_of(parts))) == 2
    monkeypatch.undo()
    assert uncovered(reach(), parts) is None
    assert week_of(()) == WHOLE_WEEK
