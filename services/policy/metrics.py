"""Metrics of the policy service, published per batch, never per record. Labels come from enums only."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class PolicyMetrics:
    """One object per process; every name is documented in docs/metrics.md."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._add_outputs(registry)
        self._add_unknowns(registry)
        self._add_times(registry)
        self._add_lanes(registry)

    def _add_outputs(self, registry: CollectorRegistry) -> None:
        self.records = Counter(
            "ott_policy_records", "Flow records by outcome: decided or dead_letter.", ["outcome"], registry=registry
        )
        self.flows = Counter(
            "ott_policy_flows", "Decided flows by OTT category and treatment.", ["category", "treatment"],
            registry=registry,
        )  # fmt: skip
        self.octets = Counter(
            "ott_policy_rated_octets", "Octets by OTT category and treatment.", ["category", "treatment"],
            registry=registry,
        )  # fmt: skip
        self.money = Counter(
            "ott_policy_charged_micros", "Out-of-bundle money charged, micro-units, by currency.", ["currency"],
            registry=registry,
        )  # fmt: skip
        self.commands = Counter(
            "ott_policy_commands", "Account commands by type and outcome.", ["type", "outcome"], registry=registry
        )
        self.dead_letters = Counter(
            "ott_policy_dead_letters", "Refused records by cause.", ["cause"], registry=registry
        )
        self.notifications = Counter("ott_policy_notifications", "Notifications by kind.", ["kind"], registry=registry)
        self.enforcement = Counter(
            "ott_policy_enforcement_updates", "Enforcement updates by action.", ["action"], registry=registry
        )
        self.lease_requests = Counter(
            "ott_policy_lease_requests", "Requests for slices of campaign budgets by kind: ask or return.", ["kind"],
            registry=registry,
        )  # fmt: skip
        self.usage_rows = Counter("ott_policy_usage_rows", "Rated usage rows emitted.", registry=registry)

    def _add_unknowns(self, registry: CollectorRegistry) -> None:
        self.unknown_flows = Counter(
            "ott_policy_unknown_flows", "Decided flows without an application, by why none was found.", ["reason"],
            registry=registry,
        )  # fmt: skip
        self.unknown_octets = Counter(
            "ott_policy_unknown_octets", "Octets of flows without an application, by why none was found.", ["reason"],
            registry=registry,
        )  # fmt: skip

    def _add_times(self, registry: CollectorRegistry) -> None:
        self.batch_seconds = Histogram(
            "ott_policy_batch_seconds", "Time from poll to durable commit of one batch.", buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.end_to_end_seconds = Histogram(
            "ott_policy_end_to_end_seconds",
            "Time from publishing to durable decision, of the oldest record of each batch.",
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.lag_records = Gauge(
            "ott_policy_lag_records", "Input records not yet decided, by partition.", ["partition"], registry=registry
        )
        self.lag_seconds = Gauge(
            "ott_policy_lag_seconds", "Age of the oldest record of the last batch, by partition.", ["partition"],
            registry=registry,
        )  # fmt: skip
        self.last_commit = Gauge(
            "ott_policy_last_commit_timestamp_seconds", "Wall clock of the last commit, by partition.", ["partition"],
            registry=registry,
        )  # fmt: skip

    def _add_lanes(self, registry: CollectorRegistry) -> None:
        self.lanes = Gauge("ott_policy_assigned_lanes", "Lanes that are up in this process.", registry=registry)
        self.rebuilds = Counter(
            "ott_policy_lane_rebuilds", "Lanes rebuilt, by cause: commit_failed, fenced, lost.", ["cause"],
            registry=registry,
        )  # fmt: skip
        self.restore_seconds = Histogram(
            "ott_policy_restore_seconds", "Time to restore one lane.", buckets=SECONDS, registry=registry
        )
        self.restored_records = Counter(
            "ott_policy_restored_records", "Changelog records replayed by restores.", registry=registry
        )
        self.accounts = Gauge("ott_policy_accounts", "Accounts in memory.", registry=registry)
        self.catalogue_loaded = Gauge(
            "ott_policy_catalogue_loaded_timestamp_seconds", "Wall clock when the catalogue version became effective.",
            registry=registry,
        )  # fmt: skip
        self.catalogue_refused = Gauge(
            "ott_policy_catalogue_refused",
            "1 while something in the catalogue topic is refused; the version before stays in force.",
            registry=registry,
        )
