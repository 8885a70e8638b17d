"""Every PromQL expression of the rules and the dashboard, checked against what the services really expose."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from deploy.checks.exposed import LABEL_VALUES, Series, policy_metrics, rating_metrics, series_in, series_of
from deploy.checks.promql import Expression, Matcher, PromqlError, Selector, parse
from services.runtime.telemetry import new_registry

DEPLOY = Path(__file__).resolve().parent.parent
RULES = DEPLOY / "prometheus" / "rules"
DASHBOARDS = DEPLOY / "grafana" / "dashboards"

TARGET_LABELS = frozenset({"job", "instance", "namespace", "pod"})
"""What Prometheus adds to every scraped series."""

BUILT_IN: Series = {"up": frozenset(), "ALERTS": frozenset({"alertname", "alertstate", "severity", "service"})}
"""Series that Prometheus itself makes."""


class Found(NamedTuple):
    """One expression and where it stands."""

    where: str
    expr: str


def check_expressions(exposition_texts: list[str]) -> list[str]:
    """Complaints about each dashboard or rule expression that asks for what these scraped texts do not expose.

    Give it the `/metrics` text of every running service together. A family that is announced but has no series yet
    counts as exposed; its labels cannot be told and are not looked at.
    """
    exposed: dict[str, frozenset[str] | None] = {}
    for text in exposition_texts:
        for name, labels in series_in(text).items():
            exposed[name] = labels if exposed.get(name) is None else (exposed[name] or frozenset()) | (labels or set())
    return complaints(all_expressions(), exposed)


def check_declared(found: Sequence[Found] | None = None) -> list[str]:
    """Complaints about each expression that asks for a series, label or label value that no service declares."""
    return complaints(all_expressions() if found is None else found, declared_series())


def check_coverage(not_shown: Mapping[str, str], found: Sequence[Found] | None = None) -> list[str]:
    """Complaints about metrics that no expression looks at and `not_shown` (name -> reason) does not excuse."""
    asked = {s.metric for item in (all_expressions() if found is None else found) for s in parse(item.expr).selectors}
    problems = []
    for metric in [*policy_metrics(), *rating_metrics()]:
        seen = bool(asked & set(series_of([metric])))
        if not seen and metric.name not in not_shown:
            problems.append(f"{metric.name} is exposed, but no panel and no rule looks at it; show it or drop it")
        if seen and metric.name in not_shown:
            problems.append(f"{metric.name} is excused from the dashboard, but is looked at; drop the excuse")
    return problems


def declared_series() -> dict[str, frozenset[str] | None]:
    """All series that the services declare, with their labels, the process's own included."""
    process = {f.name: frozenset(k for s in f.samples for k in s.labels) for f in new_registry().collect()}
    counters = {f"{f.name}_total": process[f.name] for f in new_registry().collect() if f.type == "counter"}
    return {**process, **counters, **series_of(policy_metrics()), **series_of(rating_metrics())}


def all_expressions() -> list[Found]:
    """Every expression of every rule file and every dashboard."""
    rules = [item for path in sorted(RULES.glob("*.yml")) for item in in_rules(path.name, load_yaml(path))]
    boards = sorted(DASHBOARDS.glob("*.json"))
    return rules + [item for path in boards for item in in_dashboard(json.loads(path.read_text()))]


def in_rules(name: str, rules: Mapping[str, Any]) -> Iterator[Found]:
    """The expressions of one rule file."""
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield Found(f"{name} {rule.get('alert') or rule.get('record')}", rule["expr"])


def in_dashboard(board: Mapping[str, Any]) -> Iterator[Found]:
    """The expressions of one dashboard: panels, panels inside collapsed rows, annotations."""
    for annotation in board["annotations"]["list"]:
        yield Found(f"dashboard annotation {annotation['name']!r}", annotation["expr"])
    for panel in all_panels(board):
        for target in panel.get("targets", []):
            yield Found(f"dashboard panel {panel['title']!r}", target["expr"])


def all_panels(board: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every panel, rows and the panels inside them included."""
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", [])


def load_yaml(path: Path) -> Any:
    """One YAML document."""
    return yaml.safe_load(path.read_text())


def complaints(found: Iterable[Found], exposed: Series) -> list[str]:
    """What is wrong with each expression, given the exposed series. Recorded series are known from the rules."""
    known: dict[str, frozenset[str] | None] = {**exposed, **BUILT_IN, **dict.fromkeys(_recorded_names())}
    problems = []
    for item in found:
        try:
            problems += [f"{item.where}: {problem}" for problem in _problems_of(parse(item.expr), known)]
        except PromqlError as error:
            problems.append(f"{item.where}: {error}")
    return problems


def _problems_of(expression: Expression, known: Series) -> Iterator[str]:
    usable: set[str] = set(TARGET_LABELS)
    certain = True
    for selector in expression.selectors:
        if selector.metric not in known:
            yield f"no service exposes {selector.metric}"
            certain = False
            continue
        labels = known[selector.metric]
        certain = certain and labels is not None
        usable |= labels or set()
        yield from _matcher_problems(selector, labels)
    if certain:
        for label in sorted(expression.grouping_labels - usable):
            yield f"groups by {label}, which none of its series has"


def _matcher_problems(selector: Selector, labels: frozenset[str] | None) -> Iterator[str]:
    for matcher in selector.matchers:
        if labels is not None and matcher.label not in labels | TARGET_LABELS:
            yield f"{selector.metric} has no label {matcher.label}; it has {', '.join(sorted(labels)) or 'none'}"
        yield from _value_problems(selector.metric, matcher)


def _value_problems(metric: str, matcher: Matcher) -> Iterator[str]:
    values = LABEL_VALUES.get((metric, matcher.label))
    if values is not None and matcher.operator in {"=", "!="} and matcher.value not in values:
        yield f"{metric} never has {matcher.label}={matcher.value!r}; it has {', '.join(sorted(values))}"


def _recorded_names() -> list[str]:
    files = [load_yaml(path) for path in sorted(RULES.glob("*.yml"))]
    return [rule["record"] for file in files for group in file["groups"] for rule in group["rules"] if "record" in rule]
