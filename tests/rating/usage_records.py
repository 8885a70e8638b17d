"""Usage records for tests, as the policy service would emit them."""

import msgspec

from schemas.topics import FLOWS
from schemas.usage import Movement, RatedUsage

RATED_AT_MS = 1_790_000_000_000


def rated(number: int = 0, **fields) -> RatedUsage:
    """A usage row of account `acc-1` in which 1000 octets were drawn from a bucket; `number` makes it another one."""
    partition = fields.pop("partition", 0)
    values = {
        "version": "1.0",
        "usage_id": f"f-{partition}-{number}-{number}-0",
        "kind": "usage",
        "account_id": "acc-1",
        "subscriber_id": "sub-1",
        "source_topic": FLOWS,
        "partition": partition,
        "first_offset": number,
        "last_offset": number,
        "ordinal": 0,
        "start_ms": RATED_AT_MS - 2_000 + number,
        "end_ms": RATED_AT_MS - 1_000 + number,
        "rated_at_ms": RATED_AT_MS + number,
        "catalogue_version": "v1",
        "category": "streaming",
        "application": "netflix",
        "rule_id": "stream-pack-rule",
        "rating_group": 10,
        "treatment": "charged",
        "record_count": 1,
        "octets": 1000,
        "charged_octets": 1000,
        "evidence": "server_name:nflxvideo.net",
        "movements": (moved("prod-1/stream", -1000, 5_000_000 - 1000 * (number + 1)),),
    }
    return RatedUsage(**{**values, **fields})


def granted(octets: int, number: int = 0, **fields) -> RatedUsage:
    """A grant to the same bucket."""
    values = {
        "usage_id": f"c-0-{number}-{number}-0",
        "kind": "grant",
        "category": None,
        "application": None,
        "rule_id": None,
        "rating_group": None,
        "treatment": None,
        "record_count": 0,
        "octets": 0,
        "charged_octets": 0,
        "evidence": None,
        "product_id": "prod-1",
        "offering_id": "stream-pack",
        "cause": "cmd-1",
        "movements": (
            Movement(
                bucket_id="prod-1/stream",
                unit="octets",
                amount=str(octets),
                remaining=str(octets),
                valid_from_ms=RATED_AT_MS,
                valid_until_ms=RATED_AT_MS + 1000,
            ),
        ),
    }
    return rated(number, **{**values, **fields})


def moved(bucket_id: str, amount: int, remaining: int, unit: str = "octets") -> Movement:
    return Movement(bucket_id=bucket_id, unit=unit, amount=str(amount), remaining=str(remaining))


def encoded(usage: RatedUsage) -> bytes:
    return msgspec.json.encode(usage)
