"""TMF620 Product Catalog Management v4: the version of the catalogue that is in force."""

from collections.abc import Callable, Iterator

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from services.rating.database import reading
from services.rating.documents import Document, TmfError, TmfModel
from services.rating.published import Published
from services.rating.routes.context import Context, ContextDep
from services.rating.routes.problems import not_found
from services.rating.routes.queries import (
    LIST_HEADERS,
    FieldsQuery,
    LimitQuery,
    OffsetQuery,
    Paging,
    check_names,
    filters,
    matches,
    tmf_list,
    tmf_one,
)
from services.rating.tmf_catalogue import BASE, OfferingDocument, PriceDocument, offering_document, price_documents

router = APIRouter(
    prefix=BASE, tags=["TMF620 product catalogue"], responses={400: {"model": TmfError}, 503: {"model": TmfError}}
)

_OWN = ("fields", "offset", "limit")
_FILTERS = "Filter by any attribute that ends in a scalar, e.g. `lifecycleStatus=Active` or `category.id=add_on,pass`."


@router.get(
    "/productOffering",
    operation_id="listProductOffering",
    description=_FILTERS,
    responses={
        200: {"model": list[OfferingDocument], "headers": LIST_HEADERS},
        206: {"model": list[OfferingDocument], "headers": LIST_HEADERS},
    },
)
def list_offerings(
    request: Request, context: ContextDep, fields: FieldsQuery = None, offset: OffsetQuery = 0, limit: LimitQuery = None
) -> JSONResponse:
    """List product offerings."""
    return _list(request, context, Paging(offset, limit, fields), OfferingDocument, _offerings)


@router.get(
    "/productOffering/{offering_id}",
    operation_id="retrieveProductOffering",
    responses={200: {"model": OfferingDocument}, 404: {"model": TmfError}},
)
def get_offering(request: Request, context: ContextDep, offering_id: str, fields: FieldsQuery = None) -> JSONResponse:
    """One product offering."""
    return _get(request, context, offering_id, fields=fields, model=OfferingDocument, build=_offerings)


@router.get(
    "/productOfferingPrice",
    operation_id="listProductOfferingPrice",
    description=_FILTERS,
    responses={
        200: {"model": list[PriceDocument], "headers": LIST_HEADERS},
        206: {"model": list[PriceDocument], "headers": LIST_HEADERS},
    },
)
def list_prices(
    request: Request, context: ContextDep, fields: FieldsQuery = None, offset: OffsetQuery = 0, limit: LimitQuery = None
) -> JSONResponse:
    """List product offering prices."""
    return _list(request, context, Paging(offset, limit, fields), PriceDocument, _prices)


@router.get(
    "/productOfferingPrice/{price_id}",
    operation_id="retrieveProductOfferingPrice",
    responses={200: {"model": PriceDocument}, 404: {"model": TmfError}},
)
def get_price(request: Request, context: ContextDep, price_id: str, fields: FieldsQuery = None) -> JSONResponse:
    """One product offering price; its id is `<offering id>:<price id>`."""
    return _get(request, context, price_id, fields=fields, model=PriceDocument, build=_prices)


Build = Callable[[Published], Iterator[Document]]


def _list(request: Request, context: Context, paging: Paging, model: type[TmfModel], build: Build) -> JSONResponse:
    wanted = filters(request, model, _OWN)
    found = [
        document
        for document in _documents(context, build)
        if all(matches(document, path, value) for path, value in wanted)
    ]
    return tmf_list(found[paging.offset : paging.offset + paging.size], len(found), paging, model)


def _get(
    request: Request, context: Context, id_: str, *, fields: str | None, model: type[TmfModel], build: Build
) -> JSONResponse:
    check_names(request, ("fields",))
    for document in _documents(context, build):
        if document["id"] == id_:
            return tmf_one(document, fields, model)
    what = "product offering" if model is OfferingDocument else "product offering price"
    raise not_found(what, id_, "the list without an id shows those of the catalogue in force")


def _documents(context: Context, build: Build) -> list[Document]:
    with reading(context.engine) as connection:
        published = context.published.current(connection)
    return [] if published is None else list(build(published))


def _offerings(published: Published) -> Iterator[Document]:
    for offering in published.offerings.values():
        yield offering_document(offering, published_at_ms=published.stored.published_at_ms)


def _prices(published: Published) -> Iterator[Document]:
    stored = published.stored
    for offering in published.offerings.values():
        yield from price_documents(offering, currency=stored.currency, published_at_ms=stored.published_at_ms)
