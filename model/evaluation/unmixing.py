"""Blind source separation: does unmixing an estimated cube find what unmixing the true cube finds?

Endmembers by vertex component analysis (VCA; Nascimento & Bioucas-Dias, IEEE TGRS 43(4), 2005, 898-910), abundances by
fully constrained least squares (FCLS; Heinz & Chang, IEEE TGRS 39(3), 2001, 529-545). The same method, number of
endmembers, kind of projection and random directions are used on the truth and on everything compared with it, so that
what differs in the answer differs in the spectra.

The linear model of a pixel is ``x = E a`` with ``a >= 0`` and ``sum(a) = 1``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from model.errors import InvalidSpectra

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

Projection = Literal["projective", "orthogonal"]

MAX_ENDMEMBERS: Final[int] = 10
"""FCLS tries every face of the simplex, 2^p - 1 of them, and matching every subset."""

SNR_OFFSET_DB: Final[float] = 15.0
"""VCA divides by brightness when the signal-to-noise ratio exceeds ``15 + 10 log10(p)`` dB (the paper, section III)."""

DIM: Final[float] = 0.05
"""A pixel dimmer than this part of the mean has no direction worth dividing for: VCA does not pick it."""

TRUTH: Final[str] = "truth"
RAW: Final[str] = "raw"


@dataclass(frozen=True)
class Unmixing:
    """What blind unmixing makes of a cube."""

    endmembers: NDArray[np.float64]
    """(channels, p) signatures, in the unit of the cube."""
    abundances: NDArray[np.float64]
    """(p, n) fractions; non-negative, every column sums to 1."""
    pixels: NDArray[np.intp]
    """(p,) which pixels were picked as endmembers."""

    @property
    def reconstruction(self) -> NDArray[np.float64]:
        """(channels, n) endmembers times abundances."""
        return self.endmembers @ self.abundances


def signal_to_noise_db(spectra: NDArray[np.floating], endmembers: int) -> float:
    """Signal-to-noise ratio as VCA estimates it: power inside against power outside ``endmembers`` dimensions.

    Args:
        spectra: (channels, n).
        endmembers: p.

    Returns:
        Decibels; inf where nothing lies outside, -inf where nothing but noise lies inside.
    """
    R = np.asarray(spectra, dtype=np.float64)
    L = R.shape[0]
    mean = R.mean(axis=1)
    covariance = np.cov(R, bias=True)
    total = float(np.trace(covariance) + mean @ mean)
    inside = float(np.linalg.eigvalsh(covariance)[-endmembers:].sum() + mean @ mean)
    signal, noise = inside - endmembers / L * total, total - inside
    if noise <= 1e-14 * total:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal > 0 else float("-inf")


def choose_projection(spectra: NDArray[np.floating], endmembers: int) -> Projection:
    """The projection VCA's authors use at this signal-to-noise ratio."""
    limit = SNR_OFFSET_DB + 10 * np.log10(endmembers)
    return "projective" if signal_to_noise_db(spectra, endmembers) > limit else "orthogonal"


def vertex_components(
    spectra: NDArray[np.floating], endmembers: int, seed: int, projection: Projection | None = None
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Vertex component analysis (Nascimento & Bioucas-Dias 2005, algorithm 1).

    The random directions are drawn in the space of the channels and then projected, which has the same distribution as
    drawing them inside the signal subspace, but does not turn with the arbitrary signs of its axes: two cubes that
    differ a little are asked the same questions.

    Args:
        spectra: (channels, n).
        endmembers: p, at least 2, at most the number of channels and of pixels.
        seed: of the random directions.
        projection: ``projective`` (divide by brightness) or ``orthogonal`` (keep it); the paper's rule unless given.

    Returns:
        (channels, p) float64 endmembers, projected on the signal subspace, and (p,) the pixels they were.

    Raises:
        InvalidSpectra: if there are fewer pixels or channels than endmembers, or a value is not finite.
    """
    R = np.asarray(spectra, dtype=np.float64)
    L, N = R.shape
    p = endmembers
    _check(R, p)
    chosen = projection or choose_projection(R, p)
    if chosen == "projective":
        U = np.linalg.eigh(R @ R.T / N)[1][:, ::-1][:, :p]
        X = U.T @ R  # (p, n)
        denoised = U @ X
        brightness = X.mean(axis=1) @ X  # (n,)
        lit = brightness > DIM * brightness.mean()
        Y = np.where(lit, X / np.where(lit, brightness, 1.0), 0.0)
        U_w = np.vstack([U, np.zeros((1, p))])  # the last random number is not used
    else:
        mean = R.mean(axis=1, keepdims=True)
        U = np.linalg.eigh(np.cov(R, bias=True))[1][:, ::-1][:, : p - 1]
        X = U.T @ (R - mean)  # (p-1, n)
        denoised = U @ X + mean
        Y = np.vstack([X, np.full((1, N), np.sqrt((X**2).sum(axis=0).max()))])
        U_w = np.zeros((L + 1, p))
        U_w[:L, : p - 1], U_w[L, p - 1] = U, 1.0
    directions = np.random.default_rng(seed).normal(size=(p, L + 1)) @ U_w  # (p, p)
    A = np.zeros((p, p))
    A[-1, 0] = 1.0
    picked = np.zeros(p, dtype=np.intp)
    for i, w in enumerate(directions):
        f = w - A @ (np.linalg.pinv(A) @ w)  # orthogonal to every vertex found so far
        picked[i] = np.abs(f @ Y).argmax()
        A[:, i] = Y[:, picked[i]]
    return np.asarray(denoised[:, picked]), picked


def constrained_abundances(endmembers: NDArray[np.floating], spectra: NDArray[np.floating]) -> NDArray[np.float64]:
    """Fully constrained least squares: ``argmin |x - E a|`` with ``a >= 0``, ``sum(a) = 1`` (Heinz & Chang 2001).

    Exact, not iterated: the answer lies inside one face of the simplex, where it is also the least-squares point of
    that face's plane. So every face's point is computed in closed form for all pixels, and of those inside their own
    face the nearest to the pixel is kept.

    Args:
        endmembers: (channels, p), p at most `MAX_ENDMEMBERS`.
        spectra: (channels, n).

    Returns:
        (p, n) float64 abundances.

    Raises:
        InvalidSpectra: if a value is not finite or there are too many endmembers.
    """
    E, X = np.asarray(endmembers, dtype=np.float64), np.asarray(spectra, dtype=np.float64)
    p = E.shape[1]
    if p > MAX_ENDMEMBERS or not (np.isfinite(E).all() and np.isfinite(X).all()):
        raise InvalidSpectra(f"abundances need finite spectra and at most {MAX_ENDMEMBERS} endmembers, found {p}")
    Q = np.linalg.qr(E)[0]
    V, Z = Q.T @ E, Q.T @ X  # what lies outside the endmembers' span is the same for every face
    best = np.full(X.shape[1], np.inf)
    result = np.zeros((p, X.shape[1]))
    rest = np.arange(X.shape[1])
    for size in range(p, 0, -1):
        for face in combinations(range(p), size):
            origin, *others = face
            base = V[:, [origin]]
            edges = V[:, others] - base  # (p, size-1)
            offset = Z[:, rest] - base
            steps = np.linalg.pinv(edges) @ offset if others else np.zeros((0, rest.size))
            a = np.vstack([1 - steps.sum(axis=0, keepdims=True), steps])
            error = ((offset - edges @ steps) ** 2).sum(axis=0)
            better = (a >= 0).all(axis=0) & (error < best[rest])
            where = rest[better]
            best[where] = error[better]
            result[:, where] = 0.0
            result[np.asarray(face)[:, None], where[None, :]] = a[:, better]
        if size == p:  # inside the whole simplex nothing can be nearer
            rest = rest[~np.isfinite(best)]
    return result


def unmix(spectra: NDArray[np.floating], endmembers: int, seed: int, projection: Projection | None = None) -> Unmixing:
    """Endmembers by VCA and abundances by FCLS.

    Args:
        spectra: (channels, n) reflectance.
        endmembers: p, 2 to `MAX_ENDMEMBERS`.
        seed: of VCA's random directions.
        projection: of VCA; by the paper's rule unless given.

    Returns:
        Endmembers and abundances, float64.

    Raises:
        InvalidSpectra: if the spectra are too few or not finite, or ``endmembers`` is out of range.
    """
    E, picked = vertex_components(spectra, endmembers, seed, projection)
    return Unmixing(E, constrained_abundances(E, spectra), picked)


def assign(cost: NDArray[np.floating]) -> NDArray[np.intp]:
    """The permutation of least total cost, exactly, over subsets of columns (Bellman's recursion).

    Args:
        cost: (p, p) of giving column j to row i, p at most `MAX_ENDMEMBERS`.

    Returns:
        (p,) the column of each row.
    """
    p = len(cost)
    if cost.shape != (p, p) or p > MAX_ENDMEMBERS:
        raise ValueError(f"the cost has shape {cost.shape}; it must be square with at most {MAX_ENDMEMBERS} rows")
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for row in range(p):
        longer: dict[int, tuple[float, tuple[int, ...]]] = {}
        for used, (total, columns) in best.items():
            for column in range(p):
                key = used | 1 << column
                value = total + float(cost[row, column])
                if key != used and (key not in longer or value < longer[key][0]):
                    longer[key] = (value, (*columns, column))
        best = longer
    return np.array(best[(1 << p) - 1][1], dtype=np.intp)


def angles(reference: NDArray[np.floating], candidate: NDArray[np.floating]) -> NDArray[np.float64]:
    """Angle in degrees between every column of ``reference`` and every column of ``candidate``: (p, q).

    By the half-chord, which keeps its digits for nearly parallel spectra, unlike the arccosine.
    """
    a = np.asarray(reference, dtype=np.float64)
    b = np.asarray(candidate, dtype=np.float64)
    a = a / np.maximum(np.linalg.norm(a, axis=0), 1e-12)
    b = b / np.maximum(np.linalg.norm(b, axis=0), 1e-12)
    difference, total = a[:, :, None] - b[:, None, :], a[:, :, None] + b[:, None, :]
    half = np.arctan2(np.linalg.norm(difference, axis=0), np.linalg.norm(total, axis=0))
    return np.asarray(np.degrees(2 * half))


def match(reference: NDArray[np.floating], candidate: NDArray[np.floating]) -> NDArray[np.intp]:
    """Which of the candidate's endmembers stands for which of the reference's: least mean spectral angle.

    Args:
        reference: (channels, p).
        candidate: (channels, p).

    Returns:
        (p,) such that ``candidate[:, result]`` is in the order of ``reference``.
    """
    return assign(angles(reference, candidate))


def match_abundances(reference: NDArray[np.floating], candidate: NDArray[np.floating]) -> NDArray[np.intp]:
    """The same from abundances (p, n) alone: greatest mean correlation over pixels. A constant one correlates 0."""
    centred = [a - a.mean(axis=1, keepdims=True) for a in (reference, candidate)]
    norms = [np.linalg.norm(c, axis=1) for c in centred]
    scale = np.outer(*norms)
    product = centred[0] @ centred[1].T
    return assign(-np.where(scale > 1e-12, product / np.maximum(scale, 1e-12), 0.0))


def compare_unmixing(
    truth: NDArray[np.floating],
    candidates: Mapping[str, NDArray[np.floating]],
    raw: NDArray[np.floating],
    *,
    endmembers: int,
    seed: int = 0,
    repeats: int = 5,
    projection: Projection = "orthogonal",
) -> dict[str, dict[str, float]]:
    """Unmix the truth, every candidate and the sensor's own bands alike, and compare with the truth's answer.

    VCA is random: everything is done ``repeats`` times and told as mean and standard deviation (``..._spread``).

    Args:
        truth: (channels, n) reflectance; channels that are nan throughout are left out everywhere, pixels with any
            other nan too.
        candidates: name -> (channels, n) estimates of it; the names ``truth`` and ``raw`` are taken.
        raw: (bands, n) the sensor's bands of the same pixels.
        endmembers: p, the same for all; at most the number of bands.
        seed: of the first repetition; the next ones count on.
        repeats: how often VCA is repeated.
        projection: of VCA, the same for all. Orthogonal unless told: FCLS allows no change of illumination, and with
            endmembers found after dividing by brightness the true cubes of the training data close 3 to 12 times worse.

    Returns:
        Name -> figures, each also with ``_spread``:
        ``endmember_angle_deg``, the mean angle of the endmembers to the truth's, matched by angle;
        ``abundance_rmse`` against the truth's abundances, matched by angle;
        ``abundance_rmse_by_abundance``, the same but matched by the abundances' own correlation;
        ``closure_rmse``, endmembers times abundances against the true cube, reflectance.
        ``truth`` holds the truth against itself with other random directions: the method's own repeatability, below
        which no difference between candidates means anything, and the closure the method itself leaves. Angles of
        dark endmembers, which are mostly noise, weigh as much as any.
        ``raw`` has only abundances, matched by their correlation (in both keys): signatures in all channels, and so an
        angle or a closure, are what bands alone cannot give. Its figure is to be held against the candidates'
        ``abundance_rmse_by_abundance``.

    Raises:
        InvalidSpectra: if shapes disagree or fewer complete pixels than endmembers are left.
    """
    if {TRUTH, RAW} & set(candidates):
        raise ValueError(f"candidates may not be called {TRUTH!r} or {RAW!r}: the result uses these names")
    X, cubes, bands = _complete(truth, candidates, raw)
    figures: dict[str, list[dict[str, float]]] = {}
    for number in range(seed, seed + repeats):
        reference = unmix(X, endmembers, number, projection)
        answers = {name: unmix(cube, endmembers, number, projection) for name, cube in cubes.items()}
        answers[TRUTH] = unmix(X, endmembers, number + repeats, projection)
        for name, answer in answers.items():
            figures.setdefault(name, []).append(_against(reference, answer, X))
        alone = unmix(bands, endmembers, number, projection)
        figures.setdefault(RAW, []).append(_abundances_only(reference, alone))
    return {name: _mean_and_spread(rows) for name, rows in figures.items()}


def _against(reference: Unmixing, answer: Unmixing, truth: NDArray[np.float64]) -> dict[str, float]:
    order = match(reference.endmembers, answer.endmembers)
    angle = np.diag(angles(reference.endmembers, answer.endmembers[:, order]))
    return {
        "endmember_angle_deg": float(angle.mean()),
        **_abundances_only(reference, answer),
        "abundance_rmse": _rmse(answer.abundances[order], reference.abundances),
        "closure_rmse": _rmse(answer.reconstruction, truth),
    }


def _abundances_only(reference: Unmixing, answer: Unmixing) -> dict[str, float]:
    order = match_abundances(reference.abundances, answer.abundances)
    error = _rmse(answer.abundances[order], reference.abundances)
    return {"abundance_rmse": error, "abundance_rmse_by_abundance": error}


def _mean_and_spread(rows: list[dict[str, float]]) -> dict[str, float]:
    columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    means = {key: float(values.mean()) for key, values in columns.items()}
    return means | {f"{key}_spread": float(values.std()) for key, values in columns.items()}


def _rmse(estimate: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean((estimate - truth) ** 2)))


def _complete(
    truth: NDArray[np.floating], candidates: Mapping[str, NDArray[np.floating]], raw: NDArray[np.floating]
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]], NDArray[np.float64]]:
    """Everything as float64 on the channels the truth knows and the pixels everyone knows."""
    X = np.asarray(truth, dtype=np.float64)
    wrong = [name for name, cube in candidates.items() if cube.shape != X.shape]
    if wrong or raw.ndim != 2 or raw.shape[1] != X.shape[1]:
        raise InvalidSpectra(f"the truth has shape {X.shape}; {wrong or 'the bands'} do not fit it")
    known = np.isfinite(X).any(axis=1)
    cubes = {name: np.asarray(cube, dtype=np.float64)[known] for name, cube in candidates.items()}
    bands = np.asarray(raw, dtype=np.float64)
    X = X[known]
    keep = np.isfinite(X).all(axis=0) & np.isfinite(bands).all(axis=0)
    for cube in cubes.values():
        keep &= np.isfinite(cube).all(axis=0)
    return X[:, keep], {name: cube[:, keep] for name, cube in cubes.items()}, bands[:, keep]


def _check(spectra: NDArray[np.float64], endmembers: int) -> None:
    if not 2 <= endmembers <= min(MAX_ENDMEMBERS, *spectra.shape):
        raise InvalidSpectra(
            f"{endmembers} endmembers asked of spectra of shape {spectra.shape}; between 2 and "
            f"{min(MAX_ENDMEMBERS, *spectra.shape)} are possible"
        )
    if not np.isfinite(spectra).all():
        raise InvalidSpectra("spectra to unmix hold values that are not finite; leave such pixels out")
