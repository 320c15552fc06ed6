"""Calibration: how often the truth lies inside the intervals, against how often it should."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from model.evaluation.figures.axes import COVERAGE_TARGET, bare, coverage_axis, named_lines, percent_axis
from model.evaluation.figures.rows import by_tier, coverage_90, coverage_in_domain, finite, in_training, numbers, within
from model.evaluation.figures.style import BLACK, BLUE, GREY, ORANGE, Drawn, legend, new_figure, plain, row_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from model.evaluation.figures.rows import Row


def _calibration(row: Row) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Nominal and observed coverage, 0-1, ascending: the row's curve, else its four levels."""
    nominal, observed = (numbers(within(row, "calibration", key)) for key in ("nominal", "observed"))
    if nominal is None or observed is None or nominal.shape != observed.shape:
        levels = within(row, "coverage")
        if not isinstance(levels, dict) or not levels:
            return None
        percent = {level: value for level, value in levels.items() if re.fullmatch(r"\d+(\.\d+)?", str(level))}
        nominal = np.array([float(level) / 100 for level in percent])
        observed = np.array([finite(value) for value in percent.values()])
    known = np.isfinite(nominal) & np.isfinite(observed)
    order = np.argsort(nominal[known], kind="stable")
    return (nominal[known][order], observed[known][order]) if known.any() else None


def calibration_figure(rows: Sequence[Row]) -> Iterator[Drawn]:
    """Observed against nominal coverage, and the 90 % interval's file by file."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    judged = [(row, found) for row in rows if (found := _calibration(row)) is not None]
    if not judged:
        return
    tiers = list(by_tier(row for row, _ in judged))
    dashes = {tier: ("-", (0, (4, 2)), (0, (1, 1)))[min(number, 2)] for number, tier in enumerate(tiers)}
    dots = [row for row, _ in judged if np.isfinite(coverage_90(row))]
    dots.sort(key=coverage_90)
    figure = new_figure(max(5.6, 1.6 + 0.27 * len(dots)))
    curve, listing = figure.subplots(1, 2)
    for row, found in judged:
        style = {"color": GREY if in_training(row) else BLUE, "ls": dashes[str(row.get("tier", ""))]}
        curve.plot(*found, lw=1.2, marker=".", ms=4, alpha=0.65, zorder=3, **style)
    _dress_calibration(curve, [found for _, found in judged])
    _draw_coverages(listing, dots, tiers)
    low, high = COVERAGE_TARGET
    handles: list[Any] = [
        Line2D([], [], color=BLACK, lw=0.9, label="ideal"),
        Patch(fc=ORANGE, ec=ORANGE, alpha=0.35, label=f"target at 90 %: {100 * low:.0f}–{100 * high:.0f} %"),
    ]
    if not all(in_training(row) for row, _ in judged):
        handles.append(Line2D([], [], color=BLUE, lw=1.6, marker="o", ms=5, label="file not in training"))
    if any(in_training(row) for row, _ in judged):
        handles.append(Line2D([], [], color=GREY, lw=1.6, marker="o", mfc="white", ms=5, label="file in training *"))
    if any(np.isfinite(coverage_in_domain(row)) for row in dots):
        handles.append(Line2D([], [], ls="", marker="x", ms=6, mec=BLACK, mew=1.3, label="after abstention"))
    if len(tiers) > 1:
        handles += [Line2D([], [], color="black", lw=1.3, ls=dashes[t], label=f"{plain(t)} tier") for t in tiers]
    legend(figure, handles, len(handles) if len(handles) < 7 else 4)
    caption = (
        "How often the truth lies inside the interval, against how often it should: pooled over channels and pixels."
    )
    yield Drawn("calibration", "Calibration of the intervals", caption, figure)


def _dress_calibration(axes: Axes, curves: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> None:
    """The ideal diagonal, the target at 90 %, and axes in percent around the curves."""
    from matplotlib.patches import Rectangle

    low, high = COVERAGE_TARGET
    axes.plot([0, 1], [0, 1], color=BLACK, lw=0.9, zorder=4)
    for face, edge, zorder in ((ORANGE, "none", 2), ("none", "#8a5f00", 5)):
        box = Rectangle((0.88, low), 0.04, high - low, fc=face, ec=edge, lw=1.4, alpha=0.45 if zorder < 5 else 1)
        box.set_zorder(zorder)
        axes.add_patch(box)
    least = [min([0.42, *(float(found[axis].min()) for found in curves)]) - 0.02 for axis in (0, 1)]
    axes.set(xlim=(max(least[0], 0.0), 1.01), ylim=(max(least[1], 0.0), 1.01))
    axes.set_xlabel("nominal coverage of the interval", fontsize=10)
    axes.set_ylabel("observed coverage of the truth", fontsize=10)
    for axis in (axes.xaxis, axes.yaxis):
        percent_axis(axis)
    axes.text(0.98, 0.03, "below the diagonal: too sure\nabove: too careful", transform=axes.transAxes, ha="right",
              va="bottom", fontsize=9, color="#555555")  # fmt: skip
    axes.grid(color="#e8e8e8", lw=0.7)
    bare(axes)


def _draw_coverages(axes: Axes, rows: Sequence[Row], tiers: Sequence[str]) -> None:
    """Coverage of the 90 % interval, file by file, least on top."""
    coverage_axis(axes, [find(row) for find in (coverage_90, coverage_in_domain) for row in rows])
    for y, row in enumerate(rows):
        value, colour = coverage_90(row), GREY if in_training(row) else BLUE
        axes.hlines(y, min(value, 0.9), max(value, 0.9), color=colour, lw=1.2, alpha=0.6)
        axes.plot(value, y, ls="", marker="o", ms=7, mfc="white" if in_training(row) else colour, mec=colour, mew=1.6)
        axes.plot(coverage_in_domain(row), y, ls="", marker="x", ms=6, mec=BLACK, mew=1.3, zorder=4)
    labels = [row_label(row) + (f" ({plain(str(row.get('tier', '')))})" if len(tiers) > 1 else "") for row in rows]
    named_lines(axes, labels)
    axes.set_xlabel("observed coverage of the 90 % interval", fontsize=10)
    axes.grid(axis="x", color="#e8e8e8", lw=0.7)
    bare(axes)
    axes.tick_params(axis="y", length=0)
