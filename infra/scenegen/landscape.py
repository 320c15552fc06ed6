"""Synthetic ground for machines without real chips: fields, forest, lakes, towns and roads at several scales."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from infra.scenegen.fields import parcels, smooth_field, uniform
from infra.scenegen.ground import GroundPixels, area_mean
from infra.scenegen.materials import MATERIALS, material_reflectance
from model.bands import BANDS_BY_RESOLUTION, SOURCE_BAND_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from infra.scene import Window

_PARCEL: Final = 34
"""Mean edge of a field, pixels."""
_SLOPE: Final = 0.31
_ROAD: Final = 240
"""Mean distance between roads, pixels."""
_BUILDING: Final = 3

_RELIEF: Final = ((1500.0, 0.8), (420.0, 0.5), (130.0, 0.3), (33.0, 0.15))
_LAKES: Final = ((800.0, 0.9), (170.0, 0.4), (40.0, 0.12))
_TOWNS: Final = ((700.0, 0.9), (150.0, 0.5), (25.0, 0.15))
_TEXTURE: Final = ((160.0, 0.05), (40.0, 0.05), (11.0, 0.05), (4.0, 0.05), (2.0, 0.04))
_CANOPY: Final = ((5.0, 0.14), (2.2, 0.14))
_GROWTH: Final = ((90.0, 0.12), (21.0, 0.10), (7.0, 0.07))
_WET: Final = ((500.0, 0.5), (60.0, 0.3))

_FOREST_ABOVE: Final = 0.55
_LAKE_ABOVE: Final = 1.35
_TOWN_ABOVE: Final = 1.25
_SHORE: Final = 0.06

_STREAM: Final = {
    name: 20 * number
    for number, name in enumerate(
        ("relief", "lakes", "towns", "texture", "canopy", "growth", "wet", "parcels", "roads", "crop", "house")
    )
}


class Landscape:
    """Synthetic ground, without end."""

    noise_free = True

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._spectra = material_reflectance()
        self._rows = {
            metres: [SOURCE_BAND_NAMES.index(name) for name in names] for metres, names in BANDS_BY_RESOLUTION.items()
        }

    def look(self, window: Window) -> GroundPixels:
        """Return what lies in a window aligned to 60 m."""
        shares = self._shares(window)  # (materials, h, w)
        light = 1 + self._field("texture", window, _TEXTURE)
        light *= 1 + shares[MATERIALS.index("forest")] * self._field("canopy", window, _CANOPY)
        np.clip(light, 0.3, 1.8, out=light)
        flat = shares.reshape(len(MATERIALS), -1)
        stacks = []
        for metres, rows in self._rows.items():
            ground = (self._spectra[:, rows].T @ flat).reshape(len(rows), window.height, window.width)
            ground *= light
            stacks.append(ground if metres == 10 else area_mean(ground, metres // 10))
        return GroundPixels(*stacks)

    def _shares(self, window: Window) -> NDArray[np.float32]:
        """Return how much of each pixel each material covers: (materials, h, w), summing to 1."""
        shares = np.zeros((len(MATERIALS), window.height, window.width), np.float32)

        def cover(name: str, part: NDArray[np.float32]) -> None:
            """Lay a material over what is there."""
            shares[:] *= 1 - part
            shares[MATERIALS.index(name)] += part

        self._fields(window, shares)
        relief = self._field("relief", window, _RELIEF)
        cover("forest", _edge(relief - _FOREST_ABOVE, _SHORE))
        self._town(window, cover)
        _, to_road = parcels(self._seed, _STREAM["roads"], window, _ROAD, -0.6 * _SLOPE)
        cover("asphalt", np.clip(1.0 - to_road, 0, 1).astype(np.float32))
        lakes = self._field("lakes", window, _LAKES)
        cover("sand", _edge(lakes - _LAKE_ABOVE + 0.03, _SHORE / 2))
        cover("water", _edge(lakes - _LAKE_ABOVE, _SHORE / 2))
        return shares

    def _fields(self, window: Window, shares: NDArray[np.float32]) -> None:
        """Fill every parcel with its crop at its stage, on its soil, with a strip of grass along the border."""
        number, to_border = parcels(self._seed, _STREAM["parcels"], window, _PARCEL, _SLOPE)
        stage = uniform(self._seed, _STREAM["crop"], number).astype(np.float32)
        kind = uniform(self._seed, _STREAM["crop"] + 1, number)
        green = np.clip(1.6 * stage - 0.35 + self._field("growth", window, _GROWTH), 0, 1)
        soil = np.clip(0.5 + self._field("wet", window, _WET), 0, 1)
        for name, low, high in (("crop", 0.0, 0.55), ("grass", 0.55, 0.8), ("stubble", 0.8, 1.01)):
            shares[MATERIALS.index(name)] = green * ((kind >= low) & (kind < high))
        shares[MATERIALS.index("dark soil")] = (1 - green) * soil
        shares[MATERIALS.index("bright soil")] = (1 - green) * (1 - soil)
        strip = np.clip(1.2 - to_border, 0, 1) * 0.7
        shares *= 1 - strip
        shares[MATERIALS.index("grass")] += strip

    def _town(self, window: Window, cover: Callable[[str, NDArray[np.float32]], None]) -> None:
        town = _edge(self._field("towns", window, _TOWNS) - _TOWN_ABOVE, _SHORE)
        column = np.arange(window.column, window.column + window.width)[None, :] // _BUILDING
        row = np.arange(window.row, window.row + window.height)[:, None] // _BUILDING
        house = uniform(self._seed, _STREAM["house"], column, row).astype(np.float32)
        cover("roof", town * (house > 0.62) * 0.85)
        cover("asphalt", town * (house < 0.35) * 0.7)

    def _field(self, name: str, window: Window, octaves: tuple[tuple[float, float], ...]) -> NDArray[np.float32]:
        return smooth_field(self._seed, _STREAM[name], window, octaves)


def _edge(height: NDArray[np.float32], width: float) -> NDArray[np.float32]:
    """Return 0 below zero, 1 above, and a straight ramp of a width between."""
    edge: NDArray[np.float32] = np.clip(height / width + 0.5, 0, 1).astype(np.float32)
    return edge
