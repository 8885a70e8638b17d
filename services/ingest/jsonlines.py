"""Flow records as JSON Lines: one FlowRecord a line, in and out, with errors that say what to mend."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from schemas.flow import FlowRecord, account_of, check_flow
from schemas.topics import FLOWS
from services.ingest.traffic import CompactFlowRecord
from services.runtime.log import NewRecord

SHOWN_CHARACTERS = 60
"""How much of a refused value an error shows."""

_PATH = re.compile(r"^(?P<rule>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"[^.\[\]]+")

_decode: Callable[[bytes], FlowRecord] = msgspec.json.Decoder(FlowRecord).decode
_decode_any: Callable[[bytes], Any] = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class JsonLinesError(ValueError):
    """A line that is no flow record. `line_number` counts from 1; `detail` names field, value, rule and next step."""

    def __init__(self, line_number: int, detail: str) -> None:
        super().__init__(f"line {line_number}: {detail}")
        self.line_number = line_number
        self.detail = detail


def decode_flow(line: bytes, line_number: int) -> FlowRecord:
    """The flow record that `line` holds, checked by every rule of the contract. Raises JsonLinesError."""
    try:
        flow = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise JsonLinesError(line_number, _sentence(line, error)) from None
    if problem := check_flow(flow):
        raise JsonLinesError(line_number, problem)
    return flow


def read_flows(lines: Iterable[bytes]) -> Iterator[FlowRecord]:
    """The flow record of every line that is not blank, in order. Raises JsonLinesError at the first bad line."""
    for line_number, line in enumerate(lines, start=1):
        if line.strip():
            yield decode_flow(line, line_number)


def encode_flow(flow: FlowRecord) -> bytes:
    """`flow` as one line of JSON, fields at their default left out, without the line's end."""
    if not isinstance(flow, CompactFlowRecord):
        flow = CompactFlowRecord(**{name: getattr(flow, name) for name in flow.__struct_fields__})
    return _encode(flow)


def new_record(flow: FlowRecord, *, published_ms: int) -> NewRecord:
    """`flow` as a record for the flow topic, keyed by its account.

    `published_ms` is the wall clock: a log keeps records by it, so old flows must not look as if they had expired.
    """
    return NewRecord(FLOWS, account_of(flow).encode(), encode_flow(flow), published_ms)


def _sentence(line: bytes, error: Exception) -> str:
    """What is wrong with `line`: first as text, then as JSON, then by its field."""
    try:
        fields = _decode_any(line.decode().encode())
    except UnicodeDecodeError as bad:
        return f"octet {bad.start} is not UTF-8 ({bad.reason}); save the file as UTF-8"
    except (msgspec.DecodeError, RecursionError) as bad:
        return f"{_shorten(line.decode(errors='replace'))!r} is not JSON ({bad}); write one object a line"
    match = _PATH.match(str(error))
    path, rule = (match["path"], match["rule"]) if match else ("", str(error))
    rule = rule[:1].lower() + rule[1:]
    if not path:
        return f"{rule}; the contract of {FLOWS} lists the fields"
    return f"{path}: {_value_at(fields, path)} is refused: {rule}; mend the field"


def _value_at(found: Any, path: str) -> str:
    for step in _STEP.findall(path):
        if isinstance(found, dict):
            found = found.get(step)
        elif isinstance(found, list) and step.isdigit() and int(step) < len(found):
            found = found[int(step)]
    return _shorten(_encode(found).decode())


def _shorten(text: str) -> str:
    text = text.strip()
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
