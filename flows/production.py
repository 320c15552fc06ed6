"""From a scene's pixels to the files of a product: one pass, cell by cell, with bounded memory."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from flows.pipeline import pieces
from flows.progress import Progress
from infra.cog import CogBand, CogProfile, CogWriter, Lane
from infra.heap import give_back_memory
from infra.preview import PreviewCollector
from infra.stage_clock import StageName
from model.bands import BANDS_BY_RESOLUTION
from model.inference import cells
from model.layers import NODATA

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flows.names import ProductKeys
    from infra.cog import CogSummary
    from infra.scene import Grid, Scene, Window
    from infra.settings import ProductSettings
    from infra.stage_clock import StageClock
    from infra.storage import ObjectStore
    from model.duality import SpectralModel
    from model.layers import Layer

BLOCK: Final = 192
"""Block edge of a product at 10 m, pixels; 96 at 20 m and 32 at 60 m, all multiples of 16 as TIFF asks."""

_VISUAL_BANDS: Final = ("red", "green", "blue")


@dataclass(frozen=True)
class RasterFile:
    """One raster of a product before it is written."""

    asset: str
    """Key of the asset in the item."""
    name: str
    """File name inside the product's folder."""
    metres: int
    """Pixel size: 10, 20 or 60 m."""
    profile: CogProfile
    layers: tuple[Layer, ...]
    """How its bands decode; empty where the file is not made of the model's layers."""


@dataclass(frozen=True)
class Produced:
    """What one pass over a scene left behind."""

    summaries: Mapping[str, CogSummary]
    """Per asset, what its writer saw; `verify` holds the file against it."""
    totals: Mapping[str, float]
    """The model's additive sums over all cells."""
    flag_counts: Mapping[str, int]
    """Pixels per quality bit, and ``pixels`` for all."""
    preview: PreviewCollector


def raster_files(
    model: SpectralModel, grid: Grid, window: Window, product: ProductSettings, tags: Mapping[str, str]
) -> tuple[RasterFile, ...]:
    """List the rasters of a product.

    Args:
        model: Names the layers of its estimates.
        grid: The source's grid at 10 m.
        window: The product's window on that grid, snapped to blocks.
        product: Which optional files are wanted.
        tags: Dataset tags of every file.

    Returns:
        The rasters in the order in which they are written.
    """

    def layered(asset: str, layers: Sequence[Layer], metres: int = 10) -> RasterFile:
        bands = tuple(
            CogBand(layer.title, layer.scale, layer.offset, layer.unit, layer.centre_nm, layer.fwhm_nm)
            for layer in layers
        )
        profile = _profile(grid, window, metres, "int16", NODATA, bands, "mean", tags)
        return RasterFile(asset, f"{asset}.tif", metres, profile, tuple(layers))

    files = [layered("hsi", model.hsi_layers)] if product.hsi else []
    files += [layered("compact", model.compact_layers), layered("uncertainty", model.uncertainty_layers)]
    if product.explanation:
        files.append(layered("explanation", model.explanation_layers))
    if product.residual:
        files += [layered(f"residual_{m}m", model.residual_layers[m], m) for m in BANDS_BY_RESOLUTION]
    qa = _profile(grid, window, 10, "uint16", None, (CogBand("quality bits"),), "bitor", tags)
    visual = _profile(grid, window, 10, "uint8", 0, tuple(map(CogBand, _VISUAL_BANDS)), "mean", tags)
    files += [RasterFile("qa", "qa.tif", 10, qa, ()), RasterFile("visual", "visual.tif", 10, visual, ())]
    return tuple(files)


def produce(
    scene: Scene,
    model: SpectralModel,
    window: Window,
    files: Sequence[RasterFile],
    *,
    store: ObjectStore,
    keys: ProductKeys,
    threads: int,
    clock: StageClock,
    progress: Callable[[Progress], None],
) -> Produced:
    """Run the model over a window and write every raster of the product.

    Stages overlap: one thread reads ahead, the model works on a few cells at once, the caller's thread cuts their files
    into blocks in order, a pool compresses these and one thread hands them to the store. Each stage waits when the one
    behind it is late, so a few cells are held whatever the scene's size. All files are finished, or none: an error in
    any stage stops the others and aborts every upload, and the first one is raised.

    Args:
        scene: The open scene.
        model: The model in force.
        window: The product's window on the scene's grid.
        files: The rasters to write, from `raster_files`.
        store: Where they go.
        keys: Names them.
        threads: Threads that compress, and cells in the model at once where it says so.
        clock: Told what each stage costs.
        progress: Told after each cell where the work stands; may raise to stop it.

    Returns:
        Summaries, sums and the preview's material.
    """
    began = time.monotonic()
    totals: defaultdict[str, float] = defaultdict(float)
    flags: Counter[str] = Counter()
    preview = PreviewCollector(window.width, window.height)
    area = (window.column, window.row, window.width, window.height)
    plan = list(cells(area, scene.grid.width, scene.grid.height, cell=model.cell, halo=model.halo))
    done, of_pixels = 0, sum(cell.inner.width * cell.inner.height for cell in plan)
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(threads, "compress"))
        lane = stack.enter_context(Lane(pool, clock=clock))
        writers = [
            (file, stack.enter_context(CogWriter(file.profile, store, keys.file(file.name), pool=lane)))
            for file in files
        ]
        at_once = model.cells_at_once(threads)
        estimated = stack.enter_context(contextlib.closing(pieces(scene, model, plan, at_once=at_once, clock=clock)))
        for piece in estimated:
            with clock.stage(StageName.QUANTISE):
                piece.write(writers, window)
                piece.show(preview, window, model)
                for name, value in piece.estimate.totals.items():
                    totals[name] += value
                flags.update(piece.flag_counts())
            done += piece.size
            del piece  # a cell's files are not held while the next one is waited for
            progress(Progress(done, of_pixels, time.monotonic() - began, sum(w.laid_bytes for _, w in writers)))
        summaries = {file.asset: writer.finish() for file, writer in writers}
    give_back_memory()
    return Produced(summaries, dict(totals), dict(flags), preview)


def _profile(
    grid: Grid,
    window: Window,
    metres: int,
    dtype: str,
    nodata: int | None,
    bands: tuple[CogBand, ...],
    overviews: Literal["mean", "bitor"],
    tags: Mapping[str, str],
) -> CogProfile:
    """Describe a file on the window's part of the grid, at one resolution."""
    step = metres // 10
    a, b, c, d, e, f = grid.transform
    left, top = c + a * window.column, f + e * window.row
    return CogProfile(
        width=-(-window.width // step),
        height=-(-window.height // step),
        dtype=dtype,
        crs=grid.crs,
        transform=(a * step, b, left, d, e * step, top),
        nodata=nodata,
        bands=bands,
        block=BLOCK // step,
        overviews=overviews,
        tags=tags,
    )
