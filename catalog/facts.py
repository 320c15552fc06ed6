"""What searches may ask of an item: one table of facts, each with its name in STAC, its kind and its own column."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import shapely
from shapely.geometry import shape

from catalog.items import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST: Final = 256
"""Characters of a text that searches can see; no text of ours is longer."""


class Kind(StrEnum):
    """What a fact's values are."""

    TEXT = "text"
    NUMBER = "number"
    TRUTH = "truth"
    TIME = "time"


@dataclass(frozen=True)
class Fact:
    """One property of an item that can be searched and sorted by."""

    name: str
    """As in the item's properties."""
    column: str
    """As in the table `item_search`."""
    kind: Kind
    title: str
    """For people who read the queryables."""
    range: tuple[float, float] | None = None
    """Smallest and largest possible number."""


def _own(name: str, kind: Kind, title: str, range: tuple[float, float] | None = None) -> Fact:  # noqa: A002
    return Fact(PREFIX + name, f"own_{name}", kind, title, range)


_SHARE: Final = (0.0, 1.0)

FACTS: Final = (
    Fact("datetime", "datetime", Kind.TIME, "Start of sensing"),
    Fact("created", "created", Kind.TIME, "When the product was made"),
    Fact("updated", "updated", Kind.TIME, "When this version was published"),
    Fact("platform", "platform", Kind.TEXT, "Satellite, such as sentinel-2a"),
    Fact("gsd", "gsd", Kind.NUMBER, "Pixel size, m"),
    Fact("grid:code", "grid_code", Kind.TEXT, "Tile, such as MGRS-29UPU"),
    Fact("proj:code", "proj_code", Kind.TEXT, "Coordinate reference system, such as EPSG:32629"),
    Fact("sat:relative_orbit", "relative_orbit", Kind.NUMBER, "Relative orbit", (1, 143)),
    Fact("eo:cloud_cover", "cloud_cover", Kind.NUMBER, "Cloud cover of the source's tile, %", (0, 100)),
    Fact("view:sun_elevation", "sun_elevation", Kind.NUMBER, "Elevation of the sun, degrees", (-90, 90)),
    Fact("version", "version", Kind.TEXT, "Version of the item, counted from 1"),
    Fact("deprecated", "deprecated", Kind.TRUTH, "Whether the item should not be used any more"),
    _own("region", Kind.TEXT, "Region of the operator"),
    _own("acquisition", Kind.TEXT, "Acquisition: satellite, start of sensing, tile, orbit"),
    _own("product_revision", Kind.TEXT, "Revision of the product"),
    _own("model", Kind.TEXT, "Model that made it"),
    _own("source", Kind.TEXT, "Source in the operator's settings"),
    _own("source_item", Kind.TEXT, "Id of the source item"),
    _own("source_baseline", Kind.TEXT, "Processing baseline of the source"),
    _own("grade", Kind.TEXT, "Grade of the product, A to D"),
    _own("valid_pixels", Kind.NUMBER, "Pixels with a spectrum"),
    _own("valid_fraction", Kind.NUMBER, "Share of pixels with data", _SHARE),
    _own("missing_fraction", Kind.NUMBER, "Share of pixels without data", _SHARE),
    _own("saturated_fraction", Kind.NUMBER, "Share of saturated pixels", _SHARE),
    _own("resimulation_rmse", Kind.NUMBER, "RMSE of the product re-integrated to the source bands, reflectance"),
    _own("within_noise_fraction", Kind.NUMBER, "Share of pixels that agree with the source within noise", _SHARE),
    _own("mean_uncertainty", Kind.NUMBER, "Mean 1-sigma, reflectance"),
    _own("out_of_domain_fraction", Kind.NUMBER, "Share of pixels unlike the training spectra", _SHARE),
    _own("low_consistency_fraction", Kind.NUMBER, "Share of pixels that disagree with the source", _SHARE),
    _own("measured_fraction", Kind.NUMBER, "Mean share of the spectrum that bands measure", _SHARE),
    _own("seconds", Kind.NUMBER, "Processing time, s"),
)  # fmt: skip
"""Every scalar that products say about themselves, and what others ask for most."""


def facts_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item's facts by column.

    Args:
        item: A STAC item, with or without its band lists.

    Returns:
        Every column of `FACTS`; None for what the item does not say or says in another kind.
    """
    said = item["properties"]
    return {fact.column: _READERS[fact.kind](said.get(fact.name)) for fact in FACTS}


def footprint_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return where an item lies: its box, east beyond 180 across the antimeridian, and its geometry as WKB."""
    west, south, east, north = item["bbox"]
    return {
        "west": west,
        "south": south,
        "east": east + 360 if west > east else east,
        "north": north,
        "footprint": shapely.to_wkb(shape(item["geometry"])),
    }


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and len(value) <= _LONGEST else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _time(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    moment = datetime.fromisoformat(value)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


_READERS: Final = {Kind.TEXT: _text, Kind.NUMBER: _number, Kind.TRUTH: _truth, Kind.TIME: _time}
