"""Connections that campaigns paid for, in corrections: what goes back, and what is counted again."""

from typing import Any

import pytest

from schemas.command import RefundUsage
from tests.engine.test_correction_commands import line, rerate, rows, sponsored, tariff, void
from tests.engine.world import World

TUBE: dict[str, Any] = {
    "id": "tube", "charging": "sponsored", "campaign": "c", "scope": {"applications": ["youtube"]},
}  # fmt: skip


def counted(one: World) -> dict[str, int]:
    """Connections that each campaign has to pay for: usage less refunds."""
    sums: dict[str, int] = {}
    for row in one.usage:
        sign = {"usage": 1, "refund": -1}.get(row.kind, 0)
        for item in row.sponsorships:
            sums[item.campaign_id] = sums.get(item.campaign_id, 0) + sign * item.connections
    return sums


def watched(flows: int = 3, **fields: Any) -> World:
    """So many connections of one row, after a record of one that goes on."""
    one = sponsored(**fields)
    one.lease("c", 5_000)
    one.flow(10, "youtube", end_reason="active")
    for _ in range(flows):
        one.flow(20, "youtube")
    one.emit()
    return one


def test_a_voided_row_gives_back_all_its_connections() -> None:
    one = watched()
    assert counted(one) == {"c": 3}
    void(one, rows(one)[0])
    assert counted(one) == {"c": 0}


@pytest.mark.parametrize(("flag", "left"), [(True, 0), (False, 3)])
def test_a_refund_gives_sponsors_their_connections_back_together_with_their_octets(flag: bool, left: int) -> None:
    one = watched()
    [row] = rows(one)
    one.command(RefundUsage, line=line(row), sponsored=flag)
    assert counted(one) == {"c": left}


@pytest.mark.parametrize("budget", [None, 10_000])
def test_what_is_rated_again_under_the_same_tariff_has_the_same_connections(budget: int | None) -> None:
    one = watched(budget=budget)
    rerate(one, rows(one))
    rerate(one, [row for row in rows(one) if row.octets])
    assert counted(one) == {"c": 3}


def test_who_pays_in_the_stead_of_another_has_its_connections() -> None:
    one = watched(budget=None)
    other = {"id": "other", "sponsor_id": "t"}
    one.publish(tariff({**TUBE, "campaign": "other"}, campaigns=[{"id": "c", "sponsor_id": "s"}, other]))
    rerate(one, rows(one))
    assert counted(one) == {"c": 0, "other": 3}


def test_who_pays_no_more_counts_nothing() -> None:
    one = watched()
    one.publish(tariff({"id": "tube"}, campaigns=[{"id": "c", "sponsor_id": "s"}]))
    rerate(one, rows(one))
    assert counted(one) == {"c": 0}


def test_who_pays_for_the_first_time_counts_nothing_since_nobody_knows_how_many_flows_ended() -> None:
    one = sponsored({"id": "tube"}, budget=None)
    one.flow(20, "youtube")
    one.emit()
    one.publish(tariff(TUBE, campaigns=[{"id": "c", "sponsor_id": "s"}]))
    rerate(one, rows(one))
    assert (one.usage[-1].sponsored_octets, counted(one)) == (20, {"c": 0})
