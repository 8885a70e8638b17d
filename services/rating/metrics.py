"""Metrics of the rating service. Routes are templates, never paths."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class RatingMetrics:
    """One object per process; every name is documented in docs/metrics.md."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "ott_rating_http_requests", "HTTP requests by method, route template and status class.",
            ["method", "route", "status"], registry=registry,
        )  # fmt: skip
        self.request_seconds = Histogram(
            "ott_rating_http_request_seconds", "HTTP request time by method and route template.",
            ["method", "route"], buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.in_flight = Gauge("ott_rating_http_in_flight", "HTTP requests being served.", registry=registry)
        self.ledger_rows = Counter("ott_rating_ledger_rows", "Rows booked by kind.", ["kind"], registry=registry)
        self.ledger_refused = Counter(
            "ott_rating_ledger_refused",
            "Usage records not booked, by cause: duplicate, conflict, malformed or unknown_version.",
            ["cause"], registry=registry,
        )  # fmt: skip
        self.ledger_lag = Gauge(
            "ott_rating_ledger_lag_records", "Usage records not yet booked, by partition.", ["partition"],
            registry=registry,
        )  # fmt: skip
        self.ledger_last_commit = Gauge(
            "ott_rating_ledger_last_commit_timestamp_seconds", "Wall clock of the ledger's last commit.",
            registry=registry,
        )  # fmt: skip
        self.outbox_pending = Gauge("ott_rating_outbox_pending", "Outbox records not yet published.", registry=registry)
        self.outbox_published = Counter(
            "ott_rating_outbox_published", "Outbox records published, by topic.", ["topic"], registry=registry
        )
        self.lease_requests = Counter(
            "ott_rating_lease_requests", "Requests for slices of campaign budgets that were booked.", registry=registry
        )
        self.lease_refused = Counter(
            "ott_rating_lease_refused", "Requests not booked, by cause: duplicate or malformed.", ["cause"],
            registry=registry,
        )  # fmt: skip
        self.campaign_octets = Gauge(
            "ott_rating_campaign_octets",
            "Octets of campaigns with a budget: the budget, granted to lanes, returned by them, used by flows.",
            ["campaign", "kind"], registry=registry,
        )  # fmt: skip
        self.database_up = Gauge("ott_rating_database_up", "1 while the database answers.", registry=registry)
