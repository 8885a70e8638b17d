"""TMF654 Prepay Balance Management v4: the buckets of the ledger."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from services.rating.database import Connection, reading
from services.rating.documents import Document, TmfError
from services.rating.repositories import readings
from services.rating.repositories.readings import BucketFilter, Row
from services.rating.routes.context import Context, ContextDep
from services.rating.routes.problems import not_found
from services.rating.routes.queries import (
    LIST_HEADERS,
    FieldsQuery,
    LimitQuery,
    OffsetQuery,
    Paging,
    check_names,
    person_query,
    tmf_list,
    tmf_one,
)
from services.rating.tmf_balance import BASE, USAGE_TYPES, BucketDocument, bucket_document

router = APIRouter(
    prefix=BASE, tags=["TMF654 balances"], responses={400: {"model": TmfError}, 503: {"model": TmfError}}
)

_KNOWN = (
    "id", "partyAccount.id", "relatedParty.id", "product.id", "usageType", "status", "fields", "offset", "limit",
)  # fmt: skip
_UNITS = {usage_type: unit for unit, usage_type in USAGE_TYPES.items()}


@router.get(
    "/bucket",
    operation_id="listBucket",
    responses={
        200: {"model": list[BucketDocument], "headers": LIST_HEADERS},
        206: {"model": list[BucketDocument], "headers": LIST_HEADERS},
    },
)
def list_buckets(
    *,
    request: Request,
    context: ContextDep,
    id_: Annotated[str | None, Query(alias="id")] = None,
    account_id: Annotated[str | None, Query(alias="partyAccount.id", description="Buckets of this account.")] = None,
    person_id: Annotated[
        str | None, Query(alias="relatedParty.id", description="Buckets of this account or of this subscriber's.")
    ] = None,
    product_id: Annotated[str | None, Query(alias="product.id", description="Buckets of this product.")] = None,
    usage_type: Annotated[
        Literal["monetary", "voice", "data", "sms", "other"] | None,
        Query(alias="usageType", description="What accounts have here is data, time (voice) and money."),
    ] = None,
    status: Literal["active", "suspended", "expired"] | None = None,
    fields: FieldsQuery = None,
    offset: OffsetQuery = 0,
    limit: LimitQuery = None,
) -> JSONResponse:
    """List buckets: what accounts have left, with the time up to which it is booked."""
    check_names(request, _KNOWN)
    now_ms = context.clock()
    wanted = BucketFilter(
        bucket_key=id_,
        account_id=person_query("partyAccount.id", account_id),
        person_id=person_query("relatedParty.id", person_id),
        product_id=product_id,
        unit=_UNITS.get(usage_type, "none") if usage_type else None,
        expired_before_ms=now_ms if status == "expired" else None,
        alive_at_ms=now_ms if status == "active" else None,
    )
    paging = Paging(offset, limit, fields)
    if status == "suspended":
        return tmf_list([], 0, paging, BucketDocument)
    with reading(context.engine) as connection:
        page = readings.find_buckets(connection, wanted, offset=offset, limit=paging.size)
        documents = bucket_documents(context, connection, page.rows, now_ms=now_ms)
    return tmf_list(documents, page.total, paging, BucketDocument)


@router.get(
    "/bucket/{bucket_id}",
    operation_id="retrieveBucket",
    responses={200: {"model": BucketDocument}, 404: {"model": TmfError}},
)
def get_bucket(request: Request, context: ContextDep, bucket_id: str, fields: FieldsQuery = None) -> JSONResponse:
    """One bucket."""
    check_names(request, ("fields",))
    with reading(context.engine) as connection:
        page = readings.find_buckets(connection, BucketFilter(bucket_key=bucket_id), offset=0, limit=1)
        documents = bucket_documents(context, connection, page.rows, now_ms=context.clock())
    if not documents:
        raise not_found("bucket", bucket_id, f"{BASE}/bucket?partyAccount.id=... lists those of an account")
    return tmf_one(documents[0], fields, BucketDocument)


def bucket_documents(context: Context, connection: Connection, rows: list[Row], *, now_ms: int) -> list[Document]:
    """The rows as TMF654 buckets, with names from the catalogue versions that they name."""
    subscribers = readings.subscribers_of(connection, sorted({row["account_id"] for row in rows}))
    booked = {
        account_id: readings.booked_until_ms(connection, account_id)
        for account_id in {row["account_id"] for row in rows}
    }
    documents = []
    for row in rows:
        published = context.published.version(connection, row["catalogue_version"])
        documents.append(
            bucket_document(
                row,
                subscribers=subscribers.get(row["account_id"], []),
                offering=published.offerings.get(row["offering_id"]) if published else None,
                booked_until_ms=booked[row["account_id"]],
                now_ms=now_ms,
            )
        )
    return documents
