"""Small scenes of known truth for the networks that the model is judged against."""

from __future__ import annotations

import numpy as np

from model.bands import CENTRE_NM
from model.evaluation.networks.cos2a import nominal_responses

D = nominal_responses()


def spectra_of(n: int, seed: int) -> np.ndarray:
    """(n, 172) smooth spectra from a handful of bumps, 0.02-0.8."""
    rng = np.random.default_rng(seed)
    centre = np.linspace(450, 2400, 6)
    bumps = np.exp(-0.5 * ((CENTRE_NM - centre[:, None]) / 350) ** 2)
    return 0.02 + rng.dirichlet(np.ones(6), size=n) @ bumps * rng.uniform(0.2, 0.8, size=(n, 1))


def scene_of(height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A chip whose left and right part differ: bands (12, h, w) with 1 % noise and truth (172, h, w)."""
    x = spectra_of(height * width, seed).T.reshape(172, height, width)
    rng = np.random.default_rng(seed + 1)
    y = np.einsum("bc,chw->bhw", D, x) * (1 + 0.01 * rng.normal(size=(12, height, width)))
    return y.astype(np.float32), x.astype(np.float32)


def noisy_scene_of(height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A smooth chip behind strong noise: its neighbours tell of a pixel what no map of its own bands can."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(-1, 1, width) * rng.normal() + np.linspace(-1, 1, height)[:, None] * rng.normal()
    centre = 1300 + 600 * slope.clip(-1, 1)
    x = 0.1 + 0.4 * np.exp(-0.5 * ((CENTRE_NM[:, None, None] - centre) / 250) ** 2)
    y = np.einsum("bc,chw->bhw", D, x) + 0.1 * rng.normal(size=(12, height, width))
    return y.astype(np.float32), x.astype(np.float32)
