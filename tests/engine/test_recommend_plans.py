"""Another plan is recommended where it saves on the account's own usage, and nowhere else."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.catalogue import Catalogue
from schemas.command import AccountCommand, ActivateProduct, ChangeProfile
from schemas.units import parse_micros
from services.engine.recommend import MOST, Arrived, History, Recommendation, recommend
from services.engine.simulate import Run, Subscription
from services.engine.tariff import compile_tariff
from tests.engine.world import classification, flow_record, ms

START = ms("2026-03-01 00:00")
MINUTE, DAY = 60_000, 86_400_000


def plan(name: str, fee: str, *, price: str = "1", octets: int = 1_000, **parts: Any) -> dict[str, Any]:
    return {
        "id": name, "name": name.title(), "kind": "base_plan",
        "prices": [{"id": "fee", "type": "recurring", "amount": fee}],
        "allowances": [{"id": "data", "octets": octets}],
        "usage_prices": [{"id": f"{name}-beyond", "amount": price, "per_octets": 1_000}], **parts,
    }  # fmt: skip


def add_on(name: str, **parts: Any) -> dict[str, Any]:
    prices = [{"id": "fee", "type": "recurring", "amount": "1"}]
    allowances = [{"id": "more", "octets": 5_000}]
    return {"id": name, "name": name.title(), "kind": "add_on", "prices": prices, "allowances": allowances, **parts}


def catalogue(*offerings: dict[str, Any], rules: Sequence[dict[str, Any]] = ()) -> Catalogue:
    return Catalogue.model_validate({"version": "v1", "offerings": offerings, "rules": rules})


def usage(*volumes: int, every_ms: int = DAY) -> list[Arrived]:
    found = []
    for number, octets in enumerate(volumes):
        at = START + DAY + number * every_ms
        flow = flow_record(octets, at_ms=at, end_ms=at + MINUTE, record_id=f"r{number}")
        found.append(Arrived(flow, classification("tube", category="streaming"), at + MINUTE))
    return found


def orders(*offerings: str, **profile: Any) -> list[tuple[AccountCommand, int]]:
    common: Any = {"version": "1.0", "account_id": "a1", "issued_at_ms": START}
    commands: list[AccountCommand] = [ChangeProfile(command_id="c0", **common, **profile)]
    for number, name in enumerate(offerings):
        order = ActivateProduct(command_id=f"c-{name}", product_id=f"p{number}", offering_id=name, **common)
        commands.append(order)
    return [(command, START) for command in commands]


def asked(made: Catalogue, flows: list[Arrived], *held: str, **profile: Any) -> list[Recommendation]:
    return list(recommend(History("a1", orders(*held, **profile), flows), compile_tariff(made), {}))


LARGE = plan("large", "5", octets=20_000)
SMALL = plan("small", "2")


def test_a_plan_that_would_have_been_cheaper_is_recommended_with_what_changing_to_it_costs() -> None:
    (found,) = asked(catalogue(SMALL, LARGE), usage(*[1_000] * 8), "small")
    # 2 for the small plan and 7 beyond it, against 5 for the large one.
    assert (found.offering_id, found.replaces, found.reason) == ("large", "small", "saving")
    assert (found.present, found.new, found.saving) == ("9", "5", "4")
    assert (found.used_octets, found.change_cost) == (8_000, "5")
    assert found.text == (
        "in the place of small it would have saved 4 EUR on the usage of the recorded period; it would have carried "
        "8.0 kB; changing now costs 5 EUR."
    )


def test_who_uses_little_is_shown_the_smaller_plan_and_what_is_given_back() -> None:
    daily = {"id": "fee", "type": "recurring", "amount": "310", "proration": "daily", "refund": "daily"}
    made = catalogue(SMALL, {**LARGE, "prices": [daily]})
    (found,) = asked(made, usage(500, 400, every_ms=28 * DAY), "large")
    assert (found.offering_id, found.present, found.new, found.saving) == ("small", "310", "2", "308")
    # The thirtieth of March is charged, one day of 31 is given back.
    assert found.change_cost == "-8"
    assert "changing now gives back 8 EUR" in found.text


def test_days_of_usage_beside_a_months_fee_speak_for_no_plan_with_a_smaller_one() -> None:
    assert asked(catalogue(SMALL, LARGE), usage(500, 400, every_ms=27 * DAY), "large") == []
    assert [item.offering_id for item in asked(catalogue(SMALL, LARGE), usage(500, 400, every_ms=28 * DAY), "large")]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (plan("large", "9", octets=20_000), "it costs as much"),
        (plan("large", "5", octets=20_000, eligibility={"segments": ["group"]}), "it is for others"),
        (plan("large", "5", octets=20_000, lifecycle_status="retired"), "it is no longer sold"),
        (plan("large", "5", octets=20_000, valid_until_ms=START + 2 * DAY), "its sale is over"),
        (plan("large", "5", octets=20_000, excludes=["extra"]), "it excludes what is held"),
        (plan("large", "5", octets=20_000, eligibility={"min_tenure_days": 90}), "the account is too young"),
        (plan("large", "0.1", octets=20_000, minimum_rent="30"), "its minimum rent is dearer"),
        (plan("large", "8", octets=20_000, trial_days=60), "only its trial would be free"),
        (plan("large", "0", octets=100, usage_prices=[]), "less would pass"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_plan_that_does_not_fit_is_not_recommended(other: dict[str, Any], why: str) -> None:
    held = add_on("extra", prices=[], allowances=[])
    assert asked(catalogue(SMALL, other, held), usage(*[1_000] * 7), "small", "extra") == [], why


def test_a_plan_is_not_recommended_to_whom_a_term_binds() -> None:
    bound = {**SMALL, "term_days": 365}
    assert asked(catalogue(bound, LARGE), usage(*[1_000] * 8), "small") == []
    loose = {**LARGE, "term_days": 365}
    (found,) = asked(catalogue(SMALL, loose), usage(*[1_000] * 8), "small")
    assert found.text.endswith("changing now costs 5 EUR; it runs for 365 days.")


def test_a_plan_without_which_an_add_on_could_not_be_held_is_not_given_up() -> None:
    tied = add_on("extra", requires=["small"])
    assert asked(catalogue(SMALL, LARGE, tied), usage(*[1_000] * 16), "small", "extra") == []
    free = add_on("extra", requires=["small", "large"])
    assert [item.offering_id for item in asked(catalogue(SMALL, LARGE, free), usage(*[1_000] * 16), "small", "extra")]


def test_a_prepaid_account_that_cannot_pay_the_plan_is_not_sent_to_it() -> None:
    assert asked(catalogue(plan("small", "0"), LARGE), usage(1_000), "small", payment="prepaid") == []


def test_who_stands_on_a_stated_plan_is_shown_the_others() -> None:
    history = History("sub-1", (), usage(*[1_000] * 8))
    flows = [item._replace(flow=flow_record(1_000, at_ms=item.flow.start_ms, subscriber_id="sub-1")) for item in
             history.flows]  # fmt: skip
    found = recommend(
        history._replace(flows=flows),
        compile_tariff(catalogue(SMALL, LARGE)),
        {},
        subscription=Subscription(("small",)),
    )
    assert [(item.offering_id, item.replaces, item.saving) for item in found] == [("large", "small", "4")]


def test_plans_and_packages_are_three_at_most_and_the_largest_saving_is_first() -> None:
    packs = [add_on(name) for name in ("a", "b", "c")]
    found = asked(catalogue(SMALL, LARGE, *packs), usage(*[1_000] * 8), "small")
    assert len(found) == MOST
    savings = [parse_micros(item.saving) for item in found]
    assert savings == sorted(savings, reverse=True)


AMOUNTS = st.integers(0, 12).map(str)
NAMES = ("p0", "p1", "p2", "x0", "x1", "x2")


@st.composite
def worlds(draw: st.DrawFn) -> Catalogue:
    """Three plans and three add-ons that may exclude or require each other."""

    def company() -> dict[str, Any]:
        return {
            "excludes": draw(st.lists(st.sampled_from(NAMES), max_size=1)),
            "requires": draw(st.lists(st.sampled_from(NAMES[:3]), max_size=2)),
        }  # fmt: skip

    plans = [
        plan(name, draw(AMOUNTS), price=draw(AMOUNTS), octets=draw(st.integers(0, 9_000)),
             **{**company(), "requires": []}, minimum_rent=draw(st.sampled_from(["0", "0", "4"])),
             term_days=draw(st.sampled_from([None, None, 365])))
        for name in NAMES[:3]
    ]  # fmt: skip
    return catalogue(*plans, *(add_on(name, **company()) for name in NAMES[3:]))


@settings(max_examples=150)
@given(worlds(), st.lists(st.integers(0, 4_000), min_size=1, max_size=6), st.sampled_from([("p0",), ("p0", "x0")]))
def test_no_recommendation_costs_more_than_it_says_or_is_excluded(
    made: Catalogue, volumes: list[int], held: tuple[str, ...]
) -> None:
    flows, tariff = usage(*volumes), compile_tariff(made)
    found = asked(made, flows, *held)
    assert len(found) <= MOST
    for item in found:
        assert item.reason != "saving" or parse_micros(item.new) < parse_micros(item.present)
        assert parse_micros(item.present) - parse_micros(item.new) == parse_micros(item.saving)
        assert item.used_octets > 0
        has = [item.offering_id if name == item.replaces else name for name in held]
        has += [] if item.replaces else [item.offering_id]
        run = Run(tariff)
        for command, at_ms in orders(*has):
            # Whoever holds what remains and what is recommended breaks no rule of ordering.
            assert run.command(command, now_ms=at_ms) is None or not all_ordered(made, held)
        if item.replaces:
            again = bill(made, flows, *has)
            assert again <= parse_micros(item.new) < parse_micros(item.present)
            assert bill(made, flows, *held) <= parse_micros(item.present)


def all_ordered(made: Catalogue, held: tuple[str, ...]) -> bool:
    """Whether the account could order at all what it is taken to hold."""
    run = Run(compile_tariff(made))
    return all(run.command(command, now_ms=at_ms) is None for command, at_ms in orders(*held))


def bill(made: Catalogue, flows: list[Arrived], *held: str) -> int:
    """What the period costs who holds these."""
    run = Run(compile_tariff(made))
    for command, at_ms in orders(*held):
        run.command(command, now_ms=at_ms)
    for flow, seen, arrived_ms in flows:
        run.flow(flow, seen, now_ms=arrived_ms)
    run.close(flows[-1].arrived_ms)
    return run.bills["a1"].micros
