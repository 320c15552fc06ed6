"""The assets of a product, said once: key, file, media type, roles, what a person reads."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

COG: Final = "image/tiff; application=geotiff; profile=cloud-optimized"
PNG: Final = "image/png"
JSON: Final = "application/json"


@dataclass(frozen=True)
class AssetKind:
    """What every product's asset of one key is."""

    key: str
    file: str
    """File name inside the product's folder."""
    media_type: str
    roles: tuple[str, ...]
    title: str
    description: str


_KINDS: Final = (
    AssetKind("hsi", "hsi.tif", COG, ("data", "reflectance"), "Hyperspectral reflectance, 172 bands",
              "Estimated surface reflectance times 10 000 at 10 m, 462-2398 nm. Estimated, not measured."),
    AssetKind("compact", "compact.tif", COG, ("data",), "Subspace coefficients",
              "The same spectra as coefficients of the basis; expands to `hsi` within 2 DN."),
    AssetKind("basis", "basis.json", JSON, ("metadata",), "Basis of the coefficients",
              "Mean (172) and components (k x 172): reflectance = mean + coefficients times components."),
    AssetKind("uncertainty", "uncertainty.tif", COG, ("data", "uncertainty"), "Uncertainty",
              "Calibrated standard deviations by spectral group, and what gives that of every channel."),
    AssetKind("explanation", "explanation.tif", COG, ("data", "explanation"), "Explanation",
              "Why this spectrum: measured fraction, attribution to source bands, detail gain, out-of-domain score."),
    AssetKind("residual_10m", "residual_10m.tif", COG, ("metadata", "quality"), "Residuals of the 10 m bands",
              "Source bands minus the product seen through the sensor's spectral responses."),
    AssetKind("residual_20m", "residual_20m.tif", COG, ("metadata", "quality"), "Residuals of the 20 m bands",
              "Source bands minus the product seen through the sensor's spectral and spatial responses."),
    AssetKind("residual_60m", "residual_60m.tif", COG, ("metadata", "quality"), "Residuals of the 60 m bands",
              "Source bands minus the product seen through the sensor's spectral and spatial responses."),
    AssetKind("qa", "qa.tif", COG, ("metadata", "qa"), "Quality bits", "What each pixel is and why it may be doubted."),
    AssetKind("visual", "visual.tif", COG, ("visual",), "True colour", "Red, green and blue with one fixed stretch."),
    AssetKind("thumbnail", "thumbnail.png", PNG, ("thumbnail",), "Thumbnail", "True colour, at most 256 pixels."),
    AssetKind("preview", "preview.png", PNG, ("overview",), "Preview page",
              "Pictures, typical spectra with their uncertainty, reliability by wavelength, residuals."),
    AssetKind("report", "report.json", JSON, ("metadata",), "Report",
              "Every quality number, gates, timings, versions and hashes."),
)  # fmt: skip

ASSET_KINDS: Final[Mapping[str, AssetKind]] = MappingProxyType({kind.key: kind for kind in _KINDS})
"""By key, in the order in which items list them."""

QUALITY_BITS: Final[tuple[tuple[int, str, str], ...]] = (
    # bit, machine name, what it says
    (0, "nodata", "a source band has no data"),
    (1, "cloud", "cloud or cirrus by the source's classes"),
    (2, "shadow", "cloud shadow or cast shadow by the source's classes"),
    (3, "water", "water by the source's classes"),
    (4, "snow", "snow or ice by the source's classes"),
    (5, "saturated", "a source band is saturated"),
    (6, "out_of_domain", "unlike anything the model was trained on: do not use"),
    (7, "low_consistency", "the product disagrees with its source bands beyond their noise"),
    (8, "class_unknown", "the source has no class for this pixel"),
)
"""Bits of the ``qa`` asset."""
