"""Real servers of the drills, started once; the counts of every drill at the end of the report."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from infra.settings import load_settings
from tests.campaign.house import house
from tests.campaign.prefect_server import PrefectServer
from tests.campaign.scenes import Cut
from tests.postgres import Postgres
from tests.seaweed import Seaweed

_LINES = pytest.StashKey[list[str]]()


def pytest_configure(config):
    config.stash[_LINES] = []


def pytest_terminal_summary(terminalreporter, config):
    if config.stash.get(_LINES, []):
        terminalreporter.section("drills")
        for line in config.stash[_LINES]:
            terminalreporter.write_line(line)


@pytest.fixture
def tell(request):
    """Have a line printed with the report, whatever pytest captures."""
    return request.config.stash.setdefault(_LINES, []).append


@pytest.fixture(scope="session")
def drill_postgres():
    server = Postgres().start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def drill_s3(tmp_path_factory):
    """An S3 server of the drills' own: they stop and kill it."""
    server = Seaweed(tmp_path_factory.mktemp("drill-s3")).start()
    server.make_bucket("products")
    yield server
    server.kill()


@pytest.fixture(scope="session")
def prefect(tmp_path_factory):
    """A Prefect server with the project's deployments."""
    server = PrefectServer(load_settings(home=tmp_path_factory.mktemp("drill-prefect"))).start()
    server.deploy()
    yield server
    server.kill()


@pytest.fixture
def place(tmp_path, drill_postgres, drill_s3):
    """An installation with a fresh ledger and a fresh prefix in the bucket."""
    url = drill_postgres.fresh_database()
    with house(tmp_path, url, seaweed=drill_s3) as opened:
        yield opened


@pytest.fixture(scope="session")
def patches(demo_scenes):
    """Items of the six real patches, in a fixed order."""
    found = sorted(demo_scenes.items.rglob("*.json"))
    return [path for path in found if path.parent.name == path.stem and "constructed" not in path.stem]


@pytest.fixture
def cuts(patches):
    """Make deliveries of so many different acquisitions of the last days."""
    assert len(patches) == 6, patches
    now = datetime.now(UTC).replace(microsecond=0)

    def make(number, *, first=0, **changes):
        return [_cut(patches, now, n, **changes) for n in range(first, first + number)]

    return make


def _cut(patches, now, n, **changes):
    size = 10 + n % 3 * 5
    window = (n % 4, n % 5, size, size) if size < 20 else (0, 0, 20, 20)
    sensed = now - timedelta(days=3) + timedelta(minutes=7 * n)
    return Cut(**{"patch": patches[n % 6], "sensed": sensed, "published": now - timedelta(hours=40 - n / 10),
                  "window": window, **changes})  # fmt: skip


def pytest_collection_modifyitems(items):
    for item in items:
        if "campaign" in item.path.parts:
            item.add_marker(pytest.mark.server)
            item.add_marker(pytest.mark.slow)
