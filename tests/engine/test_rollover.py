"""What of a cycle's volume stays when the next one begins."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.world import World, catalogue, ms

FEE = {"id": "fee", "type": "recurring", "amount": "5"}


def world_of(rollover: dict[str, Any] | None, payment: str = "postpaid", **plan: Any) -> World:
    data = {"id": "data", "octets": 1000, "rollover": rollover}
    world = World(catalogue({"id": "plan", "allowances": [data], **plan}), payment=payment)
    if payment == "prepaid":
        world.credit("5")
    world.activate("plan")
    return world


def lots(world: World) -> list[tuple[int, bool]]:
    assert world.account is not None
    return [(bucket.remaining, bucket.rolled) for bucket in world.account.buckets]


@pytest.mark.parametrize(
    ("rollover", "kept", "expired"),
    [
        (None, 0, 700),
        ({}, 700, 0),
        ({"percent": 50}, 350, 350),
        ({"percent": 33}, 231, 469),
        ({"octets": 200}, 200, 500),
        ({"percent": 50, "octets": 500}, 350, 350),
    ],
)
def test_what_is_left_stays_within_its_bounds(rollover: dict[str, Any] | None, kept: int, expired: int) -> None:
    world = world_of(rollover)
    world.flow(300)
    world.timer("2026-04-01")
    assert lots(world) == [(kept, True)] * bool(kept) + [(1000, False)]
    gone = sum(-int(m.amount) for row in world.usage for m in row.movements if row.kind == "expiry")
    assert gone == expired


def test_what_was_kept_is_used_first_and_goes_after_its_cycles() -> None:
    world = world_of({})
    world.timer("2026-04-01")
    world.flow(400)
    assert lots(world) == [(600, True), (1000, False)]
    world.timer("2026-05-01")
    # The 600 were kept once and are over; the 1000 of April are kept now.
    assert lots(world) == [(1000, True), (1000, False)]


def test_volume_may_stay_for_several_cycles_up_to_its_limit() -> None:
    world = world_of({"cycles": 2, "octets": 1500})
    world.timer("2026-04-01")
    world.timer("2026-05-01")
    assert world.left("p1/data") == 1000 + 1500
    assert world.account is not None
    assert sorted(b.valid_until_ms for b in world.account.buckets if b.rolled) == [ms("2026-06-01"), ms("2026-07-01")]
    # Drawn by earliest end: what was granted in May ends before what was kept until July.
    assert [draw.octets for draw in world.flow(2500).draws] == [1000, 1000, 500]


def test_a_suspended_or_ended_product_keeps_nothing() -> None:
    world = world_of({}, payment="prepaid", prices=[FEE])
    world.timer("2026-04-01")
    assert lots(world) == []
    world = world_of({}, term_days=5)
    world.timer("2026-04-01")
    assert lots(world) == []


def test_the_end_is_told_when_all_of_an_allowance_is_used() -> None:
    world = world_of({})
    world.timer("2026-04-01")
    world.flow(1000)
    assert [note.kind for note in world.notifications] == ["activated"]
    world.flow(1000)
    assert [note.kind for note in world.notifications] == ["activated", "exhausted"]


def test_a_late_flow_finds_the_kept_and_the_expired_part() -> None:
    world = world_of({"percent": 50})
    world.timer("2026-04-01")
    decision = world.flow(800, at=ms("2026-04-01") - 1)
    assert decision.charged_octets == 800
    assert world.left("p1/data") == 1000 + 500 - (800 - 500)


@pytest.mark.parametrize(("used", "treatment"), [(0, "free"), (1, "charged")])
def test_a_late_flow_meets_the_marks_that_its_own_cycle_had_reached(used: int, treatment: str) -> None:
    """What is kept and what expired are together what was granted, and no more of it is used than was."""
    data = {"id": "data", "octets": 1000, "rollover": {"percent": 30}}
    film = {"applications": ["netflix"]}
    rule = {"id": "first", "scope": film, "bucket": {"allowance": "data", "state": "fresh"}, "charging": "free"}
    world = World(catalogue({"id": "plan", "allowances": [data], "rules": ["first"]}, rules=[rule]))
    world.activate("plan")
    world.flow(used)
    world.timer("2026-04-01")
    assert world.flow(5, "netflix", at=ms("2026-04-01") - 1).treatment == treatment


def test_rollover_is_for_cycles() -> None:
    with pytest.raises(ValueError, match="rollover is for validity 'cycle'"):
        catalogue({"id": "o", "allowances": [{"id": "a", "octets": 1, "validity": "once", "rollover": {}}]})


@given(
    st.lists(st.integers(0, 3000), min_size=1, max_size=8), st.integers(1, 100), st.none() | st.integers(0, 2500),
    st.integers(1, 3),
)  # fmt: skip
@settings(deadline=None)
def test_what_is_kept_is_never_more_than_was_granted_and_not_used(
    used: list[int], percent: int, octets: int | None, cycles: int
) -> None:
    world = world_of({"percent": percent, "octets": octets, "cycles": cycles})
    month, granted = 3, 1000
    for volume in used:
        world.flow(volume)
        month += 1
        world.timer(f"{2026 + (month - 1) // 12}-{(month - 1) % 12 + 1:02d}-01")
        granted += 1000
        drawn = sum(decision.charged_octets for decision in world.decisions)
        kept = sum(remaining for remaining, rolled in lots(world) if rolled)
        assert world.left("p1/data") <= granted - drawn
        assert octets is None or kept <= octets
        assert kept <= cycles * 1000
