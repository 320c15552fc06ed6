"""Real tier: real Sentinel-2 images at reduced resolution, bands only (Wald's protocol)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from model.bands import BANDS_BY_RESOLUTION, SOURCE_BAND_NAMES
from model.errors import InvalidImage
from model.evaluation.wald import BASELINES, judge_wald
from model.fusion import RELATIVE_MTF, down, fill_invalid, fuse
from model.inference import GRANULE

if TYPE_CHECKING:
    from model.duality import DualityModel
    from model.evaluation.wald import Scene

_ROWS_20 = [SOURCE_BAND_NAMES.index(name) for name in BANDS_BY_RESOLUTION[20]]


def judge_real(model: DualityModel, scene: Scene, mtf: float = RELATIVE_MTF) -> dict[str, dict[str, Any]]:
    """Sharpen a reduced image, 40 m to 20 m, and compare with the real 20 m bands.

    Args:
        model: whose fusion is judged; the untrained one stands beside it as ``guided``.
        scene: the image.
        mtf: modulation of the reduction at the coarse Nyquist frequency.

    Returns:
        Method -> figures of `model.evaluation.wald.judge_wald`: ``bicubic``, two generalised Laplacian pyramids,
        ``guided`` and ``model``.

    Raises:
        InvalidImage: if the image is too small or its sides are no multiples of 120 m.
    """
    height, width = scene["b10"].shape[1:]
    if height % (2 * GRANULE) or width % (2 * GRANULE):
        raise InvalidImage(
            f"{scene['name']} is {height} x {width} pixels; the real tier needs multiples of {2 * GRANULE} (120 m)"
        )
    coarsest = down(fill_invalid(torch.as_tensor(scene["b60"])), 2, None, mtf)

    def guided(guides: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        return fuse(guides, coarse, coarsest).bands[_ROWS_20]

    def fused(guides: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        return model.solver.fuse(guides, coarse, coarsest)[0].bands[_ROWS_20]

    return judge_wald(scene, {**BASELINES, "guided": guided, "model": fused}, mtf)
