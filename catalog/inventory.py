"""What ledger and catalog say should be there, day by day: what reconciliation holds against sources and store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from catalog.states import SceneState
from catalog.tables import AssetRecord, DeliveryRecord, ItemRecord, ItemVersionRecord, SceneRecord, item_search

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from catalog.session import Database


@dataclass(frozen=True)
class KnownScene:
    """A scene of the ledger, without its source item."""

    id: int
    acquisition: str
    region: str
    tile: str
    source: str
    sensed: datetime
    state: SceneState
    reason: str | None
    error_class: str | None
    item_id: str | None
    upstream_published: datetime | None
    """When its source made it available, where it says."""


@dataclass(frozen=True)
class NamedFile:
    """A file that a version of an item names."""

    href: str
    size: int | None
    """Bytes, as the item says."""
    checksum: str | None
    """Multihash, as the item says."""


@dataclass(frozen=True)
class NamedVersion:
    """A version of an item with its files."""

    item_id: str
    version: int
    latest: bool
    scene_id: int
    region: str
    sensed: datetime
    state: SceneState
    """Of its scene."""
    files: tuple[NamedFile, ...]
    unlisted: tuple[str, ...]
    """Addresses among them that the catalog does not keep as its own: housekeeping would take them for orphans."""


def known_scenes(database: Database, regions: Sequence[str], begin: datetime, end: datetime) -> list[KnownScene]:
    """List the scenes of some regions that were sensed from one time on and before another, oldest first."""
    columns = [getattr(SceneRecord, name) for name in KnownScene.__dataclass_fields__]
    query = (
        select(*columns)
        .where(SceneRecord.region.in_(regions), SceneRecord.sensed >= begin, SceneRecord.sensed < end)
        .order_by(SceneRecord.sensed, SceneRecord.id)
    )
    with database.read() as session:
        return [_known(*row) for row in session.execute(query).tuples()]


def withdrawn_scenes(database: Database, regions: Sequence[str], begin: datetime, end: datetime) -> set[int]:
    """Return the scenes of some regions and times whose own source item was taken for deleted upstream."""
    query = (
        select(SceneRecord.id)
        .join(DeliveryRecord, DeliveryRecord.scene_id == SceneRecord.id)
        .where(SceneRecord.region.in_(regions), SceneRecord.sensed >= begin, SceneRecord.sensed < end)
        .where(DeliveryRecord.source == SceneRecord.source, DeliveryRecord.withdrawn_at.is_not(None))
        .where(DeliveryRecord.source_item_id == SceneRecord.source_item_id)
    )
    with database.read() as session:
        return set(session.scalars(query))


def _known(*row: object) -> KnownScene:
    values = dict(zip(KnownScene.__dataclass_fields__, row, strict=True))
    return KnownScene(**{**values, "state": SceneState(str(values["state"]))})  # type: ignore[arg-type]  # as selected


def named_versions(
    database: Database, collection: str, regions: Sequence[str], begin: datetime, end: datetime
) -> Iterator[NamedVersion]:
    """List the versions of a collection's items over some regions and times, with the files that they name."""
    rows = ItemVersionRecord
    query = (
        select(rows.id, rows.version, rows.scene_id, rows.body, SceneRecord.region, SceneRecord.sensed,
               SceneRecord.state, ItemRecord.version)
        .join(SceneRecord, SceneRecord.id == rows.scene_id)
        .outerjoin(ItemRecord, (ItemRecord.collection == rows.collection) & (ItemRecord.id == rows.id))
        .where(rows.collection == collection, SceneRecord.region.in_(regions))
        .where(SceneRecord.sensed >= begin, SceneRecord.sensed < end)
        .order_by(SceneRecord.sensed, rows.id, rows.version)
    )  # fmt: skip
    with database.read() as session:
        for item, version, scene, body, region, sensed, state, latest in session.execute(query).tuples():
            files = tuple(
                NamedFile(asset["href"], asset.get("file:size"), asset.get("file:checksum"))
                for asset in body["assets"].values()
            )
            listed = _listed(session, collection, item, version)
            unlisted = tuple(file.href for file in files if file.href not in listed)
            yield NamedVersion(
                item, version, version == latest, scene, region, sensed, SceneState(state), files, unlisted
            )


def made_by(database: Database, collection: str) -> dict[str, str]:
    """Return which model made each item that searches find."""
    columns = item_search.c
    query = select(columns.id, columns.own_model).where(
        columns.collection == collection, columns.until.is_(None), columns.own_model.is_not(None)
    )
    with database.read() as session:
        return {item: model for item, model in session.execute(query).tuples()}  # noqa: C416 - dict() loses the types


def _listed(session: Session, collection: str, item_id: str, version: int) -> set[str]:
    query = select(AssetRecord.href).where(
        AssetRecord.collection == collection, AssetRecord.item_id == item_id, AssetRecord.version == version
    )
    return set(session.scalars(query))
