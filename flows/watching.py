"""Ask every source what was published over the regions and write it into the ledger."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from catalog.ledger import Discovery
from infra.sources import Unreadable
from infra.sources.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalog.ledger import Discovered
    from flows.assembly import Assembly
    from infra.settings import Region
    from infra.sources import Acquisition

logger = logging.getLogger(__name__)

DISCOVERY_BATCH = 200


@dataclass
class WatchReport:
    """What one look at the sources found, in numbers."""

    asked: int = 0
    """Source and region pairs asked."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """Deliveries by outcome: new, known, duplicate, reprocessing ..."""
    unreadable: list[str] = field(default_factory=list)
    """Items that could not be understood, with the reason."""
    unavailable: list[str] = field(default_factory=list)
    """Sources that gave no usable answer, with the reason; they are asked again from the same mark."""
    new_scenes: list[int] = field(default_factory=list)
    """Ledger rows made by this look."""

    def count(self, discovered: list[Discovered]) -> None:
        """Add the outcomes of one batch."""
        for one in discovered:
            self.outcomes[one.outcome] = self.outcomes.get(one.outcome, 0) + 1
            if one.outcome in {"new", "reprocessing"}:
                self.new_scenes.append(one.scene_id)


def watch_sources(
    assembly: Assembly,
    *,
    actor: str,
    now: datetime | None = None,
    dry_run: bool = False,
    progress: Callable[[str], None] = logger.info,
) -> WatchReport:
    """Look at every source and write what was found into the ledger.

    Args:
        assembly: The system's parts.
        actor: Who looks, for the audit trail: a flow run's name or ``cli``.
        now: The time of looking, aware; the clock's when None.
        dry_run: Ask the sources but write nothing.
        progress: Told what is being asked.

    Returns:
        Counts by outcome, unreadable items and unavailable sources. One source's failure never hides another's scenes.
    """
    now = now or datetime.now(UTC)
    report = WatchReport()
    for source in assembly.settings.sources:
        for region in assembly.regions:
            progress(f"asking {source.name} about {region.id}")
            report.asked += 1
            try:
                _watch_one(assembly, source.name, region, report, actor=actor, now=now, dry_run=dry_run)
            except SourceError as error:
                logger.warning("source %s gave no usable answer: %s", source.name, error)
                report.unavailable.append(f"{source.name} / {region.id}: {error}")
    return report


def _watch_one(
    assembly: Assembly, source: str, region: Region, report: WatchReport, *, actor: str, now: datetime, dry_run: bool
) -> None:
    processing = assembly.settings.processing
    mark = assembly.ledger.watermark(source, region.id)
    since = (
        mark - timedelta(hours=processing.look_back_hours)
        if mark
        else now - timedelta(days=processing.first_look_back_days)
    )
    newest, batch = mark, []
    for found in assembly.source(source).search(region, since):
        if isinstance(found, Unreadable):
            told = f"{found.item_id}: {found.reason}"
            if told not in report.unreadable:  # it may lie in several regions
                report.unreadable.append(told)
            continue
        batch.append(discovery_of(found, region))
        # Where a source publishes no time of publication, the product's generation time stands for it.
        newest = max(filter(None, (newest, found.published or found.revision.generated)), default=None)
        if len(batch) >= DISCOVERY_BATCH:
            _record(assembly, batch, report, actor=actor, dry_run=dry_run)
            batch = []
    _record(assembly, batch, report, actor=actor, dry_run=dry_run)
    if newest and newest != mark and not dry_run:
        # An item dated in the future must not hide everything that is published until then.
        assembly.ledger.set_watermark(source, region.id, min(newest, now))


def _record(assembly: Assembly, batch: list[Discovery], report: WatchReport, *, actor: str, dry_run: bool) -> None:
    if not batch:
        return
    if dry_run:
        report.outcomes["would record"] = report.outcomes.get("would record", 0) + len(batch)
        return
    report.count(assembly.ledger.discover(batch, actor=actor))


def discovery_of(found: Acquisition, region: Region) -> Discovery:
    """Tell the ledger's side what a source offers over a region."""
    return Discovery(
        acquisition=found.key.id,
        region=region.id,
        source=found.source,
        source_item_id=found.item_id,
        platform=found.key.platform,
        tile=found.key.tile,
        sensed=found.key.sensed,
        baseline=found.revision.baseline,
        generated=found.revision.generated,
        published=found.published,
        source_item=found.item,
    )
