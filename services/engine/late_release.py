"""Late usage beyond the grace, settled by order: charged when it happened, charged now, or waived.

What a lane remembers of a closed period is gone by then. Whoever orders that it be charged there brings the period
along, as the ledger has it: what expired of its buckets, and what its totals came to.
"""

from msgspec.structs import replace

from schemas.command import PastBucket, PastPeriod, ReleaseLate
from schemas.state import AccountState, Bucket, Counter, Product
from schemas.units import parse_micros
from services.engine.circumstances import DOUBTED
from services.engine.correction_commands import line_of, unreadable
from services.engine.corrections import Again, Line, charge_again, charge_to, refund_row, write_again
from services.engine.journal import Journal
from services.engine.outcome import Refusal
from services.engine.reclassify import not_believed
from services.engine.standing import draw_order, with_standing
from services.engine.tariff import Tariff


def release(journal: Journal, command: ReleaseLate) -> Refusal | None:
    """Take a listed row off the list and charge its octets where the order says; a Refusal changes nothing."""
    row = command.line
    refusal = _unfit(command) or unreadable((row,), again=False)
    if refusal is not None:
        return refusal
    journal.emit_gathered()
    line = line_of(row, journal.account, journal.tariff)
    octets = row.not_charged_octets
    off = refund_row(journal, line, 0, 0)
    journal.add(replace(off, octets=octets, not_charged_octets=octets))
    doubted = (row.circumstances or "").endswith(DOUBTED)
    again = Again(line, octets, not_believed(line.seen) if doubted else line.seen)
    if command.period == "none":
        journal.add(replace(off, kind="usage", octets=octets, free_octets=octets, treatment="free"))
    elif command.period == "present":
        flow = replace(line.flow, start_ms=journal.at_ms, end_ms=journal.at_ms + line.span.ms)
        charge_again(journal, [again._replace(line=line._replace(flow=flow))])
    elif command.past is not None:
        _charge_then(journal, again, command.past)
    return None


def _unfit(command: ReleaseLate) -> Refusal | None:
    row = command.line
    if row.treatment != "not_charged" or not row.not_charged_octets:
        detail = f"usage_id: {row.usage_id!r} has nothing that came too late to be charged"
        return Refusal("not_late", f"{detail}; refund, void or rate again what was charged")
    if command.period == "past" and command.past is None:
        return Refusal("past", "past: null; send what the account had in the period, or charge it in the present one")
    return None


def _charge_then(journal: Journal, again: Again, past: PastPeriod) -> None:
    """Charge octets to the period that is brought along; of the account, only money and living buckets change.

    What a period that is over would tell its owner, it keeps to itself.
    """
    account = journal.account
    view = _view(account, past, journal.tariff, again.line)
    case, charged = charge_to(journal, again, view)
    after = charged.account
    drawn = {(item.bucket_id, item.valid_from_ms, item.rolled): item for item in after.buckets}
    expired = [bucket for bucket in view.buckets if bucket not in account.buckets]
    back = [(bucket, bucket.remaining - _drawn(bucket, drawn).remaining) for bucket in expired]
    spent = {(purse.bucket_id, purse.valid_from_ms): purse for purse in after.purses}
    account = replace(
        account,
        buckets=tuple(_drawn(bucket, drawn) for bucket in account.buckets),
        purses=tuple(spent.get((purse.bucket_id, purse.valid_from_ms), purse) for purse in account.purses),
        balance_micros=after.balance_micros,
    )
    write_again(journal, again, case, with_standing(account, journal.tariff), [pair for pair in back if pair[1]])
    journal.settle("late")


def _drawn(bucket: Bucket, drawn: dict[tuple[str, int, bool], Bucket]) -> Bucket:
    return drawn.get((bucket.bucket_id, bucket.valid_from_ms, bucket.rolled), bucket)


def _view(account: AccountState, past: PastPeriod, tariff: Tariff, line: Line) -> AccountState:
    """The account as it stood when the usage happened. A spending limit of then is not known, and holds nobody back."""
    at_ms = line.flow.start_ms
    living = [bucket for bucket in account.buckets if bucket.valid_from_ms <= at_ms]
    buckets = living + [_bucket(item) for item in past.buckets]
    view = replace(
        account,
        products=tuple(Product(product_id, offering_id, 0, None) for product_id, offering_id in past.products),
        buckets=tuple(sorted(buckets, key=lambda bucket: draw_order(bucket, tariff))),
        counters=tuple(Counter(item.counter_id, item.octets, parse_micros(item.amount)) for item in past.totals),
        purses=tuple(purse for purse in account.purses if purse.valid_from_ms <= at_ms),
        spending_limit_micros=None,
        settled_ms=at_ms,
    )
    return with_standing(view, tariff)


def _bucket(item: PastBucket) -> Bucket:
    product_id, _, allowance_id = item.bucket_id.rpartition("/")
    return Bucket(
        item.bucket_id, product_id, item.offering_id, allowance_id, item.remaining, item.granted,
        item.valid_from_ms, item.valid_until_ms, notified_percent=100, timed=item.unit == "ms",
    )  # fmt: skip
