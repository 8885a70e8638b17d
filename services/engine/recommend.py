"""Recommendations: at most three packages for an account, each proven on the account's own recent usage.

What a package would have changed is not estimated: the recorded period is run again with the package held from its
first flow on, through the same engine that charges. A package is recommended when that run is cheaper and lets no less
traffic pass; or, said as what it is, when it is for quality, or for the operator's own service.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from schemas.catalogue import Application
from schemas.classification import Classification
from schemas.command import COMMAND_VERSION, AccountCommand, ActivateProduct
from schemas.flow import FlowRecord
from schemas.state import AccountState
from schemas.topics import COMMANDS
from schemas.units import format_micros, format_octets
from schemas.usage import RatedUsage
from services.engine.commands import apply_command
from services.engine.outcome import Position, Refusal
from services.engine.simulate import Bill, Run, Subscription, has_priority
from services.engine.tariff import CompiledOffering, Reach, Tariff

MOST = 3
"""Most recommendations for one account."""

PRODUCT_ID = "recommended"

Reason = Literal["saving", "quality", "own_service"]
"""Why: it is cheaper; it blocks or throttles less, or is faster; it is for a service of the operator's own."""


class Arrived(NamedTuple):
    """A recorded flow, what it was taken for, and when it arrived."""

    flow: FlowRecord
    classification: Classification
    arrived_ms: int


class History(NamedTuple):
    """What was recorded of one account, in order: commands with the time of their arrival, and flows."""

    account_id: str
    commands: Sequence[tuple[AccountCommand, int]]
    flows: Sequence[Arrived]


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """One package for one account, and what it would have changed in the recorded period."""

    account_id: str
    offering_id: str
    name: str
    reason: Reason
    text: str
    """The reason in one sentence, with what it costs or saves, and whether an own service is in it."""
    saving: str
    """Money less than was charged; negative when it would have cost more. Decimal string."""
    currency: str
    present: str
    new: str
    used_octets: int
    """Octets that the package would have carried."""
    blocked_octets_change: int
    throttled_octets_change: int
    own_services: tuple[str, ...]
    """Applications of the operator's own that the package names."""


class _Played(NamedTuple):
    """One run over a history."""

    bill: Bill
    account: AccountState | None
    rows: tuple[RatedUsage, ...]


class _Found(NamedTuple):
    """What holding one package would have changed."""

    offering: CompiledOffering
    saving_micros: int
    used_octets: int
    faster_octets: int
    """Octets under a rule of the package that gives priority or a guaranteed rate."""
    blocked_change: int
    throttled_change: int
    own: tuple[Application, ...]


def recommend(
    history: History,
    tariff: Tariff,
    applications: Mapping[str, Application],
    *,
    subscription: Subscription | None = None,
    steer_own: bool = False,
) -> tuple[Recommendation, ...]:
    """At most MOST packages for an account, the best first: savings, then quality, then own services.

    None that the account could not order at the end of the period (eligibility, exclusions, requirements, sale,
    balance), that it holds, or that would have carried nothing of its traffic. With `steer_own`, packages for the
    operator's own services go before others of the same reason, and are recommended also where they save nothing and
    the account uses other applications of their category. A trial is not counted: what is compared is the price.
    """
    present = _play(history, tariff, subscription)
    if present.account is None:
        return ()
    own = {item.id: item for item in applications.values() if item.own}
    kinds = {(item.classification.application, item.classification.category) for item in history.flows}
    found = []
    for offering in _packages_not_held(present.account, tariff):
        named = _own_services(offering, own)
        steered = steer_own and any(service.category == category for service in named for _, category in kinds)
        if (steered or _concerns(offering, kinds)) and _is_orderable(offering, present.account, history, tariff):
            then = _play(history, tariff, subscription, offering.offering.id)
            item = _compared(offering, present, then, named) if then.account is not None else None
            if item is not None and (reason := _reason(item, steered=steered)) is not None:
                found.append((reason, item))
    found.sort(key=lambda pair: _preference(*pair, steer_own=steer_own))
    return tuple(_recommendation(reason, item, history, tariff, present) for reason, item in found[:MOST])


def _play(
    history: History, tariff: Tariff, subscription: Subscription | None, offering_id: str | None = None
) -> _Played:
    """Run the period, with one more product from just before the first flow on if an offering is given."""
    rows: list[RatedUsage] = []
    run = Run(tariff, subscription=subscription, tell=rows.append)
    done = 0
    for number, (flow, seen, arrived_ms) in enumerate(history.flows):
        while done < len(history.commands) and history.commands[done][1] <= arrived_ms:
            run.command(history.commands[done][0], now_ms=history.commands[done][1])
            done += 1
        if number == 0 and offering_id is not None and not _add(run, history.account_id, offering_id, history.flows[0]):
            return _Played(Bill(), None, ())
        run.flow(flow, seen, now_ms=arrived_ms)
    for command, at_ms in history.commands[done:]:
        run.command(command, now_ms=at_ms)
    run.close(_end_ms(history))
    return _Played(run.bills.get(history.account_id, Bill()), run.account(history.account_id), tuple(rows))


def _add(run: Run, account_id: str, offering_id: str, first: Arrived) -> bool:
    """Let the account hold the package from its first flow on, at its price; False when it could not order it then."""
    account = run.account_for(first.flow, now_ms=first.arrived_ms)
    if account is None:
        return False
    # A trial costs nothing, which says nothing about the package: it counts as had.
    run.put(replace(account, tried=(*account.tried, offering_id)))
    return run.command(_order(account_id, offering_id, first.flow.start_ms), now_ms=first.arrived_ms) is None


def _order(account_id: str, offering_id: str, at_ms: int) -> ActivateProduct:
    return ActivateProduct(
        version=COMMAND_VERSION, command_id=PRODUCT_ID, account_id=account_id, issued_at_ms=at_ms,
        product_id=PRODUCT_ID, offering_id=offering_id,
    )  # fmt: skip


def _packages_not_held(account: AccountState, tariff: Tariff) -> Iterator[CompiledOffering]:
    held = {product.offering_id for product in account.products}
    for offering_id, offering in sorted(tariff.offerings.items()):
        if offering.offering.kind != "base_plan" and offering_id not in held:
            yield offering


def _is_orderable(offering: CompiledOffering, account: AccountState, history: History, tariff: Tariff) -> bool:
    """Whether the account could order the package at the end of the period."""
    now_ms = _end_ms(history)
    order = _order(history.account_id, offering.offering.id, now_ms)
    return not isinstance(apply_command(order, account, tariff, at=Position(COMMANDS, 0, 0), now_ms=now_ms), Refusal)


def _end_ms(history: History) -> int:
    commands = (at_ms for _, at_ms in history.commands)
    return max([*commands, *(item.arrived_ms for item in history.flows)], default=0)


def _concerns(offering: CompiledOffering, kinds: Set[tuple[str | None, str]]) -> bool:
    """Whether one of the offering's scopes is about some of the traffic: what is not need not be run."""
    return any(
        (not reach.applications or application in reach.applications)
        and (not reach.categories or category in reach.categories)
        for reach in _reaches(offering)
        for application, category in kinds
    )


def _reaches(offering: CompiledOffering) -> Iterator[Reach]:
    yield from (rule.reach for rule in offering.rules)
    yield from (allowance.reach for allowance in offering.allowances.values())
    yield from (price.reach for price in offering.prices)


def _own_services(offering: CompiledOffering, own: Mapping[str, Application]) -> tuple[Application, ...]:
    """The operator's own applications that the offering names."""
    named = {name for reach in _reaches(offering) for name in reach.applications}
    return tuple(own[name] for name in sorted(named & own.keys()))


def _compared(offering: CompiledOffering, present: _Played, then: _Played, own: tuple[Application, ...]) -> _Found:
    """What the package would have changed."""
    rules = {rule.rule.id for rule in offering.rules}.difference(row.rule_id for row in present.rows)
    fast = {rule.rule.id for rule in offering.rules if has_priority(rule)} & rules
    return _Found(
        offering=offering,
        saving_micros=present.bill.micros - then.bill.micros,
        used_octets=sum(_carried(row, offering, rules) for row in then.rows),
        faster_octets=sum(_passed(row) for row in then.rows if row.rule_id in fast),
        blocked_change=then.bill.blocked_octets - present.bill.blocked_octets,
        throttled_change=then.bill.throttled_octets - present.bill.throttled_octets,
        own=own,
    )


def _carried(row: RatedUsage, offering: CompiledOffering, rules: Set[str]) -> int:
    """Octets of a row that the package ruled, priced, or paid from its buckets; `rules` are those only it brings."""
    if row.kind not in ("usage", "refund"):
        return 0
    if row.rule_id in rules or any(row.price_id == price.price.id for price in offering.prices):
        return _passed(row)
    return sum(-int(moved.amount) for moved in row.movements if moved.bucket_id.startswith(f"{PRODUCT_ID}/"))


def _passed(row: RatedUsage) -> int:
    octets = row.octets - row.blocked_octets - row.not_charged_octets
    return -octets if row.kind == "refund" else octets


def _reason(item: _Found, *, steered: bool) -> Reason | None:
    """Why the package is recommended, the strongest reason first; None for no reason.

    Whatever the reason, no more may be blocked or throttled: a bill that falls with the traffic is no saving.
    """
    if item.blocked_change > 0 or item.throttled_change > 0:
        return None
    if item.used_octets and item.saving_micros > 0:
        return "saving"
    if item.used_octets and (item.blocked_change or item.throttled_change or item.faster_octets):
        return "quality"
    return "own_service" if steered else None


_RANK: Mapping[Reason, int] = {"saving": 0, "quality": 1, "own_service": 2}


def _preference(reason: Reason, item: _Found, *, steer_own: bool) -> tuple[object, ...]:
    passes = item.blocked_change + item.throttled_change
    return (
        _RANK[reason],
        not (steer_own and item.own),
        passes if reason == "quality" else -item.saving_micros,
        -item.saving_micros,
        item.offering.offering.id,
    )


def _recommendation(reason: Reason, item: _Found, history: History, tariff: Tariff, present: _Played) -> Recommendation:
    offered = item.offering.offering
    return Recommendation(
        account_id=history.account_id,
        offering_id=offered.id,
        name=offered.name,
        reason=reason,
        text=_text(reason, item, tariff.currency),
        saving=format_micros(item.saving_micros),
        currency=tariff.currency,
        present=format_micros(present.bill.micros),
        new=format_micros(present.bill.micros - item.saving_micros),
        used_octets=item.used_octets,
        blocked_octets_change=item.blocked_change,
        throttled_octets_change=item.throttled_change,
        own_services=tuple(application.id for application in item.own),
    )


def _text(reason: Reason, item: _Found, currency: str) -> str:
    return "; ".join(_clauses(reason, item, currency)) + "."


def _clauses(reason: Reason, item: _Found, currency: str) -> Iterator[str]:
    money = f"{format_micros(abs(item.saving_micros))} {currency}"
    if reason == "saving":
        yield f"would have saved {money} on the usage of the recorded period"
    if item.blocked_change < 0:
        yield f"{format_octets(-item.blocked_change)} that were blocked would have passed"
    if item.throttled_change < 0:
        yield f"{format_octets(-item.throttled_change)} would not have been slowed down"
    if item.faster_octets:
        yield f"{format_octets(item.faster_octets)} would have had priority"
    if item.used_octets and reason != "own_service":
        yield f"it would have carried {format_octets(item.used_octets)}"
    if reason != "saving":
        yield f"it would have cost {money} more" if item.saving_micros < 0 else "it would have cost nothing more"
    if item.own:
        names = ", ".join(application.name for application in item.own)
        yield f"it is for {names}, a service of the operator's own"
