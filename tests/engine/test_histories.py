"""Properties of whole histories: order, replay, and what a change of the tariff may do to a bill."""

import copy
import itertools
from typing import Any

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from schemas.catalogue import UsagePrice
from services.engine.prices import curve_of
from services.engine.tariff import Tariff
from tests.engine.arbitrary import compiled, flows, parts, slow_data, tariffs, world_of
from tests.engine.recorded import Recorded, Successor
from tests.engine.world import RefusedError, World, catalogue

payments = st.sampled_from(["prepaid", "postpaid"])
HOUR_MS = 3_600_000

steps = st.lists(
    st.tuples(
        st.sampled_from(["flow", "flow", "flow", "late", "credit", "activate", "cancel", "timer", "emit"]),
        st.sampled_from([0, 0, 1, 7, 30, 24 * 30]),
        st.integers(0, 11),
    ),
    min_size=1,
    max_size=14,
)  # fmt: skip


def live(world: World, drawn: list[tuple[str, int, int]], sent: list[dict[str, Any]]) -> None:
    """Go through the steps; a command that is refused is refused, and time goes on."""
    for action, hours, number in drawn:
        at, flow = world.now_ms + hours * HOUR_MS, sent[number % len(sent)]
        try:
            if action == "flow":
                world.flow(at=at, **flow)
            elif action == "late":
                world.flow(at=at, start_ms=at - number * 5 * HOUR_MS, end_ms=at, **flow)
            elif action == "credit":
                world.credit("0.5", at=at)
            elif action == "activate":
                world.activate("one", at=at)
            elif action == "cancel":
                world.cancel("p2", at=at)
            elif action == "timer":
                world.timer(at)
            else:
                world.emit()
        except RefusedError:
            continue


@given(tariffs(), payments, steps, flows)
@slow_data
def test_a_replay_is_bit_identical_through_the_changelog_after_every_record(
    tariff: Tariff, payment: str, drawn: list[tuple[str, int, int]], sent: list[dict[str, Any]]
) -> None:
    """Flows, late flows, commands, timers and renewals: the same octets from a state in memory and from one read."""
    histories = []
    for kind in (Recorded, Successor):
        world = kind(tariff, payment=payment)
        world.credit("0.75")
        world.activate("one")
        world.activate("two")
        live(world, drawn, sent)
        histories.append((world.octets, msgspec.msgpack.encode(world.account)))
    assert histories[0] == histories[1]


@given(tariffs(), payments, flows)
@slow_data
def test_each_flow_goes_on_where_the_one_before_it_ended(
    tariff: Tariff, payment: str, sent: list[dict[str, Any]]
) -> None:
    """What a bucket holds and what a price counts run through the decisions in their order, without a gap."""
    world = world_of(tariff, payment)
    assert world.account is not None
    left = {bucket.bucket_id: bucket.remaining for bucket in world.account.buckets}
    sold: dict[str, int] = {}
    for flow in sent:
        decision = world.flow(**flow)
        for draw in decision.draws:
            assert draw.remaining_octets + draw.octets == left[draw.bucket_id]
            left[draw.bucket_id] = draw.remaining_octets
        if decision.price is not None:
            assert decision.price.octets_from == sold.get(decision.price.price_id, 0)
            sold[decision.price.price_id] = decision.price.octets_to


@given(tariffs(), flows, flows, st.lists(st.booleans(), max_size=24))
@slow_data
def test_accounts_that_take_turns_are_each_decided_as_if_alone(
    tariff: Tariff, mine: list[dict[str, Any]], theirs: list[dict[str, Any]], turns: list[bool]
) -> None:
    """Within an account its own order counts, and nobody else's: not through what the tariff remembers either."""
    alone = [_decided(world_of(tariff, "postpaid"), sent) for sent in (mine, theirs)]
    worlds, waiting = (world_of(tariff, "postpaid"), world_of(tariff, "postpaid")), (iter(mine), iter(theirs))
    for turn in itertools.chain(turns, [False] * len(mine), [True] * len(theirs)):
        flow = next(waiting[turn], None)
        if flow is not None:
            worlds[turn].flow(**flow)
    assert [_history(world) for world in worlds] == alone


@given(tariffs(), payments, flows, st.integers(0, 12))
@slow_data
def test_what_comes_later_changes_no_decision(
    tariff: Tariff, payment: str, sent: list[dict[str, Any]], count: int
) -> None:
    whole, part = world_of(tariff, payment), world_of(tariff, payment)
    _decided(whole, sent)
    _decided(part, sent[:count])
    assert msgspec.json.encode(whole.decisions[:count]) == msgspec.json.encode(part.decisions)


def _decided(world: World, sent: list[dict[str, Any]]) -> bytes:
    for flow in sent:
        world.flow(**flow)
    return _history(world)


def _history(world: World) -> bytes:
    return msgspec.json.encode([world.decisions, world.account, world.usage, world.updates, world.notifications])


UNRELATED = {
    "id": "unrelated", "rules": ["unrelated"],
    "allowances": [{"id": "b0", "octets": 900, "scope": {"applications": ["telegram"]}, "on_exhausted": "block"}],
    "usage_prices": [{"id": "unrelated", "amount": 0, "scope": {"applications": ["telegram"]}, "cap": 0}],
}  # fmt: skip
UNRELATED_RULE = {
    "id": "unrelated", "precedence": 0, "scope": {"applications": ["telegram"]}, "gate_status": "closed",
}  # fmt: skip


@given(parts(), payments, flows, st.booleans())
@slow_data
def test_an_unrelated_package_changes_no_charge(
    found: dict[str, Any], payment: str, sent: list[dict[str, Any]], held: bool
) -> None:
    """Neither one that stands in the catalogue nor one that the account holds, for an application not used."""
    more = {**found, "offerings": [UNRELATED, *found["offerings"]], "rules": [UNRELATED_RULE, *found["rules"]]}
    # The rules' precedences are their own, so that one more in front moves nobody.
    worlds = world_of(compiled(found), payment), world_of(compiled(more), payment)
    if held:
        worlds[1].activate("unrelated", "beside")
        # Its own activation is a record, too: both count alike.
        worlds[0].emit()
    for flow in sent:
        charges = [_charge(world, flow) for world in worlds]
        assert charges[0] == charges[1]
    assert worlds[0].balance() == worlds[1].balance()


def _charge(world: World, flow: dict[str, Any]) -> tuple[object, ...]:
    made = world.flow(**flow)
    return (
        made.rule_id, made.treatment, made.charged_octets, made.free_octets, made.sponsored_octets,
        made.blocked_octets, made.not_charged_octets, made.draws, made.price, made.rating_group,
    )  # fmt: skip


@given(parts(), flows, st.data())
@slow_data
def test_a_rule_that_becomes_free_makes_no_total_dearer(
    found: dict[str, Any], sent: list[dict[str, Any]], data: st.DataObject
) -> None:
    """What takes from no bucket leaves it to others. A rule that waits for a bucket's end is a tier by another name."""
    for rule in found["rules"]:
        rule["bucket"] = None
    assume(found["rules"])
    cheaper = copy.deepcopy(found)
    place = data.draw(st.integers(0, len(found["rules"]) - 1))
    cheaper["rules"][place].update(charging="free", campaign=None)
    assert _total(cheaper, sent) <= _total(found, sent)


@given(parts(), flows, st.data())
@slow_data
def test_a_price_that_falls_makes_no_total_dearer(
    found: dict[str, Any], sent: list[dict[str, Any]], data: st.DataObject
) -> None:
    """But for what rounding gives away, less than one micro a price; tiers, whole units and caps are steps."""
    prices = [price for offering in found["offerings"] for price in offering["usage_prices"]]
    assume(prices)
    for price in prices:
        price.update(tiers=[], whole_units=False, cap=None)
    cheaper = copy.deepcopy(found)
    lowered = data.draw(st.sampled_from([price["id"] for price in prices]))
    for offering in cheaper["offerings"]:
        for price in offering["usage_prices"]:
            if price["id"] == lowered:
                price["amount"] = data.draw(st.sampled_from(["0", "0.000001"]))
                price["per_octets"] = 10**6
    assume(_is_lower(found, cheaper, lowered))
    assert _total(cheaper, sent) <= _total(found, sent) + len(prices) - 1


amounts = st.integers(0, 50)
curves = st.fixed_dictionaries(
    {
        "per_octets": st.sampled_from([1, 3, 10]), "whole_units": st.booleans(),
        "tier_mode": st.sampled_from(["graduated", "volume"]), "starts": st.lists(st.integers(1, 90), max_size=3),
    }
)  # fmt: skip


@given(curves, st.lists(st.tuples(amounts, amounts), min_size=4, max_size=4), st.integers(0, 200))
def test_lower_amounts_make_no_number_of_octets_dearer(
    shape: dict[str, Any], drawn: list[tuple[int, int]], octets: int
) -> None:
    """Whatever the kind of price, and whole units and tiers included, as long as they begin where they began."""
    cheap, dear = (
        curve_of(_price(shape, [pick(pair) for pair in drawn])).micros(octets) for pick in (min, max)
    )  # fmt: skip
    assert cheap <= dear


@given(curves, st.lists(amounts, min_size=4, max_size=4), st.integers(0, 200))
def test_one_octet_more_never_costs_less(shape: dict[str, Any], drawn: list[int], octets: int) -> None:
    curve = curve_of(_price(shape, drawn))
    assert curve.micros(octets) <= curve.micros(octets + 1)


def _price(shape: dict[str, Any], drawn: list[int]) -> UsagePrice:
    tiers = [
        {"above": start, "amount": amount}
        for start, amount in zip(sorted(set(shape["starts"])), drawn[1:], strict=False)
    ]
    kept = {key: value for key, value in shape.items() if key != "starts"}
    return UsagePrice.model_validate({"id": "p", "amount": drawn[0], "tiers": tiers, **kept})


def _total(found: dict[str, Any], sent: list[dict[str, Any]]) -> int:
    world = world_of(compiled(found), "postpaid")
    for flow in sent:
        world.flow(**flow)
    return world.money()


def _is_lower(found: dict[str, Any], cheaper: dict[str, Any], price_id: str) -> bool:
    old, new = (
        next(price for offering in each["offerings"] for price in offering["usage_prices"] if price["id"] == price_id)
        for each in (found, cheaper)
    )
    curves_of = [curve_of(UsagePrice.model_validate(price)) for price in (new, old)]
    return curves_of[0].micros(10**12) <= curves_of[1].micros(10**12)


def test_a_tier_that_begins_earlier_is_why_a_cheaper_price_can_cost_more() -> None:
    """The exception that the rule makes: a free first step that ends sooner."""
    bills = []
    for amount, above in (("2", 100), ("1", 10)):
        price = {"id": "p", "amount": amount, "per_octets": 1, "tiers": [{"above": above, "amount": "5"}]}
        world = World(catalogue({"id": "o", "usage_prices": [price]}))
        world.activate("o")
        world.flow(100)
        bills.append(world.money())
    assert bills == [200_000_000, 460_000_000]
