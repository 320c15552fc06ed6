"""One file judged: the model and its baselines on the same simulated bands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from model.bands import SPECTRAL_GROUPS
from model.evaluation.metrics import spectral_errors
from model.evaluation.simulation import SimulatedScene, simulate_bands
from model.fusion import fill_invalid, fuse, up
from model.inference import Halo
from model.layers import NODATA
from model.noise import WITHIN_NOISE_SIGMAS, source_sigma
from model.subspace import REFLECTANCE_STEP
from model.uncertainty import spread_over_channels
from model.unfolding import MixturePrior, SpectralPosterior

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.duality import DualityModel, Estimate, Multispectral
    from model.parameters import Parameters
    from model.spectra import Spectra

NOMINAL: Final[dict[str, float]] = {"50": 0.6745, "80": 1.2816, "90": 1.6449, "95": 1.96}
"""Nominal coverage in percent -> half-width of the interval in sigma."""


def wiener_prior(prior: MixturePrior) -> MixturePrior:
    """The mixture collapsed to one Gaussian without illumination scaling left: the linear baseline of the same data."""
    centre = prior.weight @ prior.mean
    spread = prior.mean - centre
    covariance = np.einsum("j,jkl->kl", prior.weight, prior.covariance) + (spread.T * prior.weight) @ spread
    return MixturePrior(
        np.ones(1), centre[None], covariance[None], (prior.weight @ prior.noise)[None], prior.scale_floor
    )


class Baselines:
    """Mean spectrum and Wiener's estimate from the statistics of the model itself."""

    def __init__(self, parameters: Parameters, platform: str) -> None:
        sensor = parameters.sensors[platform]
        self._basis = parameters.basis
        observation = sensor.responses @ parameters.basis.components.T
        self._wiener = SpectralPosterior(wiener_prior(sensor.prior), observation, torch.device("cpu"))

    def wiener(self, bands: NDArray[np.floating]) -> NDArray[np.float64]:
        """(172, n) spectra from bands (12, n)."""
        result = self._wiener(torch.as_tensor(np.ascontiguousarray(bands), dtype=torch.float32))
        return self._basis.expand(result.coefficients.numpy().astype(np.float64))

    def mean(self, bands: NDArray[np.floating]) -> NDArray[np.float64]:
        """(172, n) the prior's mean spectrum at each pixel's brightness."""
        scale = self._wiener.scale(torch.as_tensor(np.ascontiguousarray(bands), dtype=torch.float32)).numpy()
        return self._basis.expand(np.outer(self._wiener.prior.mean[0], scale))


def _groups(estimate: NDArray[np.floating], truth: NDArray[np.floating]) -> dict[str, float]:
    """RMSE of each spectral group, reflectance; groups the instrument does not see are left out."""
    squares = (estimate - truth) ** 2
    known = {group.name: squares[group.channels] for group in SPECTRAL_GROUPS}
    return {name: float(np.sqrt(np.nanmean(s))) for name, s in known.items() if np.isfinite(s).any()}


def _intervals(
    estimate: NDArray[np.floating], sigma: NDArray[np.floating], truth: NDArray[np.floating]
) -> dict[str, Any]:
    """Coverage at each nominal level and mean width of the 90 % interval, reflectance."""
    ratio = np.abs(estimate - truth) / sigma
    ratio = ratio[np.isfinite(ratio)]
    return {
        "coverage": {level: float((ratio <= width).mean()) for level, width in NOMINAL.items()},
        "interval_width": float(2 * NOMINAL["90"] * np.nanmean(sigma)),
    }


def _spectra(estimate: Estimate) -> NDArray[np.float32]:
    """(172, h, w) reflectance, nan = nodata."""
    return np.where(estimate.hsi == NODATA, np.nan, estimate.hsi * np.float32(REFLECTANCE_STEP)).astype(np.float32)


def judge_spectral(model: DualityModel, spectra: Spectra, platform: str, rng: np.random.Generator) -> dict[str, Any]:
    """Spectral tier: all twelve bands of every spectrum given.

    Args:
        model: the model.
        spectra: truth on the product's grid.
        platform: whose responses to simulate.
        rng: source of noise.

    Returns:
        The keys of a file's JSON: ``rmse`` ... ``ood_fraction``, ``groups`` and ``baselines``.
    """
    parameters = model.parameters
    tools = model.solver.tools(platform)
    responses = parameters.sensors[platform].responses
    y = simulate_bands(spectra, responses, rng)
    truth = np.where(spectra.covered[:, None], spectra.reflectance.T.astype(np.float64), np.nan)
    with torch.inference_mode():
        bands = torch.as_tensor(y, dtype=torch.float32, device=model.device)
        posterior = tools.posterior(bands)
        nothing = torch.zeros_like(posterior.scale)
        sigma, _ = tools.uncertainty(bands / posterior.scale, posterior.weights, posterior.scale, nothing, nothing)
    x = parameters.basis.expand(posterior.coefficients.cpu().numpy().astype(np.float64))
    channel = spread_over_channels(sigma.cpu().numpy(), parameters.calibration.profile)
    agreeing = np.abs(responses @ x - y)[1:] <= WITHIN_NOISE_SIGMAS * source_sigma(y)[1:]
    outside = posterior.distance.cpu().numpy() > parameters.calibration.distance_limit
    baselines = Baselines(parameters, platform)
    return {
        **spectral_errors(x, truth),
        **_intervals(x, channel, truth),
        "consistency_within_noise": float(agreeing.all(axis=0).mean()),
        "ood_fraction": float(outside.mean()),
        "groups": _groups(x, truth),
        "baselines": {
            "mean": spectral_errors(baselines.mean(y), truth),
            "wiener": spectral_errors(baselines.wiener(y), truth),
        },
    }


def _bicubic(msi: Multispectral) -> NDArray[np.float32]:
    """(12, h, w) every band at 10 m by interpolation alone."""
    b10, b20, b60 = (fill_invalid(torch.as_tensor(a)) for a in (msi.b10, msi.b20, msi.b60))
    u20, u60 = up(b20, 2), up(b60, 6)
    return np.asarray(torch.cat([u60[:1], b10[:3], u20[:3], b10[3:], u20[3:4], u60[1:], u20[4:]]).numpy())


def judge_full(model: DualityModel, scene: SimulatedScene, covered: NDArray[np.bool_]) -> dict[str, Any]:
    """Full tier: blurred, decimated and noisy bands through the whole model.

    Args:
        model: the model.
        scene: simulated scene with its truth.
        covered: (172,) channels the instrument measured.

    Returns:
        The same keys as `judge_spectral`.
    """
    msi = scene.msi
    estimate = model.estimate(msi, Halo(0, 0, 0, 0))
    x = _spectra(estimate)
    keep = np.isfinite(x[0]) & np.isfinite(scene.truth).all(axis=0)
    truth = np.where(covered[:, None], scene.truth[:, keep].astype(np.float64), np.nan)
    sigma = model.channel_sigma(estimate.uncertainty)[:, keep]
    quality = model.quality(estimate.totals)
    baselines = Baselines(model.parameters, msi.platform)
    guided = fuse(*(torch.as_tensor(a) for a in (msi.b10, msi.b20, msi.b60))).bands.numpy()
    candidates = {
        "bicubic_wiener": baselines.wiener(_bicubic(msi)[:, keep]),
        "guided_wiener": baselines.wiener(guided[:, keep]),
        "all_at_10m_wiener": baselines.wiener(np.nan_to_num(scene.at_10m)[:, keep]),
        "mean": baselines.mean(guided[:, keep]),
    }
    return {
        **spectral_errors(x[:, keep], truth),
        **_intervals(x[:, keep], sigma, truth),
        "consistency_within_noise": quality["within_noise_fraction"],
        "ood_fraction": quality["out_of_domain_fraction"],
        "groups": _groups(x[:, keep], truth),
        "baselines": {name: spectral_errors(spectra, truth) for name, spectra in candidates.items()},
    }
