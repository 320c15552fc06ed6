"""The ledger: which scenes are known, who works on which, what became of each. Nothing that entered it is ever lost."""

from __future__ import annotations

import logging
import random
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import String, and_, cast, func, or_, select, update

from catalog.absence import Absence, note_absence
from catalog.deliveries import known_deliveries, record_deliveries
from catalog.dialects import Queue, database_now, line_up
from catalog.scenes import (
    Claim,
    ClaimLost,
    Discovered,
    Discovery,
    KnownDelivery,
    NotClaimable,
    NotMovable,
    SceneRow,
    Step,
    UnknownScene,
)
from catalog.states import BY_HAND, CLAIMABLE, HELD, SceneState, check_move
from catalog.tables import ItemVersionRecord, SceneRecord, TransitionRecord, WatermarkRecord

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from catalog.session import Database

__all__ = ["Claim", "ClaimLost", "Discovered", "Discovery", "Ledger", "NotClaimable", "NotMovable", "SceneRow",
           "SceneState", "Step", "UnknownScene"]  # fmt: skip

logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS: Final = 60.0
_LONGEST_PAUSE_SECONDS: Final = 6 * 3600.0
_LONGEST_REASON: Final = 2000
"""Characters of an error's message that are kept; a server's error page can be megabytes."""

_BATCH: Final = 500
"""Numbers in one IN list; SQLite takes 32 766 parameters, and plans of long lists are slow everywhere."""


class Ledger:
    """The ledger of one database. Every method is one transaction."""

    def __init__(self, database: Database, *, max_attempts: int = 5) -> None:
        self._database = database
        self._max_attempts = max_attempts

    def discover(self, discoveries: Iterable[Discovery], *, actor: str) -> list[Discovered]:
        """Record deliveries; the work is two reads and a few bulk inserts for the whole batch.

        Args:
            discoveries: What a watcher saw, in any order, doubles allowed.
            actor: Who watches.

        Returns:
            The outcome of each, in the same order.
        """
        batch = list(discoveries)
        if not batch:
            return []
        with self._database.write() as session:
            return record_deliveries(session, batch, actor)

    def known_deliveries(self, source: str, region: str, since: datetime) -> dict[str, KnownDelivery]:
        """List by item what a source need not tell again; see `catalog.deliveries.known_deliveries`."""
        with self._database.read() as session:
            return known_deliveries(session, source, region, since)

    def note_absence(
        self, source: str, region: str, shown: Collection[str], *, since: datetime, now: datetime, grace: timedelta,
        actor: str,
    ) -> Absence:  # fmt: skip
        """Note what a source that answered to the end does not show any more; see `catalog.absence.note_absence`."""
        with self._database.write() as session:
            line_up(session, Queue.DISCOVERY)
            return note_absence(session, source, region, shown, since=since, now=now, grace=grace, actor=actor)

    def claim(self, scene_id: int, *, actor: str, lease: timedelta) -> Claim:
        """Take a scene to work on: one conditional UPDATE decides between workers.

        Args:
            scene_id: The scene.
            actor: Who will work.
            lease: How long the claim lasts without a heartbeat, by the database's clock.

        Returns:
            The claim; its token is needed for every further step.

        Raises:
            UnknownScene: no such scene.
            NotClaimable: another worker holds it, or it is finished.
        """
        token = secrets.token_hex(16)
        expired = and_(SceneRecord.state.in_(HELD), SceneRecord.lease_until < database_now())
        with self._database.write() as session:
            before = self._record(session, scene_id, lock=True)
            was = SceneState(before.state)
            taken = session.execute(
                update(SceneRecord)
                .where(SceneRecord.id == scene_id, or_(SceneRecord.state.in_(CLAIMABLE), expired))
                .values(
                    state=SceneState.CLAIMED,
                    token=token,
                    lease_until=database_now() + lease.total_seconds(),
                    attempts=SceneRecord.attempts + 1,
                    reason=None,
                    error_class=None,
                    changed_at=datetime.now(UTC),
                )
                .returning(SceneRecord.attempts)
                .execution_options(synchronize_session=False)
            ).scalar_one_or_none()
            if taken is None:
                raise NotClaimable(scene_id, was)
            if was in HELD:
                self._audit(session, before, was, SceneState.DISCOVERED, actor, "the lease ended")
                was = SceneState.DISCOVERED
            check_move(was, SceneState.CLAIMED)
            self._audit(session, before, was, SceneState.CLAIMED, actor, f"attempt {taken}")
        return Claim(scene_id, token, taken, actor)

    def heartbeat(self, claim: Claim, lease: timedelta) -> None:
        """Renew a claim's lease; raises `ClaimLost` when it is gone."""
        with self._database.write() as session:
            self._held(session, claim, lease_until=database_now() + lease.total_seconds())

    def begin(self, claim: Claim, product_revision: str) -> None:
        """Move a claimed scene to *processing* and note what will be produced; raises `ClaimLost`."""
        with self._database.write() as session:
            self.move(
                session,
                claim,
                SceneState.PROCESSING,
                why=f"product {product_revision}",
                product_revision=product_revision,
            )

    def reject(
        self, claim: Claim, *, gate: str, reason: str, measured: float | None = None, limit: float | None = None
    ) -> None:
        """End a scene as *rejected*, with the gate and its numbers; raises `ClaimLost`."""
        numbers = "" if measured is None or limit is None else f" (measured {measured:.4g}, limit {limit:.4g})"
        with self._database.write() as session:
            self.move(session, claim, SceneState.REJECTED, why=f"{gate}: {reason}{numbers}", reason=f"{gate}: {reason}")

    def fail(self, claim: Claim, *, error_class: str, message: str, transient: bool) -> SceneState:
        """Record an error: *failed* when it may pass and attempts are left, else *quarantined*.

        Args:
            claim: The claim.
            error_class: Name of the error's class.
            message: What it said.
            transient: Whether the same work may succeed later.

        Returns:
            The state that followed.

        Raises:
            ClaimLost: the scene is someone else's by now.
        """
        again = transient and claim.attempt < self._max_attempts
        state = SceneState.FAILED if again else SceneState.QUARANTINED
        pause = min(_FIRST_PAUSE_SECONDS * 4 ** (claim.attempt - 1), _LONGEST_PAUSE_SECONDS)
        pause *= random.uniform(0.8, 1.2)  # noqa: S311 - spreads retries, guards nothing
        said = f"{error_class}: {message}"[:_LONGEST_REASON].replace("\0", "\N{REPLACEMENT CHARACTER}")
        said = said.encode(errors="replace").decode()
        why = said + (f"; next attempt in {pause:.0f} s" if again else "")
        with self._database.write() as session:
            self.move(
                session, claim, state, why=why, reason=said, error_class=error_class,
                next_attempt=database_now() + pause,
            )  # fmt: skip
        return state

    def release(self, claim: Claim, *, why: str) -> None:
        """Return a claimed scene to *discovered*: its worker was asked to stop; raises `ClaimLost`."""
        with self._database.write() as session:
            self.move(session, claim, SceneState.DISCOVERED, why=why)

    def supersede(self, claim: Claim, *, why: str) -> None:
        """End a claimed scene as *superseded*: a newer source revision is published already; raises `ClaimLost`."""
        with self._database.write() as session:
            self.move(session, claim, SceneState.SUPERSEDED, why=why, reason=why)

    def intervene(
        self,
        scene_id: int,
        after: SceneState,
        *,
        actor: str,
        why: str,
        of: Collection[SceneState] | None = None,
        dry_run: bool = False,
    ) -> SceneRow:
        """Move a scene by hand, where `catalog.states.BY_HAND` allows it; a scene that a worker holds is never touched.

        A scene made *discovered* counts its attempts from none and is due at once.

        Args:
            scene_id: The scene.
            after: Where it goes.
            actor: Who asks.
            why: The reason, for the history; for a rejection also what people are told.
            of: Only from these states; from all that the table allows where None.
            dry_run: Only see whether it can be done.

        Returns:
            The scene as it was before.

        Raises:
            UnknownScene: no such scene.
            NotMovable: it stands where this does not apply; nothing was changed.
        """
        allowed = BY_HAND[after] if of is None else BY_HAND[after] & frozenset(of)
        with self._database.read() if dry_run else self._database.write() as session:
            record = self._record(session, scene_id, lock=not dry_run)
            row = _row(record)
            if row.state not in allowed:
                raise NotMovable(scene_id, row.state, after, allowed)
            check_move(row.state, after)
            if not dry_run:
                _put(session, record, after, why)
                self._audit(session, record, row.state, after, actor, why[:_LONGEST_REASON])
        return row

    def requested_by(self, scene_ids: Sequence[int]) -> dict[int, str]:
        """Return who last asked for each scene: who discovered it, or sent it back to be made (again).

        A lease that ended and a worker that was stopped also return scenes, but ask for nothing.
        """
        asked: dict[int, str] = {}
        for start in range(0, len(scene_ids), _BATCH):
            query = (
                select(TransitionRecord.scene_id, TransitionRecord.actor)
                .where(
                    TransitionRecord.scene_id.in_(scene_ids[start : start + _BATCH]),
                    TransitionRecord.after == SceneState.DISCOVERED,
                    or_(TransitionRecord.before.is_(None), TransitionRecord.before.in_(BY_HAND[SceneState.DISCOVERED])),
                )
                .order_by(TransitionRecord.id)
            )
            with self._database.read() as session:
                asked.update((scene, actor) for scene, actor in session.execute(query))
        return asked

    def held_tokens(self) -> set[str]:
        """Return the tokens of all claims that hold a scene now."""
        with self._database.read() as session:
            query = select(SceneRecord.token).where(SceneRecord.state.in_(HELD))
            return {token for token in session.scalars(query) if token}

    def product_revisions(self) -> set[str]:
        """Return every product revision that this ledger ever began."""
        with self._database.read() as session:
            query = select(SceneRecord.product_revision).distinct()
            return {revision for revision in session.scalars(query) if revision}

    def expired(self) -> list[int]:
        """Return scenes that a worker holds whose lease has ended; nothing is changed."""
        with self._database.read() as session:
            query = select(SceneRecord.id).where(SceneRecord.state.in_(HELD), SceneRecord.lease_until < database_now())
            return list(session.scalars(query.order_by(SceneRecord.id)))

    def release_expired(self, *, actor: str) -> list[int]:
        """Return scenes whose lease ended to *discovered*, or quarantine them after too many tries."""
        query = select(SceneRecord).where(SceneRecord.state.in_(HELD), SceneRecord.lease_until < database_now())
        with self._database.read() as session:
            if session.scalars(query.limit(1)).first() is None:
                return []  # the usual case takes no write lock
        with self._database.write() as session:
            released = []
            # Locked: between this look and the change nobody can claim the scene anew and lose it again.
            for record in session.scalars(query.with_for_update(skip_locked=True)):
                was = SceneState(record.state)
                spent = record.attempts >= self._max_attempts
                after = SceneState.QUARANTINED if spent else SceneState.DISCOVERED
                check_move(was, after)
                why = f"the lease of attempt {record.attempts} ended: the worker died or lost the database"
                record.state, record.token, record.lease_until = after, None, None
                record.reason = why if spent else None
                record.changed_at = datetime.now(UTC)
                self._audit(session, record, was, after, actor, why)
                released.append(record.id)
            return released

    def due(self, limit: int = 100) -> list[SceneRow]:
        """List scenes to work on now, oldest first; expired leases are returned to *discovered* before."""
        self.release_expired(actor="ledger")
        with self._database.read() as session:
            query = select(SceneRecord).where(_ready()).order_by(SceneRecord.sensed, SceneRecord.id).limit(limit)
            return [_row(record) for record in session.scalars(query)]

    def due_ids(self) -> list[int]:
        """List the numbers of all scenes to work on now, as `due` does."""
        self.release_expired(actor="ledger")
        with self._database.read() as session:
            query = select(SceneRecord.id).where(_ready()).order_by(SceneRecord.sensed, SceneRecord.id)
            return list(session.scalars(query))

    def waiting(self, limit: int = 100) -> list[SceneRow]:
        """List scenes that wait, are in work or are in quarantine, those first that were discovered first."""
        states = [SceneState.DISCOVERED, SceneState.FAILED, SceneState.QUARANTINED, *sorted(HELD)]
        with self._database.read() as session:
            query = select(SceneRecord).where(SceneRecord.state.in_(states))
            query = query.order_by(SceneRecord.discovered_at, SceneRecord.id).limit(limit)
            return [_row(record) for record in session.scalars(query)]

    def scene(self, scene_id: int) -> SceneRow:
        """Return one scene; raises `UnknownScene`."""
        with self._database.read() as session:
            return _row(self._record(session, scene_id))

    def scenes(
        self, *, state: SceneState | str | None = None, region: str | None = None, limit: int = 100
    ) -> list[SceneRow]:
        """List scenes, newest acquisition first."""
        query = select(SceneRecord).order_by(SceneRecord.sensed.desc(), SceneRecord.id.desc()).limit(limit)
        if state is not None:
            query = query.where(SceneRecord.state == SceneState(state))
        if region is not None:
            query = query.where(SceneRecord.region == region)
        with self._database.read() as session:
            return [_row(record) for record in session.scalars(query)]

    def counts(self) -> Mapping[SceneState, int]:
        """Count scenes by state; states without scenes are left out."""
        with self._database.read() as session:
            query = select(SceneRecord.state, func.count()).group_by(SceneRecord.state)
            return {SceneState(state): number for state, number in session.execute(query)}

    def history(self, scene_id: int) -> list[Step]:
        """Return everything that happened to a scene, oldest first; raises `UnknownScene`."""
        with self._database.read() as session:
            self._record(session, scene_id)
            query = select(TransitionRecord).where(TransitionRecord.scene_id == scene_id).order_by(TransitionRecord.id)
            return [
                Step(r.at, SceneState(r.before) if r.before else None, SceneState(r.after), r.actor, r.why)
                for r in session.scalars(query)
            ]

    def watermark(self, source: str, region: str) -> datetime | None:
        """Return the newest publication time seen from a source over a region; None before the first watch."""
        with self._database.read() as session:
            record = session.get(WatermarkRecord, (source, region))
            return record.published if record else None

    def set_watermark(self, source: str, region: str, published: datetime) -> None:
        """Note the newest publication time seen; a mark never moves back."""
        with self._database.write() as session:
            line_up(session, Queue.WATERMARK)
            record = session.get(WatermarkRecord, (source, region))
            if record is None:
                session.add(WatermarkRecord(source=source, region=region, published=published))
            elif published > record.published:
                record.published = published

    def move(self, session: Session, claim: Claim, after: SceneState, *, why: str, **changes: Any) -> None:
        """Move a claimed scene on within a transaction of the caller's; for publishing and for this class.

        Raises:
            ClaimLost: the claim is gone; the transaction must not be committed.
            IllegalMove: the table of moves has no such move.
        """
        record = self._record(session, claim.scene_id, lock=True)
        before = SceneState(record.state)
        ends = {} if after in HELD else {"token": None, "lease_until": None}
        self._held(session, claim, state=after, changed_at=datetime.now(UTC), **ends, **changes)
        check_move(before, after)
        self._audit(session, record, before, after, f"{claim.actor} (claim {claim.token[:8]})", why)

    def _held(self, session: Session, claim: Claim, **values: Any) -> None:
        """Change a scene on the condition that the claim still holds it."""
        done = session.execute(
            update(SceneRecord)
            .where(
                SceneRecord.id == claim.scene_id,
                SceneRecord.token == claim.token,
                SceneRecord.state.in_(HELD),
                SceneRecord.lease_until >= database_now(),
            )
            .values(**values)
            .returning(SceneRecord.id)
            .execution_options(synchronize_session=False)
        ).scalar_one_or_none()
        if done is None:
            raise ClaimLost(f"scene {claim.scene_id}: the claim {claim.token[:8]} of attempt {claim.attempt} has ended")

    def _record(self, session: Session, scene_id: int, *, lock: bool = False) -> SceneRecord:
        record = session.get(SceneRecord, scene_id, populate_existing=True, with_for_update=lock or None)
        if record is None:
            raise UnknownScene(f"the ledger has no scene {scene_id}; see: explains2a scenes list")
        return record

    def _audit(
        self,
        session: Session,
        record: SceneRecord,
        before: SceneState | None,
        after: SceneState,
        actor: str,
        why: str | None,
    ) -> None:
        session.add(
            TransitionRecord(scene_id=record.id, at=datetime.now(UTC), before=before, after=after, actor=actor, why=why)
        )


def _ready() -> ColumnElement[bool]:
    return or_(
        SceneRecord.state == SceneState.DISCOVERED,
        and_(SceneRecord.state == SceneState.FAILED, SceneRecord.next_attempt <= database_now()),
    )


def _put(session: Session, record: SceneRecord, after: SceneState, why: str) -> None:
    """Write what a move by hand changes."""
    if record.state == SceneState.PUBLISHED:
        # The same product may be published once more, as the next version: its revision must not be taken by this one.
        session.execute(
            update(ItemVersionRecord)
            .where(
                ItemVersionRecord.scene_id == record.id, ItemVersionRecord.product_revision == record.product_revision
            )
            .values(
                product_revision=ItemVersionRecord.product_revision + ".v" + cast(ItemVersionRecord.version, String)
            )
            .execution_options(synchronize_session=False)
        )
    asked = after is SceneState.DISCOVERED
    record.state, record.token, record.lease_until = after, None, None
    record.reason, record.error_class = (None if asked else why[:_LONGEST_REASON]), None
    if asked:
        record.attempts, record.next_attempt = 0, 0.0
    record.changed_at = datetime.now(UTC)


def _row(record: SceneRecord) -> SceneRow:
    state = SceneState(record.state)
    pause_ends = datetime.fromtimestamp(record.next_attempt, UTC) if state is SceneState.FAILED else None
    values = {name: getattr(record, name) for name in SceneRow.__dataclass_fields__}
    return SceneRow(**{**values, "state": state, "next_attempt": pause_ends})
