"""Corrections that are ordered: rows of the ledger come in with a command, and are refunded, voided or rated again."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from schemas.catalogue_amounts import MAX_AMOUNT_MICROS
from schemas.classification import Classification
from schemas.command import CorrectedUsage, RefundUsage, RerateUsage, VoidUsage
from schemas.flow import FLOW_VERSION, FlowRecord
from schemas.state import AccountState, Provisional
from schemas.units import Unit, format_micros, parse_micros
from services.engine.corrections import Drawn, Line, charge_again, give_money, take_back, unsponsored
from services.engine.journal import Journal
from services.engine.outcome import Refusal
from services.engine.usage import MAIN_BALANCE


def correct(journal: Journal, command: RefundUsage | VoidUsage | RerateUsage) -> Refusal | None:
    """Carry out a correction, all of it or nothing; a Refusal says why not.

    Everything is taken back before anything is charged again. A row of a closed period is left as it is.
    """
    lines = command.lines if isinstance(command, RerateUsage) else (command.line,)
    refusal = _closed(lines, journal.account)
    if refusal is None:
        refusal = _granted(lines)
    if refusal is None and not isinstance(command, RefundUsage):
        refusal = _outdated(command, journal.account) or _counted(lines)
    if refusal is not None:
        return refusal
    journal.emit_gathered()
    if isinstance(command, RefundUsage):
        return _refund(journal, command)
    journal.take(_settled(journal.account, lines))
    rows = [_line(line, journal.account) for line in lines]
    # What was booked was believed, or booked as unknown: so it is charged again as what the row says.
    taken = [take_back(journal, line) for line in rows]
    charge_again(journal, taken if isinstance(command, RerateUsage) else ())
    return None


def _refund(journal: Journal, command: RefundUsage) -> Refusal | None:
    line, micros = _line(command.line, journal.account), parse_micros(command.amount)
    drawn = sum(draw.amount for draw in line.draws if draw.unit == "octets")
    if not 0 <= micros <= MAX_AMOUNT_MICROS or micros > line.micros:
        detail = f"amount: {command.amount} is not between 0 and the {format_micros(line.micros)} that the row cost"
        return Refusal("amount", f"{detail}; give back what was paid")
    if command.octets > drawn:
        detail = f"octets: {command.octets} is more than the {drawn} that the row drew from buckets"
        return Refusal("octets", f"{detail}; give back what was drawn")
    if command.ms > line.drawn_ms:
        detail = f"ms: {command.ms} is more than the {line.drawn_ms} that the row drew from buckets of time"
        return Refusal("ms", f"{detail}; give back what was drawn")
    if command.octets or command.ms or command.sponsored:
        part = (*_last(line.draws, "octets", command.octets), *_last(line.draws, "ms", command.ms))
        timed = line.timed * command.ms // line.drawn_ms if command.ms else 0
        back = line._replace(draws=part, charged=command.octets + timed, timed=timed, free=0, record_count=0)
        take_back(journal, back if command.sponsored else unsponsored(back))
    if micros:
        give_money(journal, line, micros)
    charge_again(journal, ())
    return None


def _closed(lines: Iterable[CorrectedUsage], account: AccountState) -> Refusal | None:
    for line in lines:
        if line.start_ms < account.cycle_start_ms:
            detail = f"usage_id: {line.usage_id!r} is of {line.start_ms}, before the open period, which began at"
            return Refusal("period_closed", f"{detail} {account.cycle_start_ms}; credit the account instead")
    return None


def _outdated(command: VoidUsage | RerateUsage, account: AccountState) -> Refusal | None:
    if command.reclassified == account.reclassified:
        return None
    detail = f"reclassified: the ledger knew {command.reclassified} corrections by the lane, and there are"
    return Refusal("outdated", f"{detail} {account.reclassified}; wait until they are booked and order it again")


def _counted(lines: Sequence[CorrectedUsage]) -> Refusal | None:
    """Rows of connections have no octets and no records, so there is nothing to take back and charge again."""
    for line in lines:
        if not line.record_count:
            detail = f"usage_id: {line.usage_id!r} is of connections, which stay counted where their flows ended"
            return Refusal("connections", f"{detail}; give its money back with refund_usage")
    return None


def _granted(lines: Sequence[CorrectedUsage]) -> Refusal | None:
    """Granted money must not come back as the subscriber's own."""
    for line in lines:
        if any(item.unit == "micros" and item.bucket_id != MAIN_BALANCE for item in line.movements):
            detail = f"usage_id: {line.usage_id!r} was paid by money that a product granted"
            return Refusal("granted_money", f"{detail}; credit the account instead")
    return None


def _settled(account: AccountState, lines: Sequence[CorrectedUsage]) -> AccountState:
    """What is corrected by order is not corrected again by a better verdict."""

    def is_within(entry: Provisional) -> bool:
        return any(
            line.subscriber_id == entry.subscriber_id and line.start_ms <= entry.start_ms <= line.end_ms
            for line in lines
        )

    return replace(account, provisional=tuple(entry for entry in account.provisional if not is_within(entry)))


def _line(row: CorrectedUsage, account: AccountState) -> Line:
    draws = tuple(
        Drawn(item.bucket_id, item.unit, -int(item.amount)) for item in row.movements if item.unit != "micros"
    )
    flow = FlowRecord(
        version=FLOW_VERSION, record_id=row.usage_id, subscriber_id=row.subscriber_id, exporter_id="-",
        start_ms=row.start_ms, end_ms=row.end_ms, ip_protocol=0, subscriber_ip="", subscriber_port=0, remote_ip="",
        remote_port=0, octets_up=0, octets_down=0, rat_type=row.rat_type,
    )  # fmt: skip
    seen = Classification(
        category=row.category, application=row.application, service=row.service, confidence=100, evidence=()
    )
    line = Line(
        row.usage_id, flow, seen, row.rule_id, row.treatment, row.rating_group, row.sponsor_id, row.catalogue_version,
        row.charged_octets, row.free_octets, row.sponsored_octets, draws, parse_micros(row.amount),
        any(item.bucket_id == MAIN_BALANCE for item in row.movements), None, row.price_id, row.record_count,
        row.evidence, row.sponsorships, row.timed_octets,
    )  # fmt: skip
    return line._replace(counter_id=_counter(row.price_id, line.sold, account))


def _counter(price_id: str | None, sold: int, account: AccountState) -> str | None:
    """The running total that the octets were counted in: a row names the price, and the account counts by offering."""
    totals = [item for item in account.counters if item.counter_id.startswith("price:")]
    mine = [item for item in totals if item.counter_id.rpartition("/")[2] == price_id and item.octets >= sold]
    return mine[0].counter_id if mine else None


def _last(draws: Sequence[Drawn], unit: Unit, amount: int) -> Iterable[Drawn]:
    """The last `amount` of the draws in `unit`: what was taken last is given back first."""
    for draw in reversed(draws):
        part = min(draw.amount, amount) if draw.unit == unit else 0
        amount -= part
        if part:
            yield draw._replace(amount=part)
