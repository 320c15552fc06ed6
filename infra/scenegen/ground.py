"""What lies on the ground: reflectance in the twelve bands, each at its own resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from model.bands import BANDS_BY_RESOLUTION

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from infra.scene import Window


@dataclass(frozen=True)
class GroundPixels:
    """One window of the ground; h and w are the window's, in 10 m pixels."""

    b10: NDArray[np.float32]
    """(4, h, w) surface reflectance of B02 B03 B04 B08."""
    b20: NDArray[np.float32]
    """(6, h / 2, w / 2) surface reflectance of B05 B06 B07 B8A B11 B12: area means."""
    b60: NDArray[np.float32]
    """(2, h / 6, w / 6) surface reflectance of B01 B09: area means."""

    def planes(self) -> dict[str, NDArray[np.float32]]:
        """Return the bands by name."""
        stacks = {10: self.b10, 20: self.b20, 60: self.b60}
        return {
            name: plane
            for metres, names in BANDS_BY_RESOLUTION.items()
            for name, plane in zip(names, stacks[metres], strict=True)
        }


class Ground(Protocol):
    """A piece of the earth of any extent, made where it is looked at."""

    noise_free: bool
    """Whether the sensor's noise is yet to be added; real pixels bring their own."""

    def look(self, window: Window) -> GroundPixels:
        """Return what lies in a window.

        Args:
            window: Aligned to 60 m.

        Returns:
            The pixels; the same for the same seed and window.
        """
        ...


def area_mean(plane: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Return the means of (..., h, w) over squares of `step` pixels."""
    *stack, height, width = plane.shape
    mean: NDArray[np.float32] = plane.reshape(*stack, height // step, step, width // step, step).mean(axis=(-3, -1))
    return mean
