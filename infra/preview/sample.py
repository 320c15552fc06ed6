"""A bounded, repeatable sample of a scene's pixels."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class PixelSample:
    """Some pixels of a scene, pixel by pixel."""

    position: NDArray[np.int64]
    """(n,) row * width + column in the scene."""
    hsi: NDArray[np.int16]
    """(n, 172) stored reflectance."""
    uncertainty: NDArray[np.int16]
    """(n, u) stored uncertainty layers."""
    source: NDArray[np.float32]
    """(n, 12) source reflectance, 0-1."""
    qa: NDArray[np.uint16]
    """(n,) quality bits."""

    def __len__(self) -> int:
        return len(self.position)

    def take(self, chosen: NDArray[np.intp]) -> PixelSample:
        """Return some of the pixels in the order asked for."""
        return PixelSample(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def join(self, other: PixelSample) -> PixelSample:
        """Return the pixels of both."""
        return PixelSample(
            *(np.concatenate([getattr(self, field.name), getattr(other, field.name)]) for field in fields(self))
        )


class Reservoir:
    """Keeps a uniform sample of what it is offered: the pixels whose positions have the smallest hashes.

    Which pixels stay does not depend on the order in which they came (bottom-k sampling; Cohen and Kaplan 2007).
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._kept: PixelSample | None = None
        self.offered = 0
        """Pixels offered so far."""

    def choose(self, position: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return which of the offered positions could stay, so that nothing else has to be copied."""
        self.offered += len(position)
        rank = _scramble(position)
        chosen = np.arange(len(position))
        if self._kept is not None and len(self._kept) == self._capacity:
            chosen = np.flatnonzero(rank < _scramble(self._kept.position[-1:])[0])
        return chosen[np.argsort(rank[chosen])[: self._capacity]]

    def add(self, sample: PixelSample) -> None:
        """Take in pixels that `choose` named."""
        joined = sample if self._kept is None else self._kept.join(sample)
        self._kept = joined.take(np.argsort(_scramble(joined.position))[: self._capacity])

    @property
    def kept(self) -> PixelSample | None:
        """The sample in a fixed order; None while nothing was offered."""
        return self._kept


def _scramble(position: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return a one-to-one hash: the finaliser of SplitMix64. Steele et al. 2014, OOPSLA, 453."""
    z = position.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
