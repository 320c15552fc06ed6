"""Scenes of any size made for measurements: real texture or a synthetic landscape, in the layouts of real archives."""

from infra.scenegen.chips import Chip, NoChips, read_chips
from infra.scenegen.scene import TILE, GeneratedScene, Layout, generate_scene

__all__ = ["TILE", "Chip", "GeneratedScene", "Layout", "NoChips", "generate_scene", "read_chips"]
