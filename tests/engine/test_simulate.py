"""Two tariffs over the same records: figures that can be checked by hand."""

from typing import Any

import msgspec
import pytest

from schemas.catalogue import Application, Catalogue
from schemas.command import ActivateProduct, ChangeProfile, CorrectedUsage, RefundUsage, RerateUsage, VoidUsage
from services.engine.classify import Classifier
from services.engine.simulate import (
    Clock,
    Run,
    Side,
    Simulation,
    SimulationError,
    Subscription,
)
from services.engine.simulate_report import SimulationReport, report_of
from services.engine.tariff import compile_tariff
from tests.engine.world import classification, flow_record, ms

DAY = 86_400_000
START = ms("2026-03-10 12:00")
APPLICATIONS = [
    {"id": "talk", "name": "Talk", "category": "voip_im",
     "pfds": [{"pfd_id": "names", "domain_names": ["talk.com"]},
              {"pfd_id": "calls", "service": "call", "domain_names": ["call.talk.com"]}]},
    {"id": "tube", "name": "Tube", "category": "streaming",
     "pfds": [{"pfd_id": "names", "domain_names": ["tube.com"]}]},
]  # fmt: skip


def catalogue(
    version: str,
    *,
    fee: str = "10",
    price: str = "1",
    granted: int | str = 1_000,
    rules: Any = (),
    campaigns: Any = (),
    **offering: Any,
) -> Catalogue:
    plan = {
        "id": "plan", "name": "Plan", "kind": "base_plan",
        "prices": [{"id": "fee", "type": "recurring", "amount": fee}],
        "allowances": [{"id": "data", "octets": granted}],
        "usage_prices": [{"id": "beyond", "amount": price, "per_octets": 1_000, "cap": "5"}],
        "rules": [rule["id"] for rule in rules],
        **offering,
    }  # fmt: skip
    return Catalogue.model_validate(
        {"version": version, "applications": APPLICATIONS, "offerings": [plan], "rules": rules, "campaigns": campaigns}
    )


def side(made: Catalogue) -> Side:
    return Side(compile_tariff(made), Classifier(made.applications, cache_entries=100))


def simulation(present: Catalogue, new: Catalogue, **options: Any) -> Simulation:
    return Simulation(side(present), side(new), **{"subscription": Subscription(("plan",)), **options})


def play(made: Simulation, *flows: Any, by: Any = "segment", top: int = 10) -> SimulationReport:
    for number, (account, name, volume) in enumerate(flows):
        at = START + number * 1_000
        flow = flow_record(
            volume, at_ms=at, subscriber_id=account, record_id=f"r{number}", server_name=name
        )  # fmt: skip
        made.flow(flow, arrived_ms=flow.end_ms)
    made.close()
    return report_of(made, by=by, top=top)


def test_a_dearer_fee_and_a_cheaper_octet_are_told_apart_by_category() -> None:
    report = play(
        simulation(catalogue("v1"), catalogue("v2", fee="12", price="0.5")),
        ("a", "tube.com", 2_000),
        ("a", "talk.com", 3_000),
        ("b", "talk.com", 500),
    )
    revenue = {(group.group, group.category): (group.present.revenue, group.new.revenue) for group in report.groups}
    assert revenue == {
        ("individual", "fees"): ("20", "24"),
        ("individual", "streaming"): ("1", "0.5"),
        ("individual", "voip_im"): ("3", "1.5"),
    }
    assert (report.total_present.revenue, report.total_new.revenue, report.revenue_change) == ("24", "26", "2")
    assert (report.flows, report.accounts, report.present_version, report.new_version) == (3, 2, "v1", "v2")


def test_winners_and_losers_are_named_by_how_much_and_counted_beyond_the_top() -> None:
    flows = [(name, "tube.com", volume) for name, volume in (("a", 5_000), ("b", 3_000), ("c", 1_000), ("d", 1_000))]
    report = play(simulation(catalogue("v1"), catalogue("v2", fee="11", price="0.2")), *flows, top=1)
    assert [(item.account_id, item.present, item.new, item.change) for item in report.winners] == [
        ("a", "14", "11.8", "-2.2")
    ]
    assert [(item.account_id, item.change) for item in report.losers] == [("c", "1")]
    assert (report.winning_accounts, report.losing_accounts, report.accounts) == (2, 2, 4)


def test_blocked_calls_and_caps_are_counted_where_they_happen() -> None:
    barred = {"id": "barred", "precedence": 1, "scope": {"services": ["call"]}, "gate_status": "closed"}
    report = play(
        simulation(catalogue("v1"), catalogue("v2", rules=[barred])),
        ("a", "call.talk.com", 700),
        ("a", "call.talk.com", 300),
        ("a", "talk.com", 300),
        ("a", "tube.com", 9_000),
    )
    groups = {group.category: group for group in report.groups}
    assert (groups["voip_im"].present.blocked_calls, groups["voip_im"].new.blocked_calls) == (0, 2)
    assert (groups["voip_im"].present.blocked_octets, groups["voip_im"].new.blocked_octets) == (0, 1_000)
    assert (groups["streaming"].present.caps_reached, groups["streaming"].new.caps_reached) == (1, 1)
    assert report.losers == ()


def test_octets_beyond_a_throttling_bucket_and_under_a_rate_limit_are_throttled() -> None:
    slow = {"id": "slow", "precedence": 1, "scope": {"applications": ["tube"]}, "qos": {"mbr_down_bps": 1_000}}
    allowances = [{"id": "data", "octets": 1_000, "on_exhausted": "throttle"}]
    new = catalogue("v2", rules=[slow], allowances=allowances)
    report = play(simulation(catalogue("v1"), new), ("a", "tube.com", 600), ("a", "talk.com", 900))
    throttled = {group.category: group.new.throttled_octets for group in report.groups}
    assert throttled == {"fees": 0, "streaming": 600, "voip_im": 500}
    assert report.total_present.throttled_octets == 0


def test_a_free_rest_beyond_a_cap_is_not_throttled() -> None:
    prices = [{"id": "beyond", "amount": "1", "per_octets": 1_000, "cap": "2", "on_cap": "free"}]
    new = catalogue("v2", usage_prices=prices)
    report = play(simulation(catalogue("v1"), new), ("a", "tube.com", 4_000), ("a", "tube.com", 4_000))
    assert (report.total_new.free_octets, report.total_new.throttled_octets) == (5_000, 0)


def test_a_campaigns_budget_ends_in_a_simulation_as_it_would_in_the_lanes() -> None:
    paid = {
        "id": "paid",
        "precedence": 1,
        "scope": {"applications": ["tube"]},
        "charging": "sponsored",
        "campaign": "c",
    }
    new = catalogue("v2", rules=[paid], campaigns=[{"id": "c", "sponsor_id": "tube", "budget": {"octets": 1_000}}])
    report = play(simulation(catalogue("v1"), new), ("a", "tube.com", 700), ("b", "tube.com", 700))
    streaming = next(group.new for group in report.groups if group.category == "streaming")
    assert (streaming.sponsored_octets, streaming.charged_octets) == (1_000, 400)


def test_every_octet_of_the_recording_is_in_the_figures_of_both() -> None:
    flows = [(f"s{number % 7}", ("tube.com", "talk.com", "x.org")[number % 3], number * 37) for number in range(200)]
    report = play(simulation(catalogue("v1"), catalogue("v2", granted=50)), *flows)
    recorded = sum(volume for _, _, volume in flows)
    for total in (report.total_present, report.total_new):
        parts = total.charged_octets + total.free_octets + total.sponsored_octets + total.blocked_octets
        assert parts + total.not_charged_octets == total.octets == recorded
        assert total.flows == 200


def test_what_a_correction_takes_back_and_charges_again_is_counted_once() -> None:
    free = {"id": "free", "precedence": 1, "scope": {"applications": ["tube"]}, "charging": "free"}
    run = Run(compile_tariff(catalogue("v1", rules=[free])), subscription=Subscription(("plan",)))
    doubtful = classification("tube", category="streaming", confidence=95, suspect=True)
    for number, seen in enumerate((doubtful, classification("tube", category="streaming", confidence=95))):
        at = START + number * 1_000
        flow = flow_record(400, at_ms=at, subscriber_id="a", record_id=f"r{number}", server_name="tube.com")
        run.flow(flow, seen, now_ms=flow.end_ms)
    run.close(START + 5_000)
    total = run.total()
    assert (total.flows, total.octets, total.charged_octets, total.free_octets) == (2, 800, 0, 800)
    assert {category: group.octets for (_, category), group in run.groups.items() if group.octets} == {"streaming": 800}


def test_the_same_records_give_the_same_report() -> None:
    flows = [(f"s{number % 5}", "tube.com", number * 91) for number in range(100)]
    one, two = (play(simulation(catalogue("v1"), catalogue("v2", price="3")), *flows) for _ in range(2))
    assert msgspec.json.encode(one) == msgspec.json.encode(two)


def test_a_tariff_beside_itself_changes_nothing() -> None:
    flows = [(f"s{number % 5}", "tube.com", number * 91) for number in range(50)]
    report = play(simulation(catalogue("v1"), catalogue("v1")), *flows)
    assert report.total_present == report.total_new
    assert (report.revenue_change, report.winners, report.losers) == ("0", (), ())


def test_time_passes_for_all_accounts_up_to_the_end_of_the_recording() -> None:
    made = simulation(catalogue("v1"), catalogue("v2", fee="12"))
    for account, at in (("a", START), ("b", START), ("b", START + 30 * DAY)):
        made.flow(flow_record(10, at_ms=at, subscriber_id=account, server_name="tube.com"), arrived_ms=at + 1_000)
    made.close()
    # April has begun: the fee is due for the second time, also for the account whose flows have ended.
    assert (report_of(made).total_present.revenue, report_of(made).total_new.revenue) == ("40", "48")


def test_flows_of_unknown_accounts_are_counted_and_charged_to_nobody() -> None:
    report = play(simulation(catalogue("v1"), catalogue("v2"), subscription=None), ("a", "tube.com", 1_000))
    assert (report.unknown_account_flows, report.flows, report.accounts) == (1, 0, 0)


def test_recorded_commands_say_what_an_account_holds_and_what_stands_in_its_place() -> None:
    two_plans = catalogue("v2").model_dump(mode="json")
    two_plans["offerings"] = [{**two_plans["offerings"][0], "id": "better", "name": "Better"}]
    made = simulation(
        catalogue("v1"), Catalogue.model_validate(two_plans), subscription=None, instead={"plan": "better"}
    )  # fmt: skip
    common = {"version": "1.0", "account_id": "a", "issued_at_ms": START - DAY}
    made.command(ChangeProfile(command_id="c1", segment="group", **common), arrived_ms=START - DAY)
    order = ActivateProduct(command_id="c2", product_id="p", offering_id="plan", **common)
    made.command(order, arrived_ms=START - DAY)
    report = play(made, ("a", "tube.com", 2_000))
    assert (report.total_present.revenue, report.total_new.revenue) == ("11", "11")
    assert {group.group for group in report.groups} == {"group"}
    held = made.new.account("a")
    assert held is not None
    assert held.products[0].offering_id == "better"


@pytest.mark.parametrize(
    "sale", [{"lifecycle_status": "retired"}, {"lifecycle_status": "in_study"}, {"valid_until_ms": START},
             {"valid_from_ms": START + 99 * DAY}],
)  # fmt: skip
def test_what_is_off_sale_serves_whoever_has_it_and_what_comes_is_tried(sale: dict[str, Any]) -> None:
    made = simulation(catalogue("v1"), catalogue("v2", **sale), subscription=None)
    common = {"version": "1.0", "account_id": "a", "issued_at_ms": START}
    made.command(ChangeProfile(command_id="c1", **common), arrived_ms=START)
    order = ActivateProduct(command_id="c2", product_id="p", offering_id="plan", **common)
    made.command(order, arrived_ms=START)
    report = play(made, ("a", "tube.com", 2_000))
    assert (report.refused_commands_new, report.total_new) == ({}, report.total_present)


def test_what_the_new_tariff_refuses_is_counted_by_cause() -> None:
    for_others = catalogue("v2", eligibility={"segments": ["group"]})
    made = simulation(catalogue("v1"), for_others, subscription=None)
    common = {"version": "1.0", "account_id": "a", "issued_at_ms": START}
    made.command(ChangeProfile(command_id="c1", **common), arrived_ms=START)
    order = ActivateProduct(command_id="c2", product_id="p", offering_id="plan", **common)
    made.command(order, arrived_ms=START)
    report = play(made, ("a", "tube.com", 2_000))
    assert (report.refused_commands_present, report.refused_commands_new) == ({}, {"not_eligible": 1})
    assert report.total_new.blocked_octets == 2_000
    assert report.winners[0].blocked_octets_change == 2_000
    assert (report.restricted_accounts, report.winning_accounts_restricted) == (1, 1)


def test_corrections_of_what_was_charged_then_are_left_out_and_counted() -> None:
    made = simulation(catalogue("v1"), catalogue("v2", price="3"))
    play(made, ("a", "tube.com", 2_000))
    line = CorrectedUsage(
        usage_id="f-0-0-0-0", subscriber_id="a", start_ms=START, end_ms=START, category="streaming",
        catalogue_version="v1", record_count=1, charged_octets=1_000, amount="1", price_id="beyond",
    )  # fmt: skip
    common = {"version": "1.0", "account_id": "a", "issued_at_ms": START + 5_000}
    for order in (
        RefundUsage(command_id="c1", line=line, amount="1", **common),
        VoidUsage(command_id="c2", line=line, reclassified=0, **common),
        RerateUsage(command_id="c3", lines=(line,), reclassified=0, **common),
    ):
        made.command(order, arrived_ms=START + 5_000)
    made.close()
    report = report_of(made)
    assert report.refused_commands_present == report.refused_commands_new == {"correction": 3}
    assert (report.total_present.revenue, report.total_new.revenue) == ("11", "13")


def test_what_is_kept_of_an_account_does_not_grow_with_its_flows() -> None:
    run = Run(compile_tariff(catalogue("v1", granted="1 GB")), subscription=Subscription(("plan",)))
    kept = []
    for number in range(2_000):
        seen = classification(("tube", "talk")[number % 2], category="streaming", service=f"s{number % 40}")
        flow = flow_record(10, at_ms=START + number * 1_000, subscriber_id="a", record_id=f"r{number}")
        run.flow(flow, seen, now_ms=flow.end_ms)
        if number in (200, 1_999):
            kept.append((len(run._accounts["a"]), len(run.bills), len(run.groups), len(run.overshoot._heard)))
    # The numbers in it have more digits, and nothing else is new.
    assert kept[1][0] <= kept[0][0] + 32
    assert kept[0][1:] == kept[1][1:]


def test_a_plan_that_cannot_be_subscribed_to_says_why() -> None:
    made = simulation(catalogue("v1"), catalogue("v2"), subscription=Subscription(("gone",)))
    with pytest.raises(SimulationError, match=r"--subscribe: catalogue v1 refuses it: .*'gone'"):
        play(made, ("a", "tube.com", 1))


def test_two_currencies_cannot_be_compared() -> None:
    dollars = catalogue("v2").model_copy(update={"currency": "USD"})
    with pytest.raises(SimulationError, match="EUR and USD differ"):
        simulation(catalogue("v1"), dollars)


def test_applications_of_each_catalogue_are_seen_with_its_own_eyes() -> None:
    renamed = catalogue("v2").model_dump(mode="json")
    renamed["applications"] = [
        Application(id="tube", name="Tube", category="social", pfds=APPLICATIONS[1]["pfds"])  # type: ignore[arg-type]
    ]
    report = play(simulation(catalogue("v1"), Catalogue.model_validate(renamed)), ("a", "tube.com", 500))
    assert {group.category: (group.present.octets, group.new.octets) for group in report.groups} == {
        "fees": (0, 0), "streaming": (500, 0), "social": (0, 500),
    }  # fmt: skip


def test_figures_can_be_grouped_by_another_part_of_the_profile() -> None:
    report = play(simulation(catalogue("v1"), catalogue("v2"), by="payment"), ("a", "tube.com", 500), by="payment")
    assert {group.group for group in report.groups} == {"postpaid"}
    assert report.grouped_by == "payment"


@pytest.mark.parametrize(
    ("stated", "arrived"),
    [
        ([START, START + 5, START + 3], [START, START + 5, START + 5]),
        ([START, START + 90 * DAY, START + 5], [START, START, START + 5]),
        ([START, START + 90 * DAY, START + 90 * DAY + 1], [START, START, START + 90 * DAY + 1]),
        ([START, START + DAY], [START, START + DAY]),
    ],
    ids=["never back", "one broken clock", "a gap in the recording", "a day is no leap"],
)
def test_the_clock_of_a_recording(stated: list[int], arrived: list[int]) -> None:
    clock = Clock()
    assert [clock.tick(at) for at in stated] == arrived
