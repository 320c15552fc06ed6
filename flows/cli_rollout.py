"""Verbs that bring a new model into force: shadow, promote, rollback, history."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

out = Console(markup=False)
err = Console(stderr=True, markup=False)

model_app = typer.Typer(no_args_is_help=True, help="Try another model, put it in force, take it back.")

Weights = Annotated[Path | None, typer.Argument(help="Folder of weights and card; the shipped ones by default.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the record.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and do nothing.")]


@model_app.command("shadow")
def shadow_run(
    weights: Weights = None,
    scenes: Annotated[int, typer.Option(min=1, max=100, help="Newest published scenes to compare on.")] = 3,
) -> None:
    """Run other weights beside those in force on recent scenes; write nothing, tell what differs."""
    from catalog.model_item import model_item_id
    from flows.assembly import assemble
    from flows.rollout import comparison_markdown, shadow
    from model.duality import load_model

    with assemble() as assembly:
        candidate = load_model(weights, assembly.settings.device)
        done = shadow(assembly, candidate, scenes=scenes, progress=err.print)
        names = model_item_id(assembly.model.card), model_item_id(candidate.card)
    out.print(comparison_markdown(done, *names), soft_wrap=True)


@model_app.command("promote")
def promote_model(reason: Reason, weights: Weights = None, dry_run: DryRun = False) -> None:
    """Put weights in force for every process that starts from now on."""
    from flows.assembly import assemble
    from flows.rollout import promote

    with assemble() as assembly:
        done = promote(assembly, weights, actor="cli", why=reason, dry_run=dry_run)
    out.print(f"{done.model} ({done.digest[:12]}) {'would be' if dry_run else 'is'} in force", soft_wrap=True)


@model_app.command("rollback")
def roll_back_model(reason: Reason, dry_run: DryRun = False) -> None:
    """Put the model in force again that the newest promotion replaced."""
    from flows.assembly import assemble
    from flows.rollout import roll_back

    with assemble() as assembly:
        done = roll_back(assembly, actor="cli", why=reason, dry_run=dry_run)
    out.print(f"{done.model} ({done.digest[:12]}) {'would be' if dry_run else 'is'} in force again", soft_wrap=True)


@model_app.command("history")
def history() -> None:
    """List what was put in force, when, by whom and why; newest first."""
    from catalog.releases import releases
    from flows.assembly import assemble

    with assemble() as assembly:
        for one in releases(assembly.database):
            out.print(f"{one.at:%Y-%m-%d %H:%M} {one.action} {one.model} ({one.digest[:12]}) by {one.actor}: {one.why}",
                      soft_wrap=True)  # fmt: skip
