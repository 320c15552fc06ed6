"""Scenes: lazy windowed reads of a Sentinel-2 acquisition as reflectance on one grid."""

from __future__ import annotations

from infra.scene.grid import Grid, Window, product_window
from infra.scene.inspection import Survey, survey
from infra.scene.radiometry import Radiometry
from infra.scene.reader import Pixels, Scene, open_scene

__all__ = ["Grid", "Pixels", "Radiometry", "Scene", "Survey", "Window", "open_scene", "product_window", "survey"]
