"""`smartpipe correct`, from the ledger through the outbox and a real lane back into the ledger, and reconciled."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from schemas import topics
from schemas.command import ActivateProduct, ChangeProfile, EmitUsage
from schemas.state import AccountState
from schemas.usage import RatedUsage
from services.cli.correct import app
from services.cli.verify import verify
from services.engine.feed import entries_of
from services.policy.transaction import Transaction
from services.rating.accounts import submit
from services.rating.bookings import gather
from services.rating.catalogue_store import publish_catalogue
from services.rating.corrections import CorrectionRefused
from services.rating.database import migrate, open_database, writing
from services.rating.ledger_view import SqlLedgerView
from services.rating.refusals import refused_commands
from services.rating.repositories import accounts as files
from services.rating.repositories import ledger as books
from services.rating.repositories import outbox
from services.rating.settlement import draw_up
from services.runtime.partitioning import partition_of
from services.runtime.settings import Settings
from tests.cli.test_reconcile_traffic import BOOKS, CATALOGUE, PARTITIONS, LogLane, publish, rebuilt
from tests.cli.world import Account, World, encode


class Stage:
    """One account: its lane, the log, the ledger's database, and a clock that stands at `now_ms`."""

    def __init__(self, folder: Path, now_ms: int) -> None:
        self.folder, self.now_ms = folder, now_ms
        self.engine = open_database(Settings(data_dir=str(folder)))
        migrate(self.engine)
        publish_catalogue(self.engine, CATALOGUE, clock=lambda: now_ms)
        self.world = World(PARTITIONS)
        for entry in entries_of(CATALOGUE):
            self.world.append(topics.CATALOGUE, 0, entry.entry_key.encode(), entry)
        self.lane = LogLane(self.world.log, partition_of(b"alice", PARTITIONS))
        self.state = rebuilt(self.lane)
        self._flows = 0
        with writing(self.engine) as connection:
            books.begin_partitions(connection, topics.USAGE, dict.fromkeys(range(PARTITIONS), 0))

    def order(self, *commands: object) -> None:
        submit(self.engine, commands, clock=lambda: self.now_ms)  # type: ignore[arg-type]
        self.turn()

    def flow(self, octets: int, server_name: str | None, *, lasts_ms: int = 1, **seen: str) -> None:
        self._flows += 1
        flow = self.world.flow_record(
            Account("alice", 0), octets, subscriber_id="alice", start_ms=self.now_ms, end_ms=self.now_ms + lasts_ms,
            server_name=server_name, subscriber_port=40_000 + self._flows, **seen,
        )  # fmt: skip
        publish(self.world, topics.FLOWS, b"alice", encode(flow))

    def turn(self) -> None:
        """What was ordered reaches the lane, the lane works, and the ledger books."""
        while batch := outbox.oldest(self.engine):
            for item in batch:
                if item.topic == topics.COMMANDS:
                    publish(self.world, topics.COMMANDS, item.key, item.value or b"")
            outbox.remove(self.engine, [item.id for item in batch])
        self.now_ms += 1000
        work = Transaction(
            self.lane, self.state, BOOKS, partitions=PARTITIONS, max_record_octets=100_000, now_ms=self.now_ms  # type: ignore[arg-type]
        )  # fmt: skip
        for topic in self.lane.positions:
            work.take(topic, self.lane.waiting(topic, 1000))
        work.close()
        self.lane.commit(work.next_offsets)
        self._book()

    def _book(self) -> None:
        partition = self.lane.partition
        with writing(self.engine) as connection:
            start = books.next_offsets(connection, topics.USAGE)[partition]
            records = self.world.log.topics[topics.USAGE].records[partition][start:]
            moves = {partition: (start, start + len(records))}
            books.advance(connection, topics.USAGE, moves, {partition: self.now_ms})
            books.book(connection, topics.USAGE, gather({partition: records}, booked_at_ms=self.now_ms))
            letters = self.world.log.topics[topics.DEAD_LETTERS].records[partition]
            files.keep_refused_commands(connection, refused_commands({partition: letters}))

    def rows(self) -> list[RatedUsage]:
        records = self.world.log.topics[topics.USAGE].records[self.lane.partition]
        return [msgspec.json.decode(record.value or b"", type=RatedUsage) for record in records]

    def correct(self, *arguments: str) -> str:
        """Run the command, and let what it ordered be carried out."""
        result = CliRunner().invoke(app, [*arguments, "--data-dir", str(self.folder)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        self.turn()
        return result.output

    def verify(self) -> None:
        view = SqlLedgerView(self.engine)
        live = self.state.accounts.raw
        report = asyncio.run(verify(self.world.log, view, live_state=live, strict=True, settle_s=0))
        assert not report.violated()


def test_seconds_go_from_the_ledger_back_into_their_bucket(tmp_path: Path) -> None:
    stage, common = _created(tmp_path)
    stage.order(
        ActivateProduct(command_id="k2", product_id="plan", offering_id="smart-basic", **common),
        ActivateProduct(command_id="k3", product_id="talk", offering_id="talk-60", **common),
    )
    stage.flow(5_000_000, None, lasts_ms=600_000, exporter_application="ndpi:WhatsAppCall")
    stage.turn()
    stage.order(EmitUsage(command_id="k4", **common))
    [row] = [row for row in stage.rows() if row.kind == "usage"]
    assert [(moved.bucket_id, moved.unit, moved.amount) for moved in row.movements] == [
        ("talk/minutes", "ms", "-600000")
    ]
    with pytest.raises(CorrectionRefused, match="seconds: 601 is more than 600"):
        stage.correct("refund", row.usage_id, "--seconds", "601")
    assert "and 90 s" in stage.correct("refund", row.usage_id, "--seconds", "90")
    assert "and 510 s" in stage.correct("refund", row.usage_id)
    buckets = {bucket.bucket_id: bucket.remaining for bucket in account(stage).buckets}
    assert buckets == {"plan/data": 3 * 10**9, "talk/minutes": 3_600_000}
    stage.verify()


def test_a_call_is_rated_again_as_it_was(tmp_path: Path) -> None:
    stage, common = _created(tmp_path)
    stage.order(
        ActivateProduct(command_id="k2", product_id="plan", offering_id="smart-basic", **common),
        ActivateProduct(command_id="k3", product_id="talk", offering_id="talk-60", **common),
    )
    from_ms = stage.now_ms
    for lasts_ms in (3_000_000, 900_000):
        stage.flow(9_000_000, None, lasts_ms=lasts_ms, exporter_application="ndpi:WhatsAppCall")
    stage.turn()
    stage.order(EmitUsage(command_id="k4", **common))
    before = account(stage).buckets
    moments = [datetime.fromtimestamp(ms / 1000, UTC).isoformat() for ms in (from_ms - 1_000, from_ms + 60_000)]
    stage.correct("rerate", "alice", "--from", moments[0], "--until", moments[1])
    assert account(stage).buckets == before
    assert [bucket.remaining for bucket in before] == [0, 3 * 10**9 - 3_000_000]
    stage.verify()


def _created(folder: Path) -> tuple[Stage, dict[str, object]]:
    made = Stage(folder, int(time.time() * 1000))
    common: dict[str, object] = {"version": "1.0", "account_id": "alice", "issued_at_ms": made.now_ms}
    made.order(ChangeProfile(command_id="k1", **common))  # type: ignore[arg-type]
    return made, common


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Alice, with a plan and some usage that is booked."""
    made = Stage(tmp_path, int(time.time() * 1000))
    common = {"version": "1.0", "account_id": "alice", "issued_at_ms": made.now_ms}
    made.order(
        ChangeProfile(command_id="k1", **common),
        ActivateProduct(command_id="k2", product_id="plan", offering_id="smart-general", **common),
    )
    made.flow(3_000_000, "www.facebook.com")
    made.flow(5_000_000, "www.netflix.com")
    made.turn()
    made.order(EmitUsage(command_id="k3", **common))
    return made


def usage_ids(stage: Stage) -> list[str]:
    return [row.usage_id for row in stage.rows() if row.kind == "usage" and row.corrects is None]


def test_a_void_goes_from_the_ledger_to_the_lane_and_back(stage: Stage) -> None:
    first, _ = usage_ids(stage)
    output = stage.correct("void", first, "--reason", "wrong subscriber")
    assert f"void of row {first} of account alice is ordered" in output
    refund = stage.rows()[-1]
    assert (refund.kind, refund.corrects, refund.octets) == ("refund", first, 3_000_000)
    stage.verify()
    with pytest.raises(CorrectionRefused, match="voided already"):
        stage.correct("void", first)


def test_a_rerate_takes_back_and_charges_again_and_reconciles(stage: Stage) -> None:
    before = {bucket.bucket_id: bucket.remaining for bucket in account(stage).buckets}
    span = ("rerate", "alice", "--from", "2020-01-01", "--until", "2099-01-01T00:00:00Z")
    assert "would be ordered" in stage.correct(*span, "--dry-run")
    assert "rerate of 2 rows of account alice is ordered" in stage.correct(*span)
    assert [row.kind for row in stage.rows()[-4:]] == ["refund", "refund", "usage", "usage"]
    assert {bucket.bucket_id: bucket.remaining for bucket in account(stage).buckets} == before
    stage.correct(*span)
    assert {bucket.bucket_id: bucket.remaining for bucket in account(stage).buckets} == before
    stage.verify()


def test_a_refund_is_listed_once_it_is_booked(stage: Stage) -> None:
    first, _ = usage_ids(stage)
    stage.correct("refund", first, "--octets", "1000")
    output = stage.correct("list", "alice")
    assert "booked" in output
    assert "no flow came too late" in output
    stage.verify()


def test_what_a_sponsor_paid_for_goes_back_to_it_visibly_and_reconciles(stage: Stage) -> None:
    common = {"version": "1.0", "account_id": "alice", "issued_at_ms": stage.now_ms}
    stage.order(ActivateProduct(command_id="k4", product_id="tube", offering_id="sponsored-youtube", **common))
    stage.flow(4_000_000, "www.youtube.com")
    stage.flow(2_000_000, "www.youtube.com")
    stage.turn()
    stage.order(EmitUsage(command_id="k5", **common))
    [row] = [row for row in stage.rows() if row.sponsored_octets]
    assert bill(stage) == [("youtube-summer", 6_000_000, 2)]
    stage.correct("rerate", "alice", "--from", "2020-01-01", "--until", "2099-01-01T00:00:00Z")
    assert bill(stage) == [("youtube-summer", 6_000_000, 2)]
    assert settled(stage) == (6_000_000, 2, 6_000_000, 2)
    stage.verify()
    [again] = [item for item in stage.rows() if item.corrects == row.usage_id and item.kind == "usage"]
    output = stage.correct("refund", again.usage_id, "--command-id", "r-1")
    assert "sponsors     campaign youtube-summer 6.0 MB (6000000 octets), 2 connections" in output
    assert bill(stage) == [("youtube-summer", 0, 0)]
    assert settled(stage) == (0, 0, 12_000_000, 4)
    stage.verify()
    output = stage.correct("list", "alice")
    assert "Given back to sponsors" in output
    assert any("youtube-summer" in text and "r-1" in text and "6000000" in text for text in output.splitlines())


def bill(stage: Stage) -> list[tuple[str, int, int]]:
    """What each campaign has to pay for: octets and connections."""
    return [(name, octets, many) for name, octets, _, many in SqlLedgerView(stage.engine).sponsored_totals()]


def settled(stage: Stage) -> tuple[int, int, int, int]:
    """Octets and connections that the one campaign is billed, and those that it got back, by its statement."""
    [line] = draw_up(stage.engine, 0, stage.now_ms + 1).lines
    return line.octets, line.connections, line.returned_octets, line.returned_connections


def test_an_order_that_the_lane_refuses_is_listed_with_its_reason_and_can_be_given_again(stage: Stage) -> None:
    first, _ = usage_ids(stage)
    known = account(stage)
    # The lane has corrected a flow by itself, and the ledger has not heard of it yet.
    stage.state.accounts.put(replace(known, reclassified=1))
    stage.correct("void", first, "--command-id", "v-1")
    output = stage.correct("list", "alice")
    assert "refused" in output
    assert "v-1 was refused: reclassified: the ledger knew 0 corrections by the lane, and there are 1" in output
    assert "and was refused: reclassified" in stage.correct("void", first, "--command-id", "v-1")
    stage.state.accounts.put(replace(account(stage), reclassified=0))
    stage.correct("void", first, "--command-id", "v-2")
    assert (stage.rows()[-1].kind, stage.rows()[-1].cause) == ("refund", "v-2")
    output = stage.correct("list", "alice")
    assert "booked" in output
    assert "pending" not in output


def test_a_time_that_is_none_is_refused_with_the_form(stage: Stage) -> None:
    with pytest.raises(CorrectionRefused, match="--from: 'yesterday' is no time; write RFC 3339"):
        stage.correct("rerate", "alice", "--from", "yesterday", "--until", "2099-01-01")


def account(stage: Stage) -> AccountState:
    found = stage.state.accounts.get("alice")
    assert found is not None
    return found


@pytest.mark.parametrize(("charge", "treatment"), [("past", "charged"), ("present", "charged"), ("none", "free")])
def test_late_usage_is_settled_and_reconciles(tmp_path: Path, charge: str, treatment: str) -> None:
    now_ms, day_ms = int(time.time() * 1000), 86_400_000
    made = Stage(tmp_path, now_ms - 70 * day_ms)
    common = {"version": "1.0", "account_id": "alice", "issued_at_ms": made.now_ms}
    made.order(
        ChangeProfile(command_id="k1", **common),
        ActivateProduct(command_id="k2", product_id="plan", offering_id="smart-general", **common),
    )
    made.now_ms = now_ms - 30 * day_ms
    made.flow(5_000_000, "www.netflix.com")
    made.turn()
    made.now_ms = now_ms - 69 * day_ms
    made.flow(3_000_000, "www.facebook.com")
    made.now_ms = now_ms
    made.turn()
    [listed] = [row.usage_id for row in made.rows() if row.cause == "late" and row.kind == "usage"]
    assert listed in made.correct("list")
    with pytest.raises(CorrectionRefused, match="--charge: 'later' is no period"):
        made.correct("release", listed, "--charge", "later")
    assert "comes off the list" in made.correct("release", listed, "--charge", charge)
    again = made.rows()[-1]
    assert (again.corrects, again.treatment, again.octets) == (listed, treatment, 3_000_000)
    assert "no flow came too late" in made.correct("list")
    made.verify()
