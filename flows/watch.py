"""The watch flow: look at every source, and hand each scene that is due to a process run."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, cast

from prefect import flow, get_run_logger
from prefect.deployments import run_deployment

from catalog.model_item import model_item_id
from catalog.overview import overview
from catalog.states import SceneState
from flows.artifacts import watch_artifact
from flows.assembly import assemble
from flows.backfilling import ACTOR
from flows.dead_runs import ended
from flows.names import run_name
from flows.watching import watch_sources
from model.card import load_card

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from catalog.ledger import SceneRow
    from flows.assembly import Assembly

PROCESS_DEPLOYMENT = "process/process"

_MOST_DEAD_RUNS = 20
"""Runs of one attempt that may have died before claiming; then the scene waits for the next look."""


class SourcesSilent(RuntimeError):
    """Some source gave no usable answer: all that was found is recorded, and the run is red so that it is noticed."""

    transient: ClassVar[bool] = True


class Mode(StrEnum):
    """Why a scene is made; also the name of the work queue it waits in."""

    REALTIME = "realtime"
    BACKFILL = "backfill"


def schedule_due(assembly: Assembly, *, limit: int = 500, backfill_limit: int = 100) -> list[str]:
    """Create one process run for every scene that is due, those of a backfill in a queue behind all others.

    The idempotency key holds the scene and since when it is due: looking twice makes one run, and a scene that was sent
    back gets a new one. A run that ended without ever claiming its scene (cancelled, crashed while starting, or gone
    with its machine) would be handed back under that key for ever; the scene is due all the same, so the key then also
    names the dead run.

    Args:
        assembly: The system's parts.
        limit: Most runs of today's scenes to create at once.
        backfill_limit: Most runs of backfills that wait at once; the next look goes on.

    Returns:
        Names of the runs, new or already there.
    """
    due = assembly.ledger.due_ids()
    asked = assembly.ledger.requested_by(due)
    modes = {scene: Mode.BACKFILL if asked.get(scene, "").startswith(ACTOR) else Mode.REALTIME for scene in due}
    chosen = [
        *[scene for scene in due if modes[scene] is Mode.REALTIME][:limit],
        *[scene for scene in due if modes[scene] is Mode.BACKFILL][:backfill_limit],
    ]
    model = model_item_id(load_card(assembly.model_path))
    names = []
    for scene in chosen:
        row = assembly.ledger.scene(scene)
        if row.state not in {SceneState.DISCOVERED, SceneState.FAILED}:
            continue  # taken since the list was made
        names.append(run_name(row))
        first = key = f"scene-{row.id}-attempt-{row.attempts + 1}-{row.changed_at:%Y%m%dT%H%M%S%f}"
        for _ in range(_MOST_DEAD_RUNS):
            run = _ask_for_run(row, key, modes[scene], model)
            if not ended(run) or assembly.ledger.scene(scene).changed_at != row.changed_at:
                break
            key = f"{first}-after-{run.id}"
    return names


def _ask_for_run(row: SceneRow, key: str, mode: Mode, model: str) -> FlowRun:
    run = run_deployment(
        PROCESS_DEPLOYMENT,
        parameters={"scene_id": row.id},
        flow_run_name=run_name(row),
        tags=[f"tile:{row.tile}", f"region:{row.region}", f"mode:{mode}", f"model:{model}"],
        idempotency_key=key,
        work_queue_name=mode,
        timeout=0,
        as_subflow=False,
    )
    return cast("FlowRun", run)


def _name_run() -> str:
    return f"watch {datetime.now(UTC):%Y-%m-%d %H:%M}"


@flow(name="watch", flow_run_name=_name_run, persist_result=False, timeout_seconds=1800)
def watch(
    schedule: bool = True,
    dry_run: bool = False,
) -> None:
    """Look at every source; record what is new; start a process run for every scene that is due.

    Args:
        schedule: Create process runs for the scenes that are due.
        dry_run: Ask the sources but write nothing and start nothing.
    """
    with assemble() as assembly:
        log = get_run_logger()
        report = watch_sources(assembly, actor="watch", dry_run=dry_run, progress=log.info)
        scheduled = schedule_due(assembly) if schedule and not dry_run else []
        watch_artifact(report, scheduled, overview(assembly.database), assembly.settings.prefect.ui_url)
    log.info("delivered: %s; process runs asked for: %d", report.outcomes or "nothing", len(scheduled))
    for problem in report.unreadable:
        log.warning("%s", problem)
    if report.unavailable:
        raise SourcesSilent("; ".join(report.unavailable))
