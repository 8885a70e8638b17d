"""A small world for engine tests: one account, its tariff, everything it was ever told, and invariants after each step.

Whatever a test is about, each step also proves that octets add up, nothing goes below zero, ids are unique, and the
movements told so far plus the draws still gathered are what the state holds.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from schemas.catalogue import Application, Catalogue, PccRule, ProductOffering
from schemas.classification import Classification, Evidence
from schemas.command import (
    AccountCommand,
    ActivateProduct,
    CancelProduct,
    ChangeProfile,
    ConfirmProduct,
    Credit,
    Debit,
    EmitUsage,
    RaiseCap,
    Reserve,
    SetSpendingLimit,
)
from schemas.decision import PolicyDecision, PolicyUpdate
from schemas.flow import FlowRecord
from schemas.notification import Notification
from schemas.state import AccountState
from schemas.topics import COMMANDS, FLOWS
from schemas.units import parse_octets, parse_seconds
from schemas.usage import RatedUsage
from services.engine.commands import apply_command
from services.engine.decide import decide
from services.engine.effective import effective_rules
from services.engine.installed import tell_budgets
from services.engine.outcome import Outcome, Position, Refusal
from services.engine.packed import PackedAccount, unpacked
from services.engine.tariff import Tariff, compile_tariff
from services.engine.timers import on_timer
from services.engine.usage import emit_usage

PARTITION = 3

APPLICATIONS = {
    "whatsapp": "voip_im", "telegram": "voip_im", "facebook": "social", "instagram": "social", "tiktok": "social",
    "youtube": "streaming", "netflix": "streaming", "spotify": "streaming",
}  # fmt: skip


def catalogue(
    *offerings: dict[str, Any] | ProductOffering, rules: Iterable[dict[str, Any] | PccRule] = (), **more: Any
) -> Catalogue:
    """A catalogue with the usual applications; offerings may leave out name and kind, rules their precedence."""
    return Catalogue.model_validate(
        {
            "version": "test",
            "applications": [Application(id=name, name=name, category=kind) for name, kind in APPLICATIONS.items()],
            "offerings": [_offering(item) for item in offerings],
            "rules": [_rule(item, number) for number, item in enumerate(rules)],
            **more,
        }
    )


def _offering(item: dict[str, Any] | ProductOffering) -> Any:
    return {"name": item["id"], "kind": "add_on", **item} if isinstance(item, dict) else item


def _rule(item: dict[str, Any] | PccRule, number: int) -> Any:
    return {"precedence": 100 + number, **item} if isinstance(item, dict) else item


def ms(text: str, zone: str = "UTC") -> int:
    """Epoch milliseconds of `2026-03-01 10:00` in a zone."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def duration_ms(lasts: int | str) -> int:
    """Milliseconds of an int or of a text such as `2 min`."""
    return parse_seconds(lasts) * 1000 if isinstance(lasts, str) else lasts


def octets(amount: int | str) -> int:
    """Octets of an int or of a text such as `5 GB`."""
    return parse_octets(amount) if isinstance(amount, str) else amount


class RefusedError(Exception):
    """A command was refused; `cause` says why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"{refusal.cause}: {refusal.detail}")
        self.cause = refusal.cause


class World:
    """One account under one tariff. Times are event time; the wall clock stands still unless a test moves it."""

    def __init__(
        self,
        tariff: Catalogue | Tariff,
        *,
        at: str | int = "2026-03-10 12:00",
        zone: str = "UTC",
        create: bool = True,
        **profile: Any,
    ) -> None:
        self.tariff = compile_tariff(tariff) if isinstance(tariff, Catalogue) else tariff
        self.zone = zone
        self.now_ms = self.time(at)
        self.account: AccountState | None = None
        self.decisions: list[PolicyDecision] = []
        self.usage: list[RatedUsage] = []
        self.updates: list[PolicyUpdate] = []
        self.notifications: list[Notification] = []
        self.leases: dict[str, int] | None = None
        self._offset = -1
        self._products = 0
        if create:
            self.profile(time_zone=zone, **profile)

    # -- what can happen

    def profile(self, **fields: Any) -> Outcome:
        return self.command(ChangeProfile, **fields)

    def activate(self, offering_id: str, product_id: str | None = None, **fields: Any) -> str:
        """Order an offering; returns the product's id."""
        self._products += 1
        name = product_id or f"p{self._products}"
        self.command(ActivateProduct, offering_id=offering_id, product_id=name, **fields)
        return name

    def cancel(self, product_id: str, **fields: Any) -> Outcome:
        return self.command(CancelProduct, product_id=product_id, **fields)

    def confirm(self, product_id: str, **fields: Any) -> Outcome:
        return self.command(ConfirmProduct, product_id=product_id, **fields)

    def limit(self, amount: str | None, **fields: Any) -> Outcome:
        return self.command(SetSpendingLimit, amount=amount, **fields)

    def raise_cap(self, price_id: str | None = None, amount: str | None = None, **fields: Any) -> Outcome:
        return self.command(RaiseCap, price_id=price_id, amount=amount, **fields)

    def credit(self, amount: str, **fields: Any) -> Outcome:
        return self.command(Credit, amount=amount, **fields)

    def debit(self, amount: str, **fields: Any) -> Outcome:
        return self.command(Debit, amount=amount, **fields)

    def reserve(self, reservation_id: str, amount: str = "0", action: str = "hold", **fields: Any) -> Outcome:
        return self.command(Reserve, reservation_id=reservation_id, amount=amount, action=action, **fields)

    def command(
        self, kind: type, *, at: str | int | None = None, command_id: str | None = None, **fields: Any
    ) -> Outcome:
        """Apply a command; raises RefusedError when it is refused."""
        self._move(at)
        self._offset += 1
        command: AccountCommand = kind(
            version="1.0", command_id=command_id or f"k{self._offset}", account_id="a1", issued_at_ms=self.now_ms,
            **fields,
        )  # fmt: skip
        position = Position(COMMANDS, PARTITION, self._offset)
        outcome = apply_command(command, self.account, self.tariff, at=position, now_ms=self.now_ms)
        if isinstance(outcome, Refusal):
            raise RefusedError(outcome)
        return self.take(outcome)

    def flow(
        self,
        volume: int | str = 1000,
        app: str | None = None,
        *,
        at: str | int | None = None,
        rat: str | None = "EUTRA",
        service: str | None = None,
        category: str | None = None,
        confidence: int = 90,
        suspect: bool = False,
        lasts: int | str | None = None,
        **fields: Any,
    ) -> PolicyDecision:
        """Decide a flow of `volume` octets, all of them down; it `lasts` milliseconds, or as a text such as `2 min`."""
        self._move(at)
        self._offset += 1
        if lasts is not None:
            fields["end_ms"] = self.now_ms + duration_ms(lasts)
        known = {"rat_type": rat, "record_id": f"r{self._offset}", **fields}
        flow = flow_record(octets(volume), at_ms=self.now_ms, **known)
        seen = classification(app, service=service, category=category, confidence=confidence, suspect=suspect)
        return self.decide(flow, seen)

    def decide(self, flow: FlowRecord, seen: Classification) -> PolicyDecision:
        """Decide any flow record at the next offset."""
        assert self.account is not None
        position = Position(FLOWS, PARTITION, self._offset)
        when = {"at": position, "now_ms": self.now_ms, "leases": self.leases}
        outcome = decide(flow, seen, self.account, self.tariff, **when)
        check_same(outcome, decide(flow, seen, packed(self.account), self.tariff, **when))
        self.take(outcome)
        assert outcome.decision is not None
        if self.leases is not None:
            for paid in outcome.decision.sponsorships:
                self.lease(paid.campaign_id, -paid.budget_octets)
        return outcome.decision

    def timer(self, at: str | int | None = None) -> Outcome:
        """Let the account's timers run at a time."""
        self._move(at)
        assert self.account is not None
        return self.take(on_timer(self.account, self.tariff, partition=PARTITION, now_ms=self.now_ms))

    def lease(self, campaign_id: str, volume: int | str) -> None:
        """Put a slice of a campaign's budget here; from the first one on, budgets have an end."""
        self.leases = self.leases or {}
        self.leases[campaign_id] = self.leases.get(campaign_id, 0) + octets(volume)
        assert self.leases[campaign_id] >= 0

    def emit(self) -> Outcome:
        """Emit the gathered usage."""
        assert self.account is not None
        outcome = emit_usage(self.account, partition=PARTITION, now_ms=self.now_ms)
        check_same(outcome, emit_usage(packed(self.account), partition=PARTITION, now_ms=self.now_ms))
        return self.take(outcome)

    def ask_for_usage(self) -> Outcome:
        return self.command(EmitUsage)

    def publish(self, new: Catalogue) -> None:
        """Go on under another catalogue."""
        self.tariff = compile_tariff(new)

    def budgets_end(self, *campaigns: str) -> list[tuple[str, str, str | None, str | None]]:
        """Exactly these campaigns have no budget left; action, rule, gate and sponsor of each update."""
        assert self.account is not None
        after, updates = tell_budgets(self.account, self.tariff, frozenset(campaigns), at_ms=self.now_ms)
        assert {update.cause for update in updates} <= {"budget"}
        self.take(Outcome(after, updates=updates))
        return [(update.action, update.rule_id, update.gate_status, update.sponsor_id) for update in updates]

    # -- what can be seen

    def time(self, at: str | int) -> int:
        return ms(at, self.zone) if isinstance(at, str) else at

    def left(self, bucket_id: str) -> int:
        """Octets, or milliseconds, left in all buckets of this id."""
        assert self.account is not None
        return sum(item.remaining for item in self.account.buckets if item.bucket_id == bucket_id)

    def balance(self) -> int:
        assert self.account is not None
        return self.account.balance_micros

    def money(self) -> int:
        """Micros of all rows told so far, what is gathered included."""
        assert self.account is not None
        told = sum(micros(row.amount) for row in self.usage)
        return told + sum(item.micros for item in self.account.pending)

    def told(self, kind: str) -> list[Notification]:
        return [item for item in self.notifications if item.kind == kind]

    def rules(self, at: str | int | None = None) -> list[str]:
        """Ids of the rules in force, in order."""
        assert self.account is not None
        at_ms = self.now_ms if at is None else self.time(at)
        return [rule.id for rule in effective_rules(self.account, self.tariff, at_ms=at_ms)]

    def gates(self, subscriber_id: str | None = None) -> dict[str, str]:
        """Gate of each rule in force, for one member where that is asked."""
        assert self.account is not None
        found = effective_rules(self.account, self.tariff, at_ms=self.now_ms, subscriber_id=subscriber_id)
        return {rule.id: rule.gate_status for rule in found}

    # -- what must hold

    def take(self, outcome: Outcome) -> Outcome:
        """Keep an outcome and check all that must hold after any step."""
        before, self.account = self.account, outcome.account
        if outcome.decision is not None:
            self.decisions.append(outcome.decision)
            check_decision(outcome.decision)
            corrected = any(row.kind == "refund" for row in outcome.usage)
            if before is not None and before.cycle_end_ms == outcome.account.cycle_end_ms and not corrected:
                check_nothing_rises(before, outcome.account)
        self.usage += outcome.usage
        self.updates += outcome.updates
        self.notifications += outcome.notifications
        self.check()
        return outcome

    def check(self) -> None:
        """The invariants of the whole history."""
        assert self.account is not None
        assert all(0 <= bucket.remaining <= bucket.granted for bucket in self.account.buckets)
        assert self.account.payment != "prepaid" or self.account.balance_micros >= 0
        for ids in (
            [row.usage_id for row in self.usage],
            [(r.source_topic, r.partition, r.first_offset, r.last_offset, r.ordinal) for r in self.usage],
            [update.update_id for update in self.updates],
            [note.notification_id for note in self.notifications],
        ):
            assert len(ids) == len(set(ids))
        check_movements(self.account, self.usage)
        check_connections(self.account, self.decisions, self.usage)
        check_installed(self)
        decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(self.account), type=AccountState)
        assert decoded == self.account
        assert self.account.due_ms > self.account.settled_ms

    def _move(self, at: str | int | None) -> None:
        if at is not None:
            self.now_ms = self.time(at)


def check_decision(decision: PolicyDecision) -> None:
    parts = (
        decision.charged_octets, decision.free_octets, decision.sponsored_octets, decision.blocked_octets,
        decision.not_charged_octets,
    )  # fmt: skip
    assert all(part >= 0 for part in parts)
    assert sum(parts) == decision.octets
    assert sum(paid.octets for paid in decision.sponsorships) == decision.sponsored_octets
    counted = [paid.campaign_id for paid in decision.sponsorships for _ in range(paid.connections)]
    assert len(counted) == len(set(counted))
    drawn = sum(draw.octets for draw in decision.draws)
    assert sum(draw.drawn_ms or 0 for draw in decision.draws) <= decision.end_ms - decision.start_ms
    priced = decision.price.octets_to - decision.price.octets_from if decision.price else 0
    assert drawn + priced == decision.charged_octets
    assert msgspec.json.decode(msgspec.json.encode(decision), type=PolicyDecision) == decision


def check_nothing_rises(before: AccountState, after: AccountState) -> None:
    """Usage takes out of buckets and balance, and never puts in."""
    held = {id_of(bucket): bucket.remaining for bucket in before.buckets}
    for bucket in after.buckets:
        assert bucket.remaining <= held.get(id_of(bucket), bucket.granted)
    assert after.balance_micros <= before.balance_micros
    purses = {id_of(purse): purse.remaining_micros for purse in before.purses}
    for purse in after.purses:
        assert 0 <= purse.remaining_micros <= purses.get(id_of(purse), purse.granted_micros)


def packed(account: AccountState) -> PackedAccount:
    """The account as a lane has it at hand."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(account), type=PackedAccount)


def check_same(whole: Outcome, packed: Outcome) -> None:
    """A packed account meets what the whole one does, and is the same at rest."""
    assert packed._replace(account=whole.account) == whole
    assert msgspec.msgpack.encode(packed.account) == msgspec.msgpack.encode(whole.account)
    assert unpacked(packed.account) == whole.account


def id_of(bucket: Any) -> tuple[str, int]:
    return bucket.bucket_id, bucket.valid_from_ms


def check_movements(account: AccountState, rows: list[RatedUsage]) -> None:
    """Told movements plus gathered draws are the state; each movement says what was left after it."""
    sums: Counter[tuple[str, str]] = Counter()
    for row in rows:
        for moved in row.movements:
            sums[moved.bucket_id, moved.unit] += int(moved.amount)
            assert sums[moved.bucket_id, moved.unit] == int(moved.remaining), (row, sums)
        if row.kind in ("usage", "refund") and row.record_count:
            check_explained(row)
        assert sum(paid.octets for paid in row.sponsorships) == row.sponsored_octets
        assert msgspec.json.decode(msgspec.json.encode(row), type=RatedUsage) == row
    for entry in account.pending:
        sums["main", "micros"] -= entry.money
        for draw in entry.draws:
            sums[draw.bucket_id, draw.unit] -= draw.amount
        for payment in entry.payments:
            sums[payment.bucket_id, "micros"] -= payment.micros
    held: Counter[tuple[str, str]] = Counter({("main", "micros"): account.balance_micros})
    for bucket in account.buckets:
        held[bucket.bucket_id, bucket.unit] += bucket.remaining
    for purse in account.purses:
        held[purse.bucket_id, "micros"] += purse.remaining_micros
    assert {name: total for name, total in sums.items() if total} == {
        name: total for name, total in held.items() if total
    }


def check_connections(account: AccountState, decisions: list[PolicyDecision], rows: list[RatedUsage]) -> None:
    """Connections that campaigns count in decisions are those of rated usage, gathered or told."""
    sums: Counter[str] = Counter()
    for paid in (paid for decision in decisions for paid in decision.sponsorships):
        sums[paid.campaign_id] += paid.connections
    for item in (item for row in rows if row.corrects is None for item in row.sponsorships):
        sums[item.campaign_id] -= item.connections
    for gathered in (gathered for entry in account.pending for gathered in entry.sponsorships):
        sums[gathered.campaign_id] -= gathered.connections
    assert not any(sums.values()), sums


def check_explained(row: RatedUsage) -> None:
    """What is charged was drawn from buckets of volume, paid for by buckets of time, or sold."""
    assert 0 <= row.timed_octets <= row.charged_octets
    if row.kind == "usage" and row.price_id is None:
        drawn = -sum(int(moved.amount) for moved in row.movements if moved.unit == "octets")
        assert drawn + row.timed_octets == row.charged_octets, row


def check_installed(world: World) -> None:
    """A gateway that obeyed every update holds exactly the rules in force, for each member."""
    gateway: dict[tuple[str, str], str | None] = {}
    awaited: dict[tuple[str, str], set[str]] = {}
    for update in world.updates:
        for member in update.subscriber_ids:
            key = (member, update.rule_id)
            if update.quota_octets is not None:
                assert update.quota_rule_ids, update
                assert (update.quota_bucket_id is None) != (update.quota_limit_id is None), update
                awaited.setdefault(key, set()).add(update.quota_bucket_id or update.quota_limit_id or "")
                continue
            taken_back = awaited.pop(key, None)
            if update.action == "remove":
                assert key in gateway or taken_back, update
                gateway.pop(key, None)
            else:
                assert (update.action == "install") == (key not in gateway), update
                gateway[key] = update.gate_status
    account = world.account
    assert account is not None
    assert gateway == {
        (member, rule.id): rule.gate_status
        for member in account.subscriber_ids
        for rule in effective_rules(account, world.tariff, at_ms=account.settled_ms, subscriber_id=member)
    }
    # What is awaited belongs to ends that have a quota and have not come yet, and to nobody who has left.
    near = {bucket.bucket_id for bucket in account.buckets if bucket.quota_octets and bucket.remaining}
    near |= {watch.limit_id for watch in account.watches if watch.quota_octets}
    assert {member for member, _ in awaited} <= set(account.subscriber_ids)
    assert all(buckets <= near for buckets in awaited.values())


def flow_record(volume: int, *, at_ms: int, **fields: Any) -> FlowRecord:
    values: dict[str, Any] = {
        "version": "1.0", "record_id": "r", "subscriber_id": "a1", "exporter_id": "probe-1", "start_ms": at_ms,
        "end_ms": at_ms + 1000, "ip_protocol": 6, "subscriber_ip": "10.0.0.1", "subscriber_port": 40000,
        "remote_ip": "192.0.2.1", "remote_port": 443, "octets_up": 0, "octets_down": volume,
        **fields,
    }  # fmt: skip
    return FlowRecord(**values)


def classification(
    app: str | None, *, service: str | None = None, category: str | None = None, confidence: int = 90,
    suspect: bool = False,
) -> Classification:  # fmt: skip
    kind: Any = category or APPLICATIONS.get(app or "", "other")
    evidence = (Evidence(kind="server_name", value=f"www.{app}.com", matched=f"{app}.com"),) if app else ()
    return Classification(
        category=kind, application=app, service=service, confidence=confidence, evidence=evidence, suspect=suspect
    )


def micros(amount: str) -> int:
    whole, _, part = amount.lstrip("-").partition(".")
    value = int(whole) * 1_000_000 + int(part.ljust(6, "0") or 0)
    return -value if amount.startswith("-") else value
