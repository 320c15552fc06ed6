"""The subspace and its stored form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.bands import CHANNELS
from model.subspace import coefficient_steps, fit_basis, hsi_layers

RNG = np.random.default_rng(0)
MIXING = np.abs(RNG.normal(size=(6, 172))).cumsum(axis=1) / 100
SPECTRA = RNG.random((400, 6)) @ MIXING + RNG.normal(scale=1e-4, size=(400, 172))


def test_components_are_orthonormal_and_ordered():
    basis = fit_basis(SPECTRA, 6)
    np.testing.assert_allclose(basis.components @ basis.components.T, np.eye(6), atol=1e-10)
    energy = (basis.project(SPECTRA) ** 2).mean(axis=0)
    assert (np.diff(energy) <= 0).all()


def test_the_basis_holds_what_it_was_fitted_to_down_to_the_noise():
    assert fit_basis(SPECTRA, 6).floor(SPECTRA).max() < 4e-4


def test_black_and_scaled_spectra_stay_inside():
    basis = fit_basis(SPECTRA, 6)
    np.testing.assert_array_equal(basis.expand(np.zeros(6)), 0)
    np.testing.assert_allclose(basis.expand(3 * basis.project(SPECTRA[:1])[0]), 3 * SPECTRA[0], atol=3e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 399), st.floats(-0.5, 2.5))
def test_storing_coefficients_costs_less_than_one_dn(index, brightness):
    basis = fit_basis(SPECTRA, 6)
    steps = coefficient_steps(basis.project(SPECTRA))
    exact = basis.project(SPECTRA[index : index + 1])[0] * brightness
    stored = np.round(exact / steps)
    assert np.abs(stored).max() <= 32767
    assert np.abs(basis.expand(stored * steps) - basis.expand(exact)).max() < 5e-4


def test_layers_carry_every_wavelength():
    layers = hsi_layers()
    assert len(layers) == 172
    assert [layer.centre_nm for layer in layers] == [channel.centre_nm for channel in CHANNELS]
    assert layers[0].scale == pytest.approx(1e-4)
