"""The tables, as SQLAlchemy sees them; portable between SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

if TYPE_CHECKING:
    from sqlalchemy import Dialect

_JSON = JSON().with_variant(JSONB(), "postgresql")
_BIG = BigInteger().with_variant(Integer(), "sqlite")


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
    __table_args__ = (UniqueConstraint("source", "source_item_id", "scene_id", name="uq_delivery"),)

    id: Mapped[int] = mapped_column(_BIG, primary_key=True, autoincrement=True)
    scene_id: Mapped[int] = mapped_column(_BIG, ForeignKey("scenes.id"), index=True)
    source: Mapped[str] = mapped_column(String(64))
    source_item_id: Mapped[str] = mapped_column(String(256))
    outcome: Mapped[str] = mapped_column(String(16))
    """What the ledger made of it: new, reprocessing, duplicate or outdated."""
    seen_at: Mapped[datetime]


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
    """The latest version of an item; what searches return."""

    __tablename__ = "items"
    __table_args__ = (
        Index("ix_items_order", "collection", "datetime", "id"),
        Index("ix_items_bbox", "west", "east", "south", "north"),
    )

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
    body: Mapped[dict[str, Any]]
    """The item without its band lists; `catalog.hydration` puts them back."""


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
