"""Steps 1 to 5 for one transaction of a lane: intake, account, classify, decide, tell.

Everything here is synchronous and in memory; the lane commits what was told, together with the input offsets. The
wall clock and the catalogue are taken once, at the start, so that a replay of the batch decides the same.
"""

import dataclasses
from collections.abc import Callable, Sequence

import msgspec

from schemas.command import Command, GrantLease, lane_name
from schemas.dead_letter import DEAD_LETTER_VERSION, MAX_KEPT_OCTETS, DeadLetter
from schemas.decision import PolicyDecision
from schemas.flow import FlowRecord, octets_of
from schemas.state import AccountState
from schemas.topics import (
    COMMANDS,
    DEAD_LETTERS,
    DECISIONS,
    ENFORCEMENT,
    FLOWS,
    LEASE_REQUESTS,
    NOTIFICATIONS,
    STATE,
    USAGE,
)
from schemas.units import parse_micros
from services.engine.classify import SubscriberMemory
from services.engine.commands import apply_command
from services.engine.decide import decide
from services.engine.installed import tell_budgets
from services.engine.outcome import Outcome, Position, Refusal
from services.engine.timers import joined, on_timer
from services.engine.unknowns import NOTHING, UnknownNames, Volume
from services.engine.usage import emit_usage
from services.policy.accounts import Accounts
from services.policy.agenda import Agenda
from services.policy.books import Books
from services.policy.intake import Refused, read_command, read_flow
from services.policy.leases import Leases
from services.policy.limits import too_large
from services.policy.seen import SeenIds
from services.policy.tally import Tally
from services.runtime.log import Lane, LogRecord
from services.runtime.partitioning import partition_of

MAX_KEPT_KEY_OCTETS = 256
MAX_KEPT_DETAIL = 2_000
"""Characters of the sentence in a dead letter: it quotes what a stranger sent, which may be as long as a record."""

MAX_TIMERS = 2_000
"""Most accounts whose timers run in one transaction; the rest follow in the next one."""

_json: Callable[[object], bytes] = msgspec.json.Encoder().encode
_msgpack: Callable[[object], bytes] = msgspec.msgpack.Encoder().encode


@dataclasses.dataclass
class LaneState:
    """All that a lane remembers between transactions."""

    accounts: Accounts
    seen: SeenIds
    agenda: Agenda
    memory: SubscriberMemory
    to_adopt: list[str] = dataclasses.field(default_factory=list)
    """Accounts that have not yet been looked at under the present catalogue version and with the present budgets."""
    adopted_version: str = ""
    adopted_empty: frozenset[str] | None = frozenset()
    """Campaigns without budget that the accounts were last looked at with; None when that is not known."""
    leases: Leases = dataclasses.field(default_factory=Leases)
    """The lane's slices of campaigns' budgets."""
    unknowns: UnknownNames = dataclasses.field(default_factory=UnknownNames)
    """Not in the changelog: a rebuilt lane starts to count anew."""


class Transaction:
    """One transaction: feed it records, run its timers, close it, then commit the lane."""

    def __init__(
        self, lane: Lane, state: LaneState, books: Books, *, partitions: int, max_record_octets: int, now_ms: int
    ) -> None:
        self._lane = lane
        self._state = state
        self._books = books
        self._partitions = partitions
        self._max_octets = max_record_octets
        self._now_ms = now_ms
        self._emit_since_ms = now_ms - state.agenda.early_usage_ms
        self._leases = state.leases.begin(books.tariff)
        self.next_offsets: dict[str, int] = {}
        self.tally = Tally()
        self._decisions: list[tuple[bytes, bytes]] = []
        self._usage: list[tuple[bytes, bytes]] = []
        if state.unknowns.catalogue_version != books.version:
            # What the new version lists is no longer unknown, and what it does not will soon be seen again.
            state.unknowns = UnknownNames(catalogue_version=books.version, since_ms=now_ms)
        self._unknown_before = state.unknowns.totals()

    def take(self, topic: str, records: Sequence[LogRecord]) -> None:
        """Process records of one input, in order."""
        step = self._flow if topic == FLOWS else self._command
        for record in records:
            step(record)
        self._hand_over()
        if records:
            self.next_offsets[topic] = records[-1].offset + 1
            self.tally.records += len(records)
            oldest = min(records[0].timestamp, self.tally.oldest_ms or records[0].timestamp)
            self.tally.oldest_ms = oldest

    def run_timers(self, *, caught_up: bool = True) -> None:
        """Renew what has ended and emit the usage whose interval is over.

        While records wait, `caught_up` is False and the calendar rests: their event times bring about what is due, in
        its order, and a wall clock that ran ahead of them would make late flows of them.
        """
        agenda, accounts = self._state.agenda, self._state.accounts
        for account_id in agenda.calendar_due(self._now_ms, MAX_TIMERS if caught_up else 0):
            self._run_timer(account_id)
        self._adopt()
        for account_id in agenda.usage_due(self._now_ms, MAX_TIMERS):
            if (account := accounts.at_hand(account_id)) is not None:
                self._settle(account, emit_usage(account, partition=self._lane.partition, now_ms=self._now_ms))

    def close(self) -> None:
        """Ask for what the lane needs of budgets, add the changed state to the outputs, and end the tally."""
        self._hand_over()
        for request in self._state.leases.requests(partition=self._lane.partition, now_ms=self._now_ms):
            key = request.campaign_id.encode()
            self._lane.append(LEASE_REQUESTS, key=key, value=_json(request), timestamp_ms=self._now_ms)
            self.tally.lease_requests[request.kind] += 1
        for key, raw in self._state.leases.changed():
            self._lane.append(STATE, key=key, value=raw, timestamp_ms=self._now_ms)
        if changed := list(self._state.accounts.changed()):
            self._lane.append_all(STATE, changed, timestamp_ms=self._now_ms)
        for name, slot in self._state.seen.changed_slots():
            self._lane.append(STATE, key=name.encode(), value=_msgpack(slot), timestamp_ms=self._now_ms)
        for reason, total in self._state.unknowns.totals().items():
            before = self._unknown_before.get(reason, NOTHING)
            self.tally.unknown[reason] = Volume(total.flows - before.flows, total.octets - before.octets)

    def _hand_over(self) -> None:
        """Give the lane what comes by the thousand in one call per topic."""
        for topic, records in ((DECISIONS, self._decisions), (USAGE, self._usage)):
            if records:
                self._lane.append_all(topic, records, timestamp_ms=self._now_ms)
                records.clear()

    def _run_timer(self, account_id: str) -> None:
        if (account := self._state.accounts.get(account_id)) is not None:
            outcome = on_timer(account, self._books.tariff, partition=self._lane.partition, now_ms=self._now_ms)
            self._settle(account, outcome)
            self._state.agenda.note_calendar(outcome.account)

    def _adopt(self) -> None:
        """Bring accounts under the present catalogue and the present ends of budgets, some per transaction: what
        follows has to reach the gateway even where no flow comes.
        """  # noqa: D205
        state, version, empty = self._state, self._books.version, self._state.leases.empty(self._now_ms)
        if (state.adopted_version, state.adopted_empty) != (version, empty):
            state.to_adopt, state.adopted_version, state.adopted_empty = state.accounts.ids(), version, empty
        for _ in range(min(MAX_TIMERS, len(state.to_adopt))):
            account_id = state.to_adopt.pop()
            account = state.accounts.get(account_id)
            if account is not None and account.catalogue_version != version:
                self._run_timer(account_id)
                account = state.accounts.get(account_id)
            if account is not None and (empty or account.empty_campaigns):
                self._tell_budgets(account, empty)

    def _tell_budgets(self, account: AccountState, empty: frozenset[str]) -> None:
        after, updates = tell_budgets(account, self._books.tariff, empty, at_ms=self._now_ms)
        if after is not account:
            self._settle(account, Outcome(after, updates=updates))

    def _flow(self, record: LogRecord) -> None:
        flow = read_flow(record, self._max_octets)
        if isinstance(flow, Refused):
            return self._refuse(FLOWS, record, flow)
        account = self._state.accounts.at_hand(flow.account_id or flow.subscriber_id)
        if account is None:
            return self._refuse(FLOWS, record, self._stranger(record, flow))
        if not self._state.seen.add(flow.record_id):
            return self._refuse(FLOWS, record, _duplicate(flow))
        classification = self._books.classifier.classify(flow, self._state.memory)
        at = Position(FLOWS, self._lane.partition, record.offset)
        leases, tariff = self._leases, self._books.tariff
        outcome = decide(flow, classification, account, tariff, at=at, now_ms=self._now_ms, leases=leases)
        if leases is not None and outcome.decision is not None and outcome.decision.sponsorships:
            self._state.leases.draw(outcome.decision.sponsorships, self._now_ms)
        if 0 < outcome.account.pending_since_ms <= self._emit_since_ms:
            # Its interval is nearly over: with the account at hand, telling now spares the timer a look of its own.
            outcome = joined(outcome, emit_usage(outcome.account, partition=self._lane.partition, now_ms=self._now_ms))
        if classification.reason is not None:
            self._state.unknowns.add(flow.exporter_id, classification, octets_of(flow))
        return self._settle(account, outcome)

    def _command(self, record: LogRecord) -> None:
        command = read_command(record, self._max_octets)
        if isinstance(command, Refused):
            return self._refuse(COMMANDS, record, command)
        if isinstance(command, GrantLease):
            return self._grant(record, command)
        if partition_of(command.account_id.encode(), self._partitions) != self._lane.partition:
            return self._refuse(COMMANDS, record, self._misrouted(command.account_id, command.command_id))
        account = self._state.accounts.get(command.account_id)
        at = Position(COMMANDS, self._lane.partition, record.offset)
        outcome = apply_command(command, account, self._books.tariff, at=at, now_ms=self._now_ms)
        if isinstance(outcome, Refusal):
            return self._refuse_command(record, command, outcome)
        if detail := too_large(command, outcome.account):
            self.tally.commands[_type_of(command), "refused"] += 1
            return self._refuse(COMMANDS, record, Refused("output_too_large", detail, command.command_id))
        self.tally.commands[_type_of(command), "applied"] += 1
        return self._settle(account, outcome)

    def _grant(self, record: LogRecord, command: GrantLease) -> None:
        """Take a slice of a budget; it belongs to the lane and to no account."""
        if command.account_id != (mine := lane_name(self._lane.partition)):
            detail = f"account_id: {command.account_id!r} is not {mine!r}; publish it to the partition that it names"
            return self._refuse(COMMANDS, record, Refused("misrouted", detail, command.command_id))
        try:
            self._state.leases.grant(command, self._now_ms)
        except ValueError as error:
            return self._refuse_command(record, command, Refusal("unknown_ask", str(error)))
        self.tally.commands[_type_of(command), "applied"] += 1
        return None

    def _settle(self, before: AccountState | None, outcome: Outcome) -> None:
        """Keep the new state and tell the world what happened, in the order of DESIGN's topics."""
        after = outcome.account
        self._state.accounts.put(after)
        if before is None or after.pending_since_ms != before.pending_since_ms:
            # Most flows join what is gathered already: nothing is due at another time for them.
            self._state.agenda.note_usage(after)
        if before is None or after.products is not before.products or after.cycle_end_ms != before.cycle_end_ms:
            self._state.agenda.note_calendar(after)
        key = after.account_id.encode()
        if outcome.decision is not None:
            self._tell_decision(key, outcome.decision)
        if outcome.updates or outcome.usage or outcome.notifications:
            self._tell_rest(key, outcome)

    def _tell_decision(self, key: bytes, decision: PolicyDecision) -> None:
        self._decisions.append((key, _json(decision)))
        self.tally.count(decision.classification.category, decision.treatment, decision.octets)
        if decision.price is not None:
            self.tally.micros[decision.price.currency] += parse_micros(decision.price.amount)

    def _tell_rest(self, key: bytes, outcome: Outcome) -> None:
        lane, now_ms, tally = self._lane, self._now_ms, self.tally
        if self._state.adopted_empty and outcome.updates and outcome.updates[0].cause != "budget":
            # A product that has just come may be one whose campaign has no budget left.
            self._state.to_adopt.append(outcome.account.account_id)
        for update in outcome.updates:
            lane.append(ENFORCEMENT, key=key, value=_json(update), timestamp_ms=now_ms)
            tally.updates[update.action] += 1
        for usage in outcome.usage:
            self._usage.append((key, _json(usage)))
            tally.usage_rows += 1
            if usage.connections and usage.currency is not None:
                # Counted here and not per decision, where each flow would pay for the question.
                tally.micros[usage.currency] += parse_micros(usage.amount)
        for notification in outcome.notifications:
            lane.append(NOTIFICATIONS, key=key, value=_json(notification), timestamp_ms=now_ms)
            tally.notifications[notification.kind] += 1

    def _refuse_command(self, record: LogRecord, command: Command, refusal: Refusal) -> None:
        self.tally.commands[_type_of(command), "refused"] += 1
        detail = f"{refusal.cause}: {refusal.detail}"
        self._refuse(COMMANDS, record, Refused("refused_command", detail, command.command_id))

    def _refuse(self, topic: str, record: LogRecord, refused: Refused) -> None:
        partition, value = self._lane.partition, record.value
        letter = DeadLetter(
            version=DEAD_LETTER_VERSION,
            dead_letter_id=f"{topic}-{partition}-{record.offset}",
            source_topic=topic,
            partition=partition,
            offset=record.offset,
            cause=refused.cause,
            detail=_cut(refused.detail, MAX_KEPT_DETAIL),
            at_ms=self._now_ms,
            key=record.key[:MAX_KEPT_KEY_OCTETS] if record.key is not None else None,
            value=value[:MAX_KEPT_OCTETS] if value is not None else None,
            value_octets=len(value) if value is not None else 0,
            record_id=None if refused.record_id is None else _cut(refused.record_id, MAX_KEPT_KEY_OCTETS),
        )
        self._lane.append(DEAD_LETTERS, key=letter.key, value=_json(letter), timestamp_ms=self._now_ms)
        self.tally.dead_letters[refused.cause] += 1

    def _stranger(self, record: LogRecord, flow: FlowRecord) -> Refused:
        account_id = flow.account_id or flow.subscriber_id
        if record.key is not None and partition_of(record.key, self._partitions) != self._lane.partition:
            return self._misrouted(account_id, flow.record_id)
        detail = f"account_id: {account_id!r} is not known here; create it with a change_profile command, then replay"
        return Refused("unknown_account", detail, flow.record_id)

    def _misrouted(self, account_id: str, record_id: str) -> Refused:
        wanted, found = partition_of(account_id.encode(), self._partitions), self._lane.partition
        detail = (
            f"key: {account_id!r} belongs to partition {wanted}, found in {found}; publish with murmur2 partitioning"
        )
        return Refused("misrouted", detail, record_id)


def _duplicate(flow: FlowRecord) -> Refused:
    detail = f"record_id: {flow.record_id!r} was decided before; nothing to do, it is charged once"
    return Refused("duplicate", detail, flow.record_id)


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[:characters]}..."


def _type_of(command: Command) -> str:
    return str(command.__struct_config__.tag)
