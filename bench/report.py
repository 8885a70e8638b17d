"""What the bench has measured, beside the floor of each figure."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclasses.dataclass(frozen=True)
class Floor:
    """A figure's name (dotted path), its bound, and on which side of it the figure has to be."""

    path: str
    bound: float
    at_least: bool
    unit: str

    def missed(self, value: float) -> bool:
        """Whether `value` is on the wrong side."""
        return value < self.bound if self.at_least else value > self.bound


class Floors(tuple[Floor, ...]):
    """All floors."""

    __slots__ = ()

    def misses(self, figures: Mapping[str, Any]) -> Iterator[tuple[Floor, bool]]:
        """Each floor whose figure was measured, and whether it is missed."""
        for floor in self:
            value = lookup(figures, floor.path)
            if value is not None:
                yield floor, floor.missed(value)


FLOORS = Floors(
    (
        Floor("records_per_second_per_core", 30_000, at_least=True, unit="records/s"),
        Floor("latency_ms.p99", 500, at_least=False, unit="ms"),
        Floor("restore_records_per_second", 200_000, at_least=True, unit="records/s"),
        Floor("state_bytes_per_subscriber", 2_048, at_least=False, unit="octets"),
    )
)


def lookup(figures: Mapping[str, Any], path: str) -> float | None:
    """The number at a dotted path, or None where it was not measured."""
    found: Any = figures
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, int | float) else None


def print_figures(figures: Mapping[str, Any]) -> None:
    """The machine, the figures, and the floors with their verdicts."""
    console = Console()
    for part in ("machine", "settings"):
        console.print(f"[bold]{part}[/bold] " + ", ".join(f"{name} {value}" for name, value in figures[part].items()))
    table = Table(title="Measured")
    for column in ("figure", "value", "floor", ""):
        table.add_column(column, justify="right" if column in {"value", "floor"} else "left")
    floors = {floor.path: floor for floor in FLOORS}
    for path, value in _flat(figures):
        floor = floors.get(path)
        bound = f"{'>=' if floor.at_least else '<='} {floor.bound:,}" if floor else ""
        verdict = "" if floor is None else "[red]missed[/red]" if floor.missed(value) else "[green]met[/green]"
        table.add_row(path, f"{value:,.3f}".rstrip("0").rstrip("."), bound, verdict)
    console.print(table)


def _flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in figures.items():
        if prefix == "" and name in {"machine", "settings"}:
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value
