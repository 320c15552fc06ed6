"""Pictures for people: what `explains2a evaluate` measured, and how to read an estimate that went wrong.

`write_figures` and `write_report` take the evaluation's JSON rows; a figure is drawn of the rows that hold what it
needs, and left out where none does. `failure_figure` shows places of a scene beside their explanation layers.

Conventions of every figure: colours of Okabe and Ito ("Color universal design", 2008), which colour-blind readers tell
apart, and never colour alone; wavelengths in micrometres; no line crosses a gap of the channels or a detector overlap;
legible at 1200 pixels wide.
"""

from __future__ import annotations

import base64
import html
import math
import re
import textwrap
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from model.bands import CENTRE_NM, SOURCE_BANDS, SPECTRAL_GROUPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

    Row = Mapping[str, Any]
    """One file judged, as `explains2a evaluate --json` writes it."""

LARGEST_STEP_NM: Final[float] = 30.0
"""Neighbouring channels further apart than this are not joined by a line."""

OPAQUE_NM: Final[tuple[tuple[float, float], ...]] = ((1340.0, 1450.0), (1800.0, 1955.0))
"""Where water vapour makes the air opaque; the product has no channels there."""

INTERVAL_SIGMAS: Final[float] = 1.6449
"""Half width of the central 90 % of a normal distribution, standard deviations."""

COVERAGE_TARGET: Final[tuple[float, float]] = (0.87, 0.93)
"""What the 90 % interval should cover."""

REFERENCES: Final[tuple[str, ...]] = ("wiener", "guided_wiener", "bicubic_wiener")
"""Baselines that skill is measured against: the first that a row holds."""

BOUND: Final[str] = "all_at_10m_wiener"
"""Not a rival: it is given every band at 10 m."""

_BLUE, _VERMILLION, _ORANGE, _GREEN = "#0072b2", "#d55e00", "#e69f00", "#009e73"
_SKY, _PURPLE, _GREY, _BLACK = "#56b4e9", "#cc79a7", "#777777", "#000000"
_WIDTH: Final[float] = 12.0
"""Inches; with fonts from 9 points up, legible at 1200 pixels."""
_DPI: Final[int] = 150
_LIMITS_UM: Final[tuple[float, float]] = (0.40, 2.45)
_MOST_DETECTOR_OVERLAPS: Final[int] = 3
"""AVIRIS has four spectrometers; an axis that falls back more often is in no order at all."""


class _Style(NamedTuple):
    label: str
    colour: str
    marker: str


_MODEL: Final = _Style("model", _BLUE, "o")
_STYLES: Final[dict[str, _Style]] = {
    "mean": _Style("mean spectrum", _GREY, "x"),
    "wiener": _Style("Wiener", _VERMILLION, "s"),
    "bicubic_wiener": _Style("bicubic + Wiener", _ORANGE, "^"),
    "guided_wiener": _Style("guided + Wiener", _PURPLE, "D"),
    "mixture": _Style("Gaussian mixture", _SKY, "<"),
    "untrained": _Style("model without its learned parts", _SKY, "P"),
    "mlp": _Style("perceptron", _ORANGE, "v"),
    "guided_mlp": _Style("guided + perceptron", _ORANGE, "v"),
    "cos2a_like": _Style("COS2A-like network", _GREEN, "h"),
    BOUND: _Style("bound: all bands at 10 m + Wiener", _BLACK, "|"),
}
_MORE_STYLES: Final = tuple(_Style("", c, m) for c, m in ((_SKY, "X"), (_PURPLE, "*"), (_GREEN, ">"), (_ORANGE, "p")))
_RESOLUTIONS: Final[dict[int, tuple[str, str]]] = {10: ("#222222", "o"), 20: ("#777777", "s"), 60: ("#aaaaaa", "^")}
"""Pixel size of a source band, metres -> its grey and its marker."""


@dataclass(frozen=True)
class PixelSpectrum:
    """The spectrum of one pixel."""

    estimate: NDArray[np.floating]
    """(172,) reflectance, in product order."""
    sigma: NDArray[np.floating]
    """(172,) one sigma, reflectance."""
    bands: NDArray[np.floating]
    """(12,) source bands in wavelength order, reflectance, nan where unknown."""
    truth: NDArray[np.floating] | None = None
    """(172,) reflectance, nan where unknown; ``None`` where nobody measured it."""


class Layer(NamedTuple):
    """One explanation layer around a place."""

    name: str
    values: NDArray[np.floating]
    """(h, w), nan = nodata."""
    unit: str
    """Shown on the colour bar."""
    vmin: float | None
    """Value of the first colour; ``None``: the least value. Limits on both sides of 0 make a diverging scale."""
    vmax: float | None
    """Value of the last colour; ``None``: the greatest value."""


@dataclass(frozen=True)
class Panel:
    """A place where an estimate needs reading with care."""

    title: str
    rgb: NDArray[np.floating]
    """(h, w, 3) red, green and blue, 0-1, ready to be shown; nan = nodata."""
    layers: Sequence[Layer]
    """Two or three, of the same (h, w)."""
    spectrum: PixelSpectrum
    """Of the marked pixel."""
    marked: tuple[int, int]
    """Row and column of the marked pixel."""
    caption: str
    """What to see."""


@dataclass(frozen=True)
class _Drawn:
    """A figure with what stands beside it in the report."""

    stem: str
    title: str
    caption: str
    figure: Figure


def unbroken_runs(wavelength_nm: NDArray[np.floating]) -> list[NDArray[np.intp]]:
    """Channels that a line may join.

    Args:
        wavelength_nm: (n,) centres, nm, ascending within each detector. Where they fall back (the next detector
            begins) a run ends; centres in no such order are sorted first.

    Returns:
        Indices of each run: within it the wavelength rises, by `LARGEST_STEP_NM` at most. Every channel is in one run.
    """
    wavelength = np.asarray(wavelength_nm, dtype=np.float64)
    order = np.arange(wavelength.size, dtype=np.intp)
    if np.count_nonzero(np.diff(wavelength) <= 0) > _MOST_DETECTOR_OVERLAPS:
        order = np.argsort(wavelength, kind="stable")
    step = np.diff(wavelength[order])
    return np.split(order, np.flatnonzero((step <= 0) | (step > LARGEST_STEP_NM)) + 1)


# ---- what the rows say ----------------------------------------------------------------------------------------------


def _number(value: object) -> float:
    """A finite number as it is, anything else (absent, null, text) as nan."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        return float("nan")
    return float(value) if math.isfinite(value) else float("nan")


def _array(values: object) -> NDArray[np.float64] | None:
    """A list of numbers, null = nan; ``None`` if it is no such list."""
    if not isinstance(values, list | tuple | np.ndarray) or len(values) == 0:
        return None
    return np.array([_number(value) for value in values])


def _within(row: Row, *keys: str) -> object:
    """The value under nested keys, ``None`` where one is absent."""
    found: Any = row
    for key in keys:
        if not hasattr(found, "get"):
            return None
        found = found.get(key)
    return found


def _name(row: Row) -> str:
    return PurePath(str(row.get("file", "unnamed")).replace("\\", "/")).name.removesuffix(".npz")


def _seen(row: Row) -> bool:
    return bool(row.get("in_training"))


def _baselines(row: Row) -> dict[str, float]:
    """RMSE of each baseline that has one."""
    named = _within(row, "baselines")
    found = {str(key): _number(_within(value, "rmse")) for key, value in named.items()} if named else {}  # type: ignore[attr-defined]
    return {key: value for key, value in found.items() if np.isfinite(value)}


def reference(row: Row) -> str | None:
    """The baseline that a row's skill is measured against."""
    return next((name for name in REFERENCES if name in _baselines(row)), None)


def skill(row: Row) -> float:
    """``1 - RMSE^2 / RMSE^2_Wiener``: 1 is perfect, 0 no better than linear, below 0 worse; nan where unknown."""
    name = reference(row)
    wiener = _baselines(row)[name] if name else float("nan")
    return float(1.0 - _number(row.get("rmse")) ** 2 / wiener**2) if wiener > 0 else float("nan")


def _coverage_90(row: Row) -> float:
    return _number(_within(row, "coverage", "90"))


def _coverage_in_domain(row: Row) -> float:
    """Coverage of the 90 % interval over the pixels that the model did not refuse."""
    return _number(_within(row, "coverage_in_domain", "90"))


def _tiers(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by tier, in the order in which tiers first appear."""
    tiers: dict[str, list[Row]] = {}
    for row in rows:
        tiers.setdefault(str(row.get("tier", "")), []).append(row)
    return tiers


def _style(name: str, unknown: Sequence[str]) -> _Style:
    if name in _STYLES:
        return _STYLES[name]
    return _MORE_STYLES[unknown.index(name) % len(_MORE_STYLES)]._replace(label=name.replace("_", " "))


def _styles(rows: Iterable[Row]) -> dict[str, _Style]:
    """How each baseline of these rows is drawn, in the order of `_STYLES`, unknown ones last."""
    names = {name for row in rows for name in _baselines(row)}
    unknown = sorted(names - set(_STYLES))
    return {name: _style(name, unknown) for name in [*(n for n in _STYLES if n in names), *unknown]}


# ---- drawing --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def _plain(text: str) -> str:
    """Text as the figure's font can write it, read literally: file names may hold anything."""
    return "".join(c if ord(c) in _glyphs() else "□" for c in text).replace("$", r"\$")


def _short(text: str, letters: int) -> str:
    """Text cut in its middle, where file names differ least."""
    return text if len(text) <= letters else f"{text[: letters // 2]}…{text[-(letters - letters // 2 - 1) :]}"


def _new_figure(height: float, width: float = _WIDTH) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _bare(axes: Axes) -> None:
    """No frame but the two axes, a light grid behind."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=9)
    axes.set_axisbelow(True)


def _wavelength_axis(axes: Axes, *, labelled: bool = True) -> None:
    """A wavelength axis in micrometres, with the opaque windows hatched."""
    for low, high in OPAQUE_NM:
        axes.axvspan(low / 1e3, high / 1e3, facecolor="#f2f2f2", edgecolor="#cccccc", hatch="///", lw=0, zorder=0)
    axes.set_xlim(*_LIMITS_UM)
    axes.set_xticks(np.arange(0.4, 2.41, 0.2))
    axes.xaxis.set_major_formatter("{x:.1f}")
    if labelled:
        axes.set_xlabel("wavelength, µm", fontsize=10)


def _reflectance_error_axis(axes: Axes, low: float, high: float, which: str) -> None:
    """A logarithmic axis of reflectance, its ticks written out."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    axis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6f}".rstrip("0").rstrip(".")))
    axes.grid(axis="x" if which == "x" else "y", color="#e2e2e2", lw=0.7)


def _line(axes: Axes, wavelength: NDArray[np.float64], values: NDArray[np.float64], **style: Any) -> None:
    """A curve that joins only channels of one run."""
    for number, run in enumerate(unbroken_runs(wavelength)):
        label = style.pop("label", None) if number == 0 else None
        axes.plot(wavelength[run] / 1e3, values[run], label=label, **style)


def _strip(axes: Axes) -> None:
    """The source bands, a lane for each resolution."""
    lanes = (60, 20, 10)
    for band in SOURCE_BANDS:
        span = ((band.centre_nm - band.fwhm_nm / 2) / 1e3, band.fwhm_nm / 1e3)
        lane = lanes.index(band.resolution_m)
        axes.broken_barh([span], (lane + 0.15, 0.7), facecolors=_RESOLUTIONS[band.resolution_m][0], lw=0)
    axes.set_ylim(0, 3)
    axes.set_yticks([0.5, 1.5, 2.5], [f"{metres} m" for metres in lanes], fontsize=7.5)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _legend(figure: Figure | SubFigure, handles: Sequence[Any], columns: int) -> None:
    figure.legend(
        handles=handles, loc="outside upper center", ncols=columns, fontsize=9.5, frameon=False,
        handletextpad=0.5, columnspacing=1.5,
    )  # fmt: skip


def _row_label(row: Row) -> str:
    return _plain(_short(_name(row), 38)) + (" *" if _seen(row) else "")


# ---- (a) every file, the model against every baseline ---------------------------------------------------------------


def _dot(style: _Style) -> dict[str, Any]:
    """How a dot is drawn: the model's large and below, so that a rival on the same spot stays visible."""
    open_sign = style.marker in {"x", "|"}
    size = 11.5 if style is _MODEL else 13 if style.marker == "|" else 8.5
    edge = {"mec": style.colour, "mew": 1.8} if open_sign else {"mec": "white", "mew": 0.6}
    return {"ls": "", "marker": style.marker, "ms": size, "color": style.colour, **edge}


def _draw_files(axes: Axes, rows: Sequence[Row], styles: Mapping[str, _Style], tier: str) -> None:
    """One line of dots for each file, the best of the model's on top."""
    ordered = sorted(rows, key=lambda row: _number(row.get("rmse")))
    named = {name for name in map(reference, ordered) if name}
    for y, row in enumerate(ordered):
        values = _baselines(row)
        everything = [*values.values(), _number(row["rmse"])]
        axes.hlines(y, min(everything), max(everything), color="#d5d5d5", lw=1, zorder=1)
        for name, value in values.items():
            axes.plot(value, y, zorder=4, **_dot(styles[name]))
        axes.plot(_number(row["rmse"]), y, zorder=3, **_dot(_MODEL))
        gained = skill(row)
        text = "" if np.isnan(gained) else f"{gained:+.0%}".replace("%", " %").replace("-", "−")
        worse = np.isfinite(gained) and gained < 0
        axes.annotate(
            text, (1.0, y), xycoords=("axes fraction", "data"), xytext=(46, 0), textcoords="offset points",
            ha="right", va="center", fontsize=9, color=_VERMILLION if worse else "black",
            fontweight="bold" if worse else "normal", annotation_clip=False,
        )  # fmt: skip
    over = " / ".join(_STYLES[name].label for name in REFERENCES if name in named)
    if over:
        axes.annotate(
            f"skill over\n{over}", (1.0, 1.0), xycoords="axes fraction", xytext=(46, 4), textcoords="offset points",
            ha="right", va="bottom", fontsize=8.5, color="#444444",
        )  # fmt: skip
    axes.set_yticks(range(len(ordered)), [_row_label(row) for row in ordered])
    axes.set_ylim(len(ordered) - 0.4, -0.6)
    axes.set_title(f"{_plain(tier)} tier", fontsize=11.5, fontweight="bold", loc="left")
    _bare(axes)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _files_figure(rows: Sequence[Row]) -> Iterator[_Drawn]:
    from matplotlib.lines import Line2D

    judged = [row for row in rows if np.isfinite(_number(row.get("rmse"))) and _number(row["rmse"]) > 0]
    tiers = _tiers(judged)
    if not tiers:
        return
    styles = _styles(judged)
    values = [v for row in judged for v in (*_baselines(row).values(), _number(row["rmse"])) if v > 0]
    heights = [0.9 + 0.3 * len(part) for part in tiers.values()]
    figure = _new_figure(0.9 + sum(heights))
    grid = figure.subplots(len(tiers), 1, squeeze=False, height_ratios=heights, sharex=True)
    for axes, (tier, part) in zip(grid[:, 0], tiers.items(), strict=True):
        _draw_files(axes, part, styles, tier)
        _reflectance_error_axis(axes, min(values) * 0.85, max(values) * 1.15, "x")
        axes.tick_params(labelbottom=True)
    grid[-1, 0].set_xlabel("RMSE, reflectance (logarithmic; further left is better)", fontsize=10)
    handles = [Line2D([], [], label=_plain(style.label), **_dot(style)) for style in (_MODEL, *styles.values())]
    _legend(figure, handles, min(4, len(handles)))
    star = " An asterisk marks files that the weights were fitted to." if any(map(_seen, judged)) else ""
    caption = f"RMSE of the model and of every baseline on the same simulated bands, one line for each file.{star}"
    yield _Drawn("rmse-by-file", "Error of each file", caption, figure)


# ---- (b) error by wavelength ----------------------------------------------------------------------------------------


class _Curve(NamedTuple):
    key: str
    label: str
    style: dict[str, Any]


_CURVES: Final = (
    _Curve("truth_std", "climatology (the truth's standard deviation)", {"color": _GREY, "lw": 1.3, "ls": (0, (5, 2))}),
    _Curve("wiener_rmse", "RMSE, Wiener", {"color": _VERMILLION, "lw": 1.5}),
    _Curve("sigma", "predicted σ", {"color": _GREEN, "lw": 1.8, "ls": (0, (1, 1))}),
    _Curve("rmse", "RMSE, model", {"color": _BLUE, "lw": 2.0}),
)


def _spectrum_of_errors(row: Row) -> dict[str, NDArray[np.float64]] | None:
    """The wavelengths and the curves of one row that are there; ``None`` without both wavelength and error."""
    wavelength = _array(_within(row, "spectrum", "wavelength_nm"))
    if wavelength is None or not np.isfinite(wavelength).all():
        return None
    curves = {curve.key: _array(_within(row, "spectrum", curve.key)) for curve in _CURVES}
    known = {key: v for key, v in curves.items() if v is not None and v.shape == wavelength.shape and (v > 0).any()}
    return {"wavelength_nm": wavelength, **known} if "rmse" in known else None


def _draw_wavelengths(axes: Axes, strip: Axes, found: Mapping[str, NDArray[np.float64]]) -> None:
    """The curves of one file and the source bands below them."""
    for curve in _CURVES:
        if curve.key in found:
            values = np.where(found[curve.key] > 0, found[curve.key], np.nan)
            _line(axes, found["wavelength_nm"], values, **curve.style)
    _bare(axes)
    _wavelength_axis(axes, labelled=False)
    axes.set_ylabel("reflectance", fontsize=10)
    axes.tick_params(labelbottom=False, bottom=False)
    _wavelength_axis(strip, labelled=False)
    _strip(strip)
    strip.tick_params(axis="x", labelsize=9)


def _wavelength_figures(rows: Sequence[Row]) -> Iterator[_Drawn]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    for tier, part in _tiers(rows).items():
        judged = [(row, found) for row in part if (found := _spectrum_of_errors(row)) is not None]
        if not judged:
            continue
        columns = 1 if len(judged) == 1 else 2
        lines = -(-len(judged) // columns)
        figure = _new_figure(0.8 + (3.6 if columns == 1 else 3.0) * lines)
        outer = figure.add_gridspec(lines, columns, hspace=0.06, wspace=0.03)
        positive = np.concatenate(
            [found[c.key][found[c.key] > 0] for _, found in judged for c in _CURVES if c.key in found]
        )
        for number, (row, found) in enumerate(judged):
            inner = outer[number // columns, number % columns].subgridspec(2, 1, height_ratios=[6, 1], hspace=0.0)
            axes, strip = figure.add_subplot(inner[0]), figure.add_subplot(inner[1])
            _draw_wavelengths(axes, strip, found)
            _reflectance_error_axis(axes, positive.min() * 0.8, positive.max() * 1.3, "y")
            axes.set_title(_row_label(row), fontsize=10.5, fontweight="bold", loc="left")
        figure.supxlabel("wavelength, µm", fontsize=10)
        keys = {key for _, found in judged for key in found}
        handles: list[Any] = [
            Line2D([], [], label=curve.label, **curve.style) for curve in reversed(_CURVES) if curve.key in keys
        ]
        handles.append(Patch(facecolor="#f2f2f2", edgecolor="#cccccc", hatch="///", label="opaque air, no channels"))
        _legend(figure, handles, len(handles))
        caption = (
            "Error of each channel over all pixels of a file, beside Wiener's, beside what knowing nothing would cost "
            "(climatology) and beside the error that the model predicts. Strips below: the source bands by their "
            "resolution. Where a strip shows no band, the channel is inferred, not seen."
        )
        yield _Drawn(f"rmse-by-wavelength-{_slug(tier)}", f"Error by wavelength, {tier} tier", caption, figure)


# ---- (c) calibration ------------------------------------------------------------------------------------------------


def _calibration(row: Row) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Nominal and observed coverage, 0-1, ascending: the row's curve, else its four levels."""
    nominal, observed = (_array(_within(row, "calibration", key)) for key in ("nominal", "observed"))
    if nominal is None or observed is None or nominal.shape != observed.shape:
        levels = _within(row, "coverage")
        if not isinstance(levels, dict) or not levels:
            return None
        percent = {level: value for level, value in levels.items() if re.fullmatch(r"\d+(\.\d+)?", str(level))}
        nominal = np.array([float(level) / 100 for level in percent])
        observed = np.array([_number(value) for value in percent.values()])
    known = np.isfinite(nominal) & np.isfinite(observed)
    order = np.argsort(nominal[known], kind="stable")
    return (nominal[known][order], observed[known][order]) if known.any() else None


def _calibration_figure(rows: Sequence[Row]) -> Iterator[_Drawn]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    judged = [(row, found) for row in rows if (found := _calibration(row)) is not None]
    if not judged:
        return
    tiers = list(_tiers(row for row, _ in judged))
    dashes = {tier: ("-", (0, (4, 2)), (0, (1, 1)))[min(number, 2)] for number, tier in enumerate(tiers)}
    dots = [row for row, _ in judged if np.isfinite(_coverage_90(row))]
    dots.sort(key=_coverage_90)
    figure = _new_figure(max(5.6, 1.6 + 0.27 * len(dots)))
    curve, listing = figure.subplots(1, 2)
    for row, found in judged:
        style = {"color": _GREY if _seen(row) else _BLUE, "ls": dashes[str(row.get("tier", ""))]}
        curve.plot(*found, lw=1.2, marker=".", ms=4, alpha=0.65, zorder=3, **style)
    _dress_calibration(curve, [found for _, found in judged])
    _draw_coverages(listing, dots, tiers)
    low, high = COVERAGE_TARGET
    handles: list[Any] = [
        Line2D([], [], color=_BLACK, lw=0.9, label="ideal"),
        Patch(
            facecolor=_ORANGE,
            alpha=0.35,
            edgecolor=_ORANGE,
            label=f"target at 90 %: {100 * low:.0f}–{100 * high:.0f} %",
        ),
    ]
    if not all(_seen(row) for row, _ in judged):
        handles.append(Line2D([], [], color=_BLUE, lw=1.6, marker="o", ms=5, label="file not in training"))
    if any(_seen(row) for row, _ in judged):
        handles.append(Line2D([], [], color=_GREY, lw=1.6, marker="o", mfc="white", ms=5, label="file in training *"))
    if any(np.isfinite(_coverage_in_domain(row)) for row in dots):
        handles.append(Line2D([], [], ls="", marker="x", ms=6, mec=_BLACK, mew=1.3, label="after abstention"))
    if len(tiers) > 1:
        handles += [Line2D([], [], color="black", lw=1.3, ls=dashes[t], label=f"{_plain(t)} tier") for t in tiers]
    _legend(figure, handles, len(handles) if len(handles) < 7 else 4)
    caption = (
        "How often the truth lies inside the interval, against how often it should: pooled over channels and pixels."
    )
    yield _Drawn("calibration", "Calibration of the intervals", caption, figure)


def _dress_calibration(axes: Axes, curves: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> None:
    """The ideal diagonal, the target at 90 %, and axes in percent around the curves."""
    from matplotlib.patches import Rectangle

    low, high = COVERAGE_TARGET
    axes.plot([0, 1], [0, 1], color=_BLACK, lw=0.9, zorder=4)
    for face, edge, zorder in ((_ORANGE, "none", 2), ("none", "#8a5f00", 5)):
        box = Rectangle((0.88, low), 0.04, high - low, fc=face, ec=edge, lw=1.4, alpha=0.45 if zorder < 5 else 1)
        box.set_zorder(zorder)
        axes.add_patch(box)
    least = [min([0.42, *(float(found[axis].min()) for found in curves)]) - 0.02 for axis in (0, 1)]
    axes.set(xlim=(max(least[0], 0.0), 1.01), ylim=(max(least[1], 0.0), 1.01))
    axes.set_xlabel("nominal coverage of the interval", fontsize=10)
    axes.set_ylabel("observed coverage of the truth", fontsize=10)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.text(0.98, 0.03, "below the diagonal: too sure\nabove: too careful", transform=axes.transAxes, ha="right",
              va="bottom", fontsize=9, color="#555555")  # fmt: skip
    axes.grid(color="#e8e8e8", lw=0.7)
    _bare(axes)


def _draw_coverages(axes: Axes, rows: Sequence[Row], tiers: Sequence[str]) -> None:
    """Coverage of the 90 % interval, file by file, least on top."""
    axes.axvspan(*COVERAGE_TARGET, facecolor=_ORANGE, alpha=0.3, lw=0)
    axes.axvline(0.9, color="#999999", lw=1.2)
    for y, row in enumerate(rows):
        value, colour = _coverage_90(row), _GREY if _seen(row) else _BLUE
        axes.hlines(y, min(value, 0.9), max(value, 0.9), color=colour, lw=1.2, alpha=0.6)
        axes.plot(value, y, ls="", marker="o", ms=7, mfc="white" if _seen(row) else colour, mec=colour, mew=1.6)
        axes.plot(_coverage_in_domain(row), y, ls="", marker="x", ms=6, mec=_BLACK, mew=1.3, zorder=4)
    labels = [_row_label(row) + (f" ({_plain(str(row.get('tier', '')))})" if len(tiers) > 1 else "") for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(max(len(rows), 1) - 0.4, -0.6)
    least = float(np.nanmin([0.8, *(find(row) for find in (_coverage_90, _coverage_in_domain) for row in rows)]))
    axes.set_xlim(max(least - 0.03, 0.0), 1.005)
    axes.set_xlabel("observed coverage of the 90 % interval", fontsize=10)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.grid(axis="x", color="#e8e8e8", lw=0.7)
    _bare(axes)
    axes.tick_params(axis="y", length=0)


# ---- (d) spectra ----------------------------------------------------------------------------------------------------


def _draw_spectrum(axes: Axes, wavelength: NDArray[np.float64], one: PixelSpectrum) -> None:
    """Truth, estimate, its 90 % interval and the source bands."""
    estimate, half = np.asarray(one.estimate, np.float64), INTERVAL_SIGMAS * np.asarray(one.sigma, np.float64)
    order = np.argsort(wavelength, kind="stable")  # sorted throughout, or two detectors' intervals would add up
    for run in np.split(order, np.flatnonzero(np.diff(wavelength[order]) > LARGEST_STEP_NM) + 1):
        axes.fill_between(
            wavelength[run] / 1e3, (estimate - half)[run], (estimate + half)[run], color=_BLUE, alpha=0.22, lw=0
        )
    if one.truth is not None:
        _line(axes, wavelength, np.asarray(one.truth, np.float64), color=_BLACK, lw=1.0, zorder=4)
    _line(axes, wavelength, estimate, color=_BLUE, lw=2.2, zorder=3)
    bands = np.asarray(one.bands, np.float64)
    for band, value in zip(SOURCE_BANDS, bands, strict=True):
        if np.isfinite(value):
            inside = bool(CENTRE_NM.min() <= band.centre_nm <= CENTRE_NM.max())
            marker = _RESOLUTIONS[band.resolution_m][1]
            axes.plot(
                band.centre_nm / 1e3, value, ls="", marker=marker, ms=5.5, mfc=_ORANGE if inside else "white",
                mec=_BLACK, mew=0.8, zorder=5,
            )  # fmt: skip
    axes.set_ylim(_limits(one, half))
    _bare(axes)
    _wavelength_axis(axes)
    axes.grid(axis="y", color="#e2e2e2", lw=0.7)


def _limits(one: PixelSpectrum, half: NDArray[np.float64]) -> tuple[float, float]:
    """All lines and points, and their interval as far as that leaves them legible."""
    lines = [np.asarray(v, np.float64) for v in (one.estimate, one.bands, one.truth) if v is not None]
    joined = np.concatenate([values[np.isfinite(values)] for values in lines] + [np.zeros(1)])
    bottom, top = float(joined.min()), max(float(joined.max()), 0.02)
    estimate = np.asarray(one.estimate, np.float64)
    upper, lower = float(np.nanmax(estimate + half)), float(np.nanmin(estimate - half))
    upper = min(max(upper, top), 1.8 * top) if np.isfinite(upper) else top
    lower = max(min(lower, bottom), bottom - 0.3 * top) if np.isfinite(lower) else bottom
    return lower - 0.02 * top, upper + 0.05 * top


def _spectrum_handles(*, truth: bool) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    def points(metres: int, label: str, face: str = _ORANGE) -> Line2D:
        marker = _RESOLUTIONS[metres][1]
        return Line2D([], [], ls="", marker=marker, ms=5.5, mfc=face, mec=_BLACK, mew=0.8, label=label)

    lines = [Line2D([], [], color=_BLUE, lw=2.2, label="estimate")]
    if truth:
        lines.insert(0, Line2D([], [], color=_BLACK, lw=1.0, label="truth (thin)"))
    return [
        *lines,
        Patch(facecolor=_BLUE, alpha=0.22, label="90 % interval"),
        *(points(metres, f"source, {metres} m") for metres in _RESOLUTIONS),
        points(60, "B01, outside the product", "white"),
    ]


def _examples(row: Row) -> Iterator[tuple[str, NDArray[np.float64], PixelSpectrum]]:
    """Title, wavelengths and spectrum of each example that is whole."""
    found = _within(row, "examples")
    for example in found if isinstance(found, list | tuple) else ():
        truth, estimate, sigma, bands = (_array(_within(example, k)) for k in ("truth", "estimate", "sigma", "bands"))
        if estimate is None or sigma is None or sigma.shape != estimate.shape:
            continue
        wavelength = _array(_within(row, "spectrum", "wavelength_nm"))
        if wavelength is None or wavelength.shape != estimate.shape or not np.isfinite(wavelength).all():
            wavelength = CENTRE_NM
        if wavelength.shape != estimate.shape or not np.isfinite(estimate).any():
            continue
        if bands is None or bands.shape != (len(SOURCE_BANDS),):
            bands = np.full(len(SOURCE_BANDS), np.nan)
        truth = truth if truth is not None and truth.shape == estimate.shape else None
        yield str(_within(example, "title") or ""), wavelength, PixelSpectrum(estimate, sigma, bands, truth)


def _example_figures(rows: Sequence[Row]) -> Iterator[_Drawn]:
    for row in rows:
        found = list(_examples(row))
        if not found:
            continue
        columns = min(len(found), 3)
        lines = -(-len(found) // columns)
        figure = _new_figure(0.9 + 3.3 * lines)
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes in grid.flat[len(found) :]:
            axes.set_axis_off()
        for axes, (title, wavelength, one) in zip(grid.flat, found, strict=False):
            _draw_spectrum(axes, wavelength, one)
            axes.xaxis.set_major_locator(_every(0.4))
            axes.set_title(_plain(_short(title, 46)), fontsize=10.5, fontweight="bold", loc="left", pad=18)
            axes.text(0, 1.012, _error_of(one), transform=axes.transAxes, fontsize=9, color="#444444", va="bottom")
        for axes in grid[:, 0]:
            axes.set_ylabel("reflectance", fontsize=10)
        handles = _spectrum_handles(truth=any(one.truth is not None for _, _, one in found))
        _legend(figure, handles, len(handles))
        name, tier = _name(row), str(row.get("tier", ""))
        caption = (
            "Single pixels: the truth, the estimate with its 90 % interval, and the twelve bands it was made from."
        )
        yield _Drawn(f"spectra-{_slug(tier)}-{_slug(name)}", f"Spectra of {name}, {tier} tier", caption, figure)


def _every(step: float) -> Any:
    from matplotlib.ticker import MultipleLocator

    return MultipleLocator(step)


def _error_of(one: PixelSpectrum) -> str:
    """RMSE and coverage of one pixel, in words."""
    if one.truth is None:
        return "truth unknown"
    error = np.asarray(one.estimate, np.float64) - one.truth
    known = np.isfinite(error)
    if not known.any():
        return "truth unknown"
    inside = np.abs(error[known]) <= INTERVAL_SIGMAS * np.asarray(one.sigma, np.float64)[known]
    return f"RMSE {np.sqrt((error[known] ** 2).mean()):.4f}; interval holds {100 * inside.mean():.0f} % of the channels"


# ---- (e) spectral groups --------------------------------------------------------------------------------------------


def _group_values(rows: Sequence[Row], group: str, key: str) -> NDArray[np.float64]:
    values = np.array([_number(_within(row, "groups", group, key)) for row in rows])
    return np.asarray(values[np.isfinite(values)])


def _group_figures(rows: Sequence[Row]) -> Iterator[_Drawn]:
    known = {group.name: group for group in SPECTRAL_GROUPS}
    for tier, part in _tiers(rows).items():
        judged = [row for row in part if any(_group_values([row], name, "rmse").size for name in known)]
        names = [name for name in known if _group_values(judged, name, "rmse").size]
        if not judged:
            continue
        figure = _new_figure(1.1 + 0.48 * len(names))
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
        grid[0].set_yticks(range(len(names)), labels, fontsize=9)
        grid[0].set_ylim(len(names) - 0.4, -0.6)
        figure.suptitle(
            f"{_plain(tier)} tier: median over {len(judged)} file{'s' * (len(judged) > 1)}; a point for each",
            fontsize=11, fontweight="bold", x=0.01, ha="left",
        )  # fmt: skip
        caption = (
            "How far each spectral range can be relied on: its error, how wide the model makes its interval, and "
            "whether that is wide enough. Hatched: no source band lies there."
        )
        yield _Drawn(f"reliability-{_slug(tier)}", f"Reliability by spectral group, {tier} tier", caption, figure)


def _draw_groups(axes: Axes, rows: Sequence[Row], names: Sequence[str], key: str) -> None:
    """Medians of one figure of merit as bars from 0 (as points for coverage, where 0 means nothing), files as dots."""
    is_coverage = key == "coverage_90"
    if is_coverage:
        axes.axvspan(*COVERAGE_TARGET, facecolor=_ORANGE, alpha=0.3, lw=0)
        axes.axvline(0.9, color="#999999", lw=1.2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    lowest = 0.8
    for y, name in enumerate(names):
        values = _group_values(rows, name, key)
        if not values.size:
            continue
        middle, lowest = float(np.median(values)), min(lowest, float(values.min()))
        if is_coverage:
            axes.plot(middle, y, ls="", marker="D", ms=8, c=_BLUE, mec="white", zorder=4)
        else:
            unseen = name == "nir_gap"
            axes.barh(
                y, middle, height=0.62, color="#9fc8e0" if unseen else _SKY, edgecolor=_BLUE, lw=0.8,
                hatch="///" if unseen else None,
            )  # fmt: skip
        axes.plot(
            values, np.full(values.size, y), ls="", marker="o", ms=4, mfc="none", mec="#333333", mew=0.9, zorder=3
        )
    if is_coverage:
        axes.set_xlim(max(lowest - 0.03, 0.0), 1.005)
    else:
        axes.set_xlim(left=0)
    axes.grid(axis="x", color="#e2e2e2", lw=0.7)
    _bare(axes)
    axes.tick_params(axis="y", length=0)


# ---- all of them ----------------------------------------------------------------------------------------------------

_FIGURES: Final[tuple[Callable[[Sequence[Row]], Iterator[_Drawn]], ...]] = (
    _files_figure,
    _wavelength_figures,
    _calibration_figure,
    _example_figures,
    _group_figures,
)


def _slug(text: str) -> str:
    """A file name that holds on any system."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._")[:60] or "unnamed"


def _write(rows: Sequence[Row], folder: Path) -> list[tuple[Path, _Drawn]]:
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, tuple[Path, _Drawn]] = {}
    for draw in _FIGURES:
        for drawn in draw(rows):
            stem, number = drawn.stem, 2
            while stem.lower() in written:  # two files of one name in different folders
                stem, number = f"{drawn.stem}-{number}", number + 1
            path = folder / f"{stem}.png"
            drawn.figure.savefig(path, format="png", dpi=_DPI, metadata={"Software": None, "Title": drawn.title})
            drawn.figure.clear()
            written[stem.lower()] = (path, drawn)
    return list(written.values())


def write_figures(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw what the evaluation measured.

    Args:
        rows: one for each file and tier, as `explains2a evaluate` writes them: ``file``, ``tier``, ``in_training``,
            ``rmse`` and ``baselines`` (reflectance), ``coverage`` or ``calibration`` (0-1), ``groups``, ``spectrum``
            (its ``wavelength_nm``, nm, is also the axis of the examples) and ``examples``. Any may lack; numbers that
            are null or absent are left out.
        folder: where the PNGs go, 1800 pixels wide; made if absent, files of the same names are replaced.

    Returns:
        The figures written; one that no row has the keys for is not among them.
    """
    return [path for path, _ in _write(rows, folder)]


# ---- the report -----------------------------------------------------------------------------------------------------

_STYLE_SHEET: Final = """
body{font:16px/1.5 system-ui,"DejaVu Sans",sans-serif;color:#1a1a1a;background:#fff;max-width:1400px;margin:2rem auto;
padding:0 1rem}
h1{font-size:1.7rem;margin-bottom:.2rem}h2{font-size:1.25rem;margin:2.2rem 0 .5rem}
.table{overflow-x:auto}table{border-collapse:collapse;font-size:.84rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .45rem;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}
thead th{vertical-align:bottom;white-space:normal;border-bottom:2px solid #333}
th[scope=row],thead th:first-child{text-align:left;font-weight:500}
th[scope=row]{min-width:15rem;max-width:22rem;white-space:normal;overflow-wrap:anywhere}
.model{background:#eaf3fa;font-weight:600}.lost{background:#fbe6d8;font-weight:600}.lost::after{content:" ▲"}
tr.mean td,tr.mean th{border-top:2px solid #333;font-weight:600}
figure{margin:1rem 0 2.2rem}img{width:100%;max-width:1200px;height:auto}
figcaption,.note{color:#444;font-size:.92rem;max-width:62rem}
@media print{figure{break-inside:avoid}body{max-width:none}}
"""


def _shown(value: float, digits: int, unit: str = "") -> str:
    return "–" if not np.isfinite(value) else f"{value:.{digits}f}{unit}".replace("-", "−")


def _percent(value: float, sign: str = "") -> str:
    return "–" if not np.isfinite(value) else f"{value:{sign}.1%}".replace("%", " %").replace("-", "−")


def _cells(row: Row, styles: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Class and text of a row's numbers, in the order of `_heads`."""
    rmse, baselines = _number(row.get("rmse")), _baselines(row)
    yield "", f"{int(row['pixels']):,}".replace(",", " ") if isinstance(row.get("pixels"), int) else "–"
    yield "model", _shown(rmse, 4)
    for name in styles:
        value = baselines.get(name, float("nan"))
        yield ("lost" if value < rmse and name != BOUND else ""), _shown(value, 4)
    gained = skill(row)
    yield ("lost" if gained < 0 else ""), _percent(gained, "+")
    yield "", _shown(_number(row.get("sam_deg")), 2)
    yield "", _shown(_number(row.get("sam_bright_deg")), 2)
    yield "", _shown(_number(row.get("psnr_db")), 1)
    yield "", _percent(_coverage_90(row))
    yield "", _shown(_number(row.get("interval_width")), 4)
    yield "", _percent(_number(row.get("consistency_within_noise")))
    yield "", _percent(_number(row.get("ood_fraction")))


def _heads(rows: Sequence[Row], styles: Mapping[str, _Style]) -> list[str]:
    over = " or ".join(_STYLES[name].label for name in REFERENCES if name in {reference(row) for row in rows})
    return [
        "pixels", "model RMSE", *(f"{style.label} RMSE" for style in styles.values()),
        f"skill over {over}" if over else "skill", "SAM, °", "SAM, bright pixels, °", "PSNR, dB",
        "90 % interval covers", "its width", "source met within noise", "out of domain",
    ]  # fmt: skip


def _mean_row(rows: Sequence[Row], styles: Iterable[str]) -> Row | None:
    """The plain mean over the files that the weights have not seen; ``None`` if there are fewer than two."""
    unseen = [row for row in rows if not _seen(row)]
    if len(unseen) < 2:
        return None

    def mean(values: Iterable[float]) -> float:
        known = np.array(list(values))
        return float(known.mean()) if known.size else float("nan")  # of all or none: a mean over some would mislead

    keys = (
        "rmse", "sam_deg", "sam_bright_deg", "psnr_db", "interval_width", "consistency_within_noise", "ood_fraction",
    )  # fmt: skip
    means = {key: mean(_number(row.get(key)) for row in unseen) for key in keys}
    baselines = {name: {"rmse": mean(_baselines(row).get(name, float("nan")) for row in unseen)} for name in styles}
    return {**means, "baselines": baselines, "coverage": {"90": mean(_coverage_90(row) for row in unseen)}}


def _table(rows: Sequence[Row]) -> str:
    styles = _styles(rows)
    heads = "".join(f"<th scope=col>{html.escape(head)}</th>" for head in _heads(rows, styles))
    lines = []

    def line(title: str, row: Row, kind: str = "") -> str:
        cells = "".join(f"<td{f' class={c}' if c else ''}>{html.escape(text)}</td>" for c, text in _cells(row, styles))
        return f"<tr{kind}><th scope=row>{title}</th>{cells}</tr>"

    for row in sorted(rows, key=lambda row: np.nan_to_num(_number(row.get("rmse")), nan=np.inf)):
        full = html.escape(str(row.get("file", "")), quote=True)
        lines.append(line(f'<span title="{full}">{html.escape(_name(row))}</span>{" *" * _seen(row)}', row))
    mean = _mean_row(rows, styles)
    if mean is not None:
        lines.append(line("mean, files not in training", mean, " class=mean"))
    return (
        f"<div class=table><table><thead><tr><th scope=col>file</th>{heads}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


_NOTES: Final = (
    "RMSE, interval widths: reflectance, 0–1. SAM: mean spectral angle. PSNR: peak 1. "
    "Skill = 1 − RMSE² / RMSE² of Wiener's linear estimate fitted to the same training spectra: 100 % is perfect, "
    "0 no better than linear. ▲ marks a baseline that beats the model on that file, or a negative skill. "
    "The bound is no rival: it is given every band at 10 m. "
    "* the weights were fitted to this file, so its figures say nothing about new ground."
)


def write_report(rows: Sequence[Row], folder: Path) -> Path:
    """Write the table and the figures as one page that needs nothing beside it.

    Args:
        rows: as `write_figures` takes them.
        folder: where ``index.html`` and the single PNGs go; made if absent.

    Returns:
        The page.
    """
    written = _write(rows, folder)
    tables = "".join(
        f"<h2>{html.escape(tier.capitalize() or 'Unnamed')} tier</h2>{_table(part)}"
        for tier, part in _tiers(rows).items()
    )
    figures = "".join(
        f"<h2>{html.escape(drawn.title)}</h2><figure>"
        f'<img alt="{html.escape(drawn.title, quote=True)}" '
        f'src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode("ascii")}">'
        f"<figcaption>{html.escape(drawn.caption)}</figcaption></figure>"
        for path, drawn in written
    )
    page = (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>Evaluation of the duality model</title><style>{_STYLE_SHEET}</style></head><body>"
        "<h1>Evaluation of the duality model</h1>"
        "<p class=note>Twelve Sentinel-2 bands simulated from known spectra, the 172 channels estimated from them, and "
        "the estimate compared with the spectra.</p>"
        f"{tables}<p class=note>{html.escape(_NOTES)}</p>{figures}</body></html>\n"
    )
    path = folder / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


# ---- places to read with care ---------------------------------------------------------------------------------------

_GALLERY_WIDTH: Final[float] = 13.0
_MAP: Final[float] = 2.05
_MARGIN: Final[float] = 0.25
_CAPTION_LETTERS: Final[int] = 165


def _map_axes(figure: Figure, left: float, top: float, size: tuple[int, int], title: str) -> tuple[Axes, Axes]:
    """Axes of a map and of its scale below, placed in inches from the upper left corner."""
    height_in = figure.get_figheight()

    def box(x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
        return x / _GALLERY_WIDTH, 1 - (y + h) / height_in, w / _GALLERY_WIDTH, h / height_in

    height, width = size
    w, h = _MAP * min(1.0, width / height), _MAP * min(1.0, height / width)
    axes = figure.add_axes(box(left + (_MAP - w) / 2, top + (_MAP - h) / 2, w, h))
    axes.set_title(_plain(_short(title, 30)), fontsize=9.5, pad=4)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("#d9d9d9")
    return axes, figure.add_axes(box(left + 0.1, top + _MAP + 0.08, _MAP - 0.2, 0.1))


def _mark(axes: Axes, marked: tuple[int, int], size: tuple[int, int]) -> None:
    """A square around the pixel, light on dark, that leaves the pixel itself open."""
    row, column = marked
    points = max(7.0, 1.6 * 72 * _MAP / max(size))
    for colour, width in ((_BLACK, 3.2), ("white", 1.4)):
        axes.plot(column, row, ls="", marker="s", ms=points, mfc="none", mec=colour, mew=width, zorder=5, clip_on=False)


def _draw_layer(figure: Figure, axes: Axes, below: Axes, layer: Layer) -> None:
    values = np.asarray(layer.values, np.float64)
    known = values[np.isfinite(values)]
    low = layer.vmin if layer.vmin is not None else float(known.min()) if known.size else 0.0
    high = layer.vmax if layer.vmax is not None else float(known.max()) if known.size else 1.0
    high = high if high > low else low + 1e-6
    diverging = low < 0 < high
    shown = axes.imshow(
        np.ma.masked_invalid(values), cmap="PuOr_r" if diverging else "cividis", vmin=low, vmax=high,
        interpolation="nearest",
    )  # fmt: skip
    beyond = (bool(known.size and known.min() < low), bool(known.size and known.max() > high))
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[beyond]
    bar = figure.colorbar(shown, cax=below, orientation="horizontal", extend=extend)
    bar.ax.tick_params(labelsize=8, length=2)
    bar.ax.locator_params(nbins=4)
    bar.set_label(_plain(layer.unit), fontsize=8.5, labelpad=1)


def _draw_panel(figure: Figure, panel: Panel, top: float) -> None:
    """One row of the gallery, from `top` inches below the figure's upper edge."""
    height_in = figure.get_figheight()
    size = panel.rgb.shape[:2]
    figure.text(_MARGIN / _GALLERY_WIDTH, 1 - top / height_in, _plain(panel.title), fontsize=12, fontweight="bold",
                va="top")  # fmt: skip
    caption = "\n".join(textwrap.wrap(panel.caption, _CAPTION_LETTERS))
    figure.text(_MARGIN / _GALLERY_WIDTH, 1 - (top + 0.26) / height_in, _plain_lines(caption), fontsize=9.5,
                color="#333333", va="top", linespacing=1.25)  # fmt: skip
    maps = top + 0.26 + _caption_height(panel) + 0.34
    left = _MARGIN
    picture, below = _map_axes(figure, left, maps, size, "colour (B04 B03 B02)")
    below.set_axis_off()
    known = np.isfinite(panel.rgb).all(axis=-1, keepdims=True)
    colours = np.clip(np.where(known, panel.rgb, 0.0), 0.0, 1.0)
    picture.imshow(np.concatenate([colours, known.astype(np.float64)], axis=-1), interpolation="nearest")
    _mark(picture, panel.marked, size)
    for raw in panel.layers:
        layer = Layer(*raw)
        left += _MAP + 0.2
        axes, below = _map_axes(figure, left, maps, size, layer.name)
        _draw_layer(figure, axes, below, layer)
        _mark(axes, panel.marked, size)
    left += _MAP + 0.75
    width = _GALLERY_WIDTH - left - _MARGIN
    axes = figure.add_axes(
        (left / _GALLERY_WIDTH, 1 - (maps + _MAP) / height_in, width / _GALLERY_WIDTH, _MAP / height_in)
    )
    _draw_spectrum(axes, CENTRE_NM, panel.spectrum)
    axes.xaxis.set_major_locator(_every(0.4))
    axes.set_ylabel("reflectance", fontsize=9.5, labelpad=2)
    axes.set_title("spectrum of the marked pixel", fontsize=9.5, pad=4)


def _plain_lines(text: str) -> str:
    return "\n".join(map(_plain, text.split("\n")))


def _caption_height(panel: Panel) -> float:
    return 0.18 * max(1, len(textwrap.wrap(panel.caption, _CAPTION_LETTERS)))


def failure_figure(panels: Sequence[Panel], path: Path) -> Path:
    """Draw places where an estimate needs reading with care: a row of picture, layers and spectrum for each.

    Args:
        panels: the places, from top to bottom.
        path: the PNG to write, 1950 pixels wide; its folder is made if absent.

    Returns:
        `path`.

    Raises:
        ValueError: if there is no panel, a layer's shape is not its picture's, or a marked pixel lies outside.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not panels:
        raise ValueError("no panel was given; one place at least makes a figure")
    for panel in panels:
        _check(panel)
    heights = [0.26 + _caption_height(panel) + 0.34 + _MAP + 0.75 for panel in panels]
    figure = Figure(figsize=(_GALLERY_WIDTH, 0.55 + sum(heights)), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    handles = _spectrum_handles(truth=any(panel.spectrum.truth is not None for panel in panels))
    figure.legend(handles=handles, loc="upper right", ncols=len(handles), fontsize=9, frameon=False)
    top = 0.45
    for panel, height in zip(panels, heights, strict=True):
        _draw_panel(figure, panel, top)
        top += height
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=_DPI, metadata={"Software": None})
    figure.clear()
    return path


def _check(panel: Panel) -> None:
    """Refuse a panel whose parts do not fit together."""
    size = panel.rgb.shape[:2]
    for layer in panel.layers:
        if np.shape(layer[1]) != size:
            raise ValueError(f"{panel.title}: layer {layer[0]} is {np.shape(layer[1])}, the picture {size}")
    if not all(0 <= at < extent for at, extent in zip(panel.marked, size, strict=True)):
        raise ValueError(f"{panel.title}: the marked pixel {panel.marked} lies outside the picture {size}")
