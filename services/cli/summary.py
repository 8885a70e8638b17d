"""The readable end of a run: what the traffic was, what it cost, and whether the books are right."""

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas.dead_letter import DeadLetter
from schemas.decision import PolicyDecision
from schemas.notification import Notification
from schemas.state import AccountState
from schemas.units import MS_PER_SECOND, parse_micros
from schemas.usage import RatedUsage
from services.cli.reconcile import CheckResult, Report
from services.cli.reconcile_view import PART_FIELDS, PARTS
from services.cli.tables import new_table, plain_console, shown_money, shown_number, shown_octets

CATEGORIES = ("voip_im", "social", "streaming", "other")
TOP = 8
"""Rows of a ranking."""


class Summary:
    """Counts what a run did. Fed with everything that the reconciliation reads."""

    def __init__(self) -> None:
        self.records = 0
        self.first_decided_ms = 0
        self.last_decided_ms = 0
        self.flows: Counter[str] = Counter()
        """Flows by category."""
        self.treatments: Counter[tuple[str, str]] = Counter()
        """Flows by category and treatment."""
        self.octets: Counter[tuple[str, str]] = Counter()
        """Octets by category and part."""
        self.money: Counter[tuple[str, str]] = Counter()
        """Out-of-bundle micro-units by category and currency."""
        self.fees: Counter[tuple[str, str]] = Counter()
        """Fees in micro-units by offering and currency."""
        self.applications: dict[str, list[int]] = {}
        """Flows, octets by application."""
        self.rules: dict[str, list[int]] = {}
        """Flows, octets by rule."""
        self.holders: Counter[str] = Counter()
        """Accounts by offering held."""
        self.drawn: Counter[str] = Counter()
        """Octets drawn from buckets by offering."""
        self.drawn_ms: Counter[str] = Counter()
        """The same of buckets of time."""
        self.refused: Counter[tuple[str, str]] = Counter()
        """Dead letters by cause and topic."""
        self.told: Counter[str] = Counter()
        """Notifications by kind."""
        self._category_of: dict[str, str] = {}
        self._offering_of: dict[tuple[str, str], str] = {}

    def decisions(self, decisions: Iterable[PolicyDecision]) -> None:
        """Traffic: every decided flow."""
        for decision in decisions:
            category, at_ms = decision.classification.category, decision.decided_at_ms
            self.records += 1
            self.first_decided_ms = min(self.first_decided_ms or at_ms, at_ms)
            self.last_decided_ms = max(self.last_decided_ms, at_ms)
            self.flows[category] += 1
            self.treatments[category, decision.treatment] += 1
            for part, field in PART_FIELDS:
                if octets := getattr(decision, field):
                    self.octets[category, part] += octets
            for price in (decision.price, decision.connection):
                if price is not None:
                    self.money[category, price.currency] += parse_micros(price.amount)
            application = decision.classification.application or "(unknown)"
            self._category_of[application] = category
            _add(self.applications, application, decision.octets)
            _add(self.rules, decision.rule_id, decision.octets)

    def usage(self, rows: Iterable[RatedUsage]) -> None:
        """What products earned, and how much of them was used."""
        for row in rows:
            if row.offering_id is not None:
                self._offering(row, row.offering_id)
            elif row.kind in ("usage", "refund"):
                for movement in row.movements:
                    if movement.unit != "micros":
                        offering = self._offering_of.get((row.account_id, movement.bucket_id), "(unknown)")
                        drawn = self.drawn if movement.unit == "octets" else self.drawn_ms
                        drawn[offering] -= int(movement.amount)

    def account(self, account: AccountState) -> None:
        """Who holds what, at the end."""
        for offering in {product.offering_id for product in account.products}:
            self.holders[offering] += 1

    def dead_letters(self, letters: Iterable[DeadLetter]) -> None:
        """What was refused, and why."""
        for letter in letters:
            self.refused[letter.cause, letter.source_topic] += 1

    def notifications(self, notifications: Iterable[Notification]) -> None:
        """What people were told."""
        for notification in notifications:
            self.told[notification.kind] += 1

    def category_of(self, application: str) -> str:
        """The category under which an application was last seen."""
        return self._category_of.get(application, "")

    def _offering(self, row: RatedUsage, offering_id: str) -> None:
        if row.kind == "fee":
            self.fees[offering_id, row.currency or ""] += parse_micros(row.amount)
        for movement in row.movements:
            if movement.unit != "micros":
                self._offering_of[row.account_id, movement.bucket_id] = offering_id


def print_summary(summary: Summary, *, console: Console | None = None, elapsed_s: float | None = None) -> None:
    """Print traffic and money, the rankings, what was refused, and what people were told.

    `elapsed_s`: how long the run took, for the throughput line; by default the time from first to last decision.
    """
    console = console or plain_console()
    for table in _tables(summary):
        console.print(table)
    console.print(_throughput(summary, elapsed_s))


def print_report(report: Report, *, console: Console | None = None) -> None:
    """Print one line per check, then what each violation means and who broke it, then the verdict."""
    console = console or plain_console()
    console.print(_report_table(report))
    for check in report.violated():
        console.print(_violation(check))
    for name, count in report.waiting.items():
        console.print(f"Still waiting: {shown_number(count)} {_WAITING.get(name, name)}.")
    for remark in report.remarks:
        console.print(remark)
    console.print(_verdict(report))


def report_json(report: Report) -> str:
    """The report as one JSON document; `ok` first."""
    return msgspec.json.format(msgspec.json.encode({"ok": report.ok, **msgspec.to_builtins(report)}), indent=2).decode()


def _tables(summary: Summary) -> Iterator[Table]:
    yield _traffic(summary)
    if summary.applications:
        yield _applications(summary)
    if summary.holders or summary.fees:
        yield _offerings(summary)
    if summary.rules:
        yield _rules(summary)
    if summary.refused:
        yield _dead_letters(summary)
    if summary.told:
        yield _notifications(summary)


def _traffic(summary: Summary) -> Table:
    table = new_table("Traffic and money by category and treatment", "category", "flows", *map(_words, PARTS), "money")
    for category in CATEGORIES:
        table.add_row(
            category,
            shown_number(summary.flows[category]),
            *(shown_octets(summary.octets[category, part]) for part in PARTS),
            shown_money({currency: micros for (name, currency), micros in summary.money.items() if name == category}),
        )
    table.add_section()
    totals: Counter[str] = Counter()
    for (_, currency), micros in summary.money.items():
        totals[currency] += micros
    sums = (sum(summary.octets[category, part] for category in CATEGORIES) for part in PARTS)
    table.add_row("all", shown_number(summary.records), *map(shown_octets, sums), shown_money(totals))
    return table


def _applications(summary: Summary) -> Table:
    table = new_table("Top applications", "application", "category", "flows", "volume", words=2)
    for name, (flows, octets) in _top(summary.applications):
        table.add_row(name, summary.category_of(name), shown_number(flows), shown_octets(octets))
    return table


def _offerings(summary: Summary) -> Table:
    table = new_table("Packages", "offering", "accounts", "drawn from its buckets", "fees")
    names = summary.holders.keys() | summary.drawn.keys() | {offering for offering, _ in summary.fees}
    ranked = sorted(names, key=lambda name: (-summary.holders[name], -summary.drawn[name], name))
    for name in ranked[: TOP * 2]:
        fees = {currency: micros for (offering, currency), micros in summary.fees.items() if offering == name}
        table.add_row(name, shown_number(summary.holders[name]), _drawn(summary, name), shown_money(fees))
    return table


def _drawn(summary: Summary, offering: str) -> str:
    time = f"{summary.drawn_ms[offering] // MS_PER_SECOND} s" if summary.drawn_ms[offering] else ""
    volume = shown_octets(summary.drawn[offering]) if summary.drawn[offering] or not time else ""
    return ", ".join(filter(None, (volume, time)))


def _rules(summary: Summary) -> Table:
    table = new_table("Rules that applied", "rule", "flows", "volume")
    for name, (flows, octets) in _top(summary.rules):
        table.add_row(name, shown_number(flows), shown_octets(octets))
    return table


def _dead_letters(summary: Summary) -> Table:
    table = new_table("Dead letters by cause", "cause", "topic", "records", words=2)
    for (cause, topic), count in summary.refused.most_common():
        table.add_row(cause, topic, shown_number(count))
    return table


def _notifications(summary: Summary) -> Table:
    table = new_table("Notifications by kind", "kind", "told")
    for kind, count in summary.told.most_common():
        table.add_row(kind, shown_number(count))
    return table


def _throughput(summary: Summary, elapsed_s: float | None) -> Text:
    refused = sum(summary.refused.values())
    text = f"{shown_number(summary.records)} flow records decided, {shown_number(refused)} records refused"
    milliseconds = summary.last_decided_ms - summary.first_decided_ms if elapsed_s is None else int(elapsed_s * 1000)
    if milliseconds > 0:
        rate = (summary.records + refused) * 1000 // milliseconds
        text += f", in {milliseconds // 1000}.{milliseconds % 1000 // 100} s: {shown_number(rate)} a second"
    return Text(text)


def _report_table(report: Report) -> Table:
    table = new_table("Reconciliation", "result", "claim", "looked at", "violations", words=2)
    for check in report.checks:
        style, word = _STYLES[check.status]
        table.add_row(
            Text(word, style=style),
            check.claim,
            shown_number(check.checked) if check.status != "skipped" else "",
            Text(shown_number(check.violations), style=style) if check.violations else "",
        )
    return table


def _violation(check: CheckResult) -> Text:
    text = Text(f"{check.name}: ", style="bold red")
    text.append(check.meaning, style="default")
    for offender in check.offenders:
        text.append(f"\n  {offender}", style="default")
    if check.violations > len(check.offenders):
        text.append(f"\n  ... {shown_number(check.violations)} in all", style="default")
    return text


def _verdict(report: Report) -> Text:
    violated = report.violated()
    if violated:
        return Text(f"Reconciliation VIOLATED: {', '.join(check.name for check in violated)}", style="bold red")
    skipped = sum(check.status == "skipped" for check in report.checks)
    counts = report.counts
    return Text(
        f"Reconciliation clean: {len(report.checks) - skipped} checks hold ({skipped} skipped) over "
        f"{shown_number(counts.get('flows', 0))} flow records, {shown_number(counts.get('decisions', 0))} decisions, "
        f"{shown_number(counts.get('dead_letters', 0))} dead letters, "
        f"{shown_number(counts.get('usage', 0))} usage rows.",
        style="bold green",
    )


def _top(ranking: dict[str, list[int]]) -> list[tuple[str, list[int]]]:
    """The entries with the most octets, then flows, then by name."""
    return sorted(ranking.items(), key=lambda entry: (-entry[1][1], -entry[1][0], entry[0]))[:TOP]


def _add(ranking: dict[str, list[int]], name: str, octets: int) -> None:
    entry = ranking.get(name)
    if entry is None:
        ranking[name] = [1, octets]
    else:
        entry[0] += 1
        entry[1] += octets


def _words(name: str) -> str:
    return name.replace("_", " ")


_STYLES = {"ok": ("green", "ok"), "violated": ("bold red", "VIOLATED"), "skipped": ("yellow", "skipped")}
_WAITING = {
    "flows": "flow records, not yet decided",
    "commands": "account commands, not yet applied",
    "usage": "rows of rated usage, not yet booked",
    "lanes": "lanes, which went on writing while they were read",
    "workers": "lanes, which went on writing before their workers were asked",
    "ledger": "ledger, which went on booking while it was read",
}
