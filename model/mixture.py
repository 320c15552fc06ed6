"""Spectra from the bands: the closed-form posterior under a Gaussian mixture in the subspace.

Bands ``y`` (twelve of Sentinel-2, seven of OLI) are divided by their illumination scale ``s = sqrt(mean_b y_b^2 +
s0^2)`` (the first not counted), ``z = y / s``; the floor ``s0`` keeps dark water from being amplified. In each class
``j`` of the prior the scaled coefficients are Gaussian, ``c / s ~ N(m_j, C_j)``, and observed as ``z = A c / s + n``,
``n ~ N(0, R_j)``. With

    V_j = A C_j A' + R_j,   K_j = C_j A' V_j^-1,   w_j ~ p_j N(z; A m_j, V_j)

the posterior mean is

    c = s sum_j w_j (m_j + K_j (z - A m_j))
      = s sum_j w_j m_j  +  sum_b s (sum_j w_j K_jb (z_b - (A m_j)_b)),

the prior at this brightness plus one contribution per band, exactly. With one class this is Wiener's estimate. The
first band (B01 of Sentinel-2, B1 of OLI) lies outside the product's grid: its row of ``A`` is a regression on the
coefficients, its part of ``R`` includes what that regression leaves, and it takes no part in ``w``. It informs the
estimate and never constrains it.

How far a pixel is from everything the prior holds is told by the class under which its bands are densest,

    d = min_j [(z - A m_j)' V_j^-1 (z - A m_j) + log det V_j] - min_j log det V_j  >=  0,

so that a wide class, which would pass anything by its squared distance alone, pays for its width.

`model.unfolding` starts from this answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK: Final[int] = 2048
"""Pixels worked on together; fixed, so that results never depend on how many pixels are asked for at once."""

CHUNK_GPU: Final[int] = 1 << 16
"""The same on an accelerator, which is idle with few."""

NEVER: Final[float] = -60.0
"""Logarithm of the smallest share in a pixel that a class is given."""

LIKELIHOOD_BANDS: Final[slice] = slice(1, None)
"""The bands that choose the class and set the scale: all but the first, which lies outside the product's grid
(B01 of Sentinel-2, B1 of OLI)."""


def chunk_size(device: torch.device) -> int:
    """Pixels worked on together on a device."""
    return CHUNK if device.type == "cpu" else CHUNK_GPU


@dataclass(frozen=True)
class MixturePrior:
    """What is known of scaled spectra before a pixel is seen."""

    weight: NDArray[np.float64]
    """(J,) class probabilities, summing to 1."""
    mean: NDArray[np.float64]
    """(J, k) class means of the scaled coefficients."""
    covariance: NDArray[np.float64]
    """(J, k, k) class covariances of the scaled coefficients."""
    noise: NDArray[np.float64]
    """(J, bands) variances of the scaled bands' noise, with what the subspace and the first band's regression leave."""
    scale_floor: float
    """s0, reflectance."""


@dataclass(frozen=True)
class ClosedForm:
    """The matrices of the posterior for one platform, float64."""

    band_mean: NDArray[np.float64]
    """(J, bands) A m_j."""
    gain: NDArray[np.float64]
    """(J, k, bands) K_j."""
    whitener: NDArray[np.float64]
    """(J, bands - 1, bands - 1) lower factors L with L'L = V_j^-1 over the likelihood bands."""
    log_normaliser: NDArray[np.float64]
    """(J,) log p_j - log det(V_j) / 2."""
    width: NDArray[np.float64]
    """(J,) log det V_j - min_i log det V_i, over the likelihood bands."""
    covariance: NDArray[np.float64]
    """(J, k, k) posterior covariance of the scaled coefficients."""


def closed_form(prior: MixturePrior, observation: NDArray[np.float64]) -> ClosedForm:
    """Work out the posterior's matrices.

    Args:
        prior: the mixture.
        observation: (bands, k) A, bands from coefficients.

    Returns:
        Everything the per-pixel evaluation needs.
    """
    A = observation
    band_mean = prior.mean @ A.T
    gains, factors, normalisers, widths, covariances = [], [], [], [], []
    for weight, C, R in zip(prior.weight, prior.covariance, prior.noise, strict=True):
        V = A @ C @ A.T + np.diag(R)
        K = np.linalg.solve(V, A @ C).T  # (k, bands)
        L = np.linalg.inv(np.linalg.cholesky(V[LIKELIHOOD_BANDS, LIKELIHOOD_BANDS]))
        gains.append(K)
        factors.append(L)
        widths.append(-2.0 * np.log(np.diag(L)).sum())
        normalisers.append(np.log(weight) - widths[-1] / 2)
        posterior = C - K @ A @ C
        covariances.append((posterior + posterior.T) / 2)
    width = np.array(widths) - min(widths)
    return ClosedForm(
        band_mean, np.stack(gains), np.stack(factors), np.array(normalisers), width, np.stack(covariances)
    )


@dataclass(frozen=True)
class Posterior:
    """The posterior of N pixels."""

    coefficients: torch.Tensor
    """(k, N) posterior means."""
    weights: torch.Tensor
    """(J, N) class probabilities."""
    scale: torch.Tensor
    """(N,) illumination scale s, reflectance."""
    distance: torch.Tensor
    """(N,) d, how far the bands are from everything the prior holds."""


class SpectralPosterior:
    """Evaluates the posterior of one platform on a device."""

    def __init__(self, prior: MixturePrior, observation: NDArray[np.float64], device: torch.device) -> None:
        form = closed_form(prior, observation)

        def tensor(array: NDArray[np.float64]) -> torch.Tensor:
            return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32, device=device)

        self.form = form
        self.prior = prior
        self.device = device
        classes, k, bands = form.gain.shape
        self.classes = classes
        self.floor2 = prior.scale_floor**2
        self._log_normaliser = tensor(form.log_normaliser[:, None])
        self._width = tensor(form.width[:, None])
        inner = form.whitener.shape[1]
        shift = np.einsum("jab,jb->ja", form.whitener, form.band_mean[:, LIKELIHOOD_BANDS])
        # Both products carry their constants as the weight of a row of ones below the bands.
        whitener = np.concatenate([form.whitener, -shift[:, :, None]], axis=2)
        self.whitener = whitener
        """(J, bands - 1, bands) L_j, and minus L_j A m_j as the last column."""
        self._whitener = tensor(whitener.reshape(classes * inner, -1))
        offset = prior.mean - np.einsum("jkb,jb->jk", form.gain, form.band_mean)  # (J, k)
        # Rows [w_j z_1 .. w_j z_b, w_j] of every class meet [K_j, o_j]: one product per chunk.
        self.gain = np.concatenate([form.gain, offset[:, :, None]], axis=2)
        """(J, k, bands + 1) K_j, and o_j = m_j - K_j A m_j as the last column."""
        self._gain = tensor(self.gain.transpose(1, 0, 2).reshape(k, -1))
        self.bands = bands

    def scale(self, y: torch.Tensor) -> torch.Tensor:
        """Illumination scale (N,) of bands (bands, N)."""
        return torch.sqrt(y[LIKELIHOOD_BANDS].square().mean(dim=0) + self.floor2)

    def classify(self, z1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Class probabilities (J, N) and distance d from everything the prior holds (N,).

        Args:
            z1: (bands + 1, N) scaled bands and a row of ones.
        """
        white = (self._whitener @ z1[LIKELIHOOD_BANDS]).square_()  # (J * (bands - 1), N)
        distance = white.view(self.classes, -1, z1.shape[1]).sum(dim=1)
        likelihood = torch.add(self._log_normaliser, distance, alpha=-0.5)
        most = likelihood.amax(dim=0)
        share = likelihood.sub_(most).clamp_min_(NEVER).exp_()  # what underflows is slow and means nothing
        return share.div_(share.sum(dim=0)), distance.add_(self._width).amin(dim=0)

    def scaled(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scaled bands with a row of ones (bands + 1, N), and scale (N,), of bands (bands, N)."""
        s = self.scale(y)
        z1 = y.new_empty(self.bands + 1, y.shape[1])
        torch.div(y, s, out=z1[:-1])
        z1[-1] = 1.0
        return z1, s

    def mean(self, z1: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """Posterior mean of the scaled coefficients (k, N).

        Args:
            z1: (bands + 1, N) scaled bands and a row of ones.
            w: (J, N) class probabilities.
        """
        return self._gain @ (w[:, None] * z1).view(-1, z1.shape[1])

    def chunk(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Scaled coefficients (k, N) and bands (bands, N), class probabilities (J, N), scale (N,), distance (N,)."""
        z1, s = self.scaled(y)
        w, distance = self.classify(z1)
        return self.mean(z1, w), z1[:-1], w, s, distance

    def __call__(self, y: torch.Tensor) -> Posterior:
        """Evaluate the posterior.

        Args:
            y: (bands, N) float32 surface reflectance, finite.

        Returns:
            The posterior of every pixel.
        """
        parts = []
        for piece in torch.split(y, chunk_size(self.device), dim=1):
            v, _, w, s, distance = self.chunk(piece.contiguous())
            parts.append((v * s, w, s, distance))
        return Posterior(*(torch.cat(list(part), dim=-1) for part in zip(*parts, strict=True)))
