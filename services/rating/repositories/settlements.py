"""What campaigns paid for in a period, summed from the ledger, and the campaigns of every catalogue version."""

import json
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, cast, func, select

from services.rating.models import catalogue_objects, catalogue_versions, sponsorships, usage


class Share(NamedTuple):
    """What one campaign paid for under one catalogue version, or, of refunds, got back."""

    campaign_id: str
    catalogue_version: str
    sponsor_id: str | None
    """The sponsor as the rows name it."""
    is_refund: bool
    octets: int
    connections: int


class StoredCampaign(NamedTuple):
    """A campaign as one catalogue version had it."""

    version: str
    currency: str
    body: dict[str, Any]


def shares(connection: Connection, from_ms: int, until_ms: int) -> list[Share]:
    """Σ sponsorships of rows whose usage ended in `from_ms <= end < until_ms`, ordered."""
    rows, paid = usage.c, sponsorships.c
    sums = (func.exact_sum(paid.octets), cast(func.sum(paid.connections), BigInteger))
    keys = (paid.campaign_id, rows.catalogue_version, rows.sponsor_id, rows.kind)
    query = (
        select(*keys, *sums)
        .join(usage, rows.usage_id == paid.usage_id)
        .where(rows.end_ms >= from_ms, rows.end_ms < until_ms)
        .group_by(*keys)
        .order_by(*keys)
    )
    return [
        Share(campaign_id, version, sponsor_id, kind == "refund", octets, connections)
        for campaign_id, version, sponsor_id, kind, octets, connections in connection.execute(query)
    ]


def campaigns(connection: Connection) -> list[StoredCampaign]:
    """The campaigns of every version ever published, oldest first."""
    versions, objects = catalogue_versions.c, catalogue_objects.c
    query = (
        select(versions.version, versions.currency, objects.body)
        .join(catalogue_objects, objects.version == versions.version)
        .where(objects.kind == "campaign")
        .order_by(versions.sequence, objects.object_id)
    )
    return [StoredCampaign(row.version, row.currency, json.loads(row.body)) for row in connection.execute(query)]
