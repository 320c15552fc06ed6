"""Verbs of operators: single scenes, reconciliation, backfill, the daily report, automations."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
from rich.console import Console
from rich.table import Table

from flows.interventions import Intervention

if TYPE_CHECKING:
    from catalog.overview import Overview

out = Console(markup=False)
err = Console(stderr=True, markup=False)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and do nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs instead of people.")]
SceneNumber = Annotated[int, typer.Argument(help="The scene's number in the ledger.")]
Reason = Annotated[str, typer.Option(help="Why, for the scene's history.")]
Regions = Annotated[list[str] | None, typer.Option("--region", help="Only this region; may be given several times.")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day of sensing, UTC.")]

automations_app = typer.Typer(no_args_is_help=True, help="Alarms of the Prefect server, kept as files.")


class NoServer(RuntimeError):
    """No Prefect server is known."""

    transient: ClassVar[bool] = False


def add_verbs(app: typer.Typer, scenes_app: typer.Typer) -> None:
    """Add these verbs to the command."""
    scenes_app.command("retry")(retry)
    scenes_app.command("release")(release)
    scenes_app.command("reject")(reject)
    scenes_app.command("supersede")(supersede)
    app.command("reconcile")(reconcile)
    app.command("backfill")(backfill)
    app.command("report")(report)
    app.add_typer(automations_app, name="automations")


def retry(scene_id: SceneNumber, reason: Reason = "asked for", dry_run: DryRun = False) -> None:
    """Make a failed or rejected scene again, whatever its pause."""
    _intervene(Intervention.RETRY, scene_id, reason, dry_run=dry_run)


def release(scene_id: SceneNumber, reason: Reason = "asked for", dry_run: DryRun = False) -> None:
    """Let a scene out of quarantine; its attempts count from none."""
    _intervene(Intervention.RELEASE, scene_id, reason, dry_run=dry_run)


def reject(
    scene_id: SceneNumber,
    reason: Annotated[str, typer.Option(help="Why, for people and for the scene's history.")],
    dry_run: DryRun = False,
) -> None:
    """Be done with a scene that is not wanted."""
    _intervene(Intervention.REJECT, scene_id, reason, dry_run=dry_run)


def supersede(scene_id: SceneNumber, reason: Reason = "another scene stands for it", dry_run: DryRun = False) -> None:
    """Be done with a scene that another one stands for; this is final."""
    _intervene(Intervention.SUPERSEDE, scene_id, reason, dry_run=dry_run)


def _intervene(what: Intervention, scene_id: int, reason: str, *, dry_run: bool) -> None:
    from flows.assembly import assemble
    from flows.interventions import intervene

    with assemble() as assembly:
        said = intervene(assembly.ledger, scene_id, what, reason=reason, actor="cli", dry_run=dry_run)
    out.print(said, soft_wrap=True)


def reconcile(
    days: Annotated[int, typer.Option(min=1, help="Days back from today, where no dates are given.")] = 30,
    begin: Day = None,
    end: Day = None,
    region: Regions = None,
    sample: Annotated[int, typer.Option(min=0, help="Files that are read again whole, chosen by chance.")] = 20,
    orphan_hours: Annotated[float, typer.Option(min=0, help="Leave younger files of dead attempts alone.")] = 24.0,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make products again whose files are gone or damaged.")
    ] = False,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Hold source, ledger, store and catalog against each other; put right what is safe and tell the rest."""
    from flows.assembly import assemble
    from flows.reconciling import Scope
    from flows.reconciling import reconcile as compare

    last = end.date() if end else datetime.now(UTC).date()
    first = begin.date() if begin else last - timedelta(days=days)
    scope = Scope(first, last, tuple(region or ()), sample, orphan_hours, repair, dry_run, last.toordinal())
    with assemble() as assembly:
        found = compare(assembly, scope, actor="cli", progress=lambda what: err.print(f"looking at {what}"))
    if as_json:
        _json({**asdict(found), "counts": found.counts()})
    else:
        table = Table("region", "day", "offer", "known", "miss", "publ", "rej", "wait", "quar")
        for column in table.columns[1:]:
            column.no_wrap = True
        for one in found.days:
            offered = "?" if one.offered is None else one.offered
            numbers = (one.known, one.missing, one.published, sum(one.rejected.values()), one.waiting, one.quarantined)
            table.add_row(one.region, str(one.day), *map(str, (offered, *numbers)))
        out.print(table)
        for problem in found.found:
            out.print(f"{problem.kind}: {problem.subject} {problem.region}: {problem.said}; "
                      f"{problem.repair or 'only told'}", soft_wrap=True)  # fmt: skip
        out.print(f"{found.files_checked} files compared, {found.files_hashed} read again, {len(found.found)} findings")
    if found.open():
        raise typer.Exit(1)


def backfill(
    begin: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="First day of sensing, UTC.")],
    end: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="Last day of sensing, UTC, included.")],
    region: Regions = None,
    remake: Annotated[
        bool, typer.Option("--remake", help="Also make again what another model than the one in force made.")
    ] = False,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Queue the scenes of past days behind all others; says first what they will cost. The next look starts them."""
    from flows.assembly import assemble
    from flows.backfilling import plan_backfill, record_backfill
    from flows.reporting import age

    with assemble() as assembly:
        plan = plan_backfill(
            assembly, begin.date(), end.date(), regions=tuple(region or ()), remake=remake,
            progress=err.print,
        )  # fmt: skip
        queued = 0 if dry_run else record_backfill(assembly, plan, who="cli")
    if as_json:
        _json({
            "new": len(plan.new), "remake": len(plan.remake), "known": plan.known, "scenes": plan.scenes,
            "seconds": plan.seconds, "core_seconds": plan.core_seconds, "bytes": plan.bytes, "queued": queued,
            "silent": plan.silent,
        })  # fmt: skip
    else:
        for name, number in plan.scenes.items():
            out.print(f"{name}: {number} scenes")
        if plan.seconds is None or plan.bytes is None:
            out.print("no product was measured yet: the cost is unknown")
        else:
            out.print(f"about {age(plan.seconds)} of one worker ({plan.core_seconds:,.0f} core-seconds at most) and "
                      f"{plan.bytes / 1e9:.3f} GB, by the measured averages")  # fmt: skip
        out.print(f"{plan.known} known already; {plan.total} would be queued" if dry_run else f"{queued} queued")
    for silent in plan.silent:
        err.print(f"! {silent}", style="yellow")
    if plan.silent:
        raise typer.Exit(1)


def report(
    days: Annotated[int, typer.Option(min=1, help="Reasons and latencies are of so many days.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Print the day on one screen as the Prefect UI shows it: today, backlog, drift."""
    from catalog.overview import overview, quality_history
    from flows.assembly import assemble
    from flows.drift import judge_drift
    from flows.reporting import backlog_markdown, overview_markdown

    with assemble() as assembly:
        seen = overview(assembly.database, days=days)
        judged = judge_drift(quality_history(assembly.database, assembly.settings.collection_id))
        waiting = assembly.ledger.waiting()
    if as_json:
        _json({"overview": asdict(seen), "drift": [{**asdict(one), "alarm": one.alarm} for one in judged]})
        return
    out.print(f"{overview_markdown(seen)}\n\n{backlog_markdown(waiting, seen)}\n", soft_wrap=True)
    for one in judged:
        if one.alarm:
            out.print(f"drift: {one.region} {one.field} {one.now:.4g}, limits {one.low:.4g} to {one.high:.4g}")


@automations_app.command("apply")
def apply_automations(
    notify: Annotated[str, typer.Option(help="Notification block that alarms go to, type/name.")] = "",
    dry_run: DryRun = False,
) -> None:
    """Bring the alarms of the Prefect server to what the files say; other automations are left alone."""
    _find_server()
    from prefect.client.orchestration import get_client

    from flows.automations import apply_automations as apply

    with get_client(sync_client=True) as client:
        for one in apply(client, notify=notify, dry_run=dry_run):
            out.print(f"{one.name}: {'would be ' if dry_run and one.done != 'unchanged' else ''}{one.done}")


def print_overview(seen: Overview) -> None:
    """Print what `status` says beyond the states."""
    from flows.reporting import age

    for reason, number in seen.reasons.items():
        out.print(f"{number} {reason}", soft_wrap=True)
    if seen.oldest_waiting_seconds is not None:
        out.print(f"backlog: {seen.backlog} scenes, the oldest known for {age(seen.oldest_waiting_seconds)}")
    for name, spread in seen.latency_seconds.items():
        out.print(f"{name}: median {age(spread.median)}, 9 of 10 within {age(spread.p90)} ({spread.number} scenes)")
    for name, cost in seen.costs.items():
        out.print(f"cost {name}: {cost.seconds:.1f} s, {cost.bytes / 1e6:.2f} MB per scene ({cost.products} products)")
    for one in seen.last_success:
        out.print(f"last product of {one.tile} over {one.region}: {one.published:%Y-%m-%d %H:%M} UTC")


def _find_server() -> None:
    """Point Prefect's client at the server of this home unless the environment names one."""
    if os.environ.get("PREFECT_API_URL"):
        return
    from flows.services import read_state, use
    from infra.settings import load_settings

    state = read_state(load_settings().home)
    if state is None:
        raise NoServer("no Prefect server runs from this home; explains2a up, or set PREFECT_API_URL")
    use(state)


def _json(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, default=_text) + "\n")


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, date | datetime) else str(value)
