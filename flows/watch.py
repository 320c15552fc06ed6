"""The watch flow: look at every source, and hand each scene that is due to a process run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from prefect import flow, get_run_logger
from prefect.deployments import run_deployment
from pydantic import Field

from flows.artifacts import watch_artifact
from flows.assembly import assemble
from flows.names import run_name
from flows.watching import watch_sources

if TYPE_CHECKING:
    from flows.assembly import Assembly

PROCESS_DEPLOYMENT = "process/process"


def schedule_due(assembly: Assembly, *, limit: int = 500) -> list[str]:
    """Create one process run for every scene that is due.

    The idempotency key holds the scene and its attempt: looking twice makes one run, and a scene whose run crashed
    gets a new one once its lease has ended.

    Args:
        assembly: The system's parts.
        limit: Most runs to create at once.

    Returns:
        Names of the runs, new or already there.
    """
    names = []
    for row in assembly.ledger.due(limit):
        name = run_name(row)
        run_deployment(
            PROCESS_DEPLOYMENT,
            parameters={"scene_id": row.id},
            flow_run_name=name,
            tags=[f"tile:{row.tile}", f"region:{row.region}", "mode:realtime"],
            idempotency_key=f"scene-{row.id}-attempt-{row.attempts + 1}",
            timeout=0,
            as_subflow=False,
        )
        names.append(name)
    return names


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
    for problem in (*report.unreadable, *report.unavailable):
        log.warning("%s", problem)
