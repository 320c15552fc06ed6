"""Deliveries become scenes: one per acquisition, region and source revision, however often it is delivered.

What was seen before is recognised by one read of narrow rows for a whole batch; only what is left is looked at with the
items of its acquisition (`catalog.revisions` has the rules), and only that is written.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from sqlalchemy import insert, select, update

from catalog.dialects import Queue, line_up
from catalog.revisions import are_twins, covers, outline_in, quality_changes
from catalog.scenes import MAKES_SCENES, Discovered, KnownDelivery
from catalog.states import HELD, SceneState
from catalog.tables import DeliveryRecord, SceneRecord, TransitionRecord
from infra.settings import Reprocessing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.orm import Session

    from catalog.scenes import DeliveryOutcome, Discovery

T = TypeVar("T")

_BATCH: Final = 500
"""Names in one IN list; SQLite takes 32 766 parameters, and plans of long lists are slow everywhere."""

_MOST_PARTS: Final = 9

_SETTLED: Final = frozenset({SceneState.PUBLISHED, SceneState.REJECTED, SceneState.SUPERSEDED}) | HELD
"""Where a scene stands when a region that wants no newer revisions is content with it."""

_UNREACHABLE: Final = frozenset({"RasterUnreachable", "SourceUnavailable"})
"""Errors that a source's absence causes; another source that has the same product may help."""

_PARTS: Final = tuple(f"_P{number}" for number in range(2, _MOST_PARTS + 1))

_Key = tuple[str, str]
"""Source and id of an item."""


class _Seen(NamedTuple):
    """A delivery that was recorded before, with what became of it."""

    scene_id: int
    outcome: str
    revision: tuple[str, str]
    """Of its scene."""
    source: str
    """Of its scene."""
    state: str
    attempts: int
    error_class: str | None
    delivery_id: int
    stamp: str | None

    def settles(self, discovery: Discovery) -> bool:
        """Say whether seeing it again tells nothing new."""
        if discovery.revision == self.revision:
            return True
        if self.outcome in {"outdated", "covered"}:
            return discovery.revision <= self.revision
        return self.outcome == "ignored" and discovery.policy is Reprocessing.IGNORE


@dataclass
class _Family:
    """What is known of one acquisition over one region."""

    scenes: list[SceneRecord] = field(default_factory=list)
    """Those of this batch included."""

    def newest(self, discovery: Discovery) -> SceneRecord | None:
        """Return the newest scene of the part that a delivery shows most of; of equal ones the first."""
        parts: dict[str, SceneRecord] = {}
        for scene in self.scenes:
            known = parts.setdefault(scene.acquisition, scene)
            if _revision(scene) > _revision(known):
                parts[scene.acquisition] = scene
        if len(parts) < 2:
            return next(iter(parts.values()), None)
        seen = outline_in(discovery.source_item, discovery.area)
        if seen is None:
            return parts.get(discovery.acquisition)

        def shared(scene: SceneRecord) -> float:
            shown = outline_in(scene.source_item, discovery.area)
            return 0.0 if shown is None else float(shown.intersection(seen).area)

        return max((parts[name] for name in sorted(parts)), key=shared)

    def judge(self, discovery: Discovery) -> tuple[DeliveryOutcome, SceneRecord | None]:
        """Say what one more delivery is, and which scene it belongs to; nothing is changed."""
        same = [scene for scene in self.scenes if _revision(scene) == discovery.revision]
        if same:
            return "duplicate", same[0]
        known = self.newest(discovery)
        if known is None:
            return "new", None
        twin = self._as_twin(discovery, known)
        if twin is not None:
            return twin, known
        if discovery.revision < _revision(known):
            return "outdated", known
        return _wanted(discovery, known), known

    def _as_twin(self, discovery: Discovery, known: SceneRecord) -> DeliveryOutcome | None:
        """Judge another station's delivery; None where the order of revisions decides."""
        item, source = discovery.source_item, discovery.source
        if discovery.as_part is None or discovery.baseline != known.baseline:
            return None
        if not are_twins(item, known.source_item, same_source=source == known.source):
            return None
        new, old = outline_in(item, discovery.area), outline_in(known.source_item, discovery.area)
        if new is None or old is None:
            return None
        later = discovery.revision > _revision(known)
        if covers(new, old) and (later or covers(old, new)):
            return None
        if covers(old, new) or len(self.scenes) >= _MOST_PARTS:
            return "covered"
        return "part"

    def next_part(self) -> int:
        """Return the number of one more part."""
        return 1 + len({scene.acquisition for scene in self.scenes})


def _wanted(discovery: Discovery, known: SceneRecord) -> DeliveryOutcome:
    """Say what follows from a newer revision by the region's policy."""
    if SceneState(known.state) in _SETTLED:
        if discovery.policy is Reprocessing.IGNORE:
            return "ignored"
        alike = not quality_changes(known.source_item, discovery.source_item)
        if discovery.policy is Reprocessing.IF_QUALITY_DIFFERS and alike:
            return "unchanged"
    return "reprocessing"


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
    seen = _seen(session, batch)
    known = {n: old for n, d in enumerate(batch) if (old := _settled(seen, d)) is not None}
    families = _families(session, [d for n, d in enumerate(batch) if n not in known])
    answers: list[tuple[SceneRecord | int, DeliveryOutcome, Discovery]] = []
    turns = [(old.scene_id, batch[n]) for n, old in known.items() if _may_turn(old, batch[n])]
    recorded: dict[tuple[_Key, str], SceneRecord] = {}
    for number, discovery in enumerate(batch):
        if number in known:
            answers.append((known[number].scene_id, "known", discovery))
            continue
        outcome, scene = _enter(families[discovery.acquisition, discovery.region], discovery)
        key = (_key(discovery), discovery.region)
        if recorded.get(key) is scene or _repeats(seen, key, outcome, scene):
            outcome = "known"
        recorded[key] = scene
        answers.append((scene, outcome, discovery))
    _insert_scenes(session, [s for s, outcome, _ in answers if isinstance(s, SceneRecord) and outcome in MAKES_SCENES])
    deliveries, transitions = [], []
    for record, outcome, discovery in answers:
        if isinstance(record, SceneRecord) and outcome != "known":
            if not _replaced_in_place(session, record, outcome, discovery, seen):
                deliveries.append(_delivery(record, outcome, discovery))
            transitions.append(_trace(record, outcome, discovery, actor))
            turns += [(record.id, discovery)] if outcome == "duplicate" else []
    for table, rows in ((DeliveryRecord, deliveries), (TransitionRecord, transitions)):
        if rows:
            session.execute(insert(table), rows)
    _renew_stamps(session, [(old, batch[n]) for n, old in known.items()])
    _turn(session, turns, actor)
    return [Discovered(s if isinstance(s, int) else s.id, outcome, d) for s, outcome, d in answers]


def known_deliveries(session: Session, source: str, region: str, since: datetime) -> dict[str, KnownDelivery]:
    """List a source's deliveries over a region, published since a time, of which another sight tells nothing new.

    Left out is what the region's policy decided, for that may change, and what may turn a scene to another source.
    """
    turnable = SceneRecord.state.in_([SceneState.DISCOVERED, SceneState.FAILED]) & (SceneRecord.source != source)
    query = (
        select(DeliveryRecord.source_item_id, DeliveryRecord.stamp, SceneRecord.sensed, DeliveryRecord.published)
        .join(SceneRecord, SceneRecord.id == DeliveryRecord.scene_id)
        .where(DeliveryRecord.source == source, DeliveryRecord.published >= since, SceneRecord.region == region)
        .where(DeliveryRecord.stamp.is_not(None), DeliveryRecord.outcome.not_in(["ignored", "unchanged"]), ~turnable)
    )
    known: dict[str, KnownDelivery] = {}
    for item, stamp, sensed, offered in session.execute(query).tuples():
        before = known[item].stamps if item in known else frozenset()
        known[item] = KnownDelivery(before | {str(stamp)}, sensed, offered)
    return known


def _enter(family: _Family, discovery: Discovery) -> tuple[DeliveryOutcome, SceneRecord]:
    """Judge a delivery and make the scene that it may cause."""
    outcome, known = family.judge(discovery)
    if known is not None and outcome not in MAKES_SCENES:
        return outcome, known
    if outcome == "part" and discovery.as_part is not None:
        told = discovery.as_part(family.next_part())
    elif known is not None and known.acquisition != discovery.acquisition and discovery.as_part is not None:
        told = discovery.as_part(int(known.acquisition.rpartition("_P")[2]))  # a newer revision of a part
    else:
        told = discovery
    scene = _scene(told)
    family.scenes.append(scene)
    return outcome, scene


def _seen(session: Session, batch: Sequence[Discovery]) -> dict[tuple[_Key, str], list[_Seen]]:
    """Return what is recorded of the batch's items, by item and region."""
    found: defaultdict[tuple[_Key, str], list[_Seen]] = defaultdict(list)
    by_source: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for discovery in batch:
        by_source[discovery.source][discovery.source_item_id] = None
    regions = sorted({discovery.region for discovery in batch})
    for source, items in by_source.items():
        for names in _chunks(list(items)):
            query = (
                select(
                    DeliveryRecord.source_item_id, SceneRecord.region, SceneRecord.id, DeliveryRecord.outcome,
                    SceneRecord.baseline, SceneRecord.generated_key, SceneRecord.source, SceneRecord.state,
                    SceneRecord.attempts, SceneRecord.error_class, DeliveryRecord.id, DeliveryRecord.stamp,
                )
                .join(SceneRecord, SceneRecord.id == DeliveryRecord.scene_id)
                .where(DeliveryRecord.source == source, DeliveryRecord.source_item_id.in_(names))
                .where(SceneRecord.region.in_(regions))
            )  # fmt: skip
            for item, region, scene, outcome, baseline, generated, *now in session.execute(query):
                found[(source, item), region].append(_Seen(scene, outcome, (baseline, generated), *now))
    return found


def _settled(seen: dict[tuple[_Key, str], list[_Seen]], discovery: Discovery) -> _Seen | None:
    before = seen.get((_key(discovery), discovery.region), ())
    return next((one for one in before if one.settles(discovery)), None)


def _repeats(
    seen: dict[tuple[_Key, str], list[_Seen]], key: tuple[_Key, str], outcome: DeliveryOutcome, scene: SceneRecord
) -> bool:
    """Say whether the very same was said of an item before."""
    return any(one.scene_id == scene.id and one.outcome == outcome for one in seen.get(key, ()))


def _families(session: Session, batch: Sequence[Discovery]) -> dict[tuple[str, str], _Family]:
    """Load everything known of some acquisitions, items included: few of a batch are new."""
    families = {(d.acquisition, d.region): _Family() for d in batch}
    if not batch:
        return families
    names = {f"{name}{part}": name for name, _ in families for part in ("", *_PARTS)}
    regions = sorted({region for _, region in families})
    for some in _chunks(list(names)):
        query = select(SceneRecord).where(SceneRecord.acquisition.in_(some), SceneRecord.region.in_(regions))
        for record in session.scalars(query.order_by(SceneRecord.id)):
            family = families.get((names[record.acquisition], record.region))
            if family is not None:
                family.scenes.append(record)
    return families


def _may_turn(seen: _Seen, discovery: Discovery) -> bool:
    if discovery.source == seen.source or discovery.revision != seen.revision:
        return False
    return _turns(discovery, seen.source, seen.state, seen.attempts, seen.error_class)


def _turns(discovery: Discovery, source: str, state: str, attempts: int, error_class: str | None) -> bool:
    """Say whether a scene should be made from another source than it is now.

    It is, while nobody has tried it, when a source that comes before delivers it too; and once, when the files of the
    first could not be reached and another source has the same product.
    """
    if state == SceneState.DISCOVERED and attempts == 0:
        return source in discovery.preferred_to
    return state == SceneState.FAILED and attempts == 1 and error_class in _UNREACHABLE


def _turn(session: Session, turns: Sequence[tuple[int, Discovery]], actor: str) -> None:
    """Make scenes from another source, as far as no worker was faster."""
    wanted = dict(reversed(turns))
    for some in _chunks(sorted(wanted)):
        query = select(SceneRecord).where(SceneRecord.id.in_(some)).with_for_update()
        for record in session.scalars(query.execution_options(populate_existing=True)):
            offer = wanted[record.id]
            same = (offer.source, offer.source_item_id) == (record.source, record.source_item_id)
            if same or not _turns(offer, record.source, record.state, record.attempts, record.error_class):
                continue
            why = f"to be made from {offer.source_item_id} by {offer.source} instead of {record.source}"
            part = record.acquisition.rpartition("_P")[2] if record.acquisition != offer.acquisition else ""
            told = offer.as_part(int(part)) if part and offer.as_part else offer
            before, record.error_class = record.state, None
            record.source, record.source_item_id = told.source, told.source_item_id
            record.source_item, record.upstream_published = told.source_item, told.published
            if before == SceneState.FAILED:
                record.state, record.changed_at = SceneState.DISCOVERED, datetime.now(UTC)
            session.add(TransitionRecord(**_transition(record, before, actor, why)))


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
        attempts=0,
        next_attempt=0.0,
        discovered_at=now,
        changed_at=now,
    )


def _renew_stamps(session: Session, known: Sequence[tuple[_Seen, Discovery]]) -> None:
    """Keep the newest stamp of items that changed without telling anything new, so that they are not read again."""
    changed = {old.delivery_id: d.stamp for old, d in known if d.stamp and d.stamp != old.stamp}
    if changed:
        session.execute(update(DeliveryRecord), [{"id": number, "stamp": stamp} for number, stamp in changed.items()])


def _insert_scenes(session: Session, scenes: Sequence[SceneRecord]) -> None:
    """Write new scenes with one statement and tell each its number; the unit of work would write row by row."""
    if not scenes:
        return
    columns = [column for column in SceneRecord.__table__.columns if column.key != "id"]
    rows = [{column.key: getattr(scene, column.key) for column in columns} for scene in scenes]
    made = insert(SceneRecord).returning(
        SceneRecord.id, SceneRecord.acquisition, SceneRecord.region, SceneRecord.baseline, SceneRecord.generated_key
    )
    numbers = {tuple(key): number for number, *key in session.execute(made, rows)}
    for scene in scenes:
        scene.id = numbers[scene.acquisition, scene.region, scene.baseline, scene.generated_key]


def _replaced_in_place(
    session: Session,
    record: SceneRecord,
    outcome: DeliveryOutcome,
    discovery: Discovery,
    seen: dict[tuple[_Key, str], list[_Seen]],
) -> bool:
    """Note what became of an item that now says something else under the same id; False when it is a new one."""
    before = seen.get((_key(discovery), discovery.region), ())
    if not any(one.scene_id == record.id for one in before):
        return False
    session.execute(
        update(DeliveryRecord)
        .where(
            DeliveryRecord.scene_id == record.id,
            DeliveryRecord.source == discovery.source,
            DeliveryRecord.source_item_id == discovery.source_item_id,
        )
        .values(outcome=outcome, published=discovery.offered, stamp=discovery.stamp or None)
    )
    return True


def _delivery(record: SceneRecord, outcome: DeliveryOutcome, discovery: Discovery) -> dict[str, Any]:
    return {
        "scene_id": record.id,
        "source": discovery.source,
        "source_item_id": discovery.source_item_id,
        "outcome": outcome,
        "seen_at": datetime.now(UTC),
        "published": discovery.offered,
        "stamp": discovery.stamp or None,
    }


def _trace(record: SceneRecord, outcome: DeliveryOutcome, discovery: Discovery, actor: str) -> dict[str, Any]:
    """Tell of a delivery in one line of its scene's history."""
    item = f"{discovery.source_item_id} by {discovery.source}"
    said = " ".join(discovery.revision).strip() or "unknown"
    why = {
        "duplicate": f"delivered again as {item}",
        "outdated": f"an older revision ({said}) was delivered as {item}",
        "ignored": f"a newer revision ({said}) was delivered as {item}; the region wants none",
        "unchanged": f"a newer revision ({said}) of the same quality was delivered as {item}; the region wants no such",
        "covered": f"another station's delivery without further pixels: {item}",
        "part": f"another station's delivery with further pixels: {item}",
    }.get(outcome, f"{outcome}: {discovery.source_item_id}")
    return _transition(record, None if outcome in MAKES_SCENES else record.state, actor, why)


def _transition(record: SceneRecord, before: str | None, actor: str, why: str) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {"scene_id": record.id, "at": now, "before": before, "after": record.state, "actor": actor, "why": why}


def _key(discovery: Discovery) -> _Key:
    return discovery.source, discovery.source_item_id


def _revision(record: SceneRecord) -> tuple[str, str]:
    return record.baseline, record.generated_key


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), _BATCH):
        yield values[start : start + _BATCH]
