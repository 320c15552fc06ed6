"""How a new model goes live from the Prefect UI: a form each for trying, promoting and rolling back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from prefect import flow, get_run_logger
from prefect.runtime import flow_run
from pydantic import Field

from catalog.model_item import model_item_id
from flows.artifacts import comparison_artifact
from flows.assembly import assemble
from flows.rollout import comparison_markdown, promote, roll_back, shadow

# Prefect takes the descriptions of its forms from the docstrings' arguments; what is annotated here are the limits.
Reason = Annotated[str, Field(min_length=3, max_length=500)]
Weights = Annotated[str, Field(max_length=1000)]


@flow(name="model-shadow", flow_run_name="model shadow {weights}", persist_result=False, timeout_seconds=3600)
def model_shadow(weights: Weights = "", scenes: Annotated[int, Field(ge=1, le=100)] = 3) -> str:
    """Run other weights beside those in force on the newest published scenes; the run's page tells what differs.

    Nothing is written but that page, so there is no dry run.

    Args:
        weights: Folder of weights and card, as every worker sees it; empty for the shipped ones.
        scenes: Newest published scenes to compare on.

    Returns:
        Which models were compared, on how many scenes.
    """
    from model.duality import load_model

    log = get_run_logger()
    with assemble() as assembly:
        candidate = load_model(_folder(weights), assembly.settings.device)
        present = model_item_id(assembly.model.card)
        done = shadow(assembly, candidate, scenes=scenes, progress=log.info)
    name = model_item_id(candidate.card)
    said = f"{name} beside {present} on {len(done)} scenes"
    comparison_artifact(comparison_markdown(done, present, name), said)
    log.info("%s", said)
    return said


@flow(name="model-promote", flow_run_name="model promote {weights}", persist_result=False, timeout_seconds=600)
def model_promote(reason: Reason, weights: Weights = "", dry_run: bool = False) -> str:
    """Put weights in force for every process that starts from now on; nothing is made again by itself.

    Args:
        reason: Why, kept with the record.
        weights: Folder of weights and card, as every worker sees it; it must stay. Empty for the shipped ones.
        dry_run: Load the weights, say what would be in force and record nothing.

    Returns:
        What is, or would be, in force.
    """
    with assemble() as assembly:
        done = promote(assembly, _folder(weights), actor=_actor(), why=reason, dry_run=dry_run)
    return _told(f"{done.model} ({done.digest[:12]}) {'would be' if dry_run else 'is'} in force")


@flow(name="model-rollback", flow_run_name="model rollback", persist_result=False, timeout_seconds=600)
def model_rollback(reason: Reason, dry_run: bool = False) -> str:
    """Put the model in force again that the newest promotion replaced.

    Args:
        reason: Why, kept with the record.
        dry_run: Say what would be in force again and record nothing.

    Returns:
        What is, or would be, in force again.
    """
    with assemble() as assembly:
        done = roll_back(assembly, actor=_actor(), why=reason, dry_run=dry_run)
    return _told(f"{done.model} ({done.digest[:12]}) {'would be' if dry_run else 'is'} in force again")


def _folder(weights: str) -> Path | None:
    return Path(weights.strip()) if weights.strip() else None


def _actor() -> str:
    return f"model/{flow_run.id or 'local'}"


def _told(said: str) -> str:
    get_run_logger().info("%s", said)
    return said
