"""What operators ask of the catalog at a glance: states and reasons, backlog, latencies, costs, quality over time."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from catalog.items import PREFIX
from catalog.states import HELD, SceneState
from catalog.tables import ItemVersionRecord, SceneRecord, item_search
from catalog.tile_days import TileDays, tile_days

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from catalog.session import Database

DRIFT_FIELDS: Final = (
    "out_of_domain_fraction", "resimulation_rmse", "mean_uncertainty", "within_noise_fraction",
    "low_consistency_fraction",
)  # fmt: skip
"""Scalar facts of products that tell when the scenes, or the model, are not what they were."""

_WAITING: Final = (SceneState.DISCOVERED, SceneState.FAILED, *sorted(HELD))
_REFUSED: Final = (SceneState.REJECTED, SceneState.FAILED, SceneState.QUARANTINED)
_SAMPLE: Final = 200
"""Products, newest first, that averages are taken over."""


@dataclass(frozen=True)
class Spread:
    """How a number spreads over scenes."""

    number: int
    """Scenes that have it."""
    median: float
    p90: float
    """Nine of ten are not above it."""
    largest: float


@dataclass(frozen=True)
class Cost:
    """What a product costs on average."""

    products: int
    """How many the average is taken over."""
    seconds: float
    """Wall time of one worker per scene, s."""
    bytes: float
    """Of all files of one product."""


@dataclass(frozen=True)
class Success:
    """The last product of a tile over a region."""

    tile: str
    region: str
    published: datetime


@dataclass(frozen=True)
class Overview:
    """Where everything stands at one time."""

    at: datetime
    states: Mapping[str, int]
    reasons: Mapping[str, int]
    """Scenes by state and gate or error class, such as ``rejected: cloud``."""
    backlog: int
    """Scenes that are waiting or in work."""
    oldest_waiting_seconds: float | None
    """Since the oldest of them was discovered."""
    latency_seconds: Mapping[str, Spread]
    """``sensing to upstream``, ``upstream to product`` and ``sensing to product``."""
    last_success: Sequence[Success]
    costs: Mapping[str, Cost]
    """By region; ``all`` is the average of all."""
    models: Mapping[str, int]
    """Products by the model that made them."""
    recent: TileDays = field(default_factory=lambda: TileDays(7, (), ()))
    """The last days tile by tile."""


@dataclass(frozen=True)
class Quality:
    """What one product says about itself."""

    item_id: str
    region: str
    sensed: datetime
    values: Mapping[str, float | None]
    """By field of `DRIFT_FIELDS`."""


def overview(database: Database, *, days: float = 30, now: datetime | None = None) -> Overview:
    """Look at everything at once, in one consistent read.

    Args:
        database: Where.
        days: Reasons and latencies are of so many days; states and backlog of all time.
        now: The present time; the clock's where None.
    """
    now = now or datetime.now(UTC)
    since = now - timedelta(days=days)
    with database.read() as session:
        waiting = select(func.count(), func.min(SceneRecord.discovered_at)).where(SceneRecord.state.in_(_WAITING))
        backlog, oldest = session.execute(waiting).one()
        costs, models = _products(session)
        states = select(SceneRecord.state, func.count()).group_by(SceneRecord.state)
        return Overview(
            at=now,
            states=dict(session.execute(states).tuples().all()),
            reasons=_reasons(session, since),
            backlog=backlog,
            oldest_waiting_seconds=None if oldest is None else (now - oldest).total_seconds(),
            latency_seconds=_latencies(session, since),
            last_success=_successes(session),
            costs=costs,
            models=models,
            recent=tile_days(session, now=now),
        )


def quality_history(database: Database, collection: str, *, since: datetime | None = None) -> list[Quality]:
    """Return what the latest products say about themselves, in the order in which they were sensed.

    Args:
        database: Where.
        collection: The products' collection.
        since: Only those sensed from then on.
    """
    columns = item_search.c
    fields = [columns[f"own_{name}"] for name in DRIFT_FIELDS]
    query = (
        select(columns.id, columns.own_region, columns.datetime, *fields)
        .where(columns.collection == collection, columns.until.is_(None), columns.own_region.is_not(None))
        .order_by(columns.datetime, columns.id)
    )
    if since is not None:
        query = query.where(columns.datetime >= since)
    with database.read() as session:
        return [
            Quality(item, region, sensed, dict(zip(DRIFT_FIELDS, values, strict=True)))
            for item, region, sensed, *values in session.execute(query)
        ]


def head_of(reason: str | None, error_class: str | None) -> str:
    """Return the gate or error class that a reason begins with."""
    return error_class or (reason or "no reason").partition(":")[0][:60]


def _reasons(session: Session, since: datetime) -> dict[str, int]:
    query = select(SceneRecord.state, SceneRecord.reason, SceneRecord.error_class).where(
        SceneRecord.state.in_(_REFUSED), SceneRecord.changed_at >= since
    )
    counts = Counter(f"{state}: {head_of(reason, kind)}" for state, reason, kind in session.execute(query))
    return dict(counts.most_common())


def _latencies(session: Session, since: datetime) -> dict[str, Spread]:
    query = (
        select(SceneRecord.sensed, SceneRecord.upstream_published, func.min(ItemVersionRecord.published_at))
        .join(ItemVersionRecord, ItemVersionRecord.scene_id == SceneRecord.id)
        .where(ItemVersionRecord.published_at >= since)
        .group_by(SceneRecord.id, SceneRecord.sensed, SceneRecord.upstream_published)
    )
    spent: defaultdict[str, list[float]] = defaultdict(list)
    for sensed, upstream, made in session.execute(query):
        spent["sensing to product"].append((made - sensed).total_seconds())
        if upstream is not None:
            spent["sensing to upstream"].append((upstream - sensed).total_seconds())
            spent["upstream to product"].append((made - upstream).total_seconds())
    return {name: spread(values) for name, values in sorted(spent.items())}


def spread(values: Iterable[float]) -> Spread:
    """Return median, 90th percentile and largest of some numbers, each of them one of the numbers (nearest rank)."""
    ordered = sorted(values)
    median, p90 = (ordered[max(0, -(-len(ordered) * share // 10) - 1)] for share in (5, 9))
    return Spread(len(ordered), median, p90, ordered[-1])


def _successes(session: Session) -> tuple[Success, ...]:
    query = (
        select(SceneRecord.tile, SceneRecord.region, func.max(ItemVersionRecord.published_at))
        .join(ItemVersionRecord, ItemVersionRecord.scene_id == SceneRecord.id)
        .group_by(SceneRecord.tile, SceneRecord.region)
        .order_by(SceneRecord.region, SceneRecord.tile)
    )
    return tuple(Success(*row) for row in session.execute(query).tuples())


def _products(session: Session) -> tuple[dict[str, Cost], dict[str, int]]:
    query = select(ItemVersionRecord.body).order_by(ItemVersionRecord.published_at.desc()).limit(_SAMPLE)
    spent: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    models: Counter[str] = Counter()
    for body in session.scalars(query):
        said = body["properties"]
        seconds = float(said.get(PREFIX + "seconds") or 0.0)
        size = float(sum(asset.get("file:size", 0) for asset in body["assets"].values()))
        for region in ("all", said.get(PREFIX + "region")):
            if region:
                spent[region].append((seconds, size))
        models[said.get(PREFIX + "model", "unknown")] += 1
    costs = {
        region: Cost(len(rows), sum(s for s, _ in rows) / len(rows), sum(b for _, b in rows) / len(rows))
        for region, rows in sorted(spent.items())
    }
    return costs, dict(models)
