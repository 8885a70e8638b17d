"""A simulation for people: what changes per group and category, and for whom."""

import datetime
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas.units import format_micros, format_octets, parse_micros
from services.cli.tables import new_table, plain_console, shown_money, shown_number, shown_octets
from services.engine.simulate_report import AccountReport, GroupReport, SimulationReport, Told

VOLUMES = ("charged", "free", "sponsored", "throttled", "blocked")


def print_simulation(report: SimulationReport, refused: Mapping[str, int], *, console: Console | None = None) -> None:
    """Print the comparison: money, volumes, and the accounts that win and lose most."""
    console = console or plain_console()
    console.print(_head(report, refused))
    console.print(_money(report))
    console.print(_volumes(report))
    for title, accounts in (("Accounts that win most", report.winners), ("Accounts that lose most", report.losers)):
        if accounts:
            console.print(_accounts(title, accounts, report))
    if report.overshoot_present or report.overshoot_new:
        console.print(_overshoot(report))
    for line in _refusals(report):
        console.print(line)


def _head(report: SimulationReport, refused: Mapping[str, int]) -> Text:
    text = (
        f"catalogue {report.new_version} beside {report.present_version}: {shown_number(report.flows)} flow records of "
        f"{shown_number(report.accounts)} accounts, from {_time(report.from_ms)} to {_time(report.until_ms)}"
    )
    left_out = {**refused, "unknown_account": report.unknown_account_flows}
    told = ", ".join(f"{shown_number(count)} {cause}" for cause, count in sorted(left_out.items()) if count)
    return Text(f"{text}\nleft out: {told}" if told else text)


def _money(report: SimulationReport) -> Table:
    table = new_table(
        f"Revenue by {_words(report.grouped_by)} and category", _words(report.grouped_by), "category", "today", "new",
        "change", "blocked calls", "caps reached", words=2,
    )  # fmt: skip
    for group in report.groups:
        table.add_row(group.group or "-", group.category, *_revenue(group.present, group.new, report))
    table.add_section()
    table.add_row("all", "", *_revenue(report.total_present, report.total_new, report))
    return table


def _revenue(present: Told, new: Told, report: SimulationReport) -> Iterator[str]:
    before, after = parse_micros(present.revenue), parse_micros(new.revenue)
    for micros in (before, after):
        yield shown_money({report.currency: micros})
    yield _signed(after - before)
    yield _pair(present.blocked_calls, new.blocked_calls)
    yield _pair(present.caps_reached, new.caps_reached)


def _volumes(report: SimulationReport) -> Table:
    """Volumes under the new tariff, and below each, where it differs, what it is today."""
    table = new_table("Volume, new tariff (today's in brackets where it differs)", _words(report.grouped_by),
                      "category", *VOLUMES, words=2)  # fmt: skip
    for group in report.groups:
        if group.present.octets or group.new.octets:
            table.add_row(group.group or "-", group.category, *_octets(group))
    return table


def _octets(group: GroupReport) -> Iterator[str]:
    for name in VOLUMES:
        before, after = (getattr(side, f"{name}_octets") for side in (group.present, group.new))
        yield shown_octets(after) if before == after else f"{shown_octets(after)} ({shown_octets(before)})"


def _accounts(title: str, accounts: tuple[AccountReport, ...], report: SimulationReport) -> Table:
    count = report.winning_accounts if accounts is report.winners else report.losing_accounts
    table = new_table(
        f"{title} (of {shown_number(count)})", "account", _words(report.grouped_by), f"today {report.currency}", "new",
        "change", "more blocked", "more throttled", words=2,
    )  # fmt: skip
    for item in accounts:
        more = (item.blocked_octets_change, item.throttled_octets_change)
        volumes = (format_octets(octets) if octets else "-" for octets in more)
        table.add_row(
            item.account_id, item.group or "-", item.present, item.new, _signed(parse_micros(item.change)), *volumes
        )
    return table


def _overshoot(report: SimulationReport) -> Table:
    table = new_table(
        "Overshoot of plans: promised, and the worst seen", "tariff", "offering/allowance", "promised", "worst seen",
        "ends", "told ahead", words=2,
    )  # fmt: skip
    for tariff, items in (("today", report.overshoot_present), ("new", report.overshoot_new)):
        for item in items:
            bound = item.tolerance_octets
            broken = bound is not None and item.worst_octets > bound
            table.add_row(
                tariff,
                f"{item.offering_id}/{item.allowance_id}",
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


def _signed(micros: int) -> str:
    return f"{'+' if micros > 0 else ''}{format_micros(micros)}" if micros else "-"


def _pair(before: int, after: int) -> str:
    return shown_number(after) if before == after else f"{shown_number(before)} -> {shown_number(after)}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _time(at_ms: int) -> str:
    return datetime.datetime.fromtimestamp(at_ms // 1_000, datetime.UTC).isoformat().replace("+00:00", "Z")
