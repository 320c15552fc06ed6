"""A door in front of a real server: every byte passes through unchanged; single requests can be held at it."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from dataclasses import dataclass, field

_REQUEST = re.compile(rb"([A-Z]+ \S+) HTTP/1\.1\r\n")
_PIECE = 1 << 16


@dataclass
class Hold:
    """One request that is kept waiting at the door before its server hears of it."""

    pattern: re.Pattern[str]
    reached: threading.Event = field(default_factory=threading.Event)
    """The request has come."""
    client_port: int = 0
    """Local port of whoever asked."""
    _go: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        """Let it through, and whatever else it would catch."""
        self._go.set()

    def wait(self, seconds: float = 120) -> None:
        """Wait until the request has come."""
        assert self.reached.wait(seconds), f"no request like {self.pattern.pattern!r} came within {seconds:.0f} s"


class Door:
    """Listens on a free port of 127.0.0.1 and passes everything on to another port of it."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._holds: list[Hold] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self, pattern: str) -> Hold:
        """Keep the first request whose ``METHOD path?query`` matches waiting, until it is released."""
        hold = Hold(re.compile(pattern))
        self._holds.append(hold)
        return hold

    def close(self) -> None:
        """Let everything go and stop listening."""
        for hold in self._holds:
            hold.release()
        self._listener.close()
        for each in list(self._open):
            _end(each)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, timeout=10)
                server.settimeout(None)
            except OSError:  # the server is away: whoever knocks is turned away
                client.close()
                continue
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.add(each)
            for source, sink, asks in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass, args=(source, sink, asks), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, asks: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                if asks:
                    self._wait_at(data, source)
                sink.sendall(data)
        for each in (source, sink):
            _end(each)
            self._open.discard(each)

    def _wait_at(self, data: bytes, client: socket.socket) -> None:
        found = _REQUEST.match(data)
        if found is None:
            return
        request = found[1].decode(errors="replace")
        for hold in self._holds:
            with self._lock:
                caught = hold.pattern.search(request) is not None and not hold.reached.is_set()
                if caught:
                    hold.client_port = client.getpeername()[1]
                    hold.reached.set()
            if caught:
                hold._go.wait()


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
