"""The links of every answer, absolute for the address that the client used."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urljoin

from stac_fastapi.types.requests import get_base_url

from catalog.api.address import own_address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

GEOJSON: Final = "application/geo+json"
JSON: Final = "application/json"
SCHEMA: Final = "application/schema+json"
QUERYABLES: Final = "http://www.opengis.net/def/rel/ogc/1.0/queryables"
SORTABLES: Final = "http://www.opengis.net/def/rel/ogc/1.0/sortables"


def link(rel: str, href: str, media_type: str) -> dict[str, Any]:
    """Make one link."""
    return {"rel": rel, "href": href, "type": media_type}


def linked_item(
    item: Mapping[str, Any],
    base: str,
    *,
    version: int | None = None,
    locate: Callable[[str], str] | None = None,
) -> dict[str, Any]:
    """Return an item with absolute links.

    Args:
        item: As stored, perhaps without some of its fields; its own links are relative to the latest version's address.
        base: The server's address, ending in a slash.
        version: The number of an item that is read at its version's own address; None at the item's.
        locate: Gives the address under which clients read a stored file; None: the stored one.
    """
    answer = dict(item)
    if "links" in item and "collection" in item and "id" in item:
        answer["links"] = item_links(item, base, version)
    if locate is not None and "assets" in item:
        answer["assets"] = {key: _located(asset, locate) for key, asset in item["assets"].items()}
    return answer


def item_links(item: Mapping[str, Any], base: str, version: int | None = None) -> list[dict[str, Any]]:
    """Return an item's links, absolute; see `linked_item`."""
    collection = f"{base}collections/{item['collection']}"
    latest = f"{collection}/items/{item['id']}"
    return [
        link("self", latest if version is None else f"{latest}/versions/{version}", GEOJSON),
        link("root", base, JSON),
        link("parent", collection, JSON),
        link("collection", collection, JSON),
        *({**stored, "href": _absolute(stored["href"], latest)} for stored in item["links"]),
    ]


def _absolute(href: str, item: str) -> str:
    """Return where a link leads that an item's own document names relative to its address."""
    if href.startswith(("https://", "http://")):
        return href
    # What leads upwards is the same for all items of a collection; joining is slow, and a page has hundreds.
    return _joined(item.rpartition("/")[0] + "/", href) if href.startswith("../") else urljoin(item, href)


@lru_cache(maxsize=4096)
def _joined(base: str, href: str) -> str:
    return urljoin(base, href)


def _located(asset: Mapping[str, Any], locate: Callable[[str], str]) -> dict[str, Any]:
    return {**asset, "href": locate(asset["href"])} if "href" in asset else dict(asset)


def linked_collection(collection: Mapping[str, Any], base: str) -> dict[str, Any]:
    """Return a collection with absolute links, for a server whose address is `base` (ending in a slash)."""
    if "links" not in collection or "id" not in collection:
        return dict(collection)
    own = f"{base}collections/{collection['id']}"
    links = [
        link("self", own, JSON),
        link("root", base, JSON),
        link("parent", base, JSON),
        link("items", f"{own}/items", GEOJSON),
        link(QUERYABLES, f"{own}/queryables", SCHEMA),
        link(SORTABLES, f"{own}/sortables", SCHEMA),
        *collection["links"],
    ]
    return {**collection, "links": links}


def page_links(
    request: Request, token: str | None, body: Mapping[str, Any] | None, media_type: str = GEOJSON
) -> list[dict[str, Any]]:
    """Return the links of one page of results.

    Args:
        request: The search.
        token: Of the next page; None on the last.
        body: Of a search by POST, to be sent again with the token; None for GET.
        media_type: Of the pages.
    """
    own, asked = own_address(request), request.query_params
    links = [
        link("root", get_base_url(request), JSON),
        link("self", f"{own}?{asked}" if asked else own, media_type),
    ]
    if token is None:
        return links
    if body is not None:
        return [*links, link("next", own, media_type) | {"method": "POST", "body": {**body, "token": token}}]
    query = urlencode([*((name, value) for name, value in asked.multi_items() if name != "token"), ("token", token)])
    return [*links, link("next", f"{own}?{query}", media_type) | {"method": "GET"}]
