"""The report flow: once a day, what operators want on one screen, and an alarm when quality drifts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from pydantic import Field

from catalog.overview import overview, quality_history
from flows.artifacts import report_artifacts
from flows.assembly import assemble
from flows.drift import judge_drift
from flows.retries import RETRIES, RETRY_SECONDS, may_pass

if TYPE_CHECKING:
    from flows.drift import Judgement

DRIFT_EVENT = "explains2a.drift"


def _name_run() -> str:
    return f"report {datetime.now(UTC):%Y-%m-%d}"


@flow(name="report", flow_run_name=_name_run, persist_result=False, timeout_seconds=1800)
def report(
    days: Annotated[int, Field(ge=1, le=3650)] = 30,
) -> str:
    """Write the artifacts `today`, `backlog` and `drift`, and one page of this day.

    Args:
        days: Reasons and latencies are of so many days.

    Returns:
        Which quality numbers drift.
    """
    alarms = [one for one in _report(days) if one.alarm]
    for one in alarms:
        _alarm(one)
    said = ", ".join(f"{one.region} {one.field}" for one in alarms)
    get_run_logger().info("drift: %s", said or "none")
    return f"drift: {said}" if said else "no drift"


@task(
    name="report", retries=RETRIES, retry_delay_seconds=RETRY_SECONDS, retry_condition_fn=may_pass,
    persist_result=False, cache_policy=NO_CACHE,
)  # fmt: skip
def _report(days: int) -> list[Judgement]:
    with assemble() as assembly:
        seen = overview(assembly.database, days=days)
        history = quality_history(assembly.database, assembly.settings.collection_id)
        judgements = judge_drift(history)
        ui = assembly.settings.prefect.ui_url
        report_artifacts(seen, assembly.ledger.waiting(), history, judgements, ui_url=ui)
        return judgements


def _alarm(one: Judgement) -> None:
    """Tell Prefect's automations, which know whom to tell."""
    emit_event(
        DRIFT_EVENT,
        resource={"prefect.resource.id": f"explains2a.region.{one.region}", "prefect.resource.name": one.region},
        payload={"field": one.field, "now": one.now, "low": one.low, "high": one.high, "products": one.products},
    )
