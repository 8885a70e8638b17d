"""Small builders for records, so that a test shows only what it is about."""

import dataclasses
import json
from typing import Any

FLOW: dict[str, Any] = {
    "version": "1.0",
    "record_id": "probe-1:42:0",
    "subscriber_id": "sub-1",
    "exporter_id": "probe-1",
    "start_ms": 1_000,
    "end_ms": 2_000,
    "ip_protocol": 6,
    "subscriber_ip": "10.0.0.1",
    "subscriber_port": 40_000,
    "remote_ip": "203.0.113.7",
    "remote_port": 443,
    "octets_up": 1_000,
    "octets_down": 9_000,
    "server_name": "media.example.net",
}


@dataclasses.dataclass(frozen=True)
class Record:
    """A record as the log port delivers it."""

    key: bytes | None
    value: bytes | None
    offset: int = 0
    timestamp: int = 0


def flow_value(**changes: Any) -> bytes:
    """A flow record's JSON; a change to `...` removes the field."""
    fields = {name: value for name, value in {**FLOW, **changes}.items() if value is not ...}
    return json.dumps(fields).encode()


def flow_record(key: bytes | None = b"sub-1", offset: int = 0, **changes: Any) -> Record:
    """A flow record under its key."""
    return Record(key, flow_value(**changes), offset)


def command_value(kind: str, **fields: Any) -> bytes:
    """An account command's JSON."""
    common = {"type": kind, "version": "1.0", "command_id": "c-1", "account_id": "sub-1", "issued_at_ms": 1_000}
    return json.dumps({**common, **fields}).encode()
