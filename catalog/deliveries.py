"""Deliveries become scenes: one per acquisition, region and source revision, however often it is delivered."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import select, tuple_

from catalog.dialects import Queue, line_up
from catalog.scenes import Discovered
from catalog.states import SceneState
from catalog.tables import DeliveryRecord, SceneRecord, TransitionRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from catalog.scenes import DeliveryOutcome, Discovery


@dataclass
class _Family:
    """What is known of one acquisition over one region."""

    revisions: dict[tuple[str, str], SceneRecord] = field(default_factory=dict)
    """Scenes by source revision, those of this batch included."""
    seen: set[tuple[str, str]] = field(default_factory=set)
    """Source and item of every delivery so far."""

    def judge(self, discovery: Discovery) -> DeliveryOutcome:
        """Say what one more delivery is; nothing is changed."""
        seen = (discovery.source, discovery.source_item_id) in self.seen
        if discovery.revision in self.revisions:
            return "known" if seen else "duplicate"
        if not self.revisions:
            return "new"
        if discovery.revision > max(self.revisions):
            return "reprocessing"
        return "known" if seen else "outdated"

    def scene(self, discovery: Discovery) -> SceneRecord:
        """Return the scene that a delivery belongs to: of its own revision, or the newest."""
        return self.revisions.get(discovery.revision) or self.revisions[max(self.revisions)]


def record_deliveries(session: Session, batch: Sequence[Discovery], actor: str) -> list[Discovered]:
    """Write a batch of deliveries into the ledger, once each.

    Args:
        session: A transaction of the caller's; watchers take turns.
        batch: What a watcher saw, in any order, doubles allowed.
        actor: Who watches.

    Returns:
        The outcome of each, in the same order.
    """
    line_up(session, Queue.DISCOVERY)
    families = _families(session, batch)
    taken: list[tuple[SceneRecord, DeliveryOutcome, Discovery]] = []
    for discovery in batch:
        family = families[discovery.acquisition, discovery.region]
        outcome = family.judge(discovery)
        if outcome in {"new", "reprocessing"}:
            family.revisions[discovery.revision] = _scene(discovery)
        family.seen.add((discovery.source, discovery.source_item_id))
        taken.append((family.scene(discovery), outcome, discovery))
    session.add_all(record for record, _, _ in taken)
    session.flush()  # the new scenes have their numbers from here on
    for record, outcome, discovery in taken:
        if outcome != "known":
            session.add_all(_traces(record, outcome, discovery, actor))
    return [Discovered(record.id, outcome, discovery) for record, outcome, discovery in taken]


def _families(session: Session, batch: Sequence[Discovery]) -> dict[tuple[str, str], _Family]:
    families = {(d.acquisition, d.region): _Family() for d in batch}
    wanted = tuple_(SceneRecord.acquisition, SceneRecord.region).in_(list(families))
    for record in session.scalars(select(SceneRecord).where(wanted)):
        family = families[record.acquisition, record.region]
        family.revisions[record.baseline, record.generated_key] = record
    deliveries = (
        select(SceneRecord.acquisition, SceneRecord.region, DeliveryRecord.source, DeliveryRecord.source_item_id)
        .join(DeliveryRecord, DeliveryRecord.scene_id == SceneRecord.id)
        .where(wanted)
    )
    for acquisition, region, source, item in session.execute(deliveries):
        families[acquisition, region].seen.add((source, item))
    return families


def _scene(discovery: Discovery) -> SceneRecord:
    now = datetime.now(UTC)
    baseline, generated_key = discovery.revision
    return SceneRecord(
        acquisition=discovery.acquisition,
        region=discovery.region,
        baseline=baseline,
        generated=discovery.generated,
        generated_key=generated_key,
        source=discovery.source,
        source_item_id=discovery.source_item_id,
        source_item=discovery.source_item,
        platform=discovery.platform,
        tile=discovery.tile,
        sensed=discovery.sensed,
        upstream_published=discovery.published,
        state=SceneState.DISCOVERED,
        discovered_at=now,
        changed_at=now,
    )


def _traces(
    record: SceneRecord, outcome: DeliveryOutcome, discovery: Discovery, actor: str
) -> tuple[DeliveryRecord, TransitionRecord]:
    """Make the rows that tell of a delivery: one of its own, one line in the scene's history."""
    now, state, item = datetime.now(UTC), record.state, f"{discovery.source_item_id} by {discovery.source}"
    why = {
        "duplicate": f"delivered again as {item}",
        "outdated": f"an older revision ({' '.join(discovery.revision).strip() or 'unknown'}) was delivered as {item}",
    }.get(outcome, f"{outcome}: {discovery.source_item_id}")
    first = outcome in {"new", "reprocessing"}
    return (
        DeliveryRecord(
            scene_id=record.id,
            source=discovery.source,
            source_item_id=discovery.source_item_id,
            outcome=outcome,
            seen_at=now,
        ),
        TransitionRecord(
            scene_id=record.id, at=now, before=None if first else state, after=state, actor=actor, why=why
        ),
    )
