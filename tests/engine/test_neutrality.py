"""What a tariff does to some applications of a category and not to the others."""

from typing import Any

import pytest

from schemas.catalogue import Catalogue
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


def test_naming_all_applications_of_a_category_leaves_nobody_out() -> None:
    everyone = {"applications": ["netflix", "youtube", "opticaltv"]}
    assert neutrality(made({"id": "r", "scope": everyone, "charging": "free"})).unequal == ()


def test_a_rule_over_two_categories_is_a_row_in_each_that_has_others() -> None:
    both = {"applications": ["netflix", "whatsapp", "youtube"]}
    report = neutrality(made({"id": "r", "scope": both, "charging": "free"}))
    assert rows(report) == [("streaming", "zero_rated", "rule r", ("netflix", "youtube"), 1)]


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
