"""Request parameters, read once: what a client writes becomes a `Query`, or an error that names the parameter."""

# No postponed annotations here: FastAPI reads those of the request models.

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Annotated, Any, Final

import attr
from fastapi import HTTPException
from fastapi import Query as UrlParameter
from pydantic import BaseModel, model_validator
from stac_fastapi.api.models import ItemCollectionUri
from stac_fastapi.extensions.fields.request import FieldsExtensionGetRequest, FieldsExtensionPostRequest
from stac_fastapi.extensions.filter.request import FilterExtensionGetRequest, FilterExtensionPostRequest
from stac_fastapi.extensions.pagination.request import GETTokenPagination, POSTTokenPagination
from stac_fastapi.extensions.query.request import QueryExtensionGetRequest, QueryExtensionPostRequest
from stac_fastapi.extensions.sort.request import SortExtensionGetRequest, SortExtensionPostRequest
from stac_fastapi.types.rfc3339 import str_to_interval
from stac_fastapi.types.search import APIRequest, BaseSearchGetRequest, BaseSearchPostRequest

from catalog.search.areas import area_of_bbox, area_of_geometry
from catalog.search.comparisons import read_comparisons
from catalog.search.cql2 import read_filter
from catalog.search.errors import InvalidSearch
from catalog.search.fields import ALL, Fields, read_fields
from catalog.search.items import MAX_LIMIT, Query
from catalog.search.keyset import Key, Order, order_by, read_token
from catalog.search.predicates import Predicate, every

MAX_DEPTH: Final = 64
"""Brackets within brackets; a geometry needs six, and a reader must not be made to recurse without end."""

_BBOX = Annotated[
    str | None,
    UrlParameter(description="west,south,east,north in degrees; west greater than east crosses the antimeridian."),
]
_DATETIME = Annotated[
    str | None,
    UrlParameter(
        description="An RFC 3339 time or an interval such as 2024-06-01T00:00:00Z/.. (either end may be open)."
    ),
]


@attr.s
class SearchParameters(
    BaseSearchGetRequest,
    GETTokenPagination,
    FilterExtensionGetRequest,
    SortExtensionGetRequest,
    FieldsExtensionGetRequest,
    QueryExtensionGetRequest,
):
    """Parameters of a search by GET; bbox and datetime stay text here, so that errors can name them."""

    bbox: _BBOX = attr.ib(default=None)  # type: ignore[assignment]  # numbers there
    datetime: _DATETIME = attr.ib(default=None)


@attr.s
class ItemsParameters(
    ItemCollectionUri,
    GETTokenPagination,
    FilterExtensionGetRequest,
    SortExtensionGetRequest,
    FieldsExtensionGetRequest,
    QueryExtensionGetRequest,
):
    """Parameters of one collection's items."""

    bbox: _BBOX = attr.ib(default=None)  # type: ignore[assignment]  # numbers there
    datetime: _DATETIME = attr.ib(default=None)


@attr.s
class CollectionsParameters(APIRequest):
    """Parameters of a search for collections."""

    bbox: _BBOX = attr.ib(default=None)
    datetime: _DATETIME = attr.ib(default=None)
    limit: Annotated[int | None, UrlParameter(ge=1, description="Collections per page.")] = attr.ib(default=None)
    token: Annotated[str | None, UrlParameter(description="Of the next page, from its link.")] = attr.ib(default=None)
    q: Annotated[
        str | None, UrlParameter(description="Words of title, description and keywords, separated by commas; any one.")
    ] = attr.ib(default=None)
    fields: Annotated[
        str | None, UrlParameter(description="Fields wanted, or with - before them, not wanted; separated by commas.")
    ] = attr.ib(default=None)


class SearchBody(
    BaseSearchPostRequest,
    POSTTokenPagination,
    FilterExtensionPostRequest,
    SortExtensionPostRequest,
    FieldsExtensionPostRequest,
    QueryExtensionPostRequest,
):
    """Body of a search by POST."""

    @model_validator(mode="before")
    @classmethod
    def validate_spatial(cls, values: Any) -> Any:
        """Refuse both kinds of area at once; by the name of the check that would take every body for an object."""
        if isinstance(values, dict) and values.get("intersects") and values.get("bbox") is not None:
            raise ValueError("intersects and bbox cannot be given together")
        return values


def asked_in(body: BaseModel) -> dict[str, Any]:
    """Return what a body says, by the names of the parameters, without what it leaves to us."""
    return body.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)


def read_query(asked: Mapping[str, Any]) -> Query:
    """Read the parameters of a search, as text of a URL or as JSON of a body.

    Args:
        asked: By name: ``collections`` and ``ids`` (lists), ``bbox``, ``intersects``, ``datetime``, ``filter`` with
            ``filter-lang`` and ``filter-crs``, ``query``, ``sortby``, ``fields``, ``limit`` (more than the server
            gives is no error but less), ``token`` of a page before.

    Returns:
        What is searched for.

    Raises:
        InvalidSearch: a parameter cannot be understood.
    """
    start, end = read_interval(asked.get("datetime"))
    limit, token = asked.get("limit"), asked.get("token")
    order = _order(asked.get("sortby"))
    return Query(
        collections=asked.get("collections"),
        ids=asked.get("ids"),
        area=_area(asked.get("bbox"), asked.get("intersects")),
        start=start,
        end=end,
        where=_where(asked),
        order=order,
        fields=named_fields(asked.get("fields")),
        limit=min(10 if limit is None else limit, MAX_LIMIT),
        after=read_token(token, order) if token else None,
    )


def read_bbox(bbox: str | Sequence[float]) -> list[float]:
    """Read the numbers of a bbox.

    Raises:
        InvalidSearch: they are none.
    """
    try:
        return [float(value) for value in (bbox.split(",") if isinstance(bbox, str) else bbox)]
    except ValueError as error:
        raise InvalidSearch("bbox", "is not a list of numbers; expected west,south,east,north") from error


def read_interval(text: str | None) -> tuple[dt.datetime | None, dt.datetime | None]:
    """Read a time, as an interval that begins and ends there, or an interval; None is an open end.

    Raises:
        InvalidSearch: it is neither.
    """
    if text is None:
        return None, None
    try:
        when = str_to_interval(text)
        start, end = when if isinstance(when, tuple) else (when, when)
        return _utc(start), _utc(end)
    except HTTPException as error:
        raise InvalidSearch("datetime", f"is not an RFC 3339 time or interval: {error.detail}") from error
    except OverflowError as error:
        raise InvalidSearch("datetime", "lies outside the years 1 to 9999") from error


def named_fields(given: str | Sequence[str] | Mapping[str, Any] | None) -> Fields:
    """Read which fields are wanted: a list with ``-`` before those that are not, or both lists of a body."""
    if not given:
        return ALL
    if isinstance(given, Mapping):
        return read_fields(given.get("include") or (), given.get("exclude") or ())
    # A plus of a URL arrives as a blank.
    names = [name.strip() for name in (given.split(",") if isinstance(given, str) else given)]
    return read_fields(
        (name.removeprefix("+") for name in names if not name.startswith("-")),
        (name.removeprefix("-") for name in names if name.startswith("-")),
    )


def _area(bbox: Any, intersects: Any) -> Any:
    if bbox and intersects:
        raise InvalidSearch("intersects", "cannot be given together with bbox")
    if bbox:
        return area_of_bbox(read_bbox(bbox))
    return area_of_geometry(_geometry(intersects)) if intersects else None


def _where(asked: Mapping[str, Any]) -> Predicate | None:
    parts = []
    language, crs = asked.get("filter-lang"), asked.get("filter-crs")
    if (given := asked.get("filter")) is not None:
        _shallow(given, "filter")
        parts.append(read_filter(given, language, crs))
    if (given := asked.get("query")) is not None:
        parts.append(read_comparisons(_json(given, "query") if isinstance(given, str) else given))
    return every(parts) if parts else None


def _order(given: Sequence[Any] | None) -> Order:
    keys = []
    for each in given or ():
        if isinstance(each, str):
            name = each.strip()
            keys.append(Key(name.lstrip("+-").strip(), descending=name.startswith("-")))
        else:
            keys.append(Key(each["field"], descending=each["direction"] == "desc"))
    return order_by(keys)


def _utc(moment: dt.datetime | None) -> dt.datetime | None:
    return None if moment is None else moment.astimezone(dt.UTC)


def _geometry(given: Any) -> dict[str, Any]:
    geometry = _json(given, "intersects") if isinstance(given, str) else given
    if isinstance(geometry, dict) and geometry.get("type") == "Feature":
        geometry = geometry.get("geometry")
    if not isinstance(geometry, dict):
        raise InvalidSearch("intersects", "is not a GeoJSON geometry")
    return geometry


def _json(text: str, parameter: str) -> Any:
    _shallow(text, parameter)
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidSearch(parameter, "is not JSON") from error


def _shallow(given: Any, parameter: str) -> None:
    if isinstance(given, str) and is_deep(given):
        raise InvalidSearch(parameter, f"is nested deeper than {MAX_DEPTH}")


def is_deep(text: str) -> bool:
    """Say whether the brackets of a text are nested deeper than `MAX_DEPTH`."""
    steps = (1 if character in "[{" else -1 for character in text if character in "[]{}")
    return any(depth > MAX_DEPTH for depth in accumulate(steps))
