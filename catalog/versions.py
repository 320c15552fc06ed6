"""The past of an item: every version that was ever published stays readable, linked to its neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select

from catalog.tables import ItemVersionRecord

if TYPE_CHECKING:
    from catalog.session import Database

_LAST: Final = 2**31 - 1
"""The largest number that a version can have in any database."""


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
        newest = session.scalar(
            select(func.max(ItemVersionRecord.version)).where(
                ItemVersionRecord.collection == collection, ItemVersionRecord.id == item_id
            )
        )
    links = list(record.body["links"])
    if newest is not None and newest > version:
        links.append(_link("successor-version", f"./{item_id}/versions/{version + 1}"))
        links.append(_link("latest-version", f"./{item_id}"))
    return {**record.body, "links": links}


def _link(rel: str, href: str) -> dict[str, str]:
    return {"rel": rel, "href": href, "type": "application/geo+json"}
