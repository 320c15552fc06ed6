"""A real product read back from its compact file: folder, HTTP, S3, by command and by the guide's own code."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from flows.assembly import assemble
from flows.cli import app
from flows.processing import process_scene
from flows.watching import watch_sources
from infra.compact import CompactProduct
from infra.range_server import RangeServer
from infra.settings import load_settings
from model.bands import CENTRE_NM

GUIDE = Path(__file__).parents[2] / "docs" / "3-product-guide.md"
MARGIN_DN = 2


def process_one(settings):
    with assemble(settings) as assembly:
        watch_sources(assembly, actor="test")
        row = assembly.ledger.due(1)[0]
        assert process_scene(assembly, row.id, actor="test").state == "published"
        return assembly.published_item(assembly.ledger.scene(row.id))


def settings_in(folder, demo_scenes, **changes):
    return load_settings(
        home=folder,
        regions_file=demo_scenes.regions_file,
        sources=({"kind": "folder", "name": "patches", "path": str(demo_scenes.items)},),
        processing={"first_look_back_days": 36500},
        **changes,
    )


@pytest.fixture(scope="module")
def item(tmp_path_factory, demo_scenes):
    return process_one(settings_in(tmp_path_factory.mktemp("reading"), demo_scenes))


@pytest.fixture(scope="module")
def folder(item):
    return Path(urlsplit(item["assets"]["compact"]["href"]).path).parent


@pytest.fixture(scope="module")
def hsi(folder):
    with rasterio.open(folder / "hsi.tif") as file:
        return file.read()


@pytest.fixture(scope="module")
def sigma(folder):
    """What the model itself makes of the stored uncertainty."""
    from model.duality import load_model

    with rasterio.open(folder / "uncertainty.tif") as file:
        return load_model(device="cpu").channel_sigma(file.read())


def test_the_compact_file_expands_to_the_172_bands_within_two_dn(folder, hsi):
    with CompactProduct.open(folder) as product:
        difference = np.abs(product.read(dtype="int16").astype(int) - hsi)
        assert difference.max() <= MARGIN_DN
        assert np.percentile(difference, 99.9) <= 1
        np.testing.assert_allclose(product.read() * 10_000, hsi, atol=0.51)


def test_sigma_of_every_channel_is_the_models_without_the_model(folder, sigma):
    with CompactProduct.open(folder) as product:
        np.testing.assert_allclose(product.read_sigma(), sigma, rtol=2e-5, atol=1e-8)
        np.testing.assert_allclose(product.sigma(60, 61), sigma[:, 60, 61], rtol=2e-5, atol=1e-8)


def test_a_spectrum_over_http_is_one_request_after_the_head(folder, hsi):
    with RangeServer(folder) as server, CompactProduct.open(server.url("compact.tif")) as product:
        before = server.asked()
        np.testing.assert_allclose(product.spectrum(60, 61) * 10_000, hsi[:, 60, 61], atol=0.51)
        after = server.asked()[len(before) :]
        assert len(before) <= 3
        assert [name for name, _start, _size in after] == ["compact.tif"]
        assert after[0][2] < 1_000_000


@pytest.mark.server
def test_a_product_on_s3_is_read_and_expanded_by_command(seaweed, tmp_path, demo_scenes, monkeypatch):
    storage = {
        "url": f"s3://products/{tmp_path.name}", "endpoint_url": seaweed.endpoint,
        "access_key": seaweed.admin.access, "secret_key": seaweed.admin.secret,
    }  # fmt: skip
    settings = settings_in(tmp_path / "home", demo_scenes, storage=storage)
    assets = process_one(settings)["assets"]
    with CompactProduct.open(assets["compact"]["href"], storage=settings.storage) as product:
        spectrum = product.spectrum(30, 40)
        assert product.sigma(30, 40).shape == spectrum.shape == (172,)
    for name, value in storage.items():
        monkeypatch.setenv(f"EXPLAINS2A_STORAGE__{name.upper()}", value)
    ran = CliRunner().invoke(app, ["expand", assets["compact"]["href"], "--out", str(tmp_path / "hsi.tif")])
    assert ran.exit_code == 0, ran.output
    assert seaweed.admin.secret not in ran.output
    with rasterio.open(tmp_path / "hsi.tif") as file:
        np.testing.assert_allclose(file.read()[:, 30, 40], spectrum * 10_000, atol=0.51)


def test_the_commands_say_what_they_would_do_and_do_it(folder, hsi, tmp_path):
    def run(*arguments):
        ran = CliRunner().invoke(app, list(map(str, arguments)))
        assert ran.exit_code == 0, ran.output
        return ran.output

    part = ("--bands", "600nm,1650nm,1", "--window", "10,20,50,40")
    expected = hsi[[int(np.abs(CENTRE_NM - 600).argmin()), int(np.abs(CENTRE_NM - 1650).argmin()), 0], 20:60, 10:60]
    assert "would write 3 bands of 50 x 40" in run("expand", folder, "--out", tmp_path / "a.tif", *part, "--dry-run")
    assert "would write" in run("export", folder / "hsi.tif", "--out", tmp_path / "a.hdr", *part, "--dry-run")
    assert list(tmp_path.iterdir()) == []
    run("expand", folder / "compact.tif", "--out", tmp_path / "a.tif", *part)
    run("export", folder / "hsi.tif", "--out", tmp_path / "a.hdr", *part)
    with rasterio.open(tmp_path / "a.tif") as file:
        assert np.abs(file.read().astype(int) - expected).max() <= MARGIN_DN
    with rasterio.open(tmp_path / "a.img") as file:
        np.testing.assert_array_equal(file.read(), expected)


def test_an_item_is_exported_by_its_id(item, hsi, tmp_path, monkeypatch):
    home = Path(urlsplit(item["assets"]["hsi"]["href"]).path.partition("/products/")[0])
    monkeypatch.setenv("EXPLAINS2A_HOME", str(home))
    ran = CliRunner().invoke(app, ["export", item["id"], "--format", "envi", "--out", str(tmp_path / "scene.hdr")])
    assert ran.exit_code == 0, ran.output
    with rasterio.open(tmp_path / "scene.img") as file:
        np.testing.assert_array_equal(file.read(), hsi)
    unknown = CliRunner().invoke(app, ["export", "no-such-item", "--out", str(tmp_path / "b.hdr")])
    assert "no-such-item" in str(unknown.exception)


def test_the_guides_code_runs_as_it_stands(folder, hsi, sigma):
    """Every python block of the part on reading, in one namespace, in a product's folder."""
    text = GUIDE.read_text(encoding="utf-8").partition("## Reading")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 3
    names: dict[str, object] = {}
    here = Path.cwd()
    os.chdir(folder)
    try:
        for block in blocks:
            exec(compile(block, str(GUIDE), "exec"), names)  # noqa: S102 - our own guide
    finally:
        os.chdir(here)
    np.testing.assert_allclose(np.asarray(names["spectra"]) * 10_000, hsi[:, 20:84, 10:74], atol=0.51)
    np.testing.assert_allclose(names["sigma"], sigma[:, 20:84, 10:74], rtol=2e-5, atol=1e-8)
    np.testing.assert_allclose(np.asarray(names["spectrum"]) * 10_000, hsi[:, 60, 61], atol=0.51)
