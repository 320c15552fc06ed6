"""Retention: versions that were replaced long ago go, with their files; the latest never does.

The catalog forgets a version first, with a tombstone in the change feed, and only then its files are removed: a crash
in between leaves files that nobody names, which housekeeping finds, and never a version without its files.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from catalog.changes import ChangeKind, record_changes
from catalog.dialects import Queue, line_up
from catalog.tables import AssetRecord, ItemRecord, ItemVersionRecord, UtcDateTime
from catalog.versions import linked_to

if TYPE_CHECKING:
    from datetime import timedelta

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from catalog.session import Database

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Expired:
    """A version whose time is over."""

    collection: str
    item_id: str
    version: int
    replaced_at: datetime
    """When a newer version took its place."""
    hrefs: tuple[str, ...]
    """Its files."""


def expired_versions(
    database: Database, *, older_than: timedelta, keep: int = 0, limit: int = 1000, now: datetime | None = None
) -> list[Expired]:
    """List versions that were replaced longer ago than some time, oldest first.

    Args:
        database: Where.
        older_than: How long a version stays after its replacement.
        keep: So many versions before the latest stay however old they are.
        limit: At most so many.
        now: The present time; the clock's where None.
    """
    line = (now or datetime.now(UTC)) - older_than
    rows = ItemVersionRecord
    item = (rows.collection, rows.id)
    ranked = select(
        *item,
        rows.version,
        func.lead(rows.published_at, type_=UtcDateTime())
        .over(partition_by=item, order_by=rows.version)
        .label("replaced_at"),
        func.row_number().over(partition_by=item, order_by=rows.version.desc()).label("behind"),
    ).subquery()
    columns = ranked.c
    query = (
        select(columns.collection, columns.id, columns.version, columns.replaced_at)
        .where(columns.behind > keep + 1, columns.replaced_at <= line)
        .order_by(columns.replaced_at, columns.collection, columns.id, columns.version)
        .limit(limit)
    )
    with database.read() as session:
        return [
            Expired(collection, item_id, version, replaced_at, _files(session, collection, item_id, version))
            for collection, item_id, version, replaced_at in session.execute(query).tuples()
        ]


def remove_version(database: Database, expired: Expired) -> bool:
    """Forget a version: its body, the addresses of its files, the links to it; the feed says that it is gone.

    Args:
        database: Where.
        expired: From `expired_versions`.

    Returns:
        Whether it was there and not the latest; else nothing was changed.
    """
    collection, item_id, version = expired.collection, expired.item_id, expired.version
    with database.write() as session:
        line_up(session, Queue.PUBLICATION)
        record = session.get(ItemVersionRecord, (collection, item_id, version))
        latest = session.get(ItemRecord, (collection, item_id))
        if record is None or latest is None or latest.version == version:
            return False
        session.delete(record)
        session.flush()
        for asset in session.scalars(_named(collection, item_id, version)):
            session.delete(asset)
        _relink(session, latest)
        record_changes(session, [(ChangeKind.REMOVED, collection, item_id, version)])
    logger.info("removed %s version %d", item_id, version)
    return True


def _relink(session: Session, latest: ItemRecord) -> None:
    """Let the latest version lead to the newest of those before it that are still there."""
    before = session.scalar(
        select(func.max(ItemVersionRecord.version)).where(
            ItemVersionRecord.collection == latest.collection,
            ItemVersionRecord.id == latest.id,
            ItemVersionRecord.version < latest.version,
        )
    )
    body = linked_to(latest.body, before)
    # Past the object: what searches look at is the same as before, so no new row of `item_search` is needed.
    session.execute(
        update(ItemRecord)
        .where(ItemRecord.collection == latest.collection, ItemRecord.id == latest.id)
        .values(body=body)
        .execution_options(synchronize_session=False)
    )


def _files(session: Session, collection: str, item_id: str, version: int) -> tuple[str, ...]:
    return tuple(
        asset.href for asset in session.scalars(_named(collection, item_id, version).order_by(AssetRecord.href))
    )


def _named(collection: str, item_id: str, version: int) -> Select[tuple[AssetRecord]]:
    return select(AssetRecord).where(
        AssetRecord.collection == collection, AssetRecord.item_id == item_id, AssetRecord.version == version
    )
