"""Space and spectra solved together for one window of one platform.

Fusion brings the twelve bands to 10 m, guided first, then corrected by its network; the unfolding turns them into
coefficients; the last data step lets the product give way where it contradicts the sensor beyond its noise.
Coefficients are rounded to their stored integers before anything is derived from them: what is stored is what is
judged.
"""

from __future__ import annotations

from ctypes import byref, c_long
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from model import fusion
from model.compiled import FinishingMatrices, kernels, pointer
from model.consistency import JUDGED, DataStep, correction_gain
from model.errors import UnknownPlatform
from model.explain import Explanation
from model.mixture import SpectralPosterior
from model.refinement import Refinement
from model.residual import Residual, residual
from model.subspace import STORED_LIMIT
from model.uncertainty import GroupUncertainty
from model.unfolding import Unfolded, Unfolding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from model.parameters import Parameters


@dataclass(frozen=True)
class PlatformTools:
    """The prepared matrices of one platform."""

    posterior: SpectralPosterior
    unfolding: Unfolding
    uncertainty: GroupUncertainty
    explanation: Explanation
    observation: torch.Tensor
    """(12, k) bands from coefficients."""
    correction: torch.Tensor
    """(k, 12) gain G of the last data step."""
    judged: torch.Tensor
    """(11, k) rows of `observation` in the order of `JUDGED`."""
    judged_correction: torch.Tensor
    """(k, 11) columns of `correction` in the order of `JUDGED`."""
    response: torch.Tensor
    """(11, 11) what those bands show of a correction."""
    finishing: FinishingMatrices | None
    """The same for the compiled code, where there is any."""


@dataclass(frozen=True)
class Solution:
    """Everything known about a window, halo included."""

    fused: fusion.Fused
    """The twelve bands at 10 m that the spectra were estimated from."""
    unfolded: Unfolded
    """The spectral estimate of every pixel, before the last data step."""
    corrected: torch.Tensor
    """(h, w) root-mean-square learned correction of the fused bands, reflectance."""
    stored: torch.Tensor
    """(k, h * w) float32 integers: stored coefficients."""
    simulated: torch.Tensor
    """(12, h, w) the stored product seen through the responses at 10 m."""
    residuals: dict[int, Residual]
    """Resolution in metres -> source minus stored product."""


class DualitySolver:
    """Solves windows on a device."""

    def __init__(self, parameters: Parameters, device: torch.device) -> None:
        self.parameters = parameters
        self.device = device
        self.kernels = kernels(device)
        self.steps = self._tensor(parameters.steps[:, None])
        self._refine = Refinement(parameters.refinement, device) if parameters.refinement else None
        self._platforms = {name: self._prepare(name) for name in parameters.sensors}

    def _tensor(self, array: NDArray[np.float64]) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32, device=self.device)

    def _prepare(self, name: str) -> PlatformTools:
        p = self.parameters
        sensor = p.sensors[name]
        observation = sensor.responses @ p.basis.components.T
        posterior = SpectralPosterior(sensor.prior, observation, self.device)
        gain = correction_gain(sensor.prior, observation)
        unfolding = Unfolding(posterior, observation, p.unfolding, p.basis.components.shape[1])
        judged = list(JUDGED)
        return PlatformTools(
            posterior,
            unfolding,
            GroupUncertainty(posterior, p.basis, p.floor, p.calibration),
            Explanation(unfolding, p.basis, sensor.responses),
            self._tensor(observation),
            self._tensor(gain),
            self._tensor(observation[judged]),
            self._tensor(gain[:, judged]),
            self._tensor(observation[judged] @ gain[:, judged]),
            FinishingMatrices(
                bands=len(observation), k=len(gain), judged=len(judged), correction=gain[:, judged], steps=p.steps,
                observation=observation,
            ) if self.kernels else None,
        )  # fmt: skip

    def tools(self, platform: str) -> PlatformTools:
        """The prepared matrices of a platform.

        Raises:
            UnknownPlatform: if the weights hold no responses for it.
        """
        try:
            return self._platforms[platform]
        except KeyError:
            raise UnknownPlatform(
                f"no spectral responses for platform {platform!r}; the weights hold {', '.join(self._platforms)}"
            ) from None

    def solve(self, b10: torch.Tensor, b20: torch.Tensor, b60: torch.Tensor, platform: str) -> Solution:
        """Solve one window.

        Args:
            b10: (4, h, w) float32 reflectance on the solver's device, nan = nodata; h and w multiples of 6.
            b20: (6, h / 2, w / 2) likewise.
            b60: (2, h / 6, w / 6) likewise.
            platform: platform name.

        Returns:
            The solution of the whole window.
        """
        tools = self.tools(platform)
        sources = {10: b10, 20: b20, 60: b60}
        fused, corrected = self.fuse(b10, b20, b60)
        unfolded = tools.unfolding(fused.bands.reshape(12, -1))
        seen = tools.judged @ unfolded.coefficients
        taken_back = DataStep(sources, fused.valid)(seen.view(-1, *fused.valid.shape), tools.response)
        stored, simulated = self._finish(tools, unfolded.coefficients, taken_back)
        simulated = simulated.view(-1, *fused.valid.shape)
        return Solution(fused, unfolded, corrected, stored, simulated, _residuals(sources, simulated, fused))

    def _finish(
        self, tools: PlatformTools, coefficients: torch.Tensor, taken_back: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Coefficients as they are stored, and what the sensor would see of them.

        Args:
            tools: the platform's.
            coefficients: (k, N) estimate.
            taken_back: (11, N) what the last data step took back of the bands.

        Returns:
            (k, N) float32 integers, and (12, N) reflectance.
        """
        if self.kernels and tools.finishing:
            stored = torch.empty_like(coefficients)
            simulated = coefficients.new_empty(tools.finishing.bands, coefficients.shape[1])
            self.kernels(
                "spectra_finish", byref(tools.finishing), pointer(coefficients),
                pointer(taken_back), c_long(coefficients.shape[1]), pointer(stored),
                pointer(simulated),
            )  # fmt: skip
            return stored, simulated
        stored = torch.addmm(coefficients, tools.judged_correction, taken_back)
        stored.div_(self.steps).round_().clamp_(-STORED_LIMIT, STORED_LIMIT)
        return stored, tools.observation @ (stored * self.steps)

    def fuse(self, b10: torch.Tensor, b20: torch.Tensor, b60: torch.Tensor) -> tuple[fusion.Fused, torch.Tensor]:
        """The twelve bands at 10 m, and the root-mean-square learned correction (h, w), reflectance."""
        fused = fusion.fuse(b10, b20, b60)
        return self._refine(fused) if self._refine else (fused, torch.zeros_like(fused.detail20))


def _residuals(
    sources: Mapping[int, torch.Tensor], simulated: torch.Tensor, fused: fusion.Fused
) -> dict[int, Residual]:
    return {m: residual(source, simulated, fused.valid, m) for m, source in sources.items()}
