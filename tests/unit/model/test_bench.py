"""The benchmark runs and reports what it measured."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from model.bench import bench, synthetic_scene


def test_rows_have_their_keys_and_float32_is_close_to_float64():
    (row,) = bench("cpu", [0.02], repeats=1)
    assert set(row) == {"device", "dtype", "mpx", "seconds_per_mpx", "relative_error", "threads"}
    assert row["mpx"] == pytest.approx(0.02, rel=0.1)
    assert row["seconds_per_mpx"] > 0
    assert row["relative_error"] < 1e-4


def test_the_module_runs_by_itself(tmp_path):
    out = tmp_path / "rows.json"
    command = [sys.executable, "-m", "model.bench", "--device", "cpu", "--mpx", "0.01", "--repeats", "1"]
    subprocess.run([*command, "--json", str(out)], check=True, timeout=120, capture_output=True)
    assert len(json.loads(out.read_text())) == 1


def test_scenes_fit_the_sensor_grid():
    scene = synthetic_scene(10_000)
    assert scene.b10.shape[1] % 6 == 0
    assert scene.b20.shape[1] * 2 == scene.b10.shape[1]
