"""What a source delivers: an acquisition, which revision of it, and where its bands lie."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, replace
from functools import total_ordering
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SCENE_CLASSES: Final = "SCL"
"""Key of the scene classification among an acquisition's assets, beside the band names."""

PART_PROPERTY: Final = "explains2a:part"
"""Where an item kept in the ledger says which part of its acquisition it is; see `Acquisition.as_part`."""

_SENTINEL: Final = "sentinel-"
_PART: Final = re.compile(r"_P[2-9]\Z")


@dataclass(frozen=True)
class AcquisitionKey:
    """What makes two deliveries one acquisition, read from the product's own name.

    Services' ``datetime`` differs by half a minute between each other, and their ids use other times.
    """

    platform: str
    """STAC platform name, such as ``sentinel-2a``."""
    sensed: dt.datetime
    """Sensing start of the datatake, UTC, whole seconds."""
    tile: str
    """MGRS tile without the leading T, such as ``29UPU``."""
    relative_orbit: int | None
    """1-143; None when unknown."""
    part: int = 1
    """Two stations may deliver parts of one acquisition that complete each other: the second is part 2."""

    @property
    def id(self) -> str:
        """Stable id such as ``S2A_20170617T113321_29UPU_R080`` (``R---`` when the orbit is unknown).

        Part 2 of it ends in ``_P2``, and so on.
        """
        platform = self.platform.removeprefix(_SENTINEL).upper()
        platform = f"S{platform}" if self.platform.startswith(_SENTINEL) else platform
        orbit = "---" if self.relative_orbit is None else f"{self.relative_orbit:03d}"
        part = f"_P{self.part}" if self.part > 1 else ""
        return f"{platform}_{self.sensed:%Y%m%dT%H%M%S}_{self.tile}_R{orbit}{part}"


def whole_acquisition(acquisition_id: str) -> str:
    """Return the id of the acquisition that a part belongs to; of a whole one its own."""
    return _PART.sub("", acquisition_id)


@total_ordering
@dataclass(frozen=True)
class SourceRevision:
    """Which processing of an acquisition was delivered: newest baseline, then newest generation is the greatest."""

    baseline: str
    """Processing baseline such as ``05.11``; empty when unknown."""
    generated: dt.datetime | None
    """Generation time of the product, UTC."""
    provider_id: str
    """The product's name where it has one, else the service's item id; takes no part in the order."""

    @property
    def baseline_number(self) -> tuple[int, int] | None:
        """The baseline as two numbers that compare, or None when unknown."""
        return baseline_number(self.baseline)

    def _rank(self) -> tuple[tuple[int, int], dt.datetime]:
        return self.baseline_number or (-1, -1), self.generated or dt.datetime.min.replace(tzinfo=dt.UTC)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, SourceRevision):
            return NotImplemented
        return self._rank() < other._rank()


def baseline_number(baseline: str) -> tuple[int, int] | None:
    """Return a baseline such as ``05.11`` as numbers that compare; None when it is none."""
    major, dot, minor = baseline.partition(".")
    return (int(major), int(minor)) if dot and major.isdecimal() and minor.isdecimal() else None


@dataclass(frozen=True)
class Asset:
    """One band's file as the item describes it; nothing here has been opened or trusted."""

    href: str
    """Address as the item gives it; may be relative to a folder source."""
    scale: float | None = None
    """Declared reflectance per stored unit."""
    offset: float | None = None
    """Declared reflectance of a stored zero."""
    nodata: float | None = None
    """Declared stored value without data."""
    metres: float | None = None
    """Declared pixel size, m."""
    conflict: str = ""
    """Filled when the item states two different scales or offsets for this file."""


@dataclass(frozen=True)
class Acquisition:
    """One delivery of one acquisition by one source."""

    key: AcquisitionKey
    revision: SourceRevision
    source: str
    """Name of the source in the settings."""
    item_id: str
    """The service's id of the item."""
    item: dict[str, Any]
    """The STAC item as received: JSON-safe, and enough to rebuild this object."""
    footprint: dict[str, Any]
    """GeoJSON geometry, WGS 84 degrees."""
    bbox: tuple[float, float, float, float]
    """West, south, east, north, degrees."""
    datetime: dt.datetime
    """The item's own time, UTC; close to `AcquisitionKey.sensed`, never identity."""
    published: dt.datetime | None
    """When the source made the item available, UTC; None when it does not say."""
    cloud_cover: float | None
    """Share of the tile under cloud as the provider states it, 0-1."""
    sun_zenith: float | None
    """Mean sun zenith, degrees."""
    assets: Mapping[str, Asset]
    """By band name (``B01`` ... ``B12``, ``B8A``) and `SCENE_CLASSES`, native resolution only."""

    def as_part(self, number: int) -> Acquisition:
        """Return the same delivery as a part of its acquisition; its item says so, and is read back as that part."""
        properties = {**self.item["properties"], PART_PROPERTY: number}
        return replace(self, key=replace(self.key, part=number), item={**self.item, "properties": properties})


@dataclass(frozen=True)
class Unreadable:
    """An item that cannot be understood; the rest of the answer goes on."""

    item_id: str
    """The item's id, or where it stands when it has none."""
    reason: str
    """What was found and what was expected."""
