"""Shared buckets: one account, several members, a share for each."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.gateway import Gateway
from tests.engine.world import World, catalogue, ms

FAMILY = {"subscriber_ids": ("ma", "pa", "kid")}


def world_of(**allowance: object) -> World:
    shared = {"id": "data", "octets": 1000, "per_member_octets": 400, **allowance}
    price = {"id": "p", "amount": "1", "per_octets": 100}
    world = World(catalogue({"id": "plan", "allowances": [shared], "usage_prices": [price]}), **FAMILY)
    world.activate("plan")
    return world


def drawn(world: World, who: str, volume: int) -> int:
    return sum(draw.octets for draw in world.flow(volume, subscriber_id=who).draws)


def test_members_draw_from_one_bucket() -> None:
    world = world_of(per_member_octets=None)
    assert [drawn(world, who, 400) for who in ("ma", "pa", "kid")] == [400, 400, 200]


def test_each_member_has_a_share_and_no_more() -> None:
    world = world_of()
    assert [drawn(world, "kid", 300), drawn(world, "kid", 300), drawn(world, "kid", 300)] == [300, 100, 0]
    assert [drawn(world, "ma", 400), drawn(world, "pa", 400)] == [400, 200]
    assert world.money() == (200 + 300 + 200) * 10_000
    assert world.left("p1/data") == 0


def test_a_member_who_has_used_the_share_meets_what_an_empty_bucket_says() -> None:
    world = world_of(on_exhausted="throttle")
    decision = world.flow(500, subscriber_id="kid")
    assert (decision.charged_octets, decision.free_octets) == (400, 100)
    assert world.flow(10, subscriber_id="kid").treatment == "free"
    assert world.flow(10, subscriber_id="ma").treatment == "charged"


def test_a_rule_about_the_bucket_looks_at_the_members_share() -> None:
    rules = [
        {"id": "while", "bucket": {"allowance": "data", "state": "available"}},
        {"id": "after", "bucket": {"allowance": "data", "state": "exhausted"}, "gate_status": "closed"},
    ]
    plan = {"id": "plan", "allowances": [{"id": "data", "octets": 1000, "per_member_octets": 400}]}
    world = World(catalogue({**plan, "rules": ["while", "after"]}, rules=rules), **FAMILY)
    world.activate("plan")
    decision = world.flow(500, subscriber_id="kid")
    assert (decision.rule_id, decision.charged_octets, decision.blocked_octets) == ("while", 400, 100)
    assert world.flow(1, subscriber_id="kid").rule_id == "after"
    assert world.flow(1, subscriber_id="pa").rule_id == "while"


def test_the_member_is_told_and_the_share_is_new_with_the_cycle() -> None:
    world = world_of()
    world.flow(500, subscriber_id="kid")
    assert [(note.subscriber_id, note.bucket_id) for note in world.told("exhausted")] == [("kid", "p1/data")]
    assert drawn(world, "kid", 10) == 0
    world.timer("2026-04-01")
    assert drawn(world, "kid", 10) == 10


@given(st.lists(st.tuples(st.sampled_from(FAMILY["subscriber_ids"]), st.integers(0, 600)), max_size=12))
@settings(deadline=None)
def test_no_member_passes_the_share_and_the_bucket_is_never_overdrawn(flows: list[tuple[str, int]]) -> None:
    world, split = world_of(), world_of()
    taken = dict.fromkeys(FAMILY["subscriber_ids"], 0)
    for who, volume in flows:
        taken[who] += drawn(world, who, volume)
        for part in (volume // 3, volume - volume // 3):
            split.flow(part, subscriber_id=who)
    assert all(octets <= 400 for octets in taken.values())
    assert sum(taken.values()) == 1000 - world.left("p1/data")
    assert (world.money(), world.left("p1/data")) == (split.money(), split.left("p1/data"))


# -- what gateways are told

START = ms("2026-03-10 12:00")
MINUTE = 60_000


def family(tolerance: int | None = None, **plan: Any) -> World:
    """A bucket of 3 000 octets, of which each may have 1 000; beyond it nothing passes."""
    shared = {"id": "data", "octets": 3_000, "per_member_octets": 1_000, "overshoot_tolerance_octets": tolerance}
    world = World(catalogue({"id": "plan", "allowances": [shared], **plan}), at=START, **FAMILY)
    world.activate("plan")
    return world


def gates(world: World) -> list[str]:
    return [world.gates(member)["default"] for member in FAMILY["subscriber_ids"]]


def test_the_gate_closes_for_the_member_whose_share_is_used_up_and_for_nobody_else() -> None:
    world = family()
    world.flow(999, subscriber_id="kid")
    assert gates(world) == ["open", "open", "open"]
    world.flow(1, subscriber_id="kid")
    assert gates(world) == ["open", "open", "closed"]
    told = world.updates[-1]
    assert (told.subscriber_ids, told.gate_status, told.cause) == (("kid",), "closed", "share")
    world.timer("2026-04-01")
    assert gates(world) == ["open", "open", "open"]


def test_a_share_of_somebody_alone_closes_the_gate_too() -> None:
    shared = {"id": "data", "octets": 3_000, "per_member_octets": 1_000}
    world = World(catalogue({"id": "plan", "allowances": [shared]}))
    world.activate("plan")
    world.flow(1_000)
    assert world.gates("a1") == {"default": "closed"}


def test_a_rule_about_the_empty_bucket_is_installed_for_the_member_alone() -> None:
    rules = [
        {"id": "while", "bucket": {"allowance": "data", "state": "available"}},
        {"id": "after", "bucket": {"allowance": "data", "state": "exhausted"}, "charging": "free"},
    ]
    plan = {"id": "plan", "allowances": [{"id": "data", "octets": 1000, "per_member_octets": 400}]}
    world = World(catalogue({**plan, "rules": ["while", "after"]}, rules=rules), **FAMILY)
    world.activate("plan")
    first = len(world.updates)
    world.flow(400, subscriber_id="kid")
    told = [(item.action, item.rule_id, item.subscriber_ids) for item in world.updates[first:]]
    assert told == [("install", "after", ("kid",)), ("remove", "while", ("kid",))]


def test_the_end_of_a_share_is_told_ahead_to_the_member_alone() -> None:
    world = family(100)
    world.flow(920, subscriber_id="kid", at=START + MINUTE)
    told = [item for item in world.updates if item.quota_octets is not None]
    assert [(item.subscriber_ids, item.quota_subscriber_ids, item.quota_octets) for item in told] == [
        (("kid",), ("kid",), 80)
    ]
    assert (told[0].quota_limit_id, told[0].gate_status, told[0].cause) == ("member:p1/data:kid", "closed", "share")
    gateway = Gateway(world)
    assert gateway.passes("default", 500, "kid") == 80
    assert gateway.passes("default", 500, "ma") == 500


def test_what_one_member_is_told_anew_takes_nothing_from_what_another_awaits() -> None:
    world = family(100)
    for member in ("kid", "pa"):
        world.flow(950, subscriber_id=member, at=START + MINUTE)
    gateway = Gateway(world)
    world.flow(50, subscriber_id="kid", at=START + 2 * MINUTE)
    gateway.listen()
    assert [gateway.passes("default", 500, member) for member in ("kid", "pa")] == [0, 50]
    # A tolerance that is declared no more takes back what is awaited, and tells nobody else.
    shared = {"id": "data", "octets": 3_000, "per_member_octets": 1_000}
    first = len(world.updates)
    world.publish(catalogue({"id": "plan", "allowances": [shared]}, version="v2"))
    world.timer(START + 3 * MINUTE)
    told = [(item.subscriber_ids, item.gate_status, item.quota_octets) for item in world.updates[first:]]
    assert told == [(("ma", "pa"), "open", None)]
    assert world.account is not None
    assert world.account.foretold == ()


def test_the_end_of_the_bucket_is_told_to_those_who_can_still_draw_from_it() -> None:
    world = family(100)
    for member in ("kid", "pa"):
        world.flow(1_000, subscriber_id=member, at=START + MINUTE)
    world.flow(700, subscriber_id="ma", at=START + MINUTE)
    world.profile(subscriber_ids=("ma", "pa", "kid", "aunt"))
    told = [item for item in world.updates if item.quota_bucket_id is not None]
    assert [(item.subscriber_ids, item.quota_subscriber_ids, item.quota_octets) for item in told[-2:]] == [
        (("ma",), ("ma",), 1_000),
        (("ma", "aunt"), ("ma", "aunt"), 300),
    ]


def test_the_end_of_money_is_told_to_the_member_who_is_sold_what_others_draw() -> None:
    price = {"id": "p", "amount": "1", "per_octets": 1_000, "overshoot_tolerance_octets": 100}
    shared = {"id": "data", "octets": 9_000, "per_member_octets": 1_000}
    plan = {"id": "plan", "allowances": [shared], "usage_prices": [price]}
    world = World(catalogue(plan), at=START, payment="prepaid", **FAMILY)
    world.activate("plan")
    world.credit("1")
    world.flow(1_900, subscriber_id="kid", at=START + MINUTE)
    told = world.updates[-1]
    assert (told.quota_limit_id, told.quota_octets, told.gate_status) == ("balance", 100, "closed")
    assert (told.subscriber_ids, told.quota_subscriber_ids) == (("kid",), ("kid",))
    gateway = Gateway(world)
    assert gateway.passes("default", 5_000, "ma") == 5_000
    assert gateway.passes("default", 500, "kid") == 100


@given(
    minutes=st.lists(
        st.lists(st.tuples(st.sampled_from(FAMILY["subscriber_ids"]), st.integers(1, 900)), max_size=5), max_size=15
    ),
    tolerance=st.integers(1, 900),
)
@settings(deadline=None)
def test_the_promised_bound_holds_for_bucket_and_shares(minutes: list[list[tuple[str, int]]], tolerance: int) -> None:
    """No minute brings more than the one before and the tolerance, of the family and so of each member."""
    world = family(tolerance)
    gateway, passed, before = (
        Gateway(world),
        dict.fromkeys(FAMILY["subscriber_ids"], 0),
        dict.fromkeys(FAMILY["subscriber_ids"], 0),
    )
    for number, wanted in enumerate(minutes, start=1):
        now = dict.fromkeys(before, 0)
        for member, volume in wanted:
            most = min(before[member] + tolerance - now[member], sum(before.values()) + tolerance - sum(now.values()))
            part = gateway.passes("default", min(volume, most), member)
            now[member] += part
        for member, part in now.items():
            passed[member] += part
        for member, volume in gateway.unreported():
            gateway.report([(None, volume)], START + number * MINUTE, member=member)
        before = now
    assert all(octets <= 1_000 + tolerance for octets in passed.values())
    assert sum(passed.values()) <= 3_000 + tolerance
