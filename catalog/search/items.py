"""Item search over the latest versions: a SQL prefilter on indexed columns, then the exact geometry test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import shapely
from shapely.geometry import box, shape
from sqlalchemy import and_, func, or_, select

from catalog.hydration import hydrated
from catalog.items import MODEL_COLLECTION
from catalog.search.errors import InvalidSearch
from catalog.search.keyset import Place
from catalog.tables import CollectionRecord, ItemRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from shapely.geometry.base import BaseGeometry
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from catalog.session import Database

MAX_LIMIT: Final = 1000
MAX_IDS: Final = 1000
MAX_VERTICES: Final = 10_000
_BATCH: Final = 200


@dataclass(frozen=True)
class Query:
    """What is searched for; None means "any"."""

    collections: Sequence[str] | None = None
    ids: Sequence[str] | None = None
    area: BaseGeometry | None = None
    """WGS 84; across the antimeridian as parts on both sides."""
    start: datetime | None = None
    end: datetime | None = None
    limit: int = 10
    after: Place | None = None


@dataclass(frozen=True)
class Page:
    """One page of results."""

    items: list[dict[str, Any]]
    """Whole, as they were published."""
    next: Place | None
    """Where the next page begins; None on the last."""
    matched: int | None
    """How many match in all; None where an exact count would mean testing every geometry."""


def area_of_bbox(bbox: Sequence[float]) -> BaseGeometry:
    """Return the area of a STAC bbox, which crosses the antimeridian when west is greater than east.

    Raises:
        InvalidSearch: it has not four or six numbers, or not in degrees.
    """
    if len(bbox) not in {4, 6}:
        raise InvalidSearch("bbox", f"has {len(bbox)} numbers; expected west,south,east,north")
    west, south, east, north = (bbox[0], bbox[1], *bbox[len(bbox) // 2 :][:2])
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise InvalidSearch("bbox", f"is {list(bbox)}; expected degrees with south not above north")
    if west > east:
        return box(west, south, 180, north) | box(-180, south, east, north)
    return box(west, south, east, north)


def area_of_geometry(geometry: dict[str, Any]) -> BaseGeometry:
    """Return the area of a GeoJSON geometry of any kind, repaired where its rings are untidy.

    Raises:
        InvalidSearch: it is no geometry, is empty, or has too many vertices.
    """
    try:
        area = shape(geometry)
        vertices, bounds = int(shapely.get_num_coordinates(area)), area.bounds
    except (shapely.errors.ShapelyError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise InvalidSearch("intersects", f"is not a GeoJSON geometry: {error}") from error
    if area.is_empty or not all(map(_finite, bounds)):
        raise InvalidSearch("intersects", "is an empty geometry")
    if vertices > MAX_VERTICES:
        raise InvalidSearch("intersects", f"has {vertices} vertices; at most {MAX_VERTICES} are accepted")
    return shapely.make_valid(area)


def _finite(value: float) -> bool:
    return abs(value) <= 1e6


def search_items(database: Database, query: Query) -> Page:
    """Search the latest versions of items, newest first.

    Args:
        database: Where.
        query: What for.

    Returns:
        One page; the next begins behind its last item, whatever is published meanwhile.

    Raises:
        InvalidSearch: the limit or the number of ids is out of bounds.
    """
    if not 1 <= query.limit <= MAX_LIMIT:
        raise InvalidSearch("limit", f"is {query.limit}; expected 1 to {MAX_LIMIT}")
    if query.ids and len(query.ids) > MAX_IDS:
        raise InvalidSearch("ids", f"has {len(query.ids)} ids; at most {MAX_IDS} are accepted")
    with database.read() as session:
        conditions = _conditions(query)
        found: list[ItemRecord] = []
        for record in _matching(session, query, conditions):
            found.append(record)
            if len(found) > query.limit:
                break
        matched = None
        if query.area is None:
            matched = session.scalar(select(func.count()).select_from(ItemRecord).where(*conditions))
        page, more = found[: query.limit], len(found) > query.limit
        items = hydrated(session, [record.body for record in page])
    last = Place(page[-1].datetime, page[-1].collection, page[-1].id) if more else None
    return Page(items, last, matched)


def collections(database: Database) -> dict[str, dict[str, Any]]:
    """Return all collections by id, as stored."""
    with database.read() as session:
        return {
            record.id: record.body for record in session.scalars(select(CollectionRecord).order_by(CollectionRecord.id))
        }


def _matching(session: Session, query: Query, conditions: list[ColumnElement[bool]]) -> Iterator[ItemRecord]:
    after = query.after
    if query.area is not None:
        shapely.prepare(query.area)
    while True:
        batch = (
            select(ItemRecord)
            .where(*conditions)
            .order_by(ItemRecord.datetime.desc(), ItemRecord.collection, ItemRecord.id)
        )
        if after is not None:
            batch = batch.where(_behind(after))
        records = session.scalars(batch.limit(min(_BATCH, query.limit + 1))).all()
        for record in records:
            if query.area is None or query.area.intersects(shape(record.body["geometry"])):
                yield record
        if len(records) < min(_BATCH, query.limit + 1):
            return
        after = Place(records[-1].datetime, records[-1].collection, records[-1].id)


def _behind(place: Place) -> ColumnElement[bool]:
    """Later in the order than a place; written out, for the first column descends."""
    return or_(
        ItemRecord.datetime < place.datetime,
        and_(ItemRecord.datetime == place.datetime, ItemRecord.collection > place.collection),
        and_(
            ItemRecord.datetime == place.datetime,
            ItemRecord.collection == place.collection,
            ItemRecord.id > place.id,
        ),
    )


def _conditions(query: Query) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if query.collections is not None:
        conditions.append(ItemRecord.collection.in_(_possible(query.collections)))
    elif query.ids is None:
        # The models' items cover the whole world; who looks for products does not mean them.
        conditions.append(ItemRecord.collection != MODEL_COLLECTION)
    if query.ids is not None:
        conditions.append(ItemRecord.id.in_(_possible(query.ids)))
    if query.start is not None:
        conditions.append(ItemRecord.datetime >= query.start)
    if query.end is not None:
        conditions.append(ItemRecord.datetime <= query.end)
    if query.area is not None:
        conditions.append(or_(*(_near(part) for part in getattr(query.area, "geoms", [query.area]))))
    return conditions


def _possible(ids: Sequence[str]) -> list[str]:
    """Leave out what no id can be and no database takes: text with NUL or with half a character."""
    return [text for text in ids if "\0" not in text and text.isprintable()]


def _near(part: BaseGeometry) -> ColumnElement[bool]:
    """Boxes that may meet; an item's box with west beyond east reaches across the antimeridian."""
    west, south, east, north = part.bounds
    across = ItemRecord.west > ItemRecord.east
    along = or_(
        and_(~across, ItemRecord.west <= east, ItemRecord.east >= west),
        and_(across, or_(ItemRecord.west <= east, ItemRecord.east >= west)),
    )
    return and_(along, ItemRecord.south <= north, ItemRecord.north >= south)
