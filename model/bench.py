"""How fast the model is: all outputs, warm, median of several runs, beside a network of COS2A's size in the same run.

``python -m model.bench --device cpu --mpx 1,4,16,64 --json OUT`` needs torch, numpy and safetensors only.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import resource
import statistics
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from model.duality import DualityModel, Multispectral, load_model
from model.evaluation.networks.cos2a import BANDS, Cos2aLike
from model.inference import GRANULE, Cell, cells, in_parallel
from model.mixture import closed_form
from model.unfolding import RELAXATION, data_gain, pooled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

PLATFORM: Final[str] = "sentinel-2a"

PRECISIONS: Final[tuple[str, ...]] = ("float32",)
"""Arithmetic the model can work in."""

TEXTURE_EDGE: Final[int] = 756
"""Edge of the texture that a scene of any size repeats, pixels: a multiple of 6 that is none of the model's cells."""

COS2A_EDGE: Final[int] = 96
"""Edge of the image the network is timed on, pixels; on a GPU a megapixel in pieces of `COS2A_GPU_EDGE`."""

COS2A_GPU_EDGE: Final[int] = 500
_COS2A_GPU_PIECES: Final[int] = 4
_COS2A_REPEATS: Final[int] = 3

_WARM_CELLS: Final[int] = 9
_CHECKED_PIXELS: Final[int] = 4096


@dataclass(frozen=True)
class SyntheticScene:
    """A scene of plausible reflectance that is never held as a whole: windows are cut from a repeated texture."""

    edge: int
    """Height and width, 10 m pixels, a multiple of 6."""
    texture: Multispectral
    """The texture, `TEXTURE_EDGE` pixels wide or the scene's edge if that is less."""

    @property
    def megapixels(self) -> float:
        """Size, millions of 10 m pixels."""
        return self.edge**2 / 1e6

    def window(self, cell: Cell) -> Multispectral:
        """The bands that a cell reads, at a brightness of its own, so that no two cells hold the same numbers."""
        column, row, width, height = cell.read
        # The fraction of multiples of the golden ratio spreads evenly without a generator's state.
        light = np.float32(0.8 + 0.4 * ((cell.inner.row * 7919 + cell.inner.column) * 0.6180339887 % 1.0))

        def part(array: NDArray[np.float32], ratio: int) -> NDArray[np.float32]:
            rows = np.arange(row // ratio, (row + height) // ratio) % array.shape[1]
            columns = np.arange(column // ratio, (column + width) // ratio) % array.shape[2]
            return np.ascontiguousarray(array[:, rows[:, None], columns] * light)

        return Multispectral(
            part(self.texture.b10, 1), part(self.texture.b20, 2), part(self.texture.b60, 6), self.texture.platform
        )


def synthetic_scene(pixels: float, seed: int = 0) -> SyntheticScene:
    """A random scene.

    Args:
        pixels: number of 10 m pixels wanted; the square's edge is rounded to a multiple of 6.
        seed: of the random texture.

    Returns:
        The scene; it holds some 13 MB whatever its size.
    """
    edge = max(GRANULE, round(np.sqrt(pixels) / GRANULE) * GRANULE)
    period = min(edge, TEXTURE_EDGE)
    texture = np.random.default_rng(seed).random((period, period), dtype=np.float32)

    def bands(count: int, ratio: int) -> NDArray[np.float32]:
        size = period // ratio
        coarse = texture.reshape(size, ratio, size, ratio).mean(axis=(1, 3), dtype=np.float32)
        level = np.linspace(0.05, 0.35, count, dtype=np.float32)[:, None, None]
        return np.asarray(level * (0.7 + 0.6 * coarse), dtype=np.float32)

    return SyntheticScene(edge, Multispectral(bands(4, 1), bands(6, 2), bands(2, 6), PLATFORM))


def _cells(model: DualityModel, scene: SyntheticScene) -> Iterator[Cell]:
    return cells((0, 0, scene.edge, scene.edge), scene.edge, scene.edge, model.cell, model.halo)


def _workers(device: torch.device) -> int:
    """Cells worked on at once: as many as cores; one on an accelerator, which fills itself."""
    return (os.cpu_count() or 1) if device.type == "cpu" else 1


def _run(model: DualityModel, scene: SyntheticScene, limit: int | None = None) -> float:
    """Seconds to estimate a scene cell by cell, or its first cells, on all cores; cutting the input is counted."""
    chosen = islice(_cells(model, scene), limit)
    started = time.perf_counter()
    for _ in in_parallel(lambda cell: model.estimate(scene.window(cell), cell.halo), chosen, _workers(model.device)):
        pass
    return time.perf_counter() - started


def relative_error(model: DualityModel) -> float:
    """Relative root-mean-square error of the device's spectral estimate against the same stages in float64.

    Class probabilities are taken from the device, so that the figure is that of the arithmetic.
    """
    tools = model.solver.tools(PLATFORM)
    prior, weights = tools.posterior.prior, tools.unfolding.weights
    rng = np.random.default_rng(1)
    y = np.abs(rng.normal(0.2, 0.1, size=(BANDS, _CHECKED_PIXELS))) + 0.02
    with torch.inference_mode():
        got = tools.unfolding(torch.as_tensor(y, dtype=torch.float32, device=model.device))
    w = got.weights.cpu().numpy().astype(np.float64)
    sensor = model.parameters.sensors[PLATFORM]
    A = sensor.responses @ model.parameters.basis.components.T
    form = closed_form(prior, A)
    s = np.sqrt((y[1:] ** 2).mean(axis=0) + prior.scale_floor**2)
    z = y / s
    classes = prior.mean[:, :, None] + form.gain @ (z[None] - form.band_mean[:, :, None])
    start = v = np.einsum("jn,jkn->kn", w, classes)
    C, R = pooled(prior)
    for stage in weights.stages:
        hidden = np.maximum(stage.inner @ np.concatenate([z, v]) + stage.inner_bias[:, None], 0)
        hidden = np.maximum(stage.middle @ hidden + stage.middle_bias[:, None], 0)
        p = v + stage.outer @ hidden + stage.outer_bias[:, None]
        v = p + data_gain(C, R, A, float(stage.rho[0])) @ (z - A @ p)
    exact = ((1 - RELAXATION) * start + RELAXATION * v) * s if weights.stages else start * s
    return float(np.linalg.norm(got.coefficients.cpu().numpy() - exact) / np.linalg.norm(exact))


def cos2a_seconds_per_mpx(device: torch.device, repeats: int = _COS2A_REPEATS) -> float:
    """Seconds per megapixel of the COS2A-like network with random weights: its twelve bands at 10 m in, spectra out.

    On a CPU it is timed on 96 x 96 pixels and scaled linearly, for a megapixel takes minutes; on a GPU on a whole
    megapixel in four pieces. The interpolation of its input, the overlap of tiles and the copies to and from a GPU are
    left out, all in the network's favour.

    Args:
        device: where it runs.
        repeats: timed runs after one to warm up; the median counts.
    """
    on_gpu = device.type == "cuda"
    if not on_gpu:
        torch.set_num_threads(_workers(device))  # the model leaves one; the network is given all cores as well
    edge, pieces = (COS2A_GPU_EDGE, _COS2A_GPU_PIECES) if on_gpu else (COS2A_EDGE, 1)
    network = Cos2aLike().to(device).eval()
    bands = torch.rand((1, BANDS, edge, edge), device=device)

    def once() -> float:
        started = time.perf_counter()
        for _ in range(pieces):
            network(bands)
        if on_gpu:
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    with torch.inference_mode():
        once()
        seconds = statistics.median(once() for _ in range(repeats))
    return seconds / (pieces * edge**2 / 1e6)


def machine_name(device: torch.device) -> str:
    """What did the work: the GPU's name, or the processor's as the kernel knows it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _peak_bytes(device: torch.device) -> int:
    """Largest memory so far: what torch took of a GPU, or what the whole process held resident."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def repeats_for(megapixels: float) -> int:
    """Timed runs of a scene: 15 up to a megapixel, fewer the larger it is, never under 3."""
    return max(3, min(15, round(16 / megapixels)))


def bench(
    device: str = "auto",
    megapixels: Sequence[float] = (1.0, 4.0),
    *,
    repeats: int | None = None,
    weights: Path | None = None,
    precisions: Sequence[str] = PRECISIONS,
) -> list[dict[str, Any]]:
    """Time the model with all its outputs.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        megapixels: scene sizes.
        repeats: timed runs of every size, after some cells to warm up; `repeats_for` unless given. The median counts.
        weights: folder of the weights; the shipped ones unless given.
        precisions: arithmetic, among `PRECISIONS`.

    Returns:
        One row per precision and size: ``device``, ``dtype``, ``mpx``, ``seconds_per_mpx``,
        ``cos2a_seconds_per_mpx`` (see `cos2a_seconds_per_mpx`; measured once), ``relative_error`` of this precision
        against float64, ``threads``, ``compiled`` (`DualityModel.compiled`), ``machine``,
        ``peak_bytes`` (of the process so far, so it never falls).

    Raises:
        ValueError: if there is no size, one is not positive, or a precision is unknown.
    """
    if not megapixels or min(megapixels) <= 0 or not set(precisions) <= set(PRECISIONS):
        raise ValueError(f"sizes {list(megapixels)}, precisions {list(precisions)}; expected > 0, of {PRECISIONS}")
    rows: list[dict[str, Any]] = []
    for precision in precisions:
        model = load_model(weights, device)
        head = {"device": str(model.device), "dtype": precision}
        error = relative_error(model)
        network = cos2a_seconds_per_mpx(model.device, repeats or _COS2A_REPEATS)
        logger.info("COS2A-like network on %s: %.3f s per Mpx", model.device, network)
        for size in megapixels:
            scene = synthetic_scene(size * 1e6)
            _run(model, scene, _WARM_CELLS)
            runs = [_run(model, scene) for _ in range(repeats or repeats_for(scene.megapixels))]
            per_mpx = statistics.median(runs) / scene.megapixels
            rows.append(
                {
                    **head,
                    "mpx": round(scene.megapixels, 4),
                    "seconds_per_mpx": per_mpx,
                    "cos2a_seconds_per_mpx": network,
                    "relative_error": error,
                    "threads": _workers(model.device),
                    "compiled": model.compiled,
                    "machine": machine_name(model.device),
                    "peak_bytes": _peak_bytes(model.device),
                }
            )
            logger.info("%.2f Mpx on %s: %.4f s per Mpx", scene.megapixels, model.device, per_mpx)
        _log_growth([row for row in rows if row["dtype"] == precision])
    return rows


def _log_growth(rows: Sequence[dict[str, Any]]) -> None:
    small, large = min(rows, key=lambda row: row["mpx"]), max(rows, key=lambda row: row["mpx"])
    if large["mpx"] > small["mpx"]:
        growth = large["seconds_per_mpx"] / small["seconds_per_mpx"]
        logger.info("time per pixel at %.2f Mpx / at %.2f Mpx: %.3f", large["mpx"], small["mpx"], growth)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--mpx", default="1,4", help="scene sizes in megapixels, comma separated")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=PRECISIONS, help="arithmetic")
    parser.add_argument("--repeats", type=int, help="timed runs of every size; by default fewer for large ones")
    parser.add_argument("--json", type=Path, help="write the rows here")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sizes = [float(size) for size in arguments.mpx.split(",")]
    rows = bench(arguments.device, sizes, repeats=arguments.repeats, precisions=arguments.precision)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
