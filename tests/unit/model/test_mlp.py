"""The perceptron: what it learns, what it takes out, and what it refuses."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from model.evaluation.networks import SpectralMlp, fit_mlp
from tests.unit.model.network_scenes import D, spectra_of


@cache
def trained_mlp() -> SpectralMlp:
    x = spectra_of(3000, 0)
    return fit_mlp(x, x @ D.T, seed=0, steps=600, batch=128)


def test_a_perceptron_learns_spectra_it_was_not_shown():
    x = spectra_of(400, 1)
    y = x @ D.T
    noisy = y + 0.01 * y * np.random.default_rng(2).normal(size=y.shape)
    error = trained_mlp().predict(noisy.T) - x.T
    assert error.dtype == np.float64
    assert error.shape == (172, 400)
    assert np.sqrt((error**2).mean()) < 0.2 * x.std(axis=0).mean()


def test_brighter_pixels_get_proportional_spectra_where_illumination_is_taken_out():
    y = spectra_of(50, 3) @ D.T + 1.0
    one, two = trained_mlp().predict(y.T), trained_mlp().predict(2 * y.T)
    np.testing.assert_allclose(two, 2 * one, rtol=2e-3)
    plain = SpectralMlp(illumination=False)
    assert torch.equal(plain.scale(torch.rand(4, 12)), torch.ones(4, 1))


def test_the_same_seed_gives_the_same_perceptron_and_leaves_torchs_generator_alone():
    x = spectra_of(100, 4)
    before = torch.random.get_rng_state()
    first, second = (fit_mlp(x, x @ D.T, seed=7, steps=20) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    other = fit_mlp(x, x @ D.T, seed=8, steps=20)
    y = (x @ D.T).T
    np.testing.assert_array_equal(first.predict(y), second.predict(y))
    assert not np.array_equal(first.predict(y), other.predict(y))


def test_noise_may_be_an_array_and_is_felt():
    x = spectra_of(300, 5)
    y = x @ D.T
    quiet = fit_mlp(x, y, np.zeros(12), seed=0, steps=150, batch=128)
    loud = fit_mlp(x, y, np.full(12, 0.2), seed=0, steps=150, batch=128)
    spread = [model.predict(y.T).std(axis=1).mean() for model in (quiet, loud)]
    assert spread[1] < 0.8 * spread[0]  # where bands say little, answers stay near the mean


def test_validation_keeps_the_best_weights_and_stops_early():
    x, other = spectra_of(40, 6), spectra_of(200, 7)
    seen: list[float] = []
    part = (other, other @ D.T)
    fit_mlp(x, x @ D.T, np.zeros(12), seed=0, steps=400, batch=32, validation=(1 - part[0], part[1]),
            progress=lambda _, done: seen.append(done))  # fmt: skip
    assert 0 < seen[-1] < 1  # a truth that bands speak against is never learned: training gives up
    kept = fit_mlp(x, x @ D.T, seed=0, steps=100, batch=64, validation=part)
    last = fit_mlp(x, x @ D.T, seed=0, steps=100, batch=64)
    rmse = [np.sqrt(((m.predict(part[1].T) - other.T) ** 2).mean()) for m in (kept, last)]
    assert rmse[0] < 1.1 * rmse[1]


@pytest.mark.parametrize(
    ("spectra", "bands", "message"),
    [
        (np.zeros((3, 171)), np.zeros((3, 12)), "expected"),
        (np.zeros((3, 172)), np.zeros((4, 12)), "expected"),
        (np.zeros((0, 172)), np.zeros((0, 12)), "expected"),
        (np.full((3, 172), np.nan), np.zeros((3, 12)), "finite"),
    ],
)
def test_a_perceptron_refuses_what_it_cannot_learn_from(spectra, bands, message):
    with pytest.raises(ValueError, match=message):
        fit_mlp(spectra, bands, seed=0, steps=1)


def test_a_perceptron_refuses_bands_of_another_shape():
    with pytest.raises(ValueError, match=r"\(12, n\)"):
        SpectralMlp().predict(np.zeros((5, 12)))
