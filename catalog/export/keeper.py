"""Keeps the static catalog: what changed since the last run is written anew, from one consistent state."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson
from sqlalchemy import and_, select

from catalog.changes import changed_since, newest_change
from catalog.export import documents
from catalog.export.geoparquet import require_tables, write_table
from catalog.hydration import hydrated
from catalog.items import MODEL_COLLECTION
from catalog.tables import CollectionRecord, ItemRecord, item_search

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from catalog.export.shelf import Shelf
    from catalog.session import Database

logger = logging.getLogger(__name__)

FORMAT: Final = 1
"""Raised when the layout changes: the next run then writes everything anew."""

_STATE: Final = "state.json"
_BATCH: Final = 200


@dataclass
class Exported:
    """What a run did, or would do."""

    cursor: int
    """The newest change that the export holds now."""
    full: bool
    """Everything was written, not only what changed."""
    items: int = 0
    tables: int = 0
    catalogs: int = 0
    """Documents above the items."""
    keys: list[str] = field(default_factory=list)
    """Of everything written, in order."""


@dataclass(frozen=True)
class _Place:
    """Where an item stands in the export."""

    collection: str
    id: str
    tile: str | None
    month: str


def export_catalog(
    database: Database,
    shelf: Shelf,
    *,
    identifier: str,
    title: str,
    description: str,
    store: str,
    full: bool = False,
    tables: bool = True,
    dry_run: bool = False,
    progress: Callable[[int, int], object] = lambda _done, _all: None,
) -> Exported:
    """Bring the static catalog up to date.

    Args:
        database: What is exported.
        shelf: Where it goes.
        identifier: Id of the root catalog.
        title: Its title.
        description: What it says of itself.
        store: Root of the products' store; files below it are named relative to items where the export is below it too.
        full: Write everything anew, whatever the last run wrote.
        tables: Also write stac-geoparquet.
        dry_run: Only say what would be written.
        progress: Told how many items are written, and of how many.

    Returns:
        What was, or would be, written.

    Raises:
        TablesUnavailable: tables are wanted and pyarrow is not installed.
    """
    if tables:
        require_tables()
    with database.read() as session:
        state = _state(shelf)
        newest = newest_change(session)
        known = state.get("cursor")
        everything = full or state.get("format") != FORMAT or state.get("tables") != tables
        everything = everything or not isinstance(known, int) or not 0 <= known <= newest
        done = Exported(newest, everything)
        if not everything and known == newest:
            return done
        wanted = None if everything else set(changed_since(session, int(known or 0)))
        work = _Run(session, shelf, done, store=store, dry_run=dry_run)
        work.write_items(wanted, progress)
        work.write_catalogs(identifier, title, description, tables=tables)
        work.write(_STATE, {"format": FORMAT, "tables": tables, "cursor": newest})
    return done


def _state(shelf: Shelf) -> dict[str, Any]:
    content = shelf.read(_STATE)
    try:
        state = json.loads(content) if content else {}
    except ValueError:
        return {}
    return state if isinstance(state, dict) else {}


class _Run:
    """One run in one session."""

    def __init__(self, session: Session, shelf: Shelf, done: Exported, *, store: str, dry_run: bool) -> None:
        self._session, self._shelf, self._done = session, shelf, done
        self._store, self._dry_run = store, dry_run
        self._places = self._all_places()
        self._touched: set[_Place] = set()

    def write(self, key: str, document: Any, content_type: str = documents.JSON) -> None:
        """Write one document."""
        self._done.keys.append(key)
        if not self._dry_run:
            content = document if isinstance(document, bytes) else orjson.dumps(document, option=orjson.OPT_INDENT_2)
            self._shelf.write(key, content, content_type)

    def write_items(self, wanted: set[tuple[str, str]] | None, progress: Callable[[int, int], object]) -> None:
        """Write the documents of some items (all where None), and of all models: there are few."""
        chosen = [
            place
            for place in self._places
            if wanted is None or place.collection == MODEL_COLLECTION or (place.collection, place.id) in wanted
        ]
        for start in range(0, len(chosen), _BATCH):
            part = chosen[start : start + _BATCH]
            for place, item in self._bodies(part):
                key = documents.item_key(place.collection, place.tile, place.id)
                document = documents.item_document(item, place.tile, self._shelf.url, self._store)
                self.write(key, document, documents.GEOJSON)
                self._done.items += 1
            progress(min(start + _BATCH, len(chosen)), len(chosen))
        self._touched = set(chosen)

    def write_catalogs(self, identifier: str, title: str, description: str, *, tables: bool) -> None:
        """Write what lies above the items: tables, tiles, collections, the root."""
        stored = {record.id: record.body for record in self._session.scalars(select(CollectionRecord))}
        for name, body in sorted(stored.items()):
            mine = [place for place in self._places if place.collection == name]
            with_tables = tables and name != MODEL_COLLECTION
            if with_tables:
                self._write_tables(body, mine)
            tiles = defaultdict(list)
            for place in mine:
                tiles[place.tile].append(place.id)
            alone = tiles.pop(None, [])
            for tile in sorted({place.tile for place in self._touched if place.collection == name and place.tile}):
                document = documents.tile_document(name, tile, tiles[tile])
                self._write_catalog(documents.tile_key(name, tile), document)
            months = {place.month for place in mine} if with_tables else set()
            document = documents.collection_document(body, (t for t in tiles if t), alone, months)
            self._write_catalog(documents.collection_key(name), document)
        self._write_catalog(documents.ROOT, documents.root_document(identifier, title, description, stored))

    def _write_catalog(self, key: str, document: Mapping[str, Any]) -> None:
        self.write(key, document)
        self._done.catalogs += 1

    def _write_tables(self, collection: Mapping[str, Any], mine: list[_Place]) -> None:
        """Write the tables of months in which something changed."""
        touched = {place.month for place in self._touched if place.collection == collection["id"]}
        by_month = defaultdict(list)
        for place in mine:
            by_month[place.month].append(place)
        for month in sorted(touched):
            key, inside = documents.table_key(collection["id"], month), by_month[month]
            if self._dry_run:
                self.write(key, b"")
            else:
                rows = [
                    documents.table_row(body)
                    for start in range(0, len(inside), _BATCH)
                    for _place, body in self._bodies(inside[start : start + _BATCH])
                ]
                self.write(key, write_table(rows, collection), documents.PARQUET)
            self._done.tables += 1

    def _all_places(self) -> list[_Place]:
        rows = item_search.c
        query = (
            select(rows.collection, rows.id, rows.grid_code, rows.datetime)
            .where(rows.until.is_(None))
            .order_by(rows.collection, rows.id)
        )
        return [
            _Place(collection, item, documents.tile_of(code), f"{moment:%Y-%m}")
            for collection, item, code, moment in self._session.execute(query).tuples()
        ]

    def _bodies(self, places: Iterable[_Place]) -> Iterator[tuple[_Place, dict[str, Any]]]:
        by_name = {(place.collection, place.id): place for place in places}
        ids = defaultdict(list)
        for collection, name in by_name:
            ids[collection].append(name)
        for collection, names in ids.items():
            mine: ColumnElement[bool] = and_(ItemRecord.collection == collection, ItemRecord.id.in_(names))
            bodies = self._session.scalars(select(ItemRecord.body).where(mine).order_by(ItemRecord.id)).all()
            for item in hydrated(self._session, bodies):
                yield by_name[collection, item["id"]], item
