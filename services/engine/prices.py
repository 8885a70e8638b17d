"""What a number of octets costs: the price curves of a tariff, in whole numbers.

A curve counts money in *shares*: micro-units times the octets of a unit. So every step of the way is exact, and the
division by the unit is the one rounding point.
"""

from typing import NamedTuple

from schemas.catalogue import UsagePrice


class Step(NamedTuple):
    """A tier: octets above `start` up to and including `end` cost `amount` micros per unit; None is no end."""

    start: int
    end: int | None
    amount: int


class Curve(NamedTuple):
    """The price of a cycle's octets, or connections. It never falls: one more never costs less."""

    unit_octets: int
    steps: tuple[Step, ...]
    volume: bool
    """True: all octets cost what the tier reached says; False: each octet costs what its own tier says."""
    whole_units: bool
    """Whether each started unit counts whole."""

    def micros(self, octets: int) -> int:
        """Micros for the first `octets` of a cycle, rounded down; the cap is not looked at."""
        return self.shares(octets) // self.unit_octets

    def shares(self, octets: int) -> int:
        """The same before rounding: micros times the octets of a unit."""
        counted = -(-octets // self.unit_octets) * self.unit_octets if self.whole_units else octets
        if len(self.steps) == 1:
            return counted * self.steps[0].amount
        return self._volume(counted) if self.volume else self._graduated(counted)

    def octets_within(self, micros: int) -> int | None:
        """The most octets whose exact price is within `micros`; None when any number is.

        Exact, so that what rounding gives away is never a reason to let more traffic pass.
        """
        return self._within(micros * self.unit_octets)

    def octets_to_reach(self, micros: int) -> int | None:
        """The fewest octets that cost `micros` or more; None when no number does."""
        octets = self._within(micros * self.unit_octets - 1) if micros > 0 else -1
        return None if octets is None else octets + 1

    def _within(self, shares: int) -> int | None:
        octets = self._volume_within(shares) if self.volume else self._graduated_within(shares)
        if octets is None or not self.whole_units:
            return octets
        return octets // self.unit_octets * self.unit_octets

    def _graduated(self, octets: int) -> int:
        return sum(
            ((octets if step.end is None else min(octets, step.end)) - step.start) * step.amount
            for step in self.steps
            if octets > step.start
        )

    def _volume(self, octets: int) -> int:
        # Where a dearer tier ends below what a cheaper one begins with, the price stays level until that catches up.
        reached = (step for step in self.steps if octets > step.start)
        return max(
            ((octets if step.end is None else min(octets, step.end)) * step.amount for step in reached), default=0
        )

    def _graduated_within(self, shares: int) -> int | None:
        for step in self.steps:
            if step.end is None or (step.end - step.start) * step.amount > shares:
                return step.start + shares // step.amount if step.amount else None
            shares -= (step.end - step.start) * step.amount
        return None

    def _volume_within(self, shares: int) -> int | None:
        octets = 0
        for step in self.steps:
            most = shares // step.amount if step.amount else None
            if step.end is None and most is None:
                return None
            limit = min(limit for limit in (step.end, most) if limit is not None)
            if limit <= step.start:
                return octets
            octets = limit
            if limit != step.end:
                break
        return octets


def curve_of(price: UsagePrice) -> Curve:
    """The curve of a usage price."""
    starts = [0, *(tier.above for tier in price.tiers)]
    ends = [*starts[1:], None]
    amounts = [price.amount, *(tier.amount for tier in price.tiers)]
    steps = tuple(Step(*parts) for parts in zip(starts, ends, amounts, strict=True))
    unit = price.per_connections if price.unit == "connection" else price.per_octets
    return Curve(unit, steps, price.tier_mode == "volume", price.whole_units)
