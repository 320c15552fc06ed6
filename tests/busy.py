"""A door in front of an S3 server that is busy: it answers some requests with SlowDown, as S3 does under load.

It is a process of its own: GDAL reads with the interpreter locked, and would wait for a door in this one for ever.
"""

from __future__ import annotations

import http.client
import multiprocessing
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    Refuses = Callable[[str, str, int], bool]

SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)
READY_SECONDS = 30


class BusyDoor:
    """Hands requests on to a server as they are, signature and all, or refuses them."""

    def __init__(self, endpoint: str, refuses: Refuses) -> None:
        """Open the door with the context.

        Args:
            endpoint: Of the server behind it.
            refuses: Says of a request's kind (``GET``, ``PUT``, ``PUT part`` …), path and number among its kind (1 is
                the first) whether it is refused; a module's function, for it goes to another process.
        """
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_keep, args=(endpoint, refuses, theirs), daemon=True)
        self.endpoint = ""
        """Where clients find the door."""

    def __enter__(self) -> Self:
        self._process.start()
        if not self._ours.poll(READY_SECONDS):
            raise RuntimeError(f"the door did not open within {READY_SECONDS} s")
        self.endpoint = f"http://127.0.0.1:{self._ours.recv()}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()
        self._ours.close()

    def counts(self) -> tuple[Counter[str], Counter[str]]:
        """Return how many requests of each kind were asked, and how many of them were refused."""
        self._ours.send("counts")
        return self._ours.recv()


def _keep(endpoint: str, refuses: Refuses, parent: Connection) -> None:
    """Serve until the parent ends."""
    desk = _Desk(urlsplit(endpoint).netloc, refuses)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(desk))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    parent.send(server.server_address[1])
    while parent.recv() == "counts":
        with desk.lock:
            parent.send((desk.asked, desk.refused))


class _Desk:
    def __init__(self, behind: str, refuses: Refuses) -> None:
        self.lock = threading.Lock()
        self.asked: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._behind, self._refuses = behind, refuses

    def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        kind = f"{method} part" if "partNumber" in parse_qs(urlsplit(path).query) else method
        with self.lock:
            self.asked[kind] += 1
            refused = self._refuses(kind, path, self.asked[kind])
            self.refused[kind] += refused
        if refused:
            return 503, [("Content-Type", "application/xml")], b"" if method == "HEAD" else SLOW_DOWN
        connection = http.client.HTTPConnection(self._behind, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            found = connection.getresponse()
            return found.status, found.getheaders(), found.read()
        finally:
            connection.close()


def _handler(desk: _Desk) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            given = {
                name: value for name, value in self.headers.items() if name.lower() not in {"expect", "connection"}
            }
            status, headers, content = desk.answer(self.command, self.path, given, body)
            self.send_response_only(status)
            size = str(len(content))
            for name, value in headers:
                if name.lower() == "content-length":
                    size = value  # that of a HEAD tells of a body which is not sent
                elif name.lower() not in {"transfer-encoding", "connection"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", size)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on  # noqa: N815 - the base class looks for these

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class calls it so
            """Say nothing: every request is counted."""

    return Handler
