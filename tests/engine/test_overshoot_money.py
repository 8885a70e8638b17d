"""Bounded overshoot of money: caps, limits and balances are told ahead in octets, and taken back when money comes."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from pydantic import ValidationError

from schemas.decision import PolicyUpdate
from services.engine.decide import decide
from services.engine.installed import settle
from services.engine.outcome import Position
from tests.engine.gateway import Gateway, within
from tests.engine.world import World, catalogue, classification, flow_record, ms

MINUTE = 60_000
START = ms("2026-03-10 12:00")

PRICE = {"id": "beyond", "amount": "1", "per_octets": 1_000, "overshoot_tolerance_octets": 200}
"""A thousandth of a unit of money an octet."""

VIDEO = {"id": "video", "scope": {"applications": ["netflix"]}}


def world_of(*prices: dict[str, Any], rules: tuple[dict[str, Any], ...] = (), **plan: Any) -> World:
    """Someone who pays with `credit`, up to `limit`, for what `prices` say."""
    credit, limit = plan.pop("credit", None), plan.pop("limit", None)
    offering = {"id": "plan", "usage_prices": list(prices), "rules": [rule["id"] for rule in rules], **plan}
    made = World(catalogue(offering, rules=rules), at=START, payment="prepaid" if credit else "postpaid")
    made.activate("plan")
    if credit:
        made.credit(credit)
    if limit:
        made.limit(limit)
    return made


def ahead(made: World) -> list[tuple[str, str | None, int | None, str | None]]:
    return [
        (update.rule_id, update.gate_status, update.quota_octets, update.quota_limit_id)
        for update in made.updates
        if update.quota_octets is not None
    ]


def without(made: World, first: int) -> list[PolicyUpdate]:
    return [update for update in made.updates[first:] if update.quota_octets is None]


ENDS: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({}, {"credit": "2"}, "balance", "balance"),
    ({}, {"limit": "2"}, "spending_limit", "limit_reached"),
    ({"cap": "2"}, {}, "price:plan/beyond", "cap_reached"),
]


@pytest.mark.parametrize(("price", "means", "limit_id", "cause"), ENDS, ids=["balance", "limit", "cap"])
def test_the_end_of_money_is_told_ahead_in_octets(
    price: dict[str, Any], means: dict[str, Any], limit_id: str, cause: str
) -> None:
    made = world_of({**PRICE, **price}, rules=(VIDEO,), **means)
    made.flow(950, at=START + MINUTE)
    assert ahead(made) == []
    made.flow(900, at=START + 20 * MINUTE)
    assert ahead(made) == [("video", "closed", 150, limit_id), ("default", "closed", 150, limit_id)]
    told = [update for update in made.updates if update.quota_octets]
    assert {update.quota_rule_ids for update in told} == {("video", "default")}
    assert {(update.cause, update.quota_bucket_id) for update in told} == {(cause, None)}
    assert made.gates() == {"video": "open", "default": "open"}
    made.flow(200, at=START + 21 * MINUTE)
    assert made.decisions[-1].blocked_octets == 50
    assert made.gates() == {"video": "closed", "default": "closed"}
    assert made.account is not None
    assert (made.account.foretold, made.account.watches) == ((), ())


@pytest.mark.parametrize(("price", "means"), [(price, means) for price, means, *_ in ENDS])
def test_without_a_declared_tolerance_money_is_not_told_ahead_and_leaves_no_trace(
    price: dict[str, Any], means: dict[str, Any]
) -> None:
    made = world_of({**PRICE, **price, "overshoot_tolerance_octets": None}, **means)
    for minute in range(1, 22):
        made.flow(99, at=START + minute * MINUTE)
    assert ahead(made) == []
    assert made.account is not None
    assert made.account.watches == ()


def test_the_nearest_of_several_ends_is_enough_and_each_has_its_own_quota() -> None:
    made = world_of({**PRICE, "cap": "2"}, credit="1.9")
    made.flow(1_800, at=START + MINUTE, lasts="10 min")
    assert ahead(made) == [("default", "closed", 200, "price:plan/beyond"), ("default", "closed", 100, "balance")]


def test_a_cap_that_lets_pass_is_no_end() -> None:
    made = world_of({**PRICE, "cap": "2", "on_cap": "free"}, credit="3")
    made.flow(1_900, at=START + MINUTE)
    made.flow(5_000, at=START + 2 * MINUTE)
    assert ahead(made) == []


def test_money_that_comes_takes_back_what_was_foretold() -> None:
    made = world_of(PRICE, credit="2")
    made.flow(1_900, at=START + MINUTE)
    first = len(made.updates)
    made.credit("9")
    assert [(update.rule_id, update.gate_status) for update in without(made, first)] == [("default", "open")]
    assert made.account is not None
    assert made.account.foretold == ()
    made.flow(9_000, at=START + 2 * MINUTE)
    assert ahead(made)[-1] == ("default", "closed", 100, "balance")


def test_a_little_money_that_comes_makes_the_quota_larger() -> None:
    made = world_of(PRICE, credit="2")
    made.flow(1_900, at=START + MINUTE)
    made.credit("0.05")
    assert [quota for _, _, quota, _ in ahead(made)] == [100, 150]


def test_money_that_goes_elsewhere_makes_the_quota_smaller() -> None:
    made = world_of(PRICE, credit="2")
    made.flow(1_850, at=START + MINUTE)
    made.debit("0.1")
    assert [quota for _, _, quota, _ in ahead(made)] == [150, 50]


@pytest.mark.parametrize("amount", ["9", None])
def test_a_cap_that_is_raised_takes_back_what_was_foretold(amount: str | None) -> None:
    made = world_of({**PRICE, "cap": "2"})
    made.flow(1_900, at=START + MINUTE)
    first = len(made.updates)
    made.raise_cap("beyond", amount)
    assert [(update.rule_id, update.gate_status) for update in without(made, first)] == [("default", "open")]


def test_a_limit_that_is_raised_leaves_what_another_end_foretells() -> None:
    made = world_of(PRICE, credit="2.1", limit="2")
    made.flow(1_950, at=START + MINUTE)
    assert ahead(made) == [("default", "closed", 50, "spending_limit")]
    made.raise_cap(None, "3")
    assert ahead(made)[1:] == [("default", "closed", 150, "balance")]


def test_one_end_that_is_put_off_does_not_lose_the_other() -> None:
    made = world_of({**PRICE, "cap": "2"}, credit="2.1")
    made.flow(1_950, at=START + MINUTE)
    gateway = Gateway(made)
    made.raise_cap("beyond", "9")
    gateway.listen()
    assert gateway.passes("default", 1_000) == 150


def test_a_new_cycle_takes_back_what_a_cap_foretold() -> None:
    made = world_of({**PRICE, "cap": "2"})
    made.flow(1_900, at=START + MINUTE)
    first = len(made.updates)
    made.timer("2026-04-01 00:00")
    assert [(update.rule_id, update.gate_status) for update in without(made, first)] == [("default", "open")]
    made.flow(1_900, at="2026-04-02 00:00")
    assert ahead(made)[-1] == ("default", "closed", 100, "price:plan/beyond")


def test_what_a_correction_gives_back_was_counted_by_the_gateway_and_is_told_anew() -> None:
    made = world_of(PRICE, credit="2")
    made.flow(1_900, at=START + MINUTE)
    made.flow(40, at=START + 2 * MINUTE)
    assert made.account is not None
    counters = tuple(replace(item, octets=1_920, micros=1_920_000) for item in made.account.counters)
    given_back = replace(made.account, counters=counters, balance_micros=80_000)
    _, updates = settle(given_back, made.tariff, at_ms=START + 3 * MINUTE, cause="corrected")
    assert [update.quota_octets for update in updates] == [80]


def test_a_quota_is_told_once_while_it_is_used_up() -> None:
    made = world_of(PRICE, credit="2")
    made.flow(1_801, at=START + MINUTE, lasts="20 min")
    for minute in range(30, 49):
        made.flow(10, at=START + minute * MINUTE)
    assert [quota for _, _, quota, _ in ahead(made)] == [199]


def test_the_faster_it_goes_the_earlier_the_end_is_told() -> None:
    told = {}
    for volume in (50, 900):
        made = world_of(PRICE, credit="20")
        minute = 0
        while not ahead(made):
            minute += 1
            made.flow(volume, at=START + minute * MINUTE, end_ms=START + (minute + 1) * MINUTE)
        told[volume] = ahead(made)[0][2] or 0
    assert 150 <= told[50] <= 200
    assert 900 <= told[900] <= 2_700


def test_a_bucket_that_ends_tells_at_once_what_is_left_of_the_money_after_it() -> None:
    made = world_of(PRICE, credit="0.9", allowances=[{"id": "data", "octets": 10_000}])
    made.flow(9_500, at=START + MINUTE, lasts="1 h")
    made.flow(600, at=START + 90 * MINUTE)
    assert ahead(made)[-1] == ("default", "closed", 800, "balance")


DATA = {"id": "data", "octets": 10_000}


def test_the_end_of_money_is_told_with_what_is_left_in_the_bucket_before_it() -> None:
    """At a bucket's end a gateway changes nothing, so who waits for that hears too late of money that is short."""
    made = world_of(PRICE, credit="0.3", allowances=[DATA])
    made.flow(9_800, at=START + MINUTE)
    assert ahead(made) == [("default", "closed", 500, "behind:balance")]
    gateway = Gateway(made)
    assert gateway.passes("default", 9_000) == 500
    gateway.report([(None, 500)], START + 3 * MINUTE)
    assert (made.left("p1/data"), made.balance(), made.gates()) == (0, 0, {"default": "closed"})


def test_money_that_comes_takes_back_what_was_foretold_behind_a_bucket() -> None:
    made = world_of(PRICE, credit="0.3", allowances=[DATA])
    made.flow(9_800, at=START + MINUTE, lasts="30 min")
    first = len(made.updates)
    made.credit("50")
    assert [(update.rule_id, update.gate_status) for update in without(made, first)] == [("default", "open")]
    assert made.account is not None
    assert made.account.foretold == ()


def test_with_money_for_long_nothing_is_told_behind_a_bucket() -> None:
    made = world_of(PRICE, credit="99", allowances=[DATA])
    for minute in range(1, 12):
        made.flow(999, at=START + minute * MINUTE)
    assert ahead(made) == []


def test_a_bucket_whose_end_leads_to_no_tolerance_is_not_looked_at() -> None:
    for price, allowance in (({"overshoot_tolerance_octets": None}, {}), ({}, {"on_exhausted": "block"})):
        made = world_of({**PRICE, **price}, credit="1", allowances=[{**DATA, **allowance}])
        made.flow(3_000, at=START + MINUTE)
        assert made.account is not None
        assert made.account.buckets[0].looked_ms == 0


def test_rules_whose_traffic_draws_from_a_bucket_do_not_use_the_quota_up() -> None:
    video = {"id": "films", "octets": 10_000, "scope": {"applications": ["netflix"]}}
    made = world_of(PRICE, rules=(VIDEO,), credit="1", allowances=[video])
    made.flow(900, at=START + MINUTE)
    assert ahead(made) == [("default", "closed", 100, "balance")]
    assert made.updates[-1].quota_rule_ids == ("default",)


def test_granted_money_for_all_of_it_counts_and_for_some_of_it_does_not() -> None:
    gift = {"id": "gift", "amount": "0.5"}
    for scope, quota in (({}, 200), ({"applications": ["netflix"]}, 100)):
        made = world_of(PRICE, rules=(VIDEO,), credit="1", money_allowances=[{**gift, "scope": scope}])
        made.flow(1_300 if not scope else 900, at=START + MINUTE)
        assert {told[2] for told in ahead(made)} == {quota}
        assert {told[0] for told in ahead(made)} == ({"default"} if scope else {"video", "default"})


def test_two_prices_of_one_balance_have_the_quota_of_the_dearer_one() -> None:
    dear = {"id": "films", "amount": "3", "per_octets": 1_000, "scope": {"applications": ["netflix"]}}
    made = world_of(PRICE, dear, rules=(VIDEO,), credit="1")
    made.flow(700, at=START + MINUTE)
    # 0.3 is left: 300 octets at the one price, 100 at the other; in any mixture, no more than 100 for sure.
    assert {told[2] for told in ahead(made)} == {99}
    made.flow(99, at=START + 2 * MINUTE)
    # Cheap ones they were, so the quota is used up and money is left: the gateway hears how far that goes.
    assert ahead(made)[-1][2] == 66


def test_a_price_that_is_never_asked_makes_no_quota_smaller() -> None:
    made = world_of(PRICE, {"id": "dearer", "amount": "5", "per_octets": 1_000}, credit="1")
    made.flow(900, at=START + MINUTE)
    assert ahead(made) == [("default", "closed", 100, "balance")]


def test_the_end_of_money_that_connections_take_is_told_anew() -> None:
    connection = {"id": "each", "unit": "connection", "amount": "0.25"}
    made = world_of(PRICE, connection, credit="2")
    made.flow(1_000, at=START + MINUTE, end_reason="active")
    # 1 is left, and a quarter of it is kept for the end of the connection.
    assert [told[2] for told in ahead(made)] == [750]
    made.flow(1, at=START + 2 * MINUTE)
    assert [told[2] for told in ahead(made)] == [750, 499]


def test_a_family_of_quotas_is_told_to_all_of_its_members() -> None:
    made = world_of(PRICE, credit="2")
    made.flow(1_900, at=START + MINUTE)
    made.profile(subscriber_ids=("a1", "b2"))
    assert made.updates[-1].subscriber_ids == ("a1", "b2")
    assert ahead(made)[-1][2] == 100


def test_a_tolerance_is_for_prices_of_octets() -> None:
    with pytest.raises(ValidationError, match="overshoot_tolerance_octets is for unit 'octets'"):
        world_of({"id": "each", "unit": "connection", "amount": "1", "overshoot_tolerance_octets": 5})


# -- the bound itself


def test_a_quota_of_money_that_is_too_little_for_its_price_is_taken_back() -> None:
    """Another price that goes on keeps the gate open; a gateway would wait for the end of a quota that is nobody's."""
    dear = {"id": "dear", "amount": "0.2", "per_octets": 1, "overshoot_tolerance_octets": 30}
    films = {"id": "films", "amount": "0.000001", "per_octets": 10, "whole_units": True, "scope": VIDEO["scope"]}
    made = world_of(dear, films, credit="0.4")
    made.flow(1)
    assert ahead(made)[-1] == ("default", "closed", 1, "balance")
    made.flow(9, "netflix")
    last = made.updates[-1]
    assert (last.action, last.gate_status, last.quota_octets) == ("modify", "open", None)


MEANS = st.sampled_from(["balance", "cap", "limit", "cap and balance", "limit and balance"])
EVEN: list[dict[str, Any]] = [
    {}, {"tiers": [{"above": 700, "amount": "0.2"}]}, {"tiers": [{"above": 700, "amount": "4"}]}
]  # fmt: skip
SHAPES = [*EVEN, {"whole_units": True}, {"tiers": [{"above": 700, "amount": "0.7"}], "tier_mode": "volume"}]


def paid_by(means: str, amount: str, *prices: dict[str, Any], **plan: Any) -> World:
    more = {"cap": amount} if "cap" in means else {}
    given = {"credit": amount} if "balance" in means else {}
    given |= {"limit": amount} if "limit" in means else {}
    return world_of({**prices[0], **more}, *prices[1:], rules=(VIDEO,), **given, **plan)


def two_prices(
    shapes: tuple[dict[str, Any], dict[str, Any]], tolerance: int
) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    """One for films, one for all that is no film: a rule's gate is open while any price could pay for its traffic."""
    rest = {**PRICE, "overshoot_tolerance_octets": tolerance, "scope": {"categories": ["other"]}}
    films = {**rest, "id": "films", "amount": "2.5", "scope": {"applications": ["netflix"]}}
    return {**rest, **shapes[0]}, {**films, **shapes[1]}


def play(made: World, minutes: list[list[tuple[bool, int]]], tolerance: int) -> tuple[Gateway, int]:
    """Flows, of video or not, that a gateway passes; no minute brings more than the one before and the tolerance."""
    gateway, before = Gateway(made), 0
    for number, wanted in enumerate(minutes, start=1):
        volumes = within([volume for _, volume in wanted], before + tolerance)
        flows = [
            ("netflix" if film else None, gateway.passes("video" if film else "default", volume))
            for (film, _), volume in zip(wanted, volumes, strict=False)
        ]
        before = sum(volume for _, volume in flows)
        gateway.report(flows, START + number * MINUTE)
    return gateway, sum(decision.blocked_octets for decision in made.decisions)


MINUTES = st.lists(
    st.lists(st.tuples(st.booleans(), st.integers(1, 900)), min_size=1, max_size=5), min_size=1, max_size=15
)


@given(means=MEANS, shape=st.sampled_from(SHAPES), hundredths=st.integers(1, 600), tolerance=st.integers(1, 900),
       minutes=MINUTES)  # fmt: skip
def test_the_promised_bound_holds_whatever_the_flows(
    means: str, shape: dict[str, Any], hundredths: int, tolerance: int, minutes: list[list[tuple[bool, int]]]
) -> None:
    amount = f"{hundredths // 100}.{hundredths % 100:02}"
    made = paid_by(means, amount, {**PRICE, **shape, "overshoot_tolerance_octets": tolerance})
    _, beyond = play(made, minutes, tolerance)
    assert beyond <= tolerance


BUCKETS = st.fixed_dictionaries(
    {"octets": st.integers(1, 3_000), "overshoot_tolerance_octets": st.none() | st.integers(1, 900)}
)


@example(money=("balance", 2), shape={}, tolerance=200, bucket={"octets": 1_205},
         minutes=[[(False, volume)] for volume in (200, 400, 600, 800)])  # fmt: skip
@example(money=("balance", 81), shape=EVEN[1], tolerance=419, bucket={"octets": 572},
         minutes=[[(False, 419)], [(False, 274), (False, 564)], [(False, 1), (False, 84), (False, 900)]])  # fmt: skip
@given(money=st.tuples(MEANS, st.integers(1, 300)), shape=st.sampled_from(EVEN), tolerance=st.integers(1, 900),
       bucket=BUCKETS, minutes=MINUTES)  # fmt: skip
def test_the_promised_bound_holds_where_a_bucket_and_the_money_after_it_end_within_one_interval(
    money: tuple[str, int], shape: dict[str, Any], tolerance: int, bucket: dict[str, Any],
    minutes: list[list[tuple[bool, int]]],
) -> None:  # fmt: skip
    means, hundredths = money
    amount = f"{hundredths // 100}.{hundredths % 100:02}"
    data = {"id": "data", **bucket}
    made = paid_by(means, amount, {**PRICE, **shape, "overshoot_tolerance_octets": tolerance}, allowances=[data])
    _, beyond = play(made, minutes, tolerance)
    assert beyond <= tolerance


@given(means=MEANS, shapes=st.tuples(st.sampled_from(EVEN), st.sampled_from(EVEN)),
       hundredths=st.integers(1, 600), tolerance=st.integers(1, 900), minutes=MINUTES)  # fmt: skip
def test_the_promised_bound_holds_for_two_prices_of_the_same_money(
    means: str, shapes: tuple[dict[str, Any], dict[str, Any]], hundredths: int, tolerance: int,
    minutes: list[list[tuple[bool, int]]],
) -> None:  # fmt: skip
    amount = f"{hundredths // 100}.{hundredths % 100:02}"
    made = paid_by(means, amount, *two_prices(shapes, tolerance))
    _, beyond = play(made, minutes, tolerance)
    assert beyond <= tolerance


@given(world=st.tuples(MEANS, st.integers(1, 600), st.booleans()), tolerance=st.integers(1, 900),
       shapes=st.tuples(st.sampled_from(EVEN), st.sampled_from(EVEN)), minutes=MINUTES,
       films=st.integers(0, 2_000))  # fmt: skip
def test_a_quota_is_never_more_than_can_be_paid_in_whatever_mixture(
    world: tuple[str, int, bool], shapes: tuple[dict[str, Any], dict[str, Any]], tolerance: int,
    minutes: list[list[tuple[bool, int]]], films: int,
) -> None:  # fmt: skip
    means, hundredths, gift = world
    plan = {"money_allowances": [{"id": "gift", "amount": "0.2", "scope": {"applications": ["netflix"]}}]}
    amount = f"{hundredths // 100}.{hundredths % 100:02}"
    made = paid_by(means, amount, *two_prices(shapes, tolerance), **(plan if gift else {}))
    gateway = Gateway(made)
    for number, flows in enumerate(minutes, start=1):
        for film, wanted in flows:
            volume = gateway.passes("video" if film else "default", wanted)
            gateway.report([("netflix" if film else None, volume)], START + number * MINUTE)
            if gateway.awaits("video") and gateway.awaits("default"):
                assert all_paid(made, gateway, films)


def all_paid(made: World, gateway: Gateway, films: int) -> bool:
    """Whether all would be paid for that a gateway lets pass from now on, so many octets of films first."""
    ahead_of, account, blocked = gateway.copy(), made.account, 0
    for rule_id, app, wanted in (("video", "netflix", films), ("default", None, 10**9), ("video", "netflix", 10**9)):
        flow = flow_record(ahead_of.passes(rule_id, wanted), at_ms=made.now_ms)
        assert account is not None
        at = Position("flows", 0, 10_000)
        outcome = decide(flow, classification(app), account, made.tariff, at=at, now_ms=made.now_ms)
        account = outcome.account
        blocked += outcome.decision.blocked_octets if outcome.decision else 0
    return not blocked


@given(means=MEANS.filter("cap".__ne__), shapes=st.tuples(st.sampled_from(SHAPES), st.sampled_from(SHAPES)),
       hundredths=st.integers(1, 200), tolerance=st.integers(1, 900), bucket=st.none() | BUCKETS)  # fmt: skip
def test_no_gateway_stops_for_good_while_money_is_left(
    means: str, shapes: tuple[dict[str, Any], dict[str, Any]], hundredths: int, tolerance: int,
    bucket: dict[str, Any] | None,
) -> None:  # fmt: skip
    amount = f"{hundredths // 100}.{hundredths % 100:02}"
    more = {"allowances": [{"id": "data", **bucket}]} if bucket else {}
    made = paid_by(means, amount, *two_prices(shapes, tolerance), **more)
    gateway = Gateway(made)
    for minute in range(1, 120):
        before = gateway.passed
        flows = [(None, gateway.passes("default", 270)), ("netflix", gateway.passes("video", 80))]
        gateway.report(flows, START + minute * MINUTE)
        if gateway.passed == before:
            assert set(made.gates().values()) == {"closed"}
            break


@given(minutes=MINUTES, hundredths=st.integers(1, 600), means=MEANS)
def test_what_is_told_ahead_changes_no_charge(
    minutes: list[list[tuple[bool, int]]], hundredths: int, means: str
) -> None:
    amount = f"{hundredths // 100}.{hundredths % 100:02}"
    worlds = [paid_by(means, amount, {**PRICE, "overshoot_tolerance_octets": value}) for value in (None, 300)]
    for made in worlds:
        for number, flows in enumerate(minutes, start=1):
            for film, volume in flows:
                made.flow(volume, "netflix" if film else None, at=START + number * MINUTE)
    bare, bounded = worlds
    assert bounded.decisions == bare.decisions
    assert [note.kind for note in bounded.notifications] == [note.kind for note in bare.notifications]
