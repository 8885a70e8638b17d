"""The files that are written from code, and whether they still say what the code says.

`python -m deploy.check --write` writes them all.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from deploy.checks.exposed import LABEL_VALUES, Metric, policy_metrics, rating_metrics
from deploy.checks.expressions import DEPLOY, RULES, load_yaml
from deploy.grafana import build_dashboard

METRICS_PAGE = DEPLOY.parent / "docs" / "metrics.md"
PROMETHEUS_RULE = DEPLOY / "k8s" / "overlays" / "prod" / "prometheus-rule.yaml"

LABELS: Mapping[str, str] = {
    "action": "What the gateway has to do: install, modify or remove a rule.",
    "category": "OTT category of the application.",
    "campaign": "Id of a sponsored campaign that has a budget, as in the catalogue.",
    "cause": "Why; one word out of a closed list.",
    "currency": "ISO 4217 code of the account's currency.",
    "kind": "Kind of the notification, ledger row, lease request or amount of a budget.",
    "method": "HTTP method.",
    "outcome": "What became of the record or command.",
    "partition": "Number of the lane's partition.",
    "reason": "Why no application was found.",
    "route": "Route template such as `/ott-policy/v1/usage/{id}/explanation`, never a path.",
    "status": "Status class: `2xx`, `3xx`, `4xx` or `5xx`.",
    "topic": "Topic of the log.",
    "treatment": "Who pays for the flow.",
    "type": "Type of the account command.",
}
"""What each label means; a label that is missing here fails the check."""

_HEAD = """\
# Metrics

Every metric that the two services expose on their operations ports, `/metrics`. Written from the code by
`python -m deploy.check --write`; do not edit.

Names follow the Prometheus conventions: one prefix (`ott_`), base units, `_total` on counters. A histogram is queried
as `_bucket` (with the label `le`), `_sum` and `_count`. Labels are closed sets: no subscriber, number, domain, address
or raw path is ever a label, so the number of series does not grow with the number of subscribers. Every process also
exposes the usual `process_*` and `python_*` metrics.
"""


def files() -> Mapping[Path, Callable[[], str]]:
    """Every generated file and what writes it."""
    return {
        METRICS_PAGE: metrics_page,
        PROMETHEUS_RULE: prometheus_rule,
        build_dashboard.TARGET: build_dashboard.as_text,
    }


def check_generated() -> list[str]:
    """A complaint for each generated file that is missing or no longer what the code writes."""
    return [
        f"{path.relative_to(DEPLOY.parent)} is not what the code writes; run `python -m deploy.check --write`"
        for path, text in files().items()
        if not path.exists() or path.read_text() != text()
    ]


def write_generated() -> list[Path]:
    """Write every generated file; the paths."""
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text())
    return list(files())


def check_labels() -> list[str]:
    """A complaint for each label that is used without being explained, or explained without being used."""
    used = {label for metric in [*policy_metrics(), *rating_metrics()] for label in metric.labels}
    return [
        *(f"label {label} is not explained in deploy/checks/generated.py" for label in sorted(used - LABELS.keys())),
        *(f"label {label} is explained, but no metric has it" for label in sorted(LABELS.keys() - used)),
    ]


def metrics_page() -> str:
    """docs/metrics.md."""
    parts = [_HEAD]
    for title, metrics in (
        ("Policy service (port 9101)", policy_metrics()),
        ("Rating service (port 9102)", rating_metrics()),
    ):
        parts += [f"\n## {title}\n\n", "| metric | type | labels | meaning |\n", "| --- | --- | --- | --- |\n"]
        parts += [_metric_line(metric) for metric in metrics]
    parts += ["\n## Labels\n\n", "| label | meaning |\n", "| --- | --- |\n"]
    parts += [f"| `{label}` | {meaning}{_values_of(label)} |\n" for label, meaning in LABELS.items()]
    return "".join(parts)


def prometheus_rule() -> str:
    """The alerting and recording rules as the Prometheus operator wants them."""
    groups = [group for path in sorted(RULES.glob("*.yml")) for group in load_yaml(path)["groups"]]
    body = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "smartpipe"},
        "spec": {"groups": groups},
    }
    head = "# Written from deploy/prometheus/rules by `python -m deploy.check --write`; do not edit.\n"
    return head + yaml.safe_dump(body, sort_keys=False, width=118, allow_unicode=True)


def _metric_line(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |\n"


def _values_of(label: str) -> str:
    """The closed set of the label, where all metrics that have it share one."""
    named = [metric.name for metric in (*policy_metrics(), *rating_metrics()) if label in metric.labels]
    sets = {LABEL_VALUES.get((name, label), frozenset[str]()) for name in named}
    if len(sets) != 1 or frozenset() in sets:
        return ""
    return f" One of {', '.join(f'`{value}`' for value in sorted(sets.pop()))}."
