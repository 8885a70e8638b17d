"""`smartpipe catalogue neutrality`: the table and the JSON."""

import json
import re
from pathlib import Path
from textwrap import dedent
from typing import get_args

from typer.testing import CliRunner

from services.cli.main import app
from services.engine.neutrality import Evenness, Inequality, Kind, NeutralityReport, OwnService, Treated

CATALOGUE = """
version: v1
applications:
- {id: ownplay, name: Own Play, category: streaming, own: true}
- {id: tube, name: Tube, category: streaming}
rules:
- {id: free, precedence: 1, scope: {applications: [ownplay]}, charging: free}
offerings:
- {id: pack, name: Pack, kind: add_on, RULES}
"""


def report(tmp_path: Path, rules: str, *options: str) -> str:
    (tmp_path / "base.yaml").write_text(dedent(CATALOGUE.replace("RULES", rules)))
    result = CliRunner().invoke(app, ["catalogue", "neutrality", str(tmp_path), *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_table_marks_own_services_and_counts_whom_a_rule_leaves_out(tmp_path: Path) -> None:
    said = " ".join(report(tmp_path, "rules: [free]").split())
    assert "streaming ownplay* 1 zero rated: free of charge rule free of pack" in said
    assert "ownplay* streaming zero rated by rule free" in said


def test_a_tariff_that_treats_all_alike_says_so(tmp_path: Path) -> None:
    said = " ".join(report(tmp_path, "rules: []").split())
    assert "No application is treated otherwise than the others" in said
    assert "ownplay* streaming as all others: nothing names it" in said


def test_the_json_names_the_rule_the_favoured_and_the_others(tmp_path: Path) -> None:
    (item,) = json.loads(report(tmp_path, "rules: [free]", "--json"))["unequal"]
    assert item == {
        "category": "streaming", "kind": "zero_rated", "by": "rule free", "effect": "free of charge", "conditions": [],
        "offerings": ["pack"], "applications": [{"id": "ownplay", "own": True}],
        "others": [{"id": "tube", "own": False}], "others_count": 1,
    }  # fmt: skip


def test_the_manual_lists_the_keys_and_kinds_of_the_json() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "tariffs.md").read_text()
    section = manual[manual.index("## Neutrality") : manual.index("## What the ledger hears")]
    told = set(re.findall(r"`([a-z_]+)`", section))
    for struct in (NeutralityReport, Inequality, Evenness, OwnService, Treated):
        assert set(struct.__struct_fields__) <= told
    assert set(get_args(Kind)) <= told
