"""What usage prices come to, unit by unit and in fractions: a part of the reference model."""

from fractions import Fraction
from typing import Any


def exact_price(price: dict[str, Any], octets: int) -> Fraction:
    """Micros of the cycle's first `octets`, not rounded."""
    unit = unit_of(price)
    if price["whole_units"]:
        octets = -(-octets // unit) * unit
    if price["tier_mode"] == "graduated":
        return sum((Fraction(tier_amount(price, n), unit) for n in range(1, octets + 1)), Fraction(0))
    return max((Fraction(n * tier_amount(price, n), unit) for n in range(1, octets + 1)), default=Fraction(0))


def unit_of(price: dict[str, Any]) -> int:
    """Octets, or connections, of one unit."""
    return int(price["per_connections"] if price.get("unit") == "connection" else price["per_octets"])


def tier_amount(price: dict[str, Any], octet: int) -> int:
    """The unit price of the tier that an octet is in."""
    reached = [tier["amount"] for tier in price["tiers"] if octet > tier["above"]]
    return reached[-1] if reached else price["amount"]


def long_run(price: dict[str, Any]) -> int:
    """Micros of a terabyte, by which prices are compared: far beyond every tier."""
    octets, unit = 10**12, unit_of(price)
    counted = -(-octets // unit) * unit if price["whole_units"] else octets
    edges = [0, *(tier["above"] for tier in price["tiers"])]
    amounts = [price["amount"], *(tier["amount"] for tier in price["tiers"])]
    spans = list(zip(edges, [*edges[1:], counted], amounts, strict=True))
    if price["tier_mode"] == "graduated":
        micros = sum((end - start) * amount for start, end, amount in spans) // unit
    else:
        micros = max(end * amount for _, end, amount in spans) // unit
    # Where all beyond a cap is free, that is what a terabyte costs.
    return micros if price["cap"] is None or price["on_cap"] == "block" else min(micros, price["cap"])


def whole(micros: Fraction) -> int:
    """Rounded down."""
    return micros.numerator // micros.denominator
