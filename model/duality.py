"""The model put together: multispectral bands in, hyperspectral product with its explanation and its doubts out.

Space first (`model.fusion` brings the twelve bands to 10 m), then spectra (`model.unfolding`); the two steps commute
wherever the gains are constant, which is the spectral-spatial duality. What is stored is what is judged: the 172
bands, the residual and the consistency are computed from the stored integers of the coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from model.assembly import Frame, assembly
from model.compiled import keep_memory
from model.errors import InvalidImage
from model.explain import (
    SCORE_STEP,
    SHARE_STEP,
    explanation_layers,
)
from model.fusion import all_finite
from model.inference import CELL, GRANULE, HALO, Halo, choose_device
from model.layers import NODATA, Layer
from model.parameters import Parameters, read_weights
from model.residual import RESIDUAL_STEP, residual_layers
from model.solution import DualitySolver
from model.subspace import STORED_LIMIT, Basis, compact_layers, hsi_layers
from model.uncertainty import (
    GROUPS,
    SIGMA_STEP,
    channel_sigma,
    uncertainty_layers,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from model.card import ModelCard
    from model.residual import Residual
    from model.solution import Solution


@dataclass(frozen=True)
class Multispectral:
    """The twelve bands of a window with its halo."""

    b10: NDArray[np.float32]
    """(4, h, w) B02 B03 B04 B08 surface reflectance, nan = nodata; h and w multiples of 6."""
    b20: NDArray[np.float32]
    """(6, h / 2, w / 2) B05 B06 B07 B8A B11 B12."""
    b60: NDArray[np.float32]
    """(2, h / 6, w / 6) B01 B09."""
    platform: str
    """``sentinel-2a``, ``sentinel-2b`` or ``sentinel-2c``."""


@dataclass(frozen=True)
class Estimate:
    """Everything the model says about the kept part of a window. Integers decode by the model's layers."""

    hsi: NDArray[np.int16]
    """(172, h, w) reflectance."""
    compact: NDArray[np.int16]
    """(k, h, w) subspace coefficients."""
    uncertainty: NDArray[np.int16]
    """(9, h, w) uncertainty layers."""
    explanation: NDArray[np.int16]
    """(32, h, w) explanation layers."""
    residual_10: NDArray[np.int16]
    """(4, h, w) residuals of the 10 m bands."""
    residual_20: NDArray[np.int16]
    """(6, h / 2, w / 2) residuals of the 20 m bands."""
    residual_60: NDArray[np.int16]
    """(2, h / 6, w / 6) residuals of the 60 m bands."""
    out_of_domain: NDArray[np.bool_]
    """(h, w) valid pixels unlike anything the statistics were made from."""
    low_consistency: NDArray[np.bool_]
    """(h, w) valid pixels of which some source band is not met within noise."""
    totals: dict[str, float] = field(default_factory=dict)
    """Sums over the valid pixels, to be added up over windows and given to `SpectralModel.quality`."""


class SpectralModel(Protocol):
    """What the rest of the house needs of a model."""

    card: ModelCard
    compiled: bool
    """Whether the fast code does its part, or none is needed: false on a processor where it was not built."""
    cell: int
    halo: int
    hsi_layers: tuple[Layer, ...]
    compact_layers: tuple[Layer, ...]
    uncertainty_layers: tuple[Layer, ...]
    explanation_layers: tuple[Layer, ...]
    residual_layers: Mapping[int, tuple[Layer, ...]]

    def estimate(self, msi: Multispectral, halo: Halo) -> Estimate:
        """Estimate the part of a window inside its halo."""

    def basis(self) -> Basis:
        """The subspace that expands the compact product."""

    def channel_sigma(self, uncertainty: NDArray[np.int16]) -> NDArray[np.float32]:
        """Calibrated 1-sigma (172, ...) of every channel from the stored uncertainty (9, ...)."""

    def cells_at_once(self, threads: int) -> int:
        """How many cells to give to `estimate` at once, from as many threads."""

    def quality(self, totals: Mapping[str, float]) -> Mapping[str, float]:
        """Quality numbers of a whole product from its summed totals."""

    def resimulate(self, hsi_reflectance: NDArray[np.floating], platform: str) -> NDArray[np.float64]:
        """Source bands (12, ...) of spectra (172, ...)."""


class DualityModel:
    """Explainable fusion and spectral unfolding behind the `SpectralModel` protocol."""

    def __init__(self, parameters: Parameters, card: ModelCard, device: torch.device) -> None:
        self.card = card
        self.parameters = parameters
        self.device = device
        self.cell, self.halo = CELL, HALO
        self.hsi_layers = hsi_layers()
        self.compact_layers = compact_layers(parameters.steps)
        self.uncertainty_layers = uncertainty_layers()
        self.explanation_layers = explanation_layers()
        self._score = [layer.name for layer in self.explanation_layers].index("out_of_domain_score")
        self.residual_layers: Mapping[int, tuple[Layer, ...]] = residual_layers()
        self.solver = DualitySolver(parameters, device)
        self.compiled = device.type != "cpu" or self.solver.kernels is not None
        self._assembly = assembly(self.solver, (*self.uncertainty_layers, *self.explanation_layers))

    def basis(self) -> Basis:
        """The subspace: ``hsi = mean + compact_values @ components`` within 2 DN."""
        return self.parameters.basis

    def channel_sigma(self, uncertainty: NDArray[np.int16]) -> NDArray[np.float32]:
        """Calibrated 1-sigma of every channel.

        Args:
            uncertainty: (9, ...) stored uncertainty layers.

        Returns:
            (172, ...) reflectance, nan = nodata.
        """
        return channel_sigma(uncertainty, self.parameters.calibration.profile)

    def resimulate(self, hsi_reflectance: NDArray[np.floating], platform: str) -> NDArray[np.float64]:
        """What the sensor would see of spectra: responses x spectra; B01 by its regression on the channels.

        Args:
            hsi_reflectance: (172, ...) reflectance.
            platform: platform name.

        Returns:
            (12, ...) reflectance.
        """
        self.solver.tools(platform)
        return np.tensordot(self.parameters.sensors[platform].responses, hsi_reflectance, axes=1)

    @torch.inference_mode()
    def estimate(self, msi: Multispectral, halo: Halo) -> Estimate:
        """Estimate the part of a window inside its halo.

        Args:
            msi: the twelve bands with their halo.
            halo: pixels to leave out on each side, multiples of 6.

        Returns:
            The estimate of the inner part.

        Raises:
            InvalidImage: if shapes, types or the halo do not fit.
            UnknownPlatform: if the weights hold no responses for the platform.
        """
        self.solver.tools(msi.platform)  # an unknown one is refused first
        check_image(msi, halo)
        if self.device.type == "cpu":
            torch.set_num_threads(1)  # results must not depend on how many cores there are; see `in_parallel`
        b10, b20, b60 = (
            t if all_finite(t) else torch.where(torch.isfinite(t), t, torch.nan)
            for t in (torch.as_tensor(a).to(self.device) for a in (msi.b10, msi.b20, msi.b60))
        )
        return self._assemble(msi.platform, self.solver.solve(b10, b20, b60, msi.platform), halo)

    def cells_at_once(self, threads: int) -> int:
        """How many cells to give to `estimate` at once, from as many threads: on a CPU each is worked on by one.

        Args:
            threads: as many as the caller would like.
        """
        return max(1, threads) if self.device.type == "cpu" else 1

    def _assemble(self, platform: str, solution: Solution, halo: Halo) -> Estimate:
        fused, unfolded, residuals = solution.fused, solution.unfolded, solution.residuals
        height, width = fused.valid.shape

        def inner(image: torch.Tensor, ratio: int = 1) -> torch.Tensor:
            left, top, right, bottom = (side // ratio for side in halo)
            return image[..., top : height // ratio - bottom, left : width // ratio - right]

        valid = inner(fused.valid)
        void = None if bool(valid.all()) else ~valid
        planes = (
            fused.bands, solution.simulated, unfolded.weights, unfolded.scale, unfolded.distance, fused.detail20,
            fused.detail60, fused.gains, unfolded.learned, unfolded.changes, solution.corrected,
        )  # fmt: skip
        frame = Frame(height, width, halo)
        layers = self._assembly.layers(platform, planes, frame)
        uncertainty, explanation = layers[: len(self.uncertainty_layers)], layers[len(self.uncertainty_layers) :]
        within = _within(residuals, inner, valid)
        outside = (explanation[self._score].view(valid.shape) * SCORE_STEP > 1.0) & valid
        totals = {
            "valid": float(valid.sum()),
            "out_of_domain": float(outside.sum()),
            "within_noise": float(within.sum()),
            "sigma": _sum((uncertainty[:GROUPS] * SIGMA_STEP).square().mean(dim=0).sqrt() * valid.flatten()),
            "measured": _sum(explanation[0] * SHARE_STEP * valid.flatten()),
            **_residual_totals(residuals, inner),
        }
        if void is not None:
            layers.masked_fill_(void.view(1, -1), NODATA)
        return Estimate(
            hsi=self._assembly.bands(solution.stored, frame, void),
            compact=_integers(inner(solution.stored.view(-1, height, width)), void),
            uncertainty=uncertainty.view(-1, *valid.shape).cpu().numpy(),
            explanation=explanation.view(-1, *valid.shape).cpu().numpy(),
            residual_10=_integers(inner(residuals[10].value) / RESIDUAL_STEP),
            residual_20=_integers(inner(residuals[20].value, 2) / RESIDUAL_STEP),
            residual_60=_integers(inner(residuals[60].value, 6) / RESIDUAL_STEP),
            out_of_domain=outside.cpu().numpy(),
            low_consistency=(~within & valid).cpu().numpy(),
            totals=totals,
        )

    def quality(self, totals: Mapping[str, float]) -> Mapping[str, float]:
        """Quality numbers of a product.

        Args:
            totals: the sum of `Estimate.totals` over its windows.

        Returns:
            ``valid_pixels``, ``resimulation_rmse`` (reflectance, all bands but B01 at native resolution),
            ``within_noise_fraction``, ``mean_uncertainty`` (reflectance), ``out_of_domain_fraction``,
            ``low_consistency_fraction``, ``measured_fraction``; only the count where nothing is valid.
        """
        n = totals.get("valid", 0.0)
        if n <= 0:
            return {"valid_pixels": 0.0}
        return {
            "valid_pixels": n,
            "resimulation_rmse": float(np.sqrt(totals["residual_squares"] / max(totals["residual_count"], 1.0))),
            "within_noise_fraction": totals["within_noise"] / n,
            "mean_uncertainty": totals["sigma"] / n,
            "out_of_domain_fraction": totals["out_of_domain"] / n,
            "low_consistency_fraction": 1.0 - totals["within_noise"] / n,
            "measured_fraction": totals["measured"] / n,
        }


def check_image(msi: Multispectral, halo: Halo) -> None:
    """Refuse arrays that cannot be a Sentinel-2 window.

    Raises:
        InvalidImage: with what was found and what was expected.
    """
    for name, array, bands, ratio in (("b10", msi.b10, 4, 1), ("b20", msi.b20, 6, 2), ("b60", msi.b60, 2, 6)):
        if array.ndim != 3 or array.dtype != np.float32:
            raise InvalidImage(f"{name} is {array.ndim}-dimensional {array.dtype}; expected (bands, h, w) float32")
        if array.shape[0] != bands:
            raise InvalidImage(f"{name} has {array.shape[0]} bands; expected {bands} in wavelength order")
        expected = tuple(size // ratio for size in msi.b10.shape[1:])
        if array.shape[1:] != expected:
            raise InvalidImage(
                f"{name} has {array.shape[1:]} pixels; expected {expected} for b10 of {msi.b10.shape[1:]}"
            )
    height, width = msi.b10.shape[1:]
    if height % GRANULE or width % GRANULE or not height or not width:
        raise InvalidImage(f"the window is {height} x {width} pixels; both must be positive multiples of {GRANULE}")
    if any(side < 0 or side % GRANULE for side in halo):
        raise InvalidImage(f"halo {tuple(halo)} must consist of multiples of {GRANULE}")
    if halo.left + halo.right >= width or halo.top + halo.bottom >= height:
        raise InvalidImage(f"halo {tuple(halo)} leaves nothing of a window of {height} x {width} pixels")


def _integers(values: torch.Tensor, void: torch.Tensor | None = None) -> NDArray[np.int16]:
    """Round to int16 inside +-32767; nodata where void or nan."""
    rounded = values.round().clamp_(-STORED_LIMIT, STORED_LIMIT).nan_to_num_(nan=NODATA).to(torch.int16)
    if void is not None:
        rounded.masked_fill_(void, NODATA)
    return np.asarray(rounded.cpu().numpy())


def _within(residuals: dict[int, Residual], inner: Callable[..., torch.Tensor], valid: torch.Tensor) -> torch.Tensor:
    """(h, w) bool: the pixel's own bands and those of its parents are met within noise."""
    within = inner(residuals[10].within)
    for resolution in (20, 60):
        ratio = resolution // 10
        coarse = inner(residuals[resolution].within, ratio)
        within = within & coarse.repeat_interleave(ratio, 0).repeat_interleave(ratio, 1)
    return within & valid


def _sum(values: torch.Tensor) -> float:
    return float(values.sum(dtype=torch.float64))


def _residual_totals(residuals: dict[int, Residual], inner: Callable[..., torch.Tensor]) -> dict[str, float]:
    """Sum and number of squared residuals at native resolution, all bands but B01."""
    squares = count = 0.0
    for resolution, part in residuals.items():
        ratio = resolution // 10
        bands = len(part.value) - (resolution == 60)
        squares += _sum(inner(part.squares, ratio)) * bands
        count += float(inner(part.known, ratio).sum()) * bands
    return {"residual_squares": squares, "residual_count": count}


def load_model(path: Path | None = None, device: str = "auto", *, learned: bool = True) -> DualityModel:
    """Load a model.

    Args:
        path: folder with weights and card; ``None`` for the shipped ones.
        device: ``auto``, ``cpu`` or ``cuda``.
        learned: ``False`` leaves the networks out: fitted statistics and guided injection only.

    Returns:
        The model, ready to estimate; one per process is enough.

    Raises:
        WeightsMissing, WeightsCorrupted, WeightsVersionMismatch: if the weights cannot be used.
        DeviceUnavailable: if the device does not exist.
    """
    chosen = choose_device(device)
    if chosen.type == "cpu":
        keep_memory()
    parameters, card = read_weights(path)
    return DualityModel(parameters if learned else parameters.untrained(), card, chosen)
