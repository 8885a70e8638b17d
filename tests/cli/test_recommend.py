"""`smartpipe recommend`: over files and over a log."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import msgspec
import pytest
from click.testing import Result
from typer.testing import CliRunner

from schemas import topics
from services.cli import recommend as command
from services.cli.main import app
from services.engine.feed import entries_of
from services.engine.recommend import Recommendation
from services.engine.simulate import SimulationError
from services.rating.catalogue_files import load_catalogue
from services.runtime.log import NewRecord
from services.runtime.open_log import open_log
from services.runtime.settings import Settings
from tests.policy.records import command_value, flow_value

CATALOGUE = """
version: v1
applications:
- {id: media, name: Media, category: streaming, own: true, pfds: [{pfd_id: names, domain_names: [example.net]}]}
offerings:
- id: plan
  name: Plan
  kind: base_plan
  usage_prices: [{id: beyond, amount: 1, per_octets: 10 kB}]
- id: pack
  name: Video Pack
  kind: add_on
  prices: [{id: fee, type: recurring, amount: 1}]
  allowances: [{id: data, octets: 1 MB, scope: {applications: [media]}}]
"""
FLOWS = tuple(
    flow_value(record_id=f"r{number}", subscriber_id=f"sub-{number % 2}", start_ms=number, end_ms=number + 5)
    for number in range(1, 7)
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "catalogue"
    place.mkdir()
    (place / "base.yaml").write_text(dedent(CATALOGUE))
    return place


@pytest.fixture
def recommended(folder: Path) -> Callable[..., Result]:
    def invoke(*arguments: object, lines: tuple[bytes, ...] = FLOWS) -> Result:
        options = ["recommend", "--catalogue", str(folder), *map(str, arguments)]
        return CliRunner().invoke(app, options, input=b"\n".join(lines))

    return invoke


def test_packages_are_recommended_in_json_with_money_as_strings(recommended: Any) -> None:
    result = recommended("--flows", "-", "--subscribe", "plan", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["recommendations"]
    assert [(item["account_id"], item["offering_id"], item["reason"], item["saving"]) for item in found] == [
        ("sub-0", "pack", "saving", "2"),
        ("sub-1", "pack", "saving", "2"),
    ]


def test_the_keys_of_the_json_are_those_that_the_manual_lists() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "simulate.md").read_text()
    listed = manual.partition("As JSON: `recommendations`, each with")[2].partition("and `refused_records`")[0]
    assert re.findall(r"`([a-z_]+)`", listed) == list(Recommendation.__struct_fields__)


def test_the_table_says_why_and_that_a_service_is_the_operators_own(recommended: Any) -> None:
    result = recommended("--flows", "-", "--subscribe", "plan", "--account", "sub-1")
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "sub-1 Video Pack saving 2 EUR" in said
    assert "sub-0" not in said
    assert "operator's own" in said


def test_a_broken_line_is_named_left_out_and_counted(recommended: Any) -> None:
    result = recommended("--flows", "-", "--subscribe", "plan", "--json", lines=(b"{}", *FLOWS))
    assert result.exit_code == 1
    assert "smartpipe: standard input line 1: " in result.stderr
    found = json.loads(result.stdout)
    assert (len(found["recommendations"]), found["refused_records"]) == (2, {"unreadable_line": 1})


def test_nothing_to_recommend_is_said(recommended: Any) -> None:
    result = recommended("--flows", "-", "--subscribe", "plan", lines=FLOWS[:1])
    assert "No package" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--flows", "-"], "give --accounts FILE with recorded account commands, or --subscribe OFFERING"),
        (["--topic", "--accounts", "x"], "--accounts goes with --flows FILE"),
        (["--flows", "-", "--subscribe", "gone"], "--subscribe: catalogue v1 refuses it"),
    ],
)
def test_what_cannot_be_answered_says_what_to_give(recommended: Any, arguments: list[str], said: str) -> None:
    assert said in str(recommended(*arguments).exception)


def test_a_recording_without_flows_or_without_the_wanted_accounts_is_an_error(recommended: Any) -> None:
    empty = recommended("--flows", "-", "--subscribe", "plan", lines=(b"{}",))
    assert isinstance(empty.exception, SimulationError)
    assert "no flow record to recommend from (left out: 1 unreadable_line)" in str(empty.exception)
    nobody = recommended("--flows", "-", "--subscribe", "plan", "--account", "nobody")
    assert "no flow record of the named accounts to recommend from (left out: none)" in str(nobody.exception)
    some = recommended("--flows", "-", "--subscribe", "plan", "--account", "nobody", "--account", "sub-0")
    assert some.exit_code == 0
    assert "no flow record of account 'nobody' is in the recording" in some.stderr


def test_one_source_of_traffic_is_needed(recommended: Any) -> None:
    assert "one of --flows FILE and --topic" in " ".join(recommended().output.split())


def test_more_flows_than_can_be_kept_ask_for_accounts(recommended: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "MAX_KEPT_FLOWS", 4)
    refused = recommended("--flows", "-", "--subscribe", "plan")
    assert isinstance(refused.exception, SimulationError)
    assert "more than 4 flow records to keep; name accounts with --account ID" in str(refused.exception)
    assert recommended("--flows", "-", "--subscribe", "plan", "--account", "sub-0").exit_code == 0


async def test_recommendations_from_a_log_go_by_its_commands_and_its_catalogue(tmp_path: Path, folder: Path) -> None:
    settings = Settings(data_dir=str(tmp_path / "log"), partitions=2)
    log = open_log(settings)
    await log.start()
    await log.ensure_topics(topics.ALL, partitions=2)
    publisher = await log.publisher()
    for entry in entries_of(load_catalogue(folder)):
        value = msgspec.json.encode(entry)
        await publisher.publish([NewRecord(topics.CATALOGUE, entry.entry_key.encode(), value, 1)])
    lines = [
        command_value("change_profile", account_id="sub-1"),
        command_value("activate_product", account_id="sub-1", command_id="c-2", product_id="p", offering_id="plan"),
    ]
    await publisher.publish([NewRecord(topics.COMMANDS, b"sub-1", line, 1_000) for line in lines])
    await publisher.publish(
        [NewRecord(topics.FLOWS, f"sub-{(n + 1) % 2}".encode(), line, 2_000 + n) for n, line in enumerate(FLOWS)]
    )
    await publisher.close()
    await log.close()
    request = command.Request(None, None, None, None, frozenset(), steer_own=False)
    answer = await command.recommend_from_topics(request, settings)
    assert [(item.account_id, item.offering_id, item.saving) for item in answer.found] == [("sub-1", "pack", "2")]


BY_HAND = """
applications:
- {id: media, name: Media, category: streaming, pfds: [{pfd_id: n, domain_names: [media.example.net]}]}
- {id: pics, name: Pics, category: social, pfds: [{pfd_id: n, domain_names: [pics.example.net]}]}
offerings:
- {id: s, name: S, kind: base_plan, prices: [{id: s-fee, type: recurring, amount: 10}],
   allowances: [{id: data, octets: 1 GB}], usage_prices: [{id: s-use, amount: 2, per_octets: 1 GB}]}
- {id: l, name: L, kind: base_plan, prices: [{id: l-fee, type: recurring, amount: 14.99}],
   allowances: [{id: data, octets: 10 GB}], usage_prices: [{id: l-use, amount: 2, per_octets: 1 GB}]}
- {id: xl, name: XL, kind: base_plan, prices: [{id: xl-fee, type: recurring, amount: 17.5}],
   allowances: [{id: data, octets: 20 GB}], usage_prices: [{id: xl-use, amount: 2, per_octets: 1 GB}]}
- {id: media-5, name: M, kind: add_on, requires: [s], prices: [{id: f, type: recurring, amount: 4}],
   allowances: [{id: m, octets: 5 GB, scope: {applications: [media]}}]}
- {id: pics-free, name: F, kind: add_on, prices: [{id: f, type: recurring, amount: 0.5}], rules: [pics]}
- {id: plus-2, name: P, kind: add_on, prices: [{id: f, type: recurring, amount: 1}],
   allowances: [{id: m, octets: 2 GB}]}
- {id: for-groups, name: G, kind: add_on, eligibility: {segments: [group]},
   prices: [{id: f, type: recurring, amount: 0.1}], allowances: [{id: m, octets: 50 GB}]}
- {id: on-l, name: OL, kind: add_on, requires: [l], prices: [{id: f, type: recurring, amount: 0.1}],
   allowances: [{id: m, octets: 50 GB}]}
- {id: old, name: O, kind: add_on, lifecycle_status: retired, prices: [{id: f, type: recurring, amount: 0.1}],
   allowances: [{id: m, octets: 50 GB}]}
- {id: not-on-s, name: N, kind: add_on, excludes: [s], prices: [{id: f, type: recurring, amount: 0.1}],
   allowances: [{id: m, octets: 50 GB}]}
- {id: week, name: W, kind: pass, term_days: 7, prices: [{id: f, type: one_time, amount: 1}],
   allowances: [{id: m, octets: 5 GB, validity: once, scope: {applications: [media]}}]}
rules:
- {id: pics, precedence: 10, scope: {categories: [social]}, charging: free, min_confidence: 60}
"""


def _month() -> tuple[bytes, ...]:
    """Thirty days of September 2026: 3 GB of media, 1.8 GB of nothing known, 0.2 GB of pictures."""
    start_ms, day_ms = 1_788_220_800_000, 86_400_000
    kinds = (("media.example.net", 100, 30), ("a.example.org", 60, 30), ("pics.example.net", 10, 20))
    return tuple(
        flow_value(record_id=f"{name}-{day}", start_ms=start_ms + day * day_ms, end_ms=start_ms + day * day_ms + 1_000,
                   octets_up=0, octets_down=megabytes * 10**6, server_name=name)
        for day in range(30) for name, megabytes, days in kinds if day < days
    )  # fmt: skip


def test_savings_are_those_of_a_calculator_and_nothing_is_named_that_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "by-hand.yaml").write_text(BY_HAND)
    options = ["recommend", "--catalogue", str(tmp_path), "--flows", "-", "--subscribe", "s", "--json"]
    result = CliRunner().invoke(app, options, input=b"\n".join(_month()))
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["recommendations"]
    # S today: 10 + (5 - 1) x 2 = 18. On L: 14.99. With plus-2: 11 + (5 - 3) x 2 = 15. With media-5: 14 + 1 x 2 = 16.
    # A fourth and a fifth: on XL 17.5, with week 11 + 3.3 x 2 = 17.6. With pics-free: 10.5 + (4.8 - 1) x 2 = 18.1.
    assert [(item["offering_id"], item["present"], item["new"], item["saving"]) for item in found] == [
        ("l", "18", "14.99", "3.01"), ("plus-2", "18", "15", "3"), ("media-5", "18", "16", "2"),
    ]  # fmt: skip
    assert [item["used_octets"] for item in found] == [5 * 10**9, 2 * 10**9, 3 * 10**9]


def test_a_plan_that_the_shipped_catalogue_does_not_have_is_told_with_the_option(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["recommend", "--flows", "-", "--subscribe", "s"], input=FLOWS[0])
    assert isinstance(result.exception, SimulationError)
    assert "the shipped catalogue where --catalogue FOLDER does not name another" in str(result.exception)
