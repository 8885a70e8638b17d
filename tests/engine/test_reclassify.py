"""Verdicts that are not believed cost the general rate, and a better one corrects the charge: once, and exactly."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalogue import Catalogue
from schemas.units import format_micros
from services.engine.reclassify import MAX_PROVISIONAL, SAME_FLOW_MS
from tests.engine.world import World, catalogue

FREE = {"id": "free", "charging": "free", "scope": {"applications": ["facebook"]}}


def tariff(*rules: dict[str, Any], **more: Any) -> Catalogue:
    """General data, a facebook pack, an expensive and a general price."""
    plan = {
        "id": "plan", "kind": "base_plan", "rules": [rule["id"] for rule in rules],
        "allowances": [
            {"id": "data", "octets": 1000, "notify_percents": [50, 100]},
            {"id": "pack", "octets": 500, "scope": {"applications": ["facebook"]}},
        ],
        "usage_prices": [
            {"id": "extra", "amount": "0.03", "per_octets": 7, "cap": "2"},
            {"id": "premium", "amount": "1", "per_octets": 1, "scope": {"categories": ["streaming"]}},
        ],
    }  # fmt: skip
    return catalogue(plan, rules=rules, **more)


def world(*rules: dict[str, Any], **more: Any) -> World:
    made = World(tariff(*rules, **more))
    made.activate("plan", "p")
    return made


# -- what doubt does


@pytest.mark.parametrize("doubt", [{"suspect": True}, {"confidence": 30}])
def test_a_doubted_flow_takes_nothing_from_an_application_bucket(doubt: dict[str, Any]) -> None:
    one = world()
    decision = one.flow(100, "facebook", **doubt)
    assert [draw.bucket_id for draw in decision.draws] == ["p/data"]


@pytest.mark.parametrize(
    ("narrow", "price_id"), [("2", "general"), ("1", "general"), ("0.5", "general"), ("2.000001", "narrow")]
)
def test_a_doubted_flow_meets_the_general_price_unless_its_own_is_dearer(narrow: str, price_id: str) -> None:
    prices = [
        {"id": "general", "amount": "2", "per_octets": 1},
        {"id": "narrow", "amount": narrow, "per_octets": 1, "scope": {"applications": ["facebook"]}},
    ]
    one = World(catalogue({"id": "plan", "usage_prices": prices}))
    one.activate("plan")
    decision = one.flow(1, "facebook", suspect=True)
    assert decision.price is not None
    assert decision.price.price_id == price_id


def test_doubt_that_decides_what_a_connection_costs_is_doubt() -> None:
    prices = [
        {"id": "any", "unit": "connection", "amount": "2"},
        {"id": "chat", "unit": "connection", "amount": "1", "scope": {"applications": ["whatsapp"]}},
    ]
    one = World(catalogue({"id": "plan", "allowances": [{"id": "data", "octets": 900}], "usage_prices": prices}))
    one.activate("plan")
    for suspect, application, amount in ((True, None, "2"), (False, "whatsapp", "1")):
        one.flow(10, "whatsapp", suspect=suspect, subscriber_port=4000 + suspect)
        one.emit()
        (row,) = [row for row in one.usage if row.connections][suspect is False :]
        assert (row.application, row.amount) == (application, amount)


@pytest.mark.parametrize("doubt", [{"suspect": True}, {"confidence": 30}])
def test_a_doubted_flow_is_not_free_and_the_decision_says_why(doubt: dict[str, Any]) -> None:
    decision = world(FREE).flow(100, "facebook", **doubt)
    assert (decision.treatment, decision.rule_id) == ("charged", "default")
    assert [(loser.rule_id, loser.reason) for loser in decision.losers] == [
        ("free", "suspect" if "suspect" in doubt else "confidence")
    ]
    assert decision.classification.application == "facebook"


def test_the_threshold_is_the_catalogues() -> None:
    assert world(FREE, min_confidence=60).flow(1, "facebook", confidence=59).treatment == "charged"
    assert world(FREE, min_confidence=60).flow(1, "facebook", confidence=60).treatment == "free"
    assert world(FREE, min_confidence=0).flow(1, "facebook", confidence=0).treatment == "free"


def test_a_closed_gate_keeps_to_its_own_threshold() -> None:
    gate = {"id": "gate", "gate_status": "closed", "scope": {"applications": ["facebook"]}}
    assert world(gate).flow(1, "facebook", suspect=True).treatment == "blocked"
    assert world({**gate, "min_confidence": 10}).flow(1, "facebook", suspect=True).treatment == "charged"


def test_doubt_is_no_way_around_a_dearer_price() -> None:
    one = world()
    one.flow(1000)
    assert one.flow(1, "netflix", suspect=True).price.price_id == "premium"  # type: ignore[union-attr]


def test_unknown_traffic_claims_nothing_so_it_is_not_doubted() -> None:
    general = {"id": "rest", "charging": "free", "scope": {"categories": ["other"]}}
    assert world(general).flow(1, None, confidence=0).treatment == "free"


def test_a_doubted_flow_is_booked_as_unknown_traffic() -> None:
    one = world(FREE)
    one.flow(10, "facebook", suspect=True)
    one.emit()
    assert [(row.application, row.category, row.rule_id) for row in one.usage[-1:]] == [(None, "other", "default")]


# -- what its end does


def test_a_reclassified_flow_is_refunded_first_and_charged_as_what_it_was() -> None:
    one = world()
    one.flow(300, "facebook", suspect=True)
    assert (one.left("p/data"), one.left("p/pack")) == (700, 500)
    one.flow(50, "facebook")
    assert (one.left("p/data"), one.left("p/pack")) == (1000, 150)
    refund, again = [row for row in one.usage if row.cause == "reclassified"]
    assert (refund.kind, again.kind) == ("refund", "usage")
    assert (refund.application, again.application) == (None, "facebook")
    assert (refund.octets, again.octets) == (300, 300)
    assert refund.corrects == again.corrects == one.decisions[0].decision_id
    assert one.account is not None
    assert (one.account.provisional, one.account.reclassified) == ((), 1)


def test_a_rule_that_asks_for_confidence_itself_is_corrected_like_any_other() -> None:
    one = world({**FREE, "min_confidence": 60})
    one.flow(300, "facebook", suspect=True)
    one.flow(50, "facebook")
    assert one.left("p/data") == 1000


def test_a_flow_is_corrected_once_and_never_doubled() -> None:
    one = world(FREE)
    one.flow(300, "facebook", suspect=True)
    for _ in range(3):
        one.flow(50, "facebook")
    assert one.left("p/data") == 1000
    assert sum(row.cause == "reclassified" for row in one.usage) == 2


def test_several_records_are_charged_again_in_event_order() -> None:
    one = world()
    for volume in (400, 300):
        one.flow(volume, "facebook", suspect=True, at=one.now_ms + 1000)
    one.flow(1, "facebook", at=one.now_ms + 1000)
    again = [row for row in one.usage if row.cause == "reclassified" and row.kind == "usage"]
    assert [row.octets for row in again] == [400, 300]
    assert [[moved.bucket_id for moved in row.movements] for row in again] == [["p/pack"], ["p/pack", "p/data"]]
    assert (one.left("p/pack"), one.left("p/data")) == (0, 1000 - 201)


def test_money_and_the_total_of_a_capped_price_come_back() -> None:
    one = world(FREE)
    one.flow(1000)
    one.flow(700, "facebook", suspect=True)
    assert format_micros(one.money()) == "1.997142"
    one.flow(1, "facebook")
    assert one.money() == 0
    assert one.account is not None
    assert one.account.counters == ()
    one.flow(70, "youtube", category="other")
    assert format_micros(one.money()) == "0.3"


def test_prepaid_money_comes_back_to_the_balance() -> None:
    one = World(tariff(FREE), payment="prepaid")
    one.credit("1")
    one.activate("plan", "p")
    one.flow(1000)
    assert one.flow(700, "facebook", suspect=True).blocked_octets > 0
    assert one.balance() < 30_000
    one.flow(1, "facebook")
    assert format_micros(one.balance()) == "1"
    assert one.flow(7).treatment == "charged"


@pytest.mark.parametrize(
    "other",
    [
        {"subscriber_port": 40_001}, {"remote_ip": "192.0.2.2"}, {"remote_port": 80}, {"ip_protocol": 17},
        {"subscriber_ip": "10.0.0.2"}, {"subscriber_id": "b2"}, {"suspect": True}, {"confidence": 30}, {"app": None},
    ],
)  # fmt: skip
def test_only_a_believed_record_of_the_same_flow_corrects(other: dict[str, Any]) -> None:
    one = World(tariff(FREE), subscriber_ids=["a1", "b2"])
    one.activate("plan", "p")
    one.flow(300, "facebook", suspect=True)
    one.flow(**{"volume": 0, "app": "facebook", **other})
    assert one.left("p/data") == 700


def test_ports_that_rested_for_long_may_be_another_flow() -> None:
    one = world(FREE)
    one.flow(300, "facebook", suspect=True)
    end_ms = one.now_ms + 1000
    one.flow(1, "facebook", at=end_ms + SAME_FLOW_MS + 1)
    assert one.left("p/data") == 700
    assert one.account is not None
    assert one.account.provisional == ()


def test_a_closed_period_is_not_corrected() -> None:
    one = World(tariff(FREE), at="2026-03-31 23:59")
    one.activate("plan", "p")
    one.flow(300, "facebook", suspect=True)
    one.flow(1, "facebook", at="2026-04-01 00:01")
    assert not [row for row in one.usage if row.kind == "refund"]


def test_what_has_passed_is_not_blocked_afterwards() -> None:
    gate = {"id": "gate", "gate_status": "closed", "min_confidence": 50, "scope": {"applications": ["facebook"]}}
    one = world(gate)
    one.flow(300, "facebook", suspect=True)
    assert one.flow(5, "facebook").treatment == "blocked"
    assert one.left("p/data") == 700
    assert one.account is not None
    assert one.account.provisional == ()


def test_the_memory_of_doubt_is_bounded_and_the_oldest_stays_charged() -> None:
    one = world(FREE)
    for port in range(MAX_PROVISIONAL + 1):
        one.flow(1, "facebook", suspect=True, subscriber_port=port)
    one.flow(1, "facebook", subscriber_port=0)
    assert one.left("p/data") == 1000 - MAX_PROVISIONAL - 1
    one.flow(1, "facebook", subscriber_port=1)
    assert one.left("p/data") == 1000 - MAX_PROVISIONAL


def test_an_account_without_doubted_flows_keeps_nothing() -> None:
    one = world(FREE)
    one.flow(10, "facebook")
    one.flow(10, "netflix", suspect=True)
    assert one.account is not None
    assert one.account.provisional == ()


def test_the_gateway_hears_when_a_correction_fills_a_bucket() -> None:
    rule = {"id": "lots", "bucket": {"allowance": "data", "state": "available"}}
    one = world(FREE, rule)
    one.flow(1000, "facebook", suspect=True)
    assert "lots" not in one.gates()
    one.flow(1, "facebook")
    assert "lots" in one.gates()


# -- properties


FLOWS = st.lists(
    st.tuples(
        st.sampled_from(["facebook", "netflix", None]), st.integers(0, 900), st.booleans(), st.integers(1, 3),
    ),
    max_size=12,
)  # fmt: skip


@given(flows=FLOWS, prepaid=st.booleans())
def test_octets_and_movements_add_up_whatever_is_corrected(flows: list[Any], *, prepaid: bool) -> None:
    """The world checks after each step that movements are the state and that no bucket leaves 0 to its grant."""
    one = World(tariff(FREE), payment="prepaid" if prepaid else "postpaid")
    one.credit("1")
    one.activate("plan", "p")
    for app, volume, suspect, port in flows:
        one.flow(volume, app, suspect=suspect, subscriber_port=port)
    one.emit()
    plain = [row for row in one.usage if row.corrects is None and row.kind == "usage"]
    assert sum(row.octets for row in plain) == sum(volume for _, volume, _, _ in flows)
    for name in {row.corrects for row in one.usage} - {None}:
        pair = {row.kind: row.octets for row in one.usage if row.corrects == name}
        assert pair["refund"] == pair.get("usage", 0)


@given(volumes=st.lists(st.integers(0, 700), min_size=1, max_size=6))
def test_belief_that_comes_late_costs_what_belief_at_once_costs(volumes: list[int]) -> None:
    late, at_once = world(FREE), world(FREE)
    for volume in volumes:
        late.flow(volume, "facebook", suspect=True)
        at_once.flow(volume, "facebook")
    for one in (late, at_once):
        one.flow(1, "facebook")
    assert (late.money(), late.left("p/data"), late.left("p/pack")) == (
        at_once.money(), at_once.left("p/data"), at_once.left("p/pack"),
    )  # fmt: skip
    assert late.account is not None
    assert at_once.account is not None
    assert late.account.counters == at_once.account.counters
