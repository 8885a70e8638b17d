"""The tariff again, slow and obvious: octet by octet, from the words of docs/tariffs.md, no code shared.

It reads the same plain dictionaries that a catalogue is made from. Event time never goes back. Volumes must be small:
every octet looks for its rule and its payer anew.
"""

import copy
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from tests.engine.reference_holdings import ReferenceHoldings, most_of
from tests.engine.reference_prices import exact_price, long_run, whole
from tests.engine.reference_times import clock, first_ms_after, is_within

Traffic = dict[str, Any]
FURTHER_LISTS = ("services", "rat_types", "windows", "zones", "dnns")


class Reference(ReferenceHoldings):
    """One account. `flow` says what became of each octet; the rest is what the account then holds."""

    payers: frozenset[str] = frozenset()
    """Campaigns that paid for an octet of the present flow."""

    def flow(self, octets: int, traffic: Traffic, at: datetime, lasts_ms: int = 0) -> dict[str, int]:
        """Octets by what became of them, and the money. The n-th of N octets has passed after n/N of the time."""
        self.pass_time(at)
        seen = dict.fromkeys(["charged", "free", "sponsored", "blocked"], 0)
        before = self.billed
        self.clock, self.paid_to, self.payers = 0, None, frozenset()
        for number in range(1, octets + 1):
            seen[self.pass_octet(traffic, first_ms_after(Fraction(number * lasts_ms, octets)))] += 1
        money, before = self.billed - before, self.billed
        counted = len(self.payers or self.would_pay(traffic, octets)) if traffic["ends"] else 0
        if traffic["ends"]:
            self.connect(traffic)
        return {**seen, "money": money, "connection": self.billed - before, "sponsored connections": counted}

    def would_pay(self, traffic: Traffic, octets: int) -> set[str]:
        """The campaign that a record without octets meets: it would pay for the next one."""
        rule = self.rule_for(traffic)
        if octets or rule["gate_status"] == "closed" or rule["charging"] != "sponsored":
            return set()
        return {rule["campaign"]} if self.has_room(rule["campaign"], traffic["member"]) else set()

    # -- one octet

    def pass_octet(self, traffic: Traffic, passes_at: int) -> str:
        """One octet, of which all has passed at that millisecond of the flow.

        Who pays by time pays each millisecond until then that nobody has been charged for yet, and whatever passes in
        it. Who pays by volume has paid for the time of its octet, too.
        """
        while self.paid_to is None or self.paid_to < passes_at:
            found = self.octet(traffic)
            if not isinstance(found, dict):
                self.clock = max(self.clock, passes_at)
                return found
            if self.clock >= passes_at:
                return "charged"
            self.draw_time(found, traffic["member"], passes_at)
            self.paid_to = self.clock
        return "charged"

    def draw_time(self, lot: dict[str, Any], member: str, until: int) -> None:
        """Millisecond by millisecond, until something may have turned."""
        key = ("share", lot["bucket"], member)
        while self.clock < until:
            lot["left"] -= 1
            self.totals[key] = self.totals.get(key, 0) + 1
            self.clock += 1
            if not self.has_left(lot, member) or self.is_at_a_percent(lot):
                return

    def is_at_a_percent(self, lot: dict[str, Any]) -> bool:
        """Whether the millisecond before brought another whole percentage of the allowance, or is the first of it."""
        same = [other for other in self.lots if other["allowance"] is lot["allowance"]]
        granted, left = sum(other["granted"] for other in same), sum(other["left"] for other in same)
        used = granted - left
        return used == 1 or used * 100 // granted != (used - 1) * 100 // granted

    def octet(self, traffic: Traffic) -> str | dict[str, Any]:
        """Find the rule and the payer of one octet, and take it from there; a lot of time is only named."""
        rule = self.rule_for(traffic)
        connection = self.connection_price(traffic) if rule["charging"] == "charge" else None
        if rule["gate_status"] == "closed" or (connection and not self.can_connect(connection, traffic)):
            return "blocked"
        if rule["charging"] == "free":
            return "free"
        doubted = self.is_doubted(traffic)
        if rule["charging"] == "sponsored" and self.sponsor_pays(rule["campaign"], traffic["member"]):
            return "sponsored"
        for narrowness in (3, 2, 1):
            lots = [lot for lot in self.drawing_order() if self.width(lot) == narrowness and self.serves(lot, traffic)]
            full = [lot for lot in lots if self.has_left(lot, traffic["member"])]
            for lot in full:
                if not (doubted and narrow_by_kind(lot["allowance"]["scope"])):
                    return self.draw(lot, traffic["member"])
            last = lots[-1]["allowance"].get("on_exhausted", "continue") if lots and not full else "continue"
            if last == "throttle" and doubted and narrow_by_kind(lots[-1]["allowance"]["scope"]):
                last = "continue"
            if last != "continue":
                return {"throttle": "free", "block": "blocked"}[last]
        return self.sell(traffic, self.kept_back(connection))

    def rule_for(self, traffic: Traffic) -> dict[str, Any]:
        fitting = []
        for product in self.held():
            for rule_id in self.offerings[product["offering"]].get("rules", []):
                rule = self.rules[rule_id]
                confidence = 0 if traffic["suspect"] else traffic["confidence"]
                if (
                    self.in_scope(rule["scope"], traffic)
                    and confidence >= rule["min_confidence"]
                    and rule.get("suspect", "any") in ("any", "only" if traffic["suspect"] else "never")
                    and self.is_congested(rule, traffic)
                    and not (self.is_doubted(traffic) and gives(rule) and narrow_by_kind(rule["scope"]))
                    and self.bucket_is(rule["bucket"], product["offering"], traffic["member"])
                    and self.spend_is(rule.get("spend"))
                    and self.is_for_us(rule.get("subscribers"))
                ):
                    fitting.append(rule)
        if not fitting:
            return {"gate_status": "open", "charging": "charge"}
        return min(fitting, key=lambda rule: (rule["precedence"], rule["id"]))

    def is_doubted(self, traffic: Traffic) -> bool:
        """A verdict that nobody should get anything for."""
        weak = traffic["app"] is not None and traffic["confidence"] < self.min_confidence
        return bool(traffic["suspect"] or weak)

    def held(self) -> list[dict[str, Any]]:
        return [product for product in self.products if not product["suspended"] and not product["waits"]]

    def in_scope(self, scope: dict[str, Any], traffic: Traffic) -> bool:
        lists = {"applications": "app", "categories": "category", "services": "service", "rat_types": "rat"}
        if any(scope.get(name) and traffic[key] not in scope[name] for name, key in lists.items()):
            return False
        if scope.get("zones") and self.zone_of(traffic.get("plmn")) not in scope["zones"]:
            return False
        if scope.get("dnns") and traffic.get("dnn", "").split(".mnc")[0].lower() not in scope["dnns"]:
            return False
        shown = clock(self.now, self.zone)
        return not scope.get("windows") or any(is_within(window, shown) for window in scope["windows"])

    def zone_of(self, plmn: str | None) -> str | None:
        """The network's own entry, its country's, the rest, home."""
        named = [zone["id"] for zone in self.zones if plmn in zone["plmns"]]
        named += [zone["id"] for zone in self.zones if plmn and plmn[:3] in zone["plmns"]]
        if plmn:
            named += [zone["id"] for zone in self.zones if zone.get("rest")]
        named += [zone["id"] for zone in self.zones if zone.get("home")]
        return named[0] if named else None

    def is_congested(self, rule: dict[str, Any], traffic: Traffic) -> bool:
        level = traffic.get("congestion") or 0
        return bool(rule.get("min_congestion", 0) <= level <= rule.get("max_congestion", 31))

    def bucket_is(self, condition: dict[str, Any] | None, offering_id: str, member: str) -> bool:
        if condition is None:
            return True
        lots = [
            lot
            for lot in self.lots
            if any(product["id"] == lot["product"] for product in self.held())
            and lot["offering"] == offering_id
            and lot["allowance"]["id"] == condition["allowance"]
        ]
        if condition["state"] in ("fresh", "used"):
            return self.is_used(lots, condition.get("percent")) == (condition["state"] == "used")
        return any(self.has_left(lot, member) for lot in lots) == (condition["state"] == "available")

    def is_used(self, lots: list[dict[str, Any]], percent: int | None) -> bool:
        """Whether a percentage, or anything where it is None, of all that was granted is gone; all of it always is."""
        granted, left = sum(lot["granted"] for lot in lots), sum(lot["left"] for lot in lots)
        if left == 0 or percent is None:
            return left < granted or left == 0
        return Fraction(granted - left, granted) >= Fraction(percent, 100)

    def spend_is(self, condition: dict[str, int] | None) -> bool:
        """Whether the money of all prices in this cycle lies where the rule wants it."""
        wanted = condition or {}
        return wanted.get("at_least", 0) <= self.spent and ("below" not in wanted or self.spent < wanted["below"])

    def is_for_us(self, condition: dict[str, Any] | None) -> bool:
        wanted = (condition or {}).get("offerings")
        return not wanted or any(product["offering"] in wanted for product in self.held())

    def sponsor_pays(self, campaign_id: str, member: str) -> bool:
        if not self.has_room(campaign_id, member):
            return False
        self.totals["campaign", campaign_id, member] = self.totals.get(("campaign", campaign_id, member), 0) + 1
        self.payers |= {campaign_id}
        return True

    def has_room(self, campaign_id: str, member: str) -> bool:
        most = self.campaigns[campaign_id]["per_subscriber_octets"]
        return most is None or self.totals.get(("campaign", campaign_id, member), 0) < most

    def drawing_order(self) -> list[dict[str, Any]]:
        return sorted(self.lots, key=self.drawing_key)

    def drawing_key(self, lot: dict[str, Any]) -> tuple[Any, ...]:
        scope = lot["allowance"]["scope"]
        further = sum(bool(scope.get(name)) for name in FURTHER_LISTS)
        end = lot["end"] or datetime.max.replace(tzinfo=UTC)
        return -further, lot["allowance"].get("priority", 100), end, lot["start"], lot["bucket"]

    def width(self, lot: dict[str, Any]) -> int:
        scope = lot["allowance"]["scope"]
        return 3 if scope.get("applications") else 2 if scope.get("categories") else 1

    def serves(self, lot: dict[str, Any], traffic: Traffic) -> bool:
        awake = any(product["id"] == lot["product"] for product in self.held())
        return awake and self.in_scope(lot["allowance"]["scope"], traffic)

    def has_left(self, lot: dict[str, Any], member: str) -> bool:
        shares = most_of(lot["allowance"], "per_member_octets", "per_member_seconds")
        used = self.totals.get(("share", lot["bucket"], member), 0)
        return lot["left"] > 0 and all(used < share for share in shares)

    def draw(self, lot: dict[str, Any], member: str) -> str | dict[str, Any]:
        """Take an octet; a lot of time is only named, since it pays millisecond by millisecond."""
        if lot["allowance"].get("seconds") is not None:
            return lot
        lot["left"] -= 1
        key = ("share", lot["bucket"], member)
        self.totals[key] = self.totals.get(key, 0) + 1
        return "charged"

    def prices_for(self, traffic: Traffic, unit: str) -> list[tuple[str, dict[str, Any]]]:
        return [
            (product["offering"], price)
            for product in self.held()
            for price in self.offerings[product["offering"]].get("usage_prices", [])
            if self.in_scope(price["scope"], traffic) and price.get("unit", "octets") == unit
        ]

    def connection_price(self, traffic: Traffic) -> tuple[str, dict[str, Any]] | None:
        return self.price_among(self.prices_for(traffic, "connection"), traffic)

    def can_connect(self, offered: tuple[str, dict[str, Any]], traffic: Traffic) -> bool:
        """Whether one more connection could be paid, or is free."""
        next_one, present = self.next_connection(offered)
        limit = self.cap("limit", self.limit)
        if self.is_capped(offered, present, next_one):
            return bool(offered[1]["on_cap"] == "free")
        credit = sum(purse["left"] for purse in self.paying(traffic))
        if limit is not None and next_one > present + credit + max(0, limit - self.spent):
            return False
        return not self.prepaid or next_one <= present + credit + self.balance

    def is_capped(self, offered: tuple[str, dict[str, Any]], before: int, after: Fraction) -> bool:
        """Whether one more, with which the cycle's total costs so much, is beyond the cap. What was spent counts."""
        offering_id, price = offered
        cap = self.cap((offering_id, price["id"]), price["cap"])
        return cap is not None and after > before + max(
            0, cap - self.spent_on(("price", offering_id, price["id"]), before)
        )

    def spent_on(self, _key: Any, costs: int) -> int:
        """What was spent on a price in this cycle: what its total costs, as long as prices do not change."""
        return costs

    def next_connection(self, offered: tuple[str, dict[str, Any]]) -> tuple[Fraction, int]:
        """What the cycle's connections cost with one more, exactly, and what they have cost."""
        counted = self.totals.get(("price", offered[0], offered[1]["id"]), 0)
        return exact_price(offered[1], counted + 1), whole(exact_price(offered[1], counted))

    def kept_back(self, offered: tuple[str, dict[str, Any]] | None) -> int:
        """Whole micros that octets leave for the end of their connection."""
        if offered is None:
            return 0
        next_one, present = self.next_connection(offered)
        return 0 if self.is_capped(offered, present, next_one) else -whole(-next_one) - present

    def connect(self, traffic: Traffic) -> None:
        """Charge the connection that ends, if another octet of it would pass."""
        offered = self.connection_price(traffic)
        rule = self.rule_for(traffic)
        if offered is None or rule["gate_status"] == "closed" or rule["charging"] != "charge":
            return
        if copy.deepcopy(self).octet(traffic) == "blocked":
            return
        next_one, present = self.next_connection(offered)
        if self.is_capped(offered, present, next_one):
            return
        self.totals["price", offered[0], offered[1]["id"]] = (
            self.totals.get(("price", offered[0], offered[1]["id"]), 0) + 1
        )
        self.bill(whole(next_one) - present, traffic)

    def paying(self, traffic: Traffic) -> list[dict[str, Any]]:
        """Granted money that pays for such traffic, in the order in which it is spent."""
        awake = [product["id"] for product in self.held()]
        fitting = [
            purse
            for purse in self.purses
            if purse["product"] in awake
            and self.in_scope(purse["allowance"]["scope"], traffic)
            and not (self.is_doubted(traffic) and narrow_by_kind(purse["allowance"]["scope"]))
        ]
        return sorted(fitting, key=lambda purse: (-self.width(purse), *self.drawing_key(purse)))

    def bill(self, micros: int, traffic: Traffic) -> None:
        self.billed += micros
        for purse in self.paying(traffic):
            part = min(micros, purse["left"])
            purse["left"] -= part
            micros -= part
        self.spent += micros
        if self.prepaid:
            self.balance -= micros

    def price_among(
        self, prices: list[tuple[str, dict[str, Any]]], traffic: Traffic
    ) -> tuple[str, dict[str, Any]] | None:
        """The narrowest price; in doubt the general one, unless that is cheaper."""
        narrowest = min(prices, key=self.price_order, default=None)
        general = [item for item in prices if not narrow_by_kind(item[1]["scope"])]
        if narrowest and general and self.is_doubted(traffic):
            cheapest = min(general, key=self.price_order)
            return cheapest if long_run(cheapest[1]) >= long_run(narrowest[1]) else narrowest
        return narrowest

    def sell(self, traffic: Traffic, kept_back: int) -> str:
        prices = self.prices_for(traffic, "octets")
        offered = self.price_among(prices, traffic)
        if offered is None:
            return "blocked"
        offering_id, price = offered
        key = ("price", offering_id, price["id"])
        sold = self.totals.get(key, 0)
        bill = whole(exact_price(price, sold))
        dearer = exact_price(price, sold + 1)
        limit = self.cap("limit", self.limit)
        if self.is_capped(offered, bill, dearer):
            return {"block": "blocked", "free": "free"}[price["on_cap"]]
        credit = sum(purse["left"] for purse in self.paying(traffic))
        own = [self.balance] if self.prepaid else []
        own += [] if limit is None else [max(0, limit - self.spent)]
        if own and dearer > bill + max(0, credit + min(own) - kept_back):
            return "blocked"
        self.totals[key] = sold + 1
        self.bill(whole(dearer) - bill, traffic)
        return "charged"

    def price_order(self, offered: tuple[str, dict[str, Any]]) -> Any:
        offering_id, price = offered
        scope = price["scope"]
        width = 3 if scope.get("applications") else 2 if scope.get("categories") else 1
        further = sum(bool(scope.get(name)) for name in FURTHER_LISTS)
        return -width, -further, long_run(price), f"{offering_id}/{price['id']}"


def gives(rule: dict[str, Any]) -> bool:
    """Whether a rule lets somebody else pay, or nobody."""
    given = rule["charging"] != "charge" and rule.get("suspect") != "only"
    return bool(rule["gate_status"] == "open" and given)


def narrow_by_kind(scope: dict[str, Any]) -> bool:
    """Whether a scope depends on what the traffic was taken for."""
    return any(scope.get(name) for name in ("applications", "categories", "services"))
