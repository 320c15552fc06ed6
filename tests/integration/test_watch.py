"""Watching several services: who is preferred, who is silent, what is late, gone, doubled, and what it all costs."""

import json
import subprocess
import sys
from contextlib import contextmanager
from datetime import date, timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import event

from catalog.ledger import SceneState
from flows.assembly import assemble
from flows.names import item_id
from flows.reconciling import Scope, reconcile
from flows.watching import watch_sources
from infra.settings import StacSourceSettings, load_settings
from tests.postgres import Postgres
from tests.replayed import REGION, SENSED, replayed, square, stac_item

HOUR = timedelta(hours=1)
NOW = SENSED + 5 * HOUR
WEST, EAST = (10.0, 45.0, 10.6, 46.0), (10.4, 45.0, 11.0, 46.0)


def source(archive, name, **changes):
    usual = {"kind": "earth_search", "url": f"{archive.url}/v1", "timeout_seconds": 5, "max_attempts": 2}
    return StacSourceSettings(name=name, **usual | changes)


def configured(tmp_path, sources, *, regions=("site",), policy="reprocess", **more):
    file = tmp_path / "regions.geojson"
    features = [
        {"type": "Feature", "id": name, "geometry": square(*REGION), "properties": {"reprocessing": policy}}
        for name in regions
    ]
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    processing = {"look_back_hours": 72, "first_look_back_days": 30}
    return load_settings(
        home=tmp_path / "home", regions_file=file, sources=tuple(sources), processing=processing, **more
    )


@contextmanager
def opened(*args, **changes):
    with assemble(configured(*args, **changes)) as assembly:
        yield assembly


def look(assembly, now=NOW):
    return watch_sources(assembly, actor="watch", now=now)


def sources_of(assembly):
    return {row.acquisition[4:19]: row.source for row in assembly.ledger.scenes(limit=100)}


@pytest.fixture
def first():
    with replayed() as archive:
        yield archive


@pytest.fixture
def second():
    with replayed() as archive:
        yield archive


def stock(archive, *items):
    archive.items = {item["id"]: item for item in items}


def test_the_second_source_fills_what_the_first_has_not_and_doubles_are_one_scene(tmp_path, first, second):
    stock(first, stac_item(0), stac_item(1))
    stock(second, stac_item(1, name="other-name"), stac_item(2))
    with opened(tmp_path, [source(first, "one"), source(second, "two", kind="cdse")]) as assembly:
        report = look(assembly)
        assert report.outcomes == {"new": 3, "duplicate": 1}
        assert list(sources_of(assembly).values()) == ["two", "one", "one"]
        assert look(assembly).outcomes == {"known": 4}


def test_what_the_second_had_earlier_is_made_from_the_first_while_nobody_has_begun(tmp_path, first, second):
    stock(second, stac_item(0))
    with opened(tmp_path, [source(first, "one"), source(second, "two")]) as assembly:
        look(assembly)
        stock(first, stac_item(0))
        look(assembly)
        assert list(sources_of(assembly).values()) == ["one"]


def test_a_source_that_waits_leaves_young_offers_to_the_first_unless_that_is_silent(tmp_path, first, second):
    stock(second, stac_item(0))
    waiting = [source(first, "one"), source(second, "two", wait_hours=12)]
    with opened(tmp_path, waiting) as assembly:
        report = look(assembly)
        assert (report.left_to_others, report.new_scenes) == (1, [])
        assert assembly.ledger.watermark("two", "site") is None
        assert look(assembly, NOW + 24 * HOUR).outcomes == {"new": 1}
    first.down = True
    (tmp_path / "again").mkdir()
    with opened(tmp_path / "again", waiting) as assembly:
        report = look(assembly)
        assert (report.left_to_others, report.outcomes) == (0, {"new": 1})


def test_an_outage_is_told_and_caught_up_while_the_others_go_on(tmp_path, first, second):
    stock(first, stac_item(0), stac_item(1))
    stock(second, stac_item(2))
    first.down = True
    with opened(tmp_path, [source(first, "one"), source(second, "two")]) as assembly:
        report = look(assembly)
        assert [one.partition(":")[0] for one in report.unavailable] == ["one / site"]
        assert report.outcomes == {"new": 1}
        first.down = False
        assert look(assembly).outcomes == {"new": 2, "known": 1}
        assert len(assembly.ledger.scenes()) == 3


def test_a_source_that_is_silent_again_and_again_is_left_alone_for_this_look(tmp_path, first, second):
    first.down = True
    stock(second, stac_item(0))
    regions = ("a", "b", "c", "d")
    with opened(tmp_path, [source(first, "one"), source(second, "two")], regions=regions) as assembly:
        report = look(assembly)
        assert len(first.asked) == 2 * 2, "two regions, two tries each"
        assert len(report.unavailable) == 4
        assert report.outcomes == {"new": 4}


def test_rate_limits_are_waited_for(tmp_path, first):
    stock(first, *(stac_item(n) for n in range(5)))
    first.refusals = [(429, {"Retry-After": "0"}), (429, {"Retry-After": "0"})]
    patient = source(first, "one", max_attempts=4, page_size=2)
    with opened(tmp_path, [patient]) as assembly:
        assert look(assembly).outcomes == {"new": 5}
        assert len(first.asked) == 2 + 3


def test_a_rate_limit_beyond_patience_is_an_outage_of_that_source_only(tmp_path, first, second):
    stock(second, stac_item(0))
    first.refusals = [(429, {"Retry-After": "3600"})]
    with opened(tmp_path, [source(first, "one"), source(second, "two")]) as assembly:
        report = look(assembly)
        assert (len(report.unavailable), report.outcomes) == (1, {"new": 1})


def test_a_token_goes_to_its_own_service_and_nowhere_else(tmp_path, first, second):
    stock(first, stac_item(0))
    first.down = True
    secret = SecretStr("a-token-that-must-not-be-seen")
    with opened(tmp_path, [source(first, "one", api_token=secret), source(second, "two")]) as assembly:
        report = look(assembly)
        assert secret.get_secret_value() not in "".join(report.unavailable) + repr(assembly.settings)
    assert set(first.authorizations) == {f"Bearer {secret.get_secret_value()}"}
    assert set(second.authorizations) == {None}


def test_days_and_late_deliveries_are_numbers(tmp_path, first):
    stock(first, stac_item(0), stac_item(1, published=SENSED + 30 * HOUR), stac_item(24 * 60))
    with opened(tmp_path, [source(first, "one")]) as assembly:
        days = look(assembly, SENSED + 60 * HOUR).days
        numbers = {day: (one.offered, one.new, one.late) for (_, day), one in days.items()}
        assert numbers == {date(2025, 7, 31): (2, 2, 1), date(2025, 8, 1): (1, 1, 0)}
        scope = Scope(date(2025, 7, 1), date(2025, 8, 30))
        report = reconcile(assembly, scope, actor="test")
        assert [(day.offered, day.known, day.missing, day.late) for day in report.days] == [(2, 2, 0, 1), (1, 1, 0, 0)]


@pytest.mark.parametrize(("policy", "scenes"), [("reprocess", 2), ("ignore", 1), ("if-quality-differs", 1)])
def test_a_region_s_policy_decides_about_newer_revisions(tmp_path, first, policy, scenes):
    stock(first, stac_item(0, eo__cloud_cover=10.0))
    with opened(tmp_path, [source(first, "one")], policy=policy) as assembly:
        (scene,) = look(assembly).new_scenes
        claim = assembly.ledger.claim(scene, actor="test", lease=HOUR)
        assembly.ledger.reject(claim, gate="cloud", reason="cloudy")
        stock(first, stac_item(0, baseline="0512", eo__cloud_cover=10.0))
        look(assembly)
        assert len(assembly.ledger.scenes()) == scenes


def test_parts_from_two_stations_become_two_products_of_their_own(tmp_path, first):
    later = SENSED + 4 * HOUR
    pair = [
        stac_item(0, outline=WEST, s2__datastrip_id="S2B_OPER_MSI_L2A_DS_2BPS_1"),
        stac_item(0, outline=EAST, s2__datastrip_id="S2B_OPER_MSI_L2A_DS_2BPT_2", generated=later),
    ]
    stock(first, *pair)
    with opened(tmp_path, [source(first, "one")]) as assembly:
        assert look(assembly).outcomes == {"new": 1, "part": 1}
        assert look(assembly).outcomes == {"known": 2}
        (region,) = assembly.regions
        rows = assembly.ledger.scenes()
        restored = [assembly.source(row.source).restore(row.source_item) for row in rows]
        assert [one.key.id for one in restored] == [row.acquisition for row in rows]
        assert len({item_id(one, region) for one in restored}) == 2
        report = reconcile(assembly, Scope(date(2025, 7, 1), date(2025, 8, 30)), actor="test")
        assert report.found == []


def test_what_disappears_upstream_is_told_after_the_grace_and_kept(tmp_path, first):
    stock(first, stac_item(0), stac_item(1))
    scope = Scope(date(2025, 7, 1), date(2025, 8, 30))
    with opened(tmp_path, [source(first, "one")]) as assembly:
        look(assembly)
        stock(first, stac_item(0))
        assert look(assembly, NOW + HOUR).missed == 1
        first.down = True
        assert look(assembly, NOW + 60 * HOUR).withdrawn == []
        first.down = False
        assert len(look(assembly, NOW + 61 * HOUR).withdrawn) == 1
        assert assembly.ledger.counts() == {SceneState.DISCOVERED: 2}
        report = reconcile(assembly, scope, actor="test")
        assert [day.withdrawn for day in report.days] == [1]
        assert [one.kind for one in report.found] == ["extra"]


WATCHER = """
import sys
from datetime import datetime
from flows.assembly import assemble
from flows.watching import watch_sources

with assemble() as assembly:
    print("ready", flush=True)
    sys.stdin.readline()
    report = watch_sources(assembly, actor=sys.argv[1], now=datetime.fromisoformat(sys.argv[2]))
    print(report.outcomes.get("new", 0), report.outcomes.get("known", 0), len(report.unavailable), flush=True)
"""


@pytest.fixture(scope="module")
def postgres():
    server = Postgres().start()
    yield server
    server.stop()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_two_watchers_at_once_do_no_harm(tmp_path, first, kind, request, monkeypatch):
    number = 300
    stock(first, *(stac_item(n) for n in range(number)))
    url = request.getfixturevalue("postgres").fresh_database() if kind == "postgresql" else ""
    settings = configured(tmp_path, [source(first, "one", page_size=50)], database_url=SecretStr(url))
    config = tmp_path / "explains2a.toml"
    config.write_text(
        f'home = "{settings.home}"\nregions_file = "{settings.regions_file}"\ndatabase_url = "{url}"\n'
        f'[[sources]]\nkind = "earth_search"\nname = "one"\nurl = "{first.url}/v1"\npage_size = 50\n'
    )
    monkeypatch.setenv("EXPLAINS2A_CONFIG", str(config))
    watchers = [
        subprocess.Popen(
            [sys.executable, "-c", WATCHER, f"watch-{n}", NOW.isoformat()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for n in range(2)
    ]  # fmt: skip
    try:
        for watcher in watchers:
            assert watcher.stdout.readline() == "ready\n"
        for watcher in watchers:
            watcher.stdin.write("go\n")
            watcher.stdin.flush()
        answers = [tuple(map(int, watcher.communicate(timeout=120)[0].split())) for watcher in watchers]
    finally:
        for watcher in watchers:
            watcher.kill()
            watcher.wait()
    assert [sum(column) for column in zip(*answers, strict=True)] == [number, number, 0]
    with assemble(settings) as assembly:
        assert assembly.ledger.counts() == {SceneState.DISCOVERED: number}
        assert {len(assembly.ledger.history(row.id)) for row in assembly.ledger.scenes(limit=5)} == {1}
        assert assembly.ledger.watermark("one", "site") == NOW


def test_a_look_at_ten_thousand_known_scenes_asks_the_database_less_than_twenty_times(tmp_path, first):
    known = [stac_item(n, published=SENSED + 3 * HOUR) for n in range(10_000)]
    stock(first, *known)
    with opened(tmp_path, [source(first, "one", page_size=1000)]) as assembly:
        assert look(assembly).outcomes == {"new": 10_000}
        stock(first, *known, *(stac_item(n, published=SENSED + 4 * HOUR) for n in range(10_000, 10_010)))
        sent = []

        def note(_connection, _cursor, statement, *_):
            sent.append(statement)

        engines = assembly.database._engine, assembly.database._readers
        for engine in engines:
            event.listen(engine, "before_cursor_execute", note)
        report = look(assembly)
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)
    assert report.outcomes == {"known": 10_000, "new": 10}
    # The mark, what is known, the turn, reads and writes of the one batch with new scenes, what is missed, the mark.
    assert len(sent) <= 20, sent
