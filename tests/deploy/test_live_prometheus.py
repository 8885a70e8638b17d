"""A real Prometheus, with the shipped configuration, evaluates every expression of rules and dashboard."""

import json
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import pytest
import yaml
from prometheus_client import start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from deploy.checks.exposed import LABEL_VALUES
from deploy.checks.expressions import RULES, all_expressions, load_yaml
from deploy.checks.prometheus import CONFIG
from services.policy.metrics import PolicyMetrics
from services.rating.metrics import RatingMetrics
from services.runtime.ports import free_port
from services.runtime.telemetry import new_registry
from tests.waiting import wait_until

SCRAPE_INTERVAL = "500ms"
VARIABLES = {"$__rate_interval": "5s", "$__range": "30s"}

NOTHING_WRONG = {
    "ALERTS{": "no alert fires",
    "absent(": "the services are there",
    "== 0": "they work",
}
"""Words of expressions that yield nothing while all is well."""


class Traffic(Collector):
    """Moves every metric of a service on, each time it is scraped."""

    def __init__(self, holder):
        self._metrics = [child for metric in vars(holder).values() for child in children(metric)]

    def collect(self) -> list[Metric]:
        for child in self._metrics:
            if hasattr(child, "observe"):
                child.observe(0.02)
            else:
                child.inc(3)
        return []


def children(metric):
    """The unlabelled metric itself, or one child for each value of its labels that queries ask for."""
    if not metric._labelnames:
        return [metric]
    rows = [{}]
    for label in metric._labelnames:
        rows = [{**row, label: value} for row in rows for value in values_of(metric._name, label)]
    return [metric.labels(**row) for row in rows]


def values_of(name, label):
    return sorted(LABEL_VALUES.get((f"{name}_total", label), {"status": {"2xx", "5xx"}}.get(label, {"0"})))


@pytest.fixture(scope="module")
def targets():
    """Both services' metrics, served: job -> host:port."""
    running = {}
    for job, holder_type in (("smartpipe-policy", PolicyMetrics), ("smartpipe-rating", RatingMetrics)):
        registry = new_registry()
        holder = holder_type(registry)
        registry.register(Traffic(holder))
        running[job] = start_http_server(0, addr="127.0.0.1", registry=registry)
    yield {job: f"127.0.0.1:{server.server_port}" for job, (server, _) in running.items()}
    for server, thread in running.values():
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def ask(tool, targets, tmp_path_factory):
    """Asks a running Prometheus: an API path and parameters in, the data out."""
    binary = tool("prometheus")
    home = tmp_path_factory.mktemp("prometheus")
    (home / "prometheus.yml").write_text(configuration(targets))
    port = free_port()
    process = subprocess.Popen(
        [binary, f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/data",
         f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"],
        stdout=subprocess.DEVNULL, stderr=(home / "log").open("w"),
    )  # fmt: skip

    def get(path, **parameters):
        url = f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)["data"]

    def serves():
        assert process.poll() is None, (home / "log").read_text()
        try:
            return len(get("query", query="up == 1")["result"]) == len(targets)
        except OSError:
            return False

    try:
        wait_until(serves, 120, "Prometheus to scrape both services")
        yield get
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def configuration(targets):
    """The shipped configuration, with other addresses and a faster pace."""
    shipped = load_yaml(CONFIG)
    assert [item["job_name"] for item in shipped["scrape_configs"]] == list(targets)
    for item in shipped["scrape_configs"]:
        item["static_configs"] = [{"targets": [targets[item["job_name"]]]}]
    shipped["global"] = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), SCRAPE_INTERVAL)
    shipped["rule_files"] = [str(RULES / "*.yml")]
    return yaml.safe_dump(shipped)


def concrete(expr):
    for variable, value in VARIABLES.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr
    return expr


def may_be_empty(item):
    return item.where.startswith("alerts.yml") or any(words in item.expr for words in NOTHING_WRONG)


@pytest.mark.parametrize("item", all_expressions(), ids=lambda item: item.where)
def test_expression_is_evaluated_without_error_and_has_a_result(ask, item):
    def result():
        return ask("query", query=concrete(item.expr))["result"]

    if may_be_empty(item):
        assert isinstance(result(), list)
    else:
        wait_until(result, 120, f"a result of {item.where}")


def test_prometheus_evaluates_every_rule_without_error(ask):
    def rules():
        return [rule for group in ask("rules")["groups"] for rule in group["rules"]]

    wait_until(lambda: all(rule["health"] != "unknown" for rule in rules()), 120, "all rules to be evaluated")
    assert len(rules()) == len([item for item in all_expressions() if not item.where.startswith("dashboard")])
    assert [(rule["name"], rule.get("lastError")) for rule in rules() if rule["health"] != "ok"] == []


def test_wrong_expression_is_refused_by_the_same_way(ask):
    with pytest.raises(urllib.error.HTTPError, match="400"):
        ask("query", query="rate(ott_policy_records_total)")
    assert ask("query", query="ott_policy_records_totl")["result"] == []
