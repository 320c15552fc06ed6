"""Find the twelve bands and the scene classes among an item's assets, whatever the service calls them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from infra.sources.acquisition import SCENE_CLASSES, Asset
from infra.sources.errors import ItemUnreadable
from model.bands import SOURCE_BANDS

if TYPE_CHECKING:
    from collections.abc import Iterator

_METRES: Final[Mapping[str, int]] = {band.name: band.resolution_m for band in SOURCE_BANDS} | {SCENE_CLASSES: 20}

_BY_KEY: Final[Mapping[str, str]] = {
    "coastal": "B01",
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge1": "B05",
    "rededge2": "B06",
    "rededge3": "B07",
    "nir": "B08",
    "nir08": "B8A",
    "nir09": "B09",
    "swir16": "B11",
    "swir22": "B12",
    "scl": SCENE_CLASSES,
}
"""Asset keys of Earth Search; `sentinel-2-l2a` names its bands after them, so the key has to tell."""

_BAND_KEY: Final = re.compile(r"(?P<band>B0[1-9]|B1[12]|B8A|SCL)(?:_(?P<metres>10|20|60)m)?")
"""Asset keys of Planetary Computer (``B02``) and the Copernicus Data Space (``B02_10m``)."""


def band_assets(assets: Mapping[str, Any]) -> dict[str, Asset]:
    """Pick one asset per band, at the band's native resolution.

    Args:
        assets: The item's ``assets``.

    Returns:
        Assets by band name and `SCENE_CLASSES`; what the item does not have at its native resolution is absent.

    Raises:
        ItemUnreadable: an asset of a band is malformed, or two of one format claim to be the same band.
    """
    found: dict[str, tuple[str, Asset]] = {}
    for key, raw in assets.items():
        band, metres = _band_of(key, raw)
        if band is None:
            continue
        asset = _read_asset(key, raw, metres)
        if asset.metres is not None and asset.metres != _METRES[band]:
            continue
        if band in found and found[band][1].href != asset.href:
            found[band] = _choose(band, found[band], (key, asset))
        else:
            found[band] = (key, asset)
    return {band: found[band][1] for band in _METRES if band in found}


def _band_of(key: str, raw: object) -> tuple[str | None, float | None]:
    """Return the band that an asset holds, and its resolution when the key tells."""
    by_key = _BAND_KEY.fullmatch(key)
    if by_key:
        return by_key["band"], float(by_key["metres"]) if by_key["metres"] else None
    bands = _band_entries(raw)
    names = [str(entry["name"]) for entry in bands if "name" in entry]
    if len(bands) > 1:
        return None, None
    if names and names[0] in _METRES:
        return names[0], None
    return _BY_KEY.get(key.lower()), None


def _choose(band: str, one: tuple[str, Asset], other: tuple[str, Asset]) -> tuple[str, Asset]:
    """Prefer the GeoTIFF where a service offers the original JPEG 2000 beside it (Earth Search: ``blue-jp2``)."""
    originals = [pair for pair in (one, other) if pair[1].href.lower().endswith(".jp2")]
    if len(originals) != 1:
        raise ItemUnreadable(f"assets {one[0]!r} and {other[0]!r} both claim to be {band} at its own resolution")
    return other if originals[0] is one else one


def _read_asset(key: str, raw: object, metres: float | None) -> Asset:
    if not isinstance(raw, Mapping) or not isinstance(raw.get("href"), str) or not raw["href"]:
        raise ItemUnreadable(f"asset {key!r} has no href")
    scales = _stated(key, raw, "scale")
    offsets = _stated(key, raw, "offset")
    nodata = _stated(key, raw, "nodata")
    sizes = [metres] if metres else [*_stated(key, raw, "gsd"), *_stated(key, raw, "spatial_resolution")]
    conflict = "; ".join(
        f"{what} is stated as {' and '.join(map(str, values))}"
        for what, values in (("scale", scales), ("offset", offsets))
        if len(values) > 1
    )
    return Asset(
        href=raw["href"],
        scale=scales[0] if scales else None,
        offset=offsets[0] if offsets else None,
        nodata=nodata[0] if nodata else None,
        metres=sizes[0] if sizes else None,
        conflict=conflict,
    )


def _stated(key: str, raw: Mapping[str, Any], name: str) -> list[float]:
    """Return the distinct values that an asset states for a field, in STAC 1.0's places and in 1.1's."""
    values: list[float] = []
    for place in _places(raw):
        for field in (name, f"raster:{name}"):
            if place.get(field) is not None:
                value = _number(key, field, place[field])
                if value not in values:
                    values.append(value)
    return values


def _places(raw: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield raw
    for field in ("raster:bands", "bands"):
        entries = raw.get(field)
        if isinstance(entries, list) and entries and isinstance(entries[0], Mapping):
            yield entries[0]


def _band_entries(raw: object) -> list[Mapping[str, Any]]:
    if isinstance(raw, Mapping):
        for field in ("bands", "eo:bands"):
            entries = raw.get(field)
            if isinstance(entries, list) and entries:
                return [entry for entry in entries if isinstance(entry, Mapping)]
    return []


def _number(key: str, field: str, value: object) -> float:
    if isinstance(value, str) and value in {"nan", "inf", "-inf"} and field.endswith("nodata"):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ItemUnreadable(f"asset {key!r}: {field} is {value!r}; expected a finite number")
    return float(value)
