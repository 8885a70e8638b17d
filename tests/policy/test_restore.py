"""What a lane that was rebuilt from its changelog still has to do."""

from typing import Any

from schemas import topics
from services.engine.timers import next_due_ms
from services.policy.restore import restore
from services.runtime.settings import Settings
from tests.policy.lanes import NOW_MS, Changelog, books, lane_state, run
from tests.policy.records import Record, command_value


def subscribed(*names: str) -> list[Record]:
    sent: dict[str, Any] = {"issued_at_ms": NOW_MS}
    return [
        Record(
            name.encode(), command_value("change_profile", account_id=name, subscriber_ids=[name], **sent), at, NOW_MS
        )
        for at, name in enumerate(names)
    ]


async def test_accounts_that_stand_under_the_present_catalogue_are_not_brought_under_it_again() -> None:
    lane, state = Changelog(), lane_state()
    run(lane, state, {topics.COMMANDS: subscribed("a", "b")})
    restored, _ = await restore(lane, Settings())  # type: ignore[arg-type]
    run(after := Changelog(), restored, {})
    assert (restored.adopted_version, restored.to_adopt, after.out) == ("v1", [], {})


async def test_accounts_of_an_older_catalogue_are_brought_under_the_present_one() -> None:
    lane, state = Changelog(), lane_state()
    run(lane, state, {topics.COMMANDS: subscribed("a", "b")})
    restored, _ = await restore(lane, Settings())  # type: ignore[arg-type]
    run(Changelog(), restored, {}, by=books(version="v2"))
    assert {account.catalogue_version for account in restored.accounts.states()} == {"v2"}


async def test_one_account_of_an_older_catalogue_among_newer_ones_is_brought_under_the_present_one() -> None:
    lane, state = Changelog(), lane_state()
    run(lane, state, {topics.COMMANDS: subscribed("a")})
    run(lane, state, {topics.COMMANDS: subscribed("b")}, by=books(version="v2"))
    lagging = lane.out[topics.STATE][:1]
    lane.out[topics.STATE] += lagging
    restored, _ = await restore(lane, Settings())  # type: ignore[arg-type]
    assert {account.catalogue_version for account in restored.accounts.states()} == {"v1", "v2"}
    run(Changelog(), restored, {}, by=books(version="v2"))
    assert {account.catalogue_version for account in restored.accounts.states()} == {"v2"}


async def test_what_is_due_is_due_after_a_restart_too() -> None:
    lane, state = Changelog(), lane_state()
    run(lane, state, {topics.COMMANDS: subscribed("a")})
    restored, _ = await restore(lane, Settings())  # type: ignore[arg-type]
    account = state.accounts.get("a")
    assert account is not None
    assert restored.agenda.next_ms() == state.agenda.next_ms() == next_due_ms(account) == account.cycle_end_ms
