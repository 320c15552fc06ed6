"""Out-of-domain scores and the fixed set of foreign surfaces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.bands import CENTRE_NM, SOURCE_BAND_NAMES
from model.evaluation.domain import (
    FOREIGN,
    FOREIGN_SET,
    HELD_DEG,
    _planck,
    auroc,
    auroc_by_kind,
    foreign_bands,
    foreign_spectra,
)
from model.training.corpus import SOURCES, read_corpus

SCORES = st.lists(st.integers(-3, 3), min_size=1, max_size=20)

PINNED = {
    "blue_plastic": [0.32, 0.62, 0.63, 0.63],
    "green_plastic": [0.14, 0.5, 0.51, 0.51],
    "red_plastic": [0.05, 0.72, 0.72, 0.72],
    "bare_metal": [0.8, 0.76, 0.84, 0.86],
    "solar_panel": [0.05, 0.03, 0.38, 0.38],
    "sulphur": [0.77, 0.85, 0.85, 0.85],
    "gypsum": [0.82, 0.82, 0.82, 0.67],
    "swimming_pool": [0.52, 0.02, 0.02, 0.02],
    "bloom_on_sand": [0.2, 0.55, 0.57, 0.57],
    "red_snow": [0.31, 0.82, 0.11, 0.05],
    "fluorescent_orange": [0.06, 0.76, 0.76, 0.76],
    "hot_spot": [0.04, 0.46, 0.33, 0.58],
    "cloud_edge": [0.34, 0.57, 0.4, 0.28],
    "cloud_shadow": [0.05, 0.05, 0.02, 0.01],
    "sun_glint": [0.35, 0.31, 0.29, 0.27],
    "smoke": [0.26, 0.38, 0.29, 0.17],
}


def _at(nm: float) -> int:
    return int(np.abs(CENTRE_NM - nm).argmin())


@given(SCORES, SCORES)
def test_the_area_is_the_share_of_pairs_in_order_ties_counting_half(inside, outside):
    pairs = [1.0 if o > i else 0.5 if o == i else 0.0 for i in inside for o in outside]
    assert auroc(np.array(inside), np.array(outside)) == pytest.approx(np.mean(pairs))


@given(SCORES, SCORES)
def test_the_area_depends_on_order_alone_and_turns_with_the_sides(inside, outside):
    a, b = np.array(inside, dtype=float), np.array(outside, dtype=float)
    assert auroc(np.exp(a), np.exp(b)) == pytest.approx(auroc(a, b))
    assert auroc(b, a) == pytest.approx(1 - auroc(a, b))


def test_a_part_that_is_empty_or_unknown_is_refused():
    for inside, outside in (([], [1.0]), ([1.0], []), ([np.nan], [1.0])):
        with pytest.raises(ValueError, match="scores"):
            auroc(np.array(inside), np.array(outside))


def test_every_kind_counts_alike():
    result = auroc_by_kind(np.arange(10.0), {"far": np.full(1000, 99.0), "near": np.array([-1.0])})
    assert result == {"far": 1.0, "near": 0.0, "mean": 0.5, "worst": 0.0}


def test_the_set_is_complete_plausible_and_jittered():
    surfaces = foreign_spectra(n=30)
    assert len(surfaces) == len(FOREIGN)
    assert len({kind.name for kind in FOREIGN}) == len(FOREIGN)
    for surface in surfaces:
        assert surface.spectra.shape == (172, 30)
        assert surface.coastal.shape == (30,)
        assert surface.spectra.min() >= 0
        assert surface.spectra.max() < 1.4
        assert (surface.coastal >= 0).all()
        assert surface.spectra.std(axis=1).max() > 0.003, surface.kind.name
        assert surface.kind.reason


def test_the_jitter_is_repeatable_and_differs_between_seeds():
    first, again, other = foreign_spectra(5, seed=1), foreign_spectra(5, seed=1), foreign_spectra(5, seed=2)
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a.spectra, b.spectra)
        assert not np.array_equal(a.spectra, c.spectra)


def test_the_set_is_the_one_its_name_stands_for():
    """Fixed beforehand: whoever changes a curve changes the set's name too. Means of 400 at 0.49, 0.86, 1.6, 2.2 um."""
    assert FOREIGN_SET == "foreign-1"
    rows = [_at(nm) for nm in (492, 864, 1613, 2202)]
    measured = {s.kind.name: s.spectra[rows].mean(axis=1).round(2).tolist() for s in foreign_spectra(400)}
    for name, values in PINNED.items():
        np.testing.assert_allclose(measured[name], values, atol=0.021, err_msg=name)
    assert set(measured) == set(PINNED)


def test_the_curves_do_what_their_reasons_say():
    mean = {s.kind.name: s.spectra.mean(axis=1) for s in foreign_spectra(50)}
    assert mean["blue_plastic"][_at(465)] > 4 * mean["blue_plastic"][_at(600)]
    assert mean["green_plastic"][_at(745)] < 0.3 * mean["green_plastic"][_at(860)]
    assert mean["red_plastic"][_at(650)] > 10 * mean["red_plastic"][_at(550)]
    metal = mean["bare_metal"]
    assert metal[_at(825)] < 0.96 * (metal[_at(650)] + metal[_at(1000)]) / 2
    assert mean["solar_panel"][_at(1000)] < 0.05 < 0.25 < mean["solar_panel"][_at(1300)]
    assert mean["swimming_pool"][_at(900)] < 0.03 < 0.2 < mean["swimming_pool"][_at(480)]
    assert mean["bloom_on_sand"][_at(676)] < 0.6 * mean["bloom_on_sand"][_at(780)]
    assert mean["fluorescent_orange"][_at(612)] > 1.0
    assert mean["hot_spot"][_at(2390)] > mean["hot_spot"][_at(2200)] > mean["hot_spot"][_at(2000)]
    assert mean["cloud_shadow"][_at(465)] > mean["cloud_shadow"][_at(2200)] * 4


def test_plancks_law_obeys_wien_and_stefan_boltzmann():
    axis = np.geomspace(100, 2e6, 200_001)
    for kelvin in (800.0, 5772.0):
        radiance = _planck(axis, kelvin)
        assert axis[radiance.argmax()] * kelvin == pytest.approx(2.8978e6, rel=1e-3)
        assert np.pi * np.trapezoid(radiance, axis / 1000) == pytest.approx(5.6704e-8 * kelvin**4, rel=1e-3)


def test_damage_is_what_it_is_called_and_leaves_its_input_alone():
    bands = np.random.default_rng(0).random((12, 300)) + 0.1
    before = bands.copy()
    damaged = {d.name: d.bands for d in foreign_bands(bands, seed=3)}
    np.testing.assert_array_equal(bands, before)
    np.testing.assert_allclose(damaged["offset_missed"] - damaged["offset_twice"], 0.2)
    for name, pair in {"swap_b05_b06": ("B05", "B06"), "swap_b11_b12": ("B11", "B12")}.items():
        a, b = (SOURCE_BAND_NAMES.index(band) for band in pair)
        np.testing.assert_array_equal(damaged[name][[a, b]], bands[[b, a]])
        assert (damaged[name] != bands).sum() == 600
    for name, gain in {"dead_band": 0.0, "gain_band": 1.5}.items():
        changed = damaged[name] != bands
        assert (changed.sum(axis=0) == 1).all()
        assert not changed[0].any()
        np.testing.assert_allclose(damaged[name][changed], gain * bands[changed])


def test_a_kind_is_marked_held_exactly_when_the_corpus_holds_it(shared_data):
    corpus = read_corpus(shared_data)
    known = np.concatenate([corpus.files[source.path].reflectance for source in SOURCES])
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    for surface in foreign_spectra(20):
        spectra = (surface.spectra / np.linalg.norm(surface.spectra, axis=0)).astype(np.float32)
        angle = np.degrees(np.arccos(np.clip((known @ spectra).max(axis=0), -1, 1)))
        assert (np.median(angle) < HELD_DEG) == surface.kind.held, surface.kind.name
        if not surface.kind.held:
            assert angle.min() > HELD_DEG, surface.kind.name
