"""Places where an estimate needs reading with care: picture, explanation layers and spectrum side by side."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from model.bands import CENTRE_NM
from model.evaluation.figures.spectra import draw_spectrum, spectrum_handles
from model.evaluation.figures.style import BLACK, new_figure, plain, save, short

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from model.evaluation.figures.spectra import PixelSpectrum


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
    axes.set_title(plain(short(title, 30)), fontsize=9.5, pad=4)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("#d9d9d9")
    return axes, figure.add_axes(box(left + 0.1, top + _MAP + 0.08, _MAP - 0.2, 0.1))


def _mark(axes: Axes, marked: tuple[int, int], size: tuple[int, int]) -> None:
    """A square around the pixel, light on dark, that leaves the pixel itself open."""
    row, column = marked
    points = max(7.0, 1.6 * 72 * _MAP / max(size))
    for colour, width in ((BLACK, 3.2), ("white", 1.4)):
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
    bar.set_label(plain(layer.unit), fontsize=8.5, labelpad=1)


def _draw_panel(figure: Figure, panel: Panel, top: float) -> None:
    """One row of the gallery, from `top` inches below the figure's upper edge."""
    height_in = figure.get_figheight()
    size = panel.rgb.shape[:2]
    figure.text(_MARGIN / _GALLERY_WIDTH, 1 - top / height_in, plain(panel.title), fontsize=12, fontweight="bold",
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
    draw_spectrum(axes, CENTRE_NM, panel.spectrum)
    axes.set_ylabel("reflectance", fontsize=9.5, labelpad=2)
    axes.set_title("spectrum of the marked pixel", fontsize=9.5, pad=4)


def _plain_lines(text: str) -> str:
    """Text of several lines as the font can write it."""
    return "\n".join(map(plain, text.split("\n")))


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
    if not panels:
        raise ValueError("no panel was given; one place at least makes a figure")
    for panel in panels:
        _check(panel)
    heights = [0.26 + _caption_height(panel) + 0.34 + _MAP + 0.75 for panel in panels]
    figure = new_figure(0.55 + sum(heights), _GALLERY_WIDTH, layout=None)
    handles = spectrum_handles(truth=any(panel.spectrum.truth is not None for panel in panels))
    figure.legend(handles=handles, loc="upper right", ncols=len(handles), fontsize=9, frameon=False)
    top = 0.45
    for panel, height in zip(panels, heights, strict=True):
        _draw_panel(figure, panel, top)
        top += height
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)
    return path


def _check(panel: Panel) -> None:
    """Refuse a panel whose parts do not fit together."""
    size = panel.rgb.shape[:2]
    for layer in panel.layers:
        if np.shape(layer[1]) != size:
            raise ValueError(f"{panel.title}: layer {layer[0]} is {np.shape(layer[1])}, the picture {size}")
    if not all(0 <= at < extent for at, extent in zip(panel.marked, size, strict=True)):
        raise ValueError(f"{panel.title}: the marked pixel {panel.marked} lies outside the picture {size}")
