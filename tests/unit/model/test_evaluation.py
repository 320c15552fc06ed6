"""Figures of merit and simulation."""

from __future__ import annotations

import numpy as np
import pytest

from model.errors import InvalidSpectra
from model.evaluation import evaluate, summary_table
from model.evaluation.metrics import spectral_angle, spectral_errors

AXIS = np.arange(400.0, 2500.0, 10.0)


def test_a_scaled_spectrum_has_no_angle_and_a_perfect_one_no_error():
    truth = np.random.default_rng(0).random((172, 9)) + 0.1
    np.testing.assert_allclose(spectral_angle(2 * truth, truth), 0, atol=1e-4)
    errors = spectral_errors(truth, truth)
    assert errors["rmse"] == 0
    assert errors["ergas"] == 0


def test_known_errors_are_reported_as_they_are():
    truth = np.full((172, 4), 0.5)
    errors = spectral_errors(truth + 0.01, truth)
    assert errors["rmse"] == pytest.approx(0.01)
    assert errors["psnr_db"] == pytest.approx(40.0)
    assert errors["ergas"] == pytest.approx(2.0)


def test_channels_without_truth_are_not_judged():
    truth = np.full((172, 4), 0.5)
    estimate = truth.copy()
    estimate[100:] = 9.0
    truth[100:] = np.nan
    assert spectral_errors(estimate, truth)["rmse"] == 0


def test_a_users_table_judges_the_shipped_model(tmp_path):
    leaf = 0.05 + 0.4 / (1 + np.exp(-(AXIS - 715) / 12)) * np.exp(-(((AXIS - 900) / 1100) ** 2))
    table = leaf * np.linspace(0.6, 1.2, 40)[:, None]
    np.savez(tmp_path / "leaf.npz", reflectance=table, wavelength_nm=AXIS)
    rows = evaluate([tmp_path / "leaf.npz"])
    assert rows[0]["rmse"] < 0.05
    assert not rows[0]["in_training"]
    assert "leaf" in summary_table(rows)


def test_the_full_tier_wants_a_contiguous_cube(tmp_path):
    np.savez(tmp_path / "table.npz", reflectance=np.full((5, AXIS.size), 0.2), wavelength_nm=AXIS)
    with pytest.raises(InvalidSpectra, match="contiguous"):
        evaluate([tmp_path / "table.npz"], tier="full")


@pytest.mark.parametrize("name", ["aviris_sandiego_a", "aviris_sandiego_b", "enmap_potsdam"])
def test_full_tier_stays_far_below_bicubic_on_real_cubes(shared_data, name):
    (row,) = evaluate([shared_data / "cubes" / f"{name}.npz"], tier="full")
    assert row["rmse"] < 0.75 * row["baselines"]["bicubic_wiener"]["rmse"]
    assert row["rmse"] < row["baselines"]["guided_wiener"]["rmse"]
    assert row["consistency_within_noise"] > 0.98
