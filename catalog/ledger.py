"""The ledger: which scenes are known, who works on which, what became of each. Nothing that entered it is ever lost."""

from __future__ import annotations

import logging
import random
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from sqlalchemy import and_, func, or_, select, tuple_, update

from catalog.dialects import Queue, database_now, line_up
from catalog.states import HELD, SceneState, check_move
from catalog.tables import DeliveryRecord, SceneRecord, TransitionRecord, WatermarkRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from catalog.session import Database

__all__ = ["Claim", "ClaimLost", "Discovered", "Discovery", "Ledger", "NotClaimable", "SceneRow", "SceneState", "Step",
           "UnknownScene"]  # fmt: skip

logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS: Final = 60.0
_LONGEST_PAUSE_SECONDS: Final = 6 * 3600.0
_CLAIMABLE: Final = (SceneState.DISCOVERED, SceneState.FAILED, SceneState.REJECTED, SceneState.QUARANTINED)


class UnknownScene(LookupError):
    """The ledger has no scene of that number."""

    transient: ClassVar[bool] = False


class NotClaimable(RuntimeError):
    """Another worker holds the scene, or it is finished."""

    transient: ClassVar[bool] = False


class ClaimLost(RuntimeError):
    """The claim's lease ended or another worker holds the scene; stop and leave it to them."""

    transient: ClassVar[bool] = False


@dataclass(frozen=True)
class Discovery:
    """One delivery by one source, as a watcher saw it."""

    acquisition: str
    """Stable id of the acquisition."""
    region: str
    source: str
    """Name of the source in the settings."""
    source_item_id: str
    platform: str
    tile: str
    sensed: datetime
    """Sensing start, aware."""
    baseline: str
    """Processing baseline such as ``05.11``; empty when unknown."""
    generated: datetime | None
    """Generation time of the source product, aware."""
    published: datetime | None
    """When the source made it available, aware."""
    source_item: dict[str, Any]
    """The STAC item, enough to open the scene again."""

    @property
    def revision(self) -> tuple[str, str]:
        """Baseline, then generation time in whole seconds (services cut it differently); both order as text."""
        generated = self.generated.astimezone(UTC).replace(microsecond=0).isoformat() if self.generated else ""
        return self.baseline, generated


DeliveryOutcome = Literal["new", "known", "duplicate", "reprocessing", "outdated"]


@dataclass(frozen=True)
class Discovered:
    """What the ledger made of one delivery."""

    scene_id: int
    outcome: DeliveryOutcome
    """``new``; ``known``: this very item was seen before; ``duplicate``: the same product from elsewhere;
    ``reprocessing``: a newer revision of a known acquisition, a scene of its own; ``outdated``: an older one, left."""
    discovery: Discovery


@dataclass(frozen=True)
class Claim:
    """The right to work on a scene, until its lease ends."""

    scene_id: int
    token: str
    attempt: int
    """Counted from one."""


@dataclass(frozen=True)
class SceneRow:
    """One scene of the ledger."""

    id: int
    acquisition: str
    region: str
    source: str
    source_item_id: str
    source_item: dict[str, Any]
    platform: str
    tile: str
    sensed: datetime
    baseline: str
    generated: datetime | None
    state: SceneState
    attempts: int
    product_revision: str | None
    item_id: str | None
    reason: str | None
    error_class: str | None
    discovered_at: datetime
    changed_at: datetime


@dataclass(frozen=True)
class Step:
    """One line of a scene's history."""

    at: datetime
    before: SceneState | None
    after: SceneState
    actor: str
    why: str | None


class Ledger:
    """The ledger of one database. Every method is one transaction."""

    def __init__(self, database: Database, *, max_attempts: int = 5) -> None:
        self._database = database
        self._max_attempts = max_attempts

    def discover(self, discoveries: Iterable[Discovery], *, actor: str) -> list[Discovered]:
        """Record deliveries; the work is two reads and one write for the whole batch.

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
            line_up(session, Queue.DISCOVERY)
            known = self._known_scenes(session, batch)
            seen = self._seen_deliveries(session, batch)
            return [self._take(session, discovery, known, seen, actor) for discovery in batch]

    def _known_scenes(
        self, session: Session, batch: Sequence[Discovery]
    ) -> dict[tuple[str, str], dict[tuple[str, str], SceneRecord]]:
        pairs = {(d.acquisition, d.region) for d in batch}
        query = select(SceneRecord).where(tuple_(SceneRecord.acquisition, SceneRecord.region).in_(pairs))
        known: dict[tuple[str, str], dict[tuple[str, str], SceneRecord]] = {pair: {} for pair in pairs}
        for record in session.scalars(query):
            known[record.acquisition, record.region][record.baseline, record.generated_key] = record
        return known

    def _seen_deliveries(self, session: Session, batch: Sequence[Discovery]) -> set[tuple[int, str, str]]:
        items = {(d.source, d.source_item_id) for d in batch}
        query = select(DeliveryRecord.scene_id, DeliveryRecord.source, DeliveryRecord.source_item_id).where(
            tuple_(DeliveryRecord.source, DeliveryRecord.source_item_id).in_(items)
        )
        return {(scene, source, item) for scene, source, item in session.execute(query)}

    def _take(
        self,
        session: Session,
        discovery: Discovery,
        known: dict[tuple[str, str], dict[tuple[str, str], SceneRecord]],
        seen: set[tuple[int, str, str]],
        actor: str,
    ) -> Discovered:
        revisions = known[discovery.acquisition, discovery.region]
        record = revisions.get(discovery.revision)
        if record is not None:
            delivery = (record.id, discovery.source, discovery.source_item_id)
            if delivery in seen:
                return Discovered(record.id, "known", discovery)
            self._note_delivery(session, record, discovery, seen)
            state = SceneState(record.state)
            why = f"delivered again as {discovery.source_item_id} by {discovery.source}"
            self._audit(session, record, state, state, actor, why)
            return Discovered(record.id, "duplicate", discovery)
        if revisions and discovery.revision < max(revisions):
            newest = revisions[max(revisions)]
            return Discovered(newest.id, "outdated", discovery)
        outcome: DeliveryOutcome = "reprocessing" if revisions else "new"
        record = self._insert(session, discovery)
        revisions[discovery.revision] = record
        self._note_delivery(session, record, discovery, seen)
        self._audit(session, record, None, SceneState.DISCOVERED, actor, f"{outcome}: {discovery.source_item_id}")
        return Discovered(record.id, outcome, discovery)

    def _insert(self, session: Session, discovery: Discovery) -> SceneRecord:
        now = datetime.now(UTC)
        baseline, generated_key = discovery.revision
        record = SceneRecord(
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
        session.add(record)
        session.flush()
        return record

    def _note_delivery(
        self, session: Session, record: SceneRecord, discovery: Discovery, seen: set[tuple[int, str, str]]
    ) -> None:
        session.add(
            DeliveryRecord(
                scene_id=record.id,
                source=discovery.source,
                source_item_id=discovery.source_item_id,
                seen_at=datetime.now(UTC),
            )
        )
        seen.add((record.id, discovery.source, discovery.source_item_id))

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
                .where(SceneRecord.id == scene_id, or_(SceneRecord.state.in_(_CLAIMABLE), expired))
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
                raise NotClaimable(f"scene {scene_id} is {was}; it can be claimed when discovered, failed or rejected")
            if was in HELD:
                self._audit(session, before, was, SceneState.DISCOVERED, actor, "the lease ended")
                was = SceneState.DISCOVERED
            check_move(was, SceneState.CLAIMED)
            self._audit(session, before, was, SceneState.CLAIMED, actor, f"attempt {taken}")
        return Claim(scene_id, token, taken)

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
        why = f"{error_class}: {message}" + (f"; next attempt in {pause:.0f} s" if again else "")
        with self._database.write() as session:
            self.move(
                session, claim, state, why=why, reason=f"{error_class}: {message}", error_class=error_class,
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

    def release_expired(self, *, actor: str) -> list[int]:
        """Return scenes whose lease ended to *discovered*, or quarantine them after too many tries."""
        with self._database.write() as session:
            query = select(SceneRecord).where(SceneRecord.state.in_(HELD), SceneRecord.lease_until < database_now())
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
        ready = or_(
            SceneRecord.state == SceneState.DISCOVERED,
            and_(SceneRecord.state == SceneState.FAILED, SceneRecord.next_attempt <= database_now()),
        )
        with self._database.read() as session:
            query = select(SceneRecord).where(ready).order_by(SceneRecord.sensed, SceneRecord.id).limit(limit)
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
        self._audit(session, record, before, after, f"claim {claim.token[:8]}", why)

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


def _row(record: SceneRecord) -> SceneRow:
    names = SceneRow.__dataclass_fields__
    values = {name: getattr(record, name) for name in names}
    return SceneRow(**{**values, "state": SceneState(record.state)})
