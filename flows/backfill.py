"""The backfill flow: past days over some regions, planned, recorded, and scheduled behind all other work."""

from __future__ import annotations

from datetime import date  # noqa: TC003 - Prefect reads the parameters' types at run time

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows.artifacts import backfill_artifact
from flows.assembly import assemble
from flows.backfilling import Plan, plan_backfill, record_backfill
from flows.retries import RETRIES, RETRY_SECONDS, may_pass
from flows.watch import schedule_due


@flow(name="backfill", flow_run_name="backfill {begin} to {end}", persist_result=False, timeout_seconds=6 * 3600)
def backfill(
    begin: date,
    end: date,
    regions: list[str] | None = None,
    remake: bool = False,
    dry_run: bool = True,
) -> str:
    """Make the products of past days; a dry run unless told otherwise.

    The scenes wait in the queue `backfill`, which workers serve after `realtime` and with a limit of its own. What
    does not fit at once is scheduled by the following looks at the sources. Called again, it goes on where it ended.

    Args:
        begin: First day of sensing, UTC.
        end: Last day of sensing, UTC, included.
        regions: Ids of regions; all by default.
        remake: Also make again what another model than the one in force made.
        dry_run: Only plan: scenes, time and bytes, and change nothing.

    Returns:
        What was, or would be, queued.
    """
    plan = _plan(begin, end, tuple(regions or ()), remake=remake, record=not dry_run)
    backfill_artifact(plan, begin, end, dry_run=dry_run)
    if not dry_run:
        with assemble() as assembly:
            schedule_due(assembly)
    said = f"{plan.total} scenes {'would be' if dry_run else 'were'} queued, {plan.known} are known"
    get_run_logger().info("%s", said)
    return said


@task(
    name="plan", retries=RETRIES, retry_delay_seconds=RETRY_SECONDS, retry_condition_fn=may_pass, persist_result=False,
    cache_policy=NO_CACHE,
)  # fmt: skip
def _plan(begin: date, end: date, regions: tuple[str, ...], *, remake: bool, record: bool) -> Plan:
    log = get_run_logger()
    with assemble() as assembly:
        plan = plan_backfill(assembly, begin, end, regions=regions, remake=remake, progress=log.info)
        if record:
            record_backfill(assembly, plan, who=str(flow_run.id or "local"))
    for silent in plan.silent:
        log.warning("%s", silent)
    return plan
