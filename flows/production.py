"""From a scene's pixels to the files of a product: one pass, cell by cell, with bounded memory."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from infra.cog import CogBand, CogProfile, CogWriter
from infra.preview import PreviewCollector
from infra.scene import Window
from model.duality import Halo, Multispectral
from model.inference import cells

from model.bands import BANDS_BY_RESOLUTION
from model.layers import NODATA

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor

    from infra.cog import CogSummary
    from infra.scene import Grid, Scene
    from infra.storage import ObjectStore
    from model.duality import SpectralModel

    from flows.names import ProductKeys
    from infra.settings import ProductSettings
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
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall seconds per stage: reading, model, writing."""


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
    pool: Executor,
    progress: Callable[[float], None],
) -> Produced:
    """Run the model over a window and write every raster of the product.

    The next cell is read while the model works on the present one; the writers compress in the pool. All files are
    finished, or none: an error in any of them aborts every upload.

    Args:
        scene: The open scene.
        model: The model in force.
        window: The product's window on the scene's grid.
        files: The rasters to write, from `raster_files`.
        store: Where they go.
        keys: Names them.
        pool: Threads for reading ahead and compressing.
        progress: Told the fraction of pixels done, 0-1; may raise to stop the work.

    Returns:
        Summaries, sums and the preview's material.
    """
    clock = _Clock()
    totals: Counter[str] = Counter()
    flags: Counter[str] = Counter()
    preview = PreviewCollector(window.width, window.height)
    plan = list(cells((window.column, window.row, window.width, window.height), scene.grid.width, scene.grid.height,
                      cell=model.cell, halo=model.halo))  # fmt: skip
    with contextlib.ExitStack() as stack:
        writers = {
            file.asset: (file, stack.enter_context(CogWriter(file.profile, store, keys.file(file.name), pool=pool)))
            for file in files
        }
        ahead = pool.submit(scene.read, _read_window(plan[0]))
        for position, cell in enumerate(plan):
            with clock.stage("reading"):
                pixels = ahead.result()
            if position + 1 < len(plan):
                ahead = pool.submit(scene.read, _read_window(plan[position + 1]))
            with clock.stage("model"):
                estimate = model.estimate(
                    Multispectral(pixels.b10, pixels.b20, pixels.b60, scene.platform), Halo(*cell.halo)
                )
            with clock.stage("writing"):
                inner = _Inner(cell, pixels)
                mask = inner.mask(estimate)
                column, row = cell.inner.column - window.column, cell.inner.row - window.row
                arrays = _arrays(estimate, mask)
                for asset, (file, writer) in writers.items():
                    step = file.metres // 10
                    writer.write(column // step, row // step, arrays[asset])
                _add_to_preview(preview, model, column, row, estimate, mask, inner)
            totals.update(estimate.totals)
            flags.update(_count(mask))
            progress((position + 1) / len(plan))
        with clock.stage("writing"):
            summaries = {asset: writer.finish() for asset, (_file, writer) in writers.items()}
    return Produced(summaries, dict(totals), dict(flags), preview, dict(clock.seconds))
