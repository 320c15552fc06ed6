"""Why a scene cannot be read, or must not be processed."""

from __future__ import annotations

from typing import ClassVar


class SceneError(RuntimeError):
    """A scene cannot be read; trying again without a change would not help unless `transient`."""

    transient: ClassVar[bool] = False


class MissingBand(SceneError):
    """The item offers no file for a band at the band's own resolution."""


class UnreadableRaster(SceneError):
    """A band's file is missing, truncated, corrupt, or not what a Sentinel-2 band is."""


class RasterUnreachable(UnreadableRaster):
    """A band's file could not be fetched over the network this time."""

    transient: ClassVar[bool] = True


class MisalignedBands(SceneError):
    """The bands do not lie on one grid."""


class WrongGrid(SceneError):
    """The bands' grid is not a Sentinel-2 one: a UTM zone with pixels of 10, 20 and 60 m."""


class AbsurdRaster(SceneError):
    """A band's file claims a size that no Sentinel-2 tile has."""


class ForbiddenAsset(SceneError):
    """An asset's address leads outside the places that its source may use."""


class SceneRefused(SceneError):
    """The scene is understood well enough to say that no product can be made of it: a rejection, not a failure."""

    gate: ClassVar[str]
    """The gate that it did not pass, as reports call it."""


class RadiometryUnknown(SceneRefused):
    """Neither a rule, nor the item, nor its baseline tells how stored values become reflectance."""

    gate: ClassVar[str] = "radiometry"


class RadiometryContradiction(SceneRefused):
    """What the item says of its stored values cannot all be true."""

    gate: ClassVar[str] = "radiometry"


class UnknownPlatform(SceneRefused):
    """The scene was taken by a platform whose spectral responses are not known here."""

    gate: ClassVar[str] = "platform"


class RegionOutsideScene(SceneRefused):
    """The region does not meet the scene's raster."""

    gate: ClassVar[str] = "region"
