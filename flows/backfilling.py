"""Backfill: make the products of past days, after a look at what that costs, and never ahead of today's scenes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Final

from catalog.inventory import known_scenes, made_by
from catalog.model_item import model_item_id
from catalog.overview import overview
from catalog.scenes import MAKES_SCENES
from catalog.states import SceneState
from flows.watching import discovery_of
from infra.sources import Unreadable
from infra.sources.errors import SourceError
from model.card import load_card

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from catalog.ledger import Discovery
    from flows.assembly import Assembly

logger = logging.getLogger(__name__)

ACTOR: Final = "backfill"
"""Scenes that were asked for by an actor of this name wait behind all others."""

_RECORD_BATCH: Final = 200


@dataclass(frozen=True)
class Plan:
    """What a backfill would do."""

    new: tuple[Discovery, ...]
    """Acquisitions that the ledger does not know yet, once each per region in their newest revision."""
    remake: tuple[int, ...]
    """Published scenes that another model made; empty unless asked for."""
    known: int
    """Acquisitions offered that the ledger knows already: nothing is done about them."""
    scenes: Mapping[str, int]
    """Scenes to be made, by region."""
    seconds: float | None
    """Wall time of one worker for all of them, s, from the measured averages; None where nothing was measured yet."""
    core_seconds: float | None
    """The same times the worker's threads: an upper bound, for a worker waits for files too."""
    bytes: float | None
    """Of the files that would be written."""
    silent: tuple[str, ...]
    """Sources that gave no usable answer; call again for what they have."""
    others: tuple[Discovery, ...] = ()
    """Other deliveries of the new acquisitions, for the ledger to judge: another station's may show more pixels."""

    @property
    def total(self) -> int:
        """Scenes to be made."""
        return len(self.new) + len(self.remake)


def plan_backfill(
    assembly: Assembly,
    begin: date,
    end: date,
    *,
    regions: tuple[str, ...] = (),
    remake: bool = False,
    progress: Callable[[str], None] = logger.info,
) -> Plan:
    """Ask the sources for past days and estimate what their products would cost.

    Args:
        assembly: The system's parts.
        begin: First day of sensing, UTC.
        end: Last day of sensing, included.
        regions: Ids; all where empty.
        remake: Also make again what another model than the one in force made.
        progress: Told what is being asked.

    Returns:
        The plan; nothing is changed.
    """
    first = datetime.combine(begin, time.min, UTC)
    behind = datetime.combine(end, time.min, UTC) + timedelta(days=1)
    names = regions or tuple(region.id for region in assembly.regions)
    known = known_scenes(assembly.database, names, first, behind)
    have = {(scene.region, scene.acquisition) for scene in known}
    offers, silent = _offers(assembly, names, first, behind, progress)
    new = {key: max(some, key=lambda offer: offer.revision) for key, some in offers.items() if key not in have}
    others = [offer for key, first in new.items() for offer in offers[key] if offer is not first]
    again: list[tuple[str, int]] = []
    if remake:
        model, makers = model_item_id(load_card(assembly.model_path)), _makers(assembly)
        published = [scene for scene in known if scene.state is SceneState.PUBLISHED and scene.item_id]
        again = [(scene.region, scene.id) for scene in published if makers.get(str(scene.item_id)) not in {None, model}]
    scenes = {name: sum(r == name for r, _ in new) + sum(r == name for r, _ in again) for name in names}
    seconds, size = _cost(assembly, scenes)
    return Plan(
        new=tuple(new.values()),
        others=tuple(others),
        remake=tuple(scene for _, scene in again),
        known=len(set(offers) & have),
        scenes=scenes,
        seconds=seconds,
        core_seconds=None if seconds is None else seconds * assembly.settings.processing.threads,
        bytes=size,
        silent=tuple(silent),
    )


def record_backfill(assembly: Assembly, plan: Plan, *, who: str) -> int:
    """Write a plan into the ledger, from where its scenes are scheduled behind all others.

    Broken off anywhere, planning and recording again goes on where it ended: what is recorded is known.

    Args:
        assembly: The system's parts.
        plan: From `plan_backfill`.
        who: Who asks, for the audit trail.

    Returns:
        Scenes that were queued.
    """
    actor = f"{ACTOR}/{who}"
    queued = 0
    others: dict[tuple[str, str], list[Discovery]] = {}
    for offer in plan.others:
        others.setdefault((offer.region, offer.acquisition), []).append(offer)
    wanted = [each for one in plan.new for each in (one, *others.get((one.region, one.acquisition), ()))]
    for start in range(0, len(wanted), _RECORD_BATCH):
        done = assembly.ledger.discover(wanted[start : start + _RECORD_BATCH], actor=actor)
        queued += sum(one.outcome in MAKES_SCENES for one in done)
    for scene in plan.remake:
        assembly.ledger.intervene(scene, SceneState.DISCOVERED, actor=actor, why="to be made by the model in force")
        queued += 1
    return queued


def _offers(
    assembly: Assembly, names: tuple[str, ...], first: datetime, behind: datetime, progress: Callable[[str], None]
) -> tuple[dict[tuple[str, str], list[Discovery]], list[str]]:
    """Return what is offered of each acquisition over each region, sources in their order, and who was silent."""
    offers: dict[tuple[str, str], list[Discovery]] = {}
    silent = []
    for source in assembly.settings.sources:
        for name in names:
            progress(f"asking {source.name} about {name}")
            region = assembly.region(name)
            try:
                # Nothing is published before it is sensed: publication since the first day covers every sensing day.
                for found in assembly.source(source.name).search(region, first):
                    if isinstance(found, Unreadable) or not first <= found.key.sensed < behind:
                        continue
                    offer = discovery_of(found, region)
                    offers.setdefault((name, offer.acquisition), []).append(offer)
            except SourceError as error:
                silent.append(f"{source.name} / {name}: {error}")
    return offers, silent


def _makers(assembly: Assembly) -> dict[str, str]:
    return made_by(assembly.database, assembly.settings.collection_id)


def _cost(assembly: Assembly, scenes: Mapping[str, int]) -> tuple[float | None, float | None]:
    """Return seconds and bytes of some scenes, by each region's own average where there is one."""
    measured = overview(assembly.database).costs
    if "all" not in measured:
        return None, None
    costs = [(number, measured.get(region, measured["all"])) for region, number in scenes.items()]
    return sum(n * cost.seconds for n, cost in costs), sum(n * cost.bytes for n, cost in costs)
