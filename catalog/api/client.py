"""The core client: requests of the STAC API answered from the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import attr
from fastapi import Request  # noqa: TC002 - FastAPI reads the annotation of `get_version`
from stac_fastapi.types.core import BaseCoreClient
from stac_fastapi.types.errors import NotFoundError
from stac_fastapi.types.requests import get_base_url
from stac_fastapi.types.stac import Collections

from catalog.api.links import JSON, link, linked_collection, linked_item, page_links
from catalog.api.parameters import read_query
from catalog.search.items import Query, collections, search_items
from catalog.versions import item_version

if TYPE_CHECKING:
    from stac_fastapi.types.search import BaseSearchPostRequest
    from stac_fastapi.types.stac import Collection, Item, ItemCollection

    from catalog.session import Database


@attr.s
class CatalogClient(BaseCoreClient):
    """Answers every core request; holds nothing but the database."""

    database: Database = attr.ib(kw_only=True)

    def all_collections(self, **kwargs: Any) -> Collections:
        """Return every collection."""
        base = get_base_url(kwargs["request"])
        found = [cast("Collection", linked_collection(body, base)) for body in collections(self.database).values()]
        links = [link("self", f"{base}collections", JSON), link("root", base, JSON)]
        return Collections(collections=found, links=links, numberMatched=len(found), numberReturned=len(found))

    def get_collection(self, collection_id: str, **kwargs: Any) -> Collection:
        """Return one collection, or 404."""
        stored = self._collection(collection_id)
        return cast("Collection", linked_collection(stored, get_base_url(kwargs["request"])))

    def get_item(self, item_id: str, collection_id: str, **kwargs: Any) -> Item:
        """Return the latest version of one item, or 404."""
        self._collection(collection_id)
        page = search_items(self.database, Query(collections=[collection_id], ids=[item_id], limit=1))
        if not page.items:
            raise NotFoundError(f"collection {collection_id!r} has no item {item_id!r}")
        return cast("Item", linked_item(page.items[0], get_base_url(kwargs["request"])))

    def get_version(self, collection_id: str, item_id: str, version: int, request: Request) -> dict[str, Any]:
        """Return one version of one item, or 404."""
        self._collection(collection_id)
        found = item_version(self.database, collection_id, item_id, version)
        if found is None:
            raise NotFoundError(f"item {item_id!r} of collection {collection_id!r} has no version {version}")
        return linked_item(found, get_base_url(request), version=version)

    def item_collection(
        self,
        collection_id: str,
        bbox: Any = None,
        datetime: Any = None,
        limit: int | None = None,
        token: str | None = None,
        **kwargs: Any,
    ) -> ItemCollection:
        """Return the items of one collection, page by page."""
        self._collection(collection_id)
        query = read_query([collection_id], bbox=bbox, datetime=datetime, limit=limit, token=token)
        return self._answer(query, kwargs["request"], body=None)

    def get_search(
        self,
        collections: list[str] | None = None,
        ids: list[str] | None = None,
        bbox: Any = None,
        intersects: Any = None,
        datetime: Any = None,
        limit: int | None = None,
        token: str | None = None,
        **kwargs: Any,
    ) -> ItemCollection:
        """Search by GET."""
        return self._answer(
            read_query(collections, ids, bbox, intersects, datetime, limit, token), kwargs["request"], body=None
        )

    def post_search(self, search_request: BaseSearchPostRequest, **kwargs: Any) -> ItemCollection:
        """Search by POST."""
        asked = search_request.model_dump(mode="json", exclude_none=True)
        names = ("collections", "ids", "bbox", "intersects", "datetime", "limit", "token")
        return self._answer(read_query(*(asked.get(name) for name in names)), kwargs["request"], body=asked)

    def _collection(self, collection_id: str) -> dict[str, Any]:
        found = collections(self.database).get(collection_id)
        if found is None:
            raise NotFoundError(f"there is no collection {collection_id!r}")
        return found

    def _answer(self, query: Query, request: Request, body: dict[str, Any] | None) -> ItemCollection:
        page = search_items(self.database, query)
        features = [linked_item(item, get_base_url(request)) for item in page.items]
        answer: dict[str, Any] = {
            "type": "FeatureCollection",
            "features": features,
            "links": page_links(request, page.next.token() if page.next else None, body),
            "numberReturned": len(features),
        }
        if page.matched is not None:
            answer["numberMatched"] = page.matched
        return cast("ItemCollection", answer)
