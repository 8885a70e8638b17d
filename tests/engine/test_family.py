"""Shared buckets: one account, several members, a share for each."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.world import World, catalogue

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
