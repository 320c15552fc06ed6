"""The learned part of the fusion: a small correction of the sharpened bands.

Guided injection assumes one point-spread function and one local linear relation. What that misses shows in the images
themselves, so a small convolutional network corrects the seven bands that constrain the spectra and are coarser than
10 m (the six 20 m bands and B09):

    Y_b <- Y_b + q s_b net(features)_b

with the local contrast ``q`` of the guides and the local level ``s_b`` of the band.

Everything it sees is relative: levels to the local brightness, detail of a band to the band's own level and to the
local contrast of the guides. So it answers alike to a dark and a bright scene and to bands of unlike level (snow in
the short-wave infrared), and corrects nothing where the guides show nothing (``q`` has a floor of the noise). Two
features let it tell what a scene is seen with: the relief of every band at 20 m, which says how sharp the coarse bands
are beside the guides, and the grain of the guides, the part of the green band's detail that blue and red do not
explain, which is mostly noise. It works on the 20 m grid, four 10 m pixels side by side in its channels, and is the
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
from model.fusion import box_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from model.fusion import Fused

REFINED: Final[tuple[int, ...]] = tuple(
    SOURCE_BAND_NAMES.index(name) for name in ("B05", "B06", "B07", "B8A", "B11", "B12", "B09")
)
"""Positions of the corrected bands among the twelve, in the network's order."""

GUIDES: Final[tuple[int, ...]] = tuple(SOURCE_BAND_NAMES.index(name) for name in ("B02", "B03", "B04", "B08"))

FEATURES: Final[int] = 4 * (4 + 7) + 2 * (4 + 7) + 2
"""Channels the network sees."""

CONTRAST_FLOOR: Final[float] = 0.01
"""Relative contrast below which detail is noise."""

LEVEL_FLOOR: Final[float] = 0.03
"""Reflectance below which a band's detail is not measured against its level."""

GRAIN_FLOOR: Final[float] = 1e-3
"""Relative detail that no sensor resolves."""


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
        (FEATURES, h / 2, w / 2) and what the answers are multiplied with, q s_b (7, h / 2, w / 2), reflectance.
    """
    at20, at60 = fused.from20, fused.from60
    guides = fused.bands[list(GUIDES)]
    smooth = torch.cat([at20.smooth, at60.smooth[1:]])
    injected = torch.cat([at20.bands, at60.bands[1:]]) - smooth
    level = functional.avg_pool2d(torch.cat([guides, smooth])[None], 2)[0]
    scale = torch.sqrt(box_mean(level.square()) + LEVEL_FLOOR**2)
    detail = functional.pixel_unshuffle(torch.cat([at20.detail, injected])[None], 2)[0]
    detail = detail.view(len(scale), 4, *scale.shape[1:]) / scale[:, None]
    q = torch.sqrt(box_mean(detail[:4].square().mean(dim=(0, 1))[None]) + CONTRAST_FLOOR**2)
    brightness = torch.sqrt(scale[4:].square().mean(dim=0, keepdim=True))
    seen = [
        (detail / q).flatten(0, 1),
        (level - box_mean(level)) / (scale * q),
        level / brightness - 0.8,
        torch.log(q) + 3.0,
        torch.log(_grain(detail)) + 5.0,
    ]
    return torch.cat(seen), q * scale[4:]


def _grain(detail: torch.Tensor) -> torch.Tensor:
    """What blue and red do not explain of the green band's relative detail, root mean square around (1, h, w).

    Args:
        detail: (4 or more, 4, h, w) relative detail of B02, B03, B04 ... in the four 10 m pixels of a 20 m one.
    """
    blue, green, red = detail[:3]
    products = [(a * b).mean(dim=0) for a, b in ((blue, blue), (red, red), (blue, red), (green, blue), (green, red))]
    bb, rr, br, gb, gr = box_mean(torch.stack(products))
    gg = box_mean(green.square().mean(dim=0)[None])
    bb, rr = bb + GRAIN_FLOOR**2, rr + GRAIN_FLOOR**2  # a ridge: flat ground has no detail at all
    explained = (gb.square() * rr - 2 * gb * gr * br + gr.square() * bb) / (bb * rr - br.square())
    return torch.sqrt((gg - explained).clamp_min(0.0) + GRAIN_FLOOR**2)


def correction(seen: torch.Tensor, contrast: torch.Tensor, weights: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The network itself.

    Args:
        seen: (n, FEATURES, h / 2, w / 2).
        contrast: (n, 7, h / 2, w / 2) q s_b, reflectance.
        weights: first, first_bias ... last_bias.

    Returns:
        (n, 7, h, w) reflectance to add to the bands of `REFINED`.
    """
    first, first_bias, second, second_bias, last, last_bias = weights
    hidden = functional.relu(functional.conv2d(_padded(seen), first, first_bias))
    hidden = functional.relu(functional.conv2d(_padded(hidden), second, second_bias))
    each = contrast.repeat_interleave(4, dim=1)
    return functional.pixel_shuffle(functional.conv2d(hidden, last, last_bias) * each, 2)


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
