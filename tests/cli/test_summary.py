"""The printed summary: right numbers, readable at 100 columns, plain text where there is no terminal."""

import asyncio
import io
import json

import pytest
from rich.console import Console

from schemas import topics
from schemas.command import EmitUsage
from services.cli.reconcile import CHECKS
from services.cli.summary import Summary, print_report, print_summary, report_json
from services.cli.tables import plain_console
from services.cli.verify import Survey, survey
from tests.cli.world import World
from tests.rating.usage_records import granted, moved, rated


@pytest.fixture
def world() -> World:
    world = World()
    alice, bob = world.subscribe("alice"), world.subscribe("bob", payment="prepaid")
    world.credit(bob, "5")
    for account in (alice, bob):
        world.flow(account, 300)
        world.flow(account, 5_000_000, "free")
        world.flow(account, 70, "sponsored")
        world.flow(account, 50, "blocked")
        world.flow(account, 60, "not_charged")
        world.flow(account, 3_000_700)
        world.refuse(account, "invalid_field")
    world.command(alice, EmitUsage)
    return world


def look(world: World) -> Survey:
    return asyncio.run(survey(world.log, world.ledger(), settle_s=0))


def printed(world: World, *, width: int = 100) -> str:
    found = look(world.close())
    output = io.StringIO()
    console = Console(file=output, width=width, highlight=False)
    print_summary(found.summary, console=console)
    print_report(found.report, console=console)
    return output.getvalue()


def test_the_summary_adds_up_to_the_decisions(world: World) -> None:
    summary = look(world.close()).summary
    assert summary.records == 12
    assert summary.flows == {"social": 12}
    assert summary.treatments["social", "charged"] == 4
    assert summary.octets["social", "charged"] == 2 * (300 + 3_000_700)
    assert summary.octets["social", "free"] == 10_000_000
    assert summary.money["social", "EUR"] == 2 * 3_000_000
    assert summary.applications == {"app": [12, 2 * (300 + 5_000_000 + 70 + 50 + 60 + 3_000_700)]}
    assert summary.holders == {"basic": 2}
    assert summary.refused == {("invalid_field", topics.FLOWS): 2}
    assert summary.told == {"activated": 2}


def test_drawn_octets_are_credited_to_the_package_that_granted_them(world: World) -> None:
    world.emit(world.accounts["bob"])
    assert look(world.close()).summary.drawn == {"basic": 2_000}


def test_every_part_of_the_summary_is_printed(world: World) -> None:
    text = printed(world)
    for title in ("Traffic and money", "Top applications", "Packages", "Rules that applied", "Dead letters", "told"):
        assert title in text
    row = next(line for line in text.splitlines() if line.strip().startswith("social "))
    assert row.split() == ["social", "12", "6.0", "MB", "10.0", "MB", "140", "B", "100", "B", "120", "B", "6.00", "EUR"]
    assert "12 flow records decided, 2 records refused" in text


def test_every_claim_is_printed_with_its_result_and_a_verdict(world: World) -> None:
    text = printed(world)
    for claim in CHECKS.values():
        assert claim.claim in text
    verdict = f"Reconciliation clean: {len(CHECKS) - 1} checks hold (1 skipped) over 14 flow records"
    assert verdict in " ".join(text.split())


@pytest.mark.parametrize("width", [100, 120])
def test_no_line_is_wider_than_the_console_and_none_holds_an_escape(world: World, width: int) -> None:
    lines = printed(world, width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert not any("\x1b" in line for line in lines)


def test_a_violation_is_printed_with_its_meaning_and_its_offenders(world: World) -> None:
    world.remove(topics.DECISIONS, lambda fields: fields["record_id"] == "r-2")
    text = " ".join(printed(world).split())
    assert "Reconciliation VIOLATED: flows_accounted" in text
    assert CHECKS["flows_accounted"].meaning in text
    assert "offset 1 has neither decision nor dead letter" in text


def test_what_is_waiting_is_printed(world: World) -> None:
    alice = world.accounts["alice"]
    world.append(topics.FLOWS, alice.partition, b"alice", world.flow_record(alice, 10))
    assert "Still waiting: 1 flow records, not yet decided." in printed(world)


def test_the_json_report_says_it_all(world: World) -> None:
    report = look(world.close()).report
    document = json.loads(report_json(report))
    assert document["ok"] is True
    assert [check["name"] for check in document["checks"]] == list(CHECKS)
    assert document["counts"]["flows"] == 14
    assert document["waiting"] == {}


def test_money_below_a_hundredth_is_not_shown_as_nothing() -> None:
    world = World()
    alice = world.subscribe("alice")
    world.flow(alice, 1_005)
    assert "<0.01 EUR" in printed(world)


def test_an_empty_run_prints_too() -> None:
    output = io.StringIO()
    print_summary(Summary(), console=Console(file=output, width=100))
    assert "0 flow records decided" in output.getvalue()


def test_the_given_time_makes_the_throughput() -> None:
    summary, output = Summary(), io.StringIO()
    summary.records = 30_000
    print_summary(summary, console=Console(file=output, width=100), elapsed_s=1.5)
    assert "30 000 flow records decided, 0 records refused, in 1.5 s: 20 000 a second" in output.getvalue()


def test_without_a_terminal_the_width_is_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert plain_console().width == 100


def test_time_that_was_drawn_is_shown_beside_volume() -> None:
    grant = granted(
        5_000_000, product_id="prod-1", offering_id="talk", movements=(moved("prod-1/t", 9_000, 9_000, "ms"),)
    )
    used = rated(1, movements=(moved("prod-1/t", -2_500, 6_500, "ms"),), timed_octets=1_000)
    summary = Summary()
    summary.usage([grant, used])
    assert (summary.drawn, summary.drawn_ms) == ({}, {"talk": 2_500})
    output = io.StringIO()
    summary.holders["talk"] = 1
    print_summary(summary, console=Console(file=output, width=100))
    assert next(line.split() for line in output.getvalue().splitlines() if " talk " in line)[:4] == [
        "talk",
        "1",
        "2",
        "s",
    ]
