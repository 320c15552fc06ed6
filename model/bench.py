"""How fast the model is: all outputs, warm, median of several runs.

``python -m model.bench --device cpu --mpx 1,4 --json OUT`` needs torch, numpy and safetensors only.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from model.duality import DualityModel, Multispectral, load_model
from model.inference import GRANULE, Cell, cells
from model.unfolding import closed_form

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

PLATFORM: Final[str] = "sentinel-2a"
_CHECKED_PIXELS: Final[int] = 4096


def synthetic_scene(pixels: float, seed: int = 0) -> Multispectral:
    """A smooth random scene of plausible reflectance.

    Args:
        pixels: number of 10 m pixels wanted; the square's edge is rounded to a multiple of 6.
        seed: of the random field.

    Returns:
        The twelve bands.
    """
    edge = max(GRANULE, round(np.sqrt(pixels) / GRANULE) * GRANULE)
    rng = np.random.default_rng(seed)
    texture = rng.random((edge, edge), dtype=np.float32)

    def bands(count: int, ratio: int) -> NDArray[np.float32]:
        size = edge // ratio
        coarse = texture.reshape(size, ratio, size, ratio).mean(axis=(1, 3), dtype=np.float32)
        level = np.linspace(0.05, 0.35, count, dtype=np.float32)[:, None, None]
        return np.asarray(level * (0.7 + 0.6 * coarse), dtype=np.float32)

    return Multispectral(bands(4, 1), bands(6, 2), bands(2, 6), PLATFORM)


def _cut(scene: Multispectral, cell: Cell) -> Multispectral:
    column, row, width, height = cell.read

    def part(array: NDArray[np.float32], ratio: int) -> NDArray[np.float32]:
        rows, columns = slice(row // ratio, (row + height) // ratio), slice(column // ratio, (column + width) // ratio)
        return np.ascontiguousarray(array[:, rows, columns])

    return Multispectral(part(scene.b10, 1), part(scene.b20, 2), part(scene.b60, 6), scene.platform)


def _run(model: DualityModel, scene: Multispectral) -> float:
    """Seconds to estimate a whole scene, cell by cell."""
    height, width = scene.b10.shape[1:]
    started = time.perf_counter()
    for cell in cells((0, 0, width, height), width, height, model.cell, model.halo):
        model.estimate(_cut(scene, cell), cell.halo)
    return time.perf_counter() - started


def relative_error(model: DualityModel) -> float:
    """Relative root-mean-square error of the device's spectra against the same posterior in float64.

    Class probabilities are taken from the device, so that the figure is that of the arithmetic.
    """
    posterior = model.solver.tools(PLATFORM).posterior
    rng = np.random.default_rng(1)
    y = np.abs(rng.normal(0.2, 0.1, size=(12, _CHECKED_PIXELS))) + 0.02
    with torch.inference_mode():
        got = posterior(torch.as_tensor(y, dtype=torch.float32, device=model.device))
    w = got.weights.cpu().numpy().astype(np.float64)
    form = closed_form(posterior.prior, model.solver.tools(PLATFORM).observation.cpu().numpy().astype(np.float64))
    s = np.sqrt((y[1:] ** 2).mean(axis=0) + posterior.prior.scale_floor**2)
    deviation = (y / s)[None] - form.band_mean[:, :, None]
    classes = posterior.prior.mean[:, :, None] + form.gain @ deviation
    exact = np.einsum("jn,jkn->kn", w, classes) * s
    return float(np.linalg.norm(got.coefficients.cpu().numpy() - exact) / np.linalg.norm(exact))


def bench(
    device: str = "auto", megapixels: Sequence[float] = (1.0, 4.0), *, repeats: int = 5, weights: Path | None = None
) -> list[dict[str, Any]]:
    """Time the model with all its outputs.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        megapixels: scene sizes.
        repeats: timed runs after one to warm up; the median counts.
        weights: folder of the weights; the shipped ones unless given.

    Returns:
        One row per size: ``device``, ``dtype``, ``mpx``, ``seconds_per_mpx``, ``relative_error`` against float64,
        ``threads``.
    """
    model = load_model(weights, device)
    error = relative_error(model)
    rows = []
    for size in megapixels:
        scene = synthetic_scene(size * 1e6)
        actual = scene.b10[0].size / 1e6
        _run(model, scene)
        seconds = float(np.median([_run(model, scene) for _ in range(repeats)]))
        rows.append(
            {
                "device": str(model.device),
                "dtype": "float32",
                "mpx": round(actual, 4),
                "seconds_per_mpx": seconds / actual,
                "relative_error": error,
                "threads": torch.get_num_threads(),
            }
        )
        logger.info("%.2f Mpx on %s: %.3f s per Mpx", actual, model.device, seconds / actual)
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--mpx", default="1,4", help="scene sizes in megapixels, comma separated")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the rows here")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    rows = bench(arguments.device, [float(size) for size in arguments.mpx.split(",")], repeats=arguments.repeats)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
