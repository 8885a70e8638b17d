"""`smartpipe simulate`: over files and over a log; what the lane would have done is what it says."""

import dataclasses
import gzip
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import msgspec
import pytest
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

import services.rating
from schemas import topics
from schemas.catalogue import Catalogue
from schemas.units import parse_micros
from services.cli import lines as file_lines
from services.cli.main import app
from services.cli.recorded import MAX_NAMED_LINES, RecordingError, read_catalogue_topic
from services.cli.simulate import Question, json_of, simulate_topics
from services.cli.simulate_view import print_simulation
from services.engine.feed import entries_of
from services.engine.overshoot_seen import OvershootReport
from services.engine.simulate import SimulationError
from services.engine.simulate_report import REPORT_VERSION, AccountReport, GroupReport, SimulationReport, Told
from services.ingest.traffic import generate_traffic
from services.ingest.traffic_profile import TrafficProfile, make_subscribers, members_of
from services.rating.catalogue_files import load_catalogue
from services.runtime.log import Log, NewRecord
from services.runtime.open_log import open_log
from services.runtime.settings import Settings
from tests.cli.orders import orders
from tests.policy.lanes import Books, ListLane, lane_state, run
from tests.policy.records import Record, command_value, flow_value

START_MS = 1_767_225_600_000
SHIPPED = Path(services.rating.__file__).parent / "catalogue"
PLAN = """
version: {version}
applications:
- {{id: media, name: Media, category: streaming, pfds: [{{pfd_id: names, domain_names: [example.net]}}]}}
offerings:
- id: plan
  name: Plan
  kind: base_plan
"""
CATALOGUE = (
    PLAN
    + """\
  prices: [{{id: fee, type: recurring, amount: {fee}}}]
  allowances: [{{id: data, octets: 15 kB}}]
  usage_prices: [{{id: beyond, amount: 1, per_octets: 10 kB}}]
"""
)


def folder(parent: Path, version: str, fee: int) -> Path:
    place = parent / version
    place.mkdir()
    (place / "base.yaml").write_text(dedent(CATALOGUE.format(version=version, fee=fee)))
    return place


@pytest.fixture
def today(tmp_path: Path) -> Path:
    return folder(tmp_path, "today", 10)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return folder(tmp_path, "new", 9)


@pytest.fixture
def simulate(today: Path, new: Path) -> Callable[..., Result]:
    def invoke(*arguments: object, lines: tuple[bytes, ...] = ()) -> Result:
        options = ["simulate", "--catalogue", str(new), "--against", str(today), *map(str, arguments)]
        return CliRunner().invoke(app, options, input=b"\n".join(lines))

    return invoke


FLOWS = tuple(flow_value(record_id=f"r{number}", start_ms=number, end_ms=number + 5) for number in range(1, 4))


def test_a_file_of_flows_on_one_plan_is_compared_in_json_with_money_as_strings(simulate: Any) -> None:
    result = simulate("--flows", "-", "--subscribe", "plan", "--json", lines=FLOWS)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["flows"], found["total_present"]["revenue"], found["total_new"]["revenue"]) == (3, "11.5", "10.5")
    assert found["winners"] == [
        {"account_id": "sub-1", "group": "individual", "present": "11.5", "new": "10.5", "change": "-1",
         "blocked_octets_change": 0, "throttled_octets_change": 0},
    ]  # fmt: skip
    assert list(found) == [*SimulationReport.__struct_fields__, "refused_records"]


def test_the_keys_of_the_json_are_those_that_the_manual_lists() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "simulate.md").read_text().partition("## As JSON")[2]
    rows = {row.split("|")[1].strip(): re.findall(r"`([a-z_]+)`", row.split("|")[2]) for row in manual.splitlines()
            if row.startswith("| ")}  # fmt: skip
    assert rows["the report"] == [*SimulationReport.__struct_fields__, "refused_records"]
    assert rows["figures"] == list(Told.__struct_fields__)
    assert rows["one of `groups`"] == list(GroupReport.__struct_fields__)
    assert rows["an account"] == list(AccountReport.__struct_fields__)
    assert rows["an overshoot"] == list(OvershootReport.__struct_fields__)
    assert f"within version {REPORT_VERSION[:2]}x keys are added" in manual.lower()


def test_the_table_names_both_tariffs_the_categories_and_who_wins(simulate: Any) -> None:
    result = simulate("--flows", "-", "--subscribe", "plan", lines=(*FLOWS, FLOWS[0]))
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "catalogue new beside today 3 flow records of 1 account, 1970-01-01 00:00 to" in said
    assert "revenue 11.50 -> 10.50 EUR: -1.00 (-8.6 %)" in said
    assert "accounts: 1 pay less, 0 pay more, 0 the same" in said
    assert "note: fees are for whole cycles" in said
    assert "left out: 1 duplicate" in said
    assert "individual streaming 1.50 1.50 -" in said
    assert "all 11.50 10.50 -1.00" in said
    assert "Bills that fall most (1 of 1)" in said
    assert "Bills that rise" not in said
    assert "more is blocked" not in said


def test_the_table_shows_the_bound_that_a_price_promises(simulate: Any, new: Path) -> None:
    base = (new / "base.yaml").read_text()
    bounded = base.replace("per_octets: 10 kB", "per_octets: 10 kB, overshoot_tolerance_octets: 1 kB")
    (new / "base.yaml").write_text(bounded)
    result = simulate("--flows", "-", "--subscribe", "plan", lines=FLOWS)
    assert result.exit_code == 0, result.output
    assert "new plan/beyond 1.0 kB 0 B 0 0" in " ".join(result.stdout.split())


def test_a_bill_that_falls_because_less_passes_is_said_to_be_one(simulate: Any, new: Path) -> None:
    rule = "rules: [{id: shut, precedence: 1, scope: {categories: [streaming]}, gate_status: closed}]"
    base = (new / "base.yaml").read_text()
    (new / "base.yaml").write_text(f"{base}  rules: [shut]\n{rule}\n")
    result = simulate("--flows", "-", "--subscribe", "plan", lines=FLOWS)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "for 1 account more is blocked or throttled than today; 1 of these pay less" in said
    # Both figures of a volume that differs stand one below the other.
    assert "individual streaming - - 30.0 kB (30.0 kB) (-)" in said
    found = json.loads(simulate("--flows", "-", "--subscribe", "plan", "--json", lines=FLOWS).stdout)
    assert (found["restricted_accounts"], found["winning_accounts_restricted"]) == (1, 1)


def test_records_in_no_order_of_time_are_said_to_come_late(simulate: Any) -> None:
    late = flow_value(record_id="late", start_ms=0, end_ms=1_000)
    # One leap of the clock alone is not believed, two are.
    soon = [flow_value(record_id=name, start_ms=89_000_000, end_ms=90_000_000) for name in ("one", "two")]
    lines = (*soon, late)
    said = " ".join(simulate("--flows", "-", "--subscribe", "plan", lines=lines).stdout.split())
    assert "note: records came up to 1.0 days after they ended" in said
    assert "in the order of end_ms" in said
    ordered = simulate("--flows", "-", "--subscribe", "plan", lines=lines[::-1]).stdout
    assert "after they ended" not in ordered
    assert "1970-01-02 01:00 UTC (1.0 days)" in " ".join(ordered.split())


async def test_records_that_came_long_after_they_ended_are_said_to_explain_the_overshoot(
    tmp_path: Path, recorded: dict[str, list[Record]]
) -> None:
    hour_later = [
        dataclasses.replace(record, timestamp=record.timestamp + 3_600_000) for record in recorded[topics.FLOWS]
    ]
    settings = Settings(data_dir=str(tmp_path), partitions=1)
    log = await filled_log(settings, load_catalogue(), {**recorded, topics.FLOWS: hour_later})
    await log.close()
    answer = await simulate_topics(Question(SHIPPED, None, None, None, None, {}, "segment", 5), settings)
    console = Console(width=200, record=True, file=io.StringIO())
    print_simulation(answer.report, answer.refused, console=console)
    assert answer.report.most_late_ms >= 3_600_000
    assert f"note: records arrived up to {answer.report.most_late_ms // 60_000} minutes after" in console.export_text()


def test_recorded_commands_go_before_and_between_the_flows(simulate: Any, tmp_path: Path) -> None:
    commands = tmp_path / "commands.jsonl"
    lines = [
        command_value("change_profile", issued_at_ms=0),
        command_value("activate_product", command_id="c-2", product_id="p", offering_id="plan", issued_at_ms=7),
        command_value("credit", command_id="c-3", amount="5", issued_at_ms=99),
    ]
    commands.write_bytes(b"\n".join(lines))
    flows = tmp_path / "flows.jsonl"
    flows.write_bytes(b"\n".join(FLOWS))
    result = simulate("--flows", flows, "--accounts", commands, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    # The first flow came before the plan was active: nothing could pay for it. A top-up is no revenue.
    assert found["total_present"]["blocked_octets"] == 10_000
    assert (found["total_present"]["revenue"], found["commands"], found["until_ms"]) == ("10.5", 3, 99)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--flows", "-"], "give --accounts FILE with recorded account commands, or --subscribe OFFERING"),
        (["--topic", "--accounts", "x"], "--accounts goes with --flows FILE"),
        (["--flows", "-", "--subscribe", "gone"], "--subscribe: catalogue today refuses it"),
        (["--flows", "-", "--subscribe", "plan", "--instead", "plan"], "write OLD=NEW"),
        (["--flows", "-", "--subscribe", "plan", "--instead", "plan=none"], "'none' in new"),
        (["--flows", "-", "--subscribe", "plan", "--time-zone", "Mars"], "--time-zone is 'Mars'"),
        (["--flows", "gone.jsonl", "--subscribe", "plan"], "gone.jsonl"),
    ],
)
def test_what_cannot_be_simulated_says_what_to_give(simulate: Any, arguments: list[str], said: str) -> None:
    result = simulate(*arguments, lines=FLOWS)
    assert said in str(result.exception)


@pytest.mark.parametrize("arguments", [[], ["--topic", "--flows", "-"]])
def test_one_source_of_traffic_is_needed(simulate: Any, arguments: list[str]) -> None:
    result = simulate(*arguments)
    assert result.exit_code == 2
    assert "one of --flows FILE and --topic" in " ".join(result.output.split())


def test_a_broken_line_is_named_left_out_and_counted(simulate: Any, tmp_path: Path) -> None:
    flows = tmp_path / "flows.jsonl"
    flows.write_bytes(b"\n".join((FLOWS[0], b"", b"{}", *FLOWS[1:], b"\xff")))
    result = simulate("--flows", flows, "--subscribe", "plan", "--json")
    assert result.exit_code == 1
    assert f"smartpipe: {flows} line 3: " in result.stderr
    assert f"smartpipe: {flows} line 6: octet 0 is not UTF-8" in result.stderr
    found = json.loads(result.stdout)
    assert (found["flows"], found["refused_records"]) == (3, {"unreadable_line": 2})


@pytest.mark.parametrize("line", [b"[]", b"\xff", command_value("credit", amount="1", version="2.0")])
def test_a_broken_command_is_named_and_the_others_are_applied(simulate: Any, tmp_path: Path, line: bytes) -> None:
    commands = tmp_path / "commands.jsonl"
    commands.write_bytes(b"\n".join((b"", line, command_value("change_profile", issued_at_ms=0))))
    result = simulate("--flows", "-", "--accounts", commands, "--json", lines=FLOWS)
    assert result.exit_code == 1
    assert f"{commands} line 2: " in result.stderr
    found = json.loads(result.stdout)
    assert (found["flows"], found["commands"], found["refused_records"]) == (3, 1, {"unreadable_line": 1})


def test_of_many_broken_lines_the_first_are_named_and_the_rest_is_counted(simulate: Any) -> None:
    result = simulate("--flows", "-", "--subscribe", "plan", lines=(*FLOWS, *[b"{}"] * (MAX_NAMED_LINES + 2)))
    assert result.exit_code == 1
    assert result.stderr.count("standard input line") == MAX_NAMED_LINES
    assert "smartpipe: 2 more lines cannot be read" in result.stderr
    assert "left out: 12 unreadable_line" in " ".join(result.stdout.split())


def test_a_file_compressed_by_gzip_is_read_as_what_it_holds(simulate: Any, tmp_path: Path) -> None:
    flows, commands = tmp_path / "flows.jsonl.gz", tmp_path / "commands"
    flows.write_bytes(gzip.compress(b"\n".join(FLOWS)))
    commands.write_bytes(gzip.compress(command_value("change_profile", issued_at_ms=0)))
    result = simulate("--flows", flows, "--accounts", commands, "--json")
    assert (result.exit_code, json.loads(result.stdout)["flows"]) == (0, 3)


def test_a_broken_gzip_file_is_named(simulate: Any, tmp_path: Path) -> None:
    flows = tmp_path / "flows.gz"
    flows.write_bytes(gzip.compress(b"\n".join(FLOWS))[:-20])
    error = simulate("--flows", flows, "--subscribe", "plan").exception
    assert isinstance(error, OSError)
    assert f"{flows} is compressed by gzip and broken" in str(error)


def test_a_line_without_an_end_takes_no_more_memory_than_the_longest_record(
    simulate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_lines, "MAX_LINE_OCTETS", 2_000)
    flows = tmp_path / "flows.jsonl"
    flows.write_bytes(b"\n".join((FLOWS[0], b"x" * 9_000, *FLOWS[1:])))
    result = simulate("--flows", flows, "--subscribe", "plan", "--json")
    assert (result.exit_code, result.stderr.count("line 2: ")) == (1, 1)
    found = json.loads(result.stdout)
    assert (found["flows"], found["refused_records"]) == (3, {"unreadable_line": 1})


def test_a_recording_that_nothing_can_be_said_of_is_an_error_not_a_table_of_zeros(
    simulate: Any, tmp_path: Path
) -> None:
    nobody = tmp_path / "commands.jsonl"
    nobody.write_bytes(b"")
    result = simulate("--flows", "-", "--accounts", nobody, lines=(FLOWS[0], FLOWS[0], FLOWS[1]))
    assert isinstance(result.exception, SimulationError)
    assert "no flow record could be charged (1 duplicate, 2 unknown_account)" in str(result.exception)
    assert "(there is none)" in str(simulate("--flows", "-", "--subscribe", "plan").exception)


# --- over a log


@pytest.fixture(scope="module")
def recorded() -> dict[str, list[Record]]:
    """Traffic, some of it malformed, and the commands before it, as one lane holds them."""
    subscribers = make_subscribers(20)
    profile = TrafficProfile(
        subscribers=subscribers, records=800, start_ms=START_MS, duration_ms=600_000, malformed_share=0.03
    )
    commands = orders(load_catalogue(), members_of(subscribers), START_MS)
    flows = generate_traffic(profile, 5)
    return {
        topics.COMMANDS: [Record(key, raw, number, START_MS) for number, (key, raw) in enumerate(commands)],
        topics.FLOWS: [Record(item.key, item.value, n, item.timestamp_ms) for n, item in enumerate(flows)],
    }


async def filled_log(settings: Settings, catalogue: Catalogue, recorded: dict[str, list[Record]]) -> Log:
    log = open_log(settings)
    await log.start()
    await log.ensure_topics(topics.ALL, partitions=settings.partitions)
    publisher = await log.publisher()
    for entry in entries_of(catalogue):
        value = msgspec.json.encode(entry)
        await publisher.publish([NewRecord(topics.CATALOGUE, entry.entry_key.encode(), value, START_MS)])
    for topic, records in recorded.items():
        await publisher.publish([NewRecord(topic, item.key, item.value, item.timestamp) for item in records])
    await publisher.close()
    return log


def decisions_of_a_lane(catalogue: Catalogue, recorded: dict[str, list[Record]]) -> Iterator[dict[str, Any]]:
    lane, state = ListLane(), lane_state(dedup_records=10_000)
    books = Books.compile(catalogue, name_cache_entries=1_000)
    run(lane, state, recorded, by=books, now_ms=max(item.timestamp for item in recorded[topics.FLOWS]))
    yield from lane.read(topics.DECISIONS)


async def test_a_simulation_over_the_log_says_what_the_lane_decided(
    tmp_path: Path, recorded: dict[str, list[Record]]
) -> None:
    catalogue = load_catalogue()
    settings = Settings(data_dir=str(tmp_path), partitions=1)
    log = await filled_log(settings, catalogue, recorded)
    await log.close()
    question = Question(SHIPPED, None, None, None, None, {}, "segment", 5)
    answer = await simulate_topics(question, settings)
    octets, money, flows = Counter[str](), Counter[str](), Counter[str]()
    for decision in decisions_of_a_lane(catalogue, recorded):
        category = decision["classification"]["category"]
        flows[category] += 1
        octets[category] += decision.get("charged_octets", 0)
        if price := decision.get("price"):
            money[category] += parse_micros(price["amount"])
    assert flows.total() > 500
    simulated = Counter[str](), Counter[str](), Counter[str]()
    for group in answer.report.groups:
        if group.category != "fees":
            simulated[0][group.category] += group.present.flows
            simulated[1][group.category] += group.present.charged_octets
            simulated[2][group.category] += parse_micros(group.present.revenue)
    assert simulated == (flows, octets, money)
    assert answer.report.total_present == answer.report.total_new
    assert answer.refused
    assert json.loads(json_of(answer))["refused_records"] == answer.refused


async def test_lanes_make_no_difference(tmp_path: Path, recorded: dict[str, list[Record]]) -> None:
    reports = []
    for partitions in (1, 3):
        settings = Settings(data_dir=str(tmp_path / str(partitions)), partitions=partitions)
        log = await filled_log(settings, load_catalogue(), recorded)
        await log.close()
        question = Question(SHIPPED, None, None, None, None, {}, "segment", 5)
        reports.append((await simulate_topics(question, settings)).report)
    assert msgspec.json.encode(reports[0]) == msgspec.json.encode(reports[1])


async def test_a_log_without_a_catalogue_says_so(tmp_path: Path) -> None:
    log = open_log(Settings(data_dir=str(tmp_path), partitions=1))
    await log.start()
    await log.ensure_topics(topics.ALL, partitions=1)
    with pytest.raises(RecordingError, match="no complete catalogue; publish one, or give --against"):
        await read_catalogue_topic(log)
    await log.close()


async def test_refused_commands_and_strangers_are_told(tmp_path: Path, recorded: dict[str, list[Record]]) -> None:
    catalogue = load_catalogue()
    settings = Settings(data_dir=str(tmp_path), partitions=1)
    only_flows = {topics.COMMANDS: recorded[topics.COMMANDS][:30], topics.FLOWS: recorded[topics.FLOWS]}
    log = await filled_log(settings, catalogue, only_flows)
    await log.close()
    reduced = folder(tmp_path, "reduced", 3)
    answer = await simulate_topics(Question(reduced, None, None, None, None, {}, "segment", 5), settings)
    console = Console(width=200, record=True, file=io.StringIO())
    print_simulation(answer.report, answer.refused, console=console)
    said = console.export_text()
    assert answer.report.unknown_account_flows > 0
    assert "unknown_account" in said
    assert "account commands that the new tariff refuses: " in said
    assert "unknown_offering" in said


async def test_a_folder_without_a_log_is_named_and_none_is_made(tmp_path: Path, today: Path) -> None:
    settings = Settings(data_dir=str(tmp_path / "none"))
    with pytest.raises(RecordingError, match=r"there is no log at .*none.*; give --data-dir FOLDER, --kafka"):
        await simulate_topics(Question(today, None, None, None, None, {}, "segment", 5), settings)
    assert not (tmp_path / "none").exists()


async def test_every_volume_of_the_demonstration_stands_on_one_line_of_80_columns(
    tmp_path: Path, recorded: Any
) -> None:
    settings = Settings(data_dir=str(tmp_path), partitions=1)
    log = await filled_log(settings, load_catalogue(), recorded)
    await log.close()
    answer = await simulate_topics(Question(SHIPPED, None, None, None, None, {}, "segment", 5), settings)
    console = Console(width=80, record=True, file=io.StringIO())
    print_simulation(answer.report, answer.refused, console=console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    heading = next(line for line in lines if "charged" in line and "blocked" in line)
    assert heading.split() == ["segment", "category", "charged", "free", "sponsored", "not", "charged", "blocked"] + (
        ["throttled"] if "throttled" in heading else []
    )


FOR_SOME = (
    PLAN
    + """\
  eligibility: {{segments: [group, company], payments: [prepaid], tiers: [gold]}}
  usage_prices: [{{id: beyond, amount: 1, per_octets: 10 kB}}]
- {{id: pack, name: Pack, kind: add_on, eligibility: {{segments: [{segment}]}}}}
"""
)


def _for_some(place: Path, version: str, segment: str) -> Path:
    (place / "base.yaml").write_text(FOR_SOME.format(version=version, segment=segment))
    return place


def test_accounts_on_a_plan_for_certain_people_are_such_people(simulate: Any, today: Path, new: Path) -> None:
    _for_some(today, "today", "company")
    _for_some(new, "new", "company")
    options = ("--flows", "-", "--subscribe", "plan", "--subscribe", "pack", "--credit", "2.5", "--json")
    result = simulate(*options, lines=FLOWS)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert {group["group"] for group in found["groups"]} == {"company"}
    assert found["total_present"]["revenue"] == "2.5"
    assert found["total_present"]["blocked_octets"] == 5_000
    assert found["refused_commands_new"] == {}


def test_a_person_whom_the_new_tariff_wants_otherwise_is_refused_there(simulate: Any, today: Path, new: Path) -> None:
    _for_some(today, "today", "company")
    _for_some(new, "new", "family")
    result = simulate("--flows", "-", "--subscribe", "plan", "--subscribe", "pack", lines=FLOWS)
    assert isinstance(result.exception, SimulationError)
    assert "--subscribe: catalogue new refuses it: offering_id: 'pack' is for segments family" in str(result.exception)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--subscribe", "plan", "--credit", "-1"), "--credit is '-1'; give an amount above 0"),
        (("--subscribe", "plan", "--credit", "much"), "--credit: 'much' is not an amount of money"),
        (("--credit", "5"), "beside --subscribe OFFERING"),
    ],
)
def test_a_balance_that_is_none_is_refused(simulate: Any, options: tuple[str, ...], said: str) -> None:
    result = simulate("--flows", "-", *options, lines=FLOWS)
    assert isinstance(result.exception, SimulationError)
    assert said in str(result.exception)
