"""Late flows, slow and obvious, on top of the reference model: from the words of docs/tariffs.md, no code shared.

A flow that is told late meets what it would have met when it happened: what was held then, lots that were valid then,
totals and caps of its own cycle. But of lots and money it finds what is left of them now.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from tests.engine.reference import Reference, Traffic
from tests.engine.reference_holdings import is_share_in

DAY = timedelta(days=1)
TREATMENTS = ("charged", "free", "sponsored", "blocked")

Thing = dict[str, Any]


class LateReference(Reference):
    """An account that takes flows of a time that has passed, as long as it knows what was there."""

    def __init__(self, *account: Any) -> None:
        super().__init__(*account)
        self.created = self.now
        self.gone_lots: list[Thing] = []
        self.gone_products: list[Thing] = []
        self.terms: list[tuple[str, datetime, dict[Any, int]]] = []
        self.before: Thing = {}
        self.drawn: Counter[str] = Counter()
        self.not_charged = 0

    def flow(self, octets: int, traffic: Traffic, at: datetime, lasts_ms: int = 0) -> dict[str, int]:
        """As `Reference.flow`, at any time; what is too late for it is `not_charged`, and `drawn` says from where."""
        self.drawn.clear()
        self.not_charged = 0
        if at >= self.now:
            return super().flow(octets, traffic, at, lasts_ms)
        if self.is_too_late(at):
            self.not_charged = octets
            return dict.fromkeys([*TREATMENTS, "money", "connection", "sponsored connections"], 0)
        with self.as_it_stood(at):
            return super().flow(octets, traffic, at, lasts_ms)

    # -- which time it is of

    def is_too_late(self, at: datetime) -> bool:
        """Whether it is of a cycle that takes no flows any more; before the account there was none."""
        known = self.before["start"] if self.knows_cycle_before() else self.cycle_start
        return self.created <= at < known

    def is_of_cycle_before(self, at: datetime) -> bool:
        return self.knows_cycle_before() and self.created <= at < self.cycle_start

    def knows_cycle_before(self) -> bool:
        """For a day after its end."""
        return bool(self.before) and self.now < self.cycle_start + DAY

    # -- what there was

    @contextmanager
    def as_it_stood(self, at: datetime) -> Iterator[None]:
        """Let the account be what it was; what it loses meanwhile, it loses now."""
        now, products, lots, purses = self.now, self.products, self.lots, self.purses
        present: Thing = {"totals": self.totals, "spent": self.spent, "raised": self.raised, "terms": self.terms}
        past = self.is_of_cycle_before(at)
        cycle = self.before if past else present
        later = {item["id"] for item in products if item["first"] <= at < item["start"]}
        self.products = [*products, *self.kept(self.gone_products, at)]
        if past:
            self.products = [{**item, "suspended": False} for item in self.products if self.was_held(item, at)]
        # What came later in the present cycle serves all of it, but for what another term brought.
        later_on = [thing for thing in (*lots, *purses) if thing["start"] > at and (past or thing["product"] in later)]
        self.lots = [lot for lot in lots if lot not in later_on] + self.kept(self.gone_lots, at)
        self.purses = [purse for purse in purses if purse not in later_on]
        self.now, self.spent, self.raised = at, cycle["spent"], cycle["raised"]
        shares = self.shares_then(cycle, later, at, past=past)
        self.totals = {key: n for key, n in cycle["totals"].items() if not is_share_of(key, shares)}
        for term in shares.values():
            self.totals |= term
        yield
        for name, term in shares.items():
            term |= {key: n for key, n in self.totals.items() if is_share_in(key, name)}
        others = {key: n for key, n in cycle["totals"].items() if is_share_of(key, shares)}
        cycle["totals"] = others | {key: n for key, n in self.totals.items() if not is_share_of(key, shares)}
        cycle["spent"] = self.spent
        self.totals, self.spent, self.raised = present["totals"], present["spent"], present["raised"]
        self.now, self.products, self.lots, self.purses = now, products, lots, purses

    def was_held(self, product: Thing, at: datetime) -> bool:
        """In the cycle before: from its first term on, unless it has never begun, or slept all of that cycle and since.

        Once it has resumed, nobody knows for how long it had slept.
        """
        slept = product["suspended"] and product["id"] in self.before["asleep"]
        return product["first"] <= at and not slept and not product["waits"] and product["follows"] is None

    def kept(self, gone: list[Thing], at: datetime) -> list[Thing]:
        """What was there then and has ended since, but less than a day ago."""
        return [item for item in gone if item["start"] <= at < item["end"] and self.now < item["end"] + DAY]

    def shares_then(self, cycle: Thing, later: set[str], at: datetime, *, past: bool) -> dict[str, dict[Any, int]]:
        """Of products that are in a later term now, what members had drawn in the term of then, in its cycle."""
        found: dict[str, dict[Any, int]] = {}
        for name in later:
            terms = [shares for product, end, shares in cycle["terms"] if product == name and end > at]
            if terms:
                found[name] = terms[0]
            elif not past:
                # In an earlier cycle the term was another one; of this cycle nothing is known of it.
                found[name] = {}
        return found

    # -- what goes is kept for a day

    def end(self, product: Thing, *, by_order: bool, by_itself: bool = False) -> None:
        lots = [lot for lot in self.lots if lot["product"] == product["id"]]
        super().end(product, by_order=by_order, by_itself=by_itself)
        if not product["waits"]:
            self.gone_products.append({**product, "end": self.now})
        self.keep_for_a_day(lots)

    def come_due(self) -> None:
        lots = self.lots
        super().come_due()
        still = [id(lot) for lot in (*self.lots, *self.gone_lots)]
        self.keep_for_a_day([lot for lot in lots if id(lot) not in still])

    def keep_for_a_day(self, lots: list[Thing]) -> None:
        """What is taken away before its end, ends then."""
        for lot in lots:
            lot["end"] = min(lot["end"] or self.now, self.now)
        self.gone_lots += lots

    def keep_of(self, lot: Thing, end: datetime) -> None:
        """What stays is not left in what ends; late flows find both, and where nothing stays, only that."""
        before = len(self.lots)
        super().keep_of(lot, end)
        stays = sum(item["left"] for item in self.lots[before:])
        lot["left"] -= stays
        lot["granted"] -= stays
        if not stays:
            del self.lots[before:]

    def begin_again(self, product: Thing, gone: list[Thing]) -> None:
        """A term brings shares anew. What was drawn in the one before is known for a day, that it ended for a cycle."""
        shares = {key: total for key, total in self.totals.items() if is_share_in(key, product["id"])}
        number = len(self.products)
        super().begin_again(product, gone)
        if len(self.products) > number:
            self.terms = [(name, end, found if end + DAY > self.now else {}) for name, end, found in self.terms]
            self.terms.append((product["id"], self.now, shares))

    def renew(self) -> None:
        before = {"start": self.cycle_start, "totals": self.totals, "spent": self.spent, "raised": self.raised}
        asleep = {item["id"] for item in (*self.products, *self.gone_products) if item["suspended"]}
        self.before = {**before, "terms": self.terms, "asleep": asleep}
        self.terms = []
        super().renew()

    # -- from where

    def draw(self, lot: Thing, member: str) -> str | Thing:
        what = super().draw(lot, member)
        if what == "charged":
            self.drawn[lot["bucket"]] += 1
        return what

    def draw_time(self, lot: Thing, member: str, until: int) -> None:
        before = lot["left"]
        super().draw_time(lot, member, until)
        self.drawn[lot["bucket"]] += before - lot["left"]


def is_share_of(key: Any, products: Any) -> bool:
    return any(is_share_in(key, name) for name in products)
