"""Refund, void and rerate: refunds first, event order, once, and never more than was paid."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalogue import Catalogue
from schemas.command import CorrectedUsage, RefundUsage, RerateUsage, VoidUsage
from schemas.state import AccountState
from schemas.units import format_micros
from schemas.usage import RatedUsage
from tests.engine.world import RefusedError, World, catalogue

APPS = {"applications": ["facebook"]}


def tariff(*rules: dict[str, Any], amount: str = "0.03", **more: Any) -> Catalogue:
    """General data, a pack, a tiered price with a cap."""
    plan = {
        "id": "plan", "kind": "base_plan", "rules": [rule["id"] for rule in rules],
        "allowances": [
            {"id": "data", "octets": 1000},
            {"id": "pack", "octets": 300, "scope": APPS, "per_member_octets": 250},
        ],
        "usage_prices": [
            {"id": "extra", "amount": amount, "per_octets": 7, "tiers": [{"above": 100, "amount": "0.05"}], "cap": "3"},
        ],
    }  # fmt: skip
    return catalogue(plan, rules=rules, **more)


def world(*rules: dict[str, Any], prepaid: bool = False, **more: Any) -> World:
    made = World(tariff(*rules, **more), payment="prepaid" if prepaid else "postpaid")
    made.credit("2")
    made.activate("plan", "p")
    return made


def rows(one: World) -> list[RatedUsage]:
    """Rows of usage that have not been corrected."""
    corrected = {row.corrects for row in one.usage}
    return [row for row in one.usage if row.kind == "usage" and row.usage_id not in corrected]


def line(row: RatedUsage, **fields: Any) -> CorrectedUsage:
    names = [name for name in CorrectedUsage.__struct_fields__ if hasattr(row, name)]
    return CorrectedUsage(**{**{name: getattr(row, name) for name in names}, **fields})


def void(one: World, row: RatedUsage, **fields: Any) -> None:
    assert one.account is not None
    one.command(VoidUsage, **{"line": line(row), "reclassified": one.account.reclassified, **fields})


def rerate(one: World, lines: list[RatedUsage]) -> None:
    assert one.account is not None
    one.command(RerateUsage, lines=tuple(map(line, lines)), reclassified=one.account.reclassified)


def holdings(account: AccountState | None) -> tuple[Any, ...]:
    """What an account has, without what it was told."""
    assert account is not None
    buckets = sorted((item.bucket_id, item.remaining) for item in account.buckets)
    totals = [(item.counter_id, item.octets, item.micros) for item in account.counters]
    return buckets, account.balance_micros, sorted(total for total in totals if total[1] or total[2])


def net(one: World) -> int:
    return sum(row.octets * (1 if row.kind == "usage" else -1) for row in one.usage if row.kind in ("usage", "refund"))


def test_a_voided_row_is_as_if_it_had_not_been() -> None:
    one = world(prepaid=True)
    before = holdings(one.account)
    one.flow(1100, "facebook")
    one.emit()
    [row] = rows(one)
    void(one, row)
    refund = one.usage[-1]
    assert (refund.kind, refund.corrects, refund.octets) == ("refund", row.usage_id, row.octets)
    assert refund.amount == f"-{row.amount}" or row.amount == "0"
    assert {(moved.bucket_id, moved.amount.lstrip("-")) for moved in refund.movements} == {
        (moved.bucket_id, moved.amount.lstrip("-")) for moved in row.movements
    }
    assert holdings(one.account) == before


def test_a_void_leaves_the_cycle_at_the_price_of_what_remains() -> None:
    one = world()
    one.flow(1000)
    for app in ("netflix", "youtube"):
        one.flow(140, app)
        one.emit()
    void(one, rows(one)[-2])
    assert format_micros(one.money()) == format_micros((100 * 30_000 + 40 * 50_000) // 7)
    one.flow(140, "netflix")
    assert one.account is not None
    assert one.money() == one.account.counters[0].micros


def test_case_33_a_rerate_takes_back_all_rows_before_it_charges_one() -> None:
    """Refund first, order by event time, never doubled."""
    one = world()
    for minute, app in ((0, "netflix"), (1, "facebook"), (2, "youtube")):
        one.flow(500, app, at=one.now_ms + minute * 1000)
    one.emit()
    told = len(one.usage)
    rerate(one, rows(one)[::-1])
    made = [(row.kind, row.corrects) for row in one.usage[told:]]
    assert [kind for kind, _ in made] == ["refund"] * 3 + ["usage"] * 3
    again = [row for row in one.usage[told:] if row.kind == "usage"]
    assert [row.start_ms for row in again] == sorted(row.start_ms for row in again)
    assert len({row.corrects for row in again}) == 3


def test_a_rerate_under_a_new_tariff_charges_what_it_says() -> None:
    one = world()
    one.flow(1100, "netflix")
    one.emit()
    free = {"id": "free", "charging": "free", "scope": {"applications": ["netflix"]}}
    one.publish(tariff(free, version="v2"))
    rerate(one, rows(one))
    assert one.usage[-1].treatment == "free"
    assert one.money() == 0
    assert one.left("p/data") == 1000


def test_a_dearer_tariff_gives_back_what_was_paid_and_takes_what_it_costs() -> None:
    one = world()
    one.flow(1007)
    one.emit()
    one.publish(tariff(version="v2", amount="0.3"))
    rerate(one, rows(one))
    assert [row.amount for row in one.usage[-2:]] == ["-0.03", "0.3"]


def test_one_command_is_applied_once() -> None:
    one = world()
    one.flow(300)
    one.emit()
    [row] = rows(one)
    for _ in range(2):
        void(one, row, command_id="again")
    assert one.left("p/data") == 1000
    assert sum(item.kind == "refund" for item in one.usage) == 1


def test_a_refund_is_part_of_what_was_paid_and_the_usage_stays() -> None:
    """Case 34: refund <= paid."""
    one = world(prepaid=True)
    one.flow(1014)
    one.emit()
    [row] = rows(one)
    balance = one.balance()
    one.command(RefundUsage, line=line(row), amount="0.01", octets=100)
    assert (one.left("p/data"), one.balance()) == (100, balance + 10_000)
    assert [item.amount for item in one.usage if item.kind == "refund"] == ["0", "-0.01"]
    for fields in ({"amount": "9"}, {"octets": 1001}, {"amount": "-0.01"}):
        with pytest.raises(RefusedError):
            one.command(RefundUsage, line=line(row), **fields)


def test_nothing_rises_above_its_grant() -> None:
    """Case 20: what is left rises by a refund only, and never above the grant."""
    one = world()
    one.flow(300)
    one.emit()
    [row] = rows(one)
    void(one, row)
    void(one, row, line=line(row, usage_id="f-3-999-999-0"))
    assert one.left("p/data") == 1000


def test_a_row_of_a_closed_period_is_refused() -> None:
    one = world()
    one.flow(300)
    one.emit()
    [row] = rows(one)
    one.timer("2026-04-02 00:00")
    with pytest.raises(RefusedError, match="period_closed"):
        void(one, row)


def test_a_correction_that_the_lane_has_overtaken_is_refused() -> None:
    one = world({"id": "free", "charging": "free", "scope": APPS})
    one.flow(300, "facebook", suspect=True)
    one.flow(1, "facebook")
    one.emit()
    with pytest.raises(RefusedError, match="outdated"):
        void(one, rows(one)[0], reclassified=0)


def test_what_is_voided_is_not_corrected_by_a_better_verdict_too() -> None:
    one = world({"id": "free", "charging": "free", "scope": APPS})
    one.flow(300, "facebook", suspect=True)
    one.emit()
    void(one, rows(one)[0])
    one.flow(1, "facebook")
    assert one.left("p/data") == 1000
    assert sum(row.kind == "refund" for row in one.usage) == 1


def test_what_began_at_the_same_moment_keeps_its_order() -> None:
    one = world()
    for app in ("netflix", "youtube") * 6:
        one.flow(90, app)
        one.emit()
    told = rows(one)
    rerate(one, told)
    again = [row.corrects for row in one.usage if row.kind == "usage" and row.corrects]
    assert again == [row.usage_id for row in told]


def test_a_part_of_what_a_campaign_paid_beside_stays_counted() -> None:
    rule = {"id": "gift", "charging": "sponsored", "campaign": "c", "scope": APPS}
    one = world(rule, campaigns=[{"id": "c", "sponsor_id": "s", "per_subscriber_octets": 100}])
    one.flow(150, "facebook")
    one.emit()
    one.command(RefundUsage, line=line(rows(one)[-1]), octets=50)
    assert ("campaign:c:a1", 100, 0) in holdings(one.account)[2]
    one.flow(150, "facebook")
    one.emit()
    assert one.usage[-1].sponsored_octets == 0


def test_what_came_last_is_taken_back_first_whatever_the_order_of_the_order() -> None:
    """So each row gets back what it cost, though tiers lie between them."""
    price = {"id": "data", "amount": "2", "per_octets": 100, "tiers": [{"above": 100, "amount": "1"}]}
    one = World(catalogue({"id": "plan", "kind": "base_plan", "usage_prices": [price]}))
    one.activate("plan", "p")
    for minute in (1, 2, 3):
        one.flow(100, at=f"2026-03-10 13:0{minute}")
        one.emit()
    first, second, third = rows(one)
    told = len(one.usage)
    one.command(RerateUsage, lines=tuple(map(line, (second, first, third))), reclassified=0)
    made = [(row.kind, row.corrects, row.amount) for row in one.usage[told:]]
    assert made == [
        ("refund", third.usage_id, "-1"), ("refund", second.usage_id, "-1"), ("refund", first.usage_id, "-2"),
        ("usage", first.usage_id, "2"), ("usage", second.usage_id, "1"), ("usage", third.usage_id, "1"),
    ]  # fmt: skip


def test_blocked_octets_stay_blocked() -> None:
    one = world({"id": "gate", "gate_status": "closed", "scope": APPS})
    one.flow(300, "facebook")
    one.emit()
    one.publish(tariff(version="v2"))
    rerate(one, rows(one))
    assert not [row for row in one.usage if row.corrects and row.octets]


PLACES = {"zones": [{"id": "home", "home": True}, {"id": "eu", "plmns": ["262"]}, {"id": "far", "rest": True}]}
MET: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"zones": ["eu"]}, {"serving_plmn": "26201"}, "|eu|||"),
    ({"zones": ["eu"]}, {"serving_plmn": "31041"}, "|far|||"),
    ({"zones": ["eu"]}, {}, "|home|||"),
    ({"dnns": ["ims"]}, {"dnn": "IMS.mnc001.mcc262.gprs"}, "||ims||"),
    ({"dnns": ["ims"]}, {"dnn": "internet"}, "||||"),
    ({"rat_types": ["NR"]}, {"rat": "NR"}, "NR||||"),
    ({"rat_types": ["NR"]}, {"rat": "UTRA"}, "||||"),
]


@pytest.mark.parametrize(("scope", "flow", "met"), MET)
def test_usage_says_how_it_came_and_is_rated_again_as_that(
    scope: dict[str, Any], flow: dict[str, Any], met: str
) -> None:
    one = world({"id": "there", "charging": "free", "scope": scope}, **PLACES)
    one.flow(300, "facebook", **flow)
    one.emit()
    assert one.usage[-1].circumstances == met
    told = one.usage[-1]
    rerate(one, [told])
    again = one.usage[-1]
    assert (again.treatment, again.rule_id, again.circumstances) == (told.treatment, told.rule_id, told.circumstances)
    one.publish(tariff({"id": "there", "charging": "charge", "scope": scope}, version="v2", **PLACES))
    rerate(one, [again])
    assert (one.usage[-1].treatment, one.usage[-1].rule_id) == ("charged", told.rule_id)


def test_usage_is_charged_again_as_sure_as_it_was() -> None:
    one = world({"id": "sure", "charging": "free", "min_confidence": 60, "scope": APPS})
    for confidence, treatment in ((40, "charged"), (90, "free")):
        one.flow(100, "facebook", confidence=confidence)
        one.emit()
        rerate(one, one.usage[-1:])
        assert one.usage[-1].treatment == treatment
    assert [row.circumstances for row in rows(one)] == ["||||31", "||||60"]


def test_doubted_usage_is_not_rated_again() -> None:
    one = world({"id": "free", "charging": "free", "scope": APPS})
    one.flow(100, "facebook", suspect=True)
    one.emit()
    assert one.usage[-1].circumstances == "||||doubted"
    with pytest.raises(RefusedError, match=f"doubted: usage_id: '{one.usage[-1].usage_id}' was not believed"):
        rerate(one, one.usage[-1:])
    void(one, one.usage[-1])
    assert one.left("p/data") == 1000


@pytest.mark.parametrize("word", ["", "NR", "|||||", "||||101", "|||x|", "||||sure"])
def test_circumstances_that_are_none_are_refused(word: str) -> None:
    one = world()
    one.flow(100)
    one.emit()
    if not word:
        rerate(one, rows(one))
        return
    with pytest.raises(RefusedError, match="circumstances: usage_id"):
        void(one, rows(one)[0], line=line(rows(one)[0], circumstances=word))


def test_a_tariff_that_tells_nothing_apart_says_nothing() -> None:
    one = world()
    one.flow(300, rat="NR", dnn="ims", serving_plmn="26201")
    one.emit()
    assert one.usage[-1].circumstances is None


def test_traffic_of_two_places_is_gathered_in_two_rows() -> None:
    one = world({"id": "jam", "min_congestion": 4, "scope": {"zones": ["eu"]}}, **PLACES)
    for plmn, level in (("26201", 0), ("26202", 3), ("31041", 9), ("26201", 9)):
        one.flow(10, serving_plmn=plmn, congestion_level=level)
    one.emit()
    gathered = [(row.circumstances, row.octets) for row in one.usage if row.kind == "usage"]
    assert gathered == [("|eu|||", 20), ("|far||4|", 10), ("|eu||4|", 10)]


def test_a_price_is_known_by_its_offering() -> None:
    """Two offerings may have a price of the same name, and each counts for itself."""
    more = {"id": "more", "usage_prices": [{"id": "extra", "amount": "0.5", "per_octets": 1, "scope": APPS}]}
    price = {"id": "extra", "amount": "0.1", "per_octets": 1}
    one = World(catalogue({"id": "plan", "kind": "base_plan", "usage_prices": [price]}, more))
    one.activate("plan", "p")
    one.activate("more", "m")
    for app in ("netflix", "facebook"):
        one.flow(10, app)
    one.emit()
    general, narrow = rows(one)
    assert [row.price_offering_id for row in (general, narrow)] == ["plan", "more"]
    void(one, narrow)
    assert holdings(one.account)[2] == [("price:plan/extra", 10, 1_000_000)]


def test_octets_go_back_into_the_bucket_that_was_drawn_last() -> None:
    rollover = {"percent": 100}
    plan = {"id": "plan", "kind": "base_plan", "allowances": [{"id": "data", "octets": 100, "rollover": rollover}]}
    one = World(catalogue(plan), at="2026-03-31 12:00")
    one.activate("plan", "p")
    one.timer("2026-04-01 00:00")
    one.flow(110)
    one.emit()
    void(one, rows(one)[-1])
    assert one.left("p/data") == 200
    one.flow(110)
    one.emit()
    one.command(RefundUsage, line=line(rows(one)[-1]), octets=10)
    assert one.account is not None
    assert sorted((bucket.rolled, bucket.remaining) for bucket in one.account.buckets) == [
        (False, 100),
        (True, 0),
    ]


def test_octets_of_a_pass_that_has_just_ended_serve_what_is_rated_again() -> None:
    day = {"id": "day", "kind": "pass", "term_days": 1, "allowances": [{"id": "d", "octets": 500, "validity": "once"}]}
    plan = {"id": "plan", "kind": "base_plan", "allowances": [{"id": "data", "octets": 1000}]}
    one = World(catalogue(plan, day))
    one.activate("plan", "p")
    one.activate("day", "x")
    one.flow(400)
    one.emit()
    one.timer("2026-03-11 13:00")
    rerate(one, rows(one))
    assert [(moved.bucket_id, moved.amount) for moved in one.usage[-1].movements] == [("x/d", "-400")]
    assert one.left("p/data") == 1000


FLOWS = st.lists(
    st.tuples(st.sampled_from(["facebook", "netflix", None]), st.integers(0, 700), st.integers(0, 3)),
    min_size=1, max_size=8,
)  # fmt: skip


def lived(flows: list[Any], *, prepaid: bool) -> World:
    one = world(prepaid=prepaid)
    for app, volume, wait in flows:
        one.flow(volume, app, at=one.now_ms + wait * 1000)
        if wait % 2:
            one.emit()
    one.emit()
    return one


@given(flows=FLOWS, prepaid=st.booleans())
def test_voiding_everything_brings_the_account_back(flows: list[Any], *, prepaid: bool) -> None:
    one = lived(flows, prepaid=prepaid)
    fresh = world(prepaid=prepaid)
    for row in rows(one)[::-1]:
        void(one, row)
    assert holdings(one.account) == holdings(fresh.account)
    assert one.money() == fresh.money()


@given(flows=FLOWS, prepaid=st.booleans(), some=st.sets(st.integers(0, 7)))
def test_a_rerate_under_the_same_tariff_changes_nothing_in_total(
    flows: list[Any], some: set[int], *, prepaid: bool
) -> None:
    one = lived(flows, prepaid=prepaid)
    money, volume, before = one.money(), net(one), holdings(one.account)
    chosen = [row for number, row in enumerate(rows(one)) if number in some and not row.blocked_octets]
    if not chosen or any(row.blocked_octets for row in rows(one)):
        return
    rerate(one, chosen)
    assert net(one) == volume
    assert one.money() == money
    assert sum(left for _, left in holdings(one.account)[0]) == sum(left for _, left in before[0])


@given(flows=FLOWS, prepaid=st.booleans())
def test_rating_twice_again_is_rating_once_again(flows: list[Any], *, prepaid: bool) -> None:
    one = lived(flows, prepaid=prepaid)
    one.publish(tariff(version="v2", amount="0.01"))
    rerate(one, rows(one))
    once = holdings(one.account), one.money(), net(one)
    left = [row for row in rows(one) if row.octets]
    if left:
        rerate(one, left)
    assert (holdings(one.account), one.money(), net(one)) == once


def test_case_16_a_refund_that_is_sent_again_goes_back_once() -> None:
    one = world(prepaid=True)
    one.flow(1014)
    one.emit()
    [row] = rows(one)
    balance = one.balance()
    for _ in range(3):
        one.command(RefundUsage, line=line(row), amount="0.01", command_id="same")
    assert one.balance() == balance + 10_000


def test_case_20_use_never_puts_anything_back() -> None:
    one = world()
    left = one.left("p/data")
    for volume in (300, 0, 900, 5):
        one.flow(volume)
        assert one.left("p/data") <= left
        left = one.left("p/data")


def test_case_33_the_rows_of_two_overlapping_rerates_are_charged_once() -> None:
    one = world()
    for app in ("netflix", "youtube"):
        one.flow(400, app)
    one.emit()
    told = rows(one)
    rerate(one, told)
    rerate(one, rows(one))
    assert one.left("p/data") == 200
    assert net(one) == 800


def test_case_34_what_comes_back_is_what_was_paid_however_often_it_is_rated_again() -> None:
    one = world()
    one.flow(1007)
    one.emit()
    for number, amount in enumerate(("0.3", "0.01", "0.5")):
        one.publish(tariff(version=f"v{number}", amount=amount))
        rerate(one, rows(one))
    paid = [row.amount for row in one.usage if row.kind == "usage"]
    back = [row.amount for row in one.usage if row.kind == "refund"]
    assert (paid, back) == (["0.03", "0.3", "0.01", "0.5"], ["-0.03", "-0.3", "-0.01"])


# -- what campaigns paid for

TUBE = {
    "id": "tube",
    "precedence": 10,
    "charging": "sponsored",
    "campaign": "c",
    "scope": {"applications": ["youtube"]},
}
NOBODY = {**TUBE, "charging": "charge", "campaign": None}


def sponsored(rule: dict[str, Any] = TUBE, *, budget: int | None = 10_000, campaign: str = "c", **fields: Any) -> World:
    return world(rule, campaigns=[{"id": campaign, "sponsor_id": "s", **budget_of(budget), **fields}])


def budget_of(octets: int | None) -> dict[str, Any]:
    return {"budget": None if octets is None else {"octets": octets}}


def paid(one: World) -> dict[str, tuple[int, int]]:
    """What each campaign has to pay for, and how much of it from its budget: usage less refunds."""
    sums: dict[str, tuple[int, int]] = {}
    for row in one.usage:
        sign = {"usage": 1, "refund": -1}.get(row.kind, 0)
        for item in row.sponsorships:
            octets, budget = sums.get(item.campaign_id, (0, 0))
            sums[item.campaign_id] = octets + sign * item.octets, budget + sign * item.budget_octets
    return sums


def test_a_voided_row_gives_its_sponsor_back_what_it_paid_for_with_the_cause() -> None:
    one = sponsored(per_subscriber_octets=100)
    one.lease("c", 5_000)
    one.flow(60, "youtube")
    one.emit()
    void(one, rows(one)[0], command_id="v-1")
    refund = one.usage[-1]
    assert (refund.kind, refund.cause, refund.sponsored_octets) == ("refund", "v-1", 60)
    assert [(item.campaign_id, item.octets, item.budget_octets) for item in refund.sponsorships] == [("c", 60, 60)]
    assert paid(one) == {"c": (0, 0)}
    assert one.flow(100, "youtube").sponsored_octets == 100


@pytest.mark.parametrize("budget", [None, 10_000])
def test_a_row_that_is_rated_again_under_the_same_tariff_costs_its_sponsor_the_same(budget: int | None) -> None:
    one = sponsored(budget=budget)
    one.lease("c", 50)
    one.flow(60, "youtube")
    one.emit()
    before = paid(one)
    assert before == {"c": (50, 50) if budget else (60, 0)}
    rerate(one, rows(one))
    assert paid(one) == before
    rerate(one, [row for row in rows(one) if row.octets])
    assert paid(one) == before


def test_a_row_that_no_campaign_pays_for_any_more_gives_all_back_and_costs_the_subscriber() -> None:
    one = sponsored()
    one.lease("c", 5_000)
    one.flow(60, "youtube")
    one.emit()
    one.publish(tariff(NOBODY, campaigns=[{"id": "c", "sponsor_id": "s", **budget_of(10_000)}]))
    rerate(one, rows(one))
    assert paid(one) == {"c": (0, 0)}
    assert (one.usage[-1].charged_octets, one.usage[-1].sponsored_octets) == (60, 0)


def test_a_budget_pays_for_nothing_afterwards_that_it_had_not_paid_for() -> None:
    one = sponsored(NOBODY)
    one.lease("c", 5_000)
    one.flow(60, "youtube")
    one.emit()
    one.publish(tariff(TUBE, campaigns=[{"id": "c", "sponsor_id": "s", **budget_of(10_000)}]))
    rerate(one, rows(one))
    assert paid(one) in ({}, {"c": (0, 0)})
    assert one.usage[-1].charged_octets == 60


def test_what_a_campaign_paid_before_it_had_a_budget_it_pays_again_and_not_from_the_budget() -> None:
    one = sponsored(budget=None)
    one.flow(60, "youtube")
    one.emit()
    one.publish(tariff(TUBE, campaigns=[{"id": "c", "sponsor_id": "s", **budget_of(10)}]))
    one.lease("c", 0)
    rerate(one, rows(one))
    assert paid(one) == {"c": (60, 0)}


@pytest.mark.parametrize(("flag", "left"), [(True, 0), (False, 60)])
def test_a_refund_gives_sponsors_back_what_it_says_and_the_usage_stays(flag: bool, left: int) -> None:
    one = sponsored()
    one.lease("c", 60)
    one.flow(80, "youtube")
    one.emit()
    [row] = rows(one)
    one.command(RefundUsage, line=line(row), octets=5, sponsored=flag)
    assert paid(one) == {"c": (left, left)}
    assert one.usage[-1].record_count == 0
    assert one.left("p/data") == 1000 - 20 + 5
