"""The stored layers of a window's kept part, put together from its solution.

Two ways to the same integers: `TorchAssembly` on any device, and `CompiledAssembly`, several times faster, on a
processor where `model.compiled` was built.
"""

from __future__ import annotations

from ctypes import byref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import torch

from model.compiled import CompiledFrame, ExpansionMatrices, ExplainedPlanes, ExplainingMatrices, integers_of, pointer
from model.explain import GUIDE_BANDS, STAGES
from model.layers import NODATA, Layer
from model.mixture import chunk_size
from model.noise import NOISE_ABSOLUTE, NOISE_RELATIVE
from model.subspace import REFLECTANCE_STEP, STORED_LIMIT
from model.uncertainty import GROUPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from model.compiled import Kernels
    from model.inference import Halo
    from model.solution import DualitySolver

BLOCK: Final[int] = 192
STRIP: Final[int] = 8
"""The 172 bands are expanded in pieces of 8 rows and 192 columns: small enough for the cache, and kept windows start
at their multiples, so pieces never shift."""


@dataclass(frozen=True)
class Frame:
    """The part of a window that is kept."""

    height: int
    """Of the whole window, 10 m pixels."""
    width: int
    halo: Halo

    def kept(self, image: torch.Tensor) -> torch.Tensor:
        """The kept part (planes, h, w) of whole planes (..., height * width) or (..., height, width)."""
        left, top, right, bottom = self.halo
        planes = image.reshape(-1, self.height, self.width)
        return planes[:, top : self.height - bottom, left : self.width - right]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the kept part."""
        left, top, right, bottom = self.halo
        return self.height - top - bottom, self.width - left - right


class Assembly(Protocol):
    """What makes the stored integers of a window's kept part."""

    def layers(self, platform: str, planes: tuple[torch.Tensor, ...], frame: Frame) -> torch.Tensor:
        """Uncertainty and explanation in stored units.

        Args:
            platform: platform name.
            planes: of the whole window: fused bands (12, h, w), product seen through the sensor (12, ...), class
                probabilities (J, ...), scale, distance, detail below 20 and 60 m, gains (4, ...), learned residual
                (k, ...), change of each stage (T, ...), correction of the fusion; float32.
            frame: what of it to keep, N pixels.

        Returns:
            (9 + 32, N) int16.
        """

    def bands(self, stored: torch.Tensor, frame: Frame, void: torch.Tensor | None) -> NDArray[np.int16]:
        """The stored 172 bands.

        Args:
            stored: (k, h * w) float32 integers, stored coefficients of the whole window.
            frame: what of it to keep.
            void: bool of the kept part's shape, where there is nodata; ``None`` for nowhere.

        Returns:
            (172, ...) int16.
        """


def assembly(solver: DualitySolver, layers: Sequence[Layer]) -> Assembly:
    """The fastest way there is.

    Args:
        solver: what solves the windows.
        layers: how uncertainty and explanation decode, in stored order.
    """
    per_step = 1.0 / np.array([layer.scale for layer in layers])
    if solver.kernels:
        return CompiledAssembly(solver, solver.kernels, per_step)
    return TorchAssembly(solver, per_step)


def _expansion(solver: DualitySolver) -> NDArray[np.float64]:
    """(172, k) stored channels from coefficients."""
    return np.ascontiguousarray(solver.parameters.basis.components.T / REFLECTANCE_STEP)


class TorchAssembly:
    """By torch, a few thousand pixels at a time."""

    def __init__(self, solver: DualitySolver, per_step: NDArray[np.float64]) -> None:
        def tensor(array: NDArray[np.float64]) -> torch.Tensor:
            return torch.as_tensor(array, dtype=torch.float32, device=solver.device)

        self._solver = solver
        self._expand = tensor(_expansion(solver))
        self._per_step = tensor(per_step[:, None])
        self._noise = tensor(np.stack([NOISE_ABSOLUTE**2, NOISE_RELATIVE**2])[:, :, None])  # (2, 12, 1)

    def layers(self, platform: str, planes: tuple[torch.Tensor, ...], frame: Frame) -> torch.Tensor:
        """Uncertainty and explanation."""
        tools = self._solver.tools(platform)
        columns = [frame.kept(plane).flatten(1) for plane in planes]
        limit = self._solver.parameters.calibration.distance_limit
        absolute, relative = self._noise[:, 1:]
        out = torch.empty(len(self._per_step), columns[0].shape[1], dtype=torch.int16, device=self._solver.device)
        size = chunk_size(self._solver.device)
        for start in range(0, out.shape[1], size):
            y, seen, w, s, distance, detail20, detail60, gains, learned, changes, corrected = (
                column[:, start : start + size] for column in columns
            )
            z = y / s
            sigma, inflation = tools.uncertainty(z, w, s[0], detail20[0], detail60[0])
            shares = tools.explanation.attribution(z, w, s[0], learned)
            y1 = y[1:]
            chi2 = (y1 - seen[1:]).square_().div_(torch.addcmul(absolute, relative, y1.square())).mean(dim=0)
            rows = (
                sigma,
                inflation[None],
                tools.explanation.measured(w),
                shares[:-1],
                gains,
                detail20,
                distance / limit,
                chi2[None],
                shares[-1:],
                changes,
                y.new_zeros(STAGES - len(changes), y.shape[1]),  # stages that have a layer but were not run
                corrected,
            )
            stored = torch.cat(rows).mul_(self._per_step).round_().clamp_(-STORED_LIMIT, STORED_LIMIT)
            out[:, start : start + size] = stored.to(torch.int16)  # converting while copying is slow
        return out

    def bands(self, stored: torch.Tensor, frame: Frame, void: torch.Tensor | None) -> NDArray[np.int16]:
        """Expand to 172 channels, piece by piece."""
        coefficients = frame.kept(stored).contiguous()
        _, height, width = coefficients.shape
        out = np.empty((len(self._expand), height, width), dtype=np.int16)
        strip = STRIP if self._solver.device.type == "cpu" else BLOCK
        for row in range(0, height, strip):
            for column in range(0, width, BLOCK):
                part = np.s_[..., row : row + strip, column : column + BLOCK]
                piece = coefficients[part]
                values = self._expand @ (piece.reshape(len(piece), -1) * self._solver.steps)
                stored = values.round_().clamp_(-STORED_LIMIT, STORED_LIMIT).to(torch.int16)
                if void is not None:
                    stored.masked_fill_(void[part].reshape(1, -1), NODATA)
                out[part] = stored.view(-1, *piece.shape[1:]).cpu().numpy()
        return out


class CompiledAssembly:
    """By the compiled code, which reads the whole planes where they are."""

    def __init__(self, solver: DualitySolver, kernels: Kernels, per_step: NDArray[np.float64]) -> None:
        self._solver, self._kernels, self._per_step = solver, kernels, per_step
        expand = _expansion(solver)
        self._channels, k = expand.shape
        self._expansion = ExpansionMatrices(
            channels=self._channels, k=k, components=expand, steps=solver.parameters.steps
        )
        self._explaining = {name: self._matrices(name) for name in solver.parameters.sensors}

    def _matrices(self, platform: str) -> ExplainingMatrices:
        tools, parameters = self._solver.tools(platform), self._solver.parameters
        calibration = parameters.calibration
        written = 2 * GROUPS + 2 + tools.posterior.bands + len(GUIDE_BANDS) + 4 + STAGES + 1
        if written != len(self._per_step):
            raise ValueError(f"the compiled code makes {written} layers; the product has {len(self._per_step)}")
        return ExplainingMatrices(
            bands=tools.posterior.bands, k=len(parameters.steps), classes=tools.posterior.classes, groups=GROUPS,
            guides=len(GUIDE_BANDS), stages=STAGES, stages_run=len(parameters.unfolding.stages),
            layers=len(self._per_step), distance_limit=calibration.distance_limit, group_gain=tools.uncertainty.gain,
            within=tools.uncertainty.within, alpha2=calibration.alpha**2, beta20=calibration.beta20**2,
            beta60=calibration.beta60**2, measured=tools.explanation.rows, attribution=tools.explanation.groups,
            band_mean=tools.posterior.form.band_mean, to_groups=tools.explanation.to_groups,
            noise_absolute=NOISE_ABSOLUTE**2, noise_relative=NOISE_RELATIVE**2, per_step=self._per_step,
        )  # fmt: skip

    def layers(self, platform: str, planes: tuple[torch.Tensor, ...], frame: Frame) -> torch.Tensor:
        """Uncertainty and explanation."""
        height, width = frame.shape
        out = np.empty((len(self._per_step), height * width), dtype=np.int16)
        pixels = frame.height * frame.width
        if any(plane.numel() % pixels for plane in planes):
            raise ValueError(f"expected planes of {frame.height} x {frame.width} pixels; found {[*map(len, planes)]}")
        names = (name for name, _ in ExplainedPlanes._fields_)
        columns = ExplainedPlanes(**{name: plane.contiguous() for name, plane in zip(names, planes, strict=True)})
        self._kernels(
            "spectra_explain", byref(self._explaining[platform]), byref(columns), byref(_compiled(frame)),
            integers_of(out),
        )  # fmt: skip
        return torch.from_numpy(out)

    def bands(self, stored: torch.Tensor, frame: Frame, void: torch.Tensor | None) -> NDArray[np.int16]:
        """Expand to 172 channels."""
        out = np.empty((self._channels, *frame.shape), dtype=np.int16)
        self._kernels(
            "spectra_expand", byref(self._expansion), pointer(stored), byref(_compiled(frame)), integers_of(out)
        )
        if void is not None:
            out[:, void.numpy()] = NODATA
        return out


def _compiled(frame: Frame) -> CompiledFrame:
    height, width = frame.shape
    return CompiledFrame(frame.height * frame.width, frame.width, frame.halo.left, frame.halo.top, width, height)
