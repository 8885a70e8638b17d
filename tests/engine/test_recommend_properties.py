"""What is promised is what it brings: random usage, rated again by hand with what was recommended."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.catalogue import Catalogue
from schemas.command import AccountCommand, ActivateProduct, CancelProduct, ChangeProfile, Credit
from schemas.units import parse_micros
from schemas.usage import RatedUsage
from services.engine.fees import MINIMUM_RENT, outstanding_rent
from services.engine.late import GRACE_MS
from services.engine.recommend import MOST, Arrived, History, Recommendation, recommend
from services.engine.simulate import Bill, Run
from services.engine.tariff import compile_tariff
from tests.engine.world import classification, flow_record, ms

START = ms("2026-03-01 00:00")
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
APPS = {"tube": "streaming", "film": "streaming", "chat": "voip_im"}
PLANS, PACKS = ("p0", "p1"), ("x0", "x1", "x2")
AMOUNTS = st.integers(0, 9).map(str)
SCOPES = st.sampled_from([{}, {"applications": ["tube"]}, {"applications": ["chat"]}, {"categories": ["streaming"]}])


class World(NamedTuple):
    """A tariff, and an account with its usage."""

    body: dict[str, Any]
    payment: str
    held: tuple[str, ...]
    flows: list[Arrived]

    @property
    def catalogue(self) -> Catalogue:
        applications = [{"id": name, "name": name, "category": category} for name, category in APPS.items()]
        return Catalogue.model_validate({"version": "v1", "applications": applications, **self.body})

    def commands(self, held: Sequence[str]) -> list[tuple[AccountCommand, int]]:
        common: Any = {"version": "1.0", "account_id": "a1", "issued_at_ms": START}
        first: list[AccountCommand] = [ChangeProfile(command_id="c0", payment=self.payment, **common)]
        if self.payment == "prepaid":
            first.append(Credit(command_id="money", amount="20", **common))
        ordered = [
            ActivateProduct(command_id=f"c-{name}", product_id=f"held-{name}", offering_id=name, **common)
            for name in held
        ]
        return [(command, START) for command in (*first, *ordered)]


class Result(NamedTuple):
    """What a run came to."""

    bill: Bill
    micros: int
    run: Run
    refused: int


@st.composite
def flat(draw: st.DrawFn) -> list[dict[str, Any]]:
    kind = draw(st.sampled_from(["recurring", "recurring", "one_time"]))
    daily = {"proration": draw(st.sampled_from(["none", "daily"]))} if kind == "recurring" else {}
    return [{"id": "fee", "type": kind, "amount": draw(AMOUNTS), **daily}]


@st.composite
def offerings(draw: st.DrawFn, name: str, kind: str) -> dict[str, Any]:
    names = [*PLANS, *PACKS]
    made: dict[str, Any] = {
        "id": name, "name": name, "kind": kind, "prices": draw(flat()),
        "allowances": [{
            "id": "data", "octets": draw(st.integers(0, 6_000)), "scope": draw(SCOPES),
            "on_exhausted": draw(st.sampled_from(["continue", "continue", "throttle", "block"])),
            "validity": draw(st.sampled_from(["cycle", "once"])),
        }],
        "excludes": draw(st.lists(st.sampled_from(names), max_size=1)),
        "trial_days": draw(st.sampled_from([None, None, 20])),
        "eligibility": draw(st.sampled_from([None, None, {"payments": ["prepaid"]}, {"segments": ["group"]}])),
        "rules": draw(st.lists(st.sampled_from(["free-tube", "fast-film", "slow-chat"]), max_size=1)),
    }  # fmt: skip
    if kind == "base_plan":
        made["minimum_rent"] = draw(st.sampled_from(["0", "0", "12"]))
        cap = draw(st.sampled_from([{}, {"cap": "4", "on_cap": "free"}, {"cap": "4", "on_cap": "block"}]))
        made["usage_prices"] = [{"id": f"{name}-use", "amount": draw(AMOUNTS), "per_octets": 1_000, **cap}]
    else:
        made["requires"] = draw(st.lists(st.sampled_from(PLANS), max_size=2))
        made["term_days"] = draw(st.sampled_from([None, None, 7]))
    return made


@st.composite
def worlds(draw: st.DrawFn) -> World:
    payment = draw(st.sampled_from(["postpaid", "postpaid", "prepaid"]))
    made = [draw(offerings(name, "base_plan")) for name in PLANS] + [draw(offerings(name, "add_on")) for name in PACKS]
    if payment == "prepaid":
        # What a balance leaves for a rent depends on the fees that come before it.
        made = [{**item, "minimum_rent": "0"} for item in made]
    rules = [
        {"id": "free-tube", "precedence": 1, "scope": {"applications": ["tube"]}, "charging": "free"},
        {"id": "fast-film", "precedence": 2, "scope": {"applications": ["film"]}, "qos": {"arp": 8}},
        {"id": "slow-chat", "precedence": 3, "scope": {"applications": ["chat"]}, "qos": {"mbr_down_bps": 9}},
    ]
    usage = draw(st.lists(st.tuples(st.sampled_from(sorted(APPS)), st.integers(0, 3_000), st.integers(1, 200)),
                          min_size=1, max_size=8))  # fmt: skip
    flows, at = [], START + DAY
    for number, (app, octets, hours) in enumerate(usage):
        flow = flow_record(octets, at_ms=at, end_ms=at + MINUTE, record_id=f"r{number}")
        flows.append(Arrived(flow, classification(app, category=APPS[app]), at + MINUTE))
        at += hours * HOUR
    held = (draw(st.sampled_from(PLANS)), *draw(st.lists(st.sampled_from(PACKS), max_size=1)))
    return World({"offerings": made, "rules": rules}, payment, held, flows)


def lived(world: World, held: Sequence[str], *, package: str | None = None, without_trial: str = "") -> Result:
    """The period as it would have been with these, and what the rents of its cycles come to when time goes on."""
    made = [
        {**item, **({"trial_days": None} if item["id"] == without_trial else {})} for item in world.body["offerings"]
    ]
    rows: list[RatedUsage] = []
    run = Run(compile_tariff(world._replace(body={**world.body, "offerings": made}).catalogue), tell=rows.append)
    refused = sum(run.command(command, now_ms=at) is not None for command, at in world.commands(held))
    if package is not None:
        first = world.flows[0]
        refused += run.command(order(package, first.flow.start_ms), now_ms=first.arrived_ms) is not None
    for flow, seen, arrived_ms in world.flows:
        run.flow(flow, seen, now_ms=arrived_ms)
    run.close(world.flows[-1].arrived_ms)
    bill, told = msgspec.structs.replace(run.bills.get("a1", Bill())), len(rows)
    account = run.account("a1")
    assert account is not None
    later = Run(run.tariff, tell=rows.append)
    later.put(account)
    later.close(account.cycle_end_ms + GRACE_MS + MINUTE)
    rent = sum(parse_micros(row.amount) for row in rows[told:] if row.price_id == MINIMUM_RENT)
    return Result(bill, bill.micros + rent, run, refused)


def order(offering_id: str, at_ms: int) -> ActivateProduct:
    return ActivateProduct(
        version="1.0", account_id="a1", issued_at_ms=at_ms, command_id="then", product_id="then",
        offering_id=offering_id,
    )  # fmt: skip


def recommended(world: World) -> tuple[Recommendation, ...]:
    return recommend(History("a1", world.commands(world.held), world.flows), compile_tariff(world.catalogue), {})


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(worlds())
def test_the_saving_is_what_the_same_usage_costs_less_with_what_is_recommended(world: World) -> None:
    found = recommended(world)
    assert len({item.offering_id for item in found}) == len(found) <= MOST
    now = lived(world, world.held)
    for item in found:
        held = [item.offering_id if name == item.replaces else name for name in world.held]
        then = lived(world, held, package=None if item.replaces else item.offering_id, without_trial=item.offering_id)
        assert parse_micros(item.saving) == now.micros - then.micros
        assert (parse_micros(item.present), parse_micros(item.new)) == (now.micros, then.micros)
        assert item.blocked_octets_change == then.bill.blocked_octets - now.bill.blocked_octets <= 0
        assert item.throttled_octets_change == then.bill.throttled_octets - now.bill.throttled_octets <= 0
        assert then.refused <= now.refused
        assert item.used_octets > 0
        assert item.reason != "saving" or then.micros < now.micros


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(worlds())
def test_what_is_recommended_is_not_held_and_can_be_ordered_at_the_end(world: World) -> None:
    end_ms = world.flows[-1].arrived_ms
    for item in recommended(world):
        run = lived(world, world.held).run
        account = run.account("a1")
        assert account is not None
        assert item.offering_id not in [product.offering_id for product in account.products]
        if item.replaces:
            leaving = next(product for product in account.products if product.offering_id == item.replaces)
            cancel = CancelProduct(
                version="1.0", account_id="a1", issued_at_ms=end_ms, command_id="leave", product_id=leaving.product_id
            )
            assert run.command(cancel, now_ms=end_ms) is None
        assert run.command(order(item.offering_id, end_ms), now_ms=end_ms) is None


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(worlds())
def test_the_outstanding_rent_is_what_the_cycles_will_ask_for(world: World) -> None:
    result = lived(world, world.held)
    account = result.run.account("a1")
    assert account is not None
    if any(product.trial or product.end_ms is not None for product in account.products):
        return  # What ends, or begins to count, before the cycle does is not foreseen.
    assert outstanding_rent(account, result.run.tariff) == result.micros - result.bill.micros


def plan(**parts: Any) -> dict[str, Any]:
    prices = [{"id": "use", "amount": "1", "per_octets": 1_000}]
    return {"id": "p0", "name": "P", "kind": "base_plan", "usage_prices": prices, **parts}


PACK = {
    "id": "x0", "name": "X", "kind": "add_on", "prices": [{"id": "fee", "type": "recurring", "amount": "2"}],
    "allowances": [{"id": "data", "octets": 9_000}],
}  # fmt: skip


@pytest.mark.parametrize(("rent", "saving"), [("0", "3"), ("4", "1"), ("5", None), ("9", None)])
def test_a_package_saves_nothing_of_what_a_minimum_rent_asks_for_anyway(rent: str, saving: str | None) -> None:
    flow = flow_record(5_000, at_ms=START + DAY, end_ms=START + DAY + MINUTE)
    flows = [Arrived(flow, classification("tube", category="streaming"), START + DAY + MINUTE)]
    world = World({"offerings": [plan(minimum_rent=rent), PACK]}, "postpaid", ("p0",), flows)
    assert [item.saving for item in recommended(world)] == ([saving] if saving else [])


def test_a_package_that_keeps_out_something_else_that_was_ordered_is_no_saving() -> None:
    other = {**PACK, "id": "x1", "excludes": ["x0"], "term_days": 2}
    flows = [
        Arrived(flow_record(3_000, at_ms=at, end_ms=at + MINUTE, record_id=f"r{at}"),
                classification("tube", category="streaming"), at + MINUTE)
        for at in (START + DAY, START + 9 * DAY)
    ]  # fmt: skip
    world = World({"offerings": [plan(), PACK, other]}, "postpaid", ("p0",), flows)
    ordered = order("x1", START + 2 * DAY)
    history = History("a1", [*world.commands(world.held), (ordered, START + 2 * DAY)], flows)
    assert "x0" not in [item.offering_id for item in recommend(history, compile_tariff(world.catalogue), {})]
