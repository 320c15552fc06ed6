"""Leave-one-split-out: judge the estimate and calibrate its doubts on scenes that the statistics have not seen."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from model.evaluation.metrics import spectral_errors
from model.evaluation.simulation import SimulatedScene, simulate_bands, simulate_scene
from model.solution import DualitySolver
from model.training.corpus import Corpus, draw, judging_splits
from model.training.statistics import REFERENCE_PLATFORM, FitSettings, fit_statistics
from model.uncertainty import (
    GROUP_OF_CHANNEL,
    GROUPS,
    Calibration,
    GroupUncertainty,
    channel_profile,
    channel_variance,
    uncalibrated,
)
from model.unfolding import SpectralPosterior

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from model.parameters import Parameters
    from model.srf import Responses

PIXELS_PER_SPLIT: Final[int] = 3000
NORMAL_90: Final[float] = 1.6449
"""Half-width of a 90 % interval in standard deviations."""

DOMAIN_QUANTILE: Final[float] = 0.95
"""Share of left-out pixels that the out-of-domain limit keeps."""

CHI2_11_999: Final[float] = 31.26
"""99.9 % quantile of chi-square with eleven degrees of freedom: no limit below what noise alone reaches."""


@dataclass(frozen=True)
class _LeftOut:
    """What one split says about statistics that have not seen it."""

    error: NDArray[np.float64]
    """(172, n) absolute errors of the spectral tier; nan where the instrument saw nothing."""
    sigma: NDArray[np.float64]
    """(8, n) uncalibrated sigma."""
    distance: NDArray[np.float64]
    """(n,) squared distance to the domain."""
    metrics: dict[str, float]
    """Spectral tier of the estimate."""
    wiener: dict[str, float]
    """Spectral tier of Wiener's estimate fitted to the same spectra."""
    spatial: list[tuple[NDArray[np.float64], ...]]
    """Full tier: per scene squared errors (8, n), spectral variance (8, n), detail20 (n,), detail60 (n,)."""


def _tools(parameters: Parameters) -> tuple[SpectralPosterior, GroupUncertainty]:
    sensor = parameters.sensors[REFERENCE_PLATFORM]
    observation = sensor.responses @ parameters.basis.components.T
    posterior = SpectralPosterior(sensor.prior, observation, torch.device("cpu"))
    return posterior, GroupUncertainty(posterior, parameters.basis, parameters.floor, uncalibrated())


def _estimate(parameters: Parameters, bands: NDArray[np.floating]) -> tuple[NDArray[np.float64], ...]:
    """Spectra (172, n), uncalibrated group variance (8, n), distance (n,) from bands (12, n)."""
    posterior, uncertainty = _tools(parameters)
    y = torch.as_tensor(np.ascontiguousarray(bands), dtype=torch.float32)
    result = posterior(y)
    variance = uncertainty.spectral_variance(y / result.scale, result.weights, result.scale)
    spectra = parameters.basis.components.T @ result.coefficients.numpy().astype(np.float64)
    return spectra, variance.numpy().astype(np.float64), result.distance.numpy().astype(np.float64)


def _group_squares(error: NDArray[np.float64]) -> NDArray[np.float64]:
    """(8, n) mean squared error over the channels of each group; channels without truth are left out."""
    squares = error**2
    return np.stack([np.nanmean(squares[GROUP_OF_CHANNEL == g], axis=0) for g in range(GROUPS)])


def _spatial(parameters: Parameters, scene: SimulatedScene) -> tuple[NDArray[np.float64], ...]:
    solver = DualitySolver(parameters, torch.device("cpu"))
    msi = scene.msi
    b10, b20, b60 = (torch.as_tensor(a) for a in (msi.b10, msi.b20, msi.b60))
    solution = solver.solve(b10, b20, b60, msi.platform)
    fused, posterior = solution.fused, solution.posterior
    z = fused.bands.reshape(12, -1) / posterior.scale
    uncertainty = solver.tools(msi.platform).uncertainty
    variance = uncertainty.spectral_variance(z, posterior.weights, posterior.scale)
    keep = (fused.valid.numpy() & np.isfinite(scene.truth).all(axis=0)).ravel()
    coefficients = (solution.stored * solver.steps).numpy()[:, keep].astype(np.float64)
    squares = _group_squares(parameters.basis.expand(coefficients) - scene.truth.reshape(172, -1)[:, keep])
    rest = (variance[:, keep], fused.detail20.flatten()[keep], fused.detail60.flatten()[keep])
    return squares, *(part.numpy().astype(np.float64) for part in rest)


def _judge(
    corpus: Corpus, split: str, responses: Mapping[str, Responses], seed: int, settings: FitSettings
) -> tuple[_LeftOut, Parameters]:
    rng = np.random.default_rng([seed, sum(split.encode())])
    spectra, coastal = draw(corpus, {split}, rng)
    fitted = fit_statistics(spectra, coastal, responses, rng, settings)
    wiener = fit_statistics(spectra, coastal, responses, rng, replace(settings, classes=1, scale_floor=1e6))
    D = fitted.sensors[REFERENCE_PLATFORM].responses
    truth, covered, bands, spatial = [], [], [], []
    for file in (f for f in corpus.split(split) if len(f.reflectance) >= 100):
        rows = rng.permutation(len(file.reflectance))[:PIXELS_PER_SPLIT]
        truth.append(file.reflectance[rows].T.astype(np.float64))
        covered.append(np.repeat(file.covered[:, None], rows.size, axis=1))
        bands.append(simulate_bands(file, D, rng, rows))
        if file.name in CONTIGUOUS:
            spatial.append(_spatial(fitted, simulate_scene(file, D, REFERENCE_PLATFORM, rng)))
    y, x = np.concatenate(bands, axis=1), np.concatenate(truth, axis=1)
    x = np.where(np.concatenate(covered, axis=1), x, np.nan)
    estimate, variance, distance = _estimate(fitted, y)
    baseline, _, _ = _estimate(wiener, y)
    left_out = _LeftOut(
        np.abs(estimate - x),
        np.sqrt(variance),
        distance,
        spectral_errors(estimate, x),
        spectral_errors(baseline, x),
        spatial,
    )
    return left_out, fitted


CONTIGUOUS: Final[tuple[str, ...]] = ("aviris_sandiego_a", "aviris_sandiego_b", "enmap_potsdam")
"""Cubes that are one image; the others are stacked plots."""


def _alpha(
    results: list[_LeftOut], profile: NDArray[np.float64], limit: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Factor per group such that 90 % intervals hold 90 % of the errors, every split counting alike."""
    alpha = np.ones(GROUPS)
    for g in range(GROUPS):
        channels = np.flatnonzero(GROUP_OF_CHANNEL == g)
        ratios = []
        for result in results:
            inside = np.flatnonzero(result.distance <= limit)
            ratio = result.error[np.ix_(channels, inside)] / (result.sigma[g, inside] * profile[channels, None])
            known = ratio[np.isfinite(ratio)]
            ratios.append(rng.choice(known, size=20_000) if known.size else known)
        alpha[g] = np.quantile(np.concatenate(ratios), 0.90) / NORMAL_90
    return alpha


def _betas(results: list[_LeftOut], alpha: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Non-negative least squares of what the spectral part leaves of the squared error, on the squared details."""
    scenes = [scene for result in results for scene in result.spatial]
    beta = np.zeros((2, GROUPS))
    for g in range(GROUPS):
        normal, right = np.zeros((2, 2)), np.zeros(2)
        for squares, variance, detail20, detail60 in scenes:
            design = np.stack([detail20**2, detail60**2], axis=1)
            rest = squares[g] - np.minimum(alpha[g] ** 2 * variance[g], squares[g])
            weight = 1.0 / (design.sum(axis=1) + 1e-5) / len(rest)
            normal += (design * weight[:, None]).T @ design
            right += (design * weight[:, None]).T @ rest
        both = np.linalg.solve(normal + 1e-12 * np.eye(2), right)
        if both.min() < 0:
            alone = np.clip(right / np.maximum(np.diag(normal), 1e-12), 0, None)
            keep = (
                int(alone @ right < 0)
                if alone.max() == 0
                else int(np.argmax(right**2 / np.maximum(np.diag(normal), 1e-12)))
            )
            both = np.where(np.arange(2) == keep, alone, 0.0)
        beta[:, g] = np.sqrt(both)
    return beta[0], beta[1]


def _coverage(results: list[_LeftOut], calibration: Calibration) -> dict[str, float]:
    """Coverage of nominal intervals over in-domain left-out pixels, every split counting alike; worst split at 90 %."""
    nominal = {"50": 0.6745, "80": 1.2816, "90": NORMAL_90, "95": 1.96}
    shares: dict[str, list[float]] = {level: [] for level in nominal}
    for result in results:
        inside = result.distance <= calibration.distance_limit
        sigma = (result.sigma * calibration.alpha[:, None])[GROUP_OF_CHANNEL] * calibration.profile[:, None]
        ratio = (result.error / sigma)[:, inside]
        for level, width in nominal.items():
            shares[level].append(float((ratio[np.isfinite(ratio)] <= width).mean()))
    return {**{level: float(np.mean(s)) for level, s in shares.items()}, "worst_split_90": min(shares["90"])}


def calibrate(
    corpus: Corpus,
    responses: Mapping[str, Responses],
    parameters: Parameters,
    seed: int,
    settings: FitSettings,
    progress: Callable[[str, float], None],
) -> tuple[Calibration, dict[str, Any], str]:
    """Leave every judging split out in turn and fit the scale factors to what was got wrong.

    Args:
        corpus: all spectra.
        responses: platform -> response matrix.
        parameters: the final statistics, fitted to everything; they get the calibration.
        seed: of all draws.
        settings: of the fits.
        progress: told what is being done and the fraction done, 0-1.

    Returns:
        The calibration, the metrics of the card, and the calibration's identifier.
    """
    results: dict[str, _LeftOut] = {}
    for number, split in enumerate(judging_splits()):
        progress(f"leaving out {split}", number / len(judging_splits()))
        results[split], _ = _judge(corpus, split, responses, seed, settings)
    rng = np.random.default_rng(seed)
    judged = list(results.values())
    pooled = np.concatenate([rng.choice(r.distance, size=PIXELS_PER_SPLIT) for r in judged])
    limit = max(float(np.quantile(pooled, DOMAIN_QUANTILE)), CHI2_11_999)
    posterior, _ = _tools(parameters)
    profile = channel_profile(channel_variance(posterior, parameters.basis, parameters.floor), posterior.prior.weight)
    alpha = _alpha(judged, profile, limit, rng)
    beta20, beta60 = _betas(judged, alpha)
    calibration = Calibration(alpha, beta20, beta60, profile, limit)
    metrics = {
        "protocol": "leave one split out, spectral tier, Sentinel-2A responses, noise of the table; air's absorptions "
        "bridged in the truth (model.training.corpus.without_atmosphere)",
        "splits": {
            split: {"estimate": r.metrics, "wiener": r.wiener, "out_of_domain": float((r.distance > limit).mean())}
            for split, r in results.items()
        },
        "coverage_in_domain": _coverage(judged, calibration),
        "out_of_domain_limit": limit,
        "alpha": alpha.round(4).tolist(),
        "beta20": beta20.round(4).tolist(),
        "beta60": beta60.round(4).tolist(),
    }
    content = b"".join(np.round(a, 6).tobytes() for a in calibration.to_arrays().values())
    return calibration, metrics, f"leave-one-scene-out-{hashlib.sha256(content).hexdigest()[:10]}"
