"""The pieces of work a training run consists of, each a function of its arguments alone.

A *fit* leaves some splits out and yields statistics and networks; a *judgement* looks at one left-out split with a
fit's parameters. They run in worker processes with one thread each, so that a result does not depend on how many cores
there are, and what a fit yields is kept on disk until the run is done: a run that was broken off goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from os import environ
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import safetensors.numpy
import torch

from model.consistency import agree
from model.duality import DualityModel
from model.evaluation.baselines import Baselines, Linear, fit_linear
from model.evaluation.judge import judge_full, judge_spectral
from model.evaluation.networks import fit_cos2a, fit_mlp
from model.evaluation.networks.chips import chips_of
from model.evaluation.simulation import SimulatedScene, observe, simulate_bands, simulate_scene
from model.parameters import from_tensors, to_tensors
from model.refinement import RefinementWeights
from model.solution import DualitySolver
from model.training.chips import images, reduced
from model.training.corpus import SOURCES, Corpus, draw
from model.training.refinement import RefinementSettings, fit_refinement
from model.training.statistics import REFERENCE_PLATFORM, FitSettings, fit_statistics
from model.training.unfolding import UnfoldingSettings, fit_unfolding
from model.uncertainty import GROUP_OF_CHANNEL, GROUPS
from model.unfolding import UnfoldingWeights

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future
    from pathlib import Path

    from numpy.typing import NDArray

    from model.card import ModelCard
    from model.parameters import Parameters
    from model.spectra import Spectra
    from model.srf import Responses
    from model.uncertainty import Calibration

PIXELS_PER_SPLIT: Final[int] = 3000
"""Most pixels of one file that judge a fit in the spectral tier."""

SMALLEST_JUDGE: Final[int] = 100
"""Files with fewer spectra judge nothing."""

CONTIGUOUS: Final[tuple[str, ...]] = ("aviris_sandiego_a", "aviris_sandiego_b", "enmap_potsdam")
"""Cubes that are one image; the others are stacked plots or single pixels."""


@dataclass(frozen=True)
class TrainingSettings:
    """Every choice of a training run."""

    fit: FitSettings = field(default_factory=FitSettings)
    unfolding: UnfoldingSettings = field(default_factory=UnfoldingSettings)
    refinement: RefinementSettings = field(default_factory=RefinementSettings)
    nested: bool = True
    """Whether what judges a scene is calibrated by fits that have seen neither it nor the calibrating scene. Without,
    a run takes a quarter of the time and the stated coverage is optimistic."""
    mlp_steps: int = 3000
    cos2a_steps: int = 800


@dataclass(frozen=True)
class Materials:
    """What every piece of work needs: handed to each worker once."""

    corpus: Corpus
    responses: Mapping[str, Responses]
    texture: tuple[NDArray[np.float32], NDArray[np.float32]]
    """A real Sentinel-2 image's 10 m bands (4, h, w) and 20 m bands (6, h / 2, w / 2), reflectance."""
    settings: TrainingSettings
    seed: int

    def rng(self, *left_out: str) -> np.random.Generator:
        """Randomness that depends on the seed and on what is left out, on nothing else."""
        return np.random.default_rng([self.seed, *sorted(sum(name.encode()) for name in left_out)])


@dataclass(frozen=True)
class Fit:
    """Parameters fitted without some splits."""

    left_out: tuple[str, ...]
    parameters: Parameters
    """Statistics, and the unfolding after its last snapshot."""
    snapshots: tuple[UnfoldingWeights, ...]
    """The unfolding after each length of training."""

    def after(self, snapshot: int) -> Parameters:
        """The parameters with the unfolding of one snapshot."""
        return replace(self.parameters, unfolding=self.snapshots[snapshot])


@dataclass(frozen=True)
class LeftOut:
    """What one split says about a fit that has not seen it."""

    error: NDArray[np.float32]
    """(172, n) absolute errors of the spectral tier; nan where the instrument saw nothing."""
    sigma: NDArray[np.float64]
    """(8, n) uncalibrated sigma."""
    distance: NDArray[np.float64]
    """(n,) squared distance to the domain."""
    spatial: list[tuple[NDArray[np.float64], ...]]
    """Full tier: per scene squared errors (8, n), spectral variance (8, n), detail20 (n,), detail60 (n,)."""


_MATERIALS: list[Materials] = []


def _begin(materials: Materials) -> None:
    torch.set_num_threads(1)
    _MATERIALS.append(materials)


def fit(left_out: tuple[str, ...], snapshot: int | None) -> Fit:
    """Statistics and unfolding without some splits.

    Args:
        left_out: splits that take no part.
        snapshot: train no longer than to this one; all of them unless told.
    """
    m = _MATERIALS[-1]
    rng = m.rng(*left_out)
    spectra, coastal = draw(m.corpus, left_out, rng)
    parameters = fit_statistics(spectra, coastal, m.responses, rng, m.settings.fit)
    chosen = m.settings.unfolding
    steps = None if snapshot is None else (snapshot + 1) * max(1, chosen.steps // chosen.snapshots)
    snapshots = fit_unfolding(parameters, spectra, coastal, int(rng.integers(2**31)), chosen, steps)
    return Fit(left_out, replace(parameters, unfolding=snapshots[-1]), tuple(snapshots))


def linear(left_out: tuple[str, ...], responses: NDArray[np.float64]) -> Linear:
    """The linear baselines from the very spectra a fit has seen."""
    m = _MATERIALS[-1]
    spectra, coastal = draw(m.corpus, left_out, m.rng(*left_out))
    return fit_linear(spectra, coastal, responses)


def refinement(left_out: tuple[str, ...]) -> RefinementWeights:
    """The correction of the fusion without some splits."""
    m = _MATERIALS[-1]
    rng = m.rng(*left_out)
    D = m.responses[REFERENCE_PLATFORM].matrix
    spectra, _ = draw(m.corpus, left_out, rng)
    splits = [s for s in dict.fromkeys(source.split for source in SOURCES) if s not in left_out]
    found = [*images(m.corpus, splits, D, rng, m.settings.refinement.chip.size), reduced(*m.texture)]

    def seen(
        truth: NDArray[np.float32], mtf: float, noise: float, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        b10, b20, b60 = (torch.as_tensor(part) for part in observe(truth, mtf, rng, noise)[0])
        return b10, b20, b60

    pool = D @ spectra.T
    return fit_refinement(found, m.texture[0], pool, seen, int(rng.integers(2**31)), m.settings.refinement)


def mlp(left_out: tuple[str, ...], responses: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
    """State of the plain perceptron trained without some splits."""
    m = _MATERIALS[-1]
    spectra, coastal = draw(m.corpus, left_out, m.rng(*left_out))
    bands = responses @ spectra.T
    bands[0] = np.where(np.isfinite(coastal), coastal, bands[0])
    network = fit_mlp(spectra, bands.T, seed=m.seed, steps=m.settings.mlp_steps)
    return {name: value.numpy() for name, value in network.state_dict().items()}


def cos2a(left_out: tuple[str, ...], responses: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
    """State of the COS2A-like network trained without some splits."""
    m = _MATERIALS[-1]
    chips = list(chips_of(m.corpus, left_out, m.rng(*left_out), responses=responses, repeats=2))
    network = fit_cos2a(chips, seed=m.seed, steps=m.settings.cos2a_steps)
    return {name: value.numpy() for name, value in network.state_dict().items()}


def judges(corpus: Corpus, split: str) -> list[Spectra]:
    """The files of a split that are large enough to judge."""
    return [file for file in corpus.split(split) if len(file.reflectance) >= SMALLEST_JUDGE]


def curve(fitted: Fit, split: str) -> list[float]:
    """Error of every snapshot on a left-out split, relative to the closed-form start."""
    m = _MATERIALS[-1]
    rng = m.rng(split)
    y, x = _sample(m, fitted.parameters, split, rng)
    known = np.isfinite(x)
    out = []
    for unfolding in (UnfoldingWeights(), *fitted.snapshots):
        estimate, _, _ = _estimate(replace(fitted.parameters, unfolding=unfolding), y)
        out.append(float(np.sqrt(np.mean((estimate - x)[known] ** 2))))
    return [value / out[0] for value in out[1:]]


def judge(parameters: Parameters, split: str, *, space: bool) -> LeftOut:
    """What a left-out split says about a fit."""
    m = _MATERIALS[-1]
    rng = m.rng(split)
    y, x = _sample(m, parameters, split, rng)
    estimate, variance, distance = _estimate(parameters, y)
    spatial = []
    if space:
        scenes = [file for file in judges(m.corpus, split) if file.name in CONTIGUOUS]
        spatial = [_spatial(parameters, simulate(parameters, file, rng)) for file in scenes]
    return LeftOut(np.abs(estimate - x).astype(np.float32), np.sqrt(variance), distance, spatial)


def simulate(parameters: Parameters, file: Spectra, rng: np.random.Generator) -> SimulatedScene:
    """A contiguous cube as Sentinel-2A would see it."""
    return simulate_scene(file, parameters.sensors[REFERENCE_PLATFORM].responses, REFERENCE_PLATFORM, rng)


def rows(
    parameters: Parameters, calibration: Calibration, card: ModelCard, split: str, baselines: Baselines
) -> list[dict[str, Any]]:
    """The evaluation's rows of a left-out split, spectral tier and, for contiguous cubes, full tier."""
    m = _MATERIALS[-1]
    model = DualityModel(replace(parameters, calibration=calibration), card, torch.device("cpu"))
    pool, _ = draw(m.corpus, (split,), m.rng(split))
    out: list[dict[str, Any]] = []
    for file in judges(m.corpus, split):
        head = {"file": file.name, "split": split, "pixels": len(file.reflectance), "in_training": False}
        spectral = judge_spectral(model, file, REFERENCE_PLATFORM, m.rng(split), baselines, pool)
        out.append({**head, "tier": "spectral", **spectral})
        if file.name in CONTIGUOUS:
            scene = simulate(parameters, file, m.rng(split))
            out.append({**head, "tier": "full", **judge_full(model, scene, file.covered, baselines)})
    return out


def _sample(
    m: Materials, parameters: Parameters, split: str, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Noisy bands (12, n) and truth (172, n), nan where the instrument saw nothing."""
    D = parameters.sensors[REFERENCE_PLATFORM].responses
    truth, bands = [], []
    for file in judges(m.corpus, split):
        chosen = rng.permutation(len(file.reflectance))[:PIXELS_PER_SPLIT]
        truth.append(np.where(file.covered[:, None], file.reflectance[chosen].T.astype(np.float64), np.nan))
        bands.append(simulate_bands(file, D, rng, chosen))
    return np.concatenate(bands, axis=1), np.concatenate(truth, axis=1)


def _estimate(parameters: Parameters, bands: NDArray[np.floating]) -> tuple[NDArray[np.float64], ...]:
    """Spectra (172, n), uncalibrated group variance (8, n), distance (n,) from bands (12, n)."""
    tools = DualitySolver(parameters, torch.device("cpu")).tools(REFERENCE_PLATFORM)
    y = torch.as_tensor(np.ascontiguousarray(bands), dtype=torch.float32)
    with torch.inference_mode():
        result = tools.unfolding(y)
        variance = tools.uncertainty.spectral_variance(y / result.scale, result.weights, result.scale)
        settled = agree(result.coefficients, y, tools.observation, tools.correction)
    spectra = parameters.basis.expand(settled.numpy().astype(np.float64))
    return spectra, variance.numpy().astype(np.float64), result.distance.numpy().astype(np.float64)


def group_squares(error: NDArray[np.float64]) -> NDArray[np.float64]:
    """(8, n) mean squared error over the channels of each group; channels without truth are left out."""
    squares = error**2
    return np.stack([np.nanmean(squares[GROUP_OF_CHANNEL == g], axis=0) for g in range(GROUPS)])


def _spatial(parameters: Parameters, scene: SimulatedScene) -> tuple[NDArray[np.float64], ...]:
    solver = DualitySolver(parameters, torch.device("cpu"))
    msi = scene.msi
    with torch.inference_mode():
        b10, b20, b60 = (torch.as_tensor(a) for a in (msi.b10, msi.b20, msi.b60))
        solution = solver.solve(b10, b20, b60, msi.platform)
        fused, unfolded = solution.fused, solution.unfolded
        z = fused.bands.reshape(12, -1) / unfolded.scale
        uncertainty = solver.tools(msi.platform).uncertainty
        variance = uncertainty.spectral_variance(z, unfolded.weights, unfolded.scale)
        coefficients = (solution.stored * solver.steps).numpy().astype(np.float64)
    keep = (fused.valid.numpy() & np.isfinite(scene.truth).all(axis=0)).ravel()
    squares = group_squares(parameters.basis.expand(coefficients[:, keep]) - scene.truth.reshape(172, -1)[:, keep])
    rest = (variance[:, keep], fused.detail20.flatten()[keep], fused.detail60.flatten()[keep])
    return squares, *(part.numpy().astype(np.float64) for part in rest)


class Checkpoints:
    """Finished fits of a run, kept in a folder under names that hold everything they depend on."""

    def __init__(self, folder: Path, materials: Materials) -> None:
        self.folder = folder
        self._materials = materials

    def _file(self, kind: str, left_out: tuple[str, ...]) -> Path:
        settings, m = self._materials.settings, self._materials
        choices: dict[str, Any] = {
            "fit": [asdict(settings.fit), asdict(settings.unfolding)],
            "refinement": asdict(settings.refinement),
            "mlp": settings.mlp_steps,
            "cos2a": settings.cos2a_steps,
        }
        hashes = [source.sha256 for source in m.corpus.sources]
        known = {"choices": choices[kind.partition("-")[0]], "seed": m.seed, "data": hashes}
        key = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
        return self.folder / f"{kind}-without-{'+'.join(left_out) or 'nothing'}-{key}.safetensors"

    def load(self, kind: str, left_out: tuple[str, ...]) -> dict[str, NDArray[Any]] | None:
        """What was saved, or nothing."""
        try:
            return dict(safetensors.numpy.load(self._file(kind, left_out).read_bytes()))
        except (OSError, safetensors.SafetensorError):
            return None

    def save(self, kind: str, left_out: tuple[str, ...], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep a finished piece; the file appears whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self._file(kind, left_out)
        partial = file.with_suffix(".partial")
        partial.write_bytes(safetensors.numpy.save({name: np.ascontiguousarray(a) for name, a in arrays.items()}))
        partial.replace(file)

    def clear(self) -> None:
        """Forget all pieces: the run is done."""
        for file in self.folder.glob("*-without-*.safetensors"):
            file.unlink()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def pack(fitted: Fit) -> dict[str, NDArray[np.float64]]:
    """A fit as flat arrays."""
    arrays = {f"parameters.{name}": value for name, value in to_tensors(fitted.parameters).items()}
    for number, snapshot in enumerate(fitted.snapshots):
        arrays |= {f"snapshot.{number}.{name}": value for name, value in snapshot.to_arrays().items()}
    return arrays


def unpack(arrays: Mapping[str, NDArray[np.float64]], left_out: tuple[str, ...], platforms: tuple[str, ...]) -> Fit:
    """Inverse of `pack`."""
    tensors = {n.removeprefix("parameters."): a for n, a in arrays.items() if n.startswith("parameters.")}
    count = 1 + max(int(name.split(".")[1]) for name in arrays if name.startswith("snapshot."))
    snapshots = []
    for number in range(count):
        prefix = f"snapshot.{number}."
        stage = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
        snapshots.append(UnfoldingWeights.from_arrays(stage))
    return Fit(left_out, from_tensors(tensors, platforms), tuple(snapshots))


class Workers:
    """Single-threaded processes that work on pieces; how many there are changes no result."""

    def __init__(self, pool: ProcessPoolExecutor, checkpoints: Checkpoints, platforms: tuple[str, ...]) -> None:
        self.pool = pool
        self.checkpoints = checkpoints
        self._platforms = platforms

    def fits(self, wanted: Mapping[tuple[str, ...], int | None]) -> Iterator[Fit]:
        """Fits without the given splits, as they are done; snapshot to train to behind each."""
        running: dict[tuple[str, ...], Future[Fit]] = {}
        for left_out, snapshot in wanted.items():
            kept = self.checkpoints.load(_kind(snapshot), left_out)
            if kept is not None:
                yield unpack(kept, left_out, self._platforms)
            else:
                running[left_out] = self.pool.submit(fit, left_out, snapshot)
        for left_out, future in running.items():
            fitted = future.result()
            arrays = {name: np.ascontiguousarray(array) for name, array in pack(fitted).items()}
            self.checkpoints.save(_kind(wanted[left_out]), left_out, arrays)
            # As it would be read again: another layout in memory sums in another order.
            yield unpack(arrays, left_out, self._platforms)

    def states(self, kind: str, wanted: Mapping[tuple[str, ...], Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
        """Arrays of networks without the given splits: ``refinement``, ``mlp`` or ``cos2a``; arguments behind each."""
        work: Any = {"refinement": refinement, "mlp": mlp, "cos2a": cos2a}[kind]
        running: dict[tuple[str, ...], Future[Any]] = {}
        for left_out, arguments in wanted.items():
            kept = self.checkpoints.load(kind, left_out)
            if kept is not None:
                yield left_out, kept
            else:
                running[left_out] = self.pool.submit(work, left_out, *arguments)
        for left_out, future in running.items():
            result = future.result()
            arrays = result.to_arrays() if isinstance(result, RefinementWeights) else result
            self.checkpoints.save(kind, left_out, arrays)
            yield left_out, arrays


def _kind(snapshot: int | None) -> str:
    return "fit" if snapshot is None else f"fit-{snapshot}"


@contextmanager
def workers(materials: Materials, folder: Path, jobs: int) -> Iterator[Workers]:
    """A pool of workers.

    Args:
        materials: handed to each of them once.
        folder: where finished pieces are kept.
        jobs: how many work side by side.
    """
    before = {name: environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    environ.update(dict.fromkeys(before, "1"))  # read when a worker imports numpy and torch
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (materials,))
    try:
        yield Workers(pool, Checkpoints(folder, materials), tuple(materials.responses))
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            environ.pop(name) if value is None else environ.__setitem__(name, value)
