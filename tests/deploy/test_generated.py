"""Pages and files that are written from code say what the code says."""

import pytest
import yaml

from deploy.checks import generated
from deploy.checks.exposed import policy_metrics, rating_metrics
from deploy.checks.expressions import RULES, load_yaml
from deploy.checks.generated import check_generated, check_labels, files, metrics_page, prometheus_rule, write_generated


def test_generated_files_are_as_the_code_writes_them():
    assert check_generated() == []


def test_every_label_is_explained():
    assert check_labels() == []


def test_metrics_page_has_every_metric_with_type_labels_and_meaning():
    lines = metrics_page().splitlines()
    for metric in [*policy_metrics(), *rating_metrics()]:
        (line,) = [line for line in lines if line.startswith(f"| `{metric.name}` |")]
        name, kind, labels, meaning = [cell.strip() for cell in line.strip("|").split("|")]
        assert name == f"`{metric.name}`"
        assert kind in {"counter", "gauge", "histogram"}
        assert labels == (", ".join(f"`{label}`" for label in metric.labels) or "none")
        assert len(meaning) > 10


def test_prometheus_rule_holds_the_very_rules_that_are_tested():
    groups = yaml.safe_load(prometheus_rule())["spec"]["groups"]
    assert groups == [group for path in sorted(RULES.glob("*.yml")) for group in load_yaml(path)["groups"]]


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """The generated files, written under a temporary folder."""
    moved = {tmp_path / path.relative_to(generated.DEPLOY.parent): text for path, text in files().items()}
    monkeypatch.setattr(generated, "files", lambda: moved)
    monkeypatch.setattr(generated, "DEPLOY", tmp_path / "deploy")
    return tmp_path


def test_missing_and_outdated_files_are_named_with_the_next_step(elsewhere):
    assert len(check_generated()) == 3
    write_generated()
    assert check_generated() == []
    page = elsewhere / "docs" / "metrics.md"
    page.write_text(page.read_text().replace("counter", "gauge", 1))
    assert check_generated() == ["docs/metrics.md is not what the code writes; run `python -m deploy.check --write`"]


def test_label_without_explanation_is_named(monkeypatch):
    monkeypatch.setattr(generated, "LABELS", {**generated.LABELS, "colour": "Unused."} | {})
    assert check_labels() == ["label colour is explained, but no metric has it"]
    monkeypatch.setattr(
        generated, "LABELS", {k: v for k, v in generated.LABELS.items() if k not in {"colour", "route"}}
    )
    assert check_labels() == ["label route is not explained in deploy/checks/generated.py"]
