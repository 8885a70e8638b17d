"""Checks everything that ships the product: `python -m deploy.check`.

It renders and validates the Kubernetes manifests, runs promtool over the Prometheus rules and their unit tests, lints
the Grafana dashboard, and compares every expression and every generated page with the code. It prints what it checked
and ends with 1 on any complaint. `--write` writes the generated files instead.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from deploy.checks import dashboards, expressions, generated, image, prometheus
from deploy.checks.manifest_rules import RULES, check_manifests
from deploy.checks.manifests import KUSTOMIZATIONS, render, schema_version
from deploy.checks.tools import VARIABLE, ToolMissing, required

NOT_SHOWN: dict[str, str] = {}
"""Metrics that no panel and no rule looks at, each with the reason."""

Check = Callable[[], list[str]]
"""Looks at something and returns its complaints."""


def main(arguments: list[str]) -> int:
    """Run every check, or with `--write` write the generated files; the exit code."""
    if arguments == ["--write"]:
        for path in generated.write_generated():
            _say(f"wrote {path.relative_to(expressions.DEPLOY.parent)}")
        return 0
    if arguments:
        _say("usage: python -m deploy.check [--write]")
        return 2
    return 1 if sum(_run(title, check) for title, check in checks()) else 0


def checks() -> Iterator[tuple[str, Check]]:
    """Every check: what it looks at, and how it is done."""
    for name in KUSTOMIZATIONS:
        yield f"k8s/{name}: Kubernetes {schema_version()} schema, {len(RULES)} rules", partial(_manifest_problems, name)
    yield f"prometheus: promtool check and test, {len(prometheus.alerts())} alerts", prometheus.run_promtool
    yield "prometheus: severity, summary, runbook of each alert", lambda: prometheus.check_alerts(prometheus.alerts())
    yield "prometheus: a firing and a silent test of each alert", _alert_tests
    yield "prometheus: job names", _job_names
    yield f"expressions: {len(expressions.all_expressions())} against the declared metrics", expressions.check_declared
    yield "expressions: every declared metric is looked at", lambda: expressions.check_coverage(NOT_SHOWN)
    for path in sorted(expressions.DASHBOARDS.glob("*.json")):
        yield f"grafana/{path.name}: lint", partial(_dashboard_problems, path)
    yield "grafana: provisioning", dashboards.check_provisioning
    yield "docs/metrics.md, prometheus-rule.yaml, dashboard: as the code writes them", generated.check_generated
    yield "docs/metrics.md: labels", generated.check_labels
    yield "Dockerfile, .dockerignore, lock files", image.check_image


def _run(title: str, check: Check) -> int:
    try:
        problems = check()
    except ToolMissing as missing:
        if not required(missing.tool):
            _say(f"SKIP  {title}: {missing}")
            return 0
        problems = [f"{missing}; {VARIABLE} does not let it be skipped"]
    except RuntimeError as error:
        problems = [str(error)]
    _say(f"{'FAIL' if problems else 'ok  '}  {title}")
    for problem in problems:
        _say(f"      {problem}")
    return len(problems)


def _manifest_problems(name: str) -> list[str]:
    return check_manifests(render(name))


def _dashboard_problems(path: Path) -> list[str]:
    return dashboards.check_dashboard(dashboards.load(path))


def _alert_tests() -> list[str]:
    return prometheus.check_alert_tests(prometheus.alerts(), prometheus.unit_tests())


def _job_names() -> list[str]:
    return prometheus.check_jobs(expressions.all_expressions(), render("base"))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
