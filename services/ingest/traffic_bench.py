"""Traffic for measuring: valid records, small and cheap to make, so that the generator is never what is measured."""

from bisect import bisect
from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

from services.ingest.traffic_applications import APPLICATIONS, TrafficApplication

_TEMPLATE = (
    b'{"version":"1.0","record_id":"%s-%x","subscriber_id":"%s","exporter_id":"b","start_ms":%d,"end_ms":%d,'
    b'"ip_protocol":6,"subscriber_ip":"100.64.0.9","subscriber_port":%d,"remote_ip":"%s","remote_port":443,'
    b'"octets_up":%d,"octets_down":%d,"server_name":"%s","rat_type":"NR"}'
)

_CHUNK = 4_096


class BenchRecord(NamedTuple):
    """A valid flow record, encoded; `timestamp_ms` is also the end of its interval."""

    key: bytes
    value: bytes
    timestamp_ms: int


def bench_accounts(accounts: int) -> list[str]:
    """Ids of the accounts that `bench_traffic` uses: each is one subscriber."""
    return [f"b{number:07d}" for number in range(accounts)]


def bench_traffic(
    *,
    accounts: int,
    records: int,
    seed: int,
    start_ms: int,
    records_per_s: int = 30_000,
    applications: Sequence[TrafficApplication] = APPLICATIONS,
) -> Iterator[BenchRecord]:
    """`records` records of about 300 octets over `accounts` accounts, alike likely, at `records_per_s` in event time.

    No duplicates, nothing malformed; record ids are unique per seed and start. Server names follow a Zipf law.
    """
    rng = Random(seed)  # noqa: S311 - traffic, not secrets
    run = b"%x.%x" % (seed & 0xFFFFFFFF, start_ms)
    keys = [account.encode() for account in bench_accounts(accounts)]
    destinations = _destinations(applications, rng)
    sizes = [int(min(50_000_000, 1_500 + rng.lognormvariate(9.0, 1.8))) for _ in range(_CHUNK)]
    for number in range(records):
        bits = rng.getrandbits(64)
        key = keys[(bits >> 24) % accounts]
        address, name = destinations[bits & 4095]
        down = sizes[bits >> 12 & 4095]
        end_ms = start_ms + number * 1000 // records_per_s
        value = _TEMPLATE % (run, number, key, max(0, end_ms - 2_000), end_ms, 32_768 + (bits >> 48 & 0x3FFF),
                             address, 600 + down // 9, down, name)  # fmt: skip
        yield BenchRecord(key, value, end_ms)


def _destinations(applications: Sequence[TrafficApplication], rng: Random) -> list[tuple[bytes, bytes]]:
    """4096 pairs of address and server name, as frequent as their applications are popular."""
    shares, total = [], 0.0
    for rank in range(len(applications)):
        total += 1 / (rank + 1)
        shares.append(total)
    pairs = []
    for _ in range(_CHUNK):
        app = applications[bisect(shares, rng.random() * total)]
        address = f"{app.network.ipv4}.{rng.getrandbits(8)}.{1 + rng.getrandbits(7)}"
        pairs.append((address.encode(), rng.choice(app.names).encode()))
    return pairs
