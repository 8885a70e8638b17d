"""Counts of one transaction in plain ints, published to the metrics once it is durable."""

import dataclasses
from collections import Counter

from schemas.classification import UnknownReason
from services.engine.unknowns import Volume
from services.policy.metrics import PolicyMetrics


@dataclasses.dataclass
class Tally:
    """What one transaction did. Nothing here is published if the transaction fails."""

    flows: dict[tuple[str, str], list[int]] = dataclasses.field(default_factory=dict)
    """Flows and octets by category and treatment."""
    micros: Counter[str] = dataclasses.field(default_factory=Counter)
    commands: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    dead_letters: Counter[str] = dataclasses.field(default_factory=Counter)
    notifications: Counter[str] = dataclasses.field(default_factory=Counter)
    updates: Counter[str] = dataclasses.field(default_factory=Counter)
    unknown: dict[UnknownReason, Volume] = dataclasses.field(default_factory=dict)
    """What had no application, by the reason."""

    lease_requests: Counter[str] = dataclasses.field(default_factory=Counter)
    """Slices of budgets asked for and given back."""

    usage_rows: int = 0
    records: int = 0
    oldest_ms: int = 0
    """Publishing time of the oldest record, ms; 0 = none."""

    def count(self, category: str, treatment: str, octets: int) -> None:
        """One more decided flow."""
        entry = self.flows.get((category, treatment))
        if entry is None:
            self.flows[category, treatment] = [1, octets]
        else:
            entry[0] += 1
            entry[1] += octets

    def publish(self, metrics: PolicyMetrics) -> None:
        """Add everything to the process's metrics."""
        metrics.records.labels("decided").inc(sum(count for count, _ in self.flows.values()))
        metrics.records.labels("dead_letter").inc(self.dead_letters.total())
        for (category, treatment), (count, octets) in self.flows.items():
            metrics.flows.labels(category, treatment).inc(count)
            metrics.octets.labels(category, treatment).inc(octets)
        for currency, micros in self.micros.items():
            metrics.money.labels(currency).inc(micros)
        for (kind, outcome), count in self.commands.items():
            metrics.commands.labels(kind, outcome).inc(count)
        for cause, count in self.dead_letters.items():
            metrics.dead_letters.labels(cause).inc(count)
        for kind, count in self.notifications.items():
            metrics.notifications.labels(kind).inc(count)
        for action, count in self.updates.items():
            metrics.enforcement.labels(action).inc(count)
        for reason, volume in self.unknown.items():
            metrics.unknown_flows.labels(reason).inc(volume.flows)
            metrics.unknown_octets.labels(reason).inc(volume.octets)
        for kind, count in self.lease_requests.items():
            metrics.lease_requests.labels(kind).inc(count)
        metrics.usage_rows.inc(self.usage_rows)
