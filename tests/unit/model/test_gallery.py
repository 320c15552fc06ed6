"""The failure gallery: every case does what it claims, and verdicts follow from what was measured."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from model.bands import BANDS_BY_RESOLUTION, SOURCE_BAND_NAMES
from model.errors import InvalidImage
from model.evaluation import gallery
from model.evaluation.gallery import (
    CLOUD,
    FIELDS,
    LAKE,
    RELATIVE,
    SWAPS,
    blend,
    cloud_opacity,
    decoded,
    exposures,
    far_from,
    make_gallery,
    rewrite,
    small_objects,
    states_doubt,
    target_share,
    with_offset,
    with_swap,
)
from model.evaluation.simulation import simulate_scene
from model.fusion import down
from model.spectra import read_spectra

CHAPTER = Path(__file__).parents[3] / "docs" / "7-reading-explanations.md"
PICTURES = {"cloud-edge", "foreign-material", "offset", "swapped-bands", "lake-shore"}


def parts(msi):
    return {10: msi.b10, 20: msi.b20, 60: msi.b60}


@pytest.fixture(scope="module")
def cases(model, patches):
    return make_gallery(model, patches, None)


@pytest.fixture(scope="module")
def by_name(cases):
    return {case.name: case for case in cases}


def png_width(path: Path) -> int:
    return struct.unpack(">II", path.read_bytes()[16:24])[0]


def test_every_failure_has_a_picture_with_its_place_marked(cases):
    assert {case.picture.removeprefix("failure-").removesuffix(".png") for case in cases} == PICTURES
    for case in cases:
        assert case.title in "".join(panel.title for panel in case.panels)


def test_picture_is_drawn_wide_enough_for_1200_pixels(model, patches, tmp_path):
    (case,) = gallery._Gallery(model, patches, tmp_path / "new").cloud()
    assert png_width(tmp_path / "new" / case.picture) >= 1200


def test_measured_figures_are_shares_and_finite(cases):
    for case in cases:
        assert case.hit.any()
        assert np.isfinite(case.rmse)
        assert case.rmse > 0
        shares = [case.flagged, case.flagged_before, case.covered]
        shares += [value for e in case.exposures for value in (e.beyond, e.beyond_before)]
        assert all(0 <= share <= 1 for share in shares)


def test_every_case_weighs_every_layer(cases, model, estimates):
    for case in cases:
        assert {e.layer for e in case.exposures} == set(decoded(model, estimates[FIELDS]))


def test_flagged_share_is_that_of_the_quality_bits(cases):
    for case in cases:
        bits = case.estimate.out_of_domain | case.estimate.low_consistency
        assert case.flagged == pytest.approx(bits[case.hit].mean())


def test_missed_offset_raises_the_score_or_is_said_not_to(by_name, model, patches, estimates):
    case = by_name["offset"]
    for resolution, bands in parts(case.msi).items():
        assert np.allclose(bands - parts(patches[FIELDS])[resolution], 0.1, atol=1e-6)
    score = decoded(model, case.estimate)["out_of_domain_score"]
    assert np.median(score) > 1 or case.verdict != "flagged"
    before, after = estimates[FIELDS].hsi.min(axis=0), case.estimate.hsi.min(axis=0)
    assert np.median(after) > np.median(before) + 500  # the darkest channel tells: half of the offset at least


def test_swapped_red_edge_is_flagged_and_its_error_is_large(by_name):
    case = by_name["swap-b05-b06"]
    assert case.verdict == "flagged"
    assert case.rmse > 0.05


def test_cloud_brightens_only_its_side(by_name, patches):
    case = by_name["cloud-edge"]
    change = case.msi.b10 - patches[gallery.PASTURE].b10
    assert change[:3, :, 80:].mean() > 0.2
    assert np.abs(change[:, :, :20]).max() < 0.01


def test_inserted_materials_show_their_bands_and_are_not_met(by_name, model, patches):
    responses = model.parameters.sensors["sentinel-2a"].responses
    for kind, surface in ((s.kind.name, s) for s in gallery.foreign_spectra(1)):
        if kind not in gallery.SHOWN_MATERIALS:
            continue
        case = by_name[f"material-{kind.replace('_', '-')}"]
        assert case.hit.sum() == gallery.TARGET**2
        expected = responses @ surface.spectra[:, 0]
        rows = [SOURCE_BAND_NAMES.index(name) for name in BANDS_BY_RESOLUTION[10]]
        assert np.allclose(case.msi.b10[:, case.hit], expected[rows][:, None], atol=1e-5)
        assert np.array_equal(case.msi.b10[:, ~case.hit], patches[FIELDS].b10[:, ~case.hit])
        assert case.rmse > 0.02


def test_shore_is_water_and_its_60_m_pixels_see_land(by_name, patches):
    case, msi = by_name["lake-shore"], patches[LAKE]
    assert (msi.b10[3][case.hit] < gallery.WATER_B08).all()
    b09 = msi.b60[1].repeat(6, 0).repeat(6, 1)
    water = msi.b10[3] < gallery.WATER_B08
    assert np.median(b09[case.hit]) > 1.5 * np.median(b09[far_from(~water, gallery.OPEN)])


def test_aircraft_and_roofs_err_more_than_their_surroundings_and_detail_tells(model, patches, shared_data):
    spectra = read_spectra(shared_data / "cubes" / "aviris_sandiego_a.npz")
    responses = model.parameters.sensors[gallery.PLATFORM].responses
    scene = simulate_scene(spectra, responses, gallery.PLATFORM, np.random.default_rng(0))
    (case,) = gallery._Gallery(model, patches, None).small(scene)
    estimate = case.estimate.hsi * 1e-4
    rest = far_from(case.hit, 3)
    error = np.sqrt(((estimate - scene.truth) ** 2).mean(axis=0))
    assert case.rmse == pytest.approx(np.sqrt((error[case.hit] ** 2).mean()), rel=1e-5)
    assert case.rmse > 1.5 * np.sqrt((error[rest] ** 2).mean())
    assert "detail" in {e.layer for e in case.telling}


def test_missing_patch_is_refused_by_name(model, patches):
    with pytest.raises(InvalidImage, match=LAKE):
        make_gallery(model, {FIELDS: patches[FIELDS]}, None)


# ---- changes to a patch ----


@settings(max_examples=15, deadline=None)
@given(share=st.floats(0, 1))
def test_even_blend_is_the_same_mixture_at_every_resolution(share):
    from tests.unit.model.conftest import make_scene

    msi = make_scene(48, 48)
    mixed = blend(msi, np.full((48, 48), share), CLOUD)
    for resolution, bands in parts(mixed).items():
        colour = CLOUD[[SOURCE_BAND_NAMES.index(n) for n in BANDS_BY_RESOLUTION[resolution]]][:, None, None]
        expected = (1 - share) * parts(msi)[resolution] + share * colour
        assert np.allclose(bands, expected, atol=1e-5)


def test_blend_over_even_ground_is_what_the_sensor_sees_of_the_fine_mixture():
    from tests.unit.model.conftest import make_scene

    msi = make_scene(48, 48)
    ground = np.full(12, 0.2)
    even = replace(msi, b10=np.full_like(msi.b10, 0.2), b20=np.full_like(msi.b20, 0.2), b60=np.full_like(msi.b60, 0.2))
    share = target_share(48, 48, 13, 20)
    fine = (1 - share) * ground[:, None, None] + share * CLOUD[:, None, None]
    mixed = blend(even, share, CLOUD)
    for resolution, bands in parts(mixed).items():
        rows = [SOURCE_BAND_NAMES.index(n) for n in BANDS_BY_RESOLUTION[resolution]]
        seen = torch.as_tensor(fine[rows].astype(np.float32))
        seen = seen if resolution == 10 else down(seen, resolution // 10)
        assert np.allclose(bands, seen.numpy(), atol=1e-5)


@pytest.mark.parametrize("pair", SWAPS)
def test_swap_undoes_itself_and_touches_two_bands(pair):
    from tests.unit.model.conftest import make_scene

    msi = make_scene(24, 24)
    once, twice = with_swap(msi, *pair), with_swap(with_swap(msi, *pair), *pair)
    changed = 0
    for resolution, bands in parts(msi).items():
        assert np.array_equal(parts(twice)[resolution], bands)
        changed += sum(not np.array_equal(a, b) for a, b in zip(parts(once)[resolution], bands, strict=True))
    assert changed == 2


def test_swap_across_resolutions_is_refused():
    from tests.unit.model.conftest import make_scene

    with pytest.raises(InvalidImage, match="one resolution"):
        with_swap(make_scene(24, 24), "B08", "B8A")


def test_changes_leave_the_patch_alone():
    from tests.unit.model.conftest import make_scene

    msi = make_scene(24, 24)
    kept = {resolution: bands.copy() for resolution, bands in parts(msi).items()}
    with_offset(msi)
    with_swap(msi, "B02", "B04")
    blend(msi, np.ones((24, 24)), CLOUD)
    for resolution, bands in parts(msi).items():
        assert np.array_equal(bands, kept[resolution])


def test_cloud_is_soft_and_reaches_its_opacity():
    opacity = cloud_opacity(120, 120)
    assert opacity.min() < 0.01
    assert opacity.max() == pytest.approx(gallery.LARGEST_OPACITY, abs=0.02)
    assert np.abs(np.diff(opacity, axis=1)).max() < 0.03


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), pixels=st.integers(1, 5))
def test_far_from_is_a_dilation_s_complement(seed, pixels):
    mask = np.random.default_rng(seed).random((20, 23)) > 0.97
    square = np.ones((2 * pixels + 1,) * 2)
    assert np.array_equal(far_from(mask, pixels), ~ndimage.binary_dilation(mask, square))


def test_small_objects_outshine_their_surroundings():
    bands = np.full((4, 30, 30), 0.2)
    bands[:, 10:12, 15:17] = 0.5
    bands[:, 20:, :] = 0.5  # a large bright field is no small object
    found = small_objects(bands)
    assert found[10:12, 15:17].all()
    assert not found[22:].any()
    assert found.sum() == 4


# ---- what layers say ----


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(-5, 5))
def test_share_beyond_normal_is_counted_on_the_side_of_doubt(seed, shift):
    rng = np.random.default_rng(seed)
    before = {name: rng.normal(size=(16, 16)).astype(np.float32) for name in ("detail", "attribution_B02")}
    after = {name: values + np.float32(shift) for name, values in before.items()}
    everywhere = np.ones((16, 16), bool)
    found = {e.layer: e for e in exposures(after, everywhere, before, everywhere, before)}
    low, high = np.percentile(before["detail"], (5, 95))
    assert found["detail"].beyond == pytest.approx((after["detail"] > high).mean(), abs=0.01)
    both = (after["attribution_B02"] > np.percentile(before["attribution_B02"], 95)) | (
        after["attribution_B02"] < np.percentile(before["attribution_B02"], 5)
    )
    assert found["attribution_B02"].beyond == pytest.approx(both.mean(), abs=0.01)
    assert found["detail"].after - found["detail"].before == pytest.approx(shift, abs=1e-4)
    assert low < high


def test_untouched_patch_exposes_nothing(model, estimates):
    layers = decoded(model, estimates[FIELDS])
    everywhere = np.ones(next(iter(layers.values())).shape, bool)
    for found in exposures(layers, everywhere, layers, everywhere, layers):
        assert found.beyond == found.beyond_before
        assert found.beyond <= 0.11
        assert found.before == found.after


def test_layers_that_only_describe_or_grow_with_brightness_state_no_doubt():
    assert not any(
        map(states_doubt, ("attribution_B02", "measured_red", "detail_gain_B08", "sigma_red", "residual_B01"))
    )
    assert all(map(states_doubt, ("out_of_domain_score", "sigma_red" + RELATIVE, "residual_B09", "detail")))


def test_decoded_layers_match_the_stored_integers(model, estimates):
    estimate = estimates[FIELDS]
    found = decoded(model, estimate)
    for number, layer in enumerate(model.explanation_layers):
        assert np.allclose(found[layer.name], estimate.explanation[number] * layer.scale, rtol=1e-5)
    mean = estimate.hsi.mean(axis=0) * 1e-4
    assert np.allclose(found["sigma_red" + RELATIVE] * mean, found["sigma_red"], rtol=1e-4)
    assert np.allclose(found["residual_B09"][::6, ::6], np.abs(estimate.residual_60[1]) * 1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("flagged", "before", "beyond", "verdict"),
    [
        (0.9, 0.0, 0.9, "flagged"),
        (0.9, 0.8, 0.9, "visible"),
        (0.3, 0.0, 0.4, "not exposed"),
        (0.0, 0.0, 0.6, "visible"),
    ],
)
def test_verdict_follows_from_the_shares(by_name, flagged, before, beyond, verdict):
    told = (gallery.Exposure("detail", 0.1, 0.2, beyond, 0.05),)
    case = replace(by_name["offset"], flagged=flagged, flagged_before=before, exposures=told)
    assert case.verdict == verdict
    assert f"Verdict: {verdict}." in gallery.measured_sentence(case)


# ---- the chapter ----


def test_marks_are_filled_and_the_rest_is_left_alone():
    text = "a\n<!-- begin x -->\nold\nolder\n<!-- end x -->\nb\n"
    assert rewrite(text, {"x": r"\1 new"}) == "a\n<!-- begin x -->\n\\1 new\n<!-- end x -->\nb\n"
    assert rewrite(rewrite(text, {"x": "1"}), {"x": "2"}) == rewrite(text, {"x": "2"})
    with pytest.raises(ValueError, match="'y'"):
        rewrite(text, {"y": "1"})


def test_chapter_has_a_place_for_every_number_and_shows_every_picture(cases):
    text = CHAPTER.read_text(encoding="utf-8")
    for case in cases:
        assert f"<!-- begin measured {case.name} -->" in text
        assert f"images/{case.picture}" in text
        assert png_width(CHAPTER.parent / "images" / case.picture) >= 1200
    for name in ("weights", "normal explanation", "normal uncertainty", "normal residual", "exposure", "damage"):
        assert f"<!-- begin {name} -->" in text


def test_every_layer_is_explained_in_the_chapter(model):
    text = CHAPTER.read_text(encoding="utf-8")
    for layer in (*model.explanation_layers, *model.uncertainty_layers):
        assert f"`{layer.name}`" in text
