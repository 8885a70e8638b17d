"""The reconciliation over books that are right: lag, retention, memory, lanes and ledgers that move."""

import asyncio
from collections.abc import Callable

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import topics
from schemas.command import ActivateProduct, ChangeProfile, EmitUsage
from services.cli.reconcile import CHECKS, Report
from services.cli.verify import LiveState, verify
from tests.cli.books import busy_world, reconcile, usage_of
from tests.cli.world import BUDGET, World


def test_right_books_pass_every_check() -> None:
    report = reconcile(busy_world().close(), strict=True)
    assert report.ok, report.violated()
    assert {check.name: check.status for check in report.checks} == dict.fromkeys(CHECKS, "ok")
    assert all(check.checked for check in report.checks)
    assert report.counts["flows"] == 27
    assert report.counts["decisions"] == 21
    assert report.counts["dead_letters"] == 6
    assert not report.waiting


def test_a_lost_record_is_named_by_its_place() -> None:
    world = busy_world().close()
    world.remove(topics.DECISIONS, lambda fields: fields["record_id"] == "r-2")
    alice = world.accounts["alice"]
    report = reconcile(world)
    assert report.check("flows_accounted").offenders == (
        f"the flow record at partition {alice.partition} offset 1 has neither decision nor dead letter",
    )


def test_only_the_first_offenders_are_kept_and_all_are_counted() -> None:
    world = busy_world().close()
    for records in world.log.topics[topics.DECISIONS].records:
        records.clear()
    found = reconcile(world).check("usage_by_account")
    assert len(found.offenders) == 5
    assert found.violations > 5


def test_lag_is_reported_and_no_violation_unless_strict() -> None:
    world = busy_world()
    alice = world.accounts["alice"]
    world.append(topics.FLOWS, alice.partition, b"alice", world.flow_record(alice, 10))
    world.publish_command(alice, EmitUsage)
    world.close()
    report = reconcile(world, world.ledger(behind=2))
    assert report.ok, report.violated()
    assert report.waiting == {"flows": 1, "commands": 1, "usage": 4}
    assert report.check("nothing_waiting").status == "skipped"
    assert not reconcile(world, world.ledger(behind=2), strict=True).ok


def test_a_command_older_than_the_accounts_memory_is_not_called_lost() -> None:
    world = World()
    alice = world.subscribe("alice")
    for _ in range(20):
        world.command(alice, ChangeProfile)
    report = reconcile(world.close(), strict=True)
    assert report.ok, report.violated()
    assert report.counts["commands_forgotten"] == 5
    assert "older than an account's memory" in (report.check("commands_accounted").skipped or "")


def test_a_repeated_command_that_did_nothing_is_accounted_for() -> None:
    world = World()
    alice = world.subscribe("alice")
    world.repeat(topics.COMMANDS)
    world.command(alice, EmitUsage)
    assert reconcile(world.close(), strict=True).ok


def test_a_refused_command_needs_no_other_trace() -> None:
    world = World()
    alice = world.subscribe("alice")
    offset = world.publish_command(alice, ActivateProduct, product_id="p2", offering_id="nonsense")
    world.dead_letter(topics.COMMANDS, alice.partition, offset, "refused_command")
    assert reconcile(world.close(), strict=True).ok


def test_a_removed_account_leaves_nothing_behind_to_compare() -> None:
    world = World()
    alice = world.subscribe("alice")
    world.flow(alice, 100)
    world.emit(alice)
    world.close()
    moved = {"bucket_id": "p1/data", "unit": "octets", "amount": "-900", "remaining": "0"}
    partition, index = world.find(topics.USAGE, usage_of("alice"))
    row = msgspec.json.decode(world.log.topics[topics.USAGE].records[partition][index].value or b"")
    expiry = {"kind": "expiry", "usage_id": "t-0-alice-1-0", "source_topic": "timer:alice", "movements": [moved]}
    parts = {"charged_octets": 0, "octets": 0, "record_count": 0}
    world.append(topics.USAGE, partition, b"alice", {**row, **expiry, **parts})
    world.log.topics[topics.STATE].append(alice.partition, b"a/alice", None)
    ledger, world.accounts = world.ledger(), {}
    report = reconcile(world, ledger, strict=True)
    assert report.ok, report.violated()


def test_a_log_whose_beginning_is_gone_is_reconciled_with_the_ledgers_sums() -> None:
    world = busy_world().close()
    ledger = world.ledger(behind=1)
    for topic in (topics.FLOWS, topics.DECISIONS, topics.USAGE, topics.DEAD_LETTERS):
        for partition in range(world.partitions):
            world.log.topics[topic].drop_before(partition, 2)
    report = reconcile(world, ledger)
    assert report.ok, report.violated()
    assert report.check("buckets_in_state").status == "ok"
    assert report.check("usage_by_account").status == "skipped"
    world.accounts["alice"].buckets["p1/data"] = 1
    assert reconcile(world.close(), ledger).check("buckets_in_state").status == "violated"


def test_without_a_ledger_its_checks_are_skipped_and_the_rest_is_made() -> None:
    world = busy_world().close()
    report = asyncio.run(verify(world.log, None, settle_s=0))
    assert report.ok, report.violated()
    assert {check.name for check in report.checks if check.status == "skipped"} == {
        "changelog_is_live_state", "ledger_holds_usage_once", "ledger_by_account", "ledger_by_bucket",
        "ledger_by_campaign", "budgets_kept", "leases_granted",
        "ledger_balances",
    }  # fmt: skip


def test_a_compacted_catalogue_topic_is_completed_by_the_database() -> None:
    world = busy_world().close()
    world.publish_catalogue("2026-02-02.1")
    del world.log.topics[topics.CATALOGUE].records[0][0]
    assert reconcile(world).check("catalogue_known").status == "ok"
    report = asyncio.run(verify(world.log, None, settle_s=0))
    assert report.check("catalogue_known").status == "ok"
    assert "compacted" in (report.check("catalogue_known").skipped or "")


def test_a_lane_that_goes_on_writing_is_not_accused() -> None:
    world = busy_world().close()
    alice = world.accounts["alice"]
    world.log.on_look = lambda: world.flow(alice, 10, "free")
    report = asyncio.run(verify(world.log, world.ledger(), settle_s=0))
    assert report.ok, report.violated()
    assert report.waiting["lanes"] == 1
    assert "went on writing" in (report.check("flows_accounted").skipped or "")


def test_a_lane_that_comes_to_rest_is_reconciled_whole() -> None:
    world = busy_world()
    alice, left = world.accounts["alice"], iter(range(40))

    def move() -> None:
        if next(left, None) is not None:
            world.flow(alice, 10, "free")
            world.change_state(alice)

    world.close()
    world.log.on_look = move
    report = asyncio.run(verify(world.log, world.ledger(), settle_s=20))
    assert report.ok, report.violated()
    assert report.check("flows_accounted").skipped is None


def survey_of(world: World, live: Callable[[], LiveState], *, wait_s: float = 0.0) -> Report:
    return asyncio.run(verify(world.log, world.ledger(), live_state=live, strict=wait_s > 0, wait_s=wait_s, settle_s=0))


def test_a_worker_that_went_on_before_it_was_asked_is_not_accused() -> None:
    world = busy_world().close()
    alice, left = world.accounts["alice"], iter(range(2))

    def live() -> LiveState:
        if next(left, None) is not None:
            alice.recent.append("just-now")
            world.change_state(alice)
        return world.live()

    report = survey_of(world, live)
    assert report.ok, report.violated()
    assert report.waiting["workers"] == 1
    assert "before its worker was asked" in (report.check("changelog_is_live_state").skipped or "")
    report = survey_of(world, live, wait_s=20)
    assert report.ok, report.violated()
    assert report.check("changelog_is_live_state").skipped is None


def test_a_worker_that_was_asked_in_the_midst_of_a_transaction_is_asked_again() -> None:
    world = busy_world().close()
    states = iter([{**world.live(), "alice": b"not committed yet"}])
    report = survey_of(world, lambda: next(states, world.live()), wait_s=20)
    assert report.ok, report.violated()
    assert next(states, None) is None


def test_a_worker_that_keeps_holding_something_else_is_accused_at_last() -> None:
    world = busy_world().close()
    report = survey_of(world, lambda: {**world.live(), "alice": b"something else"}, wait_s=0.1)
    assert [check.name for check in report.violated()] == ["changelog_is_live_state"]


def test_a_ledger_that_goes_on_booking_is_not_accused() -> None:
    world = busy_world().close()
    ledger = world.ledger(behind=1)
    rows = ledger.rows

    def book() -> object:
        ledger.booked = world.ledger().booked
        return rows()

    ledger.rows = book  # type: ignore[method-assign, assignment]
    report = reconcile(world, ledger)
    assert report.ok, report.violated()
    assert report.waiting["ledger"] == 1
    assert "went on booking" in (report.check("ledger_by_account").skipped or "")


def test_waiting_ends_as_soon_as_everything_is_there() -> None:
    world = busy_world().close()
    behind, full = world.ledger(behind=1), world.ledger()
    asked = iter(range(100))

    def booked() -> dict[int, int]:
        if next(asked) == 2:
            behind.booked, behind.held = full.booked, full.held
            behind.totals, behind.served = full.totals, full.served
        return dict(behind.booked)

    behind.booked_offsets = booked  # type: ignore[method-assign]
    report = asyncio.run(verify(world.log, behind, strict=True, wait_s=20, settle_s=0))
    assert report.ok, report.violated()
    assert not report.waiting


def test_every_reader_is_closed() -> None:
    world = busy_world().close()
    reconcile(world)
    assert world.log.readers
    assert all(reader.closed for reader in world.log.readers)


TREATMENTS = st.sampled_from(["charged", "free", "sponsored", "blocked", "not_charged"])
MAX_STEPS = 40
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("flow"), st.integers(0, 4), st.integers(0, 2**65), TREATMENTS),
        st.tuples(st.just("small"), st.integers(0, 4), st.integers(0, 400), st.just("charged")),
        st.tuples(st.just("emit"), st.integers(0, 4), st.just(0), TREATMENTS),
        st.tuples(st.just("credit"), st.integers(0, 4), st.integers(1, 10**9), TREATMENTS),
        st.tuples(st.just("refuse"), st.integers(0, 4), st.just(0), TREATMENTS),
    ),
    max_size=MAX_STEPS,
)


@settings(deadline=None, max_examples=40)
@given(partitions=st.integers(1, 4), steps=STEPS, behind=st.integers(0, 3))
def test_any_right_books_pass(partitions: int, steps: list[tuple[str, int, int, str]], behind: int) -> None:
    world = World(partitions)
    accounts = [world.subscribe(f"account-{number}") for number in range(5)]
    for step, which, number, treatment in steps:
        account = accounts[which]
        if step in {"flow", "small"}:
            # All steps together stay within the budget: beyond it the books would be wrong.
            octets = min(number, BUDGET // MAX_STEPS if treatment == "sponsored" else 2**62)
            world.flow(account, octets, treatment)  # type: ignore[arg-type]
        elif step == "emit":
            world.command(account, EmitUsage)
        elif step == "credit":
            world.credit(account, str(number))
        else:
            world.refuse(account, "not_json")
    report = reconcile(world.close(), world.ledger(behind=behind))
    assert report.ok, report.violated()
