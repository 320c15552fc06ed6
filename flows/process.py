"""The process flow: one scene, from claim to catalog, as a run that operators can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from pydantic import Field

from flows.artifacts import progress_reporter, scene_artifact
from flows.assembly import assemble
from flows.names import run_name
from flows.processing import Stage, process_scene

if TYPE_CHECKING:
    from catalog.ledger import SceneRow


@flow(name="process", persist_result=False, timeout_seconds=6 * 3600)
def process(
    scene_id: Annotated[int, Field(description="Number of the scene in the ledger (see: explains2a scenes list).")],
) -> str:
    """Turn one discovered scene into a catalogued hyperspectral product.

    A scene that a gate refuses is a completed run that says why. An error fails the run; the ledger knows whether it
    is tried again, and the next look at the sources starts that attempt.
    """
    with assemble() as assembly:
        log = get_run_logger()
        row = assembly.ledger.scene(scene_id)
        _name_run(row)
        log.info("scene %d, acquisition %s from %s", scene_id, row.acquisition, row.source)

        def on_stage(stage: Stage) -> None:
            log.info("stage: %s", stage)

        actor = f"process/{flow_run.name or 'local'}"
        outcome = process_scene(assembly, scene_id, actor=actor, on_stage=on_stage, progress=progress_reporter())
        public = assembly.settings.api.public_url or f"http://{assembly.settings.api.host}:{assembly.settings.api.port}"
        scene_artifact(outcome, catalog_url=public)
    log.info("%s %s", outcome.state, outcome.reason)
    return f"{outcome.state}: {outcome.title} {outcome.reason}".rstrip()


def _name_run(row: SceneRow) -> None:
    """Give a run started from the UI the same readable name and tags as one started by `watch`."""
    identifier = flow_run.id
    if identifier is None:
        return
    tags = sorted({*flow_run.tags, f"tile:{row.tile}", f"region:{row.region}"})
    with get_client(sync_client=True) as client:
        client.update_flow_run(identifier, name=run_name(row), tags=tags)
