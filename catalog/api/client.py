"""The core client: requests of the STAC API answered from the database."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import attr
import orjson
from fastapi import Request  # noqa: TC002 - FastAPI reads the annotations of `get_version`
from stac_fastapi.types.core import BaseCoreClient
from stac_fastapi.types.errors import NotFoundError
from stac_fastapi.types.requests import get_base_url
from starlette.responses import Response  # noqa: TC002 - as above

from catalog.api.answers import GeoJsonAnswer, JsonAnswer
from catalog.api.links import (
    JSON,
    SCHEMA,
    SORTABLES,
    item_links,
    link,
    linked_collection,
    linked_item,
    page_links,
)
from catalog.api.parameters import asked_in, named_fields, read_bbox, read_interval, read_query
from catalog.publishing import published_item
from catalog.search.areas import area_of_bbox
from catalog.search.collections import CollectionQuery, collection, has_collection, search_collections
from catalog.search.items import search_items, search_texts
from catalog.search.texts import SharedLists
from catalog.versions import item_version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stac_fastapi.types.search import BaseSearchPostRequest
    from stac_fastapi.types.stac import LandingPage

    from catalog.search.items import Page, TextPage
    from catalog.session import Database

_NAMES = {"filter_expr": "filter", "filter_lang": "filter-lang", "filter_crs": "filter-crs"}
"""What the framework calls parameters whose names are none in Python."""


@attr.s
class CatalogClient(BaseCoreClient):
    """Answers every core request; holds nothing but what it was given."""

    database: Database = attr.ib(kw_only=True)
    seconds: float | None = attr.ib(kw_only=True, default=None)
    """How long one search may take."""
    locate: Callable[[str], str] | None = attr.ib(kw_only=True, default=None)
    """Gives the address under which clients read a stored file; None: the stored one."""
    lists: SharedLists = attr.ib(factory=SharedLists)
    """Lists of bands that were read before."""

    def landing_page(self, **kwargs: Any) -> LandingPage:
        """Return the landing page, which also leads to the sortables."""
        page = super().landing_page(**kwargs)
        page["links"].append(link(SORTABLES, f"{get_base_url(kwargs['request'])}sortables", SCHEMA))
        return page

    def all_collections(  # type: ignore[override]  # an answer, not a document
        self,
        bbox: str | None = None,
        datetime: str | None = None,
        limit: int | None = None,
        token: str | None = None,
        q: str | None = None,
        fields: str | None = None,
        **kwargs: Any,
    ) -> Response:
        """Search the collections."""
        request: Request = kwargs["request"]
        start, end = read_interval(datetime)
        area = area_of_bbox(read_bbox(bbox)) if bbox else None
        words = [word.strip() for word in (q or "").split(",") if word.strip()]
        asked = CollectionQuery(area, start, end, words, named_fields(fields), limit, token)
        page = search_collections(self.database, asked)
        base = get_base_url(request)
        answer = {
            "collections": [linked_collection(body, base) for body in page.collections],
            "links": page_links(request, page.next, None, JSON),
            "numberMatched": page.matched,
            "numberReturned": len(page.collections),
        }
        return JsonAnswer(answer)

    def get_collection(self, collection_id: str, **kwargs: Any) -> Response:  # type: ignore[override]  # as above
        """Return one collection, or 404."""
        stored = collection(self.database, collection_id)
        if stored is None:
            raise NotFoundError(f"there is no collection {collection_id!r}")
        return JsonAnswer(linked_collection(stored, get_base_url(kwargs["request"])))

    def get_item(self, item_id: str, collection_id: str, **kwargs: Any) -> Response:  # type: ignore[override]  # as above
        """Return the latest version of one item, or 404."""
        self._require(collection_id)
        found = published_item(self.database, collection_id, item_id) if item_id.isprintable() else None
        if found is None:
            raise NotFoundError(f"collection {collection_id!r} has no item {item_id!r}")
        return GeoJsonAnswer(linked_item(found, get_base_url(kwargs["request"]), locate=self.locate))

    def get_version(self, collection_id: str, item_id: str, version: int, request: Request) -> Response:
        """Return one version of one item, or 404."""
        self._require(collection_id)
        found = item_version(self.database, collection_id, item_id, version)
        if found is None:
            raise NotFoundError(f"item {item_id!r} of collection {collection_id!r} has no version {version}")
        return GeoJsonAnswer(linked_item(found, get_base_url(request), version=version, locate=self.locate))

    def item_collection(self, collection_id: str, **kwargs: Any) -> Response:  # type: ignore[override]  # as above
        """Return the items of one collection, page by page."""
        self._require(collection_id)
        return self._answer({**_named(kwargs), "collections": [collection_id]}, kwargs["request"], body=None)

    def get_search(self, **kwargs: Any) -> Response:  # type: ignore[override]  # as above
        """Search by GET."""
        return self._answer(_named(kwargs), kwargs["request"], body=None)

    def post_search(self, search_request: BaseSearchPostRequest, **kwargs: Any) -> Response:  # type: ignore[override]  # as above
        """Search by POST."""
        asked = asked_in(search_request)
        return self._answer(asked, kwargs["request"], body=asked)

    def _require(self, collection_id: str) -> None:
        if not has_collection(self.database, collection_id):
            raise NotFoundError(f"there is no collection {collection_id!r}")

    def _answer(self, asked: Mapping[str, Any], request: Request, body: dict[str, Any] | None) -> Response:
        query, base = read_query(asked), get_base_url(request)
        page: TextPage | Page | None = None
        if self.locate is None:
            linked = partial(item_links, base=base)
            page = search_texts(self.database, query, self.lists, linked, seconds=self.seconds)
        if page is None:
            page = search_items(self.database, query, seconds=self.seconds)
        answer: dict[str, Any] = {
            "type": "FeatureCollection",
            "features": [self._feature(item, base) for item in page.items],
            "links": page_links(request, page.next.token() if page.next else None, body),
            "numberReturned": len(page.items),
        }
        if page.matched is not None:
            answer["numberMatched"] = page.matched
        return GeoJsonAnswer(answer)

    def _feature(self, item: str | Mapping[str, Any], base: str) -> Any:
        return orjson.Fragment(item) if isinstance(item, str) else linked_item(item, base, locate=self.locate)


def _named(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {_NAMES.get(name, name): value for name, value in parameters.items() if name != "request"}
