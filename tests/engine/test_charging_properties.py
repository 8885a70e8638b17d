"""What holds for every tariff and every series of flows."""

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.units import format_micros
from tests.engine.world import World, catalogue

APPS = st.sampled_from(["netflix", "youtube", "whatsapp", None])
SCOPES = st.sampled_from(
    [
        {},
        {"categories": ["streaming"]},
        {"applications": ["netflix"]},
        {"categories": ["voip_im"], "services": ["call"]},
    ]
)
MONEY = st.integers(0, 900_000).map(format_micros)


@st.composite
def prices(draw: st.DrawFn, number: int) -> dict[str, Any]:
    """A price per octets or per connection."""
    connection = draw(st.booleans())
    unit = {"unit": "connection", "per_connections": draw(st.integers(1, 3))} if connection else {
        "per_octets": draw(st.sampled_from([1, 3, 1000]))
    }  # fmt: skip
    tier = {"above": draw(st.integers(1, 50)), "amount": draw(MONEY)}
    return {
        "id": f"{'c' if connection else 'u'}{number}", "amount": draw(MONEY), "scope": draw(SCOPES), **unit,
        "cap": draw(st.none() | MONEY), "on_cap": draw(st.sampled_from(["block", "free"])),
        "tiers": [tier] if draw(st.booleans()) else [], "whole_units": draw(st.booleans()),
    }  # fmt: skip


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """A plan of buckets and prices."""
    buckets = [
        {
            "id": f"b{number}", "octets": draw(st.integers(0, 300)), "scope": draw(SCOPES),
            "on_exhausted": draw(st.sampled_from(["continue", "throttle", "block"])),
        }
        for number in range(draw(st.integers(0, 3)))
    ]  # fmt: skip
    sold = [draw(prices(number)) for number in range(draw(st.integers(0, 3)))]
    return {"id": "plan", "kind": "base_plan", "allowances": buckets, "usage_prices": sold}


@st.composite
def sessions(draw: st.DrawFn) -> list[tuple[str | None, str | None, list[int]]]:
    """Flows, each as the octets of its records."""
    parts = st.lists(st.integers(0, 90), min_size=1, max_size=4)
    return draw(st.lists(st.tuples(APPS, st.sampled_from([None, "call"]), parts), min_size=1, max_size=6))


SUMS = 8


class Lived(World):
    """An account that lived through sessions."""

    def __init__(
        self, *offerings: dict[str, Any], prepaid: bool, whole: bool, lived: Any, limit: str | None = None
    ) -> None:
        super().__init__(catalogue(*offerings), payment="prepaid" if prepaid else "postpaid")
        self.credit("2.5")
        self.limit(limit)
        for offering in offerings:
            self.activate(offering["id"])
        for app, service, parts in lived:
            volumes = [sum(parts)] if whole else parts
            for number, volume in enumerate(volumes, start=1):
                end_reason = "idle" if number == len(volumes) else "active"
                self.flow(volume, app, service=service, end_reason=end_reason)
        self.emit()

    def totals(self) -> list[int]:
        """SUMS sums, then what is left of each bucket."""
        parts = ("charged", "free", "sponsored", "blocked", "not_charged")
        octets = [sum(getattr(item, f"{part}_octets") for item in self.decisions) for part in parts]
        held = [] if self.account is None else [bucket.remaining for bucket in self.account.buckets]
        connections = sum(row.connections for row in self.usage)
        return [*octets, self.money(), self.balance(), connections, *held]


@settings(max_examples=150, deadline=None)
@given(plan=plans(), lived=sessions(), prepaid=st.booleans(), limit=st.none() | MONEY)
def test_in_how_many_records_a_flow_comes_changes_no_total(
    plan: dict[str, Any], lived: Any, prepaid: bool, limit: str | None
) -> None:
    split = Lived(plan, prepaid=prepaid, whole=False, lived=lived, limit=limit)
    one = Lived(plan, prepaid=prepaid, whole=True, lived=lived, limit=limit)
    assert split.totals() == one.totals()
    assert split.gates() == one.gates()


@settings(max_examples=60, deadline=None)
@given(plan=plans(), lived=sessions(), prepaid=st.booleans())
def test_draws_priced_free_and_blocked_octets_are_the_octets_that_came(
    plan: dict[str, Any], lived: Any, prepaid: bool
) -> None:
    world = Lived(plan, prepaid=prepaid, whole=False, lived=lived)
    came = sum(sum(parts) for _, _, parts in lived)
    drawn = sum(draw.octets for item in world.decisions for draw in item.draws)
    sold = sum(item.price.octets_to - item.price.octets_from for item in world.decisions if item.price)
    rest = sum(item.free_octets + item.blocked_octets for item in world.decisions)
    assert drawn + sold + rest == came
    rows = [row for row in world.usage if row.kind == "usage"]
    assert sum(row.octets for row in rows) == came
    assert all(bucket.remaining >= 0 for bucket in (world.account.buckets if world.account else ()))


@settings(max_examples=60, deadline=None)
@given(plan=plans(), lived=sessions(), prepaid=st.booleans())
def test_an_unrelated_package_changes_no_charge(plan: dict[str, Any], lived: Any, prepaid: bool) -> None:
    apart = {"categories": ["social"]}
    package = {
        "id": "social", "allowances": [{"id": "b", "octets": 500, "scope": apart, "on_exhausted": "throttle"}],
        "usage_prices": [{"id": "s", "amount": "9", "scope": apart}],
    }  # fmt: skip
    without, beside = (
        Lived(*offerings, prepaid=prepaid, whole=False, lived=lived) for offerings in ((plan,), (plan, package))
    )
    assert without.totals()[:SUMS] == beside.totals()[:SUMS]
    assert all(without.left(f"p1/b{number}") == beside.left(f"p1/b{number}") for number in range(3))
    assert [item.price for item in without.decisions] == [item.price for item in beside.decisions]


@settings(max_examples=80, deadline=None)
@given(plan=plans(), lived=sessions(), percent=st.integers(0, 99))
def test_a_cheaper_price_makes_no_total_dearer(plan: dict[str, Any], lived: Any, percent: int) -> None:
    """All prices of the plan are cut by the same share; tiers could say otherwise, and a cap could let more pass."""
    dear = copy.deepcopy(plan)
    for price in dear["usage_prices"]:
        price |= {"tiers": [], "cap": None}
    cheap = copy.deepcopy(dear)
    for price in cheap["usage_prices"]:
        whole, _, part = price["amount"].partition(".")
        price["amount"] = format_micros((int(whole) * 10**6 + int(part.ljust(6, "0") or 0)) * percent // 100)
    before, after = (Lived(tariff, prepaid=False, whole=False, lived=lived) for tariff in (dear, cheap))
    assert after.money() <= before.money()
