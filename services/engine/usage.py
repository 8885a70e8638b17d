"""Step 5 of 5: tell the ledger. Rated usage gathers in the account, one entry per rating key, and leaves as rows.

Each change of a bucket or of the main balance reaches the ledger exactly once, as a Movement. At any moment the
movements told, plus the draws still gathered, add up to what the state holds.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import TypeVar

from msgspec.structs import replace

from schemas.classification import Classification
from schemas.decision import Draw, Sponsorship
from schemas.state import AccountState, Bucket, PendingDraw, PendingPayment, PendingSponsorship, PendingUsage
from schemas.topics import FLOWS
from schemas.units import format_micros
from schemas.usage import USAGE_VERSION, Movement, RatedUsage
from services.engine.case import Case, Connection
from services.engine.outcome import Outcome, Position
from services.engine.purses import Paid

MAIN_BALANCE = "main"
MONEY = (MAIN_BALANCE, "micros")
"""The main balance, by bucket id and unit."""

MAX_PENDING = 16
"""Most rating keys that an account gathers; when one more would be needed, all are emitted."""

CONNECTIONS_ORDINAL = 1_000_000
"""Of rows of connections: beyond all that corrections and late flows can add at one offset."""

MAX_GATHERED_OCTETS = 2**40
"""A flow of more than a tebioctet is told at once, so that no gathered total outgrows 64 bits."""


def emit_usage(account: AccountState, *, partition: int, now_ms: int) -> Outcome:
    """Turn what the account has gathered into rows; an Outcome without rows when there is nothing."""
    rows = gathered_rows(account, partition=partition, now_ms=now_ms)
    return Outcome(without_gathered(account), usage=rows) if rows else Outcome(account)


def without_gathered(account: AccountState) -> AccountState:
    """The account after its rows are told."""
    return replace(account, pending=(), pending_since_ms=0)


def gathered_rows(account: AccountState, *, partition: int, now_ms: int) -> tuple[RatedUsage, ...]:
    """The rows of what is gathered, in the order in which its keys were first used.

    `usage_id` is `f-<partition>-<first offset>-<last offset>-0`: a flow contributes to one key only, so no two rows
    begin at the same offset. A row of connections has an ordinal of its own.
    """
    if not account.pending:
        return ()
    remaining = before_gathered(account)
    rows = [_row(account, pending, remaining, partition, now_ms) for pending in account.pending]
    return tuple([_of_connections(row) if row.connections else row for row in rows])


def _of_connections(row: RatedUsage) -> RatedUsage:
    name, _, _ = row.usage_id.rpartition("-")
    return replace(row, usage_id=f"{name}-{CONNECTIONS_ORDINAL}", ordinal=CONNECTIONS_ORDINAL)


_Entry = TypeVar("_Entry", PendingDraw, PendingPayment, PendingSponsorship)

AddDraws = Callable[[tuple[PendingDraw, ...], tuple[Draw, ...]], tuple[PendingDraw, ...]]


def gather(
    pending: tuple[PendingUsage, ...], case: Case, add_draws: AddDraws | None = None
) -> tuple[PendingUsage, ...]:
    """`pending` with one decided flow added to the entry of its rating key.

    `add_draws` is for flows that may have drawn from more than one bucket of volume.
    """
    selection, seen, treatment, counter_id = case.selection, case.classification, case.treatment, case.counter_id
    rule_id, application, service = selection.template.rule_id, seen.application, seen.service
    for index, entry in enumerate(pending):
        if (
            entry.application == application
            and entry.rule_id == rule_id
            and entry.service == service
            and entry.treatment == treatment
            and entry.counter_id == counter_id
            and entry.subscriber_id == case.flow.subscriber_id
            and entry.category == seen.category
            and entry.circumstances == selection.circumstances
        ):
            entries = list(pending)
            entries[index] = _added(entry, case, add_draws or _added_draw)
            return tuple(entries)
    return (*pending, _fresh(case))


def gather_all(pending: tuple[PendingUsage, ...], case: Case) -> tuple[PendingUsage, ...]:
    """`pending` with one decided flow added, and, in an entry of its own, the connection that ended with it.

    Flows that time could pay for are told one by one: a row of several would not say how long each of them was.
    """
    pending = (*pending, _fresh(case)) if case.selection.by_time else gather(pending, case, _added_draws)
    if case.payments:
        pending = _with_payments(pending, case)
    if case.sponsorships and not case.octets:
        pending = _with_sponsored_end(pending, case)
    return gather_connection(pending, case)


def gather_connection(pending: tuple[PendingUsage, ...], case: Case) -> tuple[PendingUsage, ...]:
    """`pending` with the connection that ended with a flow, if it was counted."""
    if case.connection is None or case.connection.number_to == case.connection.number_from:
        return pending
    fresh = _connected(case, case.connection)
    for index, entry in enumerate(pending):
        if entry.connections and _key(entry) == _key(fresh):
            both = replace(
                entry,
                last_offset=fresh.last_offset,
                start_ms=min(entry.start_ms, fresh.start_ms),
                end_ms=max(entry.end_ms, fresh.end_ms),
                micros=entry.micros + fresh.micros,
                money=entry.money + fresh.money,
                price_octets_to=fresh.price_octets_to,
                connections=entry.connections + 1,
                payments=_together(entry.payments, fresh.payments, _bucket_of, _payment_of_both),
            )
            return (*pending[:index], both, *pending[index + 1 :])
    return (*pending, fresh)


def _connected(case: Case, ended: Connection) -> PendingUsage:
    return replace(
        _fresh(case),
        treatment="charged",
        sponsor_id=None,
        price_id=ended.price_id,
        counter_id=ended.counter_id,
        record_count=0,
        charged_octets=0,
        free_octets=0,
        sponsored_octets=0,
        blocked_octets=0,
        not_charged_octets=0,
        micros=ended.micros,
        draws=(),
        money=ended.money,
        price_octets_from=ended.number_from,
        price_octets_to=ended.number_to,
        connections=1,
        payments=_together((), _payments(ended.payments), _bucket_of, _payment_of_both),
        sponsorships=(),
    )


def _with_payments(pending: tuple[PendingUsage, ...], case: Case) -> tuple[PendingUsage, ...]:
    """What purses paid for octets, in the entry that the flow was just added to."""
    return tuple(
        replace(entry, payments=_together(entry.payments, _payments(case.payments), _bucket_of, _payment_of_both))
        if entry.last_offset == case.at.offset
        else entry
        for entry in pending
    )


def _with_sponsored_end(pending: tuple[PendingUsage, ...], case: Case) -> tuple[PendingUsage, ...]:
    """What campaigns count of a record without octets, in the entry of several that it was just added to."""
    return tuple(
        replace(entry, sponsorships=_added_sponsorships(entry.sponsorships, case.sponsorships))
        if entry.last_offset == case.at.offset and entry.first_offset != case.at.offset
        else entry
        for entry in pending
    )


def _payments(paid: tuple[Paid, ...]) -> tuple[PendingPayment, ...]:
    return tuple(PendingPayment(item.purse.bucket_id, item.micros) for item in paid)


def _key(entry: PendingUsage) -> tuple[str | None, ...]:
    return (
        entry.subscriber_id, entry.rule_id, entry.application, entry.service, entry.category, entry.counter_id,
        entry.circumstances,
    )  # fmt: skip


def _fresh(case: Case) -> PendingUsage:
    flow, classification, template = case.flow, case.classification, case.selection.template
    # With more than thirty arguments in one call, CPython would build a tuple for them first.
    entry = PendingUsage(
        flow.subscriber_id, template.rule_id, classification.application, classification.service,
        classification.category, case.treatment, template.rating_group, template.sponsor_id, case.price_id,
        template.catalogue_version, case.at.offset, case.at.offset, flow.start_ms, flow.end_ms, 1,
        case.charged, case.free, case.sponsored, case.blocked, case.not_charged, case.micros,
        tuple([PendingDraw(draw.bucket_id, draw.octets, draw.drawn_ms) for draw in case.draws]),
        case.money, _evidence(classification), case.price_from, case.price_to, 0, (),
        _added_sponsorships((), case.sponsorships), case.selection.circumstances,
    )  # fmt: skip
    return entry if case.counter_id is None else replace(entry, counter_id=case.counter_id)


def _added(entry: PendingUsage, case: Case, add_draws: AddDraws) -> PendingUsage:
    flow = case.flow
    added = replace(
        entry,
        last_offset=case.at.offset,
        start_ms=entry.start_ms if entry.start_ms < flow.start_ms else flow.start_ms,
        end_ms=entry.end_ms if entry.end_ms > flow.end_ms else flow.end_ms,
        record_count=entry.record_count + 1,
        charged_octets=entry.charged_octets + case.charged,
        free_octets=entry.free_octets + case.free,
        draws=add_draws(entry.draws, case.draws) if case.draws else entry.draws,
        evidence=_evidence(case.classification),
    )
    if case.charged + case.free == case.octets and case.price_id is None:
        return added
    return replace(
        added,
        sponsored_octets=entry.sponsored_octets + case.sponsored,
        blocked_octets=entry.blocked_octets + case.blocked,
        not_charged_octets=entry.not_charged_octets + case.not_charged,
        micros=entry.micros + case.micros,
        money=entry.money + case.money,
        price_octets_from=case.price_from if entry.price_octets_from is None else entry.price_octets_from,
        price_octets_to=entry.price_octets_to if case.price_to is None else case.price_to,
        sponsorships=_added_sponsorships(entry.sponsorships, case.sponsorships),
    )


def _added_draw(draws: tuple[PendingDraw, ...], more: tuple[Draw, ...]) -> tuple[PendingDraw, ...]:
    """With the one draw of a common flow, which is from a bucket of volume."""
    if len(draws) == 1 and draws[0].bucket_id == more[0].bucket_id:
        return (PendingDraw(draws[0].bucket_id, draws[0].octets + more[0].octets),)
    return _added_draws(draws, more)


def _added_draws(draws: tuple[PendingDraw, ...], more: tuple[Draw, ...]) -> tuple[PendingDraw, ...]:
    drawn = (PendingDraw(draw.bucket_id, draw.octets, draw.drawn_ms) for draw in more)
    return _together(draws, drawn, _bucket_of, _draw_of_both)


def _added_sponsorships(
    paid: tuple[PendingSponsorship, ...], more: tuple[Sponsorship, ...]
) -> tuple[PendingSponsorship, ...]:
    if not more:
        return paid
    new = (
        PendingSponsorship(item.campaign_id, item.octets, item.budget_octets, item.connections)
        for item in more
        if item.octets or item.connections
    )
    return _together(paid, new, attrgetter("campaign_id"), _sponsorship_of_both)


def _together(
    known: tuple[_Entry, ...],
    more: Iterable[_Entry],
    name_of: Callable[[_Entry], str],
    both: Callable[[_Entry, _Entry], _Entry],
) -> tuple[_Entry, ...]:
    """`known` with `more` added: what has the same name becomes one, other names follow."""
    totals = {name_of(entry): entry for entry in known}
    for entry in more:
        before = totals.get(name_of(entry))
        totals[name_of(entry)] = entry if before is None else both(before, entry)
    return tuple(totals.values())


_bucket_of = attrgetter("bucket_id")


def _draw_of_both(one: PendingDraw, two: PendingDraw) -> PendingDraw:
    ms = None if one.ms is None or two.ms is None else one.ms + two.ms
    return PendingDraw(one.bucket_id, one.octets + two.octets, ms)


def _payment_of_both(one: PendingPayment, two: PendingPayment) -> PendingPayment:
    return PendingPayment(one.bucket_id, one.micros + two.micros)


def _sponsorship_of_both(one: PendingSponsorship, two: PendingSponsorship) -> PendingSponsorship:
    octets, budget_octets = one.octets + two.octets, one.budget_octets + two.budget_octets
    return PendingSponsorship(one.campaign_id, octets, budget_octets, one.connections + two.connections)


def _evidence(classification: Classification) -> str | None:
    if not classification.evidence:
        return None
    first = classification.evidence[0]
    return f"{first.kind}:{first.matched or first.value}"


Remaining = dict[tuple[str, str], int]
"""What is left by bucket id and unit."""


def before_gathered(account: AccountState) -> Remaining:
    """What each bucket, and the main balance, held before the usage that is gathered now."""
    remaining: Remaining = defaultdict(int, {MONEY: account.balance_micros})
    for bucket in account.buckets:
        remaining[bucket.bucket_id, bucket.unit] += bucket.remaining
    for purse in account.purses:
        remaining[purse.bucket_id, "micros"] += purse.remaining_micros
    for pending in account.pending:
        remaining[MONEY] += pending.money
        for payment in pending.payments:
            remaining[payment.bucket_id, "micros"] += payment.micros
        for draw in pending.draws:
            remaining[draw.bucket_id, draw.unit] += draw.amount
    return remaining


def _row(account: AccountState, pending: PendingUsage, remaining: Remaining, partition: int, now_ms: int) -> RatedUsage:
    movements = [_taken(remaining, draw.bucket_id, draw.unit, draw.amount) for draw in pending.draws]
    movements += [_taken(remaining, payment.bucket_id, "micros", payment.micros) for payment in pending.payments]
    if pending.money:
        movements.append(_taken(remaining, *MONEY, pending.money))
    row = replace(
        _common(account, pending, partition, now_ms),
        record_count=pending.record_count,
        octets=pending.charged_octets + pending.free_octets + pending.sponsored_octets + pending.blocked_octets
        + pending.not_charged_octets,
        charged_octets=pending.charged_octets,
        free_octets=pending.free_octets,
        sponsored_octets=pending.sponsored_octets,
        blocked_octets=pending.blocked_octets,
        not_charged_octets=pending.not_charged_octets,
        amount=format_micros(pending.micros) if pending.micros else "0",
        movements=tuple(movements),
        evidence=pending.evidence,
        connections=pending.connections,
    )  # fmt: skip
    if pending.price_id is not None or pending.sponsorships:
        row = _priced(row, account, pending)
    timed = [draw.octets for draw in pending.draws if draw.ms is not None]
    return replace(row, timed_octets=sum(timed)) if timed else row


def _priced(row: RatedUsage, account: AccountState, pending: PendingUsage) -> RatedUsage:
    """The row with what most have not: a price, and campaigns that paid."""
    return replace(
        row,
        currency=account.currency if pending.price_id else None,
        price_id=pending.price_id,
        price_offering_id=offering_of(pending.counter_id),
        price_octets_from=pending.price_octets_from,
        price_octets_to=pending.price_octets_to,
        sponsorships=tuple([_sponsorship(paid) for paid in pending.sponsorships]),
    )


def _taken(remaining: Remaining, bucket_id: str, unit: str, amount: int) -> Movement:
    remaining[bucket_id, unit] -= amount
    return movement(bucket_id, unit, -amount, remaining[bucket_id, unit])


def _sponsorship(paid: PendingSponsorship) -> Sponsorship:
    return Sponsorship(
        campaign_id=paid.campaign_id, octets=paid.octets, budget_octets=paid.budget_octets,
        connections=paid.connections,
    )  # fmt: skip


def late_rows(
    account: AccountState, drawn: list[tuple[Bucket, int]], *, at: Position, at_ms: int, now_ms: int
) -> tuple[RatedUsage, ...]:
    """Rows that take back from their expiry what a late flow drew; they come before the usage itself."""
    remaining = before_gathered(account)
    for bucket, amount in drawn:
        remaining[bucket.bucket_id, bucket.unit] -= amount
    rows = []
    for ordinal, (bucket, amount) in enumerate(drawn, start=1):
        remaining[bucket.bucket_id, bucket.unit] += amount
        blank = replace(
            _BLANK,
            usage_id=f"f-{at.partition}-{at.offset}-{at.offset}-{ordinal}",
            kind="expiry",
            account_id=account.account_id,
            subscriber_id=account.account_id,
            partition=at.partition,
            first_offset=at.offset,
            last_offset=at.offset,
            ordinal=ordinal,
            start_ms=at_ms,
            end_ms=at_ms,
            rated_at_ms=now_ms,
        )
        put_back = movement(bucket.bucket_id, bucket.unit, amount, remaining[bucket.bucket_id, bucket.unit])
        rows.append(
            replace(
                blank,
                catalogue_version=account.catalogue_version,
                product_id=bucket.product_id,
                offering_id=bucket.offering_id,
                movements=(put_back,),
                cause="late",
            )
        )
    return tuple(rows)


def _common(account: AccountState, pending: PendingUsage, partition: int, now_ms: int) -> RatedUsage:
    # Rows are filled in calls of at most fifteen names: with more, CPython would build a dict for each call.
    row = replace(
        _BLANK,
        usage_id=f"f-{partition}-{pending.first_offset}-{pending.last_offset}-0",
        account_id=account.account_id,
        subscriber_id=pending.subscriber_id,
        partition=partition,
        first_offset=pending.first_offset,
        last_offset=pending.last_offset,
        start_ms=pending.start_ms,
        end_ms=pending.end_ms,
        rated_at_ms=now_ms,
        catalogue_version=pending.catalogue_version,
    )
    return replace(
        row,
        category=pending.category,
        application=pending.application,
        service=pending.service,
        rule_id=pending.rule_id,
        rating_group=pending.rating_group,
        treatment=pending.treatment,
        sponsor_id=pending.sponsor_id,
        credit_amount=format_micros(sum(payment.micros for payment in pending.payments)) if pending.payments else "0",
        circumstances=pending.circumstances or None,
    )


def offering_of(counter_id: str | None) -> str | None:
    """The offering of a price's counter, `price:<offering>/<price>`."""
    return None if counter_id is None else counter_id.partition(":")[2].partition("/")[0]


_BLANK = RatedUsage(
    version=USAGE_VERSION, usage_id="-", kind="usage", account_id="-", subscriber_id="-", source_topic=FLOWS,
    partition=0, first_offset=0, last_offset=0, ordinal=0, start_ms=0, end_ms=0, rated_at_ms=0, catalogue_version="",
)  # fmt: skip


def movement(bucket_id: str, unit: str, amount: int, remaining: int) -> Movement:
    """A Movement from whole numbers."""
    return Movement(bucket_id=bucket_id, unit=unit, amount=str(amount), remaining=str(remaining))  # type: ignore[arg-type]
