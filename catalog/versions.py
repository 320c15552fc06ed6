"""The versions of an item: searches find the latest, every earlier one stays readable and linked to its neighbours."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from catalog.hydration import dehydrate, hydrated, store_tables
from catalog.items import PREFIX
from catalog.tables import AssetRecord, ItemRecord, ItemVersionRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from catalog.session import Database

MAX_VERSIONS: Final = 100
"""How many versions one look at an item's history gives at most."""

REASON: Final = PREFIX + "deprecation_reason"
"""Property that says why a version is deprecated."""

_LAST: Final = 2**31 - 1
"""The largest number that a version can have in any database."""

_NAVIGATION: Final = frozenset({"predecessor-version", "successor-version", "latest-version"})


@dataclass(frozen=True)
class Version:
    """One version of an item."""

    number: int
    """Counted from one."""
    body: dict[str, Any]
    """The item as it was published, with its band lists; links between versions are relative to the item's address."""


@dataclass(frozen=True)
class VersionPage:
    """Some versions of an item, newest first."""

    versions: Sequence[Version]
    next: int | None
    """The next page begins below this version; None on the last."""
    matched: int
    """How many versions there are."""


@dataclass(frozen=True)
class Latest:
    """What searches find of an item."""

    version: int
    body: dict[str, Any]
    """As stored, without band lists."""


def item_version(database: Database, collection: str, item_id: str, version: int) -> dict[str, Any] | None:
    """Return one version of an item, or None.

    Args:
        database: Where.
        collection: The item's collection.
        item_id: The item.
        version: Counted from one.

    Returns:
        The version as it was published, with links to its neighbours and to the latest, relative to the item's own
        address; a version that was replaced says that it is deprecated, and why.
    """
    if not (item_id.isprintable() and collection.isprintable() and 0 < version <= _LAST):
        return None
    with database.read() as session:
        record = session.get(ItemVersionRecord, (collection, item_id, version))
        if record is None:
            return None
        (body,) = hydrated(session, [record.body])
        return _told(body, version, version_numbers(session, collection, item_id))


def item_versions(
    database: Database, collection: str, item_id: str, *, limit: int = 10, before: int | None = None
) -> VersionPage | None:
    """Return the versions of an item, newest first, as `item_version` does; None where there is no such item.

    Args:
        database: Where.
        collection: The item's collection.
        item_id: The item.
        limit: At most so many, 1 to `MAX_VERSIONS`.
        before: Only versions below this number; all where None.
    """
    if not (item_id.isprintable() and collection.isprintable()):
        return None
    with database.read() as session:
        numbers = version_numbers(session, collection, item_id)
        if not numbers:
            return None
        below = [number for number in reversed(numbers) if before is None or number < before]
        wanted = below[:limit]
        query = select(ItemVersionRecord).where(*_of(collection, item_id), ItemVersionRecord.version.in_(wanted))
        records = sorted(session.scalars(query), key=lambda record: record.version, reverse=True)
        bodies = hydrated(session, [record.body for record in records])
    versions = tuple(
        Version(record.version, _told(body, record.version, numbers))
        for record, body in zip(records, bodies, strict=True)
    )
    return VersionPage(versions, wanted[-1] if len(wanted) < len(below) else None, len(numbers))


def version_numbers(session: Session, collection: str, item_id: str) -> list[int]:
    """Return the numbers of the versions that an item still has, oldest first."""
    query = select(ItemVersionRecord.version).where(*_of(collection, item_id)).order_by(ItemVersionRecord.version)
    return list(session.scalars(query))


def latest_version(session: Session, collection: str, item_id: str) -> Latest | None:
    """Return what searches find of an item, or None."""
    record = session.get(ItemRecord, (collection, item_id), populate_existing=True)
    return None if record is None else Latest(record.version, record.body)


def visible_version(session: Session, item: Mapping[str, Any], revision: str, scene_id: int) -> int | None:
    """Return the version as which this very attempt was published before; None when it was not."""
    query = select(ItemVersionRecord).where(
        *_of(item["collection"], item["id"]), ItemVersionRecord.product_revision == revision
    )
    record = session.scalars(query).one_or_none()
    if record is None or record.scene_id != scene_id:
        return None
    files = {asset["href"] for asset in item["assets"].values()}
    return record.version if {asset["href"] for asset in record.body["assets"].values()} == files else None


def versioned(item: Mapping[str, Any], version: int) -> dict[str, Any]:
    """Return an item with its version and the link to the one before."""
    properties = {**item["properties"], "version": str(version), "updated": now_text()}
    return linked_to({**item, "properties": properties}, version - 1 or None)


def linked_to(item: Mapping[str, Any], predecessor: int | None) -> dict[str, Any]:
    """Return an item as stored, with a link to the version before, or without one."""
    links = [link for link in item["links"] if link["rel"] not in _NAVIGATION]
    if predecessor is not None:
        links.append(_link("predecessor-version", f"./{item['id']}/versions/{predecessor}"))
    return {**item, "links": links}


def now_text() -> str:
    """Return the present time as items write it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def store_version(session: Session, item: Mapping[str, Any], version: int, revision: str, scene_id: int) -> None:
    """Write a version with the addresses of its files, and make it the latest."""
    body = store_latest(session, item, version, revision, scene_id)
    session.add(
        ItemVersionRecord(
            collection=item["collection"],
            id=item["id"],
            version=version,
            product_revision=revision,
            scene_id=scene_id,
            published_at=datetime.now(UTC),
            body=body,
        )
    )
    session.add_all(
        AssetRecord(href=asset["href"], collection=item["collection"], item_id=item["id"], version=version)
        for asset in item["assets"].values()
    )


def store_latest(
    session: Session, item: Mapping[str, Any], version: int, revision: str, scene_id: int | None
) -> dict[str, Any]:
    """Write what searches find of an item, in the place of what they found before.

    Returns:
        The body as stored.

    Raises:
        ValueError: a number of the item has no place in JSON.
    """
    before = session.get(ItemRecord, (item["collection"], item["id"]))
    if before is not None:
        session.delete(before)
        session.flush()
    body, tables = dehydrate(json.loads(json.dumps(item, allow_nan=False)))
    store_tables(session, tables)
    west, south, east, north = item["bbox"]
    session.add(
        ItemRecord(
            collection=item["collection"],
            id=item["id"],
            datetime=datetime.fromisoformat(item["properties"]["datetime"]),
            west=west,
            south=south,
            east=east,
            north=north,
            version=version,
            product_revision=revision,
            scene_id=scene_id,
            body=body,
        )
    )
    return body


def _of(collection: str, item_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return ItemVersionRecord.collection == collection, ItemVersionRecord.id == item_id


def _told(body: Mapping[str, Any], version: int, numbers: Sequence[int]) -> dict[str, Any]:
    """Return a version with what lies before and behind it; one that was replaced is deprecated."""
    older, newer = [n for n in numbers if n < version], [n for n in numbers if n > version]
    item = linked_to(body, older[-1] if older else None)
    if newer:
        item["links"].append(_link("successor-version", f"./{item['id']}/versions/{newer[0]}"))
        item["properties"] = {REASON: f"replaced by version {newer[0]}", **item["properties"], "deprecated": True}
    item["links"].append(_link("latest-version", f"./{item['id']}"))
    return item


def _link(rel: str, href: str) -> dict[str, str]:
    return {"rel": rel, "href": href, "type": "application/geo+json"}
