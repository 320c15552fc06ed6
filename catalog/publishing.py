"""Publishing: one transaction, conditional on the claim, after which everybody sees the product, or nobody does."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import select, update

from catalog.changes import ChangeKind, record_changes
from catalog.collection import narrows, renew, widen, widen_extent
from catalog.coverage import covered
from catalog.dialects import Queue, line_up
from catalog.hydration import SHARED, hydrated
from catalog.items import PREFIX
from catalog.ledger import SceneState
from catalog.states import check_move
from catalog.tables import (
    AssetRecord,
    CollectionRecord,
    ItemRecord,
    SceneRecord,
    TransitionRecord,
)
from catalog.versions import (
    latest_version,
    store_latest,
    store_version,
    versioned,
    visible_version,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from catalog.ledger import Claim, Ledger
    from catalog.session import Database

logger = logging.getLogger(__name__)

_HREF_BATCH = 500


class RevisionMissing(ValueError):
    """An item without our product revision cannot be told from another."""

    transient: ClassVar[bool] = False


class NewerPublished(RuntimeError):
    """A newer source revision of the same acquisition was published meanwhile; this one is not needed any more."""

    transient: ClassVar[bool] = False


@dataclass(frozen=True)
class Published:
    """What became visible."""

    item_id: str
    version: int
    superseded: tuple[int, ...]
    """Scenes of older revisions that this one replaced."""
    repeated: bool = False
    """This very product was visible already: nothing was changed."""


def publish(
    database: Database,
    ledger: Ledger,
    claim: Claim,
    item: dict[str, Any],
    *,
    collection: dict[str, Any],
    model_item: dict[str, Any],
    model_collection: dict[str, Any],
    on_stage: Callable[[], object] = lambda: None,
) -> Published:
    """Make a product visible: item, version, files, ledger, collection and change feed, together or not at all.

    A worker that does not know whether its commit arrived (the connection broke) may simply publish again.

    Args:
        database: Where.
        ledger: Moves the scene.
        claim: The worker's claim; without it nothing happens.
        item: From `catalog.items.build_item`.
        collection: The collection as it is before its first item; what it says replaces what the database has, except
            for what publications brought together: extent and summaries.
        model_item: The model's own item; stored when new.
        model_collection: Its collection; stored when new.
        on_stage: Called when all is written and nothing is committed.

    Returns:
        The version that is visible now.

    Raises:
        ClaimLost: the claim has ended; nothing was changed.
        NewerPublished: a newer source revision is visible already; nothing was changed.
    """
    revision = item["properties"].get(PREFIX + "product_revision")
    if not revision:
        raise RevisionMissing(f"item {item['id']} has no {PREFIX}product_revision")
    with database.write() as session:
        # One after the other: extents grow without loss, and sequence numbers of the feed appear in their order.
        line_up(session, Queue.PUBLICATION)
        again = visible_version(session, item, revision, claim.scene_id)
        if again is not None:
            return Published(item["id"], again, (), repeated=True)
        ledger.move(
            session,
            claim,
            SceneState.PUBLISHED,
            why=f"item {item['id']}",
            item_id=item["id"],
            product_revision=revision,
        )
        scene = session.get_one(SceneRecord, claim.scene_id, populate_existing=True)
        _register_model(session, model_item, model_collection)
        stored = _collection(session, collection)
        _refuse_older(session, scene)
        before = latest_version(session, item["collection"], item["id"])
        version = 1 if before is None else before.version + 1
        body = versioned(item, version)
        store_version(session, body, version, revision, scene.id)
        superseded = _supersede(session, scene, item["id"])
        today = renew(collection, stored.body)
        if before is not None and narrows(today, before.body, body):
            stored.body = covered(session, today)
        else:
            stored.body = widen(today, body)
        changes = [] if before is None else [(ChangeKind.SUPERSEDED, body["collection"], body["id"], before.version)]
        record_changes(session, [*changes, (ChangeKind.PUBLISHED, body["collection"], body["id"], version)])
        on_stage()
    logger.info("published %s version %d", item["id"], version)
    return Published(item["id"], version, superseded)


def published_hrefs(database: Database, hrefs: Sequence[str]) -> set[str]:
    """Return those of the addresses that some version of some item names."""
    named: set[str] = set()
    with database.read() as session:
        for start in range(0, len(hrefs), _HREF_BATCH):
            part = hrefs[start : start + _HREF_BATCH]
            named.update(session.scalars(select(AssetRecord.href).where(AssetRecord.href.in_(part))))
    return named


def published_item(database: Database, collection: str, item_id: str) -> dict[str, Any] | None:
    """Return the latest version of an item, or None."""
    with database.read() as session:
        record = session.get(ItemRecord, (collection, item_id))
        return hydrated(session, [record.body])[0] if record else None


def published_layers(database: Database, collection: str, item_id: str, asset: str) -> dict[str, Any] | None:
    """Return the latest version of an item with the band list of one asset only, or None; cheaper than the whole."""
    with database.read() as session:
        record = session.get(ItemRecord, (collection, item_id))
        if record is None:
            return None
        kept = {name: fields for name, fields in record.body["assets"].items() if name == asset}
        bare = {
            name: {field: value for field, value in fields.items() if field not in SHARED}
            for name, fields in record.body["assets"].items()
        }
        (whole,) = hydrated(session, [{**record.body, "assets": kept}])
        return {**whole, "assets": bare | whole["assets"]}


def _register_model(session: Session, item: Mapping[str, Any], collection: Mapping[str, Any]) -> None:
    stored = _collection(session, collection)
    if session.get(ItemRecord, (collection["id"], item["id"])) is None:
        store_latest(session, item, 1, item["properties"][PREFIX + "digest"][:32], scene_id=None)
        stored.body = {**stored.body, "extent": widen_extent(stored.body, item)}


def _collection(session: Session, collection: Mapping[str, Any]) -> CollectionRecord:
    """Return the collection's row, made where there is none."""
    record = session.get(CollectionRecord, collection["id"], populate_existing=True)
    if record is None:
        record = CollectionRecord(id=collection["id"], body=dict(collection))
        session.add(record)
        session.flush()
    return record


def _refuse_older(session: Session, scene: SceneRecord) -> None:
    query = select(SceneRecord.baseline, SceneRecord.generated_key).where(
        SceneRecord.acquisition == scene.acquisition,
        SceneRecord.region == scene.region,
        SceneRecord.state == SceneState.PUBLISHED,
        SceneRecord.id != scene.id,
    )
    mine = (scene.baseline, scene.generated_key)
    newer = [tuple(row) for row in session.execute(query) if tuple(row) > mine]
    if newer:
        raise NewerPublished(f"scene {scene.id} has revision {mine}; {max(newer)} is published already")


def _supersede(session: Session, scene: SceneRecord, item_id: str) -> tuple[int, ...]:
    """Mark every older revision of the same acquisition and region that nobody works on as replaced."""
    query = select(SceneRecord).where(
        SceneRecord.acquisition == scene.acquisition,
        SceneRecord.region == scene.region,
        SceneRecord.id != scene.id,
        SceneRecord.state.in_([SceneState.PUBLISHED, SceneState.DISCOVERED, SceneState.FAILED, SceneState.QUARANTINED]),
    )
    mine, replaced = (scene.baseline, scene.generated_key), []
    for older in session.scalars(query.with_for_update()):
        if (older.baseline, older.generated_key) > mine:
            continue
        before = SceneState(older.state)
        check_move(before, SceneState.SUPERSEDED)
        now = datetime.now(UTC)
        session.execute(
            update(SceneRecord)
            .where(SceneRecord.id == older.id)
            .values(state=SceneState.SUPERSEDED, reason=f"replaced by scene {scene.id}", changed_at=now)
            .execution_options(synchronize_session=False)
        )
        session.add(
            TransitionRecord(
                scene_id=older.id, at=now, before=before, after=SceneState.SUPERSEDED, actor="publishing",
                why=f"scene {scene.id} published {item_id} from a newer source revision",
            )
        )  # fmt: skip
        replaced.append(older.id)
    return tuple(replaced)
