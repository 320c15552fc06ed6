"""Responses on the grid: rows sum to one, gaps stay gaps, B01 never constrains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.bands import CENTRE_NM, FWHM_NM
from model.errors import InvalidResponseTable
from model.srf import ResponseTable, channel_widths, integrate, read_sentinel2_tables

AXIS = np.arange(400.0, 2500.0)


def gaussian_band(centre: float, fwhm: float) -> np.ndarray:
    return np.exp(-4 * np.log(2) * ((AXIS - centre) / fwhm) ** 2)


@settings(max_examples=40, deadline=None)
@given(st.floats(520, 1200), st.floats(12, 120))
def test_a_band_inside_the_grid_averages_a_linear_spectrum_at_its_centre(centre, fwhm):
    responses = integrate(ResponseTable(("x",), AXIS, gaussian_band(centre, fwhm)[None]))
    assert responses.matrix.sum() == pytest.approx(1.0)
    if 480 + fwhm < centre < 1300 - fwhm:
        assert responses.matrix[0] @ CENTRE_NM == pytest.approx(centre, abs=2.5)


def test_a_band_outside_the_grid_is_lost_and_constrains_nothing():
    responses = integrate(ResponseTable(("uv",), AXIS, gaussian_band(430.0, 15.0)[None]))
    assert responses.loss[0] > 0.9
    assert not responses.constrains[0]
    assert not responses.matrix.any()


def test_a_band_half_in_a_gap_reports_its_loss():
    responses = integrate(ResponseTable(("gap",), AXIS, gaussian_band(1440.0, 40.0)[None]))
    assert 0.3 < responses.loss[0] < 0.9


def test_overlapping_detectors_share_the_width_one_would_have():
    widths = channel_widths(CENTRE_NM, FWHM_NM)
    overlap = (CENTRE_NM > 640) & (CENTRE_NM < 690)
    covered = widths[overlap].sum()
    assert covered == pytest.approx(50, abs=8)
    assert widths.min() > 0
    assert widths.max() <= 2 * FWHM_NM.max()


@pytest.mark.parametrize(
    ("wavelength", "response", "message"),
    [
        (AXIS[::-1], np.ones((1, AXIS.size)), "increase"),
        (AXIS, np.zeros((1, AXIS.size)), "positive sum"),
        (AXIS, np.ones((2, AXIS.size)), "shape"),
        (AXIS, np.full((1, AXIS.size), np.nan), "finite"),
    ],
)
def test_a_malformed_table_is_refused(wavelength, response, message):
    with pytest.raises(InvalidResponseTable, match=message):
        ResponseTable(("x",), wavelength, response)


def test_the_same_interface_takes_another_sensor():
    oli = {"blue": (482, 60), "green": (561, 57), "red": (655, 37), "nir": (865, 28), "swir1": (1609, 85)}
    table = ResponseTable(tuple(oli), AXIS, np.stack([gaussian_band(*band) for band in oli.values()]))
    responses = integrate(table)
    assert responses.constrains.all()
    assert np.linalg.matrix_rank(responses.matrix) == len(oli)


def test_real_tables_have_rank_eleven_and_small_losses(shared_data):
    tables = read_sentinel2_tables(shared_data / "srf" / "s2_srf_1nm.npz")
    assert set(tables) == {"sentinel-2a", "sentinel-2b", "sentinel-2c"}
    for table in tables.values():
        responses = integrate(table)
        assert np.linalg.matrix_rank(responses.matrix) == 11
        assert responses.loss[0] > 0.95
        assert responses.loss[1:].max() < 0.05
    borrowed = tables["sentinel-2c"].response[9], tables["sentinel-2b"].response[9]
    np.testing.assert_array_equal(*borrowed)
