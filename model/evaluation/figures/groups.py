"""Reliability by spectral group: error, width of the interval, and whether that is wide enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from model.bands import SPECTRAL_GROUPS
from model.evaluation.figures.axes import bare, coverage_axis, named_lines
from model.evaluation.figures.rows import by_tier, finite, within
from model.evaluation.figures.style import BLUE, SKY, Drawn, new_figure, plain, slug

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from model.evaluation.figures.rows import Row


def _group_values(rows: Sequence[Row], group: str, key: str) -> NDArray[np.float64]:
    """One figure of merit of a group, of every file that has it."""
    values = np.array([finite(within(row, "groups", group, key)) for row in rows])
    return np.asarray(values[np.isfinite(values)])


def group_figures(rows: Sequence[Row]) -> Iterator[Drawn]:
    """Error, interval and coverage of each spectral group, a figure for each tier."""
    known = {group.name: group for group in SPECTRAL_GROUPS}
    for tier, part in by_tier(rows).items():
        judged = [row for row in part if any(_group_values([row], name, "rmse").size for name in known)]
        names = [name for name in known if _group_values(judged, name, "rmse").size]
        if not judged:
            continue
        figure = new_figure(1.1 + 0.48 * len(names))
        grid = figure.subplots(1, 3, sharey=True)
        for axes, key, title in zip(
            grid,
            ("rmse", "interval_width", "coverage_90"),
            ("RMSE, reflectance", "width of the 90 % interval, reflectance", "coverage of the 90 % interval"),
            strict=True,
        ):
            _draw_groups(axes, judged, names, key)
            axes.set_xlabel(title, fontsize=10)
        labels = [known[name].title.replace(" um", " µm").replace(", unseen by the sensor", ",\nno band of the sensor")
                  .replace("infrared ", "infrared\n") for name in names]  # fmt: skip
        named_lines(grid[0], labels, fontsize=9)
        figure.suptitle(
            f"{plain(tier)} tier: median over {len(judged)} file{'s' * (len(judged) > 1)}; a point for each",
            fontsize=11, fontweight="bold", x=0.01, ha="left",
        )  # fmt: skip
        caption = (
            "How far each spectral range can be relied on: its error, how wide the model makes its interval, and "
            "whether that is wide enough. Hatched: no source band lies there."
        )
        yield Drawn(f"reliability-{slug(tier)}", f"Reliability by spectral group, {tier} tier", caption, figure)


def _draw_groups(axes: Axes, rows: Sequence[Row], names: Sequence[str], key: str) -> None:
    """Medians of one figure of merit as bars from 0 (as points for coverage, where 0 means nothing), files as dots."""
    is_coverage = key == "coverage_90"
    if is_coverage:
        coverage_axis(axes, [value for name in names for value in _group_values(rows, name, key)])
    for y, name in enumerate(names):
        values = _group_values(rows, name, key)
        if not values.size:
            continue
        middle = float(np.median(values))
        if is_coverage:
            axes.plot(middle, y, ls="", marker="D", ms=8, c=BLUE, mec="white", zorder=4)
        else:
            unseen = name == "nir_gap"
            axes.barh(
                y, middle, height=0.62, color="#9fc8e0" if unseen else SKY, edgecolor=BLUE, lw=0.8,
                hatch="///" if unseen else None,
            )  # fmt: skip
        axes.plot(
            values, np.full(values.size, y), ls="", marker="o", ms=4, mfc="none", mec="#333333", mew=0.9, zorder=3
        )
    if not is_coverage:
        axes.set_xlim(left=0)
    axes.grid(axis="x", color="#e2e2e2", lw=0.7)
    bare(axes)
    axes.tick_params(axis="y", length=0)
