"""The watch flow: look at every source, and hand each scene that is due to a process run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, ClassVar, cast

from prefect import flow, get_run_logger
from prefect.deployments import run_deployment
from pydantic import Field

from flows.artifacts import watch_artifact
from flows.assembly import assemble
from flows.names import run_name
from flows.watching import watch_sources

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


def schedule_due(assembly: Assembly, *, limit: int = 500) -> list[str]:
    """Create one process run for every scene that is due.

    The idempotency key holds the scene and its attempt: looking twice makes one run. A run that ended without ever
    claiming its scene (cancelled, crashed while starting) would be handed back under that key for ever; the scene is
    due all the same, so the key then also names the dead run.

    Args:
        assembly: The system's parts.
        limit: Most runs to create at once.

    Returns:
        Names of the runs, new or already there.
    """
    names = []
    for row in assembly.ledger.due(limit):
        name = run_name(row)
        key = f"scene-{row.id}-attempt-{row.attempts + 1}"
        for _ in range(_MOST_DEAD_RUNS):
            run = _ask_for_run(row, name, key)
            if run.state is None or not run.state.is_final():
                break
            key = f"scene-{row.id}-attempt-{row.attempts + 1}-after-{run.id}"
        names.append(name)
    return names


def _ask_for_run(row: SceneRow, name: str, key: str) -> FlowRun:
    run = run_deployment(
        PROCESS_DEPLOYMENT,
        parameters={"scene_id": row.id},
        flow_run_name=name,
        tags=[f"tile:{row.tile}", f"region:{row.region}", "mode:realtime"],
        idempotency_key=key,
        timeout=0,
        as_subflow=False,
    )
    return cast("FlowRun", run)


def _name_run() -> str:
    return f"watch {datetime.now(UTC):%Y-%m-%d %H:%M}"


@flow(name="watch", flow_run_name=_name_run, persist_result=False, timeout_seconds=1800)
def watch(
    schedule: Annotated[bool, Field(description="Create process runs for the scenes that are due.")] = True,
    dry_run: Annotated[bool, Field(description="Ask the sources but write nothing and start nothing.")] = False,
) -> None:
    """Look at every source; record what is new; start a process run for every scene that is due."""
    with assemble() as assembly:
        log = get_run_logger()
        report = watch_sources(assembly, actor="watch", dry_run=dry_run, progress=log.info)
        scheduled = schedule_due(assembly) if schedule and not dry_run else []
        watch_artifact(report, scheduled, assembly.ledger.counts())
    log.info("delivered: %s; process runs asked for: %d", report.outcomes or "nothing", len(scheduled))
    for problem in report.unreadable:
        log.warning("%s", problem)
    if report.unavailable:
        raise SourcesSilent("; ".join(report.unavailable))
