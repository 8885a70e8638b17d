"""Single flow records, for claims about single flows."""

import itertools
from typing import Any

import msgspec

from schemas.flow import FlowRecord
from services.cli.stage import now_ms
from services.ingest.traffic import GeneratedRecord

_numbers = itertools.count(1)


def flow(account: str, **fields: Any) -> GeneratedRecord:
    """A TLS flow of `account`'s own subscriber that has just ended, with other values in `fields`."""
    at_ms = now_ms()
    record = FlowRecord(
        **{
            "version": "1.0",
            "record_id": f"single-{next(_numbers)}",
            "subscriber_id": account,
            "exporter_id": "probe-1",
            "start_ms": at_ms - 1_000,
            "end_ms": at_ms,
            "ip_protocol": 6,
            "subscriber_ip": "10.1.2.3",
            "subscriber_port": 40_000,
            "remote_ip": "203.0.113.9",
            "remote_port": 443,
            "octets_up": 1_000,
            "octets_down": 20_000,
            "rat_type": "EUTRA",
            **fields,
        }
    )
    return GeneratedRecord(account.encode(), msgspec.json.encode(record), at_ms, "flow")
