"""Scale factors of the uncertainty, fitted to what left-out scenes show was got wrong.

Nested: what judges a scene is calibrated on the other scenes alone, by fits that have seen neither of the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from model.mixture import LIKELIHOOD_BANDS, SpectralPosterior, closed_form
from model.training.statistics import REFERENCE_PLATFORM
from model.training.units import PIXELS_PER_SPLIT, LeftOut
from model.uncertainty import (
    GROUP_OF_CHANNEL,
    GROUPS,
    Calibration,
    channel_profile,
    channel_variance,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from model.parameters import Parameters

NORMAL_90: Final[float] = 1.6449
"""Half-width of a 90 % interval in standard deviations."""

NOMINAL: Final[dict[str, float]] = {"50": 0.6745, "80": 1.2816, "90": NORMAL_90, "95": 1.96}

DOMAIN_QUANTILE: Final[float] = 0.95
"""Share of left-out pixels that the out-of-domain limit keeps."""

DOMAIN_FLOOR: Final[float] = 0.999
"""Share of what the prior itself gives that the out-of-domain limit keeps at least."""

COVERED: Final[float] = 0.92
"""Share of the calibrating scenes' errors that a 90 % interval is made to hold. Scenes differ more than pixels do, and
there are few of them; the two points in excess are for the scene that is worse than those at hand."""

_DRAWS: Final[int] = 20_000
_FROM_THE_PRIOR: Final[int] = 100_000


def profile_of(parameters: Parameters, platform: str = REFERENCE_PLATFORM) -> NDArray[np.float64]:
    """(172,) sigma of each channel relative to its group's."""
    sensor = parameters.sensors[platform]
    observation = sensor.responses @ parameters.basis.components.T
    posterior = SpectralPosterior(sensor.prior, observation, torch.device("cpu"))
    return channel_profile(channel_variance(posterior, parameters.basis, parameters.floor), sensor.prior.weight)


def domain_floor(parameters: Parameters, platform: str = REFERENCE_PLATFORM) -> float:
    """The distance d of `model.mixture` within which `DOMAIN_FLOOR` of what the prior itself gives stay, with noise.

    A lower limit would refuse what the model holds for known.
    """
    sensor = parameters.sensors[platform]
    form = closed_form(sensor.prior, sensor.responses @ parameters.basis.components.T)
    rng = np.random.default_rng(0)
    weight = sensor.prior.weight
    drawn = rng.multinomial(_FROM_THE_PRIOR, weight / weight.sum())
    mean = form.band_mean[:, LIKELIHOOD_BANDS]
    distances = []
    for j, count in enumerate(drawn):
        z = np.linalg.solve(form.whitener[j], rng.standard_normal((mean.shape[1], count))).T + mean[j]
        white = (((z - m) @ L.T) ** 2 for m, L in zip(mean, form.whitener, strict=True))
        distances.append(np.min([w.sum(axis=1) + width for w, width in zip(white, form.width, strict=True)], axis=0))
    return float(np.quantile(np.concatenate(distances), DOMAIN_FLOOR))


def calibrate(
    results: Sequence[LeftOut], parameters: Parameters, rng: np.random.Generator, platform: str = REFERENCE_PLATFORM
) -> Calibration:
    """Fit limit and factors to left-out splits, every split counting alike.

    Args:
        results: what left-out splits say.
        parameters: whose prior gives the relative sigma inside the groups and the least limit.
        rng: source of the balanced draws.
        platform: whose noise and responses are looked at.

    Returns:
        The calibration; without full-tier scenes among the results the spatial factors are zero.
    """
    pooled = np.concatenate([rng.choice(r.distance, size=PIXELS_PER_SPLIT) for r in results])
    limit = max(float(np.quantile(pooled, DOMAIN_QUANTILE)), domain_floor(parameters, platform))
    profile = profile_of(parameters, platform)
    alpha = _alpha(results, profile, limit, rng)
    beta20, beta60 = _betas(results, alpha)
    return Calibration(alpha, beta20, beta60, profile, limit)


def _alpha(
    results: Sequence[LeftOut], profile: NDArray[np.float64], limit: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Factor per group such that 90 % intervals hold `COVERED` of the errors."""
    alpha = np.ones(GROUPS)
    for g in range(GROUPS):
        channels = np.flatnonzero(GROUP_OF_CHANNEL == g)
        ratios = []
        for result in results:
            inside = np.flatnonzero(result.distance <= limit)
            ratio = result.error[np.ix_(channels, inside)] / (result.sigma[g, inside] * profile[channels, None])
            known = ratio[np.isfinite(ratio)]
            ratios.append(rng.choice(known, size=_DRAWS) if known.size else known)
        alpha[g] = np.quantile(np.concatenate(ratios), COVERED) / NORMAL_90
    return alpha


def _betas(results: Sequence[LeftOut], alpha: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Non-negative least squares of what the spectral part leaves of the squared error, on the squared details."""
    scenes = [scene for result in results for scene in result.spatial]
    beta = np.zeros((2, GROUPS))
    for g in range(GROUPS if scenes else 0):
        normal, right = np.zeros((2, 2)), np.zeros(2)
        for squares, variance, detail20, detail60 in scenes:
            design = np.stack([detail20**2, detail60**2], axis=1)
            rest = squares[g] - np.minimum(alpha[g] ** 2 * variance[g], squares[g])
            weight = 1.0 / (design.sum(axis=1) + 1e-5) / len(rest)
            normal += (design * weight[:, None]).T @ design
            right += (design * weight[:, None]).T @ rest
        beta[:, g] = np.sqrt(_non_negative(normal, right))
    return beta[0], beta[1]


def _non_negative(normal: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares of two unknowns that must not be negative: both, or the better one alone."""
    both = np.linalg.solve(normal + 1e-12 * np.eye(2), right)
    if both.min() >= 0:
        return np.asarray(both)
    diagonal = np.maximum(np.diag(normal), 1e-12)
    alone = np.clip(right / diagonal, 0.0, None)
    better = int(np.argmax(alone * right))
    return np.where(np.arange(2) == better, alone, 0.0)


def coverage(result: LeftOut, calibration: Calibration) -> dict[str, float]:
    """Share of one split's in-domain errors inside nominal intervals, and the share of its pixels refused."""
    inside = result.distance <= calibration.distance_limit
    sigma = (result.sigma * calibration.alpha[:, None])[GROUP_OF_CHANNEL] * calibration.profile[:, None]
    ratio = (result.error / sigma)[:, inside]
    known = ratio[np.isfinite(ratio)]
    shares = {level: float((known <= width).mean()) if known.size else float("nan") for level, width in NOMINAL.items()}
    return {**shares, "refused": float(1.0 - inside.mean())}


def summary(nested: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Coverage over all splits, each counting alike, and the worst split at 90 %."""
    means = {level: float(np.nanmean([shares[level] for shares in nested.values()])) for level in NOMINAL}
    ninety = {split: shares["90"] for split, shares in nested.items()}
    worst = min(ninety, key=lambda split: ninety[split])
    refused = float(np.mean([shares["refused"] for shares in nested.values()]))
    return {**means, "worst_split_90": ninety[worst], "worst_split": worst, "refused": refused}
