"""Overviews against exact integer arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from infra.cog.overviews import halve

NODATA = {"int16": -32768, "uint16": 65535, "uint8": 0}


def members(values, row, column):
    """The one, two or four pixels that exist below an overview pixel."""
    return [int(v) for v in values[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].ravel()]


def by_hand(values, method, nodata):
    """The same by exact fractions, pixel by pixel; Python's round is half to even."""
    bands, height, width = values.shape
    out = np.empty((bands, (height + 1) // 2, (width + 1) // 2), values.dtype)
    for band, row, column in np.ndindex(out.shape):
        valid = [v for v in members(values[band], row, column) if v != nodata]
        if not valid:
            out[band, row, column] = nodata
        elif method == "mean":
            out[band, row, column] = round(Fraction(sum(valid), len(valid)))
        else:
            out[band, row, column] = np.bitwise_or.reduce(np.array(valid, values.dtype))
    return out


@st.composite
def cubes(draw):
    dtype = np.dtype(draw(st.sampled_from(sorted(NODATA))))
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)))
    nodata = draw(st.sampled_from([None, NODATA[dtype.name]]))
    ordinary = st.integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    around = st.integers(0, 5)  # small numbers make ties and thirds
    empty = st.just(NODATA[dtype.name])
    values = draw(hnp.arrays(dtype, shape, elements=draw(st.sampled_from([ordinary, around, ordinary | empty]))))
    return values, nodata


@settings(max_examples=300, deadline=None)
@given(cubes(), st.sampled_from(["mean", "bitor"]))
def test_overviews_are_exact(cube, method):
    values, nodata = cube
    result = halve(values, method, nodata)
    assert result.dtype == values.dtype
    np.testing.assert_array_equal(result, by_hand(values, method, nodata))


@pytest.mark.parametrize(
    ("pixels", "mean"),
    [
        ([0, 0, 1, 1], 0),  # 0.5 -> 0
        ([1, 1, 2, 2], 2),  # 1.5 -> 2
        ([0, 0, -1, -1], 0),  # -0.5 -> 0
        ([-1, -1, -2, -2], -2),  # -1.5 -> -2
        ([3, 4, -32768, -32768], 4),  # 3.5 of the valid -> 4
        ([1, 1, 2, -32768], 1),  # a third
        ([-32768] * 4, -32768),
        ([32767] * 4, 32767),
        ([-32767] * 4, -32767),
    ],
)
def test_means_round_half_to_even(pixels, mean):
    values = np.array(pixels, np.int16).reshape(1, 2, 2)
    assert halve(values, "mean", -32768).item() == mean


def test_quality_bits_are_joined():
    values = np.array([[0b0001, 0b0100], [0b0000, 0b1000]], np.uint16)[None]
    assert halve(values, "bitor", None).item() == 0b1101


def test_source_is_left_alone():
    values = np.arange(12, dtype=np.int16).reshape(1, 3, 4)
    before = values.copy()
    halve(values, "mean", -32768)
    np.testing.assert_array_equal(values, before)
