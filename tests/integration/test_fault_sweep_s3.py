"""Faults of S3 in the middle of a scene of several cells: a busy server, and one part that never gets through."""

import json
from datetime import timedelta

import pytest

from flows.assembly import assemble
from flows.housekeeping import remove_orphans
from flows.processing import SceneFailed, process_scene
from flows.watching import watch_sources
from infra.settings import load_settings
from infra.storage.s3_client import Retry
from tests.busy import BusyDoor
from tests.factories import grow_item

pytestmark = [pytest.mark.server, pytest.mark.slow]

PART = 5 << 20


@pytest.fixture
def grown(tmp_path, demo_scenes):
    """The item of a scene of 600 x 600 pixels: four cells, `hsi` of a dozen parts."""
    (patch,) = [p for p in demo_scenes.items.rglob("*.json") if json.loads(p.read_text())["id"].endswith("87_48")]
    return grow_item(patch, tmp_path / "inbox", times=5)


def house_behind(endpoint, seaweed, tmp_path, grown):
    whole = {"type": "Polygon", "coordinates": [[[13, 47], [15, 47], [15, 49], [13, 49], [13, 47]]]}
    regions = {"type": "FeatureCollection", "features": [{"type": "Feature", "id": "all", "geometry": whole}]}
    (tmp_path / "regions.geojson").write_text(json.dumps(regions))
    return assemble(
        load_settings(
            home=tmp_path / "home",
            regions_file=tmp_path / "regions.geojson",
            storage={
                "url": f"s3://products/{tmp_path.name}",
                "endpoint_url": endpoint,
                "access_key": seaweed.admin.access,
                "secret_key": seaweed.admin.secret,
                "part_size": PART,
            },
            sources=({"kind": "folder", "name": "inbox", "path": str(grown.parent)},),
            processing={"first_look_back_days": 36500},
        )
    )


def the_scene(house):
    """Watch the inbox; return the one scene that waits."""
    watch_sources(house, actor="test")
    (row,) = house.ledger.due(2)
    return row


def now_and_then(kind, _path, number):
    """Every third request that writes and every twentieth that reads."""
    return number % (20 if kind in {"GET", "HEAD"} else 3) == 0


def the_fourth_part(kind, path, _number):
    return kind == "PUT part" and "hsi.tif" in path and "partNumber=4&" in f"{path}&"


def test_a_server_that_throttles_every_third_part_gets_the_whole_product(seaweed, tmp_path, grown):
    with (
        BusyDoor(seaweed.endpoint, now_and_then) as door,
        house_behind(door.endpoint, seaweed, tmp_path, grown) as house,
    ):
        row = the_scene(house)
        assert process_scene(house, row.id, actor="test").state == "published"
        asked, refused = door.counts()
        assert house.store.requests()["upload_part"] == asked["PUT part"]
        assert refused["PUT part"] >= 4
        assert refused["POST"] >= 1
        assert refused["GET"] >= 1
        item = house.published_item(house.ledger.scene(row.id))
        stored = {house.store.href(found.key): found.size for found in house.store.list()}
        assert stored == {asset["href"]: asset["file:size"] for asset in item["assets"].values()}
        assert house.store.clean_partial("", timedelta(0)) == []


def test_a_part_that_never_gets_through_fails_the_scene_and_leaves_nothing(seaweed, tmp_path, grown):
    """A part of `hsi` is refused at every try, while the other files go on."""
    with (
        BusyDoor(seaweed.endpoint, the_fourth_part) as door,
        house_behind(door.endpoint, seaweed, tmp_path, grown) as house,
    ):
        row = the_scene(house)
        with pytest.raises(SceneFailed, match="StorageUnavailable") as failure:
            process_scene(house, row.id, actor="test")
        assert "hsi" in str(failure.value)
        assert door.counts()[1]["PUT part"] == Retry().attempts
        assert house.ledger.scene(row.id).state == "failed"
        assert house.published_item(row) is None
        remove_orphans(house, older_than=timedelta(0))
        assert list(house.store.list()) == []
        assert house.store.clean_partial("", older_than=timedelta(0)) == []
    with house_behind(seaweed.endpoint, seaweed, tmp_path, grown) as house:
        assert process_scene(house, row.id, actor="rescuer").state == "published"
