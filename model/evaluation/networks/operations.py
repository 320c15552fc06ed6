"""How many multiply-accumulates a pixel costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from collections.abc import Callable


def count_operations(module: Callable[[torch.Tensor], object], example: torch.Tensor, pixels: int | None = None) -> int:
    """Multiply-accumulates per pixel of one forward pass.

    Counted are the matrix products and convolutions that run, as torch's dispatcher sees them, one multiply-accumulate
    for every two floating-point operations; a padded convolution counts its whole kernel at the border too. Not
    counted: additions, activations, averages, square roots, and factorisations of small matrices done once per image.

    Args:
        module: a module, or anything else that can be called with the example.
        example: input: (n, channels) or (B, channels, h, w).
        pixels: how many pixels the example holds; by default n, or B h w.

    Returns:
        Multiply-accumulates per pixel, rounded down.

    Raises:
        ValueError: if the number of pixels is not given and cannot be told from the example's shape.
    """
    if pixels is None:
        if example.ndim not in {2, 4}:
            raise ValueError(f"an example of shape {tuple(example.shape)} has no known pixel count; give pixels=")
        pixels = example.numel() // example.shape[1]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(example)
    return int(counter.get_total_flops()) // (2 * pixels)
