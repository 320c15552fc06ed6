"""Training images with known truth for networks that look at space."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from model.evaluation.networks.cos2a import bicubic_bands
from model.evaluation.simulation import simulate_scene
from model.training.corpus import SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from model.spectra import Spectra
    from model.training.corpus import Corpus

CHIP_FILES: Final[Mapping[str, int | None]] = MappingProxyType(
    {
        "cubes/aviris_sandiego_a.npz": None,
        "cubes/aviris_sandiego_b.npz": None,
        "cubes/enmap_potsdam.npz": None,
        "cubes/neon_idtrees_mlbs.npz": 20,
        "cubes/neon_idtrees_osbs.npz": 20,
    }
)
"""Files whose pixels lie beside each other: contiguous scenes (none), or stacks of square plots (their edge, pixels).
The other cubes are pixels from different places put side by side."""

PLOT_CHIP: Final[int] = 18
"""Edge of the chip cut from a plot: the largest multiple of 6 in 20, pixels."""

MARGIN: Final[int] = 12
"""Mirrored pixels around a plot's chip while it is simulated: beyond the point-spread function's reach, a multiple of
6; simulating needs 24 x 24 pixels at least."""


def _plots(spectra: Spectra, edge: int, rng: np.random.Generator) -> Iterator[Spectra]:
    """Each plot of a stack as a small scene: a random chip with mirrored surroundings."""
    height, width = spectra.shape
    position = np.full((height, width), -1)
    position.flat[spectra.index] = np.arange(len(spectra.index))
    for top in range(0, height - edge + 1, edge):
        row, column = (int(start) for start in rng.integers(edge - PLOT_CHIP + 1, size=2))
        chip = position[top + row : top + row + PLOT_CHIP, column : column + PLOT_CHIP]
        around = np.pad(chip, MARGIN, mode="symmetric")
        known = np.flatnonzero(around >= 0)
        if not known.size:
            continue
        rows = around.ravel()[known]
        yield replace(
            spectra,
            reflectance=spectra.reflectance[rows],
            coastal=spectra.coastal[rows],
            index=known,
            shape=around.shape,
        )


def chips_of(
    corpus: Corpus,
    left_out: Iterable[str],
    rng: np.random.Generator,
    *,
    responses: NDArray[np.float64],
    platform: str = "sentinel-2a",
    repeats: int = 1,
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Full-tier images of every scene and plot: point-spread function, decimation, noise, then bicubic to 10 m.

    Args:
        corpus: everything there is.
        left_out: splits that must not take part.
        rng: source of noise and of where in its plot a chip lies.
        responses: (12, 172) responses, with a regression for B01 where the instrument does not see it.
        platform: name the simulated images carry.
        repeats: how often each is simulated, with fresh noise.

    Yields:
        Bands (12, h, w) and truth (172, h, w), float32 reflectance at 10 m: bands finite, truth nan where unknown or
        where the instrument has no channel. A plot gives 18 x 18 pixels, a contiguous scene all it has.
    """
    excluded = set(left_out)
    chosen = [source for source in SOURCES if source.path in CHIP_FILES and source.split not in excluded]
    for _ in range(repeats):
        for source in chosen:
            spectra, edge = corpus.files[source.path], CHIP_FILES[source.path]
            inner = np.s_[:] if edge is None else np.s_[MARGIN:-MARGIN]
            for scene in [spectra] if edge is None else _plots(spectra, edge, rng):
                seen = simulate_scene(scene, responses, platform, rng)
                truth = np.where(spectra.covered[:, None, None], seen.truth, np.float32(np.nan))
                bands = bicubic_bands(seen.msi)
                yield np.ascontiguousarray(bands[:, inner, inner]), np.ascontiguousarray(truth[:, inner, inner])
