"""What operators read, as Markdown: the same numbers in the Prefect UI's artifacts and behind `explains2a status`."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from catalog.overview import head_of
from catalog.tile_days import KNOWN_DAYS
from flows.drift import NEWEST, drift_picture
from flows.names import run_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import date, datetime

    from catalog.overview import Overview, Quality
    from catalog.scenes import SceneRow
    from catalog.tile_days import TileDays, TileScene
    from flows.backfilling import Plan
    from flows.drift import Judgement
    from flows.reconciling import Reconciliation

_MOST_LINES: Final = 100
"""Rows of one table; the rest is counted."""

_LONGEST_REASON: Final = 240
"""Characters of one reason; the run tells all of it."""

_HOUR, _DAY = 3600.0, 86400.0


def overview_markdown(seen: Overview, ui_url: str = "") -> str:
    """Write the last days tile by tile, states, reasons, latencies, costs, last successes and models.

    Args:
        seen: What is told.
        ui_url: Address of the Prefect UI, for links to runs; empty: none.
    """
    parts = [
        *tiles_markdown(seen.recent, seen.at, ui_url),
        _table(("state", "scenes"), sorted(seen.states.items())),
        "" if not seen.reasons else _table(("why not, last 30 days", "scenes"), seen.reasons.items()),
        "Backlog: "
        + (
            f"**{seen.backlog}** scenes, the oldest known for {age(seen.oldest_waiting_seconds)}."
            if seen.backlog and seen.oldest_waiting_seconds is not None
            else "empty."
        ),
        ""
        if not seen.latency_seconds
        else _table(
            ("latency, last 30 days", "scenes", "median", "9 of 10 within", "longest"),
            ((name, s.number, age(s.median), age(s.p90), age(s.largest)) for name, s in seen.latency_seconds.items()),
        ),
        ""
        if not seen.costs
        else _table(
            ("average cost", "products", "seconds", "MB"),
            ((name, c.products, f"{c.seconds:.1f}", f"{c.bytes / 1e6:.2f}") for name, c in seen.costs.items()),
        ),
        ""
        if not seen.last_success
        else _table(
            ("tile", "region", "last product"),
            ((one.tile, one.region, f"{one.published:%Y-%m-%d %H:%M}") for one in seen.last_success),
        ),
        "" if not seen.models else _table(("made by", "products"), seen.models.items()),
    ]
    return "\n\n".join(part for part in parts if part)


def headline(seen: Overview) -> str:
    """Say in a few words, as the list of artifacts shows them, whether all is well."""
    open_ones = sum(1 for scene in seen.recent.scenes if scene.state != "published")
    return f"{open_ones} of {len(seen.recent.scenes)} scenes of {seen.recent.days} days without product"


def tiles_markdown(recent: TileDays, now: datetime, ui_url: str) -> Iterator[str]:
    """Yield what became of every tile on each of the last days, and why there is no product where there is none."""
    if not recent.tiles:
        return
    days = [now.date() - timedelta(days=back) for back in range(recent.days)]
    seen: defaultdict[tuple[str, str, date], list[str]] = defaultdict(list)
    for scene in recent.scenes:
        said = seen[scene.region, scene.tile, scene.sensed.date()]
        word = _in_a_word(scene)
        if word not in said:
            said.append(word)
    rows = (
        (tile, *(", ".join(seen[region, tile, day]) or "·" for day in days), region) for region, tile in recent.tiles
    )
    yield f"### Tile by tile, the last {recent.days} days of sensing"
    yield _table(("tile", *(f"{day:%a %d}" for day in days), "region"), rows)
    yield (
        f"✓ published, ✗ refused or given up, ! fails and is tried again, … waiting or in work, · no source offered "
        f"anything. Tiles of the last {KNOWN_DAYS} days; days are UTC."
    )
    open_ones = [scene for scene in recent.scenes if scene.state != "published"]
    if open_ones:
        yield "### Why there is no product"
        # A list, not a table: the UI wraps its lines, and cuts off what is beyond a table's edge.
        lines = [_why(scene, ui_url) for scene in open_ones[:_MOST_LINES]]
        left = len(open_ones) - len(lines)
        yield "\n".join([*lines, *([f"- … and {left} more"] if left else [])])


def _in_a_word(scene: TileScene) -> str:
    if scene.state == "rejected":
        return f"✗ {head_of(scene.reason, scene.error_class)}"
    return {"published": "✓", "quarantined": "✗ quarantined", "failed": "! failed"}.get(scene.state, "…")


def _why(scene: TileScene, ui_url: str) -> str:
    reason = scene.reason or ("waits for its turn" if scene.state == "discovered" else "in work")
    shown = escape(reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]} …")
    link = f" [run]({run_url(ui_url, scene.run)})" if ui_url and scene.run else ""
    where = f"{escape(scene.tile)} {scene.sensed:%Y-%m-%d %H:%M}"
    return f"- **{where}** {escape(scene.region)}, scene {scene.id} **{scene.state}**: {shown}{link}"


def backlog_markdown(waiting: Sequence[SceneRow], seen: Overview) -> str:
    """Write what waits, oldest first, and why."""
    if not waiting:
        return "Nothing waits."
    head = f"{seen.backlog} scenes wait or are in work."
    if seen.oldest_waiting_seconds is not None:
        head += f" The oldest is known for {age(seen.oldest_waiting_seconds)}."
    rows = (
        (row.id, str(row.state), row.tile, f"{row.sensed:%Y-%m-%d}", row.region, row.attempts,
         f"{row.next_attempt:%Y-%m-%d %H:%M}" if row.next_attempt else "", row.reason or "")
        for row in waiting
    )  # fmt: skip
    return f"{head}\n\n" + _table(("scene", "state", "tile", "sensed", "region", "tries", "next", "why"), rows)


def completeness_markdown(report: Reconciliation) -> str:
    """Write counts per region and day, then what is not as it should be."""
    days = (
        (one.region, f"{one.day}", "?" if one.offered is None else one.offered, one.known, one.missing, one.published,
         ", ".join(f"{number} {why}" for why, number in sorted(one.rejected.items())), one.waiting, one.quarantined,
         one.superseded, one.late, one.withdrawn)
        for one in sorted(report.days, key=lambda day: (day.day, day.region), reverse=True)
    )  # fmt: skip
    titles = ("region", "day", "offered", "known", "missing", "published", "rejected", "waiting", "quarantined",
              "superseded", "late", "withdrawn")  # fmt: skip
    parts = [
        f"{report.begin} to {report.end}: {report.files_checked} files compared, {report.files_hashed} read again.",
        _table(titles, days) if report.days else "No scene was offered or is known.",
    ]
    if report.found:
        parts += ["### Not as it should be", _table(("what", "files, scenes"), sorted(report.counts().items()))]
        rows = ((one.kind, one.subject, one.region, one.said, one.repair or "only told") for one in report.found)
        parts.append(_table(("what", "where", "region", "found", "done"), rows))
    else:
        parts.append("Source, ledger, store and catalog agree.")
    return "\n\n".join(parts)


def plan_markdown(plan: Plan, begin: date, end: date) -> str:
    """Write what a backfill does and what it costs, by the averages measured so far."""
    cost = "No product was measured yet: its cost is unknown."
    if plan.seconds is not None and plan.bytes is not None and plan.core_seconds is not None:
        cost = (
            f"By the measured averages {age(plan.seconds)} of one worker (at most {plan.core_seconds:,.0f} "
            f"core-seconds) and {plan.bytes / 1e9:.3f} GB."
        )
    parts = [
        f"{begin} to {end}: {len(plan.new)} new scenes, {len(plan.remake)} to be made again, {plan.known} known.",
        cost,
        _table(("region", "scenes"), sorted(plan.scenes.items())),
        "" if not plan.silent else _table(("gave no usable answer",), ((one,) for one in plan.silent)),
    ]
    return "\n\n".join(part for part in parts if part)


def drift_markdown(history: Sequence[Quality], judgements: Sequence[Judgement]) -> str:
    """Write the newest products' quality beside its limits, with a picture."""
    if not history:
        return "No product yet."
    alarms = [one for one in judgements if one.alarm]
    said = ", ".join(f"{one.region} {one.field.replace('_', ' ')}" for one in alarms)
    rows = (
        (one.region, one.field.replace("_", " "), one.products, f"{one.now:.4g}",
         "–" if one.low is None else f"{one.low:.4g}", "–" if one.high is None else f"{one.high:.4g}",
         "**alarm**" if one.alarm else "")
        for one in judgements
    )  # fmt: skip
    return "\n\n".join(
        (
            f"**Drift:** {said}." if alarms else "No drift.",
            f"![quality over time](data:image/png;base64,{drift_picture(history, judgements)})",
            _table(("region", "number", "products", f"median of newest {NEWEST}", "low", "high", ""), rows, raw=True),
        )
    )


def age(seconds: float) -> str:
    """Write a time span for people."""
    if seconds < 2 * _HOUR:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / _HOUR:.1f} h" if seconds < 3 * _DAY else f"{seconds / _DAY:.1f} d"


def escape(text: str) -> str:
    """Keep remote text from becoming markup or a link in the operator's page."""
    return "".join("\\" + letter if letter in "\\`*_{}[]<>()#!|" else letter for letter in text.replace("\n", " "))


def _table(titles: Sequence[str], rows: Iterable[Sequence[object]], *, raw: bool = False) -> str:
    lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    left = 0
    for number, row in enumerate(rows):
        if number < _MOST_LINES:
            lines.append("| " + " | ".join(str(cell) if raw else escape(str(cell)) for cell in row) + " |")
        else:
            left += 1
    return "\n".join([*lines, *([f"\n… and {left} more."] if left else [])])
