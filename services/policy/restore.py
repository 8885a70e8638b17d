"""A lane's beginning: rebuild its state from the changelog, then its agenda from the state."""

import asyncio

import msgspec

from schemas.state import SeenRecords
from schemas.topics import STATE
from services.engine.classify import SubscriberMemory
from services.policy import leases
from services.policy.accounts import KEY_PREFIX, Accounts
from services.policy.agenda import Agenda
from services.policy.leases import Leases
from services.policy.seen import SeenIds
from services.policy.transaction import LaneState
from services.runtime.log import Lane
from services.runtime.settings import Settings

YIELD_EVERY = 5_000

_decode_slot = msgspec.msgpack.Decoder(SeenRecords).decode


async def restore(lane: Lane, settings: Settings) -> tuple[LaneState, int]:
    """The state as of the last commit, and how many changelog records it took.

    Values are kept as they are; only the newest of a key is ever decoded.
    """
    newest: dict[bytes | None, bytes | None] = {}
    count = 0
    async for records in lane.replay(STATE):
        count += len(records)
        newest.update([(record.key, record.value) for record in records])
    return await _rebuild(newest, settings), count


async def _rebuild(newest: dict[bytes | None, bytes | None], settings: Settings) -> LaneState:
    state = LaneState(
        accounts=Accounts(),
        seen=SeenIds(settings.dedup_records_per_lane),
        agenda=Agenda(settings.usage_interval_ms),
        memory=SubscriberMemory(subscribers=settings.memory_subscribers_per_lane),
        leases=Leases(settings.lease_idle_ms),
    )
    slots = []
    while newest:
        key, raw = newest.popitem()
        if key is None or raw is None:
            # A tombstone: what it stands for was removed.
            continue
        if key.startswith(KEY_PREFIX):
            state.accounts.restore(key[len(KEY_PREFIX) :].decode(), raw)
        elif key.startswith(leases.KEY_PREFIX):
            state.leases.restore(raw)
        else:
            slots.append(_decode_slot(raw))
    state.seen.restore(slots)
    await _fill_agenda(state)
    return state


async def _fill_agenda(state: LaneState) -> None:
    versions: set[str] = set()
    any_told = False
    for number, account in enumerate(state.accounts.states(), start=1):
        state.agenda.note_usage(account)
        state.agenda.note_calendar(account)
        versions.add(account.catalogue_version)
        any_told = any_told or bool(account.empty_campaigns)
        if number % YIELD_EVERY == 0:
            await asyncio.sleep(0)
    if len(versions) == 1:
        # All accounts stand under one version already: while it is the present one, none has to be looked at for it.
        state.adopted_version = versions.pop()
    # Some may have heard of a budget's end and not yet of its return.
    state.adopted_empty = None if any_told else frozenset()
