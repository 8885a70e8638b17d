"""Notification: something a person should be told. Topic `ott.notifications.v1`, key = account id."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.fields import EpochMs, Id, Version

NOTIFICATION_VERSION = "1.2"

NotificationKind = Literal[
    "threshold", "exhausted", "throttled", "blocked", "cap_reached", "activated", "cancelled", "expired",
    "trial_ending", "receipt", "refused", "trial_started", "cap_nearing",
    "limit_nearing", "limit_reached", "renewal_nearing", "renewed",
]  # fmt: skip


class Notification(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event to tell the subscriber; wording and channel are the notifier's business."""

    version: Annotated[Version, Meta(description="Contract version; this is 1.2.")]
    notification_id: Annotated[Id, Meta(description="Unique: `<account id>:<notification number of the account>`.")]
    account_id: Annotated[Id, Meta(description="The account concerned.")]
    subscriber_id: Annotated[Id, Meta(description="Whom to tell.")]
    kind: Annotated[NotificationKind, Meta(description="What happened.")]
    at_ms: Annotated[EpochMs, Meta(description="When it happened, event time.")]
    product_id: Annotated[str | None, Meta(description="Product concerned, or null.")] = None
    offering_id: Annotated[str | None, Meta(description="Offering concerned, or null.")] = None
    bucket_id: Annotated[str | None, Meta(description="Bucket concerned, or null.")] = None
    percent: Annotated[
        Annotated[int, Meta(ge=0, le=100)] | None, Meta(description="Threshold that was passed, per cent used.")
    ] = None
    price_id: Annotated[str | None, Meta(description="Usage price concerned, or null.")] = None
    asks_for: Annotated[
        str | None,
        Meta(description="Type of the command for an answer: `raise_cap`, `set_renewal`; null = none."),
    ] = None
    detail: Annotated[str | None, Meta(description="One sentence with value, limit and next step.")] = None
