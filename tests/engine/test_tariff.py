"""Compiling a catalogue: prices, thresholds, marks."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.catalogue import UsagePrice
from schemas.catalogue_allowances import Allowance
from schemas.catalogue_scopes import Scope
from services.engine.tariff import (
    MAX_TOTAL_MICROS,
    MAX_TOTAL_OCTETS,
    CompiledAllowance,
    CompiledPrice,
    Reach,
    compile_tariff,
)
from tests.engine.world import catalogue

PRICES = {
    "amount": st.integers(0, 10**15),
    "per_octets": st.integers(1, 10**12),
    "cap": st.none() | st.integers(0, 10**9),
}


def price(amount: int, per_octets: int, cap: int | None = None) -> CompiledPrice:
    made = UsagePrice(id="p", amount=amount, per_octets=per_octets, cap=cap)
    return CompiledPrice(made, Reach.of(made.scope), "price:p")


@pytest.mark.parametrize(
    ("amount", "per_octets", "cap", "octets", "micros"),
    [
        (2_000_000, 10**9, None, 10**9, 2_000_000),
        (2_000_000, 10**9, None, 10**9 - 1, 1_999_999),
        (2_000_000, 10**9, None, 499, 0),
        (2_000_000, 10**9, None, 500, 1),
        (50_000, 1, None, 3 * 10**9, 150_000_000_000_000),
        (7, 3, 20, 8, 18),
        (7, 3, 20, 9, 21),
        (0, 1, 5, 10**12, 0),
    ],
)
def test_money_is_rounded_down_once(amount: int, per_octets: int, cap: int | None, octets: int, micros: int) -> None:
    assert price(amount, per_octets, cap).amount_up_to(octets) == micros


@given(octets=st.integers(0, 10**15), more=st.integers(0, 10**15), **PRICES)
@settings(deadline=None)
def test_a_price_never_falls_and_never_passes_the_exact_one(
    octets: int, more: int, amount: int, per_octets: int, cap: int | None
) -> None:
    made = price(amount, per_octets, cap)
    first, second = made.amount_up_to(octets), made.amount_up_to(octets + more)
    assert 0 <= first <= second
    assert first * per_octets <= octets * amount


@given(micros=st.integers(0, 10**15), **PRICES)
@settings(deadline=None)
def test_octets_within_is_the_largest_number_whose_exact_price_is_covered(
    micros: int, amount: int, per_octets: int, cap: int | None
) -> None:
    made = price(amount, per_octets)
    most = made.octets_within(micros)
    if amount == 0:
        assert most is None
        return
    assert most is not None
    assert most * amount <= micros * per_octets < (most + 1) * amount
    assert made.amount_up_to(most) <= micros


@given(octets=st.integers(0, 10**6), percents=st.sets(st.integers(1, 100)), told=st.integers(0, 100))
@settings(deadline=None)
def test_a_threshold_lies_where_the_percentage_is_reached(octets: int, percents: set[int], told: int) -> None:
    allowance = Allowance(id="a", octets=octets, notify_percents=tuple(percents))
    compiled = CompiledAllowance("o", allowance, Reach.of(Scope()), tuple(sorted(p for p in percents if p < 100)))
    following = [p for p in sorted(percents) if told < p < 100]
    at = compiled.notice_at(octets, told)
    if not following:
        assert at == 0
        return
    assert (octets - at) * 100 >= following[0] * octets
    assert at == octets or (octets - at - 1) * 100 < following[0] * octets


def test_a_rules_mark_differs_as_soon_as_a_gateway_would_see_a_difference() -> None:
    base = {"id": "r", "precedence": 5, "scope": {"applications": ["netflix"]}}
    changes = ({"precedence": 6}, {"gate_status": "closed"}, {"rating_group": 7}, {"qos": {"arp": 3}},
               {"scope": {"applications": ["youtube"]}}, {"scope": {"categories": ["social"]}},
               {"charging": "sponsored", "campaign": "c"}, {"redirect_url": "https://pay.example"},
               {"steering": "wlan_preferred"}, {"suspect": "only"}, {"min_congestion": 1}, {"max_congestion": 30},
               {"scope": {"applications": ["netflix"], "dnns": ["ims"]}},
               {"scope": {"applications": ["netflix"], "rat_types": ["NR"]}},
               {"scope": {"applications": ["netflix"], "services": ["call"]}})  # fmt: skip
    unseen = ({"name": "another"}, {"min_confidence": 50}, {"service_identifier": 3})

    def mark(change: object) -> str:
        made = catalogue(rules=[{**base, **change}], campaigns=[{"id": "c", "sponsor_id": "s"}])  # type: ignore[dict-item]
        return compile_tariff(made).rules["r"].open_mark

    assert all(mark(change) != mark({}) for change in changes)
    assert all(mark(change) == mark({}) for change in unseen)
    assert mark({}).startswith("r#")


def test_what_can_be_sold_in_a_cycle_fits_into_the_state() -> None:
    prices = [{"id": f"p{n}", "amount": amount, "per_octets": per} for n, (amount, per) in enumerate(
        [(0, 1), (1, 1), (10**15, 1), (10**15, 2**60), (1, 2**60)])]  # fmt: skip
    compiled = compile_tariff(catalogue({"id": "o", "usage_prices": prices})).offerings["o"].prices
    for item in compiled:
        assert 0 < item.most_octets <= MAX_TOTAL_OCTETS
        assert item.amount_up_to(item.most_octets) <= MAX_TOTAL_MICROS
