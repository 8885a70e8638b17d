"""Lint of PCC rules: rules that never win, that win by chance, or that do what their evidence does not carry."""

import itertools
from collections.abc import Iterable, Iterator, Sequence, Set

from schemas.catalogue import BucketCondition, PccRule, ProductOffering, SpendCondition, SubscriberCondition
from schemas.catalogue_allowances import Allowance
from schemas.units import format_micros
from services.engine.classify_evidence import PORT
from services.engine.holdings import same_person
from services.engine.scopes import covers, meet, uncovered, week_of
from services.rating.findings import Finding
from services.rating.tariff_lint_people import is_for, people_of
from services.rating.tariff_lint_view import RuleIndex, View, asked

MAX_SITUATIONS = 64
"""Levels of congestion times amounts spent that are looked at for one rule; with more, there is no answer."""

WITHOUT_END = 1 << 63


def unreachable_rules(view: View) -> Iterator[Finding]:
    """A rule that never wins: nobody can hold it, or it always comes with others that are asked first and fit."""
    for rule in view.catalogue.rules:
        holders = view.holders[rule.id]
        if not holders:
            step = "add it to an offering, or remove it"
            yield view.finding("unreachable-rule", ("rules", rule.id), f"no offering brings rule {rule.id!r}", step)
            continue
        winners = _winners(view, rule, holders)
        if winners:
            names = " and ".join(f"{one.id!r} at {view.source.locate('rules', one.id)}" for one in winners)
            precedences = ", ".join(str(one.precedence) for one in winners)
            yield view.finding(
                "unreachable-rule", ("rules", rule.id),
                f"rule {rule.id!r} (precedence {rule.precedence}) never wins: {names} (precedence {precedences}) "
                f"{'fits' if len(winners) == 1 else 'together fit'} wherever it does",
                "remove it, narrow the other, or change the precedence",
                others=tuple(f"rule {one.id}" for one in winners),
            )  # fmt: skip
        elif winners := _winners_by_evidence(view, rule, holders):
            first = winners[0]
            yield view.finding(
                "unreachable-rule", ("rules", rule.id),
                f"rule {rule.id!r} (precedence {rule.precedence}) wins by doubtful traffic only: {first.id!r} at "
                f"{view.source.locate('rules', first.id)} (precedence {first.precedence}) takes all else, for whoever "
                "can hold it",
                "lower its precedence below the other's, or remove it", path=("precedence",), severity="warning",
                others=tuple(f"rule {one.id}" for one in winners),
            )  # fmt: skip


def rules_for_nobody(view: View) -> Iterator[Finding]:
    """A rule for accounts that can hold none of the offerings that bring it."""
    for rule in view.catalogue.rules:
        holders = view.holders[rule.id]
        if rule.subscribers is None or not holders:
            continue
        reasons = [_why_never(view, rule.subscribers, holder) for holder in holders]
        if all(reasons):
            yield view.finding(
                "unreachable-rule", ("rules", rule.id),
                f"rule {rule.id!r} never applies: {reasons[0]}",
                "mend the rule's `subscribers`, or bring it by another offering", path=("subscribers",),
                severity="warning", others=tuple(f"offering {holder.id}" for holder in holders),
            )  # fmt: skip


def spend_of_nothing(view: View) -> Iterator[Finding]:
    """A rule that waits for an amount to be spent where no usage price is for sale."""
    priced = [offering for offering in view.catalogue.offerings if offering.usage_prices]
    for rule in view.catalogue.rules:
        holders = view.holders[rule.id]
        if rule.spend is None or rule.spend.at_least is None or not holders:
            continue
        pairs = itertools.product(holders, priced)
        if not any(holder.id == other.id or view.holdings.together(holder, other) for holder, other in pairs):
            yield view.finding(
                "unreachable-rule", ("rules", rule.id),
                f"rule {rule.id!r} waits until {format_micros(rule.spend.at_least)} are spent on usage, and nobody who "
                "has it has a usage price",
                "remove it, or its `spend`", path=("spend",), severity="warning",
            )  # fmt: skip


def charged_before_free(view: View) -> Iterator[Finding]:
    """A rule for speed or access that is asked before a narrower one which is free or sponsored, and charges.

    Who holds both pays for what was to cost nothing. A rule that does nothing but charge is an exception that is meant.
    """
    speed = view.index(rule for rule in view.catalogue.rules if _only_treats(rule))
    for rule in view.catalogue.rules:
        if rule.charging == "charge" or rule.gate_status == "closed" or rule.suspect == "only":
            continue
        near = speed.that_may_meet(rule.scope.applications, view.plans_under(rule))
        first = next((one for one in near if _overrules(view, one, rule)), None)
        if first is not None:
            yield view.finding(
                "charged-before-free", ("rules", first.id),
                f"rule {first.id!r} (precedence {first.precedence}) charges, is asked before rule {rule.id!r} "
                f"(precedence {rule.precedence}), which is {rule.charging}, and covers more than that: whoever holds "
                f"both pays for traffic of {rule.id!r}",
                f"give {rule.id!r} the lower precedence, and its own `qos` if it is to have that, too",
                path=("precedence",), severity="warning", others=(f"rule {rule.id}",),
            )  # fmt: skip


def equal_precedences(view: View) -> Iterator[Finding]:
    """Two rules of one precedence that one account can hold for the same traffic: their ids decide, not their order."""
    groups: dict[int, RuleIndex] = {}
    for rule in sorted(view.catalogue.rules, key=asked):
        earlier, plans = groups.setdefault(rule.precedence, RuleIndex()), view.plans_under(rule)
        near = earlier.that_may_meet(rule.scope.applications, plans)
        first = next((one for one in near if _by_chance(view, one, rule)), None)
        if first is not None:
            yield view.finding(
                "equal-precedence", ("rules", rule.id),
                f"rules {first.id!r} and {rule.id!r} both have precedence {rule.precedence}, one account can hold "
                f"both, and some traffic is in the scope of both; only their ids say which wins",
                "give each its own precedence; the lower one wins", path=("precedence",),
                others=(f"rule {first.id}",),
            )  # fmt: skip
        earlier.add(rule, plans)


def missing_allowances(view: View) -> Iterator[Finding]:
    """A rule that waits for an allowance that the offering which brings it does not have."""
    for offering in view.catalogue.offerings:
        known = {allowance.id for allowance in offering.allowances}
        for rule_id in offering.rules:
            bucket = view.rules[rule_id].bucket
            if bucket is not None and bucket.allowance not in known:
                effect = (
                    "never applies"
                    if bucket.state in ("available", "fresh")
                    else "always applies, as if it were used up"
                )
                yield view.finding(
                    "no-allowance", ("offerings", offering.id),
                    f"rule {rule_id!r} asks for the allowance {bucket.allowance!r}, which offering {offering.id!r} "
                    f"does not grant: it {effect}",
                    "grant it, or mend the rule's `bucket`", path=("rules",), others=(f"rule {rule_id}",),
                )  # fmt: skip


def throttles_without_qos(view: View) -> Iterator[Finding]:
    """An allowance that is throttled when it is used up, and no rule that holds the rate down."""
    for offering in view.catalogue.offerings:
        for payer in view.payers(offering):
            allowance = payer.part
            if not isinstance(allowance, Allowance) or allowance.on_exhausted != "throttle":
                continue
            slow = [rule for rule in map(view.rules.__getitem__, offering.rules) if _slows(rule, allowance)]
            left = uncovered(payer.reach, [view.reach[rule.id] for rule in slow], zones=view.zones)
            if left is not None:
                found = f"rule {slow[0].id!r} slows a part of it only" if slow else "no rule of the offering slows it"
                yield view.finding(
                    "throttle-without-qos", ("offerings", offering.id),
                    f"{payer.name} is throttled when it is used up, but {found}: the rest is free at full speed",
                    f"bring a rule for its scope with `bucket: {{allowance: {allowance.id}, state: exhausted}}` "
                    "and `qos: {mbr_down_bps: ...}`",
                    path=payer.path, others=(payer.name,),
                )  # fmt: skip


def weak_evidence(view: View) -> Iterator[Finding]:
    """A rule that closes the gate or takes nothing, on evidence as weak as a port number."""
    for rule in view.catalogue.rules:
        if rule.min_confidence > PORT or rule.suspect == "only" or not _depends_on_evidence(rule):
            continue
        if rule.gate_status == "closed":
            effect = "closes the gate for traffic that a port number or a rhythm alone speaks for"
        elif rule.charging != "charge" and view.catalogue.min_confidence <= PORT and not _is_slow_lane(rule):
            effect = f"is {rule.charging} for traffic that is easily forged"
        else:
            continue
        yield view.finding(
            "weak-evidence", ("rules", rule.id),
            f"rule {rule.id!r} {effect}: it asks for a confidence of {rule.min_confidence}, and such evidence has "
            f"up to {PORT}",
            f"set min_confidence above {PORT}", severity="warning",
        )  # fmt: skip


def _why_never(view: View, condition: SubscriberCondition, holder: ProductOffering) -> str | None:
    """Why no account that can order `holder` meets the condition; None when one can."""
    if not same_person(condition, holder.eligibility):
        return f"offering {holder.id!r} is for other people than its `subscribers`"
    names = condition.offerings
    if names and not any(name == holder.id or view.holdings.together(holder, view.offerings[name]) for name in names):
        return f"nobody can hold offering {holder.id!r} beside {' or '.join(map(repr, names))}"
    return None


def _winners_by_evidence(view: View, rule: PccRule, holders: Sequence[ProductOffering]) -> list[PccRule]:
    """Rules of other offerings that leave `rule` only traffic that they do not trust; empty when there is more.

    A second rule of the same offering for what the first does not trust is a common way to write a fallback.
    """
    winners = _winners(view, rule, holders, believed=True) if rule.suspect != "only" else []
    brought = {name for holder in holders for name in holder.rules}
    return [] if any(one.id in brought for one in winners) else winners


def _winners(view: View, rule: PccRule, holders: Sequence[ProductOffering], *, believed: bool = False) -> list[PccRule]:
    """The rules that leave `rule` nothing, whichever of `holders` brings it; empty when something is left.

    With `believed`, of traffic that nothing speaks against.
    """
    found: dict[str, PccRule] = {}
    for holder in holders:
        winners = _winners_under(view, rule, holder, believed=believed)
        if not winners:
            return []
        found.update((winner.id, winner) for winner in winners)
    return list(found.values())


def _winners_under(view: View, rule: PccRule, holder: ProductOffering, *, believed: bool) -> list[PccRule]:
    earlier = [
        one
        for one in view.certain_rules(holder)
        if asked(one) < asked(rule) and (_trusts(one, rule) or (believed and one.suspect != "only"))
        and _runs_throughout(view, one, rule)
    ]  # fmt: skip
    found: dict[str, PccRule] = {}
    people = people_of(view, rule, holder, earlier)
    everybody = ([one for one in earlier if is_for(one, person, rule, holder)] for person in people)
    for active in itertools.chain.from_iterable(_situations(rule, one) for one in everybody):
        winners = _winners_in(view, rule, active, holder)
        if not winners:
            return []
        found.update((winner.id, winner) for winner in winners)
    return list(found.values())


def _situations(rule: PccRule, earlier: Sequence[PccRule]) -> Iterator[list[PccRule]]:
    """For each level of congestion and amount spent that tells rules apart and that `rule` is for: who is in force."""
    levels = _cuts(
        rule.min_congestion, rule.max_congestion + 1,
        (bound for one in earlier for bound in (one.min_congestion, one.max_congestion + 1)),
    )  # fmt: skip
    low, high = _amounts(rule.spend)
    amounts = _cuts(low, high, (bound for one in earlier for bound in _amounts(one.spend)))
    if len(levels) * len(amounts) > MAX_SITUATIONS:
        return
    for level, spent in itertools.product(levels, amounts):
        bounds = ((one, *_amounts(one.spend)) for one in earlier)
        yield [
            one for one, least, below in bounds
            if one.min_congestion <= level <= one.max_congestion and least <= spent < below
        ]  # fmt: skip


def _cuts(low: int, high: int, bounds: Iterable[int]) -> list[int]:
    return sorted({low, *(bound for bound in bounds if low < bound < high)})


def _amounts(spend: SpendCondition | None) -> tuple[int, int]:
    """The least amount that a condition holds for, and the first beyond it."""
    if spend is None:
        return 0, WITHOUT_END
    return spend.at_least or 0, WITHOUT_END if spend.below is None else spend.below


def _winners_in(view: View, rule: PccRule, earlier: Sequence[PccRule], holder: ProductOffering) -> list[PccRule]:
    # A bucket is one of the product that brings the rule, so the states of two products are two things.
    own, shared = set(holder.rules), {item.id for item in holder.allowances if item.share is not None}
    fitting = [
        one
        for one in earlier
        if one.bucket is None or (one.id in own and _follows(rule.bucket, one.bucket, shared))
    ]  # fmt: skip
    target = view.reach[rule.id]
    week = week_of(target.windows)
    for one in fitting:
        if covers(view.reach[one.id], target) and not week & ~week_of(view.reach[one.id].windows):
            return [one]
    if rule.bucket is None:
        states = [one for one in earlier if one.bucket is not None and one.id in own]
        for bucket in dict.fromkeys(one.bucket for one in states if one.bucket):
            # Whatever the state of the bucket, one side of it is in force.
            here = [one for one in states if one.bucket == bucket]
            there = [one for one in states if one.bucket and _are_opposite(one.bucket, bucket)]
            sides = ([*fitting, *here], [*fitting, *there])
            if all(uncovered(target, [view.reach[one.id] for one in side], zones=view.zones) is None for side in sides):
                return _needed(view, rule, [*fitting, *here, *there])
    covered = uncovered(target, [view.reach[one.id] for one in fitting], zones=view.zones) is None
    return _needed(view, rule, fitting) if covered else []


def _follows(state: BucketCondition | None, other: BucketCondition, shared: Set[str]) -> bool:
    """Whether `other` holds whenever `state` does.

    Of `shared` allowances, a percentage is the account's, while empty they are to each member by its own share.
    """
    if state is None or state.allowance != other.allowance:
        return False
    if state == other:
        return True
    if state.allowance in shared and state.state != other.state:
        return False
    used = {"exhausted": 100, "used": state.percent or 0}.get(state.state)
    if other.state == "used":
        return used is not None and used >= (other.percent or 0)
    if state.state != "fresh":
        return False
    return other.state == "available" or (other.state == "fresh" and (state.percent or 0) <= (other.percent or 0))


def _needed(view: View, rule: PccRule, winners: list[PccRule]) -> list[PccRule]:
    """Those of `winners` that meet the rule at all: the ones to name."""
    return [one for one in winners if meet(view.reach[one.id], view.reach[rule.id], view.category_of)]


def _trusts(winner: PccRule, loser: PccRule) -> bool:
    """Whether `winner` takes all evidence that `loser` does."""
    return winner.min_confidence <= loser.min_confidence and winner.suspect in ("any", loser.suspect)


def _runs_throughout(view: View, winner: PccRule, loser: PccRule) -> bool:
    """Whether the winner's campaign runs whenever the loser can apply."""
    if winner.campaign in (None, loser.campaign):
        return True
    campaigns = {item.id: item for item in view.catalogue.campaigns}
    mine, other = campaigns[winner.campaign or ""], campaigns.get(loser.campaign or "")
    from_ms, until_ms = (view.at_ms, None) if other is None else (other.valid_from_ms, other.valid_until_ms)
    ends_later = mine.valid_until_ms is None or (until_ms is not None and until_ms <= mine.valid_until_ms)
    return mine.valid_from_ms <= from_ms and ends_later


def _only_treats(rule: PccRule) -> bool:
    """Whether a rule is about quality or access, leaves the charge as it is, and waits for no bucket."""
    treats = rule.qos is not None or rule.steering is not None
    open_ = rule.gate_status == "open" and rule.charging == "charge"
    return treats and open_ and rule.bucket is None and rule.suspect != "only"


def _overrules(view: View, one: PccRule, rule: PccRule) -> bool:
    """Whether `one`, the wider, is asked before `rule`, and an account can hold both for the same traffic."""
    mine, theirs = view.reach[one.id], view.reach[rule.id]
    if asked(one) > asked(rule) or mine.specificity >= theirs.specificity:
        return False
    brought = {name for holder in view.holders[rule.id] for name in view.holdings.certain_rules(holder.id)}
    return one.id not in brought and _by_chance(view, one, rule)


def _by_chance(view: View, one: PccRule, other: PccRule) -> bool:
    holders = view.holders[one.id], view.holders[other.id]
    names = {offering.id for offering in holders[0]}
    shared = any(offering.id in names for offering in holders[1])
    if not shared and not any(view.holdings.together(a, b) for a, b in itertools.product(*holders)):
        return False
    mine, theirs = view.reach[one.id], view.reach[other.id]
    if not meet(mine, theirs, view.category_of) or not week_of(mine.windows) & week_of(theirs.windows):
        return False
    return not _never_both(one, other, of_one_product=shared)


def _never_both(one: PccRule, other: PccRule, *, of_one_product: bool) -> bool:
    """Whether the two never apply to the same flow: other congestion, suspicion, money, or state of one bucket."""
    if of_one_product and one.bucket and other.bucket and _is_other_state(one.bucket, other.bucket):
        return True
    if _spends_apart(one.spend, other.spend) or _spends_apart(other.spend, one.spend):
        return True
    apart = one.max_congestion < other.min_congestion or other.max_congestion < one.min_congestion
    return apart or {one.suspect, other.suspect} == {"never", "only"}


def _is_other_state(one: BucketCondition, other: BucketCondition) -> bool:
    """Whether two conditions on the same bucket exclude each other."""
    if one.allowance != other.allowance:
        return False
    states = {condition.state: condition.percent or 0 for condition in (one, other)}
    if states.keys() == {"fresh", "used"}:
        return states["fresh"] <= states["used"]
    return states.keys() in ({"available", "exhausted"}, {"fresh", "exhausted"})


def _spends_apart(first: SpendCondition | None, then: SpendCondition | None) -> bool:
    """Whether all that `first` is for is spent before what `then` is for."""
    ends = first.below if first else None
    begins = then.at_least if then else None
    return ends is not None and begins is not None and ends <= begins


def _are_opposite(one: BucketCondition, other: BucketCondition) -> bool:
    """Whether always exactly one of the two holds."""
    known = {one.state, other.state} in ({"available", "exhausted"}, {"fresh", "used"})
    return known and one.allowance == other.allowance and one.percent == other.percent


def _slows(rule: PccRule, allowance: Allowance) -> bool:
    bucket = rule.bucket
    waits = bucket is not None and bucket.allowance == allowance.id and bucket.state in ("exhausted", "used")
    return waits and (_has_rate(rule) or rule.gate_status == "closed")


def _has_rate(rule: PccRule) -> bool:
    return rule.qos is not None and (rule.qos.mbr_down_bps is not None or rule.qos.mbr_up_bps is not None)


def _is_slow_lane(rule: PccRule) -> bool:
    """Whether a free rule is the low rate after a bucket, which the bucket gives to all its traffic anyway."""
    return rule.bucket is not None and rule.bucket.state in ("exhausted", "used") and _has_rate(rule)


def _depends_on_evidence(rule: PccRule) -> bool:
    scope = rule.scope
    if scope.applications or scope.services:
        return True
    # What nothing speaks for is `other`, with no confidence at all.
    return bool(scope.categories) and "other" not in scope.categories
