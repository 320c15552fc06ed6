"""Guided fusion: resampling operators, gains, validity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.fusion import _solve, down, fill_invalid, fuse, guided_gains, psf_sigma, up

RATIOS = [2, 6]


@pytest.mark.parametrize("ratio", RATIOS)
def test_constant_images_stay_constant(ratio):
    image = torch.full((3, 48, 60), 0.37)
    torch.testing.assert_close(down(image, ratio), torch.full((3, 48 // ratio, 60 // ratio), 0.37))
    torch.testing.assert_close(up(down(image, ratio), ratio), image)


@pytest.mark.parametrize("ratio", RATIOS)
def test_down_has_the_modulation_it_promises_at_nyquist(ratio):
    x = np.arange(120 * ratio)
    wave = np.cos(np.pi * (x + 0.5 - ratio / 2) / ratio)  # coarse Nyquist, in phase with the coarse pixels
    image = torch.as_tensor(np.tile(wave, (12 * ratio, 1)), dtype=torch.float32)
    seen = down(image, ratio, mtf=0.25)[6, 20:100].abs()
    assert seen.mean().item() == pytest.approx(0.25, abs=0.03)
    assert psf_sigma(ratio, 0.25) == pytest.approx(0.53 * ratio, rel=0.01)


@pytest.mark.parametrize("ratio", RATIOS)
def test_up_reproduces_a_ramp_inside(ratio):
    coarse = torch.arange(20.0).repeat(20, 1)
    fine = up(coarse, ratio)
    expected = (torch.arange(20.0 * ratio) + 0.5) / ratio - 0.5
    inner = slice(3 * ratio, -3 * ratio)
    torch.testing.assert_close(fine[10, inner], expected[inner], atol=1e-4, rtol=0)


def test_small_systems_are_solved_as_numpy_solves_them():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(8, 9, 4, 4))
    A = factor @ factor.swapaxes(-1, -2) + 0.1 * np.eye(4)
    b = rng.normal(size=(8, 9, 4, 3))
    planes = [[torch.as_tensor(A[..., i, j]) for j in range(i + 1)] for i in range(4)]
    right = [torch.as_tensor(b[..., i, :]).permute(2, 0, 1) for i in range(4)]
    got = torch.stack(_solve(planes, right)).permute(2, 3, 0, 1).numpy()
    np.testing.assert_allclose(got, np.linalg.solve(A, b), rtol=1e-8)


def test_gains_find_a_band_that_is_a_mixture_of_guides():
    rng = np.random.default_rng(0)
    guides = torch.as_tensor(rng.random((4, 30, 30)), dtype=torch.float32)
    truth = torch.tensor([[0.5, -0.2, 0.0, 1.0]])
    target = torch.einsum("bg,ghw->bhw", truth, guides) + 0.1
    gains = guided_gains(guides, target, torch.ones(30, 30))
    torch.testing.assert_close(gains.mean(dim=(-2, -1)), truth, atol=0.05, rtol=0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_every_band_is_met_at_its_own_resolution(seed):
    from_scene = _scene(seed)
    fused = fuse(*from_scene)
    b10, b20, b60 = from_scene
    torch.testing.assert_close(fused.bands[[1, 2, 3, 7]], b10, rtol=0, atol=0)
    error20 = (down(fused.bands[[4, 5, 6, 8, 10, 11]], 2) - b20).abs().mean()
    assert error20 < 0.005
    assert (down(fused.bands[[0, 9]], 6) - b60).abs().mean() < 0.01


def _scene(seed: int, size: int = 48) -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng(seed)
    texture = torch.as_tensor(rng.random((size // 4, size // 4)), dtype=torch.float32)
    texture = texture.repeat_interleave(4, 0).repeat_interleave(4, 1)
    level = torch.linspace(0.1, 0.4, 12)[:, None, None]
    bands = level * (0.5 + texture)
    return bands[[1, 2, 3, 7]], down(bands[[4, 5, 6, 8, 10, 11]], 2), down(bands[[0, 9]], 6)


def test_guides_sharpen_what_interpolation_blurs():
    b10, b20, b60 = _scene(3, 96)
    rng = np.random.default_rng(3)
    texture = torch.as_tensor(rng.random((24, 24)), dtype=torch.float32).repeat_interleave(4, 0).repeat_interleave(4, 1)
    truth = (torch.linspace(0.1, 0.4, 12)[:, None, None] * (0.5 + texture))[[4, 5, 6, 8, 10, 11]]
    fused = fuse(b10, b20, b60).bands[[4, 5, 6, 8, 10, 11]]
    inner = (slice(None), slice(12, -12), slice(12, -12))
    assert (fused - truth)[inner].square().mean() < 0.2 * (up(b20, 2) - truth)[inner].square().mean()


def test_a_pixel_is_valid_only_with_all_its_parents():
    b10, b20, b60 = _scene(0)
    b10[0, 3, 5] = torch.nan
    b20[2, 10, 10] = torch.nan
    b60[1, 6, 6] = torch.nan
    valid = fuse(b10, b20, b60).valid
    expected = torch.ones(48, 48, dtype=torch.bool)
    expected[3, 5] = False
    expected[20:22, 20:22] = False
    expected[36:42, 36:42] = False
    torch.testing.assert_close(valid, expected)


def test_nodata_never_leaks_into_valid_neighbours():
    clean, holed = _scene(1), [band.clone() for band in _scene(1)]
    holed[0][:, 12:18, 12:18] = torch.nan
    before, after = fuse(*clean), fuse(*holed)
    assert torch.isfinite(after.bands).all()
    far = torch.zeros(48, 48, dtype=torch.bool)
    far[12 - 9 : 18 + 9, 12 - 9 : 18 + 9] = True
    ring = far & after.valid
    assert (before.bands - after.bands)[:, ring].abs().max() < 0.2


def test_filling_reaches_everything_and_invents_no_extremes():
    image = torch.rand(2, 40, 40)
    image[:, 5:35, 5:35] = torch.nan
    filled = fill_invalid(image)
    assert torch.isfinite(filled).all()
    assert filled.min() >= 0
    assert filled.max() <= 1
    assert torch.equal(fill_invalid(torch.full((1, 4, 4), torch.nan)), torch.zeros(1, 4, 4))
