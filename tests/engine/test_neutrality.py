"""What a tariff does to some applications of a category and not to the others."""

from typing import Any

import pytest

from schemas.catalogue import Catalogue
from schemas.fields import MAX_CONGESTION
from services.engine.neutrality import MAX_OTHERS, NeutralityReport, neutrality

APPS = {"netflix": "streaming", "youtube": "streaming", "opticaltv": "streaming", "whatsapp": "voip_im"}


def made(*rules: dict[str, Any], **offering: Any) -> Catalogue:
    return Catalogue.model_validate(
        {
            "version": "v1",
            "applications": [
                {"id": name, "name": name, "category": category, "own": name == "opticaltv"}
                for name, category in APPS.items()
            ],
            "campaigns": [{"id": "c", "sponsor_id": "studio"}],
            "rules": [{"precedence": number, **rule} for number, rule in enumerate(rules)],
            "offerings": [
                {"id": "pack", "name": "Pack", "kind": "add_on", "rules": [rule["id"] for rule in rules], **offering}
            ],
        }
    )


def rows(report: NeutralityReport) -> list[tuple[str, str, str, tuple[str, ...], int]]:
    return [
        (item.category, item.kind, item.by, tuple(app.id for app in item.applications), item.others_count)
        for item in report.unequal
    ]


@pytest.mark.parametrize(
    ("rule", "kinds"),
    [
        ({"charging": "free"}, ["zero_rated"]),
        ({"charging": "sponsored", "campaign": "c"}, ["sponsored"]),
        ({"gate_status": "closed"}, ["blocked"]),
        ({"gate_status": "closed", "charging": "free"}, ["blocked"]),
        ({"qos": {"mbr_down_bps": 1_000}}, ["throttled"]),
        ({"qos": {"five_qi": 6, "mbr_down_bps": 1_000}}, ["boosted"]),
        ({"qos": {"gbr_up_bps": 1_000}}, ["boosted"]),
        ({"charging": "free", "qos": {"mbr_up_bps": 1_000}}, ["throttled", "zero_rated"]),
        ({"steering": "wlan_only"}, ["steered"]),
        ({"redirect_url": "https://example.com/top-up"}, ["steered"]),
        ({"rating_group": 30}, []),
        ({"qos": {}}, []),
    ],
)
def test_what_a_rule_does_to_a_named_application(rule: dict[str, Any], kinds: list[str]) -> None:
    report = neutrality(made({"id": "r", "scope": {"applications": ["netflix"]}, **rule}))
    assert rows(report) == [("streaming", kind, "rule r", ("netflix",), 2) for kind in kinds]
    assert report.equal == ()


@pytest.mark.parametrize(
    ("qos", "effect"),
    [
        ({"mbr_up_bps": 256_000, "mbr_down_bps": 1_000_000}, "at most 256 kbit/s up, at most 1 Mbit/s down"),
        ({"five_qi": 6, "arp": 8, "mbr_down_bps": 1_500}, "5QI 6, ARP 8, at most 1500 bit/s down"),
        ({"gbr_down_bps": 2_000_000_000}, "at least 2 Gbit/s down"),
    ],
)
def test_a_quality_is_told_in_units_for_people(qos: dict[str, int], effect: str) -> None:
    (item,) = neutrality(made({"id": "r", "scope": {"applications": ["netflix"]}, "qos": qos})).unequal
    assert item.effect == effect


def test_whoever_is_left_out_is_named_and_own_services_are_marked() -> None:
    report = neutrality(made({"id": "r", "scope": {"applications": ["opticaltv"]}, "charging": "free"}))
    (item,) = report.unequal
    assert [(app.id, app.own) for app in item.applications] == [("opticaltv", True)]
    assert [(app.id, app.own) for app in item.others] == [("netflix", False), ("youtube", False)]
    assert item.offerings == ("pack",)


def test_a_rule_for_a_whole_category_treats_its_applications_alike() -> None:
    report = neutrality(made({"id": "r", "scope": {"categories": ["streaming"], "rat_types": ["NR"]},
                              "charging": "free"}, {"id": "all", "qos": {"mbr_down_bps": 9}}))  # fmt: skip
    assert report.unequal == ()
    assert [(item.category, item.kind, item.by, item.conditions) for item in report.equal] == [
        ("all", "throttled", "rule all", ()), ("streaming", "zero_rated", "rule r", ("rat_types NR",)),
    ]  # fmt: skip


def test_naming_all_applications_of_a_category_leaves_out_nobody_that_is_known_and_is_said() -> None:
    everyone = {"applications": ["netflix", "youtube", "opticaltv"]}
    report = neutrality(made({"id": "r", "scope": everyone, "charging": "free"}))
    assert report.unequal == ()
    (item,) = report.equal
    assert (item.category, item.kind, item.by) == ("streaming", "zero_rated", "rule r")
    assert item.conditions == ("by name: opticaltv*, netflix, youtube, all of the category that the catalogue knows",)


def test_a_service_that_is_rated_in_another_category_is_a_row_there() -> None:
    body = made({"id": "r", "scope": {"applications": ["youtube"], "categories": ["voip_im"]}, "charging": "free"})
    raw = body.model_dump(mode="json")
    raw["applications"][1]["pfds"] = [
        {"pfd_id": "p", "service": "call", "category": "voip_im", "domain_names": ["call.example.com"]}
    ]
    report = neutrality(Catalogue.model_validate(raw))
    assert rows(report) == [("voip_im", "zero_rated", "rule r", ("youtube",), 1)]
    # What is for all of an application is for its calls, too, and not for others' calls.
    raw["rules"][0]["scope"]["categories"] = []
    report = neutrality(Catalogue.model_validate(raw))
    assert rows(report) == [
        ("streaming", "zero_rated", "rule r", ("youtube",), 2), ("voip_im", "zero_rated", "rule r", ("youtube",), 1),
    ]  # fmt: skip
    assert [item.conditions for item in report.unequal] == [(), ("through call",)]


def test_own_services_are_listed_with_what_is_done_to_them_and_without_it() -> None:
    (service,) = neutrality(made()).own
    assert (service.id, service.category, service.treated) == ("opticaltv", "streaming", ())
    report = neutrality(
        made(
            {"id": "r", "scope": {"applications": ["opticaltv"]}, "charging": "free", "qos": {"arp": 3}},
            allowances=[{"id": "a", "octets": 1, "scope": {"applications": ["opticaltv"]}}],
        )
    )
    assert report.own[0].treated == (
        "zero_rated by rule r", "boosted by rule r", "own_volume by allowance pack/a",
    )  # fmt: skip


def test_what_a_rule_asks_besides_its_scope_is_among_the_conditions() -> None:
    rule = {
        "id": "r", "scope": {"applications": ["netflix"]}, "qos": {"mbr_down_bps": 9}, "min_congestion": 3,
        "bucket": {"allowance": "a", "state": "used", "percent": 80}, "spend": {"at_least": "5"}, "suspect": "never",
        "subscribers": {"segments": ["group"], "min_tenure_days": 30},
    }  # fmt: skip
    (item,) = neutrality(made(rule, allowances=[{"id": "a", "octets": 1}])).unequal
    assert item.conditions == (
        "allowance a used at 80 %", "spent from 5", f"congestion 3-{MAX_CONGESTION}", "suspect never",
        "segments group", "min_tenure_days 30",
    )  # fmt: skip


def test_money_connections_tiers_and_ends_are_told_as_they_are() -> None:
    only = {"applications": ["netflix"]}
    report = neutrality(
        made(
            allowances=[{"id": "v", "octets": "1 GB", "scope": only, "on_exhausted": "throttle"}],
            money_allowances=[{"id": "m", "amount": "3", "scope": only}],
            usage_prices=[
                {"id": "c", "unit": "connection", "amount": "0.01", "scope": only},
                {"id": "t", "amount": "2", "per_octets": "1 GB", "tiers": [{"above": 9, "amount": "1"}], "cap": "8",
                 "on_cap": "free", "scope": only},
            ],
        )
    )  # fmt: skip
    assert {item.by: (item.kind, item.effect) for item in report.unequal} == {
        "allowance pack/v": ("own_volume", "1.0 GB of its own, then free at a low rate"),
        "money allowance pack/m": ("own_credit", "3 EUR that pays for it"),
        "price pack/c": ("own_price", "0.01 EUR for a connection"),
        "price pack/t": ("own_price", "2 EUR for 1.0 GB, down to 1; at most 8 a cycle, then free"),
    }


def test_a_rule_over_two_categories_is_a_row_in_each_that_has_others() -> None:
    both = {"applications": ["netflix", "whatsapp", "youtube"]}
    report = neutrality(made({"id": "r", "scope": both, "charging": "free"}))
    assert rows(report) == [("streaming", "zero_rated", "rule r", ("netflix", "youtube"), 1)]
    assert [(item.category, item.by) for item in report.equal] == [("voip_im", "rule r")]


def test_a_volume_and_a_price_of_its_own_are_named_with_their_offering() -> None:
    report = neutrality(
        made(
            allowances=[
                {"id": "a", "octets": "5 GB", "scope": {"applications": ["netflix"]}}, {"id": "b", "octets": 1},
            ],
            usage_prices=[{"id": "p", "amount": "0.5", "scope": {
                "applications": ["youtube"], "services": ["live"], "windows": [{"days": ["sat"], "start": "20:00"}]}}],
        )
    )  # fmt: skip
    assert [(item.kind, item.by, item.effect, item.conditions) for item in report.unequal] == [
        ("own_price", "price pack/p", "0.5 EUR for 1.0 MB", ("services live", "windows sat 20:00-24:00")),
        ("own_volume", "allowance pack/a", "5.0 GB of its own", ()),
    ]
    assert report.equal == ()


def test_a_rule_that_no_offering_brings_does_nothing() -> None:
    report = neutrality(made({"id": "r", "scope": {"applications": ["netflix"]}, "charging": "free"}, rules=[]))
    assert (report.unequal, report.equal) == ((), ())


def test_a_large_category_is_counted_and_not_written_out() -> None:
    body = made({"id": "r", "scope": {"applications": ["netflix"]}, "charging": "free"}).model_dump(mode="json")
    body["applications"] += [{"id": f"a{n}", "name": "A", "category": "streaming"} for n in range(50)]
    (item,) = neutrality(Catalogue.model_validate(body)).unequal
    assert (item.others_count, len(item.others), item.others[0].id) == (52, MAX_OTHERS, "opticaltv")


def served(*rules: dict[str, Any], services: dict[str, str], provider: str = "", **offering: Any) -> Catalogue:
    """A catalogue whose applications have these services."""
    raw = made(*rules, **offering).model_dump(mode="json")
    for item in raw["applications"]:
        if item["id"] in services:
            pfd = {"pfd_id": "p", "service": services[item["id"]], "domain_names": [f"{item['id']}.example"]}
            item.update(pfds=[pfd], provider=provider)
    return Catalogue.model_validate(raw)


LIVE = {"id": "r", "scope": {"categories": ["streaming"], "services": ["live"]}, "charging": "free"}


def test_a_service_that_one_application_alone_has_is_that_application() -> None:
    report = neutrality(served(LIVE, services={"opticaltv": "live"}))
    assert rows(report) == [("streaming", "zero_rated", "rule r", ("opticaltv",), 2)]
    assert report.unequal[0].conditions == ("services live",)
    assert report.own[0].treated == ("zero_rated by rule r",)


def test_a_service_of_one_provider_is_that_providers() -> None:
    services = {"netflix": "live", "youtube": "live"}
    report = neutrality(served(LIVE, services=services, provider="Studio"))
    assert rows(report) == [("streaming", "zero_rated", "rule r", ("netflix", "youtube"), 1)]


def test_a_service_of_several_providers_is_a_kind_of_traffic_and_who_has_it_is_counted() -> None:
    report = neutrality(served(LIVE, services={"netflix": "live", "youtube": "live"}))
    assert report.unequal == ()
    assert [item.conditions for item in report.equal] == [
        ("services live", "2 of 4 applications have such a service"),
    ]  # fmt: skip


def test_what_anybody_can_have_is_no_service_of_anybodys_own() -> None:
    rule = {**LIVE, "scope": {"services": ["upload"]}}
    (item,) = neutrality(served(rule, services={})).equal
    assert (item.category, item.conditions) == ("all", ("services upload",))


@pytest.mark.parametrize(
    ("field", "part", "kind"),
    [
        ("allowances", {"octets": 5}, "own_volume"),
        ("usage_prices", {"amount": 1}, "own_price"),
        ("usage_prices", {"amount": 1, "unit": "connection"}, "own_price"),
        ("usage_prices", {"amount": 0}, "zero_rated"),
        ("usage_prices", {"amount": 0, "tiers": [{"above": 9, "amount": 1}]}, "own_price"),
        ("usage_prices", {"amount": 1, "cap": 0, "on_cap": "free"}, "zero_rated"),
        ("usage_prices", {"amount": 1, "cap": 0}, "own_price"),
        ("money_allowances", {"amount": 1}, "own_credit"),
    ],
)
def test_what_is_for_a_service_that_one_alone_has_is_told_whatever_it_is(
    field: str, part: dict[str, Any], kind: str
) -> None:
    found = served(services={"netflix": "live"}, **{field: [{"id": "a", "scope": {"services": ["live"]}, **part}]})
    assert [(row[1], row[3]) for row in rows(neutrality(found))] == [(kind, ("netflix",))]


WIDE = {"id": "wide", "scope": {"categories": ["streaming"]}, "charging": "free"}
ALONE = {"id": "alone", "scope": {"applications": ["netflix"]}}


def test_whoever_is_taken_out_of_a_rule_for_all_by_one_that_is_asked_before_is_told() -> None:
    (item,) = neutrality(made(ALONE, WIDE)).unequal
    assert (item.category, item.kind, item.by, item.others_count) == ("streaming", "left_out", "rule alone", 2)
    assert [app.id for app in item.applications] == ["netflix"]
    assert item.effect == "asked before rule wide, and does not do what that does: free of charge"


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ((WIDE, ALONE), "it is asked after it"),
        (({**ALONE, "charging": "free"}, WIDE), "it does the same"),
        (({**ALONE, "scope": {"applications": ["whatsapp"]}}, WIDE), "it is for other traffic"),
        (
            ({**ALONE, "scope": {"applications": ["netflix"], "windows": [{"days": ["mon"]}]}},
             {**WIDE, "scope": {"categories": ["streaming"], "windows": [{"days": ["sun"]}]}}), "it is for other times"
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_rule_that_takes_nobody_out_of_another_is_not_told(rules: tuple[dict[str, Any], ...], why: str) -> None:
    assert not [item for item in neutrality(made(*rules)).unequal if item.kind == "left_out"], why


def test_rules_that_no_account_can_hold_together_take_nobody_out() -> None:
    raw = made(ALONE, WIDE).model_dump(mode="json")
    plans = [{"id": name, "name": name, "kind": "base_plan", "rules": [name]} for name in ("alone", "wide")]
    assert neutrality(Catalogue.model_validate({**raw, "offerings": plans})).unequal == ()
    plans[0]["kind"] = "add_on"
    assert rows(neutrality(Catalogue.model_validate({**raw, "offerings": plans})))


def test_an_opening_for_one_in_a_gate_that_is_closed_for_all_is_told() -> None:
    (item,) = neutrality(made(ALONE, {**WIDE, "charging": "charge", "gate_status": "closed"})).unequal
    assert item.effect == "asked before rule wide, and does not do what that does: does not pass"


def test_whom_an_offering_is_for_and_what_evidence_a_rule_wants_are_conditions() -> None:
    rule = {"id": "r", "scope": {"applications": ["netflix"]}, "charging": "free", "min_confidence": 60}
    (item,) = neutrality(made(rule, eligibility={"tiers": ["gold"], "payments": ["postpaid"]})).unequal
    assert item.conditions == ("confidence from 60", "pack for payments postpaid", "pack for tiers gold")


def test_a_budget_that_closes_the_gate_and_a_page_behind_a_closed_gate_are_told() -> None:
    raw = made({"id": "r", "scope": {"applications": ["netflix"]}, "charging": "sponsored", "campaign": "c"},
               {"id": "s", "scope": {"applications": ["youtube"]}, "gate_status": "closed",
                "redirect_url": "https://own.example"}).model_dump(mode="json")  # fmt: skip
    raw["campaigns"][0]["budget"] = {"octets": 5, "on_empty": "block"}
    assert {item.effect for item in neutrality(Catalogue.model_validate(raw)).unequal} == {
        "paid for by studio; when its budget is used up, does not pass", "does not pass",
        "web requests go to https://own.example",
    }  # fmt: skip
