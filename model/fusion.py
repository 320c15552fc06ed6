"""Space: every band at 10 m, by guided detail injection and back-projection.

For a coarse band ``y`` (20 or 60 m) and the four 10 m bands ``g`` as guides,

    Y = up(y) + sum_i up(G_i) (g_i - up(down(g_i))),       G = (Cov(g) + ridge)^-1 Cov(g, y),

with covariances over a small window of coarse pixels: what a local ridge regression of the band on the guides
explains is sharpened, what it does not is left smooth. The gains ``G`` are themselves the explanation. Then ``Y +=
up(y - down(Y))`` a few times, so that each band is met at its own resolution through its own point-spread function.

``down`` is a Gaussian point-spread function (what blurs a coarse band more than a 10 m one) followed by decimation;
``up`` is Keys' cubic interpolation. Both are separable and act as small matrices whose shape depends only on the
window. Invalid pixels are first filled by a normalised average of valid neighbours, and ``down`` divides by the valid
share of its weights. Every operation stays inside the cell: no running sums, so a pixel depends on its neighbourhood
only.
"""

from __future__ import annotations

from ctypes import byref, c_long
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from model.compiled import banded, kernels, pointer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.compiled import BandedMatrix

RELATIVE_MTF: Final[float] = 0.42
"""Modulation of a coarse band at its own Nyquist frequency, relative to the 10 m bands'.

The MSI's bands measure about 0.3 at their own Nyquist frequency, and a 10 m band about 0.7 at that of a 20 m band:
0.43. Real scenes agree: among 0.15 ... 0.60 the source bands are met best at 0.45 on six of them."""

WINDOW_RADIUS: Final[int] = 2
"""Coarse pixels on each side of the regression's window."""

RIDGE: Final[float] = 2e-6
"""Ridge added to the guides' variances, reflectance squared: about the noise of a 10 m band."""

RIDGE_RELATIVE: Final[float] = 1e-2
"""Ridge as a fraction of the guides' mean variance in the window."""

BACK_PROJECTIONS: Final[int] = 3
_FILL_PASSES: Final[int] = 6

BAND: Final[int] = 32
"""Fine pixels that one piece of a resampling matrix serves."""


def all_finite(image: torch.Tensor) -> bool:
    """Whether no value is nan or infinite, by one sum: the usual case is found out cheaply."""
    return bool(torch.isfinite(image.sum())) or bool(torch.isfinite(image).all())


def psf_sigma(ratio: int, mtf: float) -> float:
    """Sigma of the point-spread function, fine pixels: ``exp(-2 (pi sigma f)^2) = mtf`` at ``f = 1 / (2 ratio)``."""
    return float(np.sqrt(-np.log(mtf) / 2.0) / (np.pi / (2.0 * ratio)))


@dataclass(frozen=True)
class _Band:
    """Some rows of a banded matrix, without the zeros on both sides."""

    first: int
    last: int
    left: torch.Tensor
    """(rows, last - first)."""
    right: torch.Tensor
    """Its transpose."""


@dataclass(frozen=True)
class _Banded:
    """A banded matrix as pieces of a few rows: products then cost what the band holds."""

    pieces: tuple[_Band, ...]
    matrix: BandedMatrix | None
    """The same for the compiled code, on a processor."""
    rows: int
    """Its height."""


def _in_bands(matrix: NDArray[np.float64], device: torch.device) -> _Banded:
    """Cut a banded matrix into pieces of a few rows."""
    bands = []
    tall = max(4, BAND * matrix.shape[0] // max(matrix.shape))
    for row in range(0, matrix.shape[0], tall):
        piece = matrix[row : row + tall]
        used = np.flatnonzero(np.any(piece != 0, axis=0))
        first, last = int(used[0]), int(used[-1]) + 1
        left = torch.as_tensor(np.ascontiguousarray(piece[:, first:last]), dtype=torch.float32, device=device)
        bands.append(_Band(first, last, left, left.T.contiguous()))
    return _Banded(tuple(bands), banded(matrix) if device.type == "cpu" else None, len(matrix))


def _apply(rows: _Banded, columns: _Banded, image: torch.Tensor) -> torch.Tensor:
    """``rows @ image @ columns.T`` for (..., h, w)."""
    compiled = kernels(image.device)
    if compiled and rows.matrix and columns.matrix and image.dtype == torch.float32 and not image.requires_grad:
        expected = (rows.matrix.columns, columns.matrix.columns)
        if image.shape[-2:] != expected:
            raise ValueError(f"expected images of {expected} pixels; found {tuple(image.shape[-2:])}")
        image = image.contiguous()
        out = image.new_empty(*image.shape[:-2], rows.rows, columns.rows)
        planes = c_long(image[..., 0, 0].numel())
        matrices = byref(rows.matrix), byref(columns.matrix)
        compiled("spectra_resample", *matrices, planes, pointer(image), pointer(out))
        return out
    tall = torch.cat([band.left @ image[..., band.first : band.last, :] for band in rows.pieces], dim=-2)
    flat = tall.reshape(-1, tall.shape[-1])
    wide = torch.cat([flat[:, band.first : band.last] @ band.right for band in columns.pieces], dim=-1)
    return wide.view(*tall.shape[:-1], wide.shape[-1])


@lru_cache(maxsize=64)
def _down_matrix(size: int, ratio: int, mtf: float, device: torch.device) -> _Banded:
    """(size / ratio, size) point-spread function at each coarse centre; cut off at the border, rows summing to 1."""
    centre = (np.arange(size // ratio)[:, None] + 0.5) * ratio - 0.5
    distance = np.arange(size)[None, :] - centre
    weights = np.exp(-0.5 * (distance / psf_sigma(ratio, mtf)) ** 2) * (np.abs(distance) <= 1.7 * ratio)
    return _in_bands(weights / weights.sum(axis=1, keepdims=True), device)


@lru_cache(maxsize=64)
def _up_matrix(size: int, ratio: int, device: torch.device) -> _Banded:
    """(size, size / ratio) Keys' cubic convolution (a = -1/2), edges repeated."""
    coarse = size // ratio
    position = (np.arange(size) + 0.5) / ratio - 0.5
    first = np.floor(position).astype(int)
    matrix = np.zeros((size, coarse))
    for tap in range(-1, 3):
        t = np.abs(position - (first + tap))
        near = 1.5 * t**3 - 2.5 * t**2 + 1
        far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
        weight = np.where(t <= 1, near, np.where(t < 2, far, 0.0))
        np.add.at(matrix, (np.arange(size), np.clip(first + tap, 0, coarse - 1)), weight)
    return _in_bands(matrix, device)


@lru_cache(maxsize=64)
def _spread_matrix(size: int, ratio: int, device: torch.device) -> _Banded:
    """(size, size / ratio) linear interpolation, edges repeated."""
    coarse = size // ratio
    position = np.clip((np.arange(size) + 0.5) / ratio - 0.5, 0, coarse - 1)
    return _in_bands(np.clip(1 - np.abs(position[:, None] - np.arange(coarse)), 0, None), device)


@lru_cache(maxsize=64)
def _box_matrix(size: int, radius: int, device: torch.device) -> _Banded:
    """(size, size) ones where two positions lie within a radius."""
    position = np.arange(size)
    return _in_bands((np.abs(position[:, None] - position) <= radius).astype(np.float64), device)


def down(image: torch.Tensor, ratio: int, valid: torch.Tensor | None = None, mtf: float = RELATIVE_MTF) -> torch.Tensor:
    """What a coarse band sees of a fine one.

    Args:
        image: (..., h, w) fine values, finite everywhere.
        ratio: 2 or 6.
        valid: (h, w) float, 1 where the value counts; ``None`` means everywhere.
        mtf: modulation at the coarse Nyquist frequency.

    Returns:
        (..., h / ratio, w / ratio); nan where less than a tenth of the weights is valid.
    """
    rows = _down_matrix(image.shape[-2], ratio, mtf, image.device)
    columns = _down_matrix(image.shape[-1], ratio, mtf, image.device)
    if valid is None:
        return _apply(rows, columns, image)
    weight = _apply(rows, columns, valid)
    mean = _apply(rows, columns, image * valid) / weight.clamp_min(1e-6)
    return torch.where(weight >= 0.1, mean, torch.nan)


def up(image: torch.Tensor, ratio: int) -> torch.Tensor:
    """Interpolate coarse values (..., h, w), finite, to (..., h * ratio, w * ratio)."""
    rows = _up_matrix(image.shape[-2] * ratio, ratio, image.device)
    columns = _up_matrix(image.shape[-1] * ratio, ratio, image.device)
    return _apply(rows, columns, image)


def spread(image: torch.Tensor, ratio: int) -> torch.Tensor:
    """Linear interpolation of smooth coarse fields (b, h, w) to (b, h * ratio, w * ratio)."""
    rows = _spread_matrix(image.shape[-2] * ratio, ratio, image.device)
    columns = _spread_matrix(image.shape[-1] * ratio, ratio, image.device)
    return _apply(rows, columns, image)


def _box(planes: torch.Tensor, radius: int = WINDOW_RADIUS) -> torch.Tensor:
    """Sums over a square window of (planes, h, w), zero beyond the border."""
    rows, columns = (_box_matrix(size, radius, planes.device) for size in planes.shape[-2:])
    return _apply(rows, columns, planes)


def box_mean(planes: torch.Tensor, radius: int = WINDOW_RADIUS) -> torch.Tensor:
    """Means over a square window of (planes, h, w), of what lies inside the border."""
    return _box(planes, radius) / _box(torch.ones_like(planes[:1]), radius)


def fill_invalid(image: torch.Tensor) -> torch.Tensor:
    """Replace nan by the average of valid neighbours, reaching further each pass; what stays unreached gets the mean.

    Args:
        image: (bands, h, w) with nan where invalid.

    Returns:
        The same with every value finite; a band without any valid pixel becomes 0.
    """
    if all_finite(image):
        return image
    valid = torch.isfinite(image)
    filled = torch.where(valid, image, 0.0)
    known = valid.to(image.dtype)
    for _ in range(_FILL_PASSES):
        count = _box(known)
        mean = _box(filled * known) / count.clamp_min(1.0)
        reached = (known == 0) & (count > 0)
        filled = torch.where(reached, mean, filled)
        known = torch.where(reached, 1.0, known)
    total = known.sum(dim=(-2, -1), keepdim=True)
    mean = (filled * known).sum(dim=(-2, -1), keepdim=True) / total.clamp_min(1.0)
    return torch.where(known > 0, filled, mean)


def _solve(matrix: list[list[torch.Tensor]], right: list[torch.Tensor]) -> list[torch.Tensor]:
    """Solve one small symmetric positive definite system per pixel by LDL', elementwise over planes.

    Args:
        matrix: n x n planes (h, w), lower triangle used.
        right: n right-hand sides (bands, h, w).

    Returns:
        n solutions (bands, h, w).
    """
    n = len(right)
    L: list[list[torch.Tensor]] = [[matrix[i][j] for j in range(i + 1)] for i in range(n)]
    d: list[torch.Tensor] = []
    x = list(right)
    for j in range(n):
        d.append(L[j][j])
        for i in range(j + 1, n):
            factor = L[i][j] / d[j]
            for m in range(j + 1, i + 1):
                L[i][m] = L[i][m] - factor * L[m][j]
            L[i][j], x[i] = L[i][j], x[i] - factor * x[j]
    for i in reversed(range(n)):
        for m in range(i + 1, n):
            x[i] = x[i] - L[m][i] * x[m]
        x[i] = x[i] / d[i]
    return x


def guided_gains(guides: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Local ridge regression of coarse bands on the guides seen at the same resolution.

    Args:
        guides: (4, h, w) guides brought down to the coarse grid, finite.
        target: (bands, h, w) coarse bands, finite.
        valid: (h, w) float, 1 where a coarse pixel counts.

    Returns:
        (bands, 4, h, w) gains G.
    """
    g = len(guides)
    pairs = [(i, j) for i in range(g) for j in range(i + 1)]
    count = _box(valid[None]).clamp_min(1.0)
    centred_g = guides - (guides * valid).sum(dim=(-2, -1), keepdim=True) / valid.sum().clamp_min(1.0)
    centred_t = target - (target * valid).sum(dim=(-2, -1), keepdim=True) / valid.sum().clamp_min(1.0)
    mean_g, mean_t = _box(centred_g * valid) / count, _box(centred_t * valid) / count
    products = torch.stack([centred_g[i] * centred_g[j] * valid for i, j in pairs])
    covariance = _box(products) / count
    planes = {pair: covariance[n] - mean_g[pair[0]] * mean_g[pair[1]] for n, pair in enumerate(pairs)}
    ridge = RIDGE + RIDGE_RELATIVE * torch.stack([planes[i, i] for i in range(g)]).mean(dim=0).clamp_min(0.0)
    matrix = [[planes[i, j] + ridge if i == j else planes[i, j] for j in range(i + 1)] for i in range(g)]
    right = [_box(centred_t * centred_g[i] * valid) / count - mean_t * mean_g[i] for i in range(g)]
    return torch.stack(_solve(matrix, right), dim=1)


@dataclass(frozen=True)
class Sharpened:
    """The bands of one resolution at 10 m, and what made them so."""

    bands: torch.Tensor
    """(b, h, w) reflectance, finite."""
    smooth: torch.Tensor
    """(b, h, w) the interpolated source alone."""
    detail: torch.Tensor
    """(4, h, w) what the guides show below this resolution, reflectance."""
    gains: torch.Tensor
    """(4, h / r, w / r) gain of each guide's detail, mean over the bands."""


@dataclass(frozen=True)
class Fused:
    """All twelve bands at 10 m."""

    bands: torch.Tensor
    """(12, h, w) reflectance in the order of SOURCE_BANDS, finite everywhere (filled where invalid)."""
    valid: torch.Tensor
    """(h, w) bool: the pixel and all its parents are valid."""
    gains: torch.Tensor
    """(4, h, w) mean gain of the 20 m bands on each 10 m band: how much of its detail was injected."""
    detail20: torch.Tensor
    """(h, w) root-mean-square detail of the 10 m bands below 20 m, reflectance."""
    detail60: torch.Tensor
    """(h, w) the same below 60 m."""
    from20: Sharpened
    """The 20 m bands on their way."""
    from60: Sharpened
    """The 60 m bands on their way."""


def _sharpen(guides: torch.Tensor, coarse: torch.Tensor, ratio: int, valid: torch.Tensor | None) -> Sharpened:
    """Guided injection and back-projection at one resolution."""
    seen = fill_invalid(torch.isfinite(coarse).all(dim=0).to(coarse.dtype)[None])[0]
    filled = fill_invalid(coarse)
    low = fill_invalid(down(guides, ratio, valid))
    detail = guides - up(low, ratio)
    gains = guided_gains(low, filled, seen)
    smooth = up(filled, ratio)
    sharp = smooth.clone()
    for band in range(len(coarse)):
        sharp[band] += (spread(gains[band], ratio) * detail).sum(dim=0)
    for _ in range(BACK_PROJECTIONS):
        missing = torch.nan_to_num(coarse - down(sharp, ratio, valid), nan=0.0)
        sharp += up(missing, ratio)
    return Sharpened(sharp, smooth, detail, gains.mean(dim=0))


def _smoothed_rms(detail: torch.Tensor) -> torch.Tensor:
    """Root mean square (h, w) over the planes (b, h, w) and the 3 x 3 pixels around."""
    return box_mean(detail.square().mean(dim=0)[None], 1)[0].sqrt()


def fuse(b10: torch.Tensor, b20: torch.Tensor, b60: torch.Tensor) -> Fused:
    """Bring all twelve bands to 10 m.

    Args:
        b10: (4, h, w) float32 reflectance, nan = nodata; h and w multiples of 6.
        b20: (6, h / 2, w / 2) likewise.
        b60: (2, h / 6, w / 6) likewise.

    Returns:
        The fused bands with validity, gains and detail.
    """
    valid = torch.ones(b10.shape[1:], dtype=torch.bool, device=b10.device)
    weight = None
    if not all_finite(b10):
        valid = torch.isfinite(b10).all(dim=0)
        weight, b10 = valid.to(b10.dtype), torch.where(valid, b10, torch.nan)
    if not all_finite(b20):
        ok = torch.isfinite(b20).all(dim=0)
        valid, b20 = valid & ok.repeat_interleave(2, 0).repeat_interleave(2, 1), torch.where(ok, b20, torch.nan)
    if not all_finite(b60):
        ok = torch.isfinite(b60).all(dim=0)
        valid, b60 = valid & ok.repeat_interleave(6, 0).repeat_interleave(6, 1), torch.where(ok, b60, torch.nan)
    guides = fill_invalid(b10)
    s20, s60 = _sharpen(guides, b20, 2, weight), _sharpen(guides, b60, 6, weight)
    bands = in_wavelength_order(guides, s20.bands, s60.bands)
    gains = spread(s20.gains, 2)
    return Fused(bands, valid, gains, _smoothed_rms(s20.detail), _smoothed_rms(s60.detail), s20, s60)


def in_wavelength_order(at10: torch.Tensor, at20: torch.Tensor, at60: torch.Tensor) -> torch.Tensor:
    """Bands of the three resolutions (4, ...), (6, ...), (2, ...) as (12, ...) in the order of SOURCE_BANDS."""
    return torch.cat([at60[:1], at10[:3], at20[:3], at10[3:], at20[3:4], at60[1:], at20[4:]])


def bicubic(b10: torch.Tensor, b20: torch.Tensor, b60: torch.Tensor) -> torch.Tensor:
    """(12, h, w) every band at 10 m by interpolation alone: the baseline of any fusion."""
    return in_wavelength_order(fill_invalid(b10), up(fill_invalid(b20), 2), up(fill_invalid(b60), 6))
