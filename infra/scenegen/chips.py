"""Real pixels to grow a scene from: any folder of Sentinel-2 L2A items, cut into chips."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar, Final

from infra.scene import Window, open_scene
from infra.scenegen.ground import GroundPixels
from infra.scenegen.patchwork import EDGE
from infra.settings import FolderSourceSettings, Region
from infra.sources import Acquisition, open_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MOST: Final = 64
"""Chips kept, in the order of the items; eight turned copies of each are held in memory (4.5 MB)."""

_WORLD: Final = {
    "type": "Polygon",
    "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]],
}
_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


class NoChips(ValueError):
    """A folder holds no usable chip."""

    transient: ClassVar[bool] = False


@dataclass(frozen=True)
class Chip:
    """A square of real ground without a missing or saturated pixel."""

    origin: str
    """Id of the item that it was cut from."""
    pixels: GroundPixels


def read_chips(folder: Path) -> tuple[Chip, ...]:
    """Cut chips from every scene of a folder.

    Args:
        folder: STAC items with their files, as a folder source reads them (the demonstration's `items`, for instance).

    Returns:
        Up to 64 different chips of 120 x 120 pixels.

    Raises:
        NoChips: there is none.
        SourceUnavailable: there is no such folder.
        SceneError: a scene cannot be read.
    """
    settings = FolderSourceSettings(name="chips", path=folder)
    found: dict[bytes, Chip] = {}
    for acquisition in open_source(settings).search(Region(id="world", geometry=_WORLD), _EVER):
        if not isinstance(acquisition, Acquisition):
            continue
        for chip in _cut(acquisition, settings):
            found.setdefault(chip.pixels.b10.tobytes(), chip)  # one delivery may come twice
            if len(found) == _MOST:
                return tuple(found.values())
    if not found:
        raise NoChips(
            f"{folder} holds no scene with {EDGE} x {EDGE} valid pixels; expected STAC items of Sentinel-2 L2A"
        )
    return tuple(found.values())


def _cut(acquisition: Acquisition, settings: FolderSourceSettings) -> Iterator[Chip]:
    with open_scene(acquisition, settings) as scene:
        for row in range(0, scene.grid.height - EDGE + 1, EDGE):
            for column in range(0, scene.grid.width - EDGE + 1, EDGE):
                pixels = scene.read(Window(column, row, EDGE, EDGE))
                if pixels.valid.all() and not pixels.saturated.any():
                    yield Chip(acquisition.item_id, GroundPixels(pixels.b10, pixels.b20, pixels.b60))
