"""What a product costs by itself: its flat prices, whole or by the day, refunds of them, and a cycle's minimum.

Days are local days. The day on which a product begins is charged whole, and so is the day on which it is cancelled;
where one product follows another on the same day, that day is charged once, with the first. Money is rounded down to a
micro-unit in two places: what a part of a cycle costs, and what is given back of it.
"""

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from schemas.catalogue import FlatPrice
from schemas.state import AccountState, Counter, PaidFee, Product
from schemas.units import format_micros
from services.engine.caps import spent_micros
from services.engine.cycles import days_of_cycle, part_of, part_of_cycle
from services.engine.journal import Journal
from services.engine.periods import add_days, days_between
from services.engine.tariff import CompiledOffering, Tariff

MINIMUM_RENT = "minimum_rent"
"""In `RatedUsage.price_id`: the row that makes up for what a cycle fell short of."""

_OWED, _FEES = "rent", "fees"
"""Counters of a cycle: the minimum that its days come to, and what fees have come to. Kept only where there is one."""


def charge_fees(
    journal: Journal, product: Product, offering: CompiledOffering, price_types: Sequence[str], *, from_ms: int
) -> int | None:
    """Charge the flat prices of these types for what is left of the cycle after `from_ms`; returns micros.

    None, and nothing done, when a prepaid balance is too small.
    """
    account = journal.account
    due = due_fees(journal, product, offering, price_types, from_ms=from_ms)
    total = sum(fee.micros for _, fee in due)
    prepaid = account.payment == "prepaid"
    if prepaid and total > account.balance_micros:
        return None
    for price, fee in due:
        if fee.micros:
            moved = (journal.move_money(-fee.micros),) if prepaid else ()
            journal.book("fee", product=product, amount=fee.micros, price_id=price.id, movements=moved)
    # What nobody ordered at this moment is kept to the last price: an order to stop it may still be on its way.
    kept = tuple(fee for price, fee in due if price.type == "recurring" or journal.by_itself)
    _agree(journal, product, offering, kept if "recurring" in price_types else None)
    _count_fees(journal, total)
    return total


def _agree(journal: Journal, product: Product, offering: CompiledOffering, paid: tuple[PaidFee, ...] | None) -> None:
    """Keep what was paid for the part of a cycle that begins now, and the minimum that it will have come to."""
    held = _held(journal.account, product)
    minimum = offering.offering.minimum_rent if offering.offering.kind == "base_plan" else held.minimum_micros
    after = replace(held, paid=held.paid if paid is None else paid, minimum_micros=minimum)
    if after != held:
        journal.put(after)


def due_fees(
    journal: Journal,
    product: Product,
    offering: CompiledOffering,
    price_types: Sequence[str],
    *,
    from_ms: int | None = None,
) -> list[tuple[FlatPrice, PaidFee]]:
    """What the flat prices of these types come to for what is left of the cycle after `from_ms`, or now."""
    start_ms = journal.at_ms if from_ms is None else from_ms
    return [
        (price, _paid(price, product, start_ms, journal.account, journal.tariff))
        for price in offering.offering.prices
        if price.type in price_types and price.amount
    ]


def give_back(journal: Journal, product: Product, *, ordered_ms: int) -> tuple[Product, int]:
    """Give back what a product that is cancelled now has paid for the days to come; the product after it, and micros.

    All of it, where the cancellation was ordered before the cycle or term began that was paid for, or the product
    itself, and came after.
    Never more than was paid: it is a share of that, not of the price.
    """
    begun_ms = _charged_ms(journal.account, product)
    zone = journal.account.time_zone
    tomorrow_ms = add_days(journal.at_ms, 1, time_zone=zone)
    total = 0
    kept = []
    for fee in product.paid:
        days = days_between(fee.from_ms, fee.until_ms, time_zone=zone)
        left = min(days, days_between(tomorrow_ms, fee.until_ms, time_zone=zone))
        micros = fee.micros * left // days if days and fee.gives_back else 0
        if ordered_ms < begun_ms <= fee.from_ms:
            micros = fee.micros
        else:
            kept.append(fee)
        if micros:
            moved = (journal.move_money(micros),) if journal.account.payment == "prepaid" else ()
            journal.book("refund", product=product, amount=-micros, price_id=fee.price_id, movements=moved)
        total += micros
    _count_fees(journal, -total)
    return replace(product, paid=tuple(kept)), total


def _charged_ms(account: AccountState, product: Product) -> int:
    """When the product was last charged for something that began then; an order of before that time was in time."""
    cycle_ms = account.cycle_start_ms if product.start_ms < account.cycle_start_ms else 0
    return max(cycle_ms, product.start_ms, product.trial_end_ms if product.trial == "over" else 0)


def owe_rent(journal: Journal, product: Product, until_ms: int) -> None:
    """Count what the days of a plan with a minimum rent, which ends or whose cycle ends at `until_ms`, come to."""
    micros = _rent(product, journal.account, journal.tariff, until_ms)
    if micros is not None:
        _add(journal, _OWED, micros)


def close_rent(journal: Journal) -> None:
    """Charge what the cycle before fell short of its minimum rent. It must be closed for late flows now.

    A prepaid account pays what its balance has: it never owes.
    """
    account = journal.account
    totals = {counter.counter_id: counter.micros for counter in account.past_counters}
    spent = spent_micros(account.past_counters) + totals.get(_FEES, 0)
    micros = totals.get(_OWED, 0) - spent
    prepaid = account.payment == "prepaid"
    if prepaid:
        micros = min(micros, account.balance_micros)
    if micros <= 0:
        return
    moved = (journal.move_money(-micros),) if prepaid else ()
    span = (account.past_start_ms, account.cycle_start_ms - 1)
    journal.book("fee", amount=micros, price_id=MINIMUM_RENT, movements=moved, span=span)
    owed = f"{format_micros(totals[_OWED])} {journal.tariff.currency}"
    journal.tell("receipt", f"{format_micros(micros)} charged: the cycle has a minimum of {owed}")


def outstanding_rent(account: AccountState, tariff: Tariff) -> int:
    """What minimum rents will still ask for, in micros, if nothing more is used.

    Of the present cycle, with the days to its end of what is held, and of the one before where it is not closed yet.
    """
    rents = (_rent(product, account, tariff, account.cycle_end_ms) for product in account.products)
    now = _short_of(account.counters, _owed(account.counters) + sum(micros or 0 for micros in rents))
    before = _short_of(account.past_counters, _owed(account.past_counters)) if account.past_start_ms else 0
    return min(now + before, account.balance_micros) if account.payment == "prepaid" else now + before


def _rent(product: Product, account: AccountState, tariff: Tariff, until_ms: int) -> int | None:
    """The minimum of the product's days in the present cycle up to `until_ms`, or its own end; None without one."""
    minimum = _minimum(product, tariff)
    # A trial costs nothing, so it owes nothing; what is suspended serves nothing.
    if not minimum or product.status != "active" or is_on_trial(product):
        return None
    if product.end_ms is not None:
        until_ms = min(until_ms, product.end_ms)
    from_ms = max(product.start_ms, product.trial_end_ms, account.cycle_start_ms)
    days, whole = part_of_cycle(account)
    return minimum * min(days, days_between(from_ms, until_ms, time_zone=account.time_zone)) // whole


def _owed(counters: Sequence[Counter]) -> int:
    return sum(counter.micros for counter in counters if counter.counter_id == _OWED)


def _short_of(counters: Sequence[Counter], minimum: int) -> int:
    fees = sum(counter.micros for counter in counters if counter.counter_id == _FEES)
    return max(0, minimum - spent_micros(counters) - fees)


def is_on_trial(product: Product) -> bool:
    """Whether a product is free of charge, since its trial is not over."""
    return product.trial in ("running", "confirmed")


def _paid(price: FlatPrice, product: Product, from_ms: int, account: AccountState, tariff: Tariff) -> PaidFee:
    micros, until = price.amount if price.type == "one_time" else part_of(price.amount, account), account.cycle_end_ms
    if price.type == "recurring" and price.proration == "daily":
        zone = account.time_zone
        if _is_paid_today(product, from_ms, account, tariff):
            from_ms = add_days(from_ms, 1, time_zone=zone)
        days, whole = days_of_cycle(account, product, from_ms)
        micros = price.amount * days // whole
    if product.end_ms is not None:
        until = min(until, product.end_ms)
    if price.type == "one_time":
        # It is for no days.
        until = from_ms
    return PaidFee(price.id, micros, from_ms, until, price.refund == "daily")


def _is_paid_today(product: Product, from_ms: int, account: AccountState, tariff: Tariff) -> bool:
    """Whether a product that this one follows was held, and paid for, on its first day: not where its term ended.

    Each is followed by one: of two that are held after it, the second pays for its own day.
    """
    zone = account.time_zone
    others = [
        other
        for other in (*account.ended, *account.products)
        if other.product_id != product.product_id and _is_followed(other.offering_id, product.offering_id, tariff)
    ]
    payers = [
        before
        for before in others
        if before in account.ended
        and any(_pays_for(fee, from_ms, zone) for fee in before.paid)
        and not days_between(before.end_ms or 0, from_ms, time_zone=zone)
        and not days_between(from_ms, before.end_ms or 0, time_zone=zone)
    ]
    followers = [
        held
        for held in others
        if held in account.products and any(days_between(from_ms, fee.from_ms, time_zone=zone) for fee in held.paid)
    ]
    return len(payers) > len(followers)


def _pays_for(fee: PaidFee, day_ms: int, zone: str) -> bool:
    """Whether a fee was paid for the local day that holds `day_ms`."""
    begun = not days_between(day_ms, fee.from_ms, time_zone=zone)
    return begun and days_between(day_ms, fee.until_ms, time_zone=zone) > 0


def _is_followed(before_id: str, offering_id: str, tariff: Tariff) -> bool:
    kinds = [tariff.offerings[name].offering.kind for name in (before_id, offering_id) if name in tariff.offerings]
    return before_id == offering_id or kinds == ["base_plan", "base_plan"]


def _held(account: AccountState, product: Product) -> Product:
    return next((held for held in account.products if held.product_id == product.product_id), product)


def _count_fees(journal: Journal, micros: int) -> None:
    counted = any(counter.counter_id in (_OWED, _FEES) for counter in journal.account.counters)
    if micros and (counted or any(_rents(journal.account, journal.tariff))):
        _add(journal, _FEES, micros)


def _rents(account: AccountState, tariff: Tariff) -> Iterator[int]:
    yield from (_minimum(product, tariff) for product in account.products)


def _minimum(product: Product, tariff: Tariff) -> int:
    """What was agreed when the part of the cycle began: no later catalogue asks more for it, or less."""
    if product.minimum_micros is not None:
        return product.minimum_micros
    offering = tariff.offerings.get(product.offering_id)
    return offering.offering.minimum_rent if offering else 0


def _add(journal: Journal, counter_id: str, micros: int) -> None:
    counters = journal.account.counters
    before = sum(counter.micros for counter in counters if counter.counter_id == counter_id)
    others = tuple(counter for counter in counters if counter.counter_id != counter_id)
    journal.account = replace(journal.account, counters=(*others, Counter(counter_id, 0, before + micros)))
