"""Training of the COS2A-like network on chips, within minutes of two cores."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from model.evaluation.networks.cos2a import BANDS, CHANNELS, Cos2aLike

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Chip = tuple[NDArray[np.float32], NDArray[np.float32]]

BRIGHTNESS_SPREAD: Final[float] = 0.3
"""Standard deviation of the logarithm of the change of illumination that a patch is given."""

VALID_PART: Final[float] = 0.5
"""Part of a patch that must be known for it to be drawn."""

RIDGE: Final[float] = 1e-4
"""Ridge of the first estimate's regression as a fraction of the bands' mean variance."""

WARM_UP: Final[float] = 0.05
"""Part of the training in which the learning rate rises."""

LOOKS: Final[int] = 10
"""How often progress is told and a validation part is looked at."""

_GRADIENT_LIMIT: Final[float] = 1.0


class _Patches:
    """Draws patches from chips, a chip as often as it has known pixels."""

    def __init__(self, chips: Sequence[Chip], patch: int) -> None:
        self._patch = patch
        self._chips: list[Chip] = []
        self._corners: list[NDArray[np.intp]] = []
        known_pixels = []
        for bands, truth in chips:
            _check(bands, truth)
            known = np.isfinite(truth).any(axis=0)
            if min(known.shape) < patch:
                continue
            sums = np.pad(known.astype(np.int64), ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
            inside = sums[patch:, patch:] - sums[:-patch, patch:] - sums[patch:, :-patch] + sums[:-patch, :-patch]
            corners = np.argwhere(inside >= VALID_PART * patch**2)
            if len(corners):
                self._chips.append((bands, truth))
                self._corners.append(corners)
                known_pixels.append(known.sum())
        if not self._chips:
            raise ValueError(f"none of {len(chips)} chips holds a patch of {patch} x {patch} pixels known by half")
        self._share = np.array(known_pixels) / np.sum(known_pixels)

    def pixels(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(n, 12) bands and (n, 172) spectra of the pixels known in every channel that any chip knows."""
        pairs = [(bands.reshape(BANDS, -1).T, truth.reshape(CHANNELS, -1).T) for bands, truth in self._chips]
        y, x = (np.concatenate(part).astype(np.float64) for part in zip(*pairs, strict=True))
        full = np.isfinite(x).all(axis=1)
        if full.sum() < 2 * BANDS:
            raise ValueError(f"{full.sum()} pixels of the chips are known in all channels; at least 24 are needed")
        return y[full], x[full]

    def draw(self, count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """(count, 12, p, p) bands and (count, 172, p, p) truth: turned, mirrored and lit differently."""
        picked = []
        for chip in rng.choice(len(self._chips), size=count, p=self._share):
            row, column = self._corners[chip][rng.integers(len(self._corners[chip]))]
            turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
            light = np.exp(rng.normal(0.0, BRIGHTNESS_SPREAD))
            pair = []
            for image in self._chips[chip]:
                part = np.rot90(image[:, row : row + self._patch, column : column + self._patch], turns, axes=(1, 2))
                pair.append((part[:, :, ::-1] if mirrored else part) * np.float32(light))
            picked.append(pair)
        bands, truth = (torch.as_tensor(np.stack(images)) for images in zip(*picked, strict=True))
        return bands, truth


def _check(bands: NDArray[np.floating], truth: NDArray[np.floating]) -> None:
    size = bands.shape[1:]
    if bands.shape != (BANDS, *size) or truth.shape != (CHANNELS, *size) or len(size) != 2:
        raise ValueError(f"a chip has shapes {bands.shape} and {truth.shape}; expected (12, h, w) and (172, h, w)")
    if not np.isfinite(bands).all():
        raise ValueError("the bands of a chip must be finite; fill them as bicubic_bands does")


def _start(model: Cos2aLike, patches: _Patches, rng: np.random.Generator) -> None:
    """Standardise the prior and set the first estimate to the linear one: ridge regression of spectra on bands.

    The pixels are lit differently as the patches will be. Minutes of training would otherwise go into finding what is
    known in closed form; the centre of each 3 x 3 kernel takes the regression, its neighbours start from zero, and
    everything is learned on from there.
    """
    y, x = patches.pixels()
    light = np.exp(rng.normal(0.0, BRIGHTNESS_SPREAD, size=(len(y), 1)))
    y, x = y * light, x * light
    y_mean, x_mean = y.mean(axis=0), x.mean(axis=0)
    dy, dx = y - y_mean, x - x_mean
    cov = dy.T @ dy / len(y)
    ridge = RIDGE * np.trace(cov) / BANDS
    W = np.linalg.solve(cov + ridge * np.eye(BANDS), dy.T @ dx / len(y)).T  # (172, 12)
    with torch.no_grad():
        model.first.weight.zero_()
        model.first.weight[:, :, 1, 1] = torch.as_tensor(W, dtype=torch.float32)
        model.first.bias.copy_(torch.as_tensor(x_mean - W @ y_mean))  # type: ignore[union-attr]
        model.mean.copy_(torch.as_tensor(x_mean)[:, None, None])
        model.spread.fill_(float(dx.std()))


def _squares(estimate: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of squared errors where the truth is known, and how many values that is."""
    known = torch.isfinite(truth)
    return torch.where(known, estimate - torch.where(known, truth, 0.0), 0.0).square().sum(), known.sum()


def chips_rmse(model: Cos2aLike, chips: Sequence[Chip]) -> float:
    """Root-mean-square error over every known value of chips, reflectance."""
    parts = [_squares(torch.as_tensor(model.predict(y)), torch.as_tensor(x)) for y, x in chips]
    total, count = sum(float(part[0]) for part in parts), sum(int(part[1]) for part in parts)
    return float(np.sqrt(total / max(count, 1)))


def fit_cos2a(
    chips: Sequence[Chip],
    *,
    seed: int,
    steps: int = 1000,
    patch: int = 16,
    batch: int = 4,
    rate: float = 5e-4,
    seconds: float | None = None,
    validation: Sequence[Chip] | None = None,
    progress: Callable[[str, float], None] | None = None,
    device: torch.device | str = "cpu",
) -> Cos2aLike:
    """Train the network on random patches of chips.

    Mean squared error of the last stage's spectra where the truth is known, Adam (Kingma & Ba 2015, arXiv 1412.6980)
    with a short warm-up and a cosine from `rate` to 0, gradients limited in norm. Patches are turned, mirrored and lit
    differently; the first estimate starts from the linear one.

    Args:
        chips: pairs of bands (12, h, w) and truth (172, h, w), float32 reflectance at 10 m; bands finite, truth nan
            where unknown; chips smaller than a patch are left out.
        seed: of weights and patches.
        steps: gradient steps.
        patch: edge of a patch, pixels.
        batch: patches in one step.
        rate: largest learning rate.
        seconds: end after this time at the latest, with the schedule shortened accordingly. The result then depends on
            the machine's speed.
        validation: chips of places that are not among the training ones; the best weights on them are kept, the
            linear start among them.
        progress: told what is done and the fraction done, 0-1.
        device: where to train; the network stays there.

    Returns:
        The network, in evaluation mode.

    Raises:
        ValueError: if shapes are wrong, bands are not finite, or no chip holds a patch.
    """
    rng = np.random.default_rng(seed)
    patches = _Patches(chips, patch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Cos2aLike()
    _start(model, patches, rng)
    model.to(device)
    adam = torch.optim.Adam(model.parameters(), lr=rate)
    best = chips_rmse(model, validation) if validation else np.inf
    best_state = copy.deepcopy(model.state_dict())
    started, looked, done, step, running = time.monotonic(), 0, 0.0, 0, float("nan")
    while done < 1.0:
        for group in adam.param_groups:
            group["lr"] = rate * min(done / WARM_UP + 1e-3, 0.5 * (1 + np.cos(np.pi * done)))
        y, x = (part.to(device) for part in patches.draw(batch, rng))
        total, count = _squares(model(y), x)
        loss = total / count
        adam.zero_grad(set_to_none=True)
        (loss / model.spread.square()).sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), _GRADIENT_LIMIT)
        adam.step()
        step += 1
        running = loss.item() if step == 1 else 0.98 * running + 0.02 * loss.item()
        done = step / steps
        if seconds is not None:
            done = max(done, (time.monotonic() - started) / seconds)
        if int(min(done, 1.0) * LOOKS) == looked:
            continue
        looked = int(min(done, 1.0) * LOOKS)
        message = f"network, step {step}, training RMSE {np.sqrt(running):.4f}"
        if validation:
            error = chips_rmse(model, validation)
            message += f", left out {error:.4f}"
            if error < best:
                best, best_state = error, copy.deepcopy(model.state_dict())
        if progress:
            progress(message, min(done, 1.0))
    if validation:
        model.load_state_dict(best_state)
    return model.eval()
