"""The closed-form posterior and the unfolded stages against independent float64 algebra."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.explain import contributions
from model.mixture import LIKELIHOOD_BANDS, MixturePrior, SpectralPosterior, closed_form
from model.unfolding import RELAXATION, Unfolding, data_gain, pooled

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


def _pixels(patches) -> torch.Tensor:
    """Real pixels of the crop patch, all bands at 10 m."""
    from model.fusion import fuse

    msi = patches["S2A_MSIL2A_20170613T101031_87_48"]
    fused = fuse(*(torch.as_tensor(a) for a in (msi.b10, msi.b20, msi.b60)))
    return fused.bands.reshape(12, -1)[:, ::37]


def test_contributions_prior_and_learned_residual_add_up_to_the_estimate(model, patches):
    """Completeness: x = prior + sum of contributions + learned residual, on real pixels, with the shipped weights."""
    unfolding = model.solver.tools("sentinel-2a").unfolding
    y = _pixels(patches)
    prior, parts, learned = contributions(unfolding, y)
    total = prior + parts.sum(dim=0) + learned
    np.testing.assert_allclose(total.numpy(), unfolding(y).coefficients.numpy(), atol=3e-5)
    assert learned.abs().max() > 1e-3


def test_attribution_is_the_jacobian_of_autograd(model, patches):
    """Autograd runs through the unrolled stages themselves: data steps in float64 with the matrices of the paper, class
    probabilities, scale and proximal steps held. Nothing of the folded matrices K' is used on that side."""
    unfolding = model.solver.tools("sentinel-2a").unfolding
    posterior, sensor = unfolding.posterior, model.parameters.sensors["sentinel-2a"]
    A = sensor.responses @ model.basis().components.T
    C, R = pooled(posterior.prior)
    y = _pixels(patches)[:, :40]
    held = unfolding(y)
    s, w = held.scale.double(), held.weights.double()
    steps = _proximal_steps(unfolding, y)
    form, mean = posterior.form, torch.as_tensor(posterior.prior.mean)

    def estimate(bands: torch.Tensor) -> torch.Tensor:
        z = bands / s
        deviation = z[None] - torch.as_tensor(form.band_mean)[:, :, None]
        classes = mean[:, :, None] + torch.einsum("jkb,jbn->jkn", torch.as_tensor(form.gain), deviation)
        v0 = v = (w[:, None] * classes).sum(dim=0)
        for f, stage in zip(steps, unfolding.weights.stages, strict=True):
            p = v + f
            rho_C = torch.as_tensor(float(stage.rho[0]) * C)
            precision = torch.linalg.inv(rho_C) + torch.as_tensor(A.T / R) @ torch.as_tensor(A)
            v = torch.linalg.solve(precision, torch.linalg.solve(rho_C, p) + torch.as_tensor(A.T / R) @ z)
        return ((1 - RELAXATION) * v0 + RELAXATION * v) * s

    jacobian = torch.autograd.functional.jacobian(lambda b: estimate(b).sum(dim=1), y.double())  # (k, 12, N)
    gain = torch.einsum("jn,jkb->kbn", w, torch.as_tensor(unfolding.gain))
    np.testing.assert_allclose(jacobian.numpy(), gain.numpy(), atol=1e-6)
    np.testing.assert_allclose(estimate(y.double()).numpy(), held.coefficients.numpy(), atol=3e-5)
    _, parts, _ = contributions(unfolding, y.double())
    shift = torch.einsum("jn,jkb,jb->bkn", w, torch.as_tensor(unfolding.gain), torch.as_tensor(form.band_mean)) * s
    linear = jacobian.permute(1, 0, 2) * y.double()[:, None] - shift
    np.testing.assert_allclose(parts.numpy(), linear.numpy(), atol=1e-5)


def _proximal_steps(unfolding: Unfolding, y: torch.Tensor) -> list[torch.Tensor]:
    """What each stage learned to add, by plain float64 perceptrons from the stored weights."""
    iterates = [c.double() / unfolding(y).scale for c in unfolding.iterates(y)]
    z = y.double() / unfolding(y).scale
    out = []
    for stage, v in zip(unfolding.weights.stages, iterates[:-1], strict=True):
        h = torch.as_tensor(stage.inner) @ torch.cat([z, v]) + torch.as_tensor(stage.inner_bias)[:, None]
        h = torch.as_tensor(stage.middle) @ h.clamp_min(0) + torch.as_tensor(stage.middle_bias)[:, None]
        out.append(torch.as_tensor(stage.outer) @ h.clamp_min(0) + torch.as_tensor(stage.outer_bias)[:, None])
    return out


def test_each_data_step_minimises_its_objective(model, patches):
    """||R^-1/2 (z - A v)||^2 + ||v - p||^2 in the metric of rho C: no nearby point is lower."""
    unfolding = model.solver.tools("sentinel-2a").unfolding
    A = model.parameters.sensors["sentinel-2a"].responses @ model.basis().components.T
    C, R = pooled(unfolding.posterior.prior)
    y = _pixels(patches)[:, :20]
    z = (y.double() / unfolding(y).scale).numpy()
    rng = np.random.default_rng(0)
    iterates = [(c.double() / unfolding(y).scale).numpy() for c in unfolding.iterates(y)]
    for f, stage, before, after in zip(
        _proximal_steps(unfolding, y), unfolding.weights.stages, iterates[:-1], iterates[1:], strict=True
    ):
        p = before + f.numpy()
        inverse = np.linalg.inv(float(stage.rho[0]) * C)

        def objective(v, p=p, inverse=inverse):
            d = v - p
            return ((z - A @ v) ** 2 / R[:, None]).sum(axis=0) + np.einsum("kn,kl,ln->n", d, inverse, d)

        exact = p + data_gain(C, R, A, float(stage.rho[0])) @ (z - A @ p)
        np.testing.assert_allclose(after, exact, atol=1e-4)
        for _ in range(5):
            assert (objective(exact + rng.normal(scale=1e-3, size=exact.shape)) > objective(exact)).all()


def test_the_learned_part_stays_small(model, patches):
    """Share of the learned residual in the estimate, as the product reports it."""
    from model.inference import Halo

    estimate = model.estimate(patches["S2A_MSIL2A_20170613T101031_87_48"], Halo(0, 0, 0, 0))
    names = [layer.name for layer in model.explanation_layers]
    share = estimate.explanation[names.index("learned_share")] * 1e-4
    assert 0 < np.median(share) < 0.15


def test_without_its_networks_the_model_is_the_closed_form(model, patches):
    from model.duality import load_model

    plain = load_model(device="cpu", learned=False)
    tools = plain.solver.tools("sentinel-2a")
    y = _pixels(patches)
    torch.testing.assert_close(tools.unfolding(y).coefficients, tools.posterior(y).coefficients, rtol=0, atol=5e-6)
    assert not tools.unfolding(y).learned.any()
    assert not torch.equal(tools.posterior(y).coefficients, model.solver.tools("sentinel-2a").unfolding(y).coefficients)


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
