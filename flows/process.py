"""The process flow: one scene, from claim to catalog, as a run that operators can read."""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Final

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.events import emit_event
from prefect.runtime import flow_run
from pydantic import Field

from catalog.ledger import NotClaimable
from flows.artifacts import progress_reporter, scene_artifact
from flows.assembly import assemble
from flows.names import device_limit, run_name, run_url
from flows.processing import Stage, process_scene
from infra.logs import about

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog.ledger import SceneRow
    from flows.assembly import Assembly

logger = logging.getLogger(__name__)

PUBLISHED_EVENT: Final = "explains2a.published"

_SLOT_SECONDS: Final = 120.0
"""A run that was killed gives its place back after this long; a living one renews it."""


@flow(name="process", persist_result=False, timeout_seconds=6 * 3600)
def process(
    scene_id: Annotated[int, Field(ge=1)],
    dry_run: bool = False,
) -> str:
    """Turn one discovered scene into a catalogued hyperspectral product.

    A scene that a gate refuses is a completed run that says why. An error fails the run; the ledger knows whether it
    is tried again, and the next look at the sources starts that attempt.

    Args:
        scene_id: Number of the scene in the ledger; see the artifact `backlog`.
        dry_run: Say which scene would be processed and do nothing.

    Returns:
        What became of it.
    """
    with assemble() as assembly:
        row = assembly.ledger.scene(scene_id)
        with about(scene=scene_id, acquisition=row.acquisition, region=row.region):
            return _process(assembly, row, dry_run=dry_run)


def _process(assembly: Assembly, row: SceneRow, *, dry_run: bool) -> str:
    log = get_run_logger()
    if dry_run:
        said = f"would process scene {row.id}, acquisition {row.acquisition} ({row.state})"
        log.info("%s", said)
        return said
    _name_run(row)
    log.info("scene %d, acquisition %s from %s", row.id, row.acquisition, row.source)

    def on_stage(stage: Stage) -> None:
        log.info("stage: %s", stage)

    actor = f"process/{flow_run.id or 'local'}"  # `scenes show` leads from it to the run
    page = run_url(assembly.settings.prefect.ui_url, flow_run.id) if flow_run.id else ""
    try:
        with device_slot():
            outcome = process_scene(
                assembly, row.id, actor=actor, run_url=page, on_stage=on_stage, progress=progress_reporter()
            )
    except NotClaimable as other:  # two runs were asked for: the other one makes it, or has made it
        said = f"nothing to do: {other}"
        log.warning("%s", said)
        return said
    public = assembly.settings.api.public_url or f"http://{assembly.settings.api.host}:{assembly.settings.api.port}"
    scene_artifact(outcome, catalog_url=public)
    if outcome.state == "published":
        _announce(row, outcome.item_url)
    said = f"{outcome.state}: {outcome.title} {outcome.reason}".rstrip()
    log.info("%s", said)
    return said


@contextmanager
def device_slot() -> Iterator[None]:
    """Take one of this machine's places for scenes, held by a lease that a killed run does not keep.

    Where nobody set such a limit (`explains2a up` does; else `prefect gcl create NAME --limit N`), nothing waits. A
    server that is away when the place is given back fails no scene that is made: the lease ends by itself.
    """
    with ExitStack() as slot:
        slot.enter_context(concurrency(device_limit(), occupy=1, lease_duration=_SLOT_SECONDS, strict=False))
        try:
            yield
        finally:
            taken = slot.pop_all()
            try:
                taken.close()
            except Exception:
                logger.warning("this machine's place could not be given back; its lease ends by itself", exc_info=True)


def _announce(row: SceneRow, item_url: str) -> None:
    """Tell Prefect's automations that a product came out: they raise an alarm when none does."""
    emit_event(
        PUBLISHED_EVENT,
        resource={"prefect.resource.id": f"explains2a.region.{row.region}", "prefect.resource.name": row.region},
        payload={"scene": row.id, "acquisition": row.acquisition, "item": item_url},
    )


def _name_run(row: SceneRow) -> None:
    """Give a run started from the UI the same readable name and tags as one started by `watch`."""
    identifier = flow_run.id
    if identifier is None:
        return
    tags = sorted({*flow_run.tags, f"tile:{row.tile}", f"region:{row.region}"})
    with get_client(sync_client=True) as client:
        client.update_flow_run(identifier, name=run_name(row), tags=tags)
