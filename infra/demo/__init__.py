"""The demonstration's imagery: real Sentinel-2 patches as a folder of STAC items that any installation can watch."""

from infra.demo.archive import DemoImageryBroken, DemoImageryMissing
from infra.demo.scenes import DemoScenes, build_demo

__all__ = ["DemoImageryBroken", "DemoImageryMissing", "DemoScenes", "build_demo"]
