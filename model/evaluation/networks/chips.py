"""Training images with known truth for networks that look at space."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from model.evaluation.networks.cos2a import bicubic_bands
from model.evaluation.simulation import simulate_scene
from model.inference import GRANULE
from model.spectra import Spectra

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

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


TRANSPLANT_CHIP: Final[int] = 24
"""Edge of a chip made of other materials, pixels; `MARGIN` of the real scene's structure lies around it."""

TRANSPLANT_MATERIALS: Final[tuple[int, int]] = (3, 9)
"""Fewest materials of such a chip, and one more than the most."""

BRIGHTEST: Final[float] = 1.3
"""Reflectance at which shaded transplants are clipped."""


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


def _transplants(
    scenes: Sequence[Spectra],
    pool: tuple[NDArray[np.float64], NDArray[np.float64]],
    count: int,
    rng: np.random.Generator,
) -> Iterator[Spectra]:
    """Windows of scenes made of other materials.

    Some pixels of a window are anchors; every pixel is shared among them by the likeness of its spectrum's shape, and
    each anchor takes a spectrum of the pool instead of its own. The window's relative brightness stays as shading.
    """
    spectra, coastal = pool
    edge = TRANSPLANT_CHIP + 2 * MARGIN
    for _ in range(count):
        scene = scenes[int(rng.integers(len(scenes)))]
        corners = _full_windows(scene, edge)
        top, left = corners[rng.integers(len(corners))]
        cube = np.full((scene.shape[0] * scene.shape[1], 172), np.nan, np.float32)
        cube[scene.index] = scene.reflectance
        window = cube.reshape(*scene.shape, 172)[top : top + edge, left : left + edge].reshape(-1, 172)
        brightness = np.linalg.norm(window, axis=1, keepdims=True)
        shape = window / np.maximum(brightness, 1e-3)
        anchors = shape[rng.choice(len(shape), size=rng.integers(*TRANSPLANT_MATERIALS), replace=False)]
        distance = ((shape[:, None] - anchors[None]) ** 2).sum(axis=2)  # (n, anchors)
        affinity = np.exp(-distance / np.quantile(distance, 0.1).clip(1e-9))
        shares = (affinity + 1e-9) / (affinity + 1e-9).sum(axis=1, keepdims=True)
        shading = np.clip(brightness / np.median(brightness).clip(1e-3), 0.4, 1.6)
        rows = rng.integers(len(spectra), size=anchors.shape[0])
        yield Spectra(
            scene.name,
            np.clip(shares @ spectra[rows] * shading, 0.0, BRIGHTEST).astype(np.float32),
            (shares @ coastal[rows] * shading[:, 0]).astype(np.float32),
            np.arange(edge**2),
            (edge, edge),
            np.ones(172, bool),
        )


def _full_windows(scene: Spectra, edge: int) -> NDArray[np.intp]:
    """(n, 2) top left corners, on a grid of 6 pixels, of the windows in which every pixel is known."""
    if min(scene.shape) < edge:
        return np.zeros((0, 2), np.intp)
    known = np.zeros(scene.shape, bool)
    known.flat[scene.index] = True
    views = np.lib.stride_tricks.sliding_window_view(known, (edge, edge))[::GRANULE, ::GRANULE]
    return np.argwhere(views.all(axis=(2, 3))) * GRANULE


def chips_of(
    corpus: Corpus,
    left_out: Iterable[str],
    rng: np.random.Generator,
    *,
    responses: NDArray[np.float64],
    platform: str = "sentinel-2a",
    repeats: int = 1,
    transplants: int = 100,
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Full-tier images of every scene and plot: point-spread function, decimation, noise, then bicubic to 10 m.

    Args:
        corpus: everything there is.
        left_out: splits that must not take part.
        rng: source of noise and of where in its plot a chip lies.
        responses: (12, 172) responses, with a regression for B01 where the instrument does not see it.
        platform: name the simulated images carry.
        repeats: how often each is simulated, with fresh noise.
        transplants: how many windows of the contiguous scenes are given other materials from the whole corpus (without
            what is left out) and added: a few scenes hold a few materials only, and the libraries have no pixels
            beside each other. None are added where no contiguous scene takes part.

    Yields:
        Bands (12, h, w) and truth (172, h, w), float32 reflectance at 10 m: bands finite, truth nan where unknown or
        where the instrument has no channel. A plot gives 18 x 18 pixels, a transplant 24 x 24, a contiguous scene all
        it has.
    """
    # Training makes its own chips with this function, so importing it must not start with training.
    from model.training.corpus import SOURCES, draw

    excluded = set(left_out)
    chosen = [source for source in SOURCES if source.path in CHIP_FILES and source.split not in excluded]

    def chip(scene: Spectra, margin: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        seen = simulate_scene(scene, responses, platform, rng)
        truth = np.where(scene.covered[:, None, None], seen.truth, np.float32(np.nan))
        inner = np.s_[:, margin : truth.shape[1] - margin, margin : truth.shape[2] - margin]
        return np.ascontiguousarray(bicubic_bands(seen.msi)[inner]), np.ascontiguousarray(truth[inner])

    for _ in range(repeats):
        for source in chosen:
            spectra, edge = corpus.files[source.path], CHIP_FILES[source.path]
            if edge is None:
                yield chip(spectra, 0)
            else:
                yield from (chip(plot, MARGIN) for plot in _plots(spectra, edge, rng))
    scenes = [corpus.files[source.path] for source in chosen if CHIP_FILES[source.path] is None]
    scenes = [scene for scene in scenes if len(_full_windows(scene, TRANSPLANT_CHIP + 2 * MARGIN))]
    if scenes and transplants:
        pool = draw(corpus, excluded, rng)
        yield from (chip(scene, MARGIN) for scene in _transplants(scenes, pool, transplants, rng))
