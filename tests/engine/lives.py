"""Random lives of an account: all that a catalogue can say, all that can happen, over days that the clocks change on.

A life is a list of steps that does not look at the account, so that two worlds can live the same one.
"""

import contextlib
import itertools
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from schemas.command import SetRenewal
from schemas.units import format_micros
from services.engine.tariff import compile_tariff
from tests.engine.test_reference import APPS, MEMBERS, a_tariff
from tests.engine.world import RefusedError, World, catalogue

PLACES = (
    ("UTC", "2026-03-30 09:00"),
    ("Europe/Paris", "2026-03-28 09:00"),
    ("America/Havana", "2026-03-07 20:00"),
    ("Asia/Beirut", "2026-03-28 15:00"),
    ("Australia/Lord_Howe", "2026-04-04 15:00"),
    ("Asia/Kathmandu", "2028-02-28 23:00"),
)
ACTIONS = ("flow",) * 30 + (
    "late", "buy", "buy", "buy", "cancel", "credit", "limit", "raise", "renewal", "confirm", "timer", "emit",
    "publish", "lease", "profile", "profile", "hold", "commit", "release", "debit",
)  # fmt: skip


class Step(NamedTuple):
    """What happens, and how many minutes after the step before."""

    action: str
    minutes: int
    fields: dict[str, Any]


def a_catalogue(dice: random.Random) -> dict[str, Any]:
    """A tariff as the reference model lives it, with what that leaves out: trials, rents, days, budgets, lives."""
    tariff = a_tariff(dice)
    plan, pack, _ = tariff["offerings"]
    plan |= {"kind": "base_plan", "minimum_rent": dice.choice([0, 0, 3_000_000])}
    pack |= {"trial_days": dice.choice([None, 1]), "max_held": dice.choice([None, 2])}
    for offering in tariff["offerings"]:
        for allowance in offering["allowances"]:
            _divide(allowance, dice)
        for granted in offering["money_allowances"]:
            granted["valid_days"] = 1 if granted["validity"] == "once" and dice.random() < 0.3 else None
    if dice.random() < 0.5:
        budget = {"octets": 10**6, "on_empty": dice.choice(["charge", "block"])}
        tariff["campaigns"][0]["budget"] = budget
    return tariff


def _divide(allowance: dict[str, Any], dice: random.Random) -> None:
    if allowance["validity"] == "cycle":
        allowance["proration"] = dice.choice(["none", "none", "daily"])
    elif not allowance["rollover"]:
        allowance["valid_days"] = dice.choice([None, None, 1])


def a_life(dice: random.Random, *, count: int = 18) -> list[Step]:
    """Some days: flows above all, now and then a late one, a command, a timer, another catalogue."""
    steps = []
    for number in range(count):
        action = dice.choice(ACTIONS)
        minutes = dice.choice([0, 1, 50, 400, 900, 1500])
        steps.append(Step(action, minutes, _FIELDS.get(action, _nothing)(dice) | {"number": number}))
    return steps


def _a_flow(dice: random.Random) -> dict[str, Any]:
    """So many octets in each millisecond that a cut leaves whole ones on both sides."""
    lasts, pace = dice.choice([1, 4, 350, 999, 2600]), dice.choice([0, 0, 1, 3])
    volume = lasts * pace if pace and lasts < 1000 else dice.choice([0, 1, 9, 33, 90])
    return {
        "volume": volume, "lasts": lasts if volume % lasts == 0 else 0, "app": dice.choice(APPS),
        "member": dice.choice(MEMBERS), "parts": dice.randint(2, 4),
        "fields": {
            "service": dice.choice([None, "call"]), "rat": dice.choice(["UTRA", "NR", None]),
            "confidence": dice.choice([40, 90]), "suspect": dice.random() < 0.1,
            "serving_plmn": dice.choice([None, "00101", "26201", "31041"]), "dnn": dice.choice(["internet", "ims"]),
            "congestion_level": dice.choice([None, 0, 4, 9]), "sampling_rate": dice.choice([1, 1, 1, 10]),
        },
        "end_reason": dice.choice([None, "active", "idle"]),
    }  # fmt: skip


def _nothing(_dice: random.Random) -> dict[str, Any]:
    return {}


_FIELDS = {
    "flow": _a_flow,
    "late": lambda dice: _a_flow(dice) | {"hours": dice.choice([1, 5, 20, 40])},
    "buy": lambda dice: {
        "offering_id": dice.choice(["plan", "pack", "pass"]),
        "renews": dice.random() < 0.8,
        "hours": dice.choice([None, None, None, -30, 26]),
        "replaces": dice.choice([None, None, None, "p1", "p2"]),
        "takes_effect": dice.choice(["now", "now", "cycle_end"]),
    },
    "cancel": lambda dice: {
        "product": f"p{dice.randint(1, 6)}",
        "takes_effect": dice.choice(["now", "now", "cycle_end"]),
    },
    "renewal": lambda dice: {"product": f"p{dice.randint(1, 6)}"},
    "confirm": lambda dice: {"product": f"p{dice.randint(1, 6)}"},
    "credit": lambda dice: {"amount": dice.choice(["0.4", "3", "20"])},
    "limit": lambda dice: {"amount": dice.choice([None, "0", "1", "7"])},
    "raise": lambda dice: {"price": dice.choice([None, "u0", "c0"]), "amount": dice.choice([None, "3", "9"])},
    "profile": lambda dice: dice.choice(
        [
            {"payment": "prepaid"},
            {"payment": "postpaid"},
            {"cycle_day": 1},
            {"cycle_day": 31},
            {"segment": "group"},
            {"time_zone": "Europe/Paris"},
            {"time_zone": "Asia/Kathmandu"},
            {"time_zone": "America/Havana"},
            {"subscriber_ids": ("a1",)},
            {"subscriber_ids": ("a1", "b2", "c3")},
        ]
    ),
    "hold": lambda dice: {"name": dice.choice("rs"), "amount": dice.choice(["0.5", "2"])},
    "commit": lambda dice: {"name": dice.choice("rs")},
    "release": lambda dice: {"name": dice.choice("rs")},
    "debit": lambda dice: {"amount": dice.choice(["0.5", "2"])},
    "lease": lambda dice: {"octets": dice.choice([5, 50])},
}


class Life:
    """A world with the catalogues that it will see; `split` lets each flow come in several records."""

    def __init__(
        self,
        seed: int,
        *,
        split: bool = False,
        changes: Callable[[dict[str, Any]], None] | None = None,
        world: type[World] = World,
        **profile: Any,
    ) -> None:
        dice = random.Random(seed)
        tariffs = [a_catalogue(dice), a_catalogue(dice)]
        tariffs[1]["zones"] = tariffs[0]["zones"]
        zone, at = dice.choice(PLACES)
        drawn = {"payment": dice.choice(["prepaid", "postpaid"]), "cycle_day": dice.choice([1, 15, 29, 30, 31])}
        self.steps = a_life(dice)
        self.split = split
        self.fixed = tuple(profile)
        for found in tariffs if changes is not None else ():
            changes(found)
        self.catalogues = [_catalogue(tariff, number) for number, tariff in enumerate(tariffs)]
        tariff = compile_tariff(self.catalogues[0])
        self.world = world(tariff, at=at, zone=zone, subscriber_ids=MEMBERS, **(drawn | profile))
        self.bought = 0
        self.world.credit("6")
        for name in ("plan", "pack", "pass"):
            with contextlib.suppress(RefusedError):
                self._buy({"offering_id": name, "renews": True})

    def live(self) -> World:
        """Go through all steps; what is refused is refused."""
        for step in self.steps:
            self.world.now_ms += step.minutes * 60_000
            try:
                getattr(self, f"_{step.action}")(step.fields)
            except RefusedError:
                continue
        self.world.emit()
        return self.world

    def _flow(self, fields: dict[str, Any], *, late_ms: int = 0) -> None:
        start = self.world.now_ms - late_ms
        traffic = {**fields["fields"], "subscriber_id": fields["member"], "subscriber_port": 40_000 + fields["number"]}
        volume, lasts, parts = fields["volume"], fields["lasts"], fields["parts"] if self.split else 1
        account = self.world.account
        if account is not None and any(start < due <= start + lasts for due in (account.due_ms, account.settled_ms)):
            parts = 1
        cuts = [number * (lasts or volume) // parts for number in range(parts + 1)]
        for number, (begin, end) in enumerate(itertools.pairwise(cuts), start=1):
            octets = volume * end // (lasts or volume or 1) - volume * begin // (lasts or volume or 1)
            times = {"start_ms": start + (begin if lasts else 0), "end_ms": start + (end if lasts else 0)}
            reason = fields["end_reason"] if number == parts else "active"
            self.world.flow(octets, fields["app"], **times, **traffic, end_reason=reason)
        # The next thing happens after it, whether the last record told a change at its own beginning or not.
        self.world.now_ms += lasts

    def _late(self, fields: dict[str, Any]) -> None:
        self._flow(fields, late_ms=fields["hours"] * 3_600_000)

    def _buy(self, fields: dict[str, Any]) -> None:
        self.bought += 1
        start = None if fields.get("hours") is None else self.world.now_ms + fields["hours"] * 3_600_000
        how = {"replaces": fields.get("replaces"), "takes_effect": fields.get("takes_effect", "now")}
        self.world.activate(fields["offering_id"], f"p{self.bought}", renews=fields["renews"], start_ms=start, **how)

    def _cancel(self, fields: dict[str, Any]) -> None:
        self.world.cancel(fields["product"], takes_effect=fields["takes_effect"])

    def _renewal(self, fields: dict[str, Any]) -> None:
        self.world.command(SetRenewal, product_id=fields["product"], renews=False)

    def _confirm(self, fields: dict[str, Any]) -> None:
        self.world.confirm(fields["product"])

    def _credit(self, fields: dict[str, Any]) -> None:
        self.world.credit(fields["amount"])

    def _limit(self, fields: dict[str, Any]) -> None:
        self.world.limit(fields["amount"])

    def _raise(self, fields: dict[str, Any]) -> None:
        self.world.raise_cap(fields["price"], fields["amount"])

    def _profile(self, fields: dict[str, Any]) -> None:
        self.world.profile(**{name: value for name, value in fields.items() if name not in ("number", *self.fixed)})

    def _hold(self, fields: dict[str, Any]) -> None:
        self.world.reserve(fields["name"], fields["amount"])

    def _commit(self, fields: dict[str, Any]) -> None:
        self.world.reserve(fields["name"], action="commit")

    def _release(self, fields: dict[str, Any]) -> None:
        self.world.reserve(fields["name"], action="release")

    def _debit(self, fields: dict[str, Any]) -> None:
        self.world.debit(fields["amount"])

    def _timer(self, _fields: dict[str, Any]) -> None:
        self.world.timer()

    def _emit(self, _fields: dict[str, Any]) -> None:
        self.world.emit()

    def _publish(self, _fields: dict[str, Any]) -> None:
        self.world.publish(self.catalogues[1])
        self.world.timer()

    def _lease(self, fields: dict[str, Any]) -> None:
        self.world.lease("c", fields["octets"])


def _catalogue(tariff: dict[str, Any], number: int) -> Any:
    parts = {part: tariff[part] for part in ("rules", "campaigns", "zones", "min_confidence")}
    return catalogue(*tariff["offerings"], **parts).model_copy(update={"version": f"v{number}"})


def bill(world: World) -> dict[str, Any]:
    """What a subscriber and a bill can see of a life."""
    account = world.account
    assert account is not None
    parts = ("charged", "free", "sponsored", "blocked", "not_charged")
    return {
        **{part: sum(getattr(item, f"{part}_octets") for item in world.decisions) for part in parts},
        "money": format_micros(world.money()),
        "balance": account.balance_micros,
        "buckets": [(item.bucket_id, item.valid_from_ms, item.remaining) for item in account.buckets],
        "purses": [(item.bucket_id, item.remaining_micros) for item in account.purses],
        "counters": sorted((item.counter_id, item.octets, item.micros) for item in account.counters),
        "past": sorted((item.counter_id, item.octets, item.micros) for item in account.past_counters),
        "connections": sum(row.connections for row in world.usage),
        "leases": world.leases,
        "gates": world.gates(),
        "products": [(item.product_id, item.status, item.end_ms) for item in account.products],
    }
