"""The FastAPI application: stac-fastapi with our client, errors mapped in one place."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, cast

from fastapi import HTTPException, Request
from stac_fastapi.api.app import StacApi
from stac_fastapi.api.errors import DEFAULT_STATUS_CODES
from stac_fastapi.api.models import (
    GeoJSONResponse,
    ItemCollectionUri,
    create_get_request_model,
    create_post_request_model,
    create_request_model,
)
from stac_fastapi.extensions.pagination import TokenPaginationExtension
from stac_fastapi.types.config import ApiSettings

from catalog.api.client import CatalogClient
from catalog.api.errors import name_the_parameter
from catalog.search.errors import InvalidSearch
from catalog.session import DatabaseBusy, DatabaseUnavailable

if TYPE_CHECKING:
    from fastapi import FastAPI
    from stac_fastapi.types.search import APIRequest

    from catalog.session import Database
    from infra.settings import Settings

logger = logging.getLogger(__name__)

_VERSION: Final = "0.1.0"
_STATUS: Final[dict[type[Exception], int]] = {
    **DEFAULT_STATUS_CODES,
    InvalidSearch: 400,
    DatabaseBusy: 503,
    DatabaseUnavailable: 503,
}


def create_app(database: Database, settings: Settings) -> FastAPI:
    """Make the web application.

    Args:
        database: What it answers from; the caller closes it.
        settings: Title and public address.

    Returns:
        The application, read-only, ready for an ASGI server.
    """
    paging = TokenPaginationExtension()
    extensions: list[Any] = [paging]
    api_settings = ApiSettings(
        stac_fastapi_title=settings.api.title,
        stac_fastapi_description="Hyperspectral products estimated from Sentinel-2, with uncertainty and explanation.",
        stac_fastapi_version=_VERSION,
        stac_fastapi_landing_id=settings.collection_id,
        _env_file=None,
    )
    items_request = create_request_model(
        "ItemsRequest", base_model=ItemCollectionUri, mixins=[paging.GET], request_type="GET"
    )
    client = CatalogClient(
        database=database,
        extensions=extensions,
        title=settings.api.title,
        description=api_settings.stac_fastapi_description,
        landing_page_id=settings.collection_id,
    )
    api = StacApi(
        settings=api_settings,
        client=client,
        extensions=extensions,
        exceptions=_STATUS,
        stac_version="1.1.0",
        search_get_request_model=create_get_request_model(extensions),
        search_post_request_model=create_post_request_model(extensions),
        items_get_request_model=cast("type[APIRequest]", items_request),
    )
    application: FastAPI = api.app
    application.add_exception_handler(HTTPException, name_the_parameter)
    application.add_api_route(
        "/collections/{collection_id}/items/{item_id}/versions/{version}", _version(client), methods=["GET"]
    )
    application.add_api_route("/health", _health(database), methods=["GET"], tags=["health"])
    return application


def _version(client: CatalogClient) -> Any:
    def version(collection_id: str, item_id: str, version: int, request: Request) -> GeoJSONResponse:
        """Return one version of an item."""
        return GeoJSONResponse(client.get_item_version(item_id, collection_id, version, request))

    return version


def _health(database: Database) -> Any:
    def health() -> dict[str, str]:
        """Say whether the database answers."""
        from sqlalchemy import text

        with database.read() as session:
            session.execute(text("SELECT 1"))
        return {"status": "ok"}

    return health
