"""The panels of a picture: one scale for all, and the marked pixel with its spectrum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from model.bands import BANDS_BY_RESOLUTION, SOURCE_BAND_NAMES
from model.evaluation.figures import Layer, Panel, PixelSpectrum
from model.evaluation.gallery.layers import RELATIVE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from model.duality import Multispectral
    from model.evaluation.gallery.case import Answer, Plan

_BORDER: Final[int] = 12
"""Pixels along the border in which none is marked."""

_TOPS: Final[dict[str, float]] = {"out_of_domain_score": 2.0, "consistency_chi2": 3.0}
"""Where the colours of layers with a natural limit end: that limit lies inside."""

_UNITS: Final[dict[str, str]] = {
    "out_of_domain_score": "flagged above 1",
    "consistency_chi2": "reduced chi-square, about 1 is noise",
    "scale": "factor on sigma",
    "learned_share": "share of the estimate",
    "attribution_B09": "share of the estimate",
}


def pixel_of(plan: Plan, quantile: float = 0.5) -> tuple[int, int]:
    """The failing pixel whose error stands at this quantile of all those not at the border."""
    error = np.nanmean((plan.after.spectra[:, plan.hit] - plan.expected) ** 2, axis=0)
    inner = np.zeros_like(plan.hit)
    inner[_BORDER:-_BORDER, _BORDER:-_BORDER] = True
    kept = inner[plan.hit]
    if kept.any():
        error = np.where(kept, error, np.inf)
    count = int(np.isfinite(error).sum())
    which = int(np.argsort(error, kind="stable")[int(quantile * (count - 1))])
    row, column = np.argwhere(plan.hit)[which]
    return int(row), int(column)


def source_bands(msi: Multispectral, row: int, column: int) -> NDArray[np.float64]:
    """(12,) source bands of the pixel and its parents."""
    bands = np.full(len(SOURCE_BAND_NAMES), np.nan)
    for resolution, values in ((10, msi.b10), (20, msi.b20), (60, msi.b60)):
        ratio = resolution // 10
        for name, plane in zip(BANDS_BY_RESOLUTION[resolution], values, strict=True):
            bands[SOURCE_BAND_NAMES.index(name)] = plane[row // ratio, column // ratio]
    return bands


class View(NamedTuple):
    """A part of a scene as its panels show it."""

    window: tuple[slice, slice]
    layers: tuple[str, ...]
    white: float
    """Reflectance of the brightest colour."""
    tops: dict[str, float]
    """Layer -> value of the last colour, the same in every panel."""


def view_of(answers: Sequence[Answer], layers: Sequence[str], window: tuple[slice, slice] | None = None) -> View:
    """One scale for all panels of a picture."""
    chosen = window or (slice(None), slice(None))
    brightest = [float(np.nanpercentile(a.msi.b10[:3], 99.0)) for a in answers]
    white = float(np.sqrt(brightest[0] * max(brightest)))  # between: neither too dark untouched nor all white changed
    tops = {n: _TOPS.get(n) or max(float(np.nanpercentile(a.layers[n][chosen], 98)) for a in answers) for n in layers}
    return View(chosen, tuple(layers), white, tops)


def _unit(name: str) -> str:
    return "fraction of the mean" if name.endswith(RELATIVE) else _UNITS.get(name, "reflectance")


def panel_of(answer: Answer, view: View, marked: tuple[int, int], title: str, caption: str,
           truth: NDArray[np.floating] | None = None) -> Panel:  # fmt: skip
    """What a view shows of an estimate, with a pixel marked whose truth (172,) may be known."""
    row, column = marked
    top, left = view.window[0].start or 0, view.window[1].start or 0
    rgb = np.clip(answer.msi.b10[[2, 1, 0]][:, view.window[0], view.window[1]] / view.white, 0, 1) ** 0.6
    low = {"scale": 1.0}
    layers = [
        Layer(name, answer.layers[name][view.window], _unit(name), low.get(name, 0.0), view.tops[name])
        for name in view.layers
    ]
    spectrum = PixelSpectrum(
        answer.spectra[:, row, column], answer.sigma[:, row, column], source_bands(answer.msi, row, column), truth
    )
    return Panel(title, rgb.transpose(1, 2, 0), layers, spectrum, (row - top, column - left), caption)
