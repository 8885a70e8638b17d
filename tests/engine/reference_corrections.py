"""Corrections, slow and obvious, on top of the reference model: from the words of docs/tariffs.md, no code shared.

What the octets of a flow did is noted on a receipt, and what its connection did on another. Taking back undoes a
receipt; charging again lets the same happen once more, at its own time, under the tariff of now.
"""

from collections import Counter
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from tests.engine.reference import Reference, Traffic
from tests.engine.reference_holdings import is_share_in
from tests.engine.reference_prices import exact_price, whole
from tests.engine.reference_times import first_ms_after

DAY = timedelta(days=1)

Receipt = dict[str, Any]


class CorrectedReference(Reference):
    """An account whose flows of the open cycle can be refunded, voided, and charged again."""

    def __init__(self, *account: Any) -> None:
        super().__init__(*account)
        self.receipts: list[Receipt] = []
        self.receipt: Receipt = {}
        self.cost: Counter[Any] = Counter()
        self.gone_lots: list[dict[str, Any]] = []
        self.gone_products: list[dict[str, Any]] = []
        self.shares_until: dict[str, list[tuple[datetime, dict[Any, int]]]] = {}
        self.written = 0

    # -- what can be ordered

    def void(self, receipt: Receipt, at: datetime) -> None:
        self.pass_time(at)
        self.take_back(receipt)
        self.resume_all()

    def rerate(self, receipts: list[Receipt], at: datetime) -> None:
        """Everything is taken back first, the latest first; then everything happens again, the earliest first."""
        self.pass_time(at)
        receipts = sorted(receipts, key=lambda receipt: (receipt["at"], receipt["number"]))
        left = [(receipt, self.take_back(receipt)) for receipt in receipts[::-1]]
        for receipt, number in left[::-1]:
            self.again(receipt, number)
        self.resume_all()

    def refund(self, receipt: Receipt, micros: int, octets: int, ms: int, at: datetime) -> None:
        """Give back a part, and what was taken last first. The usage stays, and so do the totals of the prices."""
        self.pass_time(at)
        for name, amount in (("drawn", octets), ("drawn_ms", ms)):
            left = amount
            for bucket, most in reversed(receipt[name].items()):
                self.put_back(bucket, min(left, most), receipt)
                left -= min(left, most)
        self.give(receipt, micros)
        self.resume_all()

    def publish(self, tariff: dict[str, Any], at: datetime) -> None:
        """Go on under another catalogue; what is held stays held, under its new words."""
        self.pass_time(at)
        self.offerings = {item["id"]: item for item in tariff["offerings"]}
        self.rules = {item["id"]: item for item in tariff["rules"]}
        for thing in (*self.lots, *self.gone_lots, *self.purses):
            offering_id = next(item["offering"] for item in self.known_products() if item["id"] == thing["product"])
            offering = self.offerings[offering_id]
            allowances = [*offering["allowances"], *offering.get("money_allowances", [])]
            thing["allowance"] = next(item for item in allowances if item["id"] == thing["allowance"]["id"])

    def known_products(self) -> list[dict[str, Any]]:
        return [*self.products, *self.gone_products]

    def is_open(self, receipt: Receipt) -> bool:
        """Only usage of the open cycle is corrected, and nothing that was paid by granted money that is gone."""
        held = [purse["bucket"] for purse in self.purses if not self.is_of_later_term(purse, receipt["at"])]
        return receipt["at"] >= self.cycle_start and all(bucket in held for bucket in receipt["purses"])

    # -- receipts

    def flow(self, octets: int, traffic: Traffic, at: datetime, lasts_ms: int = 0) -> dict[str, int]:
        self.pass_time(at)
        self.write(traffic, octets, lasts_ms)
        seen = super().flow(octets, traffic, at, lasts_ms)
        self.file()
        return seen

    def new_receipts(self) -> list[Receipt]:
        """Those that were written since this was last asked."""
        new, self.written = self.receipts[self.written :], len(self.receipts)
        return new

    def write(self, traffic: Traffic, volume: int = 0, lasts_ms: int = 0) -> None:
        """Begin a receipt of a flow of so many octets in so much time."""
        self.receipt = {
            "traffic": traffic, "at": self.now, "octets": 0, "connections": 0, "drawn": Counter(), "sold": Counter(),
            "micros": 0, "purses": Counter(), "campaigns": Counter(), "volume": volume, "lasts": lasts_ms,
            "timed": 0, "drawn_ms": Counter(),
        }  # fmt: skip

    def file(self) -> None:
        """Keep the receipt, unless nothing came of it."""
        if self.receipt["octets"] or self.receipt["connections"]:
            self.receipts.append({**self.receipt, "number": len(self.receipts)})

    def pass_octet(self, traffic: Traffic, passes_at: int) -> str:
        before = self.receipt["octets"]
        what = super().pass_octet(traffic, passes_at)
        if what == "charged" and self.receipt["octets"] == before:
            self.receipt["octets"] += 1
            self.receipt["timed"] += 1
        return what

    def octet(self, traffic: Traffic) -> str | dict[str, Any]:
        what = super().octet(traffic)
        self.receipt["octets"] += what in ("charged", "free", "sponsored")
        return what

    def draw_time(self, lot: dict[str, Any], member: str, until: int) -> None:
        before = lot["left"]
        super().draw_time(lot, member, until)
        self.receipt["drawn_ms"][lot["bucket"]] += before - lot["left"]

    def connect(self, traffic: Traffic) -> None:
        """What comes of a connection stands on a receipt of its own."""
        self.file()
        self.write(traffic)
        before = dict(self.totals)
        micros = self.billed
        super().connect(traffic)
        self.note_sale(before, self.billed - micros)
        self.receipt["connections"] = sum(self.receipt["sold"].values())

    def draw(self, lot: dict[str, Any], member: str) -> str | dict[str, Any]:
        what = super().draw(lot, member)
        if what == "charged":
            self.receipt["drawn"][lot["bucket"]] += 1
        return what

    def sponsor_pays(self, campaign_id: str, member: str) -> bool:
        pays = super().sponsor_pays(campaign_id, member)
        self.receipt["campaigns"][campaign_id] += pays
        return pays

    def sell(self, traffic: Traffic, kept_back: int) -> str:
        before, micros = dict(self.totals), self.billed
        what = super().sell(traffic, kept_back)
        self.note_sale(before, self.billed - micros)
        return what

    def note_sale(self, before: dict[Any, int], micros: int) -> None:
        """Note which price's total has risen, and what it cost."""
        for key, number in self.totals.items():
            if key[0] == "price" and number != before.get(key, 0):
                self.receipt["sold"][key] += number - before.get(key, 0)
                self.cost[key] += micros

    def spent_on(self, key: Any, _costs: int) -> int:
        return self.cost[key]

    def bill(self, micros: int, traffic: Traffic) -> None:
        order = [purse["bucket"] for purse in self.paying(traffic)]
        before = {bucket: self.money_in(bucket) for bucket in order}
        super().bill(micros, traffic)
        self.receipt["micros"] += micros
        for bucket, held in before.items():
            if held != self.money_in(bucket):
                self.receipt["purses"][bucket] += held - self.money_in(bucket)

    def money_in(self, bucket: str) -> int:
        return sum(purse["left"] for purse in self.purses if purse["bucket"] == bucket)

    # -- what has ended serves usage of its own time for a day

    def leave(self, product: dict[str, Any]) -> None:
        super().leave(product)
        self.gone_products.append({**product, "end": self.now})
        self.gone_lots += [
            {**lot, "end": min(lot["end"] or self.now, self.now)}
            for lot in self.lots
            if lot["product"] == product["id"]
        ]

    def begin_again(self, product: dict[str, Any], gone: list[dict[str, Any]]) -> None:
        shares = {key: total for key, total in self.totals.items() if is_share_in(key, product["id"])}
        super().begin_again(product, gone)
        for held in self.products:
            if held["id"] == product["id"]:
                # What members had drawn in a term that is over is known for a day, and its end for a cycle.
                before = self.shares_until.get(held["id"], [])
                known = [(end, found if end + DAY > self.now else {}) for end, found in before]
                self.shares_until[held["id"]] = [*known, (self.now, shares)]

    def shares_then(self, product_id: str, at: datetime) -> dict[Any, int]:
        """The shares of the term that held a time and is over; of a term that ended in an earlier cycle, none."""
        return next((shares for end, shares in self.shares_until.get(product_id, []) if end > at), {})

    def keep_of(self, lot: dict[str, Any], end: datetime) -> None:
        """What is kept for the next term is not left in this one."""
        before = len(self.lots)
        super().keep_of(lot, end)
        kept = sum(stays["left"] for stays in self.lots[before:])
        for ended in self.gone_lots:
            if (ended["bucket"], ended["start"], ended["end"]) == (lot["bucket"], lot["start"], self.now):
                ended["left"] -= 0 if ended["rolled"] else kept

    def renew(self) -> None:
        self.shares_until = {}
        self.cost.clear()
        super().renew()

    def kept(self, gone: list[dict[str, Any]], at: datetime) -> list[dict[str, Any]]:
        """What was there at a time and has ended since, but less than a day ago."""
        return [item for item in gone if item["start"] <= at < item["end"] and self.now < item["end"] + DAY]

    # -- back

    def take_back(self, receipt: Receipt) -> int:
        """Undo a receipt; returns the octets or connections that are to happen again."""
        lost = sum(octets - self.put_back(bucket, octets, receipt) for bucket, octets in receipt["drawn"].items())
        lost_ms = sum(ms - self.put_back(bucket, ms, receipt) for bucket, ms in receipt["drawn_ms"].items())
        if lost_ms:
            # Time that finds no place keeps its share of the octets that it paid for.
            lost += receipt["timed"] * lost_ms // sum(receipt["drawn_ms"].values())
        back = sum(self.unsell(key, number, receipt) for key, number in receipt["sold"].items())
        self.spent -= self.give(receipt, back)
        for campaign_id, octets in receipt["campaigns"].items():
            key = ("campaign", campaign_id, receipt["traffic"]["member"])
            self.totals[key] = max(0, self.totals.get(key, 0) - octets)
        return int(receipt["connections"] or receipt["octets"] - lost)

    def put_back(self, bucket: str, amount: int, receipt: Receipt) -> int:
        """Put octets, or milliseconds, into the lots of the bucket that are drawn last; returns what has found room."""
        at, member, left = receipt["at"], receipt["traffic"]["member"], amount
        gone = [lot for lot in self.gone_lots if self.now < lot["end"] + DAY]
        for lot in [*self.drawing_order()[::-1], *gone[::-1]]:
            is_there = (lot["end"] is None or at < lot["end"]) and not self.is_of_later_term(lot, at)
            if lot["bucket"] == bucket and is_there:
                part = min(left, lot["granted"] - lot["left"])
                lot["left"] += part
                left -= part
        # A term that has begun since has shares of its own.
        product_id = bucket.rpartition("/")[0]
        totals = self.shares_then(product_id, at) if self.is_renewed(product_id, at) else self.totals
        totals["share", bucket, member] = max(0, totals.get(("share", bucket, member), 0) - (amount - left))
        return amount - left

    def is_of_later_term(self, thing: dict[str, Any], at: datetime) -> bool:
        """Whether a lot or a purse began after a time, and its product was renewed in between."""
        return thing["start"] > at and self.is_renewed(thing["product"], at)

    def is_renewed(self, product_id: str, at: datetime) -> bool:
        """Whether a product is in a later term than it was in at a time."""
        held = [item for item in self.products if item["id"] == product_id]
        return any(item["first"] <= at < item["start"] for item in held)

    def unsell(self, key: Any, number: int, receipt: Receipt) -> int:
        """Take octets or connections out of the cycle's total; what it costs less without them.

        Where the price has changed since, that is what was paid.
        """
        total, cost = self.totals[key], self.cost[key]
        prices = self.offerings[key[1]].get("usage_prices", [])
        price = next((price for price in prices if price["id"] == key[2]), None)
        back = min(receipt["micros"], cost)
        if price is not None and cost == whole(exact_price(price, total)):
            back = cost - whole(exact_price(price, total - number))
        self.totals[key] = total - number
        self.cost[key] = cost - back
        return back

    def give(self, receipt: Receipt, micros: int) -> int:
        """Give money back: own money first, then to the purses that paid; returns the subscriber's own part.

        What is more than the receipt says was paid for dearer octets, by purses as far as any has paid.
        """
        own = min(micros, receipt["micros"] - sum(receipt["purses"].values()))
        left = micros - own
        paid = list(receipt["purses"].items())[::-1]
        for bucket, most in paid + [(purse["bucket"], micros) for purse in self.purses]:
            left -= self.refill(bucket, min(most, left))
        if self.prepaid:
            self.balance += own + left
        return own + left

    def refill(self, bucket: str, micros: int) -> int:
        """Put money back into a purse, never above what was granted; returns what found room."""
        room = micros
        for purse in self.purses:
            if purse["bucket"] == bucket:
                part = min(room, purse["granted"] - purse["left"])
                purse["left"] += part
                room -= part
        return micros - room

    # -- again

    def again(self, receipt: Receipt, number: int) -> None:
        """Let octets or connections happen once more, at their time: with what was held then, and has come since.

        But nothing of a term that has begun since, and it counts for the shares of its own term.
        """
        now, lots, products, purses, at = self.now, self.lots, self.products, self.purses, receipt["at"]
        renewed = [product["id"] for product in products if self.is_renewed(product["id"], at)]
        shares = {key: total for key, total in self.totals.items() if any(is_share_in(key, name) for name in renewed)}
        self.totals = {key: total for key, total in self.totals.items() if key not in shares}
        for name in renewed:
            self.totals |= self.shares_then(name, at)
        self.lots = [lot for lot in lots if not self.is_of_later_term(lot, at)] + self.kept(self.gone_lots, at)
        self.purses = [purse for purse in purses if not self.is_of_later_term(purse, at)]
        self.products = [*products, *self.kept(self.gone_products, at)]
        self.now = at
        self.write(receipt["traffic"], number, passes_after(receipt, number))
        self.clock, self.paid_to = 0, None
        for nth in range(1, number + 1):
            if receipt["connections"]:
                self.connect(receipt["traffic"])
                # One that costs nothing now has happened all the same.
                self.receipt["connections"] = 1
            else:
                self.pass_octet(receipt["traffic"], passes_after(receipt, nth))
        self.file()
        self.now, self.lots, self.products, self.purses = now, lots, products, purses
        for name in renewed:
            then = {key: total for key, total in self.totals.items() if is_share_in(key, name)}
            self.shares_then(name, at).update(then)
        anew = [key for key in self.totals if any(is_share_in(key, name) for name in renewed)]
        self.totals = {key: total for key, total in self.totals.items() if key not in anew} | shares

    def resume_all(self) -> None:
        """Money that came back may pay for what was suspended."""
        self.credit(0, self.now)


def passes_after(receipt: Receipt, number: int) -> int:
    """The millisecond of a flow in which so many of its octets have passed."""
    return first_ms_after(Fraction(number * receipt["lasts"], receipt["volume"])) if receipt["volume"] else 0
