"""Rules and scrape configuration: promtool's own checks, and what promtool does not look at."""

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.checks.expressions import DEPLOY, RULES, Found, load_yaml
from deploy.checks.manifests import Manifests
from deploy.checks.promql import parse
from deploy.checks.tools import path_of

CONFIG = DEPLOY / "prometheus" / "prometheus.yml"
TESTS = DEPLOY / "prometheus" / "tests"
SEVERITIES = frozenset({"page", "ticket"})

_HEADING = re.compile(r"^#{1,6} +(.+)$", re.MULTILINE)


def run_promtool() -> list[str]:
    """Complaints of `promtool check config`, `check rules` and `test rules`. Raises ToolMissing without it."""
    promtool = path_of("promtool")
    rules, tests = [str(p) for p in sorted(RULES.glob("*.yml"))], [str(p) for p in sorted(TESTS.glob("*.yml"))]
    return [
        *promtool_problems(promtool, "check", "config", str(CONFIG)),
        *promtool_problems(promtool, "check", "rules", *rules),
        *promtool_problems(promtool, "test", "rules", *tests),
    ]


def promtool_problems(promtool: str, *arguments: str) -> list[str]:
    """What promtool says when it fails, else nothing."""
    done = subprocess.run(  # noqa: S603 - fixed arguments
        [promtool, *arguments], capture_output=True, text=True, check=False, timeout=300
    )
    return [f"promtool {' '.join(arguments[:2])}: {done.stdout}{done.stderr}".strip()] if done.returncode else []


def alerts() -> list[Mapping[str, Any]]:
    """Every alert of every rule file."""
    rules = [
        rule for path in sorted(RULES.glob("*.yml")) for group in load_yaml(path)["groups"] for rule in group["rules"]
    ]
    return [rule for rule in rules if "alert" in rule]


def check_alerts(found: Sequence[Mapping[str, Any]], root: Path = DEPLOY.parent) -> list[str]:
    """Complaints about alerts that leave whom to wake, what happened or what to do open."""
    return [f"alert {alert['alert']}: {problem}" for alert in found for problem in _alert_problems(alert, root)]


def check_alert_tests(found: Sequence[Mapping[str, Any]], tests: Sequence[Mapping[str, Any]]) -> list[str]:
    """Complaints about alerts without a case that fires or without one, with their series in it, that does not."""
    problems = []
    for alert in found:
        cases = [
            (test, case)
            for test in tests
            for case in test.get("alert_rule_test", [])
            if case["alertname"] == alert["alert"]
        ]
        if not any(case.get("exp_alerts") for _, case in cases):
            problems.append(f"alert {alert['alert']} has no test in which it fires")
        if not any(not case.get("exp_alerts") and _has_series(alert, test) for test, case in cases):
            problems.append(f"alert {alert['alert']} has no test in which its series are there and it does not fire")
    return problems


def unit_tests() -> list[Mapping[str, Any]]:
    """Every test of every test file."""
    return [test for path in sorted(TESTS.glob("*.yml")) for test in load_yaml(path)["tests"]]


def check_jobs(expressions: Sequence[Found], manifests: Manifests) -> list[str]:
    """Complaints about job names that the scrape configuration or the Services (whose names become jobs) lack."""
    jobs = {item["job_name"] for item in load_yaml(CONFIG)["scrape_configs"]}
    services = {s["metadata"]["name"] for s in manifests.of_kind("Service")}
    problems = [f"job {job} is scraped, but no Service is called so" for job in sorted(jobs - services)]
    problems += [f"Service {name} is no job of {CONFIG.name}" for name in sorted(services - jobs)]
    return problems + [
        f"{found.where}: no job is called {matcher.value!r}"
        for found in expressions
        for selector in parse(found.expr).selectors
        for matcher in selector.matchers
        if matcher.label == "job" and not any(_selects(matcher.operator, matcher.value, job) for job in jobs)
    ]


def anchors(markdown: str) -> frozenset[str]:
    """The anchors of a page's headings, as GitHub and GitLab make them."""
    return frozenset(
        re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in _HEADING.findall(markdown)
    )


def _alert_problems(alert: Mapping[str, Any], root: Path) -> Iterator[str]:
    if alert.get("labels", {}).get("severity") not in SEVERITIES:
        yield f"severity is none of {', '.join(sorted(SEVERITIES))}"
    annotations = alert.get("annotations", {})
    for key in ("summary", "description", "runbook_url"):
        if not annotations.get(key):
            yield f"no {key}"
    path, _, anchor = annotations.get("runbook_url", "").partition("#")
    page = root / path
    if not path or not page.is_file():
        yield f"its runbook {path!r} does not exist"
    elif anchor != alert["alert"].lower() or anchor not in anchors(page.read_text()):
        yield f"{path} has no heading for it"


def _has_series(alert: Mapping[str, Any], test: Mapping[str, Any]) -> bool:
    names = {re.split(r"[{ ]", series["series"], maxsplit=1)[0] for series in test.get("input_series", [])}
    recorded = {name.split(":")[1] for name in (s.metric for s in parse(alert["expr"]).selectors) if ":" in name}
    asked = {selector.metric for selector in parse(alert["expr"]).selectors}
    return bool(asked & names) or any(name.startswith(prefix) for prefix in recorded for name in names)


def _selects(operator: str, value: str, job: str) -> bool:
    if operator in {"=", "=~"}:
        return job == value if operator == "=" else re.fullmatch(value, job) is not None
    return True
