"""Errors of the API framework, told as ours are: with the parameter's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import HTTPException, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import JSONResponse
from stac_fastapi.types.rfc3339 import str_to_interval
from stac_fastapi.types.search import str2bbox

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.responses import Response

_PARSERS: Final[Mapping[str, Callable[[str], object]]] = {"bbox": str2bbox, "datetime": str_to_interval}
"""The framework reads these before our client sees them, and its messages do not always say which was wrong."""


async def name_the_parameter(request: Request, error: Exception) -> Response:
    """Answer an HTTP error; a 400 for a parameter that the framework refused names the parameter."""
    if not isinstance(error, HTTPException):
        raise error
    refused = _refused_parameter(request) if error.status_code == 400 else None
    if refused is None:
        return await http_exception_handler(request, error)
    return JSONResponse({"code": "InvalidSearch", "description": f"{refused}: {error.detail}"}, status_code=400)


def _refused_parameter(request: Request) -> str | None:
    for name, parse in _PARSERS.items():
        if text := request.query_params.get(name):
            try:
                parse(text)
            except HTTPException:
                return name
    return None
