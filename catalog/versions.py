"""The versions of an item: searches find the latest, every earlier one stays readable and linked to its neighbours."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final

from sqlalchemy import func, select

from catalog.hydration import dehydrate, hydrated, store_tables
from catalog.tables import AssetRecord, ItemRecord, ItemVersionRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from catalog.session import Database

_LAST: Final = 2**31 - 1
"""The largest number that a version can have in any database."""


class RevisionPublished(RuntimeError):
    """Another attempt published this very product before; this one's files are not needed."""

    transient: ClassVar[bool] = False


def item_version(database: Database, collection: str, item_id: str, version: int) -> dict[str, Any] | None:
    """Return one version of an item, or None.

    Args:
        database: Where.
        collection: The item's collection.
        item_id: The item.
        version: Counted from one.

    Returns:
        The version as it was published, with links to the one before, and where there are newer ones to the next and
        to the latest; relative to the item's own address.
    """
    if not (item_id.isprintable() and 0 < version <= _LAST):
        return None
    with database.read() as session:
        record = session.get(ItemVersionRecord, (collection, item_id, version))
        if record is None:
            return None
        (body,) = hydrated(session, [record.body])
        newest = _newest(session, collection, item_id)
    links = list(body["links"])
    if newest > version:
        links.append(_link("successor-version", f"./{item_id}/versions/{version + 1}"))
        links.append(_link("latest-version", f"./{item_id}"))
    return {**body, "links": links}


def visible_version(session: Session, item: Mapping[str, Any], revision: str, scene_id: int) -> int | None:
    """Return the version as which this very attempt was published before; None when it was not."""
    record = _of_revision(session, item, revision)
    if record is None or record.scene_id != scene_id:
        return None
    files = {asset["href"] for asset in item["assets"].values()}
    return record.version if {asset["href"] for asset in record.body["assets"].values()} == files else None


def next_version(session: Session, item: Mapping[str, Any], revision: str) -> int:
    """Return the version that a publication gets; raises `RevisionPublished`."""
    before = _of_revision(session, item, revision)
    if before is not None:
        raise RevisionPublished(f"product revision {revision} of {item['id']} is version {before.version} already")
    return _newest(session, item["collection"], item["id"]) + 1


def versioned(item: Mapping[str, Any], version: int) -> dict[str, Any]:
    """Return an item with its version and the link to the one before."""
    links = [link for link in item["links"] if link["rel"] != "predecessor-version"]
    if version > 1:
        links.append(_link("predecessor-version", f"./{item['id']}/versions/{version - 1}"))
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    properties = {**item["properties"], "version": str(version), "updated": now}
    return {**item, "properties": properties, "links": links}


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


def _of_revision(session: Session, item: Mapping[str, Any], revision: str) -> ItemVersionRecord | None:
    query = select(ItemVersionRecord).where(
        ItemVersionRecord.collection == item["collection"],
        ItemVersionRecord.id == item["id"],
        ItemVersionRecord.product_revision == revision,
    )
    return session.scalars(query).one_or_none()


def _newest(session: Session, collection: str, item_id: str) -> int:
    query = select(func.max(ItemVersionRecord.version)).where(
        ItemVersionRecord.collection == collection, ItemVersionRecord.id == item_id
    )
    return session.scalar(query) or 0


def _link(rel: str, href: str) -> dict[str, str]:
    return {"rel": rel, "href": href, "type": "application/geo+json"}
