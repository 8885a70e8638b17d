"""Tables, numbers and money as the commands print them for people."""

from collections import Counter

from rich import box
from rich.console import Console
from rich.table import Table

from schemas.units import format_micros, format_octets

PLAIN_WIDTH = 100
"""Columns when the output is no terminal."""


def plain_console() -> Console:
    """Standard output: as wide as the terminal, or 100 columns where there is none."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=PLAIN_WIDTH, highlight=False)


def new_table(title: str, *columns: str, words: int = 1) -> Table:
    """A table whose first `words` columns are text, the others numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False,
                  min_width=len(title) + 2, collapse_padding=True)  # fmt: skip
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < words else "right", overflow="fold")
    return table


def shown_number(count: int) -> str:
    """Digits in groups of three, divided by a narrow space as ISO 31-0 has it, in plain ASCII: `20 000`."""
    return f"{count:,}".replace(",", " ")


def shown_count(count: int, what: str) -> str:
    """A number and what it counts: `1 error`, `20 000 errors`."""
    return f"{shown_number(count)} {what}{'' if count == 1 else 's'}"


def shown_octets(octets: int) -> str:
    """Octets for people; a dash for none."""
    return format_octets(octets) if octets else "-"


def shown_money(amounts: dict[str, int] | Counter[str]) -> str:
    """Amounts, cut to hundredths, by currency: the exact ones are in the ledger."""
    shown = [f"{_cut(micros)} {currency}".strip() for currency, micros in sorted(amounts.items()) if micros]
    return ", ".join(shown) or "-"


def _cut(micros: int) -> str:
    whole, _, part = format_micros(micros).partition(".")
    shown = f"{whole}.{part[:2]:0<2}"
    return "<0.01" if shown == "0.00" else shown
