"""Caps and limits: what is told on the way, what stops, and how the subscriber goes on."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.notification import Notification
from schemas.usage import RatedUsage
from tests.engine.world import RefusedError, World, catalogue, micros, ms

DATA: dict[str, Any] = {"id": "data", "amount": "1", "per_octets": 1000, "cap": "10"}
PLAN: dict[str, Any] = {"id": "plan", "kind": "base_plan", "usage_prices": [DATA]}
PACK: dict[str, Any] = {
    "id": "pack",
    "usage_prices": [{"id": "video", "amount": "2", "per_octets": 1000, "scope": {"categories": ["streaming"]}}],
}


def at_plan(**profile: Any) -> World:
    world = World(catalogue(PLAN, PACK), **profile)
    world.activate("plan")
    return world


def asked(world: World) -> list[tuple[str, int | None, str | None, str | None]]:
    return [(note.kind, note.percent, note.price_id, note.asks_for) for note in world.notifications if note.percent]


def test_the_subscriber_is_told_near_the_cap_and_asked_at_it() -> None:
    world = at_plan()
    world.flow(7999)
    assert not asked(world)
    world.flow(1)
    world.flow(1000)
    assert asked(world) == [("cap_nearing", 80, "data", "raise_cap")]
    world.flow(1000)
    world.flow(1000)
    assert asked(world)[1:] == [("cap_reached", 100, "data", "raise_cap")]
    assert world.gates() == {"default": "closed"}


def test_a_flow_that_passes_both_is_told_of_the_cap_alone() -> None:
    world = at_plan()
    world.flow(20_000)
    assert [kind for kind, *_ in asked(world)] == ["cap_reached"]


def test_a_cap_beyond_which_all_is_free_asks_nothing() -> None:
    world = World(catalogue({**PLAN, "usage_prices": [{**DATA, "on_cap": "free"}]}))
    world.activate("plan")
    for _ in range(12):
        world.flow(1000)
    assert asked(world) == [("cap_reached", 100, "data", None)]
    with pytest.raises(RefusedError, match="no_cap"):
        world.raise_cap("data")


def test_a_raised_cap_opens_the_price_until_the_new_one() -> None:
    world = at_plan()
    world.flow(12_000)
    world.raise_cap("data", "15")
    assert world.gates() == {"default": "open"}
    assert world.flow(3000).charged_octets == 3000
    decision = world.flow(3000)
    assert (decision.charged_octets, decision.blocked_octets) == (2000, 1000)
    assert [kind for kind, *_ in asked(world)] == ["cap_reached", "cap_nearing", "cap_reached"]
    assert world.money() == micros("15")


def test_a_lifted_cap_holds_again_in_the_next_cycle() -> None:
    world = at_plan()
    world.flow(12_000)
    world.raise_cap("data")
    assert world.flow(500_000).charged_octets == 500_000
    assert world.flow(500_000, at="2026-04-02 12:00").charged_octets == 10_000


def test_a_cap_is_raised_and_not_lowered() -> None:
    world = at_plan()
    for amount in ("10", "0.5", "-1", "0"):
        with pytest.raises(RefusedError, match="amount"):
            world.raise_cap("data", amount)
    world.raise_cap("data", "20")
    with pytest.raises(RefusedError, match="amount"):
        world.raise_cap("data", "15")


@pytest.mark.parametrize("price_id", ["video", "never", None])
def test_what_has_no_cap_cannot_be_raised(price_id: str | None) -> None:
    world = at_plan()
    world.activate("pack")
    with pytest.raises(RefusedError, match="no_cap"):
        world.raise_cap(price_id)


def test_the_subscribers_limit_is_over_all_prices() -> None:
    world = at_plan()
    world.activate("pack")
    world.limit("6")
    world.flow(2000)
    assert world.flow(1000, "netflix").charged_octets == 1000
    decision = world.flow(3000, "netflix")
    assert (decision.charged_octets, decision.blocked_octets) == (1000, 2000)
    assert world.flow(1).blocked_octets == 1
    assert [kind for kind, *_ in asked(world)] == ["limit_reached"]
    assert world.gates() == {"default": "closed"}
    assert world.money() == micros("6")


def test_the_limit_is_told_when_it_comes_near() -> None:
    world = at_plan()
    world.limit("5")
    world.flow(4000)
    world.flow(500)
    assert asked(world) == [("limit_nearing", 80, None, "raise_cap")]


def test_what_costs_nothing_passes_a_limit_that_is_reached() -> None:
    free = {"id": "chat", "amount": "0", "scope": {"categories": ["voip_im"]}}
    world = World(catalogue({**PLAN, "usage_prices": [DATA, free], "allowances": [{"id": "b", "octets": 100}]}))
    world.limit("0")
    world.activate("plan")
    assert world.flow(500).charged_octets == 100
    assert world.flow(10**9, "whatsapp").charged_octets == 10**9
    assert world.gates() == {"default": "open"}


def test_a_limit_is_lifted_for_this_cycle_only() -> None:
    world = at_plan()
    world.limit("2")
    world.flow(3000)
    world.raise_cap()
    assert world.gates() == {"default": "open"}
    assert world.flow(3000).charged_octets == 3000
    assert world.flow(3000, at="2026-04-02 12:00").charged_octets == 2000


def test_a_limit_is_raised_for_this_cycle_only() -> None:
    world = at_plan()
    world.limit("2")
    world.flow(3000)
    world.raise_cap(amount="3")
    assert world.flow(3000).charged_octets == 1000
    assert world.flow(3000, at="2026-04-02 12:00").charged_octets == 2000


def test_a_new_limit_takes_the_place_of_the_old_and_of_what_it_was_raised_to() -> None:
    world = at_plan()
    world.limit("2")
    world.raise_cap()
    world.limit("3")
    assert world.flow(5000).charged_octets == 3000
    world.limit(None)
    assert world.gates() == {"default": "open"}
    assert world.flow(1000).charged_octets == 1000


def test_a_limit_below_what_is_spent_closes_at_once() -> None:
    world = at_plan()
    world.flow(5000)
    world.limit("4")
    assert world.gates() == {"default": "closed"}
    assert world.flow(1).blocked_octets == 1


def test_the_cap_of_a_price_holds_within_the_limit() -> None:
    world = at_plan()
    world.limit("20")
    assert world.flow(50_000).charged_octets == 10_000


def test_a_cap_that_sets_free_comes_before_a_limit_that_is_reached_with_it() -> None:
    """Also where rounding gave away a part of an octet, which the limit would have had to pay for."""
    tiers = [{"above": 20, "amount": "3"}]
    price = {"id": "data", "amount": "0.000001", "per_octets": 3, "tiers": tiers, "cap": "4", "on_cap": "free"}
    gift = {"id": "gift", "amount": "4", "scope": {"dnns": ["internet"]}}
    world = World(catalogue({"id": "plan", "usage_prices": [price], "money_allowances": [gift]}))
    world.activate("plan")
    world.limit("0")
    sold = world.flow(30, dnn="internet")
    assert (sold.charged_octets, sold.free_octets, sold.price and sold.price.amount) == (23, 7, "3.000006")
    assert world.flow(9, dnn="ims").free_octets == 9


@pytest.mark.parametrize("on_cap", ["block", "free"])
def test_where_cap_and_balance_end_with_the_same_octet_the_cap_decides(on_cap: str) -> None:
    plan = {**PLAN, "usage_prices": [{**DATA, "on_cap": on_cap}]}
    world = World(catalogue(plan), payment="prepaid")
    world.credit("10")
    world.activate("plan")
    decision = world.flow(15_000)
    assert (decision.charged_octets, decision.free_octets) == (10_000, 5000 if on_cap == "free" else 0)
    assert (len(world.told("cap_reached")), len(world.told("blocked"))) == (1, 0)
    assert world.gates() == {"default": "open" if on_cap == "free" else "closed"}


def test_a_late_flow_meets_the_cap_of_its_own_cycle() -> None:
    world = at_plan(at="2026-03-31 12:00")
    world.raise_cap("data", "12")
    world.flow(11_000)
    world.timer("2026-04-01 06:00")
    decision = world.flow(3000, at=ms("2026-03-31 20:00"))
    assert (decision.charged_octets, decision.blocked_octets) == (1000, 2000)


PARTS = st.lists(st.integers(0, 9000), min_size=1, max_size=6)


@settings(max_examples=80, deadline=None)
@given(
    parts=PARTS, limit=st.integers(0, 12_000_000), raised=st.sampled_from([None, "11", "17.5"]), prepaid=st.booleans()
)
def test_a_flow_in_parts_costs_what_it_costs_in_one(
    parts: list[int], limit: int, raised: str | None, prepaid: bool
) -> None:
    ends = []
    for volumes in (parts, [sum(parts)]):
        world = at_plan(payment="prepaid" if prepaid else "postpaid")
        world.credit("13.37")
        world.limit(f"{limit // 1_000_000}.{limit % 1_000_000:06d}")
        if raised:
            world.raise_cap("data", raised)
        seen = [world.flow(volume) for volume in volumes]
        ends.append(
            (
                sum(item.charged_octets for item in seen), sum(item.blocked_octets for item in seen), world.money(),
                world.balance(), world.gates(),
            )
        )  # fmt: skip
    assert ends[0] == ends[1]


def texts(notes: list[Notification]) -> list[str]:
    return [str(note.detail) for note in notes]


def test_the_words_name_value_limit_and_next_step() -> None:
    world = at_plan()
    world.flow(8500)
    world.flow(8500)
    (near,), (reached,) = texts(world.told("cap_nearing")), texts(world.told("cap_reached"))
    assert near == "8.5 of 10 EUR are spent, the cap of price data; beyond it nothing passes until you raise it"
    assert reached.endswith("the rest is blocked until the next cycle, or until you raise the cap")


def test_a_raised_cap_moves_no_money() -> None:
    world = at_plan()
    world.flow(12_000)
    before = world.money()
    rows: list[RatedUsage] = list(world.usage)
    world.raise_cap("data", "15")
    assert world.money() == before
    assert world.usage == rows


@pytest.mark.parametrize("amount", ["0.5", "2"])
def test_a_price_that_changes_within_a_cycle_leaves_the_cap_where_it_was(amount: str) -> None:
    """What was spent counts for it, not what the octets so far would come to at the new price."""
    world = at_plan()
    world.flow(6000)
    changed = {**PLAN, "usage_prices": [{**DATA, "amount": amount}]}
    world.publish(catalogue(changed, PACK).model_copy(update={"version": "changed"}))
    decision = world.flow(100_000)
    assert decision.price is not None
    assert micros(decision.price.amount) == micros("4")
    assert world.money() == micros("10")
    assert world.told("cap_reached")


def test_a_cap_that_is_lowered_below_what_was_spent_lets_nothing_more_pass() -> None:
    world = at_plan()
    world.flow(6000)
    lowered = {**PLAN, "usage_prices": [{**DATA, "cap": "5"}]}
    world.publish(catalogue(lowered, PACK).model_copy(update={"version": "lowered"}))
    assert world.flow(1).blocked_octets == 1
    assert world.money() == micros("6")


# -- one name, several prices

TALK: dict[str, Any] = {
    "id": "talk",
    "usage_prices": [{**DATA, "cap": "4", "scope": {"categories": ["voip_im"]}}],
}


def at_two_caps() -> World:
    world = World(catalogue(PLAN, TALK))
    world.activate("plan")
    world.activate("talk")
    world.flow(20_000)
    world.flow(20_000, "whatsapp")
    return world


def test_a_cap_is_raised_for_the_offering_that_is_named_and_for_no_other() -> None:
    world = at_two_caps()
    world.raise_cap("data", "6", offering_id="talk")
    assert world.flow(5_000, "whatsapp").charged_octets == 2_000
    assert world.flow(5_000).blocked_octets == 5_000


def test_a_name_that_several_caps_have_is_refused_with_the_choices() -> None:
    world = at_two_caps()
    with pytest.raises(RefusedError, match=r"^ambiguous_cap: offering_id: null, and each of plan, talk has a cap"):
        world.raise_cap("data", "20")
    with pytest.raises(RefusedError, match="no_cap"):
        world.raise_cap("data", "20", offering_id="pack")
    with pytest.raises(RefusedError, match=r"^price_id: offering_id"):
        world.raise_cap(amount="20", offering_id="plan")
    assert world.flow(1).blocked_octets == 1


def test_two_products_of_one_offering_have_one_cap_and_need_no_choice() -> None:
    world = World(catalogue({**TALK, "kind": "pass"}))
    world.activate("talk")
    world.activate("talk")
    world.raise_cap("data", "6")
    assert world.flow(9_000, "whatsapp").charged_octets == 6_000


def test_who_is_told_of_a_cap_is_told_whose_price_it_is() -> None:
    world = at_two_caps()
    told = [(note.offering_id, note.price_id) for note in world.told("cap_reached")]
    assert told == [("plan", "data"), ("talk", "data")]
