"""Images to learn the fusion from: real cubes, and real textures made of other materials.

There are few contiguous cubes, so their spectra would be learned by heart. Most chips therefore keep only the texture
of a real image: its pixels are assigned softly to a few of its own pixels, each of which gets a random spectrum of the
pool, and the image's own shading is kept. What is left to learn is how bands belong together in space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from model.bands import BANDS_BY_RESOLUTION, SOURCE_BAND_NAMES
from model.fusion import down, in_wavelength_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from model.spectra import Spectra
    from model.training.corpus import Corpus

PLOT: Final[int] = 20
"""Edge of a stacked plot (NEON), pixels."""

USED_PLOT: Final[int] = 18
"""What is used of it: a multiple of 6."""

GUIDE_ROWS: Final[tuple[int, ...]] = tuple(SOURCE_BAND_NAMES.index(name) for name in BANDS_BY_RESOLUTION[10])


@dataclass(frozen=True)
class Image:
    """A real image in the twelve bands."""

    split: str
    bands: NDArray[np.float32]
    """(12, h, w) reflectance without noise; 0 where unknown."""
    valid: NDArray[np.bool_]
    """(h, w)."""


@dataclass(frozen=True)
class ChipSettings:
    """Make of the chips."""

    size: int = 72
    """Edge, pixels; a multiple of 6."""
    real: float = 0.4
    """Share of chips that keep their own spectra."""
    shading: float = 0.2
    """Standard deviation of the logarithm of a real chip's brightness change."""
    materials: tuple[int, int] = (3, 9)
    """Range of the number of materials of a re-made chip."""


def _plots(spectra: Spectra, bands: NDArray[np.float32], rng: np.random.Generator) -> list[NDArray[np.float32]]:
    """Four stacked plots side by side make one image."""
    height, width = spectra.shape
    full = np.full((12, height * width), np.nan, np.float32)
    full[:, spectra.index] = bands
    stack = full.reshape(12, height // PLOT, PLOT, width)[:, :, :USED_PLOT, :USED_PLOT]
    whole = [stack[:, i] for i in range(stack.shape[1]) if np.isfinite(stack[:, i]).all()]
    order = rng.permutation(len(whole))
    return [
        np.concatenate([np.concatenate([whole[a], whole[b]], axis=2), np.concatenate([whole[c], whole[d]], axis=2)], 1)
        for a, b, c, d in order[: len(order) // 4 * 4].reshape(-1, 4)
    ]


def images(
    corpus: Corpus, splits: Sequence[str], responses: NDArray[np.float64], rng: np.random.Generator, size: int
) -> list[Image]:
    """Every image of the splits that can give chips.

    Args:
        corpus: everything there is.
        splits: splits to take from.
        responses: (12, 172) response matrix; B01, outside the grid, is never refined and stays 0.
        rng: source of randomness.
        size: chips' edge; contiguous cubes must hold two thirds of it in both directions.
    """
    found = []
    for split in splits:
        for spectra in corpus.split(split):
            if len(spectra.shape) != 2:
                continue
            bands = (responses @ spectra.reflectance.T).astype(np.float32)
            height, width = spectra.shape
            if width == PLOT and height % PLOT == 0 and height > PLOT:
                parts = _plots(spectra, bands, rng)
                found += [Image(split, part, np.ones(part.shape[1:], bool)) for part in parts]
            elif min(height, width) >= size * 2 // 3:
                full = np.zeros((12, height * width), np.float32)
                full[:, spectra.index] = bands
                valid = np.zeros(height * width, bool)
                valid[spectra.index] = True
                found.append(Image(split, full.reshape(12, height, width), valid.reshape(height, width)))
    return found


def reduced(b10: NDArray[np.float32], b20: NDArray[np.float32]) -> Image:
    """A real Sentinel-2 image at half its resolution: every 20 m band is known at the guides' resolution (Wald).

    Args:
        b10: (4, h, w) reflectance of the 10 m bands.
        b20: (6, h / 2, w / 2) of the 20 m bands.

    Returns:
        The image with pixels of 20 m in the place of 10; B09, which nobody knows there, is nan.
    """
    low = down(torch.as_tensor(b10), 2).numpy()
    unknown = np.full((2, *b20.shape[1:]), np.nan, np.float32)
    unknown[0] = 0.0  # B01 is never refined
    bands = in_wavelength_order(*(torch.as_tensor(part) for part in (low, b20, unknown))).numpy()
    return Image("sentinel-2", bands, np.isfinite(bands[:9]).all(axis=0))


def _crop(
    image: NDArray[np.float32], valid: NDArray[np.bool_], size: int, rng: np.random.Generator
) -> NDArray[np.float32] | None:
    """A random turned and mirrored square (b, size, size) without gaps, or nothing after a few tries."""
    short = [max(0, size - edge) for edge in valid.shape]
    if any(short):
        valid = np.pad(valid, ((0, short[0]), (0, short[1])), mode="symmetric")
        image = np.pad(image, ((0, 0), (0, short[0]), (0, short[1])), mode="symmetric")
    for _ in range(20):
        row, column = (int(rng.integers(edge - size + 1)) for edge in valid.shape)
        if valid[row : row + size, column : column + size].all():
            part = np.rot90(image[:, row : row + size, column : column + size], int(rng.integers(4)), (1, 2))
            return np.ascontiguousarray(part[:, :, ::-1] if rng.random() < 0.5 else part)
    return None


def remade(
    guides: NDArray[np.float32], pool: NDArray[np.float64], count: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """The texture of an image made of other materials.

    Args:
        guides: (4, h, w) reflectance of the 10 m bands.
        pool: (12, n) bands of spectra to choose materials from.
        count: number of materials.
        rng: source of randomness.

    Returns:
        (12, h, w) reflectance.
    """
    pixels = guides.reshape(4, -1)
    brightness = np.sqrt((pixels**2).mean(axis=0) + 1e-4)
    look = np.concatenate([pixels / brightness, 0.5 * np.log(brightness)[None]])
    look = (look - look.mean(axis=1, keepdims=True)) / (look.std(axis=1, keepdims=True) + 1e-3)
    chosen = rng.integers(pixels.shape[1], size=count)
    distance = ((look[:, :, None] - look[:, None, chosen]) ** 2).sum(axis=0)
    part = np.exp(-(distance - distance.min(axis=1, keepdims=True)) / rng.uniform(0.1, 1.0))
    part /= part.sum(axis=1, keepdims=True)
    shade = (brightness / (part @ brightness[chosen])) ** rng.uniform(0.5, 1.0)
    materials = pool[:, rng.integers(pool.shape[1], size=count)]
    made = (materials @ part.T) * np.clip(shade, 0.4, 2.0)
    return np.asarray(made.reshape(12, *guides.shape[1:]), dtype=np.float32)


def chip(
    found: Sequence[Image],
    texture: NDArray[np.float32],
    pool: NDArray[np.float64],
    rng: np.random.Generator,
    settings: ChipSettings,
) -> NDArray[np.float32]:
    """One chip.

    Args:
        found: real images in the twelve bands.
        texture: (4, h, w) a real Sentinel-2 image's 10 m bands, reflectance.
        pool: (12, n) bands of spectra to choose materials from.
        rng: source of randomness.
        settings: its make.

    Returns:
        (12, size, size) reflectance without noise; a band that nobody knows is nan throughout.
    """
    splits = sorted({image.split for image in found})
    while True:
        own = splits[rng.integers(len(splits))]
        group = [image for image in found if image.split == own]
        image = group[rng.integers(len(group))]
        if rng.random() < settings.real:
            part = _crop(image.bands, image.valid, settings.size, rng)
            if part is not None:
                return np.asarray(part * np.exp(rng.normal(0.0, settings.shading)), dtype=np.float32)
            continue
        if rng.random() < 0.5:
            guides = _crop(texture, np.ones(texture.shape[1:], bool), settings.size, rng)
        else:
            guides = _crop(image.bands[list(GUIDE_ROWS)], image.valid, settings.size, rng)
        if guides is not None:
            return remade(guides, pool, int(rng.integers(*settings.materials)), rng)
