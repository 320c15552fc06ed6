"""Fixed cells, and the device they are worked out on.

A product is computed in cells of 384 pixels anchored at the tile's own corner, each read with a halo. What a cell
reads depends on the tile alone, never on the window asked for; the window only decides which part of it is kept. So a
crop's pixels are the full tile's pixels, bit for bit.
"""

from __future__ import annotations

import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Condition
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import torch

from model.errors import DeviceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from concurrent.futures import Future

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

CELL: Final[int] = 384
"""Edge of a cell, 10 m pixels: 2 x 2 blocks of the product's files."""

HALO: Final[int] = 24
"""Pixels read beyond a cell on each side: a multiple of 6, wider than the fusion's window and point-spread function.
On a real scene a product made of cells differs from one made at once by at most 4 DN (3 DN with 36 pixels)."""

GRANULE: Final[int] = 6
"""10 m pixels in one 60 m pixel: everything read is a multiple of it."""


class Window(NamedTuple):
    """A rectangle in 10 m pixels of the tile's grid."""

    column: int
    row: int
    width: int
    height: int


class Halo(NamedTuple):
    """Pixels of a read window that lie outside the part to keep, 10 m pixels, multiples of 6."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Cell:
    """One piece of work."""

    inner: Window
    """What to keep: cell and product window have it in common."""
    read: Window
    """What to read: the whole cell with its halo, as far as the tile reaches (rounded up to 6; pad with nan)."""

    @property
    def halo(self) -> Halo:
        """What lies around `inner` in `read`."""
        return Halo(
            self.inner.column - self.read.column,
            self.inner.row - self.read.row,
            self.read.column + self.read.width - self.inner.column - self.inner.width,
            self.read.row + self.read.height - self.inner.row - self.inner.height,
        )


def _round_up(value: int) -> int:
    return -(-value // GRANULE) * GRANULE


def _interleave(x: int, y: int) -> int:
    """Morton code: the position of a cell in Z-order."""
    code = 0
    for bit in range(max(x, y).bit_length()):
        code |= ((x >> bit & 1) << (2 * bit)) | ((y >> bit & 1) << (2 * bit + 1))
    return code


def _span(low: int, high: int, limit: int, index: int, cell: int, halo: int) -> tuple[int, int, int, int]:
    """Along one axis: kept start and size, read start and size."""
    start, stop = max(low, index * cell), min(high, (index + 1) * cell)
    first, last = max(0, index * cell - halo), min(_round_up(limit), (index + 1) * cell + halo)
    return start, _round_up(stop - start), first, last - first


def cells(
    window: tuple[int, int, int, int], grid_width: int, grid_height: int, cell: int = CELL, halo: int = HALO
) -> Iterator[Cell]:
    """The cells of a product window, in Z-order.

    Args:
        window: (column, row, width, height) of the product in the tile's 10 m pixels; column and row multiples of 6.
        grid_width: width of the tile, 10 m pixels.
        grid_height: height of the tile.
        cell: edge of a cell.
        halo: pixels read beyond it.

    Yields:
        Cells whose kept parts tile the window. Where the tile is no multiple of 6 the last ones reach up to 5 pixels
        over.
    """
    column, row, width, height = window
    right, bottom = column + width, row + height
    numbers = [(x, y) for y in range(row // cell, -(-bottom // cell)) for x in range(column // cell, -(-right // cell))]
    for x, y in sorted(numbers, key=lambda number: _interleave(*number)):
        c, w, read_c, read_w = _span(column, right, grid_width, x, cell, halo)
        r, h, read_r, read_h = _span(row, bottom, grid_height, y, cell, halo)
        yield Cell(Window(c, r, w, h), Window(read_c, read_r, read_w, read_h))


OUT_OF_MEMORY: Final = (MemoryError, torch.OutOfMemoryError)
"""What is raised when the host or the device has no memory left for a cell."""


class _Room:
    """How many items may be worked on at once: fewer each time that memory does not suffice."""

    def __init__(self, workers: int) -> None:
        self._most, self._busy = workers, 0
        self._changed = Condition()

    def work(self, work: Callable[[Item], Result], item: Item) -> Result:
        """Work on an item when there is room; again with less beside it if memory runs out, until it was alone."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._busy < self._most)
                self._busy += 1
                allowed = self._most
            try:
                return work(item)
            except OUT_OF_MEMORY as error:
                if allowed == 1:
                    raise
                logger.warning("%s with %d cells at once; going on with fewer", type(error).__name__, allowed)
                with self._changed:
                    self._most = min(self._most, max(1, allowed // 2))
            finally:
                with self._changed:
                    self._busy -= 1
                    self._changed.notify_all()


def in_parallel(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Generator[Result, None, None]:
    """Work on several items at once, results in order; no more than one for each worker and one more are held.

    A model computes each cell on one thread, so that a result never depends on the number of cores; whoever has more
    cores works on more cells. Where memory runs out, half as many are worked on at once and the item is tried again.

    Args:
        work: what to do with an item, such as estimating a cell.
        items: taken one by one as workers become free.
        workers: threads; 1 works in the caller's.

    Yields:
        What `work` returned, in the order of the items; the first error ends it. Closing it waits for the workers.
    """
    if workers <= 1:
        yield from map(work, items)
        return
    room = _Room(workers)
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, "cell") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(room.work, work, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def choose_device(name: str) -> torch.device:
    """The device called ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        DeviceUnavailable: if it does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceUnavailable(f"device {name!r} is not known; use auto, cpu or cuda") from error
    if device.type not in {"cpu", "cuda"}:
        raise DeviceUnavailable(f"device {name!r} is not supported; use auto, cpu or cuda")
    if device.type == "cuda" and (
        not torch.cuda.is_available() or (device.index is not None and device.index >= torch.cuda.device_count())
    ):
        raise DeviceUnavailable(f"device {name!r} does not exist on this machine; use auto or cpu")
    return device
