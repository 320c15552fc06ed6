"""Which model is in force, since when, by whom and why; without a record the settings decide."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from sqlalchemy import select

from catalog.dialects import Queue, line_up
from catalog.tables import ModelReleaseRecord

if TYPE_CHECKING:
    from catalog.session import Database

_MOST: Final = 10_000

Action = Literal["promote", "rollback"]


class NothingToRollBack(RuntimeError):
    """The model in force was not promoted, so there is none that it replaced."""

    transient: ClassVar[bool] = False


@dataclass(frozen=True)
class Release:
    """One model put in force."""

    at: datetime
    action: Action
    actor: str
    why: str
    model: str
    """Id of the model's item."""
    digest: str
    """Of its weights."""
    path: str
    """Folder of its weights; empty: the shipped ones."""


def model_in_force(database: Database) -> Release | None:
    """Return the newest release; None where the settings decide."""
    return next(iter(releases(database, limit=1)), None)


def releases(database: Database, *, limit: int = 100) -> list[Release]:
    """List what was put in force, newest first."""
    with database.read() as session:
        rows = session.scalars(select(ModelReleaseRecord).order_by(ModelReleaseRecord.id.desc()).limit(limit))
        return [_release(row) for row in rows]


def put_in_force(
    database: Database, *, action: Action, actor: str, why: str, model: str, digest: str, path: str
) -> Release:
    """Record that a model is in force from now on; processes that start from here on use it."""
    with database.write() as session:
        line_up(session, Queue.PUBLICATION)
        row = ModelReleaseRecord(
            at=datetime.now(UTC), action=action, actor=actor, why=why, model=model, digest=digest, path=path
        )
        session.add(row)
        session.flush()
        return _release(row)


def before_the_present(database: Database, default: Release) -> Release:
    """Return what a roll-back leads to: each undoes one promotion, the newest first.

    Args:
        database: Where releases are recorded.
        default: The settings' own model, in force before the first release.

    Raises:
        NothingToRollBack: the settings' model is in force.
    """
    stack = [default]
    for release in reversed(releases(database, limit=_MOST)):
        if release.action == "promote":
            stack.append(release)
        elif len(stack) > 1:
            stack.pop()
    if len(stack) < 2:
        raise NothingToRollBack("no model was promoted that could be rolled back; explains2a model history tells")
    return stack[-2]


def _release(row: ModelReleaseRecord) -> Release:
    action: Action = "rollback" if row.action == "rollback" else "promote"
    return Release(row.at, action, row.actor, row.why, row.model, row.digest, row.path)
