"""Query parameters: paging, `fields`, filters. What is not known is refused, never ignored."""

import datetime
import difflib
from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, Any, NamedTuple, get_args

from fastapi import Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from schemas.fields import MAX_EPOCH_MS
from services.rating.documents import Document, TmfModel
from services.rating.routes.problems import ApiError, invalid

DEFAULT_LIMIT = 100
MAX_LIMIT = 1_000
MAX_OFFSET = 1_000_000_000
"""Bounds of a page of a TM Forum list."""

MAX_FILTERS = 20

NO_STORE = {"Cache-Control": "no-store"}

FieldsQuery = Annotated[
    str | None,
    Query(description="Comma-separated attributes to give; `id` and `href` always are.", examples=["name,validFor"]),
]
OffsetQuery = Annotated[int, Query(ge=0, le=MAX_OFFSET, description="How many to skip.")]
LimitQuery = Annotated[
    int | None,
    Query(ge=0, le=MAX_LIMIT, description=f"How many to give at most; {DEFAULT_LIMIT} when absent."),
]

LIST_HEADERS: dict[str, Any] = {
    "X-Total-Count": {"description": "How many match in all.", "schema": {"type": "integer"}},
    "X-Result-Count": {"description": "How many are in the body.", "schema": {"type": "integer"}},
}


class Paging(NamedTuple):
    """Which part of a list is wanted, and which attributes of it."""

    offset: int
    limit: int | None
    fields: str | None

    @property
    def size(self) -> int:
        """How many to give at most."""
        return DEFAULT_LIMIT if self.limit is None else self.limit


def check_names(request: Request, known: Collection[str]) -> None:
    """Refuse parameters that are unknown, given twice, or hold a NUL. Raises ApiError 400."""
    seen: set[str] = set()
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise ApiError(400, f"query parameter {name[:100]!r} is not known here; {_advice(name, known)}")
        if name in seen:
            raise invalid(f"query parameter {name!r}", value, "it is given twice; give it once")
        if "\x00" in value:
            raise invalid(f"query parameter {name!r}", value, "it holds a NUL character; mend it")
        seen.add(name)


def tmf_list(documents: Sequence[Document], total: int, paging: Paging, model: type[TmfModel]) -> JSONResponse:
    """A page of a TM Forum list: 206 when a limit was given and there is more, else 200."""
    names = _field_names(paging.fields, model)
    body = [_only(document, names) for document in documents]
    more = paging.limit is not None and paging.offset + len(body) < total
    headers = {"X-Total-Count": str(total), "X-Result-Count": str(len(body)), **NO_STORE}
    return JSONResponse(body, 206 if more else 200, headers=headers)


def tmf_one(document: Document, fields: str | None, model: type[TmfModel]) -> JSONResponse:
    """A single TM Forum document."""
    return JSONResponse(_only(document, _field_names(fields, model)), headers=NO_STORE)


def filters(request: Request, model: type[TmfModel], own: Collection[str]) -> list[tuple[str, str]]:
    """The filters of a request on documents of `model`: any path that ends at a scalar. Raises ApiError 400."""
    paths = set(scalar_paths(model))
    check_names(request, paths | set(own))
    found = [(name, value) for name, value in request.query_params.multi_items() if name in paths]
    if len(found) > MAX_FILTERS:
        raise ApiError(400, f"{len(found)} filters are given; give at most {MAX_FILTERS}")
    return found


def matches(document: object, path: str, wanted: str) -> bool:
    """Whether a value at `path` (through lists, too) equals `wanted`, or one of its comma-separated parts."""
    texts = set(_texts(document, path.split(".")))
    return wanted in texts or any(part in texts for part in wanted.split(","))


def scalar_paths(model: type[BaseModel]) -> Iterator[str]:
    """Every path of names in documents of `model` that ends at a scalar."""
    for name, field in model.model_fields.items():
        alias = field.alias or name
        inner = _models_in(field.annotation)
        if not inner:
            yield alias
        for part in inner:
            yield from (f"{alias}.{rest}" for rest in scalar_paths(part))


def time_query(name: str, text: str | None) -> int | None:
    """Epoch milliseconds of an RFC 3339 time with an offset. Raises ApiError 400."""
    if text is None:
        return None
    rule = "write an RFC 3339 time with its offset, e.g. 2026-05-01T00:00:00Z"
    try:
        at = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise invalid(f"query parameter {name!r}", text, rule) from None
    if at.tzinfo is None:
        raise invalid(f"query parameter {name!r}", text, rule)
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return max(0, min((at - epoch) // datetime.timedelta(milliseconds=1), MAX_EPOCH_MS))


def person_query(name: str, text: str | None) -> str | None:
    """A pseudonymous id. Raises ApiError 400 for a phone number: those belong neither in URLs nor in logs."""
    if text is not None and (text.startswith("+") or text.lower().startswith(("tel:", "msisdn"))):
        raise ApiError(400, f"query parameter {name!r} looks like a phone number; give the pseudonymous id instead")
    return text


def _advice(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(sorted(known)[:40])}"


def _field_names(fields: str | None, model: type[TmfModel]) -> set[str] | None:
    if fields is None:
        return None
    known = {field.alias or name for name, field in model.model_fields.items()}
    wanted = {name.strip() for name in fields.split(",")} - {"", "none"}
    for name in sorted(wanted - known):
        raise invalid("query parameter 'fields'", name, f"there is no such attribute; {_advice(name, known)}")
    return wanted | {"id", "href"}


def _only(document: Document, names: set[str] | None) -> Document:
    return document if names is None else {name: value for name, value in document.items() if name in names}


def _texts(value: object, path: Sequence[str]) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _texts(item, path)
    elif not path:
        if not isinstance(value, dict) and value is not None:
            yield str(value).lower() if isinstance(value, bool) else str(value)
    elif isinstance(value, dict) and path[0] in value:
        yield from _texts(value[path[0]], path[1:])


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
