"""Late usage beyond the grace is settled by order: charged when it happened, charged now, or waived; once."""

from typing import Any

import pytest

from schemas.command import CorrectedUsage, PastBucket, PastPeriod, PastTotal, ReleaseLate
from schemas.usage import RatedUsage
from services.engine.late import GRACE_MS
from tests.engine.world import RefusedError, World, catalogue, ms

DATA = {"id": "data", "octets": 1000}
PRICE = {"id": "beyond", "amount": "1", "per_octets": 100, "cap": "3"}
START, END = ms("2026-03-10 12:00"), ms("2026-04-01")
FREE = {"id": "free", "charging": "free", "scope": {"applications": ["facebook"]}}


def late_world(volume: int = 300, app: str | None = None, *, rules: Any = (), **more: Any) -> tuple[World, RatedUsage]:
    """A world in April, and a row that lists a flow of March."""
    fields = {key: more.pop(key) for key in ("suspect", "rat") if key in more}
    plan = {"id": "plan", "allowances": [DATA], "usage_prices": [PRICE], "rules": [rule["id"] for rule in rules]}
    world = World(catalogue(plan, rules=rules), **more)
    if more.get("payment") == "prepaid":
        world.credit("2")
    world.activate("plan", "p")
    world.timer(END + GRACE_MS)
    world.flow(volume, app, at=END - 1000, **fields)
    world.now_ms = END + GRACE_MS
    return world, world.usage[-1]


def past(left: int, *, sold: int = 0, amount: str = "0") -> PastPeriod:
    bucket = PastBucket(
        bucket_id="p/data", offering_id="plan", unit="octets", remaining=left, granted=1000, valid_from_ms=START,
        valid_until_ms=END,
    )  # fmt: skip
    total = PastTotal(counter_id="price:plan/beyond", octets=sold, amount=amount)
    return PastPeriod(products=(("p", "plan"),), buckets=(bucket,), totals=(total,))


def release(world: World, row: RatedUsage, period: str, **fields: Any) -> list[RatedUsage]:
    names = [name for name in CorrectedUsage.__struct_fields__ if hasattr(row, name)]
    line = CorrectedUsage(**{name: getattr(row, name) for name in names})
    told = len(world.usage)
    world.command(ReleaseLate, line=line, period=period, **fields)
    return world.usage[told:]


def test_late_usage_is_charged_now() -> None:
    world, row = late_world()
    off, again = release(world, row, "present")
    assert (off.kind, off.octets, off.not_charged_octets, off.corrects) == ("refund", 300, 300, row.usage_id)
    assert (again.kind, again.charged_octets, again.corrects) == ("usage", 300, row.usage_id)
    assert again.start_ms == world.now_ms
    assert [(moved.bucket_id, moved.amount) for moved in again.movements] == [("p/data", "-300")]
    assert world.left("p/data") == 700


def test_late_usage_is_waived() -> None:
    world, row = late_world()
    off, again = release(world, row, "none")
    assert (off.kind, again.kind, again.treatment, again.free_octets, again.amount) == (
        "refund", "usage", "free", 300, "0",
    )  # fmt: skip
    assert again.cause == off.cause != "late"
    assert world.left("p/data") == 1000


def test_late_usage_is_charged_in_the_period_when_it_happened() -> None:
    """It draws what expired of the bucket of then, and nothing of the one of now."""
    world, row = late_world()
    off, back, again = release(world, row, "past", past=past(900))
    assert (off.kind, back.kind, again.kind) == ("refund", "expiry", "usage")
    assert [(moved.bucket_id, moved.amount) for moved in back.movements] == [("p/data", "300")]
    assert [(moved.bucket_id, moved.amount) for moved in again.movements] == [("p/data", "-300")]
    assert (again.start_ms, again.charged_octets, again.amount) == (row.start_ms, 300, "0")
    assert world.left("p/data") == 1000


@pytest.mark.parametrize(
    ("left", "sold", "charged", "blocked", "amount"),
    [(0, 0, 300, 0, "3"), (200, 0, 300, 0, "1"), (0, 250, 50, 250, "0.5"), (100, 300, 100, 200, "0")],
)
def test_it_counts_for_the_caps_of_its_own_period(
    left: int, sold: int, charged: int, blocked: int, amount: str
) -> None:
    world, row = late_world(payment="prepaid")
    world.credit("5")
    again = release(world, row, "past", past=past(left, sold=sold, amount=f"{sold / 100}"))[-1]
    assert (again.charged_octets, again.blocked_octets, again.amount) == (charged, blocked, amount)
    assert world.balance() == 7_000_000 - round(float(amount) * 1_000_000)
    assert world.account is not None
    assert not world.account.counters
    assert world.told("cap_reached") == []


def late_call() -> tuple[World, RatedUsage]:
    """A world in April whose plan pays by time, and a row that lists a call of ten seconds in March."""
    plan = {"id": "plan", "allowances": [{"id": "calls", "seconds": 60}, {**DATA, "priority": 200}]}
    world = World(catalogue(plan))
    world.activate("plan", "p")
    world.timer(END + GRACE_MS)
    world.flow(300, at=END - 20_000, lasts=10_000)
    world.now_ms = END + GRACE_MS
    return world, world.usage[-1]


def test_a_late_call_lasts_as_long_as_it_did() -> None:
    world, row = late_call()
    again = release(world, row, "present")[-1]
    assert [(moved.bucket_id, moved.unit, moved.amount) for moved in again.movements] == [("p/calls", "ms", "-10000")]
    assert (world.left("p/calls"), again.timed_octets) == (50_000, 300)


def test_a_late_call_draws_what_expired_of_the_time_of_then() -> None:
    world, row = late_call()
    bucket = PastBucket(
        bucket_id="p/calls", offering_id="plan", unit="ms", remaining=4_000, granted=60_000, valid_from_ms=START,
        valid_until_ms=END,
    )  # fmt: skip
    period = PastPeriod(products=(("p", "plan"),), buckets=(bucket, *past(1000).buckets))
    *_, again = release(world, row, "past", past=period)
    assert [(moved.bucket_id, moved.unit, moved.amount) for moved in again.movements] == [
        ("p/calls", "ms", "-4000"), ("p/data", "octets", "-180"),
    ]  # fmt: skip
    assert (world.left("p/calls"), world.left("p/data"), again.timed_octets) == (60_000, 1000, 120)


def test_late_usage_meets_the_rules_of_its_kind() -> None:
    for app, suspect, treatment in (
        ("facebook", False, "free"),
        ("facebook", True, "charged"),
        (None, False, "charged"),
    ):
        world, row = late_world(app=app, suspect=suspect, rules=[FREE])
        assert release(world, row, "present")[-1].treatment == treatment


def test_a_release_is_applied_once() -> None:
    world, row = late_world()
    release(world, row, "present", command_id="same")
    assert release(world, row, "present", command_id="same") == []
    assert world.left("p/data") == 700


def test_what_was_charged_or_brings_no_period_is_refused() -> None:
    world, row = late_world()
    with pytest.raises(RefusedError, match="past: null"):
        release(world, row, "past")
    world.flow(10)
    world.emit()
    with pytest.raises(RefusedError, match=f"not_late: usage_id: '{world.usage[-1].usage_id}'"):
        release(world, world.usage[-1], "none")


def test_a_failed_flow_is_not_listed_however_late_it_comes() -> None:
    world, _ = late_world()
    decision = world.flow(0, at=END - 1000, octets_up=50, end_reason="reset")
    assert decision.note == "the flow failed, so it costs nothing"
    world.emit()
    assert (world.usage[-1].not_charged_octets, world.usage[-1].cause) == (50, None)
