"""The topics: names, models, keys, partitions and broker settings. One list, used by code, docs and AsyncAPI."""

import dataclasses
from typing import Any

from schemas.catalogue import CATALOGUE_VERSION, CatalogueEntry
from schemas.command import COMMAND_VERSION, AccountCommand, GrantLease
from schemas.dead_letter import DEAD_LETTER_VERSION, DeadLetter
from schemas.decision import DECISION_VERSION, UPDATE_VERSION, PolicyDecision, PolicyUpdate
from schemas.flow import FLOW_VERSION, FlowRecord
from schemas.lease import LEASE_REQUEST_VERSION, LeaseRequest
from schemas.notification import NOTIFICATION_VERSION, Notification
from schemas.state import STATE_VERSION, AccountState, LeaseState, SeenRecords
from schemas.usage import USAGE_VERSION, RatedUsage

FLOWS = "ott.flows.v1"
COMMANDS = "ott.account-commands.v1"
CATALOGUE = "ott.catalogue.v1"
DECISIONS = "ott.decisions.v1"
ENFORCEMENT = "ott.enforcement.v1"
USAGE = "ott.usage.v1"
LEASE_REQUESTS = "ott.lease-requests.v1"
NOTIFICATIONS = "ott.notifications.v1"
STATE = "ott.state.v1"
DEAD_LETTERS = "ott.flows.dlq.v1"

MAX_INPUT_OCTETS = 8 * 1024 * 1024
"""What the flow topic accepts from the broker's side, so that an oversized record reaches its dead letter."""

DAY_MS = 86_400_000


@dataclasses.dataclass(frozen=True)
class Topic:
    """One topic as an operator has to create it and a developer has to read it."""

    name: str
    models: tuple[Any, ...]
    key: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    about: str
    version: str = "1.0"
    """major.minor of the models; the major is also the `.vN` of the name."""

    compacted: bool = False
    single_partition: bool = False
    content_type: str = "application/json"
    retention_ms: int = 7 * DAY_MS
    max_message_octets: int = 1_048_588

    def broker_settings(self) -> dict[str, str]:
        """Topic-level Kafka settings, as the admin API wants them."""
        policy = {"cleanup.policy": "compact"} if self.compacted else {"retention.ms": str(self.retention_ms)}
        return {**policy, "max.message.bytes": str(self.max_message_octets)}


ALL: tuple[Topic, ...] = (
    Topic(
        FLOWS, (FlowRecord,), "account_id", ("exporters", "ingest"), ("policy",),
        "Flow records, one per exporter, flow and interval.", FLOW_VERSION,
        max_message_octets=MAX_INPUT_OCTETS,
    ),
    Topic(
        COMMANDS, (AccountCommand, GrantLease), "account_id", ("rating",), ("policy",),
        "What a lane has to do to an account: activate, cancel, credit, debit, reserve, change profile; grants to it.",
        COMMAND_VERSION, retention_ms=30 * DAY_MS, max_message_octets=MAX_INPUT_OCTETS,
    ),
    Topic(
        CATALOGUE, (CatalogueEntry,), "entry_key", ("rating",), ("policy",),
        "Catalogue entries and the version marker that makes a set of them effective.", CATALOGUE_VERSION,
        compacted=True, single_partition=True, max_message_octets=MAX_INPUT_OCTETS,
    ),
    Topic(
        DECISIONS, (PolicyDecision,), "account_id", ("policy",), ("mediation", "analytics"),
        "One decision per flow record, with its reasons.", DECISION_VERSION,
    ),
    Topic(
        ENFORCEMENT, (PolicyUpdate,), "account_id", ("policy",), ("gateways",),
        "Changes of the PCC rules in force for an account.", UPDATE_VERSION,
    ),
    Topic(
        USAGE, (RatedUsage,), "account_id", ("policy",), ("rating",),
        "Rated usage and balance movements: the ledger's input.", USAGE_VERSION,
        retention_ms=30 * DAY_MS,
    ),
    Topic(
        LEASE_REQUESTS, (LeaseRequest,), "campaign_id", ("policy",), ("rating",),
        "Slices of campaigns' budgets that lanes ask for and give back; the partition is the lane's, not the key's.",
        LEASE_REQUEST_VERSION, retention_ms=30 * DAY_MS,
    ),
    Topic(
        NOTIFICATIONS, (Notification,), "account_id", ("policy",), ("notifier",), "What subscribers should be told.",
        NOTIFICATION_VERSION,
    ),
    Topic(
        STATE, (AccountState, SeenRecords, LeaseState), "entry_key", ("policy",), ("policy",),
        "Changelog of the lanes' state.", f"{STATE_VERSION}.5", compacted=True, content_type="application/msgpack",
    ),
    Topic(
        DEAD_LETTERS, (DeadLetter,), "key of the refused record", ("policy",), ("operations", "rating"),
        "Records that could not be processed, with the cause, once.", DEAD_LETTER_VERSION, retention_ms=30 * DAY_MS,
    ),
)  # fmt: skip

BY_NAME: dict[str, Topic] = {topic.name: topic for topic in ALL}
