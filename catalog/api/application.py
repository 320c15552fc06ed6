"""The FastAPI application: stac-fastapi with our client, read-only."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from brotli_asgi import BrotliMiddleware
from stac_fastapi.api.app import StacApi
from stac_fastapi.api.middleware import ProxyHeaderMiddleware
from stac_fastapi.extensions.collection_search import CollectionSearchExtension
from stac_fastapi.extensions.fields import FieldsExtension
from stac_fastapi.extensions.filter import FilterExtension
from stac_fastapi.extensions.pagination import TokenPaginationExtension
from stac_fastapi.extensions.query import QueryExtension
from stac_fastapi.extensions.sort import ItemCollectionSortExtension, SearchSortExtension
from stac_fastapi.types.config import ApiSettings
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from catalog.api import conformance
from catalog.api.address import PublicAddress
from catalog.api.answers import GeoJsonAnswer
from catalog.api.client import CatalogClient
from catalog.api.errors import register_errors
from catalog.api.filters import Queryables, Sortables
from catalog.api.history import register_history
from catalog.api.limits import BodyLimits, RateLimit, SecurityHeaders
from catalog.api.metrics import register_metrics
from catalog.api.parameters import CollectionsParameters, ItemsParameters, SearchBody, SearchParameters
from catalog.api.places import asset_locator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastapi import FastAPI
    from stac_fastapi.types.extension import ApiExtension

    from catalog.session import Database
    from infra.settings import ApiSettings as WebSettings
    from infra.settings import Settings

_PAGES: Final = frozenset({"/api.html"})
"""Pages for people."""

_VERSIONS: Final = "/collections/{collection_id}/items/{item_id}/versions/{version}"


Register: TypeAlias = "Callable[[FastAPI, Database, Settings], object]"
"""Adds the routes of one more part to an application, before its first request."""

ROUTES: Final[tuple[Register, ...]] = (register_history, register_metrics)
"""Parts that need nothing but the database and the settings; those that are given more come as `routes`."""


def create_app(
    database: Database,
    settings: Settings,
    *,
    routes: Sequence[Register] = (),
    sign: Callable[[str], str] | None = None,
) -> FastAPI:
    """Make the web application.

    Args:
        database: What it answers from; the caller closes it.
        settings: Title and public address.
        routes: More parts, with what they were given bound to them (``partial(register_spectra, reader=...)``).
        sign: Turns the address of a stored file into one that anybody can read for a while.

    Returns:
        The application, read-only, ready for an ASGI server.
    """
    description = "Hyperspectral products estimated from Sentinel-2, with uncertainty and explanation."
    client = CatalogClient(
        database=database,
        title=settings.api.title,
        description=description,
        landing_page_id=settings.collection_id,
        seconds=settings.api.search_seconds,
        locate=asset_locator(settings.api, settings.resolved_storage, sign),
    )
    api = StacApi(
        settings=ApiSettings(
            stac_fastapi_title=settings.api.title,
            stac_fastapi_description=description,
            stac_fastapi_version=version("explains2a"),
            stac_fastapi_landing_id=settings.collection_id,
            _env_file=None,
        ),
        client=client,
        extensions=_extensions(database),
        stac_version="1.1.0",
        search_get_request_model=SearchParameters,
        search_post_request_model=SearchBody,
        items_get_request_model=ItemsParameters,
        collections_get_request_model=CollectionsParameters,
        middlewares=_middlewares(settings.api),
    )
    application: FastAPI = api.app
    application.state.locate = client.locate  # for the other parts that name files
    application.add_api_route(
        _VERSIONS, client.get_version, methods=["GET"], name="Get Item Version", response_class=GeoJsonAnswer
    )
    application.add_api_route("/health", _health(database), methods=["GET"], tags=["health"])
    for register in (*ROUTES, *routes):
        register(application, database, settings)
    register_errors(application)
    return application


def _extensions(database: Database) -> list[ApiExtension]:
    """Return the extensions with their routes and conformance classes; their parameters are in the request models."""
    sortables = Sortables(database=database)
    return [
        TokenPaginationExtension(),
        FilterExtension(client=Queryables(database=database), conformance_classes=conformance.FILTER),
        SearchSortExtension(client=sortables, conformance_classes=[*conformance.SORT, *conformance.SORTABLES]),
        ItemCollectionSortExtension(client=sortables, conformance_classes=[]),
        FieldsExtension(conformance_classes=conformance.FIELDS),
        QueryExtension(conformance_classes=conformance.QUERY),
        CollectionSearchExtension(conformance_classes=conformance.COLLECTIONS),
    ]


def _middlewares(settings: WebSettings) -> list[Middleware]:
    """Compress, let pages of other sites read, limit, and know the own address; innermost first."""
    public = settings.public_url
    address = Middleware(PublicAddress, url=public) if public else Middleware(ProxyHeaderMiddleware)
    readers = Middleware(
        CORSMiddleware,
        allow_origins=list(settings.cors_origins),
        allow_methods=["OPTIONS", "POST", "GET"],
        allow_headers=["Content-Type"],
        max_age=600,
    )
    limits = [Middleware(BodyLimits, max_bytes=settings.max_body_bytes)]
    if settings.requests_per_minute is not None:
        limits.append(Middleware(RateLimit, per_minute=settings.requests_per_minute))
    # Pages repeat themselves: the fastest level makes them as small as slower ones.
    return [
        Middleware(BrotliMiddleware, quality=1),
        *limits,
        readers,
        Middleware(SecurityHeaders, pages=_PAGES),
        address,
    ]


def _health(database: Database) -> Any:
    def health() -> dict[str, str]:
        """Say whether the database answers; 503 when not."""
        database.check()
        return {"status": "ok"}

    return health
