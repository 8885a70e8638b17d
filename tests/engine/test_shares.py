"""Members' shares in terms that are over: late usage counts in the term when it happened."""

from typing import Any

import pytest

from schemas.command import CorrectedUsage, VoidUsage
from services.engine.shares import share_id
from tests.engine.world import World, catalogue

MEMBERS = ("a1", "b2")


def family(days: int, at: str, **more: Any) -> World:
    """A pass of 1000 octets in each term, of which each member may have 100."""
    shared = {"id": "data", "octets": 1000, "per_member_octets": 100, "validity": "once", "on_exhausted": "block"}
    offering = {"id": "pass", "kind": "pass", "term_days": days, "renewal": "automatic", "allowances": [shared]}
    world = World(catalogue(offering), at=at, subscriber_ids=MEMBERS, **more)
    world.activate("pass", "p")
    return world


def drawn(world: World, octets: int, at: str, member: str = "a1") -> int:
    return world.flow(octets, at=at, subscriber_id=member).charged_octets


def shares(world: World) -> dict[str, int]:
    assert world.account is not None
    counters = (*world.account.counters, *world.account.past_counters)
    return {item.counter_id: item.octets for item in counters if "member:" in item.counter_id and item.octets}


def test_a_late_flow_takes_no_more_than_was_left_of_the_share_of_its_own_term() -> None:
    world = family(7, "2026-03-02 12:00")
    assert drawn(world, 60, "2026-03-09 11:00") == 60
    world.timer("2026-03-09 12:00")
    assert drawn(world, 70, "2026-03-09 11:30") == 40
    assert drawn(world, 70, "2026-03-09 11:31") == 0
    assert drawn(world, 70, "2026-03-09 11:32", "b2") == 70
    assert (drawn(world, 150, "2026-03-09 13:00"), drawn(world, 150, "2026-03-09 13:00", "b2")) == (100, 100)


def test_a_late_flow_leaves_the_share_of_the_term_that_has_begun_as_it_was() -> None:
    world = family(7, "2026-03-02 12:00")
    world.timer("2026-03-09 12:00")
    assert drawn(world, 30, "2026-03-09 13:00") == 30
    assert drawn(world, 100, "2026-03-09 11:00") == 100
    assert shares(world)[share_id("p/data", "a1")] == 30
    assert drawn(world, 100, "2026-03-09 13:30") == 70


@pytest.mark.parametrize("used", [0, 60])
def test_a_late_flow_of_the_cycle_before_counts_in_its_own_term_and_not_in_the_last_one(used: int) -> None:
    """Terms end at noon: one within March, the next across its end."""
    world = family(1, "2026-03-30 12:00")
    assert drawn(world, used, "2026-03-31 11:00") == used
    assert drawn(world, 90, "2026-03-31 13:00") == 90
    world.timer("2026-04-01 06:00")
    assert drawn(world, 100, "2026-03-31 11:30") == 100 - used
    assert drawn(world, 100, "2026-03-31 13:30") == 10
    assert drawn(world, 150, "2026-04-01 06:30") == 100


def test_a_term_in_which_nothing_was_drawn_is_told_from_the_one_after_it() -> None:
    world = family(1, "2026-03-10 12:00")
    world.timer("2026-03-11 12:00")
    assert drawn(world, 100, "2026-03-11 13:00") == 100
    world.timer("2026-03-12 11:00")
    assert drawn(world, 100, "2026-03-11 11:30") == 100
    assert drawn(world, 100, "2026-03-11 13:30") == 0


def test_shares_are_forgotten_with_the_grace_and_do_not_gather_over_a_cycle() -> None:
    world = family(1, "2026-03-01 12:00")
    for day in range(2, 30):
        drawn(world, 10, f"2026-03-{day:02} 13:00")
        drawn(world, 10, f"2026-03-{day:02} 13:00", "b2")
    assert len(shares(world)) <= 4
    assert drawn(world, 10, "2026-03-20 13:00") == 0


def test_a_voided_row_of_a_term_that_is_over_leaves_the_present_share_as_it_was() -> None:
    world = family(7, "2026-03-02 12:00")
    drawn(world, 60, "2026-03-09 11:00")
    drawn(world, 30, "2026-03-09 13:00")
    world.emit()
    row = next(row for row in world.usage if row.kind == "usage" and row.charged_octets == 60)
    names = [name for name in CorrectedUsage.__struct_fields__ if hasattr(row, name)]
    world.command(VoidUsage, line=CorrectedUsage(**{name: getattr(row, name) for name in names}), reclassified=0)
    assert shares(world) == {share_id("p/data", "a1"): 30}
    assert drawn(world, 100, "2026-03-09 11:30") == 100
