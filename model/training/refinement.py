"""Fit the learned correction of the fusion.

Chips (`model.training.chips`) are seen as the sensor would see them, with a point-spread function drawn from the range
that is known of it, decimation and noise; guided fusion sharpens them; the network learns what is still missing. The
loss is the missing part relative to the local contrast, so that faint and strong edges count alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from model.bands import SOURCE_BAND_NAMES
from model.fusion import fuse
from model.refinement import FEATURES, REFINED, RefinementWeights, correction, features
from model.training.chips import ChipSettings, chip

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from model.training.chips import Image

ROBUST: Final[float] = 1e-3
MARGIN: Final[int] = 6
"""Pixels at a chip's border that do not count."""


@dataclass(frozen=True)
class RefinementSettings:
    """Choices of the descent, made before any scene judged."""

    hidden: int = 32
    chips: int = 800
    steps: int = 3000
    batch: int = 8
    rate: float = 3e-3
    decay: float = 1e-3
    mtf: tuple[float, float] = (0.25, 0.50)
    """Range of the modulation at the coarse Nyquist frequency that chips are seen with: what is known of them."""
    noise: float = 1.0
    """Largest factor on the table's noise, which is an upper estimate of what differs from pixel to pixel. The factor
    is the square of an even draw: half of the chips have a quarter of the noise or less, as real images do."""
    chip: ChipSettings = field(default_factory=ChipSettings)


def _shown(truth: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the sensor is shown of a band that nobody knows: its neighbour B8A; it is not learned from."""
    return np.where(np.isfinite(truth), truth, truth[SOURCE_BAND_NAMES.index("B8A")])


def _layers(hidden: int) -> nn.ModuleList:
    first, second = nn.Conv2d(FEATURES, hidden, 3), nn.Conv2d(hidden, hidden, 3)
    last = nn.Conv2d(hidden, 4 * len(REFINED), 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias if last.bias is not None else torch.zeros(1))
    return nn.ModuleList([first, second, last])


def fit_refinement(
    found: Sequence[Image],
    texture: NDArray[np.float32],
    pool: NDArray[np.float64],
    observe: Callable[
        [NDArray[np.float32], float, float, np.random.Generator], tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    ],
    seed: int,
    settings: RefinementSettings,
    device: torch.device | None = None,
) -> RefinementWeights:
    """Train the network.

    Args:
        found: real images in the twelve bands.
        texture: (4, h, w) a real Sentinel-2 image's 10 m bands, reflectance.
        pool: (12, n) bands of spectra to choose materials from.
        observe: what the sensor sees of (12, h, w) at a modulation, with a factor on the noise: 10, 20 and 60 m bands.
        seed: of chips and descent.
        settings: the choices.
        device: where to train; the CPU unless told.

    Returns:
        The network's numbers.
    """
    where = device or torch.device("cpu")
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    examples = []
    for _ in range(settings.chips):
        truth = chip(found, texture, pool, rng, settings.chip)
        mtf, noise = float(rng.uniform(*settings.mtf)), settings.noise * float(rng.uniform()) ** 2
        with torch.no_grad():
            fused = fuse(*observe(_shown(truth), mtf, noise, rng))
            seen, contrast = features(fused)
            missing = torch.as_tensor(truth)[list(REFINED)] - fused.bands[list(REFINED)]
        known = torch.isfinite(missing)
        examples.append((seen, contrast, torch.where(known, missing, 0.0), known.to(missing.dtype)))
    seen, contrast, missing, known = (torch.stack(part).to(where) for part in zip(*examples, strict=True))
    layers = _layers(settings.hidden).to(where)
    weights = list(layers.parameters())
    optimiser = torch.optim.AdamW(weights, lr=settings.rate, weight_decay=settings.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, total_steps=settings.steps)
    inside = np.s_[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    for _ in range(settings.steps):
        i = torch.as_tensor(rng.integers(len(seen), size=settings.batch), device=where)
        added = correction(seen[i], contrast[i], tuple(weights))
        size = functional.interpolate(contrast[i], scale_factor=2, mode="nearest")
        error = ((added - missing[i]) * known[i] / size)[inside]
        loss = torch.sqrt(error.square().mean(dim=1) + ROBUST).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    arrays = [p.detach().cpu().numpy().astype(np.float64) for p in weights]
    return RefinementWeights(*arrays)
