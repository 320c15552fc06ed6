"""The maintain flow: versions whose time is over, files of dead attempts, uploads nobody finished."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from flows.assembly import assemble
from flows.housekeeping import remove_orphans
from flows.retention import retire_versions
from flows.retries import RETRIES, RETRY_SECONDS, may_pass


def _name_run() -> str:
    return f"maintain {datetime.now(UTC):%Y-%m-%d}"


@flow(name="maintain", flow_run_name=_name_run, persist_result=False, timeout_seconds=6 * 3600)
def maintain(
    keep_days: Annotated[float, Field(ge=0)] = 365.0,
    keep_versions: Annotated[int, Field(ge=0)] = 0,
    orphan_hours: Annotated[float, Field(ge=1)] = 24.0,
    dry_run: bool = False,
) -> str:
    """Remove what nobody needs any more; never the latest version of an item, never a file that is none of ours.

    Args:
        keep_days: Versions stay so many days after a newer one replaced them.
        keep_versions: So many versions before the latest stay however old they are.
        orphan_hours: Files of dead attempts and unfinished uploads are removed when older.
        dry_run: Say what would be removed and remove nothing.

    Returns:
        What was, or would be, removed.
    """
    versions = _retire(keep_days, keep_versions, dry_run=dry_run)
    files = _clean(orphan_hours, dry_run=dry_run)
    said = f"{versions} versions and {files} files {'would be' if dry_run else 'were'} removed"
    get_run_logger().info("%s", said)
    return said


@task(
    name="retire", retries=RETRIES, retry_delay_seconds=RETRY_SECONDS, retry_condition_fn=may_pass,
    persist_result=False, cache_policy=NO_CACHE,
)  # fmt: skip
def _retire(keep_days: float, keep_versions: int, *, dry_run: bool) -> int:
    with assemble() as assembly:
        age = timedelta(days=keep_days)
        return sum(1 for _ in retire_versions(assembly, older_than=age, keep=keep_versions, dry_run=dry_run))


@task(
    name="clean", retries=RETRIES, retry_delay_seconds=RETRY_SECONDS, retry_condition_fn=may_pass,
    persist_result=False, cache_policy=NO_CACHE,
)  # fmt: skip
def _clean(orphan_hours: float, *, dry_run: bool) -> int:
    with assemble() as assembly:
        return len(remove_orphans(assembly, older_than=timedelta(hours=orphan_hours), dry_run=dry_run))
