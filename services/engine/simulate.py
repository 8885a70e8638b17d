"""A tariff tried on recorded traffic, beside the one of today: who would pay what, and what would still pass.

There is no second engine here. The same classify, decide, commands and timers that a lane uses are fed with recorded
commands and flows, once per tariff; the books are kept from the rated usage that comes out. Time comes from the
records alone, so the same records give the same answer.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Literal, NamedTuple

import msgspec

from schemas.classification import Classification
from schemas.command import (
    COMMAND_VERSION,
    AccountCommand,
    ActivateProduct,
    ChangeProfile,
    Credit,
    RefundUsage,
    RerateUsage,
    VoidUsage,
)
from schemas.flow import FlowRecord, account_of
from schemas.state import AccountState, PendingUsage
from schemas.topics import COMMANDS, FLOWS
from schemas.units import parse_micros
from schemas.usage import RatedUsage
from services.engine.classify import Classifier, SubscriberMemory
from services.engine.commands import apply_command
from services.engine.decide import decide
from services.engine.leases import released_octets
from services.engine.outcome import Outcome, Position, Refusal
from services.engine.overshoot_seen import OvershootMeter
from services.engine.packed import PackedAccount
from services.engine.tariff import CompiledRule, Tariff
from services.engine.timers import MAX_AHEAD_MS, on_timer
from services.engine.usage import emit_usage, without_gathered

FEES = "fees"
"""The category of what is charged for holding a product, not for traffic."""

SALE = {"lifecycle_status": "active", "valid_from_ms": 0, "valid_until_ms": None}
"""An offering that can be ordered at any time."""

CALL = "call"
"""The service, inside an application, that a blocked flow of is a blocked call."""

CORRECTION = "correction"
"""In the counts of refused commands: refunds, voids and re-ratings of what was charged when it was recorded."""

NO_REVENUE = frozenset(("grant", "expiry", "credit", "debit", "reserve", "release"))
"""Kinds of rows whose money is no price of the tariff: top-ups, purchases elsewhere, holds."""

GroupBy = Literal["segment", "age_band", "consumption_level", "payment"]
"""What of an account's profile the figures are grouped by."""

_decode: Callable[[bytes], AccountState] = msgspec.msgpack.Decoder(AccountState).decode
_decode_packed: Callable[[bytes], PackedAccount] = msgspec.msgpack.Decoder(PackedAccount).decode
_encode = msgspec.msgpack.Encoder().encode


class SimulationError(ValueError):
    """The simulation cannot be set up as asked; the message names the option, the rule and the next step."""


class SubscriptionRefused(SimulationError):  # noqa: N818 - a state of affairs
    """The plan that every subscriber is put on cannot be ordered under a tariff."""


class Figures(msgspec.Struct):
    """What came of the traffic of one group and category."""

    flows: int = 0
    revenue_micros: int = 0
    octets: int = 0
    charged_octets: int = 0
    free_octets: int = 0
    sponsored_octets: int = 0
    throttled_octets: int = 0
    """Of the octets that passed, those under a rule that limits the rate, or free since a bucket had ended."""
    blocked_octets: int = 0
    not_charged_octets: int = 0
    blocked_calls: int = 0
    """Flow records of calls, most of whose octets were blocked."""
    caps_reached: int = 0
    """Caps of out-of-bundle prices that were reached: bill shocks prevented."""

    def add(self, other: "Figures") -> None:
        """Add another group's figures to these."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Bill(msgspec.Struct):
    """What one account came to."""

    group: str = ""
    micros: int = 0
    blocked_octets: int = 0
    throttled_octets: int = 0


class Side(NamedTuple):
    """A tariff to be tried, and the classifier of its applications."""

    tariff: Tariff
    classifier: Classifier


class Subscription(NamedTuple):
    """What an account without recorded commands is taken to hold from its first flow on."""

    offering_ids: tuple[str, ...]
    time_zone: str = "UTC"
    payment: str = "postpaid"
    credit: str = "0"
    """What its balance begins with, decimal string."""
    segment: str | None = None
    age_band: str | None = None
    consumption_level: str | None = None
    tier: str | None = None

    def fitted(self, *tariffs: Tariff) -> "Subscription":
        """The same for somebody who may order it: where an offering is for certain people only, the first it names.

        An offering is looked up in the first of `tariffs` that has it.
        """
        wanted: dict[str, str] = {}
        for offering_id in self.offering_ids:
            found = next((tariff.offerings[offering_id] for tariff in tariffs if offering_id in tariff.offerings), None)
            condition = found.offering.eligibility if found else None
            for field, name in _PROFILE if condition else ():
                values = getattr(condition, name)
                if values and wanted.get(field) not in values:
                    wanted[field] = values[0]
        return Subscription(**{**self._asdict(), **wanted})


_PROFILE = (("segment", "segments"), ("age_band", "age_bands"), ("consumption_level", "consumption_levels"),
            ("payment", "payments"), ("tier", "tiers"))  # fmt: skip
"""What of a profile an offering can ask for, and what its condition calls it."""


class Clock:
    """The time of a recording: the latest time that its records have stated.

    A leap of more than a day is believed when two records in a row make it; one alone is a broken clock, and must not
    bring about months of renewals.
    """

    def __init__(self) -> None:
        self.now_ms = 0
        self._leapt = False

    def tick(self, stated_ms: int) -> int:
        """The time at which a record that states `stated_ms` is taken to arrive."""
        leaps = 0 < self.now_ms < stated_ms - MAX_AHEAD_MS
        if not leaps or self._leapt:
            self.now_ms = max(self.now_ms, stated_ms)
        self._leapt = leaps
        return self.now_ms


class Run:
    """One tariff over the records. Accounts are kept as a lane keeps them; memory grows with them, not with flows."""

    def __init__(
        self,
        tariff: Tariff,
        *,
        by: GroupBy = "segment",
        subscription: Subscription | None = None,
        instead: Mapping[str, str] | None = None,
        without_trial: Set[str] = frozenset(),
        tell: Callable[[RatedUsage], None] | None = None,
    ) -> None:
        self.tariff = tariff
        self.groups: dict[tuple[str, str], Figures] = {}
        """By (group, category)."""
        self.bills: dict[str, Bill] = {}
        self.overshoot = OvershootMeter(tariff)
        self.refused: Counter[str] = Counter()
        """Commands that this tariff refuses, by cause."""
        self._by = by
        self._subscription = subscription
        self._instead = instead or {}
        self._without_trial = without_trial
        self._tell = tell
        self._selling = _on_sale(tariff)
        """The tariff as it was when its offerings could be ordered."""
        self._accounts: dict[str, bytes] = {}
        self._offset = -1
        self._sponsored = [item for item in tariff.campaigns.values() if item.budget is not None]
        self._drawn: Counter[str] = Counter()
        """Octets of budgets used, by campaign."""
        self._slow = {rule.rule.id for rule in tariff.rules.values() if has_limit(rule) and not has_priority(rule)}

    def account(self, account_id: str) -> AccountState | None:
        """An account as it stands now."""
        raw = self._accounts.get(account_id)
        return None if raw is None else _decode(raw)

    def account_for(self, flow: FlowRecord, *, now_ms: int) -> AccountState | None:
        """The account of a flow, made on the stated plan where nobody knows it; None when no plan is stated."""
        return self.account(account_of(flow)) or self._subscribed(flow, now_ms)

    def put(self, account: AccountState) -> None:
        """Go on with an account as it is given."""
        self._accounts[account.account_id] = _encode(account)

    def command(self, command: AccountCommand, *, now_ms: int) -> Refusal | None:
        """Apply a recorded command; what this tariff refuses is counted, and returned."""
        if isinstance(command, RefundUsage | VoidUsage | RerateUsage):
            # It corrects what was charged in fact; what a tariff that is tried would have charged needs none of it.
            self.refused[CORRECTION] += 1
            return Refusal(CORRECTION, f"{command.command_id}: corrections of recorded charges are left out")
        account = self.account(command.account_id)
        if isinstance(command, ActivateProduct):
            command, account = self._ordered(command, account)
        tariff = self._selling if isinstance(command, ActivateProduct) else self.tariff
        outcome = apply_command(command, account, tariff, at=self._next(COMMANDS), now_ms=now_ms)
        if isinstance(outcome, Refusal):
            self.refused[outcome.cause] += 1
            return outcome
        self._keep(outcome)
        self.overshoot.hear(outcome, now_ms=now_ms)
        return None

    def flow(self, flow: FlowRecord, classification: Classification, *, now_ms: int) -> Outcome | None:
        """Decide a recorded flow; None when nobody knows its account."""
        raw = self._accounts.get(account_of(flow))
        account = _decode_packed(raw) if raw is not None else self._subscribed(flow, now_ms)
        if account is None:
            return None
        leases = self.budgets_left(now_ms)
        outcome = decide(flow, classification, account, self.tariff, at=self._next(FLOWS), now_ms=now_ms, leases=leases)
        for paid in outcome.decision.sponsorships if outcome.decision else ():
            self._drawn[paid.campaign_id] += paid.budget_octets
        self._keep(outcome)
        self.overshoot.take(flow, outcome, now_ms=now_ms)
        if outcome.notifications:
            group = self._group(getattr(outcome.account, self._by), classification.category)
            group.caps_reached += sum(note.kind == "cap_reached" for note in outcome.notifications)
        return outcome

    def budgets_left(self, now_ms: int) -> dict[str, int] | None:
        """What is left of campaigns' budgets, as one lane that needs no slices would have it; None without budgets."""
        if not self._sponsored:
            return None
        return {item.id: max(0, released_octets(item, now_ms) - self._drawn[item.id]) for item in self._sponsored}

    def close(self, until_ms: int) -> None:
        """Let time pass for every account up to `until_ms`, and book what is still gathered."""
        for account_id in sorted(self._accounts):
            self._keep(on_timer(_decode(self._accounts[account_id]), self.tariff, partition=0, now_ms=until_ms))
            self._keep(emit_usage(_decode(self._accounts[account_id]), partition=0, now_ms=until_ms))

    def total(self) -> Figures:
        """The figures of all groups and categories."""
        total = Figures()
        for figures in self.groups.values():
            total.add(figures)
        return total

    def _ordered(
        self, command: ActivateProduct, account: AccountState | None
    ) -> tuple[ActivateProduct, AccountState | None]:
        """The order as this run wants it: of another offering, or of one whose trial counts as had."""
        offering_id = self._instead.get(command.offering_id, command.offering_id)
        if account is not None and offering_id in self._without_trial:
            account = msgspec.structs.replace(account, tried=(*account.tried, offering_id))
        return msgspec.structs.replace(command, offering_id=offering_id), account

    def _next(self, topic: str) -> Position:
        self._offset += 1
        return Position(topic, 0, self._offset)

    def _keep(self, outcome: Outcome) -> None:
        account = outcome.account
        for row in outcome.usage:
            self._book(row, getattr(account, self._by))
            if self._tell is not None:
                self._tell(row)
        if account.pending and self._tell is None:
            # Nobody wants the rows, so what a flow has gathered is booked at once, and no row is ever made of it.
            for entry in account.pending:
                self._book_gathered(entry, account)
            account = without_gathered(account)
        self.put(account)

    def _subscribed(self, flow: FlowRecord, now_ms: int) -> AccountState | None:
        """The account of a stranger, made on the stated plan; None when none is stated."""
        if self._subscription is None:
            return None
        for command in subscribing(account_of(flow), flow.subscriber_id, self._subscription, at_ms=flow.start_ms):
            if refusal := self.command(command, now_ms=now_ms):
                raise SubscriptionRefused(f"--subscribe: catalogue {self.tariff.version} refuses it: {refusal.detail}")
        return self.account(account_of(flow))

    def _group(self, group: str, category: str) -> Figures:
        key = (group, category)
        figures = self.groups.get(key)
        if figures is None:
            figures = self.groups[key] = Figures()
        return figures

    def _book(self, row: RatedUsage, group: str) -> None:
        micros = 0 if row.kind in NO_REVENUE or row.amount == "0" else parse_micros(row.amount)
        if row.credit_amount != "0":
            # What granted money paid of the price is nobody's revenue.
            micros -= parse_micros(row.credit_amount)
        if row.kind != "usage" and not micros and not row.octets:
            return
        # The money of a refund is negative; its octets, those that were taken back, are told without a sign.
        sign = -1 if row.kind == "refund" else 1
        figures = self._group(group, row.category or FEES)
        self._add(figures, self._bill(row.account_id, group), row, micros, sign)

    def _book_gathered(self, entry: PendingUsage, account: AccountState) -> None:
        group = getattr(account, self._by)
        micros = entry.micros - sum([paid.micros for paid in entry.payments]) if entry.micros else 0
        self._add(self._group(group, entry.category), self._bill(account.account_id, group), entry, micros, 1)

    def _add(self, figures: Figures, bill: Bill, usage: RatedUsage | PendingUsage, micros: int, sign: int) -> None:
        throttled, blocked = sign * self._throttled_octets(usage), sign * usage.blocked_octets
        figures.flows += sign * usage.record_count
        figures.revenue_micros += micros
        figures.octets += sign * _octets(usage)
        figures.charged_octets += sign * usage.charged_octets
        figures.free_octets += sign * usage.free_octets
        figures.sponsored_octets += sign * usage.sponsored_octets
        figures.throttled_octets += throttled
        figures.blocked_octets += blocked
        figures.not_charged_octets += sign * usage.not_charged_octets
        if usage.treatment == "blocked" and usage.service == CALL:
            figures.blocked_calls += sign * usage.record_count
        bill.micros += micros
        bill.blocked_octets += blocked
        bill.throttled_octets += throttled

    def _bill(self, account_id: str, group: str) -> Bill:
        bill = self.bills.get(account_id)
        if bill is None:
            bill = self.bills[account_id] = Bill()
        bill.group = group
        return bill

    def _throttled_octets(self, usage: RatedUsage | PendingUsage) -> int:
        if usage.rule_id in self._slow:
            return usage.charged_octets + usage.free_octets + usage.sponsored_octets
        if not usage.free_octets or usage.price_id is not None:
            return 0
        # A rule that charges, and octets pass free: an empty bucket throttles, unless a price has reached its cap.
        rule = self.tariff.rules.get(usage.rule_id or "", self.tariff.built_in)
        return usage.free_octets if rule.rule.charging == "charge" else 0


def _on_sale(tariff: Tariff) -> Tariff:
    """The same tariff with all its offerings on sale.

    What was ordered once serves its holder after its sale has ended, and what is to be sold from next month on is tried
    over the traffic of the last.
    """
    off = {
        name: item for name, item in tariff.offerings.items() if item.offering.model_copy(update=SALE) != item.offering
    }
    lifted = {
        name: dataclasses.replace(item, offering=item.offering.model_copy(update=SALE)) for name, item in off.items()
    }
    return dataclasses.replace(tariff, offerings={**tariff.offerings, **lifted}) if lifted else tariff


def _octets(usage: RatedUsage | PendingUsage) -> int:
    passed = usage.charged_octets + usage.free_octets + usage.sponsored_octets
    return passed + usage.blocked_octets + usage.not_charged_octets


def has_limit(rule: CompiledRule) -> bool:
    """Whether a rule limits the bit rate."""
    return rule.qos is not None and (rule.qos.mbr_up_bps is not None or rule.qos.mbr_down_bps is not None)


def has_priority(rule: CompiledRule) -> bool:
    """Whether a rule gives a class, a priority or a guaranteed rate; a limit beside it does not make it a throttle."""
    qos = rule.qos
    given = (qos.five_qi, qos.arp, qos.gbr_up_bps, qos.gbr_down_bps) if qos else ()
    return any(value is not None for value in given)


def subscribing(
    account_id: str, subscriber_id: str, subscription: Subscription, *, at_ms: int
) -> Iterator[AccountCommand]:
    """The commands that make an account on a stated plan."""
    yield ChangeProfile(
        version=COMMAND_VERSION, command_id=f"simulated-{account_id}-0"[:128], account_id=account_id,
        issued_at_ms=at_ms, subscriber_ids=(subscriber_id,), time_zone=subscription.time_zone,
        payment=subscription.payment, segment=subscription.segment, age_band=subscription.age_band,
        consumption_level=subscription.consumption_level, tier=subscription.tier,
    )  # fmt: skip
    if subscription.credit != "0":
        yield Credit(
            version=COMMAND_VERSION, command_id="simulated-credit", account_id=account_id, issued_at_ms=at_ms,
            amount=subscription.credit,
        )  # fmt: skip
    for number, offering_id in enumerate(subscription.offering_ids, start=1):
        yield ActivateProduct(
            version=COMMAND_VERSION, command_id=f"simulated-{number}", account_id=account_id, issued_at_ms=at_ms,
            product_id=f"simulated-{number}", offering_id=offering_id,
        )  # fmt: skip


class Simulation:
    """The tariff of today and a new one over the same records, side by side.

    Feed it commands and flows in the order in which a lane would get them, with the time at which each arrived. A new
    lane begins with `next_lane`: what is remembered of subscribers for nameless flows is not shared between lanes.
    """

    def __init__(
        self,
        present: Side,
        new: Side,
        *,
        by: GroupBy = "segment",
        subscription: Subscription | None = None,
        instead: Mapping[str, str] | None = None,
    ) -> None:
        if present.tariff.currency != new.tariff.currency:
            raise SimulationError(
                f"the catalogues' currencies {present.tariff.currency} and {new.tariff.currency} differ; "
                "money of two currencies cannot be compared, use one"
            )
        # Under both tariffs it is the same person.
        subscription = subscription.fitted(present.tariff, new.tariff) if subscription else None
        self.present = Run(present.tariff, by=by, subscription=subscription)
        self.new = Run(new.tariff, by=by, subscription=subscription, instead=instead)
        self.flows = self.commands = self.strangers = 0
        self.from_ms = self.until_ms = 0
        self.most_late_ms = 0
        """Longest that a record arrived after the end of its interval."""
        self._classifiers = (present.classifier, new.classifier)
        self.next_lane()

    def next_lane(self) -> None:
        """Forget what was remembered of subscribers' last minutes."""
        self._memories = (SubscriberMemory(), SubscriberMemory())

    def command(self, command: AccountCommand, *, arrived_ms: int) -> None:
        """Apply a recorded command under both tariffs."""
        self._saw(arrived_ms)
        self.commands += 1
        self.present.command(command, now_ms=arrived_ms)
        self.new.command(command, now_ms=arrived_ms)

    def flow(self, flow: FlowRecord, *, arrived_ms: int) -> None:
        """Decide a recorded flow under both tariffs."""
        self._saw(arrived_ms)
        self.most_late_ms = max(self.most_late_ms, arrived_ms - flow.end_ms)
        seen = self._classifiers[0].classify(flow, self._memories[0])
        if self.present.flow(flow, seen, now_ms=arrived_ms) is None:
            self.strangers += 1
            return
        self.flows += 1
        if self._classifiers[1] is not self._classifiers[0]:
            seen = self._classifiers[1].classify(flow, self._memories[1])
        self.new.flow(flow, seen, now_ms=arrived_ms)

    def close(self) -> None:
        """The recording is over: time passes up to its last record."""
        for run in (self.present, self.new):
            run.close(self.until_ms)

    def _saw(self, arrived_ms: int) -> None:
        self.from_ms = min(self.from_ms or arrived_ms, arrived_ms)
        self.until_ms = max(self.until_ms, arrived_ms)
