"""The learned part of the fusion: a small correction of the sharpened bands.

Guided injection assumes one point-spread function and one local linear relation. What that misses shows in the images
themselves, so a small convolutional network corrects the seven bands that constrain the spectra and are coarser than
10 m (the six 20 m bands and B09):

    Y_b <- Y_b + q * net(features)_b

Everything it sees is divided by what sets its size: detail by the local contrast ``q`` of the guides, levels by the
local brightness. So it answers alike to a dark and a bright scene, and corrects nothing where the guides show nothing
(``q`` has a floor of the noise). It works on the 20 m grid, four 10 m pixels side by side in its channels, and is the
only part of the fusion that was learned; without it the fusion stands as it is (``learned=False``).

Source: residual learning for the super-resolution of Sentinel-2's coarse bands (Lanaras et al. 2018, section 3), here
on top of guided injection and with normalised inputs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch.nn import functional

from model.bands import SOURCE_BAND_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from model.fusion import Fused

REFINED: Final[tuple[int, ...]] = tuple(
    SOURCE_BAND_NAMES.index(name) for name in ("B05", "B06", "B07", "B8A", "B11", "B12", "B09")
)
"""Positions of the corrected bands among the twelve, in the network's order."""

GUIDES: Final[tuple[int, ...]] = tuple(SOURCE_BAND_NAMES.index(name) for name in ("B02", "B03", "B04", "B08"))

FEATURES: Final[int] = 4 * (4 + 7) + 4 + 7 + 1
"""Channels the network sees."""

CONTRAST_FLOOR: Final[float] = 0.003
"""Contrast below which detail is noise, reflectance."""

BRIGHTNESS_FLOOR: Final[float] = 0.05

CONTRAST_WINDOW: Final[int] = 5
"""20 m pixels over which the contrast of the guides is averaged."""


@dataclass(frozen=True)
class RefinementWeights:
    """The network's numbers: two convolutions of 3 x 3 and one of 1 x 1."""

    first: NDArray[np.float64]
    """(h, FEATURES, 3, 3)."""
    first_bias: NDArray[np.float64]
    """(h,)."""
    second: NDArray[np.float64]
    """(h, h, 3, 3)."""
    second_bias: NDArray[np.float64]
    """(h,)."""
    last: NDArray[np.float64]
    """(28, h, 1, 1)."""
    last_bias: NDArray[np.float64]
    """(28,)."""

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """Arrays as they are stored."""
        return dict(vars(self))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.float64]]) -> RefinementWeights:
        """Inverse of `to_arrays`; raises `KeyError` for a missing one."""
        return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})


def features(fused: Fused) -> tuple[torch.Tensor, torch.Tensor]:
    """What the network sees of a window.

    Args:
        fused: guided fusion of the window.

    Returns:
        (FEATURES, h / 2, w / 2) and the contrast q (1, h / 2, w / 2), reflectance.
    """
    at20, at60, detail = fused.from20, fused.from60, fused.from20.detail
    coarse = [at20.smooth, at60.smooth[1:]]
    injected = [at20.bands - at20.smooth, at60.bands[1:] - at60.smooth[1:]]
    guides = [fused.bands[row : row + 1] for row in GUIDES]
    energy = detail.square().mean(dim=0, keepdim=True)
    means = functional.avg_pool2d(torch.cat([*guides, *coarse, energy])[None], 2)[0]
    level, energy = means[:-1], means[-1:]
    brightness = torch.sqrt(level[4:].square().mean(dim=0, keepdim=True) + BRIGHTNESS_FLOOR**2)
    half = CONTRAST_WINDOW // 2
    around = functional.avg_pool2d(energy[None], CONTRAST_WINDOW, 1, half, count_include_pad=False)[0]
    contrast = torch.sqrt(around + CONTRAST_FLOOR**2)
    fine = functional.pixel_unshuffle(torch.cat([detail, *injected])[None], 2)[0].div_(contrast)
    return torch.cat([fine, level / brightness - 0.8, torch.log(contrast / brightness) + 2.0]), contrast


def correction(seen: torch.Tensor, contrast: torch.Tensor, weights: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The network itself.

    Args:
        seen: (n, FEATURES, h / 2, w / 2).
        contrast: (n, 1, h / 2, w / 2) reflectance.
        weights: first, first_bias ... last_bias.

    Returns:
        (n, 7, h, w) reflectance to add to the bands of `REFINED`.
    """
    first, first_bias, second, second_bias, last, last_bias = weights
    hidden = functional.relu(functional.conv2d(_padded(seen), first, first_bias))
    hidden = functional.relu(functional.conv2d(_padded(hidden), second, second_bias))
    return functional.pixel_shuffle(functional.conv2d(hidden, last, last_bias) * contrast, 2)


def _padded(image: torch.Tensor) -> torch.Tensor:
    return functional.pad(image, (1, 1, 1, 1), mode="replicate")


class Refinement:
    """Evaluates the network on a device."""

    def __init__(self, weights: RefinementWeights, device: torch.device) -> None:
        self._weights = tuple(
            torch.as_tensor(np.ascontiguousarray(value), dtype=torch.float32, device=device)
            for value in weights.to_arrays().values()
        )

    def __call__(self, fused: Fused) -> tuple[Fused, torch.Tensor]:
        """Correct a window.

        Args:
            fused: guided fusion of the window.

        Returns:
            The same with its bands corrected, and the root-mean-square correction (h, w), reflectance.
        """
        seen, contrast = features(fused)
        added = correction(seen[None], contrast[None], self._weights)[0]
        bands = fused.bands.clone()
        bands[list(REFINED)] += added
        return replace(fused, bands=bands), added.square().mean(dim=0).sqrt()
