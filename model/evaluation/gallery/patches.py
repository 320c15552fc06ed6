"""The real Sentinel-2 patches that the failures start from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from model.duality import Multispectral
from model.evaluation.wald import read_sentinel2

if TYPE_CHECKING:
    from pathlib import Path

FIELDS: Final[str] = "S2A_MSIL2A_20170613T101031_87_48"
PASTURE: Final[str] = "S2A_MSIL2A_20170617T113321_4_55"
LAKE: Final[str] = "S2B_MSIL2A_20170924T93020_69_24"
SNOW: Final[str] = "S2B_MSIL2A_20180204T94161_57_38"
PLATFORM: Final[str] = "sentinel-2a"


def read_patches(data: Path) -> dict[str, Multispectral]:
    """The real L2A patches of a data folder: name -> bands."""
    scenes = {}
    for path in sorted((data / "sentinel2").glob("ben_*.npz")):
        scene = read_sentinel2(path)
        name = scene["name"].removeprefix("ben_")
        scenes[name] = Multispectral(scene["b10"], scene["b20"], scene["b60"], scene["platform"])
    return scenes
