"""The source noise table."""

from __future__ import annotations

import numpy as np

from model.bands import SOURCE_BAND_NAMES
from model.noise import NOISE_ABSOLUTE, NOISE_RELATIVE, source_sigma


def test_noise_follows_its_formula_and_shape():
    rho = np.linspace(0, 1, 24).reshape(12, 2)
    expected = [
        [np.hypot(a, b * r) for r in row] for a, b, row in zip(NOISE_ABSOLUTE, NOISE_RELATIVE, rho, strict=True)
    ]
    np.testing.assert_allclose(source_sigma(rho), expected)


def test_every_band_has_noise_of_a_plausible_size():
    assert NOISE_ABSOLUTE.shape == NOISE_RELATIVE.shape == (len(SOURCE_BAND_NAMES),)
    sigma = source_sigma(np.full(12, 0.3))
    assert (sigma > 0.003).all()
    assert (sigma < 0.02).all()


def test_noise_never_falls_with_brightness():
    rho = np.tile(np.linspace(0, 1.5, 50), (12, 1))
    assert (np.diff(source_sigma(rho), axis=1) >= 0).all()
