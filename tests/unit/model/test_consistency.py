"""The last data step gives way only beyond the noise."""

from __future__ import annotations

import numpy as np
import torch

from model.consistency import JUDGED, PASSES, TOLERATED_SIGMAS, DataStep
from model.noise import source_sigma
from model.residual import residual

VALID = torch.ones(12, 12, dtype=torch.bool)
GUIDES = [1, 2, 3, 7]


def bands(values: np.ndarray) -> torch.Tensor:
    full = torch.zeros(12, 12, 12)
    full[GUIDES] = torch.as_tensor(values, dtype=torch.float32)
    return full


def judged(seen: torch.Tensor) -> torch.Tensor:
    return seen[list(JUDGED)]


def step(source: np.ndarray) -> DataStep:
    return DataStep({10: torch.as_tensor(source, dtype=torch.float32)}, VALID)


def test_agreement_within_noise_is_left_exactly_alone():
    source = np.full((4, 12, 12), 0.3)
    assert step(source).excess(judged(bands(source + 0.004))) is None
    assert not step(source)(judged(bands(source + 0.004)), torch.eye(11)).any()


def test_only_what_exceeds_the_noise_is_taken_back():
    source = np.full((4, 12, 12), 0.3)
    seen = source.copy()
    seen[1, 4, 4] -= 0.1
    beyond = step(source).excess(judged(bands(seen)))
    assert beyond is not None
    assert beyond.count_nonzero() == 1
    sigma = source_sigma(np.full((12, 1), 0.3))[2, 0]
    np.testing.assert_allclose(beyond[JUDGED.index(2), 4, 4].item(), 0.1 - TOLERATED_SIGMAS[2] * sigma, rtol=1e-4)
    part = residual(torch.as_tensor(source, dtype=torch.float32), bands(seen), VALID, 10)
    assert not part.within[4, 4]
    assert part.within.sum() == 143


def test_taking_back_in_bands_is_taking_back_in_coefficients():
    """One pass by plain algebra on coefficients, pixel by pixel, in float64."""
    rng = np.random.default_rng(0)
    A, G = rng.normal(size=(12, 5)) * 0.3, rng.normal(size=(5, 12)) * 0.1
    G[:, 0] = 0.0
    c = rng.normal(size=(5, 144)) * 0.2
    source = rng.uniform(0.05, 0.5, size=(4, 12, 12))
    rows = list(JUDGED)
    seen = torch.as_tensor((A @ c)[rows], dtype=torch.float32).view(11, 12, 12)
    taken = np.zeros((12, 144))
    taken[rows] = step(source)(seen, torch.as_tensor((A @ G)[rows][:, rows], dtype=torch.float32)).numpy()
    expected = c.copy()
    for _ in range(PASSES):
        r = source.reshape(4, -1) - (A @ expected)[GUIDES]
        full = np.zeros((12, 144))
        full[GUIDES] = source.reshape(4, -1)
        limit = (TOLERATED_SIGMAS[:, None] * source_sigma(full))[GUIDES]
        e = np.zeros((12, 144))
        e[GUIDES] = r - np.clip(r, -limit, limit)
        expected += G @ e
    np.testing.assert_allclose(c + G @ taken, expected, atol=2e-5)


def test_unknown_source_pixels_ask_for_nothing():
    source = np.full((4, 12, 12), 0.3)
    source[:, 0, 0] = np.nan
    seen = bands(np.full((4, 12, 12), 0.3))
    assert step(source).excess(judged(seen)) is None
    part = residual(torch.as_tensor(source, dtype=torch.float32), seen, VALID, 10)
    assert part.within[0, 0]
    assert not part.known[0, 0]
