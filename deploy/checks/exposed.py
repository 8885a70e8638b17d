"""What the services expose: read from the metric objects themselves, or from text scraped from running services."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, get_args

from prometheus_client.metrics import MetricWrapperBase

from schemas.classification import UnknownReason
from schemas.dead_letter import DeadLetterCause
from schemas.fields import Category, Treatment
from services.policy.metrics import PolicyMetrics
from services.rating.bookings import RefusedCause
from services.rating.metrics import RatingMetrics
from services.runtime.telemetry import new_registry

Series = Mapping[str, frozenset[str] | None]
"""Series name -> its label names, or None where no series of the family has been seen yet."""

LABEL_VALUES: Mapping[tuple[str, str], frozenset[str]] = {
    ("ott_policy_records_total", "outcome"): frozenset({"decided", "dead_letter"}),
    ("ott_policy_flows_total", "category"): frozenset(get_args(Category)),
    ("ott_policy_flows_total", "treatment"): frozenset(get_args(Treatment)),
    ("ott_policy_rated_octets_total", "category"): frozenset(get_args(Category)),
    ("ott_policy_rated_octets_total", "treatment"): frozenset(get_args(Treatment)),
    ("ott_policy_dead_letters_total", "cause"): frozenset(get_args(DeadLetterCause)),
    ("ott_policy_unknown_flows_total", "reason"): frozenset(get_args(UnknownReason)),
    ("ott_policy_unknown_octets_total", "reason"): frozenset(get_args(UnknownReason)),
    ("ott_rating_ledger_refused_total", "cause"): frozenset(get_args(RefusedCause)),
    ("ott_rating_lease_refused_total", "cause"): frozenset({"duplicate", "malformed"}),
    ("ott_policy_lease_requests_total", "kind"): frozenset({"ask", "return"}),
}
"""Closed sets of label values, so that a condition on a value that never occurs is found."""

_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
_TYPE_LINE = re.compile(r"^# TYPE (?P<name>[A-Za-z_:][A-Za-z0-9_:]*) (?P<kind>\w+)$")
_SAMPLE = re.compile(r"^(?P<name>[A-Za-z_:][A-Za-z0-9_:]*)(?:\{(?P<labels>.*)\})? \S+")
_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="(?:[^"\\]|\\.)*"')


class Metric(NamedTuple):
    """One metric of a service as it was declared. `name` is what a query asks for, `_total` included."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def policy_metrics() -> list[Metric]:
    """The metrics that the policy service declares, in the order of its metrics.py."""
    return declared(PolicyMetrics(new_registry()))


def rating_metrics() -> list[Metric]:
    """The metrics that the rating service declares, in the order of its metrics.py."""
    return declared(RatingMetrics(new_registry()))


def declared(holder: object) -> list[Metric]:
    """The metrics among the attributes of `holder`, a PolicyMetrics or RatingMetrics."""
    return [_described(item) for item in vars(holder).values() if isinstance(item, MetricWrapperBase)]


def series_of(metrics: Iterable[Metric]) -> dict[str, frozenset[str] | None]:
    """The series that these metrics produce, with their labels."""
    series: dict[str, frozenset[str] | None] = {}
    for metric in metrics:
        if metric.kind == "histogram":
            base = frozenset(metric.labels)
            series |= {f"{metric.name}_bucket": base | {"le"}, f"{metric.name}_sum": base, f"{metric.name}_count": base}
        else:
            series[metric.name] = frozenset(metric.labels)
    return series


def series_in(text: str) -> dict[str, frozenset[str] | None]:
    """The series in one scraped text, in Prometheus' or OpenMetrics' format; families without samples included."""
    series: dict[str, frozenset[str] | None] = {}
    for line in text.splitlines():
        if family := _TYPE_LINE.match(line):
            for name in _family_series(family["name"], family["kind"]):
                series.setdefault(name, None)
        elif not line.startswith("#") and (sample := _SAMPLE.match(line)):
            labels = frozenset(_LABEL.findall(sample["labels"] or ""))
            series[sample["name"]] = (series.get(sample["name"]) or frozenset()) | labels
    return series


def _described(metric: MetricWrapperBase) -> Metric:
    # A family without children tells no label names through the public interface; these attributes have held them
    # since the first release of the client, and a test reads them against real samples.
    kind = str(metric._type)
    name = str(metric._name) + ("_total" if kind == "counter" else "")
    return Metric(name, kind, tuple(metric._labelnames), str(metric._documentation))


def _family_series(name: str, kind: str) -> list[str]:
    base = name.removesuffix("_total") if kind == "counter" else name
    return [base + suffix for suffix in _SUFFIXES.get(kind, ("",))]
