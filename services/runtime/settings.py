"""Settings: one typed place for everything that can be turned, each by an environment variable.

`SMARTPIPE_<NAME>` sets the field `<name>`. An unknown `SMARTPIPE_` variable is refused, so that a misspelt one
cannot be silently ignored. The table in the README is generated from here.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

PREFIX = "SMARTPIPE_"

TOOL_VARIABLES = frozenset(
    {"SMARTPIPE_REQUIRE_KAFKA", "SMARTPIPE_REQUIRE_POSTGRES", "SMARTPIPE_REQUIRE_TOOLS", "SMARTPIPE_CACHE"}
)
"""Variables of the developer tools; not settings of the product."""


class SettingsError(Exception):
    """A setting is unknown or has a value that its rule refuses; the message names it and the next step."""


class Settings(BaseModel):
    """All settings of all services. Units are last in each name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    log: Annotated[
        Literal["embedded", "kafka"], Field(description="Which log to use: `embedded` (one SQLite file) or `kafka`.")
    ] = "embedded"
    data_dir: Annotated[str, Field(description="Folder of the embedded log and the default ledger file.")] = "data"
    kafka_bootstrap: Annotated[str, Field(description="Kafka bootstrap servers, `host:port,...`.")] = "127.0.0.1:9092"
    kafka_security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], Field(description="How to talk to the brokers.")
    ] = "PLAINTEXT"
    kafka_sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], Field(description="SASL mechanism, for the SASL protocols.")
    ] = "SCRAM-SHA-512"
    kafka_sasl_username: Annotated[str, Field(description="SASL user name.")] = ""
    kafka_sasl_password: Annotated[str, Field(description="SASL password.", repr=False)] = ""
    kafka_ca_file: Annotated[str, Field(description="CA certificates for SSL, PEM; empty = the system's.")] = ""
    kafka_replication_factor: Annotated[
        int, Field(ge=-1, le=9, description="Replicas of created topics; -1 = the broker's default.")
    ] = -1
    database_url: Annotated[
        str,
        Field(repr=False, description="Ledger database, SQLAlchemy URL; empty = SQLite in data_dir."),
    ] = ""
    partitions: Annotated[int, Field(ge=1, le=1024, description="Partitions of the lane topics when created.")] = 8
    group: Annotated[
        str, Field(min_length=1, max_length=100, description="Consumer group and transactional id prefix.")
    ] = "smartpipe-policy"
    instance_id: Annotated[
        str, Field(max_length=100, description="Static group membership id, e.g. the pod's name; empty = dynamic.")
    ] = ""
    transaction_max_records: Annotated[
        int, Field(ge=1, le=100_000, description="Most input records in one transaction of a lane.")
    ] = 2_000
    transaction_max_wait_ms: Annotated[
        int, Field(ge=1, le=5_000, description="Longest that a lane gathers input before it commits, ms.")
    ] = 50
    transaction_timeout_ms: Annotated[
        int, Field(ge=1_000, le=900_000, description="Broker's limit for one transaction, ms.")
    ] = 30_000
    session_timeout_ms: Annotated[
        int, Field(ge=1_000, le=300_000, description="Group session timeout: how soon a dead worker is replaced, ms.")
    ] = 10_000
    drain_timeout_ms: Annotated[
        int, Field(ge=100, le=60_000, description="Longest that a stop waits for lanes to finish their batch, ms.")
    ] = 8_000
    outage_timeout_ms: Annotated[
        int, Field(ge=100, le=3_600_000, description="Longest that an outage is retried before the process stops, ms.")
    ] = 60_000
    usage_interval_ms: Annotated[
        int, Field(ge=0, le=3_600_000, description="How long rated usage is gathered before it is emitted, ms.")
    ] = 10_000
    dedup_records_per_lane: Annotated[
        int, Field(ge=0, le=10_000_000, description="Record ids that a lane remembers against duplicates; 0 = off.")
    ] = 100_000
    memory_subscribers_per_lane: Annotated[
        int,
        Field(ge=2, le=10_000_000, description="Subscribers whose last minutes a lane remembers for nameless flows."),
    ] = 32_768
    name_cache_entries: Annotated[
        int, Field(ge=2, le=10_000_000, description="Server names whose verdict is remembered, per worker.")
    ] = 65_536
    max_record_octets: Annotated[
        int, Field(ge=1_024, le=8_388_608, description="Larger input records are dead letters, octets.")
    ] = 262_144
    lease_idle_ms: Annotated[
        int,
        Field(
            ge=1_000, le=86_400_000, description="After how long without a flow a slice of a budget is given back, ms."
        ),
    ] = 600_000
    lease_retry_ms: Annotated[
        int, Field(ge=100, le=3_600_000, description="How soon a lane that found a budget empty may ask again, ms.")
    ] = 10_000
    lease_least_octets: Annotated[
        int, Field(ge=1, le=2**60, description="Smallest slice of a budget that a lane is granted, octets.")
    ] = 10_000_000
    lease_most_octets: Annotated[
        int, Field(ge=1, le=2**60, description="Largest slice of a budget that a lane is granted, octets.")
    ] = 10_000_000_000
    ledger_batch_records: Annotated[
        int, Field(ge=1, le=100_000, description="Most usage records that the ledger books in one transaction.")
    ] = 2_000
    outbox_poll_ms: Annotated[
        int, Field(ge=10, le=60_000, description="How often the outbox is looked at when nobody rings, ms.")
    ] = 200
    http_host: Annotated[str, Field(description="Address that the rating API listens on.")] = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65_535, description="Port of the rating API; 0 = a free one.")] = 8080
    ops_host: Annotated[str, Field(description="Address of the operations port (metrics, health).")] = "127.0.0.1"
    policy_ops_port: Annotated[
        int, Field(ge=0, le=65_535, description="Operations port of the policy service; 0 = a free one.")
    ] = 9101
    rating_ops_port: Annotated[
        int, Field(ge=0, le=65_535, description="Operations port of the rating service; 0 = a free one.")
    ] = 9102
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="Least severe log event written.")
    ] = "info"
    log_format: Annotated[Literal["text", "json"], Field(description="Shape of log lines on standard error.")] = "text"


def load_settings(environ: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """Settings from the environment, `overrides` (the command line's) going first.

    Raises SettingsError for an unknown variable or a refused value.
    """
    found = os.environ if environ is None else environ
    known = {PREFIX + name.upper() for name in Settings.model_fields} | TOOL_VARIABLES
    unknown = sorted(name for name in found if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsError(f"unknown setting {', '.join(unknown)}; `smartpipe settings` lists the known ones")
    values: dict[str, object] = {
        name: found[PREFIX + name.upper()] for name in Settings.model_fields if PREFIX + name.upper() in found
    }
    values.update({name: value for name, value in overrides.items() if value is not None})
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    parts = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"])
        parts.append(f"{PREFIX}{name.upper()}: {problem['input']!r} is refused: {problem['msg']}")
    return "; ".join(parts) + "; `smartpipe settings` shows each rule"
