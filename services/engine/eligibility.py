"""Whom a tariff's parts are for: conditions on the account's profile, on what it holds and how long it has existed."""

from schemas.catalogue import SubscriberCondition
from schemas.state import AccountState
from services.engine.periods import add_days


def unmet_by(condition: SubscriberCondition, account: AccountState, at_ms: int) -> str | None:
    """The first part of `condition` that `account` does not meet at `at_ms`, by its name; None when all are met."""
    profile = (
        ("segments", condition.segments, account.segment),
        ("age_bands", condition.age_bands, account.age_band),
        ("consumption_levels", condition.consumption_levels, account.consumption_level),
        ("payments", condition.payments, account.payment),
        ("tiers", condition.tiers, account.tier),
    )
    for name, wanted, has in profile:
        if wanted and has not in wanted:
            return name
    if condition.offerings and not any(
        product.offering_id in condition.offerings for product in account.products if product.status == "active"
    ):
        return "offerings"
    return "min_tenure_days" if at_ms < tenure_ms(condition, account) else None


def tenure_ms(condition: SubscriberCondition, account: AccountState) -> int:
    """When the account has existed for as long as `condition` wants; 0 where it wants nothing."""
    if not condition.min_tenure_days:
        return 0
    return add_days(account.created_ms, condition.min_tenure_days, time_zone=account.time_zone)
