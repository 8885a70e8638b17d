"""Corrections that are ordered: rows of the ledger come in with a command, and are refunded, voided or rated again."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from schemas.catalogue_amounts import MAX_AMOUNT_MICROS
from schemas.classification import Classification
from schemas.command import CorrectedUsage, RefundUsage, RerateUsage, VoidUsage
from schemas.flow import FLOW_VERSION, FlowRecord
from schemas.state import AccountState, Provisional
from schemas.units import Unit, format_micros, parse_micros
from services.engine.circumstances import DOUBTED, Circumstances, flow_as_met, read_circumstances, verdict_as_met
from services.engine.corrections import (
    Drawn,
    Line,
    charge_again,
    give_money,
    purses_of,
    take_all_back,
    take_back,
    unsponsored,
)
from services.engine.journal import Journal
from services.engine.outcome import Refusal
from services.engine.tariff import Tariff
from services.engine.usage import MAIN_BALANCE


def correct(journal: Journal, command: RefundUsage | VoidUsage | RerateUsage) -> Refusal | None:
    """Carry out a correction, all of it or nothing; a Refusal says why not.

    Everything is taken back before anything is charged again. A row of a closed period is left as it is.
    """
    lines = command.lines if isinstance(command, RerateUsage) else (command.line,)
    refusal = _closed(lines, journal.account)
    if refusal is None and not isinstance(command, RefundUsage):
        refusal = _outdated(command, journal.account) or _granted(lines, journal.account)
    if refusal is None:
        refusal = unreadable(lines, again=isinstance(command, RerateUsage))
    if refusal is None and not isinstance(command, RefundUsage):
        refusal = _of_several(lines, journal.account, journal.tariff)
    if refusal is not None:
        return refusal
    journal.emit_gathered()
    if isinstance(command, RefundUsage):
        return _refund(journal, command)
    journal.take(_settled(journal.account, lines))
    rows = [line_of(line, journal.account, journal.tariff) for line in lines]
    # What was booked was believed, or booked as unknown: so it is charged again as what the row says.
    again = take_all_back(journal, rows)
    charge_again(journal, again if isinstance(command, RerateUsage) else ())
    return _timed_together(journal)


def _timed_together(journal: Journal) -> Refusal | None:
    """Flows in one row do not say how long each of them was, so time cannot pay for them."""
    for row in journal.outcome().usage:
        if (
            row.corrects
            and row.record_count > 1
            and any(int(moved.amount) < 0 for moved in row.movements if moved.unit == "ms")
        ):
            detail = (
                f"usage_id: {row.corrects!r} holds {row.record_count} flows and not how long each was, and time pays"
            )
            return Refusal("several_flows", f"{detail} for them now; void or refund it")
    return None


def _refund(journal: Journal, command: RefundUsage) -> Refusal | None:
    line, micros = line_of(command.line, journal.account, journal.tariff), parse_micros(command.amount)
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
    granted = micros - (line.micros - sum(paid for _, paid in line.payments))
    purses = [purse for name, _ in line.payments for purse in purses_of(journal.account, name, line.flow.start_ms)]
    if granted > sum(purse.granted_micros - purse.remaining_micros for purse in purses):
        return _is_gone(command.line, line.payments[0][0])
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


def unreadable(lines: Sequence[CorrectedUsage], *, again: bool) -> Refusal | None:
    """A row that does not say what it was taken for cannot be charged again as that."""
    for line in lines:
        try:
            met = read_circumstances(line.circumstances or "||||")
        except ValueError as error:
            return Refusal("circumstances", f"usage_id: {line.usage_id!r}: {error}")
        if again and met.confidence == DOUBTED:
            detail = f"usage_id: {line.usage_id!r} was not believed, and is booked as unknown"
            return Refusal("doubted", f"{detail}; void or refund it")
    return None


def _granted(lines: Sequence[CorrectedUsage], account: AccountState) -> Refusal | None:
    """Granted money that is gone for good can neither come back nor become the subscriber's own."""
    for line in lines:
        gone = [name for name, _ in _payments(line) if not purses_of(account, name, line.start_ms)]
        if gone:
            return _is_gone(line, gone[0])
    return None


def _of_several(lines: Sequence[CorrectedUsage], account: AccountState, tariff: Tariff) -> Refusal | None:
    """A row of before 1.2 names its price only: where two that are held are called so, it is not known whose it was."""
    for line in lines:
        found = _counters(line, line_of(line, account, tariff).sold, account)
        if len(found) > 1:
            names = " and ".join(name.removeprefix("price:").rpartition("/")[0] for name in found)
            detail = (
                f"usage_id: {line.usage_id!r} was sold at price {line.price_id!r}, which {names} have, and does not"
            )
            return Refusal("several_prices", f"{detail} say whose it was; refund it")
    return None


def _is_gone(line: CorrectedUsage, bucket_id: str) -> Refusal:
    detail = f"usage_id: {line.usage_id!r} was paid by money of {bucket_id!r}, which is gone"
    return Refusal("granted_money", f"{detail}; credit the account instead")


def _payments(row: CorrectedUsage) -> tuple[tuple[str, int], ...]:
    moved = (item for item in row.movements if item.unit == "micros" and item.bucket_id != MAIN_BALANCE)
    return tuple((item.bucket_id, -int(item.amount)) for item in moved)


def _settled(account: AccountState, lines: Sequence[CorrectedUsage]) -> AccountState:
    """What is corrected by order is not corrected again by a better verdict."""

    def is_within(entry: Provisional) -> bool:
        return any(
            line.subscriber_id == entry.subscriber_id and line.start_ms <= entry.start_ms <= line.end_ms
            for line in lines
        )

    return replace(account, provisional=tuple(entry for entry in account.provisional if not is_within(entry)))


def line_of(row: CorrectedUsage, account: AccountState, tariff: Tariff) -> Line:
    """The line that a row of the ledger stands for."""
    draws = tuple(
        Drawn(item.bucket_id, item.unit, -int(item.amount)) for item in row.movements if item.unit != "micros"
    )
    flow = FlowRecord(
        version=FLOW_VERSION, record_id=row.usage_id, subscriber_id=row.subscriber_id, exporter_id="-",
        start_ms=row.start_ms, end_ms=row.end_ms, ip_protocol=0, subscriber_ip="", subscriber_port=0, remote_ip="",
        remote_port=0, octets_up=0, octets_down=0, rat_type=row.rat_type,
    )  # fmt: skip
    met = read_circumstances(row.circumstances) if row.circumstances else Circumstances()
    if row.circumstances:
        flow = flow_as_met(flow, met, tariff)
    seen = Classification(
        category=row.category, application=row.application, service=row.service, confidence=100, evidence=()
    )
    line = Line(
        row.usage_id, flow, verdict_as_met(seen, met), row.rule_id, row.treatment, row.rating_group, row.sponsor_id,
        row.catalogue_version, row.charged_octets, row.free_octets, row.sponsored_octets, draws,
        parse_micros(row.amount), any(item.bucket_id == MAIN_BALANCE for item in row.movements), None, row.price_id,
        row.record_count, row.evidence, row.sponsorships, row.timed_octets, _payments(row), row.connections,
        row.blocked_octets + row.not_charged_octets, row.circumstances,
    )  # fmt: skip
    found = _counters(row, line.sold, account)
    return line._replace(counter_id=found[0] if found else None)


def _counters(row: CorrectedUsage, sold: int, account: AccountState) -> list[str]:
    """The running totals that the row may be in; rows before 1.2 name the price, but not its offering."""
    if row.price_id is None:
        return []
    if row.price_offering_id is not None:
        mine = f"price:{row.price_offering_id}/{row.price_id}"
        return [item.counter_id for item in account.counters if item.counter_id == mine]
    totals = [item for item in account.counters if item.counter_id.startswith("price:")]
    return sorted(
        item.counter_id for item in totals if item.counter_id.rpartition("/")[2] == row.price_id and item.octets >= sold
    )


def _last(draws: Sequence[Drawn], unit: Unit, amount: int) -> Iterable[Drawn]:
    """The last `amount` of the draws in `unit`: what was taken last is given back first."""
    for draw in reversed(draws):
        part = min(draw.amount, amount) if draw.unit == unit else 0
        amount -= part
        if part:
            yield draw._replace(amount=part)
