"""The ledger in numbers for a monitoring system: few, cheap to ask for, with labels that cannot grow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from catalog.dialects import database_now
from catalog.states import HELD, SceneState
from catalog.tables import ItemVersionRecord, SceneRecord

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from catalog.session import Database

MAX_CLASSES: Final = 20
"""Error classes that are counted by name; rarer ones are counted together as ``other``."""

_WAITING: Final = (SceneState.DISCOVERED, SceneState.FAILED, *sorted(HELD))
_UNWELL: Final = (SceneState.FAILED, SceneState.QUARANTINED)


@dataclass(frozen=True)
class LedgerFigures:
    """Where the scenes stand at one time."""

    scenes: Mapping[str, int]
    """By state, every state named."""
    failures: Mapping[str, int]
    """Failed and quarantined scenes by error class, at most `MAX_CLASSES` and ``other``."""
    oldest_waiting: datetime | None
    """When the oldest scene that is waiting or in work was discovered."""
    last_discovered: datetime | None
    last_published: datetime | None
    expired_leases: int
    """Scenes whose worker has not renewed its claim in time and that nobody has returned yet."""


def ledger_figures(database: Database, *, seconds: float | None = None) -> LedgerFigures:
    """Count the ledger in one consistent read.

    Args:
        database: Where.
        seconds: How long one statement may take; None: as long as it needs.

    Raises:
        DatabaseError: the database does not answer, or not in time.
    """
    row = SceneRecord
    with database.read(seconds=seconds) as session:
        counted = dict(session.execute(select(row.state, func.count()).group_by(row.state)).tuples().all())
        classes = session.execute(
            select(row.error_class, func.count())
            .where(row.state.in_(_UNWELL))
            .group_by(row.error_class)
            .order_by(func.count().desc(), row.error_class)
        ).tuples()
        failures: dict[str, int] = {}
        for place, (name, number) in enumerate(classes):
            label = (name or "unknown") if place < MAX_CLASSES else "other"
            failures[label] = failures.get(label, 0) + number
        expired = select(func.count()).where(row.state.in_(HELD), row.lease_until < database_now())
        return LedgerFigures(
            scenes={state: counted.get(state, 0) for state in SceneState},
            failures=failures,
            oldest_waiting=session.scalar(select(func.min(row.discovered_at)).where(row.state.in_(_WAITING))),
            last_discovered=session.scalar(select(func.max(row.discovered_at))),
            last_published=session.scalar(select(func.max(ItemVersionRecord.published_at))),
            expired_leases=session.scalar(expired) or 0,
        )
