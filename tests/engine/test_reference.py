"""The engine agrees with the reference model, flow by flow, over random tariffs, subscribers and days.

The suite lives a few hundred of them; `make agreement ARGS="--days 100000"` as many as one likes.
"""

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from schemas.command import SetRenewal
from schemas.units import format_micros
from services.engine.tariff import Tariff, compile_tariff
from tests.engine.reference import Reference
from tests.engine.world import APPLICATIONS, RefusedError, World, catalogue

APPS = ("netflix", "youtube", "facebook", "whatsapp", None)
MEMBERS = ("a1", "b2")
ZONES = (
    {"id": "home", "home": True, "plmns": ["00101"]}, {"id": "eu", "plmns": ["262"]}, {"id": "one", "plmns": ["26201"]},
)  # fmt: skip
WORLD = {"id": "world", "rest": True, "plmns": []}
PLACES = (
    ("UTC", "2026-03-30 09:00", 1),
    # The clocks go forward at 02:00, at midnight, and by half an hour; and back, at 01:00.
    ("Europe/Paris", "2026-03-28 19:00", 30),
    ("Asia/Beirut", "2026-03-28 01:00", 29),
    ("Australia/Lord_Howe", "2026-10-03 05:00", 4),
    ("America/Havana", "2026-10-31 15:00", 1),
    # A month without its anchor day, where the clock is three quarters of an hour off.
    ("Asia/Kathmandu", "2028-02-28 03:00", 31),
)
"""Zones, when the days there begin, and on which day of the month cycles do."""


def a_scope(dice: random.Random) -> dict[str, Any]:
    scope: dict[str, Any] = {}
    if dice.random() < 0.4:
        scope["applications"] = dice.sample([app for app in APPS if app], dice.randint(1, 2))
    elif dice.random() < 0.3:
        scope["categories"] = dice.sample(["voip_im", "social", "streaming", "other"], dice.randint(1, 2))
    if dice.random() < 0.15:
        scope["services"] = ["call"]
    if dice.random() < 0.15:
        scope["rat_types"] = ["UTRA"]
    if dice.random() < 0.15:
        scope["windows"] = [
            dice.choice(
                [
                    {"start": "22:00", "end": "06:00"},
                    {"days": ["tue"], "start": "08:00", "end": "20:00"},
                    {"days": ["sun"]},
                    {"start": "02:50", "end": "04:30"},
                ]
            )
        ]
    if dice.random() < 0.15:
        scope["zones"] = dice.sample(["home", "eu", "one"], dice.randint(1, 2))
    if dice.random() < 0.1:
        scope["dnns"] = ["internet"]
    return scope


def an_allowance(dice: random.Random, number: int, *, renewed: bool = False) -> dict[str, Any]:
    once = dice.random() < 0.3
    rollover = {"percent": dice.choice([50, 100]), "octets": dice.choice([None, 20])}
    timed = dice.random() < 0.3
    amounts = {
        "octets": dice.choice([0, 7, 40, 90]), "per_member_octets": dice.choice([None, None, None, 15]),
        "overshoot_tolerance_octets": dice.choice([None, None, 5, 30]),
    }  # fmt: skip
    if timed:
        amounts = {"seconds": dice.choice([0, 1, 2, 5]), "per_member_seconds": dice.choice([None, None, 1])}
        rollover = {"percent": dice.choice([50, 33]), "seconds": dice.choice([None, 1])}
    return {
        "id": f"b{number}", "scope": a_scope(dice), **amounts,
        "priority": dice.choice([1, 100]), "validity": "once" if once else "cycle",
        "on_exhausted": dice.choice(["continue", "continue", "throttle", "block"]),
        "rollover": rollover if (renewed or not once) and dice.random() < 0.3 else None,
    }  # fmt: skip


def a_price(dice: random.Random, number: int) -> dict[str, Any]:
    if dice.random() < 0.25:
        return {
            "id": f"c{number}", "unit": "connection", "amount": dice.choice([0, 333_333, 1_000_000]),
            "per_connections": dice.choice([1, 2]), "scope": a_scope(dice), "cap": dice.choice([None, None, 900_000]),
            "on_cap": dice.choice(["block", "free"]), "whole_units": dice.random() < 0.2, "tier_mode": "graduated",
            "tiers": [{"above": 2, "amount": dice.choice([0, 500_000])}] if dice.random() < 0.3 else [],
        }  # fmt: skip
    return {
        "id": f"u{number}", "amount": dice.choice([0, 1, 333_333, 2_000_000]), "per_octets": dice.choice([1, 3, 10]),
        "scope": a_scope(dice), "cap": dice.choice([None, 0, 5, 4_000_000]), "on_cap": dice.choice(["block", "free"]),
        "overshoot_tolerance_octets": dice.choice([None, 5, 30]),
        "whole_units": dice.random() < 0.2, "tier_mode": dice.choice(["graduated", "volume"]),
        "tiers": [{"above": 20, "amount": dice.choice([0, 100_000, 3_000_000])}] if dice.random() < 0.3 else [],
    }  # fmt: skip


def a_rule(dice: random.Random, name: str, allowances: list[dict[str, Any]]) -> dict[str, Any]:
    charging = dice.choice(["charge", "charge", "free", "sponsored"])
    bucket: dict[str, Any] | None = None
    if allowances and dice.random() < 0.4:
        state = dice.choice(
            [{"state": "available"}, {"state": "exhausted"}, {"state": "fresh"}, {"state": "fresh", "percent": 50},
             {"state": "used", "percent": 80}, {"state": "used", "percent": 1}]
        )  # fmt: skip
        bucket = {"allowance": dice.choice(allowances)["id"], **state}
    return {
        "id": name, "precedence": dice.randint(0, 9), "scope": a_scope(dice), "bucket": bucket, "charging": charging,
        "campaign": "c" if charging == "sponsored" else None, "min_confidence": dice.choice([0, 0, 60]),
        "gate_status": "closed" if dice.random() < 0.1 else "open", **a_traffic_condition(dice), **a_spend(dice),
        "subscribers": {"offerings": [dice.choice(["pack", "pass"])]} if dice.random() < 0.1 else None,
    }  # fmt: skip


def a_spend(dice: random.Random) -> dict[str, Any]:
    if dice.random() < 0.8:
        return {}
    amount = dice.choice([1, 5, 1_000_000, 4_000_000])
    return {"spend": dice.choice([{"at_least": amount}, {"below": amount}, {"at_least": amount, "below": 9_000_000}])}


def a_traffic_condition(dice: random.Random) -> dict[str, Any]:
    if dice.random() < 0.8:
        return {}
    congestion: dict[str, Any] = dice.choice([{"min_congestion": 4}, {"max_congestion": 4}])
    return dice.choice([congestion, {"suspect": "never"}, {"suspect": "only", "min_confidence": 0}])


def a_tariff(dice: random.Random) -> dict[str, Any]:
    offerings, rules = [], []
    for name in ("plan", "pack", "pass"):
        renewed = name == "pass" and dice.random() < 0.6
        allowances = [an_allowance(dice, n, renewed=renewed) for n in range(dice.randint(0, 3))]
        made = [a_rule(dice, f"{name}-{n}", allowances) for n in range(dice.randint(0, 3))]
        rules += made
        offerings.append(
            {
                "id": name, "allowances": allowances, "rules": [rule["id"] for rule in made],
                "requires": ["plan"] if name != "plan" and dice.random() < 0.3 else [],
                "usage_prices": [a_price(dice, n) for n in range(dice.randint(0, 2))],
                "prices": [{"id": f"{name}-fee", "type": dice.choice(["recurring", "one_time"]),
                            "amount": dice.choice([0, 1_500_000])},
                           {"id": f"{name}-rent", "type": "recurring", "amount": dice.choice([0, 0, 1_000_000]),
                            "proration": dice.choice(["none", "daily"]), "refund": dice.choice(["none", "daily"])}],
                "term_days": 1 if name == "pass" else None, "renewal": "automatic" if renewed else "none",
                "anchor": dice.choice(["activation", "calendar"]) if name == "pass" else "activation",
                "money_allowances": [
                    {"id": f"m{n}", "amount": dice.choice([1, 700_000, 4_000_000]), "scope": a_scope(dice),
                     "priority": dice.choice([1, 100]), "validity": dice.choice(["cycle", "once"])}
                    for n in range(dice.choice([0, 0, 1, 2]))
                ],
            }
        )  # fmt: skip
    return {
        "offerings": offerings, "rules": rules, "zones": [*ZONES, *dice.choice([[], [WORLD]])],
        "min_confidence": dice.choice([0, 31, 60]),
        "campaigns": [{"id": "c", "sponsor_id": "s", "per_subscriber_octets": dice.choice([None, 0, 12])}],
    }  # fmt: skip


class Day:
    """The same days lived by both."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        tariff = a_tariff(self.dice)
        payment = self.dice.choice(["prepaid", "postpaid"])
        parts = {part: tariff[part] for part in ("rules", "campaigns", "zones", "min_confidence")}
        made = catalogue(*tariff["offerings"], **parts)
        self.zone, start, self.anchor = random.Random(-seed - 1).choice(PLACES)
        self.at = datetime.fromisoformat(start).replace(tzinfo=ZoneInfo(self.zone)).astimezone(UTC)
        self.engine = self.world(compile_tariff(made), payment)
        self.model = Reference(tariff, APPLICATIONS, payment, self.at, (self.zone, self.anchor))
        self.bought = 0
        self.port = 40_000

    def world(self, tariff: Tariff, payment: str) -> World:
        where = {"zone": self.zone, "cycle_day": self.anchor}
        return World(tariff, at=stamp(self.at), payment=payment, subscriber_ids=MEMBERS, **where)

    def live(self) -> None:
        self.credit()
        self.buy("plan")
        for _ in range(12):
            self.at += timedelta(minutes=self.dice.choice([0, 1, 50, 400, 900]))
            action = self.dice.random()
            if action < 0.7:
                self.flow()
            elif action < 0.85:
                self.buy(self.dice.choice(["plan", "pack", "pass"]))
            elif action < 0.9:
                self.credit()
            elif action < 0.935:
                self.cancel()
            elif action < 0.95:
                self.set_limit()
            elif action < 0.96:
                self.set_renewal()
            elif action < 0.97:
                self.raise_cap()
            elif action < 0.985:
                self.set_anchor()
            else:
                self.engine.timer(stamp(self.at))
        self.compare()

    def flow(self) -> None:
        lasts = self.dice.choice([0, 1, 4, 350, 999, 2600])
        app, volume, member = self.dice.choice(APPS), self.dice.choice([0, 1, 9, 33]), self.dice.choice(MEMBERS)
        fields = {
            "service": self.dice.choice([None, "call"]), "rat": self.dice.choice(["UTRA", "NR", None]),
            "confidence": self.dice.choice([40, 90]), "suspect": self.dice.random() < 0.1,
        }  # fmt: skip
        place = {
            "serving_plmn": self.dice.choice([None, "00101", "26201", "26202", "31041"]),
            "dnn": self.dice.choice(["internet", "Internet.mnc001.mcc262.gprs", "ims"]),
            "congestion_level": self.dice.choice([None, 0, 4, 9]),
            "end_reason": self.dice.choice([None, "active", "idle"]),
        }
        fields |= place
        traffic = {
            **fields,
            "app": app,
            "plmn": place["serving_plmn"],
            "congestion": place["congestion_level"],
            "category": APPLICATIONS.get(app or "", "other"),
            "member": member,
            "ends": place["end_reason"] != "active",
        }
        # Every flow is another one, so that none corrects what an earlier one was charged.
        self.port += 1
        where = {"subscriber_id": member, "subscriber_port": self.port}
        decision = self.engine.flow(volume, app, at=stamp(self.at), lasts=lasts, **where, **fields)
        wanted = self.model.flow(volume, traffic, self.at, lasts)
        seen = {
            "charged": decision.charged_octets, "free": decision.free_octets, "sponsored": decision.sponsored_octets,
            "blocked": decision.blocked_octets,
            "sponsored connections": sum(paid.connections for paid in decision.sponsorships),
        }  # fmt: skip
        money = {
            "money": decision.price.amount if decision.price else "0",
            "connection": decision.connection.amount if decision.connection else "0",
        }
        assert {**seen, **money} == {**wanted, **{name: format_micros(wanted[name]) for name in money}}

    def buy(self, offering_id: str) -> None:
        self.bought += 1
        name, later = f"p{self.bought}", self.dice.random() < 0.3
        renews = self.dice.random() < 0.8
        self.model.pass_time(self.at)
        there = [product["id"] for product in self.model.products if not product["waits"]]
        replaces = self.dice.choice(there) if there and self.dice.random() < 0.4 else None
        fields = {"renews": renews, "replaces": replaces, "takes_effect": "cycle_end" if later else "now"}
        refused = self.model.buy(offering_id, name, self.at, renews=renews, later=later, replaces=replaces)
        if refused is None:
            self.engine.activate(offering_id, name, at=stamp(self.at), **fields)
        else:
            with pytest.raises(RefusedError, match=refused):
                self.engine.activate(offering_id, name, at=stamp(self.at), **fields)

    def cancel(self) -> None:
        self.model.pass_time(self.at)
        held = [product["id"] for product in self.model.products]
        if held:
            name, later = self.dice.choice(held), self.dice.random() < 0.4
            self.model.cancel(name, self.at, later=later)
            self.engine.cancel(name, at=stamp(self.at), takes_effect="cycle_end" if later else "now")

    def set_renewal(self) -> None:
        self.model.pass_time(self.at)
        held = [product["id"] for product in self.model.products if product["offering"] == "pass"]
        if held:
            name = self.dice.choice(held)
            self.model.set_renewal(name, False, self.at)
            self.engine.command(SetRenewal, product_id=name, renews=False, at=stamp(self.at))

    def set_limit(self) -> None:
        amount = self.dice.choice([None, 0, 1_000_000, 7_000_000])
        self.model.set_limit(amount, self.at)
        self.engine.limit(None if amount is None else format_micros(amount), at=stamp(self.at))

    def raise_cap(self) -> None:
        price_id, amount = self.dice.choice([None, "u0", "u1", "c0"]), self.dice.choice([None, 3_000_000, 9_000_000])
        text = None if amount is None else format_micros(amount)
        offering = self.dice.choice([None, "plan", "pack"]) if price_id else None
        refused = self.model.raise_cap(price_id, amount, self.at, offering)
        if refused is None:
            self.engine.raise_cap(price_id, text, at=stamp(self.at), offering_id=offering)
        else:
            with pytest.raises(RefusedError, match=f"^{refused}"):
                self.engine.raise_cap(price_id, text, at=stamp(self.at), offering_id=offering)

    def set_anchor(self) -> None:
        day = (self.at + timedelta(days=self.dice.randint(0, 4))).day
        self.model.set_anchor(day, self.at)
        self.engine.profile(cycle_day=day, at=stamp(self.at))

    def credit(self) -> None:
        amount = self.dice.choice([400_000, 3_000_000])
        self.model.credit(amount, self.at)
        self.engine.credit(format_micros(amount), at=stamp(self.at))

    def compare(self) -> None:
        self.engine.timer(stamp(self.at))
        self.model.pass_time(self.at)
        account = self.engine.account
        assert account is not None
        assert account.balance_micros == (self.model.balance)
        purses = sorted((purse.bucket_id, purse.remaining_micros) for purse in account.purses)
        assert purses == sorted((purse["bucket"], purse["left"]) for purse in self.model.purses)
        left: dict[str, int] = {}
        for lot in self.model.lots:
            left[lot["bucket"]] = left.get(lot["bucket"], 0) + lot["left"]
        assert {name: self.engine.left(name) for name in left} == left
        assert sum(left.values()) == sum(bucket.remaining for bucket in account.buckets)


def stamp(at: datetime) -> int:
    return int(at.timestamp() * 1000)


@pytest.mark.parametrize("block", range(6))
def test_the_engine_agrees_with_the_reference(block: int) -> None:
    for seed in range(block * 60, block * 60 + 60):
        live(seed)


def live(seed: int) -> None:
    try:
        Day(seed).live()
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error
