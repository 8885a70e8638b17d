"""What a simulation found, as it leaves: both tariffs side by side, by group and category, and account by account."""

import heapq
from collections.abc import Iterable, Iterator

import msgspec

from schemas.units import format_micros
from services.engine.overshoot_seen import OvershootReport
from services.engine.simulate import Bill, Figures, GroupBy, Run, Simulation

REPORT_VERSION = "1.0"
"""Of the report as JSON, whose keys docs/simulate.md lists: within 1.x keys are added, never renamed or removed."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """Figures as they leave: money as a decimal string."""

    flows: int
    revenue: str
    octets: int
    charged_octets: int
    free_octets: int
    sponsored_octets: int
    throttled_octets: int
    blocked_octets: int
    not_charged_octets: int
    blocked_calls: int
    caps_reached: int


class GroupReport(msgspec.Struct, frozen=True, kw_only=True):
    """One group and category under both tariffs."""

    group: str
    category: str
    present: Told
    new: Told


class AccountReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one account pays under both tariffs; a negative change is what it wins."""

    account_id: str
    group: str
    present: str
    new: str
    change: str
    blocked_octets_change: int
    throttled_octets_change: int


class SimulationReport(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison of two tariffs over one recording."""

    version: str = REPORT_VERSION
    present_version: str
    new_version: str
    currency: str
    from_ms: int
    until_ms: int
    flows: int
    commands: int
    unknown_account_flows: int
    grouped_by: str
    total_present: Told
    total_new: Told
    revenue_change: str
    groups: tuple[GroupReport, ...]
    accounts: int
    winning_accounts: int
    losing_accounts: int
    restricted_accounts: int
    """Those more of whose traffic is blocked or throttled than today, whatever their bill."""
    winning_accounts_restricted: int
    """Those among them whose bill is smaller: not all that they win is a gain."""
    winners: tuple[AccountReport, ...]
    losers: tuple[AccountReport, ...]
    refused_commands_present: dict[str, int]
    refused_commands_new: dict[str, int]
    overshoot_present: tuple[OvershootReport, ...]
    overshoot_new: tuple[OvershootReport, ...]
    most_late_ms: int
    """Longest that a record arrived after its end: no gateway hears of anything before, so overshoot grows with it."""


def report_of(simulation: Simulation, *, by: GroupBy = "segment", top: int = 10) -> SimulationReport:
    """What a closed simulation found; `top` winners and as many losers by name, all of them in the counts."""
    present, new = simulation.present, simulation.new
    accounts = sorted(present.bills.keys() | new.bills.keys())
    changes = [(_bill(new, name).micros - _bill(present, name).micros, name) for name in accounts]
    restricted = [change for change, name in changes if _has_less(_bill(present, name), _bill(new, name))]
    before, after = present.total(), new.total()
    return SimulationReport(
        present_version=present.tariff.version,
        new_version=new.tariff.version,
        currency=new.tariff.currency,
        from_ms=simulation.from_ms,
        until_ms=simulation.until_ms,
        flows=simulation.flows,
        commands=simulation.commands,
        unknown_account_flows=simulation.strangers,
        grouped_by=by,
        total_present=told(before),
        total_new=told(after),
        revenue_change=format_micros(after.revenue_micros - before.revenue_micros),
        groups=tuple(_groups(present, new)),
        accounts=len(accounts),
        winning_accounts=sum(change < 0 for change, _ in changes),
        losing_accounts=sum(change > 0 for change, _ in changes),
        restricted_accounts=len(restricted),
        winning_accounts_restricted=sum(change < 0 for change in restricted),
        winners=_named(heapq.nsmallest(top, (item for item in changes if item[0] < 0)), present, new),
        losers=_named(
            heapq.nsmallest(top, (item for item in changes if item[0] > 0), key=lambda item: (-item[0], item[1])),
            present,
            new,
        ),
        refused_commands_present=dict(sorted(present.refused.items())),
        refused_commands_new=dict(sorted(new.refused.items())),
        overshoot_present=tuple(present.overshoot.report()),
        overshoot_new=tuple(new.overshoot.report()),
        most_late_ms=simulation.most_late_ms,
    )


def told(figures: Figures) -> Told:
    """Figures with their money as a decimal string."""
    fields = {name: getattr(figures, name) for name in figures.__struct_fields__ if name != "revenue_micros"}
    return Told(revenue=format_micros(figures.revenue_micros), **fields)


def _groups(present: Run, new: Run) -> Iterator[GroupReport]:
    for key in sorted(present.groups.keys() | new.groups.keys()):
        yield GroupReport(
            group=key[0],
            category=key[1],
            present=told(present.groups.get(key, Figures())),
            new=told(new.groups.get(key, Figures())),
        )


def _named(changes: Iterable[tuple[int, str]], present: Run, new: Run) -> tuple[AccountReport, ...]:
    return tuple(_account(name, change, _bill(present, name), _bill(new, name)) for change, name in changes)


def _account(account_id: str, change: int, before: Bill, after: Bill) -> AccountReport:
    return AccountReport(
        account_id=account_id,
        group=after.group or before.group,
        present=format_micros(before.micros),
        new=format_micros(after.micros),
        change=format_micros(change),
        blocked_octets_change=after.blocked_octets - before.blocked_octets,
        throttled_octets_change=after.throttled_octets - before.throttled_octets,
    )


def _has_less(before: Bill, after: Bill) -> bool:
    """Whether more of an account's traffic is blocked or throttled, taken together."""
    return after.blocked_octets + after.throttled_octets > before.blocked_octets + before.throttled_octets


def _bill(run: Run, account_id: str) -> Bill:
    return run.bills.get(account_id, Bill())
