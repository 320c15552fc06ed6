"""Fit the proximal steps of the spectral unfolding.

Every step of the descent draws spectra from the pool, mixes most of them with others, simulates one platform's bands
with fresh noise, and asks the unrolled stages for the coefficients; the loss is the error of the scaled spectrum. The
start is the closed-form posterior and stays fixed. Snapshots of the averaged weights are kept, so that how long to
train can be chosen on scenes left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from model.instruments import SENTINEL2_MSI
from model.mixture import SpectralPosterior
from model.unfolding import StageWeights, UnfoldingWeights, pooled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.instruments import Instrument
    from model.parameters import Parameters

ROBUST: Final[float] = 1e-4
"""Added under the root of the loss: scaled squared error below which a pixel counts quadratically."""


@dataclass(frozen=True)
class UnfoldingSettings:
    """Choices of the descent, made before any scene judged."""

    stages: int = 2
    hidden: int = 32
    rho: float = 0.05
    """Where each stage's data step starts; learned from there."""
    steps: int = 1200
    snapshots: int = 4
    """How many lengths of training there are to choose from."""
    batch: int = 1024
    rate: float = 2e-3
    decay: float = 1e-3
    average: float = 0.995
    """Exponential average of the weights."""
    mixed: float = 0.7
    """Share of spectra mixed with another one."""


class _Stage(nn.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int, rho: float) -> None:
        super().__init__()
        self.inner, self.middle, self.outer = (
            nn.Linear(inputs, hidden),
            nn.Linear(hidden, hidden),
            nn.Linear(hidden, outputs),
        )
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)
        self.log_rho = nn.Parameter(torch.tensor(float(np.log(rho))))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        hidden = functional.relu(self.inner(features))
        proximal: torch.Tensor = self.outer(functional.relu(self.middle(hidden)))
        return proximal


class _Platform:
    """One platform's fixed parts as tensors."""

    def __init__(
        self, parameters: Parameters, name: str, spectra: NDArray[np.float64], coastal: NDArray[np.float64]
    ) -> None:
        sensor = parameters.sensors[name]
        A = sensor.responses @ parameters.basis.components.T
        C, R = pooled(sensor.prior)
        self.posterior = SpectralPosterior(sensor.prior, A, torch.device("cpu"))
        bands = sensor.responses @ spectra.T
        bands[0] = np.where(np.isfinite(coastal), coastal, bands[0])
        self.bands, self.A, self.C, self.R = (torch.as_tensor(a, dtype=torch.float32) for a in (bands, A, C, R))

    def data_step(self, p: torch.Tensor, z: torch.Tensor, rho: torch.Tensor) -> torch.Tensor:
        """The exact data step on (N, k), differentiable in rho."""
        CA = rho * self.C @ self.A.T
        gain = torch.linalg.solve(self.A @ CA + torch.diag(self.R), CA.T).T
        return torch.addmm(p, z - p @ self.A.T, gain.T)


def fit_unfolding(
    parameters: Parameters,
    spectra: NDArray[np.float64],
    coastal: NDArray[np.float64],
    seed: int,
    settings: UnfoldingSettings,
    steps: int | None = None,
    instrument: Instrument = SENTINEL2_MSI,
) -> list[UnfoldingWeights]:
    """Train the stages behind fitted statistics.

    Args:
        parameters: the statistics, fitted to the same spectra.
        spectra: (n, 172) reflectance.
        coastal: (n,) reflectance in the first band, nan where unknown.
        seed: of the descent.
        settings: the choices.
        steps: how many steps; all of the settings' unless told.
        instrument: whose noise.

    Returns:
        Weights after each snapshot's share of the settings' steps, the last one being the longest.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    platforms = [_Platform(parameters, name, spectra, coastal) for name in parameters.sensors]
    target = torch.as_tensor(parameters.basis.project(spectra).T, dtype=torch.float32)
    k, n = target.shape
    absolute = torch.tensor(instrument.noise_absolute, dtype=torch.float32)[:, None]
    relative = torch.tensor(instrument.noise_relative, dtype=torch.float32)[:, None]
    with torch.no_grad():
        v0, z, _, s, _ = platforms[0].posterior.chunk(platforms[0].bands)
        seen = torch.cat([z, v0])
        mean, spread = seen.mean(dim=1), seen.std(dim=1) + 1e-6
        size = (target / s - v0).std(dim=1)
    unrolled = [_Stage(len(mean), settings.hidden, k, settings.rho) for _ in range(settings.stages)]
    stages = nn.ModuleList(unrolled)
    averaged = [p.detach().clone() for p in stages.parameters()]
    optimiser = torch.optim.AdamW(stages.parameters(), lr=settings.rate, weight_decay=settings.decay)
    every = max(1, settings.steps // settings.snapshots)
    total = settings.steps if steps is None else steps
    taken: list[UnfoldingWeights] = []
    for step in range(1, total + 1):
        platform = platforms[int(torch.randint(len(platforms), (), generator=generator))]
        first, second = torch.randint(n, (2, settings.batch), generator=generator)
        part = torch.rand(settings.batch, generator=generator)
        part = part * (torch.rand(settings.batch, generator=generator) < settings.mixed)
        y = platform.bands[:, first] * (1 - part) + platform.bands[:, second] * part
        c = target[:, first] * (1 - part) + target[:, second] * part
        noise = torch.sqrt(absolute**2 + (relative * y) ** 2)
        y = y + noise * torch.randn(y.shape, generator=generator)
        with torch.no_grad():
            v, z, _, s, _ = platform.posterior.chunk(y)
        v, z = v.T, z.T
        for stage in unrolled:
            features = (torch.cat([z, v], dim=1) - mean) / spread
            v = platform.data_step(v + size * stage(features), z, torch.exp(stage.log_rho))
        error = (v - (c / s).T).square().sum(dim=1)
        loss = torch.sqrt(error + ROBUST).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            keep = min(settings.average, step / (step + 10))
            for average, now in zip(averaged, stages.parameters(), strict=True):
                average.lerp_(now, 1 - keep)
        if step % every == 0 or step == total:
            taken.append(_export(stages, averaged, mean, spread, size))
    return taken


def _export(
    stages: nn.ModuleList, averaged: list[torch.Tensor], mean: torch.Tensor, spread: torch.Tensor, size: torch.Tensor
) -> UnfoldingWeights:
    """Averaged weights with the normalisation of inputs and outputs folded in."""
    per_stage = len(averaged) // len(stages)
    names = [name for name, _ in stages[0].named_parameters()]
    exported = []
    for t in range(len(stages)):
        p = dict(zip(names, averaged[t * per_stage : (t + 1) * per_stage], strict=True))
        arrays = {name: value.numpy().astype(np.float64) for name, value in p.items()}
        inner = arrays["inner.weight"] / spread.numpy()
        scale = size.numpy().astype(np.float64)
        exported.append(
            StageWeights(
                inner=inner,
                inner_bias=arrays["inner.bias"] - inner @ mean.numpy().astype(np.float64),
                middle=arrays["middle.weight"],
                middle_bias=arrays["middle.bias"],
                outer=arrays["outer.weight"] * scale[:, None],
                outer_bias=arrays["outer.bias"] * scale,
                rho=np.exp(arrays["log_rho"]).reshape(1),
            )
        )
    return UnfoldingWeights(tuple(exported))
