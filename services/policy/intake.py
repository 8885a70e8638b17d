"""Step 1 of 5: intake. Raw log records become flow records or commands, or a refusal with its cause.

Pure: bytes in, values out. What is refused here becomes one dead letter; nothing else of the batch is disturbed.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from schemas.command import COMMAND_MAJOR, Command
from schemas.dead_letter import DeadLetterCause
from schemas.flow import FLOW_MAJOR, FlowRecord
from services.runtime.log import LogRecord


class Refused(NamedTuple):
    """Why a record cannot be processed: one word for counting, one sentence for people."""

    cause: DeadLetterCause
    detail: str
    record_id: str | None = None


class _Envelope(msgspec.Struct, gc=False):
    """The little that is read of a record which the full contract refuses, to say why."""

    version: str | None = None
    record_id: str | None = None
    command_id: str | None = None
    type: str | None = None


_decode_flow: Callable[[bytes], FlowRecord] = msgspec.json.Decoder(FlowRecord).decode
_decode_command: Callable[[bytes], Command] = msgspec.json.Decoder(Command).decode
_decode_envelope: Callable[[bytes], _Envelope] = msgspec.json.Decoder(_Envelope).decode
_COMMAND_TYPES = frozenset(str(kind.__struct_config__.tag) for kind in Command.__args__)


def read_flow(record: LogRecord, max_octets: int) -> FlowRecord | Refused:
    """The flow record in `record`, checked by every rule that needs no state, or why it is refused."""
    key, value = record.key, record.value
    if key is None or value is None or len(value) > max_octets:
        return _refuse_envelope(key, value, max_octets)
    try:
        flow = _decode_flow(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _refuse_value(value, error, major=FLOW_MAJOR)
    if flow.end_ms < flow.start_ms or not flow.version.startswith("1."):
        return _refuse_flow(flow)
    account = flow.account_id or flow.subscriber_id
    if key != account.encode():
        return Refused("key_mismatch", _mismatch(key, account), flow.record_id)
    return flow


def read_command(record: LogRecord, max_octets: int) -> Command | Refused:
    """The command in `record`, or why it is refused."""
    key, value = record.key, record.value
    if key is None or value is None or len(value) > max_octets:
        return _refuse_envelope(key, value, max_octets)
    try:
        command = _decode_command(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _refuse_value(value, error, major=COMMAND_MAJOR)
    if not command.version.startswith(COMMAND_MAJOR + "."):
        return Refused("unknown_version", _unknown_version(command.version, COMMAND_MAJOR), command.command_id)
    if key != command.account_id.encode():
        return Refused("key_mismatch", _mismatch(key, command.account_id), command.command_id)
    return command


def _refuse_envelope(key: bytes | None, value: bytes | None, max_octets: int) -> Refused:
    if key is None:
        return Refused("null_key", "key: is null; publish the record with its account id as key")
    if value is None:
        return Refused("null_value", "value: is null; this topic has no tombstones, publish a whole record")
    rule = f"the limit is {max_octets}; split the record or raise SMARTPIPE_MAX_RECORD_OCTETS"
    return Refused("too_large", f"value: has {len(value)} octets, {rule}")


def _refuse_value(value: bytes, error: Exception, *, major: str) -> Refused:
    try:
        value.decode()
    except UnicodeDecodeError as bad:
        return Refused("bad_utf8", f"value: octet {bad.start} is not UTF-8 ({bad.reason}); send UTF-8 encoded JSON")
    if not isinstance(error, msgspec.ValidationError):
        return Refused("not_json", f"value: {error}; send one JSON object a record")
    return _refuse_fields(value, error, major)


def _refuse_fields(value: bytes, error: msgspec.ValidationError, major: str) -> Refused:
    """Tell an unknown version or command apart from a broken field; the envelope alone decides that."""
    try:
        envelope = _decode_envelope(value)
    except (msgspec.DecodeError, RecursionError):
        envelope = _Envelope()
    name = envelope.record_id or envelope.command_id
    if envelope.version is not None and envelope.version.partition(".")[0] != major:
        return Refused("unknown_version", _unknown_version(envelope.version, major), name)
    if envelope.type is not None and envelope.command_id is not None and envelope.type not in _COMMAND_TYPES:
        known = ", ".join(sorted(_COMMAND_TYPES))
        return Refused("unknown_command", f"type: {envelope.type!r} is no account command; known are {known}", name)
    return Refused("invalid_field", f"{error}; mend the field and publish the record again", name)


def _refuse_flow(flow: FlowRecord) -> Refused:
    if not flow.version.startswith(FLOW_MAJOR + "."):
        return Refused("unknown_version", _unknown_version(flow.version, FLOW_MAJOR), flow.record_id)
    detail = f"end_ms: {flow.end_ms} is before start_ms {flow.start_ms}; send the interval in order"
    return Refused("end_before_start", detail, flow.record_id)


def _unknown_version(version: str, major: str) -> str:
    return f"version: {version!r} is not supported; this service reads {major}.x"


def _mismatch(key: bytes, account: str) -> str:
    shown = key[:128].decode(errors="backslashreplace")
    return f"key: {shown!r} is not the record's account {account!r}; publish it under its account id"
