"""The failure gallery: every case does what it claims, and verdicts follow from what was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.bands import BANDS_BY_RESOLUTION, SOURCE_BAND_NAMES
from model.errors import InvalidImage
from model.evaluation.domain import foreign_spectra
from model.evaluation.gallery import (
    FIELDS,
    LAKE,
    PASTURE,
    PLATFORM,
    Exposure,
    Gallery,
    decoded,
    far_from,
    make_gallery,
    measured_sentence,
)
from model.evaluation.gallery.cases import OPEN, SHOWN_MATERIALS, WATER_B08
from model.evaluation.gallery.changes import TARGET
from model.evaluation.simulation import simulate_scene
from model.spectra import read_spectra
from tests.unit.model.figure_rows import size_of

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


def test_every_failure_has_a_picture_with_its_place_marked(cases):
    assert {case.picture.removeprefix("failure-").removesuffix(".png") for case in cases} == PICTURES
    for case in cases:
        assert case.title in "".join(panel.title for panel in case.panels)


def test_picture_is_drawn_wide_enough_for_1200_pixels(model, patches, tmp_path):
    (case,) = Gallery(model, patches, tmp_path / "new").cloud()
    assert size_of(tmp_path / "new" / case.picture)[0] >= 1200


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
    change = case.msi.b10 - patches[PASTURE].b10
    assert change[:3, :, 80:].mean() > 0.2
    assert np.abs(change[:, :, :20]).max() < 0.01


def test_inserted_materials_show_their_bands_and_are_not_met(by_name, model, patches):
    responses = model.parameters.sensors["sentinel-2a"].responses
    for kind, surface in ((s.kind.name, s) for s in foreign_spectra(1)):
        if kind not in SHOWN_MATERIALS:
            continue
        case = by_name[f"material-{kind.replace('_', '-')}"]
        assert case.hit.sum() == TARGET**2
        expected = responses @ surface.spectra[:, 0]
        rows = [SOURCE_BAND_NAMES.index(name) for name in BANDS_BY_RESOLUTION[10]]
        assert np.allclose(case.msi.b10[:, case.hit], expected[rows][:, None], atol=1e-5)
        assert np.array_equal(case.msi.b10[:, ~case.hit], patches[FIELDS].b10[:, ~case.hit])
        assert case.rmse > 0.02


def test_shore_is_water_and_its_60_m_pixels_see_land(by_name, patches):
    case, msi = by_name["lake-shore"], patches[LAKE]
    assert (msi.b10[3][case.hit] < WATER_B08).all()
    b09 = msi.b60[1].repeat(6, 0).repeat(6, 1)
    water = msi.b10[3] < WATER_B08
    assert np.median(b09[case.hit]) > 1.5 * np.median(b09[far_from(~water, OPEN)])


def test_aircraft_and_roofs_err_more_than_their_surroundings_and_detail_tells(model, patches, shared_data):
    spectra = read_spectra(shared_data / "cubes" / "aviris_sandiego_a.npz")
    responses = model.parameters.sensors[PLATFORM].responses
    scene = simulate_scene(spectra, responses, PLATFORM, np.random.default_rng(0))
    (case,) = Gallery(model, patches, None).small(scene)
    estimate = case.estimate.hsi * 1e-4
    rest = far_from(case.hit, 3)
    error = np.sqrt(((estimate - scene.truth) ** 2).mean(axis=0))
    assert case.rmse == pytest.approx(np.sqrt((error[case.hit] ** 2).mean()), rel=1e-5)
    assert case.rmse > 1.5 * np.sqrt((error[rest] ** 2).mean())
    assert "detail" in {e.layer for e in case.telling}


def test_missing_patch_is_refused_by_name(model, patches):
    with pytest.raises(InvalidImage, match=LAKE):
        make_gallery(model, {FIELDS: patches[FIELDS]}, None)


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
    told = (Exposure("detail", 0.1, 0.2, beyond, 0.05),)
    case = replace(by_name["offset"], flagged=flagged, flagged_before=before, exposures=told)
    assert case.verdict == verdict
    assert f"Verdict: {verdict}." in measured_sentence(case)


def test_chapter_has_a_place_for_every_number_and_shows_every_picture(cases):
    text = CHAPTER.read_text(encoding="utf-8")
    for case in cases:
        assert f"<!-- begin measured {case.name} -->" in text
        assert f"images/{case.picture}" in text
        assert size_of(CHAPTER.parent / "images" / case.picture)[0] >= 1200
    for name in ("weights", "normal explanation", "normal uncertainty", "normal residual", "exposure", "damage"):
        assert f"<!-- begin {name} -->" in text


def test_every_layer_is_explained_in_the_chapter(model):
    text = CHAPTER.read_text(encoding="utf-8")
    for layer in (*model.explanation_layers, *model.uncertainty_layers):
        assert f"`{layer.name}`" in text
