"""The engine agrees with the reference model on late flows: charged where they happened, as far as that is known.

The suite lives a few hundred days; `make agreement ARGS="--model late"` as many as one likes.
"""

import random
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from services.engine.tariff import compile_tariff
from tests.engine.reference_late import DAY, LateReference
from tests.engine.reference_times import clock
from tests.engine.test_reference import Day, a_scope, a_tariff, stamp
from tests.engine.world import APPLICATIONS, catalogue, micros

LATE_MINUTES = (1, 30, 300, 700, 1300, 1500, 3000, 5000)


def a_plainer_tariff(dice: random.Random) -> dict[str, Any]:
    """One in which most things are for any traffic, so that most flows are paid for by something."""
    tariff = a_tariff(dice)
    for offering in tariff["offerings"]:
        for thing in (*offering["allowances"], *offering["usage_prices"], *offering["money_allowances"]):
            if dice.random() < 0.7:
                thing["scope"] = {}
        for allowance in offering["allowances"]:
            allowance["octets" if "octets" in allowance else "seconds"] *= dice.choice([1, 3])
        for price in offering["usage_prices"]:
            price["cap"] = price["cap"] and dice.choice([None, price["cap"], 9_000_000])
        for price in offering["prices"]:
            price["type"] = dice.choice(["recurring", price["type"]])
        offering["rules"] = [name for name in offering["rules"] if dice.random() < 0.6]
    for rule in tariff["rules"]:
        if rule["gate_status"] == "closed" or dice.random() < 0.2:
            rule["scope"] = a_scope(dice)
    return tariff


class LateDay(Day):
    """Days on which some flows are told long after they happened."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.dice = random.Random(seed)
        # With an anchor that is moved again and again, cycles are of a day or two.
        self.restless, self.poor = self.dice.random() < 0.4, self.dice.random() < 0.4
        tariff = a_plainer_tariff(self.dice)
        if self.poor:
            tariff["offerings"][0]["prices"][0] |= {"type": "recurring", "amount": 1_500_000}
        payment = "prepaid" if self.poor else self.dice.choice(["prepaid", "postpaid"])
        parts = {part: tariff[part] for part in ("rules", "campaigns", "zones", "min_confidence")}
        self.engine = self.world(compile_tariff(catalogue(*tariff["offerings"], **parts)), payment)
        account = (tariff, APPLICATIONS, payment, self.at, (self.zone, self.anchor))
        self.model: LateReference = LateReference(*account)

    def live(self) -> None:
        for _ in range(3 if self.poor else 1):
            self.credit()
        self.buy("plan")
        for _ in range(36 if self.restless else 26):
            self.at += timedelta(minutes=self.dice.choice([0, 1, 50, 400, 700]))
            self.act()
        self.compare()

    def act(self) -> None:
        chances = {
            self.flow: 90, self.buy_any: 20, self.credit: 2 if self.poor else 12, self.cancel: 10, self.set_limit: 2,
            self.set_renewal: 1, self.raise_cap: 3, self.compare: 3, self.set_anchor: 50 if self.restless else 2,
        }  # fmt: skip
        self.dice.choices(list(chances), list(chances.values()))[0]()

    def buy_any(self) -> None:
        self.buy(self.dice.choice(["plan", "pack", "pass"]))

    def set_anchor(self) -> None:
        after = self.model.cycle_end if self.restless else self.at
        day = clock(after + timedelta(days=self.dice.randint(1, 2)), self.zone).day
        self.model.set_anchor(day, self.at)
        self.engine.profile(cycle_day=day, at=stamp(self.at))

    def flow(self) -> None:
        now = self.at
        if self.dice.random() < 0.6:
            self.model.pass_time(now)
            self.engine.timer(stamp(now))
            self.at = self.earlier()
        super().flow()
        self.at = now
        self.compare_flow()

    def earlier(self) -> Any:
        """A time before: some minutes ago, or where something began or ended."""
        model = self.model
        things = (*model.products, *model.gone_products, *model.lots, *model.gone_lots)
        edges = [thing[edge] for thing in things for edge in ("start", "end") if thing[edge]]
        edges += [model.cycle_start, *([model.before["start"]] if model.before else [])]
        edges = [edge for edge in edges if edge <= self.at]
        if self.dice.random() < 0.4:
            return self.dice.choice(edges) - timedelta(milliseconds=self.dice.choice([0, 1]))
        at = self.at - timedelta(minutes=self.dice.choice(LATE_MINUTES))
        if at < model.created and self.dice.random() < 0.8:
            # Most time of the account is more than what was before it.
            at = model.created + timedelta(milliseconds=self.dice.randrange(stamp(self.at) - stamp(model.created) + 1))
        return at

    def compare_flow(self) -> None:
        decision = self.engine.decisions[-1]
        assert decision.not_charged_octets == self.model.not_charged
        drawn: Counter[str] = Counter()
        for draw in decision.draws:
            drawn[draw.bucket_id] += draw.octets if draw.drawn_ms is None else draw.drawn_ms
        assert +drawn == +self.model.drawn
        rows = [row for row in self.engine.usage if row.kind == "usage"]
        assert self.engine.account is not None
        billed = sum(micros(row.amount) for row in rows) + sum(item.micros for item in self.engine.account.pending)
        assert billed == self.model.billed

    def compare(self) -> None:
        """What has ended and is kept holds the same, too."""
        super().compare()
        assert self.engine.account is not None
        lapsed = sorted((item.bucket_id, item.valid_from_ms, item.remaining) for item in self.engine.account.lapsed)
        kept = [lot for lot in self.model.gone_lots if self.at < lot["end"] + DAY]
        assert [item for item in lapsed if item[2]] == sorted(
            (lot["bucket"], stamp(lot["start"]), lot["left"]) for lot in kept if lot["left"]
        )


@pytest.mark.parametrize("block", range(6))
def test_the_engine_agrees_with_the_reference_on_late_flows(block: int) -> None:
    for seed in range(block * 60, block * 60 + 60):
        live(seed)


def live(seed: int) -> None:
    try:
        LateDay(seed).live()
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error
