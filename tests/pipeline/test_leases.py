"""A budget that all lanes share, lent to them over the log: used up to its end, and not an octet further."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from schemas.topics import COMMANDS
from services.cli.stage import Stage, now_ms
from services.engine.leases import DAY_MS
from tests.pipeline.budgets import (
    LEAST_OCTETS,
    accounts_of,
    assert_kept,
    assert_reconciled,
    out_octets,
    publish_until_lent,
    spent,
    sponsor,
    sponsored_traffic,
)
from tests.pipeline.stages import Where, assert_clean, contents, playing
from tests.waiting import wait_until_async

BUDGET_OCTETS = 1_000_000_000
LAST_RECORDS = 1_000
"""A fifth of them, which is one lane's, is more than the slice and a half that it may have got at the beginning."""
DEADLINE_S = 120.0
SHORT_IDLE_MS = 8_000
RETRY_MS = 2_000
LATE_MS = 3_600_000
"""Lanes that found nothing left ask no sooner, so they come to rest. By a clock that is days behind this is past."""
PACED_OCTETS = 600_000_000
DAYS = 3


async def test_lanes_use_up_a_budget_that_ends_in_the_middle_of_the_traffic(where: Where, tmp_path: Path) -> None:
    async with playing(where, tmp_path, lease_least_octets=LEAST_OCTETS, lease_retry_ms=LATE_MS) as stage:
        await sponsor(stage, BUDGET_OCTETS)
        await publish_until_lent(stage, BUDGET_OCTETS)
        # What lanes hold now is all there is, and this is more.
        await stage.publish(sponsored_traffic(LAST_RECORDS, seed=0))
        await stage.until_decided()
        survey, found = await stage.survey(), await spent(stage)
        lanes = stage.settings.partitions
    assert_clean(survey, published=stage.published)
    assert_kept(found, survey, octets=BUDGET_OCTETS, lanes=lanes)
    assert set(found.found_empty) == set(range(lanes)), "a lane has not met the budget's end"


async def test_what_idle_lanes_give_back_is_used_up_by_the_lane_that_has_traffic(where: Where, tmp_path: Path) -> None:
    leases = {"lease_least_octets": LEAST_OCTETS, "lease_idle_ms": SHORT_IDLE_MS, "lease_retry_ms": RETRY_MS}
    async with playing(where, tmp_path, **leases) as stage:
        await sponsor(stage, BUDGET_OCTETS // 4)
        lanes = stage.settings.partitions
        first = {lane: granted for (lane, granted), _ in (await owners_books(stage)).items()}
        busy = next(lane for lane in range(lanes) if accounts_of(lane, lanes))

        async def used_up_by_one() -> bool:
            await stage.publish(sponsored_traffic(50, seed=stage.published, accounts=accounts_of(busy, lanes)))
            await stage.until_decided()
            return (await spent(stage)).drawn[busy] == BUDGET_OCTETS // 4

        await wait_until_async(used_up_by_one, DEADLINE_S, "one lane to have used up the whole budget")
        survey, found = await stage.survey(), await spent(stage)
        books = await owners_books(stage)
    assert_clean(survey, published=stage.published)
    assert_reconciled(survey)
    assert set(first) == set(range(lanes)), "no other lane held anything that it could give back"
    assert found.drawn == Counter({busy: BUDGET_OCTETS // 4})
    given_back = {lane: returned for (lane, _), returned in books.items()}
    assert all(given_back[lane] >= first[lane] > 0 for lane in range(lanes) if lane != busy)


async def owners_books(stage: Stage) -> Mapping[tuple[int, int], int]:
    """What the owner knows: (lane, octets granted) -> octets returned."""
    return {(lane, granted): returned for _, lane, _, granted, returned, _ in stage.ledger.lane_leases()}


@dataclasses.dataclass
class DaysBehind:
    """The owner's clock, some days behind the wall clock; days pass when the test says so."""

    days: int

    def __call__(self) -> int:
        return now_ms() - self.days * DAY_MS


async def test_a_paced_budget_is_lent_day_by_day(where: Where, tmp_path: Path) -> None:
    clock, begins_ms = DaysBehind(DAYS - 1), now_ms() - (DAYS - 1) * DAY_MS - DAY_MS // 2
    lent_at_the_end_of: list[int] = []
    async with playing(where, tmp_path, clock=clock, lease_least_octets=LEAST_OCTETS, lease_retry_ms=LATE_MS) as stage:
        dates = {"valid_from_ms": begins_ms, "valid_until_ms": begins_ms + DAYS * DAY_MS}
        await sponsor(stage, PACED_OCTETS, pacing="even", **dates)
        for day in range(1, DAYS + 1):
            await publish_until_lent(stage, PACED_OCTETS * day // DAYS)
            # A day's traffic goes on when its share is spent; more is not lent for it.
            await stage.publish(sponsored_traffic(LAST_RECORDS, seed=day))
            await stage.until_decided()
            lent_at_the_end_of.append(await out_octets(stage))
            clock.days = max(0, clock.days - 1)
        survey, found = await stage.survey(), await spent(stage)
        grants = await granted(stage)
        lanes = stage.settings.partitions
    assert_clean(survey, published=stage.published)
    assert_kept(found, survey, octets=PACED_OCTETS, lanes=lanes)
    assert lent_at_the_end_of == [PACED_OCTETS * day // DAYS for day in range(1, DAYS + 1)]
    by_day = Counter[int]()
    for grant in grants:
        by_day[(grant["issued_at_ms"] - begins_ms) // DAY_MS] += grant["octets"]
    assert by_day == dict.fromkeys(range(DAYS), PACED_OCTETS // DAYS)


async def granted(stage: Stage) -> list[dict[str, Any]]:
    """Every grant in the log."""
    found = await contents(stage.log, COMMANDS)
    commands = [msgspec.json.decode(record.value or b"") for records in found.values() for record in records]
    return [command for command in commands if command["type"] == "grant_lease"]
