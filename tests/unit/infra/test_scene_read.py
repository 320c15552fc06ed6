"""Windows of a scene: any of them equals the slice of the whole."""

from __future__ import annotations

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.scene import Window, open_scene, survey
from model.bands import BANDS_BY_RESOLUTION


def _factory():
    spec = importlib.util.spec_from_file_location("scene_factory", Path(__file__).with_name("scene_factory.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("scene_factory", module)
    spec.loader.exec_module(module)
    return module


made = _factory()


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A scene with holes at every resolution and some saturated pixels."""
    factory = made.SceneFactory(tmp_path_factory.mktemp("scene"))
    rng = np.random.default_rng(3)
    for stored in factory.stored.values():
        stored[rng.random(stored.shape) < 0.02] = 0
    for name in ("B03", "B11", "B09"):
        factory.stored[name][4:6, 3] = 65535
    factory.write()
    return factory


@pytest.fixture(scope="module")
def opened(scene):
    with open_scene(scene.acquisition(), scene.settings) as opened:
        yield opened


def oracle_validity(factory) -> np.ndarray:
    valid = np.ones((factory.height, factory.width), bool)
    for metres, names in BANDS_BY_RESOLUTION.items():
        for name in names:
            step = metres // 10
            valid &= np.kron(factory.stored[name] != 0, np.ones((step, step), bool))
    return valid


def padded(array: np.ndarray, window: Window, step: int, fill: object) -> np.ndarray:
    """Cut a window out of a whole array by way of padding it generously: the oracle of every cut."""
    margin = 600
    around = [(0, 0)] * (array.ndim - 2) + [(margin, margin)] * 2
    wide = np.pad(array, around, constant_values=fill)
    column, row = window.column // step + margin, window.row // step + margin
    return wide[..., row : row + window.height // step, column : column + window.width // step]


def test_whole_scene_equals_what_was_written(scene, opened):
    pixels = opened.read(opened.grid.whole)
    for stack, metres in ((pixels.b10, 10), (pixels.b20, 20), (pixels.b60, 60)):
        assert stack.dtype == np.float32
        for plane, name in zip(stack, BANDS_BY_RESOLUTION[metres], strict=True):
            np.testing.assert_allclose(plane, made.whole(scene.stored[name]), rtol=1e-6, atol=0)
    np.testing.assert_array_equal(pixels.valid, oracle_validity(scene))
    np.testing.assert_array_equal(pixels.scl, scene.stored["SCL"])


def test_saturated_parents_mark_all_their_children(scene, opened):
    pixels = opened.read(opened.grid.whole)
    expected = np.zeros_like(pixels.saturated)
    for name in ("B03", "B11", "B09"):
        step = scene.metres(name) // 10
        expected |= np.kron(scene.stored[name] == 65535, np.ones((step, step), bool))
    np.testing.assert_array_equal(pixels.saturated, expected)
    assert expected.sum() == 2 * (1 + 4 + 36)


@settings(max_examples=60, deadline=None)
@given(
    column=st.integers(-10, 25).map(lambda n: 6 * n),
    row=st.integers(-10, 20).map(lambda n: 6 * n),
    width=st.integers(1, 30).map(lambda n: 6 * n),
    height=st.integers(1, 30).map(lambda n: 6 * n),
)
def test_any_window_equals_the_slice_of_the_whole(opened, column, row, width, height):
    window = Window(column, row, width, height)
    pixels, whole = opened.read(window), opened.read(opened.grid.whole)
    for name, step, fill in (("b10", 1, np.nan), ("b20", 2, np.nan), ("b60", 6, np.nan), ("valid", 1, False),
                             ("saturated", 1, False), ("scl", 2, 0)):  # fmt: skip
        expected = padded(getattr(whole, name), window, step, fill)
        np.testing.assert_array_equal(getattr(pixels, name), expected, err_msg=name)


@pytest.mark.parametrize(
    "window", [Window(1, 0, 6, 6), Window(0, 3, 6, 6), Window(0, 0, 10, 6), Window(0, 0, 6, 0), Window(0, 0, -6, 6)]
)
def test_unaligned_and_empty_windows_are_refused(opened, window):
    with pytest.raises(ValueError, match="multiples of 6"):
        opened.read(window)


def test_many_threads_read_the_same_as_one(opened):
    windows = [Window(column, row, 36, 24) for row in range(0, 96, 24) for column in range(0, 120, 36)] * 4
    alone = [opened.read(window) for window in windows]
    with ThreadPoolExecutor(8) as pool:
        for one, together in zip(alone, pool.map(opened.read, windows), strict=True):
            np.testing.assert_array_equal(one.b10, together.b10)
            np.testing.assert_array_equal(one.b60, together.b60)
            np.testing.assert_array_equal(one.valid, together.valid)


def test_offset_is_not_applied_twice(tmp_path):
    """A flag that says "already in the pixels" wins over the offset that the same item declares."""
    declare = {"raster:bands": [{"scale": 1e-4, "offset": -0.1}]}
    factory = made.SceneFactory(tmp_path, declare=declare, properties={"earthsearch:boa_offset_applied": True})
    factory.write()
    factory.write_item(collection="sentinel-2-l2a")
    with open_scene(factory.acquisition(), factory.settings) as scene:
        pixels = scene.read(scene.grid.whole)
        assert "boa_offset_applied" in scene.radiometry.rule
    np.testing.assert_allclose(pixels.b10[0], made.whole(factory.stored["B02"]), rtol=1e-6)


def test_offset_is_applied_once_and_nodata_comes_before_it(tmp_path):
    factory = made.SceneFactory(tmp_path, declare={"raster:scale": 1e-4, "raster:offset": -0.1})
    factory.stored["B04"][:] = 1000
    factory.stored["B04"][0, 0] = 0
    factory.stored["B04"][0, 1] = 1
    factory.write()
    with open_scene(factory.acquisition(), factory.settings) as scene:
        red = scene.read(scene.grid.whole).b10[2]
    assert np.isnan(red[0, 0])
    assert red[0, 1] == pytest.approx(-0.0999, abs=1e-7)
    assert red[0, 2] == 0


def test_declared_nodata_counts_beside_zero(tmp_path):
    factory = made.SceneFactory(tmp_path, declare={"raster:scale": 1e-4, "raster:offset": 0, "nodata": 7})
    factory.stored["B08"][3, 4] = 7
    factory.stored["B08"][3, 5] = 0
    factory.write()
    with open_scene(factory.acquisition(), factory.settings) as scene:
        pixels = scene.read(scene.grid.whole)
    assert np.isnan(pixels.b10[3, 3, 4:6]).all()
    assert not pixels.valid[3, 4:6].any()


def test_snow_brighter_than_one_is_kept(tmp_path):
    factory = made.SceneFactory(tmp_path)
    factory.stored["B02"][:] = 16_000
    factory.write()
    with open_scene(factory.acquisition(), factory.settings) as scene:
        np.testing.assert_allclose(scene.read(scene.grid.whole).b10[0], 1.6, rtol=1e-6)


def test_scene_without_classes_says_so(tmp_path):
    factory = made.SceneFactory(tmp_path, classes=False)
    factory.write()
    with open_scene(factory.acquisition(), factory.settings) as scene:
        assert not scene.has_scl
        assert scene.read(scene.grid.whole).scl is None
        seen = survey(scene, scene.grid.whole)
    assert (seen.valid_fraction, seen.cloud_fraction, seen.shadow_fraction) == (1.0, None, None)


def test_survey_counts_cloud_among_valid_pixels_only(tmp_path):
    factory = made.SceneFactory(tmp_path)
    classes = factory.stored["SCL"]
    classes[:] = 4
    classes[:, :15] = [8, 9, 10] * 5
    classes[:, 15:20] = 3
    factory.stored["B05"][:, :10] = 0
    factory.write()
    with open_scene(factory.acquisition(), factory.settings) as scene:
        seen = survey(scene, scene.grid.whole)
        coarse = survey(scene, scene.grid.whole, exact=False)
    assert seen.exact
    assert seen.valid_fraction == pytest.approx(50 / 60)
    assert seen.cloud_fraction == pytest.approx(5 / 50)
    assert seen.shadow_fraction == pytest.approx(5 / 50)
    assert not coarse.exact
    assert coarse.valid_fraction == 1.0
    assert coarse.cloud_fraction == pytest.approx(15 / 60)


@pytest.mark.parametrize("exact", [True, False])
def test_survey_of_an_empty_scene_is_zero(tmp_path, exact):
    factory = made.SceneFactory(tmp_path)
    for stored in factory.stored.values():
        stored[:] = 0
    factory.write()
    with open_scene(factory.acquisition(), factory.settings) as scene:
        seen = survey(scene, scene.grid.whole, exact=exact)
        assert np.isnan(scene.read(scene.grid.whole).b20).all()
    assert (seen.valid_fraction, seen.cloud_fraction) == (0.0, 0.0)


def test_survey_does_not_depend_on_its_cells(scene, opened, monkeypatch):
    whole = survey(opened, opened.grid.whole)
    assert whole.valid_fraction == pytest.approx(oracle_validity(scene).mean())
    monkeypatch.setattr("infra.scene.inspection._CELL", 36)
    assert survey(opened, opened.grid.whole) == whole
