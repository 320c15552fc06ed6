"""The whole model: shapes, identity of its files, determinism, bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.bands import SOURCE_BANDS
from model.duality import Multispectral
from model.errors import InvalidImage, UnknownPlatform
from model.inference import Halo, cells
from model.layers import NODATA

NONE = Halo(0, 0, 0, 0)


def decode(stored: np.ndarray, layers) -> np.ndarray:
    scale = np.array([layer.scale for layer in layers])[:, None, None]
    offset = np.array([layer.offset for layer in layers])[:, None, None]
    return np.where(stored == NODATA, np.nan, stored * scale + offset)


FIELDS = ("hsi", "compact", "uncertainty", "explanation", "residual_10", "residual_20", "residual_60")


def test_every_layer_has_its_array(model, scene):
    estimate = model.estimate(scene(), Halo(6, 12, 18, 24))
    h, w = 96 - 12 - 24, 96 - 6 - 18
    assert estimate.hsi.shape == (len(model.hsi_layers), h, w)
    assert estimate.compact.shape == (len(model.compact_layers), h, w)
    assert estimate.uncertainty.shape == (len(model.uncertainty_layers), h, w)
    assert estimate.explanation.shape == (len(model.explanation_layers), h, w)
    assert estimate.residual_10.shape == (4, h, w)
    assert estimate.residual_20.shape == (6, h // 2, w // 2)
    assert estimate.residual_60.shape == (2, h // 6, w // 6)
    assert all(getattr(estimate, name).dtype == np.int16 for name in FIELDS)
    for layers in (model.hsi_layers, model.compact_layers, model.uncertainty_layers, model.explanation_layers):
        assert len({layer.name for layer in layers}) == len(layers)


def test_compact_expands_to_hsi_within_two_dn(model, estimates):
    for estimate in estimates.values():
        expanded = model.basis().expand(decode(estimate.compact, model.compact_layers))
        assert np.abs(expanded / 1e-4 - estimate.hsi).max() <= 1.0


def test_residual_is_source_minus_the_stored_product_seen_through_the_sensor(model, patches, estimates):
    """Independent float64 oracle at 10 m: no part of the model's own residual code."""
    for name, estimate in estimates.items():
        msi = patches[name]
        seen = model.resimulate(model.basis().expand(decode(estimate.compact, model.compact_layers)), msi.platform)
        expected = msi.b10 - seen[[1, 2, 3, 7]]
        np.testing.assert_allclose(decode(estimate.residual_10, model.residual_layers[10]), expected, atol=1e-4)


def test_channel_sigma_comes_from_the_stored_layers_alone(model, estimates):
    estimate = estimates["S2A_MSIL2A_20170613T101031_87_48"]
    sigma = model.channel_sigma(estimate.uncertainty)
    assert sigma.shape == estimate.hsi.shape
    assert (sigma > 0).all()
    groups = decode(estimate.uncertainty, model.uncertainty_layers)
    from model.bands import SPECTRAL_GROUPS

    for g, group in enumerate(SPECTRAL_GROUPS):
        rms = np.sqrt((sigma[group.channels] ** 2).mean(axis=0))
        np.testing.assert_allclose(rms, groups[g], rtol=1e-3)


def test_doubt_is_smallest_where_the_sensor_looks(model, estimates):
    groups = decode(estimates["S2A_MSIL2A_20170617T113321_4_55"].uncertainty, model.uncertainty_layers)
    names = [layer.name for layer in model.uncertainty_layers]
    mean = dict(zip(names, np.nanmean(groups, axis=(1, 2)), strict=True))
    assert mean["sigma_red"] < mean["sigma_nir_gap"]
    assert mean["sigma_green"] < mean["sigma_swir1"]


def test_attribution_shares_add_up_and_measured_fractions_stay_fractions(model, estimates):
    names = [layer.name for layer in model.explanation_layers]
    for estimate in estimates.values():
        values = dict(zip(names, decode(estimate.explanation, model.explanation_layers), strict=True))
        shares = sum(values[f"attribution_{band.name}"] for band in SOURCE_BANDS)
        np.testing.assert_allclose(shares + values["learned_share"], 1.0, atol=2e-3)
        assert 0 <= values["measured_fraction"].min() <= values["measured_fraction"].max() <= 1
        assert values["measured_red"].mean() > values["measured_nir_gap"].mean()


def test_a_crop_is_bit_identical_to_the_full_scene(model, scene, cut):
    """Any window of whole blocks gives the pixels of the full tile, whatever the number of threads."""
    tile = scene(576, 768, seed=2)
    tile.b10[:, 200:230, 300:340] = np.nan

    def run(window):
        canvas = np.full((172, 576, 768), NODATA, np.int16)
        doubt = np.full((9, 576, 768), NODATA, np.int16)
        for cell in cells(window, 768, 576):
            estimate = model.estimate(cut(tile, *cell.read), cell.halo)
            part = np.s_[:, cell.inner.row : cell.inner.row + cell.inner.height, cell.inner.column :]
            canvas[part][:, :, : cell.inner.width] = estimate.hsi
            doubt[part][:, :, : cell.inner.width] = estimate.uncertainty
        return canvas, doubt

    whole, whole_doubt = run((0, 0, 768, 576))
    for threads, window in ((1, (192, 192, 384, 192)), (2, (192, 0, 192, 576)), (2, (384, 192, 384, 384))):
        torch.set_num_threads(threads)
        try:
            part, part_doubt = run(window)
        finally:
            torch.set_num_threads(1)
        column, row, width, height = window
        inside = np.s_[:, row : row + height, column : column + width]
        np.testing.assert_array_equal(part[inside], whole[inside])
        np.testing.assert_array_equal(part_doubt[inside], whole_doubt[inside])


def test_cells_meet_without_a_seam(model, scene, cut):
    tile = scene(480, 480, seed=4)
    whole = model.estimate(tile, NONE).hsi.astype(int)
    for cell in cells((0, 0, 480, 480), 480, 480):
        part = model.estimate(cut(tile, *cell.read), cell.halo).hsi.astype(int)
        rows = slice(cell.inner.row, cell.inner.row + cell.inner.height)
        difference = np.abs(part - whole[:, rows, cell.inner.column : cell.inner.column + cell.inner.width])
        assert np.quantile(difference, 0.999) <= 3
        assert difference.max() <= 60


def test_nodata_stays_nodata_everywhere_and_counts_nowhere(model, scene):
    msi = scene()
    msi.b20[:, 6:12, 6:12] = np.nan
    estimate = model.estimate(msi, NONE)
    hole = np.zeros((96, 96), bool)
    hole[12:24, 12:24] = True
    for name in ("hsi", "compact", "uncertainty", "explanation"):
        np.testing.assert_array_equal((getattr(estimate, name) == NODATA).all(axis=0), hole)
        assert not (getattr(estimate, name) == NODATA)[:, ~hole].any()
    assert not estimate.out_of_domain[hole].any()
    assert not estimate.low_consistency[hole].any()
    assert estimate.totals["valid"] == 96 * 96 - 144


def test_an_all_nodata_window_is_answered_with_nodata(model, scene):
    msi = scene()
    empty = Multispectral(*(np.full_like(a, np.nan) for a in (msi.b10, msi.b20, msi.b60)), msi.platform)
    estimate = model.estimate(empty, NONE)
    assert all((getattr(estimate, name) == NODATA).all() for name in FIELDS)
    assert model.quality(estimate.totals) == {"valid_pixels": 0.0}


def test_infinite_values_count_as_nodata(model, scene):
    msi = scene()
    msi.b10[1, 5, 7] = np.inf
    assert (model.estimate(msi, NONE).hsi[:, 5, 7] == NODATA).all()


def test_reflectance_below_zero_and_above_one_is_kept_not_wrapped(model, scene):
    msi = scene()
    bright = replace(msi, b10=msi.b10 * 6, b20=msi.b20 * 6, b60=msi.b60 * 6)
    dark = replace(msi, b10=msi.b10 - 0.06, b20=msi.b20 - 0.06, b60=msi.b60 - 0.06)
    assert model.estimate(bright, NONE).hsi.max() > 11_000
    low = model.estimate(dark, NONE).hsi
    assert -2500 < low.min() < 0


def test_totals_of_windows_add_up_to_the_quality_of_the_whole(model, scene):
    parts = [model.estimate(scene(seed=s), NONE).totals for s in range(3)]
    summed = {key: sum(part[key] for part in parts) for key in parts[0]}
    quality = model.quality(summed)
    each = [model.quality(part) for part in parts]
    assert quality["valid_pixels"] == 3 * 96 * 96
    for key in ("mean_uncertainty", "within_noise_fraction", "out_of_domain_fraction", "measured_fraction"):
        assert quality[key] == pytest.approx(np.mean([q[key] for q in each]))
    assert quality["within_noise_fraction"] + quality["low_consistency_fraction"] == pytest.approx(1)


def test_foreign_spectra_are_flagged_out_of_domain(model, scene):
    msi = scene()
    msi.b10[:, :, :] = msi.b10[::-1].copy()  # a provider that delivers its bands in the wrong order
    assert model.estimate(msi, NONE).out_of_domain.mean() > 0.9
    assert model.estimate(scene(), NONE).out_of_domain.mean() < 0.1


def test_platforms_differ_in_their_answer(model, scene):
    a, b = (model.estimate(scene(platform=f"sentinel-2{p}"), NONE).hsi for p in "ab")
    assert not np.array_equal(a, b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: replace(m, b10=m.b10[:3]), "3 bands; expected 4"),
        (lambda m: replace(m, b20=m.b20[:, :-1]), "b20 has"),
        (lambda m: replace(m, b60=m.b60.astype(np.float64)), "float64; expected"),
        (lambda m: replace(m, b10=m.b10[0]), "2-dimensional"),
        (
            lambda m: replace(m, b10=m.b10[:, :90, :92], b20=m.b20[:, :45, :46], b60=m.b60[:, :15, :15]),
            "multiples of 6",
        ),
    ],
)
def test_a_malformed_image_says_what_is_wrong(model, scene, change, message):
    with pytest.raises(InvalidImage, match=message):
        model.estimate(change(scene()), NONE)


@pytest.mark.parametrize("halo", [Halo(5, 0, 0, 0), Halo(-6, 0, 0, 0), Halo(48, 0, 48, 0)])
def test_a_halo_that_does_not_fit_is_refused(model, scene, halo):
    with pytest.raises(InvalidImage, match="halo"):
        model.estimate(scene(), halo)


def test_an_unknown_platform_is_refused(model, scene):
    with pytest.raises(UnknownPlatform, match="landsat-9"):
        model.estimate(scene(platform="landsat-9"), NONE)
    with pytest.raises(UnknownPlatform):
        model.resimulate(np.zeros((172, 1)), "sentinel-2z")
