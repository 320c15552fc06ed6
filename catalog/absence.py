"""What a source does not show any more: noted at once, taken for withdrawn after a grace period; nothing is deleted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import select, update

from catalog.tables import DeliveryRecord, SceneRecord, TransitionRecord

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime, timedelta

    from sqlalchemy.orm import Session

_BATCH: Final = 500


@dataclass(frozen=True)
class Absence:
    """What one look did not find again, in the numbers of scenes."""

    missed: tuple[int, ...] = ()
    """Not shown this time, for less than the grace period."""
    withdrawn: tuple[int, ...] = ()
    """Taken for deleted upstream by this look."""
    returned: tuple[int, ...] = ()
    """Offered again after they had been missed."""


def note_absence(
    session: Session,
    source: str,
    region: str,
    shown: Collection[str],
    *,
    since: datetime,
    now: datetime,
    grace: timedelta,
    actor: str,
) -> Absence:
    """Compare what a source showed with what it had delivered before.

    Args:
        session: A transaction of the caller's.
        source: A source that answered to the end.
        region: Over which it was asked.
        shown: Ids of all items it showed, also of those that could not be understood.
        since: Publication time from which on it was asked.
        now: The time of looking.
        grace: How long a delivery may be missed before it counts as withdrawn.
        actor: Who looks, for the audit trail.

    Returns:
        Scenes whose delivery is missed, withdrawn or back.
    """
    query = (
        select(
            DeliveryRecord.id, DeliveryRecord.scene_id, DeliveryRecord.source_item_id, DeliveryRecord.missed_at,
            DeliveryRecord.withdrawn_at, SceneRecord.state,
        )
        .join(SceneRecord, SceneRecord.id == DeliveryRecord.scene_id)
        .where(DeliveryRecord.source == source, DeliveryRecord.published >= since, SceneRecord.region == region)
    )  # fmt: skip
    there = frozenset(shown)
    first: list[int] = []
    gone: list[tuple[int, int, str, str]] = []
    back: list[tuple[int, int, str, str]] = []
    missed: list[int] = []
    for delivery, scene, item, since_when, withdrawn, state in session.execute(query).tuples():
        if item in there:
            back += [(delivery, scene, item, state)] if since_when is not None else []
        elif withdrawn is None and since_when is not None and now - since_when >= grace:
            gone.append((delivery, scene, item, state))
        elif withdrawn is None:
            first += [delivery] if since_when is None else []
            missed.append(scene)
    _mark(session, first, missed_at=now)
    _mark(session, [delivery for delivery, *_ in gone], withdrawn_at=now)
    _mark(session, [delivery for delivery, *_ in back], missed_at=None, withdrawn_at=None)
    session.add_all(
        TransitionRecord(scene_id=scene, at=now, before=state, after=state, actor=actor, why=f"{item} {said} {source}")
        for some, said in ((gone, "is not offered any more by"), (back, "is offered again by"))
        for _, scene, item, state in some
    )
    return Absence(tuple(missed), tuple(scene for _, scene, *_ in gone), tuple(scene for _, scene, *_ in back))


def _mark(session: Session, deliveries: list[int], **values: datetime | None) -> None:
    for start in range(0, len(deliveries), _BATCH):
        some = DeliveryRecord.id.in_(deliveries[start : start + _BATCH])
        session.execute(update(DeliveryRecord).where(some).values(**values))
