"""Hold source, ledger, store and catalog against each other, region by region and day by day.

What is safe is put right: scenes that a source offers and nobody recorded are recorded, leases that ended are
returned, files of dead attempts are removed. A product whose files are gone or damaged is made again only when asked
for. Whatever is not understood is told and left as it is.
"""

from __future__ import annotations

import logging
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from catalog.deprecation import deprecate
from catalog.inventory import known_scenes, named_versions, withdrawn_scenes
from catalog.overview import head_of
from catalog.states import SceneState
from flows.housekeeping import remove_orphans
from flows.names import attempt_of
from flows.watching import discovery_of
from infra.sources import Unreadable, whole_acquisition
from infra.sources.errors import SourceError
from infra.storage.errors import ObjectMissing, StorageError
from infra.verify import hash_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from catalog.inventory import KnownScene, NamedFile, NamedVersion
    from catalog.ledger import Discovery
    from flows.assembly import Assembly
    from infra.settings import Region
    from infra.storage import StoredObject

logger = logging.getLogger(__name__)

_MAKING: Final = frozenset({SceneState.DISCOVERED, SceneState.CLAIMED, SceneState.PROCESSING, SceneState.FAILED})
_MULTIHASH: Final = "1220"


class Kind(StrEnum):
    """What can be wrong between two of the four."""

    MISSING = "missing"
    """A source offers it, the ledger does not know it."""
    EXTRA = "extra"
    """The ledger knows it, no source that answered offers it any more."""
    ORPHANED = "orphaned"
    """A file of a dead attempt, named by no version."""
    FOREIGN = "foreign"
    """A file that is none of ours; never touched."""
    STALE = "stale"
    """Held by a worker whose lease has ended."""
    CORRUPT = "corrupt"
    """A file is not what its item says."""
    LOST = "lost"
    """An item names a file that is not in the store."""
    UNLISTED = "unlisted"
    """An item names a file that the catalog does not count as its own."""
    NO_ITEM = "published without item"
    """The ledger says published, the catalog has no such item."""
    NO_SCENE = "item without published scene"
    """The catalog shows an item whose scene is neither published nor being made again."""
    SILENT = "source silent"
    """A source gave no usable answer: nothing can be said about what it offers."""
    UNREADABLE = "unreadable"
    """A source offers an item that cannot be understood."""


@dataclass(frozen=True)
class Discrepancy:
    """One thing that is not as it should be."""

    kind: Kind
    subject: str
    """Acquisition, item, file or source."""
    region: str
    said: str
    """What was found."""
    repair: str = ""
    """What was, or would be, done about it; empty: it is only told."""


@dataclass
class DayCount:
    """One region and day in numbers."""

    region: str
    day: date
    """Of sensing, UTC."""
    offered: int | None = None
    """Acquisitions that the sources offer, each counted once; None when one of them was silent."""
    known: int = 0
    published: int = 0
    waiting: int = 0
    """Discovered, in work, or failed and to be tried again."""
    superseded: int = 0
    quarantined: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    """By gate."""
    missing: int = 0
    """Offered and not known when reconciliation began."""
    late: int = 0
    """Published upstream later after their sensing than `processing.late_hours`."""
    withdrawn: int = 0
    """Taken for deleted upstream: their source has not shown them for longer than the grace period."""


@dataclass
class Reconciliation:
    """What was found, and what was done about it."""

    begin: date
    end: date
    """The last day looked at, included."""
    days: list[DayCount] = field(default_factory=list)
    found: list[Discrepancy] = field(default_factory=list)
    files_checked: int = 0
    """Files of which size and presence were compared."""
    files_hashed: int = 0
    """Files that were read again whole."""
    requeued: list[int] = field(default_factory=list)
    """Scenes that are made again."""

    def counts(self) -> dict[str, int]:
        """Count what was found by kind."""
        return dict(Counter(str(one.kind) for one in self.found))

    def open(self) -> list[Discrepancy]:
        """Return what was found and is only told; other people's files are nobody's fault."""
        return [one for one in self.found if not one.repair and one.kind is not Kind.FOREIGN]


@dataclass(frozen=True)
class Scope:
    """What is looked at, and what may be done."""

    begin: date
    end: date
    """The last day, included."""
    regions: tuple[str, ...] = ()
    """All where empty."""
    sample: int = 20
    """Files that are read again whole, chosen by chance."""
    orphan_hours: float = 24.0
    """Younger files are left alone."""
    repair: bool = False
    """Make products again whose files are gone or damaged."""
    dry_run: bool = False
    """Change nothing at all."""
    seed: int = 0
    """Chooses the sample."""

    @property
    def first(self) -> datetime:
        """The first moment looked at."""
        return datetime.combine(self.begin, time.min, UTC)

    @property
    def behind(self) -> datetime:
        """The first moment not looked at any more."""
        return datetime.combine(self.end, time.min, UTC) + timedelta(days=1)


def reconcile(
    assembly: Assembly, scope: Scope, *, actor: str, progress: Callable[[str], None] = logger.info
) -> Reconciliation:
    """Compare, put right what is safe, tell the rest.

    Args:
        assembly: The system's parts.
        scope: Which days and regions, and what may be done.
        actor: Who asks, for the audit trail.
        progress: Told what is being looked at.

    Returns:
        Counts per region and day, every discrepancy with its repair, and what was read.
    """
    return _Reconciler(assembly, scope, actor, progress).run()


class _Reconciler:
    """The four comparisons, one after the other, into one report."""

    def __init__(self, assembly: Assembly, scope: Scope, actor: str, progress: Callable[[str], None]) -> None:
        self._assembly, self._scope, self._actor, self._progress = assembly, scope, actor, progress
        wanted = scope.regions or tuple(region.id for region in assembly.regions)
        self._regions = [assembly.region(name) for name in wanted]
        self._report = Reconciliation(scope.begin, scope.end)
        self._do = "would be" if scope.dry_run else "was"

    def run(self) -> Reconciliation:
        """Look at leases, sources, catalog and store in this order."""
        names = [region.id for region in self._regions]
        self._progress("leases")
        self._leases()
        known = known_scenes(self._assembly.database, names, self._scope.first, self._scope.behind)
        offered: dict[str, dict[str, date] | None] = {}
        for region in self._regions:
            self._progress(f"sources over {region.id}")
            mine = [scene for scene in known if scene.region == region.id]
            offered[region.id] = self._sources(region, mine)
        self._progress("catalog and store")
        self._catalog(names, known)
        self._orphans()
        gone = withdrawn_scenes(self._assembly.database, names, self._scope.first, self._scope.behind)
        late = timedelta(hours=self._assembly.settings.processing.late_hours)
        self._report.days = _day_counts(known, offered, gone, late)
        return self._report

    def _tell(self, kind: Kind, subject: str, region: str, said: str, repair: str = "") -> None:
        self._report.found.append(Discrepancy(kind, subject, region, said, repair))

    def _leases(self) -> None:
        ledger = self._assembly.ledger
        stale = ledger.expired() if self._scope.dry_run else ledger.release_expired(actor=self._actor)
        for scene_id in stale:
            row = ledger.scene(scene_id)
            said = f"scene {scene_id} of {row.tile}: the lease of attempt {row.attempts} has ended"
            self._tell(Kind.STALE, row.acquisition, row.region, said, f"{self._do} returned")

    def _sources(self, region: Region, known: Sequence[KnownScene]) -> dict[str, date] | None:
        """Compare one region's ledger with what its sources offer; None when one of them was silent."""
        offers, silent, spoken = self._offers(region)
        have = {scene.acquisition for scene in known}
        new = [offer for offer in offers if offer.acquisition not in have]
        for offer in {offer.acquisition: offer for offer in new}.values():
            said = f"{offer.source} offers {offer.source_item_id}, sensed {offer.sensed:%Y-%m-%d %H:%M}"
            self._tell(Kind.MISSING, offer.acquisition, region.id, said, f"{self._do} recorded in the ledger")
        if new and not self._scope.dry_run:
            newest_first = sorted(new, key=lambda offer: offer.revision, reverse=True)
            self._assembly.ledger.discover(newest_first, actor=self._actor)
        there = {offer.acquisition: offer.sensed.astimezone(UTC).date() for offer in offers}
        for scene in known:
            whole = whole_acquisition(scene.acquisition)
            if whole not in there and scene.source in spoken and scene.state is not SceneState.SUPERSEDED:
                said = f"scene {scene.id} ({scene.state}) is not offered by {scene.source} any more"
                self._tell(Kind.EXTRA, scene.acquisition, region.id, said)
        return None if silent else there

    def _offers(self, region: Region) -> tuple[list[Discovery], bool, set[str]]:
        """Ask every source for the scope's days.

        Returns:
            What they offer, whether any was silent, and the names of those that answered to the end.
        """
        offers: list[Discovery] = []
        silent, spoken = False, set()
        for source in self._assembly.settings.sources:
            shown = set()
            try:
                # Nothing is published before it is sensed: publication since the first day covers every sensing day.
                for found in self._assembly.source(source.name).search(region, self._scope.first):
                    shown.add(found.item_id)
                    if isinstance(found, Unreadable):
                        self._tell(Kind.UNREADABLE, found.item_id, region.id, f"{source.name}: {found.reason}")
                    elif self._scope.first <= found.key.sensed < self._scope.behind:
                        offers.append(discovery_of(found, region))
                spoken.add(source.name)
                self._note_absence(source.name, region, shown)
            except SourceError as error:
                silent = True
                self._tell(Kind.SILENT, source.name, region.id, str(error))
        return offers, silent, spoken

    def _note_absence(self, source: str, region: Region, shown: set[str]) -> None:
        """Write into the ledger what a source does not show any more; the grace period is the watch's."""
        if self._scope.dry_run:
            return
        grace = timedelta(hours=self._assembly.settings.processing.withdrawn_after_hours)
        self._assembly.ledger.note_absence(
            source, region.id, shown, since=self._scope.first, now=datetime.now(UTC), grace=grace, actor=self._actor
        )

    def _catalog(self, names: Sequence[str], known: Sequence[KnownScene]) -> None:
        """Compare ledger, items and files; read a sample of the files again."""
        assembly, scope = self._assembly, self._scope
        collection, shown, sound = assembly.settings.collection_id, set[str](), []
        versions = list(named_versions(assembly.database, collection, names, scope.first, scope.behind))
        # Listed after the catalog was read: what is published meanwhile must not look as if its files were missing.
        stored = {assembly.store.href(one.key): one for one in assembly.store.list()}
        for version in versions:
            if version.latest:
                shown.add(version.item_id)
                if version.state is not SceneState.PUBLISHED and version.state not in _MAKING:
                    said = f"version {version.version} comes from scene {version.scene_id}, which is {version.state}"
                    self._tell(Kind.NO_SCENE, version.item_id, version.region, said)
            for href in version.unlisted:
                self._tell(Kind.UNLISTED, href, version.region, f"named by {_title(version)}")
            damage = self._damage(version.files, stored)
            if damage:
                self._damaged(version, damage)
            else:
                sound += [(version, file) for file in version.files if file.checksum]
        for scene in known:
            if scene.state is SceneState.PUBLISHED and scene.item_id not in shown:
                said = f"scene {scene.id} says it was published as {scene.item_id}"
                self._tell(Kind.NO_ITEM, scene.item_id or scene.acquisition, scene.region, said)
        self._sample(sound, stored)
        foreign = [one.key for one in stored.values() if attempt_of(one.key) is None]
        if foreign:
            said = f"{len(foreign)} files in the store are none of ours; they are left alone"
            self._tell(Kind.FOREIGN, foreign[0], "", said)

    def _damage(self, files: Iterable[NamedFile], stored: Mapping[str, StoredObject]) -> list[tuple[Kind, str, str]]:
        damage = []
        for file in files:
            self._report.files_checked += 1
            there = stored.get(file.href)
            if there is None:
                damage.append((Kind.LOST, file.href, "is not in the store"))
            elif file.size is not None and there.size != file.size:
                damage.append((Kind.CORRUPT, file.href, f"has {there.size} bytes; its item says {file.size}"))
        return damage

    def _sample(self, sound: Sequence[tuple[NamedVersion, NamedFile]], stored: Mapping[str, StoredObject]) -> None:
        """Read files chosen by chance again, and compare their digests with what their items say."""
        chosen = random.Random(self._scope.seed)  # noqa: S311 - chooses a sample, guards nothing
        damaged: defaultdict[tuple[str, int], list[tuple[Kind, str, str]]] = defaultdict(list)
        versions = {(version.item_id, version.version): version for version, _ in sound}
        for version, file in chosen.sample(sound, min(self._scope.sample, len(sound))):
            try:
                digest, _size = hash_object(self._assembly.store, stored[file.href].key)
            except ObjectMissing:
                continue  # gone since the listing: the next look tells
            except StorageError as error:
                damaged[version.item_id, version.version].append((Kind.CORRUPT, file.href, f"cannot be read: {error}"))
                continue
            self._report.files_hashed += 1
            if _MULTIHASH + digest != file.checksum:
                said = f"has digest {_MULTIHASH}{digest[:8]}…; its item says {str(file.checksum)[:12]}…"
                damaged[version.item_id, version.version].append((Kind.CORRUPT, file.href, said))
        for which, damage in damaged.items():
            self._damaged(versions[which], damage)

    def _damaged(self, version: NamedVersion, damage: Sequence[tuple[Kind, str, str]]) -> None:
        """Tell of damaged files; where asked for, deprecate the product and have it made again."""
        possible = version.latest and version.state is SceneState.PUBLISHED
        repair = f"{self._do} deprecated and its scene queued again" if possible and self._scope.repair else ""
        for kind, href, said in damage:
            self._tell(kind, href, version.region, f"{said} ({_title(version)})", repair)
        if not repair or self._scope.dry_run:
            return
        why = f"reconcile: {len(damage)} files of {_title(version)} are lost or damaged"
        collection = self._assembly.settings.collection_id
        told = "files of this version are lost or damaged; it is being made again"
        self._assembly.ledger.intervene(version.scene_id, SceneState.DISCOVERED, actor=self._actor, why=why)
        deprecate(self._assembly.database, collection, version.item_id, reason=told, version=version.version)
        self._report.requeued.append(version.scene_id)

    def _orphans(self) -> None:
        age = timedelta(hours=self._scope.orphan_hours)
        for key in remove_orphans(self._assembly, older_than=age, dry_run=self._scope.dry_run):
            self._tell(Kind.ORPHANED, key, "", "belongs to a dead attempt", f"{self._do} removed")


def _title(version: NamedVersion) -> str:
    return f"{version.item_id} version {version.version}"


def _day_counts(
    known: Sequence[KnownScene], offered: Mapping[str, dict[str, date] | None], gone: set[int], late: timedelta
) -> list[DayCount]:
    """Count per region and day of sensing; days without any scene have no line."""
    days: dict[tuple[str, date], DayCount] = {}

    def day(region: str, when: date) -> DayCount:
        silent = offered.get(region) is None
        return days.setdefault((region, when), DayCount(region, when, None if silent else 0))

    for scene in known:
        count = day(scene.region, scene.sensed.astimezone(UTC).date())
        _count(count, scene)
        count.withdrawn += scene.id in gone
        published = scene.upstream_published
        count.late += published is not None and published - scene.sensed > late
    have = {(scene.region, scene.acquisition) for scene in known}
    for region, acquisitions in offered.items():
        for acquisition, when in (acquisitions or {}).items():
            count = day(region, when)
            count.offered = (count.offered or 0) + 1
            count.missing += (region, acquisition) not in have
    return [days[key] for key in sorted(days)]


def _count(count: DayCount, scene: KnownScene) -> None:
    count.known += 1
    match scene.state:
        case SceneState.PUBLISHED:
            count.published += 1
        case SceneState.REJECTED:
            why = head_of(scene.reason, scene.error_class)
            count.rejected[why] = count.rejected.get(why, 0) + 1
        case SceneState.SUPERSEDED:
            count.superseded += 1
        case SceneState.QUARANTINED:
            count.quarantined += 1
        case _:
            count.waiting += 1
