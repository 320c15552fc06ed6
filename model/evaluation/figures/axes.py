"""Axes that the figures share: wavelength, reflectance error, coverage, and lines that cross no gap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from model.bands import SOURCE_BANDS
from model.evaluation.figures.style import ORANGE, RESOLUTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from numpy.typing import NDArray

LARGEST_STEP_NM: Final[float] = 30.0
"""Neighbouring channels further apart than this are not joined by a line."""

OPAQUE_NM: Final[tuple[tuple[float, float], ...]] = ((1340.0, 1450.0), (1800.0, 1955.0))
"""Where water vapour makes the air opaque; the product has no channels there."""

OPAQUE_STYLE: Final[dict[str, Any]] = {"facecolor": "#f2f2f2", "edgecolor": "#cccccc", "hatch": "///"}

COVERAGE_TARGET: Final[tuple[float, float]] = (0.87, 0.93)
"""What the 90 % interval should cover."""

_LIMITS_UM: Final[tuple[float, float]] = (0.40, 2.45)
_MOST_DETECTOR_OVERLAPS: Final[int] = 3
"""AVIRIS has four spectrometers; an axis that falls back more often is in no order at all."""


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


def bare(axes: Axes) -> None:
    """No frame but the two axes; a grid lies behind what is drawn."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=9)
    axes.set_axisbelow(True)


def wavelength_axis(axes: Axes, *, labelled: bool = True) -> None:
    """A wavelength axis in micrometres, with the opaque windows hatched."""
    for low, high in OPAQUE_NM:
        axes.axvspan(low / 1e3, high / 1e3, **OPAQUE_STYLE, lw=0, zorder=0)
    axes.set_xlim(*_LIMITS_UM)
    axes.set_xticks(np.arange(0.4, 2.41, 0.2))
    axes.xaxis.set_major_formatter("{x:.1f}")
    if labelled:
        axes.set_xlabel("wavelength, µm", fontsize=10)


def reflectance_error_axis(axes: Axes, low: float, high: float, which: Literal["x", "y"]) -> None:
    """A logarithmic axis of reflectance, its ticks written out."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    axis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6f}".rstrip("0").rstrip(".")))
    axes.grid(axis=which, color="#e2e2e2", lw=0.7)


def percent_axis(axis: Axis) -> None:
    """An axis of shares, 0-1, labelled in percent."""
    axis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")


def coverage_axis(axes: Axes, values: Iterable[float]) -> None:
    """A horizontal axis for coverages of the 90 % interval, nan among them or not, with the target marked."""
    axes.axvspan(*COVERAGE_TARGET, facecolor=ORANGE, alpha=0.3, lw=0)
    axes.axvline(0.9, color="#999999", lw=1.2)
    axes.set_xlim(max(float(np.nanmin([0.8, *values])) - 0.03, 0.0), 1.005)
    percent_axis(axes.xaxis)


def named_lines(axes: Axes, labels: Sequence[str], **style: Any) -> None:
    """One horizontal line for each name, the first on top."""
    axes.set_yticks(range(len(labels)), labels, **style)
    axes.set_ylim(max(len(labels), 1) - 0.4, -0.6)


def draw_line(axes: Axes, wavelength: NDArray[np.float64], values: NDArray[np.float64], **style: Any) -> None:
    """A curve that joins only channels of one run."""
    for run in unbroken_runs(wavelength):
        axes.plot(wavelength[run] / 1e3, values[run], **style)


def source_strip(axes: Axes) -> None:
    """The source bands, a lane for each resolution."""
    lanes = (60, 20, 10)
    for band in SOURCE_BANDS:
        span = ((band.centre_nm - band.fwhm_nm / 2) / 1e3, band.fwhm_nm / 1e3)
        lane = lanes.index(band.resolution_m)
        axes.broken_barh([span], (lane + 0.15, 0.7), facecolors=RESOLUTIONS[band.resolution_m][0], lw=0)
    axes.set_ylim(0, 3)
    axes.set_yticks([0.5, 1.5, 2.5], [f"{metres} m" for metres in lanes], fontsize=7.5)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
