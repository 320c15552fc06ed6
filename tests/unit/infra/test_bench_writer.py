"""The benchmark on a small scene: its figures are there, both files are right and nothing is left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from infra.bench_writer import _make_scene, bench_writer


def test_both_writers_are_measured_on_the_same_pixels(tmp_path):
    told = []
    figures = bench_writer(size=420, bands=9, threads=2, folder=tmp_path, progress=told.append)
    assert figures["values_equal"] is True
    assert figures["raw_bytes"] == 420 * 420 * 9 * 2
    for writer in ("writer", "gdal"):
        assert figures[f"{writer}_core_seconds"] > 0
        assert figures[f"{writer}_wall_seconds"] > 0
        assert figures[f"{writer}_mb_per_s_per_core"] > 0
        assert figures["raw_bytes"] / 3 < figures[f"{writer}_file_bytes"] < figures["raw_bytes"] * 4 / 3
    assert figures["ratio_per_core"] > 0
    assert "GDAL" in figures["machine"]
    assert len(told) == 3
    assert list(tmp_path.iterdir()) == []
    json.dumps(figures)


def test_the_scene_follows_its_seed_and_looks_like_reflectance(tmp_path):
    scenes = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        path = _make_scene(tmp_path / f"{name}.img", 200, 30, seed)
        scenes.append(np.fromfile(path, np.int16).reshape(30, 200, 200))
    np.testing.assert_array_equal(scenes[0], scenes[1])
    assert (scenes[0] != scenes[2]).any()
    assert -500 < scenes[0].min() < scenes[0].max() < 12_000
    neighbours = np.corrcoef(scenes[0][10, :, 1:].ravel(), scenes[0][10, :, :-1].ravel())[0, 1]
    bands = np.corrcoef(scenes[0][10].ravel(), scenes[0][11].ravel())[0, 1]
    assert neighbours > 0.5
    assert bands > 0.5


def test_the_folder_may_be_relative_as_the_default_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bench-data").mkdir()
    assert bench_writer(size=64, bands=2, threads=1, folder=Path("bench-data"), progress=lambda _what: None)
