"""One scene's way through the house, without any server: claim, gates, model, files, verification, publication."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from catalog.collection import build_collection
from catalog.ledger import ClaimLost
from catalog.model_item import build_model_collection, build_model_item
from catalog.publishing import NewerPublished, publish
from flows.gates import SceneFacts, evaluate_gates, first_rejection
from flows.heartbeat import Heartbeat
from flows.housekeeping import remove_attempt, remove_dead_attempts
from flows.names import product_keys, product_revision
from flows.production import BLOCK, produce, raster_files
from flows.registration import Place, ProductRecord, file_tags, register_files
from infra.heap import share_one_heap
from infra.logs import about
from infra.scene import open_scene, product_window, survey
from infra.scene.errors import SceneRefused
from infra.scene.footprint import window_footprint
from infra.stage_clock import StageClock, StageName
from infra.verify import verify_cog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from catalog.ledger import Claim, SceneRow
    from flows.assembly import Assembly
    from flows.gates import GateResult
    from flows.names import ProductKeys
    from flows.production import Produced, RasterFile
    from flows.progress import Progress
    from infra.scene import Scene, Window
    from infra.stage_clock import StageTime
    from infra.verify import FileCheck

T = TypeVar("T")

FINEST_METRES: Final = 10

logger = logging.getLogger(__name__)


class Stage(StrEnum):
    """The named points of a scene's way; a crash at any of them loses nothing."""

    CLAIMED = "claimed"
    READING = "reading"
    WRITING = "writing"
    VERIFIED = "verified"
    PUBLISHING = "publishing"
    """Everything is in the store; the transaction has not begun."""
    REGISTERING = "registering"
    """Inside the publishing transaction, before its commit."""


class SceneFailed(RuntimeError):
    """A scene could not be processed; the ledger says why and whether it is tried again."""

    transient: ClassVar[bool] = False


@dataclass(frozen=True)
class Outcome:
    """What became of one scene."""

    scene_id: int
    title: str
    """Tile, date and region, for people."""
    state: str
    """The ledger's state after the work: ``published`` or ``rejected``."""
    reason: str = ""
    gates: tuple[GateResult, ...] = ()
    quality: Mapping[str, float] = field(default_factory=dict)
    grade: str = ""
    grade_reasons: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall seconds of the steps that follow each other: loading, gates, production, verify, registration."""
    stages: Mapping[str, StageTime] = field(default_factory=dict)
    """What the overlapping stages of production, and verify, cost; see `infra.stage_clock.StageName`."""
    files: Mapping[str, int] = field(default_factory=dict)
    """Bytes by address."""
    thumbnail: bytes | None = None
    spectrum: bytes | None = None
    """Picture of one typical pixel's spectrum, PNG."""
    item_url: str = ""
    """Path of the item below the catalog's address."""


def _ignore(_value: object) -> None:
    return None


def process_scene(
    assembly: Assembly,
    scene_id: int,
    *,
    actor: str,
    run_url: str = "",
    on_stage: Callable[[Stage], object] = _ignore,
    progress: Callable[[Progress], object] = _ignore,
) -> Outcome:
    """Turn one discovered scene into a published product, or record why not.

    Args:
        assembly: The system's parts.
        scene_id: The scene's row in the ledger.
        actor: Who works, for the audit trail.
        run_url: The operators' page of this run, where it has one: the product's item links to it.
        on_stage: Told each stage as it is reached.
        progress: Told after each cell where production stands; may raise to stop it.

    Returns:
        The outcome: published, or rejected with its gate.

    Raises:
        NotClaimable: another worker holds the scene, or it is finished.
        ClaimLost: the lease ran out meanwhile; whoever holds it now finishes the scene.
        SceneFailed: an error, recorded in the ledger with its class and whether it will be tried again.
    """
    share_one_heap()  # before the scene's own threads are started
    claim = assembly.ledger.claim(scene_id, actor=actor, lease=assembly.settings.lease)
    row = assembly.ledger.scene(scene_id)
    work = _SceneWork(assembly, claim, row, run_url, on_stage, progress)
    every = assembly.settings.processing.heartbeat_seconds
    facts = about(scene=scene_id, acquisition=row.acquisition, region=row.region)
    lease = assembly.settings.lease
    with facts, Heartbeat(assembly.ledger, claim, lease=lease, every_seconds=every) as heartbeat:
        try:
            on_stage(Stage.CLAIMED)
            return work.run(heartbeat)
        except ClaimLost:
            raise
        except SceneRefused as refusal:
            return work.reject(refusal.gate, str(refusal))
        except NewerPublished as newer:
            return work.supersede(str(newer))
        except Exception as error:
            state = work.fail(error)
            raise SceneFailed(f"{row.tile} {row.acquisition}: {type(error).__name__}: {error} (now {state})") from error
        except BaseException as stop:  # the user or the worker asks to stop: give the scene back at once
            work.give_back(type(stop).__name__)
            raise


class _SceneWork:
    """The steps of one claimed scene, in order."""

    def __init__(
        self,
        assembly: Assembly,
        claim: Claim,
        row: SceneRow,
        run_url: str,
        on_stage: Callable[[Stage], object],
        progress: Callable[[Progress], object],
    ) -> None:
        self._assembly, self._claim, self._row = assembly, claim, row
        self._run_url, self._on_stage, self._progress = run_url, on_stage, progress
        self._title = f"{row.tile} {row.sensed:%Y-%m-%d} {row.region}"
        self._seconds: dict[str, float] = {}
        self._clock = StageClock()
        self._prefix: str | None = None

    def run(self, heartbeat: Heartbeat) -> Outcome:
        """Open, judge, produce, verify and publish."""
        assembly, row = self._assembly, self._row
        region, settings = assembly.region(row.region), assembly.settings
        acquisition = assembly.source(row.source).restore(row.source_item)
        model = self._timed("loading", lambda: assembly.model)
        revision = product_revision(acquisition, region, settings.product, model.card.digest)
        keys = product_keys(acquisition, region, revision, self._claim.token)
        self._prefix = keys.prefix
        assembly.ledger.begin(self._claim, revision)
        remove_dead_attempts(assembly, keys, revision)

        self._on_stage(Stage.READING)
        with open_scene(acquisition, assembly.source_settings(row.source)) as scene:
            window = product_window(scene.grid, region, BLOCK)
            seen = self._timed("gates", lambda: survey(scene, window))
            facts = SceneFacts(
                seen.valid_fraction, seen.cloud_fraction, acquisition.cloud_cover, acquisition.sun_zenith
            )
            gates = evaluate_gates(facts, region, settings.gates)
            refusal = first_rejection(gates)
            if refusal:
                return self.reject(refusal.gate, refusal.explanation, refusal.measured, refusal.limit, gates)
            self._on_stage(Stage.WRITING)
            files = raster_files(model, scene.grid, window, settings.product, file_tags(acquisition, region, revision))
            made = self._timed("production", lambda: self._produce(scene, window, files, keys, heartbeat))
            grid = next(file.profile for file in files if file.metres == FINEST_METRES)
            place = Place(scene.grid.crs, grid, window_footprint(scene.grid, window))
        if made.flag_counts["nodata"] == made.flag_counts["pixels"]:
            # A large window is surveyed by its coarse bands; only the full pass knows that nothing is left.
            self._remove_files()
            return self.reject("valid_fraction", "no pixel has data in every band", 0.0, None, gates)
        checks = self._timed("verify", lambda: self._verify(files, made, keys, heartbeat))
        self._on_stage(Stage.VERIFIED)
        record = ProductRecord(
            acquisition,
            region,
            revision,
            self._title,
            gates,
            made,
            files,
            checks,
            place,
            dict(self._seconds),
            self._run_url,
        )
        item, summary = self._timed("registration", lambda: register_files(assembly, record, keys))
        heartbeat.check()
        self._on_stage(Stage.PUBLISHING)
        self._publish(item)
        return Outcome(
            self._claim.scene_id,
            self._title,
            "published",
            gates=gates,
            quality=summary.quality,
            grade=summary.grade.letter,
            grade_reasons=summary.grade.reasons,
            seconds=self._seconds,
            stages=self._clock.spent(),
            files={asset["href"]: asset["file:size"] for asset in item["assets"].values()},
            thumbnail=summary.thumbnail,
            spectrum=summary.spectrum,
            item_url=f"/collections/{item['collection']}/items/{item['id']}",
        )

    def reject(
        self,
        gate: str,
        reason: str,
        measured: float | None = None,
        limit: float | None = None,
        gates: tuple[GateResult, ...] = (),
    ) -> Outcome:
        """Record a rejection: a finished scene that says why there is no product."""
        self._assembly.ledger.reject(self._claim, gate=gate, reason=reason, measured=measured, limit=limit)
        logger.info("scene %d rejected by %s: %s", self._claim.scene_id, gate, reason)
        said = f"{gate}: {reason}"
        return Outcome(
            self._claim.scene_id, self._title, "rejected", reason=said, gates=gates, seconds=dict(self._seconds)
        )

    def supersede(self, why: str) -> Outcome:
        """End a scene whose newer revision was published meanwhile; that is nobody's failure."""
        self._assembly.ledger.supersede(self._claim, why=why)
        self._remove_files()
        return Outcome(self._claim.scene_id, self._title, "superseded", reason=why, seconds=dict(self._seconds))

    def give_back(self, why: str) -> None:
        """Return the scene to whoever asks next, as well as the moment allows; else the lease ends by itself."""
        try:
            self._assembly.ledger.release(self._claim, why=f"the worker was stopped ({why})")
            self._remove_files()
        except Exception:
            logger.exception("scene %d could not be given back; its lease ends by itself", self._claim.scene_id)

    def _remove_files(self) -> None:
        if self._prefix is not None:
            remove_attempt(self._assembly, self._prefix)

    def fail(self, error: Exception) -> str:
        """Record an error and remove what the attempt wrote; the ledger decides whether it is tried again."""
        transient = bool(getattr(error, "transient", False))
        kind = type(error).__name__
        try:
            state = self._assembly.ledger.fail(
                self._claim, error_class=kind, message=str(error) or kind, transient=transient
            )
            self._remove_files()
        except Exception:
            # The first error is the one to tell. The lease ends by itself, and the next attempt cleans up.
            logger.exception("the failure of scene %d could not be recorded", self._claim.scene_id)
            return "still claimed until its lease ends"
        return str(state)

    def _produce(
        self, scene: Scene, window: Window, files: Sequence[RasterFile], keys: ProductKeys, heartbeat: Heartbeat
    ) -> Produced:
        def advance(progress: Progress) -> None:
            heartbeat.check()
            self._progress(progress)

        assembly = self._assembly
        return produce(
            scene,
            assembly.model,
            window,
            files,
            store=assembly.store,
            keys=keys,
            threads=assembly.settings.processing.threads,
            clock=self._clock,
            progress=advance,
        )

    def _verify(
        self, files: Sequence[RasterFile], made: Produced, keys: ProductKeys, heartbeat: Heartbeat
    ) -> dict[str, FileCheck]:
        checks = {}
        for file in files:
            heartbeat.check()
            key, seen = keys.file(file.name), made.summaries[file.asset]
            with self._clock.stage(StageName.VERIFY):
                checks[file.asset] = verify_cog(self._assembly.store, key, file.profile, seen)
        return checks

    def _publish(self, item: dict[str, Any]) -> None:
        assembly = self._assembly
        card = assembly.model.card
        publish(
            assembly.database,
            assembly.ledger,
            self._claim,
            item,
            collection=build_collection(assembly.settings, card),
            model_item=build_model_item(card),
            model_collection=build_model_collection(),
            on_stage=lambda: self._on_stage(Stage.REGISTERING),
        )

    def _timed(self, stage: str, work: Callable[[], T]) -> T:
        began = time.monotonic()
        try:
            return work()
        finally:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + time.monotonic() - began
