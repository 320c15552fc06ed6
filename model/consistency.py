"""The last data step: where the product would contradict the sensor beyond its noise, it gives way.

The posterior trusts twelve bands at 10 m, eight of which are themselves estimates there, and a prior may misjudge a
pixel unlike its classes. So the product is seen through the sensor once more, at each band's own resolution, and what
exceeds the noise,

    e_b = r_b - clip(r_b, -t_b sigma_b, t_b sigma_b),      r_b = y_b - down(d_b x),

is taken back: ``c += G up(e)`` with the gain ``G = C A' (A C A' + eps R)^-1`` of the pooled prior. Pixels that agree
within ``t sigma`` are left exactly as they are: agreement below the noise is never forced. Each column of ``G`` belongs
to one band, so the correction adds to that band's contribution and completeness stays exact. B01 takes no part.

The passes run on the bands that the product is seen in, ``A c``; the coefficients follow once at the end.
"""

from __future__ import annotations

from ctypes import byref, c_long
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from model.bands import SOURCE_BAND_NAMES
from model.compiled import GivingWayMatrices, kernels, pointer
from model.fusion import all_finite, down, up
from model.residual import JUDGED_MTF, ROWS, noise_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from model.compiled import Kernels
    from model.mixture import MixturePrior

TOLERATED_SIGMAS: Final[NDArray[np.float64]] = np.where(np.array(SOURCE_BAND_NAMES) == "B09", 2.5, 1.75)
"""t of each band: disagreement up to here is noise.

B09 lies in an absorption of water vapour: what its correction leaves is no property of the ground, and taking all of
it back spoils the channels around it."""

PASSES: Final[int] = 6
"""How often what exceeds the noise is taken back."""

TIGHTNESS: Final[float] = 0.1
"""eps: the noise the correction allows itself, as a fraction of the prior's."""


JUDGED: Final[tuple[int, ...]] = tuple(row for rows in ROWS.values() for row in rows if row)
"""Positions among the twelve of the bands that ask for something (all but B01), resolution by resolution."""


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


def tolerated(source: torch.Tensor, rows: list[int]) -> torch.Tensor:
    """What is tolerated of some source bands (bands, h, w), reflectance; 0 where the source is nan."""
    t = torch.as_tensor(TOLERATED_SIGMAS[rows], dtype=source.dtype, device=source.device)
    return t[:, None, None] * noise_of(source, rows)


def beyond_noise(value: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
    """What of a difference exceeds its limit in magnitude; both of one shape."""
    return value - torch.clamp(value, -limit, limit)


def agree(
    coefficients: torch.Tensor, bands: torch.Tensor, observation: torch.Tensor, correction: torch.Tensor
) -> torch.Tensor:
    """The passes for single pixels whose bands are all known at the product's own resolution (spectral tier).

    Args:
        coefficients: (k, N) estimate.
        bands: (12, N) source reflectance.
        observation: (12, k) A.
        correction: (k, 12) G.

    Returns:
        (k, N).
    """
    limit = tolerated(bands[:, :, None], list(range(len(bands))))[:, :, 0]
    for _ in range(PASSES):
        coefficients = coefficients + correction @ beyond_noise(bands - observation @ coefficients, limit)
    return coefficients


@dataclass(frozen=True)
class _Judged:
    """The bands of one resolution that ask for something."""

    ratio: int
    """10 m pixels along one of this resolution."""
    part: slice
    """Where they stand in `JUDGED`."""
    source: torch.Tensor
    """(bands, h, w) reflectance, 0 where unknown."""
    low: torch.Tensor
    """(bands, h, w) the least difference that is noise; minus infinity where nothing is known."""
    high: torch.Tensor
    """(bands, h, w) the greatest."""


class DataStep:
    """The passes for one window of one platform, on the bands of `JUDGED`."""

    def __init__(self, sources: Mapping[int, torch.Tensor], valid: torch.Tensor) -> None:
        """Prepare the window.

        Args:
            sources: resolution in metres -> (bands, h, w) source reflectance, nan = nodata.
            valid: (h, w) bool, validity of the product at 10 m.
        """
        self._weight = None if bool(valid.all()) else valid.to(sources[10].dtype)
        self._parts = []
        for resolution, bands in sources.items():
            asked = [row for row in ROWS[resolution] if row]
            first = JUDGED.index(asked[0])
            source = bands[ROWS[resolution].index(asked[0]) :]  # B01 comes first
            high = tolerated(source, asked)
            if not all_finite(source):
                high = torch.where(torch.isfinite(source), high, torch.inf)
            source = torch.nan_to_num(source, nan=0.0)
            if self._weight is not None:
                product_known = valid
                if resolution > 10:
                    product_known = torch.isfinite(down(self._weight, resolution // 10, self._weight, JUDGED_MTF))
                high = torch.where(product_known, high, torch.inf)
            part = slice(first, first + len(asked))
            self._parts.append(_Judged(resolution // 10, part, source.contiguous(), -high, high.contiguous()))

    def excess(self, seen: torch.Tensor) -> torch.Tensor | None:
        """Disagreement beyond the noise, brought to 10 m.

        Args:
            seen: (11, h, w) the product in the bands of `JUDGED` at 10 m, finite.

        Returns:
            (11, h, w) reflectance, zero where the product agrees or nothing is known; ``None`` if it agrees everywhere.
        """
        out = torch.zeros_like(seen)
        found = False
        for judged in self._parts:
            beyond = self._beyond(judged, seen)
            low, high = torch.aminmax(beyond)  # in place of `any`, which is ten times slower
            if bool((low < 0.0) | (high > 0.0)):
                out[judged.part] = up(beyond, judged.ratio) if judged.ratio > 1 else beyond
                found = True
        return out if found else None

    def _compiled_pass(
        self, compiled: Kernels, matrices: GivingWayMatrices, seen: torch.Tensor, total: torch.Tensor
    ) -> None:
        """One pass by the compiled code, which also finds the excess of the 10 m bands; changes both in place."""
        fine, *others = self._parts
        coarse = torch.cat([up(self._beyond(judged, seen), judged.ratio) for judged in others])
        compiled(
            "spectra_give_way", byref(matrices), pointer(fine.source), pointer(fine.high), pointer(coarse),
            pointer(seen), pointer(total), c_long(seen[0].numel()),
        )  # fmt: skip

    def _beyond(self, judged: _Judged, seen: torch.Tensor) -> torch.Tensor:
        """What exceeds the noise at one resolution (bands, h, w)."""
        product = seen[judged.part]
        if judged.ratio > 1:
            product = down(product, judged.ratio, self._weight, JUDGED_MTF)
            if self._weight is not None:
                product = torch.nan_to_num(product, nan=0.0)  # unknown: the limits there are infinite
        difference = judged.source - product
        return difference - torch.clamp(difference, judged.low, judged.high)

    def __call__(self, seen: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
        """Take back what exceeds the noise.

        Args:
            seen: (11, h, w) the product in the bands of `JUDGED` at 10 m, contiguous; changed in place.
            response: (11, 11) A G: what these bands show of a correction.

        Returns:
            (11, h * w) the sum of what was taken back; ``G`` brings it to the coefficients.
        """
        total = torch.zeros_like(seen)
        compiled = kernels(seen.device)
        if compiled and [part.ratio for part in self._parts] == [1, 2, 6]:  # bands in part, or otherwise, go by torch
            matrices = GivingWayMatrices(bands=len(seen), fine=len(self._parts[0].source), response=response)
            for _ in range(PASSES):
                self._compiled_pass(compiled, matrices, seen, total)
            return total.view(len(seen), -1)
        for _ in range(PASSES):
            beyond = self.excess(seen)
            if beyond is None:
                break
            total += beyond
            seen.view(len(seen), -1).addmm_(response, beyond.view(len(seen), -1))
        return total.view(len(seen), -1)
