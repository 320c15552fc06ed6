"""The images that the unfolded network is trained on: bicubic bands, chips of the corpus, transplants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from model.duality import Multispectral
from model.evaluation.networks import bicubic_bands, fit_cos2a
from model.evaluation.networks.chips import BRIGHTEST, CHIP_FILES, PLOT_CHIP, TRANSPLANT_CHIP, chips_of
from model.evaluation.networks.cos2a_fit import chips_rmse
from model.spectra import Spectra
from model.training.corpus import SOURCES, Corpus, read_corpus
from tests.unit.model.network_scenes import D, spectra_of


def msi_of(height: int, width: int) -> Multispectral:
    rng = np.random.default_rng(0)

    def bands(count: int, ratio: int) -> np.ndarray:
        level = np.arange(1, count + 1, dtype=np.float32)[:, None, None] * 0.05
        return level + 0.01 * rng.random((count, height // ratio, width // ratio), dtype=np.float32)

    return Multispectral(bands(4, 1), bands(6, 2), bands(2, 6), "sentinel-2a")


def test_bicubic_bands_are_in_wavelength_order_and_keep_10_m_bands():
    msi = msi_of(24, 36)
    bands = bicubic_bands(msi)
    assert bands.shape == (12, 24, 36)
    assert bands.dtype == np.float32
    np.testing.assert_array_equal(bands[[1, 2, 3, 7]], msi.b10)
    level = bands.mean(axis=(1, 2))
    expected = [0.05, 0.05, 0.1, 0.15, 0.05, 0.1, 0.15, 0.2, 0.2, 0.1, 0.25, 0.3]
    np.testing.assert_allclose(level, expected, atol=0.012)


def test_gaps_take_their_neighbours_values():
    msi = msi_of(24, 24)
    for array in (msi.b10, msi.b20, msi.b60):
        array[:] = 0.3
        array[:, :2] = np.nan
    np.testing.assert_allclose(bicubic_bands(msi), 0.3, rtol=1e-5)
    msi.b60[1] = np.nan
    assert np.all(bicubic_bands(msi)[9] == 0)


def corpus_of(seed: int = 0) -> Corpus:
    """A corpus with the real files' names and shapes in small, too small for transplants."""
    files = {}
    for path, edge in CHIP_FILES.items():
        shape = (30, 27) if edge is None else (3 * edge, edge)
        index = np.setdiff1d(np.arange(shape[0] * shape[1]), [5, 50])
        covered = np.ones(172, bool)
        covered[:3] = False
        spectra = spectra_of(len(index), seed).astype(np.float32)
        coastal = np.full(len(index), 0.11, np.float32)
        files[path] = Spectra(path, spectra, coastal, index, shape, covered)
    return Corpus(files, ())


def test_chips_come_from_scenes_and_plots_without_those_left_out():
    rng = np.random.default_rng(0)
    chips = list(chips_of(corpus_of(), ["potsdam", "neon_osbs"], rng, responses=D))
    sizes = [truth.shape[1:] for _, truth in chips]
    assert sizes == [(30, 24), (30, 24), *[(PLOT_CHIP, PLOT_CHIP)] * 3]
    for bands, truth in chips:
        assert bands.dtype == truth.dtype == np.float32
        assert np.isfinite(bands).all()
        assert np.isnan(truth[:3]).all()
        assert np.isfinite(truth[3:]).mean() > 0.99
    assert len(list(chips_of(corpus_of(), ["potsdam"], rng, responses=D, repeats=2))) == 2 * 8


def full_corpus() -> Corpus:
    """The small corpus with tables, and with scenes large enough for transplants."""
    files = dict(corpus_of().files)
    covered = np.ones(172, bool)
    for path in ("cubes/aviris_sandiego_a.npz", "cubes/enmap_potsdam.npz"):
        index = np.setdiff1d(np.arange(54 * 60), [0])
        x = spectra_of(len(index), 1).astype(np.float32)
        files[path] = Spectra(path, x, np.full(len(x), np.nan, np.float32), index, (54, 60), covered)
    for source in SOURCES:
        x = spectra_of(20, 2).astype(np.float32)
        table = Spectra(source.path, x, np.full(20, 0.07, np.float32), np.arange(20), (20,), covered)
        files.setdefault(source.path, table)
    return Corpus(files, ())


def test_transplants_are_whole_chips_of_plausible_mixtures():
    corpus, left_out = full_corpus(), ["san_diego", "neon_mlbs", "neon_osbs"]
    chips = list(chips_of(corpus, left_out, np.random.default_rng(0), responses=D, transplants=6))
    assert [x.shape for _, x in chips] == [(172, 54, 60)] + [(172, TRANSPLANT_CHIP, TRANSPLANT_CHIP)] * 6
    for bands, truth in chips[1:]:
        assert np.isfinite(truth).all()
        assert truth.min() >= 0
        assert truth.max() <= BRIGHTEST
        assert truth.std(axis=(1, 2)).max() > 0.005  # the scene's structure came along
        seen = np.einsum("bc,chw->bhw", D, truth)
        assert np.corrcoef(seen[[1, 2, 3, 7]].ravel(), bands[[1, 2, 3, 7]].ravel())[0, 1] > 0.95
    none = chips_of(corpus, ["san_diego", "potsdam"], np.random.default_rng(0), responses=D)
    assert {x.shape for _, x in none} == {(172, PLOT_CHIP, PLOT_CHIP)}


def test_transplants_hold_nothing_of_what_is_left_out():
    corpus = full_corpus()
    marked = {source.path for source in SOURCES if source.split == "earthlib"}
    files = {
        p: replace(s, reflectance=np.full_like(s.reflectance, 0.9 if p in marked else 0.1))
        for p, s in corpus.files.items()
    }
    chips = list(chips_of(Corpus(files, ()), ["earthlib"], np.random.default_rng(0), responses=D, transplants=5))
    assert len(chips) == 3 + 2 * 3 + 5
    assert max(np.nanmax(truth) for _, truth in chips) < 0.5


def test_a_plots_truth_is_a_part_of_the_plot():
    corpus = corpus_of()
    path = "cubes/neon_idtrees_osbs.npz"
    left_out = ["potsdam", "san_diego", "neon_mlbs"]
    spectra = corpus.files[path]
    stack = np.full((172, 60 * 20), np.nan, np.float32)
    stack[:, spectra.index] = spectra.reflectance.T
    plots = np.nan_to_num(stack.reshape(172, 3, 20, 20).swapaxes(0, 1))
    for (_, truth), plot in zip(chips_of(corpus, left_out, np.random.default_rng(1), responses=D), plots, strict=True):
        windows = [plot[3:, i : i + 18, j : j + 18] for i in range(3) for j in range(3)]
        assert sum(np.array_equal(np.nan_to_num(truth[3:]), window) for window in windows) == 1


def test_constant_scenes_give_their_own_bands_within_noise():
    corpus = corpus_of()
    files = {path: replace(s, reflectance=np.full_like(s.reflectance, 0.11)) for path, s in corpus.files.items()}
    for bands, _ in chips_of(Corpus(files, ()), ["potsdam"], np.random.default_rng(0), responses=D):
        np.testing.assert_allclose(bands.mean(axis=(1, 2)), 0.11, atol=0.01)
        assert bands.std() < 0.006


def test_real_scenes_give_chips_that_a_network_can_start_from(shared_data):
    corpus = read_corpus(shared_data)
    chips = list(chips_of(corpus, ["san_diego"], np.random.default_rng(0), responses=D, transplants=3))
    assert {truth.shape[1:] for _, truth in chips} == {(192, 156), (18, 18), (24, 24)}
    assert len(chips) == 1 + 46 + 39 + 3
    start = fit_cos2a(chips, seed=0, steps=1, batch=1, rate=0.0)
    small = [(y[:, :48, :48], x[:, :48, :48]) for y, x in chips[1:9]]
    assert chips_rmse(start, small) < 0.05
