"""What the owner of budgets knows: per campaign what is granted and came back, per lane also what was used.

The rule that a budget is never passed stands in the schema, too: `granted - returned <= limit` is a constraint.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from services.engine.leases import Budget, LaneLease
from services.rating.models import campaign_budgets, campaign_leases
from services.rating.repositories.ledger import insert_into

LaneKey = tuple[str, int]
"""Campaign id and partition."""


class CampaignTotals(NamedTuple):
    """One campaign's budget as it stands: `used` and what lanes hold make up `granted - returned`."""

    campaign_id: str
    limit_octets: int
    granted_octets: int
    returned_octets: int
    used_octets: int


def lock_budgets(connection: Connection, campaign_ids: Sequence[str]) -> dict[str, Budget]:
    """The budgets of these campaigns, kept from other transactions until the end of this one; new ones are empty."""
    rows = [{"campaign_id": name, **Budget()._asdict()} for name in campaign_ids]
    if not rows:
        return {}
    connection.execute(insert_into(connection, campaign_budgets).on_conflict_do_nothing(), rows)
    query = select(campaign_budgets).where(campaign_budgets.c.campaign_id.in_(campaign_ids))
    # In one order, so that two transactions never wait for each other.
    locked = connection.execute(query.order_by(campaign_budgets.c.campaign_id).with_for_update())
    return {row.campaign_id: Budget(row.limit_octets, row.granted_octets, row.returned_octets) for row in locked}


def lane_leases(connection: Connection, campaign_ids: Sequence[str] | None = None) -> dict[LaneKey, LaneLease]:
    """What every lane of these campaigns, or of all, has told and was granted."""
    query = select(campaign_leases)
    if campaign_ids is not None:
        query = query.where(campaign_leases.c.campaign_id.in_(campaign_ids))
    return {
        (row.campaign_id, row.partition): LaneLease(
            row.sequence, row.granted_octets, row.returned_octets, row.used_octets, row.answered
        )
        for row in connection.execute(query)
    }


def store(connection: Connection, budgets: Mapping[str, Budget], lanes: Mapping[LaneKey, LaneLease]) -> None:
    """Keep what has changed."""
    _upsert(connection, campaign_budgets, [{"campaign_id": name, **item._asdict()} for name, item in budgets.items()])
    rows = [{"campaign_id": name, "partition": lane, **item._asdict()} for (name, lane), item in lanes.items()]
    _upsert(connection, campaign_leases, rows)


def campaign_totals(connection: Connection) -> list[CampaignTotals]:
    """All budgets, ordered by campaign."""
    budgets, lanes = campaign_budgets.c, campaign_leases.c
    used = select(lanes.campaign_id, func.sum(lanes.used_octets).label("used")).group_by(lanes.campaign_id).subquery()
    query = (
        select(campaign_budgets, func.coalesce(used.c.used, 0))
        .outerjoin(used, used.c.campaign_id == budgets.campaign_id)
        .order_by(budgets.campaign_id)
    )
    return [CampaignTotals(row[0], *map(int, row[1:])) for row in connection.execute(query)]


def _upsert(connection: Connection, table: object, rows: Iterable[dict[str, object]]) -> None:
    values = list(rows)
    if not values:
        return
    statement = insert_into(connection, table)
    keys = [column.name for column in table.primary_key]  # type: ignore[attr-defined]
    changed = {name: statement.excluded[name] for name in values[0] if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), values)
