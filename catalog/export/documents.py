"""The static documents: root, collections, one catalog for each tile, items. Links are relative: a copy works too."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from catalog.items import MODEL_COLLECTION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ROOT: Final = "catalog.json"
GEOJSON: Final = "application/geo+json"
JSON: Final = "application/json"
PARQUET: Final = "application/vnd.apache.parquet"

_NAVIGATION: Final = frozenset({"self", "root", "parent", "collection", "items"})
_VERSIONS: Final = frozenset({"predecessor-version", "successor-version", "latest-version"})
_MODEL: Final = f"../../{MODEL_COLLECTION}/items/"
"""How stored items name their model, as the server lays it out."""


def collection_key(collection: str) -> str:
    """Name a collection's document."""
    return f"{collection}/collection.json"


def tile_key(collection: str, tile: str) -> str:
    """Name the catalog of a collection's items on one tile."""
    return f"{collection}/{tile}/catalog.json"


def item_key(collection: str, tile: str | None, item_id: str) -> str:
    """Name an item's document; items without a tile lie beside their collection."""
    return f"{collection}/{tile}/{item_id}.json" if tile else f"{collection}/{item_id}.json"


def table_key(collection: str, month: str) -> str:
    """Name the table of a collection's items of one month, such as ``2024-06``."""
    return f"{collection}/tables/{month}.parquet"


def tile_of(grid_code: str | None) -> str | None:
    """Return the folder of a tile: ``29UPU`` of ``MGRS-29UPU``."""
    return None if grid_code is None else grid_code.removeprefix("MGRS-")


def root_document(identifier: str, title: str, description: str, collections: Iterable[str]) -> dict[str, Any]:
    """Write the catalog that all begins with."""
    children = [_link("child", f"./{collection_key(name)}", JSON) for name in sorted(collections)]
    return {
        "type": "Catalog",
        "stac_version": "1.1.0",
        "id": identifier,
        "title": title,
        "description": description,
        "links": [_link("root", f"./{ROOT}", JSON), *children],
    }


def collection_document(
    stored: Mapping[str, Any], tiles: Iterable[str], items: Iterable[str], months: Iterable[str]
) -> dict[str, Any]:
    """Write a collection.

    Args:
        stored: As in the database.
        tiles: Of which it has items.
        items: Those without a tile.
        months: Of which there are tables.
    """
    links = [
        _link("root", f"../{ROOT}", JSON),
        _link("parent", f"../{ROOT}", JSON),
        *(_link("child", f"./{tile}/catalog.json", JSON) for tile in sorted(tiles)),
        *(_link("item", f"./{item}.json", GEOJSON) for item in sorted(items)),
        *(link for link in stored["links"] if link["rel"] not in _NAVIGATION),
    ]
    tables = {
        f"items-{month}": {
            "href": f"./tables/{month}.parquet",
            "type": PARQUET,
            "title": f"Items of {month}, stac-geoparquet",
            "description": "All items sensed in this month without their lists of bands.",
            "roles": ["collection-mirror"],
        }
        for month in sorted(months)
    }
    return {**stored, "links": links, **({"assets": tables} if tables else {})}


def tile_document(collection: str, tile: str, items: Sequence[str]) -> dict[str, Any]:
    """Write the catalog of a collection's items on one tile."""
    return {
        "type": "Catalog",
        "stac_version": "1.1.0",
        "id": f"{collection}-{tile}",
        "title": f"Tile {tile}",
        "description": f"All items of {collection} on tile {tile}.",
        "links": [
            _link("root", f"../../{ROOT}", JSON),
            _link("parent", "../collection.json", JSON),
            *(_link("item", f"./{item}.json", GEOJSON) for item in sorted(items)),
        ],
    }


def item_document(item: Mapping[str, Any], tile: str | None, url: str, store: str) -> dict[str, Any]:
    """Write an item.

    Args:
        item: As published, with its band lists.
        tile: Its tile, where it has one.
        url: Root of the export.
        store: Root of the products: below it both, files are named relative to the item's document.
    """
    up = "../.." if tile else ".."
    links = [
        _link("root", f"{up}/{ROOT}", JSON),
        _link("parent", "./catalog.json" if tile else "./collection.json", JSON),
        _link("collection", "../collection.json" if tile else "./collection.json", JSON),
        *(_static(link, up) for link in item["links"] if link["rel"] not in _NAVIGATION | _VERSIONS),
    ]
    folder = posixpath.dirname(f"{url}/{item_key(item['collection'], tile, item['id'])}")
    assets = {key: {**asset, "href": _nearby(asset["href"], folder, store)} for key, asset in item["assets"].items()}
    return {**item, "links": links, "assets": assets}


def table_row(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item as tables hold it: a row has no place that something could be relative to.

    Args:
        item: As published, with its band lists.
    """
    links = [link for link in item["links"] if urlsplit(link["href"]).scheme]
    return {**item, "links": links}


def _static(link: Mapping[str, Any], up: str) -> dict[str, Any]:
    """Lead to the model's document instead of the server's address of it."""
    if not link["href"].startswith(_MODEL):
        return dict(link)
    return {**link, "href": f"{up}/{item_key(MODEL_COLLECTION, None, link['href'].removeprefix(_MODEL))}"}


def _nearby(href: str, folder: str, store: str) -> str:
    if not (href.startswith(f"{store}/") and folder.startswith(f"{store}/")):
        return href
    return posixpath.relpath(urlsplit(href).path, urlsplit(folder).path)


def _link(rel: str, href: str, media_type: str) -> dict[str, str]:
    return {"rel": rel, "href": href, "type": media_type}
