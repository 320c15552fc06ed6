"""The page's diagrams along wavelength; no line ever crosses a wavelength gap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from infra.preview.colour import REFLECTANCE_SCALE
from infra.preview.quality import FLAGS
from model.bands import CENTRE_NM, SOURCE_BANDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from infra.preview.typical import TypicalPixel

INTERVAL_SIGMAS: Final = 1.645
"""Half width of the central 90 % of a normal distribution, in standard deviations."""

WATER_VAPOUR_NM: Final = ((1340.0, 1450.0), (1800.0, 1955.0))
"""Where the air is opaque; the product has no channels there."""

_LARGEST_STEP_NM: Final = 30.0
"""Neighbouring channels further apart than this are not joined."""

_LIMITS_NM: Final = (400.0, 2450.0)
_MARKERS: Final = {10: "o", 20: "s", 60: "^"}
_MIXED: Final = {60: " (sees the surroundings too)"}


@dataclass(frozen=True)
class Reliability:
    """How sure the product is, by channel, over the scene's valid pixels."""

    mean_sigma: NDArray[np.float64]
    """(172,) mean 1-sigma, reflectance."""
    low_sigma: NDArray[np.float64]
    """(172,) tenth percentile."""
    high_sigma: NDArray[np.float64]
    """(172,) ninetieth percentile."""
    measured_fraction: NDArray[np.float64] | None
    """(172,) how much of the channel the sensor saw, 0-1; None where the model does not say."""


def unbroken_runs() -> Iterator[NDArray[np.intp]]:
    """Yield the channels between two gaps, in order of wavelength (product order is not, at detector overlaps)."""
    order = np.argsort(CENTRE_NM, kind="stable")
    breaks = np.flatnonzero(np.diff(CENTRE_NM[order]) > _LARGEST_STEP_NM) + 1
    yield from np.split(order, breaks)


def draw_spectrum(axes: Axes, number: int, one: TypicalPixel, sigma: NDArray[np.float64]) -> None:
    """Draw one pixel's spectrum, its 90 % interval and the source bands at their centres.

    Args:
        axes: Where.
        number: As on the map.
        one: The pixel.
        sigma: (172,) 1-sigma reflectance.
    """
    reflectance = one.pixel.hsi[0] * REFLECTANCE_SCALE
    half = INTERVAL_SIGMAS * sigma
    for run in unbroken_runs():
        axes.fill_between(
            CENTRE_NM[run], (reflectance - half)[run], (reflectance + half)[run], color=one.colour, alpha=0.25, lw=0
        )
        axes.plot(CENTRE_NM[run], reflectance[run], color=one.colour, lw=1.8)
    _draw_source(axes, one.pixel.source[0])
    _dress(axes)
    axes.set_ylim(_reflectance_limits(reflectance, half, one.pixel.source[0]))
    _name(axes, number, one)


def draw_legend(figure: Figure, bottom: float) -> None:
    """Explain the signs of all spectra once, in a row that begins at `bottom` (fraction of the figure's height)."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    def point(marker: str, label: str, face: str = "black") -> Line2D:
        return Line2D([], [], ls="", marker=marker, mfc=face, mec="black", ms=6, label=label)

    entries = [
        Line2D([], [], color="#333333", lw=1.8, label="estimated spectrum"),
        Patch(facecolor="#333333", alpha=0.25, label=f"90 % interval (± {INTERVAL_SIGMAS} σ)"),
        *(point(marker, f"source, {metres} m{_MIXED.get(metres, '')}") for metres, marker in _MARKERS.items()),
        point("^", "B01, outside the product's range", "white"),
        Patch(facecolor="#eeeeee", edgecolor="#bbbbbb", hatch="//", label="water vapour: no channels"),
    ]
    figure.legend(
        handles=entries, loc="center", bbox_to_anchor=(0.5, bottom), ncols=len(entries), fontsize=10.2, frameon=False,
        handletextpad=0.5, columnspacing=1.6,
    )  # fmt: skip


def draw_sigma(axes: Axes, reliability: Reliability) -> None:
    """Draw the scene's uncertainty by wavelength."""
    for run in unbroken_runs():
        axes.fill_between(
            CENTRE_NM[run], reliability.low_sigma[run], reliability.high_sigma[run], color="#0072b2", alpha=0.2, lw=0
        )
        axes.plot(CENTRE_NM[run], reliability.mean_sigma[run], color="#0072b2", lw=1.8)
    _dress(axes)
    _mark_source_bands(axes)
    top = max(float(reliability.high_sigma.max()), float(reliability.mean_sigma.max()), 1e-3)
    axes.set_ylim(0.0, 1.12 * top)
    axes.set_ylabel("reflectance", fontsize=11)
    _caption(axes, "Uncertainty", "1 σ, mean over the scene; shaded: 10th to 90th percentile; grey bars: source bands")


def draw_measured_fraction(axes: Axes, reliability: Reliability) -> None:
    """Draw how much of each channel the sensor saw; the rest is what spectra usually look like."""
    if reliability.measured_fraction is None:
        axes.set_axis_off()
        return
    for run in unbroken_runs():
        axes.fill_between(CENTRE_NM[run], 0.0, reliability.measured_fraction[run], color="#009e73", alpha=0.35, lw=0)
        axes.plot(CENTRE_NM[run], reliability.measured_fraction[run], color="#00664a", lw=1.8)
    _dress(axes)
    _mark_source_bands(axes)
    axes.set_ylim(0.0, 1.1)
    axes.set_ylabel("fraction", fontsize=11)
    _caption(
        axes, "Measured fraction", "1: seen by the sensor; 0: filled in from known spectra; grey bars: source bands"
    )


def _draw_source(axes: Axes, source: NDArray[np.float32]) -> None:
    """Draw the source bands as points at their centres with their widths as bars; hollow outside the product's grid."""
    centre = np.array([band.centre_nm for band in SOURCE_BANDS])
    half = np.array([band.fwhm_nm / 2 for band in SOURCE_BANDS])
    inside = (centre >= CENTRE_NM.min()) & (centre <= CENTRE_NM.max())
    axes.hlines(source, centre - half, centre + half, colors="#555555", lw=1, zorder=3)
    for metres, marker in _MARKERS.items():
        at_metres = np.array([band.resolution_m == metres for band in SOURCE_BANDS])
        for chosen, face in ((at_metres & inside, "black"), (at_metres & ~inside, "white")):
            axes.plot(
                centre[chosen], source[chosen], ls="", marker=marker, ms=5, mfc=face, mec="black", mew=0.9, zorder=4
            )  # fmt: skip


def _dress(axes: Axes) -> None:
    """Give a diagram its wavelength axis and hatch what the product leaves out."""
    for low, high in WATER_VAPOUR_NM:
        axes.axvspan(low, high, facecolor="#eeeeee", edgecolor="#cccccc", hatch="//", lw=0, zorder=0)
    axes.set_xlim(*_LIMITS_NM)
    axes.set_xticks(range(400, 2401, 200))
    axes.set_xlabel("wavelength, nm", fontsize=10.5)
    axes.tick_params(labelsize=9.5)
    axes.grid(axis="y", color="#dddddd", lw=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _mark_source_bands(axes: Axes) -> None:
    """Show along the top edge which wavelengths the sensor's bands cover."""
    for band in SOURCE_BANDS:
        span = (band.centre_nm - band.fwhm_nm / 2, band.fwhm_nm)
        axes.broken_barh([span], (0.94, 0.06), transform=axes.get_xaxis_transform(), facecolors="#777777", zorder=3)


def _reflectance_limits(
    reflectance: NDArray[np.float64], half: NDArray[np.float64], source: NDArray[np.float32]
) -> tuple[float, float]:
    """Return the limits of a spectrum's axis: its interval as far as that leaves the spectrum itself legible."""
    top = max(float(reflectance.max()), float(source.max()), 0.02)
    bottom = min(float(reflectance.min()), float(source.min()), 0.0)
    upper = min(float((reflectance + half).max()), 2.0 * top)
    lower = max(float((reflectance - half).min()), bottom - 0.5 * top)
    return 1.05 * min(bottom, lower), 1.08 * max(top, upper)


def _name(axes: Axes, number: int, one: TypicalPixel) -> None:
    flagged = [flag.label for flag in FLAGS if int(one.pixel.qa[0]) & flag.bit]
    told = [] if one.share is None else [f"{_share(one.share)} of the clear pixels"]
    if flagged:
        told.append(f"this pixel: {', '.join(flagged)}")
    _caption(axes, f"{number}  {one.label}", "; ".join(told), one.colour)


def _caption(axes: Axes, title: str, detail: str, colour: str = "black") -> None:
    axes.set_title(f"{title}\n", fontsize=12.5, fontweight="bold", loc="left", color=colour, pad=3)
    axes.text(0, 1.015, detail, transform=axes.transAxes, fontsize=10, color="#444444", va="bottom")


def _share(share: float) -> str:
    return "< 1 %" if share < 0.01 else f"{share:.0%}".replace("%", " %")
