"""How a product leaves an account: at the end of its time, by order, for one that takes its place, or with its plan."""

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from schemas.state import AccountState, Bucket, Product
from schemas.units import format_micros
from services.engine.credits import expire_money
from services.engine.fees import give_back, owe_rent
from services.engine.journal import Journal


def end_product(journal: Journal, product: Product, *, kept: Sequence[Bucket] = ()) -> None:
    """Remove a product; what is left in its buckets expires, but for `kept`. Late flows may find it for a while."""
    owe_rent(journal, product, journal.at_ms)
    expire_money(journal, [purse for purse in journal.account.purses if purse.product_id == product.product_id])
    mine = [bucket for bucket in journal.account.buckets if bucket.product_id == product.product_id]
    journal.expire([bucket for bucket in mine if bucket not in kept])
    account = journal.account
    others = tuple(held for held in account.products if held.product_id != product.product_id)
    over = () if product.status == "pending_active" else (replace(product, end_ms=journal.at_ms),)
    journal.account = replace(account, products=others, ended=(*account.ended, *over))


def end_by_order(journal: Journal, product: Product, *, ordered_ms: int, why: str = "has ended") -> None:
    """End a product now because somebody wants that, with the refund that its prices declare."""
    product, micros = give_back(journal, product, ordered_ms=ordered_ms)
    end_product(journal, product)
    journal.tell("cancelled", f"{product.offering_id} {why}; nothing is charged for it any more", product=product)
    if micros:
        journal.tell("receipt", f"{format_micros(micros)} {journal.tariff.currency} given back", product=product)


def end_with_cycle(journal: Journal, product: Product) -> None:
    """Let a product end when the billing cycle does, or with its term or trial where that ends before."""
    cycle_end_ms = journal.account.cycle_end_ms
    end_ms = cycle_end_ms if product.end_ms is None else min(cycle_end_ms, product.end_ms)
    journal.put(replace(product, end_ms=end_ms, renews=False))
    beyond = "the billing cycle" if end_ms == cycle_end_ms else "its term"
    journal.tell("receipt", f"{product.offering_id} ends with {beyond} and is not charged again", product=product)


def end_replaced(journal: Journal) -> bool:
    """End what another product takes the place of, where that begins now; whether there was something."""
    account = journal.account
    due = {item.follows for item in account.products if _begins_now(item, journal.at_ms)} - {""}
    gone = [item for item in account.products if item.product_id in due]
    for product in gone:
        end_by_order(journal, product, ordered_ms=journal.at_ms, why="has ended, for another takes its place")
    return bool(gone)


def end_dependents(journal: Journal, *, ordered_ms: int | None = None, staying: Collection[str] = ()) -> bool:
    """End products that require one that has just ended and that nothing else stands in for; whether there were some.

    They end as if they had been cancelled with the order that ended it, or else a moment before: what this moment
    itself has charged comes back whole. `staying` are offerings that are not held just now and will be again.
    """
    ordered_ms = journal.at_ms - 1 if ordered_ms is None else ordered_ms
    found = False
    while orphans := [item for item in journal.account.products if _is_orphan(item, journal, staying)]:
        found = True
        for product in orphans:
            wanted = ", ".join(_requires(product, journal))
            why = f"has ended with what it requires ({wanted})"
            end_by_order(journal, product, ordered_ms=ordered_ms, why=why)
    return found


def _begins_now(product: Product, at_ms: int) -> bool:
    return product.status == "pending_active" and product.start_ms <= at_ms


def _is_orphan(product: Product, journal: Journal, staying: Collection[str]) -> bool:
    """Something that it requires must have gone: a catalogue that asks for more than before makes no orphan."""
    account, wanted = journal.account, set(_requires(product, journal))
    held = {other.offering_id for other in account.products if other.product_id != product.product_id}
    return bool(wanted & _just_ended(account, journal.at_ms)) and wanted.isdisjoint({*held, *staying})


def _requires(product: Product, journal: Journal) -> tuple[str, ...]:
    offering = journal.tariff.offerings.get(product.offering_id)
    return offering.offering.requires if offering else ()


def _just_ended(account: AccountState, at_ms: int) -> set[str]:
    return {other.offering_id for other in account.ended if other.end_ms == at_ms}
