"""A catalogue as the tariff's lint looks at it: scopes compiled, who brings which rule, and where everything stands."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from schemas.catalogue import PccRule, ProductOffering, UsagePrice
from schemas.catalogue_allowances import Allowance
from schemas.fields import MAX_CONGESTION
from services.engine.holdings import Holdings
from services.engine.scopes import uncovered
from services.engine.tariff import Reach
from services.rating.catalogue_files import CatalogueSource
from services.rating.catalogue_yaml import KeyPath
from services.rating.findings import Finding, Severity

NEVER = "never drawn"


@dataclasses.dataclass(frozen=True, slots=True)
class Payer:
    """An allowance or a usage price of an offering: what traffic can be paid from."""

    offering: ProductOffering
    part: Allowance | UsagePrice
    reach: Reach
    path: KeyPath

    @property
    def name(self) -> str:
        """`allowance plan/data`, for people."""
        kind = "allowance" if isinstance(self.part, Allowance) else "usage price"
        return f"{kind} {self.offering.id}/{self.part.id}"


MAX_PLANS_OF_A_RULE = 64
"""A rule under more plans than these is held against all others."""


class RuleIndex:
    """Rules by the application and the plan without which they are never in force; None stands for any.

    Rules for different applications never meet, nor do those under different plans; so a thousand plans that each bring
    a rule of the same precedence are not held against each other.
    """

    def __init__(self) -> None:
        self._rules: dict[str | None, dict[str | None, list[PccRule]]] = {}

    def that_may_meet(self, applications: Sequence[str], plans: Sequence[str | None]) -> Iterator[PccRule]:
        """Those that may be in force for traffic of `applications`, or any, on `plans`; some more than once."""
        for name in (*applications, None) if applications else tuple(self._rules):
            under = self._rules.get(name, {})
            for plan in tuple(under) if None in plans else (*plans, None):
                yield from under.get(plan, ())

    def add(self, rule: PccRule, plans: Sequence[str | None]) -> None:
        """Remember a rule."""
        for name in rule.scope.applications or (None,):
            for plan in plans:
                self._rules.setdefault(name, {}).setdefault(plan, []).append(rule)


class View:
    """What the checks share; built once for each catalogue."""

    def __init__(self, source: CatalogueSource, at_ms: int) -> None:
        self.source = source
        self.catalogue = source.catalogue
        self.at_ms = at_ms
        self.offerings: Mapping[str, ProductOffering] = {item.id: item for item in self.catalogue.offerings}
        self.rules: Mapping[str, PccRule] = {item.id: item for item in self.catalogue.rules}
        self.reach: Mapping[str, Reach] = {item.id: Reach.of(item.scope) for item in self.catalogue.rules}
        self.category_of = {item.id: item.category for item in self.catalogue.applications}
        zones = self.catalogue.zones
        # Where there is a home zone, a network that nothing lists is at home or in the zone for the rest.
        self.zones = tuple(zone.id for zone in zones) if any(zone.home for zone in zones) else ()
        self.holdings = Holdings(self.catalogue)
        self._payers: dict[str, list[Payer]] = {}

    @functools.cached_property
    def holders(self) -> Mapping[str, list[ProductOffering]]:
        """The offerings that bring each rule."""
        found: dict[str, list[ProductOffering]] = {rule_id: [] for rule_id in self.rules}
        for offering in self.catalogue.offerings:
            for rule_id in dict.fromkeys(offering.rules):
                found[rule_id].append(offering)
        return found

    @functools.cached_property
    def plans(self) -> list[ProductOffering]:
        """The base plans."""
        return [offering for offering in self.catalogue.offerings if offering.kind == "base_plan"]

    def plans_under(self, rule: PccRule) -> tuple[str | None, ...]:
        """The plans one of which stands under whoever brings the rule; None for any, or for very many."""
        found: set[str] = set()
        for holder in self.holders[rule.id]:
            plans = self.holdings.plans_of(holder.id)
            if plans is None or len(found | plans) > MAX_PLANS_OF_A_RULE:
                return (None,)
            found |= plans
        return tuple(sorted(found))

    def plans_beside(self, offering: ProductOffering) -> tuple[str | None, ...]:
        """The plans one of which stands under the offering; None for any."""
        plans = self.holdings.plans_of(offering.id)
        return (None,) if plans is None else tuple(sorted(plans))

    def index(self, rules: Iterable[PccRule]) -> RuleIndex:
        """The rules that some offering brings, by application and plan."""
        index = RuleIndex()
        for rule in rules:
            if self.holders[rule.id]:
                index.add(rule, self.plans_under(rule))
        return index

    def on_sale(self, offering: ProductOffering) -> bool:
        """Whether the offering can be ordered, or will be."""
        ended = offering.valid_until_ms is not None and offering.valid_until_ms <= self.at_ms
        return offering.lifecycle_status == "active" and not ended

    def payers(self, offering: ProductOffering) -> list[Payer]:
        """The allowances and the usage prices of an offering."""
        if offering.id not in self._payers:
            self._payers[offering.id] = list(_payers(offering))
        return self._payers[offering.id]

    def certain_rules(self, offering: ProductOffering) -> list[PccRule]:
        """The rules that whoever holds the offering has, in the order in which they are asked."""
        return in_order(self.rules[rule_id] for rule_id in self.holdings.certain_rules(offering.id))

    def taken(self, payer: Payer, rules: Sequence[PccRule]) -> str | None:
        """What is left to draw where `rules` take the payer's traffic, in words; None where they leave some of it."""
        over = [self.reach[rule.id] for rule in rules]
        if not over:
            return None
        if uncovered(payer.reach, over, zones=self.zones) is None:
            return NEVER if all(map(is_sure, rules)) else "drawn by doubtful traffic only"
        own = self.own_traffic(payer.reach)
        if own is payer.reach or uncovered(own, over, zones=self.zones) is not None:
            return None
        return f"hardly ever drawn, since not by its {' and '.join(sorted(own.categories))} traffic"

    def at_home(self, reach: Reach) -> Reach | None:
        """The part of a scope that is in the home zone; None where none is, or places are not told apart."""
        home = next((zone.id for zone in self.catalogue.zones if zone.home), None)
        if home is None or (reach.zones and home not in reach.zones):
            return None
        return dataclasses.replace(reach, zones=frozenset((home,)))

    def own_traffic(self, reach: Reach) -> Reach:
        """A scope of applications without categories as that of what these applications are for.

        A call in a social application is of another category; it is not what a pack for that application is bought for.
        """
        categories = {self.category_of.get(name) for name in reach.applications}
        if reach.categories or not categories or None in categories:
            return reach
        return dataclasses.replace(reach, categories=frozenset(name for name in categories if name))

    def finding(
        self,
        code: str,
        place: tuple[str, str],
        message: str,
        next_step: str,
        *,
        path: KeyPath = (),
        severity: Severity = "error",
        others: tuple[str, ...] = (),
    ) -> Finding:
        """A finding at `path` inside the item (part, id)."""
        part, item_id = place
        objects = (f"{part.removesuffix('s')} {item_id}", *others)
        return Finding(code, self.source.locate(part, item_id, path), message, next_step, severity, objects)


def in_order(rules: Iterator[PccRule]) -> list[PccRule]:
    """Rules in the order in which they are asked."""
    return sorted(rules, key=asked)


def asked(rule: PccRule) -> tuple[int, str]:
    """The place of a rule among others: the lowest precedence first, then the id."""
    return rule.precedence, rule.id


def is_sure(rule: PccRule) -> bool:
    """Whether a rule that is held is in force at all times and for whatever traffic is in its scope."""
    any_congestion = rule.min_congestion == 0 and rule.max_congestion == MAX_CONGESTION
    account = rule.bucket is None and rule.subscribers is None and rule.campaign is None and rule.spend is None
    return account and any_congestion and rule.min_confidence == 0 and rule.suspect == "any"


def _payers(offering: ProductOffering) -> Iterator[Payer]:
    for number, allowance in enumerate(offering.allowances):
        yield Payer(offering, allowance, Reach.of(allowance.scope), ("allowances", number))
    for number, price in enumerate(offering.usage_prices):
        yield Payer(offering, price, Reach.of(price.scope), ("usage_prices", number))
