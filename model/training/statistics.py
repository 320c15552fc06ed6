"""Fit the model's statistics: subspace, the coastal band's regression, and the Gaussian mixture of scaled coefficients.

The mixture is fitted by expectation-maximisation on what the sensor sees: responsibilities come from the scaled bands
(so that at inference the same bands choose the same class), moments from the full spectra. Each class covariance is
shrunk towards the pooled one, ``C_j = (1 - l) S_j + l q C``: the classes come from few scenes and must not be surer
than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from model.instruments import SENTINEL2_MSI, Instrument
from model.mixture import LIKELIHOOD_BANDS, MixturePrior, closed_form
from model.parameters import Parameters, Sensor
from model.subspace import coefficient_steps, fit_basis
from model.uncertainty import uncalibrated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from model.srf import Responses

REFERENCE_PLATFORM: Final[str] = SENTINEL2_MSI.reference_platform
"""Sentinel-2's platform whose responses define illumination scale and classes while fitting."""


@dataclass(frozen=True)
class FitSettings:
    """Choices of the fit, made by leave-one-scene-out."""

    dimension: int = 24
    """Subspace dimension k."""
    classes: int = 12
    """Gaussian classes J; 1 is Wiener's estimate."""
    shrinkage: float = 0.1
    """l, how far class covariances are drawn to the pooled one."""
    pooled_part: float = 0.3
    """q, the pooled covariance's part in a class (the classes lie closer together than the pool)."""
    scale_floor: float = 0.05
    """s0, reflectance: below it pixels are not stretched to full brightness."""
    iterations: int = 25
    """Expectation-maximisation steps."""


def _scales(bands: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
    return np.asarray(np.sqrt((bands[:, LIKELIHOOD_BANDS] ** 2).mean(axis=1, keepdims=True) + floor**2))


def _coastal_regression(
    coefficients: NDArray[np.float64], coastal: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coastal band from coefficients: (k,) weights by ridge regression and (n,) residuals, nan where it is unknown."""
    known = np.isfinite(coastal)
    c = coefficients[known]
    ridge = 1e-5 * np.trace(c.T @ c) / c.shape[1]
    weights = np.linalg.solve(c.T @ c + ridge * np.eye(c.shape[1]), c.T @ coastal[known])
    return weights, coastal - coefficients @ weights


def _with_coastal(row: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """(bands, 172) responses with the coastal band's regression in their first row."""
    return np.where(np.arange(len(matrix))[:, None] == 0, row, matrix)


def _initial_classes(bands: NDArray[np.float64], classes: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Lloyd's k-means on standardised bands."""
    z = bands / bands.std(axis=0)
    centres = z[rng.permutation(len(z))[:classes]]
    for _ in range(30):
        label = ((z[:, None] - centres[None]) ** 2).sum(axis=2).argmin(axis=1)
        centres = np.stack(
            [z[label == j].mean(axis=0) if (label == j).sum() > 5 else z[rng.integers(len(z))] for j in range(classes)]
        )
    return np.asarray(label)


@dataclass(frozen=True)
class _Sample:
    """What the mixture is fitted to: scaled quantities of n spectra."""

    coefficients: NDArray[np.float64]
    """(n, k)."""
    bands: NDArray[np.float64]
    """(n, bands); the coastal one is its regression, it takes no part."""
    noise: NDArray[np.float64]
    """(n, bands) variances."""
    observation: NDArray[np.float64]
    """(bands, k)."""


def _moments(sample: _Sample, part: NDArray[np.float64], settings: FitSettings) -> MixturePrior:
    """Maximisation step from responsibilities (n, J)."""
    c = sample.coefficients
    pooled = np.cov(c.T) * (settings.pooled_part if settings.classes > 1 else 1.0)
    total = part.sum(axis=0) + 1e-9
    mean = (part.T @ c) / total[:, None]
    covariances = []
    for j in range(settings.classes):
        d = c - mean[j]
        own = (d * part[:, j : j + 1]).T @ d / total[j]
        covariances.append((1 - settings.shrinkage) * own + settings.shrinkage * pooled)
    noise = (part.T @ sample.noise) / total[:, None]
    return MixturePrior(total / total.sum(), mean, np.stack(covariances), noise, settings.scale_floor)


def _responsibilities(sample: _Sample, prior: MixturePrior) -> NDArray[np.float64]:
    """Expectation step: (n, J) class probabilities given the scaled bands."""
    form = closed_form(prior, sample.observation)
    log = np.empty((len(sample.bands), len(prior.weight)))
    for j, (L, mean) in enumerate(zip(form.whitener, form.band_mean, strict=True)):
        white = (sample.bands[:, LIKELIHOOD_BANDS] - mean[LIKELIHOOD_BANDS]) @ L.T
        log[:, j] = form.log_normaliser[j] - 0.5 * (white**2).sum(axis=1)
    log -= log.max(axis=1, keepdims=True)
    part = np.exp(log)
    return np.asarray(part / part.sum(axis=1, keepdims=True))


def fit_statistics(
    spectra: NDArray[np.float64],
    coastal: NDArray[np.float64],
    responses: Mapping[str, Responses],
    rng: np.random.Generator,
    settings: FitSettings,
    instrument: Instrument = SENTINEL2_MSI,
) -> Parameters:
    """Fit everything but the calibration.

    Args:
        spectra: (n, 172) reflectance, balanced.
        coastal: (n,) reflectance in the first band, which lies outside the grid; nan where unknown.
        responses: platform -> response matrix on the grid, the reference platform among them.
        rng: source of randomness.
        settings: the choices.
        instrument: whose bands and noise.

    Returns:
        Parameters with an uncalibrated uncertainty.
    """
    reference = responses[instrument.reference_platform].matrix
    bands = spectra @ reference.T
    scale = _scales(bands, settings.scale_floor)
    scaled = spectra / scale
    basis = fit_basis(scaled, settings.dimension)
    coefficients = basis.project(scaled)
    rest = scaled - coefficients @ basis.components
    weights, leftover = _coastal_regression(coefficients, coastal / scale[:, 0])
    coastal_row = weights @ basis.components

    def sample(matrix: NDArray[np.float64]) -> _Sample:
        full = _with_coastal(coastal_row, matrix)
        z = scaled @ full.T
        a, b = instrument.noise_absolute, instrument.noise_relative
        noise = (a / scale) ** 2 + (b * z) ** 2 + ((rest @ full.T) ** 2).mean(axis=0)
        noise[:, 0] += np.nanvar(leftover)
        return _Sample(coefficients, z, noise, full @ basis.components.T)

    fitted = sample(reference)
    part = np.eye(settings.classes)[_initial_classes(fitted.bands[:, LIKELIHOOD_BANDS], settings.classes, rng)]
    for _ in range(settings.iterations if settings.classes > 1 else 0):
        part = _responsibilities(fitted, _moments(fitted, part, settings))
    sensors = {
        platform: Sensor(
            _with_coastal(coastal_row, response.matrix),
            response.loss,
            _moments(sample(response.matrix), part, settings),
        )
        for platform, response in responses.items()
    }
    steps = coefficient_steps(coefficients * scale)
    return Parameters(basis, steps, sensors, (rest**2).mean(axis=0), uncalibrated())
