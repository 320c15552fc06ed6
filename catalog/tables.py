"""The tables, as SQLAlchemy sees them; portable between SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    event,
    func,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from catalog.dialects import database_now
from catalog.facts import FACTS, Kind, facts_of, footprint_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Dialect
    from sqlalchemy.orm import Mapper
    from sqlalchemy.types import TypeEngine

_JSON = JSON().with_variant(JSONB(), "postgresql")
_BIG = BigInteger().with_variant(Integer(), "sqlite")


def _plain(length: int) -> String:
    """Text that sorts and compares by its characters' numbers in every database, whatever its locale."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes on every database: naive ones are refused on the way in, none comes out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Turn an aware time into UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"time {value.isoformat()} has no zone; give an aware datetime")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Mark what SQLite returns without a zone as the UTC it is."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {dict[str, Any]: _JSON, list[Any]: _JSON, datetime: UtcDateTime()}


class SceneRecord(Base):
    """The ledger: one acquisition over one region in one source revision."""

    __tablename__ = "scenes"
    __table_args__ = (
        UniqueConstraint("acquisition", "region", "baseline", "generated_key", name="uq_scene_revision"),
        Index("ix_scenes_state_next", "state", "next_attempt"),
        Index("ix_scenes_sensed", "sensed"),
    )

    id: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=True)
    acquisition: Mapped[str] = mapped_column(String(64))
    region: Mapped[str] = mapped_column(String(64))
    baseline: Mapped[str] = mapped_column(String(16))
    generated: Mapped[datetime | None]
    generated_key: Mapped[str] = mapped_column(String(32))
    """`generated` as text, empty when unknown: unique constraints ignore NULL."""
    source: Mapped[str] = mapped_column(String(64))
    source_item_id: Mapped[str] = mapped_column(String(256))
    source_item: Mapped[dict[str, Any]]
    platform: Mapped[str] = mapped_column(String(32))
    tile: Mapped[str] = mapped_column(String(8))
    sensed: Mapped[datetime]
    upstream_published: Mapped[datetime | None]
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0)
    token: Mapped[str | None] = mapped_column(String(32))
    lease_until: Mapped[float | None] = mapped_column(Float(53))
    """End of the lease by the database's clock, seconds since the epoch."""
    next_attempt: Mapped[float] = mapped_column(Float(53), default=0.0)
    """A failed scene is due from this time on, by the database's clock, seconds since the epoch."""
    product_revision: Mapped[str | None] = mapped_column(String(32))
    item_id: Mapped[str | None] = mapped_column(String(160))
    reason: Mapped[str | None] = mapped_column(Text)
    error_class: Mapped[str | None] = mapped_column(String(128))
    discovered_at: Mapped[datetime]
    changed_at: Mapped[datetime]


class DeliveryRecord(Base):
    """Every item of every source that was ever seen of a scene; a second one is a duplicate, never a second scene."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("source", "source_item_id", "scene_id", name="uq_delivery"),
        Index("ix_deliveries_published", "source", "published"),
    )

    id: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=True)
    scene_id: Mapped[int] = mapped_column(_BIG, ForeignKey("scenes.id"), index=True)
    source: Mapped[str] = mapped_column(String(64))
    source_item_id: Mapped[str] = mapped_column(String(256))
    outcome: Mapped[str] = mapped_column(String(16))
    """What the ledger made of it; see `catalog.scenes.DeliveryOutcome`."""
    seen_at: Mapped[datetime]
    published: Mapped[datetime | None]
    """When the source made it available, or when it was generated where the source does not say."""
    stamp: Mapped[str | None] = mapped_column(String(32))
    """Of what its revision is read from: an item that still has it need not be read again."""
    missed_at: Mapped[datetime | None]
    """Since when looks that should have shown it do not; None while it is offered."""
    withdrawn_at: Mapped[datetime | None]
    """When it was taken for deleted upstream: it had been missed for longer than the grace period."""


class TransitionRecord(Base):
    """The audit trail: when, from what to what, who, why."""

    __tablename__ = "transitions"

    id: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=True)
    scene_id: Mapped[int] = mapped_column(_BIG, ForeignKey("scenes.id"), index=True)
    at: Mapped[datetime]
    before: Mapped[str | None] = mapped_column(String(16))
    after: Mapped[str] = mapped_column(String(16))
    actor: Mapped[str] = mapped_column(String(128))
    why: Mapped[str | None] = mapped_column(Text)


class WatermarkRecord(Base):
    """How far each source has been watched over each region, by publication time."""

    __tablename__ = "watermarks"

    source: Mapped[str] = mapped_column(String(64), primary_key=True)
    region: Mapped[str] = mapped_column(String(64), primary_key=True)
    published: Mapped[datetime]


class ModelReleaseRecord(Base):
    """Which model was put in force: when, by whom, why. The newest row counts; without rows the settings do."""

    __tablename__ = "model_releases"

    id: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=True)
    at: Mapped[datetime]
    action: Mapped[str] = mapped_column(String(16))
    """``promote`` or ``rollback``."""
    actor: Mapped[str] = mapped_column(String(128))
    why: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(String(160))
    """Id of the model's item."""
    digest: Mapped[str] = mapped_column(String(64))
    """Of the weights; what is loaded from `path` must have it."""
    path: Mapped[str] = mapped_column(Text)
    """Folder of the weights; empty: the shipped ones."""


class CollectionRecord(Base):
    """A STAC collection; its extent and summaries change in the publishing transaction only."""

    __tablename__ = "collections"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    body: Mapped[dict[str, Any]]


class BandTableRecord(Base):
    """One list of bands or bits, kept once for all the items that have it."""

    __tablename__ = "band_tables"

    digest: Mapped[str] = mapped_column(String(32), primary_key=True)
    body: Mapped[list[Any]]


class ItemRecord(Base):
    """The latest version of an item; what searches return. `item_search` follows whatever is done to it."""

    __tablename__ = "items"

    collection: Mapped[str] = mapped_column(String(64), ForeignKey("collections.id"), primary_key=True)
    id: Mapped[str] = mapped_column(String(160), primary_key=True)
    datetime: Mapped[datetime]
    west: Mapped[float] = mapped_column(Float(53))
    south: Mapped[float] = mapped_column(Float(53))
    east: Mapped[float] = mapped_column(Float(53))
    north: Mapped[float] = mapped_column(Float(53))
    version: Mapped[int]
    product_revision: Mapped[str] = mapped_column(String(32))
    scene_id: Mapped[int | None] = mapped_column(_BIG, ForeignKey("scenes.id"))
    body: Mapped[dict[str, Any]] = mapped_column(JSON())
    """The item without its band lists; `catalog.hydration` puts them back. As text: no query looks inside."""


class ItemVersionRecord(Base):
    """Every version of every item, the latest included: an item never loses its past."""

    __tablename__ = "item_versions"
    __table_args__ = (UniqueConstraint("collection", "id", "product_revision", name="uq_item_revision"),)

    collection: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[str] = mapped_column(String(160), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    product_revision: Mapped[str] = mapped_column(String(32))
    scene_id: Mapped[int] = mapped_column(_BIG, ForeignKey("scenes.id"))
    published_at: Mapped[datetime]
    body: Mapped[dict[str, Any]]


class AssetRecord(Base):
    """Every file that a version names: what is not here belongs to nobody."""

    __tablename__ = "assets"

    href: Mapped[str] = mapped_column(String(1024), primary_key=True)
    collection: Mapped[str] = mapped_column(String(64))
    item_id: Mapped[str] = mapped_column(String(160), index=True)
    version: Mapped[int]


class ChangeRecord(Base):
    """The change feed, ordered by a sequence that is taken inside the publishing transaction."""

    __tablename__ = "changes"

    sequence: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=True)
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(16))
    collection: Mapped[str] = mapped_column(String(64))
    item_id: Mapped[str] = mapped_column(String(160))
    version: Mapped[int]


_KINDS: dict[Kind, TypeEngine[Any]] = {
    Kind.TEXT: _plain(256),
    Kind.NUMBER: Float(53),
    Kind.TRUTH: Boolean(),
    Kind.TIME: UtcDateTime(),
}

item_search = Table(
    "item_search",
    Base.metadata,
    Column("number", _BIG, primary_key=True, autoincrement=True),
    Column("until", _BIG),  # the first number whose searches do not see this row; NULL: it is the item's latest state
    Column("ended", Float(53)),  # when that was by the database's clock, seconds since the epoch
    Column("collection", _plain(64), nullable=False),
    Column("id", _plain(160), nullable=False),
    Column("west", Float(53), nullable=False),
    Column("south", Float(53), nullable=False),
    Column("east", Float(53), nullable=False),  # beyond 180 for a footprint across the antimeridian
    Column("north", Float(53), nullable=False),
    Column("footprint", LargeBinary, nullable=False),  # the geometry as WKB
    *(Column(fact.column, _KINDS[fact.kind], nullable=fact.name != "datetime") for fact in FACTS),
)
"""What searches look at: narrow rows of `catalog.facts`, one for every state of every item that searches saw.

A row says for ever the same. What replaces it, or takes its item away, only writes into it from which number on it is
not seen any more; so a search that goes on page by page sees what there was when it began. The database's own triggers
(migration 0002) end the rows of deleted items, forget rows that ended a day ago, and keep the spatial index.
"""


def search_row(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item's row of `item_search`, without its number."""
    return {"collection": item["collection"], "id": item["id"], **footprint_of(item), **facts_of(item)}


@event.listens_for(ItemRecord, "after_insert")
def _enter(_mapper: Mapper[ItemRecord], connection: Connection, record: ItemRecord) -> None:
    connection.execute(insert(item_search).values(search_row(record.body)))


@event.listens_for(ItemRecord, "after_update")
def _replace(_mapper: Mapper[ItemRecord], connection: Connection, record: ItemRecord) -> None:
    if not inspect(record).attrs.body.history.has_changes():
        return
    rows = item_search.c
    number = select(func.max(rows.number) + 1).scalar_subquery()
    connection.execute(
        update(item_search)
        .where(rows.collection == record.collection, rows.id == record.id, rows.until.is_(None))
        .values(until=number, ended=database_now())
    )
    connection.execute(insert(item_search).values(search_row(record.body)))
