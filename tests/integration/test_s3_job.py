"""The same job with products on S3: real server, multipart, read-back, no orphan."""

import json
from datetime import timedelta

import pytest
import rasterio

from flows.assembly import assemble
from flows.housekeeping import remove_orphans
from flows.processing import SceneFailed, process_scene
from flows.watching import watch_sources
from infra.settings import load_settings

pytestmark = pytest.mark.server


def settings_on(seaweed, tmp_path, demo_scenes, secret=None):
    return load_settings(
        home=tmp_path / "home",
        regions_file=demo_scenes.regions_file,
        storage={
            "url": f"s3://products/{tmp_path.name}",
            "endpoint_url": seaweed.endpoint,
            "access_key": seaweed.admin.access,
            "secret_key": secret or seaweed.admin.secret,
        },
        sources=({"kind": "folder", "name": "patches", "path": str(demo_scenes.items)},),
        processing={"first_look_back_days": 36500},
    )


def test_a_product_on_s3_is_published_and_reads_back(seaweed, tmp_path, demo_scenes):
    with assemble(settings_on(seaweed, tmp_path, demo_scenes)) as assembly:
        watch_sources(assembly, actor="test")
        row = assembly.ledger.due(1)[0]
        assert process_scene(assembly, row.id, actor="test").state == "published"
        item = assembly.published_item(assembly.ledger.scene(row.id))
        hrefs = {asset["href"] for asset in item["assets"].values()}
        assert all(href.startswith("s3://products/") for href in hrefs)
        assert {assembly.store.href(stored.key) for stored in assembly.store.list()} == hrefs
        assert remove_orphans(assembly, older_than=timedelta(0)) == []
        key = next(stored.key for stored in assembly.store.list() if stored.key.endswith("hsi.tif"))
        with rasterio.Env(**assembly.store.gdal_env()), rasterio.open(assembly.store.gdal_path(key)) as file:
            assert file.count == 172
        assert seaweed.admin.secret not in json.dumps(item)


def test_wrong_credentials_are_named_and_never_shown(seaweed, tmp_path, demo_scenes):
    secret = "not-the-secret-at-all"
    with assemble(settings_on(seaweed, tmp_path, demo_scenes, secret)) as assembly:
        watch_sources(assembly, actor="test")
        row = assembly.ledger.due(1)[0]
        with pytest.raises(SceneFailed, match="StorageDenied") as failure:
            process_scene(assembly, row.id, actor="test")
        told = str(failure.value) + json.dumps([step.why for step in assembly.ledger.history(row.id)])
    assert secret not in told
    with assemble(settings_on(seaweed, tmp_path, demo_scenes)) as assembly:
        assert list(assembly.store.list()) == []
        assert assembly.store.clean_partial("", timedelta(0)) == []
