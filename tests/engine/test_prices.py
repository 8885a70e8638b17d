"""Price curves: unit, graduated, volume and package prices, to the micro."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.catalogue import UsagePrice
from services.engine.prices import Curve, curve_of
from tests.engine.world import World, catalogue

TIERED = {"amount": "4", "per_octets": 1000, "tiers": [{"above": 5000, "amount": "2"}, {"above": 9000, "amount": "1"}]}


def curve(**fields: Any) -> Curve:
    return curve_of(UsagePrice.model_validate({"id": "p", **fields}))


@pytest.mark.parametrize(
    ("octets", "graduated", "volume"),
    [
        (0, 0, 0),
        (1, 4_000, 4_000),
        (4_999, 19_996_000, 19_996_000),
        (5_000, 20_000_000, 20_000_000),
        (5_001, 20_002_000, 20_000_000),
        (8_999, 27_998_000, 20_000_000),
        (9_000, 28_000_000, 20_000_000),
        (9_001, 28_001_000, 20_000_000),
        (10_001, 29_001_000, 20_000_000),
        (25_000, 44_000_000, 25_000_000),
    ],
)
def test_a_tier_begins_with_the_octet_above_its_boundary(octets: int, graduated: int, volume: int) -> None:
    """Case 4: exactly at the boundary, and one octet to either side. A volume price never falls at a cliff."""
    assert curve(**TIERED).micros(octets) == graduated
    assert curve(**TIERED, tier_mode="volume").micros(octets) == volume


@pytest.mark.parametrize(
    ("octets", "micros"), [(0, 0), (1, 2_000_000), (1000, 2_000_000), (1001, 4_000_000), (5000, 10_000_000)]
)
def test_a_package_price_charges_each_started_unit_whole(octets: int, micros: int) -> None:
    assert curve(amount="2", per_octets=1000, whole_units=True).micros(octets) == micros


def test_units_that_are_begun_count_once_a_cycle_and_not_once_a_flow() -> None:
    """Case 2 for packages: many small flows inside one unit cost one unit."""
    price = {"id": "p", "amount": "2", "per_octets": 1000, "whole_units": True}
    world = World(catalogue({"id": "o", "usage_prices": [price]}))
    world.activate("o")
    for _ in range(15):
        world.flow(100)
    assert world.money() == 4_000_000


def test_a_prepaid_balance_buys_whole_packages_or_none() -> None:
    price = {"id": "p", "amount": "2", "per_octets": 1000, "whole_units": True}
    world = World(catalogue({"id": "o", "usage_prices": [price]}), payment="prepaid")
    world.credit("5")
    world.activate("o")
    decision = world.flow(10_000)
    assert (decision.charged_octets, decision.blocked_octets, world.balance()) == (2000, 8000, 1_000_000)


def test_tiers_count_over_the_cycle() -> None:
    world = World(catalogue({"id": "o", "usage_prices": [{"id": "p", **TIERED}]}))
    world.activate("o")
    amounts = [price.amount for price in (world.flow(3000).price for _ in range(4)) if price]
    assert amounts == ["12", "10", "6", "3"]
    world.flow(1000, at="2026-04-01 00:00")
    assert world.money() == 31_000_000 + 4_000_000


def test_tiers_that_do_not_ascend_are_refused() -> None:
    for starts in ([9000, 5000], [5000, 5000]):
        with pytest.raises(ValueError, match="ascending order"):
            curve(amount="1", tiers=[{"above": start, "amount": "1"} for start in starts])
    with pytest.raises(ValueError, match="greater than 0"):
        curve(amount="1", tiers=[{"above": 0, "amount": "1"}])


def exact(made: Curve, octets: int) -> Fraction:
    """The words again, octet by octet: what each octet costs by the tier it is in, or all by the tier reached."""
    unit = made.unit_octets
    counted = -(-octets // unit) * unit if made.whole_units else octets

    def amount(octet: int) -> int:
        return [step.amount for step in made.steps if octet > step.start][-1]

    if not made.volume:
        return Fraction(sum(amount(octet) for octet in range(1, counted + 1)), unit)
    return max((Fraction(octet * amount(octet), unit) for octet in range(1, counted + 1)), default=Fraction(0))


amounts = st.sampled_from(["0", "0.000001", "0.000007", "0.5", "3"])
curves = st.builds(
    lambda amount, unit, whole, mode, tiers: curve(
        amount=amount, per_octets=unit, whole_units=whole, tier_mode=mode,
        tiers=[{"above": start, "amount": price} for start, price in sorted(dict(tiers).items())],
    ),
    amounts, st.integers(1, 9), st.booleans(), st.sampled_from(["graduated", "volume"]),
    st.lists(st.tuples(st.integers(1, 60), amounts), max_size=3),
)  # fmt: skip


@given(curves, st.integers(0, 90))
@settings(deadline=None)
def test_every_curve_is_the_sum_of_its_octets_rounded_down_once(made: Curve, octets: int) -> None:
    price = exact(made, octets)
    assert made.micros(octets) == price.numerator // price.denominator
    assert made.micros(octets) <= made.micros(octets + 1)


@given(curves, st.integers(0, 20_000_000))
@settings(deadline=None)
def test_octets_within_is_where_the_exact_price_passes_the_money(made: Curve, micros: int) -> None:
    most = made.octets_within(micros)
    if most is None:
        assert made.steps[-1].amount == 0
        assert exact(made, 200) <= micros
        return
    if most <= 200:
        assert exact(made, most) <= micros < exact(made, most + 1)
    else:
        assert exact(made, 200) <= micros
