"""A QGIS layer style for the 172-band file: true colour at first sight."""

from __future__ import annotations

from typing import Final

from infra.preview.colour import TRUE_COLOUR

_WHITE: Final = 3000
"""Stored reflectance drawn as white: 0.3, as for land without snow."""

_BAND: Final = """      <{colour}ContrastEnhancement>
        <minValue>0</minValue>
        <maxValue>{white}</maxValue>
        <algorithm>StretchToMinimumMaximum</algorithm>
      </{colour}ContrastEnhancement>
"""

_STYLE: Final = """<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.28" styleCategories="Symbology">
  <pipe>
    <rasterrenderer type="multibandcolor" opacity="1" alphaBand="-1" redBand="{red}" greenBand="{green}" \
blueBand="{blue}">
{stretches}    </rasterrenderer>
    <brightnesscontrast brightness="0" contrast="0" gamma="1.3"/>
  </pipe>
  <blendMode>0</blendMode>
</qgis>
"""


def hsi_style() -> str:
    """Return the style as a QML document; saved beside a raster as ``<name>.qml``, QGIS applies it on opening."""
    red, green, blue = (channel + 1 for channel in TRUE_COLOUR)
    stretches = "".join(_BAND.format(colour=colour, white=_WHITE) for colour in ("red", "green", "blue"))
    return _STYLE.format(red=red, green=green, blue=blue, stretches=stretches)
