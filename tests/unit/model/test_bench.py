"""The benchmark runs and reports what it measured."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.bench import bench, cos2a_seconds_per_mpx, machine_name, repeats_for, synthetic_scene
from model.inference import cells

KEYS = {
    "device",
    "dtype",
    "mpx",
    "seconds_per_mpx",
    "cos2a_seconds_per_mpx",
    "relative_error",
    "threads",
    "compiled",
    "machine",
    "peak_bytes",
}


def test_rows_have_their_keys_and_float32_is_close_to_float64(caplog):
    with caplog.at_level(logging.INFO, logger="model.bench"):
        rows = bench("cpu", [0.02, 0.03], repeats=1)
    assert [set(row) for row in rows] == [KEYS, KEYS]
    assert [row["mpx"] for row in rows] == pytest.approx([0.02, 0.03], rel=0.1)
    for row in rows:
        assert 0 < row["seconds_per_mpx"] < row["cos2a_seconds_per_mpx"]
        assert row["relative_error"] < 1e-4
        assert row["dtype"] == "float32"
        assert row["machine"]
        assert row["peak_bytes"] > 1e7
    growth = rows[1]["seconds_per_mpx"] / rows[0]["seconds_per_mpx"]
    assert f"{growth:.3f}" in caplog.messages[-1]


def test_the_module_runs_by_itself(tmp_path):
    out = tmp_path / "rows.json"
    command = [sys.executable, "-m", "model.bench", "--device", "cpu", "--mpx", "0.01", "--repeats", "1"]
    subprocess.run([*command, "--json", str(out)], check=True, timeout=120, capture_output=True)
    assert len(json.loads(out.read_text())) == 1


def test_neither_training_nor_plotting_comes_with_the_benchmark():
    code = (
        "import sys, model.bench; bad = {'model.training', 'matplotlib', 'pandas', 'scipy'} & set(sys.modules); "
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("wrong", [{"megapixels": []}, {"megapixels": [0.0]}, {"precisions": ["float8"]}])
def test_what_cannot_be_measured_is_refused(wrong):
    with pytest.raises(ValueError, match="expected > 0"):
        bench("cpu", **wrong)


@given(pixels=st.floats(1, 3e6), index=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_windows_fit_the_sensor_grid_and_their_texture(pixels, index):
    scene = synthetic_scene(pixels)
    found = list(cells((0, 0, scene.edge, scene.edge), scene.edge, scene.edge))
    cell = found[index % len(found)]
    msi = scene.window(cell)
    _, _, width, height = cell.read
    assert msi.b10.shape == (4, height, width)
    assert msi.b20.shape == (6, height // 2, width // 2)
    assert msi.b60.shape == (2, height // 6, width // 6)
    for fine, coarse, ratio in ((msi.b10[0], msi.b20[0], 2), (msi.b10[0], msi.b60[0], 6)):
        mean = fine.reshape(height // ratio, ratio, width // ratio, ratio).mean(axis=(1, 3))
        assert coarse.size < 3 or np.corrcoef(mean.ravel(), coarse.ravel())[0, 1] > 0.999
    assert 0 < msi.b10.min()
    assert msi.b10.max() < 0.7


def test_neighbouring_cells_differ():
    scene = synthetic_scene(4e6)
    first, second = list(cells((0, 0, scene.edge, scene.edge), scene.edge, scene.edge, halo=0))[:2]
    a, b = scene.window(first).b10, scene.window(second).b10
    assert a.shape == b.shape
    assert not np.isclose(a.mean(), b.mean(), rtol=1e-3)


def test_sixty_four_megapixels_need_no_more_memory_than_four():
    peaks = []
    for pixels in (4e6, 64e6):
        tracemalloc.start()
        scene = synthetic_scene(pixels)
        for number, cell in enumerate(cells((0, 0, scene.edge, scene.edge), scene.edge, scene.edge)):
            if number % 20 == 0:
                scene.window(cell)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] < 100e6


def test_larger_scenes_are_run_fewer_times_but_never_once():
    assert [repeats_for(size) for size in (0.1, 1, 4, 16, 64)] == [15, 15, 4, 3, 3]


def test_the_machine_has_a_name():
    assert len(machine_name(torch.device("cpu"))) > 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_network_is_timed_on_a_gpu():
    assert 0 < cos2a_seconds_per_mpx(torch.device("cuda"), 1) < 60
