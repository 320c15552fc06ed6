"""The page for people: pictures, typical spectra with their uncertainty, reliability by wavelength, residuals."""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from infra.preview import maps, spectra

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from infra.preview.mosaic import Mosaic
    from infra.preview.spectra import Reliability
    from infra.preview.typical import TypicalPixel

NOTICE: Final = "Estimated, not measured: spectra computed from twelve Sentinel-2 bands"

_DPI: Final = 110
_WIDTH: Final = 17.0
"""Inches, as all sizes here."""
_LEFT, _RIGHT = 0.85, 0.35
_TOP: Final = 0.2
_NOTICE: Final = 0.5
_TITLE: Final = 0.48
_LINE: Final = 0.27
_TITLE_LETTERS, _LINE_LETTERS = 85, 185
"""What fits across the page; longer titles are cut, longer lines are folded."""
_MAP_GAP: Final = 0.75
_MAP_WIDTH: Final = (_WIDTH - _LEFT - _RIGHT - 3 * _MAP_GAP) / 4
_FLATTEST, _TALLEST = 1.0, 4.6
"""Heights of the row of maps for very wide and very tall products."""
_MAP_KEY: Final = 0.55
"""From the maps down to their scale and colours."""
_KEY_LINE: Final = 0.2
_FEWEST_KEY_LINES: Final = 3
_SPECTRA_ROW: Final = 2.75
_RELIABILITY_ROW: Final = 2.6
_GAP: Final = 0.95


@dataclass(frozen=True)
class PreviewHeader:
    """What stands at the top of the page."""

    title: str
    """Scene, date and tile."""
    lines: tuple[str, ...]
    """Region, model version, grade, key quality numbers ...: one line each."""


@dataclass(frozen=True)
class _Layout:
    """Where the rows of the page begin, inches from its top."""

    header_lines: int
    map_row: float
    """Height of the maps, inches."""
    key_lines: int
    spectra_rows: int

    @property
    def maps(self) -> float:
        return _TOP + _NOTICE + _TITLE + self.header_lines * _LINE + 0.55

    @property
    def keys(self) -> float:
        return self.maps + self.map_row + _MAP_KEY

    @property
    def spectra(self) -> float:
        return self.keys + self.key_lines * _KEY_LINE + 1.0

    @property
    def reliability(self) -> float:
        return self.spectra + self.spectra_rows * (_SPECTRA_ROW + _GAP) + 0.1

    @property
    def height(self) -> float:
        return self.reliability + _RELIABILITY_ROW + 0.75

    def box(self, top: float, left: float, width: float, height: float) -> tuple[float, float, float, float]:
        """Return a rectangle given in inches from the upper left corner as matplotlib wants it."""
        return left / _WIDTH, 1 - (top + height) / self.height, width / _WIDTH, height / self.height


def render_page(
    header: PreviewHeader,
    *,
    size: tuple[int, int],
    mosaic: Mosaic,
    typical: Sequence[TypicalPixel],
    typical_sigma: Sequence[NDArray[np.float64]],
    reliability: Reliability | None,
) -> bytes:
    """Render the page.

    Args:
        header: What stands at its top.
        size: Width and height of the product, 10 m pixels.
        mosaic: The scene in small.
        typical: Pixels whose spectra are shown.
        typical_sigma: For each of them (172,) 1-sigma reflectance.
        reliability: Uncertainty by wavelength over the scene; None without a valid pixel.

    Returns:
        PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ground = maps.Ground(*size)
    map_row = min(max(_MAP_WIDTH * ground.height / ground.width, _FLATTEST), _TALLEST)
    columns = _spectra_columns(len(typical))
    lines = [part for line in header.lines for part in textwrap.wrap(line, _LINE_LETTERS)]
    key_lines = max(_FEWEST_KEY_LINES, len(maps.state_key(mosaic, ground)))
    layout = _Layout(len(lines), map_row, key_lines, max(1, -(-len(typical) // columns)))
    figure = Figure(figsize=(_WIDTH, layout.height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    title = header.title if len(header.title) <= _TITLE_LETTERS else f"{header.title[: _TITLE_LETTERS - 1]}…"
    _draw_header(figure, layout, title, lines)
    _draw_maps(figure, layout, ground, mosaic, typical)
    _draw_spectra(figure, layout, typical, typical_sigma)
    if reliability is not None:
        _draw_reliability(figure, layout, reliability)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=_DPI)
    figure.clear()
    return picture.getvalue()


def render_spectrum(one: TypicalPixel, sigma: NDArray[np.float64]) -> bytes:
    """Render one spectrum with its interval and the source bands, small enough to stand in a run's page.

    Args:
        one: The pixel.
        sigma: (172,) its 1-sigma, reflectance.

    Returns:
        PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.0), dpi=80, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.09, 0.17, 0.89, 0.68))
    spectra.draw_spectrum(axes, 1, one, sigma)
    axes.set_ylabel("surface reflectance", fontsize=9)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=80)
    figure.clear()
    return picture.getvalue()


def _spectra_columns(spectra: int) -> int:
    return 2 if spectra in {2, 4} else 3


def _draw_header(figure: Figure, layout: _Layout, title: str, lines: Sequence[str]) -> None:
    def write(text: str, top: float, **style: Any) -> None:
        figure.text(_LEFT / _WIDTH, 1 - top / layout.height, text, va="top", parse_math=False, **style)

    figure.text(
        0.5,
        1 - (_TOP + 0.18) / layout.height,
        NOTICE,
        ha="center",
        va="center",
        fontsize=12.5,
        fontweight="bold",
        bbox={"boxstyle": "round,pad=0.4", "facecolor": "#fff3cd", "edgecolor": "#b58900"},
    )
    write(title, _TOP + _NOTICE, fontsize=19, fontweight="bold")
    for position, line in enumerate(lines):
        write(line, _TOP + _NOTICE + _TITLE + position * _LINE, fontsize=12, color="#222222")


def _draw_maps(
    figure: Figure, layout: _Layout, ground: maps.Ground, mosaic: Mosaic, typical: Sequence[TypicalPixel]
) -> None:
    lefts = [_LEFT + position * (_MAP_WIDTH + _MAP_GAP) for position in range(4)]
    axes = [figure.add_axes(layout.box(layout.maps, left, _MAP_WIDTH, layout.map_row)) for left in lefts]
    scale = figure.add_axes(layout.box(layout.keys, lefts[2], _MAP_WIDTH, 0.13))
    key = figure.add_axes(layout.box(layout.keys, lefts[3], _MAP_WIDTH, layout.key_lines * _KEY_LINE))
    reflectance = mosaic.reflectance()
    maps.draw_colour(axes[0], ground, reflectance[[1, 2, 3]], "True colour", shared_stretch=True)
    maps.draw_colour(axes[1], ground, reflectance[[0, 1, 2]], "Near infrared, red, green", shared_stretch=False)
    maps.mark_pixels(axes[0], ground, typical)
    maps.draw_residual(figure, axes[2], scale, ground, mosaic.residual())
    maps.draw_state(axes[3], key, ground, mosaic)
    axes[0].set_ylabel("km", fontsize=10)


def _draw_spectra(
    figure: Figure, layout: _Layout, typical: Sequence[TypicalPixel], sigma: Sequence[NDArray[np.float64]]
) -> None:
    if not typical:
        middle = 1 - (layout.spectra + _SPECTRA_ROW / 2) / layout.height
        figure.text(0.5, middle, "No valid pixel: no spectrum to show", ha="center", fontsize=14)
        return
    columns, gap = _spectra_columns(len(typical)), 0.75
    width = (_WIDTH - _LEFT - _RIGHT - (columns - 1) * gap) / columns
    for position, (one, one_sigma) in enumerate(zip(typical, sigma, strict=True)):
        row, column = divmod(position, columns)
        box = layout.box(
            layout.spectra + row * (_SPECTRA_ROW + _GAP), _LEFT + column * (width + gap), width, _SPECTRA_ROW
        )
        axes = figure.add_axes(box)
        spectra.draw_spectrum(axes, position + 1, one, one_sigma)
        if column == 0:
            axes.set_ylabel("surface reflectance", fontsize=11)
    spectra.draw_legend(figure, 1 - (layout.spectra - 0.68) / layout.height)


def _draw_reliability(figure: Figure, layout: _Layout, reliability: Reliability) -> None:
    gap = 1.0
    width = (_WIDTH - _LEFT - _RIGHT - gap) / 2
    left, right = (
        figure.add_axes(layout.box(layout.reliability, _LEFT + position * (width + gap), width, _RELIABILITY_ROW))
        for position in range(2)
    )
    spectra.draw_sigma(left, reliability)
    spectra.draw_measured_fraction(right, reliability)
