"""One scene's way through the house, without any server: claim, gates, model, files, verification, publication."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from catalog.ledger import ClaimLost
from infra.scene import open_scene, product_window, survey
from infra.scene.errors import SceneRefused
from infra.verify import verify_cog

from flows.gates import GateResult, SceneFacts, evaluate_gates, first_rejection
from flows.heartbeat import Heartbeat
from flows.housekeeping import remove_dead_attempts
from flows.names import item_id, product_keys, product_revision
from flows.production import BLOCK, produce, raster_files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from catalog.ledger import Claim, SceneRow

    from flows.assembly import Assembly

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
    """Wall seconds by stage."""
    files: Mapping[str, int] = field(default_factory=dict)
    """Bytes by address."""
    thumbnail: bytes | None = None
    item_url: str = ""
    """Path of the item below the catalog's address."""


def _ignore(_value: object) -> None:
    return None


def process_scene(
    assembly: Assembly,
    scene_id: int,
    *,
    actor: str,
    on_stage: Callable[[Stage], object] = _ignore,
    progress: Callable[[float], object] = _ignore,
) -> Outcome:
    """Turn one discovered scene into a published product, or record why not.

    Args:
        assembly: The system's parts.
        scene_id: The scene's row in the ledger.
        actor: Who works, for the audit trail.
        on_stage: Told each stage as it is reached.
        progress: Told the fraction of pixels done, 0-1.

    Returns:
        The outcome: published, or rejected with its gate.

    Raises:
        NotClaimable: another worker holds the scene, or it is finished.
        ClaimLost: the lease ran out meanwhile; whoever holds it now finishes the scene.
        SceneFailed: an error, recorded in the ledger with its class and whether it will be tried again.
    """
    claim = assembly.ledger.claim(scene_id, actor=actor, lease=assembly.settings.lease)
    row = assembly.ledger.scene(scene_id)
    work = _SceneWork(assembly, claim, row, actor, on_stage, progress)
    every = assembly.settings.processing.heartbeat_seconds
    with Heartbeat(assembly.ledger, claim, lease=assembly.settings.lease, every_seconds=every) as heartbeat:
        try:
            on_stage(Stage.CLAIMED)
            return work.run(heartbeat)
        except ClaimLost:
            raise
        except SceneRefused as refusal:
            return work.reject(refusal.gate, str(refusal), None, None)
        except Exception as error:
            state = work.fail(error)
            raise SceneFailed(f"{row.tile} {row.acquisition}: {type(error).__name__}: {error} (now {state})") from error


class _SceneWork:
    """The steps of one claimed scene, in order."""

    def __init__(
        self,
        assembly: Assembly,
        claim: Claim,
        row: SceneRow,
        actor: str,
        on_stage: Callable[[Stage], object],
        progress: Callable[[float], object],
    ) -> None:
        self._assembly, self._claim, self._row, self._actor = assembly, claim, row, actor
        self._on_stage, self._progress = on_stage, progress
        self._title = f"{row.tile} {row.sensed:%Y-%m-%d} {row.region}"
        self._seconds: dict[str, float] = {}
        self._prefix: str | None = None

    def run(self, heartbeat: Heartbeat) -> Outcome:
        """Open, judge, produce, verify and publish."""
        assembly, row = self._assembly, self._row
        region = assembly.region(row.region)
        source_settings = assembly.source_settings(row.source)
        acquisition = assembly.source(row.source).restore(row.source_item)
        model = assembly.model
        revision = product_revision(acquisition, region, assembly.settings.product, model.card.digest)
        keys = product_keys(acquisition, region, revision, self._claim.token)
        self._prefix = keys.prefix
        assembly.ledger.begin(self._claim, revision)
        remove_dead_attempts(assembly, keys, revision)

        self._on_stage(Stage.READING)
        began = time.monotonic()
        with open_scene(acquisition, source_settings) as scene:
            window = product_window(scene.grid, region, BLOCK)
            seen = survey(scene, window)
            gates = evaluate_gates(
                SceneFacts(seen.valid_fraction, seen.cloud_fraction, acquisition.cloud_cover, acquisition.sun_zenith),
                region,
                assembly.settings.gates,
            )
            refusal = first_rejection(gates)
            self._seconds["gates"] = time.monotonic() - began
            if refusal:
                return self.reject(refusal.gate, refusal.explanation, refusal.measured, refusal.limit, gates)
            self._on_stage(Stage.WRITING)
            tags = {
                "ITEM": item_id(acquisition, region),
                "PRODUCT_REVISION": revision,
                "MODEL": f"{model.card.name} {model.card.version} {model.card.digest[:12]}",
                "NOTICE": f"contains modified Copernicus Sentinel data {acquisition.key.sensed:%Y}",
            }
            files = raster_files(model, scene.grid, window, assembly.settings.product, tags)

            def advance(fraction: float) -> None:
                heartbeat.check()
                self._progress(fraction)

            with ThreadPoolExecutor(assembly.settings.processing.threads, thread_name_prefix="codec") as pool:
                made = produce(
                    scene, model, window, files, store=assembly.store, keys=keys, pool=pool, progress=advance
                )
        self._seconds.update(made.seconds)

        began = time.monotonic()
        checks = {}
        for file in files:
            heartbeat.check()
            checks[file.asset] = verify_cog(
                assembly.store, keys.file(file.name), file.profile, made.summaries[file.asset]
            )
        self._seconds["verify"] = time.monotonic() - began
        self._on_stage(Stage.VERIFIED)
