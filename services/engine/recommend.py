"""Recommendations: at most three offerings for an account, each proven on the account's own recent usage.

What an offering would have changed is not estimated: the recorded period is run again through the same engine that
charges, with a package held from the first flow on, or with another plan in the place of the one that is held. It is
recommended when that run is cheaper and lets no less traffic pass; a package also, said as what it is, when it is for
quality, or for the operator's own service.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from types import MappingProxyType
from typing import Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from schemas.catalogue import Application
from schemas.classification import Classification
from schemas.command import COMMAND_VERSION, AccountCommand, ActivateProduct
from schemas.flow import FlowRecord
from schemas.state import AccountState, Product
from schemas.topics import COMMANDS
from schemas.units import format_micros, format_octets, parse_micros
from schemas.usage import RatedUsage
from services.engine.commands import apply_command
from services.engine.fees import outstanding_rent
from services.engine.outcome import Outcome, Position, Refusal
from services.engine.simulate import CALL, Bill, Run, SimulationError, Subscription, has_priority
from services.engine.tariff import CompiledOffering, Reach, Tariff

MOST = 3
"""Most recommendations for one account."""

LEAST_PERCENT = 1
"""Of an account's octets: nobody is asked to pay for the quality of less, unless calls would pass."""

SHORTEST_CYCLE_MS = 28 * 86_400_000

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
    """One package or plan for one account, and what it would have changed in the recorded period."""

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
    """Octets that the package or plan would have carried."""
    blocked_octets_change: int
    throttled_octets_change: int
    own_services: tuple[str, ...]
    """Applications of the operator's own that it names."""
    replaces: str | None = None
    """For a plan: the offering that is held now, and would be cancelled."""
    change_cost: str | None = None
    """For a plan: what changing at the end of the period costs, less what is given back; negative when more is."""


class _Played(NamedTuple):
    """One run over a history."""

    bill: Bill
    account: AccountState | None
    rows: tuple[RatedUsage, ...] = ()
    refused: Mapping[str, int] = MappingProxyType({})
    """Commands that the tariff refused, by cause."""
    rent_micros: int = 0
    """What a minimum rent will still ask for."""

    @property
    def micros(self) -> int:
        """What the period costs."""
        return self.bill.micros + self.rent_micros

    def loses_more_than(self, other: "_Played") -> bool:
        """Whether something that was ordered, and could be under `other`, is refused."""
        return any(count > other.refused.get(cause, 0) for cause, count in self.refused.items())


class _Found(NamedTuple):
    """What holding one package or another plan would have changed."""

    offering: CompiledOffering
    saving_micros: int
    used_octets: int
    faster_octets: int
    """Octets under a rule of the package that gives priority or a guaranteed rate."""
    blocked_change: int
    throttled_change: int
    own: tuple[Application, ...]
    passing_calls: int = 0
    """Calls fewer that would have been blocked."""
    octets: int = 0
    """All that the account used in the period."""
    replaces: str | None = None
    change_micros: int = 0


def recommend(
    history: History,
    tariff: Tariff,
    applications: Mapping[str, Application],
    *,
    subscription: Subscription | None = None,
    steer_own: bool = False,
) -> tuple[Recommendation, ...]:
    """At most MOST packages and plans for an account, the best first: savings, then quality, then own services.

    None that the account could not order at the end of the period (eligibility, exclusions, requirements, sale,
    balance), that it holds, or that would have carried nothing of its traffic. Another plan only for a saving, and not
    while a term binds the account to the one it has. With `steer_own`, packages for the operator's own services go
    before others of the same reason, and are recommended also where they save nothing and the account uses other
    applications of their category. A trial is not counted: what is compared is the price.
    """
    present = _play(history, tariff, subscription)
    if present.account is None:
        return ()
    own = {item.id: item for item in applications.values() if item.own}
    kinds = {(item.classification.application, item.classification.category) for item in history.flows}
    found = list(_plans(history, tariff, subscription, present, own))
    for offering in _packages_not_held(present.account, tariff):
        named = _own_services(offering, own)
        steered = steer_own and any(service.category == category for service in named for _, category in kinds)
        if (steered or _concerns(offering, kinds)) and _is_orderable(offering, present.account, history, tariff):
            then = _play(history, tariff, subscription, package_id=offering.offering.id)
            if then.account is None or then.loses_more_than(present):
                continue
            item = _compared(offering, present, then, named)
            if (reason := _reason(item, steered=steered)) is not None:
                found.append((reason, item))
    found.sort(key=lambda pair: _preference(*pair, steer_own=steer_own))
    return tuple(_recommendation(reason, item, history, tariff, present) for reason, item in found[:MOST])


def _play(
    history: History,
    tariff: Tariff,
    subscription: Subscription | None,
    *,
    package_id: str | None = None,
    instead: Mapping[str, str] | None = None,
) -> _Played:
    """Run the period, with a package from just before the first flow on, or one plan in the place of another."""
    rows: list[RatedUsage] = []
    instead = instead or {}
    tried = {*instead.values(), package_id or ""}
    run = Run(tariff, subscription=subscription, instead=instead, without_trial=tried, tell=rows.append)
    done = 0
    for number, (flow, seen, arrived_ms) in enumerate(history.flows):
        while done < len(history.commands) and history.commands[done][1] <= arrived_ms:
            run.command(history.commands[done][0], now_ms=history.commands[done][1])
            done += 1
        if number == 0 and package_id is not None and not _add(run, history.account_id, package_id, history.flows[0]):
            return _Played(Bill(), None)
        run.flow(flow, seen, now_ms=arrived_ms)
    for command, at_ms in history.commands[done:]:
        run.command(command, now_ms=at_ms)
    run.close(_end_ms(history))
    bill, account = run.bills.get(history.account_id, Bill()), run.account(history.account_id)
    rent_micros = outstanding_rent(account, tariff) if account is not None else 0
    return _Played(bill, account, tuple(rows), run.refused, rent_micros)


def _add(run: Run, account_id: str, offering_id: str, first: Arrived) -> bool:
    """Let the account hold the package from its first flow on, at its price; False when it could not order it then."""
    account = run.account_for(first.flow, now_ms=first.arrived_ms)
    if account is None:
        return False
    return run.command(_order(account_id, offering_id, first.flow.start_ms), now_ms=first.arrived_ms) is None


def _order(account_id: str, offering_id: str, at_ms: int) -> ActivateProduct:
    return ActivateProduct(
        version=COMMAND_VERSION, command_id=PRODUCT_ID, account_id=account_id, issued_at_ms=at_ms,
        product_id=PRODUCT_ID, offering_id=offering_id,
    )  # fmt: skip


def _plans(
    history: History,
    tariff: Tariff,
    subscription: Subscription | None,
    present: _Played,
    own: Mapping[str, Application],
) -> Iterator[tuple[Reason, _Found]]:
    """Plans that would have been cheaper in the place of the one that is held, and that it can be changed for now."""
    held = _plan_held(present.account, tariff, _end_ms(history)) if present.account is not None else None
    if held is None or present.account is None:
        return
    for offering in _other_plans(held, history, present, tariff):
        change = _change(held, offering, present.account, history, tariff)
        if change is None:
            continue
        try:
            then = _play(history, tariff, subscription, instead={held.offering_id: offering.offering.id})
        except SimulationError:
            continue  # The account could not have been made on this plan.
        if then.account is None or then.loses_more_than(present):
            continue
        item = _compared(offering, present, then, _own_services(offering, own))
        item = item._replace(replaces=held.offering_id, change_micros=change)
        if _reason(item, steered=False) == "saving":
            yield "saving", item


def _plan_held(account: AccountState, tariff: Tariff, now_ms: int) -> Product | None:
    """The plan that the account may leave; None when it has none, or a term binds it to the one it has."""
    for product in account.products:
        offering = tariff.offerings.get(product.offering_id)
        if offering is not None and offering.offering.kind == "base_plan" and product.status == "active":
            return None if product.end_ms is not None and product.end_ms > now_ms else product
    return None


def _other_plans(held: Product, history: History, present: _Played, tariff: Tariff) -> Iterator[CompiledOffering]:
    """Plans that can be cheaper: one whose fees alone come to the whole bill cannot.

    Less than a cycle of usage speaks for a plan with larger fees if it saves all the same, and never for one with
    smaller fees: beside a whole cycle's fee, a day without one always looks cheap.
    """
    least = _fee(tariff.offerings[held.offering_id]) if _is_short(history) else 0
    for offering_id, offering in sorted(tariff.offerings.items()):
        if offering.offering.kind != "base_plan" or offering_id == held.offering_id or _fee(offering) < least:
            continue
        whole = [price.amount for price in offering.offering.prices if price.proration == "none"]
        if sum(whole) < present.micros:
            yield offering


def _is_short(history: History) -> bool:
    """Whether the flows span less than the shortest cycle."""
    times = [item.arrived_ms for item in history.flows]
    return not times or max(times) - min(times) < SHORTEST_CYCLE_MS


def _fee(offering: CompiledOffering) -> int:
    return sum(price.amount for price in offering.offering.prices)


def _change(
    held: Product, offering: CompiledOffering, account: AccountState, history: History, tariff: Tariff
) -> int | None:
    """What changing the plan at the end of the period costs in micros, less what is given back.

    None when it is refused, or leaves another product without what it requires.
    """
    now_ms = _end_ms(history)
    others = [tariff.offerings.get(item.offering_id) for item in account.products if item is not held]
    names = {offering.offering.id, *(item.offering.id for item in others if item is not None)}
    if any(item and item.offering.requires and names.isdisjoint(item.offering.requires) for item in others):
        return None
    # A new offering's trial is no saving: whoever changes pays from the first day.
    without_trial = replace(account, tried=(*account.tried, offering.offering.id))
    order = replace(_order(account.account_id, offering.offering.id, now_ms), replaces=held.product_id)
    begun = apply_command(order, without_trial, tariff, at=Position(COMMANDS, 0, 0), now_ms=now_ms)
    return None if isinstance(begun, Refusal) else _fees(begun)


def _fees(outcome: Outcome) -> int:
    return sum(parse_micros(row.amount) for row in outcome.usage if row.kind in ("fee", "refund"))


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
        saving_micros=present.micros - then.micros,
        used_octets=sum(_carried(row, offering, rules, _buckets_of(offering, then)) for row in then.rows),
        faster_octets=sum(_passed(row) for row in then.rows if row.rule_id in fast),
        blocked_change=then.bill.blocked_octets - present.bill.blocked_octets,
        throttled_change=then.bill.throttled_octets - present.bill.throttled_octets,
        own=own,
        passing_calls=_blocked_calls(present) - _blocked_calls(then),
        octets=sum(-row.octets if row.kind == "refund" else row.octets for row in present.rows),
    )


def _blocked_calls(played: _Played) -> int:
    rows = (row for row in played.rows if row.treatment == "blocked" and row.service == CALL)
    return sum(-row.record_count if row.kind == "refund" else row.record_count for row in rows)


def _buckets_of(offering: CompiledOffering, then: _Played) -> frozenset[str]:
    """The buckets that products of the offering brought."""
    brought = (row for row in then.rows if row.kind == "grant" and row.offering_id == offering.offering.id)
    return frozenset(moved.bucket_id for row in brought for moved in row.movements)


def _carried(row: RatedUsage, offering: CompiledOffering, rules: Set[str], buckets: Set[str]) -> int:
    """Octets of a row that the package ruled, priced, or paid from its buckets; `rules` are those only it brings."""
    if row.kind not in ("usage", "refund"):
        return 0
    if row.rule_id in rules or any(row.price_id == price.price.id for price in offering.prices):
        return _passed(row)
    return sum(-int(moved.amount) for moved in row.movements if moved.unit == "octets" and moved.bucket_id in buckets)


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
    if item.used_octets and _is_noticed(item):
        return "quality"
    return "own_service" if steered else None


def _is_noticed(item: _Found) -> bool:
    """Whether what would pass, at full speed or with priority, is enough to be worth a price."""
    better = item.faster_octets - item.blocked_change - item.throttled_change
    return item.passing_calls > 0 or (better > 0 and better * 100 >= item.octets * LEAST_PERCENT)


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
        present=format_micros(present.micros),
        new=format_micros(present.micros - item.saving_micros),
        used_octets=item.used_octets,
        blocked_octets_change=item.blocked_change,
        throttled_octets_change=item.throttled_change,
        own_services=tuple(application.id for application in item.own),
        replaces=item.replaces,
        change_cost=None if item.replaces is None else format_micros(item.change_micros),
    )


def _text(reason: Reason, item: _Found, currency: str) -> str:
    return "; ".join(_clauses(reason, item, currency)) + "."


def _clauses(reason: Reason, item: _Found, currency: str) -> Iterator[str]:
    money = f"{format_micros(abs(item.saving_micros))} {currency}"
    if reason == "saving":
        instead = f"in the place of {item.replaces} it " if item.replaces else ""
        yield f"{instead}would have saved {money} on the usage of the recorded period"
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
    if item.replaces:
        yield from _terms(item, currency)
    if item.own:
        names = ", ".join(application.name for application in item.own)
        yield f"it is for {names}, a service of the operator's own"


def _terms(item: _Found, currency: str) -> Iterator[str]:
    """What a change of plan comes with."""
    cost = f"{format_micros(abs(item.change_micros))} {currency}"
    yield f"changing now gives back {cost}" if item.change_micros < 0 else f"changing now costs {cost}"
    if item.offering.offering.term_days is not None:
        yield f"it runs for {item.offering.offering.term_days} days"
