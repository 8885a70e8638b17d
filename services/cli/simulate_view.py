"""A simulation for people: what changes per group and category, and for whom."""

import datetime
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas.units import format_octets, parse_micros
from services.cli.tables import new_table, plain_console, shown_count, shown_number, shown_octets
from services.engine.simulate import FEES
from services.engine.simulate_report import AccountReport, SimulationReport, Told

VOLUMES = ("charged", "free", "sponsored", "not_charged", "blocked", "throttled")
"""The first five add up to all octets; throttled are some of those that passed."""

ALWAYS_SHOWN = ("charged", "free", "blocked")
"""Volumes that have a column even where both tariffs have none of it."""

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
SHORTEST_CYCLE_DAYS = 28

LATE_MS = 600_000
"""Exporters tell within minutes; what comes later than this says something about the recording, not about a plan."""


def print_simulation(report: SimulationReport, refused: Mapping[str, int], *, console: Console | None = None) -> None:
    """Print the comparison: money, volumes, and the accounts that win and lose most."""
    console = console or plain_console()
    console.print(_head(report, refused))
    console.print(_money(report))
    console.print(_volumes(report))
    for title, accounts in (("Bills that fall most", report.winners), ("Bills that rise most", report.losers)):
        if accounts:
            console.print(_accounts(title, accounts, report))
    if report.overshoot_present or report.overshoot_new:
        console.print(_overshoot(report))
        if report.most_late_ms > LATE_MS:
            late = f"{report.most_late_ms // 60_000} minutes"
            console.print(f"note: records arrived up to {late} after they ended; overshoot is that of so late reports")
    for line in _refusals(report):
        console.print(line)


def _head(report: SimulationReport, refused: Mapping[str, int]) -> Text:
    return Text("\n".join(_summary(report, refused)))


def _summary(report: SimulationReport, refused: Mapping[str, int]) -> Iterator[str]:
    tenths = (report.until_ms - report.from_ms) * 10 // DAY_MS
    yield f"catalogue {report.new_version} beside {report.present_version}"
    yield (
        f"{shown_count(report.flows, 'flow record')} of {shown_count(report.accounts, 'account')}, "
        f"{_time(report.from_ms)} to {_time(report.until_ms)} UTC ({_span(report.until_ms - report.from_ms)})"
    )
    before, after = parse_micros(report.total_present.revenue), parse_micros(report.total_new.revenue)
    yield (
        f"revenue {_money_of(before)} -> {_money_of(after)} {report.currency}: {_signed(after - before)}"
        f"{_share(after - before, before)}"
    )
    same = report.accounts - report.winning_accounts - report.losing_accounts
    yield (
        f"accounts: {shown_number(report.winning_accounts)} pay less, {shown_number(report.losing_accounts)} pay more, "
        f"{shown_number(same)} the same"
    )
    if report.restricted_accounts:
        yield (
            f"for {shown_count(report.restricted_accounts, 'account')} more is blocked or throttled than today; "
            f"{shown_number(report.winning_accounts_restricted)} of these pay less"
        )
    left_out = {**refused, "unknown_account": report.unknown_account_flows}
    told = ", ".join(f"{shown_number(count)} {cause}" for cause, count in sorted(left_out.items()) if count)
    if told:
        yield f"left out: {told}"
    if report.most_late_ms > DAY_MS:
        yield (
            f"note: records came up to {_span(report.most_late_ms)} after they ended; flows of a cycle that ended more "
            "than a day before they came are not charged. Put the records of a file in the order of end_ms"
        )
    if tenths < SHORTEST_CYCLE_DAYS * 10 and any(group.category == FEES for group in report.groups):
        yield "note: fees are for whole cycles where the tariff says so, and stand beside less than a cycle of usage"


def _money(report: SimulationReport) -> Table:
    table = new_table(
        f"Revenue in {report.currency} by {_words(report.grouped_by)} and category", _words(report.grouped_by),
        "category", "today", "new", "change", "blocked calls", "caps reached", words=2,
    )  # fmt: skip
    for group in report.groups:
        table.add_row(group.group or "-", group.category, *_revenue(group.present, group.new))
    table.add_section()
    table.add_row("all", "", *_revenue(report.total_present, report.total_new))
    return table


def _revenue(present: Told, new: Told) -> Iterator[str]:
    before, after = parse_micros(present.revenue), parse_micros(new.revenue)
    yield from (_money_of(before), _money_of(after), _signed(after - before))
    yield _pair(present.blocked_calls, new.blocked_calls)
    yield _pair(present.caps_reached, new.caps_reached)


def _volumes(report: SimulationReport) -> Table:
    """Volumes under the new tariff, and below each, where it looks different, what it is today."""
    names = [name for name in VOLUMES if name in ALWAYS_SHOWN or _any_octets(report, name)]
    table = new_table("Volume under the new tariff, and below it today's where it differs", _words(report.grouped_by),
                      "category", *map(_words, names), words=2)  # fmt: skip
    for column in table.columns[:2]:
        column.no_wrap = True
    for group in report.groups:
        if group.present.octets or group.new.octets:
            table.add_row(group.group or "-", group.category, *_octets(group.present, group.new, names))
    table.add_section()
    table.add_row("all", "", *_octets(report.total_present, report.total_new, names))
    return table


def _any_octets(report: SimulationReport, name: str) -> bool:
    return any(getattr(side, f"{name}_octets") for side in (report.total_present, report.total_new))


def _octets(present: Told, new: Told, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        before, after = (shown_octets(getattr(side, f"{name}_octets")) for side in (present, new))
        yield after if before == after else f"{after}\n({before})"


def _accounts(title: str, accounts: tuple[AccountReport, ...], report: SimulationReport) -> Table:
    count = report.winning_accounts if accounts is report.winners else report.losing_accounts
    table = new_table(
        f"{title} ({shown_number(len(accounts))} of {shown_number(count)})", "account", _words(report.grouped_by),
        f"today {report.currency}", "new", "change", "more blocked", "more throttled", words=2,
    )  # fmt: skip
    for item in accounts:
        more = (item.blocked_octets_change, item.throttled_octets_change)
        volumes = (format_octets(octets) if octets else "-" for octets in more)
        before, after, change = map(parse_micros, (item.present, item.new, item.change))
        table.add_row(
            item.account_id, item.group or "-", _money_of(before), _money_of(after), _signed(change), *volumes
        )
    return table


def _overshoot(report: SimulationReport) -> Table:
    table = new_table(
        "Overshoot of plans: promised, and the worst seen", "tariff", "what ends", "promised", "worst seen",
        "ended", "told ahead", words=2,
    )  # fmt: skip
    for tariff, items in (("today", report.overshoot_present), ("new", report.overshoot_new)):
        for item in items:
            bound = item.tolerance_octets
            broken = bound is not None and item.worst_octets > bound
            table.add_row(
                tariff,
                f"campaign {item.campaign_id}"
                if item.campaign_id
                else f"{item.offering_id}/{item.price_id or item.allowance_id}",
                "no bound" if bound is None else format_octets(bound),
                Text(format_octets(item.worst_octets), style="bold red" if broken else ""),
                shown_number(item.ended),
                shown_number(item.told_ahead),
            )
    return table


def _refusals(report: SimulationReport) -> Iterator[Text]:
    for name, refused in (("today's", report.refused_commands_present), ("the new", report.refused_commands_new)):
        if refused:
            told = ", ".join(f"{shown_number(count)} {cause}" for cause, count in refused.items())
            yield Text(f"account commands that {name} tariff refuses: {told}")


def _money_of(micros: int) -> str:
    """An amount in hundredths, cut, in groups of three digits."""
    whole, hundredths = divmod(abs(micros) // 10_000, 100)
    shown = f"{shown_number(whole)}.{hundredths:02d}"
    if shown == "0.00":
        return "<0.01" if micros > 0 else ">-0.01" if micros else "-"
    return f"-{shown}" if micros < 0 else shown


def _signed(micros: int) -> str:
    return f"+{_money_of(micros)}" if micros >= 10_000 else _money_of(micros)


def _share(change: int, before: int) -> str:
    """A change in per cent, with one decimal place, cut; nothing where there is nothing to compare with."""
    if before <= 0 or not change:
        return ""
    tenths = abs(change) * 1_000 // before
    return f" ({'-' if change < 0 else '+'}{tenths // 10}.{tenths % 10} %)"


def _pair(before: int, after: int) -> str:
    return shown_number(after) if before == after else f"{shown_number(before)} -> {shown_number(after)}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _span(ms: int) -> str:
    """A stretch in days or, below one, in hours; one decimal place, cut."""
    size, word = (DAY_MS, "days") if ms >= DAY_MS else (HOUR_MS, "hours")
    tenths = ms * 10 // size
    return f"{tenths // 10}.{tenths % 10} {word}"


def _time(at_ms: int) -> str:
    return datetime.datetime.fromtimestamp(at_ms // 1_000, datetime.UTC).strftime("%Y-%m-%d %H:%M")
