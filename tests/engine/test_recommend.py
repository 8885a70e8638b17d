"""Recommendations: proven on the account's own usage, or said as what they are."""

from collections.abc import Sequence
from typing import Any

import pytest

from schemas.catalogue import Catalogue
from schemas.classification import Classification
from schemas.command import AccountCommand, ActivateProduct, ChangeProfile, Credit
from services.engine.recommend import MOST, Arrived, History, Recommendation, recommend
from services.engine.simulate import Subscription
from services.engine.tariff import compile_tariff
from tests.engine.world import classification, flow_record, ms

START = ms("2026-03-10 12:00")
MINUTE = 60_000
PLAN = {
    "id": "plan", "name": "Plan", "kind": "base_plan",
    "usage_prices": [{"id": "beyond", "amount": "1", "per_octets": 1_000}],
}  # fmt: skip
APPS = {"netflix": "streaming", "youtube": "streaming", "ownplay": "streaming", "whatsapp": "voip_im"}


def package(name: str, *, fee: str = "1", **parts: Any) -> dict[str, Any]:
    price = [{"id": "fee", "type": "recurring", "amount": fee}]
    return {"id": name, "name": name.title(), "kind": "add_on", "prices": price, **parts}


def volume(octets: int = 10_000, **scope: Any) -> list[dict[str, Any]]:
    return [{"id": "data", "octets": octets, "scope": scope}]


def tariff_of(*packages: dict[str, Any], rules: Sequence[dict[str, Any]] = (), plan: Any = PLAN) -> Catalogue:
    return Catalogue.model_validate(
        {
            "version": "v1",
            "applications": [
                {"id": name, "name": name.title(), "category": category, "own": name == "ownplay"}
                for name, category in APPS.items()
            ],
            "offerings": [plan, *packages],
            "rules": [{"precedence": number, **rule} for number, rule in enumerate(rules)],
        }
    )


def seen(app: str, service: str | None = None) -> Classification:
    return classification(app, service=service, category=APPS[app])


def flows(*usage: tuple[str, int], service: str | None = None) -> list[Arrived]:
    found = []
    for number, (app, octets) in enumerate(usage):
        at = START + number * MINUTE
        flow = flow_record(octets, at_ms=at, end_ms=at + MINUTE, record_id=f"r{number}")
        found.append(Arrived(flow, seen(app, service), at + MINUTE))
    return found


def asked(
    catalogue: Catalogue, usage: list[Arrived], *, commands: Sequence[tuple[AccountCommand, int]] = (), **options: Any
) -> list[Recommendation]:
    applications = {item.id: item for item in catalogue.applications}
    subscription = None if commands else Subscription(("plan",))
    history = History("a1", commands, usage)
    return list(
        recommend(history, compile_tariff(catalogue), applications, subscription=subscription, **options)
    )  # fmt: skip


def names(found: list[Recommendation]) -> list[str]:
    return [item.offering_id for item in found]


def test_a_package_that_saves_is_recommended_with_the_saving_to_the_micro() -> None:
    catalogue = tariff_of(package("video", fee="1.5", allowances=volume(applications=["netflix"])))
    (found,) = asked(catalogue, flows(("netflix", 4_000), ("whatsapp", 1_234)))
    assert (found.offering_id, found.reason, found.saving) == ("video", "saving", "2.5")
    assert (found.present, found.new, found.used_octets) == ("5.234", "2.734", 4_000)
    assert found.text == (
        "would have saved 2.5 EUR on the usage of the recorded period; it would have carried 4.0 kB."
    )  # fmt: skip


@pytest.mark.parametrize(
    ("offered", "why"),
    [
        (package("p", fee="9", allowances=volume()), "it would have cost more"),
        (package("p", allowances=volume(applications=["youtube"])), "it would not be used"),
        (package("p", allowances=volume(rat_types=["NR"])), "its traffic never came over that access"),
        (package("p", allowances=volume(), eligibility={"segments": ["group"]}), "it is for others"),
        (package("p", allowances=volume(), excludes=["plan"]), "it is excluded"),
        (package("p", allowances=volume(), requires=["other"]), "it requires another"),
        (package("p", allowances=volume(), lifecycle_status="retired"), "it is no longer sold"),
        (package("p", allowances=volume(), valid_until_ms=START), "its sale is over"),
        (package("p", allowances=volume(), eligibility={"min_tenure_days": 30}), "the account is too young"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_not_recommended(offered: dict[str, Any], why: str) -> None:
    others = package("other", fee="99")
    assert asked(tariff_of(offered, others), flows(("netflix", 5_000))) == [], why


def test_what_is_held_already_is_not_recommended() -> None:
    catalogue = tariff_of(package("video", allowances=volume(1_000)))
    common: Any = {"version": "1.0", "account_id": "a1", "issued_at_ms": START}
    commands: list[AccountCommand] = [
        ChangeProfile(command_id="c1", **common),
        ActivateProduct(command_id="c2", product_id="p1", offering_id="plan", **common),
    ]
    usage = flows(("netflix", 5_000))
    assert names(asked(catalogue, usage, commands=[(command, START) for command in commands])) == []
    bigger = tariff_of(package("video", allowances=volume(9_000)))
    assert names(asked(bigger, usage, commands=[(command, START) for command in commands])) == ["video"]
    commands.append(ActivateProduct(command_id="c3", product_id="p2", offering_id="video", **common))
    assert names(asked(bigger, usage, commands=[(command, START) for command in commands])) == []


def test_a_bill_that_falls_because_less_passes_is_no_saving() -> None:
    blocking = {**volume(1_000)[0], "on_exhausted": "block"}
    catalogue = tariff_of(package("small", fee="0.5", allowances=[blocking]))
    assert asked(catalogue, flows(("netflix", 5_000))) == []


def test_a_prepaid_account_is_not_sent_what_it_cannot_pay() -> None:
    catalogue = tariff_of(package("video", fee="3", allowances=volume()))
    common: Any = {"version": "1.0", "account_id": "a1", "issued_at_ms": START}
    order = ActivateProduct(command_id="c3", product_id="p1", offering_id="plan", **common)

    def commands(balance: str) -> list[tuple[AccountCommand, int]]:
        first = ChangeProfile(command_id="c1", payment="prepaid", **common)
        return [(first, START), (Credit(command_id="c2", amount=balance, **common), START), (order, START)]

    usage = flows(("netflix", 5_000))
    assert names(asked(catalogue, usage, commands=commands("2"))) == []
    assert names(asked(catalogue, usage, commands=commands("50"))) == ["video"]


def test_at_most_three_are_recommended_the_largest_saving_first() -> None:
    fees = {"a": "0.9", "b": "0.1", "c": "0.5", "d": "0.3", "e": "0.7"}
    catalogue = tariff_of(*(package(name, fee=fee, allowances=volume()) for name, fee in fees.items()))
    assert names(asked(catalogue, flows(("netflix", 5_000)))) == ["b", "d", "c"]
    assert MOST == 3


def test_calls_that_were_blocked_are_a_reason_of_quality_and_its_cost_is_said() -> None:
    plan = {**PLAN, "rules": ["no-calls"]}
    rules = [
        {"id": "calls", "precedence": 1, "scope": {"services": ["call"]}},
        {"id": "no-calls", "precedence": 2, "scope": {"services": ["call"]}, "gate_status": "closed"},
    ]
    catalogue = tariff_of(package("voip", fee="2", rules=["calls"]), rules=rules, plan=plan)
    (found,) = asked(catalogue, flows(("whatsapp", 500), service="call"))
    assert (found.reason, found.saving, found.blocked_octets_change) == ("quality", "-2.5", -500)
    assert "500 B that were blocked would have passed" in found.text
    assert "it would have cost 2.5 EUR more" in found.text


def test_priority_for_what_is_used_is_a_reason_of_quality() -> None:
    rules = [{"id": "fast", "scope": {"categories": ["streaming"]}, "qos": {"five_qi": 6, "mbr_down_bps": 10**7}}]
    catalogue = tariff_of(package("boost", fee="2", rules=["fast"]), rules=rules)
    (found,) = asked(catalogue, flows(("netflix", 3_000)))
    assert (found.reason, found.saving) == ("quality", "-2")
    assert "3.0 kB would have had priority" in found.text
    assert asked(catalogue, flows(("whatsapp", 3_000))) == []


@pytest.mark.parametrize(("fast", "recommended"), [(10, True), (9, False)])
def test_quality_of_less_than_a_hundredth_of_the_usage_is_no_reason(fast: int, recommended: bool) -> None:
    boost = package("boost", fee="2", rules=["fast"])
    rule = {"id": "fast", "scope": {"applications": ["netflix"]}, "qos": {"arp": 2}}
    found = asked(tariff_of(boost, rules=[rule]), flows(("youtube", 1_000 - fast), ("netflix", fast)))
    assert names(found) == (["boost"] if recommended else [])


def test_a_call_that_would_pass_is_a_reason_however_few_its_octets() -> None:
    rules = [{"id": "open", "scope": {"categories": ["voip_im"]}},
             {"id": "shut", "scope": {"categories": ["voip_im"]}, "gate_status": "closed"}]  # fmt: skip
    made = tariff_of(package("calls", rules=["open"]), rules=rules, plan={**PLAN, "rules": ["shut"]})
    first = flows(("youtube", 100_000))
    calls, chats = (flows(("youtube", 100_000), ("whatsapp", 10), service=service) for service in ("call", "chat"))
    assert names(asked(made, [first[0], calls[1]])) == ["calls"]
    assert names(asked(made, [first[0], chats[1]])) == []


def test_savings_come_before_quality() -> None:
    rules = [{"id": "fast", "qos": {"five_qi": 6}}]
    boost = package("a-boost", fee="0", rules=["fast"])
    catalogue = tariff_of(boost, package("z-volume", allowances=volume()), rules=rules)
    found = asked(catalogue, flows(("netflix", 3_000)))
    assert [(item.offering_id, item.reason) for item in found] == [("z-volume", "saving"), ("a-boost", "quality")]


OWN = package("own", fee="2", allowances=volume(applications=["ownplay"]))


def test_an_own_service_is_recommended_only_where_the_operator_steers_and_is_said() -> None:
    catalogue = tariff_of(OWN)
    usage = flows(("netflix", 3_000))
    assert asked(catalogue, usage) == []
    (found,) = asked(catalogue, usage, steer_own=True)
    assert (found.reason, found.saving, found.own_services) == ("own_service", "-2", ("ownplay",))
    assert found.text == (
        "it would have cost 2 EUR more; it is for Ownplay, a service of the operator's own."
    )  # fmt: skip


def test_an_own_service_is_not_recommended_to_whoever_uses_nothing_of_its_kind() -> None:
    assert asked(tariff_of(OWN), flows(("whatsapp", 3_000)), steer_own=True) == []


def test_an_own_service_that_saves_is_marked_without_steering_and_first_with_it() -> None:
    catalogue = tariff_of(OWN, package("all", fee="1", allowances=volume(90_000, categories=["streaming"])))
    usage = flows(("ownplay", 5_000))
    plain, steered = asked(catalogue, usage), asked(catalogue, usage, steer_own=True)
    assert names(plain) == ["all", "own"]
    assert names(steered) == ["own", "all"]
    for found in (*plain, *steered):
        assert ("a service of the operator's own" in found.text) == (found.offering_id == "own")


def test_a_package_that_is_new_on_sale_is_tried_on_usage_before_and_one_that_is_not_is_no_advice() -> None:
    usage = flows(("netflix", 5_000), ("netflix", 5_000))
    new = package("new", allowances=volume(), valid_from_ms=START + MINUTE)
    assert names(asked(tariff_of(new), usage)) == ["new"]
    assert names(asked(tariff_of({**new, "valid_from_ms": START + 9 * MINUTE}), usage)) == []


def test_who_holds_a_plan_that_is_off_sale_is_advised_by_what_it_costs() -> None:
    plan = {**PLAN, "lifecycle_status": "retired"}
    found = asked(tariff_of(package("more", allowances=volume()), plan=plan), flows(("netflix", 5_000)))
    assert [(item.offering_id, item.saving) for item in found] == [("more", "4")]


def test_a_trial_does_not_pass_for_the_price() -> None:
    catalogue = tariff_of(package("video", fee="9", trial_days=30, allowances=volume()))
    assert asked(catalogue, flows(("netflix", 5_000))) == []


def test_what_happened_between_the_flows_happens_in_the_run_again() -> None:
    catalogue = tariff_of(package("video", allowances=volume()))
    common: Any = {"version": "1.0", "account_id": "a1"}
    commands: list[tuple[AccountCommand, int]] = [
        (ChangeProfile(command_id="c1", issued_at_ms=START, **common), START),
        (ActivateProduct(command_id="c2", product_id="p1", offering_id="plan", issued_at_ms=START, **common), START),
        (Credit(command_id="c3", amount="5", issued_at_ms=START + 90_000, **common), START + 90_000),
        (Credit(command_id="c4", amount="5", issued_at_ms=START + 10**9, **common), START + 10**9),
    ]
    (found,) = asked(catalogue, flows(("netflix", 2_000), ("netflix", 1_000), ("netflix", 1_000)), commands=commands)
    assert (found.saving, found.present) == ("3", "4")


def test_an_account_without_flows_or_that_nobody_knows_gets_none() -> None:
    catalogue = tariff_of(package("video", allowances=volume()))
    assert asked(catalogue, []) == []
    stranger = History("a1", (), flows(("netflix", 5_000)))
    assert recommend(stranger, compile_tariff(catalogue), {}) == ()


def test_the_same_history_gives_the_same_recommendations() -> None:
    catalogue = tariff_of(*(package(f"p{n}", allowances=volume(n * 1_000)) for n in range(1, 7)))
    usage = flows(*((app, 700) for app in ("netflix", "youtube", "whatsapp") * 3))
    assert asked(catalogue, usage) == asked(catalogue, usage)
