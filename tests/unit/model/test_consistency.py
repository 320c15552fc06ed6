"""The last data step gives way only beyond the noise."""

from __future__ import annotations

import numpy as np
import torch

from model.consistency import TOLERATED_SIGMAS, excess
from model.residual import residual


def compare(source: np.ndarray, seen: np.ndarray, resolution: int):
    full = torch.zeros(12, 12, 12)
    rows = {10: [1, 2, 3, 7]}[resolution]
    full[rows] = torch.as_tensor(seen, dtype=torch.float32)
    return residual(
        torch.as_tensor(source, dtype=torch.float32), full, torch.ones(12, 12, dtype=torch.bool), resolution
    )


def test_agreement_within_noise_is_left_exactly_alone():
    source = np.full((4, 12, 12), 0.3)
    part = compare(source, source + 0.004, 10)
    assert part.within.all()
    assert not excess({10: part}, (12, 12)).any()


def test_only_what_exceeds_the_noise_is_taken_back():
    source = np.full((4, 12, 12), 0.3)
    seen = source.copy()
    seen[1, 4, 4] -= 0.1
    part = compare(source, seen, 10)
    beyond = excess({10: part}, (12, 12))
    assert beyond.count_nonzero() == 1
    expected = 0.1 - TOLERATED_SIGMAS * part.sigma[1, 4, 4].item()
    np.testing.assert_allclose(beyond[2, 4, 4].item(), expected, rtol=1e-4)
    assert not part.within[4, 4]
    assert part.within.sum() == 143


def test_unknown_source_pixels_ask_for_nothing():
    source = np.full((4, 12, 12), 0.3)
    source[:, 0, 0] = np.nan
    part = compare(source, np.full((4, 12, 12), 0.3), 10)
    assert not excess({10: part}, (12, 12)).any()
    assert part.within[0, 0]
    assert not part.known[0, 0]
