"""The tariff's lint: each kind of mistake is found where it stands, and what is meant passes."""

import json
from textwrap import dedent

import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.rating import tariff_lint_rules
from services.rating.catalogue_lint import lint_folder
from services.rating.catalogue_yaml import Location
from services.rating.findings import Finding
from services.rating.tariff_lint import CHECKS
from tests.rating import (  # noqa: F401 - they add to CASES
    tariff_lint_more_cases,
    tariff_lint_people_cases,
    tariff_lint_refund_cases,
)
from tests.rating.tariff_lint_cases import CASES, NOW_MS, WORLD


@pytest.fixture
def lint(tmp_path):
    """Lints one file; each finding comes back as `line code`, a warning with a question mark."""

    def check(text):
        (tmp_path / "a.yaml").write_text(dedent(text) + WORLD, encoding="utf-8")
        found = lint_folder(tmp_path, clock=lambda: NOW_MS)
        return [f"{item.location.line} {item.code}{'?' * (item.severity == 'warning')}" for item in found]

    return check


@pytest.mark.parametrize("name", CASES)
def test_what_is_a_mistake_is_found_and_what_is_none_passes(lint, name):
    text, expected = CASES[name]
    assert lint(text) == expected


def test_every_code_has_a_case_that_trips_it():
    tripped = {found.split()[1].removesuffix("?") for _, expected in CASES.values() for found in expected}
    assert tripped == {*CHECKS, "campaign-over", "campaign-unused"}


def test_rules_under_different_plans_are_not_held_against_each_other(lint, monkeypatch):
    compared = []
    by_chance = tariff_lint_rules._by_chance
    monkeypatch.setattr(tariff_lint_rules, "_by_chance", lambda *pair: compared.append(pair) or by_chance(*pair))
    names = [f"p{number}" for number in range(20)]
    plans = [f"- {{id: {name}, name: P, kind: base_plan, rules: [r-{name}]}}" for name in names]
    rules = [f"- {{id: r-{name}, precedence: 7, gate_status: closed}}" for name in names]
    # One more, for everybody: it meets them all, and the first is enough to say so.
    plans.append("- {id: pack, name: K, kind: add_on, rules: [r-z]}")
    rules.append("- {id: r-z, precedence: 7, gate_status: closed}")
    found = lint("\n".join(["offerings:", *plans, "rules:", *rules, ""]))
    assert [item for item in found if "equal-precedence" in item] == ["44 equal-precedence"]
    assert len(compared) == 1


def test_a_finding_names_what_it_is_about_and_reads_as_one_line(tmp_path):
    (tmp_path / "a.yaml").write_text(CASES["a campaign that is over"][0] + WORLD)
    (finding,) = lint_folder(tmp_path, clock=lambda: NOW_MS)
    assert finding.objects == ("campaign c", "rule r")
    assert str(finding).startswith("a.yaml:2: error: campaign-over: campaign 'c' is over, and rule 'r'")
    assert str(finding).endswith("; prolong it, or retire the offering")


def test_a_finding_without_a_next_step_ends_with_its_message():
    assert str(Finding("malformed", Location("a.yaml", 3), "no", "")) == "a.yaml:3: error: malformed: no"


RUNS = [
    ("a campaign that runs", [], 0), ("a campaign that runs", ["--strict"], 0),
    ("a volume price that falls", [], 0), ("a volume price that falls", ["--strict"], 1),
    ("a sponsor without any limit", [], 1), ("a sponsor without any limit", ["--strict"], 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "code"), RUNS)
def test_errors_end_with_1_and_warnings_do_where_it_is_strict(tmp_path, name, options, code):
    text = CASES[name][0].replace(str(NOW_MS + 1), "4000000000000")
    (tmp_path / "a.yaml").write_text(text + WORLD)
    result = CliRunner().invoke(app, ["catalogue", "lint", str(tmp_path), *options])
    assert result.exit_code == code, result.output


def test_findings_come_as_json_for_programs(tmp_path):
    (tmp_path / "a.yaml").write_text(CASES["a volume price that falls"][0] + WORLD)
    result = CliRunner().invoke(app, ["catalogue", "lint", str(tmp_path), "--json"])
    (found,) = json.loads(result.stdout)
    assert {key: found[key] for key in ("severity", "code", "file", "line", "objects")} == {
        "severity": "warning", "code": "price-cliff", "file": "a.yaml", "line": 6, "objects": ["offering a"],
    }  # fmt: skip
    assert all(found[key] for key in ("message", "next_step"))


@pytest.mark.parametrize(
    ("zones", "expected"),
    [
        ("[{id: home, home: true, plmns: ['262']}, {id: eu, plmns: ['208']}]", ["1 gap?"]),
        ("[{id: home, home: true, plmns: ['262']}, {id: eu, plmns: ['208']}, {id: far, rest: true}]", []),
        ("[{id: ship, plmns: ['90170']}]", []),
        ("[{id: home, home: true}]", []),
    ],
)
def test_networks_that_no_zone_lists_are_told_to_count_as_home(tmp_path, zones, expected):
    (tmp_path / "a.yaml").write_text(f"zones: {zones}")
    found = lint_folder(tmp_path, clock=lambda: NOW_MS)
    assert [f"{item.location.line} {item.code}{'?' * (item.severity == 'warning')}" for item in found] == expected
