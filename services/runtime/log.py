"""The log port: all that the services know of Kafka, or of its embedded stand-in.

A *lane* is one input partition with everything that belongs to it: its records, its outputs, its committed offsets.
Two adapters keep this contract and pass one test suite: `services.runtime.kafka_log` and
`services.runtime.embedded_log`.

Errors
    LogError
    |-- LaneLost            this lane must stop and drop its state; a successor owns the partition or will
    |   `-- LaneFenced      ... because another owner took it over
    |-- CommitFailed        this batch is not confirmed; drop the lane, the rebuilt one goes by the committed offsets
    |-- RecordTooLarge      an output does not fit the topic; nothing was appended
    |-- OffsetOutOfRange    retention overtook the committed offset: records are gone; an operator has to decide
    `-- LogUnavailable      the broker or the file cannot be reached within the time that the settings allow
"""

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from schemas.topics import Topic


class LogError(Exception):
    """Root of what a log can raise."""


class LaneLost(LogError):  # noqa: N818 - a state of affairs
    """The partition is no longer this lane's; stop without committing."""


class LaneFenced(LaneLost):
    """Another owner has taken the partition over."""


class CommitFailed(LogError):  # noqa: N818 - a state of affairs
    """The batch is not confirmed; state that was changed for it must be dropped.

    Nothing of it is visible, unless the answer to the very commit was lost; `committed` of the rebuilt lane tells.
    """


class RecordTooLarge(LogError):  # noqa: N818 - a state of affairs
    """The record does not fit its topic; nothing was appended."""


class OffsetOutOfRange(LogError):  # noqa: N818 - a state of affairs
    """The committed offset is older than what the log still holds."""


class LogUnavailable(LogError):  # noqa: N818 - a state of affairs
    """The log cannot be reached."""


class LogRecord(Protocol):
    """One record as read. aiokafka's ConsumerRecord has this shape, so the hot path copies nothing."""

    @property
    def offset(self) -> int:
        """Position in the partition."""

    @property
    def timestamp(self) -> int:
        """Producer's time, ms since 1970 UTC."""

    @property
    def key(self) -> bytes | None:
        """The key, or None."""

    @property
    def value(self) -> bytes | None:
        """The value; None is a tombstone."""


Output = tuple[bytes | None, bytes | None]
"""Key and value of a record that a lane writes."""


class NewRecord(NamedTuple):
    """A record to publish; the partition follows from the key (murmur2, as Kafka's own clients do) unless it is given.

    `timestamp_ms` is the wall clock of publishing, never event time: Kafka's retention goes by it, so a record that
    looks older than its topic's retention is soon deleted, and one that lies more than an hour ahead is refused.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    partition: int | None = None
    """For what is meant for a lane and not for a key."""


@dataclasses.dataclass(frozen=True)
class Polled:
    """What one poll of a lane brought: records in offset order, per input topic."""

    records: Mapping[str, Sequence[LogRecord]]
    backlog: int
    """Input records known to be waiting behind these."""

    def __len__(self) -> int:
        return sum(len(batch) for batch in self.records.values())


class Lane(Protocol):
    """One owned input partition. Used by one task at a time; after any LogError it is dead.

    Order of use: `replay` to restore, `committed` to know where it stands, then `poll` / `append` / `commit` for ever.
    """

    @property
    def partition(self) -> int:
        """The partition number, the same for every topic of the lane."""

    def replay(self, topic: str) -> AsyncIterator[Sequence[LogRecord]]:
        """Batches of this partition of `topic` from its beginning to its end as of now, committed records only.

        Tombstones are delivered. Ends by position, so control records and compaction holes do not matter.
        """

    def committed(self) -> Mapping[str, int]:
        """Next offset per input topic, as found when the lane was opened and as committed since."""

    async def poll(self, *, max_records: int, max_wait_ms: int) -> Polled:
        """The next records, at most `max_records`; empty when none arrived within `max_wait_ms`.

        While a rebalance is on, it waits. When a rebalance or a stop begins and something is not committed yet, it
        first returns empty, once and at once: the chance to commit. Raises LaneLost when the partition is gone.
        """

    def append(self, topic: str, *, key: bytes | None, value: bytes | None, timestamp_ms: int) -> None:
        """Add an output to the batch, into this lane's partition; memory only, nothing is visible before `commit`.

        The topic has to exist when the lane is opened. Raises RecordTooLarge; the batch stays as it was.
        """

    def append_all(self, topic: str, records: Sequence[Output], *, timestamp_ms: int) -> None:
        """Add many outputs, pairs of key and value, in order: `append` for each, for less.

        Raises RecordTooLarge; those before the record that is too large are in the batch.
        """

    def appended_octets(self) -> int:
        """Size of the outputs gathered for the next commit, so that the caller can bound its batches."""

    async def commit(self, next_offsets: Mapping[str, int]) -> None:
        """Make the outputs and the input offsets visible together, or nothing of them.

        Outputs without offsets and offsets without outputs are fine; neither is a no-op. Raises CommitFailed or
        LaneFenced; the lane is then dead and its successor starts from the last commit.
        """


LaneServer = Callable[[Lane], Awaitable[None]]
"""Serves one lane until it is lost; returns after LaneLost, and is called again for a rebuilt lane.

It may also let LaneLost, LaneFenced and CommitFailed pass through: the host rebuilds the lane, after a jittered pause.
Any other error ends the host.
"""


class LaneHost(Protocol):
    """Runs one `LaneServer` per partition that this process owns, as a member of a group."""

    async def run(self, serve: LaneServer) -> None:
        """Join the group and serve until `stop`.

        LaneLost, LaneFenced and CommitFailed rebuild the lane; a series of them longer than the settings' outage time
        ends the host by LogUnavailable. Any other error of a lane ends the host at once, OffsetOutOfRange included.
        """

    async def stop(self) -> None:
        """Let lanes finish their batch, commit, leave the group; within the settings' drain time."""

    def owned_partitions(self) -> frozenset[int]:
        """Partitions whose lanes are up in this process."""

    def assigned_partitions(self) -> frozenset[int]:
        """Partitions that the group has given to this process, whether their lanes are up already or not."""

    def joined(self) -> bool:
        """True once the group has given an assignment, an empty one included."""

    def last_poll_age_s(self) -> float:
        """Seconds since the fetch loop last went round: what liveness is about."""


class LogReader(Protocol):
    """Reads whole topics without a group: for the catalogue, the ledger and the reconciliation."""

    async def beginning_offsets(self) -> Mapping[int, int]:
        """First offset that each partition still holds."""

    async def end_offsets(self) -> Mapping[int, int]:
        """Next offset per partition, as of now, committed records only."""

    async def seek(self, next_offsets: Mapping[int, int]) -> None:
        """Read on from these offsets. Raises OffsetOutOfRange if the log no longer holds one."""

    async def poll(
        self, *, max_records: int, max_wait_ms: int, partition: int | None = None
    ) -> Mapping[int, Sequence[LogRecord]]:
        """The next records per partition, or of `partition` alone; empty when none arrived in time."""

    def position(self, partition: int) -> int:
        """Next offset that will be read; moves past control records and compaction holes."""

    async def close(self) -> None:
        """Give back what the reader holds."""


class Publisher(Protocol):
    """Publishes keyed records from outside a lane, acknowledged by all replicas."""

    async def publish(self, records: Sequence[NewRecord]) -> None:
        """Return once all are stored, in order per key.

        Raises RecordTooLarge before anything is published; LogUnavailable when it is not known what was stored.
        """

    async def close(self) -> None:
        """Flush and give back what the publisher holds."""


class Log(Protocol):
    """The factory of all the above: one per process."""

    async def start(self) -> None:
        """Reach the broker or open the file, within the settings' time. Raises LogUnavailable."""

    async def close(self) -> None:
        """Give back what the log holds."""

    async def ensure_topics(self, topics: Sequence[Topic], *, partitions: int) -> None:
        """Create what is missing; refuse, by LogError, a topic whose partition count differs."""

    async def partitions_of(self, topic: str) -> int:
        """Partition count of an existing topic."""

    def lanes(self, *, group: str, inputs: Sequence[str]) -> LaneHost:
        """A member of `group` whose lanes read the co-partitioned topics `inputs`, named in order of priority.

        A lane is handed nothing of an input while one before it is known to have more: on opening, all that the
        earlier ones hold comes first. So an earlier input must be the rarer one; a flood in it holds the others up.
        """

    async def reader(self, topic: str) -> LogReader:
        """A reader at the beginning of every partition of `topic`."""

    async def publisher(self) -> Publisher:
        """A started publisher."""
