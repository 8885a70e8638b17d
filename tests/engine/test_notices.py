"""What a person is told: each thing once."""

import pytest

from tests.engine.world import World, catalogue

DATA = {"id": "data", "octets": 1000}


def told(world: World) -> list[tuple[str, int | None]]:
    return [(note.kind, note.percent) for note in world.notifications if note.kind not in ("activated", "receipt")]


def world_of(**allowance: object) -> World:
    world = World(catalogue({"id": "plan", "allowances": [{**DATA, **allowance}]}))
    world.activate("plan")
    return world


def test_each_threshold_is_told_once_per_bucket_and_cycle() -> None:
    world = world_of(notify_percents=[50, 80, 100])
    for _ in range(20):
        world.flow(50)
    assert told(world) == [("threshold", 50), ("threshold", 80), ("exhausted", 100)]
    world.timer("2026-04-01")
    for _ in range(10):
        world.flow(50)
    assert told(world)[3:] == [("threshold", 50)]


@pytest.mark.parametrize(("volume", "expected"), [(799, []), (800, [("threshold", 80)]), (801, [("threshold", 80)])])
def test_a_threshold_is_measured_against_the_grant(volume: int, expected: list[tuple[str, int]]) -> None:
    """Case 26: eighty per cent of what was granted, not of what is left, and exactly there."""
    world = world_of()
    world.flow(300)
    world.flow(volume - 300)
    assert told(world) == expected


def test_a_threshold_of_a_grant_that_does_not_divide_is_not_told_early() -> None:
    world = World(catalogue({"id": "plan", "allowances": [{"id": "data", "octets": 7, "notify_percents": [50]}]}))
    world.activate("plan")
    world.flow(3)
    assert told(world) == []
    world.flow(1)
    assert told(world) == [("threshold", 50)]


def test_a_flow_that_passes_several_thresholds_tells_the_highest() -> None:
    world = world_of(notify_percents=[10, 50, 80])
    world.flow(850)
    assert told(world) == [("threshold", 80)]
    world = world_of(notify_percents=[10, 50, 80, 100])
    world.flow(1000)
    assert told(world) == [("exhausted", 100)]


def test_an_end_nobody_asked_about_is_not_told() -> None:
    world = world_of(notify_percents=[])
    world.flow(1000)
    assert told(world) == []


def test_a_throttle_is_always_told() -> None:
    world = world_of(notify_percents=[], on_exhausted="throttle")
    world.flow(1500)
    assert told(world) == [("throttled", 100)]


def test_a_block_is_told_once_per_rule_and_cycle() -> None:
    rules = [
        {"id": "g1", "gate_status": "closed", "scope": {"applications": ["whatsapp"]}},
        {"id": "g2", "gate_status": "closed", "scope": {"applications": ["telegram"]}},
    ]
    world = World(catalogue({"id": "plan", "rules": ["g1", "g2"]}, rules=rules))
    world.activate("plan")
    for _ in range(3):
        world.flow(5, "whatsapp")
        world.flow(5, "telegram")
    assert [note.detail for note in world.told("blocked")] == [
        f"rule {name} closes the gate; traffic of this kind does not pass" for name in ("g1", "g2")
    ]
    world.flow(5, "whatsapp", at="2026-04-02")
    assert len(world.told("blocked")) == 3


def test_an_empty_balance_is_told_once_until_money_comes() -> None:
    plan = {"id": "plan", "usage_prices": [{"id": "p", "amount": "1", "per_octets": 100}]}
    world = World(catalogue(plan), payment="prepaid")
    world.activate("plan")
    world.credit("1")
    for _ in range(3):
        world.flow(70)
    assert len(world.told("blocked")) == 1
    world.credit("1")
    world.flow(500)
    assert len(world.told("blocked")) == 2


def test_a_notification_goes_to_the_member_whose_flow_it_was() -> None:
    world = World(catalogue({"id": "plan", "allowances": [DATA]}), subscriber_ids=("a1", "b2"))
    world.activate("plan")
    world.flow(850, subscriber_id="b2")
    assert [(note.kind, note.subscriber_id) for note in world.notifications] == [
        ("activated", "a1"),
        ("threshold", "b2"),
    ]


def test_ids_stay_inside_the_contract_for_the_longest_account_id() -> None:
    import msgspec

    from schemas.command import ActivateProduct, ChangeProfile
    from schemas.notification import Notification
    from schemas.state import STATE_VERSION, AccountState
    from schemas.usage import RatedUsage
    from services.engine.commands import apply_command
    from services.engine.outcome import Outcome, Position
    from services.engine.tariff import compile_tariff
    from services.engine.timers import on_timer

    tariff = compile_tariff(catalogue({"id": "plan", "allowances": [DATA]}))
    name = "x" * 128
    account: AccountState | None = None
    outcomes = []
    for command in (
        ChangeProfile(version="1.0", command_id="1", account_id=name, issued_at_ms=10**12),
        ActivateProduct(
            version="1.0", command_id="2", account_id=name, issued_at_ms=10**12, product_id="p" * 63, offering_id="plan"
        ),
    ):
        outcome = apply_command(command, account, tariff, at=Position("c", 1023, 2**62), now_ms=10**12)
        assert isinstance(outcome, Outcome)
        account = outcome.account
        outcomes.append(outcome)
    assert account is not None
    outcomes.append(on_timer(account, tariff, partition=1023, now_ms=account.due_ms))
    for outcome in outcomes:
        for kind, items in ((Notification, outcome.notifications), (RatedUsage, outcome.usage)):
            for item in items:
                assert msgspec.json.decode(msgspec.json.encode(item), type=kind) == item
    assert any(outcome.usage for outcome in outcomes)
    assert account.version == STATE_VERSION
