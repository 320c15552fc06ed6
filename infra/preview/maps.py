"""The page's pictures seen from above."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from infra.preview.colour import scene_limits
from infra.preview.mosaic import state_colours
from infra.preview.quality import FLAGS, NODATA_COLOUR, TRUSTED_COLOUR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from infra.preview.mosaic import Mosaic
    from infra.preview.typical import TypicalPixel

_KM_PER_PIXEL: Final = 0.01
_NARROWEST: Final = 0.12
"""Smallest reflectance range that a picture's contrast is spread over."""
_SMALLEST_RESIDUAL_SCALE: Final = 0.005


@dataclass(frozen=True)
class Ground:
    """The product's size on the ground."""

    width: int
    """10 m pixels."""
    height: int
    """10 m pixels."""

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top in km from the upper left corner."""
        return 0.0, self.width * _KM_PER_PIXEL, self.height * _KM_PER_PIXEL, 0.0

    def middle_of(self, position: int) -> tuple[float, float]:
        """Return the middle of a pixel, km right of and below the upper left corner."""
        row, column = divmod(position, self.width)
        return (column + 0.5) * _KM_PER_PIXEL, (row + 0.5) * _KM_PER_PIXEL


def draw_colour(
    axes: Axes, ground: Ground, reflectance: NDArray[np.float32], title: str, *, shared_stretch: bool
) -> None:
    """Draw three planes as red, green and blue.

    Args:
        axes: Where.
        ground: The product's size.
        reflectance: (3, H, W) float32, nan = no data.
        title: What the picture is.
        shared_stretch: One contrast for all planes, which keeps hues true; else one for each.
    """
    limits = (
        [scene_limits(reflectance, narrowest=_NARROWEST)] * 3
        if shared_stretch
        else [scene_limits(plane, narrowest=_NARROWEST) for plane in reflectance]
    )
    shown = np.stack(
        [(plane - low) / (high - low) for plane, (low, high) in zip(reflectance, limits, strict=True)], axis=-1
    )
    known = np.isfinite(shown).all(axis=-1)
    shown = np.clip(np.where(known[..., None], shown, 0.0), 0.0, 1.0) ** (1 / 1.4)
    picture = np.concatenate([shown, known[..., None]], axis=-1)
    _show(axes, ground, picture)
    low, high = (round(limit, 2) + 0.0 for limit in limits[0])  # + 0.0 turns a negative zero into zero
    detail = f"reflectance {low:.2f} to {high:.2f}" if shared_stretch else "each with its own contrast"
    _title(axes, title, detail)


def mark_pixels(axes: Axes, ground: Ground, typical: Sequence[TypicalPixel]) -> None:
    """Number the pixels whose spectra are shown."""
    _, right, bottom, _ = ground.extent
    for number, one in enumerate(typical, start=1):
        x, y = ground.middle_of(int(one.pixel.position[0]))
        axes.plot(x, y, marker="s", markersize=5, markerfacecolor="none", markeredgecolor="white", markeredgewidth=1.5)
        axes.annotate(
            str(number),
            (x, y),
            xytext=(11 if x < 0.9 * right else -11, 11 if y > 0.1 * bottom else -11),
            textcoords="offset points",
            fontsize=10,
            fontweight="bold",
            color="white",
            ha="center",
            va="center",
            bbox={"boxstyle": "circle,pad=0.25", "facecolor": one.colour, "edgecolor": "white", "linewidth": 1},
        )


def draw_residual(figure: Figure, axes: Axes, below: Axes, ground: Ground, residual: NDArray[np.float32]) -> None:
    """Draw the RMS over the source bands of source minus re-simulation, and its scale below.

    Args:
        figure: The page.
        axes: Where.
        below: Where the colour scale goes.
        ground: The product's size.
        residual: (H, W) float32 reflectance, nan = not known.
    """
    known = residual[np.isfinite(residual)]
    top = max(_SMALLEST_RESIDUAL_SCALE, float(np.percentile(known, 99.0)) if known.size else 0.0)
    picture = _show(axes, ground, residual, cmap="cividis", vmin=0.0, vmax=top)
    _title(axes, "Residual", "source bands minus the product as the sensor sees it")
    bar = figure.colorbar(picture, cax=below, orientation="horizontal", extend="max")
    bar.set_label("RMS over the bands, reflectance", fontsize=10)
    bar.ax.tick_params(labelsize=9)
    bar.ax.locator_params(nbins=5)


def state_key(mosaic: Mosaic, ground: Ground) -> list[tuple[str, str]]:
    """Return colour and meaning of everything that `draw_state` may draw of this scene."""
    key = [(TRUSTED_COLOUR, "no flag")]
    if mosaic.valid_pixels < ground.width * ground.height:
        key.append((NODATA_COLOUR, "no data"))
    shares = zip(FLAGS, mosaic.flag_shares(), strict=True)
    return key + [(flag.colour, f"{flag.label} {_percent(share)}") for flag, share in shares if share > 0]


def draw_state(axes: Axes, below: Axes, ground: Ground, mosaic: Mosaic) -> None:
    """Draw which pixels are valid, trusted, or flagged and why, and the colours' meaning below."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    colours = state_colours()
    palette = ListedColormap(list(colours))
    _show(axes, ground, mosaic.state(), cmap=palette, vmin=-1.5, vmax=len(colours) - 1.5, interpolation="nearest")
    valid = mosaic.valid_pixels / (ground.width * ground.height)
    _title(axes, "Validity", f"{_percent(valid)} of the pixels have data")
    key = [Patch(facecolor=colour, edgecolor="#888888", label=label) for colour, label in state_key(mosaic, ground)]
    below.legend(handles=key, loc="upper left", fontsize=9.5, frameon=False, borderpad=0, borderaxespad=0)
    below.set_axis_off()


def _show(axes: Axes, ground: Ground, picture: NDArray[Any], **style: Any) -> Any:
    axes.set_facecolor(NODATA_COLOUR)
    shown = axes.imshow(picture, extent=ground.extent, aspect="equal", **style)
    axes.set_anchor("NW")
    axes.tick_params(labelsize=9)
    longest = max(ground.width, ground.height)
    axes.locator_params(axis="x", nbins=max(1, round(5 * ground.width / longest)))
    axes.locator_params(axis="y", nbins=max(1, round(5 * ground.height / longest)))
    axes.set_xlabel("km", fontsize=10)
    return shown


def _title(axes: Axes, title: str, detail: str) -> None:
    axes.set_title(f"{title}\n", fontsize=13, fontweight="bold", loc="left", pad=4)
    axes.text(0, 1.012, detail, transform=axes.transAxes, fontsize=10, color="#444444", va="bottom")


def _percent(share: float) -> str:
    """Write a share so that little is told from nothing, and nearly all from all."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{share:.1%}".replace("%", " %")
