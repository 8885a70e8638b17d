"""`smartpipe catalogue neutrality`: the report for people, and as JSON."""

from collections.abc import Iterable, Iterator

import msgspec
from rich.console import Console
from rich.table import Table

from services.cli.tables import new_table, plain_console, shown_number
from services.engine.neutrality import Inequality, NeutralityReport, Treated

NAMED = 6
"""Applications that are named in a cell of the table; the rest is counted."""


def print_neutrality(report: NeutralityReport, *, console: Console | None = None) -> None:
    """Print what treats applications unequally, then what treats categories alike."""
    console = console or plain_console()
    console.print(f"catalogue {report.catalogue_version}; * marks the operator's own services")
    if report.unequal:
        console.print(_unequal(report.unequal))
    else:
        console.print("No application is treated otherwise than the others of its category.")
    if report.equal:
        console.print(_equal(report))
    console.print(_own(report))


def neutrality_json(report: NeutralityReport) -> str:
    """The report as one JSON document."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()


def _unequal(items: Iterable[Inequality]) -> Table:
    table = new_table(
        "Treated otherwise than others of the category", "category", "applications", "others", "what", "by", words=5,
    )  # fmt: skip
    table.columns[0].no_wrap = True
    for item in items:
        what = ": ".join((item.kind.replace("_", " "), "; ".join((item.effect, *item.conditions))))
        who = (item.category, _names(item.applications), shown_number(item.others_count))
        table.add_row(*who, what, _by(item.by, item.offerings))
    return table


def _equal(report: NeutralityReport) -> Table:
    table = new_table("All applications of the category alike", "category", "what", "by", words=3)
    for item in report.equal:
        what = ": ".join((item.kind.replace("_", " "), "; ".join((item.effect, *item.conditions))))
        table.add_row(item.category, what, _by(item.by, item.offerings))
    return table


def _by(what: str, offerings: tuple[str, ...]) -> str:
    """What does it, and which offerings bring it; an allowance or a price says that itself."""
    return what if "/" in what else f"{what} of {', '.join(offerings)}"


def _own(report: NeutralityReport) -> Table | str:
    if not report.own:
        return "The catalogue marks no service as the operator's own."
    table = new_table("Services of the operator's own", "service", "category", "treated", words=3)
    for service in report.own:
        treated = "; ".join(text.replace("_", " ", 1) for text in service.treated)
        table.add_row(f"{service.id}*", service.category, treated or "as all others: nothing names it")
    return table


def _names(applications: tuple[Treated, ...]) -> str:
    return ", ".join(_named(applications))


def _named(applications: tuple[Treated, ...]) -> Iterator[str]:
    yield from (f"{item.id}*" if item.own else item.id for item in applications[:NAMED])
    if len(applications) > NAMED:
        yield f"{shown_number(len(applications) - NAMED)} more"
