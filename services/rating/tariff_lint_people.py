"""Lint of whom a tariff is for: names of groups that look misspelt, and conditions that together are for everybody."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from schemas.catalogue import PccRule, ProductOffering, SubscriberCondition
from services.rating.catalogue_yaml import KeyPath
from services.rating.findings import Finding
from services.rating.tariff_lint_view import View

KNOWN: Mapping[str, frozenset[str]] = {
    "segments": frozenset(("individual", "group")), "age_bands": frozenset(), "tiers": frozenset(),
}  # fmt: skip
"""Names of groups that an operator chooses, and those that contracts and examples have already."""

SHORTEST_WORD = 4
"""Shorter words differ by a letter on purpose: b2b and b2c, plan-a and plan-b."""

MAX_PLANS_TOLD_APART = 64

MOST_SIGNS = 3
"""Names whose lengths differ by more are not compared."""

_WORD, _NUMBER = re.compile(r"[^\W\d_]+"), re.compile(r"\d+")


class _Mention(NamedTuple):
    place: tuple[str, str]
    path: KeyPath


class Person(NamedTuple):
    """What of an account has few values, all of them known: how it pays, and its plan (None where any will do)."""

    payment: Literal["prepaid", "postpaid"]
    plan: str | None


def misspelt_groups(view: View) -> Iterator[Finding]:
    """A segment, age band or tier that is one letter from another one, which is named more often or is known."""
    for field, known in KNOWN.items():
        mentions = _mentions(view, field)
        ranked = sorted({*mentions, *known}, key=lambda name: (name not in known, -len(mentions.get(name, ())), name))
        for place, name in enumerate(ranked):
            other = next((usual for usual in ranked[:place] if _is_slip(name, usual)), None)
            if other is not None and name not in known:
                yield from _slip(view, field, (name, other), mentions)


def people_of(view: View, rule: PccRule, holder: ProductOffering, others: Sequence[PccRule]) -> list[Person | None]:
    """The kinds of people that `rule` is for, where `holder` brings it, as far as `others` tell them apart.

    None is anybody, where these ask for nothing that `rule` does not ask for.
    """
    if all(one.subscribers in (None, rule.subscribers) for one in others):
        return [None]
    plans = view.holdings.plans_of(holder.id) if any(_asks_plan(one) for one in others) else None
    wanted = rule.subscribers.offerings if rule.subscribers else ()
    if plans and len(plans) <= MAX_PLANS_TOLD_APART:
        # Where the condition names add-ons, who holds one may have any plan.
        named = plans & set(wanted) if wanted and all(_is_plan(view, name) for name in wanted) else plans
        names: list[str | None] = [*sorted(named or plans)]
    else:
        names = [None]
    payments: tuple[Literal["prepaid", "postpaid"], ...] = ("prepaid", "postpaid")
    return [
        Person(payment, name)
        for payment, name in itertools.product(payments, names)
        if all(_pays(condition, payment) for condition in _conditions(view, rule, holder, name))
    ]


def is_for(rule: PccRule, person: Person | None, loser: PccRule, holder: ProductOffering) -> bool:
    """Whether `rule` is for all such people that `loser` is for, where `holder` brings that."""
    mine, theirs = rule.subscribers, loser.subscribers
    if mine is None or mine == theirs or person is None:
        return True
    rest = _rest(mine)
    if rest not in (SubscriberCondition(), _rest(theirs or SubscriberCondition())):
        return False
    held = {person.plan, holder.id}
    same = theirs is not None and mine.offerings == theirs.offerings
    return _pays(mine, person.payment) and (not mine.offerings or same or not held.isdisjoint(mine.offerings))


def _asks_plan(rule: PccRule) -> bool:
    return rule.subscribers is not None and bool(rule.subscribers.offerings)


def _slip(view: View, field: str, names: tuple[str, str], mentions: Mapping[str, list[_Mention]]) -> Iterator[Finding]:
    name, other = names
    first = next(iter(mentions.get(other, ())), None)
    where = f"{view.source.locate(*first.place, first.path)} names {other!r}" if first else f"{other!r} is a known one"
    for mention in mentions[name]:
        part, item_id = mention.place
        yield view.finding(
            "misspelt", mention.place,
            f"{part.removesuffix('s')} {item_id!r} is for {field.replace('_', ' ').removesuffix('s')} {name!r}, and "
            f"{where}, which looks much the same: nobody may be meant by one of them",
            "mend the spelling, or rename one so that the two cannot be mistaken", path=mention.path,
            severity="warning",
        )  # fmt: skip


def _mentions(view: View, field: str) -> dict[str, list[_Mention]]:
    found: dict[str, list[_Mention]] = {}
    asked: list[tuple[tuple[str, str], str, SubscriberCondition | None]] = [
        *((("offerings", item.id), "eligibility", item.eligibility) for item in view.catalogue.offerings),
        *((("rules", item.id), "subscribers", item.subscribers) for item in view.catalogue.rules),
    ]
    for place, member, condition in asked:
        for number, name in enumerate(getattr(condition, field) if condition else ()):
            found.setdefault(name, []).append(_Mention(place, (member, field, number)))
    return found


def _is_slip(one: str, other: str) -> bool:
    """Whether two names differ by case, signs between words, or one letter of one longer word; numbers are meant."""
    if one == other or abs(len(one) - len(other)) > MOST_SIGNS or _NUMBER.findall(one) != _NUMBER.findall(other):
        return False
    mine, theirs = _WORD.findall(one.casefold()), _WORD.findall(other.casefold())
    if "".join(mine) == "".join(theirs):
        return True
    apart = [pair for pair in zip(mine, theirs, strict=False) if pair[0] != pair[1]]
    return len(mine) == len(theirs) and len(apart) == 1 and _is_one_letter_apart(*apart[0])


def _is_one_letter_apart(one: str, other: str) -> bool:
    """One letter too many, too few, wrong, or two in the wrong order."""
    short, long = sorted((one, other), key=len)
    if len(short) < SHORTEST_WORD or len(long) - len(short) > 1:
        return False
    start = next((at for at, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    if len(short) < len(long):
        return short[start:] == long[start + 1 :]
    swapped = long[:start] + long[start : start + 2][::-1] + long[start + 2 :]
    return short[start + 1 :] == long[start + 1 :] or short == swapped


def _conditions(
    view: View, rule: PccRule, holder: ProductOffering, plan: str | None
) -> list[SubscriberCondition | None]:
    below = view.offerings[plan].eligibility if plan is not None else None
    return [rule.subscribers, holder.eligibility, below]


def _pays(condition: SubscriberCondition | None, payment: str) -> bool:
    return condition is None or not condition.payments or payment in condition.payments


def _rest(condition: SubscriberCondition) -> SubscriberCondition:
    return condition.model_copy(update={"payments": (), "offerings": ()})


def _is_plan(view: View, name: str) -> bool:
    return view.offerings[name].kind == "base_plan"
