"""The benchmark of reading counts what its server saw, and a full tile's layout is what the writer would have made."""

from __future__ import annotations

import json
import re
import urllib.request

import numpy as np
import pytest
import rasterio

from infra.bench_read import bench_read, reading_table
from infra.cog import CogBand, CogProfile
from infra.compact import ProductMissing
from infra.range_server import RangeServer
from infra.tile_layout import lay_out
from tests.unit.infra.compact_factory import make_product


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_product(tmp_path_factory.mktemp("product"), k=24, hsi=True)


def test_every_figure_is_there_for_both_files_and_three_readers(made, tmp_path):
    figures = bench_read(str(made.folder), folder=tmp_path)
    assert set(figures["files"]) == {"hsi", "compact"}
    for name, file in figures["files"].items():
        assert file["file_bytes"] == (made.folder / f"{name}.tif").stat().st_size
        assert set(file["local_ms"]) == {"pixel", "rgb", "band"}
        assert set(file["http"]) == {"own", "gdal", "gdal_tuned"}
        for reader in file["http"].values():
            assert set(reader) == {"open", "pixel", "rgb", "band"}
        assert file["http"]["own"]["pixel"]["requests"] == 1
    assert figures["ratios"]["hsi_to_compact"] > 1
    assert len(reading_table(figures)) == 6
    assert list(tmp_path.iterdir()) == []
    json.dumps(figures)


def test_another_servers_file_is_counted_by_the_reader_itself(made, tmp_path):
    with RangeServer(made.folder) as server:
        figures = bench_read(server.url("compact.tif"), folder=tmp_path)
        asked = server.asked()
    own = figures["files"]["compact"]["http"]["own"]
    assert own["pixel"]["requests"] == 1
    assert own["pixel"]["bytes"] in {size for _name, _start, size in asked}


def test_a_folder_without_products_is_named(tmp_path):
    with pytest.raises(ProductMissing, match=r"hsi\.tif"):
        bench_read(str(tmp_path), folder=tmp_path)


def test_the_laid_out_tile_is_a_full_one_and_holds_what_will_be_read(tmp_path):
    random = np.random.default_rng(1)
    content = random.integers(0, 900, (5, 100, 100)).astype(np.int16)
    place = (10.0, 0, 6e5, 0, -10.0, 53e5)
    profile = CogProfile(
        3000, 3000, "int16", "EPSG:32633", place, -32768, tuple(CogBand(str(n)) for n in range(5)), 96, "mean"
    )
    layout = lay_out(tmp_path / "a.tif", content, profile, [((960, 1920, 96, 96), [0, 3])])
    with rasterio.open(tmp_path / "a.tif") as file:
        window = rasterio.windows.Window(960, 1920, 96, 96)
        np.testing.assert_array_equal(file.read([1, 4], window=window), content[[0, 3], :96, :96])
        assert file.shape == (3000, 3000)
        first = file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1, ovr=len(file.overviews(1)) - 1)
        assert int(first) == layout.head_bytes
    assert (tmp_path / "a.tif").stat().st_size == layout.file_bytes
    assert (tmp_path / "a.tif").stat().st_blocks * 512 < layout.file_bytes / 10


def test_the_range_server_serves_ranges_of_its_folder_and_nothing_else(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "a.bin").write_bytes(bytes(range(100)))
    (tmp_path / "outside.bin").write_bytes(b"secret")
    with RangeServer(tmp_path / "inside") as server:
        request = urllib.request.Request(server.url("a.bin"), headers={"Range": "bytes=10-19"})  # noqa: S310
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            assert answer.status == 206
            assert answer.headers["Content-Range"] == "bytes 10-19/100"
            assert answer.read() == bytes(range(10, 20))
        for name, status in (("../outside.bin", 404), ("b.bin", 404), ("..%2Foutside.bin", 404)):
            with pytest.raises(urllib.error.HTTPError, match=re.escape(str(status))) as refused:
                urllib.request.urlopen(server.url("").rstrip("/") + "/" + name)  # noqa: S310
            refused.value.close()
        assert server.asked() == [("a.bin", 10, 10)]
