"""The waterfall: who pays for each octet."""

from typing import Any

import pytest

from services.engine.tariff import compile_tariff
from tests.engine.world import World, catalogue

APP = {"id": "app", "octets": 100, "scope": {"applications": ["netflix"]}}
VIDEO = {"id": "video", "octets": 200, "scope": {"categories": ["streaming"]}}
DATA = {"id": "data", "octets": 400}
BEYOND = {"id": "beyond", "amount": "0.01", "per_octets": 10}


def world_of(*allowances: dict[str, Any], prices: tuple[dict[str, Any], ...] = (BEYOND,), **profile: Any) -> World:
    made = World(catalogue({"id": "plan", "allowances": list(allowances), "usage_prices": list(prices)}), **profile)
    made.activate("plan")
    return made


def test_the_narrowest_bucket_is_drawn_first_and_a_flow_is_split_at_each_end() -> None:
    decision = world_of(DATA, VIDEO, APP).flow(750, "netflix")
    assert [(draw.bucket_id, draw.octets, draw.remaining_octets) for draw in decision.draws] == [
        ("p1/app", 100, 0), ("p1/video", 200, 0), ("p1/data", 400, 0),
    ]  # fmt: skip
    assert decision.price is not None
    assert (decision.price.amount, decision.price.octets_from, decision.price.octets_to) == ("0.05", 0, 50)
    assert (decision.treatment, decision.charged_octets) == ("charged", 750)


@pytest.mark.parametrize(
    ("app", "drawn"),
    [("netflix", ["p1/app"]), ("youtube", ["p1/video"]), ("facebook", ["p1/data"]), (None, ["p1/data"])],
)
def test_each_traffic_draws_from_the_buckets_it_is_in_scope_of(app: str | None, drawn: list[str]) -> None:
    assert [draw.bucket_id for draw in world_of(APP, VIDEO, DATA).flow(10, app).draws] == drawn


@pytest.mark.parametrize(("volume", "left"), [(99, 1), (100, 0), (101, 0)])
def test_a_bucket_ends_exactly(volume: int, left: int) -> None:
    world = world_of(APP, DATA)
    decision = world.flow(volume, "netflix")
    assert world.left("p1/app") == left
    assert world.left("p1/data") == 400 - max(0, volume - 100)
    assert decision.charged_octets == volume


def test_priority_then_the_earliest_end_then_the_oldest_decide_among_equally_narrow_buckets() -> None:
    """Case 21: equal pools are drawn in one order, whatever the order in which they were bought."""
    soon = {"id": "soon", "allowances": [{"id": "b", "octets": 10, "validity": "once", "valid_days": 2}]}
    late = {"id": "late", "allowances": [{"id": "b", "octets": 10, "validity": "once", "valid_days": 9}]}
    first = {"id": "first", "allowances": [{"id": "b", "octets": 10, "priority": 1}]}
    tariff = compile_tariff(catalogue(soon, late, first))
    orders = []
    for bought in (["late", "soon", "first"], ["first", "late", "soon"], ["soon", "first", "late"]):
        world = World(tariff)
        for offering in bought:
            world.activate(offering, offering)
        orders.append([draw.bucket_id for draw in world.flow(25).draws])
    assert orders == [["first/b", "soon/b", "late/b"]] * 3


def test_the_older_of_two_equal_passes_is_drawn_first() -> None:
    week = {"id": "week", "allowances": [{"id": "b", "octets": 10, "validity": "once"}]}
    world = World(catalogue(week))
    world.activate("week", "z-first", at="2026-03-10 12:00")
    world.activate("week", "a-second", at="2026-03-10 12:01")
    assert [draw.bucket_id for draw in world.flow(15).draws] == ["z-first/b", "a-second/b"]


@pytest.mark.parametrize(
    ("on_exhausted", "treatment", "parts"),
    [("continue", "charged", (260, 0, 0)), ("throttle", "free", (100, 160, 0)), ("block", "blocked", (100, 0, 160))],
)
def test_the_rest_after_a_bucket_meets_what_its_allowance_says(
    on_exhausted: str, treatment: str, parts: tuple[int, int, int]
) -> None:
    world = world_of({**APP, "on_exhausted": on_exhausted}, DATA)
    decision = world.flow(260, "netflix")
    assert (decision.charged_octets, decision.free_octets, decision.blocked_octets) == parts
    assert decision.treatment == treatment
    later = world.flow(10, "netflix")
    assert later.treatment == treatment
    assert world.left("p1/data") == (400 - 170 if on_exhausted == "continue" else 400)


def test_equally_narrow_buckets_are_one_supply_before_the_rest_is_throttled() -> None:
    week = {"id": "week", "allowances": [{**APP, "validity": "once", "on_exhausted": "throttle"}]}
    world = World(catalogue(week))
    world.activate("week", "w1")
    world.activate("week", "w2", at="2026-03-10 12:01")
    decision = world.flow(250, "netflix")
    assert [(draw.bucket_id, draw.octets) for draw in decision.draws] == [("w1/app", 100), ("w2/app", 100)]
    assert (decision.free_octets, decision.treatment) == (50, "charged")


def test_a_price_is_rounded_once_over_the_cycle_and_not_per_flow() -> None:
    """Case 3: sixty times the price of a sixtieth is the price of the whole."""
    world = world_of(prices=({"id": "p", "amount": "0.50", "per_octets": 60},))
    parts = [world.flow(1).price for _ in range(60)]
    assert world.money() == 500_000
    assert [price.amount for price in parts if price][:3] == ["0.008333", "0.008333", "0.008334"]


def test_a_session_in_slices_costs_what_it_costs_in_one_piece() -> None:
    """Case 2: and no slice is ever a negative 'rounding' line."""
    price = {"id": "p", "amount": "0.07", "per_octets": 1_048_576}
    sliced, whole = world_of(prices=(price,)), world_of(prices=(price,))
    for n in range(200):
        assert not sliced.flow(12_345 + n).price.amount.startswith("-")  # type: ignore[union-attr]
    whole.flow(sum(12_345 + n for n in range(200)))
    assert sliced.money() == whole.money() > 0


def test_small_prices_and_large_volumes_neither_vanish_nor_wrap() -> None:
    """Case 6: 5 x 10^-2 is not zero, 3 x 10^9 octets times two does not wrap, a grant of 3 x 10^9 stays positive."""
    world = world_of({"id": "data", "octets": 3 * 10**9}, prices=({"id": "p", "amount": "0.05", "per_octets": 10**9},))
    assert world.left("p1/data") == 3 * 10**9
    world.flow(3 * 10**9)
    decision = world.flow(3 * 10**9, sampling_rate=2)
    assert decision.octets == 6 * 10**9
    assert decision.price is not None
    assert decision.price.amount == "0.3"


def test_a_hundred_gigabytes_by_the_octet_are_one_step_of_work() -> None:
    """Case 9: and the largest record there can be is charged exactly."""
    world = world_of(prices=({"id": "p", "amount": "0.000001", "per_octets": 1},))
    assert world.flow(100 * 10**9).price.amount == "100000"  # type: ignore[union-attr]
    assert world.flow(2**63 - 1, octets_up=2**63 - 1, sampling_rate=10**6).octets == (2**64 - 2) * 10**6


@pytest.mark.parametrize(("unit", "amount"), [("1 MB", "1.048576"), ("1 MiB", "1")])
def test_a_megabyte_and_a_mebibyte_are_not_the_same(unit: str, amount: str) -> None:
    """Case 8: the factor is written in the tariff."""
    world = world_of(prices=({"id": "p", "amount": "1", "per_octets": unit},))
    assert world.flow(2**20).price.amount == amount  # type: ignore[union-attr]


def test_the_cap_of_a_cycle_cuts_the_amount_and_blocks_the_rest() -> None:
    world = world_of(prices=({**BEYOND, "cap": "0.05"},))
    decision = world.flow(100)
    assert decision.price is not None
    assert (decision.price.amount, decision.price.octets_to, decision.price.capped) == ("0.05", 50, True)
    assert (decision.charged_octets, decision.blocked_octets, decision.treatment) == (50, 50, "charged")
    assert world.flow(10).treatment == "blocked"
    assert world.money() == 50_000


def test_a_cap_may_let_the_rest_pass_for_free() -> None:
    world = world_of(prices=({**BEYOND, "cap": "0.05", "on_cap": "free"},))
    decision = world.flow(130)
    assert (decision.charged_octets, decision.free_octets, decision.treatment) == (50, 80, "free")
    assert world.flow(10).treatment == "free"
    assert world.money() == 50_000


def test_a_prepaid_balance_is_never_overdrawn() -> None:
    """Case 18: one large flow takes what the balance covers; the rest is blocked, with the next step."""
    world = world_of(payment="prepaid")
    world.credit("0.05")
    decision = world.flow(1_000_000)
    assert (decision.charged_octets, decision.blocked_octets) == (50, 999_950)
    assert world.balance() == 0
    assert decision.note == "the balance of 0 EUR does not pay for more; top it up"
    assert world.flow(1).treatment == "blocked"
    world.credit("0.01")
    assert world.flow(10).treatment == "charged"
    assert world.balance() == 0


def test_a_sponsor_pays_up_to_the_cap_of_each_subscriber_and_then_the_account_does() -> None:
    campaign = {"id": "c", "sponsor_id": "tube", "per_subscriber_octets": 300}
    rule = {"id": "sponsored", "charging": "sponsored", "campaign": "c", "scope": {"applications": ["youtube"]}}
    plan = {"id": "plan", "allowances": [DATA], "rules": ["sponsored"]}
    world = World(catalogue(plan, rules=[rule], campaigns=[campaign]), subscriber_ids=("a1", "a2"))
    world.activate("plan")
    first = world.flow(250, "youtube")
    assert (first.treatment, first.sponsored_octets, first.sponsor_id, first.draws) == ("sponsored", 250, "tube", ())
    second = world.flow(250, "youtube")
    assert (second.sponsored_octets, second.charged_octets, second.treatment) == (50, 200, "charged")
    assert world.flow(10, "youtube").sponsored_octets == 0
    other = world.flow(250, "youtube", subscriber_id="a2")
    assert (other.sponsored_octets, other.treatment) == (250, "sponsored")


def test_a_sponsor_without_a_cap_pays_for_all() -> None:
    rule = {"id": "sponsored", "charging": "sponsored", "campaign": "c"}
    plan = {"id": "plan", "rules": ["sponsored"]}
    world = World(catalogue(plan, rules=[rule], campaigns=[{"id": "c", "sponsor_id": "tube"}]))
    world.activate("plan")
    assert world.flow("5 TB").sponsored_octets == 5 * 10**12


@pytest.mark.parametrize(
    ("fields", "failed"),
    [
        ({"end_reason": "reset"}, True),
        ({"end_reason": "no_answer"}, True),
        ({"end_reason": "reset", "packets_down": 1}, False),
        ({"end_reason": "reset", "volume": 60}, False),
        ({"end_reason": "idle"}, False),
        ({}, False),
    ],
)
def test_a_failed_flow_costs_nothing(fields: dict[str, Any], failed: bool) -> None:
    world = world_of(DATA)
    decision = world.flow(**{"volume": 0, "octets_up": 100, **fields})
    assert (decision.treatment == "not_charged") is failed
    assert world.left("p1/data") == (400 if failed else 400 - decision.octets)
    assert decision.not_charged_octets == (decision.octets if failed else 0)


def test_blocked_traffic_costs_nothing() -> None:
    rule = {"id": "gate", "gate_status": "closed", "scope": {"categories": ["voip_im"]}}
    world = World(catalogue({"id": "plan", "allowances": [DATA], "rules": ["gate"]}, rules=[rule]))
    world.activate("plan")
    decision = world.flow(100, "whatsapp")
    assert (decision.treatment, decision.gate_status, decision.blocked_octets) == ("blocked", "closed", 100)
    assert decision.note == "rule gate closes the gate"
    assert world.left("p1/data") == 400


def test_a_flow_without_octets_is_decided_and_costs_nothing() -> None:
    world = world_of(DATA)
    decision = world.flow(0)
    assert (decision.treatment, decision.octets, decision.draws) == ("charged", 0, ())
    assert world.left("p1/data") == 400


def test_several_buckets_in_one_flow_are_not_overcharged() -> None:
    """Case 22: what one bucket covers is taken from no other."""
    world = world_of(APP, VIDEO, DATA)
    world.flow(150, "netflix")
    assert (world.left("p1/app"), world.left("p1/video"), world.left("p1/data")) == (0, 150, 400)


def test_two_rating_groups_stay_apart() -> None:
    """Case 23: usage is told per charging key."""
    rules = [
        {"id": "one", "rating_group": 10, "scope": {"applications": ["netflix"]}},
        {"id": "two", "rating_group": 20, "scope": {"applications": ["youtube"]}},
    ]
    world = World(catalogue({"id": "plan", "allowances": [DATA], "rules": ["one", "two"]}, rules=rules))
    world.activate("plan")
    for volume, app in ((10, "netflix"), (20, "youtube"), (30, "netflix")):
        world.flow(volume, app)
    world.emit()
    assert {row.rating_group: row.octets for row in world.usage if row.kind == "usage"} == {10: 40, 20: 20}


def test_an_offering_without_price_or_bucket_works() -> None:
    """Case 24: free, and nothing granted."""
    world = World(catalogue({"id": "bare"}))
    world.activate("bare")
    assert world.account is not None
    assert world.account.buckets == ()
    assert world.flow(10).treatment == "blocked"


def test_the_largest_part_gives_a_flow_its_one_word() -> None:
    world = world_of({**APP, "on_exhausted": "throttle"})
    assert world.flow(199, "netflix").treatment == "charged"
    world = world_of({**APP, "on_exhausted": "throttle"})
    assert world.flow(200, "netflix").treatment == "charged"
    world = world_of({**APP, "on_exhausted": "throttle"})
    assert world.flow(201, "netflix").treatment == "free"


def test_totals_of_the_cycle_grow_with_each_flow() -> None:
    world = world_of()
    for _ in range(3):
        world.flow(15)
    assert world.account is not None
    assert [(c.counter_id, c.octets, c.micros) for c in world.account.counters] == [("price:plan/beyond", 45, 45_000)]


def test_what_is_blocked_beyond_a_cap_is_gathered_and_told_with_the_interval() -> None:
    world = world_of(prices=({**BEYOND, "cap": "0.05"},))
    world.flow(100)
    told = len(world.usage)
    for _ in range(5):
        world.flow(100)
    assert len(world.usage) == told
