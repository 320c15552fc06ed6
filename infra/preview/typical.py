"""Choose a few pixels of a scene whose spectra say most about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from infra.preview.quality import CLOUD_BITS, SATURATED_BIT
from infra.preview.sample import PixelSample, Reservoir
from infra.preview.surfaces import SURFACES, classify

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_SHOWN: Final = 6
_FEWEST_SHOWN: Final = 3
_SMALLEST_SHARE: Final = 0.005
"""Of the clear pixels; rarer surfaces are shown only where there are few others."""
_PER_SURFACE: Final = 256
_OVERALL: Final = 2048
_EXTREMES: Final = (("brightest", 0.98, "#cc79a7"), ("darkest", 0.02, "#555555"))
"""Label, quantile of the mean source reflectance, colour: not the last pixel, which may be an artefact."""


@dataclass(frozen=True)
class TypicalPixel:
    """One pixel to be drawn."""

    label: str
    colour: str
    share: float | None
    """Share of the scene's pixels of the same kind, 0-1; None for an extreme."""
    pixel: PixelSample
    """A sample of one."""


class TypicalPixels:
    """Gathers pixels by kind of surface while a scene goes by."""

    def __init__(self) -> None:
        self._by_surface = [Reservoir(_PER_SURFACE) for _ in SURFACES]
        self._overall = Reservoir(_OVERALL)

    def add(self, sample: PixelSample) -> None:
        """Take in valid pixels; clouds, their shadows and saturated pixels are no typical surface."""
        self._offer(self._overall, sample)
        clear = sample.take(np.flatnonzero((sample.qa & (CLOUD_BITS | SATURATED_BIT)) == 0))
        kind = classify(clear.source.T)
        for position in np.unique(kind):
            self._offer(self._by_surface[position], clear.take(np.flatnonzero(kind == position)))

    @property
    def overall(self) -> PixelSample | None:
        """A uniform sample of all valid pixels; None without any."""
        return self._overall.kept

    def chosen(self) -> tuple[TypicalPixel, ...]:
        """Return at most six pixels: the middle one of each of the most frequent surfaces, extremes where they are few.

        The middle pixel is the one whose source bands are closest to their median over the surface's sample.
        """
        seen = sum(reservoir.offered for reservoir in self._by_surface)
        frequent = sorted(
            (position for position, reservoir in enumerate(self._by_surface) if reservoir.kept is not None),
            key=lambda position: (-self._by_surface[position].offered, position),
        )
        shown = [
            position
            for rank, position in enumerate(frequent)
            if rank < _FEWEST_SHOWN or self._by_surface[position].offered >= _SMALLEST_SHARE * seen
        ]
        found = []
        for position in sorted(shown[:MOST_SHOWN]):
            reservoir, surface = self._by_surface[position], SURFACES[position]
            if reservoir.kept is not None:
                middle = reservoir.kept.take(_middle(reservoir.kept.source))
                found.append(TypicalPixel(surface.label, surface.colour, reservoir.offered / seen, middle))
        return (*found, *self._extremes(found))

    def _extremes(self, found: list[TypicalPixel]) -> list[TypicalPixel]:
        overall, known = self._overall.kept, {int(one.pixel.position[0]) for one in found}
        if overall is None:
            return []
        extremes = []
        order = np.argsort(overall.source.mean(axis=1, dtype=np.float64), kind="stable")
        for label, quantile, colour in _EXTREMES[: max(0, _FEWEST_SHOWN - len(found))]:
            pixel = overall.take(order[[round(quantile * (len(order) - 1))]])
            if int(pixel.position[0]) not in known:
                known.add(int(pixel.position[0]))
                extremes.append(TypicalPixel(label, colour, None, pixel))
        return extremes

    @staticmethod
    def _offer(reservoir: Reservoir, sample: PixelSample) -> None:
        chosen = reservoir.choose(sample.position)
        if chosen.size:
            reservoir.add(sample.take(chosen))


def _middle(source: NDArray[np.float32]) -> NDArray[np.intp]:
    distance = np.linalg.norm(source - np.median(source, axis=0), axis=1)
    return np.array([distance.argmin()])
