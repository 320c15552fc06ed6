"""The push door: whoever has the token may say that a source has something new; the source itself is then asked.

Off unless `api.push_token` is set. A notification is two names, of a source in the settings and of an item; nothing
else in it is read, so that a forged one can at most cause a look that the watch would have taken anyway.
"""

# No postponed annotations here: FastAPI reads those of the routes.

import hmac
from functools import partial
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import FastAPI, Header, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from catalog.api.limits import RateLimit
from catalog.notices import NoticeOutcome, TakesNotices

if TYPE_CHECKING:
    from pydantic import SecretStr

    from catalog.session import Database
    from infra.settings import Settings

PATH: Final = "/notifications"

_MAX_BYTES: Final = 4096
_AT_ONCE: Final = 4
"""Look-ups at a time: a source that hangs must not take the threads that answer searches."""

_RETRY: Final = {"Retry-After": "60"}
_STATUS: Final = {
    NoticeOutcome.RECORDED: 200,
    NoticeOutcome.ELSEWHERE: 200,
    NoticeOutcome.UNKNOWN_SOURCE: 404,
    NoticeOutcome.NO_SUCH_ITEM: 404,
    NoticeOutcome.UNREADABLE: 422,
    NoticeOutcome.UNAVAILABLE: 503,
}


class Notification(BaseModel):
    """What is believed of a notification: two names."""

    model_config = ConfigDict(extra="ignore")

    source: str = Field(min_length=1, max_length=63, description="Name of the source in the settings.")
    item: str = Field(min_length=1, max_length=256, pattern=r"^[!-~]+$", description="The source's id of the item.")


def register_push(application: FastAPI, _database: "Database", settings: "Settings", *, take: TakesNotices) -> None:
    """Add the route, where a token is configured.

    Args:
        application: The catalog's application.
        settings: Token and rate.
        take: Looks a notified item up and records it.
    """
    token = settings.api.push_token
    if token is None:
        return
    rate = RateLimit(application, settings.api.push_per_minute)
    places = BoundedSemaphore(_AT_ONCE)

    async def notify(request: Request, authorization: Annotated[str, Header()] = "") -> Response:
        """Take a notification ``{"source": ..., "item": ...}``; tell what the ledger made of the source's own item."""
        wait = rate.wait(request.client.host if request.client else "")
        if wait > 0:  # before the token is looked at: guessing is limited, too
            raise HTTPException(429, "too many notifications", {"Retry-After": str(int(wait) + 1)})
        _check_token(authorization, token)
        told = _read(await _body(request))
        if not places.acquire(blocking=False):
            raise HTTPException(503, "other notifications are being looked up; send it again", _RETRY)
        try:
            notice = await run_in_threadpool(partial(take, told.source, told.item))
        finally:
            places.release()
        answer = {
            "outcome": str(notice.outcome),
            "description": notice.said,
            "deliveries": [{"scene": scene, "outcome": outcome} for scene, outcome in notice.deliveries],
        }
        headers = _RETRY if notice.outcome is NoticeOutcome.UNAVAILABLE else None
        return JSONResponse(answer, _STATUS[notice.outcome], headers)

    application.add_api_route(PATH, notify, methods=["POST"], name="Notify", tags=["notifications"])


def _check_token(authorization: str, token: "SecretStr") -> None:
    kind, _, given = authorization.partition(" ")
    # Of equal length or not, the comparison takes the same time for every wrong token.
    right = hmac.compare_digest(given.strip().encode(), token.get_secret_value().encode())
    if kind.lower() != "bearer" or not right:
        raise HTTPException(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})


async def _body(request: Request) -> bytes:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > _MAX_BYTES:
            raise HTTPException(413, f"a notification has at most {_MAX_BYTES} bytes")
    return bytes(content)


def _read(content: bytes) -> Notification:
    try:
        return Notification.model_validate_json(content)
    except ValidationError as error:
        names = sorted({".".join(map(str, problem["loc"])) or "body" for problem in error.errors(include_input=False)})
        raise HTTPException(400, f"not a notification: {', '.join(names)}") from None
