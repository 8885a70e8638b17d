"""The engine and the reference model agree on corrections: refunds, voids, and rating again under a new catalogue.

The suite lives a few hundred days; `make agreement ARGS="--model corrections"` ten thousand.
"""

import copy
import random
from typing import Any

import pytest

from schemas.command import CorrectedUsage, RefundUsage, RerateUsage, VoidUsage
from schemas.units import format_micros
from schemas.usage import RatedUsage
from services.engine.tariff import compile_tariff
from tests.engine.reference_corrections import CorrectedReference, Receipt
from tests.engine.test_reference import APPLICATIONS, Day, a_price, a_tariff, stamp
from tests.engine.world import RefusedError, catalogue


def another_tariff(dice: random.Random, tariff: dict[str, Any]) -> dict[str, Any]:
    """The same with other prices, gates, payers and ends. It looks at the same things, so that all of it is known."""
    other = copy.deepcopy(tariff)
    for offering in other["offerings"]:
        for price in offering["usage_prices"]:
            if dice.random() < 0.5:
                fresh = next(new for new in iter(lambda: a_price(dice, 0), None) if is_alike(new, price))
                price.update(fresh | {"scope": price["scope"], "id": price["id"]})
        for allowance in offering["allowances"]:
            allowance["on_exhausted"] = dice.choice(["continue", "throttle", "block"])
    for rule in other["rules"]:
        if dice.random() < 0.4:
            rule["charging"] = dice.choice(["charge", "free", "sponsored"])
            rule["campaign"] = "c" if rule["charging"] == "sponsored" else None
            rule["gate_status"] = dice.choice(["open", "open", "closed"])
            rule["precedence"] = dice.randint(0, 9)
    return other


def is_alike(price: dict[str, Any], other: dict[str, Any]) -> bool:
    return price.get("unit") == other.get("unit")


class CorrectedDay(Day):
    """Days on which what was charged is corrected."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.dice = random.Random(seed)
        self.tariff = a_tariff(self.dice)
        payment = self.dice.choice(["prepaid", "postpaid"])
        self.version = 0
        self.engine = self.world(self.compiled(), payment)
        account = (self.tariff, APPLICATIONS, payment, self.at, (self.zone, self.anchor))
        self.model: CorrectedReference = CorrectedReference(*account)
        self.pairs: list[tuple[RatedUsage, Receipt]] = []
        self.told = 0

    def compiled(self) -> Any:
        parts = {part: self.tariff[part] for part in ("rules", "campaigns", "zones", "min_confidence")}
        return compile_tariff(catalogue(*self.tariff["offerings"], version=f"v{self.version}", **parts))

    def flow(self) -> None:
        super().flow()
        self.engine.emit()
        self.pair()
        if self.dice.random() < 0.4:
            self.dice.choice([self.void, self.rerate, self.refund, self.rerate_under_another])()

    def pair(self) -> None:
        """Lay rows of the engine and receipts of the model beside each other, as far as something passed."""
        rows = [row for row in self.engine.usage[self.told :] if row.kind == "usage" and volume(row)]
        self.told = len(self.engine.usage)
        receipts = self.model.new_receipts()
        wanted = [item["octets"] + item["connections"] for item in receipts]
        assert [volume(row) for row in rows] == wanted, (rows, receipts)
        self.pairs += zip(rows, receipts, strict=True)

    def chosen(self, most: int) -> list[tuple[RatedUsage, Receipt]]:
        """Some pairs that can be corrected. Those that cannot are refused."""
        self.engine.timer(stamp(self.at))
        self.model.pass_time(self.at)
        believed = [pair for pair in self.pairs if not (pair[0].circumstances or "").endswith("doubted")]
        for row, receipt in self.dice.sample(believed, min(1, len(believed))):
            if not self.model.is_open(receipt):
                with pytest.raises(RefusedError, match=r"period_closed|granted_money"):
                    self.order(RerateUsage, lines=(line_of(row),))
        fit = [pair for pair in believed if self.model.is_open(pair[1])]
        return self.dice.sample(fit, self.dice.randint(0, min(most, len(fit))))

    def order(self, kind: type, **fields: Any) -> None:
        assert self.engine.account is not None
        known = {} if kind is RefundUsage else {"reclassified": self.engine.account.reclassified}
        self.engine.command(kind, at=stamp(self.at), **fields, **known)

    def done(self, pairs: list[tuple[RatedUsage, Receipt]]) -> None:
        self.pairs = [pair for pair in self.pairs if pair not in pairs]
        self.pair()
        self.compare()

    def void(self) -> None:
        pairs = self.chosen(1)
        for row, receipt in pairs:
            self.order(VoidUsage, line=line_of(row))
            self.model.void(receipt, self.at)
        self.done(pairs)

    def refund(self) -> None:
        pairs = self.chosen(1)
        for row, receipt in pairs:
            octets, ms = (self.dice.randint(0, sum(receipt[name].values())) for name in ("drawn", "drawn_ms"))
            micros = self.dice.choice([0, receipt["micros"] // 2, receipt["micros"]])
            self.order(RefundUsage, line=line_of(row), octets=octets, ms=ms, amount=format_micros(micros))
            self.model.refund(receipt, micros, octets, ms, self.at)
        self.done(pairs)

    def rerate(self) -> None:
        pairs = self.chosen(9)
        if pairs:
            # Whatever the order of the order; what happened at the same moment keeps its own.
            mixed = sorted(pairs, key=lambda pair: (-stamp(pair[1]["at"]), pair[1]["number"]))
            self.order(RerateUsage, lines=tuple(line_of(row) for row, _ in mixed))
            self.model.rerate([receipt for _, receipt in pairs], self.at)
        self.done(pairs)

    def rerate_under_another(self) -> None:
        self.engine.timer(stamp(self.at))
        self.tariff, self.version = another_tariff(self.dice, self.tariff), self.version + 1
        self.engine.tariff = self.compiled()
        self.model.publish(self.tariff, self.at)
        self.rerate()


def volume(row: RatedUsage) -> int:
    """Octets that passed, or connections."""
    return row.charged_octets + row.free_octets + row.sponsored_octets + row.connections


def line_of(row: RatedUsage) -> CorrectedUsage:
    names = [name for name in CorrectedUsage.__struct_fields__ if hasattr(row, name)]
    return CorrectedUsage(**{name: getattr(row, name) for name in names})


@pytest.mark.parametrize("block", range(6))
def test_the_engine_agrees_with_the_reference_on_corrections(block: int) -> None:
    for seed in range(block * 70, block * 70 + 70):
        live(seed)


def live(seed: int) -> None:
    try:
        CorrectedDay(seed).live()
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error
