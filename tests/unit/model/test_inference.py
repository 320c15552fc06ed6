"""Cells: they tile the window, in Z-order, and what they read depends on the tile alone."""

from __future__ import annotations

import threading
import time
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import DeviceUnavailable
from model.inference import CELL, HALO, OUT_OF_MEMORY, cells, choose_device, in_parallel


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 6), st.integers(0, 6), st.integers(1, 8), st.integers(1, 8))
def test_kept_parts_tile_the_window_exactly_once(column, row, width, height):
    window = (column * 192, row * 192, width * 192, height * 192)
    count = np.zeros((16 * 192, 16 * 192), dtype=int)
    for cell in cells(window, 16 * 192, 16 * 192):
        count[cell.inner.row : cell.inner.row + cell.inner.height, cell.inner.column :][:, : cell.inner.width] += 1
    expected = np.zeros_like(count)
    expected[window[1] : window[1] + window[3], window[0] : window[0] + window[2]] = 1
    np.testing.assert_array_equal(count, expected)


def test_reads_do_not_depend_on_the_window():
    whole = {(c.read.column, c.read.row): c.read for c in cells((0, 0, 10980, 10980), 10980, 10980)}
    for cell in cells((192, 576, 960, 768), 10980, 10980):
        assert whole[cell.read.column, cell.read.row] == cell.read
        assert all(side % 6 == 0 and side >= 0 for side in cell.halo)


def test_halo_is_what_lies_around_the_kept_part():
    cell = next(c for c in cells((384, 384, 192, 192), 10980, 10980))
    assert cell.halo == (HALO, HALO, HALO + CELL - 192, HALO + CELL - 192)
    corner = next(iter(cells((0, 0, 384, 384), 10980, 10980)))
    assert corner.halo == (0, 0, HALO, HALO)


def test_order_is_the_z_curve():
    order = [(c.inner.column // CELL, c.inner.row // CELL) for c in cells((0, 0, 1536, 1536), 1536, 1536)]
    assert order[:6] == [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (3, 0)]


def test_a_tile_that_is_no_multiple_of_six_is_read_up_to_one():
    (cell,) = cells((0, 0, 100, 50), 100, 50)
    assert (cell.read.width, cell.read.height) == (102, 54)
    assert (cell.inner.width, cell.inner.height) == (102, 54)


@pytest.mark.parametrize("name", ["tpu9", "meta", "cuda:99"])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(DeviceUnavailable, match=name.split(":", maxsplit=1)[0]):
        choose_device(name)


def test_auto_always_finds_a_device():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_working_in_parallel_keeps_order_and_bounds_what_is_held(workers):
    taken: list[int] = []

    def items():
        for number in range(40):
            taken.append(number)
            yield number

    results = in_parallel(lambda number: number**2, items(), workers)
    assert next(results) == 0
    assert len(taken) <= workers + 1
    assert list(results) == [number**2 for number in range(1, 40)]


def test_the_first_error_ends_parallel_work():
    with pytest.raises(ZeroDivisionError):
        list(in_parallel(lambda number: 1 // (5 - number), range(100), 3))


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_where_memory_runs_out_fewer_items_are_worked_on_at_once(error):
    at_once = Counter()
    lock = threading.Lock()

    def work(number):
        with lock:
            at_once["now"] += 1
            beside = at_once["now"]
        try:
            time.sleep(0.002)
            with lock:
                beside = max(beside, at_once["now"])
            if beside > 1:
                raise error("no memory")
            return number
        finally:
            with lock:
                at_once["now"] -= 1

    assert list(in_parallel(work, range(30), 4)) == list(range(30))


def test_an_item_that_does_not_fit_alone_ends_the_work():
    def work(number):
        raise MemoryError(f"item {number}")

    with pytest.raises(MemoryError, match="item 0"):
        list(in_parallel(work, range(5), 4))
