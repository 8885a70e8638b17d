"""TMF635 Usage Management v4: the rows of the ledger."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from services.rating.database import reading
from services.rating.documents import TmfError
from services.rating.repositories import readings
from services.rating.repositories.readings import UsageFilter
from services.rating.routes.context import ContextDep
from services.rating.routes.problems import not_found
from services.rating.routes.queries import (
    LIST_HEADERS,
    FieldsQuery,
    LimitQuery,
    OffsetQuery,
    Paging,
    check_names,
    person_query,
    time_query,
    tmf_list,
    tmf_one,
)
from services.rating.tmf_usage import BASE, UsageDocument, usage_document

router = APIRouter(prefix=BASE, tags=["TMF635 usage"], responses={400: {"model": TmfError}, 503: {"model": TmfError}})

_KNOWN = (
    "id", "usageType", "status", "usageDate.gte", "usageDate.lt", "relatedParty.id",
    "ratedProductUsage.productRef.id", "fields", "offset", "limit",
)  # fmt: skip


@router.get(
    "/usage",
    operation_id="listUsage",
    responses={
        200: {"model": list[UsageDocument], "headers": LIST_HEADERS},
        206: {"model": list[UsageDocument], "headers": LIST_HEADERS},
    },
)
def list_usage(
    *,
    request: Request,
    context: ContextDep,
    id_: Annotated[str | None, Query(alias="id")] = None,
    usage_type: Annotated[str | None, Query(alias="usageType", description="usage, grant, expiry, fee ...")] = None,
    status: Annotated[str | None, Query(description="All usage in the ledger is `rated`.")] = None,
    since: Annotated[str | None, Query(alias="usageDate.gte", description="RFC 3339, inclusive.")] = None,
    until: Annotated[str | None, Query(alias="usageDate.lt", description="RFC 3339, exclusive.")] = None,
    person_id: Annotated[
        str | None, Query(alias="relatedParty.id", description="Usage of this subscriber, or of this account.")
    ] = None,
    product_id: Annotated[str | None, Query(alias="ratedProductUsage.productRef.id")] = None,
    fields: FieldsQuery = None,
    offset: OffsetQuery = 0,
    limit: LimitQuery = None,
) -> JSONResponse:
    """List rated usage and balance movements, newest first."""
    check_names(request, _KNOWN)
    wanted = UsageFilter(
        usage_id=id_,
        person_id=person_query("relatedParty.id", person_id),
        kind=usage_type,
        product_id=product_id,
        from_ms=time_query("usageDate.gte", since),
        until_ms=time_query("usageDate.lt", until),
    )
    paging = Paging(offset, limit, fields)
    if status not in {None, "rated"}:
        return tmf_list([], 0, paging, UsageDocument)
    with reading(context.engine) as connection:
        page = readings.find_usage(connection, wanted, offset=offset, limit=paging.size)
    return tmf_list([usage_document(row) for row in page.rows], page.total, paging, UsageDocument)


@router.get(
    "/usage/{usage_id}",
    operation_id="retrieveUsage",
    responses={200: {"model": UsageDocument}, 404: {"model": TmfError}},
)
def get_usage(request: Request, context: ContextDep, usage_id: str, fields: FieldsQuery = None) -> JSONResponse:
    """One row of the ledger."""
    check_names(request, ("fields",))
    with reading(context.engine) as connection:
        page = readings.find_usage(connection, UsageFilter(usage_id=usage_id), offset=0, limit=1)
    if not page.rows:
        raise not_found("usage", usage_id, f"{BASE}/usage?relatedParty.id=... lists those of an account")
    return tmf_one(usage_document(page.rows[0]), fields, UsageDocument)
