"""Random fields that are functions of place and seed alone, so that a scene can be made window by window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from infra.scene import Window

_ODD: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)
_BITS: Final = 53

_ROUNDING: Final = np.float32(0.15)
"""What keeps the larger-difference metric free of ties, which would make borders as wide as a parcel."""

_UNIT_VARIANCE: Final = float(np.sqrt(3.0))
"""Half width of a uniform distribution of variance 1."""


def uniform(seed: int, stream: int, *place: ArrayLike) -> NDArray[np.float64]:
    """Return one random number per place.

    Args:
        seed: Of the whole scene.
        stream: Which of its independent fields.
        *place: Whole numbers of any sign that broadcast against each other.

    Returns:
        Values in [0, 1), in the broadcast shape; at least one axis.

    Source: the finaliser of SplitMix64 (Steele, Lea, Flood 2014, doi:10.1145/2714064.2660195), once per number.
    """
    state = _mixed(np.array([seed * 1024 + stream], np.int64).astype(np.uint64))
    for number in place:
        state = _mixed(state ^ np.atleast_1d(np.asarray(number, np.int64)).astype(np.uint64))
    return np.asarray((state >> np.uint64(64 - _BITS)) * 2.0**-_BITS)


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = state + _ODD
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    mixed: NDArray[np.uint64] = state ^ (state >> np.uint64(31))
    return mixed


def smooth_field(seed: int, stream: int, window: Window, octaves: Sequence[tuple[float, float]]) -> NDArray[np.float32]:
    """Return a field of several scales over a window: random numbers on lattices, smoothly interpolated.

    Args:
        seed: Of the whole scene.
        stream: Which of its fields; each octave takes one more.
        window: In 10 m pixels.
        octaves: Spacing of the lattice in pixels, and amplitude (standard deviation at the lattice's points).

    Returns:
        (height, width), zero mean.
    """
    total = np.zeros((window.height, window.width), np.float32)
    for number, (spacing, amplitude) in enumerate(octaves):
        rows, down = _between(window.row, window.height, spacing)
        columns, across = _between(window.column, window.width, spacing)
        points = uniform(seed, stream + number, np.arange(rows[0], rows[-1] + 2)[:, None],
                         np.arange(columns[0], columns[-1] + 2)[None, :])  # fmt: skip
        lattice = ((2 * points - 1) * _UNIT_VARIANCE * amplitude).astype(np.float32)
        above, left = rows - rows[0], columns - columns[0]
        lines = lattice[above] * (1 - down)[:, None] + lattice[above + 1] * down[:, None]
        total += lines[:, left] * (1 - across) + lines[:, left + 1] * across
    return total


def _between(start: int, length: int, spacing: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return, per pixel, the lattice point before it and how far (0-1, eased) it is on the way to the next."""
    place = (start + np.arange(length) + 0.5) / spacing
    before = np.floor(place).astype(np.int64)
    way = place - before
    return before, (way * way * (3 - 2 * way)).astype(np.float32)


def parcels(
    seed: int, stream: int, window: Window, spacing: int, slope: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Divide the ground into parcels with straight borders along two directions, as fields are.

    Args:
        seed: Of the whole scene.
        stream: Which of its fields; takes three.
        window: In 10 m pixels.
        spacing: Mean edge of a parcel, pixels.
        slope: Tangent of the angle between parcels and pixel rows.

    Returns:
        (height, width) parcel numbers, and the distance from the parcel's border in pixels, roughly.
    """
    column = np.arange(window.column, window.column + window.width, dtype=np.float32)[None, :]
    row = np.arange(window.row, window.row + window.height, dtype=np.float32)[:, None]
    along, across = column + slope * row, row - slope * column  # (h, w)
    i, j = np.floor(along / spacing).astype(np.int64), np.floor(across / spacing).astype(np.int64)
    left, top = int(i.min()) - 1, int(j.min()) - 1
    lattice_i = np.arange(left, int(i.max()) + 2)[:, None]
    lattice_j = np.arange(top, int(j.max()) + 2)[None, :]
    centre_i = ((lattice_i + uniform(seed, stream, lattice_i, lattice_j)) * spacing).astype(np.float32)
    centre_j = ((lattice_j + uniform(seed, stream + 1, lattice_i, lattice_j)) * spacing).astype(np.float32)
    names = (uniform(seed, stream + 2, lattice_i, lattice_j) * 2**31).astype(np.int64)
    nearest: NDArray[np.float32] = np.full(along.shape, np.inf, np.float32)
    second: NDArray[np.float32] = np.full(along.shape, np.inf, np.float32)
    number = np.zeros(along.shape, np.int64)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            at = (i - left + down, j - top + right)
            one, other = np.abs(along - centre_i[at]), np.abs(across - centre_j[at])
            distance = np.maximum(one, other) + _ROUNDING * np.minimum(one, other)
            closer = distance < nearest
            second = np.where(closer, nearest, np.minimum(second, distance))
            nearest = np.where(closer, distance, nearest)
            number = np.where(closer, names[at], number)
    return number, np.asarray((second - nearest) / 2, np.float32)
