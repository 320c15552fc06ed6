"""Changes to a patch do to every band what they say, and places are found where they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from model.bands import BANDS_BY_RESOLUTION, SOURCE_BAND_NAMES
from model.errors import InvalidImage
from model.evaluation.gallery import (
    CLOUD,
    blend,
    cloud_opacity,
    far_from,
    small_objects,
    target_share,
    with_offset,
    with_swap,
)
from model.evaluation.gallery.cases import SWAPS
from model.evaluation.gallery.changes import LARGEST_OPACITY
from model.fusion import down
from tests.unit.model.conftest import make_scene


def parts(msi):
    return {10: msi.b10, 20: msi.b20, 60: msi.b60}


@settings(max_examples=15, deadline=None)
@given(share=st.floats(0, 1))
def test_even_blend_is_the_same_mixture_at_every_resolution(share):
    msi = make_scene(48, 48)
    mixed = blend(msi, np.full((48, 48), share), CLOUD)
    for resolution, bands in parts(mixed).items():
        colour = CLOUD[[SOURCE_BAND_NAMES.index(n) for n in BANDS_BY_RESOLUTION[resolution]]][:, None, None]
        expected = (1 - share) * parts(msi)[resolution] + share * colour
        assert np.allclose(bands, expected, atol=1e-5)


def test_blend_over_even_ground_is_what_the_sensor_sees_of_the_fine_mixture():
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
    msi = make_scene(24, 24)
    once, twice = with_swap(msi, *pair), with_swap(with_swap(msi, *pair), *pair)
    changed = 0
    for resolution, bands in parts(msi).items():
        assert np.array_equal(parts(twice)[resolution], bands)
        changed += sum(not np.array_equal(a, b) for a, b in zip(parts(once)[resolution], bands, strict=True))
    assert changed == 2


def test_swap_across_resolutions_is_refused():
    with pytest.raises(InvalidImage, match="one resolution"):
        with_swap(make_scene(24, 24), "B08", "B8A")


def test_changes_leave_the_patch_alone():
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
    assert opacity.max() == pytest.approx(LARGEST_OPACITY, abs=0.02)
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
