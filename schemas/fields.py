"""The annotated field types that several contracts share, each with its unit, bounds and source.

A bound here is a rule at the door: a record that breaks one becomes a dead letter (stream) or a 4xx (HTTP).
"""

from typing import Annotated, Literal

from msgspec import Meta

MAX_OCTETS = 2**63 - 1
"""The largest octet or packet count of one record: half of IPFIX unsigned64, so that a sum of two cannot wrap."""

MAX_EPOCH_MS = 253_402_300_800_000
"""10000-01-01T00:00:00Z; later times are mistakes of unit (micro- or nanoseconds)."""

MAX_CONGESTION = 31
"""The highest congestion level (TS 29.217 Congestion-Level-Value): 0 is none, the operator defines the others."""

Id = Annotated[str, Meta(min_length=1, max_length=128)]
OptionalText = Annotated[str, Meta(max_length=255)]
HostName = Annotated[str, Meta(max_length=255)]
Octets = Annotated[int, Meta(ge=0, le=MAX_OCTETS)]
EpochMs = Annotated[int, Meta(ge=0, le=MAX_EPOCH_MS)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Decimal = Annotated[str, Meta(pattern=r"^-?[0-9]+(\.[0-9]+)?$")]
"""An exact amount of money as a decimal string; inside, money is an int of micro-units (TM Forum Money.value)."""

Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}$")]
"""ISO 4217 alphabetic code."""

Version = Annotated[str, Meta(max_length=16, extra_json_schema={"pattern": r"^[0-9]+\.[0-9]+$"})]
"""major.minor of a contract. A minor step only adds optional fields; an unknown major is refused.

The pattern is for writers; a reader looks at the major only, which costs half of what decoding a record does.
"""

Category = Literal["voip_im", "social", "streaming", "other"]
"""The OTT category of an application: calls and messages, social networks, media streams, everything else."""

Treatment = Literal["charged", "free", "sponsored", "blocked", "not_charged"]
"""Who pays for a flow. `not_charged`: the flow failed (reset or unanswered, no payload down)."""

RatType = Literal["GERA", "UTRA", "EUTRA", "NR", "NBIOT", "WLAN", "VIRTUAL", "UNKNOWN"]
"""Radio access technology, TS 29.571 RatType: GERA = 2G, UTRA = 3G, EUTRA = 4G, NR = 5G."""

GateStatus = Literal["open", "closed"]
"""TS 29.212 Flow-Status, reduced to both directions at once."""

Steering = Literal["wlan_preferred", "wlan_only", "cellular_preferred"]
"""The access of traffic: active-standby steering (TS 29.571 SteerModeValue ACTIVE_STANDBY) with Wi-Fi or the cellular
network as the active one, or Wi-Fi alone (offload)."""
