"""A gallery of failures: scenes that go wrong in a known way, and what the product's own layers say of it.

Every case starts from a real Sentinel-2 patch (or a simulated scene of known truth), changes one thing, and compares
the layers of the new estimate with those of the untouched patch. Mixtures are linear: a share ``a`` of something with
bands ``q`` in front of ground ``y`` gives ``(1 - a_r) y + a_r q`` at each band's own resolution ``r``, with ``a_r`` the
share seen through the coarse band's point-spread function (Adams, Smith & Johnson, "Spectral mixture modeling", JGR
91(B8), 1986; the ground's texture under the edge of a coarse pixel is neglected).

A failure is *flagged* when most of its pixels carry a quality bit that they did not carry before (out of domain or low
consistency), *visible* when some layer that states doubt leaves the untouched patch's normal range on most of them,
and *not exposed* otherwise. Verdicts are worked out, never written by hand.

``python -m model.evaluation.gallery --data DIR --out docs/images`` draws every picture and rewrites the numbers in
the chapter on reading explanations.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import torch

from model.bands import BANDS_BY_RESOLUTION, CENTRE_NM, SOURCE_BAND_NAMES
from model.duality import Multispectral, load_model
from model.errors import InvalidImage
from model.evaluation.domain import FOREIGN, foreign_spectra
from model.evaluation.figures import INTERVAL_SIGMAS, Layer, Panel, PixelSpectrum, failure_figure
from model.evaluation.simulation import simulate_scene
from model.evaluation.wald import read_sentinel2
from model.fusion import down
from model.inference import Halo
from model.layers import NODATA
from model.spectra import read_spectra
from model.subspace import REFLECTANCE_STEP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from model.duality import DualityModel, Estimate
    from model.evaluation.simulation import SimulatedScene

FIELDS: Final[str] = "S2A_MSIL2A_20170613T101031_87_48"
PASTURE: Final[str] = "S2A_MSIL2A_20170617T113321_4_55"
LAKE: Final[str] = "S2B_MSIL2A_20170924T93020_69_24"
SNOW: Final[str] = "S2B_MSIL2A_20180204T94161_57_38"
PLATFORM: Final[str] = "sentinel-2a"

MISSED_OFFSET: Final[float] = 0.1
"""Reflectance by which a product of baseline 04.00 or later is too bright when its offset of -1000 DN is not applied
(ESA, Sentinel-2 Products Specification Document, S2-PDGS-TAS-DI-PSD, ``BOA_ADD_OFFSET``)."""

CLOUD: Final[NDArray[np.float64]] = np.array([0.72, 0.72, 0.71, 0.70, 0.70, 0.70, 0.69, 0.69, 0.69, 0.66, 0.52, 0.38])
"""(12,) reflectance of an opaque cloud: white, and lower in B11 and B12 where droplets and ice absorb (Nakajima & King,
"Determination of the optical thickness and effective particle radius of clouds", J. Atmos. Sci. 47, 1990)."""

LARGEST_OPACITY: Final[float] = 0.6
SWAPS: Final[tuple[tuple[str, str], ...]] = (("B02", "B04"), ("B05", "B06"), ("B11", "B12"))
"""Pairs that a provider may deliver in each other's place: colour order, neighbours, the two of the infrared."""

SHOWN_MATERIALS: Final[tuple[str, ...]] = ("blue_plastic", "hot_spot", "gypsum")
CONTROL: Final[str] = "control"
BRIGHT_FIELD: Final[tuple[int, int]] = (36, 104)
"""A pixel of bare soil in `FIELDS`, put elsewhere as a target that is small and bright but not foreign."""

TARGET: Final[int] = 6
"""Edge of an inserted target, 10 m pixels."""

SMALL_CONTRAST: Final[float] = 0.08
"""Reflectance by which a small object outshines the median of its 70 m surroundings, mean of the 10 m bands."""

WATER_B08: Final[float] = 0.05
"""Near-infrared reflectance below which a pixel of the lake patch is water; its shadows are brighter."""

SHORE: Final[int] = 4
"""Water up to this many 10 m pixels from land: within the reach of a 60 m pixel that holds both."""

CLEAR: Final[int] = 2
"""Water nearer to land than this is left out: there the 10 and 20 m bands see land too."""

OPEN: Final[int] = 9
"""Water at least this far from land: no 60 m pixel reaches from here to the shore."""

RELATIVE: Final[str] = " / mean"
"""After the name of a layer divided by the mean of the pixel's spectrum."""

_GROWING: Final[tuple[str, ...]] = ("sigma_", "stage_change_", "fusion_correction")
"""Layers that grow with brightness: their rise alone says nothing but that the ground is brighter."""

DARKEST: Final[float] = 0.005
"""Least mean reflectance that a sigma is divided by."""

MOST: Final[float] = 0.5
"""Share of a failure's pixels that counts as most of them."""

RISE: Final[float] = 0.25
"""By how much that share must exceed what it was before: what was doubtful before exposes nothing."""

NORMAL_PERCENT: Final[tuple[float, float]] = (5.0, 95.0)

_WHOLE: Final = Halo(0, 0, 0, 0)


# ---- what the layers say --------------------------------------------------------------------------------------------


def decoded(model: DualityModel, estimate: Estimate) -> dict[str, NDArray[np.float32]]:
    """Every layer of an estimate at 10 m, decoded.

    Args:
        model: which made it.
        estimate: of a whole window.

    Returns:
        Layer name -> (h, w) float32, nan = nodata: explanation, uncertainty, what grows with brightness also over the
        mean of the pixel's spectrum (`RELATIVE` after its name), and the magnitudes of the residuals (reflectance),
        coarse ones repeated.
    """
    found: dict[str, NDArray[np.float32]] = {}
    for layers, stored in (
        (model.explanation_layers, estimate.explanation),
        (model.uncertainty_layers, estimate.uncertainty),
    ):
        for layer, values in zip(layers, stored, strict=True):
            found[layer.name] = _values(values, layer.scale)
    mean = np.maximum(np.nanmean(_values(estimate.hsi, REFLECTANCE_STEP), axis=0), np.float32(DARKEST))
    found |= {name + RELATIVE: found[name] / mean for name in tuple(found) if name.startswith(_GROWING)}
    for resolution, values in ((10, estimate.residual_10), (20, estimate.residual_20), (60, estimate.residual_60)):
        ratio = resolution // 10
        for layer, plane in zip(model.residual_layers[resolution], values, strict=True):
            fine = np.abs(_values(plane, layer.scale)).repeat(ratio, 0).repeat(ratio, 1)
            found[layer.name] = fine
    return found


def _values(stored: NDArray[np.int16], scale: float) -> NDArray[np.float32]:
    return np.where(stored == NODATA, np.float32(np.nan), stored * np.float32(scale)).astype(np.float32)


def states_doubt(name: str) -> bool:
    """Whether a high value of the layer means less trust.

    Attributions, gains and measured fractions only describe; what grows with brightness counts relative to the
    pixel's mean.
    """
    if name.endswith(RELATIVE):
        return True
    if name.startswith("residual_"):
        return name != "residual_B01"
    return name in {"out_of_domain_score", "consistency_chi2", "detail", "learned_share", "scale"}


class Exposure(NamedTuple):
    """What one layer says of a failure."""

    layer: str
    before: float
    """Median over the same pixels of the untouched patch, or over the ground that the failure is compared with."""
    after: float
    """Median over the pixels that fail."""
    beyond: float
    """Share of the pixels that fail, 0-1, above the 95th percentile of the normal ground (for layers that only
    describe: outside the 5th to 95th)."""
    beyond_before: float
    """The same share before."""


def exposures(
    after: Mapping[str, NDArray[np.float32]],
    hit: NDArray[np.bool_],
    before: Mapping[str, NDArray[np.float32]],
    twin: NDArray[np.bool_],
    normal: Mapping[str, NDArray[np.float32]],
) -> tuple[Exposure, ...]:
    """How far every layer leaves its normal range.

    Args:
        after: layers (h, w) of the estimate that fails.
        hit: (h, w) the pixels that fail.
        before: layers (h, w) of what it is compared with.
        twin: (h, w) the pixels of `before` that its medians are taken over.
        normal: layers of the pixels that make the normal range, any shape.

    Returns:
        One entry per layer, the strongest rise of the share first.
    """
    found = []
    for name, values in after.items():
        low, high = np.nanpercentile(normal[name], NORMAL_PERCENT)
        if states_doubt(name):
            low = -np.inf
        new, old = values[hit], before[name][twin]

        def beyond(part: NDArray[np.float32], low: float = low, high: float = high) -> float:
            known = part[np.isfinite(part)]
            return float(((known < low) | (known > high)).mean()) if known.size else 0.0

        found.append(Exposure(name, float(np.nanmedian(old)), float(np.nanmedian(new)), beyond(new), beyond(old)))
    return tuple(sorted(found, key=lambda e: (-round(e.beyond - e.beyond_before, 1), -_leap(e))))


def _leap(one: Exposure) -> float:
    """By which factor the median rose: orders layers whose share rose alike."""
    return abs(one.after) / max(abs(one.before), 1e-4)


@dataclass(frozen=True)
class Case:
    """One failure with everything measured on it."""

    name: str
    """File-safe, ``cloud-edge``."""
    title: str
    see: str
    """What a reader sees in the layers, and which."""
    msi: Multispectral
    """What the model was given."""
    hit: NDArray[np.bool_]
    """(h, w) pixels that fail."""
    estimate: Estimate
    exposures: tuple[Exposure, ...]
    """Every layer, the most telling first."""
    flagged: float
    """Share of the pixels that fail with quality bit 6 or 7 (out of domain or low consistency), 0-1."""
    flagged_before: float
    """The same of the same pixels untouched, or of the ground compared with."""
    rmse: float
    """Of the spectra that fail against what they should be, reflectance."""
    covered: float
    """Share of those values, 0-1, inside the stated 90 % interval."""
    reference: str
    """What they should be: the truth, or what stands for it."""
    panels: tuple[Panel, ...] = ()
    """What its picture shows, other cases of the same picture included."""
    picture: str = ""
    """File name of that picture; empty where it was measured only."""

    @property
    def telling(self) -> tuple[Exposure, ...]:
        """The layers stating doubt that leave their normal range on most of the pixels, strongest first."""
        return tuple(
            e
            for e in self.exposures
            if states_doubt(e.layer) and e.beyond >= MOST and e.beyond >= e.beyond_before + RISE
        )

    @property
    def verdict(self) -> str:
        """``flagged``, ``visible`` or ``not exposed``, see the module."""
        if self.flagged >= MOST and self.flagged >= self.flagged_before + RISE:
            return "flagged"
        return "visible" if self.telling else "not exposed"


# ---- changing a patch -----------------------------------------------------------------------------------------------


def blend(msi: Multispectral, share: NDArray[np.floating], bands: NDArray[np.floating]) -> Multispectral:
    """Put something in front of a patch, each band at its own resolution.

    Args:
        msi: the patch.
        share: (h, w) part of each 10 m pixel it covers, 0-1.
        bands: (12,) its reflectance in the source bands.

    Returns:
        The patch with it.
    """
    fine = torch.as_tensor(np.asarray(share, np.float32))

    def mixed(source: NDArray[np.float32], resolution: int) -> NDArray[np.float32]:
        ratio = resolution // 10
        seen = (fine if ratio == 1 else down(fine[None], ratio)[0]).clamp(0.0, 1.0).numpy()
        rows = [SOURCE_BAND_NAMES.index(name) for name in BANDS_BY_RESOLUTION[resolution]]
        colour = np.asarray(bands, np.float32)[rows][:, None, None]
        return np.asarray((1 - seen) * source + seen * colour, np.float32)

    return Multispectral(mixed(msi.b10, 10), mixed(msi.b20, 20), mixed(msi.b60, 60), msi.platform)


def cloud_opacity(height: int, width: int, seed: int = 0) -> NDArray[np.float64]:
    """(h, w) opacity 0 to `LARGEST_OPACITY` of a cloud from the right with a soft, wavy edge about 400 m wide."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:height, :width]
    edge = np.full((height, 1), 0.62 * width)
    for wave in range(1, 5):
        edge = edge + width * 0.07 / wave * np.sin(2 * np.pi * (wave * row[:, :1] / height + rng.random()))
    return np.asarray(LARGEST_OPACITY / (1 + np.exp(-(column - edge) / 8.0)))


def with_offset(msi: Multispectral, offset: float = MISSED_OFFSET) -> Multispectral:
    """Every band too bright by the same reflectance."""
    step = np.float32(offset)
    return Multispectral(msi.b10 + step, msi.b20 + step, msi.b60 + step, msi.platform)


def with_swap(msi: Multispectral, first: str, second: str) -> Multispectral:
    """Two bands of one resolution in each other's place.

    Raises:
        InvalidImage: if the bands have different resolutions or are unknown.
    """
    parts = {10: msi.b10.copy(), 20: msi.b20.copy(), 60: msi.b60.copy()}
    for resolution, names in BANDS_BY_RESOLUTION.items():
        if first in names and second in names:
            rows = [names.index(first), names.index(second)]
            parts[resolution][rows] = parts[resolution][rows[::-1]]
            return Multispectral(parts[10], parts[20], parts[60], msi.platform)
    raise InvalidImage(f"{first} and {second} cannot change places: they must be two bands of one resolution")


def target_share(height: int, width: int, row: int, column: int) -> NDArray[np.float64]:
    """(h, w) 1 on a square of `TARGET` pixels, else 0; off the 60 m grid on purpose."""
    share = np.zeros((height, width))
    share[row : row + TARGET, column : column + TARGET] = 1.0
    return share


def far_from(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """(h, w) pixels that no pixel of the mask comes within `pixels` of, along rows, columns and diagonals."""
    spread = torch.nn.functional.max_pool2d(
        torch.as_tensor(mask.astype(np.float32))[None], 2 * pixels + 1, stride=1, padding=pixels
    )[0]
    return np.asarray(spread.numpy() == 0)


def small_objects(bands10: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(h, w) pixels of 10 m bands (4, h, w) that outshine their 70 m surroundings by `SMALL_CONTRAST`."""
    mean = np.pad(bands10.mean(axis=0), 3, mode="reflect")
    around = np.lib.stride_tricks.sliding_window_view(mean, (7, 7))
    return np.asarray(mean[3:-3, 3:-3] - np.median(around, axis=(2, 3)) > SMALL_CONTRAST)


# ---- measuring and drawing one case ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Answer:
    """An estimate with its decoded layers."""

    msi: Multispectral
    estimate: Estimate
    layers: dict[str, NDArray[np.float32]]
    spectra: NDArray[np.float32]
    """(172, h, w) reflectance, nan = nodata."""
    sigma: NDArray[np.float32]

    @property
    def flags(self) -> NDArray[np.bool_]:
        """Pixels with quality bit 6 or 7."""
        return self.estimate.out_of_domain | self.estimate.low_consistency

    def within(self, mask: NDArray[np.bool_]) -> dict[str, NDArray[np.float32]]:
        """The layers of some pixels."""
        return {name: values[mask] for name, values in self.layers.items()}


def _answer(model: DualityModel, msi: Multispectral) -> _Answer:
    estimate = model.estimate(msi, _WHOLE)
    return _Answer(
        msi,
        estimate,
        decoded(model, estimate),
        _values(estimate.hsi, REFLECTANCE_STEP),
        model.channel_sigma(estimate.uncertainty),
    )


@dataclass(frozen=True)
class _Plan:
    """What is compared with what."""

    name: str
    title: str
    see: str
    after: _Answer
    hit: NDArray[np.bool_]
    before: _Answer
    twin: NDArray[np.bool_]
    normal: Mapping[str, NDArray[np.float32]]
    expected: NDArray[np.floating]
    """(172, n) what the n pixels of `hit` should be, nan where unknown."""
    reference: str


def _measure(plan: _Plan) -> Case:
    found, sigma = plan.after.spectra[:, plan.hit], plan.after.sigma[:, plan.hit]
    error = found - plan.expected
    known = np.isfinite(error)
    return Case(
        name=plan.name,
        title=plan.title,
        see=plan.see,
        msi=plan.after.msi,
        hit=plan.hit,
        estimate=plan.after.estimate,
        exposures=exposures(plan.after.layers, plan.hit, plan.before.layers, plan.twin, plan.normal),
        flagged=float(plan.after.flags[plan.hit].mean()),
        flagged_before=float(plan.before.flags[plan.twin].mean()),
        rmse=float(np.sqrt((error[known] ** 2).mean())),
        covered=float((np.abs(error) <= INTERVAL_SIGMAS * sigma)[known].mean()),
        reference=plan.reference,
    )


def _pixel(plan: _Plan, quantile: float = 0.5) -> tuple[int, int]:
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


_BORDER: Final[int] = 12
"""Pixels along the border in which none is marked."""


def _source_bands(msi: Multispectral, row: int, column: int) -> NDArray[np.float64]:
    """(12,) source bands of the pixel and its parents."""
    bands = np.full(len(SOURCE_BAND_NAMES), np.nan)
    for resolution, values in ((10, msi.b10), (20, msi.b20), (60, msi.b60)):
        ratio = resolution // 10
        for name, plane in zip(BANDS_BY_RESOLUTION[resolution], values, strict=True):
            bands[SOURCE_BAND_NAMES.index(name)] = plane[row // ratio, column // ratio]
    return bands


class _View(NamedTuple):
    """A part of a scene as its panels show it."""

    window: tuple[slice, slice]
    layers: tuple[str, ...]
    white: float
    """Reflectance of the brightest colour."""
    tops: dict[str, float]
    """Layer -> value of the last colour, the same in every panel."""


def _view(answers: Sequence[_Answer], layers: Sequence[str], window: tuple[slice, slice] | None = None) -> _View:
    """One scale for all panels of a picture."""
    chosen = window or (slice(None), slice(None))
    brightest = [float(np.nanpercentile(a.msi.b10[:3], 99.0)) for a in answers]
    white = float(np.sqrt(brightest[0] * max(brightest)))  # between: neither too dark untouched nor all white changed
    tops = {n: _TOPS.get(n) or max(float(np.nanpercentile(a.layers[n][chosen], 98)) for a in answers) for n in layers}
    return _View(chosen, tuple(layers), white, tops)


def _unit(name: str) -> str:
    return "fraction of the mean" if name.endswith(RELATIVE) else _UNITS.get(name, "reflectance")


_TOPS: Final[dict[str, float]] = {"out_of_domain_score": 2.0, "consistency_chi2": 3.0}
"""Where the colours of layers with a natural limit end: that limit lies inside."""

_UNITS: Final[dict[str, str]] = {
    "out_of_domain_score": "flagged above 1",
    "consistency_chi2": "reduced chi-square, about 1 is noise",
    "scale": "factor on sigma",
    "learned_share": "share of the estimate",
    "attribution_B09": "share of the estimate",
}


def _panel(answer: _Answer, view: _View, marked: tuple[int, int], title: str, caption: str,
           truth: NDArray[np.floating] | None = None) -> Panel:  # fmt: skip
    row, column = marked
    top, left = view.window[0].start or 0, view.window[1].start or 0
    rgb = np.clip(answer.msi.b10[[2, 1, 0]][:, view.window[0], view.window[1]] / view.white, 0, 1) ** 0.6
    low = {"scale": 1.0}
    layers = [
        Layer(name, answer.layers[name][view.window], _unit(name), low.get(name, 0.0), view.tops[name])
        for name in view.layers
    ]
    spectrum = PixelSpectrum(
        answer.spectra[:, row, column], answer.sigma[:, row, column], _source_bands(answer.msi, row, column), truth
    )
    return Panel(title, rgb.transpose(1, 2, 0), layers, spectrum, (row - top, column - left), caption)


def _shown(value: float) -> str:
    """A layer's value with as many digits as it deserves."""
    digits = 2 if abs(value) >= 1 else 3 if abs(value) >= 0.1 else 4
    return f"{value:.{digits}f}".replace("-", "−")


def _percent(value: float) -> str:
    digits = 1 if 0 < value < 0.1 or 0.9 < value < 1 else 0
    return f"{100 * value:.{digits}f} %"


def measured_sentence(case: Case) -> str:
    """What was measured on a case, in one or two sentences."""
    text = (
        f"Verdict: {case.verdict}. Flagged pixels {_percent(case.flagged_before)} → {_percent(case.flagged)}; "
        f"RMSE {case.rmse:.3f} against {case.reference}, of which the 90 % interval holds {_percent(case.covered)}."
    )
    told = case.telling[:2]
    if told:
        text += " Most telling: " + "; ".join(f"{e.layer} {_shown(e.before)} → {_shown(e.after)}" for e in told) + "."
    return text


def _crop(row: int, column: int, shape: tuple[int, int], size: int = 48) -> tuple[slice, slice]:
    """A square window around a place, inside the scene, on the 60 m grid."""
    starts = [
        min(max(0, at - size // 2), extent - size) // 6 * 6 for at, extent in zip((row, column), shape, strict=True)
    ]
    return slice(starts[0], starts[0] + size), slice(starts[1], starts[1] + size)


# ---- the cases ------------------------------------------------------------------------------------------------------


class _Gallery:
    """Estimates of the untouched patches, made once."""

    def __init__(self, model: DualityModel, scenes: Mapping[str, Multispectral], folder: Path | None) -> None:
        self.model, self.folder = model, folder
        missing = {FIELDS, PASTURE, LAKE} - set(scenes)
        if missing:
            raise InvalidImage(f"the gallery needs the patches {sorted(missing)}; given were {sorted(scenes)}")
        self.scenes = scenes
        self._answers: dict[str, _Answer] = {}
        self._usual: dict[str, NDArray[np.float32]] = {}

    def untouched(self, name: str) -> _Answer:
        if name not in self._answers:
            self._answers[name] = _answer(self.model, self.scenes[name])
        return self._answers[name]

    def usual(self) -> dict[str, NDArray[np.float32]]:
        """The layers of all patches without snow: what is left to compare with where a whole scene fails."""
        if not self._usual:
            answers = [self.untouched(name) for name in self.scenes if name != SNOW]
            self._usual = {n: np.concatenate([a.layers[n].ravel() for a in answers]) for n in answers[0].layers}
        return self._usual

    def changed(self, patch: str, msi: Multispectral, hit: NDArray[np.bool_], **texts: str) -> _Plan:
        """A patch that was changed, against the same pixels untouched."""
        before = self.untouched(patch)
        return _Plan(
            after=_answer(self.model, msi), hit=hit, before=before, twin=hit,
            normal=self.usual() if hit.all() else before.layers,
            expected=before.spectra[:, hit], reference="the estimate of the untouched patch", **texts,
        )  # fmt: skip

    def draw(self, stem: str, cases: Sequence[Case], panels: Sequence[Panel]) -> list[Case]:
        picture = f"failure-{stem}.png"
        if self.folder is not None:
            failure_figure(panels, self.folder / picture)
        return [replace(case, panels=tuple(panels), picture=picture) for case in cases]

    # Each of the following makes one picture.

    def cloud(self) -> list[Case]:
        before = self.untouched(PASTURE)
        opacity = cloud_opacity(*before.msi.b10.shape[1:])
        hit = (opacity > 0.1) & (opacity < 0.5)
        plan = self.changed(
            PASTURE, blend(before.msi, opacity, CLOUD), hit,
            name="cloud-edge", title="The soft edge of a cloud",
            see="at most a seam along the cloud's edge that cuts across the fields",
        )  # fmt: skip
        case = _measure(plan)
        view = _view((before, plan.after), ("out_of_domain_score", "stage_change_1", "sigma_swir2" + RELATIVE))
        at = _nearest(opacity, 0.3)
        return self.draw("cloud-edge", [case], [
            _panel(before, view, at, "Untouched pasture", "The patch as it was delivered."),
            _panel(plan.after, view, at, f"{case.title}: opacity 0 to {LARGEST_OPACITY:.1f}, "
                   "mixed into every band at its own resolution",
                   "The spectra look like those of brighter ground. "
                   f"Measured where the opacity is 0.1 to 0.5, the marked pixel at 0.3. {measured_sentence(case)}"),
        ])  # fmt: skip

    def small(self, scene: SimulatedScene) -> list[Case]:
        answer = _answer(self.model, scene.msi)
        hit = small_objects(scene.msi.b10)
        rest = far_from(hit, 3)
        plan = _Plan(
            name="small-objects", title="Aircraft and roofs smaller than a coarse pixel",
            see="the objects' own shape, a pixel or two wider; the intervals widen there and mostly hold",
            after=answer, hit=hit, before=answer, twin=rest, normal=answer.within(rest),
            expected=scene.truth[:, hit], reference="the truth",
        )  # fmt: skip
        case = _measure(plan)
        elsewhere = float(np.sqrt(np.nanmean((answer.spectra - scene.truth)[:, rest] ** 2)))
        at = _pixel(plan, 0.8)
        view = _view((answer,), ("detail", "sigma_swir1", "scale"), _crop(*at, hit.shape))
        quiet = _nearest(np.where(far_from(~rest, 4), 0.0, 1.0) + _distance(hit.shape, at) / 1e3, 0.0)
        quiet = quiet if _inside(quiet, view.window) else at
        return self.draw("small-objects", [case], [
            _panel(answer, view, at, f"{case.title} (San Diego, simulated from AVIRIS: the truth is known)",
                   f"Elsewhere in the scene the RMSE is {elsewhere:.3f}. The weights were fitted to this scene too: "
                   f"on new ground errors are larger. {measured_sentence(case)}", scene.truth[:, at[0], at[1]]),
            _panel(answer, view, quiet, "The same place, an even surface beside them",
                   "Even surroundings leave the coarse bands little to guess: detail, sigma and scale are low.",
                   scene.truth[:, quiet[0], quiet[1]]),
        ])  # fmt: skip

    def material(self, kind: str) -> tuple[_Plan, tuple[int, int]]:
        """A target of a foreign surface, or of the bright field beside it (`CONTROL`), in a green field."""
        before = self.untouched(FIELDS)
        if kind == CONTROL:
            spectrum = before.spectra[:, BRIGHT_FIELD[0], BRIGHT_FIELD[1]].astype(np.float64)
            bands = _source_bands(before.msi, *BRIGHT_FIELD)
        else:
            surface = next(s for s in foreign_spectra(1) if s.kind.name == kind)
            spectrum = surface.spectra[:, 0]
            bands = self.model.parameters.sensors[before.msi.platform].responses @ spectrum
            bands[0] = surface.coastal[0]
        shape = (int(before.msi.b10.shape[1]), int(before.msi.b10.shape[2]))
        row, column = 45, 75  # the middle of a field
        share = target_share(*shape, row, column)
        hit = share > 0
        plan = _Plan(
            name=f"material-{kind.replace('_', '-')}",
            title=f"An inserted target of {10 * TARGET} m: {kind.replace('_', ' ')}",
            see="the target's shape stands out from its field",
            after=_answer(self.model, blend(before.msi, share, bands)), hit=hit, before=before, twin=hit,
            normal=before.layers, expected=np.repeat(spectrum[:, None], int(hit.sum()), axis=1),
            reference="the inserted spectrum",
        )  # fmt: skip
        return plan, (row + TARGET // 2, column + TARGET // 2)

    def materials(self, kinds: Iterable[str]) -> list[Case]:
        """Targets of several surfaces, measured but not drawn."""
        return [_measure(self.material(kind)[0]) for kind in kinds]

    def shown_materials(self) -> list[Case]:
        plans = [self.material(kind) for kind in SHOWN_MATERIALS]
        cases = [_measure(plan) for plan, _ in plans]
        window = _crop(*plans[0][1], plans[0][0].hit.shape)
        view = _view(
            [plan.after for plan, _ in plans],
            ("out_of_domain_score", "stage_change_1", "sigma_swir1" + RELATIVE),
            window,
        )
        view.tops["sigma_swir1" + RELATIVE] = 0.2  # or the brightest target alone has colours
        panels = [
            _panel(plan.after, view, at, case.title, f"{_reason(kind)}. {measured_sentence(case)}", plan.expected[:, 0])
            for kind, case, (plan, at) in zip(SHOWN_MATERIALS, cases, plans, strict=True)
        ]
        return self.draw("foreign-material", cases, panels)

    def offset(self, patch: str = FIELDS) -> _Plan:
        before = self.untouched(patch)
        return self.changed(
            patch, with_offset(before.msi), np.ones(before.msi.b10.shape[1:], bool),
            name="offset", title="The offset of −1000 DN was not applied: every band 0.1 too bright",
            see="no layer tells; no spectrum has a dark channel left (below)",
        )  # fmt: skip

    def swap(self, pair: tuple[str, str], patch: str = FIELDS) -> _Plan:
        before = self.untouched(patch)
        return self.changed(
            patch, with_swap(before.msi, *pair), np.ones(before.msi.b10.shape[1:], bool),
            name=f"swap-{pair[0]}-{pair[1]}".lower(), title=f"{pair[0]} and {pair[1]} delivered in each other's place",
            see="strongest on the land cover on which the two bands differ most",
        )  # fmt: skip

    def shown_offset(self) -> list[Case]:
        before, plan = self.untouched(FIELDS), self.offset()
        case, at = _measure(plan), _pixel(plan)
        view = _view((before, plan.after), ("out_of_domain_score", "learned_share", "sigma_swir2" + RELATIVE))
        return self.draw("offset", [case], [
            _panel(before, view, at, "Untouched fields", "The patch as it was delivered."),
            _panel(plan.after, view, at, case.title, measured_sentence(case)),
        ])  # fmt: skip

    def shown_swaps(self) -> list[Case]:
        plans = [self.swap(pair) for pair in SWAPS]
        cases = [_measure(plan) for plan in plans]
        before = self.untouched(FIELDS)
        view = _view(
            [before, *(p.after for p in plans)], ("out_of_domain_score", "learned_share", "sigma_swir2" + RELATIVE)
        )
        at = _pixel(plans[0], 0.8)
        panels = [_panel(before, view, at, "Untouched fields", "The patch as it was delivered.")]
        panels += [
            _panel(p.after, view, at, case.title, measured_sentence(case)) for p, case in zip(plans, cases, strict=True)
        ]
        return self.draw("swapped-bands", cases, panels)

    def shore(self) -> list[Case]:
        answer = self.untouched(LAKE)
        water = answer.msi.b10[3] < WATER_B08
        deep = far_from(~water, OPEN)
        hit = far_from(~water, CLEAR - 1) & ~far_from(~water, SHORE)
        if not hit.any() or not deep.any():
            raise InvalidImage(f"{LAKE} shows no lake: {int(water.sum())} pixels of water")
        typical = np.nanmedian(answer.spectra[:, deep], axis=1)
        plan = _Plan(
            name="lake-shore", title="A lake shore: the 60 m band B09 sees the land",
            see="a seam along the shore, on the water's side",
            after=answer, hit=hit, before=answer, twin=deep, normal=answer.within(deep),
            expected=np.repeat(typical[:, None], int(hit.sum()), axis=1), reference="the median of open water",
        )  # fmt: skip
        case = _measure(plan)
        at, calm = _pixel(plan, 0.9), _nearest(np.where(deep, _distance(deep.shape, (20, 20)), 1e3), 0.0)
        view = _view((answer,), ("attribution_B09", "sigma_nir_gap", "scale"), _crop(42, 42, hit.shape, 84))
        beyond = (CENTRE_NM > 900) & (CENTRE_NM < 1300)
        lift = (answer.spectra[:, hit][beyond] - typical[beyond][:, None]).mean(axis=0)
        return self.draw("lake-shore", [case], [
            _panel(answer, view, calm, "Open water of the same lake", "Far from land every band sees water alone."),
            _panel(answer, view, at, f"{case.title} (water {10 * CLEAR}–{10 * SHORE} m from land)",
                   f"Between 0.9 and 1.3 µm the estimate lies {_shown(float(np.median(lift)))} above open water in the "
                   f"median, {_shown(float(np.percentile(lift, 95)))} on the worst twentieth. "
                   f"{measured_sentence(case)}"),
        ])  # fmt: skip


def _reason(kind: str) -> str:
    text = next(k.reason for k in FOREIGN if k.name == kind)
    return text[0].upper() + text[1:]


def _nearest(values: NDArray[np.floating], wanted: float) -> tuple[int, int]:
    row, column = np.unravel_index(int(np.abs(values - wanted).argmin()), values.shape)
    return int(row), int(column)


def _distance(shape: tuple[int, ...], place: tuple[int, int]) -> NDArray[np.float64]:
    row, column = np.mgrid[: shape[0], : shape[1]]
    return np.asarray(np.hypot(row - place[0], column - place[1]))


def _inside(place: tuple[int, int], window: tuple[slice, slice]) -> bool:
    return all(part.start <= at < part.stop for at, part in zip(place, window, strict=True))


def make_gallery(
    model: DualityModel,
    scenes: Mapping[str, Multispectral],
    folder: Path | None,
    simulated: SimulatedScene | None = None,
) -> list[Case]:
    """Build every failure, measure it, and draw it.

    Args:
        model: whose layers are read.
        scenes: untouched Sentinel-2 patches by name, among them `FIELDS`, `PASTURE` and `LAKE`.
        folder: where the pictures ``failure-*.png`` go, made if absent; ``None`` draws none.
        simulated: a scene of known truth with objects smaller than 20 m; without it that case is left out.

    Returns:
        The cases in the order of the chapter.

    Raises:
        InvalidImage: if a patch is missing or shows no lake.
    """
    gallery = _Gallery(model, scenes, folder)
    cases = [*gallery.cloud()]
    if simulated is not None:
        cases += gallery.small(simulated)
    return [*cases, *gallery.shown_materials(), *gallery.shown_offset(), *gallery.shown_swaps(), *gallery.shore()]


# ---- the chapter's numbers ------------------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    ruler = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ruler, *rows))


def normal_table(gallery: _Gallery, chosen: Callable[[str], bool]) -> str:
    """Median and 5-95 % of some layers, over the patches without snow and over the snow, as a Markdown table."""
    usual = gallery.usual()
    snow = gallery.untouched(SNOW).layers if SNOW in gallery.scenes else {}

    def cell(values: NDArray[np.float32] | None) -> str:
        if values is None:
            return "–"
        low, middle, high = (_shown(float(v)) for v in np.nanpercentile(values, (5, 50, 95)))
        return f"{middle} ({low} to {high})"

    rows = [(_code(name), cell(usual[name]), cell(snow.get(name))) for name in usual if chosen(name)]
    count = len([name for name in gallery.scenes if name != SNOW])
    return _table(("layer", f"{count} patches without snow: median (5 to 95 %)", "snow patch"), rows)


def exposure_table(cases: Sequence[Case]) -> str:
    """Failure -> layers -> what you see, as a Markdown table."""

    def row(case: Case) -> tuple[str, ...]:
        told = "; ".join(f"{_code(e.layer)} {_shown(e.before)} → {_shown(e.after)}" for e in case.telling[:3]) or "none"
        shares = f"{_percent(case.flagged_before)} → {_percent(case.flagged)}"
        return case.title, f"**{case.verdict}**", told, case.see, shares, f"{case.rmse:.3f}", _percent(case.covered)

    head = ("failure", "verdict", "most telling layers, median before → after", "what you see",
            "flagged pixels", "RMSE", "90 % interval holds")  # fmt: skip
    return _table(head, map(row, cases), left=4)


def damage_table(gallery: _Gallery) -> str:
    """Flagged pixels of every patch before and after damage to the whole of it."""
    kinds: list[tuple[str, Callable[[str], _Plan]]] = [("offset missed", gallery.offset)]
    kinds += [(f"{a} ↔ {b}", lambda patch, pair=(a, b): gallery.swap(pair, patch)) for a, b in SWAPS]  # type: ignore[misc]

    def row(patch: str) -> list[str]:
        before = gallery.untouched(patch)
        cells = [patch, _percent(float(before.flags.mean()))]
        return cells + [_percent(float(plan(patch).after.flags.mean())) for _, plan in kinds]

    return _table(("patch", "untouched", *(name for name, _ in kinds)), map(row, gallery.scenes))


def material_table(gallery: _Gallery) -> str:
    """Every foreign surface as a target, and a control that is not foreign; the best noticed first."""
    held = {kind.name.replace("_", "-") for kind in FOREIGN if kind.held}

    def row(case: Case) -> tuple[str, ...]:
        median = {e.layer: e.after for e in case.exposures}
        kind = case.name.removeprefix("material-")
        name = "control: soil of the next field" if kind == CONTROL else kind.replace("-", " ") + " *" * (kind in held)
        told = [_code(e.layer) for e in case.telling if e.layer != "detail"]
        score, spread = f"{median['out_of_domain_score']:.2f}", f"{median['sigma_swir1' + RELATIVE]:.2f}"
        numbers = (_percent(case.flagged), score, spread, f"{case.rmse:.3f}", _percent(case.covered))
        return name, ", ".join(told[:2]) or "–", *numbers

    cases = sorted(gallery.materials(kind.name for kind in FOREIGN), key=lambda case: -case.flagged)
    head = ("inserted surface", "most telling layers but `detail`", "flagged", "score, median", "`sigma_swir1` / mean",
            "RMSE", "90 % interval holds")  # fmt: skip
    return _table(head, map(row, [*cases, *gallery.materials([CONTROL])]), left=2)


def _code(layer: str) -> str:
    """A layer's name in Markdown; the division is not part of the name."""
    base = layer.removesuffix(RELATIVE)
    return f"`{base}`" + (RELATIVE if layer != base else "")


def weights_sentence(model: DualityModel) -> str:
    """Which weights the numbers hold for."""
    calibration = str(model.card.calibration)
    return f"Measured with the weights whose calibration is `{calibration}` (see `model/weights/card.json`)."


def darkest_sentence(gallery: _Gallery) -> str:
    """How the darkest channel of the spectra tells a missed offset, over all patches."""

    def darkest(answer: _Answer) -> float:
        return float(np.nanmedian(answer.spectra.min(axis=0)))

    untouched = [darkest(gallery.untouched(name)) for name in gallery.scenes]
    shifted = [darkest(gallery.offset(name).after) for name in gallery.scenes]
    before, after = (f"{_shown(min(part))} to {_shown(max(part))}" for part in (untouched, shifted))
    return (
        f"The lowest of a pixel's 172 values, median over a patch: {before} in the {len(untouched)} untouched patches, "
        f"{after} with the offset missed."
    )


def rewrite(text: str, blocks: Mapping[str, str]) -> str:
    """Replace what stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.

    Raises:
        ValueError: if a block has no marks in the text.
    """
    for name, content in blocks.items():
        pattern = re.compile(rf"(<!-- begin {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.DOTALL)
        text, count = pattern.subn(lambda found, new=content: f"{found[1]}{new}\n{found[2]}", text)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"the text has {count} places for {name!r}; one pair of begin and end marks is needed")
    return text


def chapter_blocks(gallery: _Gallery, cases: Sequence[Case]) -> dict[str, str]:
    """Every generated part of the chapter: mark -> Markdown."""
    captions = {f"measured {case.name}": f"*Measured:* {measured_sentence(case)}" for case in cases}
    return {
        "weights": weights_sentence(gallery.model),
        "normal explanation": normal_table(
            gallery, lambda n: not n.startswith(("sigma_", "residual_")) and n != "scale"
        ),
        "normal uncertainty": normal_table(gallery, lambda n: n.startswith("sigma_") or n == "scale"),
        "normal residual": normal_table(gallery, lambda n: n.startswith("residual_")),
        "exposure": exposure_table(cases),
        "damage": damage_table(gallery),
        "darkest": darkest_sentence(gallery),
        "materials": material_table(gallery),
        **captions,
    }


def read_patches(data: Path) -> dict[str, Multispectral]:
    """The real L2A patches of a data folder: name -> bands."""
    scenes = {}
    for path in sorted((data / "sentinel2").glob("ben_*.npz")):
        scene = read_sentinel2(path)
        name = scene["name"].removeprefix("ben_")
        scenes[name] = Multispectral(scene["b10"], scene["b20"], scene["b60"], scene["platform"])
    return scenes


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the gallery and renew the chapter's numbers."""
    parser = argparse.ArgumentParser(
        prog="python -m model.evaluation.gallery", description="Draw the failure gallery and renew its numbers."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with sentinel2/ and cubes/")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="where the pictures go")
    parser.add_argument("--chapter", type=Path, default=Path("docs/7-reading-explanations.md"), help="text to renew")
    parser.add_argument("--weights", type=Path, help="folder of weights; the shipped ones unless given")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)
    model = load_model(given.weights, given.device)
    scenes = read_patches(given.data)
    spectra = read_spectra(given.data / "cubes" / "aviris_sandiego_a.npz")
    responses = model.parameters.sensors[PLATFORM].responses
    simulated = simulate_scene(spectra, responses, PLATFORM, np.random.default_rng(0))
    cases = make_gallery(model, scenes, given.out, simulated)
    for case in cases:
        sys.stdout.write(f"{case.name}: {measured_sentence(case)}\n")
    blocks = chapter_blocks(_Gallery(model, scenes, None), cases)
    if given.chapter.exists():
        given.chapter.write_text(rewrite(given.chapter.read_text(encoding="utf-8"), blocks), encoding="utf-8")
    else:
        sys.stdout.write(f"{given.chapter} is absent: its numbers were not renewed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
