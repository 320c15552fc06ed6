"""What operators read in the Prefect UI: keyed artifacts with few stable keys, and one page per process run."""

from __future__ import annotations

import base64
import contextlib
import logging
import time
from typing import TYPE_CHECKING, cast

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact

from flows.reporting import (
    backlog_markdown,
    completeness_markdown,
    drift_markdown,
    escape,
    headline,
    overview_markdown,
    plan_markdown,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import date
    from uuid import UUID

    from catalog.overview import Overview, Quality
    from catalog.scenes import SceneRow
    from flows.backfilling import Plan
    from flows.drift import Judgement
    from flows.processing import Outcome
    from flows.progress import Progress
    from flows.reconciling import Reconciliation
    from flows.watching import WatchReport

logger = logging.getLogger(__name__)

_MOST_DAYS = 60
"""Lines of one look's table of days."""

_WHOLE = 100.0
_EVERY_SECONDS = 5.0
"""Between two updates of the progress bar: a bar, not a load on the server."""


@contextlib.contextmanager
def _never_deciding(what: str) -> Iterator[None]:
    """Log what a report runs into: a UI that is away for a moment must not fail the scene it reports on."""
    try:
        yield
    except Exception:
        logger.warning("the %s could not be written", what, exc_info=True)


def watch_artifact(report: WatchReport, scheduled: Sequence[str], seen: Overview, ui_url: str) -> None:
    """Write the keyed artifact ``today``: what the last look found and where everything stands."""
    lines = [overview_markdown(seen, ui_url), "", f"## The last look, {seen.at:%Y-%m-%d %H:%M} UTC", ""]
    lines += [f"Asked {report.asked} source and region pairs.", "", "| delivered | scenes |", "| --- | ---: |"]
    lines += [f"| {outcome} | {number} |" for outcome, number in sorted(report.outcomes.items())]
    lines += ["", (f"Left to sources before: {report.left_to_others}. Not shown again: {report.missed} deliveries; "
              f"taken for withdrawn by this look: {len(report.withdrawn)} scenes.")]  # fmt: skip
    if report.days:
        lines += ["", "| region | day of sensing | offered | new | late |", "| --- | --- | ---: | ---: | ---: |"]
        lines += [
            f"| {escape(region)} | {day} | {count.offered} | {count.new} | {count.late} |"
            for (region, day), count in sorted(report.days.items(), reverse=True)[:_MOST_DAYS]
        ]
    for title, entries in (
        ("Process runs asked for", scheduled),
        ("Items that could not be understood", report.unreadable),
        ("Sources that did not answer", report.unavailable),
    ):
        if entries:
            lines += ["", f"### {title}", "", *(f"- {escape(entry)}" for entry in entries)]
    create_markdown_artifact("\n".join(lines), key="today", description=headline(seen))


def report_artifacts(
    seen: Overview,
    waiting: Sequence[SceneRow],
    history: Sequence[Quality],
    judgements: Sequence[Judgement],
    *,
    ui_url: str,
) -> None:
    """Write the keyed artifacts ``today``, ``backlog`` and ``drift``, and all of them as one page of the run."""
    today, backlog = overview_markdown(seen, ui_url), backlog_markdown(waiting, seen)
    drift = drift_markdown(history, judgements)
    create_markdown_artifact(today, key="today", description=headline(seen))
    create_markdown_artifact(backlog, key="backlog", description=f"{len(waiting)} scenes wait or are in quarantine")
    alarms = sum(one.alarm for one in judgements)
    create_markdown_artifact(drift, key="drift", description=f"{alarms} of {len(judgements)} numbers beyond limits")
    page = f"## Today\n\n{today}\n\n## Backlog\n\n{backlog}\n\n## Drift\n\n{drift}"
    create_markdown_artifact(page, description=f"report of {seen.at:%Y-%m-%d}")


def completeness_artifact(report: Reconciliation) -> None:
    """Write the keyed artifact ``completeness``."""
    said = f"{report.begin} to {report.end}: {len(report.found)} discrepancies"
    create_markdown_artifact(completeness_markdown(report), key="completeness", description=said)


def backfill_artifact(plan: Plan, begin: date, end: date, *, dry_run: bool) -> None:
    """Write the run's page: what a backfill does, or would do, and what that costs."""
    description = f"{begin} to {end}: {plan.total} scenes{' (dry run)' if dry_run else ''}"
    create_markdown_artifact(plan_markdown(plan, begin, end), description=description)


def comparison_artifact(markdown: str, said: str) -> None:
    """Write the run's page: how another model differs from the one in force."""
    create_markdown_artifact(markdown, description=said)


def progress_reporter() -> Callable[[Progress], None]:
    """Open a progress bar in the run's page and return what moves it: speed, time left and bytes beside it."""
    artifact = cast("UUID", create_progress_artifact(0.0, description="waiting for the first pixels"))
    shown = time.monotonic()

    def report(progress: Progress) -> None:
        nonlocal shown
        if time.monotonic() - shown >= _EVERY_SECONDS or progress.fraction >= 1:
            with _never_deciding("progress bar"):
                update_progress_artifact(artifact, progress.fraction * _WHOLE, description=str(progress))
            shown = time.monotonic()

    return report


def scene_artifact(outcome: Outcome, *, catalog_url: str) -> None:
    """Write the run's page and the keyed artifact ``latest-scene`` (published scenes only)."""
    with _never_deciding("scene page"):
        markdown = scene_markdown(outcome, catalog_url=catalog_url)
        create_markdown_artifact(markdown, description=f"{outcome.state}: {outcome.title}")
        if outcome.state == "published":
            create_markdown_artifact(markdown, key="latest-scene", description=outcome.title)


def scene_markdown(outcome: Outcome, *, catalog_url: str) -> str:
    """Write one scene's page: state, picture, gates, quality, files and links."""
    lines = [f"## {escape(outcome.title)}", "", f"**{outcome.state}** {escape(outcome.reason)}".rstrip(), ""]
    for title, picture in (("quicklook", outcome.thumbnail), ("spectrum of a typical pixel", outcome.spectrum)):
        if picture:
            lines += [f"![{title}](data:image/png;base64,{base64.b64encode(picture).decode()})", ""]
    if outcome.item_url:
        lines += [f"[STAC item]({catalog_url}{outcome.item_url})", ""]
    if outcome.gates:
        lines += ["| gate | verdict | measured | limit | why |", "| --- | --- | ---: | ---: | --- |"]
        lines += [
            f"| {gate.gate} | {gate.verdict} | {_number(gate.measured)} | {_number(gate.limit)} | {gate.explanation} |"
            for gate in outcome.gates
        ]
        lines.append("")
    if outcome.quality:
        lines += ["| quality | value |", "| --- | ---: |"]
        lines += [f"| {name.replace('_', ' ')} | {_number(value)} |" for name, value in outcome.quality.items()]
        lines.append("")
    if outcome.grade_reasons:
        lines += [f"Grade **{outcome.grade}**: {'; '.join(map(escape, outcome.grade_reasons))}.", ""]
    if outcome.seconds:
        spent = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in outcome.seconds.items())
        lines += [f"Time: {spent}.", ""]
    if outcome.files:
        folder = next(iter(outcome.files)).rpartition("/")[0]
        lines += [f"Files in `{folder}`:", "", "| file | bytes |", "| --- | ---: |"]
        lines += [f"| {href.rpartition('/')[2]} | {size:,} |" for href, size in outcome.files.items()]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"
