"""The compiled per-pixel code says what torch says, whatever the instruction set, the window and the neighbours."""

from __future__ import annotations

from ctypes import byref, c_long
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model import compiled, fusion
from model.bench import synthetic_scene
from model.compiled import Kernels, _load, banded, kernels, pointer
from model.duality import Multispectral, load_model
from model.inference import Halo, Window, cells
from model.layers import NODATA
from model.mixture import closed_form

CPU = torch.device("cpu")


@pytest.fixture
def plain(monkeypatch):
    """As on a machine where nothing was compiled."""
    monkeypatch.setattr(compiled, "_load", lambda: None)
    kernels.cache_clear()
    yield
    kernels.cache_clear()


@cache
def model():
    return load_model(device="cpu")


def test_the_compiled_part_is_built_where_tests_run():
    assert kernels(CPU) is not None, "no compiled part: a C compiler and `make install` bring it"
    assert kernels(torch.device("meta")) is None


def with_a_hole(patch: Multispectral) -> Multispectral:
    b10 = patch.b10.copy()
    b10[:, 10:15, 20:45] = np.nan
    return replace(patch, b10=b10)


HALO = Halo(6, 12, 18, 6)


# Rounding decides where two values lie within 1e-6 of each other; a step of a coefficient is worth up to 4 DN.
ALLOWED = {
    "hsi": (8, 5e-3), "compact": (2, 2e-3), "uncertainty": (1, 2e-2), "explanation": (8, 2e-2),
    "residual_10": (8, 5e-3), "residual_20": (8, 1e-2), "residual_60": (8, 1e-2),
}  # fmt: skip
"""Largest difference in stored units, and the share of values that may differ at all."""


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("instruction_set", [0, 1])
def test_a_product_is_that_of_torch(patches, monkeypatch, instruction_set):
    images = [with_a_hole(patch) for patch in patches.values()]
    by_torch = load_model(device="cpu")
    assert by_torch.solver.kernels is None
    references = [by_torch.estimate(image, HALO) for image in images]
    monkeypatch.undo()
    kernels.cache_clear()
    kernels(CPU).instruction_set = min(instruction_set, kernels(CPU).instruction_set)
    ours = load_model(device="cpu")
    for image, reference in zip(images, references, strict=True):
        told = ours.estimate(image, HALO)
        for name, (most, share) in ALLOWED.items():
            off = np.abs(getattr(told, name).astype(np.int32) - getattr(reference, name))
            assert off.max() <= most, name
            assert (off > 0).mean() < share, name
        assert (told.out_of_domain != reference.out_of_domain).mean() < 1e-3
        assert (told.low_consistency != reference.low_consistency).mean() < 1e-3
        for name, value in reference.totals.items():
            assert told.totals[name] == pytest.approx(value, rel=1e-3), name


@pytest.mark.usefixtures("plain")
def test_a_product_without_networks_is_that_of_torch(patches, monkeypatch):
    """And so is one whose bands lie in memory in another order."""
    patch = with_a_hole(next(iter(patches.values())))
    reference = load_model(device="cpu", learned=False).estimate(patch, HALO)
    monkeypatch.undo()
    kernels.cache_clear()
    turned = replace(patch, b10=np.moveaxis(np.ascontiguousarray(np.moveaxis(patch.b10, 0, -1)), -1, 0))
    told = load_model(device="cpu", learned=False).estimate(turned, HALO)
    for name, (most, share) in ALLOWED.items():
        off = np.abs(getattr(told, name).astype(np.int32) - getattr(reference, name))
        assert off.max() <= most, name
        assert (off > 0).mean() < share, name
    stages = [layer.name.startswith("stage_change") for layer in model().explanation_layers]
    assert not told.explanation[stages][:, told.hsi[0] != NODATA].any()


def random_bands(pixels, seed):
    rng = np.random.default_rng(seed)
    level = rng.uniform(0.001, 1.2, pixels)
    return torch.as_tensor(level * rng.uniform(0.2, 1.5, (12, pixels)), dtype=torch.float32)


@settings(max_examples=20, deadline=None)
@given(pixels=st.integers(1, 200), seed=st.integers(0, 1000))
def test_a_pixel_never_depends_on_its_neighbours(pixels, seed):
    unfolding = model().solver.tools("sentinel-2a").unfolding
    y = random_bands(200, seed)
    whole, part = unfolding(y), unfolding(y[:, 200 - pixels :])
    for name in vars(whole):
        assert torch.equal(getattr(whole, name)[..., 200 - pixels :], getattr(part, name)), name


def test_class_probabilities_are_those_of_double_precision():
    tools = model().solver.tools("sentinel-2a")
    y = random_bands(2000, 5)
    got = tools.unfolding(y)
    prior, sensor = tools.posterior.prior, model().parameters.sensors["sentinel-2a"]
    form = closed_form(prior, sensor.responses @ model().parameters.basis.components.T)
    exact = y.double().numpy()
    s = np.sqrt((exact[1:] ** 2).mean(axis=0) + prior.scale_floor**2)
    white = np.einsum("jab,jbn->jan", form.whitener, (exact / s)[None, 1:] - form.band_mean[:, 1:, None])
    distance = (white**2).sum(axis=1)
    logarithm = form.log_normaliser[:, None] - distance / 2
    w = np.exp(logarithm - logarithm.max(axis=0))
    assert np.abs(got.weights.numpy() - w / w.sum(axis=0)).max() < 2e-3  # distances reach thousands in single precision
    width = [np.linalg.slogdet(np.linalg.inv(L.T @ L))[1] for L in form.whitener]
    assert np.allclose(got.distance.numpy(), (distance + (width - np.min(width))[:, None]).min(axis=0), rtol=1e-4)
    assert np.allclose(got.scale.numpy(), s, rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 9), columns=st.integers(1, 9), ratio=st.sampled_from([2, 6]), planes=st.integers(1, 3),
    kind=st.sampled_from(["up", "down", "box"]), instruction_set=st.sampled_from([0, 1]), seed=st.integers(0, 99),
)  # fmt: skip
def test_resampling_is_the_product_with_the_whole_matrices(rows, columns, ratio, planes, kind, instruction_set, seed):
    dense = {"up": whole_up, "down": whole_down, "box": whole_box}[kind]
    vertical, horizontal = dense(rows, ratio), dense(columns, ratio)
    x = torch.as_tensor(np.random.default_rng(seed).normal(size=(planes, vertical.shape[1], horizontal.shape[1])))
    run = Kernels(_load())
    run.instruction_set = min(instruction_set, run.instruction_set)
    single = x.float().contiguous()
    out = torch.empty(planes, len(vertical), len(horizontal))
    matrices = banded(vertical), banded(horizontal)
    run("spectra_resample", *map(byref, matrices), c_long(planes), pointer(single), pointer(out))
    expected = vertical @ x.numpy() @ horizontal.T
    assert np.allclose(out.numpy(), expected, atol=2e-6 * np.abs(x.numpy()).max() * 40)


@pytest.mark.parametrize("instruction_set", [0, 1])
@pytest.mark.parametrize("width", [5, 8, 27, 33, 216])
def test_a_resampled_column_never_depends_on_where_its_row_ends(width, instruction_set):
    run = Kernels(_load())
    run.instruction_set = min(instruction_set, run.instruction_set)
    x = torch.as_tensor(np.random.default_rng(width).normal(size=(2, 24, 240)), dtype=torch.float32)
    vertical = banded(whole_up(12, 2) @ whole_down(12, 2))  # up and down: long rows

    def resampled(image):
        out = torch.empty_like(image)
        eye = banded(np.eye(image.shape[2]))
        run("spectra_resample", byref(vertical), byref(eye), c_long(2), pointer(image), pointer(out))
        return out

    assert torch.equal(resampled(x)[:, :, :width], resampled(x[:, :, :width].contiguous()))


def test_a_library_of_another_version_is_left_aside(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(compiled, "VERSION", compiled.VERSION + 1)
    assert _load.__wrapped__() is None
    assert "install again" in caplog.text
    caplog.clear()
    broken = tmp_path / "_spectra.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(compiled, "find_spec", lambda _: SimpleNamespace(origin=str(broken)))
    assert _load.__wrapped__() is None
    assert "cannot be used" in caplog.text


def test_a_missing_or_misspelt_matrix_is_refused():
    with pytest.raises(TypeError, match="FinishingMatrices takes"):
        compiled.FinishingMatrices(bands=12, k=24, judged=11, steps=np.ones(24), observation=np.ones((12, 24)))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="12 bands"):
        model().solver.tools("sentinel-2a").unfolding(torch.rand(7, 10))
    with pytest.raises(ValueError, match="images of"):
        fusion._apply(fusion._up_matrix(12, 2, CPU), fusion._up_matrix(12, 2, CPU), torch.rand(1, 6, 7))


def whole_up(size, ratio):
    return whole(fusion._up_matrix(size * ratio, ratio, CPU), size)


def whole_down(size, ratio):
    return whole(fusion._down_matrix(size * ratio, ratio, 0.42, CPU), size * ratio)


def whole_box(size, _):
    return whole(fusion._box_matrix(size, 2, CPU), size)


def whole(pieces, columns):
    """The dense matrix (rows, columns) of `_Banded`, from the pieces that torch multiplies with."""
    rows = [np.zeros((len(piece.left), columns)) for piece in pieces.pieces]
    for row, piece in zip(rows, pieces.pieces, strict=True):
        row[:, piece.first : piece.last] = piece.left.numpy()
    return np.concatenate(rows)


def test_gradients_go_through_the_fusion_by_torch():
    coarse = torch.rand(2, 12, 12, requires_grad=True)
    fusion.up(coarse, 2).sum().backward()
    assert coarse.grad is not None
    assert torch.isfinite(coarse.grad).all()


@pytest.mark.parametrize("wrong", [torch.zeros(3, dtype=torch.float64), torch.zeros(4, 4)[:, :2]])
def test_memory_of_another_kind_is_refused(wrong):
    with pytest.raises(ValueError, match="contiguous float32"):
        pointer(wrong)


def test_crops_of_odd_width_are_the_whole_products_pixels():
    scene = synthetic_scene(500 * 500, 1)
    [whole_cell] = cells((0, 0, 384, 384), 384, 384)
    everything = model().estimate(scene.window(whole_cell), whole_cell.halo)
    [part] = cells((66, 42, 138, 90), 384, 384)
    assert part.inner == Window(66, 42, 138, 90)
    assert part.read == whole_cell.read
    crop = model().estimate(scene.window(whole_cell), part.halo)
    assert np.array_equal(crop.hsi, everything.hsi[:, 42:132, 66:204])
    assert np.array_equal(crop.explanation, everything.explanation[:, 42:132, 66:204])
    assert np.array_equal(crop.uncertainty, everything.uncertainty[:, 42:132, 66:204])
