"""What an account can hold at the same time, and what it holds for certain: the rules of ordering, turned around."""

from collections.abc import Mapping

from schemas.catalogue import Catalogue, ProductOffering, SubscriberCondition

_PROFILE = ("segments", "age_bands", "consumption_levels", "payments", "tiers")


class Holdings:
    """The offerings of a catalogue, by what else an account can or must hold beside them."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._offerings: Mapping[str, ProductOffering] = {item.id: item for item in catalogue.offerings}
        self._plans: dict[str, frozenset[str] | None] = {}
        self._certain: dict[str, frozenset[str]] = {}

    def together(self, one: ProductOffering, other: ProductOffering) -> bool:
        """Whether an account can hold both: they do not exclude each other, and there is a plan and a profile."""
        if one.id == other.id:
            return one.max_held != 1
        if one.kind == other.kind == "base_plan" or one.id in other.excludes or other.id in one.excludes:
            return False
        mine, theirs = self.plans_of(one.id), self.plans_of(other.id)
        return not (mine is not None and theirs is not None and mine.isdisjoint(theirs)) and same_person(
            one.eligibility, other.eligibility
        )

    def plans_of(self, offering_id: str) -> frozenset[str] | None:
        """The base plans one of which stands under an offering; None when it needs none."""
        if offering_id not in self._plans:
            self._plans[offering_id] = None  # An offering that requires itself in a circle says nothing.
            self._plans[offering_id] = self._find_plans(self._offerings[offering_id])
        return self._plans[offering_id]

    def certain_rules(self, offering_id: str) -> frozenset[str]:
        """The rules that whoever holds an offering has: its own, and those that all it can require bring."""
        if offering_id not in self._certain:
            self._certain[offering_id] = frozenset()
            offering = self._offerings[offering_id]
            below = [self.certain_rules(needed) for needed in offering.requires]
            shared = frozenset.intersection(*below) if below else frozenset()
            self._certain[offering_id] = shared | frozenset(offering.rules)
        return self._certain[offering_id]

    def _find_plans(self, offering: ProductOffering) -> frozenset[str] | None:
        if offering.kind == "base_plan":
            return frozenset((offering.id,))
        below = [self.plans_of(needed) for needed in offering.requires]
        known = [plans for plans in below if plans is not None]
        if not below or len(known) < len(below):
            return None
        return frozenset().union(*known) - frozenset(offering.excludes)


def same_person(one: SubscriberCondition | None, other: SubscriberCondition | None) -> bool:
    """Whether the profile of one account can meet both conditions; None asks for nothing."""
    mine, theirs = one or SubscriberCondition(), other or SubscriberCondition()
    pairs = ((set(getattr(mine, name)), set(getattr(theirs, name))) for name in _PROFILE)
    return all(not wanted or not asked or not wanted.isdisjoint(asked) for wanted, asked in pairs)
