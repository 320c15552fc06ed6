"""The change feed: what became visible, was replaced, was called into question or went away, in one order without gaps.

Every change takes the next number inside the transaction that makes it, and these transactions line up: the next one
reads the last number only after the one before it is visible or undone. So numbers follow each other without a gap,
no number appears behind one that a reader has seen, and what a reader keeps to go on from is one number.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Final

from sqlalchemy import func, select

from catalog.dialects import Queue, line_up
from catalog.tables import ChangeRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import Session

    from catalog.session import Database

MAX_CHANGES: Final = 1000
"""How many changes one look at the feed gives at most."""


class ChangeKind(StrEnum):
    """What happened to a version of an item."""

    PUBLISHED = "published"
    """It became visible and is the latest."""
    SUPERSEDED = "superseded"
    """A newer version took its place; it stays readable at its own address."""
    DEPRECATED = "deprecated"
    """It should not be used any more; the version says why."""
    REMOVED = "removed"
    """It is gone, with its files: a tombstone."""


class NotOfThisFeed(ValueError):
    """A reader has seen changes that this feed does not have: it was another one, or is an older copy."""

    transient: ClassVar[bool] = False


@dataclass(frozen=True)
class Change:
    """One line of the feed."""

    sequence: int
    """Counted from one, without gaps."""
    at: datetime
    kind: ChangeKind
    collection: str
    item_id: str
    version: int


@dataclass(frozen=True)
class Feed:
    """One look at the feed."""

    changes: Sequence[Change]
    """In their order."""
    cursor: int
    """Where the next look goes on."""
    newest: int
    """The last change that there is; beyond `cursor` when more are waiting."""


def newest_change(session: Session) -> int:
    """Return the number of the last change; 0 before the first."""
    return session.scalar(select(func.max(ChangeRecord.sequence))) or 0


def changed_since(session: Session, since: int) -> list[tuple[str, str]]:
    """Return the collection and id of every item that changed behind a place in the feed, each once."""
    query = select(ChangeRecord.collection, ChangeRecord.item_id).where(ChangeRecord.sequence > since).distinct()
    return list(session.execute(query).tuples())


def record_changes(session: Session, changes: Iterable[tuple[ChangeKind, str, str, int]]) -> int:
    """Append to the feed within the caller's transaction, which then holds off others that do so.

    Args:
        session: The transaction that makes the changes.
        changes: Kind, collection, item and version of each, in order.

    Returns:
        The number of the last change.
    """
    line_up(session, Queue.PUBLICATION)
    session.flush()
    number, now = newest_change(session), datetime.now(UTC)
    for kind, collection, item_id, version in changes:
        number += 1
        session.add(
            ChangeRecord(
                sequence=number, at=now, kind=kind, collection=collection, item_id=item_id, version=version
            )
        )  # fmt: skip
    session.flush()
    return number


def read_changes(database: Database, since: int = 0, *, limit: int = 100, collection: str | None = None) -> Feed:
    """Read what happened behind a place in the feed.

    Args:
        database: Where.
        since: Number of the last change that the reader has seen; 0 for all.
        limit: At most so many, 1 to `MAX_CHANGES`.
        collection: Only changes of this collection; the cursor passes over the others.

    Returns:
        The changes and where to go on.

    Raises:
        NotOfThisFeed: the feed ends before `since`.
    """
    query = select(ChangeRecord).where(ChangeRecord.sequence > since).order_by(ChangeRecord.sequence).limit(limit)
    if collection is not None:
        query = query.where(ChangeRecord.collection == collection)
    with database.read() as session:
        newest = newest_change(session)
        if since > newest:
            raise NotOfThisFeed(f"the feed ends with change {newest}, before {since}; begin again without it")
        found = tuple(_change(record) for record in session.scalars(query))
    cursor = found[-1].sequence if len(found) == limit else newest
    return Feed(found, cursor, newest)


def _change(record: ChangeRecord) -> Change:
    return Change(
        record.sequence, record.at, ChangeKind(record.kind), record.collection, record.item_id, record.version
    )
