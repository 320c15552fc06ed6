"""The closed-form posterior against independent float64 algebra."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.explain import contributions
from model.mixture import LIKELIHOOD_BANDS, MixturePrior, SpectralPosterior, closed_form

K = 5


def make_prior(classes: int, seed: int = 0) -> tuple[MixturePrior, np.ndarray]:
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(classes, K, K)) * 0.3
    covariance = factors @ factors.transpose(0, 2, 1) + 0.01 * np.eye(K)
    weight = rng.random(classes) + 0.2
    prior = MixturePrior(
        weight / weight.sum(),
        rng.normal(size=(classes, K)) + 1,
        covariance,
        rng.uniform(1e-3, 1e-2, size=(classes, 12)),
        0.05,
    )
    return prior, rng.random((12, K)) / K


def make_bands(count: int = 50, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.02, 0.6, size=(12, count))


def reference(prior: MixturePrior, A: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Posterior mean in float64 by plain inverses, pixel by pixel."""
    out = []
    for pixel in y.T:
        s = np.sqrt((pixel[1:] ** 2).mean() + prior.scale_floor**2)
        z = pixel / s
        log, means = [], []
        for p, m, C, R in zip(prior.weight, prior.mean, prior.covariance, prior.noise, strict=True):
            precision = np.linalg.inv(C) + A.T @ np.diag(1 / R) @ A
            means.append(np.linalg.solve(precision, np.linalg.inv(C) @ m + A.T @ (z / R)))
            V = (A @ C @ A.T + np.diag(R))[LIKELIHOOD_BANDS, LIKELIHOOD_BANDS]
            e = (z - A @ m)[LIKELIHOOD_BANDS]
            log.append(np.log(p) - 0.5 * np.linalg.slogdet(V)[1] - 0.5 * e @ np.linalg.inv(V) @ e)
        w = np.exp(np.array(log) - max(log))
        out.append(s * (w / w.sum()) @ np.array(means))
    return np.array(out).T


@pytest.mark.parametrize("classes", [1, 2, 7])
def test_posterior_mean_agrees_with_information_form_in_float64(classes):
    prior, A = make_prior(classes)
    y = make_bands()
    got = SpectralPosterior(prior, A, torch.device("cpu"))(torch.as_tensor(y, dtype=torch.float32))
    exact = reference(prior, A, y)
    np.testing.assert_allclose(got.coefficients.numpy(), exact, rtol=2e-4, atol=2e-4)


def test_posterior_covariance_is_smaller_than_the_prior_and_positive():
    prior, A = make_prior(3)
    form = closed_form(prior, A)
    for before, after in zip(prior.covariance, form.covariance, strict=True):
        assert np.linalg.eigvalsh(after).min() > 0
        assert np.linalg.eigvalsh(before - after).min() > -1e-10


def test_contributions_and_prior_add_up_to_the_estimate(model, patches):
    """Completeness: x = prior + sum of contributions, on real pixels, with the shipped weights."""
    from model.fusion import fuse

    posterior = model.solver.tools("sentinel-2a").posterior
    msi = patches["S2A_MSIL2A_20170613T101031_87_48"]
    fused = fuse(*(torch.as_tensor(a) for a in (msi.b10, msi.b20, msi.b60)))
    y = fused.bands.reshape(12, -1)[:, ::37]
    prior, parts = contributions(posterior, y)
    total = prior + parts.sum(dim=0)
    np.testing.assert_allclose(total.numpy(), posterior(y).coefficients.numpy(), atol=2e-5)


def test_attribution_is_the_jacobian_of_autograd_at_fixed_class_and_scale(model):
    posterior = model.solver.tools("sentinel-2a").posterior
    y = torch.as_tensor(make_bands(3), dtype=torch.float64)
    s = posterior.scale(y)
    w, _ = posterior.classify((y / s).float())
    w = w.double()

    def estimate(bands: torch.Tensor) -> torch.Tensor:
        form, prior = posterior.form, posterior.prior
        gain, mean = torch.as_tensor(form.gain), torch.as_tensor(prior.mean)
        deviation = (bands / s)[None] - torch.as_tensor(form.band_mean)[:, :, None]
        classes = mean[:, :, None] + torch.einsum("jkb,jbn->jkn", gain, deviation)
        return (w[:, None] * classes).sum(dim=0) * s

    jacobian = torch.autograd.functional.jacobian(lambda b: estimate(b).sum(dim=1), y)  # (k, 12, N)
    step = 1e-3
    _, before = contributions(posterior, y)
    for band in range(12):
        # a contribution is linear in its own band at fixed class and scale, so its slope is the Jacobian's column
        expected = torch.einsum("jn,jk->kn", w, torch.as_tensor(posterior.form.gain[:, :, band]))
        np.testing.assert_allclose(jacobian[:, band].numpy(), expected.numpy(), rtol=1e-9, atol=1e-9)
        deviation = y[band] / s - torch.as_tensor(posterior.form.band_mean)[:, band, None]
        exact = torch.einsum("jn,jk,jn->kn", w, torch.as_tensor(posterior.form.gain[:, :, band]), deviation)
        np.testing.assert_allclose(before[band].numpy(), (exact * s).numpy(), atol=step)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.0, 0.02), st.integers(0, 1000))
def test_dark_pixels_do_not_blow_up_noise(level, seed):
    from model.duality import load_model

    posterior = _shipped(load_model)
    rng = np.random.default_rng(seed)
    y = level + rng.normal(scale=0.002, size=(12, 64))
    x = posterior[1].T @ posterior[0](torch.as_tensor(y, dtype=torch.float32)).coefficients.numpy()
    assert np.abs(x).max() < 0.08


_CACHE: list = []


def _shipped(load_model) -> tuple:
    if not _CACHE:
        model = load_model(device="cpu")
        _CACHE.append((model.solver.tools("sentinel-2a").posterior, model.basis().components))
    return _CACHE[0]


def test_b01_informs_but_never_chooses_class_or_scale():
    prior, A = make_prior(4)
    posterior = SpectralPosterior(prior, A, torch.device("cpu"))
    y = torch.as_tensor(make_bands(), dtype=torch.float32)
    other = y.clone()
    other[0] += 0.3
    first, second = posterior(y), posterior(other)
    torch.testing.assert_close(first.weights, second.weights, rtol=0, atol=0)
    torch.testing.assert_close(first.scale, second.scale, rtol=0, atol=0)
    assert not torch.equal(first.coefficients, second.coefficients)


def test_how_many_pixels_are_asked_for_never_changes_one():
    prior, A = make_prior(3)
    posterior = SpectralPosterior(prior, A, torch.device("cpu"))
    y = torch.as_tensor(make_bands(9000), dtype=torch.float32)
    torch.testing.assert_close(posterior(y).coefficients[:, :4096], posterior(y[:, :4096]).coefficients, rtol=0, atol=0)
