"""Why this spectrum: what was measured, which band said it, and how far to trust it.

Measured fraction: the diagonal of the averaging kernel ``U' K D`` at the resolution of the bands, that is with each
row of ``D`` scaled to peak 1 instead of sum 1 (a band that spreads over ten channels measures each of them, not a
tenth of each); averaged over a group's channels. 1 where the sensor decides the channel, 0 where no band looks and
the prior fills it in. Attribution: each band's exact contribution ``s sum_j w_j K_jb (z_b - (A m_j)_b)`` (the
completeness identity of `model.unfolding`), averaged over the channels of each spectral group; the layer holds the
band's share of the summed magnitudes.

The layers describe the posterior. The last data step (`model.consistency`) adds ``G_b e_b`` to band ``b``'s
contribution where the product would otherwise contradict the sensor; it is zero elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from model.bands import SOURCE_BAND_NAMES, SPECTRAL_GROUPS
from model.layers import Layer
from model.uncertainty import GROUPS, group_average

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.subspace import Basis
    from model.unfolding import SpectralPosterior

SHARE_STEP: Final[float] = 1e-4
GAIN_STEP: Final[float] = 1e-3
DETAIL_STEP: Final[float] = 1e-4
SCORE_STEP: Final[float] = 1e-2

GUIDE_BANDS: Final[tuple[str, ...]] = ("B02", "B03", "B04", "B08")


def explanation_layers() -> tuple[Layer, ...]:
    """How the stored explanation decodes, in stored order."""
    return (
        Layer("measured_fraction", "measured fraction, mean over all channels", SHARE_STEP),
        *(Layer(f"measured_{g.name}", f"measured fraction, {g.title}", SHARE_STEP) for g in SPECTRAL_GROUPS),
        *(Layer(f"attribution_{name}", f"share of {name} in the estimate", SHARE_STEP) for name in SOURCE_BAND_NAMES),
        *(
            Layer(f"detail_gain_{name}", f"mean gain of {name}'s detail on the 20 m bands", GAIN_STEP)
            for name in GUIDE_BANDS
        ),
        Layer("detail", "detail of the 10 m bands below 20 m", DETAIL_STEP),
        Layer("out_of_domain_score", "distance to the training domain over its limit; above 1 is outside", SCORE_STEP),
        Layer("consistency_chi2", "reduced chi-square of the source bands against the product", SCORE_STEP),
    )


class Explanation:
    """Evaluates measured fraction and attribution of one platform on a device."""

    def __init__(self, posterior: SpectralPosterior, basis: Basis, responses: NDArray[np.float64]) -> None:
        def tensor(array: NDArray[np.float64]) -> torch.Tensor:
            return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32, device=posterior.device)

        average, U, form = group_average(), basis.components, posterior.form
        seen = responses / np.abs(responses).max(axis=1, keepdims=True)  # peak 1
        seen[0] = 0.0  # B01 sees none of the channels
        kernel = np.clip(np.einsum("kc,jkb,bc->jc", U, form.gain, seen), 0.0, 1.0)  # (J, 172)
        rows = np.concatenate([kernel.mean(axis=1)[:, None], kernel @ average.T], axis=1)
        self._measured = tensor(rows.T)  # (9, J)
        groups = np.einsum("gc,kc,jkb->bgj", average, U, form.gain)  # (12, 8, J)
        bands = groups.shape[0]
        self._gain = tensor(groups.reshape(bands * GROUPS, -1))
        self._shift = tensor((groups * form.band_mean.T[:, None, :]).reshape(bands * GROUPS, -1))
        self._bands = bands

    def measured(self, weights: torch.Tensor) -> torch.Tensor:
        """Measured fraction (9, N): all channels, then each group; from class probabilities (J, N)."""
        return self._measured @ weights

    def attribution(self, z: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Share (12, N) of each band in the summed magnitude of contributions; from scaled bands (12, N)."""
        gain = (self._gain @ weights).view(self._bands, GROUPS, -1)
        shift = (self._shift @ weights).view(self._bands, GROUPS, -1)
        magnitude = (gain * z[:, None, :] - shift).abs().sum(dim=1)
        return magnitude / magnitude.sum(dim=0).clamp_min(1e-12)


def contributions(posterior: SpectralPosterior, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The completeness identity: coefficients = prior + sum over bands of contributions.

    Args:
        posterior: the platform's posterior.
        y: (12, N) reflectance.

    Returns:
        (k, N) the prior at this brightness and class mixture, and (12, k, N) one contribution per band.
    """
    s = posterior.scale(y)
    z = y / s
    w = posterior.classify(z.float())[0].to(y.dtype)
    form = posterior.form
    gain = torch.as_tensor(form.gain, dtype=y.dtype, device=y.device)
    band_mean = torch.as_tensor(form.band_mean, dtype=y.dtype, device=y.device)
    mean = torch.as_tensor(posterior.prior.mean, dtype=y.dtype, device=y.device)
    deviation = z[None] - band_mean[:, :, None]  # (J, 12, N)
    parts = torch.einsum("jn,jkb,jbn->bkn", w, gain, deviation) * s
    return (mean.T @ w) * s, parts
