"""Errors as the caller's dialect has them: TM Forum under /tmf-api, CAMARA everywhere else. Never a stack trace."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from services.rating.database import DatabaseDown
from services.runtime.telemetry import events

TMF_PREFIX = "/tmf-api/"

RETRY_AFTER_S = 5
"""What a 503 advises."""

_CODES = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    406: "NOT_ACCEPTABLE",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}

_events = events("rating.http")


class CamaraError(BaseModel):
    """Error of our own API, in the form of CAMARA's ErrorInfo."""

    status: int = Field(description="HTTP status.")
    code: str = Field(description="One word for programs, e.g. NOT_FOUND.")
    message: str = Field(description="Field, value, rule and next step.")


class ApiError(Exception):
    """An answer that is an error; the message names field, value, rule and next step."""

    def __init__(self, status: int, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or code_of(status)
        self.message = message


def invalid(field: str, value: str, rule: str, *, code: str | None = None) -> ApiError:
    """400: a parameter breaks a rule."""
    return ApiError(400, f"{field} is {value[:100]!r}; {rule}", code=code)


def not_found(what: str, id_: str, hint: str) -> ApiError:
    """404: nothing has that id."""
    return ApiError(404, f"there is no {what} {id_[:128]!r}; {hint}")


def code_of(status: int) -> str:
    """The word for an HTTP status."""
    return _CODES.get(status) or HTTPStatus(status).name


def error_body(path: str, status: int, code: str, message: str) -> dict[str, object]:
    """The body of an error answer on `path`."""
    if path.startswith(TMF_PREFIX):
        return {"code": code, "reason": HTTPStatus(status).phrase, "message": message, "status": str(status)}
    return {"status": status, "code": code, "message": message}


def add_handlers(app: FastAPI) -> None:
    """Turn every exception that a route may raise into an answer."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(DatabaseDown, _database_down)


def answer(request: Request, status: int, message: str, *, code: str | None = None) -> JSONResponse:
    """An error answer in the dialect of the request's path."""
    return JSONResponse(
        error_body(request.url.path, status, code or code_of(status), message),
        status,
        headers={"Cache-Control": "no-store"},
    )


def _api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)  # noqa: S101 - as registered
    return answer(request, error.status, error.message, code=error.code)


def _http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - as registered
    if error.status_code == 404:
        message = f"nothing is served at {request.url.path[:200]!r}; /docs lists what is"
    elif error.status_code == 405:
        message = f"{request.method} is not served at {request.url.path[:200]!r}; /docs lists what is"
    else:
        message = str(error.detail)
    response = answer(request, error.status_code, message)
    response.headers.update(error.headers or {})
    return response


def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as registered
    problems = [_problem(item) for item in error.errors()[:5]]
    return answer(request, 400, "; ".join(problems) + "; /docs shows each rule")


def _problem(item: Mapping[str, Any]) -> str:
    where, *path = item["loc"]
    return f"{where} parameter {'.'.join(map(str, path))!r} is {str(item.get('input'))[:100]!r}: {item['msg']}"


def _database_down(request: Request, error: Exception) -> JSONResponse:
    _events.warning("database_down", detail=str(error))
    response = answer(request, 503, f"the database does not answer at present; try again in {RETRY_AFTER_S} s")
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response
