"""Error: every file beside every baseline, and every channel of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from model.evaluation.figures.axes import (
    OPAQUE_STYLE,
    bare,
    draw_line,
    named_lines,
    reflectance_error_axis,
    source_strip,
    wavelength_axis,
)
from model.evaluation.figures.rows import (
    REFERENCES,
    baseline_errors,
    by_tier,
    finite,
    in_training,
    numbers,
    reference,
    skill,
    within,
)
from model.evaluation.figures.style import (
    BLUE,
    GREEN,
    GREY,
    MODEL,
    STYLES,
    VERMILLION,
    Drawn,
    Style,
    legend,
    new_figure,
    plain,
    row_label,
    slug,
    styles_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from model.evaluation.figures.rows import Row


def _dot(style: Style) -> dict[str, Any]:
    """How a dot is drawn: the model's large and below, so that a rival on the same spot stays visible."""
    open_sign = style.marker in {"x", "|"}
    size = 11.5 if style is MODEL else 13 if style.marker == "|" else 8.5
    edge = {"mec": style.colour, "mew": 1.8} if open_sign else {"mec": "white", "mew": 0.6}
    return {"ls": "", "marker": style.marker, "ms": size, "color": style.colour, **edge}


def _draw_files(axes: Axes, rows: Sequence[Row], styles: Mapping[str, Style], tier: str) -> None:
    """One line of dots for each file, the best of the model's on top."""
    ordered = sorted(rows, key=lambda row: finite(row.get("rmse")))
    named = {name for name in map(reference, ordered) if name}
    for y, row in enumerate(ordered):
        values = baseline_errors(row)
        everything = [*values.values(), finite(row["rmse"])]
        axes.hlines(y, min(everything), max(everything), color="#d5d5d5", lw=1, zorder=1)
        for name, value in values.items():
            axes.plot(value, y, zorder=4, **_dot(styles[name]))
        axes.plot(finite(row["rmse"]), y, zorder=3, **_dot(MODEL))
        gained = skill(row)
        text = "" if np.isnan(gained) else f"{gained:+.0%}".replace("%", " %").replace("-", "−")
        worse = np.isfinite(gained) and gained < 0
        axes.annotate(
            text, (1.0, y), xycoords=("axes fraction", "data"), xytext=(46, 0), textcoords="offset points",
            ha="right", va="center", fontsize=9, color=VERMILLION if worse else "black",
            fontweight="bold" if worse else "normal", annotation_clip=False,
        )  # fmt: skip
    over = " / ".join(STYLES[name].label for name in REFERENCES if name in named)
    if over:
        axes.annotate(
            f"skill over\n{over}", (1.0, 1.0), xycoords="axes fraction", xytext=(46, 4), textcoords="offset points",
            ha="right", va="bottom", fontsize=8.5, color="#444444",
        )  # fmt: skip
    named_lines(axes, [row_label(row) for row in ordered])
    axes.set_title(f"{plain(tier)} tier", fontsize=11.5, fontweight="bold", loc="left")
    bare(axes)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def files_figure(rows: Sequence[Row]) -> Iterator[Drawn]:
    """The model's error of every file beside every baseline's."""
    from matplotlib.lines import Line2D

    judged = [row for row in rows if np.isfinite(finite(row.get("rmse"))) and finite(row["rmse"]) > 0]
    tiers = by_tier(judged)
    if not tiers:
        return
    styles = styles_of(judged)
    values = [v for row in judged for v in (*baseline_errors(row).values(), finite(row["rmse"])) if v > 0]
    heights = [0.9 + 0.3 * len(part) for part in tiers.values()]
    figure = new_figure(0.9 + sum(heights))
    grid = figure.subplots(len(tiers), 1, squeeze=False, height_ratios=heights, sharex=True)
    for axes, (tier, part) in zip(grid[:, 0], tiers.items(), strict=True):
        _draw_files(axes, part, styles, tier)
        reflectance_error_axis(axes, min(values) * 0.85, max(values) * 1.15, "x")
        axes.tick_params(labelbottom=True)
    grid[-1, 0].set_xlabel("RMSE, reflectance (logarithmic; further left is better)", fontsize=10)
    handles = [Line2D([], [], label=plain(style.label), **_dot(style)) for style in (MODEL, *styles.values())]
    legend(figure, handles, min(4, len(handles)))
    star = " An asterisk marks files that the weights were fitted to." if any(map(in_training, judged)) else ""
    caption = f"RMSE of the model and of every baseline on the same simulated bands, one line for each file.{star}"
    yield Drawn("rmse-by-file", "Error of each file", caption, figure)


class _Curve(NamedTuple):
    key: str
    label: str
    style: dict[str, Any]


_CURVES: Final = (
    _Curve("truth_std", "climatology (the truth's standard deviation)", {"color": GREY, "lw": 1.3, "ls": (0, (5, 2))}),
    _Curve("wiener_rmse", "RMSE, Wiener", {"color": VERMILLION, "lw": 1.5}),
    _Curve("sigma", "predicted σ", {"color": GREEN, "lw": 1.8, "ls": (0, (1, 1))}),
    _Curve("rmse", "RMSE, model", {"color": BLUE, "lw": 2.0}),
)


def _spectrum_of_errors(row: Row) -> dict[str, NDArray[np.float64]] | None:
    """The wavelengths and the curves of one row that are there; ``None`` without both wavelength and error."""
    wavelength = numbers(within(row, "spectrum", "wavelength_nm"))
    if wavelength is None or not np.isfinite(wavelength).all():
        return None
    curves = {curve.key: numbers(within(row, "spectrum", curve.key)) for curve in _CURVES}
    known = {key: v for key, v in curves.items() if v is not None and v.shape == wavelength.shape and (v > 0).any()}
    return {"wavelength_nm": wavelength, **known} if "rmse" in known else None


def _draw_wavelengths(axes: Axes, strip: Axes, found: Mapping[str, NDArray[np.float64]]) -> None:
    """The curves of one file and the source bands below them."""
    for curve in _CURVES:
        if curve.key in found:
            values = np.where(found[curve.key] > 0, found[curve.key], np.nan)
            draw_line(axes, found["wavelength_nm"], values, **curve.style)
    bare(axes)
    wavelength_axis(axes, labelled=False)
    axes.set_ylabel("reflectance", fontsize=10)
    axes.tick_params(labelbottom=False, bottom=False)
    wavelength_axis(strip, labelled=False)
    source_strip(strip)
    strip.tick_params(axis="x", labelsize=9)


def wavelength_figures(rows: Sequence[Row]) -> Iterator[Drawn]:
    """The error of every channel, a figure for each tier."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    for tier, part in by_tier(rows).items():
        judged = [(row, found) for row in part if (found := _spectrum_of_errors(row)) is not None]
        if not judged:
            continue
        columns = 1 if len(judged) == 1 else 2
        lines = -(-len(judged) // columns)
        figure = new_figure(0.8 + (3.6 if columns == 1 else 3.0) * lines)
        outer = figure.add_gridspec(lines, columns, hspace=0.06, wspace=0.03)
        positive = np.concatenate(
            [found[c.key][found[c.key] > 0] for _, found in judged for c in _CURVES if c.key in found]
        )
        for number, (row, found) in enumerate(judged):
            inner = outer[number // columns, number % columns].subgridspec(2, 1, height_ratios=[6, 1], hspace=0.0)
            axes, strip = figure.add_subplot(inner[0]), figure.add_subplot(inner[1])
            _draw_wavelengths(axes, strip, found)
            reflectance_error_axis(axes, positive.min() * 0.8, positive.max() * 1.3, "y")
            axes.set_title(row_label(row), fontsize=10.5, fontweight="bold", loc="left")
        figure.supxlabel("wavelength, µm", fontsize=10)
        keys = {key for _, found in judged for key in found}
        handles: list[Any] = [
            Line2D([], [], label=curve.label, **curve.style) for curve in reversed(_CURVES) if curve.key in keys
        ]
        handles.append(Patch(**OPAQUE_STYLE, label="opaque air, no channels"))
        legend(figure, handles, len(handles))
        caption = (
            "Error of each channel over all pixels of a file, beside Wiener's, beside what knowing nothing would cost "
            "(climatology) and beside the error that the model predicts. Strips below: the source bands by their "
            "resolution. Where a strip shows no band, the channel is inferred, not seen."
        )
        yield Drawn(f"rmse-by-wavelength-{slug(tier)}", f"Error by wavelength, {tier} tier", caption, figure)
