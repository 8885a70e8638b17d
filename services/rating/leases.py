"""The owner of budgets: reads what lanes ask for and give back, and answers with commands to those lanes.

Requests are booked like the ledger books usage: rows, grants in the outbox, and offsets in one database transaction,
so that every ask is answered once, whatever crashes. How much is granted is pure (`services.engine.leases`).

The answers in the log are what lanes live on. So before the owner answers anything it reads them, from where the
database last knew them all: one that was restored from an older backup learns from them what it had granted since.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence

import msgspec

from schemas.catalogue import Campaign
from schemas.command import COMMAND_VERSION, Command, GrantLease, lane_name
from schemas.lease import LEASE_REQUEST_MAJOR, LEASE_REQUEST_VERSION, LeaseRequest
from schemas.topics import COMMANDS, LEASE_REQUESTS
from services.engine.leases import LaneLease, Reply, Slicing, recalled, reply_to
from services.rating.bookings import Refused, RefusedCause
from services.rating.clock import Clock, wall_clock_ms
from services.rating.consumer import Consumer
from services.rating.database import Connection, Engine, again_after_collision, reading, writing
from services.rating.metrics import RatingMetrics
from services.rating.repositories import catalogue as shelf
from services.rating.repositories import ledger as books
from services.rating.repositories import outbox
from services.rating.repositories.leases import (
    CampaignTotals,
    campaign_totals,
    lane_leases,
    lock_budgets,
    store,
)
from services.rating.repositories.ledger import OffsetsMoved
from services.rating.repositories.outbox import OutboxRecord
from services.runtime.log import Log, LogReader, LogRecord
from services.runtime.settings import Settings
from services.runtime.telemetry import Health, events

NOTE_INTERVAL_MS = 60_000
"""How often it is noted up to where the log's answers are all known; a start reads those behind it."""

_events = events("rating.leases")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(LeaseRequest).decode
_decode_command: Callable[[bytes], Command] = msgspec.json.Decoder(Command).decode
_GRANT = b'"grant_lease"'

Polled = Mapping[int, Sequence[LogRecord]]


@dataclasses.dataclass
class Settled:
    """What one transaction did."""

    grants: list[GrantLease] = dataclasses.field(default_factory=list)
    requests: int = 0
    refused: list[Refused] = dataclasses.field(default_factory=list)


class LeaseOwner(Consumer):
    """Answers requests until it is stopped. One object, one `run`."""

    topic = LEASE_REQUESTS

    def __init__(
        self, *, engine: Engine, log: Log, settings: Settings, metrics: RatingMetrics, clock: Clock = wall_clock_ms
    ) -> None:
        super().__init__(engine=engine, log=log, settings=settings, log_events=_events)
        self._metrics = metrics
        self._clock = clock
        self._answers: LogReader | None = None
        self._known: dict[int, int] = {}
        self._noted_at_ms = 0

    async def run(self) -> None:
        """Answer until `stop`; raises what `Consumer.run` raises. A log that no longer holds all answers ends it."""
        try:
            await super().run()
        finally:
            if self._answers is not None:
                await self._answers.close()

    def health(self) -> Health:
        """Well while no outage holds it up."""
        outage = self._patience.outage
        return Health(ok=outage is None, detail=outage or "answering")

    async def _resume(self, reader: LogReader) -> None:
        while True:
            try:
                await self._recall()
                break
            except OffsetsMoved as moved:
                await self._give_way(moved)
        await super()._resume(reader)
        await self._show()

    async def _recall(self) -> None:
        """Learn from the log every answer that the database may have forgotten."""
        if self._answers is None:
            self._answers = await self._patience.through(lambda: self._log.reader(COMMANDS))
        answers = self._answers
        beginnings = await self._patience.through(answers.beginning_offsets)
        self._known = await self._patience.through(lambda: asyncio.to_thread(self._begin, COMMANDS, beginnings))
        ends = await self._patience.through(answers.end_offsets)
        await self._patience.through(lambda: answers.seek(self._known))
        grants: dict[tuple[str, int], GrantLease] = {}
        while any(answers.position(partition) < end for partition, end in ends.items()):
            _keep_newest(await self._poll(answers), grants)
        moves = {partition: (self._known[partition], answers.position(partition)) for partition in ends}
        forgotten = await self._patience.through(lambda: asyncio.to_thread(self._learn, grants, moves))
        self._known = {partition: following for partition, (_, following) in moves.items()}
        if forgotten:
            _events.warning("answers_recalled", lanes=forgotten, detail="the database had forgotten them")

    async def _step(self, reader: LogReader) -> None:
        polled = await self._poll(reader)
        if any(polled.values()):
            await self._answer(reader, polled)
        if self._clock() - self._noted_at_ms >= NOTE_INTERVAL_MS:
            await self._note()

    async def _answer(self, reader: LogReader, polled: Polled) -> None:
        moves = {partition: (self._stored[partition], reader.position(partition)) for partition in polled}
        settled = await self._patience.through(lambda: asyncio.to_thread(self._settle, polled, moves))
        self._stored.update({partition: following for partition, (_, following) in moves.items()})
        self._count(settled)
        await self._show()

    async def _note(self) -> None:
        """Note that all answers up to the log's end are known.

        They are, if the database is still the one that gave them: nothing was answered since our own last transaction,
        or somebody else has moved the offsets of requests, and this is refused.
        """
        answers = self._answers
        if answers is None:
            raise RuntimeError("a note before the first look; this is a bug")
        ends = await self._patience.through(answers.end_offsets)
        moves = {partition: (self._known[partition], end) for partition, end in ends.items()}
        still = {partition: (offset, offset) for partition, offset in self._stored.items()}

        def once() -> None:
            with writing(self._engine) as connection:
                books.advance(connection, LEASE_REQUESTS, still, {})
                books.advance(connection, COMMANDS, moves, {})

        await self._patience.through(lambda: asyncio.to_thread(once))
        self._known.update(ends)
        self._noted_at_ms = self._clock()

    def _learn(self, grants: Mapping[tuple[str, int], GrantLease], moves: Mapping[int, tuple[int, int]]) -> int:
        def once() -> int:
            with writing(self._engine) as connection:
                books.advance(connection, COMMANDS, moves, {})
                return recall_grants(connection, grants)

        return again_after_collision(once)

    def _settle(self, polled: Polled, moves: Mapping[int, tuple[int, int]]) -> Settled:
        settings = self._settings
        slicing = Slicing(
            lanes=len(self._stored),
            least_octets=settings.lease_least_octets,
            most_octets=settings.lease_most_octets,
            retry_ms=settings.lease_retry_ms,
        )

        def once() -> Settled:
            with writing(self._engine) as connection:
                books.advance(connection, LEASE_REQUESTS, moves, {})
                return settle_requests(connection, polled, slicing=slicing, now_ms=self._clock())

        settled = again_after_collision(once)
        outbox.ring(self._engine)
        return settled

    def _count(self, settled: Settled) -> None:
        self._metrics.lease_requests.inc(settled.requests)
        for refused in settled.refused:
            self._metrics.lease_refused.labels(refused.cause).inc()
            _events.warning("refused", cause=refused.cause, detail=refused.detail)

    async def _show(self) -> None:
        for totals in await self._patience.through(lambda: asyncio.to_thread(budget_totals, self._engine)):
            for kind, octets in zip(("budget", "granted", "returned", "used"), totals[1:], strict=True):
                self._metrics.campaign_octets.labels(totals.campaign_id, kind).set(octets)


def settle_requests(connection: Connection, polled: Polled, *, slicing: Slicing, now_ms: int) -> Settled:
    """Book the requests of one poll and put the answers into the outbox, in the caller's transaction."""
    settled = Settled()
    requests = list(_readable(polled, settled))
    names = sorted({request.campaign_id for _, _, request in requests})
    budgets, lanes = lock_budgets(connection, names), lane_leases(connection, names)
    campaigns = _in_force(connection, names)
    for partition, record, request in requests:
        name = request.campaign_id
        budget, lane = budgets[name], lanes.get((name, partition), LaneLease())
        try:
            reply = reply_to(request, budget, lane, campaigns.get(name), slicing=slicing, now_ms=now_ms)
        except ValueError as error:
            settled.refused.append(_refusal(partition, record, "malformed", str(error)))
            continue
        if reply is None:
            settled.refused.append(_refusal(partition, record, "duplicate", f"{request.request_id} was booked before"))
            continue
        budgets[name], lanes[name, partition] = reply.budget, reply.lane
        settled.requests += 1
        if reply.octets is not None:
            settled.grants.append(_grant(request, reply, now_ms))
    store(connection, budgets, lanes)
    outbox.put(connection, [_command(grant) for grant in settled.grants], at_ms=now_ms)
    books.keep_refused(connection, LEASE_REQUESTS, settled.refused, now_ms)
    return settled


def recall_grants(connection: Connection, grants: Mapping[tuple[str, int], GrantLease]) -> int:
    """Book answers found in the log, in the caller's transaction; how many of them the database had forgotten."""
    names = sorted({name for name, _ in grants})
    budgets, lanes = lock_budgets(connection, names), lane_leases(connection, names)
    changed: dict[tuple[str, int], LaneLease] = {}
    for key, grant in sorted(grants.items()):
        before = lanes.get(key, LaneLease())
        budgets[key[0]], lane = recalled(grant, budgets[key[0]], before)
        if lane != before:
            changed[key] = lane
    store(connection, {name: budgets[name] for name in {name for name, _ in changed}}, changed)
    return len(changed)


def budget_totals(engine: Engine) -> list[CampaignTotals]:
    """All budgets as they stand."""
    with reading(engine) as connection:
        return campaign_totals(connection)


def _keep_newest(polled: Polled, grants: dict[tuple[str, int], GrantLease]) -> None:
    """Keep of each lane and campaign the answer with the largest number; totals never fall, so it tells all before."""
    for partition, records in polled.items():
        for record in records:
            grant = _read_grant(record.value, partition)
            if grant is None:
                continue
            known = grants.get((grant.campaign_id, partition))
            if known is None or known.sequence < grant.sequence:
                grants[grant.campaign_id, partition] = grant


def _read_grant(value: bytes | None, partition: int) -> GrantLease | None:
    """The grant in a command's record; None for anything else, and for what the lane refuses, too."""
    if value is None or _GRANT not in value:
        return None
    try:
        command = _decode_command(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if isinstance(command, GrantLease) and command.account_id == lane_name(partition):
        return command
    return None


def _grant(request: LeaseRequest, reply: Reply, now_ms: int) -> GrantLease:
    return GrantLease(
        version=COMMAND_VERSION,
        command_id=f"lease:{request.request_id}",
        account_id=lane_name(request.partition),
        issued_at_ms=now_ms,
        campaign_id=request.campaign_id,
        sequence=request.sequence,
        octets=reply.octets or 0,
        granted_octets=reply.lane.granted_octets,
        ask_again_ms=reply.ask_again_ms,
    )


def _readable(polled: Polled, settled: Settled) -> list[tuple[int, LogRecord, LeaseRequest]]:
    found = []
    for partition, records in sorted(polled.items()):
        for record in records:
            try:
                found.append((partition, record, _read(partition, record.value)))
            except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
                settled.refused.append(_refusal(partition, record, "malformed", str(error)))
    return found


def _read(partition: int, value: bytes | None) -> LeaseRequest:
    if value is None:
        raise ValueError("value: is null; a request is never deleted, send it whole")
    request = _decode(value)
    if request.version.partition(".")[0] != LEASE_REQUEST_MAJOR:
        raise ValueError(f"version: {request.version!r} is not {LEASE_REQUEST_VERSION}; update the rating service")
    if request.partition != partition:
        raise ValueError(f"partition: {request.partition} wrote into {partition}; a lane writes into its own")
    return request


def _in_force(connection: Connection, names: Sequence[str]) -> dict[str, Campaign]:
    version = shelf.current(connection) if names else None
    if version is None:
        return {}
    bodies = {name: shelf.find(connection, version.version, "campaign", name) for name in names}
    return {name: Campaign.model_validate(body) for name, body in bodies.items() if body is not None}


def _command(grant: GrantLease) -> OutboxRecord:
    partition = int(grant.account_id.rpartition("/")[2])
    return OutboxRecord(COMMANDS, grant.account_id.encode(), _encode(grant), partition)


def _refusal(partition: int, record: LogRecord, cause: RefusedCause, detail: str) -> Refused:
    return Refused(partition, record.offset, cause, detail[:1000], None, record.key, record.value)
