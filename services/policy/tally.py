"""Counts of one transaction in plain ints, published to the metrics once it is durable."""

import dataclasses
from collections import Counter

from schemas.classification import UnknownReason
from services.engine.unknowns import Volume
from services.policy.metrics import PolicyMetrics


@dataclasses.dataclass
class Tally:
    """What one transaction did. Nothing here is published if the transaction fails."""

    flows: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    octets: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    micros: Counter[str] = dataclasses.field(default_factory=Counter)
    commands: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    dead_letters: Counter[str] = dataclasses.field(default_factory=Counter)
    notifications: Counter[str] = dataclasses.field(default_factory=Counter)
    updates: Counter[str] = dataclasses.field(default_factory=Counter)
    unknown: dict[UnknownReason, Volume] = dataclasses.field(default_factory=dict)
    """What had no application, by the reason."""

    usage_rows: int = 0
    records: int = 0
    oldest_ms: int = 0
    """Publishing time of the oldest record, ms; 0 = none."""

    def publish(self, metrics: PolicyMetrics) -> None:
        """Add everything to the process's metrics."""
        metrics.records.labels("decided").inc(self.flows.total())
        metrics.records.labels("dead_letter").inc(self.dead_letters.total())
        for (category, treatment), count in self.flows.items():
            metrics.flows.labels(category, treatment).inc(count)
        for (category, treatment), octets in self.octets.items():
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
        metrics.usage_rows.inc(self.usage_rows)
