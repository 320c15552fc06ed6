"""The schemas of what can be asked for: queryables and sortables, of all items and of each collection's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attr
from stac_fastapi.extensions.filter.client import BaseFiltersClient
from stac_fastapi.extensions.sort import BaseSortablesClient
from stac_fastapi.types.errors import NotFoundError

from catalog.api.address import own_address
from catalog.search.collections import has_collection
from catalog.search.queryables import queryables, sortables

if TYPE_CHECKING:
    from starlette.requests import Request

    from catalog.session import Database


@attr.s
class Queryables(BaseFiltersClient):
    """What filters may name."""

    database: Database = attr.ib(kw_only=True)

    def get_queryables(self, collection_id: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Return the schema of a collection's, or of all items'; all collections have the same."""
        _require(self.database, collection_id)
        return queryables(own_address(kwargs["request"]))


@attr.s
class Sortables(BaseSortablesClient):
    """What searches can be sorted by."""

    database: Database = attr.ib(kw_only=True)

    def get_sortables(self, request: Request | None = None, **_: Any) -> dict[str, Any]:
        """Return the schema for all items."""
        return sortables(own_address(request) if request else "")

    def get_collection_sortables(self, collection_id: str, request: Request | None = None, **_: Any) -> dict[str, Any]:
        """Return the schema for a collection's items."""
        _require(self.database, collection_id)
        return sortables(own_address(request) if request else "")


def _require(database: Database, collection_id: str | None) -> None:
    if collection_id is not None and not has_collection(database, collection_id):
        raise NotFoundError(f"there is no collection {collection_id!r}")
