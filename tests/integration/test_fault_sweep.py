"""Faults in the middle of a scene of several cells: no visible half product, no orphan, and a way on."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest

from flows.assembly import assemble
from flows.housekeeping import remove_orphans
from flows.processing import SceneFailed, process_scene
from flows.watching import watch_sources
from infra.scene import access
from infra.settings import StorageSettings, load_settings
from model.inference import OUT_OF_MEMORY
from tests.campaign.disk import small_disk
from tests.factories import band_files, grow_item

pytestmark = pytest.mark.slow

SMALL_FILES_BYTES = 4 << 20

HELD = """
import sys, time
from flows.assembly import assemble
from flows.processing import process_scene

def hold(progress):
    print("held", progress.fraction, flush=True)
    time.sleep(600)

with assemble() as assembly:
    process_scene(assembly, int(sys.argv[1]), actor="victim", progress=hold)
"""


@pytest.fixture
def grown(tmp_path, demo_scenes, request):
    """The item of a scene of 600 x 600 pixels: four cells, unless a test asks for more."""
    (patch,) = [p for p in demo_scenes.items.rglob("*.json") if json.loads(p.read_text())["id"].endswith("87_48")]
    return grow_item(patch, tmp_path / "inbox", times=getattr(request, "param", 5))


@pytest.fixture
def house(tmp_path, grown, monkeypatch):
    whole = {"type": "Polygon", "coordinates": [[[13, 47], [15, 47], [15, 49], [13, 49], [13, 47]]]}
    regions = {"type": "FeatureCollection", "features": [{"type": "Feature", "id": "all", "geometry": whole}]}
    (tmp_path / "regions.geojson").write_text(json.dumps(regions))
    (tmp_path / "explains2a.toml").write_text(
        "home = 'home'\nregions_file = 'regions.geojson'\n"
        "[processing]\nfirst_look_back_days = 36500\nlease_seconds = 5\nheartbeat_seconds = 1\n"
        f"[[sources]]\nkind = 'folder'\nname = 'inbox'\npath = '{grown.parent}'\n"
    )
    monkeypatch.setenv("EXPLAINS2A_CONFIG", str(tmp_path / "explains2a.toml"))
    with assemble(load_settings()) as assembly:
        watch_sources(assembly, actor="test")
        yield assembly


def nothing_is_left(house, scene_id):
    assert house.published_item(house.ledger.scene(scene_id)) is None
    remove_orphans(house, older_than=timedelta(0))
    assert list(house.store.list()) == []
    assert house.store.clean_partial("", older_than=timedelta(0)) == []


def fails(house, cause, **more):
    """Process the only scene, which must fail with a cause; what was said."""
    (row,) = house.ledger.due(2)
    with pytest.raises(SceneFailed, match=cause) as failure:
        process_scene(house, row.id, actor="test", **more)
    assert house.ledger.scene(row.id).state in {"failed", "quarantined"}
    nothing_is_left(house, row.id)
    return str(failure.value)


def test_a_corrupt_block_is_named_with_its_band(house, grown):
    path = band_files(grown)["B08"]
    spoilt = bytearray(path.read_bytes())
    middle = len(spoilt) * 3 // 4
    spoilt[middle : middle + 4000] = b"\xff" * 4000
    path.write_bytes(spoilt)
    assert "B08" in fails(house, "UnreadableRaster")


@pytest.mark.parametrize("grown", [8], indirect=True)  # nine cells: some are not read yet when the first is done
def test_a_file_that_breaks_off_after_the_first_cells_is_named_with_its_band(house, grown, monkeypatch):
    """The gates have read the whole scene; with little room for decoded blocks the cells have to read it again."""
    monkeypatch.setitem(access._BASE_OPTIONS, "GDAL_CACHEMAX", 1 << 20)
    path, seen = band_files(grown)["B04"], []

    def cut(progress):
        seen.append(progress.fraction)
        os.truncate(path, path.stat().st_size // 4)

    said = fails(house, "UnreadableRaster", progress=cut)
    assert "B04" in said
    assert seen, "it failed before a cell was done"
    assert seen[-1] < 1.0


def test_a_real_disk_that_is_full_is_named_and_takes_the_scene_when_it_has_room(house):
    """A file system of 48 MB for a product of 170 MB; afterwards it is enlarged, as an operator would."""
    with small_disk(48) as disk:
        settings = house.settings.model_copy(
            update={"storage": StorageSettings(url=(disk.folder / "products").as_uri())}
        )
        with assemble(settings) as full:
            said = fails(full, "StorageFull")
            assert "free space" in said
            disk.resize(1024)
            (row,) = full.ledger.scenes(limit=2)
            assert process_scene(full, row.id, actor="rescuer").state == "published"


def test_a_disk_that_takes_no_more_is_named(house):
    """The kernel refuses to let any file grow beyond a few MB: where a full disk says ENOSPC it says EFBIG."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_FILES_BYTES, limits[1]))
    try:
        fails(house, "StorageFull")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("kind", OUT_OF_MEMORY)
def test_a_model_without_memory_for_two_cells_goes_on_with_one(house, monkeypatch, kind):
    model, busy, lock = house.model, [], threading.Lock()
    estimate, refused = model.estimate, []

    def crowded(msi, halo):
        with lock:
            busy.append(1)
            if len(busy) > 1:
                refused.append(busy.pop())
                raise kind("not for two at once")
        try:
            return estimate(msi, halo)
        finally:
            with lock:
                busy.pop()

    monkeypatch.setattr(model, "estimate", crowded)
    (row,) = house.ledger.due(2)
    assert process_scene(house, row.id, actor="test").state == "published"
    assert refused, "two cells were never worked on at once"


def test_a_model_without_memory_for_one_cell_fails_the_scene(house, monkeypatch):
    def full(_msi, _halo):
        raise MemoryError("not for one cell")

    monkeypatch.setattr(house.model, "estimate", full)
    assert "not for one cell" in fails(house, "MemoryError")


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_that_is_stopped_between_two_cells_loses_nothing(house, sign):
    (row,) = house.ledger.due(2)
    victim = subprocess.Popen([sys.executable, "-c", HELD, str(row.id)], stdout=subprocess.PIPE, text=True)
    try:
        assert victim.stdout.readline().startswith("held 0."), "the first of four cells was never done"
    finally:
        victim.send_signal(sign)
        victim.wait(timeout=60)
        victim.stdout.close()
    assert house.published_item(row) is None
    deadline = time.monotonic() + 30
    while not house.ledger.due(2):
        assert time.monotonic() < deadline, "the lease never ended"
        time.sleep(0.5)
    assert process_scene(house, row.id, actor="rescuer").state == "published"
    item = house.published_item(house.ledger.scene(row.id))
    remove_orphans(house, older_than=timedelta(0))
    assert {house.store.href(stored.key) for stored in house.store.list()} == {
        asset["href"] for asset in item["assets"].values()
    }
