"""A web server for one folder that answers range requests and counts them: what a reader really asks for."""

from __future__ import annotations

import re
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote, unquote, urlsplit

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_RANGE: Final = re.compile(r"bytes=(\d+)-(\d+)")


class RangeServer:
    """Serves a folder on 127.0.0.1 while it is open as a context manager."""

    def __init__(self, folder: Path) -> None:
        """Name the folder.

        Args:
            folder: Nothing outside it is served.
        """
        self._server = _Server(folder.resolve())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def url(self, name: str) -> str:
        """Return the address of a file of the folder."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{quote(name)}"

    def asked(self) -> list[tuple[str, int, int]]:
        """Return every GET so far: file, first byte, number of bytes; a HEAD counts as a request of no bytes."""
        with self._server.lock:
            return list(self._server.asked)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # GDAL opens a connection for every range of a window at once

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.folder, self.lock = folder, threading.Lock()
        self.asked: list[tuple[str, int, int]] = []

    def note(self, name: str, start: int, size: int) -> None:
        with self.lock:
            self.asked.append((name, start, size))


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_HEAD(self) -> None:
        path = self._file()
        if path is None:
            return
        self.server.note(path.name, 0, 0)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(path.stat().st_size))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def do_GET(self) -> None:
        path = self._file()
        if path is None:
            return
        total = path.stat().st_size
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        start, last = (int(asked[1]), min(int(asked[2]), total - 1)) if asked else (0, total - 1)
        if start > last:
            self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        with path.open("rb") as file:
            file.seek(start)
            content = file.read(last - start + 1)
        self.server.note(path.name, start, len(content))
        self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{last}/{total}")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class calls it so
        """Say nothing: every request is counted."""

    def _file(self) -> Path | None:
        path = (self.server.folder / unquote(urlsplit(self.path).path).lstrip("/")).resolve()
        if path.is_file() and path.is_relative_to(self.server.folder):
            return path
        self._refuse(HTTPStatus.NOT_FOUND)
        return None

    def _refuse(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
