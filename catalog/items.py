"""STAC 1.1 items, written by hand: pystac's helpers still write ``eo:bands``."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from catalog.assets import ASSET_KINDS
from catalog.bands import hsi_bands, layer_bands, raster_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model.layers import Layer

PREFIX: Final = "explains2a:"
"""Prefix of our own fields; all scalar ones can be queried."""

MODEL_COLLECTION: Final = "explains2a-models"
"""Collection of the models' own items."""

_SCHEMA: Final = "https://stac-extensions.github.io/{}/schema.json"
EXTENSIONS: Final = tuple(
    _SCHEMA.format(name)
    for name in (
        "eo/v2.0.0", "raster/v2.0.0", "projection/v2.0.0", "processing/v1.2.0", "product/v1.0.0", "version/v1.2.0",
        "file/v2.1.0", "view/v1.1.0", "sat/v1.2.0", "grid/v1.1.0", "mgrs/v1.0.0", "classification/v1.1.0",
    )
)  # fmt: skip

_VIEW: Final = _SCHEMA.format("view/v1.1.0")
"""Its schema wants one of its fields: declared where the source tells the sun's angle."""

COPERNICUS_NOTICE: Final = {
    "rel": "license",
    "href": "https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice",
    "title": "Copernicus Sentinel data: free, full and open; the notice is to be kept",
}
"""Link that every product and the collection carry."""

_SATELLITES: Final = {
    # COSPAR ids: ESA, Sentinel-2 mission pages
    "sentinel-2a": "2015-028A",
    "sentinel-2b": "2017-013A",
    "sentinel-2c": "2024-157A",
}


@dataclass(frozen=True)
class AssetFile:
    """One finished and verified file of a product."""

    key: str
    """One of `catalog.assets.ASSET_KINDS`."""
    href: str
    size: int
    """Bytes."""
    sha256: str
    """Lower-case hexadecimal digest of the stored bytes."""
    layers: tuple[Layer, ...] = ()
    """How its bands decode; empty for files that are not made of the model's layers."""
    shape: tuple[int, int] | None = None
    """Height and width of a raster, pixels."""
    transform: tuple[float, ...] | None = None
    """Affine a, b, c, d, e, f of a raster."""
    gsd: int | None = None
    """Pixel size of a raster, m."""


@dataclass(frozen=True)
class Product:
    """Everything an item says, as plain values."""

    collection: str
    id: str
    """Stable per acquisition and region."""
    title: str
    geometry: Mapping[str, Any]
    """GeoJSON footprint of the product, WGS 84."""
    bbox: tuple[float, float, float, float]
    sensed: datetime
    """Sensing start, aware."""
    created: datetime
    """When the product was made, aware."""
    platform: str
    tile: str
    """MGRS tile such as ``29UPU``."""
    relative_orbit: int | None
    crs: str
    """Such as ``EPSG:32629``."""
    shape: tuple[int, int]
    """Height and width at 10 m, pixels."""
    transform: tuple[float, ...]
    region: str
    acquisition: str
    source: str
    """Name of the source in the operator's settings."""
    source_item_id: str
    source_href: str | None
    """Address of the source item, where it has one that others can open."""
    source_baseline: str
    cloud_cover: float | None
    """As the provider states it for its tile, 0-1."""
    sun_zenith: float | None
    """Degrees."""
    product_revision: str
    model_id: str
    """Id of the model's own item."""
    software: Mapping[str, str]
    """Name and version of what made the product."""
    quality: Mapping[str, float]
    """Scalar quality numbers; each becomes a queryable field under `PREFIX`."""
    grade: str
    grade_reasons: tuple[str, ...]
    gates: Mapping[str, str]
    """Verdict by gate."""
    assets: tuple[AssetFile, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)
    """More of our own fields, without the prefix."""
    run_href: str = ""
    """Address of the run that made it, for the operators; empty where no server ran it."""


def build_item(product: Product) -> dict[str, Any]:
    """Write a product as a STAC item.

    Args:
        product: What is known of it.

    Returns:
        The whole item with all its bands, without a server's links; its version is set when it is published.
    """
    properties = _properties(product)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [url for url in EXTENSIONS if url != _VIEW or "view:sun_elevation" in properties],
        "id": product.id,
        "collection": product.collection,
        "geometry": dict(product.geometry),
        "bbox": list(product.bbox),
        "properties": properties,
        "links": _links(product),
        "assets": {asset.key: _asset(asset) for asset in sorted(product.assets, key=_position)},
    }


def _properties(product: Product) -> dict[str, Any]:
    zone, band, square = int(product.tile[:2]), product.tile[2], product.tile[3:]
    created = _time(product.created)
    properties: dict[str, Any] = {
        "title": product.title,
        "description": "Estimated, not measured, spectra. Contains modified Copernicus Sentinel data "
        f"{product.sensed:%Y}.",
        "datetime": _time(product.sensed),
        "created": created,
        "updated": created,
        "license": "other",
        "platform": product.platform,
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "gsd": 10,
        "proj:code": product.crs,
        "proj:shape": list(product.shape),
        "proj:transform": list(product.transform),
        "grid:code": f"MGRS-{product.tile}",
        "mgrs:utm_zone": zone,
        "mgrs:latitude_band": band,
        "mgrs:grid_square": square,
        "sat:platform_international_designator": _SATELLITES[product.platform],
        "processing:level": "L3",
        "processing:software": dict(product.software),
        "processing:lineage": "Sentinel-2 L2A bands to 10 m by guided detail injection, spectra by the posterior mean "
        "of the duality model",
        "product:type": "explains2a-hsi",
        "version": "1",
        "deprecated": False,
    }
    if product.relative_orbit is not None:
        properties["sat:relative_orbit"] = product.relative_orbit
    if product.cloud_cover is not None:
        properties["eo:cloud_cover"] = round(product.cloud_cover * 100, 4)
    if product.sun_zenith is not None:
        properties["view:sun_elevation"] = round(90 - product.sun_zenith, 6)
    own = {
        "region": product.region,
        "acquisition": product.acquisition,
        "product_revision": product.product_revision,
        "model": product.model_id,
        "source": product.source,
        "source_item": product.source_item_id,
        "source_baseline": product.source_baseline,
        "grade": product.grade,
        "grade_reasons": list(product.grade_reasons),
        "gates": dict(product.gates),
        **product.quality,
        **product.extra,
    }
    return properties | {PREFIX + name: value for name, value in own.items()}


def _links(product: Product) -> list[dict[str, Any]]:
    links = [
        COPERNICUS_NOTICE,
        {
            "rel": "derived_from",
            "href": f"../../{MODEL_COLLECTION}/items/{product.model_id}",
            "type": "application/geo+json",
            "title": "the model that made it",
        },
    ]
    if product.source_href:
        source = {"rel": "derived_from", "href": product.source_href, "title": f"source {product.source_item_id}"}
        links.append(source)
    if product.run_href:
        # rel of the processing extension
        run = {"rel": "processing-execution", "href": product.run_href, "type": "text/html"}
        links.append(run | {"title": "the run that made it, for operators"})
    return links


def _asset(file: AssetFile) -> dict[str, Any]:
    kind = ASSET_KINDS[file.key]
    asset: dict[str, Any] = {
        "href": file.href,
        "type": kind.media_type,
        "title": kind.title,
        "roles": list(kind.roles),
        "file:size": file.size,
        "file:checksum": multihash(file.sha256),
    }
    if file.shape is not None:
        asset |= raster_fields(file.key)
        asset["proj:shape"] = list(file.shape)
        if file.transform is not None:
            asset["proj:transform"] = list(file.transform)
        if file.gsd is not None:
            asset["gsd"] = file.gsd
    if file.key == "hsi":
        asset["bands"] = hsi_bands()
    elif file.layers:
        asset["bands"] = layer_bands(file.layers)
    return asset


def multihash(sha256: str) -> str:
    """Return a SHA-256 as the multihash of STAC's file extension: ``12`` (SHA-256), ``20`` (32 bytes), digest."""
    return f"1220{sha256}"


def _position(asset: AssetFile) -> int:
    return list(ASSET_KINDS).index(asset.key)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
