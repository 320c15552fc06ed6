"""Bits of the product's ``qa`` file that a preview shows, and their order of importance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NODATA_BIT: Final = 1 << 0


@dataclass(frozen=True)
class Flag:
    """One reason to doubt a pixel, as it is drawn."""

    bit: int
    """Mask in the ``qa`` file."""
    label: str
    colour: str


FLAGS: Final = (
    Flag(1 << 1, "cloud", "#8c8c8c"),
    Flag(1 << 2, "cloud shadow", "#3b3b3b"),
    Flag(1 << 5, "saturated", "#f0e442"),
    Flag(1 << 6, "out of domain", "#d55e00"),
    Flag(1 << 7, "differs from its source bands", "#cc79a7"),
)
"""Where several are set, the first is drawn. Colours: Okabe and Ito's set for all kinds of colour vision, and greys."""

CLOUD_BITS: Final = FLAGS[0].bit | FLAGS[1].bit
SATURATED_BIT: Final = FLAGS[2].bit
TRUSTED_COLOUR: Final = "#cfe3f1"
"""Valid pixels without any flag."""
NODATA_COLOUR: Final = "#e4e4e4"
