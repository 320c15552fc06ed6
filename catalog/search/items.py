"""Item search over what searches saw first: SQL on narrow rows narrows and sorts, shapely settles, bodies come last."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson
import shapely
from sqlalchemy import (
    ARRAY,
    Text,
    and_,
    any_,
    cast,
    column,
    func,
    literal,
    or_,
    select,
    table,
    true,
)

from catalog.hydration import hydrated
from catalog.items import MODEL_COLLECTION
from catalog.search.areas import windows
from catalog.search.errors import InvalidSearch, SearchTooSlow
from catalog.search.fields import ALL, Fields
from catalog.search.keyset import Order, Place, order_by
from catalog.search.predicates import (
    Condition,
    Predicate,
    Shape,
    at_most,
    conditions,
    decide,
    every,
    is_exact,
    wanted_areas,
)
from catalog.search.texts import SharedLists, StoredItem, answered, left_out
from catalog.tables import ItemRecord, item_search

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from shapely.geometry.base import BaseGeometry
    from sqlalchemy import CTE, ColumnElement, FromClause, Row, Select
    from sqlalchemy.orm import Session
    from sqlalchemy.sql.base import ReadOnlyColumnCollection

    from catalog.session import Database

MAX_LIMIT: Final = 1000
MAX_IDS: Final = 1000
COUNTED: Final = 2_000
"""How many matches are counted; of more only the page is told."""

_FEW: Final = 20_000
"""Up to so many rows near an area are looked up by the spatial index and then sorted; where there are more, the search
walks through the sorted rows until it has a page."""
_FIRST_NEAR: Final = 500
"""So many candidates near an area are settled at first, at least."""
_BATCH: Final = 2_000
_TURN: Final = 360.0
_QUOTED: Final = re.compile(r'["\\]')
_BEHIND_BACKSLASH: Final = r"\\\g<0>"
_BOXES: Final = table("item_boxes", *(column(name) for name in ("number", "west", "east", "south", "north")))
"""SQLite's R*Tree of `item_search`."""
_SQLITE_ROWS: Final = table(item_search.name, *(column(each.name, each.type) for each in item_search.c), schema="main")
"""`item_search` where its bare name is that of some of its rows."""


@dataclass(frozen=True)
class Query:
    """What is searched for; None means "any"."""

    collections: Sequence[str] | None = None
    ids: Sequence[str] | None = None
    area: BaseGeometry | None = None
    """WGS 84; across the antimeridian as parts on both sides."""
    start: datetime | None = None
    end: datetime | None = None
    where: Predicate | None = None
    order: Order = field(default_factory=order_by)
    fields: Fields = ALL
    limit: int = 10
    after: Place | None = None


@dataclass(frozen=True)
class Page:
    """One page of results."""

    items: list[dict[str, Any]]
    """As they are now, with the fields that were asked for."""
    next: Place | None
    """Where the next page begins; None on the last."""
    matched: int | None
    """How many match in all; None where there are very many, or where counting would mean testing every geometry."""


def search_items(database: Database, query: Query, *, seconds: float | None = None) -> Page:
    """Search the latest versions of items.

    Args:
        database: Where.
        query: What for.
        seconds: How long it may take.

    Returns:
        One page; the next begins behind its last item and sees what the first page saw, whatever is published
        meanwhile.

    Raises:
        InvalidSearch: the limit or the number of ids is out of bounds.
        SearchTooSlow: it took longer than it may.
    """
    _check(query)
    with database.read(seconds=seconds) as session:
        found = _Search(session, query, seconds).found()
        kept = [query.fields.of(orjson.loads(item.text)) for item in _stored(session, found.names)]
        items = hydrated(session, kept) if any("assets" in item for item in kept) else kept
        return Page(items, found.next, found.matched)


def search_texts(
    database: Database,
    query: Query,
    lists: SharedLists,
    linked: Callable[[dict[str, Any]], list[dict[str, Any]]],
    *,
    seconds: float | None = None,
) -> TextPage | None:
    """Search as `search_items` does, for an answer over HTTP.

    Args:
        database: Where.
        query: What for.
        lists: Shared lists that are remembered.
        linked: Makes the links of an item with ``collection``, ``id`` and its stored ``links``.
        seconds: How long it may take.

    Returns:
        A page of items as JSON; None where the query asks for fields that only `search_items` can pick.
    """
    without = left_out(query.fields)
    if without is None:
        return None
    _check(query)
    with database.read(seconds=seconds) as session:
        found = _Search(session, query, seconds).found()
        texts = answered(session, _stored(session, found.names), without, lists, linked)
        return TextPage(texts, found.next, found.matched)


def _check(query: Query) -> None:
    if not 1 <= query.limit <= MAX_LIMIT:
        raise InvalidSearch("limit", f"is {query.limit}; expected 1 to {MAX_LIMIT}")
    if query.ids and len(query.ids) > MAX_IDS:
        raise InvalidSearch("ids", f"has {len(query.ids)} ids; at most {MAX_IDS} are accepted")


def _stored(session: Session, names: Sequence[tuple[str, str]]) -> list[StoredItem]:
    """Read what items say now; one that was removed since the search began is left out."""
    found: dict[tuple[str, str], str] = {}
    for collection in {collection for collection, _ in names}:
        # By their own key: the texts of `item_search` sort otherwise than those of `items`, so a join finds no index.
        ids = [item for its, item in names if its == collection]
        query = select(ItemRecord.id, cast(ItemRecord.body, Text)).where(
            ItemRecord.collection == collection, _one_of(session, ItemRecord.id, ids)
        )
        found |= {(collection, item): text for item, text in session.execute(query)}
    return [StoredItem(*name, found[name]) for name in names if name in found]


def _one_of(session: Session, column: ColumnElement[Any] | Any, values: Sequence[Any]) -> ColumnElement[bool]:
    """Return in SQL whether a column has one of many values, as one text: hundreds of parameters are slow to send."""
    if session.get_bind().dialect.name == "sqlite":
        each = func.json_each(json.dumps(values)).table_valued("value")
        return column.in_(select(each.c.value))
    quoted = (f'"{_QUOTED.sub(_BEHIND_BACKSLASH, v)}"' if isinstance(v, str) else str(v) for v in values)
    found: ColumnElement[bool] = column == any_(cast(literal("{" + ",".join(quoted) + "}", Text()), ARRAY(column.type)))
    return found


@dataclass(frozen=True)
class TextPage:
    """One page of results for an answer over HTTP."""

    items: list[str]
    """Each as JSON, with links."""
    next: Place | None
    matched: int | None


@dataclass(frozen=True)
class _Found:
    """Which items a page has."""

    names: list[tuple[str, str]]
    """Collection and id of each."""
    next: Place | None
    matched: int | None


class _Search:
    """One page of one search, in one session."""

    def __init__(self, session: Session, query: Query, seconds: float | None) -> None:
        self._session = session
        self._query = query
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._seconds = seconds
        self._predicate = _predicate(query)
        self._near = self._nearby()

    def found(self) -> _Found:
        """Find the page's rows."""
        query, found = self._query, []
        for row in self._rows():
            found.append(row)
            if len(found) > query.limit:
                break
        rows, more = found[: query.limit], len(found) > query.limit
        seen, matched = self._began(len(found), more=more)
        last = None
        if more:
            last = Place(seen, tuple(rows[-1][1 : 1 + len(query.order.keys)]), matched)
        return _Found([(row.collection, row.id) for row in rows], last, matched)

    def _rows(self) -> Iterator[Row[Any]]:
        """Give every match in its order: first those that have what they are sorted by, then those that lack it."""
        first, after = self._query.order.keys[0].column, self._query.after
        if not self._query.order.first_may_miss:
            yield from self._phase(true(), after)
            return
        if after is None or after.values[0] is not None:
            yield from self._phase(first.is_not(None), after)
            after = None
        yield from self._phase(first.is_(None), after)

    def _phase(self, phase: ColumnElement[bool], after: Place | None) -> Iterator[Row[Any]]:
        order, exact = self._query.order, is_exact(self._predicate)
        values = None if after is None else after.values
        size = self._query.limit + 1
        if not exact and self._near is not None:
            size = max(4 * size, _FIRST_NEAR)  # each batch looks up the area again
        while True:
            rows = self._batch(phase, values, size)
            yield from rows if exact else self._settled(rows)
            if len(rows) < size:
                return
            values = tuple(rows[-1][1 : 1 + len(order.keys)])
            size = min(2 * size, _BATCH) if self._near is None else _FEW
            if self._deadline is not None and time.monotonic() > self._deadline:
                raise SearchTooSlow(self._seconds)

    def _batch(self, phase: ColumnElement[bool], values: tuple[Any, ...] | None, size: int) -> Sequence[Row[Any]]:
        """Return the next candidates in order."""
        order = self._query.order
        wanted = self._candidates(phase).order_by(*order.clauses()).limit(size)
        if values is not None:
            wanted = wanted.where(order.behind(values))
        if self._near is not None:
            # The rows near the area, taken once, stand in for the table under its own name.
            number = select(func.count()).select_from(item_search).scalar_subquery()
            rows = self._session.execute(wanted.add_columns(number.label("near")).add_cte(self._near)).all()
            if (rows[0].near if rows else self._session.scalar(select(number).add_cte(self._near)) or 0) <= _FEW:
                return rows
            self._near = None
        return self._session.execute(wanted).all()

    def _candidates(self, phase: ColumnElement[bool]) -> Select[Any]:
        rows, keys = item_search.c, [key.column for key in self._query.order.keys]
        columns = [rows.number, *(each.label(f"key_{place}") for place, each in enumerate(keys))]
        if not is_exact(self._predicate):
            told = conditions(self._predicate)
            columns += [rows.footprint, *(each.label(f"told_{place}") for place, each in enumerate(told))]
        return select(*columns, rows.collection, rows.id).where(phase, *self._narrowed())

    def _narrowed(self) -> list[ColumnElement[bool]]:
        return [self._visible(), at_most(self._predicate)]

    def _settled(self, rows: Sequence[Row[Any]]) -> list[Row[Any]]:
        place = 1 + len(self._query.order.keys)
        footprints = shapely.from_wkb(np.array([row[place] for row in rows], dtype=object))
        told = [[row[each] for row in rows] for each in range(place + 1, place + 1 + len(conditions(self._predicate)))]
        return [row for row, holds in zip(rows, decide(self._predicate, footprints, told), strict=True) if holds]

    def _visible(self) -> ColumnElement[bool]:
        rows, after = item_search.c, self._query.after
        if after is None:
            return rows.until.is_(None)
        return and_(rows.number <= after.seen, or_(rows.until.is_(None), rows.until > after.seen))

    def _began(self, found: int, *, more: bool) -> tuple[int, int | None]:
        """Return the newest row that the search sees on all its pages, and how many match in all where it is told."""
        after = self._query.after
        if after is not None:
            return after.seen, after.matched
        if not more:
            return 0, found  # there is no page that would see anything
        newest = select(func.max(item_search.c.number)).scalar_subquery()
        if not is_exact(self._predicate):
            return self._session.scalar(select(newest)) or 0, None
        some = select(literal(1)).select_from(item_search).where(*self._narrowed()).limit(COUNTED + 1).subquery()
        number = select(func.count()).select_from(some).scalar_subquery()
        seen, matched = self._session.execute(select(newest, number)).one()
        return seen, matched if matched <= COUNTED else None

    def _nearby(self) -> CTE | None:
        """Return the rows that the spatial index finds near the smallest area that every match must meet.

        None: no area. One row above `_FEW`: there are more.
        """
        areas = wanted_areas(self._predicate)
        if not areas:
            return None
        area = min(areas, key=lambda each: sum((e - w) * (n - s) for w, s, e, n in windows(each)))
        rows: FromClause = _SQLITE_ROWS if self._session.get_bind().dialect.name == "sqlite" else item_search
        return select(rows).where(self._hits(rows.c, area)).limit(_FEW + 1).cte(item_search.name)

    def _hits(self, rows: ReadOnlyColumnCollection[str, Any], area: BaseGeometry) -> ColumnElement[bool]:
        # Boxes across the antimeridian end east of 180 degrees: they are asked for once more, a turn further east.
        turned = [(w + turn, s, e + turn, n) for w, s, e, n in windows(area) for turn in (0.0, _TURN)]
        if self._session.get_bind().dialect.name == "sqlite":
            boxes = _BOXES.c
            near = (and_(boxes.west <= e, boxes.east >= w, boxes.south <= n, boxes.north >= s) for w, s, e, n in turned)
            inside: ColumnElement[bool] = rows.number.in_(select(boxes.number).where(or_(*near)))
            return inside
        box = func.box(func.point(rows.east, rows.north), func.point(rows.west, rows.south))
        return or_(
            *(box.op("&&", is_comparison=True)(func.box(func.point(e, n), func.point(w, s))) for w, s, e, n in turned)
        )


def _predicate(query: Query) -> Predicate:
    parts: list[Predicate] = [Condition(and_(true(), *_conditions(query)))]
    if query.area is not None:
        parts.append(Shape("s_intersects", query.area))
    if query.where is not None:
        parts.append(query.where)
    return every(parts)


def _conditions(query: Query) -> list[ColumnElement[bool]]:
    rows = item_search.c
    found: list[ColumnElement[bool]] = []
    if query.collections is not None:
        found.append(rows.collection.in_(_possible(query.collections)))
    elif query.ids is None:
        # The models' items cover the whole world; who looks for products does not mean them.
        found.append(rows.collection != MODEL_COLLECTION)
    if query.ids is not None:
        found.append(rows.id.in_(_possible(query.ids)))
    if query.start is not None:
        found.append(rows.datetime >= query.start)
    if query.end is not None:
        found.append(rows.datetime <= query.end)
    return found


def _possible(ids: Sequence[str]) -> list[str]:
    """Leave out what no id can be and no database takes: text with NUL or with half a character."""
    return [text for text in ids if "\0" not in text and text.isprintable()]
