"""Ask every source what was published over the regions and write it into the ledger."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from shapely.geometry import shape

from catalog.ledger import Discovery
from catalog.notices import Notice, NoticeOutcome
from catalog.scenes import MAKES_SCENES
from flows.assembly import UnknownName
from infra.sources import Unreadable, revision_stamp
from infra.sources.errors import SourceError
from infra.sources.footprint import meets

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from catalog.absence import Absence
    from catalog.ledger import Discovered
    from catalog.scenes import KnownDelivery
    from flows.assembly import Assembly
    from infra.settings import Region, SourceSettings
    from infra.sources import Acquisition

logger = logging.getLogger(__name__)

DISCOVERY_BATCH: Final = 1000

_MOST_SILENCES: Final = 2
"""Regions over which a source may be silent in a row; then this look leaves it alone, and the others get their turn."""


@dataclass
class OfferedDay:
    """What the sources offered of one region and day of sensing, in one look."""

    offered: int = 0
    """Deliveries; an acquisition that two sources or stations deliver counts twice."""
    new: int = 0
    """Scenes made of them."""
    late: int = 0
    """Of those, published later after their sensing than `processing.late_hours`."""


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
    days: dict[tuple[str, date], OfferedDay] = field(default_factory=dict)
    """By region and day of sensing, UTC."""
    left_to_others: int = 0
    """Young offers of a source that waits for those before it; they are taken by a later look."""
    missed: int = 0
    """Deliveries that their source did not show again, for less than the grace period."""
    withdrawn: list[int] = field(default_factory=list)
    """Scenes of which a delivery was taken for deleted upstream by this look."""

    def count(self, discovered: list[Discovered], *, late: timedelta) -> None:
        """Add the outcomes of one batch."""
        for one in discovered:
            self.outcomes[one.outcome] = self.outcomes.get(one.outcome, 0) + 1
            offer = one.discovery
            day = self.days.setdefault((offer.region, offer.sensed.astimezone(UTC).date()), OfferedDay())
            day.offered += 1
            if one.outcome in MAKES_SCENES:
                self.new_scenes.append(one.scene_id)
                day.new += 1
                day.late += offer.offered is not None and offer.offered - offer.sensed > late

    def count_known(self, region: str, passed: list[KnownDelivery]) -> None:
        """Add deliveries that had nothing new to tell and were not read."""
        if passed:
            self.outcomes["known"] = self.outcomes.get("known", 0) + len(passed)
        for one in passed:
            self.days.setdefault((region, one.sensed.astimezone(UTC).date()), OfferedDay()).offered += 1

    def note(self, absence: Absence) -> None:
        """Add what one source did not show again."""
        self.missed += len(absence.missed)
        self.withdrawn += absence.withdrawn


def watch_sources(
    assembly: Assembly,
    *,
    actor: str,
    now: datetime | None = None,
    dry_run: bool = False,
    progress: Callable[[str], None] = logger.info,
) -> WatchReport:
    """Look at every source and write what was found into the ledger.

    The sources' order in the settings is their order of preference: a scene that nobody has begun is made from the
    first that delivers it. A source with `wait_hours` leaves young offers to those before it, unless one of them is
    silent.

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
    silent: set[str] = set()
    """Regions over which some source so far gave no answer."""
    for source in assembly.settings.sources:
        failures = 0
        for region in assembly.regions:
            if failures >= _MOST_SILENCES:
                silent.add(region.id)
                report.unavailable.append(f"{source.name} / {region.id}: not asked, it was silent {failures} times")
                continue
            progress(f"asking {source.name} about {region.id}")
            report.asked += 1
            wait = timedelta(0) if region.id in silent else timedelta(hours=source.wait_hours)
            try:
                _Look(assembly, source, region, report, actor=actor, now=now, wait=wait, dry_run=dry_run).run()
                failures = 0
            except SourceError as error:
                logger.warning("source %s gave no usable answer: %s", source.name, error)
                report.unavailable.append(f"{source.name} / {region.id}: {error}")
                silent.add(region.id)
                failures += 1
    return report


@dataclass
class _Look:
    """One look at one source over one region."""

    assembly: Assembly
    source: SourceSettings
    region: Region
    report: WatchReport
    actor: str
    now: datetime
    wait: timedelta
    """Offers younger than this are left to the sources before."""
    dry_run: bool

    def run(self) -> None:
        """Ask, record, note what is gone, and move the mark."""
        ledger, name, region = self.assembly.ledger, self.source.name, self.region
        processing = self.assembly.settings.processing
        mark = ledger.watermark(name, region.id)
        since = (
            mark - timedelta(hours=processing.look_back_hours)
            if mark
            else self.now - timedelta(days=processing.first_look_back_days)
        )
        newest, oldest_left, batch, shown = mark, None, [], set[str]()
        known = ledger.known_deliveries(name, region.id, since)
        passed: list[KnownDelivery] = []

        def passes(item_id: str, stamp: str) -> bool:
            one = known.get(item_id)
            if one is None or stamp not in one.stamps:
                return False
            shown.add(item_id)
            passed.append(one)
            return True

        for found in self.assembly.source(name).search(region, since, passes=passes):
            shown.add(found.item_id)
            if isinstance(found, Unreadable):
                told = f"{found.item_id}: {found.reason}"
                if told not in self.report.unreadable:  # it may lie in several regions
                    self.report.unreadable.append(told)
                continue
            offer = discovery_of(found, region, self._before)
            if self.wait and offer.offered is not None and self.now - offer.offered < self.wait:
                self.report.left_to_others += 1
                oldest_left = min(filter(None, (oldest_left, offer.offered)))
                continue
            batch.append(offer)
            newest = max(filter(None, (newest, offer.offered)), default=None)
            if len(batch) >= DISCOVERY_BATCH:
                self._record(batch)
                batch = []
        self._record(batch)
        self.report.count_known(region.id, passed)
        newest = max(filter(None, (newest, *(one.offered for one in passed))), default=None)
        if self.dry_run:
            return
        self._note_absence(shown, since)
        if newest and newest != mark:
            # An item dated in the future must not hide everything that is published until then, nor what is left.
            ledger.set_watermark(name, region.id, min(filter(None, (newest, self.now, oldest_left))))

    @property
    def _before(self) -> frozenset[str]:
        """Sources that this one comes before."""
        names = [source.name for source in self.assembly.settings.sources]
        return frozenset(names[names.index(self.source.name) + 1 :])

    def _record(self, batch: list[Discovery]) -> None:
        if not batch:
            return
        if self.dry_run:
            self.report.outcomes["would record"] = self.report.outcomes.get("would record", 0) + len(batch)
            return
        late = timedelta(hours=self.assembly.settings.processing.late_hours)
        self.report.count(self.assembly.ledger.discover(batch, actor=self.actor), late=late)

    def _note_absence(self, shown: set[str], since: datetime) -> None:
        grace = timedelta(hours=self.assembly.settings.processing.withdrawn_after_hours)
        self.report.note(
            self.assembly.ledger.note_absence(
                self.source.name, self.region.id, shown, since=since, now=self.now, grace=grace, actor=self.actor
            )
        )


def take_notification(assembly: Assembly, source: str, item_id: str, *, actor: str = "push") -> Notice:
    """Look a notified item up at its own source and record what the source says, as a look would.

    Args:
        assembly: The system's parts.
        source: Name of the source.
        item_id: The source's id of the item.
        actor: Who tells, for the audit trail.

    Returns:
        What became of it; nothing is raised for what a sender or a source may do.
    """
    try:
        order = {one.name: place for place, one in enumerate(assembly.settings.sources)}
        found = assembly.source(source).find(item_id)
    except UnknownName:
        return Notice(NoticeOutcome.UNKNOWN_SOURCE, "the settings have no source of that name")
    except SourceError as error:
        logger.warning("a notification of %s could not be looked up at %s: %s", item_id, source, error)
        if error.transient:
            return Notice(NoticeOutcome.UNAVAILABLE, "the source does not answer; send it again later")
        return Notice(NoticeOutcome.UNREADABLE, "what the source says of the item cannot be understood")
    if found is None:
        return Notice(NoticeOutcome.NO_SUCH_ITEM, "the source has no such item")
    behind = frozenset(name for name, place in order.items() if place > order[source])
    offers = [
        discovery_of(found, region, behind)
        for region in assembly.regions
        if meets(found.footprint, shape(region.geometry))
    ]
    if not offers:
        return Notice(NoticeOutcome.ELSEWHERE, "the item lies over none of the regions")
    done = assembly.ledger.discover(offers, actor=actor)
    return Notice(NoticeOutcome.RECORDED, "recorded", tuple((one.scene_id, one.outcome) for one in done))


def discovery_of(found: Acquisition, region: Region, preferred_to: frozenset[str] = frozenset()) -> Discovery:
    """Tell the ledger's side what a source offers over a region.

    Args:
        found: What the source offers.
        region: The region.
        preferred_to: Sources that this one comes before.
    """
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
        policy=region.reprocessing,
        preferred_to=preferred_to,
        area=region.geometry,
        stamp=revision_stamp(found.item),
        as_part=lambda number: discovery_of(found.as_part(number), region, preferred_to),
    )
