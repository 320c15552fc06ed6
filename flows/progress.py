"""How far a production is, how fast it goes and when it will be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MINUTE: Final = 60
_HOUR: Final = 3600


@dataclass(frozen=True)
class Progress:
    """Where a production stands."""

    pixels: int
    """Pixels at 10 m that are done."""
    of_pixels: int
    seconds: float
    """Since the first cell was asked for, s."""
    bytes_written: int
    """Compressed bytes handed to the store, all files together."""

    @property
    def fraction(self) -> float:
        """Share of the pixels that is done, 0-1."""
        return self.pixels / self.of_pixels

    @property
    def mpx_per_s(self) -> float:
        """Mean speed, million pixels a second."""
        return self.pixels / 1e6 / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float:
        """What the rest takes at the mean speed, s."""
        return self.seconds * (self.of_pixels - self.pixels) / self.pixels if self.pixels else float("inf")

    def __str__(self) -> str:
        return (
            f"{self.pixels / 1e6:.1f} of {self.of_pixels / 1e6:.1f} Mpx, {self.mpx_per_s:.2f} Mpx/s, "
            f"{_duration(self.seconds_left)} left, {self.bytes_written / 1e6:,.0f} MB written"
        )


def _duration(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h" if seconds < float("inf") else "unknown"
