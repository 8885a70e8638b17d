"""Rated usage: gathered per rating key, told once, and always the state."""

from typing import Any

from schemas.topics import FLOWS
from services.engine.usage import MAX_GATHERED_OCTETS
from tests.engine.world import PARTITION, World, catalogue

PLAN: dict[str, Any] = {
    "id": "plan",
    "allowances": [
        {"id": "data", "octets": 10_000},
        {"id": "tube", "octets": 500, "scope": {"applications": ["youtube"]}},
    ],
    "usage_prices": [{"id": "beyond", "amount": "0.5", "per_octets": 1000}],
    "rules": ["free"],
}
FREE = {"id": "free", "charging": "free", "scope": {"applications": ["facebook"]}}


def world_of(**profile: Any) -> World:
    world = World(catalogue(PLAN, rules=[FREE]), **profile)
    if profile.get("payment") == "prepaid":
        world.credit("1")
    world.activate("plan")
    world.usage_before = len(world.usage)  # type: ignore[attr-defined]
    return world


def rows(world: World) -> list[Any]:
    return [row for row in world.usage if row.kind == "usage"]


def test_flows_of_one_key_become_one_row() -> None:
    world = world_of()
    start = world.now_ms
    for n in range(5):
        world.flow(10, "whatsapp", at=start + n * 1000)
    assert rows(world) == []
    world.emit()
    (row,) = rows(world)
    assert (row.octets, row.charged_octets, row.record_count) == (50, 50, 5)
    assert (row.start_ms, row.end_ms) == (start, start + 5000)
    assert (row.rule_id, row.application, row.category, row.treatment) == ("default", "whatsapp", "voip_im", "charged")
    assert row.evidence == "server_name:whatsapp.com"
    assert [(m.bucket_id, m.unit, m.amount, m.remaining) for m in row.movements] == [
        ("p1/data", "octets", "-50", "9950")
    ]


def test_the_id_of_a_row_follows_from_its_offsets() -> None:
    world = world_of()
    world.flow(10)
    world.flow(10, "facebook")
    world.flow(10)
    world.emit()
    assert [(row.usage_id, row.source_topic, row.ordinal) for row in rows(world)] == [
        (f"f-{PARTITION}-2-4-0", FLOWS, 0), (f"f-{PARTITION}-3-3-0", FLOWS, 0),
    ]  # fmt: skip


def test_each_difference_that_a_bill_shows_is_a_key_of_its_own() -> None:
    world = world_of()
    for fields in (
        {"app": "whatsapp"}, {"app": "telegram"}, {"app": "whatsapp", "service": "call"},
        {"app": "whatsapp", "subscriber_id": "b2"}, {"app": "whatsapp", "category": "other"},
        {"app": "whatsapp", "end_reason": "reset", "octets_down": 0, "octets_up": 5},
    ):  # fmt: skip
        world.flow(**{"volume": 10, **fields})
    world.emit()
    assert len(rows(world)) == 6


def test_movements_of_several_rows_follow_each_other_without_gap() -> None:
    world = world_of()
    for _ in range(3):
        for app in ("whatsapp", "youtube", "netflix"):
            world.flow(100, app)
    world.emit()
    left = [m.remaining for row in rows(world) for m in row.movements if m.bucket_id == "p1/data"]
    assert left == ["9700", "9400"]


def test_nothing_gathered_is_nothing_told() -> None:
    world = world_of()
    before = world.account
    outcome = world.emit()
    assert (outcome.usage, outcome.account) == ((), before)


def test_the_end_of_a_bucket_is_told_at_once() -> None:
    world = world_of()
    world.flow(100, "whatsapp")
    world.flow(600, "youtube")
    assert [row.octets for row in rows(world)] == [100, 600]
    assert [(m.bucket_id, m.remaining) for m in rows(world)[1].movements] == [("p1/tube", "0"), ("p1/data", "9800")]


def test_the_end_of_the_money_is_told_at_once() -> None:
    world = world_of(payment="prepaid")
    world.flow(10_000)
    told = len(rows(world))
    world.flow(1_000)
    assert len(rows(world)) == told
    world.flow(5_000)
    sold, stopped = rows(world)[-2:]
    assert [(row.treatment, row.amount, row.blocked_octets) for row in (sold, stopped)] == [
        ("charged", "0.5", 0), ("blocked", "0.5", 4_000),
    ]  # fmt: skip
    assert [m.remaining for row in (sold, stopped) for m in row.movements] == ["500000", "0"]
    assert [(row.price_octets_from, row.price_octets_to) for row in (sold, stopped)] == [(0, 1_000), (1_000, 2_000)]


def test_a_prepaid_row_moves_the_balance_and_a_postpaid_one_does_not() -> None:
    for payment, moved in (("prepaid", ["-500000"]), ("postpaid", [])):
        world = world_of(payment=payment)
        world.flow(10_000)
        world.flow(1_000)
        world.emit()
        row = rows(world)[-1]
        assert (row.amount, row.currency) == ("0.5", "EUR")
        assert [m.amount for m in row.movements if m.bucket_id == "main"] == moved


def test_an_enormous_flow_is_told_at_once() -> None:
    world = world_of()
    world.flow(MAX_GATHERED_OCTETS, "facebook")
    assert rows(world) == []
    world.flow(MAX_GATHERED_OCTETS + 1, "facebook")
    assert [row.free_octets for row in rows(world)] == [2 * MAX_GATHERED_OCTETS + 1]


def test_gathered_usage_knows_since_when_it_waits() -> None:
    world = world_of()
    assert world.account is not None
    assert world.account.pending_since_ms == 0
    world.flow(1, at="2026-03-10 12:00:01")
    world.flow(1, at="2026-03-10 12:00:05")
    assert world.account.pending_since_ms == world.time("2026-03-10 12:00:01")
    world.emit()
    assert world.account.pending_since_ms == 0
