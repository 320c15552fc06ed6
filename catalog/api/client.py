"""The core client: requests of the STAC API answered from the database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urljoin

import attr
from stac_fastapi.types.core import BaseCoreClient
from stac_fastapi.types.errors import NotFoundError
from stac_fastapi.types.requests import get_base_url
from stac_fastapi.types.rfc3339 import str_to_interval
from stac_fastapi.types.stac import Collections

from catalog.items import hydrate
from catalog.search.errors import InvalidSearch
from catalog.search.items import Query, area_of_bbox, area_of_geometry, collections, item_version, search_items
from catalog.search.keyset import read_token

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from fastapi import Request
    from stac_fastapi.types.search import BaseSearchPostRequest
    from stac_fastapi.types.stac import Collection, Item, ItemCollection

    from catalog.search.items import Page
    from catalog.session import Database

_GEOJSON = "application/geo+json"
_JSON = "application/json"


@attr.s
class CatalogClient(BaseCoreClient):
    """Answers every core request; holds nothing but the database."""

    database: Database = attr.ib(kw_only=True)

    def all_collections(self, **kwargs: Any) -> Collections:
        """Return every collection."""
        base = get_base_url(kwargs["request"])
        found = [linked_collection(body, base) for body in collections(self.database).values()]
        links = [_link("self", f"{base}collections", _JSON), _link("root", base, _JSON)]
        return Collections(collections=found, links=links, numberMatched=len(found), numberReturned=len(found))

    def get_collection(self, collection_id: str, **kwargs: Any) -> Collection:
        """Return one collection, or 404."""
        return linked_collection(self._collection(collection_id), get_base_url(kwargs["request"]))

    def get_item(self, item_id: str, collection_id: str, **kwargs: Any) -> Item:
        """Return the latest version of one item, or 404."""
        stored = self._collection(collection_id)
        page = search_items(self.database, Query(collections=[collection_id], ids=[item_id], limit=1))
        if not page.items:
            raise NotFoundError(f"collection {collection_id!r} has no item {item_id!r}")
        return linked_item(hydrate(page.items[0], stored), get_base_url(kwargs["request"]))

    def get_item_version(self, item_id: str, collection_id: str, version: int, request: Request) -> dict[str, Any]:
        """Return one version of an item at its own address, or 404."""
        stored = self._collection(collection_id)
        body = item_version(self.database, collection_id, item_id, version)
        if body is None:
            raise NotFoundError(f"item {item_id!r} of collection {collection_id!r} has no version {version}")
        item = cast("dict[str, Any]", linked_item(hydrate(body, stored), get_base_url(request)))
        own, *others = item["links"]
        here = {**own, "href": f"{own['href']}/versions/{version}"}
        return {**item, "links": [here, *others, {**own, "rel": "latest-version"}]}

    def item_collection(
        self,
        collection_id: str,
        bbox: Any = None,
        datetime: Any = None,
        limit: int = 10,
        token: str | None = None,
        **kwargs: Any,
    ) -> ItemCollection:
        """Return the items of one collection, page by page."""
        self._collection(collection_id)
        query = _query([collection_id], None, bbox, None, datetime, limit, token)
        return self._answer(query, kwargs["request"], body=None)

    def get_search(
        self,
        collections: list[str] | None = None,
        ids: list[str] | None = None,
        bbox: Any = None,
        intersects: Any = None,
        datetime: Any = None,
        limit: int | None = 10,
        token: str | None = None,
        **kwargs: Any,
    ) -> ItemCollection:
        """Search by GET."""
        geometry = _geometry(intersects)
        query = _query(collections, ids, bbox, geometry, datetime, limit or 10, token)
        return self._answer(query, kwargs["request"], body=None)

    def post_search(self, search_request: BaseSearchPostRequest, **kwargs: Any) -> ItemCollection:
        """Search by POST."""
        asked = search_request.model_dump(mode="json", exclude_none=True)
        query = _query(
            asked.get("collections"), asked.get("ids"), asked.get("bbox"), asked.get("intersects"),
            asked.get("datetime"), asked.get("limit", 10), asked.get("token"),
        )  # fmt: skip
        return self._answer(query, kwargs["request"], body=asked)

    def _collection(self, collection_id: str) -> dict[str, Any]:
        found = collections(self.database).get(collection_id)
        if found is None:
            raise NotFoundError(f"there is no collection {collection_id!r}")
        return found

    def _answer(self, query: Query, request: Request, body: dict[str, Any] | None) -> ItemCollection:
        page = search_items(self.database, query)
        base, stored = get_base_url(request), collections(self.database)
        features = [linked_item(hydrate(item, stored[item["collection"]]), base) for item in page.items]
        answer: dict[str, Any] = {
            "type": "FeatureCollection",
            "features": features,
            "links": _page_links(page, request, base, body),
            "numberReturned": len(features),
        }
        if page.matched is not None:
            answer["numberMatched"] = page.matched
        return cast("ItemCollection", answer)


def _query(
    collection_ids: Sequence[str] | None,
    ids: Sequence[str] | None,
    bbox: Sequence[float] | None,
    intersects: dict[str, Any] | None,
    when: Any,
    limit: int,
    token: str | None,
) -> Query:
    if bbox and intersects:
        raise InvalidSearch("intersects", "cannot be given together with bbox")
    area = area_of_bbox(list(bbox)) if bbox else area_of_geometry(intersects) if intersects else None
    start, end = _interval(when)
    return Query(collection_ids, ids, area, start, end, limit, read_token(token) if token else None)


def _interval(when: Any) -> tuple[datetime | None, datetime | None]:
    if when is None:
        return None, None
    if isinstance(when, str):
        when = str_to_interval(when)
    return (when[0], when[1]) if isinstance(when, tuple) else (when, when)


def _geometry(text: Any) -> dict[str, Any] | None:
    if not text or isinstance(text, dict):
        return text or None
    try:
        geometry = json.loads(text)
    except ValueError as error:
        raise InvalidSearch("intersects", f"is not JSON: {error}") from error
    if not isinstance(geometry, dict):
        raise InvalidSearch("intersects", "is not a GeoJSON geometry")
    return geometry.get("geometry", geometry) if geometry.get("type") == "Feature" else geometry


def _page_links(page: Page, request: Request, base: str, body: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    links = [_link("root", base, _JSON), _link("self", str(request.url), _GEOJSON)]
    if page.next is None:
        return links
    token = page.next.token()
    if body is None:
        href = urljoin(base, request.url.path.lstrip("/")) + "?" + request.url.include_query_params(token=token).query
        return [*links, _link("next", href, _GEOJSON) | {"method": "GET"}]
    href = f"{base}search"
    return [*links, _link("next", href, _GEOJSON) | {"method": "POST", "body": {**body, "token": token}}]


def linked_item(item: dict[str, Any], base: str) -> Item:
    """Return an item with absolute links, for a server whose address is `base` (ending in a slash)."""
    own = f"{base}collections/{item['collection']}/items/{item['id']}"
    collection = f"{base}collections/{item['collection']}"
    links = [
        _link("self", own, _GEOJSON),
        _link("root", base, _JSON),
        _link("parent", collection, _JSON),
        _link("collection", collection, _JSON),
        *({**link, "href": urljoin(own, link["href"])} for link in item["links"]),
    ]
    return cast("Item", {**item, "links": links})


def linked_collection(collection: dict[str, Any], base: str) -> Collection:
    """Return a collection with absolute links, for a server whose address is `base` (ending in a slash)."""
    own = f"{base}collections/{collection['id']}"
    links = [
        _link("self", own, _JSON),
        _link("root", base, _JSON),
        _link("parent", base, _JSON),
        _link("items", f"{own}/items", _GEOJSON),
        *collection["links"],
    ]
    return cast("Collection", {**collection, "links": links})


def _link(rel: str, href: str, media_type: str) -> dict[str, Any]:
    return {"rel": rel, "href": href, "type": media_type}
