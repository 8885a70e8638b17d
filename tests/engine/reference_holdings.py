"""What an account holds, and what it costs to hold it: the half of the reference model that is not about octets.

Products, their prices, grants and refunds, cycles and terms, from the words of docs/tariffs.md.
"""

import copy
from datetime import date, datetime, timedelta
from typing import Any

from tests.engine.reference_times import clock, cycle_of, days_after, end_of_term


class ReferenceHoldings:
    """One account, but for its flows."""

    def __init__(
        self,
        tariff: dict[str, Any],
        categories: dict[str, str],
        payment: str,
        at: datetime,
        days: tuple[str, int] = ("UTC", 1),
    ) -> None:
        """`days` is the zone that days are counted in, and the day of the month on which cycles begin."""
        self.offerings = {item["id"]: item for item in tariff["offerings"]}
        self.rules = {item["id"]: item for item in tariff["rules"]}
        self.campaigns = {item["id"]: item for item in tariff["campaigns"]}
        self.zones = tariff.get("zones", [])
        self.min_confidence = tariff["min_confidence"]
        self.categories = categories
        self.prepaid = payment == "prepaid"
        self.balance = 0
        self.billed = 0
        self.products: list[dict[str, Any]] = []
        self.lots: list[dict[str, Any]] = []
        self.purses: list[dict[str, Any]] = []
        self.totals: dict[Any, int] = {}
        self.limit: int | None = None
        self.raised: dict[Any, int | None] = {}
        self.spent = 0
        self.left: list[tuple[str, Any]] = []
        self.over: list[tuple[str, datetime]] = []
        self.clock = 0
        self.paid_to: int | None = None
        self.now, (self.zone, self.anchor) = at, days
        self.cycle_start, self.cycle_end = cycle_of(at, self.zone, self.anchor)
        self.whole_days = self.days_between(self.cycle_start, self.cycle_end)

    # -- what can happen

    def set_anchor(self, day: int, at: datetime) -> None:
        """Cycles begin on another day of the month, after this one."""
        self.credit(0, at)
        self.anchor = day

    def credit(self, micros: int, at: datetime) -> None:
        self.pass_time(at)
        self.balance += micros
        for product in self.products:
            if product["suspended"]:
                self.resume(product)

    def buy(
        self, offering_id: str, product_id: str, at: datetime, *, renews: bool = True, later: bool = False,
        replaces: str | None = None,
    ) -> str | None:  # fmt: skip
        """Why not, or None; `later` is with the next cycle, and what it replaces ends when it begins."""
        self.pass_time(at)
        start = self.cycle_end if later else at
        others = [item for item in self.products if item["id"] != replaces]
        there = [item["offering"] for item in others if item["renews"] or not item["end"] or item["end"] > start]
        if not self.may_stand_on(offering_id, there):
            return "requires"
        product = self.made(offering_id, product_id, start)
        product |= {"renews": renews, "waits": later, "follows": replaces}
        if later:
            self.products.append(product)
            return None
        if not copy.deepcopy(self).take(copy.deepcopy(product)):
            return "insufficient_balance"
        self.take(product)
        self.end_orphans(by_itself=False)
        return None

    def take(self, product: dict[str, Any]) -> bool:
        """Begin a product now, in the place of the one that it follows."""
        for item in [item for item in self.products if item["id"] == product["follows"]]:
            self.end(item, by_order=True)
        if not self.begin(product):
            return False
        self.products.append(product)
        return True

    def made(self, offering_id: str, product_id: str, start: datetime) -> dict[str, Any]:
        offering = self.offerings[offering_id]
        end = end_of_term(start, offering, self.zone) if offering.get("term_days") else None
        dates = {"start": start, "first": start, "end": end}
        return {"id": product_id, "offering": offering_id, **dates, "suspended": False, "paid": []}

    def begin(self, product: dict[str, Any]) -> bool:
        if not self.pay(product, ["one_time", "recurring"]):
            return False
        product |= {"waits": False, "follows": None}
        self.grant(product, ["cycle", "once"])
        return True

    def resume(self, product: dict[str, Any]) -> None:
        """Go on with what could not be paid, or begin what never could."""
        if product["follows"] is None:
            product["suspended"] = not self.pay(product, ["recurring"])
            if not product["suspended"]:
                self.grant(product, ["cycle"])
            return
        fresh = {**product, **self.made(product["offering"], product["id"], self.now)}
        if self.begin(fresh):
            product.update(fresh)

    def cancel(self, product_id: str, at: datetime, *, later: bool = False) -> None:
        self.pass_time(at)
        for product in [product for product in self.products if product["id"] == product_id]:
            if later and not product["suspended"] and not product["waits"]:
                product["end"] = self.ends(product)
                product["renews"] = False
            else:
                self.end(product, by_order=True)
                self.end_orphans(by_itself=False)

    def end(self, product: dict[str, Any], *, by_order: bool, by_itself: bool = False) -> None:
        """Take a product away; by order with its refund, and with all that was charged by itself just now."""
        if by_order:
            self.give_back(product, whole=by_itself)
        if not product["waits"]:
            self.leave(product)
            self.over.append((product["offering"], self.now))
        name = product["id"]
        self.products = [item for item in self.products if item["id"] != name]
        self.lots = [lot for lot in self.lots if lot["product"] != name]
        self.purses = [purse for purse in self.purses if purse["product"] != name]

    def end_orphans(self, *, by_itself: bool, staying: tuple[str, ...] = ()) -> None:
        """What requires something that has just gone, and has nothing else to stand on, goes as well."""
        gone = [offering for offering, at in self.over if at == self.now]
        for product in list(self.products):
            others = [item["offering"] for item in self.products if item["id"] != product["id"]]
            stands = self.may_stand_on(product["offering"], [*others, *staying])
            if not stands and any(name in gone for name in self.offerings[product["offering"]]["requires"]):
                self.end(product, by_order=True, by_itself=by_itself)
                return self.end_orphans(by_itself=by_itself, staying=staying)
        return None

    def may_stand_on(self, offering_id: str, there: list[str]) -> bool:
        wanted = self.offerings[offering_id]["requires"]
        return not wanted or any(name in there for name in wanted)

    def set_renewal(self, product_id: str, renews: bool, at: datetime) -> None:
        self.pass_time(at)
        for product in self.products:
            if product["id"] == product_id:
                product["renews"] = renews

    def set_limit(self, micros: int | None, at: datetime) -> None:
        self.pass_time(at)
        self.limit = micros
        self.raised.pop("limit", None)

    def raise_cap(self, price_id: str | None, micros: int | None, at: datetime, of: str | None = None) -> str | None:
        """Why not, or None: nothing can be raised, several are meant, or the new cap is not above the old."""
        self.pass_time(at)
        present = {}
        if price_id is None and self.cap("limit", self.limit) is not None:
            present["limit"] = self.cap("limit", self.limit)
        for product in self.products:
            for price in self.offerings[product["offering"]].get("usage_prices", []):
                key = (product["offering"], price["id"])
                meant = price["id"] == price_id and of in (None, product["offering"])
                if meant and price["on_cap"] == "block" and self.cap(key, price["cap"]) is not None:
                    present[key] = self.cap(key, price["cap"])
        if not present:
            return "no_cap"
        if len(present) > 1:
            return "ambiguous_cap"
        if micros is not None and any(cap is not None and micros <= cap for cap in present.values()):
            return "amount"
        self.raised |= dict.fromkeys(present, micros)
        return None

    def cap(self, key: Any, declared: int | None) -> int | None:
        """What a cap is in this cycle."""
        return self.raised.get(key, declared) if declared is not None else None

    # -- time

    def pass_time(self, until: datetime) -> None:
        while True:
            ends = [product["end"] for product in self.products if product["end"]]
            ends += [lot["end"] for lot in (*self.lots, *self.purses) if lot["end"]] + [self.cycle_end]
            due = min(ends)
            if due > until:
                break
            self.now = due
            self.come_due()
        self.now = until

    def come_due(self) -> None:
        coming = [item for item in self.products if item["waits"] and item["start"] <= self.now]
        for product in [item for item in self.products if item["id"] in [other["follows"] for other in coming]]:
            self.end(product, by_order=True)
        ending = [product for product in self.products if product["end"] and product["end"] <= self.now]
        gone = [lot for lot in self.lots if lot["product"] in [product["id"] for product in ending]]
        for product in ending:
            self.end(product, by_order=False)
        again = [product for product in ending if self.goes_on(product)]
        self.end_orphans(by_itself=True, staying=tuple(product["offering"] for product in again))
        if self.cycle_end <= self.now:
            self.renew()
        self.lots = [lot for lot in self.lots if not lot["end"] or lot["end"] > self.now]
        self.purses = [purse for purse in self.purses if not purse["end"] or purse["end"] > self.now]
        for product in again:
            self.begin_again(product, [lot for lot in gone if lot["product"] == product["id"]])
        for product in coming:
            self.begin_at_last(product)
        self.end_orphans(by_itself=True)

    def begin_at_last(self, product: dict[str, Any]) -> None:
        """What was ordered for now; without the money it is dropped, unless it has taken another's place."""
        if all(item["id"] != product["id"] for item in self.products):
            return
        if self.begin(product):
            return
        if product["follows"] is None:
            product["waits"] = False
            self.end(product, by_order=False)
        else:
            product |= {"suspended": True, "waits": False}

    def goes_on(self, product: dict[str, Any]) -> bool:
        return bool(product["renews"] and self.offerings[product["offering"]].get("renewal") == "automatic")

    def begin_again(self, product: dict[str, Any], gone: list[dict[str, Any]]) -> None:
        """Order it once more, by itself: if its subscriber wants it, and money and limit allow it."""
        offering = self.offerings[product["offering"]]
        if product["suspended"] or not self.may_stand_on(offering["id"], [item["offering"] for item in self.products]):
            return
        fresh = {**product, "start": self.now, "end": self.next_end(product)}
        costs = sum(self.fee(price, fresh)["micros"] for price in offering.get("prices", []))
        limit = self.cap("limit", self.limit)
        if limit is not None and costs and self.spent + costs > limit:
            return
        if not self.pay(fresh, ["one_time", "recurring"]):
            return
        self.products.append(fresh)
        self.totals = {key: total for key, total in self.totals.items() if not is_share_in(key, product["id"])}
        for lot in gone:
            end = fresh["end"] if lot["allowance"].get("validity") == "once" else self.ends(fresh)
            self.keep_of(lot, end)
        self.grant(fresh, ["cycle", "once"])

    def keep_of(self, lot: dict[str, Any], end: datetime) -> None:
        """What stays of a lot that ends, as a lot of its own."""
        rollover = lot["allowance"].get("rollover")
        if rollover and not lot["rolled"]:
            keep = min([lot["left"] * rollover["percent"] // 100, *most_of(rollover, "octets", "seconds")])
            self.lots.append({**lot, "left": keep, "granted": keep, "end": end, "rolled": True})

    def renew(self) -> None:
        begin, self.cycle_end = cycle_of(self.now, self.zone, self.anchor)
        # It began at another anchor where that was changed; then it is a part of a whole one.
        self.cycle_start, self.whole_days = self.now, self.days_between(begin, self.cycle_end)
        self.totals = {}
        self.raised = {}
        self.spent = 0
        ending = [lot for lot in self.lots if lot["end"] and lot["end"] <= self.now]
        for product in self.products:
            if product["waits"]:
                continue
            if product["suspended"] and product["follows"]:
                self.resume(product)
                continue
            product["suspended"] = not self.pay(product, ["recurring"])
            if product["suspended"]:
                continue
            for lot in ending:
                if lot["product"] == product["id"]:
                    self.keep_of(lot, self.ends(product))
            self.grant(product, ["cycle"])

    def grant(self, product: dict[str, Any], validities: list[str]) -> None:
        for allowance in self.offerings[product["offering"]]["allowances"]:
            validity = allowance.get("validity", "cycle")
            if validity in validities:
                end = self.ends(product) if validity == "cycle" else product["end"]
                lot = {"bucket": f"{product['id']}/{allowance['id']}", "allowance": allowance, "rolled": False}
                amount = most_of(allowance, "octets", "seconds")[0]
                amount = self.part(amount) if validity == "cycle" else amount
                lot |= {"product": product["id"], "offering": product["offering"], "left": amount, "granted": amount}
                self.lots.append({**lot, "start": self.now, "end": end})

        for money in self.offerings[product["offering"]].get("money_allowances", []):
            if money["validity"] in validities:
                end = self.ends(product) if money["validity"] == "cycle" else product["end"]
                purse = {"bucket": f"{product['id']}/{money['id']}", "allowance": money, "product": product["id"]}
                amount = self.part(money["amount"]) if money["validity"] == "cycle" else money["amount"]
                self.purses.append({**purse, "left": amount, "granted": amount, "start": self.now, "end": end})

    def part(self, amount: int) -> int:
        """What of the amount of a whole cycle is for the present one."""
        return amount * self.days_between(self.cycle_start, self.cycle_end) // self.whole_days

    def days_between(self, start: datetime, end: datetime) -> int:
        return (clock(end, self.zone).date() - clock(start, self.zone).date()).days

    def today(self) -> date:
        return clock(self.now, self.zone).date()

    def next_end(self, product: dict[str, Any]) -> datetime:
        """The end of the term that begins now: terms are counted from the first, whatever the clocks do."""
        offering = self.offerings[product["offering"]]
        if offering.get("anchor") == "calendar":
            return end_of_term(self.now, offering, self.zone)
        terms, days = 1, offering["term_days"]
        while days_after(product["first"], terms * days, self.zone) <= self.now:
            terms += 1
        return days_after(product["first"], terms * days, self.zone)

    def ends(self, product: dict[str, Any]) -> datetime:
        return min(self.cycle_end, product["end"]) if product["end"] else self.cycle_end

    def pay(self, product: dict[str, Any], kinds: list[str]) -> bool:
        prices = [price for price in self.offerings[product["offering"]].get("prices", []) if price["type"] in kinds]
        paid = [self.fee(price, product) for price in prices]
        amount = sum(fee["micros"] for fee in paid)
        if self.prepaid and amount > self.balance:
            return False
        if self.prepaid:
            self.balance -= amount
        product["paid"] = [fee for fee in paid if fee["micros"] or fee["price"]["amount"]]
        return True

    def fee(self, price: dict[str, Any], product: dict[str, Any]) -> dict[str, Any]:
        """What a flat price comes to now, and the days that it pays for."""
        first = self.today()
        if price.get("proration") == "daily" and self.is_paid_today(product):
            first += timedelta(days=1)
        end = clock(self.ends(product), self.zone).date()
        days = max(0, (end - first).days)
        micros = price["amount"]
        if price.get("proration") == "daily":
            micros = micros * days // self.whole_days
        elif price["type"] == "recurring":
            micros = self.part(micros)
        return {"price": price, "micros": micros, "days": days, "first": first, "end": end, "at": self.now}

    def is_paid_today(self, product: dict[str, Any]) -> bool:
        """One that left today had paid for the day, and nobody else has taken its place for that."""
        today, offering = self.today(), product["offering"]
        others = [held for held in self.products if held["id"] != product["id"] and held["offering"] == offering]
        taken = [held for held in others if any(fee["first"] > today for fee in held["paid"])]
        return self.left.count((offering, today)) > len(taken)

    def give_back(self, product: dict[str, Any], *, whole: bool) -> None:
        tomorrow = self.today() + timedelta(days=1)
        for fee in product["paid"]:
            if whole and fee["at"] == self.now and self.prepaid:
                self.balance += fee["micros"]
            elif fee["price"].get("refund") == "daily" and fee["days"] and self.prepaid:
                left = min(fee["days"], max(0, (fee["end"] - tomorrow).days))
                self.balance += fee["micros"] * left // fee["days"]

    def leave(self, product: dict[str, Any]) -> None:
        today = self.today()
        recurring = [fee for fee in product["paid"] if fee["price"]["type"] == "recurring"]
        if any(fee["first"] <= today < fee["end"] for fee in recurring):
            self.left.append((product["offering"], today))


def most_of(words: dict[str, Any], octets: str, seconds: str) -> list[int]:
    """The amounts that are given under these names: octets as they are, seconds in milliseconds."""
    given = [words[octets]] if words.get(octets) is not None else []
    return given + ([words[seconds] * 1000] if words.get(seconds) is not None else [])


def is_share_in(key: Any, product_id: str) -> bool:
    """Whether a total is what a member has drawn from an allowance of the product."""
    return bool(key[0] == "share") and str(key[1]).startswith(f"{product_id}/")
