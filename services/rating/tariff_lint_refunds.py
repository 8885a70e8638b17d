"""Lint of refunds: what is granted whole and paid for by the day can be had for the price of a day."""

from collections.abc import Iterator

from schemas.catalogue import FlatPrice, ProductOffering
from services.rating.findings import Finding
from services.rating.tariff_lint_view import View


def cheaply_emptied(view: View) -> Iterator[Finding]:
    """A recurring price that gives back, or leaves out, the days not used, beside volume or money granted at once.

    Whoever empties the bucket on the first day and cancels, or orders on the last day of a cycle, has all of it and
    pays for a day.
    """
    for offering in view.catalogue.offerings:
        granted = list(_granted_whole(offering))
        for place, price in enumerate(offering.prices if granted else ()):
            word = _by_the_day(price)
            if word is None:
                continue
            yield view.finding(
                "cheap-volume", ("offerings", offering.id),
                f"recurring price {price.id!r} of {offering.id!r} is {_TELLS[word]}, and {granted[0]} is granted "
                "whole: it can be used up at once for the price of a day",
                "grant it by the day (`proration: daily`), or charge the whole cycle",
                path=("prices", place, word), severity="warning",
            )  # fmt: skip


_TELLS = {
    "refund": "given back by the day when it is cancelled",
    "proration": "charged for the days that are left when it is ordered",
}


def _by_the_day(price: FlatPrice) -> str | None:
    if price.type != "recurring" or not price.amount:
        return None
    words = (word for word in ("refund", "proration") if getattr(price, word) == "daily")
    return next(words, None)


def _granted_whole(offering: ProductOffering) -> Iterator[str]:
    """Allowances that do not go by the days, however late in a cycle; a kept volume of another cycle is not asked."""
    for allowance in offering.allowances:
        if allowance.proration == "none" and allowance.amount:
            yield f"allowance {allowance.id!r}"
    yield from (f"money allowance {money.id!r}" for money in offering.money_allowances if money.amount)
