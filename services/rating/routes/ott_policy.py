"""Our own API in CAMARA style: an account's buckets and usage for people, and the explanation of any charge."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from schemas.units import format_micros
from services.rating.database import Connection, reading
from services.rating.documents import Document, TmfModel, present, timestamp
from services.rating.explain import Explanation, explain
from services.rating.explain_facts import facts_of, row_called
from services.rating.repositories import accounts, readings
from services.rating.repositories.readings import BucketFilter, Row, UsageFilter
from services.rating.routes.context import Context, ContextDep
from services.rating.routes.problems import CamaraError, not_found
from services.rating.routes.queries import NO_STORE, check_names, time_query
from services.rating.tmf_balance import bucket_names, is_expired, quantity, value_text
from services.rating.tmf_usage import usage_sentence

BASE = "/ott-policy/v1"
DEFAULT_PER_PAGE = 20
MAX_PER_PAGE = 100
MAX_PAGE = 1_000_000
MAX_BUCKETS = 1_000
"""Most buckets of one account that are shown; a lane allows far fewer."""

router = APIRouter(
    prefix=BASE, tags=["OTT policy"], responses={status: {"model": CamaraError} for status in (400, 404, 503)}
)

AccountPath = Annotated[str, Path(description="The operator's pseudonymous account id.", max_length=128)]


class AccountBucket(TmfModel):
    """A bucket of an account."""

    bucket_id: str
    id: str = Field(description="Its id in TMF654.")
    name: str
    unit: str = Field(description="`octet`, or the ISO 4217 code.")
    remaining: int | str
    remaining_text: str
    granted: int | str | None = None
    status: Literal["active", "expired"]
    valid_until: str | None = None
    product_id: str | None = None
    offering_id: str | None = None


class AccountBuckets(TmfModel):
    """All buckets of an account."""

    account_id: str
    subscriber_ids: tuple[str, ...] = ()
    booked_until: str | None = Field(None, description="Everything rated and emitted until then is in it.")
    buckets: tuple[AccountBucket, ...]


class AccountUsageItem(TmfModel):
    """A row of the ledger, in short."""

    usage_id: str
    kind: str
    subscriber_id: str
    started_at: str
    ended_at: str
    text: str
    application: str | None = None
    category: str | None = None
    treatment: str | None = None
    octets: int
    amount: str
    currency: str | None = None
    explanation: str = Field(description="Where it is explained.")


class AccountUsage(TmfModel):
    """A page of an account's usage."""

    account_id: str
    booked_until: str | None = None
    page: int
    per_page: int
    total: int
    usage: tuple[AccountUsageItem, ...]


@router.get(
    "/accounts/{account_id}/buckets", operation_id="getAccountBuckets", responses={200: {"model": AccountBuckets}}
)
def account_buckets(request: Request, context: ContextDep, account_id: AccountPath) -> JSONResponse:
    """What an account has left."""
    check_names(request, ())
    now_ms = context.clock()
    with reading(context.engine) as connection:
        _require_account(connection, account_id)
        page = readings.find_buckets(connection, BucketFilter(account_id=account_id), offset=0, limit=MAX_BUCKETS)
        buckets = [_bucket(context, connection, row, now_ms) for row in page.rows]
        subscribers = readings.subscribers_of(connection, [account_id]).get(account_id, [])
        until_ms = readings.booked_until_ms(connection, account_id)
    body = {"accountId": account_id, "subscriberIds": subscribers, "bookedUntil": until_ms and timestamp(until_ms)}
    return JSONResponse({**present(body), "buckets": buckets}, headers=NO_STORE)


@router.get("/accounts/{account_id}/usage", operation_id="getAccountUsage", responses={200: {"model": AccountUsage}})
def account_usage(
    *,
    request: Request,
    context: ContextDep,
    account_id: AccountPath,
    kind: Annotated[str | None, Query(description="usage, grant, expiry, fee, credit ...")] = None,
    application: Annotated[str | None, Query(description="Application id of the catalogue.")] = None,
    category: Annotated[str | None, Query(description="OTT category.")] = None,
    treatment: Annotated[str | None, Query(description="charged, free, sponsored, blocked or not_charged.")] = None,
    since: Annotated[str | None, Query(alias="from", description="RFC 3339, inclusive.")] = None,
    until: Annotated[str | None, Query(description="RFC 3339, exclusive.")] = None,
    page: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 1,
    per_page: Annotated[int, Query(alias="perPage", ge=1, le=MAX_PER_PAGE)] = DEFAULT_PER_PAGE,
) -> JSONResponse:
    """What an account used, newest first."""
    check_names(request, ("kind", "application", "category", "treatment", "from", "until", "page", "perPage"))
    wanted = UsageFilter(
        account_id=account_id,
        kind=kind,
        application=application,
        category=category,
        treatment=treatment,
        from_ms=time_query("from", since),
        until_ms=time_query("until", until),
    )
    with reading(context.engine) as connection:
        _require_account(connection, account_id)
        found = readings.find_usage(connection, wanted, offset=(page - 1) * per_page, limit=per_page)
        until_ms = readings.booked_until_ms(connection, account_id)
    body = {
        "accountId": account_id,
        "bookedUntil": until_ms and timestamp(until_ms),
        "page": page,
        "perPage": per_page,
        "total": found.total,
    }
    usage = [_usage(row) for row in found.rows]
    return JSONResponse({**present(body), "usage": usage}, headers={"X-Total-Count": str(found.total), **NO_STORE})


@router.get("/usage/{usage_id}/explanation", operation_id="getExplanation", responses={200: {"model": Explanation}})
def explanation(request: Request, context: ContextDep, usage_id: Annotated[str, Path(max_length=128)]) -> JSONResponse:
    """Why a row of the ledger is what it is."""
    check_names(request, ())
    with reading(context.engine) as connection:
        row = row_called(connection, usage_id)
        if row is None:
            hint = f"{BASE}/accounts/<account id>/usage lists an account's; usage still gathered is not booked yet"
            raise not_found("usage", usage_id, hint)
        facts = facts_of(connection, context.published, row)
    return JSONResponse(explain(facts), headers=NO_STORE)


def _require_account(connection: Connection, account_id: str) -> None:
    if not accounts.is_known(connection, account_id):
        raise not_found("account", account_id, "give the id under which it was created; it is not a phone number")


def _bucket(context: Context, connection: Connection, row: Row, now_ms: int) -> Document:
    published = context.published.version(connection, row["catalogue_version"])
    name, _ = bucket_names(row, published.offerings.get(row["offering_id"]) if published else None)
    remaining = quantity(row["remaining"], row["unit"], row["currency"])
    granted = None if row["granted"] is None else quantity(row["granted"], row["unit"], row["currency"])["amount"]
    return present(
        {
            "bucketId": row["bucket_id"],
            "id": row["bucket_key"],
            "name": name,
            "unit": remaining["units"],
            "remaining": remaining["amount"],
            "remainingText": value_text(row["remaining"], row["unit"], row["currency"]),
            "granted": granted,
            "status": "expired" if is_expired(row, now_ms) else "active",
            "validUntil": None if row["valid_until_ms"] is None else timestamp(row["valid_until_ms"]),
            "productId": row["product_id"],
            "offeringId": row["offering_id"],
        }
    )


def _usage(row: Row) -> Document:
    return present(
        {
            "usageId": row["usage_id"],
            "kind": row["kind"],
            "subscriberId": row["subscriber_id"],
            "startedAt": timestamp(row["start_ms"]),
            "endedAt": timestamp(row["end_ms"]),
            "text": usage_sentence(row),
            "application": row["application"],
            "category": row["category"],
            "treatment": row["treatment"],
            "octets": row["octets"],
            "amount": format_micros(row["amount_micros"]),
            "currency": row["currency"],
            "explanation": f"{BASE}/usage/{row['usage_id']}/explanation",
        }
    )
