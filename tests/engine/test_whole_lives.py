"""The properties of charging over whole lives: all that a catalogue can say, on days that the clocks change on.

Each world checks itself after each step: octets add up, nothing is below zero or rises by usage, movements are the
state, the gateway holds the rules in force.
"""

import itertools
import random
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.topics import FLOWS
from services.engine.decide import decide
from services.engine.effective import effective_rules
from services.engine.outcome import Position
from tests.engine.lives import Life, bill
from tests.engine.recorded import Recorded, Successor
from tests.engine.world import APPLICATIONS, World, classification, flow_record, micros

seeds = st.integers(0, 10**9)
lives = settings(max_examples=60, deadline=None)

APART = {"applications": ["telegram"]}
PACKAGE: dict[str, Any] = {
    "id": "apart", "rules": ["apart-closed", "apart-free"], "term_days": 2, "renewal": "automatic",
    "allowances": [
        {"id": "b0", "octets": 900, "scope": APART, "on_exhausted": "block"},
        {"id": "b1", "seconds": 9, "scope": APART, "on_exhausted": "throttle", "rollover": {"percent": 50}},
    ],
    "usage_prices": [
        {"id": "apart-octets", "amount": 0, "scope": APART, "cap": 0},
        {"id": "apart-flows", "unit": "connection", "amount": 5, "scope": APART, "cap": 0},
    ],
    "money_allowances": [{"id": "m", "amount": 1_000_000, "scope": APART}],
}  # fmt: skip
PACKAGE_RULES: list[dict[str, Any]] = [
    {"id": "apart-closed", "precedence": 0, "scope": APART, "gate_status": "closed", "spend": {"at_least": 1_000_000}},
    {"id": "apart-free", "precedence": 0, "scope": APART, "bucket": {"allowance": "b0", "state": "fresh"},
     "charging": "free"},
]  # fmt: skip


@given(seeds)
@lives
def test_in_how_many_records_a_flow_comes_changes_nothing(seed: int) -> None:
    """Of a flow in one moment, or one that passes evenly; a single octet of others may be on the far side of an end."""
    assert bill(Life(seed).live()) == bill(Life(seed, split=True).live())


@given(seeds)
@lives
def test_a_replay_is_bit_identical_from_a_state_that_was_read_back(seed: int) -> None:
    octets = []
    for kind in (Recorded, Successor):
        world = Life(seed, world=kind).live()
        assert isinstance(world, Recorded)
        octets.append(world.octets)
    assert octets[0] == octets[1]


@given(seeds)
@lives
def test_a_package_for_something_else_changes_no_charge(seed: int) -> None:
    """It has an allowance of each kind, rules before all others, and terms that are renewed; and it costs nothing."""
    without, beside = Life(seed), Life(seed, changes=_with_package)
    # Its own activation is a record, too: both count alike.
    without.world.ask_for_usage()
    beside.world.activate("apart", "apart")
    assert _charges(without.live()) == _charges(beside.live())
    assert without.world.balance() == beside.world.balance()


@given(seeds)
@lives
def test_a_rule_that_becomes_free_makes_no_bill_dearer(seed: int) -> None:
    """As long as no rule waits for a bucket or an amount, which is a tier by another name, and no money runs out.

    Nor is the catalogue another one meanwhile: octets that one version sells for nothing bring the next one's price
    nearer to its cheaper tier, or into a unit that is paid for, and what was free does not.
    """
    dear, cheap = (_Unlimited(seed, changes=change, payment="postpaid") for change in (_plain, _freer(seed)))
    assert _usage_micros(cheap.live()) <= _usage_micros(dear.live())


KINDS = list(
    itertools.product(
        [*APPLICATIONS, None], [None, "call"], ["UTRA", "NR"], ["00101", "26201", "31041"], ["internet", "ims"], [0, 9]
    )
)


@given(seeds)
@lives
def test_nothing_passes_behind_a_closed_gate_and_no_rule_decides_that_is_not_in_force(seed: int) -> None:
    """What gateways do for each member agrees with what is charged. Doubt is not looked at: they know of none."""
    world = Life(seed).live()
    world.timer(world.now_ms)
    account, dice = world.account, random.Random(seed)
    assert account is not None
    for member in account.subscriber_ids:
        in_force = effective_rules(account, world.tariff, at_ms=account.settled_ms, subscriber_id=member)
        gates = {rule.id: rule.gate_status for rule in in_force}
        for app, service, rat, plmn, dnn, level in dice.sample(KINDS, 30):
            where = {"rat_type": rat, "serving_plmn": plmn, "dnn": dnn, "congestion_level": level, "subscriber_port": 9}
            at_ms = account.settled_ms
            flow = flow_record(1, at_ms=at_ms, end_ms=at_ms, record_id="x", subscriber_id=member, **where)
            when = {"at": Position(FLOWS, 0, 10**6), "now_ms": world.now_ms, "leases": world.leases}
            seen = decide(flow, classification(app, service=service), account, world.tariff, **when).decision
            assert seen is not None
            assert gates[seen.rule_id] == "open" or seen.blocked_octets == 1, (seen, gates)


LAG_MS = 30 * 60_000


@given(seeds)
@lives
def test_a_flow_that_is_told_late_is_charged_as_if_it_had_been_in_time(seed: int) -> None:
    """Whatever has ended, been renewed or been granted anew meanwhile.

    Not looked at: granted money, of which late flows find what is still there; what was kept of a bucket before they
    came; shares that are new with a term; and a balance that a fee was first to take.
    """
    bills = []
    for kind in (_InTime, _Lagging):
        life = kind(seed, changes=_without_what_is_left, payment="postpaid")
        life.live()
        life.world.timer(life.world.now_ms + LAG_MS)
        found = bill(life.world)
        bills.append({name: found[name] for name in ("charged", "free", "sponsored", "blocked", "money", "products")})
        bills[-1]["buckets"] = sorted(found["buckets"])
    assert bills[0] == bills[1]


class _InTime(Life):
    """Each flow is told as it happens, then nothing happens for a while."""

    def _flow(self, fields: dict[str, Any], *, late_ms: int = 0) -> None:
        super()._flow(fields)
        self.world.now_ms += LAG_MS

    def _buy(self, fields: dict[str, Any]) -> None:
        super()._buy(fields | {"hours": None})

    def _publish(self, fields: dict[str, Any]) -> None:
        pass


class _Lagging(_InTime):
    """Each flow is told after that while, and all that was due in it has come about."""

    def _flow(self, fields: dict[str, Any], *, late_ms: int = 0) -> None:
        began_ms = self.world.now_ms
        self.world.timer(began_ms + LAG_MS)
        Life._flow(self, fields, late_ms=LAG_MS)
        self.world.now_ms = began_ms + fields["lasts"] + LAG_MS


def _without_what_is_left(tariff: dict[str, Any]) -> None:
    for offering in tariff["offerings"]:
        offering["money_allowances"] = []
        for allowance in offering["allowances"]:
            allowance.update(rollover=None, per_member_octets=None, per_member_seconds=None)


class _Unlimited(Life):
    """What stops at a limit in one place can come nearer to it in another."""

    def _limit(self, fields: dict[str, Any]) -> None:
        pass

    def _raise(self, fields: dict[str, Any]) -> None:
        pass

    def _publish(self, fields: dict[str, Any]) -> None:
        pass


def _with_package(tariff: dict[str, Any]) -> None:
    tariff["offerings"] = [PACKAGE, *tariff["offerings"]]
    tariff["rules"] = [*PACKAGE_RULES, *tariff["rules"]]


def _plain(tariff: dict[str, Any]) -> None:
    """No limit stops traffic: what is free leaves its part of one to others, whose connections cost something, too."""
    for rule in tariff["rules"]:
        rule.update(bucket=None, spend=None)
    for offering in tariff["offerings"]:
        for allowance in offering["allowances"]:
            if allowance["on_exhausted"] == "block":
                allowance["on_exhausted"] = "continue"
        for price in offering["usage_prices"]:
            price["on_cap"] = "free"
        # Dearer than all others, so that it is for what nothing else is for.
        offering["usage_prices"].append({"id": "else", "amount": 1, "per_octets": 100})


def _freer(seed: int) -> Callable[[dict[str, Any]], None]:
    place = random.Random(seed).random()

    def change(tariff: dict[str, Any]) -> None:
        _plain(tariff)
        if rules := tariff["rules"]:
            rules[int(place * len(rules))].update(charging="free", campaign=None)

    return change


def _charges(world: World) -> list[tuple[object, ...]]:
    return [
        (
            item.rule_id, item.treatment, item.charged_octets, item.free_octets, item.sponsored_octets,
            item.blocked_octets, item.not_charged_octets, item.draws, item.price, item.connection, item.payments,
        )
        for item in world.decisions
    ]  # fmt: skip


def _usage_micros(world: World) -> int:
    """What usage came to, whoever paid: granted money that is not spent on one thing can end before the next."""
    return sum(micros(row.amount) for row in world.usage if row.kind == "usage")
