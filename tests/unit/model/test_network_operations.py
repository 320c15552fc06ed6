"""What the networks cost, in operations for each pixel."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from model.evaluation.networks import Cos2aLike, SpectralMlp, count_operations


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
