"""Blind unmixing: endmembers that are there, abundances that are optimal, comparisons that are fair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, nnls

from model.bands import CENTRE_NM
from model.errors import InvalidSpectra
from model.evaluation.unmixing import (
    angles,
    assign,
    choose_projection,
    compare_unmixing,
    constrained_abundances,
    match,
    match_abundances,
    signal_to_noise_db,
    unmix,
    vertex_components,
)


def _signatures(p: int) -> np.ndarray:
    """(172, p) smooth, distinct signatures."""
    centres = np.linspace(500, 2300, p)
    return 0.1 + 0.5 * np.exp(-(((CENTRE_NM[:, None] - centres) / 350) ** 2))


def _mixtures(p: int, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signatures, abundances and mixed spectra; the first p pixels are pure."""
    rng = np.random.default_rng(seed)
    E = _signatures(p)
    A = rng.dirichlet(np.full(p, 0.7), size=n).T
    A[:, :p] = np.eye(p)
    return E, A, E @ A


def _nnls_with_sum_row(E: np.ndarray, x: np.ndarray, weight: float = 1e5) -> np.ndarray:
    """Heinz and Chang's own way: the sum-to-one as a heavy extra row of a non-negative problem."""
    p = E.shape[1]
    return nnls(np.vstack([E, np.full((1, p), weight)]), np.r_[x, weight], maxiter=100 * p)[0]


@pytest.mark.parametrize("projection", ["projective", "orthogonal"])
@pytest.mark.parametrize("p", [2, 3, 5, 7])
def test_pure_pixels_are_found_and_their_abundances_too(p, projection):
    E, A, X = _mixtures(p, 300)
    result = unmix(X, p, seed=3, projection=projection)
    assert sorted(result.pixels) == list(range(p))
    order = match(E, result.endmembers)
    np.testing.assert_allclose(result.endmembers[:, order], E, atol=1e-9)
    np.testing.assert_allclose(result.abundances[order], A, atol=1e-8)
    np.testing.assert_allclose(result.reconstruction, X, atol=1e-9)


def test_the_projective_projection_does_not_mind_illumination():
    E, _, X = _mixtures(4, 400)
    light = np.random.default_rng(1).uniform(0.5, 1.5, size=400)
    found, picked = vertex_components(X * light, 4, seed=0, projection="projective")
    assert sorted(picked) == [0, 1, 2, 3]
    np.testing.assert_allclose(np.diag(angles(E, found[:, match(E, found)])), 0, atol=1e-4)


def test_a_nearly_black_pixel_is_no_endmember():
    _, _, X = _mixtures(3, 100)
    X = np.c_[X, 1e-6 * np.random.default_rng(0).normal(size=(172, 5))]
    _, picked = vertex_components(X, 3, seed=0, projection="projective")
    assert picked.max() < 100


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10_000), st.floats(0.0, 0.5))
def test_abundances_agree_with_non_negative_least_squares(p, seed, noise):
    rng = np.random.default_rng(seed)
    E = rng.random((12, p))
    X = E @ rng.dirichlet(np.ones(p), size=4).T + noise * rng.normal(size=(12, 4))
    A = constrained_abundances(E, X)
    assert (A >= 0).all()
    np.testing.assert_allclose(A.sum(axis=0), 1, atol=1e-12)
    oracle = np.stack([_nnls_with_sum_row(E, x) for x in X.T], axis=1)
    np.testing.assert_allclose(A, oracle, atol=1e-4)
    ours, theirs = (((X - E @ a) ** 2).sum(axis=0) for a in (A, oracle / oracle.sum(axis=0)))
    assert (ours <= theirs + 1e-10).all()


def test_twin_endmembers_do_not_break_abundances():
    E = _signatures(3)
    E = np.c_[E, E[:, 0]]
    A = constrained_abundances(E, _signatures(3))
    np.testing.assert_allclose(E @ A, _signatures(3), atol=1e-9)
    np.testing.assert_allclose(A.sum(axis=0), 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(0, 10_000))
def test_assignment_is_the_best_there_is(p, seed):
    cost = np.random.default_rng(seed).normal(size=(p, p))
    ours = assign(cost)
    assert sorted(ours) == list(range(p))
    np.testing.assert_allclose(cost[range(p), ours].sum(), cost[linear_sum_assignment(cost)].sum())


def test_matching_undoes_a_permutation_by_spectra_and_by_abundances():
    E, A, _ = _mixtures(6, 200)
    order = np.random.default_rng(5).permutation(6)
    np.testing.assert_array_equal(match(E, E[:, order]), np.argsort(order))
    np.testing.assert_array_equal(match_abundances(A, A[order]), np.argsort(order))


def test_matching_bears_an_endmember_that_nothing_uses():
    _, A, _ = _mixtures(3, 50)
    A[1] = 0.0
    assert sorted(match_abundances(A, A)) == [0, 1, 2]


def test_small_angles_keep_their_digits():
    x = _signatures(2)
    y = x + 0
    y[:, 0] += 1e-9 * np.sin(CENTRE_NM)
    angle = angles(x, y)
    assert 0 < angle[0, 0] < 1e-6
    assert angle[1, 1] == 0
    across = np.degrees(np.arccos(x[:, 0] @ x[:, 1] / np.linalg.norm(x[:, 0]) / np.linalg.norm(x[:, 1])))
    np.testing.assert_allclose(angle[0, 1], across, rtol=1e-6)


@pytest.mark.parametrize("db", [10.0, 20.0, 40.0])
def test_the_noise_is_estimated_about_right(db):
    _, _, X = _mixtures(4, 4000)
    power = (X**2).sum(axis=0).mean()
    rng = np.random.default_rng(0)
    noisy = X + rng.normal(size=X.shape) * np.sqrt(power / 172 / 10 ** (db / 10))
    assert signal_to_noise_db(noisy, 4) == pytest.approx(db, abs=0.5)
    assert choose_projection(noisy, 4) == ("projective" if db > 21.1 else "orthogonal")


def test_a_little_noise_does_not_turn_the_random_directions():
    """Truth and estimate are asked the same questions: a slightly wrong estimate picks nearly the same endmembers."""
    _, _, X = _mixtures(5, 800)
    nearly = X + 1e-5 * np.random.default_rng(2).normal(size=X.shape)
    for seed in range(5):
        a, b = (vertex_components(cube, 5, seed, "orthogonal")[0] for cube in (X, nearly))
        assert np.diag(angles(a, b)).max() < 0.05  # the same order, without matching


def test_a_comparison_ranks_the_nearer_estimate_first_and_knows_what_bands_cannot_give():
    rng = np.random.default_rng(0)
    _, _, X = _mixtures(4, 500)
    D = rng.random((12, 172))
    D /= D.sum(axis=1, keepdims=True)
    candidates = {
        "same": X,
        "near": X + 0.003 * rng.normal(size=X.shape),
        "far": X + 0.03 * rng.normal(size=X.shape),
    }
    result = compare_unmixing(X, candidates, D @ X, endmembers=4, seed=7, repeats=3)
    assert set(result) == {"truth", "raw", "same", "near", "far"}
    for key in ("endmember_angle_deg", "abundance_rmse", "closure_rmse"):
        assert result["same"][key] < 1e-6
        assert result["near"][key] < result["far"][key]
        assert f"{key}_spread" in result["far"]
    assert result["truth"]["abundance_rmse"] < 1e-6
    assert "endmember_angle_deg" not in result["raw"]
    assert "closure_rmse" not in result["raw"]
    assert result["raw"]["abundance_rmse"] < 1e-6  # no noise and pure pixels: bands separate four materials


def test_unknown_channels_and_pixels_are_left_out():
    _, _, X = _mixtures(3, 200)
    truth = X.copy()
    truth[150:] = np.nan
    truth[:, 199] = np.nan
    wild = X.copy()
    wild[150:] = 9.0
    wild[:, 199] = 9.0
    result = compare_unmixing(truth, {"wild": wild}, X[::15], endmembers=3, repeats=2)
    assert result["wild"]["abundance_rmse"] < 1e-6


def test_what_cannot_be_unmixed_is_refused():
    _, _, X = _mixtures(3, 20)
    with pytest.raises(InvalidSpectra, match="endmembers asked"):
        unmix(X[:, :2], 3, seed=0)
    with pytest.raises(InvalidSpectra, match="not finite"):
        unmix(np.where(X > 0.5, np.nan, X), 3, seed=0)
    with pytest.raises(InvalidSpectra, match="do not fit"):
        compare_unmixing(X, {"short": X[:, :5]}, X[:12], endmembers=3)
    with pytest.raises(InvalidSpectra, match="at most"):
        constrained_abundances(np.ones((20, 11)), X[:20])
    with pytest.raises(ValueError, match="may not be called"):
        compare_unmixing(X, {"truth": X}, X[:12], endmembers=3)
    with pytest.raises(ValueError, match="square"):
        assign(np.zeros((2, 3)))
