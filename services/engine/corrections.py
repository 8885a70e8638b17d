"""Corrections: what was charged is given back, and where it is known better, charged again as what it was.

First everything is taken back, then everything is charged again in the order of event time, by the same waterfall as
any flow. A correction is a pair of rows in the ledger: a `refund`, whose octets are those taken back, and a `usage`;
both say what they correct.

What was blocked or not charged stays so, since it did not pass. What was drawn from a bucket that is gone for good
stays drawn. Money comes back as what the cycle costs less without the octets (`money_back`), so that tiers and caps
stay right.
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from schemas.classification import Classification
from schemas.decision import Sponsorship
from schemas.flow import FlowRecord
from schemas.state import AccountState, Bucket, Counter, PendingUsage, Purse
from schemas.units import Unit, format_micros
from schemas.usage import USAGE_VERSION, Movement, RatedUsage
from services.engine.case import Case
from services.engine.charge import BALANCE_MARK, Charged, charge, charge_connection
from services.engine.journal import Journal
from services.engine.late import drawn_from_lapsed, is_present, merged, renewed_since, view_of
from services.engine.purses import PAID
from services.engine.select import select
from services.engine.shares import share_id_then
from services.engine.spans import Span
from services.engine.standing import standing_for, with_standing
from services.engine.tariff import CompiledPrice, Tariff
from services.engine.timers import resume_suspended
from services.engine.usage import gather_all, gather_connection, gathered_rows, late_rows, movement, offering_of


class Drawn(NamedTuple):
    """What was taken from one bucket."""

    bucket_id: str
    unit: Unit
    amount: int


class Line(NamedTuple):
    """Charged usage that is to be taken back: all of a row of the ledger, or one flow."""

    corrects: str
    """Usage id of the row, or decision id of the flow."""
    flow: FlowRecord
    """Whose, when, and over which access; what else it holds does not matter."""
    seen: Classification
    """What it was booked as."""
    rule_id: str | None
    treatment: str | None
    rating_group: int | None
    sponsor_id: str | None
    catalogue_version: str
    charged: int
    free: int
    sponsored: int
    draws: tuple[Drawn, ...]
    micros: int
    prepaid: bool
    """Whether the money had left the main balance."""
    counter_id: str | None
    """Counter of the price."""
    price_id: str | None
    record_count: int = 1
    evidence: str | None = None
    sponsorships: tuple[Sponsorship, ...] = ()
    """Who paid for the sponsored octets; empty where that is not known."""
    timed: int = 0
    """Charged octets that buckets of time paid for."""
    payments: tuple[tuple[str, int], ...] = ()
    """Purses and the micros that they paid of the money."""
    connections: int = 0
    """Connections of a row that is about nothing else."""
    unpaid: int = 0
    """Octets that did not pass, or that nobody was charged for."""
    circumstances: str | None = None
    """How it was met, as its row says."""

    @property
    def sold(self) -> int:
        """Charged octets, or connections, that a price was paid for."""
        drawn = self.timed + sum(draw.amount for draw in self.draws if draw.unit == "octets")
        return self.connections or self.charged - drawn

    @property
    def drawn_ms(self) -> int:
        """Milliseconds drawn from buckets of time."""
        return sum(draw.amount for draw in self.draws if draw.unit == "ms")

    @property
    def span(self) -> Span:
        """All octets of the flow, and the time that they took. Means nothing for a row of several flows."""
        octets = self.charged + self.free + self.sponsored + self.unpaid
        return Span(octets, self.flow.end_ms - self.flow.start_ms)


class Again(NamedTuple):
    """Octets that were taken back, to be charged again as what they were."""

    line: Line
    octets: int
    """Octets; of a row of connections, those."""
    verdict: Classification

    @property
    def span(self) -> Span:
        """The octets, and the time until the last of them had passed: what was blocked takes none."""
        return self.line.span.first(self.octets)


def give_money(journal: Journal, line: Line, micros: int) -> None:
    """Give money back for `line`, which stays charged; the totals of the cycle stay, too."""
    movements, credit = repay(journal, line, micros)
    part = unsponsored(line)._replace(free=0, record_count=0, connections=0)
    row = replace(
        refund_row(journal, part, 0, micros), movements=tuple(movements), credit_amount=format_micros(-credit)
    )
    journal.add(row)


def unsponsored(line: Line) -> Line:
    """The line without what campaigns paid for."""
    return line._replace(sponsored=0, sponsorships=())


def take_back(journal: Journal, line: Line) -> Again:
    """Give back what `line` was charged, and write the refund; returns what can be charged again.

    No bucket rises above its grant, and no counter falls below 0. The standing is brought up to date.
    """
    lost_octets, lost_ms, movements = _put_back(journal, line)
    lost_timed = line.timed * lost_ms // line.drawn_ms if lost_ms else 0
    charged = line.charged - lost_octets - lost_timed
    before, after, micros = _unsell(journal, line)
    repaid, credit = repay(journal, line, micros)
    _uncount(journal, PAID, 0, credit)
    for campaign_id, octets in _campaigns_of(line, journal.tariff):
        _uncount(journal, f"campaign:{campaign_id}:{line.flow.subscriber_id}", octets)
    row = replace(
        refund_row(journal, line, charged, micros),
        timed_octets=line.timed - lost_timed,
        movements=(*movements, *repaid),
        credit_amount=format_micros(-credit),
    )
    journal.add(replace(row, price_octets_from=before, price_octets_to=after) if line.sold else row)
    journal.take(with_standing(journal.account, journal.tariff))
    return Again(line, line.connections or charged + line.free + line.sponsored, line.seen)


def take_all_back(journal: Journal, lines: Sequence[Line]) -> list[Again]:
    """Take several lines back, the latest first, so that each finds the tiers as it left them; in their own order."""
    taken = [take_back(journal, line) for line in sorted(lines, key=lambda line: line.flow.start_ms)[::-1]]
    return taken[::-1]


def charge_again(journal: Journal, lines: Sequence[Again]) -> None:
    """Charge what was taken back, and bring everything that follows from it in order.

    It goes by event time; what began at the same moment keeps the order in which it is given.
    """
    for again in sorted(lines, key=lambda item: item.line.flow.start_ms):
        if again.line.connections:
            _connect(journal, again)
        elif again.octets:
            _charge(journal, again)
    resume_suspended(journal)
    journal.settle("corrected")


def repay(journal: Journal, line: Line, micros: int) -> tuple[list[Movement], int]:
    """Give `micros` back to whom they came from; the movements, and how much of it was granted money.

    What was paid last goes back first: the subscriber's own money, then the purses that paid. What is more than the row
    cost, because it was at a lower tier than the cycle's last octets, is the purses' as far as they have paid anything.
    """
    own = line.micros - sum(paid for _, paid in line.payments)
    to_own = min(micros, own) if line.payments or journal.account.purses else micros
    wanted = [*reversed(line.payments), *((purse.bucket_id, micros) for purse in journal.account.purses)]
    movements, credit = [], 0
    for bucket_id, most in wanted:
        part = _refill(journal, bucket_id, min(most, micros - to_own - credit))
        credit += part
        if part:
            movements.append(movement(bucket_id, "micros", part, _held(journal.account, bucket_id)))
    to_own = micros - credit
    is_prepaid = line.prepaid or (not own and journal.account.payment == "prepaid")
    if to_own and is_prepaid:
        movements.append(journal.move_money(to_own))
        told = tuple(mark for mark in journal.account.told_blocked if mark != BALANCE_MARK)
        journal.take(replace(journal.account, told_blocked=told))
    return movements, credit


def purses_of(account: AccountState, bucket_id: str, at_ms: int) -> list[Purse]:
    """The purses that granted money paid for usage of `at_ms` can go back into; none where it is gone."""
    return [purse for purse in account.purses if purse.bucket_id == bucket_id and _may_have_paid(purse, account, at_ms)]


def money_back(counter: Counter, price: CompiledPrice | None, *, octets: int, micros: int) -> int:
    """Money that comes back when `octets` of a cycle, for which `micros` were charged, are taken out of its total.

    It is what the cycle costs less without them: price(total) − price(total − octets). Where not all of the cycle was
    priced by this price, because the catalogue has changed, it is what was charged for them.
    """
    if price is not None and counter.micros == price.amount_up_to(counter.octets):
        return counter.micros - price.amount_up_to(max(0, counter.octets - octets))
    return max(0, min(micros, counter.micros))


def _refill(journal: Journal, bucket_id: str, micros: int) -> int:
    """Put money back into a purse, never above its grant; returns what went in."""
    left, purses = micros, []
    for purse in journal.account.purses:
        part = min(left, purse.granted_micros - purse.remaining_micros) if purse.bucket_id == bucket_id else 0
        purses.append(replace(purse, remaining_micros=purse.remaining_micros + part))
        left -= part
    journal.take(replace(journal.account, purses=tuple(purses)))
    return micros - left


def _held(account: AccountState, bucket_id: str) -> int:
    return sum(purse.remaining_micros for purse in account.purses if purse.bucket_id == bucket_id)


def _put_back(journal: Journal, line: Line) -> tuple[int, int, list[Movement]]:
    """Put what was drawn back where it came from; octets and ms for which there is no place any more, and movements."""
    lost: dict[Unit, int] = {"octets": 0, "ms": 0}
    movements, renewed = [], renewed_since(journal.account, line.flow.start_ms)
    for draw in line.draws:
        account, live, rest = _filled(journal.account, draw, line.flow.start_ms)
        journal.take(account)
        lost[draw.unit] += rest
        if live:
            left = journal.left(draw.bucket_id, draw.unit)
            movements.append(movement(draw.bucket_id, draw.unit, live, left))
        share = share_id_then(
            journal.account.counters, draw.bucket_id, line.flow.subscriber_id, line.flow.start_ms, renewed
        )
        if share is not None:
            _uncount(journal, share, draw.amount - rest)
    return lost["octets"], lost["ms"], movements


def _filled(account: AccountState, draw: Drawn, at_ms: int) -> tuple[AccountState, int, int]:
    """The account with a draw put back, what of it went into buckets held now, and what found no place.

    What has ended is no longer the account's: what is put back there serves late flows only, and moves nothing.
    """

    def fill(buckets: tuple[Bucket, ...], amount: int) -> tuple[tuple[Bucket, ...], int]:
        """The one that is drawn last first: as if the last of it had not been drawn."""
        filled: list[Bucket] = []
        for bucket in reversed(buckets):
            part = 0
            if (bucket.bucket_id, bucket.unit) == (draw.bucket_id, draw.unit) and _may_have_paid(
                bucket, account, at_ms
            ):
                part = min(amount, bucket.granted - bucket.remaining)
            filled.append(replace(bucket, remaining=bucket.remaining + part) if part else bucket)
            amount -= part
        return tuple(filled[::-1]), amount

    buckets, rest = fill(account.buckets, draw.amount)
    lapsed, lost = fill(account.lapsed, rest)
    return replace(account, buckets=buckets, lapsed=lapsed), draw.amount - rest, lost


def _may_have_paid(source: Bucket | Purse, account: AccountState, at_ms: int) -> bool:
    """Whether a bucket or a purse may have paid for usage of `at_ms`.

    One that had ended has not. One that has begun since may have, unless it is of a later term of its product.
    """
    if source.valid_until_ms is not None and source.valid_until_ms <= at_ms:
        return False
    return source.valid_from_ms <= at_ms or source.product_id not in renewed_since(account, at_ms)


def _unsell(journal: Journal, line: Line) -> tuple[int, int, int]:
    """Take what was sold out of the cycle's total; the total before and after, and the money that comes back."""
    counter = next((item for item in journal.account.counters if item.counter_id == line.counter_id), None)
    sold = line.sold
    if not sold or counter is None:
        return 0, 0, 0
    price = _price_of(counter.counter_id, journal.tariff)
    if counter.unit not in ("", "connection" if line.connections else "octets"):
        # The price counts something else since, so its total does not hold these any more; the money it does.
        price, sold = None, 0
    micros = money_back(counter, price, octets=sold, micros=line.micros)
    _uncount(journal, counter.counter_id, sold, micros)
    return counter.octets, max(0, counter.octets - sold), micros


def _price_of(counter_id: str, tariff: Tariff) -> CompiledPrice | None:
    offering = tariff.offerings.get(counter_id.removeprefix("price:").partition("/")[0])
    prices = offering.prices if offering else ()
    return next((price for price in prices if price.counter_id == counter_id), None)


def _campaigns_of(line: Line, tariff: Tariff) -> list[tuple[str, int]]:
    """Who paid, and for how many octets; where a row of old does not say so, by its rule."""
    if line.sponsorships:
        return [(paid.campaign_id, paid.octets) for paid in line.sponsorships]
    rule = tariff.rules.get(line.rule_id or "")
    return [(rule.campaign.id, line.sponsored)] if line.sponsored and rule and rule.campaign else []


def _uncount(journal: Journal, counter_id: str, octets: int, micros: int = 0) -> None:
    """Take octets and money out of a total of the cycle; a total of nothing is forgotten."""
    kept = []
    for item in journal.account.counters:
        if item.counter_id == counter_id:
            item = replace(item, octets=max(0, item.octets - octets), micros=max(0, item.micros - micros))  # noqa: PLW2901
            if not item.octets and not item.micros:
                continue
        kept.append(item)
    journal.take(replace(journal.account, counters=tuple(kept)))


def refund_row(journal: Journal, line: Line, charged: int, micros: int) -> RatedUsage:
    """A row that takes back octets and money of a line."""
    account, flow = journal.account, line.flow
    return RatedUsage(
        version=USAGE_VERSION, usage_id="-", kind="refund", account_id=account.account_id,
        subscriber_id=flow.subscriber_id, source_topic="-", partition=0, first_offset=0, last_offset=0, ordinal=0,
        start_ms=flow.start_ms, end_ms=flow.end_ms, rated_at_ms=0, catalogue_version=line.catalogue_version,
        category=line.seen.category, application=line.seen.application, service=line.seen.service,
        rule_id=line.rule_id, rating_group=line.rating_group, treatment=line.treatment,  # type: ignore[arg-type]
        sponsor_id=line.sponsor_id, record_count=line.record_count, octets=charged + line.free + line.sponsored,
        charged_octets=charged, free_octets=line.free, sponsored_octets=line.sponsored,
        currency=account.currency if line.price_id or micros else None, amount=format_micros(-micros),
        price_id=line.price_id, evidence=line.evidence, corrects=line.corrects, sponsorships=line.sponsorships,
        connections=line.connections, circumstances=line.circumstances,
        price_offering_id=offering_of(line.counter_id if line.price_id else None),
    )  # fmt: skip


def _charge(journal: Journal, again: Again) -> None:
    """Charge octets as a flow of their own time would be charged."""
    account, tariff, at_ms = journal.account, journal.tariff, again.line.flow.start_ms
    view, late = _then(account, tariff, at_ms)
    case, charged = charge_to(journal, again, view)
    journal.take(account, charged.notifications)
    after = merged(account, charged.account, tariff, at_ms) if late else charged.account
    write_again(journal, again, case, after, drawn_from_lapsed(account, after))


def charge_to(journal: Journal, again: Again, view: AccountState) -> tuple[Case, Charged]:
    """Charge octets to an account as it stood at their time; what became of them, and of that account.

    Only octets are charged again: a connection is counted where its flow ends, and is a row of its own.
    """
    tariff, flow = journal.tariff, _flow_of(again)
    selection = select(standing_for(view, flow.subscriber_id), again.verdict, flow, tariff)
    leases = _may_pay(again.line)
    case = Case(
        flow, again.verdict, selection, journal.position, again.octets, flow.start_ms, journal.now_ms,
        selection.treatment, leases,
    )  # fmt: skip
    case.span = again.span
    if selection.treatment == "free":
        case.free = again.octets
        return case, Charged(view, (), None)
    return case, charge(case, view, tariff)


def _flow_of(again: Again) -> FlowRecord:
    """The flow as it is charged again; a row of several ends where they ended."""
    flow = again.line.flow
    end_ms = flow.start_ms + again.span.ms if again.line.record_count <= 1 else flow.end_ms
    return replace(flow, end_reason="active", end_ms=end_ms)


def write_again(
    journal: Journal, again: Again, case: Case, after: AccountState, drawn: list[tuple[Bucket, int]]
) -> None:
    """Write the rows of octets that were charged again, with what is taken back of expiries, and take the state."""
    now_ms = journal.now_ms
    alone = replace(after, pending=gather_all((), case))
    for row in late_rows(alone, drawn, at=case.at, at_ms=case.at_ms, now_ms=now_ms):
        journal.add(row)
    for row in gathered_rows(alone, partition=case.at.partition, now_ms=now_ms):
        evidence = row.evidence or again.line.evidence
        count = again.line.record_count
        corrected = replace(row, corrects=again.line.corrects, record_count=count, evidence=evidence)
        paid = _counted_again(_from_budget(row.sponsorships, again.line), again.line)
        journal.add(replace(corrected, sponsorships=paid))
    journal.take(after)


def _may_pay(line: Line) -> dict[str, int] | None:
    """What campaigns with a budget may pay for of a line that is charged again: no more than they had paid for in it.

    What they had not paid for is no reason to draw on a budget afterwards. None, no bound, for a row of old that does
    not name its campaigns.
    """
    if line.sponsored and not line.sponsorships:
        return None
    paid: dict[str, int] = {}
    for item in line.sponsorships:
        paid[item.campaign_id] = paid.get(item.campaign_id, 0) + item.octets
    return paid


def _from_budget(paid: tuple[Sponsorship, ...], line: Line) -> tuple[Sponsorship, ...]:
    """`paid` as the ledger keeps it: a budget gives no more than it has just got back."""
    back: dict[str, int] = {}
    for item in line.sponsorships:
        back[item.campaign_id] = back.get(item.campaign_id, 0) + item.budget_octets
    kept = []
    for item in paid:
        part = min(item.budget_octets, back.get(item.campaign_id, 0))
        back[item.campaign_id] = back.get(item.campaign_id, 0) - part
        kept.append(replace(item, budget_octets=part))
    return tuple(kept)


def _counted_again(paid: tuple[Sponsorship, ...], line: Line) -> tuple[Sponsorship, ...]:
    """`paid` with the connections that were taken back: who pays again has those that it had.

    Who pays in the stead of others has as many as one of them had, the first one that does. Where nobody had paid, none
    are counted: a row does not say how many of its flows have ended.
    """
    had: dict[str, int] = {}
    for item in line.sponsorships:
        had[item.campaign_id] = had.get(item.campaign_id, 0) + item.connections
    payers = {item.campaign_id for item in paid}
    left = max((number for name, number in had.items() if name not in payers), default=0)
    kept = []
    for item in paid:
        number = had.get(item.campaign_id)
        if number is None:
            number, left = left, 0
        kept.append(replace(item, connections=number))
    return tuple(kept)


def _connect(journal: Journal, again: Again) -> None:
    """Charge connections as those of their own time would be charged; what is free now is booked as free."""
    account, tariff, flow = journal.account, journal.tariff, replace(again.line.flow, end_reason=None)
    at, now_ms, at_ms = journal.position, journal.now_ms, again.line.flow.start_ms
    view, late = _then(account, tariff, at_ms)
    pending: tuple[PendingUsage, ...] = ()
    for _ in range(again.octets):
        selection = select(standing_for(view, flow.subscriber_id), again.verdict, flow, tariff)
        case = Case(flow, again.verdict, selection, at, 0, at_ms, now_ms, selection.treatment)
        charged = charge_connection(case, view, tariff)
        view = charged.account
        pending = gather_connection(pending, case)
        journal.take(account, () if late else charged.notifications)
    after = merged(account, view, tariff, at_ms) if late else view
    free = again.octets - sum(entry.connections for entry in pending)
    for row in gathered_rows(replace(after, pending=pending), partition=at.partition, now_ms=now_ms):
        journal.add(replace(row, corrects=again.line.corrects, evidence=row.evidence or again.line.evidence))
    if free:
        line = again.line._replace(circumstances=selection.circumstances or None)
        journal.add(_free_connections(journal, line, free))
    journal.take(after)


def _free_connections(journal: Journal, line: Line, number: int) -> RatedUsage:
    row = refund_row(journal, line._replace(price_id=None, record_count=0, connections=number), 0, 0)
    return replace(row, kind="usage", treatment="free", catalogue_version=journal.tariff.version, sponsor_id=None)


def _then(account: AccountState, tariff: Tariff, at_ms: int) -> tuple[AccountState, bool]:
    """The account as usage of `at_ms` meets it, and whether that is another one than now."""
    late = at_ms < account.settled_ms and not is_present(account, at_ms)
    return (view_of(account, tariff, at_ms) if late else account), late
