"""promtool accepts the rules and their unit tests; what promtool does not look at is looked at here."""

import copy

import pytest
import yaml

from deploy.checks import prometheus
from deploy.checks.expressions import RULES, Found, all_expressions, load_yaml
from deploy.checks.prometheus import (
    TESTS,
    alerts,
    anchors,
    check_alert_tests,
    check_alerts,
    check_jobs,
    promtool_problems,
    run_promtool,
    unit_tests,
)


def test_promtool_accepts_configuration_rules_and_unit_tests(tool):
    tool("promtool")
    assert run_promtool() == []


def test_rule_with_a_wrong_expression_is_caught_by_promtool(tool, tmp_path):
    path = tmp_path / "rules.yml"
    path.write_text("groups: [{name: g, rules: [{alert: A, expr: 'sum(rate(up[5m])'}]}]")
    (problem,) = promtool_problems(tool("promtool"), "check", "rules", str(path))
    assert "unclosed left parenthesis" in problem


GUARDS = [
    ("SmartpipePolicyDown", " == 1", ""),
    ("SmartpipePolicyNoLane", "sum(", "min("),
    ("SmartpipePolicyLanesMissing", "count(count by (partition) (", "count(("),
    ("SmartpipePolicyNoCommit", "and on (partition) max by (partition) (ott_policy_lag_records) > 0", ""),
    ("SmartpipePolicyNoCommit", "time() - max by", "time() - min by"),
    ("SmartpipePolicyLag", "and on (partition) max by (partition) (ott_policy_lag_records) > 0", ""),
    ("SmartpipePolicyLag", "> 60", "> 1"),
    ("SmartpipeDeadLetters", '{cause!="duplicate"}', ""),
    ("SmartpipeDeadLetters", ">= 10", ">= 1"),
    ("SmartpipeLaneRebuilds", "> 10", "> 5"),
    ("SmartpipeCatalogueRefused", "max(", "min("),
    ("SmartpipeRatingDown", " == 1", " == 2"),
    ("SmartpipeLedgerStalled", "time() - max(", "time() - min("),
    ("SmartpipeLedgerStalled", "and sum(max by (partition) (ott_rating_ledger_lag_records)) > 0", ""),
    ("SmartpipeLedgerLag", "min_over_time(", "max_over_time("),
    ("SmartpipeUsageRefused", '{cause!="duplicate"}', ""),
    ("SmartpipeUsageRefused", 'cause!="duplicate"', 'cause="malformed"'),
    ("SmartpipeLeaseRefused", '{cause!="duplicate"}', ""),
    ("SmartpipeUsageRefused", " or sum by (cause) (", " unless sum by (cause) ("),
    ("SmartpipeOutboxStuck", "unless sum(increase(ott_rating_outbox_published_total[10m])) > 0", ""),
    ("SmartpipeOutboxStuck", "max(min_over_time(ott_rating_outbox_pending[10m])) > 0",
     "max(min_over_time(ott_rating_outbox_pending[10m])) >= 0"),
    ("SmartpipeDatabaseDown", "max(", "min("),
    ("SmartpipeApiErrorsFast", "ratio_rate5m > 14.4", "ratio_rate1h > 14.4"),
    ("SmartpipeApiErrorsFast", ">= 10", ">= 1"),
    ("SmartpipeApiErrorsSlow", ">= 10", ">= 1"),
    ("SmartpipeApiErrorsSlow", "6 * 0.0005", "0.0005"),
    ("SmartpipeApiErrorBudget", ">= 10", ">= 1"),
]  # fmt: skip


@pytest.mark.parametrize(("alert", "guard", "instead"), GUARDS)
def test_unit_tests_notice_when_a_guard_is_taken_away(tool, tmp_path, alert, guard, instead):
    rules = load_yaml(RULES / "alerts.yml")
    (rule,) = [rule for group in rules["groups"] for rule in group["rules"] if rule.get("alert") == alert]
    expr = " ".join(rule["expr"].split())
    assert guard in expr
    rule["expr"] = expr.replace(guard, instead)
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(rules))
    assert promtool_problems(tool("promtool"), "check", "rules", str(tmp_path / "alerts.yml")) == []
    tests = [write_cases_of(alert, path, tmp_path) for path in sorted(TESTS.glob("*.yml"))]
    assert promtool_problems(tool("promtool"), "test", "rules", *filter(None, tests))


def write_cases_of(alert, path, folder):
    """The unit tests of one alert only, against the rules in `folder`; None if the file has none."""
    file = load_yaml(path)
    tests = [
        {**{key: value for key, value in test.items() if key != "promql_expr_test"}, "alert_rule_test": cases}
        for test in file["tests"]
        if (cases := [case for case in test["alert_rule_test"] if case["alertname"] == alert])
    ]
    rule_files = [str(RULES / "recording.yml"), str(folder / "alerts.yml")]
    (folder / path.name).write_text(yaml.safe_dump({**file, "rule_files": rule_files, "tests": tests}))
    return str(folder / path.name) if tests else None


def test_every_alert_says_whom_to_wake_what_happened_and_what_to_do():
    assert len(alerts()) >= 12
    assert check_alerts(alerts()) == []


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (lambda a: a["labels"].update(severity="critical"), "severity is none of page, ticket"),
        (lambda a: a["annotations"].pop("summary"), "no summary"),
        (lambda a: a["annotations"].pop("description"), "no description"),
        (lambda a: a["annotations"].pop("runbook_url"), "no runbook_url"),
        (lambda a: a["annotations"].update(runbook_url="docs/none.md#x"), "'docs/none.md' does not exist"),
        (lambda a: a["annotations"].update(runbook_url="docs/runbooks/alerts.md"), "has no heading for it"),
        (lambda a: a.update(alert="SmartpipeOther"), "has no heading for it"),
    ],
)
def test_alert_with_a_gap_is_caught(plant, words):
    alert = copy.deepcopy(alerts()[0])
    plant(alert)
    assert any(words in complaint for complaint in check_alerts([alert]))


def test_every_runbook_section_belongs_to_an_alert():
    page = (prometheus.DEPLOY.parent / "docs" / "runbooks" / "alerts.md").read_text()
    sections = {anchor for anchor in anchors(page) if anchor.startswith("smartpipe")}
    assert sections == {alert["alert"].lower() for alert in alerts()}


def test_every_alert_has_a_firing_and_a_silent_unit_test():
    assert check_alert_tests(alerts(), unit_tests()) == []


def test_alert_without_a_firing_test_is_caught():
    tests = [t for t in unit_tests() if t["name"] != "all policy workers are gone"]
    assert check_alert_tests(alerts(), tests) == ["alert SmartpipePolicyDown has no test in which it fires"]


def test_silent_test_without_the_series_counts_for_nothing():
    tests = copy.deepcopy(unit_tests())
    for test in tests:
        if test["name"] in {"one of two policy workers is gone", "all policy workers are gone"}:
            test["input_series"] = [{"series": "ott_policy_accounts", "values": "1x5"}]
    (complaint,) = check_alert_tests(alerts(), tests)
    assert complaint == "alert SmartpipePolicyDown has no test in which its series are there and it does not fire"


def test_jobs_are_the_names_of_the_services(rendered):
    assert check_jobs(all_expressions(), rendered("base")) == []


def test_job_that_nobody_scrapes_is_caught(rendered):
    found = [Found("here", 'up{job="smartpipe-polcy"}'), Found("there", 'up{job=~"smartpipe-.*"}')]
    assert check_jobs(found, rendered("base")) == ["here: no job is called 'smartpipe-polcy'"]


def test_service_that_is_no_job_is_caught(rendered):
    manifests = rendered("base")
    manifests.of_kind("Service")[0]["metadata"]["name"] = "smartpipe-other"
    assert "Service smartpipe-other is no job of prometheus.yml" in check_jobs([], manifests)
