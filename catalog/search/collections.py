"""Collections as stored, and searching them: there are few, so they are looked at one by one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from shapely.geometry import box
from sqlalchemy import select

from catalog.search.areas import area_of_bbox
from catalog.search.fields import ALL, Fields
from catalog.tables import CollectionRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shapely.geometry.base import BaseGeometry

    from catalog.session import Database

_SAID: Final = ("id", "title", "description")


@dataclass(frozen=True)
class CollectionQuery:
    """What is searched for; None means "any"."""

    area: BaseGeometry | None = None
    start: datetime | None = None
    end: datetime | None = None
    words: Sequence[str] = ()
    """One of them is in the title, the description, the keywords or the id."""
    fields: Fields = ALL
    limit: int | None = None
    after: str | None = None
    """Id of the last collection of the page before."""


@dataclass(frozen=True)
class CollectionPage:
    """One page of collections, by id."""

    collections: list[dict[str, Any]]
    next: str | None
    """Id behind which the next page begins; None on the last."""
    matched: int


def search_collections(database: Database, query: CollectionQuery) -> CollectionPage:
    """Return the collections that match."""
    with database.read() as session:
        bodies = session.scalars(select(CollectionRecord.body).order_by(CollectionRecord.id)).all()
    found = sorted((body for body in bodies if _matches(body, query)), key=lambda body: str(body["id"]))
    left = [body for body in found if query.after is None or body["id"] > query.after]
    page = left if query.limit is None else left[: query.limit]
    following = page[-1]["id"] if page and len(page) < len(left) else None
    return CollectionPage([query.fields.of(body) for body in page], following, len(found))


def collections(database: Database) -> dict[str, dict[str, Any]]:
    """Return all collections by id, as stored."""
    return {body["id"]: body for body in search_collections(database, CollectionQuery()).collections}


def collection(database: Database, collection_id: str) -> dict[str, Any] | None:
    """Return one collection as stored, or None."""
    if not collection_id.isprintable():
        return None
    with database.read() as session:
        record = session.get(CollectionRecord, collection_id)
        return None if record is None else record.body


def has_collection(database: Database, collection_id: str) -> bool:
    """Say whether there is a collection."""
    if not collection_id.isprintable():
        return False
    with database.read() as session:
        return session.scalar(select(CollectionRecord.id).where(CollectionRecord.id == collection_id)) is not None


def _matches(body: dict[str, Any], query: CollectionQuery) -> bool:
    if query.area is not None and not query.area.intersects(_footprint(body)):
        return False
    first, last = (_moment(text) for text in body["extent"]["temporal"]["interval"][0])
    if (query.start and last and last < query.start) or (query.end and first and first > query.end):
        return False
    said = " ".join([*(str(body.get(name, "")) for name in _SAID), *body.get("keywords", ())]).casefold()
    return not query.words or any(word.casefold() in said for word in query.words)


def _footprint(body: dict[str, Any]) -> BaseGeometry:
    bounds = body["extent"]["spatial"]["bbox"][0]
    return area_of_bbox(bounds) if bounds[0] > bounds[2] else box(*bounds)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)
