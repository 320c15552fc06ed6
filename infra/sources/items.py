"""Turn a STAC item, from whichever service, into an `Acquisition`."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from shapely.errors import ShapelyError
from shapely.geometry import shape

from infra.sources.acquisition import PART_PROPERTY, Acquisition, AcquisitionKey, SourceRevision
from infra.sources.assets import band_assets
from infra.sources.errors import ItemUnreadable
from infra.sources.product_name import ProductName, parse_datatake, parse_product_name

_MAX_ID: Final = 256
_MAX_PARTS: Final = 9

_REVISION_KEYS: Final = (
    "s2:product_uri",
    "s2:processing_baseline",
    "processing:version",
    "s2:generation_time",
    "processing:datetime",
)
_STAMP_DIGITS: Final = 16

_CREDENTIAL: Final = re.compile(r"//[^/?#]*@|[?&](sig|token|signature|awsaccesskeyid|x-amz-[a-z-]+)=", re.IGNORECASE)
"""What makes an address a secret: a user, or a signature."""


def read_item(item: object, source: str, *, sensed_from_datetime: bool = False) -> Acquisition:
    """Read one STAC item.

    Args:
        item: The parsed JSON.
        source: Name of the source in the settings.
        sensed_from_datetime: Accept the item's ``datetime`` as the sensing start when no product name or datatake id
            gives it. For an operator's own items only: services' times differ by half a minute.

    Returns:
        The acquisition; its assets are neither opened nor trusted.

    Raises:
        ItemUnreadable: the item cannot be understood; the message says why.
    """
    if not isinstance(item, dict) or item.get("type") != "Feature":
        raise ItemUnreadable("not a STAC item: its type is not 'Feature'")
    properties, assets = item.get("properties"), item.get("assets")
    if not isinstance(properties, Mapping) or not isinstance(assets, Mapping):
        raise ItemUnreadable("not a STAC item: properties or assets are missing")
    item_id = item_name(item)
    _refuse_credentials(assets)
    _refuse_unstorable(item)
    moment = _moment(properties)
    name = _product_name(item_id, properties)
    footprint, bbox = _footprint(item)
    return Acquisition(
        key=_key(name, properties, moment if sensed_from_datetime else None),
        revision=_revision(name, properties, item_id),
        source=source,
        item_id=item_id,
        item=item,
        footprint=footprint,
        bbox=bbox,
        datetime=moment,
        published=next(filter(None, (_time(properties, key) for key in ("published", "created", "updated"))), None),
        cloud_cover=_cloud_cover(properties),
        sun_zenith=_sun_zenith(properties),
        assets=band_assets(assets),
    )


def item_name(item: object) -> str:
    """Return an item's id.

    Raises:
        ItemUnreadable: it has none that can be used.
    """
    name = item.get("id") if isinstance(item, Mapping) else None
    if not isinstance(name, str) or not name or len(name) > _MAX_ID or not name.isprintable():
        raise ItemUnreadable(f"the item's id is missing, no plain text, or longer than {_MAX_ID} characters")
    return name


Passes = Callable[[str, str], bool]
"""Says by an item's id and its `revision_stamp` whether it need not be read."""


def pass_nothing(_item_id: str, _stamp: str) -> bool:
    """Have every item read."""
    return False


def revision_stamp(item: Mapping[str, Any]) -> str:
    """Return a short text that changes whenever what an item's revision is read from does; costs next to nothing."""
    properties = item["properties"]
    said = [item["id"], *(properties.get(key) for key in _REVISION_KEYS)]
    return hashlib.sha256(repr(said).encode(errors="replace")).hexdigest()[:_STAMP_DIGITS]


def last_change(item: Mapping[str, Any]) -> datetime | None:
    """Return the newest of an item's publication times, UTC; None when it carries none."""
    properties = item["properties"]
    return max(filter(None, (_time(properties, key) for key in ("published", "created", "updated"))), default=None)


def _refuse_credentials(assets: Mapping[str, Any]) -> None:
    """Refuse items whose addresses are secrets: items are kept in the ledger and copied into products."""
    for key, asset in assets.items():
        href = asset.get("href") if isinstance(asset, Mapping) else None
        if isinstance(href, str) and _CREDENTIAL.search(href):
            raise ItemUnreadable(f"the address of asset {key!r} carries a credential; give the unsigned address")


def _refuse_unstorable(item: dict[str, Any]) -> None:
    """Refuse items that no database takes: one of them would spoil the batch it is written with."""
    try:
        text = json.dumps(item, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:  # UnicodeEncodeError is a ValueError
        raise ItemUnreadable(f"the item cannot be kept as JSON: {error}") from error
    if "\\u0000" in text:
        raise ItemUnreadable("the item holds zero characters, which databases refuse")


def _moment(properties: Mapping[str, Any]) -> datetime:
    moment = _time(properties, "datetime") or _time(properties, "start_datetime")
    if moment is None:
        raise ItemUnreadable("the item has neither datetime nor start_datetime")
    return moment


def _product_name(item_id: str, properties: Mapping[str, Any]) -> ProductName | None:
    for candidate in (properties.get("s2:product_uri"), item_id):
        name = parse_product_name(candidate) if isinstance(candidate, str) else None
        if name is None:
            continue
        if name.level != "2A":
            raise ItemUnreadable(f"product {candidate} is level {name.level}; expected level 2A")
        return name
    return None


def _key(name: ProductName | None, properties: Mapping[str, Any], fallback: datetime | None) -> AcquisitionKey:
    if name is not None:
        return AcquisitionKey(name.platform, name.sensed, name.tile, name.relative_orbit, _part(properties))
    datatake = next(
        filter(None, (parse_datatake(str(properties.get(key))) for key in ("s2:datatake_id", "eopf:datatake_id"))), None
    )
    platform = datatake[0] if datatake else _text(properties, "platform").lower()
    sensed = datatake[1] if datatake else _time(properties, "start_datetime") or fallback
    tile = _tile(properties)
    missing = [what for what, value in (("platform", platform), ("sensing start", sensed), ("tile", tile)) if not value]
    if missing or sensed is None:
        raise ItemUnreadable(
            f"neither s2:product_uri nor the id is a product name, and the item does not give its {', '.join(missing)}"
        )
    return AcquisitionKey(platform, sensed.replace(microsecond=0), tile, _orbit(properties), _part(properties))


def _tile(properties: Mapping[str, Any]) -> str:
    code = _text(properties, "grid:code").removeprefix("MGRS-") or _text(properties, "s2:mgrs_tile")
    if not code and "mgrs:utm_zone" in properties:
        parts = (properties.get(f"mgrs:{key}") for key in ("utm_zone", "latitude_band", "grid_square"))
        zone, band, square = (str(part) for part in parts)
        code = f"{int(zone):02d}{band}{square}" if zone.isdecimal() else ""
    return code.removeprefix("T") if code.isalnum() else ""


def _orbit(properties: Mapping[str, Any]) -> int | None:
    orbit = properties.get("sat:relative_orbit")
    return orbit if isinstance(orbit, int) and 1 <= orbit <= 143 else None


def _part(properties: Mapping[str, Any]) -> int:
    part = properties.get(PART_PROPERTY)
    return part if type(part) is int and 1 < part <= _MAX_PARTS else 1


def _revision(name: ProductName | None, properties: Mapping[str, Any], item_id: str) -> SourceRevision:
    stated = _text(properties, "s2:processing_baseline") or _text(properties, "processing:version")
    generated = _time(properties, "s2:generation_time") or _time(properties, "processing:datetime")
    if name is None:
        return SourceRevision(stated, generated, item_id)
    uri = _text(properties, "s2:product_uri") or item_id
    return SourceRevision(name.baseline or stated, generated or name.generated, uri.removesuffix(".SAFE"))


def _footprint(item: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[float, float, float, float]]:
    geometry = item.get("geometry")
    if not isinstance(geometry, dict):
        raise ItemUnreadable("the item has no geometry")
    try:
        west, south, east, north = shape(geometry).bounds
    except (ShapelyError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise ItemUnreadable(f"the item's geometry is not GeoJSON: {error}") from error
    if not all(map(math.isfinite, (west, south, east, north))):
        raise ItemUnreadable("the item's geometry is empty")
    return geometry, (west, south, east, north)


def _cloud_cover(properties: Mapping[str, Any]) -> float | None:
    percent = _number(properties, "eo:cloud_cover")
    return None if percent is None or not 0 <= percent <= 100 else percent / 100


def _sun_zenith(properties: Mapping[str, Any]) -> float | None:
    zenith, elevation = _number(properties, "s2:mean_solar_zenith"), _number(properties, "view:sun_elevation")
    if zenith is None and elevation is not None:
        zenith = 90.0 - elevation
    return zenith


def _number(properties: Mapping[str, Any], key: str) -> float | None:
    value = properties.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _text(properties: Mapping[str, Any], key: str) -> str:
    value = properties.get(key)
    return value if isinstance(value, str) else ""


def _time(properties: Mapping[str, Any], key: str) -> datetime | None:
    value = properties.get(key)
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise ItemUnreadable(f"{key} is {value!r}; expected an RFC 3339 time") from None
