"""A lane that keeps its outputs in lists, and a small catalogue to decide by."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from schemas import topics
from schemas.catalogue import Catalogue
from services.engine.classify import SubscriberMemory
from services.policy.accounts import Accounts
from services.policy.agenda import Agenda
from services.policy.books import Books
from services.policy.seen import SeenIds
from services.policy.transaction import LaneState, Transaction
from services.runtime.lanes import check_fits, record_octets
from services.runtime.log import Output
from tests.policy.records import Record

NOW_MS = 1_700_000_000_000

CATALOGUE: dict[str, Any] = {
    "version": "v1",
    "applications": [
        {"id": "player", "name": "Player", "category": "streaming",
         "pfds": [{"pfd_id": "names", "domain_names": ["example.net"]}]},
    ],
    "offerings": [
        {"id": "plan", "name": "Plan", "kind": "base_plan",
         "allowances": [{"id": "data", "octets": "1 MB"}],
         "usage_prices": [{"id": "beyond", "amount": "1", "per_octets": "1 MB"}]},
    ],
}  # fmt: skip


class ListLane:
    """Keeps what was appended, by topic; what a topic does not take is refused, as by the logs."""

    def __init__(self, partition: int = 0) -> None:
        self.partition = partition
        self.out: dict[str, list[tuple[bytes | None, bytes | None]]] = {}

    def append(self, topic: str, *, key: bytes | None, value: bytes | None, timestamp_ms: int) -> None:
        check_fits(topic, record_octets(key, value), topics.BY_NAME[topic].max_message_octets)
        self.out.setdefault(topic, []).append((key, value))

    def append_all(self, topic: str, records: Sequence[Output], *, timestamp_ms: int) -> None:
        for key, value in records:
            self.append(topic, key=key, value=value, timestamp_ms=timestamp_ms)

    def read(self, topic: str) -> list[dict[str, Any]]:
        return [msgspec.json.decode(value) for _, value in self.out.get(topic, []) if value is not None]

    def causes(self) -> list[str]:
        return [letter["cause"] for letter in self.read(topics.DEAD_LETTERS)]


class Changelog(ListLane):
    """A lane that replays what it, or another one, wrote."""

    async def replay(self, topic: str) -> AsyncIterator[list[Record]]:
        yield [Record(key, value, number) for number, (key, value) in enumerate(self.out[topic])]


def books(**changes: Any) -> Books:
    return Books.compile(Catalogue.model_validate({**CATALOGUE, **changes}), name_cache_entries=100)


def lane_state(*, dedup_records: int = 1_000, usage_interval_ms: int = 10_000) -> LaneState:
    return LaneState(Accounts(), SeenIds(dedup_records), Agenda(usage_interval_ms), SubscriberMemory())


def run(
    lane: ListLane,
    state: LaneState,
    records: Mapping[str, list[Record]],
    *,
    by: Books | None = None,
    now_ms: int = NOW_MS,
    partitions: int = 1,
    caught_up: bool = True,
    max_record_octets: int = 100_000,
) -> Transaction:
    """One whole transaction over `records`."""
    transaction = Transaction(
        lane,  # type: ignore[arg-type]
        state,
        by or books(),
        partitions=partitions,
        max_record_octets=max_record_octets,
        now_ms=now_ms,
    )
    for topic, batch in records.items():
        transaction.take(topic, batch)
    transaction.run_timers(caught_up=caught_up)
    transaction.close()
    return transaction
