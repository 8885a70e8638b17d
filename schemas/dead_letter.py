"""DeadLetter: a record that could not be processed, with the cause, once. Topic `ott.flows.dlq.v1`."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.fields import EpochMs, Id, Version

DEAD_LETTER_VERSION = "1.0"

MAX_KEPT_OCTETS = 8_192
"""How much of the original value a dead letter keeps; the rest stays in the source topic, at its offset."""

DeadLetterCause = Literal[
    "null_key", "null_value", "too_large", "bad_utf8", "not_json", "invalid_field", "unknown_version",
    "end_before_start", "key_mismatch", "misrouted", "duplicate", "unknown_account", "unknown_command",
    "refused_command",
    "output_too_large",
]  # fmt: skip


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The envelope of one refused record."""

    version: Annotated[Version, Meta(description="Contract version; this is 1.0.")]
    dead_letter_id: Annotated[Id, Meta(description="`<source topic>-<partition>-<offset>`.")]
    source_topic: Annotated[str, Meta(description="Where the record was read.")]
    partition: Annotated[int, Meta(ge=0, description="Its partition.")]
    offset: Annotated[int, Meta(ge=0, description="Its offset.")]
    cause: Annotated[DeadLetterCause, Meta(description="The rule that it broke, one word.")]
    detail: Annotated[str, Meta(description="Field, value, rule and next step, one sentence.")]
    at_ms: Annotated[EpochMs, Meta(description="Wall clock of the transaction that refused it.")]
    key: Annotated[bytes | None, Meta(description="The record's key, base64, at most 256 octets; null if it had none.")]
    value: Annotated[
        bytes | None, Meta(description="The record's value, base64, cut to 8192 octets; null if it had none.")
    ]
    value_octets: Annotated[int, Meta(ge=0, description="Length of the original value.")]
    record_id: Annotated[str | None, Meta(description="The flow record's id where it could be read.")] = None
