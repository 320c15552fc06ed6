"""A plain multilayer perceptron from twelve bands to 172 channels: what learning alone makes of a single pixel."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from model.noise import source_sigma

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BANDS: Final[int] = 12
CHANNELS: Final[int] = 172
SCALE_FLOOR: Final[float] = 0.02
"""Floor of the illumination scale, reflectance: dark water is not amplified."""

VALIDATIONS: Final[int] = 20
"""How often a validation part is looked at while training."""

PATIENCE: Final[int] = 10
"""Looks without a better error after which training stops."""

_PREDICTED_TOGETHER: Final[int] = 65536


class SpectralMlp(nn.Module):
    """Three hidden layers with GELU (Hendrycks & Gimpel 2016, arXiv 1606.08415) on standardised bands.

    With ``illumination`` the bands are first divided by ``s = sqrt(mean_b y_b^2 + s0^2)`` (B01 not counted) and the
    spectrum multiplied by it: a pixel twice as bright gets twice the spectrum, apart from the floor ``s0``.

    Attributes:
        band_mean, band_spread: (12,) float32 standardisation of the (scaled) bands.
        mean: (172,) float32 mean of the (scaled) spectra.
        spread: (1,) float32 one spread of the (scaled) spectra about their mean for all channels, so that every
            channel's error weighs as it does in reflectance.
    """

    band_mean: torch.Tensor
    band_spread: torch.Tensor
    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self, *, hidden: int = 128, layers: int = 3, illumination: bool = True) -> None:
        super().__init__()
        widths = [BANDS, *[hidden] * layers]
        stack: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            stack += [nn.Linear(inputs, outputs), nn.GELU()]
        self.layers = nn.Sequential(*stack, nn.Linear(widths[-1], CHANNELS))
        self.illumination = illumination
        self.register_buffer("band_mean", torch.zeros(BANDS))
        self.register_buffer("band_spread", torch.ones(BANDS))
        self.register_buffer("mean", torch.zeros(CHANNELS))
        self.register_buffer("spread", torch.ones(1))

    def scale(self, y: torch.Tensor) -> torch.Tensor:
        """Illumination scale (n, 1) of bands (n, 12), reflectance; 1 where the option is off."""
        if not self.illumination:
            return torch.ones_like(y[:, :1])
        return torch.sqrt(y[:, 1:].square().mean(dim=1, keepdim=True) + SCALE_FLOOR**2)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """Spectra (n, 172) of bands (n, 12), both float32 reflectance."""
        s = self.scale(y)
        z = (y / s - self.band_mean) / self.band_spread
        spectrum: torch.Tensor = (self.layers(z) * self.spread + self.mean) * s
        return spectrum

    @torch.no_grad()
    def predict(self, bands: NDArray[np.floating]) -> NDArray[np.float64]:
        """Spectra (172, n) float64 of bands (12, n), reflectance.

        Raises:
            ValueError: if the bands have another shape.
        """
        if bands.ndim != 2 or bands.shape[0] != BANDS:
            raise ValueError(f"bands have shape {bands.shape}; expected (12, n)")
        y = torch.as_tensor(np.ascontiguousarray(bands.T), dtype=torch.float32, device=self.mean.device)
        parts = [self(part).double().cpu() for part in torch.split(y, _PREDICTED_TOGETHER)]
        return np.asarray(torch.cat(parts).numpy().T)


def _check(spectra: NDArray[np.floating], bands: NDArray[np.floating], what: str) -> None:
    n = len(spectra)
    if spectra.shape != (n, CHANNELS) or bands.shape != (n, BANDS) or not n:
        raise ValueError(f"{what}: shapes {spectra.shape} and {bands.shape}; expected (n, 172) and (n, 12)")
    if not (np.isfinite(spectra).all() and np.isfinite(bands).all()):
        raise ValueError(f"{what}: every value must be finite")


def _sigma(
    noise: Callable[[NDArray[np.float64]], NDArray[np.float64]] | NDArray[np.float64], bands: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, 12) one sigma of bands (n, 12)."""
    if callable(noise):
        return np.asarray(noise(bands.T)).T
    return np.broadcast_to(noise, bands.shape)


def _standardise(model: SpectralMlp, x: torch.Tensor, y: torch.Tensor) -> None:
    s = model.scale(y)
    z, target = y / s, x / s
    model.band_mean.copy_(z.mean(dim=0))
    model.band_spread.copy_(z.std(dim=0, correction=0).clamp_min(1e-4))
    model.mean.copy_(target.mean(dim=0))
    model.spread.copy_((target - model.mean).square().mean().sqrt().clamp_min(1e-4))


def fit_mlp(
    spectra: NDArray[np.floating],
    bands: NDArray[np.floating],
    noise: Callable[[NDArray[np.float64]], NDArray[np.float64]] | NDArray[np.float64] = source_sigma,
    *,
    seed: int,
    steps: int = 3000,
    batch: int = 512,
    rate: float = 2e-3,
    illumination: bool = True,
    validation: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
    progress: Callable[[str, float], None] | None = None,
    device: torch.device | str = "cpu",
) -> SpectralMlp:
    """Fit a perceptron with noise drawn afresh in every step.

    Adam (Kingma & Ba 2015, arXiv 1412.6980) with a cosine from `rate` to 0. The loss is the mean squared error of
    reflectance divided by the square root of the illumination scale: half-way between the relative error, which would
    spend the network on shadows, and the absolute one, which would spend it on snow.

    Args:
        spectra: (n, 172) true reflectance.
        bands: (n, 12) their bands without noise.
        noise: sigma (12, n) from bands (12, n), or an array that broadcasts to (n, 12); reflectance.
        seed: of weights, order and noise.
        steps: gradient steps.
        batch: spectra in one step.
        rate: largest learning rate.
        illumination: take the illumination scale out (see `SpectralMlp`).
        validation: (m, 172) spectra and (m, 12) bands without noise, of places that are not among the training ones;
            they get one draw of noise, the best weights on them are kept and training stops when they stop improving.
        progress: told what is done and the fraction done, 0-1.
        device: where to train; the network stays there.

    Returns:
        The network, in evaluation mode.

    Raises:
        ValueError: if shapes disagree, values are not finite or there is nothing to learn from.
    """
    _check(spectra, bands, "training part")
    rng = np.random.default_rng(seed)
    on: dict[str, Any] = {"dtype": torch.float32, "device": device}
    clean = np.asarray(bands, dtype=np.float64)
    x, y = torch.as_tensor(np.asarray(spectra), **on), torch.as_tensor(clean, **on)
    sigma = torch.as_tensor(np.array(_sigma(noise, clean)), **on)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SpectralMlp(illumination=illumination).to(device)
    _standardise(model, x, y + sigma * torch.as_tensor(rng.standard_normal(clean.shape), **on))
    judge = _validator(validation, noise, rng, on)
    adam = torch.optim.Adam(model.parameters(), lr=rate)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    best, best_state, waited, every = np.inf, copy.deepcopy(model.state_dict()), 0, max(1, steps // VALIDATIONS)
    for step in range(1, steps + 1):
        pick = torch.as_tensor(rng.integers(len(x), size=batch), device=device)
        seen = y[pick] + sigma[pick] * torch.as_tensor(rng.standard_normal((batch, BANDS)), **on)
        weight = model.scale(y[pick]).rsqrt()
        loss = functional.mse_loss(model(seen) * weight, x[pick] * weight)
        adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        cosine.step()
        if step % every and step < steps:
            continue
        if progress:
            progress(f"perceptron, step {step}, training loss {loss.item():.2e}", step / steps)
        if judge:
            error = judge(model)
            waited = 0 if error < best else waited + 1
            if error < best:
                best, best_state = error, copy.deepcopy(model.state_dict())
            if waited >= PATIENCE:
                break
    if judge:
        model.load_state_dict(best_state)
    return model.eval()


def _validator(
    validation: tuple[NDArray[np.floating], NDArray[np.floating]] | None,
    noise: Callable[[NDArray[np.float64]], NDArray[np.float64]] | NDArray[np.float64],
    rng: np.random.Generator,
    on: dict[str, Any],
) -> Callable[[SpectralMlp], float] | None:
    """Root-mean-square error on the validation part with one fixed draw of noise."""
    if validation is None:
        return None
    spectra, bands = validation
    _check(spectra, bands, "validation part")
    clean = np.asarray(bands, dtype=np.float64)
    seen = torch.as_tensor(clean + _sigma(noise, clean) * rng.standard_normal(clean.shape), **on)
    truth = torch.as_tensor(np.asarray(spectra), **on)

    def error(model: SpectralMlp) -> float:
        with torch.no_grad():
            return float((model(seen) - truth).square().mean().sqrt())

    return error
