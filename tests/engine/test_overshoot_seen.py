"""The worst overshoot of a recording, by hand."""

from typing import Any

from schemas.classification import Classification
from schemas.command import ActivateProduct, ChangeProfile, Credit
from services.engine.overshoot_seen import OvershootReport
from services.engine.simulate import Run, Subscription
from services.engine.tariff import compile_tariff
from tests.engine.world import catalogue, flow_record, ms

START = ms("2026-03-10 12:00")
SECOND = 1_000
SEEN = Classification(category="other", application=None, service=None, confidence=0, evidence=())


def run_of(tolerance: int | None = None, **offering: Any) -> Run:
    granted = {"id": "data", "octets": 1_000, "overshoot_tolerance_octets": tolerance}
    plan = {"id": "plan", "kind": "base_plan", "allowances": [granted], **offering}
    return Run(compile_tariff(catalogue(plan)), subscription=Subscription(("plan",)))


def play(run: Run, *flows: tuple[int, int, int], **fields: Any) -> list[OvershootReport]:
    """Flows as (begin, end, octets), in seconds; each arrives at its end."""
    for number, (begin, end, volume) in enumerate(flows):
        times = {"at_ms": START + begin * SECOND, "end_ms": START + end * SECOND}
        record = flow_record(volume, **times, **{"record_id": f"r{number}{fields.get('subscriber_id', '')}"} | fields)
        run.flow(record, SEEN, now_ms=START + end * SECOND)
    return list(run.overshoot.report())


def test_what_a_flow_brought_beyond_the_end_that_nobody_had_foretold() -> None:
    (seen,) = play(run_of(), (0, 60, 900), (60, 120, 400))
    assert (seen.tolerance_octets, seen.ended, seen.told_ahead, seen.worst_octets) == (None, 1, 0, 300)


def test_flows_that_were_under_way_when_a_gateway_heard_count_for_what_had_passed() -> None:
    # The bucket ends, exactly, in a record that arrives at 120 s. Two flows under way had by then passed 60 of 90
    # octets, and all of 40; what comes afterwards, the gateway stops.
    (seen,) = play(run_of(), (60, 120, 1_000), (60, 150, 90), (70, 120, 40), (120, 180, 500))
    assert seen.worst_octets == 60 + 40


def test_an_end_told_ahead_is_kept_by_the_gateway_to_the_octet() -> None:
    (seen,) = play(run_of(tolerance=200), (0, 60, 850), (60, 120, 100), (120, 180, 900))
    assert (seen.tolerance_octets, seen.ended, seen.told_ahead, seen.worst_octets) == (200, 1, 1, 0)


def test_what_had_passed_unreported_before_the_quota_came_counts_against_it() -> None:
    # The quota of 150 octets comes at 60 s. By then a flow of the last minute had passed 170 octets of its 200.
    (seen,) = play(run_of(tolerance=200), (0, 60, 850), (9, 69, 200))
    assert (seen.told_ahead, seen.worst_octets) == (1, 20)


def test_an_end_that_changes_nothing_for_a_gateway_is_no_overshoot() -> None:
    paid = run_of(usage_prices=[{"id": "beyond", "amount": "1"}])
    assert play(paid, (0, 60, 900), (60, 120, 400)) == []


def test_a_bound_that_was_never_needed_is_told_with_nothing_seen() -> None:
    (seen,) = play(run_of(tolerance=50), (0, 60, 10))
    assert (seen.tolerance_octets, seen.ended, seen.worst_octets) == (50, 0, 0)


def test_traffic_outside_the_bucket_is_not_counted() -> None:
    limited = {"id": "data", "octets": 1_000, "scope": {"services": ["call"]}, "on_exhausted": "block"}
    run = run_of(allowances=[limited, {"id": "rest", "octets": 10**6}])
    call = Classification(category="voip_im", application="whatsapp", service="call", confidence=90, evidence=())
    record = flow_record(1_000, at_ms=START, end_ms=START + 60 * SECOND, record_id="call")
    run.flow(record, call, now_ms=START + 60 * SECOND)
    assert play(run, (0, 60, 5_000)) == []


def test_it_forgets_what_no_record_can_change_any_more() -> None:
    run = run_of()
    play(run, (0, 60, 1_500), (7_000, 7_060, 10))
    assert run.overshoot._heard == {"a1": {}}


def test_traffic_that_another_bucket_pays_for_first_does_not_come_to_this_end() -> None:
    granted = {"id": "data", "octets": 1_000, "overshoot_tolerance_octets": 200}
    calls = {"id": "calls", "octets": 10**6, "scope": {"services": ["call"]}}
    plan = {"id": "plan", "kind": "base_plan", "allowances": [granted, calls], "rules": ["calling"]}
    rule = {"id": "calling", "scope": {"services": ["call"]}}
    run = Run(compile_tariff(catalogue(plan, rules=[rule])), subscription=Subscription(("plan",)))
    play(run, (0, 60, 900))
    call = Classification(category="voip_im", application="whatsapp", service="call", confidence=90, evidence=())
    record = flow_record(5_000, at_ms=START, end_ms=START + 90 * SECOND, record_id="call")
    run.flow(record, call, now_ms=START + 90 * SECOND)
    (seen,) = play(run, (60, 120, 100))
    assert (seen.allowance_id, seen.ended, seen.told_ahead, seen.worst_octets) == ("data", 1, 1, 0)


# -- shares of members


def sharing(tolerance: int | None = None) -> Run:
    """Two members who may have 1 000 octets each."""
    shared = {"id": "data", "octets": 9_000, "per_member_octets": 1_000, "overshoot_tolerance_octets": tolerance}
    run = Run(compile_tariff(catalogue({"id": "plan", "kind": "base_plan", "allowances": [shared]})))
    issued = {"version": "1.0", "account_id": "f", "issued_at_ms": START - SECOND}
    run.command(ChangeProfile(command_id="k1", subscriber_ids=("kid", "ma"), **issued), now_ms=START - SECOND)
    order = ActivateProduct(command_id="k2", offering_id="plan", product_id="p1", **issued)
    run.command(order, now_ms=START - SECOND)
    return run


def test_what_a_member_brought_beyond_a_share_is_seen_and_what_others_bring_is_not() -> None:
    run = sharing()
    (seen,) = play(run, (0, 60, 900), (60, 120, 400), account_id="f", subscriber_id="kid")
    assert (seen.allowance_id, seen.ended, seen.told_ahead, seen.worst_octets) == ("data", 1, 0, 300)
    (seen,) = play(run, (70, 110, 900), account_id="f", subscriber_id="ma")
    assert seen.worst_octets == 300


def test_a_share_told_ahead_is_kept_by_the_gateway_to_the_octet() -> None:
    mine = {"account_id": "f", "subscriber_id": "kid"}
    (seen,) = play(sharing(200), (0, 60, 850), (60, 120, 100), (120, 180, 900), **mine)
    assert (seen.tolerance_octets, seen.ended, seen.told_ahead, seen.worst_octets) == (200, 1, 1, 0)


# -- money, and what campaigns pay

PRICE = {"id": "beyond", "amount": "1", "per_octets": 1_000, "cap": "2"}
"""A cap of 2 000 octets."""


def selling(tolerance: int | None = None, payment: Any = "postpaid", **price: Any) -> Run:
    sold = {**PRICE, "overshoot_tolerance_octets": tolerance, **price}
    plan = {"id": "plan", "kind": "base_plan", "usage_prices": [sold]}
    return Run(compile_tariff(catalogue(plan)), subscription=Subscription(("plan",), payment=payment))


def test_what_a_flow_brought_beyond_a_cap_that_nobody_had_foretold() -> None:
    (seen,) = play(selling(), (0, 60, 1_900), (60, 120, 400))
    assert (seen.offering_id, seen.price_id, seen.allowance_id) == ("plan", "beyond", "")
    assert (seen.tolerance_octets, seen.ended, seen.told_ahead, seen.worst_octets) == (None, 1, 0, 300)


def test_flows_under_way_when_the_gate_closes_count_for_what_had_passed() -> None:
    (seen,) = play(selling(), (60, 120, 2_000), (60, 150, 90), (120, 180, 500))
    assert seen.worst_octets == 60


def test_a_cap_told_ahead_is_kept_by_the_gateway_to_the_octet() -> None:
    (seen,) = play(selling(tolerance=200), (0, 60, 900), (60, 120, 1_000), (120, 180, 900))
    assert (seen.tolerance_octets, seen.ended, seen.told_ahead, seen.worst_octets) == (200, 1, 1, 0)


def test_what_had_passed_unreported_before_a_quota_of_money_came_counts_against_it() -> None:
    # The quota of 100 octets comes at 120 s. By then a flow of the last minute had passed 170 octets of its 200.
    (seen,) = play(selling(tolerance=200), (0, 60, 900), (60, 120, 1_000), (69, 129, 200))
    assert (seen.told_ahead, seen.worst_octets) == (1, 70)


def test_money_that_comes_makes_a_new_end_of_a_balance() -> None:
    run = selling(tolerance=200, payment="prepaid", cap=None)

    def credit(amount: str, number: int, at: int) -> None:
        run.command(
            Credit(version="1.0", command_id=f"k{number}", account_id="a1", issued_at_ms=at, amount=amount), now_ms=at
        )

    play(run, (0, 60, 1))
    credit("2", 1, START + 60 * SECOND)
    play(run, (60, 120, 900), (120, 180, 1_000))
    credit("2", 2, START + 180 * SECOND)
    (seen,) = play(run, (180, 240, 1_000), (240, 300, 1_000), (300, 360, 900))
    assert (seen.price_id, seen.ended, seen.told_ahead, seen.worst_octets) == ("beyond", 1, 1, 0)


def test_what_a_campaign_pays_for_each_subscriber_has_no_bound_and_its_overshoot_is_seen() -> None:
    campaign = {"id": "c", "sponsor_id": "s", "per_subscriber_octets": 1_000}
    rule = {"id": "sponsored", "charging": "sponsored", "campaign": "c"}
    tariff = compile_tariff(catalogue({"id": "plan", "rules": ["sponsored"]}, rules=[rule], campaigns=[campaign]))
    (seen,) = play(Run(tariff, subscription=Subscription(("plan",))), (0, 60, 900), (60, 120, 400), (70, 130, 60))
    assert (seen.campaign_id, seen.offering_id, seen.tolerance_octets) == ("c", "", None)
    assert (seen.ended, seen.told_ahead, seen.worst_octets) == (1, 0, 350)


def test_what_a_campaign_foretells_is_kept_by_the_gateway_to_the_octet() -> None:
    campaign = {"id": "c", "sponsor_id": "s", "per_subscriber_octets": 1_000, "overshoot_tolerance_octets": 100}
    rule = {"id": "sponsored", "charging": "sponsored", "campaign": "c"}
    tariff = compile_tariff(catalogue({"id": "plan", "rules": ["sponsored"]}, rules=[rule], campaigns=[campaign]))
    run = Run(tariff, subscription=Subscription(("plan",)))
    (seen,) = play(run, (0, 60, 400), (60, 120, 550), (120, 180, 900))
    assert (seen.campaign_id, seen.tolerance_octets) == ("c", 100)
    assert (seen.ended, seen.told_ahead, seen.worst_octets) == (1, 1, 0)


def test_an_end_after_which_the_subscriber_pays_was_told_ahead_all_the_same() -> None:
    campaign = {"id": "c", "sponsor_id": "s", "per_subscriber_octets": 1_000, "overshoot_tolerance_octets": 100}
    rule = {"id": "sponsored", "charging": "sponsored", "campaign": "c"}
    plan = {"id": "plan", "rules": ["sponsored"], "allowances": [{"id": "data", "octets": 10**6}]}
    run = Run(compile_tariff(catalogue(plan, rules=[rule], campaigns=[campaign])), subscription=Subscription(("plan",)))
    (seen,) = play(run, (0, 60, 400), (60, 120, 550), (120, 180, 900))
    assert (seen.campaign_id, seen.ended, seen.told_ahead, seen.worst_octets) == ("c", 1, 1, 0)
