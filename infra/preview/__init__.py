"""One page for people: what a product shows, how sure it is, and where to doubt it."""

from infra.preview.collector import PreviewCollector
from infra.preview.colour import visual_rgb
from infra.preview.page import PreviewHeader
from infra.preview.qgis import hsi_style

__all__ = ["PreviewCollector", "PreviewHeader", "hsi_style", "visual_rgb"]
