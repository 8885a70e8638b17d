"""Every expression of rules and dashboard asks only for what the services expose, and a wrong one is caught."""

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from deploy.checks import expressions
from deploy.checks.exposed import LABEL_VALUES, declared, policy_metrics, rating_metrics, series_in, series_of
from deploy.checks.expressions import Found, all_expressions, check_coverage, check_declared, check_expressions
from services.policy.metrics import PolicyMetrics
from services.rating.metrics import RatingMetrics
from services.runtime.telemetry import new_registry


def scraped(holder_type, *, touched=True, write=generate_latest, without=()):
    """The text that a service exposes; `touched`: each labelled metric has one series."""
    registry = new_registry()
    holder = holder_type(registry)
    for name, metric in vars(holder).items():
        if touched and getattr(metric, "_labelnames", ()):
            metric.labels(*("x" for _ in metric._labelnames))
        if name in without:
            registry.unregister(metric)
    return write(registry).decode()


def test_every_expression_asks_for_declared_series_labels_and_values():
    assert len(all_expressions()) > 60
    assert check_declared() == []


def test_every_declared_metric_is_looked_at():
    assert check_coverage({}) == []


@pytest.mark.parametrize("write", [generate_latest, generate_openmetrics])
@pytest.mark.parametrize("touched", [True, False])
def test_scraped_text_of_both_services_satisfies_every_expression(write, touched):
    texts = [scraped(holder, write=write, touched=touched) for holder in (PolicyMetrics, RatingMetrics)]
    assert check_expressions(texts) == []


def test_metric_that_a_running_service_lacks_is_named_with_the_panel():
    texts = [scraped(PolicyMetrics, without=("lag_seconds",)), scraped(RatingMetrics)]
    complaints = check_expressions(texts)
    assert "alerts.yml SmartpipePolicyLag: no service exposes ott_policy_lag_seconds" in complaints
    assert "dashboard panel 'Lag in seconds': no service exposes ott_policy_lag_seconds" in complaints


def test_service_that_exposes_nothing_is_noticed():
    assert len(check_expressions([scraped(PolicyMetrics)])) >= 10
    assert len(check_expressions([])) >= 60


def test_label_that_the_scraped_series_lack_is_named():
    text = scraped(PolicyMetrics).replace('{category="x",treatment="x"}', '{kategory="x",treatment="x"}')
    complaints = check_expressions([text, scraped(RatingMetrics)])
    assert "dashboard panel 'Flows by category': groups by category, which none of its series has" in complaints


@pytest.mark.parametrize(
    ("expr", "words"),
    [
        ("sum(rate(ott_policy_record_total[5m]))", "no service exposes ott_policy_record_total"),
        ("ott_policy_batch_seconds", "no service exposes ott_policy_batch_seconds"),
        ("ott_policy_records", "no service exposes ott_policy_records"),
        ("sum by (application) (ott_policy_flows_total)", "groups by application"),
        ('ott_policy_flows_total{treatment="blockd"}', "never has treatment='blockd'"),
        ('ott_policy_flows_total{app="x"}', "has no label app; it has category, treatment"),
        ('ott_policy_accounts{x="1"}', "has no label x; it has none"),
        ("sum by (le) (ott_policy_lag_records)", "groups by le"),
        ("job:never_recorded:rate5m", "no service exposes job:never_recorded:rate5m"),
        ("raet(up[5m])", "not a function"),
    ],
)
def test_planted_wrong_expression_is_caught(expr, words):
    (complaint,) = check_declared([Found("here", expr)])
    assert complaint.startswith("here: ")
    assert words in complaint


@pytest.mark.parametrize(
    "expr",
    [
        'sum by (instance, pod) (rate(ott_policy_records_total{outcome="decided", job="smartpipe-policy"}[5m]))',
        "sum by (le) (ott_policy_batch_seconds_bucket)",
        "job:ott_rating_http_errors:ratio_rate1h",
        'ott_policy_flows_total{treatment=~"free|spons.*"}',
        "process_cpu_seconds_total",
        "up",
    ],
)
def test_right_expression_is_let_through(expr):
    assert check_declared([Found("here", expr)]) == []


def test_metric_that_nobody_looks_at_is_named():
    found = [item for item in all_expressions() if "ott_policy_accounts" not in item.expr]
    (complaint,) = check_coverage({}, found)
    assert complaint.startswith("ott_policy_accounts is exposed, but")
    assert check_coverage({"ott_policy_accounts": "too dull"}, found) == []


def test_excuse_that_is_no_longer_needed_is_named():
    (complaint,) = check_coverage({"ott_policy_accounts": "too dull"})
    assert "drop the excuse" in complaint


@pytest.mark.parametrize("holder", [PolicyMetrics, RatingMetrics])
def test_declared_names_and_labels_are_those_of_real_samples(holder):
    exposed = series_in(scraped(holder))
    series = series_of(declared(holder(new_registry())))
    assert len(series) >= 12
    for name, labels in series.items():
        assert exposed[name] == labels, name


@pytest.mark.parametrize("holder", [PolicyMetrics, RatingMetrics])
def test_no_metric_of_a_service_is_overlooked(holder):
    bare, registry = new_registry(), new_registry()
    described = declared(holder(registry))
    own = {f.name for f in registry.collect()} - {f.name for f in bare.collect()}
    assert {metric.name.removesuffix("_total") for metric in described} == own


def test_label_values_are_of_metrics_that_exist():
    series = series_of([*policy_metrics(), *rating_metrics()])
    for metric, label in LABEL_VALUES:
        assert label in series[metric], (metric, label)


def test_dashboard_inside_collapsed_rows_is_read_too():
    target = {"expr": "up", "refId": "A"}
    board = {
        "annotations": {"list": []},
        "panels": [{"title": "row", "panels": [{"title": "hidden", "targets": [target]}]}],
    }
    assert list(expressions.in_dashboard(board)) == [Found("dashboard panel 'hidden'", "up")]
