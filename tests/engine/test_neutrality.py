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
    # What is for all of an application is told in its own category alone.
    raw["rules"][0]["scope"]["categories"] = []
    assert rows(neutrality(Catalogue.model_validate(raw))) == [("streaming", "zero_rated", "rule r", ("youtube",), 2)]


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
