"""A sponsored campaign whose budget all lanes share: its catalogue, customers, traffic, and what became of it."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple

import msgspec

from schemas.catalogue import Catalogue
from schemas.command import AccountCommand, ActivateProduct, ChangeProfile
from schemas.state import LeaseState
from schemas.topics import STATE
from services.cli.stage import Stage, now_ms
from services.cli.verify import Survey
from services.engine.leases import held_octets
from services.ingest.traffic import GeneratedRecord
from services.policy.leases import KEY_PREFIX
from services.rating.catalogue_store import publish_catalogue
from services.runtime.partitioning import partition_of
from tests.pipeline.flows import flow
from tests.pipeline.stages import contents, decisions
from tests.waiting import wait_until_async

CAMPAIGN = "youtube-summer"
ACCOUNTS = tuple(f"fan-{number}" for number in range(24))
LEASE_CHECKS = ("leases_drawn", "lease_requests_once", "budgets_kept", "leases_granted")
LEAST_OCTETS = 5_000_000
"""The smallest slice, so that the end of a budget takes a few grants and not hundreds."""

MOST_FLOW_OCTETS = 2_000_000
BATCH_RECORDS = 200
REPEATED_SHARE = 0.05
DEADLINE_S = 120.0


class Spent(NamedTuple):
    """What became of the budget, in octets, by the log alone."""

    drawn: Counter[int]
    """By lane, what decisions say that flows drew."""
    held: Counter[int]
    """By lane, what the changelog says that flows may still draw."""
    found_empty: Counter[int]
    """By lane, how many flows the campaign could not pay for, or not whole."""


async def sponsor(stage: Stage, octets: int, *, pacing: str = "none", **campaign: object) -> None:
    """Give the campaign a budget, make every account its customer, and wait until each lane was granted a slice.

    `campaign` are further fields of it.
    """
    sponsored = with_a_budget(stage.catalogue, octets, pacing=pacing, **campaign)
    await asyncio.to_thread(publish_catalogue, stage.rating.engine, sponsored)
    await stage.order([command for account in ACCOUNTS for command in _orders(account)])

    async def all_granted() -> bool:
        stage.check_worker()
        rows = await asyncio.to_thread(lambda: list(stage.ledger.lane_leases()))
        return sum(granted > 0 for _, _, _, granted, _, _ in rows) == stage.settings.partitions

    await wait_until_async(all_granted, DEADLINE_S, "a slice of the budget for each lane")


def with_a_budget(catalogue: Catalogue, octets: int, *, pacing: str = "none", **fields: object) -> Catalogue:
    """The next version: the campaign's end is no longer a cap per subscriber but one budget for all."""
    body = catalogue.model_dump(mode="json")
    for campaign in body["campaigns"]:
        if campaign["id"] == CAMPAIGN:
            campaign |= {"per_subscriber_octets": None, "budget": {"octets": octets, "pacing": pacing}, **fields}
    return Catalogue.model_validate({**body, "version": f"{catalogue.version}-budget"})


def sponsored_traffic(records: int, *, seed: int, accounts: Sequence[str] = ACCOUNTS) -> list[GeneratedRecord]:
    """Flows that the campaign is for, of all `accounts` in turn by chance; some are told twice."""
    rng = Random(seed)
    made: list[GeneratedRecord] = []
    while len(made) < records:
        octets = rng.randrange(10_000, MOST_FLOW_OCTETS)
        record = flow(rng.choice(accounts), server_name="www.youtube.com", octets_up=0, octets_down=octets)
        made += [record, record] if rng.random() < REPEATED_SHARE else [record]
    return made[:records]


def accounts_of(lane: int, partitions: int) -> list[str]:
    """The accounts that one lane of `partitions` serves."""
    return [account for account in ACCOUNTS if partition_of(account.encode(), partitions) == lane]


async def publish_until_lent(stage: Stage, octets: int, *, accounts: Sequence[str] = ACCOUNTS) -> None:
    """Traffic on and on, until the budget's owner has lent `octets`."""
    seeds = itertools.count(1)

    async def is_lent() -> bool:
        stage.check_worker()
        await stage.publish(sponsored_traffic(BATCH_RECORDS, seed=next(seeds), accounts=accounts))
        await stage.until_decided()
        return await out_octets(stage) == octets

    await wait_until_async(is_lent, DEADLINE_S, f"{octets} octets of the budget to be lent")


async def out_octets(stage: Stage) -> int:
    """What is granted and not returned, by the owner's books."""
    rows = await asyncio.to_thread(lambda: list(stage.ledger.budgets()))
    return sum(granted - returned for name, _, granted, returned in rows if name == CAMPAIGN)


async def spent(stage: Stage) -> Spent:
    """Read decisions and changelog."""
    found = Spent(Counter(), Counter(), Counter())
    for decision in await decisions(stage.log):
        lane = int(decision.decision_id.partition("-")[0])
        for paid in decision.sponsorships:
            assert paid.campaign_id == CAMPAIGN
            found.drawn[lane] += paid.budget_octets
            found.found_empty[lane] += paid.octets < decision.octets
    for lane, records in (await contents(stage.log, STATE)).items():
        newest = {record.key: record.value for record in records}
        if raw := newest.get(KEY_PREFIX + CAMPAIGN.encode()):
            found.held[lane] = held_octets(_decode(raw))
    return found


def assert_kept(found: Spent, survey: Survey, *, octets: int, lanes: int) -> None:
    """The budget was not passed, and is used up to what lanes hold at most; every lane had its part of it."""
    drawn, held = found.drawn.total(), found.held.total()
    assert drawn <= octets
    assert drawn + held == octets, f"{drawn} octets drawn and {held} held of {octets}"
    assert max(found.held.values()) <= 3 * LEAST_OCTETS // 2, "a lane sits on more than a slice and a half"
    assert {lane for lane, part in found.drawn.items() if part} == set(range(lanes))
    assert found.found_empty.total() > 0, "the budget has not ended in the middle of the traffic"
    assert_reconciled(survey)


def assert_reconciled(survey: Survey) -> None:
    """Both sides of every lease agree."""
    for name in LEASE_CHECKS:
        check = survey.report.check(name)
        assert (check.status, check.skipped) == ("ok", None), check
        assert check.checked > 0, f"{name} has looked at nothing"


def _orders(account: str) -> Sequence[AccountCommand]:
    common: dict[str, Any] = {"version": "1.0", "account_id": account, "issued_at_ms": now_ms()}
    return (
        ChangeProfile(command_id=f"{account}-0", subscriber_ids=(account,), payment="postpaid", **common),
        ActivateProduct(command_id=f"{account}-1", product_id="p1", offering_id="smart-general", **common),
        ActivateProduct(command_id=f"{account}-2", product_id="p2", offering_id="sponsored-youtube", **common),
    )


_decode = msgspec.msgpack.Decoder(LeaseState).decode
