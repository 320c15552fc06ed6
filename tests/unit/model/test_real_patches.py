"""Physics on six real Sentinel-2 patches, in numbers: what a person would check by eye."""

from __future__ import annotations

import numpy as np
import pytest

from model.bands import CENTRE_NM
from model.evaluation.metrics import spectral_angle
from model.layers import NODATA
from model.noise import WITHIN_NOISE_SIGMAS, source_sigma
from model.residual import ROWS

CROPS = "S2A_MSIL2A_20170613T101031_87_48"
PASTURES = ("S2A_MSIL2A_20170617T113321_36_85", "S2A_MSIL2A_20170617T113321_4_55")
WINTER = "S2A_MSIL2A_20171221T112501_56_35"
LAKE = "S2B_MSIL2A_20170924T93020_69_24"
SNOW = "S2B_MSIL2A_20180204T94161_57_38"
ALL = (CROPS, *PASTURES, WINTER, LAKE, SNOW)


def at(nm: float) -> int:
    return int(np.abs(CENTRE_NM - nm).argmin())


def reflectance(estimate) -> np.ndarray:
    assert not (estimate.hsi == NODATA).any()
    return estimate.hsi * 1e-4


def ndvi(x: np.ndarray) -> np.ndarray:
    nir, red = x[at(842)], x[at(665)]
    return (nir - red) / (nir + red)


def red_edge_position(spectrum: np.ndarray) -> float:
    """Wavelength of the steepest rise between 680 and 760 nm, refined by a parabola through three slopes."""
    order = [i for i in np.argsort(CENTRE_NM) if 670 < CENTRE_NM[i] < 770]
    axis, slope = CENTRE_NM[order], np.diff(spectrum[order]) / np.diff(CENTRE_NM[order])
    middle = (axis[1:] + axis[:-1]) / 2
    top = int(np.clip(slope.argmax(), 1, slope.size - 2))
    a, b, _ = np.polyfit(middle[top - 1 : top + 2], slope[top - 1 : top + 2], 2)
    return float(-b / (2 * a))


def test_all_six_patches_are_there(patches):
    assert set(patches) == set(ALL)


@pytest.mark.parametrize("name", [CROPS, *PASTURES, LAKE])
def test_vegetation_has_its_red_edge_where_plants_have_it(estimates, name):
    x = reflectance(estimates[name])
    green = ndvi(x) > 0.6
    assert green.sum() > 1000
    position = red_edge_position(x[:, green].mean(axis=1))
    assert 705 <= position <= 735


def test_ndvi_agrees_with_the_source_bands(patches, estimates):
    for name in ALL:
        red, nir = patches[name].b10[2], patches[name].b10[3]
        source = (nir - red) / np.maximum(nir + red, 0.02)
        bright = nir > 0.1
        assert np.abs(ndvi(reflectance(estimates[name])) - source)[bright].mean() < 0.05


def test_a_plant_looks_like_a_plant(estimates):
    x = reflectance(estimates[PASTURES[1]])
    leaf = x[:, ndvi(x) > 0.8].mean(axis=1)
    assert leaf[at(550)] > leaf[at(670)]  # green peak over the chlorophyll well
    assert leaf[at(860)] > 4 * leaf[at(670)]  # plateau
    assert leaf[at(860)] > leaf[at(1650)] > leaf[at(2200)]  # water takes the short-wave infrared
    assert leaf[at(1650)] > leaf[at(1460)]  # and its band at 1.45 um
    assert leaf[at(1090)] > leaf[at(1180)]  # and the small one at 1.2 um


def test_water_is_dark_beyond_900_nm(patches, estimates):
    msi = patches[LAKE]
    dark20 = (msi.b20[4] < 0.02).repeat(2, 0).repeat(2, 1)
    b09 = (msi.b60[1] < 0.03).repeat(6, 0).repeat(6, 1)
    water = (msi.b10[3] < 0.04) & (msi.b10[3] < msi.b10[1] + 0.01) & dark20 & b09
    assert water.sum() > 500
    x = reflectance(estimates[LAKE])[CENTRE_NM > 900][:, water]
    assert x.mean(axis=1).max() < 0.05
    assert (x < 0.05).mean() > 0.99
    assert x.min() > -0.03


def test_snow_is_bright_in_the_visible_and_dark_at_1600_nm(patches, estimates):
    snow = patches[SNOW].b10[0] > 0.6
    assert snow.sum() > 1000
    x = reflectance(estimates[SNOW])[:, snow]
    assert x[at(560)].mean() > 0.5
    assert (x[at(1610)] < 0.2).mean() > 0.99
    assert x[at(1610)].mean() < 0.12
    assert x[at(1030)].mean() < x[at(870)].mean()  # ice absorbs at 1.03 um


@pytest.mark.parametrize("name", ALL)
def test_source_bands_are_met_within_noise_on_99_percent(model, patches, estimates, name):
    """All bands but B01, each at its own resolution, from the stored residuals with the published noise table."""
    msi, estimate = patches[name], estimates[name]
    agreeing = np.ones(msi.b10.shape[1:], bool)
    for resolution, source, stored in (
        (10, msi.b10, estimate.residual_10),
        (20, msi.b20, estimate.residual_20),
        (60, msi.b60, estimate.residual_60),
    ):
        rows = list(ROWS[resolution])
        full = np.zeros((12, *source.shape[1:]))
        full[rows] = source
        ok = np.abs(stored * 1e-4) <= WITHIN_NOISE_SIGMAS * source_sigma(full)[rows] + 5e-5
        judged = ok[[i for i, row in enumerate(rows) if row != 0]].all(axis=0)
        ratio = resolution // 10
        agreeing &= judged.repeat(ratio, 0).repeat(ratio, 1)
    assert agreeing.mean() >= 0.99
    assert model.quality(estimate.totals)["within_noise_fraction"] == pytest.approx(agreeing.mean(), abs=2e-3)


@pytest.mark.parametrize("name", ALL)
def test_in_domain_abstention_is_rare_and_spectra_stay_physical(model, estimates, name):
    quality = model.quality(estimates[name].totals)
    assert quality["out_of_domain_fraction"] <= (0.40 if name == SNOW else 0.10)  # snow among trees: no scene held it
    x = reflectance(estimates[name])
    assert (x > -0.02).mean() > (0.985 if name == SNOW else 0.999)  # shaded trees beside sunlit snow
    assert x.max() < 1.8


def test_typical_pixels_resemble_a_library_class(shared_data, estimates):
    """Median spectra of the patches lie within a few degrees of some library spectrum of their kind."""
    from model.spectra import read_spectra

    library = {
        "plant": read_spectra(shared_data / "libraries" / "isofit_ecostress_mixtures.npz").reflectance,
        "snow": read_spectra(shared_data / "libraries" / "isofit_ecostress_snow.npz").reflectance,
    }
    for name, kind, limit in (
        (CROPS, "plant", 6.0),
        (PASTURES[0], "plant", 6.0),
        (PASTURES[1], "plant", 6.0),
        (SNOW, "snow", 12.0),
    ):
        x = reflectance(estimates[name])
        chosen = ndvi(x) > 0.6 if kind == "plant" else x[at(490)] > 0.6
        spectrum = np.median(x[:, chosen], axis=1)
        angles = spectral_angle(library[kind].T, np.repeat(spectrum[:, None], len(library[kind]), axis=1))
        assert angles.min() < limit, f"{name}: {angles.min():.1f} degrees to the nearest {kind}"
