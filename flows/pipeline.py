"""The stages before the writers: cells are read ahead, and the model works on a few of them at once."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from flows.piece import Piece
from infra.scene import Window
from infra.stage_clock import StageName
from model.duality import Multispectral
from model.inference import in_parallel

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from concurrent.futures import Executor

    from infra.scene import Pixels, Scene
    from infra.stage_clock import StageClock
    from model.duality import SpectralModel
    from model.inference import Cell


def pieces(
    scene: Scene, model: SpectralModel, plan: Sequence[Cell], *, at_once: int, clock: StageClock
) -> Generator[Piece, None, None]:
    """Read cells and estimate them, in order, each stage ahead of the next by a cell.

    One thread reads, so that GDAL's block cache sees one cell after the other; its bands are decoded side by side.
    Nobody runs further ahead than that: a stage waits for the one behind it, and memory holds a few cells whatever the
    scene's size.

    Args:
        scene: The open scene.
        model: The model in force.
        plan: The cells, in the order of the result.
        at_once: Cells the model works on at once.
        clock: Told what reading and the model cost.

    Yields:
        Every cell's estimate. Closing the generator ends the stages; the first error of any of them is raised.
    """

    def estimate(cell_read: tuple[Cell, Pixels]) -> Piece:
        cell, pixels = cell_read
        with clock.stage(StageName.MODEL):
            image = Multispectral(pixels.b10, pixels.b20, pixels.b60, scene.platform)
            estimated = model.estimate(image, cell.halo)
        with clock.stage(StageName.QUANTISE):
            return Piece(cell, pixels, estimated)

    with (
        ThreadPoolExecutor(1, "read") as reader,
        contextlib.closing(in_parallel(estimate, _read_ahead(scene, plan, reader, clock), at_once)) as estimated,
    ):
        yield from estimated


def _read_ahead(
    scene: Scene, plan: Sequence[Cell], reader: Executor, clock: StageClock
) -> Iterator[tuple[Cell, Pixels]]:
    """Read cell after cell, one ahead of what is asked for."""

    def read(cell: Cell) -> Pixels:
        with clock.stage(StageName.READ):
            return scene.read(Window(*cell.read), clock)

    ahead = reader.submit(read, plan[0])
    for position, cell in enumerate(plan):
        pixels = ahead.result()
        if position + 1 < len(plan):
            ahead = reader.submit(read, plan[position + 1])
        yield cell, pixels
        del pixels  # the model's now; not held while the next is waited for
