"""Why this spectrum: what was measured, which band said it, and how far to trust it.

Measured fraction: the diagonal of the averaging kernel ``U' K D`` at the resolution of the bands, that is with each
row of ``D`` scaled to peak 1 instead of sum 1 (a band that spreads over ten channels measures each of them, not a
tenth of each); averaged over a group's channels. 1 where the sensor decides the channel, 0 where no band looks and
the prior fills it in. Attribution: each band's exact contribution ``s sum_j w_j K_jb (z_b - (A m_j)_b)`` (the
completeness identity of `model.unfolding`), averaged over the channels of each spectral group; the layer holds the
band's share of the summed magnitudes, and one more layer the share of what the network learned: an explanation that is
mostly remainder explains nothing.

The last data step (`model.consistency`) adds ``G_b e_b`` to band ``b``'s contribution where the product would otherwise
contradict the sensor; it is zero elsewhere and no part of the shares.
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
    from model.unfolding import Unfolding

SHARE_STEP: Final[float] = 1e-4
GAIN_STEP: Final[float] = 1e-3
DETAIL_STEP: Final[float] = 1e-4
SCORE_STEP: Final[float] = 1e-2
CHANGE_STEP: Final[float] = 1e-5

STAGES: Final[int] = 2
"""Stages of the spectral unfolding in the shipped weights, each with a layer of its own."""

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
        Layer("learned_share", "share of the learned residual in the estimate", SHARE_STEP),
        *(
            Layer(f"stage_change_{t}", f"change of the spectrum by stage {t} of the unfolding", CHANGE_STEP)
            for t in range(1, STAGES + 1)
        ),
        Layer("fusion_correction", "learned correction of the bands coarser than 10 m", CHANGE_STEP),
    )


class Explanation:
    """Evaluates measured fraction and attribution of one platform on a device."""

    def __init__(self, unfolding: Unfolding, basis: Basis, responses: NDArray[np.float64]) -> None:
        posterior = unfolding.posterior

        def tensor(array: NDArray[np.float64]) -> torch.Tensor:
            return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32, device=posterior.device)

        average, U, gain = group_average(), basis.components, unfolding.gain
        seen = responses / np.abs(responses).max(axis=1, keepdims=True)  # peak 1
        seen[0] = 0.0  # B01 sees none of the channels
        kernel = np.clip(np.einsum("kc,jkb,bc->jc", U, gain, seen), 0.0, 1.0)  # (J, 172)
        rows = np.concatenate([kernel.mean(axis=1)[:, None], kernel @ average.T], axis=1)
        self.rows = rows.T
        """(9, J) measured fraction of each class: all channels, then each group."""
        self._measured = tensor(self.rows)
        groups = np.einsum("gc,kc,jkb->bgj", average, U, gain)  # (12, 8, J)
        self.groups = groups.transpose(2, 0, 1)
        """(J, 12, 8) what a scaled band contributes to a group under each class."""
        bands = groups.shape[0]
        shift = -groups * posterior.form.band_mean.T[:, None, :]
        self._gain_and_shift = tensor(np.concatenate([groups, shift]).reshape(2 * bands * GROUPS, -1))
        self.to_groups = average @ U.T
        """(8, k) group means of coefficients."""
        self._to_groups = tensor(self.to_groups)
        self._bands = bands

    def measured(self, weights: torch.Tensor) -> torch.Tensor:
        """Measured fraction (9, N): all channels, then each group; from class probabilities (J, N)."""
        return self._measured @ weights

    def attribution(
        self, z: torch.Tensor, weights: torch.Tensor, scale: torch.Tensor, learned: torch.Tensor
    ) -> torch.Tensor:
        """Shares of the bands and of the learned residual in the summed magnitude of contributions.

        Args:
            z: (12, N) scaled bands.
            weights: (J, N) class probabilities.
            scale: (N,) illumination scale, reflectance.
            learned: (k, N) learned residual.

        Returns:
            (13, N): twelve bands, then the learned residual; they add up to 1.
        """
        gain, shift = (self._gain_and_shift @ weights).view(2, self._bands, GROUPS, -1)
        bands = shift.addcmul_(gain, z[:, None, :]).abs_().sum(dim=1)
        rest = (self._to_groups @ learned).abs_().sum(dim=0, keepdim=True) / scale
        magnitude = torch.cat([bands, rest])
        return magnitude.div_(magnitude.sum(dim=0).clamp_min_(1e-12))


def contributions(unfolding: Unfolding, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The completeness identity: coefficients = prior + sum over bands of contributions + learned residual.

    Args:
        unfolding: the platform's.
        y: (12, N) reflectance.

    Returns:
        (k, N) the prior at this brightness and class mixture, (12, k, N) one contribution per band, and (k, N) the
        learned residual.
    """
    posterior = unfolding.posterior
    result = unfolding(y.float())
    s, w = result.scale.to(y.dtype), result.weights.to(y.dtype)
    gain = torch.as_tensor(unfolding.gain, dtype=y.dtype, device=y.device)
    band_mean = torch.as_tensor(posterior.form.band_mean, dtype=y.dtype, device=y.device)
    mean = torch.as_tensor(posterior.prior.mean, dtype=y.dtype, device=y.device)
    deviation = (y / s)[None] - band_mean[:, :, None]  # (J, 12, N)
    parts = torch.einsum("jn,jkb,jbn->bkn", w, gain, deviation) * s
    return (mean.T @ w) * s, parts, result.learned.to(y.dtype)
