"""Rows of the ledger that were written before rows said whose price they were sold at."""

from typing import Any

import pytest

from schemas.command import CorrectedUsage, RefundUsage, RerateUsage, VoidUsage
from schemas.usage import RatedUsage
from tests.engine.world import RefusedError, World, catalogue, micros

CHAT: dict[str, Any] = {"categories": ["voip_im"]}


def a_price(amount: str, **more: Any) -> dict[str, Any]:
    return {"id": "extra", "amount": amount, "per_octets": 1, **more}


def sold(general: int, chat: int) -> World:
    """Octets sold at two prices of one name."""
    more = {"id": "more", "usage_prices": [a_price("0.5", scope=CHAT)]}
    one = World(catalogue({"id": "plan", "usage_prices": [a_price("0.1")]}, more))
    one.activate("plan")
    one.activate("more")
    for octets, app in ((general, "netflix"), (chat, "whatsapp")):
        if octets:
            one.flow(octets, app)
    one.emit()
    return one


def old(one: World, category: str) -> CorrectedUsage:
    """The row of a category, as it was written before 1.2."""
    row: RatedUsage = next(row for row in one.usage if row.kind == "usage" and row.category == category)
    names = [name for name in CorrectedUsage.__struct_fields__ if hasattr(row, name)]
    return CorrectedUsage(**{**{name: getattr(row, name) for name in names}, "price_offering_id": None})


def totals(one: World) -> dict[str, tuple[int, int]]:
    assert one.account is not None
    return {item.counter_id: (item.octets, item.micros) for item in one.account.counters}


@pytest.mark.parametrize("order", ["void", "rerate"])
def test_a_row_that_may_be_of_either_of_two_prices_is_left_as_it_is(order: str) -> None:
    one = sold(10, 10)
    before = totals(one)
    row = old(one, "voip_im")
    fields: dict[str, Any] = {"line": row} if order == "void" else {"lines": (row,)}
    with pytest.raises(RefusedError, match=r"^several_prices: .* price 'extra', which more and plan have"):
        one.command(VoidUsage if order == "void" else RerateUsage, **fields, reclassified=0)
    assert totals(one) == before


def test_such_a_row_can_be_refunded_since_no_total_changes() -> None:
    one = sold(10, 10)
    one.command(RefundUsage, line=old(one, "voip_im"), amount="5")
    assert one.money() == micros("1")


def test_a_row_that_only_one_of_the_prices_has_sold_enough_for_is_of_that_one() -> None:
    one = sold(4, 10)
    one.command(VoidUsage, line=old(one, "voip_im"), reclassified=0)
    assert totals(one) == {"price:plan/extra": (4, 400_000)}
    one = sold(0, 10)
    one.command(VoidUsage, line=old(one, "voip_im"), reclassified=0)
    assert totals(one) == {}
