"""STAC 1.1 band objects of the product's rasters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from catalog.assets import QUALITY_BITS
from model.bands import CHANNELS
from model.layers import NODATA

if TYPE_CHECKING:
    from collections.abc import Iterable

    from model.layers import Layer

_MICROMETRE: Final = 1e-3


def hsi_bands() -> list[dict[str, Any]]:
    """Return the 172 bands with name, centre and width in micrometres, as STAC's eo extension asks."""
    return [
        {
            "name": channel.name,
            "eo:center_wavelength": round(channel.centre_nm * _MICROMETRE, 6),
            "eo:full_width_half_max": round(channel.fwhm_nm * _MICROMETRE, 6),
        }
        for channel in CHANNELS
    ]


def layer_bands(layers: Iterable[Layer]) -> list[dict[str, Any]]:
    """Return the bands of a file made of the model's layers, each with its own scale."""
    return [
        {
            "name": layer.name,
            "description": layer.title,
            "unit": layer.unit,
            "raster:scale": layer.scale,
            "raster:offset": layer.offset,
        }
        for layer in layers
    ]


def raster_fields(asset: str) -> dict[str, Any]:
    """Return what all bands of one raster asset have in common."""
    if asset == "qa":
        return {"data_type": "uint16", "classification:bitfields": _bitfields()}
    if asset == "visual":
        return {
            "data_type": "uint8",
            "nodata": 0,
            "bands": [{"name": n, "eo:common_name": n} for n in ("red", "green", "blue")],
        }
    fields: dict[str, Any] = {"data_type": "int16", "nodata": NODATA}
    if asset == "hsi":
        fields |= {"raster:scale": 1e-4, "raster:offset": 0.0, "unit": "1"}
    return fields


def _bitfields() -> list[dict[str, Any]]:
    return [
        {
            "offset": bit,
            "length": 1,
            "name": name,
            "description": said,
            "classes": [{"value": 0, "name": f"not_{name}"}, {"value": 1, "name": name}],
        }
        for bit, name, said in QUALITY_BITS
    ]
