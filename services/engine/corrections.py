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
from schemas.state import AccountState, Bucket, Counter
from schemas.units import Unit, format_micros
from schemas.usage import USAGE_VERSION, Movement, RatedUsage
from services.engine.case import Case
from services.engine.charge import BALANCE_MARK, charge
from services.engine.journal import Journal
from services.engine.late import drawn_from_lapsed, is_present, merged, view_of
from services.engine.select import select
from services.engine.spans import Span
from services.engine.standing import share_id, standing_for, with_standing
from services.engine.tariff import CompiledPrice, Tariff
from services.engine.timers import resume_suspended
from services.engine.usage import gather, gathered_rows, late_rows, movement


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

    @property
    def sold(self) -> int:
        """Charged octets that a price was paid for."""
        return self.charged - self.timed - sum(draw.amount for draw in self.draws if draw.unit == "octets")

    @property
    def drawn_ms(self) -> int:
        """Milliseconds drawn from buckets of time."""
        return sum(draw.amount for draw in self.draws if draw.unit == "ms")


class Again(NamedTuple):
    """Octets that were taken back, to be charged again as what they were."""

    line: Line
    octets: int
    verdict: Classification
    timed: int = 0
    """Those of them that buckets of time had paid for."""
    ms: int = 0
    """What these had drawn for them."""

    def span(self) -> Span:
        """Octets and time: what was paid for by time takes what it took, the rest what is left of the line's interval.

        A row of the ledger does not say how long each of its flows was: where flows at the same time leave nothing of
        the interval, the rest has the pace of what was paid for by time.
        """
        flow, rest = self.line.flow, self.octets - self.timed
        rest_ms = flow.end_ms - flow.start_ms - self.line.drawn_ms
        if rest_ms <= 0 and self.timed:
            rest_ms = max(1, rest * self.ms // self.timed)
        return Span(self.octets, self.ms + max(0, rest_ms if rest else 0), self.timed, self.ms)


def give_money(journal: Journal, line: Line, micros: int) -> None:
    """Give money back for `line`, which stays charged; the totals of the cycle stay, too."""
    moved = (journal.move_money(micros),) if line.prepaid else ()
    journal.add(
        replace(_refund(journal, unsponsored(line)._replace(free=0, record_count=0), 0, micros), movements=moved)
    )


def unsponsored(line: Line) -> Line:
    """The line without what campaigns paid for."""
    return line._replace(sponsored=0, sponsorships=())


def take_back(journal: Journal, line: Line, verdict: Classification | None = None) -> Again:
    """Give back what `line` was charged, and write the refund; returns what can be charged again, as `verdict`.

    No bucket rises above its grant, and no counter falls below 0. The standing is brought up to date.
    """
    lost_octets, lost_ms, movements = _put_back(journal, line)
    lost_timed = line.timed * lost_ms // line.drawn_ms if lost_ms else 0
    charged = line.charged - lost_octets - lost_timed
    before, after, micros = _unsell(journal, line, line.sold)
    if line.prepaid and micros:
        movements.append(journal.move_money(micros))
        told = tuple(mark for mark in journal.account.told_blocked if mark != BALANCE_MARK)
        journal.take(replace(journal.account, told_blocked=told))
    if line.sponsored:
        _uncount(journal, _campaign_counter(line, journal.tariff), line.sponsored)
    row = replace(_refund(journal, line, charged, micros), movements=tuple(movements))
    row = replace(row, timed_octets=line.timed - lost_timed)
    journal.add(replace(row, price_octets_from=before, price_octets_to=after) if line.sold else row)
    journal.take(with_standing(journal.account, journal.tariff))
    octets = charged + line.free + line.sponsored
    return Again(line, octets, verdict or line.seen, line.timed - lost_timed, line.drawn_ms - lost_ms)


def charge_again(journal: Journal, lines: Sequence[Again]) -> None:
    """Charge what was taken back, in event order, and bring everything that follows from it in order."""
    for again in sorted(lines, key=lambda item: (item.line.flow.start_ms, item.line.corrects)):
        if again.octets:
            _charge(journal, again)
    resume_suspended(journal)
    journal.settle("corrected")


def money_back(counter: Counter, price: CompiledPrice | None, *, octets: int, micros: int) -> int:
    """Money that comes back when `octets` of a cycle, for which `micros` were charged, are taken out of its total.

    It is what the cycle costs less without them: price(total) − price(total − octets). Where not all of the cycle was
    priced by this price, because the catalogue has changed, it is what was charged for them.
    """
    if price is not None and counter.micros == price.amount_up_to(counter.octets):
        return counter.micros - price.amount_up_to(max(0, counter.octets - octets))
    return max(0, min(micros, counter.micros))


def _put_back(journal: Journal, line: Line) -> tuple[int, int, list[Movement]]:
    """Put what was drawn back where it came from; octets and ms for which there is no place any more, and movements."""
    lost: dict[Unit, int] = {"octets": 0, "ms": 0}
    movements = []
    for draw in line.draws:
        account, live, rest = _filled(journal.account, draw, line.flow.start_ms)
        journal.take(account)
        lost[draw.unit] += rest
        if live:
            left = journal.left(draw.bucket_id, draw.unit)
            movements.append(movement(draw.bucket_id, draw.unit, live, left))
        _uncount(journal, share_id(draw.bucket_id, line.flow.subscriber_id), draw.amount - rest)
    return lost["octets"], lost["ms"], movements


def _filled(account: AccountState, draw: Drawn, at_ms: int) -> tuple[AccountState, int, int]:
    """The account with a draw put back, what of it went into buckets held now, and what found no place.

    What has ended is no longer the account's: what is put back there serves late flows only, and moves nothing.
    """
    buckets, rest = _fill(account.buckets, draw, draw.amount, at_ms)
    live = draw.amount - rest
    lapsed, rest = _fill(account.lapsed, draw, rest, at_ms)
    return replace(account, buckets=buckets, lapsed=lapsed), live, rest


def _fill(buckets: tuple[Bucket, ...], draw: Drawn, amount: int, at_ms: int) -> tuple[tuple[Bucket, ...], int]:
    filled = []
    for bucket in buckets:
        part = 0
        if (bucket.bucket_id, bucket.unit) == (draw.bucket_id, draw.unit) and _was_valid(bucket, at_ms):
            part = min(amount, bucket.granted - bucket.remaining)
        filled.append(replace(bucket, remaining=bucket.remaining + part) if part else bucket)
        amount -= part
    return tuple(filled), amount


def _was_valid(bucket: Bucket, at_ms: int) -> bool:
    # A bucket that began after the flow may have served it all the same; one that had ended may not.
    return bucket.valid_until_ms is None or at_ms < bucket.valid_until_ms


def _unsell(journal: Journal, line: Line, sold: int) -> tuple[int, int, int]:
    """Take sold octets out of the cycle's total; the total before and after, and the money that comes back."""
    counter = next((item for item in journal.account.counters if item.counter_id == line.counter_id), None)
    if not sold or counter is None:
        return 0, 0, 0
    price = _price_of(counter.counter_id, journal.tariff)
    micros = money_back(counter, price, octets=sold, micros=line.micros)
    _uncount(journal, counter.counter_id, sold, micros)
    return counter.octets, max(0, counter.octets - sold), micros


def _price_of(counter_id: str, tariff: Tariff) -> CompiledPrice | None:
    offering = tariff.offerings.get(counter_id.removeprefix("price:").partition("/")[0])
    prices = offering.prices if offering else ()
    return next((price for price in prices if price.counter_id == counter_id), None)


def _campaign_counter(line: Line, tariff: Tariff) -> str:
    rule = tariff.rules.get(line.rule_id or "")
    campaign = rule.campaign.id if rule and rule.campaign else ""
    return f"campaign:{campaign}:{line.flow.subscriber_id}"


def _uncount(journal: Journal, counter_id: str, octets: int, micros: int = 0) -> None:
    """Take octets and money out of a total of the cycle; a total of nothing is forgotten."""
    kept = []
    for item in journal.account.counters:
        if item.counter_id == counter_id:
            item = Counter(counter_id, max(0, item.octets - octets), max(0, item.micros - micros))  # noqa: PLW2901
            if not item.octets and not item.micros:
                continue
        kept.append(item)
    journal.take(replace(journal.account, counters=tuple(kept)))


def _refund(journal: Journal, line: Line, charged: int, micros: int) -> RatedUsage:
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
    )  # fmt: skip


def _charge(journal: Journal, again: Again) -> None:
    """Charge octets as a flow of their own time would be charged."""
    # Only octets are charged again: a connection is counted where its flow ends, and stays as it was counted there.
    account, tariff, flow = journal.account, journal.tariff, replace(again.line.flow, end_reason="active")
    at, now_ms = journal.position, journal.now_ms
    at_ms = flow.start_ms
    late = at_ms < account.settled_ms and not is_present(account, at_ms)
    view = view_of(account, tariff, at_ms) if late else account
    selection = select(standing_for(view, flow.subscriber_id), again.verdict, flow, tariff)
    leases = _may_pay(again.line)
    case = Case(flow, again.verdict, selection, at, again.octets, at_ms, now_ms, selection.treatment, leases)
    case.span = again.span()
    if selection.treatment == "free":
        case.free, after = again.octets, account
    else:
        charged = charge(case, view, tariff)
        after = merged(account, charged.account, tariff, at_ms) if late else charged.account
        journal.take(account, charged.notifications)
    alone = replace(after, pending=gather((), case))
    for row in late_rows(alone, drawn_from_lapsed(account, after), at=at, at_ms=at_ms, now_ms=now_ms):
        journal.add(row)
    for row in gathered_rows(alone, partition=at.partition, now_ms=now_ms):
        evidence = row.evidence or again.line.evidence
        count = again.line.record_count
        corrected = replace(row, corrects=again.line.corrects, record_count=count, evidence=evidence)
        journal.add(replace(corrected, sponsorships=_from_budget(row.sponsorships, again.line)))
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
