"""The past, over HTTP: every version of an item, and the feed of all changes."""

# No postponed annotations here: FastAPI reads those of the routes.

from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import FastAPI, Query, Request
from stac_fastapi.types.errors import NotFoundError
from stac_fastapi.types.requests import get_base_url
from starlette.responses import Response

from catalog.api.address import own_address
from catalog.api.answers import GeoJsonAnswer, JsonAnswer
from catalog.api.links import JSON, link, linked_item, page_links
from catalog.changes import MAX_CHANGES, Change, ChangeKind, NotOfThisFeed, read_changes
from catalog.search.errors import InvalidSearch
from catalog.versions import MAX_VERSIONS, item_versions

if TYPE_CHECKING:
    from catalog.session import Database
    from infra.settings import Settings

_LARGEST: Final = 2**63 - 1
_LAST: Final = 2**31 - 1

_VersionLimit = Annotated[int, Query(ge=1, le=MAX_VERSIONS, description="At most so many versions.")]
_VersionToken = Annotated[int | None, Query(ge=2, le=_LAST, description="Of the page before: only versions below it.")]
_ChangeLimit = Annotated[int, Query(ge=1, le=MAX_CHANGES, description="At most so many changes.")]
_Since = Annotated[
    int, Query(ge=0, le=_LARGEST, description="The cursor of the answer before; 0 begins with the first change.")
]
_OfCollection = Annotated[
    str | None,
    Query(min_length=1, max_length=64, pattern=r"^[^\x00]*$", description="Only changes of this collection."),
]


def register_history(application: FastAPI, database: "Database", _settings: "Settings") -> None:
    """Add the routes of versions and changes to an application."""

    def get_versions(
        collection_id: str,
        item_id: str,
        request: Request,
        limit: _VersionLimit = 10,
        token: _VersionToken = None,
    ) -> Response:
        """Return the versions of an item, newest first, each as it was published, with links to its neighbours."""
        page = item_versions(database, collection_id, item_id, limit=limit, before=token)
        if page is None:
            raise NotFoundError(f"collection {collection_id!r} has no item {item_id!r} with versions")
        base = get_base_url(request)
        locate = application.state.locate
        features = [linked_item(each.body, base, version=each.number, locate=locate) for each in page.versions]
        return GeoJsonAnswer(
            {
                "type": "FeatureCollection",
                "features": features,
                "links": page_links(request, None if page.next is None else str(page.next), None),
                "numberMatched": page.matched,
                "numberReturned": len(features),
            }
        )

    def get_changes(
        request: Request, since: _Since = 0, limit: _ChangeLimit = 100, collection: _OfCollection = None
    ) -> Response:
        """Return what happened behind a place in the feed, in its order; keep `cursor` to go on from there."""
        try:
            feed = read_changes(database, since, limit=limit, collection=collection)
        except NotOfThisFeed as error:
            raise InvalidSearch("since", str(error)) from error
        base, own = get_base_url(request), own_address(request)
        following = str(request.url.include_query_params(since=feed.cursor).query)
        links = [
            link("root", base, JSON),
            link("self", f"{own}?{request.url.query}" if request.url.query else own, JSON),
            link("next", f"{own}?{following}", JSON),
        ]
        return JsonAnswer(
            {
                "changes": [_told(change, base) for change in feed.changes],
                "cursor": feed.cursor,
                "newest": feed.newest,
                "links": links,
            }
        )

    application.add_api_route(
        "/collections/{collection_id}/items/{item_id}/versions",
        get_versions, methods=["GET"], name="Get Item Versions", response_class=GeoJsonAnswer, tags=["history"],
    )  # fmt: skip
    application.add_api_route(
        "/changes", get_changes, methods=["GET"], name="Get Changes", response_class=JsonAnswer, tags=["history"]
    )


def _told(change: Change, base: str) -> dict[str, Any]:
    item = f"{base}collections/{change.collection}/items/{change.item_id}"
    gone = change.kind is ChangeKind.REMOVED
    return {
        "sequence": change.sequence,
        "at": change.at.isoformat().replace("+00:00", "Z"),
        "kind": str(change.kind),
        "collection": change.collection,
        "item": change.item_id,
        "version": change.version,
        "href": None if gone else f"{item}/versions/{change.version}",
    }
