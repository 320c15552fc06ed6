"""Errors become answers here and nowhere else: a status, a code, a sentence; never a trace or a statement."""

from __future__ import annotations

import http
import logging
from typing import TYPE_CHECKING, Any, Final

from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from stac_fastapi.types.errors import NotFoundError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from catalog.search.errors import InvalidSearch, SearchTooSlow
from catalog.session import DatabaseBusy, DatabaseError, StatementTooSlow

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

logger = logging.getLogger(__name__)

_RETRY_SECONDS: Final = "5"
_SAID_PER_PARAMETER: Final = 2
_LONGEST: Final = 500


def register_errors(application: FastAPI) -> None:
    """Make an application answer errors as JSON with ``code`` and ``description``, as the STAC API asks."""
    for kind, handler in {
        InvalidSearch: _invalid_search,
        SearchTooSlow: _too_slow,
        StatementTooSlow: _too_slow,
        NoConnectionFree: _no_connection,
        RequestValidationError: _invalid_request,
        NotFoundError: _not_found,
        DatabaseError: _database,
        HTTPException: _http,
        Exception: _unexpected,
    }.items():
        application.add_exception_handler(kind, handler)  # type: ignore[arg-type]  # narrower than Exception


def _answer(status: int, code: str, description: str, **headers: str) -> JSONResponse:
    return JSONResponse({"code": code, "description": description[:_LONGEST]}, status, headers)


def _invalid_search(_request: Request, error: InvalidSearch) -> JSONResponse:
    return _answer(400, "InvalidParameter", str(error))


def _too_slow(request: Request, error: Exception) -> JSONResponse:
    """Refuse what would hold the server; sent again as it is, it would take as long again."""
    logger.warning("%s %s: %s", request.method, request.url.path, error)
    said = "the search took too long and was ended; narrow it by collections, bbox, datetime or ids, or filter by less"
    return _answer(503, "TooSlow", said)


def _no_connection(request: Request, error: NoConnectionFree) -> JSONResponse:
    logger.error("%s %s: %s", request.method, request.url.path, error)
    return _answer(503, "Unavailable", "the server is busy; try again", **{"Retry-After": _RETRY_SECONDS})


def _invalid_request(_request: Request, error: RequestValidationError) -> JSONResponse:
    """Name each parameter with what is wrong with it; of many alternatives the first say enough."""
    problems: dict[str, list[str]] = {}
    for problem in error.errors():
        said = problems.setdefault(_parameter(problem["loc"]), [])
        if problem["msg"] not in said:
            said.append(problem["msg"])
    lines = (f"{name}: {', or '.join(said[:_SAID_PER_PARAMETER])}" for name, said in problems.items())
    return _answer(400, "InvalidParameter", "; ".join(lines))


def _parameter(place: tuple[Any, ...]) -> str:
    named = [part for part in place[1:] if isinstance(part, str)]
    return named[0] if named else str(place[0]) if place else "request"


def _not_found(_request: Request, error: NotFoundError) -> JSONResponse:
    return _answer(404, "NotFound", str(error))


def _database(request: Request, error: DatabaseError) -> JSONResponse:
    """Tell clients that the fault passes, and the log what it was: the address is none of theirs."""
    logger.error("%s %s: %s", request.method, request.url.path, error)
    busy = "is busy" if isinstance(error, DatabaseBusy) else "does not answer"
    if not error.transient:
        return _answer(500, "InternalError", "the catalog's database cannot be used; its operator has been told")
    return _answer(503, "Unavailable", f"the catalog's database {busy}; try again", **{"Retry-After": _RETRY_SECONDS})


def _http(_request: Request, error: HTTPException) -> JSONResponse:
    phrase = http.HTTPStatus(error.status_code).phrase.replace(" ", "")
    return _answer(error.status_code, phrase, str(error.detail), **dict(error.headers or {}))


def _unexpected(_request: Request, _error: Exception) -> JSONResponse:
    """Answer a defect; the server logs it with its trace."""
    return _answer(500, "InternalError", "the server failed on this request; its operator has been told")
