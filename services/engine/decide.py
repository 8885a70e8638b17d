"""Steps 3 to 5 for one flow: select, charge, tell. The one function that the lane calls for each record.

Nearly all flows are whole draws from one bucket, or free, or blocked again; they take the short way. All others go
down the waterfall of `services.engine.charge`. Both ways give the same answer.
"""

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from schemas.classification import Classification
from schemas.decision import ConnectionPrice, Draw, Payment, PolicyDecision, Price
from schemas.flow import FlowRecord
from schemas.notification import Notification
from schemas.state import AccountState, Bucket, PendingUsage
from schemas.units import format_micros
from services.engine.case import Case
from services.engine.charge import Charged, charge
from services.engine.installed import look_at_money, money_turns, settle
from services.engine.late import drawn_from_lapsed, in_past_cycle, is_beyond, is_present, merged, view_of
from services.engine.outcome import Outcome, Position
from services.engine.packed import unpacked
from services.engine.reclassify import kept, not_believed, reclassify
from services.engine.select import select
from services.engine.standing import standing_for
from services.engine.tariff import Tariff
from services.engine.timers import MAX_AHEAD_MS, advance, event_time_ms, joined
from services.engine.usage import (
    MAX_GATHERED_OCTETS,
    MAX_PENDING,
    emit_usage,
    gather,
    gather_all,
    gathered_rows,
    late_rows,
    without_gathered,
)

_FAILURES = frozenset(("reset", "no_answer"))
_FAILED = "the flow failed, so it costs nothing"


def decide(
    flow: FlowRecord,
    classification: Classification,
    account: AccountState,
    tariff: Tariff,
    *,
    at: Position,
    now_ms: int,
    leases: Mapping[str, int] | None = None,
) -> Outcome:
    """Decide and charge one flow of `account`.

    The event time of a flow is the start of its interval. What is due in the account by then comes first: a cycle
    that ended is renewed before the flow is charged. A flow from before the account's last change is charged as it
    would have been then; see `services.engine.late`. The account may come packed (`services.engine.packed`), and goes
    so where nothing had to be unpacked. `at` is the record's place in its topic, `now_ms` the wall clock of the
    transaction. `leases` holds what is left of the budgets of campaigns, in octets by campaign id; what the flow
    took of them are the decision's `sponsorships`. Without it, budgets have no end.

    Every octet of the flow, scaled by its sampling rate, ends up in exactly one of charged, free, sponsored, blocked
    and not charged.
    """
    if flow.end_ms > now_ms + MAX_AHEAD_MS:
        flow = in_our_time(flow, now_ms)
    at_ms = flow.start_ms
    if at_ms >= account.due_ms or account.catalogue_version != tariff.version:
        first = advance(unpacked(account), tariff, partition=at.partition, until_ms=at_ms, now_ms=now_ms)
        # Nothing is due any more at this time, so the second look goes on below.
        return joined(first, decide(flow, classification, first.account, tariff, at=at, now_ms=now_ms, leases=leases))
    octets = (flow.octets_up + flow.octets_down) * flow.sampling_rate
    if at_ms < account.settled_ms and not is_present(account, at_ms):
        account = unpacked(account)
        view = view_of(account, tariff, at_ms)
        selection = select(standing_for(view, flow.subscriber_id), classification, flow, tariff)
        case = Case(flow, classification, selection, at, octets, at_ms, now_ms, selection.treatment, leases)
        return _decide_late(case, account, view, tariff)
    if account.provisional:
        corrected = reclassify(account, flow, classification, tariff, at=at, now_ms=now_ms)
        if corrected is not None:
            # What was found is forgotten, so the second look goes on below.
            again = decide(flow, classification, corrected.account, tariff, at=at, now_ms=now_ms, leases=leases)
            return joined(corrected, again)
    standing = standing_for(account, flow.subscriber_id) if account.member_standings else account.standing
    selection = select(standing, classification, flow, tariff)
    case = Case(flow, classification, selection, at, octets, at_ms, now_ms, selection.treatment, leases)
    return _decide(case, account, tariff)


def in_our_time(flow: FlowRecord, now_ms: int) -> FlowRecord:
    """A flow whose exporter's clock is too far ahead, as of now: else its usage would be of a bill that never comes.

    Its length stays, unless that alone takes it too far: then the end is wrong, and the flow is taken for a moment.
    """
    start_ms = event_time_ms(flow.start_ms, now_ms)
    end_ms = start_ms + flow.end_ms - flow.start_ms
    if end_ms > now_ms + MAX_AHEAD_MS:
        end_ms = start_ms
    return replace(flow, start_ms=start_ms, end_ms=end_ms)


def has_failed(flow: FlowRecord) -> bool:
    """Whether the flow was reset or never answered, and nothing came down: such a flow is not charged."""
    return flow.end_reason in _FAILURES and not flow.octets_down and not flow.packets_down


def _decide(case: Case, account: AccountState, tariff: Tariff) -> Outcome:
    selection, octets = case.selection, case.octets
    if case.flow.end_reason in _FAILURES and has_failed(case.flow):
        _not_charged(case, _FAILED)
        return _told(case, account)
    if selection.treatment == "free":
        case.free = octets
        return _told(case, account)
    index = selection.whole_index
    if index >= 0 and octets:
        bucket = account.buckets[index]
        left = bucket.remaining - octets
        if left > bucket.notice_at:
            case.charged = octets
            case.draws = (Draw(bucket_id=bucket.bucket_id, octets=octets, remaining_octets=left),)
            buckets = list(account.buckets)
            buckets[index] = replace(bucket, remaining=left)
            return _told(case, account, buckets=tuple(buckets))
    return _decide_slowly(case, account, tariff)


def _not_charged(case: Case, note: str) -> None:
    case.not_charged, case.treatment, case.note = case.octets, "not_charged", note


def _decide_late(case: Case, account: AccountState, view: AccountState, tariff: Tariff) -> Outcome:
    """Charge a flow to the account as it stood when the flow happened. The ledger hears at once."""
    if has_failed(case.flow):
        _not_charged(case, _FAILED)
        return _told(case, account)
    if is_beyond(account, case.at_ms):
        note = f"the flow is older than {account.past_start_ms or account.cycle_start_ms}, and the grace for it is over"
        _not_charged(case, f"{note}; it is listed for correction")
        return _told_now(case, account, account, cause="late")
    charged = charge(case, view, tariff)
    if case.selection.doubted:
        return _told_as_unknown(case, lambda: _told_late(case, charged, account, tariff))
    return _told_late(case, charged, account, tariff)


def _told_late(case: Case, charged: Charged, account: AccountState, tariff: Tariff) -> Outcome:
    after, past = merged(account, charged.account, tariff, case.at_ms), in_past_cycle(account, case.at_ms)
    if not past and not drawn_from_lapsed(account, after):
        # What turns now need not have turned then: to what has ended since, a mark may have been passed already.
        turned = (after.standing, after.member_standings) != (account.standing, account.member_standings)
        cause = charged.cause or ("late" if turned else None)
        return _told_with_rules(case, account, charged._replace(account=after, cause=cause), tariff)
    if past:
        case.note = case.note or "charged in the cycle before, when it happened"
    told = _told_now(case, account, after)
    after, updates = settle(told.account, tariff, at_ms=account.settled_ms, cause=charged.cause or "late")
    return Outcome(after, told.decision, updates, () if past else charged.notifications, told.usage)


def _told_now(case: Case, before: AccountState, after: AccountState, *, cause: str | None = None) -> Outcome:
    """The outcome of a late flow: everything gathered before it, what it takes back from expiries, its own row."""
    partition, now_ms = case.at.partition, case.now_ms
    rows = gathered_rows(before, partition=partition, now_ms=now_ms)
    alone = replace(after, pending=gather_all((), case))
    rows += late_rows(alone, drawn_from_lapsed(before, after), at=case.at, at_ms=case.at_ms, now_ms=now_ms)
    rows += tuple(replace(row, cause=cause) for row in gathered_rows(alone, partition=partition, now_ms=now_ms))
    return Outcome(without_gathered(after), _paid(case, _decision(case, after), after.currency), usage=rows)


def _decide_slowly(case: Case, account: AccountState, tariff: Tariff) -> Outcome:
    before = unpacked(account)
    charged = charge(case, before, tariff)
    if not case.selection.doubted:
        return _told_with_rules(case, before, charged, tariff)
    charged = charged._replace(account=kept(charged.account, case))
    return _told_as_unknown(case, lambda: _told_with_rules(case, before, charged, tariff))


def _told_as_unknown(case: Case, tell: Callable[[], Outcome]) -> Outcome:
    """What is not believed is not booked on the application either; the decision says what was seen."""
    seen, case.classification = case.classification, not_believed(case.classification)
    told = tell()
    decision = None if told.decision is None else replace(told.decision, classification=seen)
    return told._replace(decision=decision)


def _told_with_rules(case: Case, before: AccountState, charged: Charged, tariff: Tariff) -> Outcome:
    """The outcome of a flow that went down the waterfall."""
    told = _told(case, charged.account, notifications=charged.notifications, gatherer=gather_all)
    told = told._replace(decision=_paid(case, told.decision, charged.account.currency))
    cause = charged.cause or ("spend" if _has_paid(case) and money_turns(before, charged.account, tariff) else None)
    if told.account.watches or charged.cause in ("exhausted", "quota"):
        changed = cause is not None or case.connection is not None
        account, is_near = look_at_money(told.account, case.flow, tariff, at_ms=case.at_ms, changed=changed)
        told, cause = told._replace(account=account), cause or ("quota" if is_near else None)
    if cause is None:
        return told
    # Money or a bucket is at its end: the ledger hears now, and the gateway too.
    emitted = emit_usage(told.account, partition=case.at.partition, now_ms=case.now_ms)
    after, updates = settle(emitted.account, tariff, at_ms=case.at_ms, cause=cause)
    return Outcome(after, told.decision, updates, charged.notifications, told.usage + emitted.usage)


def _has_paid(case: Case) -> bool:
    return bool(case.micros) or case.connection is not None


def _told(
    case: Case,
    account: AccountState,
    *,
    buckets: tuple[Bucket, ...] | None = None,
    notifications: tuple[Notification, ...] = (),
    gatherer: Callable[[tuple[PendingUsage, ...], Case], tuple[PendingUsage, ...]] = gather,
) -> Outcome:
    """The outcome of a charged flow: its decision, and its usage gathered, or emitted when the keys are too many."""
    pending = gatherer(account.pending, case)
    account = replace(
        account,
        buckets=account.buckets if buckets is None else buckets,
        pending=pending,
        pending_since_ms=account.pending_since_ms or case.now_ms,
    )
    decision = _decision(case, account)
    if len(pending) <= MAX_PENDING and case.octets <= MAX_GATHERED_OCTETS:
        # A named tuple's own constructor is a Python function; this is what it calls.
        return tuple.__new__(Outcome, (account, decision, (), notifications, ()))
    emitted = emit_usage(account, partition=case.at.partition, now_ms=case.now_ms)
    return Outcome(emitted.account, decision, (), notifications, emitted.usage)


def _decision(case: Case, account: AccountState) -> PolicyDecision:
    flow, at = case.flow, case.at
    # More than fifteen keyword arguments in one call would make CPython build a dict first; so two calls.
    decision = replace(
        case.selection.template,
        decision_id=f"{at.partition}-{at.offset}",
        record_id=flow.record_id,
        subscriber_id=flow.subscriber_id,
        account_id=account.account_id,
        start_ms=flow.start_ms,
        end_ms=flow.end_ms,
        octets=case.octets,
        classification=case.classification,
        decided_at_ms=case.now_ms,
        charged_octets=case.charged,
        free_octets=case.free,
        draws=case.draws,
    )
    if case.charged + case.free == case.octets and case.note is None and case.price_id is None:
        return decision if case.treatment == decision.treatment else replace(decision, treatment=case.treatment)
    return replace(
        decision,
        treatment=case.treatment,
        gate_status="closed" if case.treatment == "blocked" else decision.gate_status,
        sponsored_octets=case.sponsored,
        blocked_octets=case.blocked,
        not_charged_octets=case.not_charged,
        price=_price(case, account.currency),
        note=case.note,
        sponsorships=case.sponsorships,
    )


def _price(case: Case, currency: str) -> Price | None:
    if case.price_id is None or case.price_from is None or case.price_to is None:
        return None
    return Price(
        price_id=case.price_id,
        currency=currency,
        amount=format_micros(case.micros),
        octets_from=case.price_from,
        octets_to=case.price_to,
        capped=case.price_capped,
    )


def _paid(case: Case, decision: PolicyDecision | None, currency: str) -> PolicyDecision | None:
    """The decision with the connection that ended, and what granted money paid; common flows have neither."""
    if decision is None:
        return decision
    if case.sponsorships and not case.octets:
        decision = replace(decision, sponsorships=case.sponsorships)
    if case.connection is None and not case.payments:
        return decision
    return replace(decision, connection=_connection(case, currency), payments=_payments(case))


def _connection(case: Case, currency: str) -> ConnectionPrice | None:
    ended = case.connection
    if ended is None:
        return None
    return ConnectionPrice(
        price_id=ended.price_id,
        currency=currency,
        amount=format_micros(ended.micros),
        connections_from=ended.number_from,
        connections_to=ended.number_to,
    )


def _payments(case: Case) -> tuple[Payment, ...]:
    paid = case.payments if case.connection is None else case.payments + case.connection.payments
    return tuple(
        Payment(
            bucket_id=item.purse.bucket_id,
            amount=format_micros(item.micros),
            remaining=format_micros(item.purse.remaining_micros),
        )
        for item in paid
    )
