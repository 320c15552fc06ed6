"""Instruments by configuration: bands, noise and responses of Sentinel-2's MSI and Landsat's OLI."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.bands import CENTRE_NM, SOURCE_BAND_NAMES
from model.errors import InvalidResponseTable
from model.instruments import INSTRUMENTS, LANDSAT_OLI, SENTINEL2_MSI
from model.noise import source_sigma
from model.srf import integrate, read_oli_tables
from model.training.pair import check_responses

# Centre and width of OLI's bands: Barsi et al. 2014, Remote Sensing 6, 10232, table 1 (band average, in-band).
CENTRES = {"B1": 443.0, "B2": 482.0, "B3": 561.4, "B4": 654.6, "B5": 864.7, "B6": 1608.9, "B7": 2200.7}


@pytest.fixture(scope="module")
def tables():
    return read_oli_tables(LANDSAT_OLI.bands, LANDSAT_OLI.platforms)


@pytest.fixture(scope="module")
def responses(tables):
    return {platform: integrate(table) for platform, table in tables.items()}


def test_sentinel_2_is_what_it_was():
    assert SENTINEL2_MSI.bands == SOURCE_BAND_NAMES
    rho = np.linspace(0.0, 1.0, 60).reshape(12, 5)
    np.testing.assert_array_equal(SENTINEL2_MSI.sigma(rho), source_sigma(rho))


@pytest.mark.parametrize("instrument", INSTRUMENTS.values(), ids=lambda i: i.name)
@given(rho=st.floats(0.0, 1.4), brighter=st.floats(0.0, 1.0))
def test_noise_is_positive_grows_with_the_signal_and_is_its_two_parts(instrument, rho, brighter):
    full = np.full(len(instrument.bands), rho)
    sigma = instrument.sigma(full)
    assert (sigma >= instrument.noise_absolute).all()
    assert (instrument.sigma(full + brighter) >= sigma).all()
    np.testing.assert_allclose(sigma, np.hypot(instrument.noise_absolute, instrument.noise_relative * rho))


def test_olis_noise_meets_its_required_ratio_at_typical_radiance():
    """At the typical radiance's reflectance, absolute noise without the processor's floor is signal over ratio."""
    radiance, ratio = np.array([40, 40, 30, 22, 14, 4.0, 1.7]), np.array([130, 130, 100, 90, 90, 100, 100.0])
    irradiance = np.array([1895.33, 2004.57, 1820.75, 1549.49, 951.76, 247.55, 85.46])
    reflectance = np.pi * radiance / (irradiance * np.cos(np.pi / 4))
    sensor = np.sqrt(LANDSAT_OLI.noise_absolute**2 - 0.0005**2)
    np.testing.assert_allclose(reflectance / sensor, ratio, rtol=1e-9)


def test_oli_has_the_seven_reflective_bands_at_one_resolution():
    assert LANDSAT_OLI.bands == tuple(CENTRES)
    assert set(LANDSAT_OLI.resolution_m) == {30}


def test_response_rows_sum_to_one_and_are_not_negative(responses):
    for found in responses.values():
        np.testing.assert_allclose(found.matrix[1:].sum(axis=1), 1.0)
        assert (found.matrix >= 0).all()
        assert (found.matrix[0] == 0).all()


def test_centres_are_where_barsi_measured_them(tables, responses):
    for platform in LANDSAT_OLI.platforms:
        table, centres = tables[platform], np.array(list(CENTRES.values()))
        found = table.response @ table.wavelength_nm / table.response.sum(axis=1)
        np.testing.assert_allclose(found, centres, atol=1.0)
        on_grid = responses[platform].matrix[1:] @ CENTRE_NM
        np.testing.assert_allclose(on_grid[1:], centres[2:], atol=3.0)
        assert 0 < on_grid[0] - centres[1] < 6  # the tenth of B2 below the grid is lost


def test_what_the_grid_misses_is_the_coastal_band_and_a_tenth_of_blue(responses):
    for found in responses.values():
        assert found.loss[0] > 0.99
        assert 0.08 < found.loss[1] < 0.13
        assert (found.loss[2:] < 0.002).all()


def test_the_two_landsats_differ_a_little(responses):
    eight, nine = (responses[platform].matrix[1:] for platform in LANDSAT_OLI.platforms)
    overlap = np.minimum(eight, nine).sum(axis=1)
    assert (overlap > 0.97).all()
    assert not np.array_equal(eight, nine)


def test_responses_that_do_not_fit_the_instrument_are_refused(responses):
    check_responses(LANDSAT_OLI, responses)
    with pytest.raises(InvalidResponseTable, match="expected landsat-8, landsat-9"):
        check_responses(LANDSAT_OLI, {"landsat-8": responses["landsat-8"]})
    swapped = replace(responses["landsat-8"], loss=responses["landsat-8"].loss[::-1])
    with pytest.raises(InvalidResponseTable, match="first band must lie outside"):
        check_responses(LANDSAT_OLI, {**responses, "landsat-8": swapped})


def test_instruments_that_contradict_themselves_are_refused():
    with pytest.raises(ValueError, match="7 bands, 6 resolutions"):
        replace(LANDSAT_OLI, resolution_m=(30,) * 6)
    with pytest.raises(ValueError, match="reference platform 'landsat-7'"):
        replace(LANDSAT_OLI, reference_platform="landsat-7")
    with pytest.raises(ValueError, match="noise must be positive"):
        replace(LANDSAT_OLI, noise_absolute=np.zeros(7))
