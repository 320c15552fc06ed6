"""Spectra of single pixels: truth, estimate, interval and the source bands they were made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from model.bands import CENTRE_NM, SOURCE_BANDS
from model.evaluation.figures.axes import LARGEST_STEP_NM, bare, draw_line, wavelength_axis
from model.evaluation.figures.rows import file_name, numbers, within
from model.evaluation.figures.style import (
    BLACK,
    BLUE,
    ORANGE,
    RESOLUTIONS,
    Drawn,
    legend,
    new_figure,
    plain,
    short,
    slug,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from model.evaluation.figures.rows import Row

INTERVAL_SIGMAS: Final[float] = 1.6449
"""Half width of the central 90 % of a normal distribution, standard deviations."""


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


def draw_spectrum(axes: Axes, wavelength: NDArray[np.float64], one: PixelSpectrum) -> None:
    """Truth, estimate, its 90 % interval and the source bands."""
    from matplotlib.ticker import MultipleLocator

    estimate, half = np.asarray(one.estimate, np.float64), INTERVAL_SIGMAS * np.asarray(one.sigma, np.float64)
    order = np.argsort(wavelength, kind="stable")  # sorted throughout, or two detectors' intervals would add up
    for run in np.split(order, np.flatnonzero(np.diff(wavelength[order]) > LARGEST_STEP_NM) + 1):
        axes.fill_between(
            wavelength[run] / 1e3, (estimate - half)[run], (estimate + half)[run], color=BLUE, alpha=0.22, lw=0
        )
    if one.truth is not None:
        draw_line(axes, wavelength, np.asarray(one.truth, np.float64), color=BLACK, lw=1.0, zorder=4)
    draw_line(axes, wavelength, estimate, color=BLUE, lw=2.2, zorder=3)
    bands = np.asarray(one.bands, np.float64)
    for band, value in zip(SOURCE_BANDS, bands, strict=True):
        if np.isfinite(value):
            inside = bool(CENTRE_NM.min() <= band.centre_nm <= CENTRE_NM.max())
            marker = RESOLUTIONS[band.resolution_m][1]
            axes.plot(
                band.centre_nm / 1e3, value, ls="", marker=marker, ms=5.5, mfc=ORANGE if inside else "white",
                mec=BLACK, mew=0.8, zorder=5,
            )  # fmt: skip
    axes.set_ylim(_limits(one, half))
    bare(axes)
    wavelength_axis(axes)
    axes.xaxis.set_major_locator(MultipleLocator(0.4))
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


def spectrum_handles(*, truth: bool) -> list[Any]:
    """The signs that `draw_spectrum` uses, for a legend."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    def points(metres: int, label: str, face: str = ORANGE) -> Line2D:
        marker = RESOLUTIONS[metres][1]
        return Line2D([], [], ls="", marker=marker, ms=5.5, mfc=face, mec=BLACK, mew=0.8, label=label)

    lines = [Line2D([], [], color=BLUE, lw=2.2, label="estimate")]
    if truth:
        lines.insert(0, Line2D([], [], color=BLACK, lw=1.0, label="truth (thin)"))
    return [
        *lines,
        Patch(facecolor=BLUE, alpha=0.22, label="90 % interval"),
        *(points(metres, f"source, {metres} m") for metres in RESOLUTIONS),
        points(60, "B01, outside the product", "white"),
    ]


def _examples(row: Row) -> Iterator[tuple[str, NDArray[np.float64], PixelSpectrum]]:
    """Title, wavelengths and spectrum of each example that is whole."""
    found = within(row, "examples")
    for example in found if isinstance(found, list | tuple) else ():
        truth, estimate, sigma, bands = (numbers(within(example, k)) for k in ("truth", "estimate", "sigma", "bands"))
        if estimate is None or sigma is None or sigma.shape != estimate.shape:
            continue
        wavelength = numbers(within(row, "spectrum", "wavelength_nm"))
        if wavelength is None or wavelength.shape != estimate.shape or not np.isfinite(wavelength).all():
            wavelength = CENTRE_NM
        if wavelength.shape != estimate.shape or not np.isfinite(estimate).any():
            continue
        if bands is None or bands.shape != (len(SOURCE_BANDS),):
            bands = np.full(len(SOURCE_BANDS), np.nan)
        truth = truth if truth is not None and truth.shape == estimate.shape else None
        yield str(within(example, "title") or ""), wavelength, PixelSpectrum(estimate, sigma, bands, truth)


def example_figures(rows: Sequence[Row]) -> Iterator[Drawn]:
    """The example pixels of each file, a figure for each file."""
    for row in rows:
        found = list(_examples(row))
        if not found:
            continue
        columns = min(len(found), 3)
        lines = -(-len(found) // columns)
        figure = new_figure(0.9 + 3.3 * lines)
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes in grid.flat[len(found) :]:
            axes.set_axis_off()
        for axes, (title, wavelength, one) in zip(grid.flat, found, strict=False):
            draw_spectrum(axes, wavelength, one)
            axes.set_title(plain(short(title, 46)), fontsize=10.5, fontweight="bold", loc="left", pad=18)
            axes.text(0, 1.012, _error_of(one), transform=axes.transAxes, fontsize=9, color="#444444", va="bottom")
        for axes in grid[:, 0]:
            axes.set_ylabel("reflectance", fontsize=10)
        handles = spectrum_handles(truth=any(one.truth is not None for _, _, one in found))
        legend(figure, handles, len(handles))
        name, tier = file_name(row), str(row.get("tier", ""))
        caption = (
            "Single pixels: the truth, the estimate with its 90 % interval, and the twelve bands it was made from."
        )
        yield Drawn(f"spectra-{slug(tier)}-{slug(name)}", f"Spectra of {name}, {tier} tier", caption, figure)


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
