"""Deprecation: a version stays readable and found, and says that it should not be used any more, and why."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from catalog.changes import ChangeKind, record_changes
from catalog.dialects import Queue, line_up
from catalog.tables import CollectionRecord, ItemRecord, ItemVersionRecord
from catalog.versions import REASON, now_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from catalog.session import Database

logger = logging.getLogger(__name__)

_LONGEST_REASON: Final = 500


class UnknownVersion(LookupError):
    """There is no such item, or it has no such version."""

    transient: ClassVar[bool] = False


class UnusableReason(ValueError):
    """A deprecation without a reason that people can read helps nobody."""

    transient: ClassVar[bool] = False


@dataclass(frozen=True)
class Deprecated:
    """What was, or would be, deprecated."""

    item_id: str
    version: int
    repeated: bool
    """It said so already, for the same reason: nothing was changed."""


def deprecate(
    database: Database,
    collection: str,
    item_id: str,
    *,
    reason: str,
    version: int | None = None,
    dry_run: bool = False,
) -> Deprecated:
    """Mark a version as deprecated: its body, what searches find, and the change feed, together or not at all.

    Args:
        database: Where.
        collection: The item's collection.
        item_id: The item.
        reason: Why, for consumers.
        version: Which version; the latest where None.
        dry_run: Only look.

    Returns:
        Which version it is.

    Raises:
        UnknownVersion: there is no such item or version.
        UnusableReason: the reason is empty, too long or holds control characters.
    """
    said = reason.strip()
    if not said or len(said) > _LONGEST_REASON or not said.isprintable():
        raise UnusableReason(f"the reason has {len(said)} characters; expected 1 to {_LONGEST_REASON}, all printable")
    with database.read() if dry_run else database.write() as session:
        if not dry_run:
            line_up(session, Queue.PUBLICATION)
        latest = session.get(ItemRecord, (collection, item_id))
        number = latest.version if latest is not None and version is None else version or 0
        record = session.get(ItemVersionRecord, (collection, item_id, number))
        if latest is None or record is None:
            raise UnknownVersion(
                f"collection {collection!r} has no item {item_id!r} with version {version or 'latest'}"
            )
        repeated = _says(record.body, said)
        if not (dry_run or repeated):
            record.body = _deprecated(record.body, said)
            if number == latest.version:
                latest.body = _deprecated(latest.body, said)
            holder = session.get_one(CollectionRecord, collection)
            holder.body = {**holder.body, "updated": now_text()}
            record_changes(session, [(ChangeKind.DEPRECATED, collection, item_id, number)])
            logger.info("deprecated %s version %d: %s", item_id, number, said)
    return Deprecated(item_id, number, repeated)


def _says(body: Mapping[str, Any], reason: str) -> bool:
    properties = body["properties"]
    return bool(properties.get("deprecated")) and properties.get(REASON) == reason


def _deprecated(body: Mapping[str, Any], reason: str) -> dict[str, Any]:
    said = {"deprecated": True, REASON: reason, "updated": now_text()}
    return {**body, "properties": {**body["properties"], **said}}
