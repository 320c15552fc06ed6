"""Diagnostic features of spectra, and whether twelve bands identify them or not.

Band depths follow Clark & Roush (J. Geophys. Res. 89, 1984, 6329-6340): ``depth = 1 - R_b / R_c`` with R_b the
reflectance in the band and R_c that of the continuum at the same wavelength, here a straight line between two
shoulders. Band and shoulders are means over fixed windows, not minima, so that noise does not deepen a band.

The grid's channels are not in the order of wavelength (two pairs of detectors overlap, at 0.65-0.67 and 1.25-1.26 um)
and the data bridge 0.754-0.773 and 1.108-1.165 um, where the atmosphere leaves its mark: windows are chosen by
wavelength and keep clear of these.

A feature is *identifiable* when an estimate follows the truth on scenes left out; a scene whose truth hardly varies
says nothing about that and is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from model.bands import CENTRE_NM
from model.errors import InvalidSpectra

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Measure = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""(172, n) reflectance -> (n,) values, nan where a channel is nan."""

Domain = Callable[[NDArray[np.float64]], NDArray[np.bool_]]
"""(172, n) true reflectance -> (n,) where the feature means something."""

Window = tuple[float, float]
"""First and last wavelength, inclusive, nm."""

Verdict = Literal["identifiable", "weakly identifiable", "not identifiable"]

IDENTIFIABLE_R2: Final[float] = 0.7
"""At 0.7 the estimate's error is 0.55 of the feature's own spread: three classes of the feature can be told apart."""

WEAKLY_IDENTIFIABLE_R2: Final[float] = 0.3
"""At 0.3 it is 0.84 of the spread: more than the scene's mean tells, enough for an average over a region, not for a
pixel."""

SPREAD_OVER_NOISE: Final[float] = 2.0
"""The true feature must vary at least this many times its noise. At 2 a quarter of its variance is noise, which no
estimate can follow: 0.75 is then the best R2 there is, and `IDENTIFIABLE_R2` can just be reached."""

MIN_SPECTRA: Final[int] = 30
"""With fewer spectra the R2 of one file is chance."""

VEGETATED_NDVI: Final[float] = 0.3
BRIGHT: Final[float] = 0.05
"""Mean reflectance below which a ratio of reflectances is noise."""

_DARKEST_CONTINUUM: Final[float] = 1e-3
"""A continuum below this is raised to it, so that a bad estimate has a large depth, not an infinite one."""

_NOISE_SEED: Final[int] = 20260
_NOISE_DRAWS: Final[int] = 2000


def window(low_nm: float, high_nm: float) -> NDArray[np.intp]:
    """Zero-based channels whose centres lie in the window, in order of wavelength."""
    inside = np.flatnonzero((low_nm <= CENTRE_NM) & (high_nm >= CENTRE_NM))
    return inside[np.argsort(CENTRE_NM[inside], kind="stable")]


def _level(spectra: NDArray[np.float64], where: Window) -> tuple[NDArray[np.float64], float]:
    """Mean reflectance (n,) in a window and the mean wavelength it stands for."""
    channels = window(*where)
    return np.asarray(spectra[channels].mean(axis=0)), float(CENTRE_NM[channels].mean())


def band_depth(spectra: NDArray[np.floating], left: Window, band: Window, right: Window) -> NDArray[np.float64]:
    """Depth of an absorption below the straight line between its shoulders (Clark & Roush 1984, equation 4).

    Args:
        spectra: (172, n) reflectance.
        left: shoulder at shorter wavelength, nm.
        band: the absorption, nm.
        right: shoulder at longer wavelength, nm.

    Returns:
        (n,) depth, 1 - R_b / R_c: 0 none, 1 black, negative where the spectrum bulges upwards.
    """
    x = np.asarray(spectra, dtype=np.float64)
    (R_left, at_left), (R_band, at_band), (R_right, at_right) = (_level(x, w) for w in (left, band, right))
    part = (at_band - at_left) / (at_right - at_left)
    continuum = (1 - part) * R_left + part * R_right
    return np.asarray(1 - R_band / np.maximum(continuum, _DARKEST_CONTINUUM))


_SECOND_DETECTOR: Final[NDArray[np.intp]] = np.flatnonzero(
    (np.arange(CENTRE_NM.size) >= int(np.diff(CENTRE_NM).argmin()) + 1) & (CENTRE_NM < 900.0)
)
"""Channels from 655 nm on, in order of wavelength: the first place where the grid steps back is where they begin."""

_EDGE: Final[NDArray[np.intp]] = window(680.0, 765.0)
"""All of the second detector, evenly spaced: slopes lie between 690 and 758 nm."""


def red_edge_peak(spectra: NDArray[np.floating]) -> NDArray[np.float64]:
    """Wavelength of the steepest rise between 680 and 760 nm.

    First derivative by differences, its maximum refined by the parabola through the largest slope and its neighbours
    (Dawson & Curran, Int. J. Remote Sensing 19(11), 1998, 2133-2139).

    Args:
        spectra: (172, n) reflectance.

    Returns:
        (n,) nm.
    """
    axis, x = CENTRE_NM[_EDGE], np.asarray(spectra, dtype=np.float64)[_EDGE]
    middle = (axis[1:] + axis[:-1]) / 2
    slope = np.diff(x, axis=0) / np.diff(axis)[:, None]
    known = np.isfinite(slope).all(axis=0)
    slope = np.where(known, slope, 0.0)
    top = slope.argmax(axis=0)
    inner = np.clip(top, 1, len(middle) - 2)
    column = np.arange(slope.shape[1])
    before, at, after = (slope[inner + shift, column] for shift in (-1, 0, 1))
    bend = before - 2 * at + after
    peaked = (top == inner) & (bend < 0)
    shift = np.where(peaked, 0.5 * (before - after) / np.where(peaked, bend, -1.0), 0.0)
    spacing = (middle[-1] - middle[0]) / (len(middle) - 1)
    return np.asarray(np.where(known, middle[top] + shift * spacing, np.nan))


def _between(spectra: NDArray[np.float64], nm: float) -> NDArray[np.float64]:
    """(n,) reflectance at a wavelength between two channels of the second detector, by linear interpolation."""
    low, high = _SECOND_DETECTOR[(right := int(np.searchsorted(CENTRE_NM[_SECOND_DETECTOR], nm))) - 1 : right + 1]
    part = (nm - CENTRE_NM[low]) / (CENTRE_NM[high] - CENTRE_NM[low])
    return np.asarray((1 - part) * spectra[low] + part * spectra[high])


def red_edge_linear(spectra: NDArray[np.floating]) -> NDArray[np.float64]:
    """Red-edge position by linear interpolation at four points (Guyot & Baret, 1988, ESA SP-287, 279-286).

    ``700 + 40 (R_i - R_700) / (R_740 - R_700)`` with ``R_i = (R_670 + R_780) / 2``. The sensor has bands at about the
    same places, so this measures how well it is calibrated rather than what the model adds.

    Args:
        spectra: (172, n) reflectance.

    Returns:
        (n,) nm, within 650-800.
    """
    x = np.asarray(spectra, dtype=np.float64)
    R_670, R_700, R_740 = (_between(x, nm) for nm in (670.0, 700.0, 740.0))
    R_780 = x[window(775.0, 790.0)].mean(axis=0)  # 782 nm: the channel below is bridged, and here it is flat
    rise = R_740 - R_700
    position = 700 + 40 * ((R_670 + R_780) / 2 - R_700) / np.where(np.abs(rise) > 1e-6, rise, 1e-6)
    return np.asarray(np.clip(position, 650.0, 800.0))


def ndvi(spectra: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n,) normalised difference vegetation index of spectra (172, n), at 0.665 and 0.865 um."""
    x = np.asarray(spectra, dtype=np.float64)
    (red, _), (nir, _) = _level(x, (655.0, 676.0)), _level(x, (855.0, 875.0))
    return np.asarray((nir - red) / np.maximum(nir + red, 1e-6))


def _bright(spectra: NDArray[np.float64], where: Window) -> NDArray[np.bool_]:
    return np.asarray(_level(spectra, where)[0] > BRIGHT)


def _vegetated(spectra: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((ndvi(spectra) > VEGETATED_NDVI) & _bright(spectra, (780.0, 900.0)))


def _bare(spectra: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((ndvi(spectra) <= VEGETATED_NDVI) & _bright(spectra, (740.0, 1000.0)))


def _bright_at_2um(spectra: NDArray[np.float64]) -> NDArray[np.bool_]:
    return _bright(spectra, (2100.0, 2260.0))


def _bright_at_1um(spectra: NDArray[np.float64]) -> NDArray[np.bool_]:
    return _bright(spectra, (1040.0, 1100.0))


@dataclass(frozen=True)
class Feature:
    """A diagnostic feature."""

    name: str
    title: str
    unit: str
    measure: Measure
    defined: Domain
    """Decided on the truth alone."""
    materials: tuple[str, ...]
    """What shows it."""


def _depth(left: Window, band: Window, right: Window) -> Measure:
    return lambda spectra: band_depth(spectra, left, band, right)


FEATURES: Final[tuple[Feature, ...]] = (
    Feature(
        "red_edge_nm",
        "red edge, steepest rise",
        "nm",
        red_edge_peak,
        _vegetated,
        ("green vegetation: chlorophyll, leaf area",),
    ),
    Feature(
        "red_edge_linear_nm",
        "red edge, four points",
        "nm",
        red_edge_linear,
        _vegetated,
        ("green vegetation: chlorophyll, leaf area",),
    ),
    Feature(
        "iron_depth",
        "ferric iron at 0.9 um",
        "1",
        # Shoulders at the crest between the 0.65 and the 0.9 um bands and where the crystal-field band has ended
        # (Hunt & Ashley, Economic Geology 74, 1979, 1613-1629).
        _depth((740.0, 754.0), (870.0, 920.0), (1273.0, 1314.0)),
        _bare,
        ("hematite", "goethite", "jarosite", "iron-stained soil"),
    ),
    Feature(
        "clay_depth",
        "Al-OH at 2.2 um",
        "1",
        # Clark et al., J. Geophys. Res. 95(B8), 1990, 12653-12680.
        _depth((2115.0, 2130.0), (2195.0, 2215.0), (2245.0, 2260.0)),
        _bright_at_2um,
        ("kaolinite", "montmorillonite", "muscovite, illite", "clay soil"),
    ),
    Feature(
        "carbonate_depth",
        "CO3 at 2.33 um",
        "1",
        # Gaffey, American Mineralogist 71, 1986, 151-162.
        _depth((2255.0, 2270.0), (2325.0, 2342.0), (2375.0, 2392.0)),
        _bright_at_2um,
        ("calcite", "dolomite", "concrete"),
    ),
    Feature(
        "water_970_depth",
        "liquid water at 0.97 um",
        "1",
        # Penuelas et al., Int. J. Remote Sensing 14(10), 1993, 1887-1905.
        _depth((880.0, 900.0), (965.0, 990.0), (1060.0, 1080.0)),
        _bright_at_1um,
        ("water in leaves", "wet snow", "wet soil"),
    ),
    Feature(
        "water_depth",
        "liquid water at 1.2 um",
        "1",
        # Gao & Goetz, J. Geophys. Res. 95(D4), 1990, 3549-3564.
        _depth((1060.0, 1095.0), (1185.0, 1216.0), (1265.0, 1285.0)),
        _bright_at_1um,
        ("water in leaves", "snow and ice", "wet soil"),
    ),
    Feature(
        "dry_vegetation",
        "cellulose and lignin at 2.1 um",
        "1",
        # The cellulose absorption index 0.5 (R_2.0 + R_2.2) - R_2.1 of Daughtry, Agronomy J. 93, 2001, 125-131, divided
        # by its continuum: a depth does not change with illumination.
        _depth((2015.0, 2045.0), (2088.0, 2112.0), (2195.0, 2215.0)),
        _bright_at_2um,
        ("litter, straw, dry grass", "wood"),
    ),
)
"""The features judged, in the order of their tables."""


def channel_noise(spectra: NDArray[np.floating]) -> NDArray[np.float64]:
    """Noise of measured spectra, from what neighbouring channels do not explain of each.

    Every channel is regressed on its two neighbours in wavelength; the residual is noise (Roger & Arnold, Int. J.
    Remote Sensing 17(10), 1996, 1951-1962). The neighbours' own noise and narrow true features add to it, so the
    estimate is on the high side, by about a fifth on smooth spectra.

    Args:
        spectra: (172, n) reflectance; channels with nan get nan.

    Returns:
        (172,) standard deviation, reflectance; nan throughout if fewer than three channels are known.
    """
    order = np.argsort(CENTRE_NM, kind="stable")
    x = np.asarray(spectra, dtype=np.float64)[order]
    sigma = np.full(len(x), np.nan)
    usable = np.flatnonzero(np.isfinite(x).all(axis=1))
    n = x.shape[1]
    last = usable.size - 1
    for i, row in enumerate(usable if last >= 2 else usable[:0]):
        near = usable[[i - 1 if i else 2, i + 1 if i < last else i - 2]]
        A = np.vstack([x[near], np.ones(n)]).T
        residual = x[row] - A @ np.linalg.lstsq(A, x[row], rcond=None)[0]
        sigma[row] = np.sqrt((residual**2).sum() / max(n - 3, 1))
    out = np.empty_like(sigma)
    out[order] = sigma
    return out


def feature_noise(feature: Feature, truth: NDArray[np.float64], sigma: NDArray[np.float64]) -> float:
    """Standard deviation that noise ``sigma`` (172,) gives the feature of spectra (172, n), by adding it once more."""
    rng = np.random.default_rng(_NOISE_SEED)
    chosen = truth[:, rng.permutation(truth.shape[1])[:_NOISE_DRAWS]]
    noisy = chosen + rng.normal(size=chosen.shape) * np.nan_to_num(sigma)[:, None]
    # The median deviation: a parabola through a flat top jumps far, once in a while.
    return float(1.4826 * np.median(np.abs(feature.measure(noisy) - feature.measure(chosen))))


def judge_features(estimate: NDArray[np.floating], truth: NDArray[np.floating]) -> dict[str, dict[str, float]]:
    """How well an estimate follows the truth's features in one file.

    Args:
        estimate: (172, n) reflectance.
        truth: (172, n) reflectance; nan where unknown, which leaves features that need the channel out.

    Returns:
        Feature -> ``r2`` (1 - SSE / SST over the pixels where the feature is defined; negative if the true mean would
        do better; nan where it would mean nothing: fewer than `MIN_SPECTRA` pixels, or ``spread`` below
        `SPREAD_OVER_NOISE` times ``noise``); ``r2_within`` (the same with the file's bias taken off: does the map show
        the right contrasts, if not the right values; no verdict rests on it); ``rmse``, ``bias`` (estimate minus
        truth), ``spread`` (standard deviation of the true feature) and ``noise`` (that of its measurement) in the
        feature's unit; and ``n``, the pixels.

    Raises:
        InvalidSpectra: if shapes disagree or are not on the product's grid.
    """
    x, reference = np.asarray(estimate, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if x.shape != reference.shape or x.ndim != 2 or len(x) != CENTRE_NM.size:
        raise InvalidSpectra(f"estimate {x.shape} and truth {reference.shape}; both must be ({CENTRE_NM.size}, n)")
    sigma = channel_noise(reference) if reference.shape[1] >= MIN_SPECTRA else np.full(len(reference), np.nan)
    return {feature.name: _judge(feature, x, reference, sigma) for feature in FEATURES}


def _judge(
    feature: Feature, estimate: NDArray[np.float64], truth: NDArray[np.float64], sigma: NDArray[np.float64]
) -> dict[str, float]:
    true, found = feature.measure(truth), feature.measure(estimate)
    keep = feature.defined(truth) & np.isfinite(true) & np.isfinite(found)
    n = int(keep.sum())
    nan = float("nan")
    if not n:
        return {"r2": nan, "r2_within": nan, "rmse": nan, "bias": nan, "spread": nan, "noise": nan, "n": 0}
    error, spread = (found - true)[keep], float(true[keep].std())
    noise = feature_noise(feature, truth[:, keep], sigma) if n >= MIN_SPECTRA else nan
    told = n >= MIN_SPECTRA and spread > 0 and spread >= SPREAD_OVER_NOISE * noise
    return {
        "r2": float(1 - (error**2).mean() / spread**2) if told else nan,
        "r2_within": float(1 - error.var() / spread**2) if told else nan,
        "rmse": float(np.sqrt((error**2).mean())),
        "bias": float(error.mean()),
        "spread": spread,
        "noise": noise,
        "n": n,
    }


def verdict(r2s: Sequence[float]) -> Verdict:
    """What the R2 of one feature on the scenes left out amounts to, by their median.

    Args:
        r2s: one per scene; nan (not judged there) is left out.

    Raises:
        ValueError: if no scene judged it.
    """
    judged = [value for value in r2s if np.isfinite(value)]
    if not judged:
        raise ValueError("no scene shows this feature strongly enough to judge it; there is no verdict")
    median = float(np.median(judged))
    if median >= IDENTIFIABLE_R2:
        return "identifiable"
    return "weakly identifiable" if median >= WEAKLY_IDENTIFIABLE_R2 else "not identifiable"


def feature_table(files: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, Any]]:
    """All files together, every file counting alike.

    Args:
        files: file or scene left out -> what `judge_features` said of it.

    Returns:
        Feature -> ``title``, ``unit``, ``r2_median``, ``r2_min``, ``r2_max``, ``r2_within_median`` (None if nothing
        judged it), ``files`` (that judged it), ``n`` (pixels in them) and ``verdict`` (``not judged`` if there are
        none).
    """
    table: dict[str, dict[str, Any]] = {}
    for feature in FEATURES:
        rows = [file[feature.name] for file in files.values() if feature.name in file]
        judged = [row for row in rows if np.isfinite(row["r2"])]
        r2s = [row["r2"] for row in judged]
        table[feature.name] = {
            "title": feature.title,
            "unit": feature.unit,
            "r2_median": float(np.median(r2s)) if r2s else None,
            "r2_within_median": float(np.median([row["r2_within"] for row in judged])) if judged else None,
            "r2_min": min(r2s, default=None),
            "r2_max": max(r2s, default=None),
            "files": len(judged),
            "n": int(sum(row["n"] for row in judged)),
            "verdict": verdict(r2s) if r2s else "not judged",
        }
    return table
