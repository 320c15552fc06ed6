"""Networks the model is judged against: their mathematics, their size, their training, and what they cost."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from model.bands import CENTRE_NM, SOURCE_BAND_NAMES
from model.duality import Multispectral
from model.evaluation.networks import Cos2aLike, SpectralMlp, bicubic_bands, count_operations, fit_cos2a, fit_mlp
from model.evaluation.networks.chips import BRIGHTEST, CHIP_FILES, PLOT_CHIP, TRANSPLANT_CHIP, chips_of
from model.evaluation.networks.cos2a import nominal_responses
from model.evaluation.networks.cos2a_fit import chips_rmse
from model.spectra import Spectra
from model.training.corpus import SOURCES, Corpus, read_corpus

D = nominal_responses()


def spectra_of(n: int, seed: int) -> np.ndarray:
    """(n, 172) smooth spectra from a handful of bumps, 0.02-0.8."""
    rng = np.random.default_rng(seed)
    centre = np.linspace(450, 2400, 6)
    bumps = np.exp(-0.5 * ((CENTRE_NM - centre[:, None]) / 350) ** 2)
    return 0.02 + rng.dirichlet(np.ones(6), size=n) @ bumps * rng.uniform(0.2, 0.8, size=(n, 1))


def scene_of(height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A chip whose left and right part differ: bands (12, h, w) with 1 % noise and truth (172, h, w)."""
    x = spectra_of(height * width, seed).T.reshape(172, height, width)
    rng = np.random.default_rng(seed + 1)
    y = np.einsum("bc,chw->bhw", D, x) * (1 + 0.01 * rng.normal(size=(12, height, width)))
    return y.astype(np.float32), x.astype(np.float32)


def noisy_scene_of(height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A smooth chip behind strong noise: its neighbours tell of a pixel what no map of its own bands can."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(-1, 1, width) * rng.normal() + np.linspace(-1, 1, height)[:, None] * rng.normal()
    centre = 1300 + 600 * slope.clip(-1, 1)
    x = 0.1 + 0.4 * np.exp(-0.5 * ((CENTRE_NM[:, None, None] - centre) / 250) ** 2)
    y = np.einsum("bc,chw->bhw", D, x) + 0.1 * rng.normal(size=(12, height, width))
    return y.astype(np.float32), x.astype(np.float32)


# Operations


def test_a_convolution_costs_what_the_hand_counts():
    conv = nn.Conv2d(5, 7, 3, padding=1)
    assert count_operations(conv, torch.rand(2, 5, 11, 13)) == 5 * 7 * 9


def test_a_linear_layer_costs_what_the_hand_counts():
    assert count_operations(nn.Linear(12, 172), torch.rand(31, 12)) == 12 * 172


@given(widths=st.lists(st.integers(1, 40), min_size=2, max_size=5), n=st.integers(1, 20))
@settings(max_examples=20, deadline=None)
def test_layers_add_up(widths, n):
    stack = nn.Sequential(*[nn.Linear(a, b) for a, b in pairwise(widths)])
    expected = sum(a * b for a, b in pairwise(widths))
    assert count_operations(stack, torch.rand(n, widths[0])) == expected


def test_any_callable_counts_by_its_pixels():
    matrix = torch.rand(20, 30)
    assert count_operations(lambda x: matrix @ x, torch.rand(30, 8, 4).reshape(30, -1), pixels=32) == 600
    with pytest.raises(ValueError, match="pixels="):
        count_operations(lambda x: x, torch.rand(3))


def test_the_perceptron_costs_its_weights():
    assert count_operations(SpectralMlp(), torch.rand(50, 12)) == 12 * 128 + 2 * 128**2 + 128 * 172


def test_the_network_has_the_published_size():
    network = Cos2aLike()
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(747_000, rel=0.02)
    operations = count_operations(network, torch.rand(1, 12, 24, 24))
    prior = 9 * (2 * 172 * 90 + 6 * 90**2)
    assert operations == pytest.approx(4 * (prior + 2 * 12 * 172) + 9 * 12 * 172, rel=2e-3)
    assert operations == pytest.approx(2.9e6, rel=0.02)


# Perceptron


@cache
def trained_mlp() -> SpectralMlp:
    x = spectra_of(3000, 0)
    return fit_mlp(x, x @ D.T, seed=0, steps=600, batch=128)


def test_a_perceptron_learns_spectra_it_was_not_shown():
    x = spectra_of(400, 1)
    y = x @ D.T
    noisy = y + 0.01 * y * np.random.default_rng(2).normal(size=y.shape)
    error = trained_mlp().predict(noisy.T) - x.T
    assert error.dtype == np.float64
    assert error.shape == (172, 400)
    assert np.sqrt((error**2).mean()) < 0.2 * x.std(axis=0).mean()


def test_brighter_pixels_get_proportional_spectra_where_illumination_is_taken_out():
    y = spectra_of(50, 3) @ D.T + 1.0
    one, two = trained_mlp().predict(y.T), trained_mlp().predict(2 * y.T)
    np.testing.assert_allclose(two, 2 * one, rtol=2e-3)
    plain = SpectralMlp(illumination=False)
    assert torch.equal(plain.scale(torch.rand(4, 12)), torch.ones(4, 1))


def test_the_same_seed_gives_the_same_perceptron_and_leaves_torchs_generator_alone():
    x = spectra_of(100, 4)
    before = torch.random.get_rng_state()
    first, second = (fit_mlp(x, x @ D.T, seed=7, steps=20) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    other = fit_mlp(x, x @ D.T, seed=8, steps=20)
    y = (x @ D.T).T
    np.testing.assert_array_equal(first.predict(y), second.predict(y))
    assert not np.array_equal(first.predict(y), other.predict(y))


def test_noise_may_be_an_array_and_is_felt():
    x = spectra_of(300, 5)
    y = x @ D.T
    quiet = fit_mlp(x, y, np.zeros(12), seed=0, steps=150, batch=128)
    loud = fit_mlp(x, y, np.full(12, 0.2), seed=0, steps=150, batch=128)
    spread = [model.predict(y.T).std(axis=1).mean() for model in (quiet, loud)]
    assert spread[1] < 0.8 * spread[0]  # where bands say little, answers stay near the mean


def test_validation_keeps_the_best_weights_and_stops_early():
    x, other = spectra_of(40, 6), spectra_of(200, 7)
    seen: list[float] = []
    part = (other, other @ D.T)
    fit_mlp(x, x @ D.T, np.zeros(12), seed=0, steps=400, batch=32, validation=(1 - part[0], part[1]),
            progress=lambda _, done: seen.append(done))  # fmt: skip
    assert 0 < seen[-1] < 1  # a truth that bands speak against is never learned: training gives up
    kept = fit_mlp(x, x @ D.T, seed=0, steps=100, batch=64, validation=part)
    last = fit_mlp(x, x @ D.T, seed=0, steps=100, batch=64)
    rmse = [np.sqrt(((m.predict(part[1].T) - other.T) ** 2).mean()) for m in (kept, last)]
    assert rmse[0] < 1.1 * rmse[1]


@pytest.mark.parametrize(
    ("spectra", "bands", "message"),
    [
        (np.zeros((3, 171)), np.zeros((3, 12)), "expected"),
        (np.zeros((3, 172)), np.zeros((4, 12)), "expected"),
        (np.zeros((0, 172)), np.zeros((0, 12)), "expected"),
        (np.full((3, 172), np.nan), np.zeros((3, 12)), "finite"),
    ],
)
def test_a_perceptron_refuses_what_it_cannot_learn_from(spectra, bands, message):
    with pytest.raises(ValueError, match=message):
        fit_mlp(spectra, bands, seed=0, steps=1)


def test_a_perceptron_refuses_bands_of_another_shape():
    with pytest.raises(ValueError, match=r"\(12, n\)"):
        SpectralMlp().predict(np.zeros((5, 12)))


# The unfolded network


@given(seed=st.integers(0, 2**31), log_penalty=st.floats(-4, 3))
@settings(max_examples=20, deadline=None)
def test_the_data_step_is_the_exact_minimiser(seed, log_penalty):
    rng = np.random.default_rng(seed)
    network = Cos2aLike(stages=1, width=2, blocks=1).double()
    with torch.no_grad():
        network.D.copy_(torch.as_tensor(rng.normal(size=(12, 172))))
        network.log_penalty.fill_(log_penalty)
        y, v = rng.normal(size=(2, 12, 2, 3)), rng.normal(size=(2, 172, 2, 3))
        got = network.data_step(torch.as_tensor(y), torch.as_tensor(v), 0).numpy()
    A, mu = network.D.detach().numpy(), np.exp(log_penalty)
    normal = A.T @ A + mu * np.eye(172)  # the 172 x 172 system that Woodbury's identity spares
    right = np.einsum("bc,nbhw->nchw", A, y) + mu * v
    expected = np.einsum("cd,ndhw->nchw", np.linalg.inv(normal), right)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-8)


def test_with_an_untrained_prior_the_stages_are_the_plain_iteration():
    torch.manual_seed(0)
    network = Cos2aLike(width=4, blocks=1).double()
    y = torch.rand(1, 12, 5, 6, dtype=torch.float64)
    with torch.no_grad():
        z = network.first(y)
        for stage in range(4):
            z = network.data_step(y, z, stage)
        torch.testing.assert_close(network(y), z)
        missing = y - torch.einsum("bc,nchw->nbhw", network.D, z)
        before = y - torch.einsum("bc,nchw->nbhw", network.D, network.first(y))
    assert missing.norm() < before.norm()


def test_learning_starts_from_the_bands_nominal_responses():
    assert D.shape == (12, 172)
    np.testing.assert_allclose(D.sum(axis=1), 1)
    peaks = dict(zip(SOURCE_BAND_NAMES, CENTRE_NM[D.argmax(axis=1)], strict=True))
    assert peaks["B04"] == pytest.approx(664.6, abs=6)
    assert peaks["B12"] == pytest.approx(2202.4, abs=6)
    assert D[0].argmax() == 0  # B01 lies below the grid


@given(height=st.integers(5, 40), width=st.integers(5, 40), tile=st.integers(4, 30))
@settings(max_examples=10, deadline=None)
def test_tiles_show_no_seams(height, width, tile):
    torch.manual_seed(1)
    network = Cos2aLike(stages=2, width=6, blocks=1)
    nn.init.normal_(network.prior.tail.weight, std=0.05)
    y = np.random.default_rng(0).random((12, height, width), dtype=np.float32)
    with torch.no_grad():
        whole = network(torch.as_tensor(y)[None])[0].numpy()
    np.testing.assert_allclose(network.predict(y, tile), whole, atol=2e-5)


def test_an_answer_depends_on_nothing_beyond_its_reach():
    torch.manual_seed(2)
    network = Cos2aLike(stages=2, width=6, blocks=1).double()
    nn.init.normal_(network.prior.tail.weight, std=0.05)
    y = torch.rand(1, 12, 1 + 2 * network.reach + 4, 7, dtype=torch.float64, requires_grad=True)
    row = y.shape[2] // 2
    (gradient,) = torch.autograd.grad(network(y)[0, :, row, 3].sum(), y)
    felt = torch.nonzero(gradient.abs().sum(dim=(0, 1, 3))).flatten()
    assert felt.min() == row - network.reach
    assert felt.max() == row + network.reach


def test_the_network_refuses_other_shapes_and_gaps():
    with pytest.raises(ValueError, match="finite"):
        Cos2aLike(width=2, blocks=1).predict(np.full((12, 6, 6), np.nan))
    with pytest.raises(ValueError, match=r"\(12, h, w\)"):
        Cos2aLike(width=2, blocks=1).predict(np.zeros((11, 6, 6)))


# Its training


def test_training_starts_at_the_linear_estimate():
    chips = [scene_of(18, 18, seed) for seed in range(3)]
    start = fit_cos2a(chips, seed=0, steps=1, patch=12, batch=1, rate=0.0)
    y = np.concatenate([c[0].reshape(12, -1) for c in chips], axis=1).T.astype(float)
    x = np.concatenate([c[1].reshape(172, -1) for c in chips], axis=1).T.astype(float)
    linear = np.linalg.lstsq(np.c_[y, np.ones(len(y))], x, rcond=None)[0]
    expected = np.sqrt(((np.c_[y, np.ones(len(y))] @ linear - x) ** 2).mean())
    # The stages of an untrained prior pull the linear estimate a little towards the bands.
    assert chips_rmse(start, chips) < 1.5 * expected


def test_training_finds_what_no_pixels_own_bands_can_tell():
    chips = [noisy_scene_of(18, 18, seed) for seed in range(3)]
    told: list[str] = []
    start = fit_cos2a(chips, seed=0, steps=1, patch=12, batch=1, rate=0.0)
    trained = fit_cos2a(chips, seed=0, steps=40, patch=12, batch=1, progress=lambda what, _: told.append(what))
    assert chips_rmse(trained, chips) < 0.97 * chips_rmse(start, chips)
    assert len(told) == 10
    assert "training RMSE" in told[-1]


def test_training_is_repeatable_and_keeps_the_best_on_what_is_left_out():
    chips, held = [scene_of(14, 14, 5)], [scene_of(10, 10, 9)]
    first, second = (fit_cos2a(chips, seed=3, steps=2, patch=8, batch=1) for _ in range(2))
    np.testing.assert_array_equal(first.predict(held[0][0]), second.predict(held[0][0]))
    start = fit_cos2a(chips, seed=3, steps=1, patch=8, batch=1, rate=0.0)
    wild = fit_cos2a(chips, seed=3, steps=3, patch=8, batch=1, rate=1.0, validation=held)
    assert chips_rmse(wild, held) <= chips_rmse(start, held) * (1 + 1e-6)


def test_unknown_truth_is_not_learned():
    y, x = scene_of(14, 14, 5)
    hidden = x.copy()
    hidden[:, :4] = np.nan
    wrong = x.copy()
    wrong[:, :4] = np.nan
    model = fit_cos2a([(y, hidden)], seed=3, steps=2, patch=8, batch=1)
    assert np.isfinite(model.predict(y)).all()
    assert np.isfinite(chips_rmse(model, [(y, wrong)]))


def test_a_time_limit_ends_training():
    model = fit_cos2a([scene_of(14, 14, 5)], seed=3, steps=10**9, patch=8, batch=1, seconds=0.5)
    assert not model.training


def test_chips_must_hold_a_patch():
    with pytest.raises(ValueError, match="16 x 16"):
        fit_cos2a([scene_of(12, 30, 0)], seed=0, steps=1)
    y, x = scene_of(20, 20, 0)
    with pytest.raises(ValueError, match="finite"):
        fit_cos2a([(np.where(y > y.mean(), np.nan, y), x)], seed=0, steps=1)
    with pytest.raises(ValueError, match="shapes"):
        fit_cos2a([(y[:11], x)], seed=0, steps=1)
    with pytest.raises(ValueError, match="none of 1"):
        fit_cos2a([(y, np.full_like(x, np.nan))], seed=0, steps=1)


# Its images


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
