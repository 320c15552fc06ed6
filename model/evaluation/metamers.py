"""Metamers: other spectra that the sensor cannot tell from the truth. Do the stated intervals admit them?

With the response matrix D (12 x 172) two spectra whose difference lies in D's null space give the same bands, so the
model answers both alike; an honest interval around that answer must hold the one as well as the other. B01 lies outside
the grid and constrains nothing: rows 1-11 of D do. (The term is colour science's; decomposition into a seen and an
unseen part as in Wyszecki & Stiles, Color Science, 1982, section 3.8, and Cohen & Kappauf, Am. J. Psychol. 95, 1982.)

The unseen part must not be arbitrary noise, which no ground shows. It is taken from real spectra of a pool:

- *transplant*: the pixel keeps what the sensor sees of it and receives the unseen part of a pool spectrum, scaled to
  its bands' norm, whose bands look alike: ``x' = x + s N N^T (x_j - x)``. A posterior that is right covers these as
  often as it says.
- *difference*: ``x' = x + s N N^T (x_j - x_i)`` with any two spectra of the pool, scaled to the pixel's bands. This
  ignores that bands tell something about the unseen part, so even a right posterior falls short; it shows how far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from model.bands import SPECTRAL_GROUPS
from model.errors import InvalidSpectra
from model.spectra import PLAUSIBLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["transplant", "difference"]

CONSTRAINING: Final[slice] = slice(1, None)
"""Rows of D that constrain a spectrum: all but B01."""

LOWEST: Final[float] = -0.01
"""A metamer goes below this reflectance nowhere, unless the truth itself does: what a retrieval's noise leaves."""

ALIKE: Final[int] = 16
"""A transplant's donor is one of this many pool spectra whose bands are nearest to the pixel's."""

DIMMEST: Final[float] = 0.02
"""Pool spectra dimmer than this in the bands, reflectance, are no donors (scaled up they would be noise) unless half of
the pool is."""

_CHUNK: Final[int] = 512


def null_space(D: NDArray[np.floating], channels: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Orthonormal basis N of what the sensor does not see.

    Args:
        D: (12, channels) responses; the first row, B01, is ignored.
        channels: (channels,) which channels may change; all unless given.

    Returns:
        (channels, k) float64 with ``D[1:] @ N == 0``, ``N.T @ N == I`` and zero rows outside ``channels``.
    """
    seen = np.asarray(D, dtype=np.float64)[CONSTRAINING]
    free = np.ones(seen.shape[1], dtype=bool) if channels is None else np.asarray(channels, dtype=bool)
    _, singular, Vt = np.linalg.svd(seen[:, free], full_matrices=True)
    rank = int((singular > 1e-10 * singular.max(initial=1e-300)).sum())
    N = np.zeros((seen.shape[1], Vt.shape[0] - rank))
    N[free] = Vt[rank:].T
    return N


def metamers(
    truth: NDArray[np.floating],
    D: NDArray[np.floating],
    pool: NDArray[np.floating],
    rng: np.random.Generator,
    strength: float = 1.0,
    *,
    kind: Kind = "transplant",
    channels: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """One metamer of every spectrum.

    Args:
        truth: (channels, n) reflectance, finite in ``channels``.
        D: (12, channels) responses.
        pool: (m, channels) real spectra that the truth is no part of, m at least 2.
        rng: chooses donors.
        strength: s, 0-1 for a transplant (1 replaces the unseen part whole); larger is allowed.
        kind: how the unseen part is chosen, see the module.
        channels: (channels,) which may change; all unless given. Give those the truth's instrument measured.

    Returns:
        (channels, n) float64 with ``D[1:] @ result == D[1:] @ truth`` to rounding. A step that would leave plausible
        reflectance (below `LOWEST` or above `model.spectra.PLAUSIBLE`'s end) is shortened, pixel by pixel.

    Raises:
        InvalidSpectra: if the pool has fewer than two spectra or a value that is needed is not finite.
    """
    x, donors, responses = (np.asarray(a, dtype=np.float64) for a in (truth, pool, D))
    free = np.ones(len(x), dtype=bool) if channels is None else np.asarray(channels, dtype=bool)
    if len(donors) < 2 or not np.isfinite(donors).all() or not np.isfinite(x[free]).all():
        raise InvalidSpectra(f"metamers need finite spectra and two or more in the pool, found {donors.shape}")
    N = null_space(responses, free)
    seen = responses[CONSTRAINING]
    strong = np.linalg.norm(donors @ seen.T, axis=1)
    donors = donors[strong >= min(DIMMEST * np.sqrt(len(seen)), float(np.median(strong)))]
    shapes = donors.T / np.maximum(np.linalg.norm(seen @ donors.T, axis=0), 1e-9)  # (channels, m), bands of norm 1
    whole = np.where(np.isfinite(x), x, shapes.mean(axis=1, keepdims=True) * np.nanmean(x, axis=0))
    bands = seen @ whole
    level = np.linalg.norm(bands, axis=0)  # (n,)
    if kind == "transplant":
        chosen = _alike(bands / np.maximum(level, 1e-9), seen @ shapes, rng)
        difference = shapes[:, chosen] * level - whole
    else:
        first, second = rng.integers(shapes.shape[1], size=(2, x.shape[1]))
        difference = (shapes[:, first] - shapes[:, second]) * level
    step = N @ (N.T @ difference)
    return np.asarray(x + _longest(x, step, strength) * step)


def _alike(bands: NDArray[np.float64], pool: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.intp]:
    """(n,) for every column of ``bands`` (11, n), one of the `ALIKE` nearest columns of ``pool`` (11, m)."""
    scale = np.maximum(pool.std(axis=1, keepdims=True), 1e-9)
    a, b = bands / scale, pool / scale
    count = min(ALIKE, b.shape[1])
    pick = rng.integers(count, size=a.shape[1])
    chosen = np.empty(a.shape[1], dtype=np.intp)
    size = (b**2).sum(axis=0)
    for start in range(0, a.shape[1], _CHUNK):
        part = slice(start, start + _CHUNK)
        distance = size - 2 * a[:, part].T @ b  # (n, m), up to what is the same for a whole row
        near = np.argpartition(distance, count - 1, axis=1)[:, :count]
        chosen[part] = np.take_along_axis(near, pick[part, None], axis=1)[:, 0]
    return chosen


def _longest(x: NDArray[np.float64], step: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    """(n,) the largest t up to ``strength`` for which ``x + t step`` stays plausible."""
    low, high = np.minimum(x, LOWEST), np.maximum(x, PLAUSIBLE[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(step < 0, (low - x) / step, np.where(step > 0, (high - x) / step, np.inf))
    return np.asarray(np.minimum(strength, np.nanmin(room, axis=0)))


def coverage_of_metamers(
    lower: NDArray[np.floating],
    upper: NDArray[np.floating],
    truth: NDArray[np.floating],
    changed: NDArray[np.floating],
) -> dict[str, float]:
    """How much of the metamers the intervals hold, beside how much of the truth.

    Args:
        lower: (channels, n) lower end of the interval stated for the pixel, reflectance.
        upper: (channels, n) upper end.
        truth: (channels, n) reflectance; channels that are nan are not judged.
        changed: (channels, n) from `metamers`.

    Returns:
        ``covered``, the share of values of the metamers inside; ``covered_truth``, the same of the truth;
        ``perturbation_rms`` and ``interval_width``, reflectance; ``covered_<group>`` and ``perturbation_rms_<group>``
        for every group of `model.bands.SPECTRAL_GROUPS` that is judged, if the arrays are on the product's grid.
    """
    known = np.isfinite(truth) & np.isfinite(lower) & np.isfinite(upper) & np.isfinite(changed)
    inside = (changed >= lower) & (changed <= upper)
    square = (np.asarray(changed, dtype=np.float64) - truth) ** 2
    result = {
        "covered": _mean(inside, known),
        "covered_truth": _mean((truth >= lower) & (truth <= upper), known),
        "perturbation_rms": float(np.sqrt(_mean(square, known))),
        "interval_width": _mean(np.asarray(upper, dtype=np.float64) - lower, known),
    }
    if len(known) == sum(len(group.channels) for group in SPECTRAL_GROUPS):
        for group in SPECTRAL_GROUPS:
            rows = group.channels
            if known[rows].any():
                result[f"covered_{group.name}"] = _mean(inside[rows], known[rows])
                result[f"perturbation_rms_{group.name}"] = float(np.sqrt(_mean(square[rows], known[rows])))
    return result


def _mean(values: NDArray[np.generic], known: NDArray[np.bool_]) -> float:
    return float(values[known].astype(np.float64).mean()) if known.any() else float("nan")
