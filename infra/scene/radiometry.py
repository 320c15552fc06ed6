"""Decide how a scene's stored numbers become reflectance: once, never twice, never by guess."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from infra.scene.errors import RadiometryContradiction, RadiometryUnknown
from infra.sources.acquisition import baseline_number
from model.bands import SOURCE_BAND_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.sources.acquisition import Acquisition, Asset

NODATA_DN: Final = 0
"""Stored value of a pixel without data, before any offset. ESA, Sentinel-2 Products Specification Document."""

SATURATED_DN: Final = 65535
"""Stored value of a saturated pixel. Same source."""

_SCALE: Final = 1e-4
"""Reflectance per stored unit: quantification value 10 000. Same source."""

_OFFSET: Final = -0.1
"""Reflectance of a stored zero from baseline 04.00 on: BOA_ADD_OFFSET -1000. Same source, issue 14.9."""

_OFFSET_SINCE: Final = (4, 0)
_BASELINES: Final = ((0, 0), (90, 0))
"""ESA's own baselines; 99.99 marks products that users made themselves."""

_APPLIED_FLAG: Final = "earthsearch:boa_offset_applied"
_FLAGGED_COLLECTIONS: Final = frozenset({"sentinel-2-l2a", "sentinel-2-c1-l2a", "sentinel-2-pre-c1-l2a"})


@dataclass(frozen=True)
class Radiometry:
    """How stored values of each band become reflectance: ``stored * scale + offset``."""

    scale: Mapping[str, float]
    """Reflectance per stored unit, by band."""
    offset: Mapping[str, float]
    """Reflectance of a stored zero, by band."""
    rule: str
    """Which rule decided, for people and for the product's report."""


def decide_radiometry(acquisition: Acquisition) -> Radiometry:
    """Decide scale and offset of every band.

    In this order: a rule for a named provider and collection (Earth Search's "already applied" flag), what the item
    declares, the processing baseline (from 04.00: -1000 DN). What no rule covers is refused.

    Args:
        acquisition: The acquisition; bands without an asset are left out.

    Returns:
        The decision.

    Raises:
        RadiometryContradiction: the item's statements cannot all be true.
        RadiometryUnknown: no rule covers the item.
    """
    bands = {name: asset for name, asset in acquisition.assets.items() if name in SOURCE_BAND_NAMES}
    _refuse_conflicts(acquisition, bands)
    if _offset_applied(acquisition) is True:
        scale = {name: _default(asset.scale, _SCALE) for name, asset in bands.items()}
        return _radiometry(scale, dict.fromkeys(bands, 0.0), f"{_APPLIED_FLAG} is true: the offset is in the pixels")
    declared = {name: asset.offset for name, asset in bands.items() if asset.offset is not None}
    if declared:
        return _declared(acquisition, bands, declared)
    return _by_baseline(acquisition, bands)


def _refuse_conflicts(acquisition: Acquisition, bands: Mapping[str, Asset]) -> None:
    for name, asset in bands.items():
        if asset.conflict:
            raise RadiometryContradiction(f"{acquisition.item_id}: band {name}: {asset.conflict}; expected one value")
    for field in ("scale", "offset"):
        silent = [name for name, asset in bands.items() if getattr(asset, field) is None]
        if silent and len(silent) < len(bands):
            raise RadiometryContradiction(
                f"{acquisition.item_id}: some bands declare {field} and {', '.join(silent)} do not; "
                "expected all or none"
            )
    properties = acquisition.item["properties"]
    stated = properties.get("s2:processing_baseline")
    if isinstance(stated, str) and baseline_number(stated) != acquisition.revision.baseline_number:
        raise RadiometryContradiction(
            f"{acquisition.item_id}: s2:processing_baseline is {stated!r} and the product's name says "
            f"{acquisition.revision.baseline!r}; expected the same"
        )


def _offset_applied(acquisition: Acquisition) -> bool | None:
    """Return the provider's flag, or None where no provider that is known sets one."""
    flag = acquisition.item["properties"].get(_APPLIED_FLAG)
    if flag is None:
        return None
    collection = acquisition.item.get("collection")
    if not isinstance(flag, bool) or (collection is not None and collection not in _FLAGGED_COLLECTIONS):
        raise RadiometryUnknown(
            f"{acquisition.item_id}: {_APPLIED_FLAG} is {flag!r} in collection {collection!r}; "
            f"the flag is understood as true or false in {', '.join(sorted(_FLAGGED_COLLECTIONS))}"
        )
    return flag


def _declared(acquisition: Acquisition, bands: Mapping[str, Asset], offset: Mapping[str, float]) -> Radiometry:
    number = acquisition.revision.baseline_number
    shifted = sorted(name for name, value in offset.items() if value != 0)
    if shifted and number is not None and number < _OFFSET_SINCE:
        raise RadiometryContradiction(
            f"{acquisition.item_id}: declares an offset ({offset[shifted[0]]:g} for {shifted[0]}) although baseline "
            f"{acquisition.revision.baseline} knows none; correct the item, or its baseline"
        )
    if not shifted and _offset_applied(acquisition) is False and number is not None and number >= _OFFSET_SINCE:
        raise RadiometryContradiction(
            f"{acquisition.item_id}: declares offset 0 for baseline {acquisition.revision.baseline} and says that the "
            f"offset is not applied ({_APPLIED_FLAG} is false); expected -0.1"
        )
    scale = {name: _default(asset.scale, _SCALE) for name, asset in bands.items()}
    return _radiometry(scale, offset, "declared by the item")


def _by_baseline(acquisition: Acquisition, bands: Mapping[str, Asset]) -> Radiometry:
    number = acquisition.revision.baseline_number
    if number is None or not _BASELINES[0] <= number < _BASELINES[1]:
        raise RadiometryUnknown(
            f"{acquisition.item_id}: declares no offset, and its processing baseline is "
            f"{acquisition.revision.baseline or 'unknown'}; declare raster:scale and raster:offset in the item"
        )
    offset = _OFFSET if number >= _OFFSET_SINCE else 0.0
    scale = {name: _default(asset.scale, _SCALE) for name, asset in bands.items()}
    return _radiometry(scale, dict.fromkeys(bands, offset), f"baseline {acquisition.revision.baseline}")


def _radiometry(scale: Mapping[str, float], offset: Mapping[str, float], rule: str) -> Radiometry:
    for name in scale:
        if not (math.isfinite(scale[name]) and 0 < scale[name] <= 1e-2 and abs(offset[name]) <= 1):
            raise RadiometryContradiction(
                f"band {name}: scale {scale[name]!r} and offset {offset[name]!r} are no reflectance; "
                f"expected about {_SCALE} and {_OFFSET} or 0"
            )
    return Radiometry(MappingProxyType(dict(scale)), MappingProxyType(dict(offset)), rule)


def _default(value: float | None, default: float) -> float:
    return default if value is None else value
