"""The command: prints what it checked, ends with 1 on a complaint, says what it skips."""

import subprocess
import sys

import pytest

from deploy import check
from deploy.checks import expressions
from deploy.checks.image import ROOT
from deploy.checks.tools import VARIABLE, ToolMissing, path_of
from services.runtime.settings import TOOL_VARIABLES


def one_check(monkeypatch, outcome):
    def look():
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(check, "checks", lambda: iter([("the thing", look)]))


def test_whole_run_is_clean(tool):
    tool("kubectl")
    tool("promtool")
    done = subprocess.run([sys.executable, "deploy/check.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"ok"}
    for words in ("k8s/base", "k8s/overlays/prod", "promtool", "smartpipe.json", "metrics.md", "Dockerfile"):
        assert words in done.stdout


def test_complaint_is_printed_and_ends_the_run_with_1(monkeypatch, capsys):
    one_check(monkeypatch, ["port 1 is wrong"])
    assert check.main([]) == 1
    assert capsys.readouterr().out == "FAIL  the thing\n      port 1 is wrong\n"


def test_missing_tool_is_one_clear_line(monkeypatch, capsys):
    monkeypatch.delenv(VARIABLE, raising=False)
    one_check(monkeypatch, ToolMissing("kubectl", "kubectl is not on PATH; install it"))
    assert check.main([]) == 0
    assert capsys.readouterr().out == "SKIP  the thing: kubectl is not on PATH; install it\n"


def test_missing_tool_is_a_complaint_where_tools_are_required(monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, "1")
    one_check(monkeypatch, ToolMissing("kubectl", "kubectl is not on PATH; install it"))
    assert check.main([]) == 1
    assert "SMARTPIPE_REQUIRE_TOOLS does not let it be skipped" in capsys.readouterr().out


def test_manifests_that_cannot_be_rendered_are_a_complaint(monkeypatch, capsys):
    one_check(monkeypatch, RuntimeError("kubectl kustomize: no such file"))
    assert check.main([]) == 1
    assert "no such file" in capsys.readouterr().out


def test_unknown_argument_is_refused_with_the_usage(capsys):
    assert check.main(["--wirte"]) == 2
    assert "usage" in capsys.readouterr().out


def test_tool_that_is_not_on_path_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolMissing, match="promtool is not on PATH; install Debian's package `prometheus`"):
        path_of("promtool")


def test_variable_is_known_to_the_settings():
    assert VARIABLE in TOOL_VARIABLES


def test_every_dashboard_is_linted():
    linted = [title for title, _ in check.checks() if title.startswith("grafana/")]
    assert linted == [f"grafana/{path.name}: lint" for path in sorted(expressions.DASHBOARDS.glob("*.json"))]
