"""Limits of every request, before anything of it becomes objects: size, depth, and how many a client may send."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from catalog.api.parameters import MAX_DEPTH, is_deep

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_STRINGS: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_MAX_CLIENTS: Final = 10_000
_MINUTE: Final = 60.0


class BodyLimits:
    """Middleware: answers 413 to a body that is too large and 400 to one that is nested too deeply."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body as far as the limit, look at it, and pass it on."""
        if scope["type"] != "http" or scope["method"] not in {"POST", "PUT", "PATCH"}:
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > self._max_bytes:
            await self._too_large()(scope, receive, send)
            return
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                await self._too_large()(scope, receive, send)
                return
            if not message.get("more_body", False):
                break
        if is_deep(_STRINGS.sub('""', body.decode("utf-8", "replace"))):
            said = f"body: is nested deeper than {MAX_DEPTH}"
            await _refusal(400, "InvalidParameter", said)(scope, receive, send)
            return
        await self._app(scope, _replayed(bytes(body), receive), send)

    def _too_large(self) -> JSONResponse:
        return _refusal(413, "ContentTooLarge", f"body: is larger than {self._max_bytes} bytes")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Give a body that has been read once more; what comes after it comes from the client."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def give() -> Message:
        return waiting.pop() if waiting else await receive()

    return give


class RateLimit:
    """Middleware: answers 429 to a client that asks more often than it may, by a bucket that fills steadily.

    A client may send a whole minute's requests at once. Only so many clients are remembered; the one that has been
    quiet longest is forgotten first, and its bucket would have been full again, or nearly.
    """

    def __init__(self, app: ASGIApp, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._per_minute = per_minute
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on if its client may send it."""
        if scope["type"] == "http" and scope["path"] != "/health":
            wait = self.wait((scope.get("client") or ("", 0))[0])
            if wait > 0:
                answer = _refusal(
                    429, "TooManyRequests", f"at most {self._per_minute} requests a minute; wait a little"
                )
                answer.headers["Retry-After"] = str(int(wait) + 1)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def wait(self, client: str) -> float:
        """Take one request from a client's bucket; return the seconds until it may send it, 0: now."""
        now, rate = self._clock(), self._per_minute / _MINUTE
        with self._lock:
            left, before = self._left.pop(client, (float(self._per_minute), now))
            left = min(float(self._per_minute), left + (now - before) * rate)
            self._left[client] = (left - 1 if left >= 1 else left, now)
            if len(self._left) > _MAX_CLIENTS:
                self._left.popitem(last=False)
        return 0.0 if left >= 1 else (1 - left) / rate


class SecurityHeaders:
    """Middleware: tells browsers to do nothing with the answers but read them."""

    _HEADERS: Final = (
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"cross-origin"),
    )
    _NOTHING: Final = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
    _STRICT: Final = (b"strict-transport-security", b"max-age=31536000")

    def __init__(self, app: ASGIApp, pages: frozenset[str] = frozenset()) -> None:
        """Take the paths of pages for people, which load scripts."""
        self._app = app
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to an answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        added = [*self._HEADERS]
        if scope["path"] not in self._pages:
            added.append(self._NOTHING)
        if scope.get("scheme") == "https":
            added.append(self._STRICT)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._app(scope, receive, with_headers)


def _refusal(status: int, code: str, description: str) -> JSONResponse:
    return JSONResponse({"code": code, "description": description}, status)
