"""The address that clients know this server by: every link of every answer begins with it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stac_fastapi.types.requests import get_base_url

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send


class PublicAddress:
    """Middleware: requests look as if they had come to the public address, whatever a proxy in between did."""

    def __init__(self, app: ASGIApp, url: str) -> None:
        parts = urlsplit(url)
        self._app = app
        self._scheme, self._host, self._root = parts.scheme, parts.netloc.encode(), parts.path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with scheme, host and path prefix of the public address."""
        if scope["type"] == "http":
            headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
            headers.append((b"host", self._host))
            scope = {**scope, "scheme": self._scheme, "root_path": self._root, "headers": headers}
        await self._app(scope, receive, send)


def own_address(request: Request) -> str:
    """Return the address of the resource that a request asks for, without its parameters."""
    path = request.url.path.removeprefix(request.scope.get("root_path", ""))
    return get_base_url(request) + path.lstrip("/")
