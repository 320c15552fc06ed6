"""What operators are told of ledger and catalog, on both databases."""

import statistics
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from catalog.inventory import known_scenes, made_by, named_versions
from catalog.ledger import SceneState
from catalog.overview import DRIFT_FIELDS, overview, quality_history, spread
from tests.unit.catalog.products import HOUR, SENSED, discovery, item, put_online, settings, take

DAY = timedelta(days=1)


def fill(database, ledger, tmp_path):
    """Four scenes: one published, one rejected, one quarantined, one waiting."""
    configured = settings(tmp_path)
    found = ledger.discover([discovery(number) for number in range(4)], actor="watch")
    first, second, third, _fourth = (one.scene_id for one in found)
    put_online(database, ledger, take(ledger, first), item(), configured)
    ledger.reject(ledger.claim(second, actor="w", lease=HOUR), gate="cloud", reason="0.9 of the window")
    ledger.fail(ledger.claim(third, actor="w", lease=HOUR), error_class="Broken", message="m", transient=False)
    return [one.scene_id for one in found]


def test_an_empty_catalog_is_told_as_such(database):
    seen = overview(database)
    assert (seen.states, seen.reasons, seen.backlog, seen.oldest_waiting_seconds) == ({}, {}, 0, None)
    assert (seen.latency_seconds, seen.last_success, seen.costs, seen.models) == ({}, (), {}, {})


def test_states_reasons_backlog_latency_cost_and_model(database, ledger, tmp_path):
    fill(database, ledger, tmp_path)
    seen = overview(database)
    assert seen.states == {"published": 1, "rejected": 1, "quarantined": 1, "discovered": 1}
    assert seen.reasons == {"rejected: cloud": 1, "quarantined: Broken": 1}
    assert seen.backlog == 1
    assert 0 <= seen.oldest_waiting_seconds < 600
    assert seen.latency_seconds["sensing to upstream"].median == 2 * 3600
    whole = seen.latency_seconds["sensing to product"].median
    assert abs(whole - (datetime.now(UTC) - SENSED).total_seconds()) < 600
    assert abs(whole - 2 * 3600 - seen.latency_seconds["upstream to product"].median) < 1e-3
    (success,) = seen.last_success
    assert (success.tile, success.region) == ("29UPU", "site")
    made = item()
    assert seen.costs["site"].seconds == 12.5
    assert seen.costs["site"].bytes == sum(asset["file:size"] for asset in made["assets"].values())
    assert seen.models == {made["properties"]["explains2a:model"]: 1}
    assert overview(database, now=datetime.now(UTC) + 60 * DAY).reasons == {}


def test_the_last_days_are_told_scene_by_scene_with_the_run_that_worked_last(database, ledger, tmp_path):
    first, second, third, fourth = fill(database, ledger, tmp_path)
    ledger.reject(ledger.claim(fourth, actor="process/run-9", lease=HOUR), gate="cloud", reason="0.7 of the window")
    later = overview(database, now=SENSED + 5 * DAY).recent
    assert (later.scenes[0].id, later.scenes[0].run) == (fourth, "run-9")
    assert [scene.sensed for scene in later.scenes] == sorted((s.sensed for s in later.scenes), reverse=True)
    assert {scene.id: scene.run for scene in later.scenes if scene.id != fourth} == dict.fromkeys(
        (third, second, first), ""
    )
    assert {scene.id: scene.state for scene in later.scenes} == {
        first: "published", second: "rejected", third: "quarantined", fourth: "rejected"
    }  # fmt: skip
    assert later.tiles == [("site", "29UPU")]
    gone = overview(database, now=SENSED + 100 * DAY).recent
    assert (list(gone.tiles), list(gone.scenes)) == ([], [])


def test_quality_is_told_in_the_order_of_sensing(database, ledger, tmp_path):
    fill(database, ledger, tmp_path)
    (quality,) = quality_history(database, "explains2a-l3-hsi")
    assert quality.region == "site"
    assert set(quality.values) == set(DRIFT_FIELDS)
    assert quality.values["resimulation_rmse"] == 0.0021
    assert quality_history(database, "explains2a-l3-hsi", since=SENSED + DAY) == []


def test_the_inventory_names_scenes_versions_and_files_of_the_days_asked_for(database, ledger, tmp_path):
    scenes = fill(database, ledger, tmp_path)
    known = known_scenes(database, ["site"], SENSED, SENSED + 2 * DAY)
    assert [(one.id, one.state) for one in known] == [(scenes[0], "published"), (scenes[1], "rejected")]
    assert known_scenes(database, ["elsewhere"], SENSED, SENSED + 9 * DAY) == []
    (version,) = named_versions(database, "explains2a-l3-hsi", ["site"], SENSED, SENSED + DAY)
    made = item()
    assert (version.item_id, version.version, version.latest, version.scene_id) == (made["id"], 1, True, scenes[0])
    assert version.state is SceneState.PUBLISHED
    assert {(f.href, f.size, f.checksum) for f in version.files} == {
        (asset["href"], asset["file:size"], asset["file:checksum"]) for asset in made["assets"].values()
    }
    assert version.unlisted == ()
    assert made_by(database, "explains2a-l3-hsi") == {made["id"]: made["properties"]["explains2a:model"]}


def test_what_waits_is_listed_from_the_first_discovered_on(database, ledger, tmp_path):
    scenes = fill(database, ledger, tmp_path)
    assert [row.id for row in ledger.waiting()] == [scenes[2], scenes[3]]
    claim = ledger.claim(scenes[3], actor="w", lease=timedelta(0))
    assert ledger.expired() == [claim.scene_id]
    assert ledger.scene(claim.scene_id).state is SceneState.CLAIMED


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_the_spread_is_made_of_the_numbers_themselves(values):
    told = spread(values)
    assert {told.median, told.p90, told.largest} <= set(values)
    assert told.median == statistics.median_low(values)
    assert sum(value <= told.p90 for value in values) >= 0.9 * len(values)
    assert told.largest == max(values)
