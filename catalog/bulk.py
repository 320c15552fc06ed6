"""Registering many published products at once: to rebuild a catalog from its items, and to measure large ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import ARRAY, bindparam, func, insert, inspect, select

from catalog.changes import ChangeKind, record_changes
from catalog.coverage import covered
from catalog.hydration import SHARED, dehydrate, store_tables
from catalog.items import PREFIX
from catalog.states import SceneState
from catalog.tables import (
    AssetRecord,
    CollectionRecord,
    ItemRecord,
    ItemVersionRecord,
    SceneRecord,
    item_search,
    search_row,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    from catalog.session import Database


def register_products(database: Database, items: Sequence[Mapping[str, Any]]) -> None:
    """Write first versions of items with everything that publishing writes, together or not at all.

    The items' collection is there. `complete_collection` follows after the last of several calls.

    Args:
        database: Where.
        items: Whole items of one collection, each of an acquisition and region that the ledger does not know.

    Raises:
        IntegrityError: one of them is there already.
    """
    now = datetime.now(UTC)
    with database.write() as session:
        record_changes(session, [(ChangeKind.PUBLISHED, item["collection"], item["id"], 1) for item in items])
        scenes = _scenes(session, items, now)
        known: dict[bytes, tuple[dict[str, Any], dict[str, list[Any]]]] = {}
        stored = [_dehydrated(item, known) for item in items]
        store_tables(session, {digest: body for _, tables in known.values() for digest, body in tables.items()})
        rows = [_row(body, scene) for body, scene in zip(stored, scenes, strict=True)]
        session.execute(insert(ItemRecord), rows)
        session.execute(insert(item_search), [search_row(row["body"]) for row in rows])
        session.execute(insert(ItemVersionRecord), [_version(row, now) for row in rows])
        _insert_assets(session, [asset for item in items for asset in _assets(item)])


def complete_collection(database: Database, collection_id: str) -> None:
    """Let a collection cover all of its items."""
    with database.write() as session:
        record = session.get_one(CollectionRecord, collection_id)
        record.body = covered(session, record.body)


def _dehydrated(
    item: Mapping[str, Any], known: dict[bytes, tuple[dict[str, Any], dict[str, list[Any]]]]
) -> dict[str, Any]:
    """Take the shared lists out of an item; those of the same asset of another item are not hashed again."""
    assets = {}
    for key, asset in item["assets"].items():
        shared = {name: asset[name] for name in SHARED if name in asset}
        text = orjson.dumps(shared)
        if text not in known:
            slim, tables = dehydrate({"assets": {key: shared}})
            known[text] = slim["assets"][key], tables
        assets[key] = {**asset, **known[text][0]}
    return {**item, "assets": assets}


def _scenes(session: Session, items: Sequence[Mapping[str, Any]], now: datetime) -> Sequence[int]:
    """Write what the ledger knows of products that were made elsewhere or before; return the scenes' numbers."""
    rows = [_scene(item, now) for item in items]
    return session.scalars(insert(SceneRecord).returning(SceneRecord.id, sort_by_parameter_order=True), rows).all()


def _scene(item: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    said = item["properties"]
    return {
        "acquisition": said[PREFIX + "acquisition"],
        "region": said[PREFIX + "region"],
        "baseline": said[PREFIX + "source_baseline"],
        "generated_key": "",
        "source": said[PREFIX + "source"],
        "source_item_id": said[PREFIX + "source_item"],
        "source_item": {},
        "platform": said["platform"],
        "tile": said["grid:code"].removeprefix("MGRS-"),
        "sensed": datetime.fromisoformat(said["datetime"]),
        "state": SceneState.PUBLISHED,
        "attempts": 0,
        "next_attempt": 0.0,
        "product_revision": said[PREFIX + "product_revision"],
        "item_id": item["id"],
        "discovered_at": now,
        "changed_at": now,
    }


def _row(body: Mapping[str, Any], scene: int) -> dict[str, Any]:
    west, south, east, north = body["bbox"]
    return {
        "collection": body["collection"],
        "id": body["id"],
        "datetime": datetime.fromisoformat(body["properties"]["datetime"]),
        "west": west,
        "south": south,
        "east": east,
        "north": north,
        "version": 1,
        "product_revision": body["properties"][PREFIX + "product_revision"],
        "scene_id": scene,
        "body": body,
    }


def _version(row: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    kept = ("collection", "id", "version", "product_revision", "scene_id", "body")
    return {name: row[name] for name in kept} | {"published_at": now}


def _insert_assets(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the files of many items; by far the most rows, which PostgreSQL takes as one array for each column."""
    if session.get_bind().dialect.name != "postgresql":
        session.execute(insert(AssetRecord), rows)
        return
    columns = inspect(AssetRecord).columns
    arrays = [
        func.unnest(bindparam(None, [row[column.name] for row in rows], type_=ARRAY(column.type))) for column in columns
    ]
    session.execute(insert(AssetRecord).from_select([column.name for column in columns], select(*arrays)))


def _assets(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"href": asset["href"], "collection": item["collection"], "item_id": item["id"], "version": 1}
        for asset in item["assets"].values()
    ]
