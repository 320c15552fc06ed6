"""The page for people: pictures, typical spectra with their uncertainty, reliability by wavelength, residuals."""

from __future__ import annotations

import io
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
_TOP: Final = 0.3
_LINE: Final = 0.27
_TITLE: Final = 0.5
_MAP_ROW: Final = 4.6
_SPECTRA_ROW: Final = 2.75
_RELIABILITY_ROW: Final = 2.6
_GAP: Final = 0.95
_SPECTRA_COLUMNS: Final = 3


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
    spectra_rows: int

    @property
    def maps(self) -> float:
        return _TOP + _TITLE + self.header_lines * _LINE + 0.55

    @property
    def spectra(self) -> float:
        return self.maps + _MAP_ROW + _GAP

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

    rows = max(1, -(-len(typical) // _SPECTRA_COLUMNS))
    layout = _Layout(len(header.lines), rows)
    figure = Figure(figsize=(_WIDTH, layout.height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    _draw_header(figure, layout, header)
    _draw_maps(figure, layout, size, mosaic, typical)
    _draw_spectra(figure, layout, typical, typical_sigma)
    if reliability is not None:
        _draw_reliability(figure, layout, reliability)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=_DPI)
    figure.clear()
    return picture.getvalue()


def _draw_header(figure: Figure, layout: _Layout, header: PreviewHeader) -> None:
    def write(text: str, top: float, **style: Any) -> None:
        figure.text(_LEFT / _WIDTH, 1 - top / layout.height, text, va="top", parse_math=False, **style)

    write(header.title, _TOP, fontsize=20, fontweight="bold")
    for position, line in enumerate(header.lines):
        write(line, _TOP + _TITLE + position * _LINE, fontsize=12, color="#222222")
    figure.text(
        1 - _RIGHT / _WIDTH,
        1 - _TOP / layout.height,
        NOTICE,
        ha="right",
        va="top",
        fontsize=12,
        fontweight="bold",
        bbox={"boxstyle": "round,pad=0.4", "facecolor": "#fff3cd", "edgecolor": "#b58900"},
    )


def _draw_maps(
    figure: Figure, layout: _Layout, size: tuple[int, int], mosaic: Mosaic, typical: Sequence[TypicalPixel]
) -> None:
    gap = 0.75
    width = (_WIDTH - _LEFT - _RIGHT - 3 * gap) / 4
    axes = [
        figure.add_axes(layout.box(layout.maps, _LEFT + position * (width + gap), width, _MAP_ROW))
        for position in range(4)
    ]
    ground = maps.Ground(*size)
    reflectance = mosaic.reflectance()
    maps.draw_colour(axes[0], ground, reflectance[[1, 2, 3]], "True colour", shared_stretch=True)
    maps.draw_colour(axes[1], ground, reflectance[[0, 1, 2]], "Near infrared, red, green", shared_stretch=False)
    maps.mark_pixels(axes[0], ground, typical)
    maps.draw_residual(figure, axes[2], ground, mosaic.residual())
    maps.draw_state(axes[3], ground, mosaic)
    axes[0].set_ylabel("km from the upper edge", fontsize=11)


def _draw_spectra(
    figure: Figure, layout: _Layout, typical: Sequence[TypicalPixel], sigma: Sequence[NDArray[np.float64]]
) -> None:
    if not typical:
        middle = 1 - (layout.spectra + _SPECTRA_ROW / 2) / layout.height
        figure.text(0.5, middle, "No valid pixel: no spectrum to show", ha="center", fontsize=14)
        return
    gap = 0.75
    width = (_WIDTH - _LEFT - _RIGHT - (_SPECTRA_COLUMNS - 1) * gap) / _SPECTRA_COLUMNS
    for position, (one, one_sigma) in enumerate(zip(typical, sigma, strict=True)):
        row, column = divmod(position, _SPECTRA_COLUMNS)
        box = layout.box(
            layout.spectra + row * (_SPECTRA_ROW + _GAP), _LEFT + column * (width + gap), width, _SPECTRA_ROW
        )
        axes = figure.add_axes(box)
        spectra.draw_spectrum(axes, position + 1, one, one_sigma)
        if column == 0:
            axes.set_ylabel("surface reflectance", fontsize=11)
    spectra.draw_legend(figure, 1 - (layout.spectra - 0.62) / layout.height)


def _draw_reliability(figure: Figure, layout: _Layout, reliability: Reliability) -> None:
    gap = 1.0
    width = (_WIDTH - _LEFT - _RIGHT - gap) / 2
    left, right = (
        figure.add_axes(layout.box(layout.reliability, _LEFT + position * (width + gap), width, _RELIABILITY_ROW))
        for position in range(2)
    )
    spectra.draw_sigma(left, reliability)
    spectra.draw_measured_fraction(right, reliability)
