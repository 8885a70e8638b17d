"""Grants of money by products, and their ends, as a journal writes them down."""

from msgspec.structs import replace

from schemas.state import Product, Purse
from services.engine.cycles import part_of
from services.engine.journal import Journal
from services.engine.tariff import CompiledOffering, CompiledPurse
from services.engine.usage import movement


def grant_money(journal: Journal, product: Product, offering: CompiledOffering, validities: tuple[str, ...]) -> None:
    """Fill a new purse for each money allowance of these validities."""
    movements = []
    for compiled in offering.purses:
        if compiled.allowance.validity in validities:
            purse = _purse(journal, product, compiled)
            journal.account = replace(journal.account, purses=(*journal.account.purses, purse))
            put_in = movement(purse.bucket_id, "micros", purse.granted_micros, _left(journal, purse.bucket_id))
            movements.append(replace(put_in, valid_from_ms=purse.valid_from_ms, valid_until_ms=purse.valid_until_ms))
    if movements:
        journal.book("grant", product=product, movements=tuple(movements))


def expire_money(journal: Journal, purses: list[Purse]) -> None:
    """Take what is left out of `purses` and remove them."""
    for purse in purses:
        kept = tuple(other for other in journal.account.purses if other is not purse)
        journal.account = replace(journal.account, purses=kept)
        if purse.remaining_micros:
            left = _left(journal, purse.bucket_id)
            taken = movement(purse.bucket_id, "micros", -purse.remaining_micros, left)
            journal.book("expiry", product=Product(purse.product_id, purse.offering_id, 0, None), movements=(taken,))


def _left(journal: Journal, bucket_id: str) -> int:
    return sum(purse.remaining_micros for purse in journal.account.purses if purse.bucket_id == bucket_id)


def _purse(journal: Journal, product: Product, compiled: CompiledPurse) -> Purse:
    allowance, account = compiled.allowance, journal.account
    name = f"{product.product_id}/{allowance.id}"
    amount = part_of(allowance.amount, account) if allowance.validity == "cycle" else allowance.amount
    return Purse(
        name, product.product_id, product.offering_id, allowance.id, amount, amount,
        journal.at_ms, journal.granted_until_ms(product, compiled),
    )  # fmt: skip
