"""From a scene's pixels to the files of a product: one pass, cell by cell, with bounded memory."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from flows.quality_mask import QualityBit, quality_mask
from infra.cog import CogBand, CogProfile, CogWriter
from infra.preview import PreviewCollector, visual_rgb
from infra.scene import Window
from model.bands import BANDS_BY_RESOLUTION, CHANNELS, SOURCE_BAND_NAMES, SPECTRAL_GROUPS
from model.duality import Multispectral
from model.inference import cells
from model.layers import NODATA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from flows.names import ProductKeys
    from infra.cog import CogSummary
    from infra.scene import Grid, Pixels, Scene
    from infra.settings import ProductSettings
    from infra.storage import ObjectStore
    from model.duality import Estimate, SpectralModel
    from model.inference import Cell
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
    totals: defaultdict[str, float] = defaultdict(float)
    flags: Counter[str] = Counter()
    preview = PreviewCollector(window.width, window.height)
    area = (window.column, window.row, window.width, window.height)
    plan = list(cells(area, scene.grid.width, scene.grid.height, cell=model.cell, halo=model.halo))
    with contextlib.ExitStack() as stack:
        writers = [
            (file, stack.enter_context(CogWriter(file.profile, store, keys.file(file.name), pool=pool)))
            for file in files
        ]
        ahead = pool.submit(scene.read, Window(*plan[0].read))
        for position, cell in enumerate(plan):
            with clock.stage("reading"):
                pixels = ahead.result()
            if position + 1 < len(plan):
                ahead = pool.submit(scene.read, Window(*plan[position + 1].read))
            with clock.stage("model"):
                image = Multispectral(pixels.b10, pixels.b20, pixels.b60, scene.platform)
                piece = _Piece(cell, pixels, model.estimate(image, cell.halo))
            with clock.stage("writing"):
                piece.write(writers, window)
            with clock.stage("preview"):
                piece.show(preview, window, model)
            for name, value in piece.estimate.totals.items():
                totals[name] += value
            flags.update(piece.flag_counts())
            progress((position + 1) / len(plan))
        with clock.stage("writing"):
            summaries = {file.asset: writer.finish() for file, writer in writers}
    return Produced(summaries, dict(totals), dict(flags), preview, dict(clock.seconds))


class _Piece:
    """One cell of the product: what was read and what the model made of it."""

    def __init__(self, cell: Cell, pixels: Pixels, estimate: Estimate) -> None:
        self.estimate = estimate
        self._cell, self._pixels = cell, pixels
        self._mask = quality_mask(
            valid=self._inner(pixels.valid),
            saturated=self._inner(pixels.saturated),
            out_of_domain=estimate.out_of_domain,
            low_consistency=estimate.low_consistency,
            scene_classes=None if pixels.scl is None else self._inner(pixels.scl, 2),
        )

    def write(self, writers: Sequence[tuple[RasterFile, CogWriter]], window: Window) -> None:
        """Hand every file its part."""
        column, row = self._place(window)
        estimate = self.estimate
        arrays: dict[str, NDArray[Any]] = {
            "hsi": estimate.hsi,
            "compact": estimate.compact,
            "uncertainty": estimate.uncertainty,
            "explanation": estimate.explanation,
            "residual_10m": estimate.residual_10,
            "residual_20m": estimate.residual_20,
            "residual_60m": estimate.residual_60,
            "qa": self._mask[None],
            "visual": visual_rgb(estimate.hsi),
        }
        for file, writer in writers:
            step = file.metres // 10
            writer.write(column // step, row // step, arrays[file.asset])

    def show(self, preview: PreviewCollector, window: Window, model: SpectralModel) -> None:
        """Give the preview its material."""
        column, row = self._place(window)
        preview.add(
            column,
            row,
            hsi=self.estimate.hsi,
            source=self._source(),
            residual_rms=self._residual_rms(model),
            qa=self._mask,
            uncertainty=self.estimate.uncertainty,
            channel_sigma=model.channel_sigma,
            measured_fraction=self._measured_fraction(model),
        )

    def flag_counts(self) -> dict[str, int]:
        """Count pixels by quality bit."""
        counts = {bit.name.lower(): int((self._mask & bit > 0).sum()) for bit in QualityBit if bit.name}
        return counts | {"pixels": self._mask.size}

    def _place(self, window: Window) -> tuple[int, int]:
        return self._cell.inner.column - window.column, self._cell.inner.row - window.row

    def _inner(self, array: NDArray[Any], step: int = 1) -> NDArray[Any]:
        """Cut the halo off an array whose pixels are `step` wide."""
        left, top, right, bottom = (side // step for side in self._cell.halo)
        return array[..., top : array.shape[-2] - bottom, left : array.shape[-1] - right]

    def _source(self) -> NDArray[np.float32]:
        """Return the twelve bands (12, h, w) at 10 m, coarse pixels repeated: for display, not for the model."""
        planes = {}
        for metres, stack in ((10, self._pixels.b10), (20, self._pixels.b20), (60, self._pixels.b60)):
            step = metres // 10
            for name, plane in zip(BANDS_BY_RESOLUTION[metres], self._inner(stack, step), strict=True):
                planes[name] = plane.repeat(step, axis=0).repeat(step, axis=1)
        return np.stack([planes[name] for name in SOURCE_BAND_NAMES])

    def _residual_rms(self, model: SpectralModel) -> NDArray[np.float32]:
        """Return the RMS (h, w) of all residuals, reflectance; coarse residuals spread over their pixels."""
        square = np.zeros(self._mask.shape, np.float32)
        number = np.zeros(self._mask.shape, np.float32)
        stacks = {10: self.estimate.residual_10, 20: self.estimate.residual_20, 60: self.estimate.residual_60}
        for metres, stack in stacks.items():
            step = metres // 10
            for layer, plane in zip(model.residual_layers[metres], stack, strict=True):
                if layer.name.endswith("B01"):  # outside the product's grid: a feature, not a constraint
                    continue
                known = plane != NODATA
                value = np.where(known, plane * np.float32(layer.scale), 0)
                square += (value * value).repeat(step, axis=0).repeat(step, axis=1)
                number += known.repeat(step, axis=0).repeat(step, axis=1)
        return np.sqrt(square / np.maximum(number, 1))

    def _measured_fraction(self, model: SpectralModel) -> NDArray[np.float32] | None:
        """Return the mean measured fraction (172,) of this piece, group by group; None where nothing is valid."""
        valid = self._mask & QualityBit.NODATA == 0
        if not valid.any():
            return None
        layers = {layer.name: number for number, layer in enumerate(model.explanation_layers)}
        fraction = np.zeros(len(CHANNELS), np.float32)
        for group in SPECTRAL_GROUPS:
            number = layers[f"measured_{group.name}"]
            scale = model.explanation_layers[number].scale
            fraction[group.channels] = self.estimate.explanation[number][valid].mean() * scale
        return fraction


class _Clock:
    """Adds up wall seconds by stage."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] += time.monotonic() - began


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
