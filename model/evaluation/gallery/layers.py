"""The layers of an estimate: decoded, which of them state doubt, and how far they leave their normal range."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from model.layers import NODATA
from model.subspace import REFLECTANCE_STEP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from model.duality import DualityModel, Estimate

RELATIVE: Final[str] = " / mean"
"""After the name of a layer divided by the mean of the pixel's spectrum."""

_GROWING: Final[tuple[str, ...]] = ("sigma_", "stage_change_", "fusion_correction")
"""Layers that grow with brightness: their rise alone says nothing but that the ground is brighter."""

DARKEST: Final[float] = 0.005
"""Least mean reflectance that a sigma is divided by."""

NORMAL_PERCENT: Final[tuple[float, float]] = (5.0, 95.0)


def decoded(model: DualityModel, estimate: Estimate) -> dict[str, NDArray[np.float32]]:
    """Every layer of an estimate at 10 m, decoded.

    Args:
        model: which made it.
        estimate: of a whole window.

    Returns:
        Layer name -> (h, w) float32, nan = nodata: explanation, uncertainty, what grows with brightness also over the
        mean of the pixel's spectrum (`RELATIVE` after its name), and the magnitudes of the residuals (reflectance),
        coarse ones repeated.
    """
    found: dict[str, NDArray[np.float32]] = {}
    for layers, stored in (
        (model.explanation_layers, estimate.explanation),
        (model.uncertainty_layers, estimate.uncertainty),
    ):
        for layer, values in zip(layers, stored, strict=True):
            found[layer.name] = values_of(values, layer.scale)
    mean = np.maximum(np.nanmean(values_of(estimate.hsi, REFLECTANCE_STEP), axis=0), np.float32(DARKEST))
    found |= {name + RELATIVE: found[name] / mean for name in tuple(found) if name.startswith(_GROWING)}
    for resolution, values in ((10, estimate.residual_10), (20, estimate.residual_20), (60, estimate.residual_60)):
        ratio = resolution // 10
        for layer, plane in zip(model.residual_layers[resolution], values, strict=True):
            fine = np.abs(values_of(plane, layer.scale)).repeat(ratio, 0).repeat(ratio, 1)
            found[layer.name] = fine
    return found


def values_of(stored: NDArray[np.int16], scale: float) -> NDArray[np.float32]:
    """Stored integers in their unit, nan = nodata."""
    return np.where(stored == NODATA, np.float32(np.nan), stored * np.float32(scale)).astype(np.float32)


def states_doubt(name: str) -> bool:
    """Whether a high value of the layer means less trust.

    Attributions, gains and measured fractions only describe; what grows with brightness counts relative to the
    pixel's mean.
    """
    if name.endswith(RELATIVE):
        return True
    if name.startswith("residual_"):
        return name != "residual_B01"
    return name in {"out_of_domain_score", "consistency_chi2", "detail", "learned_share", "scale"}


class Exposure(NamedTuple):
    """What one layer says of a failure."""

    layer: str
    before: float
    """Median over the same pixels of the untouched patch, or over the ground that the failure is compared with."""
    after: float
    """Median over the pixels that fail."""
    beyond: float
    """Share of the pixels that fail, 0-1, above the 95th percentile of the normal ground (for layers that only
    describe: outside the 5th to 95th)."""
    beyond_before: float
    """The same share before."""


def exposures(
    after: Mapping[str, NDArray[np.float32]],
    hit: NDArray[np.bool_],
    before: Mapping[str, NDArray[np.float32]],
    twin: NDArray[np.bool_],
    normal: Mapping[str, NDArray[np.float32]],
) -> tuple[Exposure, ...]:
    """How far every layer leaves its normal range.

    Args:
        after: layers (h, w) of the estimate that fails.
        hit: (h, w) the pixels that fail.
        before: layers (h, w) of what it is compared with.
        twin: (h, w) the pixels of `before` that its medians are taken over.
        normal: layers of the pixels that make the normal range, any shape.

    Returns:
        One entry per layer, the strongest rise of the share first.
    """
    found = []
    for name, values in after.items():
        low, high = np.nanpercentile(normal[name], NORMAL_PERCENT)
        if states_doubt(name):
            low = -np.inf
        new, old = values[hit], before[name][twin]

        def beyond(part: NDArray[np.float32], low: float = low, high: float = high) -> float:
            known = part[np.isfinite(part)]
            return float(((known < low) | (known > high)).mean()) if known.size else 0.0

        found.append(Exposure(name, float(np.nanmedian(old)), float(np.nanmedian(new)), beyond(new), beyond(old)))
    return tuple(sorted(found, key=lambda e: (-round(e.beyond - e.beyond_before, 1), -_leap(e))))


def _leap(one: Exposure) -> float:
    """By which factor the median rose: orders layers whose share rose alike."""
    return abs(one.after) / max(abs(one.before), 1e-4)
