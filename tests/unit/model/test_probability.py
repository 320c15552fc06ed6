"""Scores of predictive distributions, against numerical integration."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from model.evaluation.probability import (
    LEVELS,
    climatology,
    coverage,
    crps_gaussian,
    half_width,
    normal_cdf,
    pit_histogram,
)

Z = st.floats(-6, 6)


@settings(max_examples=60, deadline=None)
@given(st.floats(-1, 1), st.floats(0.01, 2), Z)
def test_crps_is_the_integral_it_stands_for(mean, sigma, z):
    truth = mean + z * sigma
    below = quad(lambda t: norm.cdf(t, mean, sigma) ** 2, mean - 12 * sigma, truth)[0]
    above = quad(lambda t: norm.sf(t, mean, sigma) ** 2, truth, mean + 12 * sigma)[0]
    score = crps_gaussian(np.array([mean]), np.array([sigma]), np.array([truth]))[0]
    assert score == pytest.approx(below + above, rel=1e-6, abs=1e-9)


def test_a_point_prediction_scores_its_absolute_error():
    mean, truth = np.array([0.2, 0.3]), np.array([0.25, 0.1])
    np.testing.assert_allclose(crps_gaussian(mean, np.zeros(2), truth), [0.05, 0.2])
    np.testing.assert_allclose(crps_gaussian(mean, np.full(2, 1e-9), truth), [0.05, 0.2], atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.2, 5.0).filter(lambda factor: abs(factor - 1) > 0.1))
def test_honesty_is_the_best_policy(factor):
    truth = norm.ppf((np.arange(4000) + 0.5) / 4000)
    honest = crps_gaussian(np.zeros(4000), np.ones(4000), truth).mean()
    assert crps_gaussian(np.zeros(4000), np.full(4000, factor), truth).mean() > honest


def test_the_distribution_function_is_exact():
    z = np.linspace(-9, 9, 301)
    np.testing.assert_allclose(normal_cdf(z), norm.cdf(z), atol=2e-16, rtol=1e-15)
    assert np.isnan(normal_cdf(np.array([np.nan]))).all()


def test_half_widths_are_the_known_ones():
    np.testing.assert_allclose([half_width(level) for level in LEVELS], [0.67449, 1.28155, 1.64485, 1.95996], atol=1e-5)


def test_an_honest_prediction_covers_what_it_says_and_has_a_flat_transform():
    truth = 0.3 + 0.02 * norm.ppf((np.arange(20_000) + 0.5) / 20_000).reshape(4, 5000)
    mean, sigma = np.full_like(truth, 0.3), np.full_like(truth, 0.02)
    for level, share in coverage(mean, sigma, truth).items():
        assert share == pytest.approx(int(level) / 100, abs=1e-3)
    np.testing.assert_allclose(pit_histogram(mean, sigma, truth), 0.1, atol=1e-3)
    narrow = pit_histogram(mean, sigma / 3, truth)
    assert narrow[0] > 0.2
    assert narrow[-1] > 0.2
    assert coverage(mean, sigma / 3, truth)["90"] < 0.5


def test_what_is_unknown_is_not_counted():
    truth = np.array([[0.1, np.nan], [np.nan, 0.9]])
    mean, sigma = np.full((2, 2), 0.1), np.full((2, 2), 0.01)
    assert coverage(mean, sigma, truth) == {"50": 0.5, "80": 0.5, "90": 0.5, "95": 0.5}
    assert pit_histogram(mean, sigma, truth).sum() == pytest.approx(1)
    assert np.isnan(crps_gaussian(mean, sigma, truth)).sum() == 2
    nothing = np.full((2, 2), np.nan)
    assert np.isnan(list(coverage(mean, sigma, nothing).values())).all()
    assert np.isnan(pit_histogram(mean, sigma, nothing)).all()


def test_a_sigma_per_channel_serves_all_pixels():
    truth = np.random.default_rng(0).normal(size=(3, 50))
    sigma = np.array([[0.5], [1.0], [2.0]])
    np.testing.assert_array_equal(
        crps_gaussian(np.zeros_like(truth), sigma, truth),
        crps_gaussian(np.zeros_like(truth), np.repeat(sigma, 50, axis=1), truth),
    )


def test_a_negative_sigma_is_refused():
    with pytest.raises(ValueError, match="negative"):
        crps_gaussian(np.zeros(2), np.array([1.0, -1.0]), np.zeros(2))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(0, 10_000))
def test_climatologys_score_is_its_definition(m, seed):
    rng = np.random.default_rng(seed)
    pool, truth = np.round(rng.normal(size=(m, 3)), 1), np.round(rng.normal(size=(3, 5)), 1)
    score = climatology(pool).crps(truth)
    for c in range(3):
        inner = np.abs(pool[:, c, None] - pool[None, :, c]).mean() / 2
        for i in range(5):
            expected = np.abs(pool[:, c] - truth[c, i]).mean() - inner
            assert score[c, i] == pytest.approx(expected, abs=1e-12)


def test_climatology_of_a_gaussian_pool_scores_as_the_gaussian_and_is_as_wide():
    pool = np.column_stack([mean + 0.1 * norm.ppf((np.arange(5000) + 0.5) / 5000) for mean in (0.2, 0.6)])
    truth = np.array([[0.1, 0.25, 0.5, np.nan], [0.6, 0.7, 0.2, 0.5]])
    score = climatology(pool).crps(truth)
    np.testing.assert_allclose(score, crps_gaussian(np.array([[0.2], [0.6]]), np.array(0.1), truth), atol=2e-4)
    np.testing.assert_allclose(climatology(pool).width(90), 2 * half_width(90) * 0.1, rtol=1e-3)
    lower, upper = climatology(pool).interval(50)
    np.testing.assert_allclose(upper + lower, [0.4, 1.2], rtol=1e-6)


def test_an_empty_or_broken_pool_is_refused():
    for pool in (np.zeros((0, 172)), np.full((3, 172), np.nan), np.zeros(5)):
        with pytest.raises(ValueError, match="pool"):
            climatology(pool)
