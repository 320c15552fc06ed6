"""Diagnostic features and the verdict whether bands identify them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

from model.bands import CENTRE_NM
from model.errors import InvalidSpectra
from model.evaluation.features import (
    BRIGHT,
    FEATURES,
    IDENTIFIABLE_R2,
    MIN_SPECTRA,
    SPREAD_OVER_NOISE,
    WEAKLY_IDENTIFIABLE_R2,
    band_depth,
    channel_noise,
    feature_noise,
    feature_table,
    judge_features,
    ndvi,
    red_edge_linear,
    red_edge_peak,
    verdict,
    window,
)
from model.training.corpus import ATMOSPHERE_NM

BY_NAME = {feature.name: feature for feature in FEATURES}
# Where each depth is measured: (feature, a wavelength in its band, a half-width that holds the band and no shoulder).
BANDS = [
    ("iron_depth", 895.0, 60.0),
    ("clay_depth", 2205.0, 25.0),
    ("carbonate_depth", 2333.0, 25.0),
    ("water_970_depth", 977.0, 30.0),
    ("water_depth", 1200.0, 40.0),
    ("dry_vegetation", 2100.0, 30.0),
]


def _leaves(edges: np.ndarray, width: float = 11.0) -> np.ndarray:
    """(172, n) canopies whose reflectance rises steepest at ``edges``."""
    return 0.05 + 0.4 / (1 + np.exp(-(CENTRE_NM[:, None] - edges) / width))


def _soils(depth: np.ndarray, name: str) -> np.ndarray:
    """(172, n) sloping ground with a box-like absorption of known depth."""
    _, at, half = next(band for band in BANDS if band[0] == name)
    line = (0.25 + 0.1 * (CENTRE_NM - 450) / 2000)[:, None]
    return line * np.where(np.abs(CENTRE_NM - at)[:, None] <= half, 1 - depth, 1.0)


def test_windows_are_in_order_of_wavelength_across_the_detectors_overlap():
    for low, high in ((640, 690), (1240, 1290)):
        channels = window(low, high)
        assert (np.diff(CENTRE_NM[channels]) > 0).all()
        assert not (np.diff(channels) == 1).all()  # the grid itself is not in that order here


@pytest.mark.parametrize(("name", "at", "half"), BANDS)
@settings(max_examples=20, deadline=None)
@given(depth=st.floats(-0.3, 0.9), slope=st.floats(-0.5, 0.5), light=st.floats(0.2, 3.0))
def test_a_depth_is_what_was_taken_off_a_sloping_continuum(name, at, half, depth, slope, light):
    line = light * (0.4 + slope * (CENTRE_NM - 1400) / 2000)
    spectrum = np.where(np.abs(CENTRE_NM - at) <= half, (1 - depth) * line, line)
    assert BY_NAME[name].measure(spectrum[:, None])[0] == pytest.approx(depth, abs=1e-9)


def test_no_window_touches_what_the_data_bridge():
    for feature in FEATURES:
        for low, high in ATMOSPHERE_NM:
            bridged = (low <= CENTRE_NM) & (high >= CENTRE_NM)
            if feature.name == "red_edge_nm":
                continue  # its last slope ends inside, beyond the range where an edge lies
            spectrum = _leaves(np.array([718.0]))
            changed = spectrum.copy()
            changed[bridged] += 0.2
            np.testing.assert_array_equal(feature.measure(spectrum), feature.measure(changed))


def test_a_bad_estimates_depth_is_large_but_finite():
    assert np.isfinite(band_depth(np.full((172, 1), -0.2), (740, 754), (870, 920), (1273, 1314))).all()


@settings(max_examples=60, deadline=None)
@given(st.floats(700, 742), st.floats(8, 16), st.floats(0.3, 2))
def test_the_steepest_rise_is_found_between_channels(edge, width, light):
    found = red_edge_peak(light * _leaves(np.array([edge]), width))[0]
    assert found == pytest.approx(edge, abs=1.0)


def test_the_steepest_rise_agrees_with_a_splines():
    edges = np.linspace(702, 738, 19)
    spectra = _leaves(edges, 12.0) + 0.05 * np.sin(CENTRE_NM / 90)[:, None]
    chosen = window(670, 775)
    fine = np.linspace(690, 755, 6501)
    slope = CubicSpline(CENTRE_NM[chosen], spectra[chosen])(fine, 1)
    np.testing.assert_allclose(red_edge_peak(spectra), fine[slope.argmax(axis=0)], atol=1.2)


def test_an_edge_at_the_border_and_a_flat_or_unknown_spectrum_give_no_nonsense():
    edges = red_edge_peak(_leaves(np.array([600.0, 900.0])))
    assert (edges >= 680).all()
    assert (edges <= 765).all()
    assert np.isfinite(red_edge_peak(np.full((172, 1), 0.3))).all()
    unknown = _leaves(np.array([715.0]))
    unknown[window(700, 720)] = np.nan
    assert np.isnan(red_edge_peak(unknown)).all()
    assert np.isnan(red_edge_linear(unknown)).all()


def test_the_four_point_edge_follows_its_formula_and_a_shift():
    spectra = _leaves(np.array([715.0, 725.0]), 14.0)
    detector = np.flatnonzero((CENTRE_NM > 660) & (CENTRE_NM < 800))
    detector = detector[detector > 21]  # the first detector ends with the 22nd channel
    a, b, c = np.interp([670, 700, 740], CENTRE_NM[detector], spectra[detector, 0])
    d = spectra[int(np.abs(CENTRE_NM - 782.4).argmin()), 0]
    found = red_edge_linear(spectra)
    assert found[0] == pytest.approx(700 + 40 * ((a + d) / 2 - b) / (c - b))
    assert found[0] == pytest.approx(715, abs=5)
    assert 5 < found[1] - found[0] < 11


def test_features_are_judged_where_they_mean_something():
    leaf, soil, shadow = _leaves(np.array([718.0])), _soils(np.array([0.1]), "iron_depth"), np.full((172, 1), 0.01)
    spectra = np.hstack([leaf, soil, shadow])
    assert ndvi(leaf)[0] > 0.5 > 0.3 > ndvi(soil)[0]
    assert BY_NAME["red_edge_nm"].defined(spectra).tolist() == [True, False, False]
    assert BY_NAME["iron_depth"].defined(spectra).tolist() == [False, True, False]
    assert BY_NAME["clay_depth"].defined(spectra).tolist() == [True, True, False]
    assert BRIGHT > 0.01


def test_noise_is_found_in_smooth_spectra_and_a_little_overstated():
    rng = np.random.default_rng(0)
    part = rng.random((1, 3000))
    smooth = part * _leaves(np.array([718.0])) + (1 - part) * _soils(np.array([0.0]), "clay_depth")
    sigma = channel_noise(smooth + 0.004 * rng.normal(size=smooth.shape))
    assert (sigma > 0.0036).all()
    assert np.median(sigma) < 0.0056
    broken = smooth.copy()
    broken[5] = np.nan
    assert np.flatnonzero(np.isnan(channel_noise(broken))).tolist() == [5]
    broken[:-2] = np.nan
    assert np.isnan(channel_noise(broken)).all()


def test_a_features_noise_is_its_sigma_propagated():
    truth = _soils(np.full(3000, 0.1), "clay_depth")
    noise = feature_noise(BY_NAME["clay_depth"], truth, np.full(172, 0.002))
    line = 0.25 + 0.1 * (2205 - 450) / 2000
    # Two channels in the band, one or two on either shoulder, whose mean is the continuum.
    counts = [window(2195, 2215).size, window(2115, 2130).size, window(2245, 2260).size]
    expected = 0.002 / line * np.sqrt(1 / counts[0] + 0.9**2 * (0.36**2 / counts[1] + 0.64**2 / counts[2]))
    assert noise == pytest.approx(expected, rel=0.1)


def test_an_estimate_is_judged_by_what_it_follows():
    rng = np.random.default_rng(0)
    depth = rng.uniform(0, 0.3, size=400)
    truth = _soils(depth, "clay_depth") + 1e-4 * rng.normal(size=(172, 400))
    perfect = judge_features(truth, truth)["clay_depth"]
    assert perfect["r2"] == 1
    assert perfect["rmse"] == 0
    assert perfect["n"] == 400
    assert perfect["spread"] == pytest.approx(depth.std(), rel=0.02)
    blind = judge_features(_soils(np.full(400, depth.mean()), "clay_depth"), truth)["clay_depth"]
    assert blind["r2"] == pytest.approx(0, abs=0.01)
    shifted = judge_features(_soils(depth + 0.1, "clay_depth"), truth)["clay_depth"]
    assert shifted["bias"] == pytest.approx(0.1, abs=1e-3)
    assert shifted["r2"] < 0
    assert shifted["r2_within"] > 0.99
    half = judge_features(_soils((depth + depth.mean()) / 2, "clay_depth"), truth)["clay_depth"]
    assert half["r2"] == pytest.approx(0.75, abs=0.01)


def test_a_truth_that_hardly_varies_gives_no_figure():
    rng = np.random.default_rng(0)
    truth = _soils(0.1 + 0.001 * rng.normal(size=500), "clay_depth") + 0.005 * rng.normal(size=(172, 500))
    row = judge_features(truth, truth)["clay_depth"]
    assert np.isnan(row["r2"])
    assert row["spread"] < SPREAD_OVER_NOISE * row["noise"]
    assert row["n"] == 500


def test_few_spectra_or_unknown_channels_give_no_figure():
    truth = _soils(np.linspace(0, 0.3, MIN_SPECTRA - 1), "clay_depth")
    assert np.isnan(judge_features(truth, truth)["clay_depth"]["r2"])
    truth = _soils(np.linspace(0, 0.3, 100), "clay_depth")
    truth[window(2195, 2215)] = np.nan
    judged = judge_features(np.nan_to_num(truth), truth)
    assert judged["clay_depth"]["n"] == 0
    assert judged["red_edge_nm"]["n"] == 0
    assert judged["iron_depth"]["n"] == 100


def test_arrays_that_do_not_fit_are_refused():
    for estimate, truth in ((np.zeros((172, 3)), np.zeros((172, 4))), (np.zeros((12, 3)), np.zeros((12, 3)))):
        with pytest.raises(InvalidSpectra, match="172"):
            judge_features(estimate, truth)


def test_the_verdict_follows_the_median_of_what_was_judged():
    assert verdict([0.1, IDENTIFIABLE_R2, 0.9]) == "identifiable"
    assert verdict([-3.0, WEAKLY_IDENTIFIABLE_R2, 0.9, float("nan")]) == "weakly identifiable"
    assert verdict([0.9, 0.2, -9.0]) == "not identifiable"
    with pytest.raises(ValueError, match="no scene"):
        verdict([float("nan")])


def test_the_table_sums_up_the_files_that_could_judge():
    rng = np.random.default_rng(0)
    shallow, deep = rng.uniform(0, 0.2, 100), rng.uniform(0, 0.3, 100)
    noise = 1e-4 * rng.normal(size=(172, 100))
    files = {
        "perfect": judge_features(_soils(deep, "clay_depth") + noise, _soils(deep, "clay_depth") + noise),
        "blind": judge_features(_soils(np.zeros(100), "clay_depth"), _soils(shallow, "clay_depth") + noise),
        "short": judge_features(_soils(deep[:9], "clay_depth"), _soils(deep[:9], "clay_depth")),
    }
    row = feature_table(files)["clay_depth"]
    assert row["files"] == 2
    assert row["n"] == 200
    assert row["r2_max"] == 1
    assert row["r2_min"] < 0
    assert row["r2_median"] == pytest.approx((row["r2_min"] + row["r2_max"]) / 2)
    edge = feature_table(files)["red_edge_nm"]
    assert edge["verdict"] == "not judged"
    assert edge["r2_median"] is None
