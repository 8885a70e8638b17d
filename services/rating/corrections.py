"""Corrections: the ledger says what was charged, and orders the lane to give it back, or to charge it again.

An order is checked against the ledger and sent through the outbox in one transaction. No row is corrected twice,
however many order it at once: each order is noted under the row and its number, which is unique.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from schemas.command import (
    COMMAND_VERSION,
    MAX_LINES,
    CorrectedUsage,
    PastPeriod,
    RefundUsage,
    ReleaseLate,
    RerateUsage,
    VoidUsage,
)
from schemas.decision import Sponsorship
from schemas.topics import COMMANDS
from schemas.units import Unit, format_micros, format_seconds, parse_micros
from schemas.usage import Movement
from services.engine.periods import cycle_at
from services.rating.clock import Clock, wall_clock_ms
from services.rating.database import Connection, Engine, again_after_collision, reading, writing
from services.rating.explain_corrections import is_corrected_by
from services.rating.past import UnclearTotals, past_period
from services.rating.repositories import accounts as files
from services.rating.repositories import corrections as orders
from services.rating.repositories import ledger as books
from services.rating.repositories import outbox, readings
from services.rating.repositories.corrections import Row, Stretch
from services.rating.repositories.ledger import SponsorRefund
from services.rating.repositories.outbox import OutboxRecord
from services.rating.rerating import Rerating

Kind = Literal["refund", "void", "rerate", "release"]

Period = Literal["past", "present", "none"]

_encode = msgspec.json.Encoder(order="deterministic").encode


class CorrectionRefused(Exception):  # noqa: N818 - a state of affairs
    """A correction breaks a rule; nothing was ordered. The message names field, value, rule and next step."""


@dataclasses.dataclass(frozen=True)
class Order:
    """What to correct, and how. `command_id` is the caller's: the same one again orders nothing more."""

    kind: Kind
    command_id: str
    usage_id: str | None = None
    """The row of a refund or a void."""
    stretch: Stretch | None = None
    """The rows of a rerate."""
    amount: str | None = None
    """Money of a refund; None with `octets` and `ms` None is all that is left of them."""
    octets: int | None = None
    """Drawn octets of a refund."""
    ms: int | None = None
    """Time of a refund, drawn from buckets of seconds."""
    reason: str | None = None
    period: Period | None = None
    """Where late usage that is released is charged: when it happened, now, or nowhere."""


@dataclasses.dataclass(frozen=True)
class Correction:
    """What was ordered, or would be."""

    command_id: str
    kind: Kind
    account_id: str
    lines: tuple[CorrectedUsage, ...]
    currency: str
    amount: str
    """Money that goes back before anything is charged again; where tiers have moved, the lane has the last word."""
    octets: int
    ms: int = 0
    """Time that goes back into buckets of seconds by a refund."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Rows of the stretch that stay as they are, each with the reason."""
    repeated: bool = False
    """The command id was used before, so nothing was ordered anew."""
    sponsored: bool = True
    """Whether campaigns get back what they paid for; a part of a refund goes to the subscriber alone."""
    refused: str | None = None
    """Why the lane refused it, when it was ordered before and the lane has answered so."""


def order(engine: Engine, wanted: Order, *, dry_run: bool = False, clock: Clock = wall_clock_ms) -> Correction:
    """Order a correction, or with `dry_run` only say what it would be.

    Raises CorrectionRefused, DatabaseDown.
    """
    if dry_run:
        with reading(engine) as connection:
            return _Desk(connection, wanted, clock()).prepare()
    made = again_after_collision(lambda: _order(engine, wanted, clock()))
    if not made.repeated:
        outbox.ring(engine)
    return made


def sponsor_refunds(engine: Engine, account_id: str) -> list[SponsorRefund]:
    """What campaigns got back for an account, oldest first, each with the row that was wrong and the cause."""
    with reading(engine) as connection:
        return books.sponsor_refunds(connection, account_id)


def late_usage(engine: Engine, account_id: str | None = None) -> list[Row]:
    """Rows of flows that came after their period's grace and were not charged: the list for corrections."""
    with reading(engine) as connection:
        return orders.late(connection, account_id)


def ordered(engine: Engine, account_id: str) -> list[Row]:
    """Corrections ordered for an account, oldest first; `state` says what the lane has made of each."""
    with reading(engine) as connection:
        return orders.ordered(connection, account_id)


def _order(engine: Engine, wanted: Order, at_ms: int) -> Correction:
    with writing(engine) as connection:
        desk = _Desk(connection, wanted, at_ms)
        files.lock(connection, [desk.account_id], at_ms=at_ms)
        made = desk.prepare()
        if not made.repeated:
            desk.save(made)
    return made


class _Desk:
    """One order, held against the ledger."""

    def __init__(self, connection: Connection, wanted: Order, at_ms: int) -> None:
        self._connection = connection
        self._wanted = wanted
        self._at_ms = at_ms
        if wanted.stretch is not None:
            self.account_id = wanted.stretch.account_id
        else:
            self.account_id = str(self._row()["account_id"])
        profile = files.find(connection, self.account_id)
        if profile is None:
            raise CorrectionRefused(f"account: {self.account_id!r} does not exist; mend the id")
        self._profile = profile
        self._rerating = Rerating(connection, self.account_id, at_ms=at_ms)

    def prepare(self) -> Correction:
        """The correction, checked. Raises CorrectionRefused."""
        wanted, connection = self._wanted, self._connection
        self._orders = orders.ordered(connection, self.account_id)
        self._corrections = readings.corrections(connection, self.account_id)
        if files.command(connection, wanted.command_id) is not None:
            return self._repeated()
        if wanted.kind == "rerate":
            return self._rerate()
        row = self._row()
        if wanted.kind == "release":
            return self._release(row)
        if (problem := self._problem(row)) is not None:
            raise CorrectionRefused(f"usage_id: {row['usage_id']!r} {problem}")
        return self._refund(row) if wanted.kind == "refund" else self._made([row], row["amount_micros"], row["octets"])

    def save(self, made: Correction) -> None:
        """Note the order, store the command, and put it into the outbox."""
        command = self._command(made)
        body = {"body": _encode(command).decode(), "issued_at_ms": self._at_ms}
        known = {"command_id": made.command_id, "account_id": self.account_id, "type": _tag(command)}
        files.save(self._connection, profiles=[], member_lists={}, product_rows=[], command_rows=[known | body])
        numbers = [sum(item["usage_id"] == line.usage_id for item in self._orders) for line in made.lines]
        sums = {"amount_micros": parse_micros(made.amount), "octets": made.octets}
        of_many = {"amount_micros": 0, "octets": 0}
        noted = [
            {
                "usage_id": line.usage_id, "number": number, "command_id": made.command_id, "kind": made.kind,
                "account_id": self.account_id, "ordered_at_ms": self._at_ms,
                **(sums if len(made.lines) == 1 else of_many),
            }
            for line, number in zip(made.lines, numbers, strict=True)
        ]  # fmt: skip
        orders.add(self._connection, noted)
        record = OutboxRecord(COMMANDS, self.account_id.encode(), _encode(command))
        outbox.put(self._connection, [record], at_ms=self._at_ms)

    def _row(self) -> Row:
        usage_id = self._wanted.usage_id or ""
        row = orders.row(self._connection, usage_id)
        if row is None:
            step = "mend the id; usage that is still gathered is booked within seconds"
            raise CorrectionRefused(f"usage_id: {usage_id!r} is not in the ledger; {step}")
        return row

    def _release(self, row: Row) -> Correction:
        """A late row off the list. One that is charged in the past needs all that was ordered before it booked."""
        name = f"usage_id: {row['usage_id']!r}"
        if row["cause"] != "late" or row["treatment"] != "not_charged":
            raise CorrectionRefused(f"{name} did not come too late; `smartpipe correct list` shows what did")
        pending = [item for item in self._orders if item["state"] == "pending"]
        waiting = [item for item in pending if item["usage_id"] == row["usage_id"]]
        if self._wanted.period == "past":
            waiting = waiting or pending
        if waiting:
            raise CorrectionRefused(
                f"{name} has to wait for the correction {waiting[0]['command_id']!r}; try again when it is booked"
            )
        settled = [item["usage_id"] for item in self._corrections if item["corrects"] == row["usage_id"]]
        if settled:
            raise CorrectionRefused(f"{name} is settled already, see {', '.join(settled)}; nothing is to be done")
        return self._made([row], 0, row["not_charged_octets"])

    def _past(self, line: CorrectedUsage) -> PastPeriod:
        row = self._row()
        zone, day = self._profile["time_zone"] or "UTC", self._profile["cycle_day"] or 1
        try:
            return past_period(self._connection, row, span=cycle_at(row["start_ms"], time_zone=zone, cycle_day=day))
        except orders.TooManyRows as error:
            rule = f"{error}, too many to sum up its period"
            raise CorrectionRefused(f"usage_id: {line.usage_id!r}: {rule}; charge it in the present one") from None
        except UnclearTotals as error:
            raise CorrectionRefused(f"usage_id: {line.usage_id!r}: {error}; charge it in the present one") from None

    def _problem(self, row: Row) -> str | None:
        """Why a row cannot be corrected so: the rule and the next step; None when it can."""
        start_ms = self._period_start_ms()
        if row["kind"] != "usage":
            return f"is a row of kind {row['kind']}; only usage is corrected, so credit or debit the account"
        if row["start_ms"] < start_ms:
            return f"is of a closed period, which ended at {start_ms}; credit the account instead"
        if not _charged(row):
            return "charged nothing, so there is nothing to give back"
        return self._done_before(row)

    def _done_before(self, row: Row) -> str | None:
        mine = [item for item in self._orders if item["usage_id"] == row["usage_id"] and item["state"] != "refused"]
        waiting = [item["command_id"] for item in mine if item["state"] == "pending"]
        if waiting:
            return f"has a correction pending, command {waiting[0]!r}; wait until it is booked"
        if any(item["kind"] == "void" for item in mine):
            return "was voided already; there is nothing left to give back"
        done = [item for item in self._corrections if is_corrected_by(row, item)]
        again = [item["usage_id"] for item in done if item["kind"] == "usage"]
        if again:
            return f"was rated again already; correct {', '.join(again)} instead"
        if done and self._wanted.kind != "refund":
            return f"has been corrected already, see {done[0]['usage_id']}; refund what is left of it"
        return None

    def _period_start_ms(self) -> int:
        zone, day = self._profile["time_zone"] or "UTC", self._profile["cycle_day"] or 1
        return cycle_at(self._at_ms, time_zone=zone, cycle_day=day)[0]

    def _refund(self, row: Row) -> Correction:
        """All or a part of what was paid and is not yet refunded."""
        wanted = self._wanted
        refunds = [item for item in self._corrections if item["kind"] == "refund" and is_corrected_by(row, item)]
        money = row["amount_micros"] + sum(item["amount_micros"] for item in refunds)
        drawn, drawn_ms = (self._drawn(row, refunds, unit) for unit in ("octets", "ms"))
        micros, octets, ms = _micros(wanted.amount), wanted.octets, wanted.ms
        sponsored = False
        if micros is None and octets is None and ms is None:
            micros, octets, ms = money, drawn, drawn_ms
            sponsored = bool(self._sponsorships(row)) and not any(item["sponsored_octets"] for item in refunds)
        self._check("amount", micros or 0, money, format_micros)
        self._check("octets", octets or 0, drawn, str)
        self._check("seconds", ms or 0, drawn_ms, format_seconds)
        if not micros and not octets and not ms and not sponsored:
            raise CorrectionRefused(f"usage_id: {row['usage_id']!r} has nothing left to refund; nothing is to be done")
        made = self._made([row], micros or 0, octets or 0)
        lines = (self._left_of(made.lines[0], money, refunds),)
        return dataclasses.replace(made, lines=lines, ms=ms or 0, sponsored=sponsored)

    def _drawn(self, row: Row, refunds: Sequence[Row], unit: Unit) -> int:
        """What the row drew from buckets of one unit, and refunds have not put back."""
        drawn = -sum(moved["amount"] for moved in self._movements(row) if moved["unit"] == unit)
        back = sum(moved["amount"] for item in refunds for moved in self._movements(item) if moved["unit"] == unit)
        return int(drawn - back)

    def _left_of(self, line: CorrectedUsage, micros: int, refunds: Sequence[Row]) -> CorrectedUsage:
        """The row with what is left of it after earlier refunds, so that nothing goes back to somebody twice."""
        back: dict[tuple[str, str], int] = {}
        for moved in (moved for item in refunds for moved in self._movements(item)):
            key = moved["bucket_id"], moved["unit"]
            back[key] = back.get(key, 0) + moved["amount"]
        left = [
            replace(moved, amount=str(int(moved.amount) + back.pop((moved.bucket_id, moved.unit), 0)))
            for moved in line.movements
        ]
        charged, timed = (sum(item[name] for item in refunds) for name in ("charged_octets", "timed_octets"))
        return replace(
            line,
            amount=format_micros(micros),
            movements=tuple(left),
            charged_octets=line.charged_octets - charged,
            timed_octets=line.timed_octets - timed,
        )

    def _check(self, name: str, given: int, left: int, shown: Callable[[int], str]) -> None:
        if given < 0:
            raise CorrectionRefused(f"{name}: {shown(given)} is negative; give what goes back to the account")
        if given > max(0, left):
            what = "was paid for the row and not refunded before" if name == "amount" else "was drawn and not put back"
            raise CorrectionRefused(f"{name}: {shown(given)} is more than {shown(max(0, left))}, all that {what}")

    def _rerate(self) -> Correction:
        stretch = self._wanted.stretch
        if stretch is None or stretch.from_ms >= stretch.until_ms:
            raise CorrectionRefused("from: a rerate needs an account and a stretch of time; give --from before --until")
        rows = orders.rows(self._connection, stretch)
        problems = [(row, self._problem(row) or self._rerating.obstacle(row, self._movements(row))) for row in rows]
        chosen = [row for row, problem in problems if problem is None]
        left_out = tuple((str(row["usage_id"]), problem) for row, problem in problems if problem is not None)
        if not chosen:
            reason = f"; the first of {len(left_out)}, {left_out[0][0]}, {left_out[0][1]}" if left_out else ""
            raise CorrectionRefused(f"account: {self.account_id!r} has no usage in this stretch to rate again{reason}")
        if len(chosen) > MAX_LINES:
            rule = f"{len(chosen)} rows are more than {MAX_LINES}, the most of one command"
            raise CorrectionRefused(f"from: {rule}; narrow the stretch")
        money = sum(row["amount_micros"] for row in chosen)
        made = self._made(chosen, money, sum(row["octets"] for row in chosen))
        return dataclasses.replace(made, left_out=left_out)

    def _made(self, rows: Sequence[Row], micros: int, octets: int) -> Correction:
        lines = tuple(self._line(row) for row in rows)
        currency = next((row["currency"] for row in rows if row["currency"]), self._profile["currency"] or "")
        kind, name = self._wanted.kind, self._wanted.command_id
        return Correction(name, kind, self.account_id, lines, currency, format_micros(micros), octets)

    def _line(self, row: Row) -> CorrectedUsage:
        same = {name: row[name] for name in CorrectedUsage.__struct_fields__ if name in row}
        found = self._movements(row)
        moved = tuple(
            Movement(bucket_id=item["bucket_id"], unit=item["unit"], amount=str(item["amount"]),
                     remaining=str(item["remaining"]))
            for item in found
        )  # fmt: skip
        amount = format_micros(row["amount_micros"])
        rat_type, paid = self._rerating.rat_type(row, found), self._sponsorships(row)
        return CorrectedUsage(**same, amount=amount, movements=moved, rat_type=rat_type, sponsorships=paid)

    def _movements(self, row: Row) -> list[Row]:
        return readings.movements_of(self._connection, [row["usage_id"]]).get(row["usage_id"], [])

    def _sponsorships(self, row: Row) -> tuple[Sponsorship, ...]:
        found = readings.sponsorships_of(self._connection, [row["usage_id"]]).get(row["usage_id"], [])
        return tuple(
            Sponsorship(
                campaign_id=item["campaign_id"], octets=item["octets"], budget_octets=item["budget_octets"],
                connections=item["connections"],
            )
            for item in found
            if item["octets"] or item["connections"]
        )  # fmt: skip

    def _command(self, made: Correction) -> RefundUsage | VoidUsage | RerateUsage | ReleaseLate:
        common: dict[str, Any] = {
            "version": COMMAND_VERSION, "command_id": made.command_id, "account_id": self.account_id,
            "issued_at_ms": self._at_ms, "reason": self._wanted.reason,
        }  # fmt: skip
        if made.kind == "release":
            line, period = made.lines[0], self._wanted.period or "none"
            past = self._past(line) if period == "past" else None
            return ReleaseLate(**common, line=line, period=period, past=past)
        if made.kind == "refund":
            common |= {"amount": made.amount, "octets": made.octets, "ms": made.ms, "sponsored": made.sponsored}
            return RefundUsage(**common, line=made.lines[0])
        known = orders.reclassified(self._connection, self.account_id)
        if made.kind == "void":
            return VoidUsage(**common, line=made.lines[0], reclassified=known)
        return RerateUsage(**common, lines=made.lines, reclassified=known)

    def _repeated(self) -> Correction:
        mine = [item for item in self._orders if item["command_id"] == self._wanted.command_id]
        if not mine or any(item["kind"] != self._wanted.kind for item in mine):
            raise CorrectionRefused(
                f"command_id: {self._wanted.command_id!r} was used for another command; take another"
            )
        found = [orders.row(self._connection, item["usage_id"]) for item in mine]
        made = self._made([row for row in found if row is not None], 0, 0)
        amount = format_micros(sum(item["amount_micros"] for item in mine))
        refused = mine[0]["detail"] if mine[0]["state"] == "refused" else None
        return dataclasses.replace(made, repeated=True, amount=amount, refused=refused)


def _charged(row: Row) -> int:
    """Octets, or connections of a row that is about nothing else."""
    return int(row["charged_octets"] + row["free_octets"] + row["sponsored_octets"] + row["connections"])


def _micros(amount: str | None) -> int | None:
    if amount is None:
        return None
    try:
        return parse_micros(amount)
    except ValueError as error:
        raise CorrectionRefused(f"amount: {error}") from None


def _tag(command: RefundUsage | VoidUsage | RerateUsage | ReleaseLate) -> str:
    return str(command.__struct_config__.tag)
