"""Builds the Grafana dashboard: `python -m deploy.check --write` puts it into deploy/grafana/dashboards/smartpipe.json.

Read ROWS: it is the dashboard, row by row, panel by panel. What follows it is Grafana's JSON, needed once.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

TARGET = Path(__file__).with_name("dashboards") / "smartpipe.json"

GRID_WIDTH = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


class Query(NamedTuple):
    """One PromQL expression and how its series are called in the legend."""

    expr: str
    legend: str


class Panel(NamedTuple):
    """One panel. `kind` is Grafana's: timeseries, or stat for one number; `unit` is Grafana's unit id."""

    title: str
    about: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    stacked: bool = False
    limits: tuple[tuple[float, str], ...] = ()
    """Where the colour changes: (from this value on, colour)."""


class Row(NamedTuple):
    """A titled group of panels; they fill the grid from left to right."""

    title: str
    panels: tuple[Panel, ...]


def rate(series: str, *labels: str) -> str:
    """Per-second rate of a counter, summed up to `labels`."""
    by = f" by ({', '.join(labels)})" if labels else ""
    return f"sum{by} (rate({series}[$__rate_interval]))"


def quantiles(histogram: str, *shares: float, window: str = "$__rate_interval") -> tuple[Query, ...]:
    """One query per share, e.g. 0.99, over all instances."""
    return tuple(
        Query(f"histogram_quantile({share}, sum by (le) (rate({histogram}_bucket[{window}])))", f"p{share * 100:g}")
        for share in shares
    )


def stat(title: str, about: str, unit: str, query: Query, *limits: tuple[float, str]) -> Panel:
    """A small panel with one number."""
    return Panel(title, about, unit, (query,), kind="stat", width=4, height=4, limits=limits)


ROWS = (
    Row("At a glance", (
        stat("Flows decided", "Flow records with a durable decision.", "cps",
             Query('sum(rate(ott_policy_records_total{outcome="decided"}[$__rate_interval]))', "flows")),
        stat("Traffic", "Octets of decided flows, all treatments.", "Bps",
             Query(rate("ott_policy_rated_octets_total"), "octets")),
        stat("Charged in this range", "Out-of-bundle money, by currency.", "none",
             Query("sum by (currency) (increase(ott_policy_charged_micros_total[$__range])) / 1e6", "{{currency}}")),
        stat("Dead letters", "Share of the records that were refused; repeats included.", "percentunit",
             Query('(sum(rate(ott_policy_records_total{outcome="dead_letter"}[$__rate_interval])) or vector(0))'
                   " / sum(rate(ott_policy_records_total[$__rate_interval]))", "refused"),
             (0.0, "green"), (0.01, "red")),
        stat("Decision p99", "From publishing to durable decision.", "s",
             quantiles("ott_policy_end_to_end_seconds", 0.99)[0], (0.0, "green"), (0.5, "orange"), (5.0, "red")),
        stat("API failures", "Share of the requests answered 5xx.", "percentunit",
             Query('(sum(rate(ott_rating_http_requests_total{status=~"5.."}[$__rate_interval])) or vector(0))'
                   " / sum(rate(ott_rating_http_requests_total[$__rate_interval]))", "5xx"),
             (0.0, "green"), (0.0005, "red")),
    )),
    Row("Traffic and money", (
        Panel("Flows by category", "Decided flows per second, by OTT category.", "cps",
              (Query(rate("ott_policy_flows_total", "category"), "{{category}}"),), stacked=True),
        Panel("Octets by category", "Octets per second, by OTT category.", "Bps",
              (Query(rate("ott_policy_rated_octets_total", "category"), "{{category}}"),), stacked=True),
        Panel("Octets by treatment", "Who pays: octets per second, by treatment.", "Bps",
              (Query(rate("ott_policy_rated_octets_total", "treatment"), "{{treatment}}"),), stacked=True),
        Panel("Flows by treatment", "Decided flows per second, by treatment.", "cps",
              (Query(rate("ott_policy_flows_total", "treatment"), "{{treatment}}"),), stacked=True),
        Panel("Money charged per hour", "Out-of-bundle charges at the present pace, by currency.", "none",
              (Query(rate("ott_policy_charged_micros_total", "currency") + " * 3600 / 1e6", "{{currency}}"),)),
        Panel("Unknown octets", "Octets per second without an application, by reason; `smartpipe unknowns` names them.",
              "Bps", (Query(rate("ott_policy_unknown_octets_total", "reason"), "{{reason}}"),), stacked=True),
        Panel("Unknown flows", "Flows per second without an application, by why none was found.", "cps",
              (Query(rate("ott_policy_unknown_flows_total", "reason"), "{{reason}}"),), stacked=True),
        Panel("Budgets of campaigns", "Octets: budget, granted to lanes, returned, used by flows.", "bytes",
              (Query("max by (campaign, kind) (ott_rating_campaign_octets)", "{{campaign}} {{kind}}"),)),
        Panel("Requests for budget", "Slices that lanes ask for and return, booked and refused, per second.", "cps",
              (Query(rate("ott_policy_lease_requests_total", "kind"), "{{kind}}"),
               Query(rate("ott_rating_lease_requests_total"), "booked"),
               Query(rate("ott_rating_lease_refused_total", "cause"), "refused: {{cause}}"))),
        Panel("Notifications", "What subscribers are told, per second.", "cps",
              (Query(rate("ott_policy_notifications_total", "kind"), "{{kind}}"),)),
    )),
    Row("Decisions", (
        Panel("Dead letters by cause", "Refused records per second. A repeat (`duplicate`) is no trouble.", "cps",
              (Query(rate("ott_policy_dead_letters_total", "cause"), "{{cause}}"),), stacked=True),
        Panel("Lag in seconds", "Age of the oldest record of the last batch, by partition. Objective: 60 s.", "s",
              (Query("max by (partition) (ott_policy_lag_seconds)", "partition {{partition}}"),)),
        Panel("Lag in records", "Input records not yet decided, by partition.", "short",
              (Query("max by (partition) (ott_policy_lag_records)", "partition {{partition}}"),)),
        Panel("Decision latency", "From publishing to durable decision, of the oldest record of each batch.", "s",
              quantiles("ott_policy_end_to_end_seconds", 0.5, 0.95, 0.99)),
        Panel("Batch time", "From poll to durable commit of one batch.", "s",
              quantiles("ott_policy_batch_seconds", 0.5, 0.99)),
        Panel("Since the last commit", "Grows on an idle partition too; trouble only while records wait.", "s",
              (Query("time() - max by (partition) (ott_policy_last_commit_timestamp_seconds)",
                     "partition {{partition}}"),)),
        Panel("Enforcement updates", "Rules installed, modified and removed, per second.", "cps",
              (Query(rate("ott_policy_enforcement_updates_total", "action"), "{{action}}"),)),
        Panel("Account commands", "Commands per second, by type and outcome.", "cps",
              (Query(rate("ott_policy_commands_total", "type", "outcome"), "{{type}} {{outcome}}"),)),
        Panel("Usage rows emitted", "Rated usage sent to the ledger, rows per second.", "cps",
              (Query(rate("ott_policy_usage_rows_total"), "rows"),)),
    )),
    Row("Lanes", (
        Panel("Lanes up", "Restored lanes per worker; the sum should be the number of partitions.", "short",
              (Query("sum by (instance) (ott_policy_assigned_lanes)", "{{instance}}"),), stacked=True),
        Panel("Lanes rebuilt", "Rebuilds per second, by cause.", "cps",
              (Query(rate("ott_policy_lane_rebuilds_total", "cause"), "{{cause}}"),)),
        Panel("Restore time", "Time to replay one lane's changelog, over the last hour.", "s",
              quantiles("ott_policy_restore_seconds", 0.5, 0.99, window="1h")),
        Panel("Restores", "Lanes restored in the last hour.", "short",
              (Query("sum(increase(ott_policy_restore_seconds_count[1h]))", "restores"),)),
        Panel("Restore speed", "Changelog records replayed per second of restoring, over the last hour.", "cps",
              (Query("sum(rate(ott_policy_restored_records_total[1h]))"
                     " / sum(rate(ott_policy_restore_seconds_sum[1h]))", "records"),)),
        Panel("Accounts in memory", "Accounts per worker.", "short",
              (Query("sum by (instance) (ott_policy_accounts)", "{{instance}}"),), stacked=True),
        Panel("Age of the catalogue", "Since the version in force became effective, by worker.", "s",
              (Query("time() - max by (instance) (ott_policy_catalogue_loaded_timestamp_seconds)", "{{instance}}"),)),
        Panel("Workers that refuse the newest catalogue", "They go on by the one before; one that starts has none.",
              "short", (Query("sum(ott_policy_catalogue_refused)", "workers"),)),
    )),
    Row("API", (
        Panel("Requests by route", "HTTP requests per second.", "reqps",
              (Query(rate("ott_rating_http_requests_total", "method", "route"), "{{method}} {{route}}"),)),
        Panel("Requests by status", "HTTP requests per second, by status class.", "reqps",
              (Query(rate("ott_rating_http_requests_total", "status"), "{{status}}"),), stacked=True),
        Panel("Error budget burn", "How many times faster than allowed (0.05 %) requests fail; 14.4 pages.", "short",
              (Query("job:ott_rating_http_errors:ratio_rate1h / 0.0005", "1 h"),
               Query("job:ott_rating_http_errors:ratio_rate6h / 0.0005", "6 h"))),
        Panel("Duration", "Time to answer, all routes.", "s", quantiles("ott_rating_http_request_seconds", 0.5, 0.99)),
        Panel("Slowest routes, p99", "The five slowest routes.", "s",
              (Query("topk(5, histogram_quantile(0.99, sum by (le, route)"
                     " (rate(ott_rating_http_request_seconds_bucket[$__rate_interval]))))", "{{route}}"),)),
        Panel("Requests in flight", "Being served right now, by instance.", "short",
              (Query("sum by (instance) (ott_rating_http_in_flight)", "{{instance}}"),)),
    )),
    Row("Ledger and outbox", (
        Panel("Rows booked", "Ledger rows per second, by kind.", "cps",
              (Query(rate("ott_rating_ledger_rows_total", "kind"), "{{kind}}"),), stacked=True),
        Panel("Ledger lag", "Usage records not yet booked, by partition.", "short",
              (Query("max by (partition) (ott_rating_ledger_lag_records)", "partition {{partition}}"),), stacked=True),
        Panel("Since the last booking", "Grows without usage too; trouble only while usage waits.", "s",
              (Query("time() - max(ott_rating_ledger_last_commit_timestamp_seconds)", "ledger"),)),
        Panel("Usage refused", "Usage records not booked, per second. All but `duplicate` must stay at zero.", "cps",
              (Query(rate("ott_rating_ledger_refused_total", "cause"), "{{cause}}"),)),
        Panel("Outbox", "Waiting records, and records published per second.", "short",
              (Query("max(ott_rating_outbox_pending)", "waiting"),
               Query(rate("ott_rating_outbox_published_total", "topic"), "{{topic}} per second"))),
        Panel("Database", "1 while the database answers, by instance.", "short",
              (Query("min by (instance) (ott_rating_database_up)", "{{instance}}"),)),
    )),
    Row("Processes", (
        Panel("Memory", "Resident memory, by instance.", "bytes",
              (Query('process_resident_memory_bytes{job=~"smartpipe-.*"}', "{{job}} {{instance}}"),)),
        Panel("CPU", "Cores in use, by instance.", "short",
              (Query('rate(process_cpu_seconds_total{job=~"smartpipe-.*"}[$__rate_interval])',
                     "{{job}} {{instance}}"),)),
        Panel("Targets up", "Scraped instances, by job.", "short",
              (Query('sum by (job) (up{job=~"smartpipe-.*"})', "{{job}}"),)),
    )),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "uid": "smartpipe",
        "title": "Smartpipe",
        "description": "Flows in, decisions and charges out. Built by deploy/grafana/build_dashboard.py.",
        "tags": ["smartpipe"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_datasource_variable()]},
        "annotations": {"list": [_alert_annotation()]},
        "panels": list(_placed(ROWS)),
    }


def as_text() -> str:
    """The dashboard file's content."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


def _placed(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    panel_id = top = 0
    for row in rows:
        panel_id += 1
        yield {
            "id": panel_id,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": top, "w": GRID_WIDTH, "h": 1},
            "panels": [],
        }
        top += 1
        left = tallest = 0
        for panel in row.panels:
            if left + panel.width > GRID_WIDTH:
                left, top, tallest = 0, top + tallest, 0
            panel_id += 1
            yield _panel(panel, panel_id, {"x": left, "y": top, "w": panel.width, "h": panel.height})
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest


def _panel(panel: Panel, panel_id: int, position: dict[str, int]) -> dict[str, Any]:
    return {
        "id": panel_id,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _stat_options() if panel.kind == "stat" else _series_options(),
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": DATASOURCE, "expr": query.expr, "legendFormat": query.legend}
            for at, query in enumerate(panel.queries)
        ],
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none"}
        defaults["custom"] = {"fillOpacity": 30 if panel.stacked else 0, "lineWidth": 1, "stacking": stacking}
    if panel.limits:
        # Grafana's first step has no lower bound; the others start at their value.
        steps = [{"color": color, "value": value if at else None} for at, (value, color) in enumerate(panel.limits)]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    return defaults


def _stat_options() -> dict[str, Any]:
    return {"graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}


def _series_options() -> dict[str, Any]:
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _datasource_variable() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1}


def _alert_annotation() -> dict[str, Any]:
    return {
        "name": "Alerts",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertname=~"Smartpipe.*", alertstate="firing"}',
        "titleFormat": "{{alertname}}",
    }
