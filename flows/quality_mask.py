"""The bit mask of a product: what each pixel is and why it may be doubted."""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class QualityBit(IntFlag):
    """Bits of the ``qa`` file; several may be set at once. Overviews are the bitwise OR."""

    NODATA = 1 << 0
    CLOUD = 1 << 1
    SHADOW = 1 << 2
    WATER = 1 << 3
    SNOW = 1 << 4
    SATURATED = 1 << 5
    OUT_OF_DOMAIN = 1 << 6
    LOW_CONSISTENCY = 1 << 7
    CLASS_UNKNOWN = 1 << 8


_SCL_BITS: Final[tuple[tuple[tuple[int, ...], QualityBit], ...]] = (
    # Scene classes of Sen2Cor: ESA, Level-2A Algorithm Theoretical Basis Document, table of the scene classification.
    ((8, 9, 10), QualityBit.CLOUD),
    ((2, 3), QualityBit.SHADOW),
    ((6,), QualityBit.WATER),
    ((11,), QualityBit.SNOW),
    ((0, 7), QualityBit.CLASS_UNKNOWN),
)


def quality_mask(
    *,
    valid: NDArray[np.bool_],
    saturated: NDArray[np.bool_],
    out_of_domain: NDArray[np.bool_],
    low_consistency: NDArray[np.bool_],
    scene_classes: NDArray[np.uint8] | None,
) -> NDArray[np.uint16]:
    """Combine what is known of each pixel into the bit mask.

    Args:
        valid: (H, W) bool, True where every source band has data.
        saturated: (H, W) bool, True where a source band is saturated.
        out_of_domain: (H, W) bool, the model's abstention.
        low_consistency: (H, W) bool, the product disagrees with its source bands beyond their noise.
        scene_classes: (H / 2, W / 2) uint8 scene classes at 20 m, or None when the source has none.

    Returns:
        (H, W) uint16 mask of `QualityBit`; a pixel without data carries NODATA alone.
    """
    mask = np.zeros(valid.shape, np.uint16)
    mask[saturated] |= np.uint16(QualityBit.SATURATED)
    mask[out_of_domain] |= np.uint16(QualityBit.OUT_OF_DOMAIN)
    mask[low_consistency] |= np.uint16(QualityBit.LOW_CONSISTENCY)
    if scene_classes is None:
        mask |= np.uint16(QualityBit.CLASS_UNKNOWN)
    else:
        table = np.zeros(256, np.uint16)
        for classes, bit in _SCL_BITS:
            table[list(classes)] |= np.uint16(bit)
        table[12:] |= np.uint16(QualityBit.CLASS_UNKNOWN)
        mask |= table[scene_classes].repeat(2, axis=0).repeat(2, axis=1)[: valid.shape[0], : valid.shape[1]]
    mask[~valid] = QualityBit.NODATA
    return mask
