"""Doubt and its end: flows whose verdict was not believed, and what becomes of them when a better one comes.

A flow that is charged at the general rate only because its verdict is suspect, or too weak for the catalogue, is kept
with what it was charged. When a later record of the same flow is believed, the charge is corrected, once.
"""

import hashlib

from msgspec.structs import replace

from schemas.classification import Classification
from schemas.flow import FlowRecord
from schemas.state import AccountState, PendingDraw, PendingPayment, Provisional
from services.engine.case import Case
from services.engine.corrections import Drawn, Line, charge_again, purses_of, take_all_back
from services.engine.journal import Journal, Source
from services.engine.outcome import Outcome, Position
from services.engine.packed import unpacked
from services.engine.select import is_believed, select
from services.engine.standing import standing_for
from services.engine.tariff import Tariff
from services.engine.usage import MAX_GATHERED_OCTETS

CAUSE = "reclassified"

MAX_PROVISIONAL = 16
"""Flows of an account that wait for a better verdict; the oldest makes room, and stays as it was charged."""

SAME_FLOW_MS = 7_200_000
"""How long after its last record the same five-tuple is still the same flow: two hours, for which a NAT keeps an
established connection (RFC 5382, REQ-5). Later, the ports may have been given to something else."""


def not_believed(classification: Classification) -> Classification:
    """What a flow is booked as whose verdict is not believed: unknown traffic, with the evidence that was seen."""
    return Classification(
        category="other", application=None, service=None, confidence=0, evidence=classification.evidence,
        suspect=classification.suspect,
    )  # fmt: skip


def kept(account: AccountState, case: Case) -> AccountState:
    """`account` with a doubted flow kept for correction, if it was charged anything."""
    if not case.charged or case.octets > MAX_GATHERED_OCTETS:
        return account
    flow, template = case.flow, case.selection.template
    entry = Provisional(
        flow_key(flow), flow.subscriber_id, case.at.offset, flow.start_ms, flow.end_ms, flow.rat_type,
        flow.serving_plmn, flow.congestion_level,
        template.rule_id, case.treatment, template.rating_group, template.catalogue_version, case.charged, case.free,
        tuple(PendingDraw(draw.bucket_id, draw.octets, draw.drawn_ms) for draw in case.draws), case.counter_id,
        case.micros, case.money, tuple(PendingPayment(item.purse.bucket_id, item.micros) for item in case.payments),
        case.blocked,
    )  # fmt: skip
    return replace(account, provisional=(*account.provisional, entry)[-MAX_PROVISIONAL:])


def flow_key(flow: FlowRecord) -> bytes:
    """Eight octets that stand for protocol, addresses and ports."""
    text = f"{flow.ip_protocol} {flow.subscriber_ip} {flow.subscriber_port} {flow.remote_ip} {flow.remote_port}"
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def reclassify(
    account: AccountState, flow: FlowRecord, verdict: Classification, tariff: Tariff, *, at: Position, now_ms: int
) -> Outcome | None:
    """Correct what earlier records of `flow` were charged, now that its verdict is believed; None if there is nothing.

    The account's calendar must have been brought to the flow's time. What is found is forgotten: it is corrected once.
    """
    alive = tuple(entry for entry in account.provisional if _is_alive(entry, account, flow))
    found = _same_flow(alive, flow) if verdict.application is not None and is_believed(verdict, tariff) else ()
    if not found:
        return None if len(alive) == len(account.provisional) else Outcome(replace(account, provisional=alive))
    account, left = unpacked(account), tuple(entry for entry in alive if entry not in found)
    wrong = [entry for entry in found if _can_be_corrected(entry, flow, account, verdict, tariff)]
    journal = Journal(account, tariff, Source.flow(at, CAUSE), at_ms=account.settled_ms, now_ms=now_ms)
    journal.take(replace(account, provisional=left, reclassified=account.reclassified + len(wrong)))
    if wrong:
        journal.emit_gathered()
        lines = [_line(entry, flow, at.partition) for entry in wrong]
        again = take_all_back(journal, lines)
        charge_again(journal, [item._replace(verdict=verdict) for item in again])
    return journal.outcome()


_UNKNOWN = Classification(category="other", application=None, service=None, confidence=0, evidence=())


def _is_alive(entry: Provisional, account: AccountState, flow: FlowRecord) -> bool:
    return entry.start_ms >= account.cycle_start_ms and flow.start_ms <= entry.end_ms + SAME_FLOW_MS


def _same_flow(entries: tuple[Provisional, ...], flow: FlowRecord) -> tuple[Provisional, ...]:
    key = flow_key(flow)
    return tuple(entry for entry in entries if entry.flow == key and entry.subscriber_id == flow.subscriber_id)


def _can_be_corrected(
    entry: Provisional, flow: FlowRecord, account: AccountState, verdict: Classification, tariff: Tariff
) -> bool:
    # Granted money that is gone can neither come back nor become the subscriber's own.
    if not all(purses_of(account, payment.bucket_id, entry.start_ms) for payment in entry.payments):
        return False
    return not _would_be_blocked(_then(entry, flow), account, verdict, tariff)


def _would_be_blocked(flow: FlowRecord, account: AccountState, verdict: Classification, tariff: Tariff) -> bool:
    """What has passed cannot be blocked afterwards; it stays charged, or a block would be a way to pay nothing."""
    return select(standing_for(account, flow.subscriber_id), verdict, flow, tariff).treatment == "blocked"


def _then(entry: Provisional, flow: FlowRecord) -> FlowRecord:
    """The flow as it was when the entry was made."""
    return replace(
        flow, start_ms=entry.start_ms, end_ms=entry.end_ms, rat_type=entry.rat_type,
        serving_plmn=entry.serving_plmn, congestion_level=entry.congestion_level, end_reason=None,
    )  # fmt: skip


def _line(entry: Provisional, flow: FlowRecord, partition: int) -> Line:
    price_id = entry.counter_id.rpartition("/")[2] if entry.counter_id else None
    return Line(
        f"{partition}-{entry.offset}", _then(entry, flow), _UNKNOWN, entry.rule_id,
        entry.treatment, entry.rating_group, None, entry.catalogue_version, entry.charged_octets, entry.free_octets, 0,
        tuple(Drawn(draw.bucket_id, draw.unit, draw.amount) for draw in entry.draws), entry.micros, bool(entry.money),
        entry.counter_id, price_id, timed=sum(draw.octets for draw in entry.draws if draw.ms is not None),
        payments=tuple((payment.bucket_id, payment.micros) for payment in entry.payments), unpaid=entry.blocked_octets,
    )  # fmt: skip
