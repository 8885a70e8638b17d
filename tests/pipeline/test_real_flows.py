"""Flows that real devices made, through the log and both services: each is decided, and as a file would be."""

import asyncio
import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.classification import Classification
from schemas.command import ActivateProduct, ChangeProfile
from schemas.decision import PolicyDecision
from schemas.flow import FlowRecord, account_of, octets_of
from services.cli.stage import now_ms
from services.cli.verify import Survey
from services.ingest.ndpi_labelled import flow_of
from services.ingest.traffic import GeneratedRecord
from tests.pipeline.stages import Where, assert_clean, decisions, playing

ROOT = Path(__file__).resolve().parents[2]
FLOWS = ROOT.parent / "shared" / "data" / "ndpi-flows-dev.jsonl"
DEADLINE_S = 120.0

pytestmark = pytest.mark.skipif(not FLOWS.exists(), reason=f"NOT TESTED with real flows: there is no {FLOWS}")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The flows in the order of the file, and what became of them."""

    flows: Sequence[FlowRecord]
    decided: Sequence[PolicyDecision]
    survey: Survey


async def play(where: Where, folder: Path) -> Outcome:
    flows = [flow_of(line, number) for number, line in enumerate(FLOWS.read_bytes().splitlines())]
    async with playing(where, folder) as stage:
        await stage.order([order for account in dict.fromkeys(map(account_of, flows)) for order in orders(account)])
        await stage.publish([record_of(flow) for flow in flows])
        await stage.until_decided()
        return Outcome(flows, await decisions(stage.log), await stage.survey())


def orders(account: str) -> tuple[ChangeProfile, ActivateProduct]:
    """What makes a subscriber of the captures a customer."""
    common: dict[str, Any] = {"version": "1.0", "account_id": account, "issued_at_ms": now_ms()}
    return (
        ChangeProfile(command_id=f"{account}-0", subscriber_ids=(account,), payment="postpaid", **common),
        ActivateProduct(command_id=f"{account}-1", product_id="p1", offering_id="smart-general", **common),
    )


def record_of(flow: FlowRecord) -> GeneratedRecord:
    return GeneratedRecord(account_of(flow).encode(), msgspec.json.encode(flow), now_ms(), "flow")


@pytest.fixture(scope="module")
def outcome(where: Where, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """One run on each log."""
    return asyncio.run(play(where, tmp_path_factory.mktemp("real")))


@pytest.fixture(scope="module")
def classified() -> list[Classification]:
    """What the command makes of the file, line by line."""
    done = subprocess.run(
        [sys.executable, "-m", "services.cli.main", "classify", "--format", "ndpi-labelled", str(FLOWS)],
        capture_output=True, check=True, timeout=DEADLINE_S, cwd=ROOT,
    )  # fmt: skip
    return [msgspec.json.decode(line, type=Classification) for line in done.stdout.splitlines()]


def test_every_real_flow_has_one_decision(outcome: Outcome) -> None:
    assert len(outcome.flows) > 1_000
    assert sorted(item.record_id for item in outcome.decided) == sorted(flow.record_id for flow in outcome.flows)


def test_the_octets_of_the_real_flows_are_those_of_their_decisions(outcome: Outcome) -> None:
    octets = {flow.record_id: octets_of(flow) for flow in outcome.flows}
    assert {item.record_id: item.octets for item in outcome.decided} == octets


def test_the_stream_classifies_real_flows_as_the_command_does(
    outcome: Outcome, classified: Sequence[Classification]
) -> None:
    on_stream = {item.record_id: item.classification for item in outcome.decided}
    pairs = zip(outcome.flows, classified, strict=True)
    differing = {
        flow.record_id: (found, on_stream[flow.record_id])
        for flow, found in pairs
        if found != on_stream[flow.record_id]
    }
    assert differing == {}
    assert sum(found.application is not None for found in classified) > len(classified) // 4


def test_the_books_are_right_after_real_flows(outcome: Outcome) -> None:
    assert_clean(outcome.survey, published=len(outcome.flows))
