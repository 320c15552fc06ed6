"""Request parameters, read once: what a client writes becomes a `Query`, or an error that names the parameter."""

# No postponed annotations here: FastAPI reads those of the request models.

import datetime as dt
import json
from collections.abc import Sequence
from itertools import accumulate
from typing import Annotated, Any, Final

import attr
from fastapi import HTTPException
from fastapi import Query as UrlParameter
from stac_fastapi.api.models import ItemCollectionUri
from stac_fastapi.types.rfc3339 import str_to_interval
from stac_fastapi.types.search import BaseSearchGetRequest

from catalog.search.errors import InvalidSearch
from catalog.search.items import MAX_LIMIT, Query, area_of_bbox, area_of_geometry
from catalog.search.keyset import read_token

_DEEPEST: Final = 64
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
class SearchParameters(BaseSearchGetRequest):
    """Parameters of a search by GET; bbox and datetime stay text here, so that errors can name them."""

    bbox: _BBOX = attr.ib(default=None)  # type: ignore[assignment]  # numbers there
    datetime: _DATETIME = attr.ib(default=None)


@attr.s
class ItemsParameters(ItemCollectionUri):
    """Parameters of one collection's items."""

    bbox: _BBOX = attr.ib(default=None)  # type: ignore[assignment]  # numbers there
    datetime: _DATETIME = attr.ib(default=None)


def read_query(
    collections: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    bbox: str | Sequence[float] | None = None,
    intersects: Any = None,
    datetime: str | None = None,
    limit: int | None = None,
    token: str | None = None,
) -> Query:
    """Read the parameters of a search, as text of a URL or as JSON of a body.

    Args:
        collections: Ids of collections.
        ids: Ids of items.
        bbox: Four or six numbers, or their text.
        intersects: A GeoJSON geometry or feature, or its text.
        datetime: A time or an interval.
        limit: Items per page; more than the server gives is no error but less.
        token: Of a page before.

    Returns:
        What is searched for.

    Raises:
        InvalidSearch: a parameter cannot be understood.
    """
    if bbox and intersects:
        raise InvalidSearch("intersects", "cannot be given together with bbox")
    area = None
    if bbox:
        area = area_of_bbox(_numbers(bbox))
    elif intersects:
        area = area_of_geometry(_geometry(intersects))
    start, end = _interval(datetime)
    size = min(10 if limit is None else limit, MAX_LIMIT)
    return Query(collections, ids, area, start, end, size, read_token(token) if token else None)


def _numbers(bbox: str | Sequence[float]) -> list[float]:
    try:
        return [float(value) for value in (bbox.split(",") if isinstance(bbox, str) else bbox)]
    except ValueError as error:
        raise InvalidSearch("bbox", "is not a list of numbers; expected west,south,east,north") from error


def _interval(text: str | None) -> tuple[dt.datetime | None, dt.datetime | None]:
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


def _utc(moment: dt.datetime | None) -> dt.datetime | None:
    return None if moment is None else moment.astimezone(dt.UTC)


def _geometry(given: Any) -> dict[str, Any]:
    if isinstance(given, str) and _depth(given) > _DEEPEST:
        raise InvalidSearch("intersects", f"is nested deeper than {_DEEPEST}")
    try:
        geometry = json.loads(given) if isinstance(given, str) else given
    except ValueError as error:
        raise InvalidSearch("intersects", "is not JSON") from error
    if isinstance(geometry, dict) and geometry.get("type") == "Feature":
        geometry = geometry.get("geometry")
    if not isinstance(geometry, dict):
        raise InvalidSearch("intersects", "is not a GeoJSON geometry")
    return geometry


def _depth(text: str) -> int:
    steps = (1 if character in "[{" else -1 for character in text if character in "[]{}")
    return max(accumulate(steps), default=0)
