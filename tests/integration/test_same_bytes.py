"""A product's rasters are the same bytes whatever the number of threads and wherever they are stored."""

import hashlib
import json

import pytest

from flows.assembly import assemble
from flows.processing import process_scene
from flows.watching import watch_sources
from infra.settings import load_settings
from tests.factories import grow_item

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def inbox(tmp_path_factory, demo_scenes):
    """A scene of 600 x 600 pixels: four cells, two of them cut by the scene's edge in both directions."""
    folder = tmp_path_factory.mktemp("inbox")
    (patch,) = [p for p in demo_scenes.items.rglob("*.json") if json.loads(p.read_text())["id"].endswith("87_48")]
    grow_item(patch, folder, times=5)
    whole = {"type": "Polygon", "coordinates": [[[13, 47], [15, 47], [15, 49], [13, 49], [13, 47]]]}
    regions = {"type": "FeatureCollection", "features": [{"type": "Feature", "id": "all", "geometry": whole}]}
    (folder / "regions.geojson").write_text(json.dumps(regions))
    return folder


def rasters(inbox, home, threads, storage=None):
    """Digest of every raster that a run leaves in its store, by file name."""
    settings = load_settings(
        home=home,
        regions_file=inbox / "regions.geojson",
        sources=({"kind": "folder", "name": "inbox", "path": str(inbox)},),
        processing={"first_look_back_days": 36500, "threads": threads},
        **({"storage": storage} if storage else {}),
    )
    with assemble(settings) as assembly:
        watch_sources(assembly, actor="test")
        (row,) = assembly.ledger.due(2)
        assert process_scene(assembly, row.id, actor="test").state == "published"
        return {
            stored.key.rpartition("/")[2]: hashlib.sha256(assembly.store.get(stored.key)).hexdigest()
            for stored in assembly.store.list()
            if stored.key.endswith(".tif")
        }


def test_threads_and_store_change_no_byte(inbox, tmp_path, seaweed):
    alone = rasters(inbox, tmp_path / "one", threads=1)
    assert len(alone) == 9
    assert rasters(inbox, tmp_path / "three", threads=3) == alone
    s3 = {
        "url": f"s3://products/{tmp_path.name}",
        "endpoint_url": seaweed.endpoint,
        "access_key": seaweed.admin.access,
        "secret_key": seaweed.admin.secret,
    }
    assert rasters(inbox, tmp_path / "s3", threads=2, storage=s3) == alone
