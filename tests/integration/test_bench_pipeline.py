"""`bench pipeline` runs the real production in a process of its own and leaves nothing but the scene behind."""

import json

import pytest
from typer.testing import CliRunner

from flows.bench_pipeline import Bench, BenchFailed, bench_pipeline, pixels_of
from flows.cli import app
from infra.settings import load_settings


@pytest.mark.parametrize(("asked", "made"), [(1024, 1020), (10_980, 10_980), (20_000, 10_980), (1, 6)])
def test_scenes_are_whole_60_metre_pixels_and_no_larger_than_a_tile(asked, made):
    assert pixels_of(asked) == made


@pytest.mark.slow
def test_a_small_scene_is_measured_and_its_products_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(app, ["bench", "pipeline", "--size", "240", "--folder", "bench", "--json", "told.json"])
    assert ran.exit_code == 0, ran.output
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["mpx"] == 0.058
    assert told["mpx_per_s"] == pytest.approx(0.0576 / told["wall_seconds"], rel=0.02)
    assert told["temp_disk_bytes"] == 0
    assert told["peak_rss_bytes"] > 100e6
    assert {"hsi.tif", "compact.tif", "visual.tif", "thumbnail.png"} <= set(told["files"])
    assert told["output_bytes"] == sum(told["files"].values())
    assert told["requests"] == {}
    assert 0 < told["core_utilisation"] <= 1.05
    assert told["verify_seconds"] > 0
    left = [path for path in (tmp_path / "bench").rglob("*") if path.is_file()]
    assert left
    assert all("scenes" in path.parts for path in left)


def test_a_production_that_fails_is_told_with_its_cause(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPLAINS2A_MODEL_PATH", str(tmp_path / "no-weights"))
    with pytest.raises(BenchFailed, match="no-weights"):
        bench_pipeline(Bench(load_settings(), tmp_path / "bench"), [120])
