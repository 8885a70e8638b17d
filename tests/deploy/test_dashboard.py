"""The dashboard keeps every rule of the lint, and every rule catches the defect that it is there for."""

import copy

import pytest

from deploy.checks import dashboards
from deploy.checks.dashboards import check_dashboard, check_provisioning
from deploy.checks.expressions import all_panels
from deploy.grafana import build_dashboard


@pytest.fixture
def board():
    return copy.deepcopy(build_dashboard.dashboard())


def panel(board, title):
    return next(item for item in all_panels(board) if item["title"] == title)


def test_dashboard_is_clean(board):
    assert check_dashboard(board) == []
    assert check_dashboard(dashboards.load(build_dashboard.TARGET)) == []


def test_provisioning_is_clean():
    assert check_provisioning() == []


@pytest.mark.parametrize(
    "title",
    ["Flows by category", "Octets by category", "Octets by treatment", "Money charged per hour",
     "Dead letters by cause", "Lag in seconds", "Decision latency", "Requests by route", "Requests by status",
     "Duration", "Ledger lag", "Lanes up", "Restores"],
)  # fmt: skip
def test_what_operations_asked_for_is_there(board, title):
    assert panel(board, title)["targets"]


DEFECTS = [
    (lambda b: b.update(title=""), "has no title"),
    (lambda b: b["templating"]["list"].clear(), "the data source is not a variable"),
    (lambda b: panel(b, "Memory").update(id=2), "panel id 2 is used twice"),
    (lambda b: panel(b, "Memory").update(title="CPU"), "panel title 'CPU' is used twice"),
    (lambda b: panel(b, "Memory")["gridPos"].update(x=20), "leaves the grid"),
    (lambda b: panel(b, "Memory")["gridPos"].update(w=9), "panel 'CPU' overlaps 'Memory'"),
    (lambda b: panel(b, "Memory").update(description=""), "panel 'Memory': no description"),
    (lambda b: panel(b, "Memory")["fieldConfig"]["defaults"].update(unit="byte"), "unit 'byte' is not one of"),
    (lambda b: panel(b, "Memory")["targets"].clear(), "no query"),
    (lambda b: panel(b, "Duration")["targets"][1].update(refId="A"), "a refId is used twice"),
    (lambda b: panel(b, "Memory")["targets"][0].update(datasource={"uid": "abc"}), "the data source is not $"),
    (lambda b: panel(b, "Memory")["targets"][0].update(legendFormat=""), "has no legend"),
    (lambda b: panel(b, "CPU")["targets"][0].update(expr="rate(process_cpu_seconds_total[5m])"), "window [5m]"),
    (lambda b: panel(b, "Duration")["fieldConfig"]["defaults"].update(unit="Bps"), "yields seconds, but the unit"),
    (lambda b: panel(b, "Octets by category")["fieldConfig"]["defaults"].update(unit="s"), "yields octets, but"),
]


@pytest.mark.parametrize(("plant", "words"), DEFECTS)
def test_planted_defect_is_caught(board, plant, words):
    plant(board)
    complaints = check_dashboard(board)
    assert any(words in complaint for complaint in complaints), complaints


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("allowUiUpdates: true", "lets edits in Grafana win"),
        ("isDefault: false", "is not the default one"),
        ("type: loki", "exactly one Prometheus"),
    ],
)
def test_planted_provisioning_defect_is_caught(monkeypatch, tmp_path, content, words):
    folder = tmp_path / "grafana" / "provisioning"
    for path in ("datasources/prometheus.yml", "dashboards/smartpipe.yml"):
        text = (dashboards.DEPLOY / "grafana" / "provisioning" / path).read_text()
        key = content.split(":")[0]
        lines = [line[: line.index(key)] + content if key + ":" in line else line for line in text.splitlines()]
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text("\n".join(lines))
    monkeypatch.setattr(dashboards, "DEPLOY", tmp_path)
    assert any(words in complaint for complaint in check_provisioning())
