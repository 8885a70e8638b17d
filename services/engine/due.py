"""When an account has to be looked at though nothing happens to it: its cycle ends, a window turns, a term is over."""

from collections.abc import Iterator

from schemas.state import AccountState, Product
from services.engine.eligibility import tenure_ms
from services.engine.late import grace_ends
from services.engine.periods import add_days, next_turn_ms
from services.engine.tariff import CompiledOffering, Tariff


def next_due_ms(account: AccountState, tariff: Tariff) -> int:
    """The next time after `settled_ms` at which something of the account turns; its cycle ends at the latest."""
    return min(time for time in _boundaries(account, tariff) if time > account.settled_ms)


def _boundaries(account: AccountState, tariff: Tariff) -> Iterator[int]:
    yield account.cycle_end_ms
    yield from (bucket.valid_until_ms for bucket in account.buckets if bucket.valid_until_ms is not None)
    yield from (purse.valid_until_ms for purse in account.purses if purse.valid_until_ms is not None)
    for product in account.products:
        if product.end_ms is not None:
            yield product.end_ms
        if product.status == "pending_active":
            yield product.start_ms
        if (offering := tariff.offerings.get(product.offering_id)) is not None:
            yield from _turns(offering, account)
            yield reminder_ms(product, offering, account)
            yield renewal_reminder_ms(product, offering, account)
        yield product.trial_end_ms
    yield from grace_ends(account)


def _turns(offering: CompiledOffering, account: AccountState) -> Iterator[int]:
    """Times at which a campaign, a window or a condition on the account's age turns."""
    for campaign in offering.campaigns:
        yield campaign.valid_from_ms
        yield campaign.valid_until_ms or 0
    for condition in offering.conditions.values():
        yield tenure_ms(condition, account)
    for windows in offering.windows.values():
        yield next_turn_ms(windows, account.settled_ms, time_zone=account.time_zone) or 0


def reminder_ms(product: Product, offering: CompiledOffering, account: AccountState) -> int:
    """When the subscriber is told once more that a trial ends; 0 for never."""
    days = offering.offering.trial_reminder_days
    if product.trial != "running" or not days:
        return 0
    return add_days(product.trial_end_ms, -days, time_zone=account.time_zone)


def renewal_reminder_ms(product: Product, offering: CompiledOffering, account: AccountState) -> int:
    """When the subscriber is told that the term ends and another one begins; 0 for never."""
    days = offering.offering.renewal_reminder_days
    if not product.renews or offering.offering.renewal != "automatic" or not days or product.end_ms is None:
        return 0
    at_ms = add_days(product.end_ms, -days, time_zone=account.time_zone)
    return at_ms if at_ms > max(product.start_ms, product.trial_end_ms) else 0
