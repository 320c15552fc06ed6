"""The last data step: where the product would contradict the sensor beyond its noise, it gives way.

The posterior trusts twelve bands at 10 m, eight of which are themselves estimates there, and a mixture may misjudge a
pixel unlike its classes. So the product is seen through the sensor once more, at each band's own resolution, and what
exceeds the noise,

    e_b = r_b - clip(r_b, -t sigma_b, t sigma_b),      r_b = y_b - down(d_b x),

is taken back: ``c += G up(e)`` with the gain ``G = C A' (A C A' + eps R)^-1`` of the pooled prior. Pixels that agree
within ``t sigma`` are left exactly as they are: agreement below the noise is never forced. Each column of ``G`` belongs
to one band, so the correction adds to that band's contribution and completeness stays exact. B01 takes no part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from model.fusion import up
from model.residual import ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from model.mixture import MixturePrior
    from model.residual import Residual

TOLERATED_SIGMAS: Final[float] = 1.75
"""t: disagreement up to here is noise."""

PASSES: Final[int] = 4
"""How often what exceeds the noise is taken back."""

TIGHTNESS: Final[float] = 0.1
"""eps: the noise the correction allows itself, as a fraction of the prior's."""


def correction_gain(prior: MixturePrior, observation: NDArray[np.float64]) -> NDArray[np.float64]:
    """The gain G of the pooled prior.

    Args:
        prior: the mixture.
        observation: (12, k) A, bands from coefficients.

    Returns:
        (k, 12); the column of B01 is zero.
    """
    centre = prior.weight @ prior.mean
    spread = prior.mean - centre
    pooled = np.einsum("j,jkl->kl", prior.weight, prior.covariance) + (spread.T * prior.weight) @ spread
    A = observation[1:]
    noise = TIGHTNESS * (prior.weight @ prior.noise)[1:]
    gain = np.linalg.solve(A @ pooled @ A.T + np.diag(noise), A @ pooled).T
    return np.concatenate([np.zeros((len(gain), 1)), gain], axis=1)


def excess(residuals: Mapping[int, Residual], shape: tuple[int, int]) -> torch.Tensor:
    """Disagreement beyond the noise, brought to 10 m.

    Args:
        residuals: resolution in metres -> residual with its sigma.
        shape: (h, w) of the 10 m grid.

    Returns:
        (12, h, w) reflectance; zero where the product agrees, where nothing is known, and for B01.
    """
    first = residuals[10].value
    out = torch.zeros(12, *shape, dtype=first.dtype, device=first.device)
    for resolution, part in residuals.items():
        limit = TOLERATED_SIGMAS * part.sigma
        value = torch.nan_to_num(part.value, nan=0.0)
        beyond = value - torch.minimum(torch.maximum(value, -limit), limit)
        fine = beyond if resolution == 10 else up(beyond, resolution // 10)
        for row, plane in zip(ROWS[resolution], fine, strict=True):
            if row:
                out[row] = plane
    return out
