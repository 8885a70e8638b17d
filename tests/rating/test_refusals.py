"""What a lane refuses is kept beside the command, once, and settles a correction that waited; on both databases."""

import asyncio
import contextlib

import msgspec
import pytest
from sqlalchemy import select

from schemas.dead_letter import DeadLetter
from schemas.topics import COMMANDS, DEAD_LETTERS, FLOWS
from services.rating.corrections import CorrectionRefused, Order, order, ordered
from services.rating.database import reading
from services.rating.models import refused_commands
from services.rating.refusals import Refusals
from tests.rating.fakes import FakeLog, break_once
from tests.rating.seeds import book, seed
from tests.rating.usage_records import RATED_AT_MS, rated
from tests.waiting import wait_until_async

pytestmark = pytest.mark.usefixtures("quick_consumers")

DEADLINE_S = 20
DRAWN = "f-0-11-11-0"
REASON = "reclassified: the ledger knew 0 corrections by the lane, and there are 1; order it again"


@pytest.fixture
def shop(engine):
    """The small shop with a void of one row, command c-1, on its way."""
    seed(engine)
    void(engine, "c-1")
    return engine


def void(engine, name):
    return order(engine, Order("void", name, usage_id=DRAWN), clock=lambda: RATED_AT_MS + 60_000)


def letter(command_id="c-1", *, detail=f"outdated: {REASON}", topic=COMMANDS, cause="refused_command", number=0):
    made = DeadLetter(
        version="1.0", dead_letter_id=f"{topic}-0-{number}", source_topic=topic, partition=0, offset=number,
        cause=cause, detail=detail, at_ms=RATED_AT_MS + 61_000, key=b"acc-1", value=b"{}", value_octets=2,
        record_id=command_id,
    )  # fmt: skip
    return msgspec.json.encode(made)


@contextlib.asynccontextmanager
async def running(engine, log, settings, *, count=1):
    works = [Refusals(engine=engine, log=log, settings=settings) for _ in range(count)]
    tasks = [asyncio.create_task(work.run()) for work in works]
    try:
        yield
    finally:
        for work in works:
            work.stop()
        await asyncio.gather(*tasks)


def kept(engine):
    with reading(engine) as connection:
        return [tuple(row) for row in connection.execute(select(refused_commands))]


async def refused(engine, *names):
    await wait_until_async(
        lambda: [row[0] for row in kept(engine)] == list(names), DEADLINE_S, f"{names} to be refused"
    )


def states(engine):
    return [(item["command_id"], item["state"]) for item in ordered(engine, "acc-1")]


async def test_a_refused_order_is_no_longer_pending_and_says_why(shop, settings):
    log = FakeLog()
    assert states(shop) == [("c-1", "pending")]
    log.add(DEAD_LETTERS, b"acc-1", letter())
    async with running(shop, log, settings):
        await refused(shop, "c-1")
    [found] = ordered(shop, "acc-1")
    assert (found["state"], found["cause"], found["detail"]) == ("refused", "outdated", REASON)
    assert found["refused_at_ms"] == RATED_AT_MS + 61_000
    assert void(shop, "c-1").refused == REASON


async def test_after_a_refusal_the_row_can_be_corrected_again(shop, settings):
    log = FakeLog()
    with pytest.raises(CorrectionRefused, match="has a correction pending"):
        void(shop, "c-2")
    log.add(DEAD_LETTERS, b"acc-1", letter())
    async with running(shop, log, settings):
        await refused(shop, "c-1")
    assert not void(shop, "c-2").repeated
    assert states(shop) == [("c-1", "refused"), ("c-2", "pending")]
    done = {"usage_id": "c-0-70-70-0", "corrects": DRAWN, "cause": "c-2", "octets": 1_000, "charged_octets": 1_000}
    book(shop, rated(70, kind="refund", movements=(), **done))
    assert states(shop) == [("c-1", "refused"), ("c-2", "booked")]
    with pytest.raises(CorrectionRefused, match="voided already"):
        void(shop, "c-3")


async def test_what_the_ledger_holds_was_done_whatever_was_said_before(shop, settings):
    """A refused command that was published again may have found the lane in a better state."""
    log = FakeLog()
    log.add(DEAD_LETTERS, b"acc-1", letter())
    async with running(shop, log, settings):
        await refused(shop, "c-1")
    done = {"usage_id": "c-0-70-70-0", "corrects": DRAWN, "cause": "c-1", "octets": 1_000, "charged_octets": 1_000}
    book(shop, rated(70, kind="refund", movements=(), **done))
    assert states(shop) == [("c-1", "booked")]


async def test_a_command_that_no_lane_could_read_is_refused_for_that(shop, settings):
    log = FakeLog()
    log.add(DEAD_LETTERS, b"acc-1", letter(cause="too_large", detail="value: has 9 octets, the limit is 8"))
    async with running(shop, log, settings):
        await refused(shop, "c-1")
    [found] = ordered(shop, "acc-1")
    assert (found["cause"], found["detail"]) == ("too_large", "value: has 9 octets, the limit is 8")


async def test_only_letters_of_commands_ordered_here_are_kept_each_once(shop, settings):
    log = FakeLog()
    again = letter(detail="period_closed: later", number=1)
    for value in (
        None, b"{", b'{"source_topic": "ott.account-commands.v1"}', letter(topic=FLOWS), letter("strange"),
        letter(None), letter(), letter(), again,
    ):  # fmt: skip
        log.add(DEAD_LETTERS, b"acc-1", value)
    async with running(shop, log, settings, count=2):
        await refused(shop, "c-1")
    async with running(shop, log, settings):
        log.add(DEAD_LETTERS, b"acc-1", again)
        await wait_until_async(lambda: log.arrived.is_set() is False, DEADLINE_S, "the last letter to be read")
    assert [row[1] for row in kept(shop)] == ["outdated"]


@pytest.mark.parametrize("breaks_at", ["INSERT INTO refused_commands", "UPDATE ledger_offsets"])
async def test_a_transaction_that_breaks_leaves_nothing_and_is_done_again(shop, settings, breaks_at):
    log, broken = FakeLog(), break_once(shop, breaks_at)
    log.add(DEAD_LETTERS, b"acc-1", letter())
    async with running(shop, log, settings):
        await refused(shop, "c-1")
    assert broken
