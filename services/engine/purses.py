"""Money granted by products: which of it pays for some traffic, and in what order."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from msgspec.structs import replace

from schemas.state import AccountState, Purse
from services.engine.tariff import CompiledPurse

PAID = "purses"
"""The counter of what purses have paid in the cycle."""


class Paid(NamedTuple):
    """What one purse gave, and the purse after it."""

    micros: int
    purse: Purse


def credit_of(account: AccountState, kinds: Iterable[CompiledPurse]) -> int:
    """Micros left in purses of these kinds."""
    return sum(purse.remaining_micros for purse, _ in _payable(account, kinds))


def paid_from(account: AccountState, kinds: Iterable[CompiledPurse], micros: int) -> tuple[AccountState, list[Paid]]:
    """The account after purses of these kinds paid what they can of `micros`, and what each gave.

    The narrowest first; then by priority, by earliest end, the oldest, the id: as octets are drawn.
    """
    paid: list[Paid] = []
    for purse, _ in sorted(_payable(account, kinds), key=_order):
        part = min(micros, purse.remaining_micros)
        if part:
            paid.append(Paid(part, replace(purse, remaining_micros=purse.remaining_micros - part)))
            micros -= part
    after = {key_of(item.purse): item.purse for item in paid}
    purses = tuple(after.get(key_of(purse), purse) for purse in account.purses)
    return replace(account, purses=purses), paid


def key_of(purse: Purse) -> tuple[str, int]:
    """What tells one grant from another."""
    return purse.bucket_id, purse.valid_from_ms


def _payable(account: AccountState, kinds: Iterable[CompiledPurse]) -> Iterator[tuple[Purse, CompiledPurse]]:
    wanted = {(kind.offering_id, kind.allowance.id): kind for kind in kinds}
    if not wanted or not account.purses:
        return
    awake = {product.product_id for product in account.products if product.status == "active"}
    for purse in account.purses:
        kind = wanted.get((purse.offering_id, purse.allowance_id))
        if kind is not None and purse.product_id in awake:
            yield purse, kind


def _order(item: tuple[Purse, CompiledPurse]) -> tuple[object, ...]:
    purse, kind = item
    end = float("inf") if purse.valid_until_ms is None else purse.valid_until_ms
    return kind.reach.order(), kind.allowance.priority, end, purse.valid_from_ms, purse.bucket_id
