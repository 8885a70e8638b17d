"""What scopes have in common: whether two meet, whether one lies within others, and at which minutes of the week.

Windows are read as minutes of a local week, in one whole number with a bit for each. A week in which the clocks change
has no other meaning: a window is named by what the clock shows.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from schemas.catalogue import Application
from services.engine.periods import Window
from services.engine.tariff import Reach

MINUTES_OF_DAY = 1_440
MINUTES_OF_WEEK = 7 * MINUTES_OF_DAY
WHOLE_WEEK = (1 << MINUTES_OF_WEEK) - 1

CATEGORIES = ("voip_im", "social", "streaming", "other")
_DIMENSIONS = ("applications", "categories", "services", "rat_types", "zones", "dnns")

MAX_CELLS = 20_000
"""Kinds of traffic that are looked at in one question; a tariff that tells more apart gets no answer."""


Names = tuple[str | None, ...]
"""Application, category, service, RAT, zone and data network of a kind of traffic; None is whatever nobody names."""


_EVERYTHING = Reach(frozenset(), frozenset(), frozenset(), frozenset(), 1)


OF_ANYBODY = frozenset(("dns", "upload"))
"""Services that the classifier tells by itself: queries of any resolver, and uploads by their direction."""

_UPLOADING = frozenset(("social", "streaming"))


class Cell(NamedTuple):
    """One kind of traffic, and the minutes of the week that a question is about."""

    names: Names
    minutes: int


def meet(one: Reach, other: Reach, category_of: Mapping[str, str]) -> bool:
    """Whether some traffic is in both scopes, whatever the time."""
    if one.applications and other.applications:
        return not one.applications.isdisjoint(other.applications)
    for narrow, wide in ((one, other), (other, one)):
        # An application outside the catalogue's list has no known category, so it may be anywhere.
        categories = {category_of.get(name) for name in narrow.applications}
        if wide.categories and categories and None not in categories and wide.categories.isdisjoint(categories):
            return False
    pairs = (
        (one.categories, other.categories), (one.services, other.services), (one.rat_types, other.rat_types),
        (one.zones, other.zones), (one.dnns, other.dnns),
    )  # fmt: skip
    return all(not mine or not theirs or not mine.isdisjoint(theirs) for mine, theirs in pairs)


def traffic_of(application: Application) -> Iterator[tuple[str, str | None]]:
    """Category and service of each kind of traffic that an application has."""
    yield application.category, None
    yield "other", "dns"
    if application.media_service or application.media_category:
        yield application.media_category or application.category, application.media_service
    for pfd in application.pfds:
        yield pfd.category or application.category, pfd.service
    if application.category in _UPLOADING:
        yield application.category, "upload"


def covers(wide: Reach, narrow: Reach) -> bool:
    """Whether all traffic of `narrow` is in `wide`, whatever the time."""
    pairs = ((getattr(wide, name), getattr(narrow, name)) for name in _DIMENSIONS)
    return all(not outer or (bool(inner) and inner <= outer) for outer, inner in pairs)


def week_of(windows: Sequence[Window]) -> int:
    """The minutes of the week in which one of `windows` is open; all of them without windows."""
    if not windows:
        return WHOLE_WEEK
    minutes = 0
    for window in windows:
        minutes |= _minutes_of(window)
    return minutes


def overlapping(windows: Sequence[Window]) -> tuple[int, int] | None:
    """The places of the first two windows that are open at the same time."""
    weeks = [_minutes_of(window) for window in windows]
    pairs = ((one, two) for two in range(len(weeks)) for one in range(two))
    return next((pair for pair in pairs if weeks[pair[0]] & weeks[pair[1]]), None)


def uncovered(target: Reach, others: Sequence[Reach], *, zones: Sequence[str] = ()) -> Cell | None:
    """Traffic and minutes of `target` that are in none of `others`; None when together they cover it.

    `zones` are all there are, where every flow is in one of them. More than MAX_CELLS kinds of traffic count as not
    covered, since nobody has looked.
    """
    others = [other for other in others if _may_share(target, other)]
    wanted = week_of(target.windows)
    weeks = [week_of(other.windows) for other in others]
    for count, (names, serving) in enumerate(_cells(target, others, zones)):
        left = wanted
        for place, week in enumerate(weeks):
            if serving >> place & 1:
                left &= ~week
        if left or count >= MAX_CELLS:
            return Cell(names, left)
    return None


def kinds_of(reaches: Sequence[Reach], *, zones: Sequence[str] = ()) -> Iterator[tuple[Names, int]]:
    """Each kind of traffic that `reaches` tell apart, as names by dimension, with a bit for each that it is in."""
    return itertools.islice(_cells(_EVERYTHING, reaches, zones), MAX_CELLS)


def clock_of(minutes: int) -> str:
    """The first stretch of `minutes`, such as `mon 06:00 to 23:00`; `always` where it is the whole week."""
    if minutes in (0, WHOLE_WEEK):
        return "always"
    # A week has no beginning: a stretch may run through its end.
    first = next(
        at for at in range(MINUTES_OF_WEEK) if minutes >> at & 1 and not minutes >> (at - 1) % MINUTES_OF_WEEK & 1
    )
    length = next(n for n in range(1, MINUTES_OF_WEEK) if not minutes >> (first + n) % MINUTES_OF_WEEK & 1)
    day = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[first // MINUTES_OF_DAY]
    return f"{day} {_clock(first)} to {_clock(first + length)}"


def _clock(minute: int) -> str:
    hours, minutes = divmod(minute % MINUTES_OF_DAY, 60)
    return f"{hours:02}:{minutes:02}"


def _minutes_of(window: Window) -> int:
    length = window.end_minute - window.start_minute
    run = (1 << (length if length > 0 else length + MINUTES_OF_DAY)) - 1
    minutes = 0
    for day in window.weekdays:
        shifted = run << (day * MINUTES_OF_DAY + window.start_minute)
        minutes |= shifted & WHOLE_WEEK | shifted >> MINUTES_OF_WEEK
    return minutes


def _may_share(target: Reach, other: Reach) -> bool:
    pairs = ((getattr(target, name), getattr(other, name)) for name in _DIMENSIONS)
    return all(not mine or not theirs or not mine.isdisjoint(theirs) for mine, theirs in pairs)


def _cells(target: Reach, others: Sequence[Reach], zones: Sequence[str]) -> Iterator[tuple[Names, int]]:
    """Every combination of names that `others` treat differently, with a bit for each of `others` that has it."""
    dimensions = [_kinds(name, target, others, zones) for name in _DIMENSIONS]
    for combination in itertools.product(*dimensions):
        serving = (1 << len(others)) - 1
        for _, having in combination:
            serving &= having
        yield tuple(name for name, _ in combination), serving


def _kinds(
    dimension: str, target: Reach, others: Sequence[Reach], zones: Sequence[str]
) -> list[tuple[str | None, int]]:
    """The names of a dimension, one for each set of `others` that a name can be in; of categories, all."""
    lists = [getattr(other, dimension) for other in others]
    names: list[str | None] = sorted(getattr(target, dimension)) or [None, *sorted(frozenset().union(*lists))]
    if len(names) > 1 and names[0] is None:
        # There is no fifth category; of zones there is no other where every flow is in one.
        names = (
            list(CATEGORIES) if dimension == "categories" else list(zones or names) if dimension == "zones" else names
        )
    having = [
        (name, sum(1 << place for place, wanted in enumerate(lists) if not wanted or name in wanted)) for name in names
    ]
    if dimension == "categories":
        return having
    return [(name, places) for places, name in {places: name for name, places in reversed(having)}.items()]
