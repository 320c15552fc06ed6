"""One acquisition delivered more than once: newer revisions, and twins that two ground stations received.

A *twin* has the baseline of what is known but comes from another datastrip: another station received the same pass, as
a whole or in part. Twins are told apart by what they show inside the region:

- it shows all that is known and was generated later: a newer revision like any other;
- all that it shows is known: `covered`, a delivery that makes no scene;
- it shows pixels that nobody has yet: a *part*, a scene and a product of its own beside the first.

So no pixels are dropped silently, and no product is replaced by one that shows less. Everything else is decided by the
order of revisions (newest baseline, then newest generation) and by what the region wants; see `quality_changes`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import shapely
from shapely.errors import ShapelyError
from shapely.geometry import shape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shapely.geometry.base import BaseGeometry

QUALITY_FIELDS: Final = (
    "eo:cloud_cover",
    "eo:snow_cover",
    "s2:nodata_pixel_percentage",
    "s2:saturated_defective_pixel_percentage",
    "s2:degraded_msi_data_percentage",
    "s2:cloud_shadow_percentage",
    "s2:snow_ice_percentage",
    "s2:water_percentage",
    "s2:unclassified_percentage",
)
"""What providers say of a product's quality, per cent; names of the eo and the Sentinel-2 extension of STAC."""

QUALITY_STEP: Final = 1.0
"""Percentage points; smaller differences come from resampling and rounding alone."""

_COVERS: Final = 0.95
"""Share of one outline inside another from which on it is covered: services draw the same outline differently."""

_DATASTRIPS: Final = ("s2:datastrip_id", "eopf:datastrip_id")


def quality_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Say which quality fields of two source items differ.

    Args:
        before: Item of the revision that a product was made from.
        after: Item of the newer one.

    Returns:
        Fields of `QUALITY_FIELDS` that both state and that differ by more than `QUALITY_STEP`. Where they have no field
        in common nothing says that they are alike: that, too, is a difference (``"nothing to compare"``).
    """
    pairs = {
        name: (old, new)
        for name in QUALITY_FIELDS
        if (old := _number(before, name)) is not None and (new := _number(after, name)) is not None
    }
    if not pairs:
        return ("nothing to compare",)
    return tuple(name for name, (old, new) in pairs.items() if abs(new - old) > QUALITY_STEP)


def are_twins(one: Mapping[str, Any], other: Mapping[str, Any], *, same_source: bool) -> bool:
    """Say whether two items of one acquisition and baseline come from different datastrips.

    Args:
        one: A source item.
        other: Another.
        same_source: Whether one source delivered both; only then may the items' silence be read as a difference, for
            services name (or leave out) the datastrip each in its own way.
    """
    first, second = _datastrip(one), _datastrip(other)
    return first != second if first and second else same_source


def outline_in(item: Mapping[str, Any], area: Mapping[str, Any] | None) -> BaseGeometry | None:
    """Return what an item shows inside an area, degrees; None when its outline is unknown or empty there."""
    try:
        outline = shapely.make_valid(shape(item["geometry"]))
        seen = outline if area is None else outline.intersection(shapely.make_valid(shape(area)))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ShapelyError):
        return None
    return seen if seen.area > 0 else None


def covers(one: BaseGeometry, other: BaseGeometry) -> bool:
    """Say whether the first outline holds the other, but for the slivers by which services differ."""
    return bool(one.intersection(other).area >= _COVERS * other.area)


def _datastrip(item: Mapping[str, Any]) -> str:
    properties = item.get("properties") or {}
    return next((value for key in _DATASTRIPS if isinstance(value := properties.get(key), str) and value), "")


def _number(item: Mapping[str, Any], name: str) -> float | None:
    value = (item.get("properties") or {}).get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
