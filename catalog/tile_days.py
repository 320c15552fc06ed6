"""Tile by tile and day by day: what became of what was sensed, and where nothing was offered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from catalog.states import SceneState
from catalog.tables import SceneRecord, TransitionRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

KNOWN_DAYS: Final = 30
"""A tile that was seen within so many days is expected to be seen again."""
_MOST: Final = 5000
"""Scenes that are told of, the newest first: a page for people, not an inventory."""
_WORKER: Final = "process/"
"""How the actors of process runs begin; the run's id follows."""


@dataclass(frozen=True)
class TileScene:
    """One scene, as one line for operators."""

    id: int
    tile: str
    region: str
    sensed: datetime
    state: str
    reason: str
    error_class: str | None
    run: str
    """Id of the last flow run that worked on it; empty where none did."""


@dataclass(frozen=True)
class TileDays:
    """The scenes of the last days, and every tile that could have had one."""

    days: int
    """So many, today included."""
    tiles: Sequence[tuple[str, str]]
    """Region and tile of everything sensed within `KNOWN_DAYS`."""
    scenes: Sequence[TileScene]
    """Newest first; superseded ones are left out, for others stand for them."""


def tile_days(session: Session, *, now: datetime, days: int = 7) -> TileDays:
    """Read the scenes of the last days.

    Args:
        session: In whose one consistent read this happens.
        now: The present time, aware.
        days: So many days of sensing, UTC, today included.
    """
    first = datetime.combine(now.astimezone(UTC).date() - timedelta(days=days - 1), time(), UTC)
    known = (
        select(SceneRecord.region, SceneRecord.tile)
        .where(SceneRecord.sensed >= now - timedelta(days=KNOWN_DAYS))
        .distinct()
        .order_by(SceneRecord.region, SceneRecord.tile)
    )
    recent = SceneRecord.sensed >= first
    worked = (
        select(TransitionRecord.scene_id, func.max(TransitionRecord.id).label("last"))
        .join(SceneRecord, SceneRecord.id == TransitionRecord.scene_id)
        .where(recent, TransitionRecord.actor.startswith(_WORKER, autoescape=True))
        .group_by(TransitionRecord.scene_id)
        .subquery()
    )
    actors = select(TransitionRecord.scene_id, TransitionRecord.actor).join(
        worked, TransitionRecord.id == worked.c.last
    )
    runs = {scene: _run_of(actor) for scene, actor in session.execute(actors).tuples()}
    columns = (
        SceneRecord.id, SceneRecord.tile, SceneRecord.region, SceneRecord.sensed, SceneRecord.state,
        SceneRecord.reason, SceneRecord.error_class,
    )  # fmt: skip
    query = (
        select(*columns)
        .where(recent, SceneRecord.state != SceneState.SUPERSEDED)
        .order_by(SceneRecord.sensed.desc(), SceneRecord.id.desc())
        .limit(_MOST)
    )
    scenes = [
        TileScene(scene, tile, region, sensed, state, reason or "", kind, runs.get(scene, ""))
        for scene, tile, region, sensed, state, reason, kind in session.execute(query).tuples()
    ]
    return TileDays(days, [(region, tile) for region, tile in session.execute(known).tuples()], scenes)


def _run_of(actor: str) -> str:
    """Return the run of an actor such as ``process/<run> (claim 15da5d8b)``; empty where no server ran it."""
    run = actor.removeprefix(_WORKER).partition(" ")[0]
    return "" if run == "local" else run
