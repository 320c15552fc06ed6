"""The reconcile flow: source, ledger, store and catalog held against each other, day by day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from pydantic import Field

from flows.artifacts import completeness_artifact
from flows.assembly import assemble
from flows.reconciling import Reconciliation, Scope
from flows.reconciling import reconcile as compare
from flows.retries import RETRIES, RETRY_SECONDS, may_pass


def _name_run() -> str:
    return f"reconcile {datetime.now(UTC):%Y-%m-%d %H:%M}"


@flow(name="reconcile", flow_run_name=_name_run, persist_result=False, timeout_seconds=6 * 3600)
def reconcile(
    days: Annotated[int, Field(ge=1, le=3650)] = 30,
    begin: date | None = None,
    end: date | None = None,
    regions: list[str] | None = None,
    sample: Annotated[int, Field(ge=0)] = 20,
    repair: bool = False,
    dry_run: bool = False,
) -> str:
    """Compare source, ledger, store and catalog; put right what is safe; tell the rest in `completeness`.

    Args:
        days: Days back from today, where no dates are given.
        begin: First day of sensing, UTC; instead of `days`.
        end: Last day of sensing, UTC, included; today by default.
        regions: Ids of regions; all by default.
        sample: Files that are read again whole, chosen by chance.
        repair: Make products again whose files are gone or damaged; else they are only told.
        dry_run: Change nothing at all, only tell.

    Returns:
        What was found, in numbers.
    """
    last = end or datetime.now(UTC).date()
    scope = Scope(
        begin or last - timedelta(days=days), last, tuple(regions or ()), sample=sample, repair=repair, dry_run=dry_run,
        seed=datetime.now(UTC).toordinal(),
    )  # fmt: skip
    report = _compare(scope)
    completeness_artifact(report)
    said = ", ".join(f"{number} {kind}" for kind, number in sorted(report.counts().items())) or "everything agrees"
    get_run_logger().info("%s to %s: %s", scope.begin, scope.end, said)
    return said


@task(
    name="compare", retries=RETRIES, retry_delay_seconds=RETRY_SECONDS, retry_condition_fn=may_pass,
    persist_result=False, cache_policy=NO_CACHE,
)  # fmt: skip
def _compare(scope: Scope) -> Reconciliation:
    with assemble() as assembly:
        actor = f"reconcile/{flow_run.id or 'local'}"
        return compare(assembly, scope, actor=actor, progress=get_run_logger().info)
