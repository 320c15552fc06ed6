"""The unfolded network: its mathematics, its tiles and its training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from model.bands import CENTRE_NM, SOURCE_BAND_NAMES
from model.evaluation.networks import Cos2aLike, fit_cos2a
from model.evaluation.networks.cos2a_fit import chips_rmse
from tests.unit.model.network_scenes import D, noisy_scene_of, scene_of


@given(seed=st.integers(0, 2**31), log_penalty=st.floats(-4, 3))
@settings(max_examples=20, deadline=None)
def test_the_data_step_is_the_exact_minimiser(seed, log_penalty):
    rng = np.random.default_rng(seed)
    network = Cos2aLike(stages=1, width=2, blocks=1).double()
    with torch.no_grad():
        network.D.copy_(torch.as_tensor(rng.normal(size=(12, 172))))
        network.log_penalty.fill_(log_penalty)
        y, v = rng.normal(size=(2, 12, 2, 3)), rng.normal(size=(2, 172, 2, 3))
        got = network.data_step(torch.as_tensor(y), torch.as_tensor(v), 0).numpy()
    A, mu = network.D.detach().numpy(), np.exp(log_penalty)
    normal = A.T @ A + mu * np.eye(172)  # the 172 x 172 system that Woodbury's identity spares
    right = np.einsum("bc,nbhw->nchw", A, y) + mu * v
    expected = np.einsum("cd,ndhw->nchw", np.linalg.inv(normal), right)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-8)


def test_with_an_untrained_prior_the_stages_are_the_plain_iteration():
    torch.manual_seed(0)
    network = Cos2aLike(width=4, blocks=1).double()
    y = torch.rand(1, 12, 5, 6, dtype=torch.float64)
    with torch.no_grad():
        z = network.first(y)
        for stage in range(4):
            z = network.data_step(y, z, stage)
        torch.testing.assert_close(network(y), z)
        missing = y - torch.einsum("bc,nchw->nbhw", network.D, z)
        before = y - torch.einsum("bc,nchw->nbhw", network.D, network.first(y))
    assert missing.norm() < before.norm()


def test_learning_starts_from_the_bands_nominal_responses():
    assert D.shape == (12, 172)
    np.testing.assert_allclose(D.sum(axis=1), 1)
    peaks = dict(zip(SOURCE_BAND_NAMES, CENTRE_NM[D.argmax(axis=1)], strict=True))
    assert peaks["B04"] == pytest.approx(664.6, abs=6)
    assert peaks["B12"] == pytest.approx(2202.4, abs=6)
    assert D[0].argmax() == 0  # B01 lies below the grid


@given(height=st.integers(5, 40), width=st.integers(5, 40), tile=st.integers(4, 30))
@settings(max_examples=10, deadline=None)
def test_tiles_show_no_seams(height, width, tile):
    torch.manual_seed(1)
    network = Cos2aLike(stages=2, width=6, blocks=1)
    nn.init.normal_(network.prior.tail.weight, std=0.05)
    y = np.random.default_rng(0).random((12, height, width), dtype=np.float32)
    with torch.no_grad():
        whole = network(torch.as_tensor(y)[None])[0].numpy()
    np.testing.assert_allclose(network.predict(y, tile), whole, atol=2e-5)


def test_an_answer_depends_on_nothing_beyond_its_reach():
    torch.manual_seed(2)
    network = Cos2aLike(stages=2, width=6, blocks=1).double()
    nn.init.normal_(network.prior.tail.weight, std=0.05)
    y = torch.rand(1, 12, 1 + 2 * network.reach + 4, 7, dtype=torch.float64, requires_grad=True)
    row = y.shape[2] // 2
    (gradient,) = torch.autograd.grad(network(y)[0, :, row, 3].sum(), y)
    felt = torch.nonzero(gradient.abs().sum(dim=(0, 1, 3))).flatten()
    assert felt.min() == row - network.reach
    assert felt.max() == row + network.reach


def test_the_network_refuses_other_shapes_and_gaps():
    with pytest.raises(ValueError, match="finite"):
        Cos2aLike(width=2, blocks=1).predict(np.full((12, 6, 6), np.nan))
    with pytest.raises(ValueError, match=r"\(12, h, w\)"):
        Cos2aLike(width=2, blocks=1).predict(np.zeros((11, 6, 6)))


# Its training


def test_training_starts_at_the_linear_estimate():
    chips = [scene_of(18, 18, seed) for seed in range(3)]
    start = fit_cos2a(chips, seed=0, steps=1, patch=12, batch=1, rate=0.0)
    y = np.concatenate([c[0].reshape(12, -1) for c in chips], axis=1).T.astype(float)
    x = np.concatenate([c[1].reshape(172, -1) for c in chips], axis=1).T.astype(float)
    linear = np.linalg.lstsq(np.c_[y, np.ones(len(y))], x, rcond=None)[0]
    expected = np.sqrt(((np.c_[y, np.ones(len(y))] @ linear - x) ** 2).mean())
    # The stages of an untrained prior pull the linear estimate a little towards the bands.
    assert chips_rmse(start, chips) < 1.5 * expected


def test_training_finds_what_no_pixels_own_bands_can_tell():
    chips = [noisy_scene_of(18, 18, seed) for seed in range(3)]
    told: list[str] = []
    start = fit_cos2a(chips, seed=0, steps=1, patch=12, batch=1, rate=0.0)
    trained = fit_cos2a(chips, seed=0, steps=40, patch=12, batch=1, progress=lambda what, _: told.append(what))
    assert chips_rmse(trained, chips) < 0.97 * chips_rmse(start, chips)
    assert len(told) == 10
    assert "training RMSE" in told[-1]


def test_training_is_repeatable_and_keeps_the_best_on_what_is_left_out():
    chips, held = [scene_of(14, 14, 5)], [scene_of(10, 10, 9)]
    first, second = (fit_cos2a(chips, seed=3, steps=2, patch=8, batch=1) for _ in range(2))
    np.testing.assert_array_equal(first.predict(held[0][0]), second.predict(held[0][0]))
    start = fit_cos2a(chips, seed=3, steps=1, patch=8, batch=1, rate=0.0)
    wild = fit_cos2a(chips, seed=3, steps=3, patch=8, batch=1, rate=1.0, validation=held)
    assert chips_rmse(wild, held) <= chips_rmse(start, held) * (1 + 1e-6)


def test_unknown_truth_is_not_learned():
    y, x = scene_of(14, 14, 5)
    hidden = x.copy()
    hidden[:, :4] = np.nan
    wrong = x.copy()
    wrong[:, :4] = np.nan
    model = fit_cos2a([(y, hidden)], seed=3, steps=2, patch=8, batch=1)
    assert np.isfinite(model.predict(y)).all()
    assert np.isfinite(chips_rmse(model, [(y, wrong)]))


def test_a_time_limit_ends_training():
    model = fit_cos2a([scene_of(14, 14, 5)], seed=3, steps=10**9, patch=8, batch=1, seconds=0.5)
    assert not model.training


def test_chips_must_hold_a_patch():
    with pytest.raises(ValueError, match="16 x 16"):
        fit_cos2a([scene_of(12, 30, 0)], seed=0, steps=1)
    y, x = scene_of(20, 20, 0)
    with pytest.raises(ValueError, match="finite"):
        fit_cos2a([(np.where(y > y.mean(), np.nan, y), x)], seed=0, steps=1)
    with pytest.raises(ValueError, match="shapes"):
        fit_cos2a([(y[:11], x)], seed=0, steps=1)
    with pytest.raises(ValueError, match="none of 1"):
        fit_cos2a([(y, np.full_like(x, np.nan))], seed=0, steps=1)
