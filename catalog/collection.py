"""The collection: what the product is and is not, the bands once, extents kept current by every publication."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from catalog.assets import ASSET_KINDS, COG
from catalog.bands import hsi_bands, raster_fields
from catalog.boxes import joined
from catalog.facts import FACTS, Kind
from catalog.items import COPERNICUS_NOTICE, EXTENSIONS, PREFIX
from model.bands import CENTRE_NM, CHANNELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.settings import Settings
    from model.card import ModelCard

_RENDER: Final = "https://stac-extensions.github.io/render/v2.0.0/schema.json"
_SCIENTIFIC: Final = "https://stac-extensions.github.io/scientific/v1.0.0/schema.json"
_ITEM_ONLY: Final = ("file/", "product/", "version/", "mgrs/", "grid/", "sat/", "view/", "processing/", "projection/")

LISTED: Final = ("platform", "grid:code", PREFIX + "model", PREFIX + "region", PREFIX + "grade")
"""Properties whose values the summaries list."""

RANGED: Final = tuple(
    fact.name for fact in FACTS if fact.kind is Kind.NUMBER and fact.name.startswith((PREFIX, "eo:cloud_cover"))
)
"""Properties whose numbers the summaries give as ranges: all of our own that can be searched, and the clouds."""

WORLD: Final = {"spatial": {"bbox": [[-180.0, -90.0, 180.0, 90.0]]}, "temporal": {"interval": [[None, None]]}}
"""Extent of a collection that holds nothing."""

DESCRIPTION: Final = """\
Hyperspectral surface reflectance **estimated** from Sentinel-2 L2A: 172 channels, 462-2398 nm, 10 m, with calibrated
uncertainty and an explanation of every spectrum.

**What it is not.** These spectra are not measured. Sentinel-2 has 12 bands; 97 of the 172 channels lie where it has
none, and there the estimate is what surfaces of similar bands usually look like. A narrow absorption that no band sees
cannot be found in this product, however plausible the curve. Read `uncertainty`, `explanation` (measured fraction) and
`qa` before drawing a conclusion; pixels marked out of domain must not be used.
{verdicts}
Contains modified Copernicus Sentinel data [{years}].
"""


def build_collection(settings: Settings, card: ModelCard) -> dict[str, Any]:
    """Write the collection as it is before its first item.

    Args:
        settings: Name the collection and who runs it.
        card: The model's card: platforms, version, limits.

    Returns:
        The collection; extent and summaries are completed by every publication.
    """
    extensions = [url for url in EXTENSIONS if not any(part in url for part in _ITEM_ONLY)]
    verdicts = _identifiability(card)
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "stac_extensions": [*extensions, _RENDER, _SCIENTIFIC],
        "id": settings.collection_id,
        "title": "ExplainS2A hyperspectral reflectance, 172 bands, 10 m",
        "description": _describe("year of the item", verdicts),
        "license": "other",
        "keywords": ["hyperspectral", "Sentinel-2", "reflectance", "estimated", "uncertainty", "explainable"],
        "providers": [
            {"name": "ESA / Copernicus", "roles": ["licensor"], "url": "https://sentinels.copernicus.eu"},
            {"name": settings.provider_name, "roles": ["producer", "processor", "host"]},
        ],
        "extent": WORLD,
        "sci:citation": f"{settings.provider_name}: ExplainS2A hyperspectral reflectance estimated from Sentinel-2, "
        f"model {card.name} {card.version}. Contains modified Copernicus Sentinel data.",
        "sci:publications": [
            {"citation": "ExplainS2A: explainable spectral-spatial duality model, arXiv:2604.19007, 2026 (the method)"}
        ],
        "summaries": {
            "constellation": ["sentinel-2"],
            "instruments": ["msi"],
            "gsd": [10, 20, 60],
            PREFIX + "wavelength_range_nm": {"minimum": float(CENTRE_NM.min()), "maximum": float(CENTRE_NM.max())},
        },
        PREFIX + "licences": {
            "software": "Apache-2.0",
            "weights": card.licence,
            "products": "Copernicus Sentinel Data Legal Notice: free, full and open; the notice is to be kept",
        },
        PREFIX + "limits": list(card.limits),
        PREFIX + "reliability": _reliability(card),
        PREFIX + "identifiability": verdicts,
        "item_assets": _item_assets(),
        "renders": _renders(),
        "links": [
            COPERNICUS_NOTICE,
            {"rel": "cite-as", "href": "https://arxiv.org/abs/2604.19007", "title": "the method"},
        ],
    }


def renew(collection: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the collection as today's software and model write it, with what earlier publications brought together.

    Args:
        collection: From `build_collection`.
        stored: The same collection as it stands in the database.
    """
    return {**collection, "extent": stored["extent"], "summaries": {**stored["summaries"], **collection["summaries"]}}


def widen(collection: dict[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the collection with its extent and summaries made to hold an item.

    Args:
        collection: The collection as stored.
        item: An item that is being published.
    """
    summaries = _widen_summaries(collection["summaries"], item["properties"])
    return with_coverage(collection, widen_extent(collection, item), summaries)


def with_coverage(
    collection: Mapping[str, Any], extent: Mapping[str, Any], summaries: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the collection with another extent and other summaries, and what is said of them in words."""
    first, last = extent["temporal"]["interval"][0]
    years = "year of the item" if first is None else first[:4] if first[:4] == last[:4] else f"{first[:4]}-{last[:4]}"
    return {
        **collection,
        "description": _describe(years, collection.get(PREFIX + "identifiability", {})),
        "extent": dict(extent),
        "summaries": dict(summaries),
        "updated": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    }


def widen_extent(collection: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the extent that holds what the collection holds and one more item.

    Args:
        collection: The collection as stored; its times are both None while it holds nothing.
        item: The item; a box crosses the antimeridian when west is greater than east.
    """
    spatial, temporal = collection["extent"]["spatial"]["bbox"][0], collection["extent"]["temporal"]["interval"][0]
    box, moment = list(item["bbox"]), item["properties"]["datetime"]
    times = [moment, moment]
    if temporal != [None, None]:
        box = list(joined([tuple(spatial), tuple(box)]))
        # As times, not as text: ``21Z`` sorts behind ``21.024Z``.
        times = [min(temporal[0], moment, key=_moment), max(temporal[1], moment, key=_moment)]
    return {"spatial": {"bbox": [box]}, "temporal": {"interval": [times]}}


def narrows(collection: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Say whether extent or summaries may become smaller when one item takes another's place.

    Args:
        collection: The collection as stored, holding the first.
        before: The item that goes.
        after: The item that comes in its place.
    """
    spatial, temporal = collection["extent"]["spatial"]["bbox"][0], collection["extent"]["temporal"]["interval"][0]
    old, new, summaries = before["properties"], after["properties"], collection["summaries"]
    return (
        any(edge == mine != its for edge, mine, its in zip(spatial, before["bbox"], after["bbox"], strict=True))
        or (old["datetime"] in temporal and old["datetime"] != new["datetime"])
        or any(old.get(name) != new.get(name) for name in LISTED)
        or any(
            old[name] in summaries[name].values() and old[name] != new.get(name)
            for name in RANGED
            if name in old and name in summaries
        )
    )


def _widen_summaries(summaries: Mapping[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    """Add an item's names to the lists and its numbers to the ranges of the summaries."""
    wider = dict(summaries)
    for name in LISTED:
        wider[name] = sorted({*(summaries.get(name) or ()), properties[name]})
    for name in RANGED:
        value = properties.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            known = summaries.get(name, {"minimum": value, "maximum": value})
            wider[name] = {"minimum": min(known["minimum"], value), "maximum": max(known["maximum"], value)}
    return wider


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _item_assets() -> dict[str, Any]:
    assets = {}
    for key, kind in ASSET_KINDS.items():
        asset: dict[str, Any] = {
            "type": kind.media_type,
            "title": kind.title,
            "description": kind.description,
            "roles": list(kind.roles),
        }
        if kind.media_type == COG:
            asset |= raster_fields(key)
        if key == "hsi":
            asset["bands"] = hsi_bands()
        assets[key] = asset
    return assets


def _renders() -> dict[str, Any]:
    def near(nanometres: float) -> str:
        return min(CHANNELS, key=lambda channel: abs(channel.centre_nm - nanometres)).name

    def render(title: str, *wavelengths: float) -> dict[str, Any]:
        return {
            "title": title,
            "assets": ["hsi"],
            "nodata": -32768,
            "rescale": [[0, 4000]],
            "bidx": [int(near(w)[1:]) for w in wavelengths],
        }

    return {
        "true-colour": render("True colour", 665, 560, 490),
        "false-colour": render("Near infrared", 865, 665, 560),
        "short-wave": render("Short-wave infrared", 2200, 1610, 865),
    }


def _describe(years: str, verdicts: Mapping[str, Any]) -> str:
    """Return the description with the verdict on every diagnostic feature."""
    lines = [f"- {v['title']}: **{v['verdict']}**{_r2(v)}" for v in verdicts.values()]
    told = ["", "**Which features can be trusted**, judged on whole scenes left out of training:", "", *lines, ""]
    return DESCRIPTION.format(years=years, verdicts="\n".join(told) if lines else "")


def _r2(verdict: Mapping[str, Any]) -> str:
    """Return the figures behind a verdict; nothing where no scene could judge."""
    if verdict.get("r2_median") is None:
        return ""
    return f" (R² {verdict['r2_median']:.2f}, median of {verdict['files']} scenes)"


def _identifiability(card: ModelCard) -> dict[str, Any]:
    """Return the card's verdict on every diagnostic feature, as it was judged on scenes left out."""
    table = card.metrics.get("identifiability", {})
    wanted = ("title", "verdict", "r2_median", "files")
    return {name: {key: row.get(key) for key in wanted} for name, row in table.items() if isinstance(row, dict)}


def _reliability(card: ModelCard) -> dict[str, Any]:
    """Return the card's figures by wavelength, as they were measured on scenes left out."""
    figures = card.metrics.get("reliability", {})
    return dict(figures) if isinstance(figures, dict) else {}
