"""Metamers: invisible to the sensor, made of real differences, plausible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import null_space as scipy_null_space

from model.bands import CENTRE_NM, SPECTRAL_GROUPS
from model.errors import InvalidSpectra
from model.evaluation.metamers import LOWEST, coverage_of_metamers, metamers, null_space
from model.spectra import PLAUSIBLE
from model.srf import integrate, read_sentinel2_tables
from model.training.corpus import SOURCES, read_corpus

BANDS_NM = np.array([443, 492, 560, 665, 704, 740, 783, 833, 865, 945, 1614, 2202.0])
WIDTHS_NM = np.array([21, 66, 36, 31, 15, 15, 20, 106, 21, 20, 91, 175.0])


@pytest.fixture(scope="module", name="D")
def responses() -> np.ndarray:
    """(12, 172) box-like responses; B01 none, as in the real matrix."""
    weight = np.exp(-0.5 * ((CENTRE_NM - BANDS_NM[:, None]) / (WIDTHS_NM[:, None] / 2.4)) ** 2)
    weight /= weight.sum(axis=1, keepdims=True)
    weight[0] = 0.0
    return weight


def _spectra(n: int, seed: int) -> np.ndarray:
    """(n, 172) smooth spectra of many shapes: leaves, soils, bands of any place."""
    rng = np.random.default_rng(seed)
    leaf = 0.04 + 0.4 / (1 + np.exp(-(CENTRE_NM - 718) / 12)) * np.exp(-(CENTRE_NM - 700) / 1500)
    soil = 0.05 + 0.3 * (1 - np.exp(-(CENTRE_NM - 350) / 600))
    part = rng.random((n, 1))
    band = rng.normal(size=(n, 1)) * 0.2 * np.exp(-(((CENTRE_NM - rng.uniform(900, 2400, (n, 1))) / 120) ** 2))
    return (part * leaf + (1 - part) * soil) * np.exp(band) * rng.uniform(0.4, 1.6, (n, 1))


def test_the_null_space_is_the_whole_null_space(D):
    N = null_space(D)
    assert N.shape == (172, 161)
    np.testing.assert_allclose(D[1:] @ N, 0, atol=1e-14)
    np.testing.assert_allclose(N.T @ N, np.eye(161), atol=1e-12)
    other = scipy_null_space(D[1:])
    np.testing.assert_allclose(N @ N.T, other @ other.T, atol=1e-12)


def test_b01_does_not_constrain_even_where_it_is_given(D):
    wide = D.copy()
    wide[0, :5] = 0.2
    np.testing.assert_allclose(null_space(wide) @ null_space(wide).T, null_space(D) @ null_space(D).T, atol=1e-12)


def test_channels_that_must_not_change_do_not(D):
    free = CENTRE_NM < 2000
    N = null_space(D, free)
    assert (N[~free] == 0).all()
    np.testing.assert_allclose(D[1:] @ N, 0, atol=1e-14)
    np.testing.assert_allclose(N.T @ N, np.eye(N.shape[1]), atol=1e-12)


@pytest.mark.parametrize("kind", ["transplant", "difference"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), strength=st.floats(0.1, 2.0))
def test_metamers_look_the_same_and_are_plausible(D, kind, seed, strength):
    truth, pool = _spectra(60, seed).T, _spectra(200, seed + 1)
    changed = metamers(truth, D, pool, np.random.default_rng(seed), strength, kind=kind)
    np.testing.assert_allclose(D[1:] @ changed, D[1:] @ truth, atol=1e-12)
    assert changed.min() >= LOWEST - 1e-12
    assert changed.max() <= PLAUSIBLE[1] + 1e-12
    assert np.sqrt(((changed - truth) ** 2).mean()) > 1e-3 * strength


def test_a_transplant_of_full_strength_has_the_unseen_part_of_a_real_spectrum(D):
    truth, pool = _spectra(30, 0).T, _spectra(100, 1)
    changed = metamers(truth, D, pool, np.random.default_rng(0))
    N = null_space(D)
    unseen = N.T @ changed
    donors = pool.T / np.linalg.norm(D[1:] @ pool.T, axis=0)
    shares = (N.T @ donors)[:, None, :] * np.linalg.norm(D[1:] @ truth, axis=0)[:, None]
    nearest = np.abs(unseen[:, :, None] - shares).max(axis=0).min(axis=1)
    assert (nearest < 1e-10).mean() > 0.9  # all whose step was not shortened


def test_a_pool_of_the_truth_itself_changes_nothing_where_the_donor_is_the_pixel(D):
    truth = _spectra(1, 0).T
    twins = np.vstack([truth.T, 2 * truth.T])
    np.testing.assert_allclose(metamers(truth, D, twins, np.random.default_rng(0)), truth, atol=1e-12)


def test_no_strength_no_change(D):
    truth = _spectra(5, 0).T
    np.testing.assert_array_equal(metamers(truth, D, _spectra(9, 1), np.random.default_rng(0), 0.0), truth)


def test_a_truth_that_is_already_negative_is_not_made_more_so(D):
    truth = _spectra(20, 0).T
    truth[100] = -0.03
    changed = metamers(truth, D, _spectra(50, 1), np.random.default_rng(0))
    assert (changed[100] >= -0.03 - 1e-12).all()


def test_unmeasured_channels_may_be_unknown(D):
    free = CENTRE_NM < 2250
    truth = np.where(free[:, None], _spectra(20, 0).T, np.nan)
    changed = metamers(truth, D, _spectra(50, 1), np.random.default_rng(0), channels=free)
    np.testing.assert_array_equal(np.isnan(changed), np.isnan(truth))
    step = np.nan_to_num(changed - truth)
    np.testing.assert_allclose(D[1:] @ step, 0, atol=1e-12)
    assert np.abs(step).max() > 1e-3


def test_a_posterior_that_is_right_covers_transplants_as_often_as_it_says():
    """Gaussian ground whose unseen part does not depend on the seen one: the interval is known exactly."""
    rng = np.random.default_rng(0)
    D = np.zeros((12, 172))
    D[range(1, 12), range(11)] = 1.0
    n, m, sigma = 4000, 4000, 0.02
    # What is seen varies little: a donor is scaled to the pixel's bands, and its unseen part with it.
    spread = np.where(np.arange(172) < 11, sigma / 5, sigma)
    truth, pool = (0.5 + spread * rng.normal(size=(count, 172)) for count in (n, m))
    changed = metamers(truth.T, D, pool, rng)
    half = 1.6449 * sigma
    lower, upper = np.full((172, n), 0.5 - half), np.full((172, n), 0.5 + half)
    result = coverage_of_metamers(lower[11:], upper[11:], truth.T[11:], changed[11:])
    assert result["covered_truth"] == pytest.approx(0.90, abs=0.005)
    assert result["covered"] == pytest.approx(0.90, abs=0.005)
    assert result["perturbation_rms"] == pytest.approx(np.sqrt(2) * sigma, rel=0.02)
    assert result["interval_width"] == pytest.approx(2 * half)


def test_coverage_counts_what_is_inside_group_by_group():
    truth = np.full((172, 3), 0.5)
    changed = truth.copy()
    blue, nir = SPECTRAL_GROUPS[0].channels, SPECTRAL_GROUPS[4].channels
    changed[blue] = 0.7
    truth[nir] = np.nan
    result = coverage_of_metamers(truth - 0.1, truth + 0.1, truth, changed)
    assert result["covered_blue"] == 0.0
    assert result["covered_green"] == 1.0
    assert result["covered_truth"] == 1.0
    assert "covered_nir" not in result
    assert result["covered"] == pytest.approx(1 - blue.size / (172 - nir.size))
    assert result["perturbation_rms_blue"] == pytest.approx(0.2)


def test_a_useless_pool_is_refused(D):
    truth = _spectra(3, 0).T
    for pool in (_spectra(1, 0), np.full((5, 172), np.nan)):
        with pytest.raises(InvalidSpectra, match="pool"):
            metamers(truth, D, pool, np.random.default_rng(0))


def test_metamers_of_real_ground_are_mostly_positive_and_invisible(shared_data):
    D = integrate(read_sentinel2_tables(shared_data / "srf" / "s2_srf_1nm.npz")["sentinel-2a"]).matrix
    corpus = read_corpus(shared_data)
    pool = np.concatenate([corpus.files[s.path].reflectance for s in SOURCES if s.split != "potsdam"])[::5]
    truth = corpus.files["cubes/enmap_potsdam.npz"].reflectance[::40].T.astype(np.float64)
    changed = metamers(truth, D, pool, np.random.default_rng(0))
    np.testing.assert_allclose(D[1:] @ changed, D[1:] @ truth, atol=1e-10)
    assert (changed >= np.minimum(truth, 0)).mean() > 0.99
    assert 0.002 < np.sqrt(((changed - truth) ** 2).mean()) < 0.05
