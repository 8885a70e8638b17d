"""Automatic renewal: at the end of its term a product begins another one, if its subscriber wants it and can pay.

A renewal is what ordering the offering again at that moment would be, under the same product id: the same checks, the
same prices, the same grants. It comes without any flow, once per term, since the product's end moves with it. What
cannot be renewed ends with its term, and the subscriber is told why.
"""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from schemas.catalogue_allowances import Rollover
from schemas.state import AccountState, Bucket, Product
from schemas.units import format_micros
from services.engine.caps import limit_of, spent_micros
from services.engine.fees import due_fees
from services.engine.journal import Journal
from services.engine.late import GRACE_MS
from services.engine.periods import DAY_MS, add_days, end_of_days, next_cycle_end
from services.engine.sale import ineligible, misfit, off_sale
from services.engine.shares import put_aside
from services.engine.tariff import CompiledOffering, Tariff


class Ending(NamedTuple):
    """A product whose term is over and that is to be renewed."""

    product: Product
    offering: CompiledOffering
    kept: tuple[Bucket, ...]
    """Buckets that roll over if it is; they wait for that beyond their end."""


def is_renewed(product: Product, tariff: Tariff) -> bool:
    """Whether a product begins another term at the end of this one, as far as its subscriber is concerned."""
    offering = tariff.offerings.get(product.offering_id)
    return product.renews and offering is not None and offering.offering.renewal == "automatic"


def ending_of(journal: Journal, product: Product) -> Ending:
    """What of the product, which is still to be ended, a renewal would go on with."""
    kept = tuple(bucket for bucket in journal.account.buckets if _is_kept(bucket, product, journal))
    return Ending(product, journal.tariff.offerings[product.offering_id], kept)


def in_order(endings: Iterable[Ending]) -> list[Ending]:
    """Plans first: what stands on one can be renewed only after it."""
    return sorted(endings, key=lambda ending: ending.offering.offering.kind != "base_plan")


def next_term(product: Product, offering: CompiledOffering, account: AccountState, at_ms: int) -> Product:
    """The product in the term that begins at `at_ms`.

    Terms are counted from the first one, so that a change of the clocks moves one end and not all that follow.
    """
    zone, first_ms = account.time_zone, product.first_ms or product.trial_end_ms or product.start_ms
    sold = offering.offering
    if sold.anchor == "calendar":
        # From the nearest midnight: in another zone the last one can lie in the middle of a day.
        end_ms = end_of_days(at_ms + DAY_MS // 2, sold.term_days or 0, time_zone=zone, anchor="calendar")
        return _begun_anew(product, at_ms, end_ms, first_ms)
    # In whole days of the clock, to the nearest: in another zone the hours can lie on two sides of a midnight.
    days = (at_ms - first_ms + DAY_MS // 2) // DAY_MS + (sold.term_days or 0)
    return _begun_anew(product, at_ms, add_days(first_ms, days, time_zone=zone), first_ms)


def term_end_ms(product: Product, offering: CompiledOffering, account: AccountState) -> int | None:
    """When the product's present term ends by itself; None without terms."""
    sold = offering.offering
    if sold.term_days is None:
        return None
    if product.first_ms:
        return next_term(product, offering, account, product.start_ms).end_ms
    begins_ms = product.trial_end_ms or product.start_ms
    return end_of_days(begins_ms, sold.term_days, time_zone=account.time_zone, anchor=sold.anchor)


def _begun_anew(product: Product, at_ms: int, end_ms: int, first_ms: int) -> Product:
    return replace(
        product, start_ms=at_ms, end_ms=end_ms, trial="", trial_end_ms=0, paid=(), first_ms=first_ms,
    )  # fmt: skip


def refusal_of(journal: Journal, ending: Ending, product: Product) -> str | None:
    """Why the next term cannot begin, other than for want of money; None when it can."""
    if ending.product.status != "active":
        return "it was suspended at the end of its term"
    offering, account = ending.offering, journal.account
    refusal = (
        off_sale(offering, journal.at_ms)
        or ineligible(offering, account, journal.at_ms)
        or misfit(offering, account, journal.tariff, at_ms=journal.at_ms)
    )
    if refusal is not None:
        return refusal.detail
    limit, spent = limit_of(account), spent_micros(account.counters)
    price = sum(fee.micros for _, fee in due_fees(journal, product, offering, ("one_time", "recurring")))
    if limit is None or not price or spent + price <= limit:
        return None
    currency = journal.tariff.currency
    left = f"{format_micros(max(0, limit - spent))} {currency} of your limit of {format_micros(limit)} {currency}"
    return f"it costs {format_micros(price)} {currency}, and {left} are left in this cycle"


def fresh_shares(account: AccountState, offering: CompiledOffering, product: Product) -> AccountState:
    """The account with the shares of its members in the product's allowances whole again, as in one just ordered."""
    if all(item.allowance.share is None for item in offering.allowances.values()):
        return account
    begun_ms = product.start_ms
    counters = put_aside(account.counters, product.product_id, end_ms=begun_ms, forget_ms=begun_ms - GRACE_MS)
    return replace(account, counters=counters)


def keep(journal: Journal, ending: Ending, product: Product) -> None:
    """Let what the term before has left stay in `product`, within its bounds."""
    for bucket in ending.kept:
        compiled = journal.tariff.allowance(bucket.offering_id, bucket.allowance_id)
        if compiled is not None and compiled.allowance.rollover is not None:
            until_ms = kept_until(journal.account, product, ending.offering, compiled.allowance.rollover)
            if compiled.allowance.validity == "cycle":
                until_ms = kept_in_cycles(journal.account, product, compiled.allowance.rollover.cycles)
            journal.roll_over(bucket, compiled.allowance.rollover, until_ms)


def kept_until(account: AccountState, product: Product, offering: CompiledOffering, rollover: Rollover) -> int:
    """The end of the last term that a `once` allowance stays for."""
    end_ms = product.end_ms or account.cycle_end_ms
    more = (rollover.cycles - 1) * (offering.offering.term_days or 0)
    return end_of_days(end_ms, more, time_zone=account.time_zone, anchor=offering.offering.anchor)


def kept_in_cycles(account: AccountState, product: Product, cycles: int) -> int:
    """The end of the last cycle that an allowance stays for, or of the product, whichever is earlier."""
    end = account.cycle_end_ms
    for _ in range(cycles - 1):
        end = next_cycle_end(end, time_zone=account.time_zone, cycle_day=account.cycle_day)
    return end if product.end_ms is None else min(end, product.end_ms)


def _is_kept(bucket: Bucket, product: Product, journal: Journal) -> bool:
    if bucket.product_id != product.product_id or bucket.rolled or journal.tariff.has_changed_unit(bucket):
        return False
    compiled = journal.tariff.allowance(bucket.offering_id, bucket.allowance_id)
    return compiled is not None and compiled.allowance.rollover is not None
