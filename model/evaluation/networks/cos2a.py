"""A network in the manner of COS2A: unfolded ADMM with a learned response matrix and a learned convolutional prior.

COS2A (Lin, Chen, Leng, Lin 2025, arXiv 2507.06575) converts Sentinel-2 bands to 172 AVIRIS channels: a network
unfolds ADMM with a learned response matrix, and a coupled factorisation of the scene sharpens the result. Only the
first part is here, retrained on this project's splits.

What is taken from public descriptions: deep unfolding of ADMM, a response matrix that is learned rather than the
sensor's own, all bands interpolated to 10 m beforehand, convolutions over space, and the size: about 747 000
parameters and 2.9 million multiply-accumulates per pixel.

What had to be chosen, for the public text does not settle it: four stages sharing one prior network (2.9 million
operations from 0.75 million parameters is four uses of each); that network's form (three residual blocks of 3 x 3
convolutions, 90 channels wide); a penalty learned for each stage; a first estimate by one learned 3 x 3 convolution
of the bands; the loss, and the way of training (`model.evaluation.networks.cos2a_fit`). The figures are those of this
network, never COS2A's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from model.bands import CENTRE_NM, SOURCE_BANDS
from model.fusion import up
from model.srf import FWHM_PER_SIGMA

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.duality import Multispectral

BANDS: Final[int] = 12
CHANNELS: Final[int] = 172
STAGES: Final[int] = 4
WIDTH: Final[int] = 90
BLOCKS: Final[int] = 3

TILE: Final[int] = 160
"""Edge of the part of a large image that is kept of one evaluation; `Cos2aLike.reach` more is read on each side."""


def nominal_responses() -> NDArray[np.float64]:
    """(12, 172) Gaussians of the bands' nominal centres and widths, rows summing to 1: where learning D starts."""
    centre = np.array([band.centre_nm for band in SOURCE_BANDS])[:, None]
    sigma = np.array([band.fwhm_nm for band in SOURCE_BANDS])[:, None] / FWHM_PER_SIGMA
    exponent = -0.5 * ((CENTRE_NM[None] - centre) / sigma) ** 2
    # B01 lies beside the grid: without the shift its whole row would be as good as zero.
    weights = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


class Prior(nn.Module):
    """The learned proximal step: a residual network over space and channels, the identity until it is trained."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(CHANNELS, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, padding=1)
            )
            for _ in range(blocks)
        )
        self.tail = nn.Conv2d(width, CHANNELS, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        """(B, 172, h, w) standardised spectra to the same."""
        features = functional.relu(self.head(v))
        for block in self.blocks:
            features = functional.relu(features + block(features))
        change: torch.Tensor = self.tail(features)
        return v + change


class Cos2aLike(nn.Module):
    """Unfolded ADMM (Boyd et al. 2011, sec. 3.1.1, scaled form) for ``min_X |Y - D X|^2 / 2 + phi(X)``.

    With X split from Z and U the scaled dual variable, stage k = 1 ... K works out

        X <- V + D' (D D' + mu_k I)^-1 (Y - D V),    V = Z - U      (data step, exact, by Woodbury's identity)
        Z <- prior(X + U)                                           (learned proximal step)
        U <- U + X - Z,

    from ``Z = W * Y + w_0`` (a 3 x 3 convolution) and ``U = 0``; the answer is Z. D, mu_k, W, w_0 and the prior are
    learned. A freshly made network has random weights, D of `nominal_responses` and a prior that changes nothing.

    Attributes:
        reach: pixels to each side that an answer depends on, one for every 3 x 3 convolution on the way.
        D: (12, 172) learned responses.
        log_penalty: (K,) logarithms of mu_k.
        mean: (172, 1, 1) float32 reflectance the prior works relative to.
        spread: (1,) float32 reflectance the prior takes as unit.
    """

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self, *, stages: int = STAGES, width: int = WIDTH, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.reach = 1 + stages * (2 + 2 * blocks)
        self.D = nn.Parameter(torch.as_tensor(nominal_responses(), dtype=torch.float32))
        self.log_penalty = nn.Parameter(torch.zeros(stages))
        self.first = nn.Conv2d(BANDS, CHANNELS, 3, padding=1)
        self.prior = Prior(width, blocks)
        self.register_buffer("mean", torch.zeros(CHANNELS, 1, 1))
        self.register_buffer("spread", torch.ones(1))

    def data_step(self, y: torch.Tensor, v: torch.Tensor, stage: int) -> torch.Tensor:
        """``argmin_X |Y - D X|^2 / 2 + mu |X - V|^2 / 2``, exactly.

        Args:
            y: (B, 12, h, w) bands.
            v: (B, 172, h, w) spectra.
            stage: which penalty, counted from 0.

        Returns:
            (B, 172, h, w) X.
        """
        D, mu = self.D, self.log_penalty[stage].exp()
        gram = D @ D.T + mu * torch.eye(BANDS, dtype=D.dtype, device=D.device)
        gain = torch.linalg.solve(gram, D).T  # (172, 12) = D' (D D' + mu I)^-1
        missing = y - functional.conv2d(v, D[:, :, None, None])
        return v + functional.conv2d(missing, gain[:, :, None, None])

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """Spectra (B, 172, h, w) of bands (B, 12, h, w), both float32 reflectance at 10 m, finite."""
        z: torch.Tensor = self.first(y)
        u = torch.zeros_like(z)
        for stage in range(len(self.log_penalty)):
            x = self.data_step(y, z - u, stage)
            z = self.prior((x + u - self.mean) / self.spread) * self.spread + self.mean
            u = u + x - z
        return z

    @torch.no_grad()
    def predict(self, bands: NDArray[np.floating], tile: int = TILE) -> NDArray[np.float32]:
        """Spectra of a whole image, tile by tile, as if it were worked out at once.

        Args:
            bands: (12, h, w) reflectance at 10 m (see `bicubic_bands`), finite.
            tile: edge of the part kept of each evaluation, pixels; bounds the memory, not the result.

        Returns:
            (172, h, w) float32 reflectance.

        Raises:
            ValueError: if the bands have another shape or a value is not finite.
        """
        if bands.ndim != 3 or bands.shape[0] != BANDS or not np.isfinite(bands).all():
            raise ValueError(f"bands have shape {bands.shape}; expected (12, h, w), every value finite")
        _, height, width = bands.shape
        out = np.empty((CHANNELS, height, width), np.float32)
        for row in range(0, height, tile):
            for column in range(0, width, tile):
                top, left = max(0, row - self.reach), max(0, column - self.reach)
                rows, columns = slice(top, row + tile + self.reach), slice(left, column + tile + self.reach)
                part = torch.as_tensor(
                    np.ascontiguousarray(bands[:, rows, columns]), dtype=torch.float32, device=self.D.device
                )
                spectra = self(part[None])[0, :, row - top :, column - left :][:, :tile, :tile]
                out[:, row : row + tile, column : column + tile] = spectra.cpu().numpy()
        return out


def bicubic_bands(msi: Multispectral) -> NDArray[np.float32]:
    """Every band at 10 m by Keys' cubic interpolation: what the network sees.

    Args:
        msi: the bands at their own resolutions, nan = nodata.

    Returns:
        (12, h, w) float32 reflectance in the order of `SOURCE_BANDS`, finite: nodata takes the value that spreads from
        its valid neighbours (0 where a band has none).
    """
    parts = {10: msi.b10, 20: msi.b20, 60: msi.b60}
    fine = {resolution: up(_filled(torch.as_tensor(part)), resolution // 10) for resolution, part in parts.items()}
    order = {m: iter(fine[m]) for m in fine}
    return np.asarray(torch.stack([next(order[band.resolution_m]) for band in SOURCE_BANDS]).numpy())


def _filled(image: torch.Tensor) -> torch.Tensor:
    """(bands, h, w) with nan replaced: valid values grow by a pixel at a time, each new one the mean of its eight."""
    known = torch.isfinite(image).to(image.dtype)
    filled = torch.where(known > 0, image, 0.0)
    for _ in range(image.shape[-1] + image.shape[-2]):
        if bool((known > 0).all()):
            break
        count = functional.avg_pool2d(known, 3, 1, 1, divisor_override=1)
        total = functional.avg_pool2d(filled, 3, 1, 1, divisor_override=1)
        reached = (known == 0) & (count > 0)
        filled = torch.where(reached, total / count.clamp_min(1.0), filled)
        known = torch.where(reached, 1.0, known)
    return filled
