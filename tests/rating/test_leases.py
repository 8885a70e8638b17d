"""The owner of budgets: every ask is answered once, whatever crashes, and no budget is passed; on both databases."""

import asyncio
import contextlib

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from schemas.command import COMMAND_VERSION
from schemas.lease import LeaseRequest
from schemas.topics import COMMANDS, LEASE_REQUESTS
from services.engine.leases import Budget, LaneLease
from services.rating.catalogue_store import publish_catalogue
from services.rating.database import Collision, reading, writing
from services.rating.leases import LeaseOwner, _keep_newest, budget_totals
from services.rating.metrics import RatingMetrics
from services.rating.models import campaign_budgets, campaign_leases, ledger_offsets
from services.rating.models import outbox as outbox_rows
from services.rating.outbox import OutboxRelay
from services.rating.repositories.leases import CampaignTotals, store
from services.rating.repositories.ledger import OffsetsMoved, next_offsets
from services.runtime.log import OffsetOutOfRange
from services.runtime.partitioning import partition_of
from tests.rating.catalogues import catalogue
from tests.rating.fakes import FakeLog, FakeRecord, break_once
from tests.waiting import wait_until_async

pytestmark = pytest.mark.usefixtures("quick_consumers")

DEADLINE_S = 100
NOW_MS = 1_790_000_000_000
BUDGET = 10_000
SIZES = {"lease_least_octets": 10, "lease_most_octets": 1_000}


@pytest.fixture
def metrics():
    return RatingMetrics(CollectorRegistry())


@pytest.fixture
def sponsored(engine):
    """The database with a campaign in force."""
    campaign = {"id": "cup", "sponsor_id": "tube", "budget": {"octets": BUDGET}}
    publish_catalogue(engine, catalogue(campaigns=[campaign]))
    return engine


@contextlib.asynccontextmanager
async def running(engine, log, settings, metrics, *, owners=1, relay=True):
    """Owners and a relay at work; whatever breaks them breaks the test."""
    changed = settings.model_copy(update={**SIZES, "outbox_poll_ms": 10, "ledger_batch_records": 5})
    parts = {"engine": engine, "log": log, "settings": changed, "metrics": metrics, "clock": lambda: NOW_MS}
    works = [LeaseOwner(**parts) for _ in range(owners)] + ([OutboxRelay(**parts)] if relay else [])
    tasks = [asyncio.create_task(work.run()) for work in works]
    try:
        yield
    finally:
        for work in works:
            work.stop()
        await asyncio.gather(*tasks)


def ask(sequence=1, lane=0, **totals):
    return said("ask", sequence, lane, **totals)


def said(kind, sequence, lane, *, granted=0, used=0, returned=0, campaign="cup", **changes):
    request = LeaseRequest(
        version="1.0", request_id=f"{campaign}:{lane}:{sequence}", campaign_id=campaign, partition=lane,
        sequence=sequence, kind=kind, granted_octets=granted, used_octets=used, returned_octets=returned, at_ms=NOW_MS,
    )  # fmt: skip
    return msgspec.json.encode(msgspec.structs.replace(request, **changes))


def command_of(account_id, *, sequence):
    grant = {
        "type": "grant_lease", "version": "1.1", "command_id": f"g-{sequence}", "account_id": account_id,
        "issued_at_ms": NOW_MS, "campaign_id": "cup", "sequence": sequence, "octets": 1, "granted_octets": sequence,
    }  # fmt: skip
    return msgspec.json.encode(grant)


def tell(log, lane, value):
    log.add(LEASE_REQUESTS, b"cup", value, lane)


def grants(log):
    """Grants in the log, per partition."""
    return [
        [msgspec.json.decode(record.value) for record in records if b"grant_lease" in record.value]
        for records in log.lists(COMMANDS)
    ]


async def granted(log, *counts):
    await wait_until_async(
        lambda: [len(found) for found in grants(log)] == list(counts), DEADLINE_S, f"{counts} grants in the lanes"
    )


async def test_an_ask_is_answered_in_the_lane_that_asked(sponsored, settings, metrics):
    log = FakeLog(partitions=3)
    async with running(sponsored, log, settings, metrics):
        tell(log, 1, ask(lane=1))
        await granted(log, 0, 1, 0)
    [[], [grant], []] = grants(log)
    assert grant == {
        "type": "grant_lease", "version": COMMAND_VERSION, "command_id": "lease:cup:1:1", "account_id": "lane/1",
        "issued_at_ms": NOW_MS, "campaign_id": "cup", "sequence": 1, "octets": 1_000, "granted_octets": 1_000,
        "ask_again_ms": 0,
    }  # fmt: skip
    assert [record.key for record in log.lists(COMMANDS)[1]] == [b"lane/1"]
    assert partition_of(b"lane/1", 3) != 1, "the key alone would have led elsewhere; take another lane"
    assert budget_totals(sponsored) == [CampaignTotals("cup", BUDGET, 1_000, 0, 0)]


async def test_used_and_returned_octets_are_counted_and_shown(sponsored, settings, metrics):
    log = FakeLog()
    async with running(sponsored, log, settings, metrics):
        tell(log, 0, ask())
        await granted(log, 1, 0)
        tell(log, 0, said("return", 2, 0, granted=1_000, used=600, returned=400))
        tell(log, 1, ask(lane=1))
        await granted(log, 1, 1)
    assert budget_totals(sponsored) == [CampaignTotals("cup", BUDGET, 2_000, 400, 600)]
    shown = {
        sample.labels["kind"]: sample.value for family in metrics.campaign_octets.collect() for sample in family.samples
    }
    assert shown == {"budget": BUDGET, "granted": 2_000, "returned": 400, "used": 600}


async def test_a_restart_goes_on_where_the_books_end(sponsored, settings, metrics):
    log = FakeLog()
    for number in range(1, 7):
        tell(log, 0, ask(number, granted=1_000 * (number - 1), used=1_000 * (number - 1)))
        async with running(sponsored, log, settings, metrics):
            await granted(log, number, 0)
    assert [grant["sequence"] for grant in grants(log)[0]] == [1, 2, 3, 4, 5, 6]


async def test_a_request_that_comes_twice_is_answered_once(sponsored, settings, metrics):
    log = FakeLog()
    for value in (ask(1), ask(1), ask(2), ask(1), ask(2)):
        tell(log, 0, value)
    async with running(sponsored, log, settings, metrics):
        await granted(log, 2, 0)
        tell(log, 1, ask(lane=1))
        await granted(log, 2, 1)
    assert metrics.lease_refused.labels("duplicate")._value.get() == 3


@pytest.mark.parametrize("breaks_at", ["INSERT INTO campaign_budgets", "INSERT INTO outbox", "UPDATE ledger_offsets"])
async def test_a_transaction_that_breaks_leaves_nothing_and_is_done_again(sponsored, settings, metrics, breaks_at):
    log, broken = FakeLog(), break_once(sponsored, breaks_at)
    tell(log, 0, ask())
    async with running(sponsored, log, settings, metrics):
        await granted(log, 1, 0)
    assert broken
    assert budget_totals(sponsored) == [CampaignTotals("cup", BUDGET, 1_000, 0, 0)]


async def test_rival_owners_grant_nothing_twice(sponsored, settings, metrics):
    log = FakeLog(partitions=4)
    for lane in range(4):
        for number in range(1, 30):
            tell(log, lane, ask(number, lane))
    async with running(sponsored, log, settings, metrics, owners=3):
        await granted(log, 29, 29, 29, 29)
    given = [grant for lane in grants(log) for grant in lane]
    assert sum(grant["octets"] for grant in given) == BUDGET
    assert [item[1:4] for item in budget_totals(sponsored)] == [(BUDGET, BUDGET, 0)]
    assert {grant["ask_again_ms"] for grant in given if not grant["octets"]} == {NOW_MS + 10_000}


async def test_requests_that_cannot_be_are_kept_and_stop_nobody(sponsored, settings, metrics):
    log = FakeLog()
    for value in (None, b"{", said("ask", 1, 0, version="2.0"), ask(lane=1), said("ask", 1, 0, used=1)):
        tell(log, 0, value)
    tell(log, 0, ask())
    async with running(sponsored, log, settings, metrics):
        await granted(log, 1, 0)
    assert metrics.lease_refused.labels("malformed")._value.get() == 5


async def test_a_campaign_that_nobody_published_is_answered_with_nothing(sponsored, settings, metrics):
    log = FakeLog()
    tell(log, 0, said("ask", 1, 0, campaign="other"))
    async with running(sponsored, log, settings, metrics):
        await granted(log, 1, 0)
    assert grants(log)[0][0]["octets"] == 0


# -- a database that was restored from an older backup


def go_back(engine, *, beginning=0):
    """The database is the one from before anything was granted; the log knows better."""
    with writing(engine) as connection:
        for table in (campaign_leases, campaign_budgets, outbox_rows):
            connection.execute(table.delete())
        connection.execute(ledger_offsets.update().values(next_offset=beginning))


async def lend_everything(log, engine, settings, metrics, lanes=2):
    """Asks until nothing is left; what was granted in which lane."""
    for lane in range(lanes):
        for number in range(1, 30):
            tell(log, lane, ask(number, lane))
    async with running(engine, log, settings, metrics):
        await granted(log, *[29] * lanes)
    return grants(log)


async def test_a_database_from_an_older_backup_lends_nothing_twice(sponsored, settings, metrics):
    log = FakeLog()
    before = await lend_everything(log, sponsored, settings, metrics)
    assert sum(grant["octets"] for lane in before for grant in lane) == BUDGET
    go_back(sponsored)
    tell(log, 0, ask(30, granted=sum(grant["octets"] for grant in before[0])))
    async with running(sponsored, log, settings, metrics):
        await granted(log, 30, 29)
    [*old, new], other = grants(log)
    assert [old, other] == before, "an ask that has its answer in the log was answered again"
    assert new["octets"] == 0
    assert [item[1:4] for item in budget_totals(sponsored)] == [(BUDGET, BUDGET, 0)]


async def test_an_answer_that_was_lost_with_the_database_is_given_anew(sponsored, settings, metrics):
    """It had not left the outbox, so no lane lives on it."""
    log = FakeLog()
    tell(log, 0, ask(1))
    async with running(sponsored, log, settings, metrics):
        await granted(log, 1, 0)
    tell(log, 0, ask(2))
    async with running(sponsored, log, settings, metrics, relay=False):
        await wait_until_async(
            lambda: [item.granted_octets for item in budget_totals(sponsored)] == [2_000], DEADLINE_S, "a second grant"
        )
    go_back(sponsored)
    async with running(sponsored, log, settings, metrics):
        await granted(log, 2, 0)
    assert [(grant["sequence"], grant["granted_octets"]) for grant in grants(log)[0]] == [(1, 1_000), (2, 2_000)]


async def test_an_owner_that_cannot_read_all_its_answers_lends_nothing(sponsored, settings, metrics):
    log = FakeLog()
    await lend_everything(log, sponsored, settings, metrics)
    go_back(sponsored)
    log.forget(COMMANDS, 0, 1)
    owner = LeaseOwner(engine=sponsored, log=log, settings=settings, metrics=metrics, clock=lambda: NOW_MS)
    with pytest.raises(OffsetOutOfRange):
        await owner.run()
    assert budget_totals(sponsored) == []


async def test_a_start_reads_only_the_answers_since_the_last_note(sponsored, settings, metrics):
    log = FakeLog()
    await lend_everything(log, sponsored, settings, metrics)
    async with running(sponsored, log, settings, metrics):
        await wait_until_async(lambda: noted(sponsored) == [29, 29], DEADLINE_S, "the note")
    log.forget(COMMANDS, 0, 29)
    tell(log, 0, ask(30))
    async with running(sponsored, log, settings, metrics):
        await granted(log, 1, 29)


def noted(engine):
    with reading(engine) as connection:
        return [offset for _, offset in sorted(next_offsets(connection, COMMANDS).items())]


async def test_a_note_is_refused_when_the_database_went_back_beneath_the_owner(sponsored, settings, metrics):
    """Else what was granted between backup and note would be taken for known."""
    log = FakeLog()
    await lend_everything(log, sponsored, settings, metrics)
    owner = LeaseOwner(engine=sponsored, log=log, settings=settings, metrics=metrics, clock=lambda: NOW_MS)
    reader = await log.reader(LEASE_REQUESTS)
    await owner._resume(reader)
    with writing(sponsored) as connection:
        connection.execute(
            ledger_offsets.update().where(ledger_offsets.c.topic == LEASE_REQUESTS).values(next_offset=0)
        )
    with pytest.raises(OffsetsMoved):
        await owner._note()


@pytest.mark.parametrize(
    "value",
    [
        None,
        b'{"type": "grant_lease"',
        b'{"type": "credit", "reason": "grant_lease"}',
        command_of("lane/1", sequence=9),
    ],
)
def test_what_is_no_answer_to_this_lane_is_not_recalled(value):
    found = {}
    _keep_newest({0: [FakeRecord(0, 0, b"lane/0", value)]}, found)
    assert found == {}


def test_of_a_lane_s_answers_the_last_one_counts():
    found = {}
    records = [
        FakeRecord(at, 0, b"lane/0", command_of("lane/0", sequence=number)) for at, number in enumerate((1, 3, 2))
    ]
    _keep_newest({0: records}, found)
    assert found["cup", 0].sequence == 3


def test_the_schema_itself_refuses_to_pass_a_budget(engine):
    with pytest.raises(Collision, match="limit"), writing(engine) as connection:
        store(connection, {"cup": Budget(100, 150, 49)}, {})
    with pytest.raises(Collision, match="granted"), writing(engine) as connection:
        store(connection, {"cup": Budget(100, 100, 0)}, {("cup", 0): LaneLease(1, 10, 5, 6)})
    assert budget_totals(engine) == []
