"""Databases for the catalog's tests: SQLite, and a real PostgreSQL that is never left out."""

import pytest

from catalog.ledger import Ledger
from catalog.session import connect, migrate
from tests.postgres import Postgres


@pytest.fixture(scope="session")
def postgres():
    """One PostgreSQL server for the session."""
    server = Postgres().start()
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request, tmp_path):
    """Address of a database without any table, of either kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'catalog.sqlite'}"
        return
    server = request.getfixturevalue("postgres")
    url = server.fresh_database()
    yield url
    server.drop(url)


@pytest.fixture
def url(empty_url):
    """Address of a migrated database."""
    migrate(empty_url)
    return empty_url


@pytest.fixture
def database(url):
    """A fresh database of either kind."""
    opened = connect(url)
    yield opened
    opened.close()


@pytest.fixture
def ledger(database):
    """The ledger of a fresh database."""
    return Ledger(database, max_attempts=3)
