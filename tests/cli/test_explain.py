"""`smartpipe explain`: of a recorded flow under catalogue files, and of what the ledger holds."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from schemas import topics
from schemas.units import parse_micros
from services.cli.explain import SimulationError
from services.cli.main import app
from services.engine.classify import Classifier, SubscriberMemory
from services.engine.outcome import Position
from services.engine.reasons import met
from services.engine.simulate import Run
from services.engine.tariff import compile_tariff
from services.ingest.jsonlines import decode_flow
from services.ingest.traffic import generate_traffic
from services.ingest.traffic_profile import TrafficProfile, make_subscribers, members_of
from services.policy.intake import read_command
from services.rating.catalogue_files import load_catalogue
from services.rating.database import migrate, open_database
from services.rating.explain import Explanation
from services.runtime.settings import Settings
from tests.cli.orders import orders
from tests.policy.records import Record, command_value, flow_value
from tests.rating.seeds import seed

T0 = 1_790_000_000_000
CATALOGUE = """
version: tried
applications:
- {id: media, name: Media, category: streaming, pfds: [{pfd_id: names, domain_names: [example.net]}]}
- {id: tv, name: House TV, category: streaming, own: true, pfds: [{pfd_id: names, domain_names: [tv.example]}]}
offerings:
- id: plan
  name: Plan
  kind: base_plan
  allowances: [{id: data, name: Data, octets: 10 kB}]
  usage_prices: [{id: beyond, amount: 1, per_octets: 3 kB, cap: 5}]
  rules: [house, no-media-on-3g, youth]
- id: sponsored
  name: Media on the house
  kind: add_on
  rules: [media-sponsored]
rules:
- {id: house, precedence: 100, scope: {applications: [tv]}, charging: free, steering: wlan_preferred}
- {id: no-media-on-3g, precedence: 200, scope: {applications: [media], rat_types: [UTRA]}, gate_status: closed}
- {id: youth, precedence: 210, subscribers: {segments: [group]}, qos: {arp: 8}}
- {id: media-sponsored, precedence: 300, scope: {applications: [media]}, charging: sponsored, campaign: cup}
campaigns:
- {id: cup, sponsor_id: media-inc, per_subscriber_octets: 9 kB, budget: {octets: 8 kB}}
"""

Ask = Callable[..., Result]


def flow(record: str, server_name: str, octets: int, **changes: Any) -> bytes:
    common = {"octets_up": 0, "octets_down": octets, "start_ms": T0, "end_ms": T0 + 1_000, "rat_type": "NR"}
    return flow_value(record_id=record, server_name=server_name, **{**common, **changes})


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    place = tmp_path / "tariff"
    place.mkdir()
    (place / "tariff.yaml").write_text(dedent(CATALOGUE))
    return place


@pytest.fixture(name="ask")
def _ask(folder: Path) -> Ask:
    def ask(*arguments: object, lines: tuple[bytes, ...]) -> Result:
        options = ["explain", "--catalogue", str(folder), "--flows", "-", *map(str, arguments)]
        return CliRunner().invoke(app, options, input=b"\n".join(lines))

    return ask


def explained(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


PLAN = ("--subscribe", "plan")


def test_each_rule_before_the_one_that_matched_says_why_it_did_not(ask: Ask) -> None:
    found = explained(ask(*PLAN, "--json", lines=(flow("r1", "a.example.net", 1_000),)))
    assert found["rule"]["id"] == "default"
    assert found["losers"] == [
        {"ruleId": "house", "reason": "application",
         "text": "it covers applications tv, and this traffic is outside"},
        {"ruleId": "no-media-on-3g", "reason": "rat_type",
         "text": "it covers applications media; radio access UTRA only; this flow was on NR"},
        {"ruleId": "youth", "reason": "subscriber",
         "text": "it is for certain accounts only: segment group; this account is individual, postpaid"},
    ]  # fmt: skip
    assert found["recordId"] == "r1"
    assert found["kind"] == "decision"
    assert "source" not in found


def test_a_flow_meets_what_the_records_before_it_left_and_its_price_says_how_it_was_rounded(ask: Ask) -> None:
    lines = (flow("r1", "a.example.net", 9_000), flow("r2", "a.example.net", 1_500), flow("r3", "b.example.net", 1))
    found = explained(ask(*PLAN, "--record", "r2", "--json", lines=lines))
    assert [bucket["text"] for bucket in found["buckets"]] == ["1.0 kB taken from Data (1.0 kB before, 0 B after)"]
    price = found["price"]
    assert (price["priceId"], price["amount"], price["interval"]) == (
        "beyond", "0.166666", {"octetsFrom": 0, "octetsTo": 500}
    )  # fmt: skip
    assert "price(500 octets) − price(0 octets) = 0.166666 − 0" in price["calculation"]
    assert price["rounding"].endswith("here the total 0.166666666666... became 0.166666")
    assert found["traffic"]["octets"] == {
        "total": 1_500, "charged": 1_500, "free": 0, "sponsored": 0, "blocked": 0, "notCharged": 0,
    }  # fmt: skip
    whole = explained(ask(*PLAN, "--record", "r3", "--json", lines=(flow("r3", "a.example.net", 13_000),)))
    assert whole["price"]["rounding"].endswith("here nothing had to be rounded")


def test_what_comes_near_its_end_is_named_with_how_much_is_left(ask: Ask) -> None:
    found = explained(ask(*PLAN, "--json", lines=(flow("r1", "a.example.net", 22_000),)))
    limits = {limit["kind"]: limit for limit in found["limits"]}
    assert limits["bucket"] == {
        "kind": "bucket", "id": "simulated-1/data", "unit": "octet", "used": 10_000, "most": 10_000, "left": 0,
        "near": True, "text": "bucket Data: 10.0 kB of 10.0 kB used (100 %), 0 B left",
    }  # fmt: skip
    assert limits["cap"]["near"] is True
    assert limits["cap"]["text"] == "cap of price beyond: 4 EUR of 5 EUR used (80 %), 1 EUR left"
    assert any(told.startswith("cap_nearing: ") for told in found["told"])
    little = explained(ask(*PLAN, "--json", lines=(flow("r1", "a.example.net", 1_000),)))
    assert [limit["near"] for limit in little["limits"]] == [False, False]


def test_the_campaign_that_paid_is_named_with_its_sponsor_and_its_budget(ask: Ask) -> None:
    lines = (flow("r1", "a.example.net", 9_500),)
    found = explained(ask(*PLAN, "--subscribe", "sponsored", "--json", lines=lines))
    assert found["campaigns"] == [
        {"campaignId": "cup", "sponsorId": "media-inc", "octets": 8_000, "budgetOctets": 8_000,
         "connections": 1,
         "text": "campaign cup of media-inc paid for 8.0 kB, 8.0 kB of them from its budget, and 1 connection"},
    ]  # fmt: skip
    assert found["buckets"][0]["change"] == -1_500
    assert "the budget of campaign cup is used up here; the next source pays for 1500 octets" in found["notes"]
    near = {limit["kind"]: limit["near"] for limit in found["limits"]}
    assert (near["budget"], near["campaign"]) == (True, True)


def test_steering_towards_the_operators_own_service_is_visible(ask: Ask) -> None:
    found = explained(ask(*PLAN, "--json", lines=(flow("r1", "live.tv.example", 500),)))
    assert found["traffic"]["ownService"] is True
    assert found["rule"]["steering"] == "wlan_preferred"
    assert "of the operator's own service" in found["summary"]
    assert any("the operator's own service is given away here" in note for note in found["notes"])
    shown = ask(*PLAN, lines=(flow("r1", "live.tv.example", 500),)).stdout
    assert "House TV), service" not in shown
    assert "tv (House TV) - the operator's own service" in shown
    assert "steers to wlan_preferred" in shown


def test_the_table_has_80_columns_and_says_who_paid(ask: Ask) -> None:
    result = ask(*PLAN, lines=(flow("r1", "a.example.net", 11_500),))
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    said = " ".join(result.stdout.split())
    assert "11.5 kB of media, charged for 0.5 EUR, by rule default" in said
    assert "decided: server name 'a.example.net' (example.net): media" in said
    assert "house (application): it covers applications tv" in said
    assert "NEAR bucket Data: 10.0 kB of 10.0 kB used (100 %), 0 B left" in said


def test_prepaid_money_and_refused_orders_are_told(ask: Ask, tmp_path: Path) -> None:
    commands = (
        command_value("change_profile", command_id="c1", payment="prepaid"),
        command_value("credit", command_id="c2", amount="2"),
        command_value("activate_product", command_id="c3", product_id="p", offering_id="plan"),
        command_value("activate_product", command_id="c4", product_id="q", offering_id="gone"),
    )
    accounts = tmp_path / "commands.jsonl.gz"
    accounts.write_bytes(gzip.compress(b"\n".join(commands)))
    found = explained(ask("--accounts", accounts, "--json", lines=(flow("r1", "a.example.net", 13_000),)))
    assert [bucket["text"] for bucket in found["buckets"]] == [
        "10.0 kB taken from Data (10.0 kB before, 0 B after)",
        "1 EUR taken from Main balance (2 EUR before, 1 EUR after)",
    ]
    assert next(limit for limit in found["limits"] if limit["kind"] == "balance")["text"] == "main balance: 1 EUR left"
    assert "'gone'" in found["refusedCommands"][0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*PLAN, "--record", "r9"), "there is no flow record 'r9' in the recording"),
        ((), "nothing says what the account holds"),
        (("--subscribe", "nothing"), "'nothing'"),
    ],
)
def test_what_cannot_be_explained_is_said_with_the_next_step(ask: Ask, arguments: tuple[str, ...], said: str) -> None:
    result = ask(*arguments, lines=(flow("r1", "a.example.net", 1),))
    assert isinstance(result.exception, SimulationError)
    assert said in str(result.exception)


def test_a_flow_of_an_account_that_no_command_made_is_said_to_be_unknown(ask: Ask, tmp_path: Path) -> None:
    other = tmp_path / "commands.jsonl"
    other.write_bytes(command_value("change_profile", account_id="somebody-else"))
    result = ask("--accounts", other, lines=(flow("r1", "a.example.net", 1),))
    assert "nothing is known of account 'sub-1'" in str(result.exception)


def test_a_line_that_cannot_be_read_is_named_and_the_rest_is_explained(ask: Ask) -> None:
    result = ask(*PLAN, "--json", lines=(b"{", flow("r1", "a.example.net", 1)))
    assert result.exit_code == 1
    assert json.loads(result.stdout)["recordId"] == "r1"
    assert "standard input line 1" in result.stderr


@pytest.mark.parametrize("arguments", [(), ("f-0-1-1-0", "--flows", "-"), ("f-0-1-1-0", "--record", "r")])
def test_a_row_of_the_ledger_and_a_file_are_two_questions(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, ["explain", *arguments])
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_every_flow_of_lively_accounts_met_the_rule_that_decided_it() -> None:
    """What an explanation works out again is what was decided: late, renewed, doubted and member by member."""
    catalogue = load_catalogue(None)
    run, memory = Run(compile_tariff(catalogue)), SubscriberMemory()
    classifier = Classifier(catalogue.applications, cache_entries=1_000)
    people = make_subscribers(40)
    for key, value in orders(catalogue, members_of(people), T0):
        command = read_command(Record(key, value, 0), 10**6)
        run.command(command, now_ms=T0)  # type: ignore[arg-type]
    seen = 0
    profile = TrafficProfile(subscribers=people, records=2_500, start_ms=T0, duration_ms=40 * 86_400_000,
                             malformed_share=0)  # fmt: skip
    for record in generate_traffic(profile, 11):
        found = decode_flow(record.value, 1)
        classification = classifier.classify(found, memory)
        account = run.account_for(found, now_ms=found.end_ms)
        outcome = run.flow(found, classification, now_ms=found.end_ms)
        if account is None or outcome is None or outcome.decision is None:
            continue
        before = met(found, classification, account, run.tariff, at=Position("", 0, 0), now_ms=found.end_ms)
        first = next(item.rule.rule.id for item in before.weighed if item.reason is None)
        assert first == before.selection.rule.rule.id == outcome.decision.rule_id
        for draw in outcome.decision.draws:
            held = next(item for item in before.account.buckets if item.bucket_id == draw.bucket_id)
            assert held.remaining - draw.amount == draw.left
        seen += 1
    assert seen > 1_500


@pytest.fixture(name="ledger")
def _ledger(tmp_path: Path) -> Path:
    engine = open_database(Settings(data_dir=str(tmp_path)))
    migrate(engine)
    seed(engine)
    engine.dispose()
    return tmp_path


def _booked(ledger: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["explain", "--data-dir", str(ledger), *arguments])


def test_a_row_of_the_ledger_is_explained_as_the_api_does(ledger: Path) -> None:
    found = explained(_booked(ledger, "f-0-11-11-0", "--json"))
    assert Explanation.model_validate(found)
    assert found["usageId"] == "f-0-11-11-0"
    assert found["rule"]["id"] == "stream-pack-rule"
    shown = _booked(ledger, "f-0-12-12-0").stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "price(11500000 octets)" in shown
    assert f"{topics.FLOWS}, partition 0, offsets 12 to 12" in " ".join(shown.split())


def test_a_decision_is_found_in_the_row_that_gathered_it(ledger: Path) -> None:
    assert explained(_booked(ledger, "0-13", "--json"))["usageId"] == "f-0-13-13-0"


@pytest.mark.parametrize("name", ["f-9-9-9-9", "7-123", "what?"])
def test_what_the_ledger_does_not_hold_is_said_with_where_to_look(ledger: Path, name: str) -> None:
    result = _booked(ledger, name)
    assert isinstance(result.exception, SimulationError)
    assert f"the ledger holds no usage {name!r}" in str(result.exception)
    assert "not booked yet" in str(result.exception)


def test_money_of_the_explanation_adds_up_to_the_flow(ask: Ask) -> None:
    lines = tuple(flow(f"r{number}", "a.example.net", 4_321) for number in range(6))
    amounts = []
    for number in range(6):
        found = explained(ask(*PLAN, "--record", f"r{number}", "--json", lines=lines))
        amounts.append(parse_micros(found["price"]["amount"]) if "price" in found else 0)
    assert sum(amounts) == 5_000_000
    assert amounts[0] == amounts[1] == 0


def test_a_priced_connection_is_told_beside_its_octets(ask: Ask, folder: Path) -> None:
    text = (folder / "tariff.yaml").read_text()
    priced = "{id: beyond, amount: 1, per_octets: 3 kB, cap: 5}, {id: open, unit: connection, amount: 0.001}"
    changed = text.replace("{id: beyond, amount: 1, per_octets: 3 kB, cap: 5}", priced)
    (folder / "tariff.yaml").write_text(changed)
    lines = tuple(flow(f"r{number}", "a.example.net", 100) for number in range(2))
    found = explained(ask(*PLAN, "--json", lines=lines))
    ended = found["connection"]
    assert (ended["priceId"], ended["amount"], ended["currency"]) == ("open", "0.001", "EUR")
    assert ended["calculation"] == "price(2 connections) − price(1 connections) = 0.001"
    assert "cycle's total of connections" in ended["rounding"]
    assert "connection 0.001 EUR: open, price(2 connections)" in " ".join(ask(*PLAN, lines=lines).stdout.split())


def test_a_folder_without_a_ledger_is_said_to_be_one_and_not_made(tmp_path: Path) -> None:
    result = _booked(tmp_path / "nothing", "f-0-1-1-0")
    assert isinstance(result.exception, SimulationError)
    assert "there is no ledger in" in str(result.exception)
    assert not (tmp_path / "nothing").exists()


def test_a_bucket_outside_its_times_is_told_to_serve_nothing_now(ask: Ask, folder: Path) -> None:
    text = (folder / "tariff.yaml").read_text()
    scope = "{categories: [streaming], windows: [{start: '23:00', end: '06:00'}]}"
    night = f"{{id: night, name: Night, octets: 9 kB, scope: {scope}}}"
    (folder / "tariff.yaml").write_text(text.replace("allowances: [", f"allowances: [{night}, "))
    by_day = explained(ask(*PLAN, "--json", lines=(flow("r1", "a.example.net", 100),)))
    assert "bucket Night is for such traffic, and serves nothing now" in by_day["notes"][0]
    assert [limit["id"] for limit in by_day["limits"]] == ["simulated-1/data", "beyond"]
    at_night_ms = T0 // 86_400_000 * 86_400_000 + 3_600_000
    at_night = flow("r1", "a.example.net", 100, start_ms=at_night_ms, end_ms=at_night_ms)
    found = explained(ask(*PLAN, "--json", lines=(at_night,)))
    assert found["buckets"][0]["name"] == "Night"
    assert "notes" not in found


CONDITIONS = [
    ("scope: {windows: [{days: [sat, sun], start: '01:00', end: '02:00'}]}", "time_window",
     "it applies at other times: sat/sun 01:00-02:00, by the subscriber's clock"),
    ("spend: {at_least: 2, below: 9}", "spend",
     "it applies while at least 2 and less than 9 is spent in the billing cycle"),
    ("bucket: {allowance: data, state: used, percent: 80}", "bucket_not_used", "it applies while data is used (80 %)"),
    ("min_congestion: 9", "congestion", "it applies at congestion levels 9 to 31; the network reported 0"),
    ("min_confidence: 100", "confidence",
     "it needs a confidence of 100, and a verdict that is believed if it gives away; the verdict has 90; "
     "the catalogue believes from 31 on"),
    ("suspect: only", "not_suspect", "it is for traffic whose evidence disagrees"),
    ("subscribers: {tiers: [gold]}", "tier",
     "it is for certain accounts only: tier gold; this account's tier is not stated"),
    ("subscribers: {offerings: [sponsored], min_tenure_days: 9}", "plan",
     "it is for certain accounts only: holding sponsored, 9 days or more with us; this account holds plan"),
    ("charging: sponsored, campaign: over", "campaign_not_running", "its campaign over was not running"),
    ("scope: {dnns: [ims]}", "dnn", "it covers data networks ims only; this flow was in no stated data network"),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "reason", "text"), CONDITIONS, ids=[reason for _, reason, _ in CONDITIONS])
def test_every_condition_that_failed_says_what_it_asks_for_and_what_there_was(
    ask: Ask, folder: Path, condition: str, reason: str, text: str
) -> None:
    (folder / "more.yaml").write_text(
        f"rules: [{{id: asks, precedence: 10, {condition}}}]\n"
        "campaigns: [{id: over, sponsor_id: s, per_subscriber_octets: 1 GB, valid_until_ms: 5}]\n"
    )
    tariff = (folder / "tariff.yaml").read_text().replace("rules: [house,", "rules: [asks, house,")
    (folder / "tariff.yaml").write_text(tariff)
    found = explained(ask(*PLAN, "--json", lines=(flow("r1", "a.example.net", 100),)))
    assert found["losers"][0] == {"ruleId": "asks", "reason": reason, "text": text}


def test_what_a_stranger_sent_moves_no_cursor(ask: Ask) -> None:
    line = flow("r1\x1b[2J", "a.example.net\x1b[31m", 100, dnn="\x1b]0;title\x07")
    shown = ask(*PLAN, lines=(line,)).stdout
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "r1\\x1b[2J" in shown
