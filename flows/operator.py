"""What operators do to single scenes, as deployments: a form in the Prefect UI each, with a dry run."""

from __future__ import annotations

from typing import Annotated

from prefect import flow, get_run_logger
from prefect.runtime import flow_run
from pydantic import Field

from flows.assembly import assemble
from flows.interventions import Intervention, intervene

# Prefect takes the descriptions of its forms from the docstrings' arguments; what is annotated here are the limits.
SceneNumber = Annotated[int, Field(ge=1)]
Reason = Annotated[str, Field(min_length=3, max_length=500)]


@flow(name="retry", flow_run_name="retry scene {scene_id}", persist_result=False, timeout_seconds=300)
def retry(scene_id: SceneNumber, reason: Reason, dry_run: bool = False) -> str:
    """Make a failed or rejected scene again; the next look at the sources starts its run.

    Args:
        scene_id: Number of the scene in the ledger; see the artifact `backlog`.
        reason: Why, for the scene's history and for the next operator.
        dry_run: Say what would be done and do nothing.

    Returns:
        What was, or would be, done.
    """
    return _do(Intervention.RETRY, scene_id, reason, dry_run=dry_run)


@flow(name="release", flow_run_name="release scene {scene_id}", persist_result=False, timeout_seconds=300)
def release(scene_id: SceneNumber, reason: Reason, dry_run: bool = False) -> str:
    """Let a scene out of quarantine: the cause is removed, its attempts count from none.

    Args:
        scene_id: Number of the scene in the ledger; see the artifact `backlog`.
        reason: Why, for the scene's history and for the next operator.
        dry_run: Say what would be done and do nothing.

    Returns:
        What was, or would be, done.
    """
    return _do(Intervention.RELEASE, scene_id, reason, dry_run=dry_run)


@flow(name="reject", flow_run_name="reject scene {scene_id}", persist_result=False, timeout_seconds=300)
def reject(scene_id: SceneNumber, reason: Reason, dry_run: bool = False) -> str:
    """Be done with a scene that is not wanted; it is not tried again until someone retries it.

    Args:
        scene_id: Number of the scene in the ledger; see the artifact `backlog`.
        reason: Why, for the scene's history and for the next operator.
        dry_run: Say what would be done and do nothing.

    Returns:
        What was, or would be, done.
    """
    return _do(Intervention.REJECT, scene_id, reason, dry_run=dry_run)


@flow(name="supersede", flow_run_name="supersede scene {scene_id}", persist_result=False, timeout_seconds=300)
def supersede(scene_id: SceneNumber, reason: Reason, dry_run: bool = False) -> str:
    """Be done with a scene that another one stands for; this is final.

    Args:
        scene_id: Number of the scene in the ledger; see the artifact `backlog`.
        reason: Why, for the scene's history and for the next operator.
        dry_run: Say what would be done and do nothing.

    Returns:
        What was, or would be, done.
    """
    return _do(Intervention.SUPERSEDE, scene_id, reason, dry_run=dry_run)


@flow(name="deprecate", flow_run_name="deprecate {item_id}", persist_result=False, timeout_seconds=300)
def deprecate_item(
    item_id: Annotated[str, Field(min_length=1, max_length=160)],
    reason: Reason,
    version: Annotated[int | None, Field(ge=1)] = None,
    dry_run: bool = False,
) -> str:
    """Mark a published product as not to be used any more; it stays readable and says so.

    Args:
        item_id: Id of the item in the catalog.
        reason: Why, for consumers; a sentence.
        version: An earlier version; the latest by default.
        dry_run: Say what would be done and do nothing.

    Returns:
        What was, or would be, done.
    """
    from catalog.deprecation import deprecate

    with assemble() as assembly:
        collection = assembly.settings.collection_id
        done = deprecate(assembly.database, collection, item_id, reason=reason, version=version, dry_run=dry_run)
    said = f"{done.item_id} version {done.version} {'would be' if dry_run else 'is'} deprecated"
    get_run_logger().info("%s", said)
    return said


def _do(what: Intervention, scene_id: int, reason: str, *, dry_run: bool) -> str:
    with assemble() as assembly:
        actor = f"{what}/{flow_run.id or 'local'}"
        said = intervene(assembly.ledger, scene_id, what, reason=reason, actor=actor, dry_run=dry_run)
    get_run_logger().info("%s", said)
    return said
