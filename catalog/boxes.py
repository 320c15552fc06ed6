"""Boxes on the globe: the smallest one that holds others, also across the antimeridian."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

Box: TypeAlias = tuple[float, float, float, float]
"""West, south, east, north, degrees; west beyond east where it crosses the antimeridian."""

_TURN: Final = 360.0


def joined(boxes: Sequence[Box]) -> Box:
    """Return a box that holds all others.

    Where none crosses the antimeridian, neither does the result; else it is the narrowest, or goes around the world.

    Args:
        boxes: At least one.
    """
    south, north = min(box[1] for box in boxes), max(box[3] for box in boxes)
    if all(west <= east for west, _, east, _ in boxes):
        return min(box[0] for box in boxes), south, max(box[2] for box in boxes), north
    west, east, width = min((_around(box[0], boxes) for box in boxes), key=lambda found: found[2])
    return (west, south, east, north) if width < _TURN else (-180.0, south, 180.0, north)


def _around(west: float, boxes: Sequence[Box]) -> tuple[float, float, float]:
    """Return `west`, the edge of the last of all boxes that one meets on the way east from there, and how far it is."""
    ends = (((start - west) % _TURN + _width(start, east), east) for start, _, east, _ in boxes)
    width, last = max(ends)
    return west, last, width


def _width(west: float, east: float) -> float:
    return east - west if west <= east else east - west + _TURN
