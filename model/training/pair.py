"""Train the spectral model for another instrument: configuration and data in, weights and card out.

``python -m model.training.pair --instrument landsat-oli --data DIR --out DIR``

Everything is what Sentinel-2 is trained with, at the instrument's own bands and noise: subspace, mixture and coastal
regression (`model.training.statistics`), unfolding stages (`model.training.unfolding`), calibration by scene. Only the
spectral half is trained. An instrument whose bands share one resolution needs no more: its fusion is the identity.

Every judging split is left out in turn. How long to train the stages (not at all is among the answers), and the
calibration that a split's coverage is judged with, come from the other splits. This is simpler than what Sentinel-2
gets in one respect: the other splits' fits have seen the judged split (not nested to two scenes out), so that coverage
is slightly flattering; errors are not.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from model.bands import SPECTRAL_GROUPS
from model.card import FORMAT_VERSION, DataSource, ModelCard
from model.errors import InvalidResponseTable
from model.evaluation.judge import wavelength_ranges
from model.evaluation.metrics import spectral_errors
from model.evaluation.simulation import clean_bands
from model.instruments import INSTRUMENTS, LANDSAT_OLI, SENTINEL2_MSI
from model.parameters import serialise, write_weights
from model.spectral import prepare
from model.srf import integrate, read_oli_tables, read_sentinel2_tables
from model.training.calibration import calibrate, coverage, summary
from model.training.corpus import RESPONSE_FILE, draw, judging_splits, read_corpus
from model.training.statistics import FitSettings, fit_statistics
from model.training.unfolding import UnfoldingSettings, fit_unfolding
from model.training.units import PIXELS_PER_SPLIT, LeftOut, judges
from model.unfolding import UnfoldingWeights

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from model.instruments import Instrument
    from model.parameters import Parameters
    from model.srf import Responses, ResponseTable
    from model.training.corpus import Corpus
    from model.uncertainty import Calibration

logger = logging.getLogger(__name__)

VERSION: Final[str] = "1.0.0"


@dataclass(frozen=True)
class PairSettings:
    """Every choice of a run; none was made for a particular instrument."""

    fit: FitSettings = field(default_factory=FitSettings)
    unfolding: UnfoldingSettings = field(default_factory=UnfoldingSettings)


def _sentinel2(data: Path) -> tuple[dict[str, ResponseTable], str, tuple[str, ...]]:
    note = "Sentinel-2C's responses of B01 and B09 are Sentinel-2B's: its published table lacks them."
    return read_sentinel2_tables(data / RESPONSE_FILE), RESPONSE_FILE, (note,)


def _oli(_data: Path) -> tuple[dict[str, ResponseTable], str, tuple[str, ...]]:
    tables = read_oli_tables(LANDSAT_OLI.bands, LANDSAT_OLI.platforms)
    note = (
        "B1's reflectance in the training spectra is averaged over Sentinel-2's B01 (443 nm, 21 nm wide), whose centre "
        "is OLI's to 1 nm; OLI's is 16 nm wide."
    )
    return tables, f"pyrsr {version('pyrsr')}: OLI_TIRS (NASA Ball_BA_RSR)", (note,)


TABLES: Final[Mapping[str, Callable[[Path], tuple[dict[str, ResponseTable], str, tuple[str, ...]]]]] = MappingProxyType(
    {SENTINEL2_MSI.name: _sentinel2, LANDSAT_OLI.name: _oli}
)
"""Instrument -> reader of its responses from a data folder: tables, where they are from, notes for the card."""


@dataclass(frozen=True)
class Wiener:
    """Wiener's linear estimate, what the model is judged against."""

    gain: NDArray[np.float64]
    """(172, bands)."""
    offset: NDArray[np.float64]
    """(172,) reflectance."""

    def __call__(self, bands: NDArray[np.floating]) -> NDArray[np.float64]:
        """(172, n) spectra of bands (bands, n)."""
        return np.asarray(self.gain @ bands + self.offset[:, None])


def fit_wiener(
    spectra: NDArray[np.float64],
    coastal: NDArray[np.float64],
    responses: NDArray[np.float64],
    instrument: Instrument,
) -> Wiener:
    """Fit ``x = m + C D' (D C D' + R)^-1 (y - D m)`` to a pool of spectra.

    Args:
        spectra: (n, 172) reflectance.
        coastal: (n,) reflectance in the first band, nan where unknown.
        responses: (bands, 172) D, the first row a regression on the channels.
        instrument: whose noise.

    Returns:
        The estimate with the pool's mean and covariance and its mean noise.
    """
    bands = responses @ spectra.T
    noise = (instrument.sigma(bands) ** 2).mean(axis=1)
    noise[0] += np.nanvar(coastal - bands[0])
    m, C = spectra.mean(axis=0), np.cov(spectra.T)
    gain = np.linalg.solve(responses @ C @ responses.T + np.diag(noise), responses @ C).T
    return Wiener(np.asarray(gain, dtype=np.float64), m - gain @ responses @ m)


@dataclass(frozen=True)
class Fold:
    """A fit without one split, and what the split looks like to the instrument."""

    parameters: Parameters
    lengths: tuple[UnfoldingWeights, ...]
    """The unfolding after each length of training; the first has no stage: the closed form alone."""
    wiener: Wiener
    bands: NDArray[np.float64]
    """(bands, n) noisy reflectance of the split left out."""
    truth: NDArray[np.float64]
    """(172, n) its spectra, nan where the imaging instrument saw nothing."""
    curve: list[float]
    """Error after each length relative to the closed form, whose own is 1."""

    def after(self, length: int) -> Parameters:
        """The parameters with the unfolding of one length of training."""
        return replace(self.parameters, unfolding=self.lengths[length])


def check_responses(instrument: Instrument, responses: Mapping[str, Responses]) -> None:
    """Refuse responses that do not fit the instrument.

    Raises:
        InvalidResponseTable: if platforms or bands differ, the first band lies on the grid, or another lies outside.
    """
    if set(responses) != set(instrument.platforms):
        raise InvalidResponseTable(
            f"{instrument.name}: responses for {', '.join(responses)}; expected {', '.join(instrument.platforms)}"
        )
    for platform, found in responses.items():
        if found.names != instrument.bands:
            raise InvalidResponseTable(f"{platform}: bands {found.names}; expected {instrument.bands}")
        if found.constrains[0] or not found.constrains[1:].all():
            raise InvalidResponseTable(
                f"{platform}: the first band must lie outside the product's grid and all others on it; their losses "
                f"are {found.loss.round(3).tolist()}"
            )


def sample(
    corpus: Corpus, split: str, responses: NDArray[np.float64], instrument: Instrument, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the instrument sees of a split.

    Args:
        corpus: everything there is.
        split: whose files.
        responses: (bands, 172), the first row a regression, used where the spectra do not reach the coastal band.
        instrument: whose noise.
        rng: source of pixels and noise.

    Returns:
        (bands, n) noisy bands and (172, n) truth, nan where the imaging instrument saw nothing.
    """
    bands, truth = [], []
    for file in judges(corpus, split):
        chosen = rng.permutation(len(file.reflectance))[:PIXELS_PER_SPLIT]
        clean = clean_bands(file.reflectance[chosen], file.coastal[chosen], responses)
        bands.append(clean + rng.normal(size=clean.shape) * instrument.sigma(clean))
        truth.append(np.where(file.covered[:, None], file.reflectance[chosen].T.astype(np.float64), np.nan))
    return np.concatenate(bands, axis=1), np.concatenate(truth, axis=1)


def judge(parameters: Parameters, platform: str, fold: Fold) -> tuple[NDArray[np.float64], LeftOut]:
    """Estimate the split left out: spectra (172, n), and what they say of an uncalibrated fit."""
    tools = prepare(parameters, platform, torch.device("cpu"))
    y = torch.as_tensor(np.ascontiguousarray(fold.bands), dtype=torch.float32)
    with torch.inference_mode():
        coefficients, sigma, distance = tools(y)
    estimate = parameters.basis.expand(coefficients.numpy().astype(np.float64))
    error = np.abs(estimate - fold.truth).astype(np.float32)
    return estimate, LeftOut(error, sigma.numpy().astype(np.float64), distance.numpy().astype(np.float64), [])


class PairRun:
    """One instrument's training: what every step of it needs, read once."""

    def __init__(self, instrument: Instrument, data: Path, seed: int = 0, settings: PairSettings | None = None) -> None:
        self.instrument = instrument
        self.corpus = read_corpus(data)
        self.tables, self.table_source, self.notes = TABLES[instrument.name](data)
        self.responses = {platform: integrate(table) for platform, table in self.tables.items()}
        check_responses(instrument, self.responses)
        self.seed = seed
        self.settings = settings or PairSettings()

    @property
    def platform(self) -> str:
        """The reference platform."""
        return self.instrument.reference_platform

    def rng(self, name: str, use: int) -> np.random.Generator:
        """Randomness that depends on the seed, the split and what it is used for."""
        return np.random.default_rng([self.seed, use, sum(name.encode())])

    def fit(
        self, left_out: tuple[str, ...], length: int | None = None
    ) -> tuple[Parameters, tuple[UnfoldingWeights, ...], Wiener]:
        """Statistics, unfolding after each length of training up to one, and Wiener's estimate."""
        rng = self.rng("+".join(left_out), 0)
        spectra, coastal = draw(self.corpus, left_out, rng)
        parameters = fit_statistics(spectra, coastal, self.responses, rng, self.settings.fit, self.instrument)
        chosen = self.settings.unfolding
        steps = None if length is None else length * max(1, chosen.steps // chosen.snapshots)
        seed = int(rng.integers(2**31))
        stages = fit_unfolding(parameters, spectra, coastal, seed, chosen, steps, self.instrument)
        wiener = fit_wiener(spectra, coastal, parameters.sensors[self.platform].responses, self.instrument)
        return parameters, (UnfoldingWeights(), *stages), wiener

    def fold(self, split: str) -> Fold:
        """The fit without a split, tried on it."""
        parameters, lengths, wiener = self.fit((split,))
        responses = parameters.sensors[self.platform].responses
        bands, truth = sample(self.corpus, split, responses, self.instrument, self.rng(split, 1))
        fold = Fold(parameters, lengths, wiener, bands, truth, [])
        errors = [judge(fold.after(length), self.platform, fold)[1].error for length in range(len(lengths))]
        rmse = [float(np.sqrt(np.nanmean(error.astype(np.float64) ** 2))) for error in errors]
        return replace(fold, curve=[value / rmse[0] for value in rmse])

    def calibrate(self, results: Sequence[LeftOut], parameters: Parameters, use: str) -> Calibration:
        """Scale factors by scene, and a limit of the domain; every scene counts alike."""
        return calibrate(results, parameters, self.rng(use, 2), self.platform)


def advised(curves: Mapping[str, Sequence[float]], *judged: str) -> int:
    """The length of training that is best on average over the splits, the judged ones not asked."""
    return int(np.argmin(np.mean([curve for split, curve in curves.items() if split not in judged], axis=0)))


def figures(estimate: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, Any]:
    """Errors of spectra (172, n) over all channels, and root mean square per spectral group where there is truth."""
    errors = spectral_errors(estimate, truth)
    groups = {}
    for group in SPECTRAL_GROUPS:
        part = (estimate - truth)[group.channels]
        if np.isfinite(part).any():
            groups[group.name] = float(np.sqrt(np.nanmean(part**2)))
    return {key: errors[key] for key in ("rmse", "sam_deg", "sam_bright_deg")} | {"groups": groups}


def _judged(run: PairRun, folds: Mapping[str, Fold]) -> tuple[dict[str, LeftOut], list[dict[str, Any]]]:
    """What every split says of the fit without it, and its row on the card."""
    curves = {split: fold.curve for split, fold in folds.items()}
    results, rows = {}, []
    for split, fold in folds.items():
        estimate, results[split] = judge(fold.after(advised(curves, split)), run.platform, fold)
        plain, _ = judge(fold.after(0), run.platform, fold)
        trained, _ = judge(fold.after(-1), run.platform, fold)
        baselines = {"wiener": fold.wiener(fold.bands), "closed_form": plain, "longest_trained": trained}
        rows.append(
            {"split": split, "pixels": fold.bands.shape[1], "tier": "spectral"}
            | figures(estimate, fold.truth)
            | {"baselines": {name: figures(found, fold.truth) for name, found in baselines.items()}}
        )
    return results, rows


def _coverage(run: PairRun, folds: Mapping[str, Fold], results: Mapping[str, LeftOut]) -> dict[str, dict[str, float]]:
    """Coverage of every split by a calibration from the others."""
    shares = {}
    for split, own in results.items():
        others = [result for other, result in results.items() if other != split]
        shares[split] = coverage(own, run.calibrate(others, folds[split].parameters, split))
    return shares


def train_pair(
    instrument: Instrument,
    data: Path,
    out: Path,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
    *,
    settings: PairSettings | None = None,
    revision: str = "unknown",
) -> ModelCard:
    """Train, calibrate and judge the spectral model for an instrument, and write weights and card.

    Args:
        instrument: one that `TABLES` has responses for.
        data: folder with ``cubes/``, ``libraries/``, ``sentinel2/`` and ``srf/``, as for Sentinel-2.
        out: folder that receives ``model.safetensors`` and ``card.json``.
        seed: of every random draw.
        progress: told what is being done and the fraction done, 0-1.
        settings: choices of the fit; the shipped ones unless told.
        revision: git revision for the card.

    Returns:
        The card written.

    Raises:
        DataMissing: if a source file is absent, or ``pyrsr`` where Landsat's responses are asked for.
        InvalidResponseTable: if the responses do not fit the instrument (`check_responses`), or none are known for it.
    """
    if instrument.name not in TABLES:
        raise InvalidResponseTable(
            f"no response tables are known for {instrument.name}; add a reader to model.training.pair.TABLES"
        )
    tell = progress or (lambda what, done: logger.info("%3.0f %% %s", 100 * done, what))
    tell("reading spectra", 0.0)
    run = PairRun(instrument, data, seed, settings)
    folds: dict[str, Fold] = {}
    for number, split in enumerate(judging_splits()):
        tell(f"fitting without {split}", 0.05 + 0.75 * number / len(judging_splits()))
        folds[split] = run.fold(split)
    results, rows = _judged(run, folds)
    shares = _coverage(run, folds, results)
    curves = {split: fold.curve for split, fold in folds.items()}
    length = advised(curves)
    tell("fitting everything", 0.85)
    fitted, lengths, _ = run.fit((), length)
    calibration = run.calibrate(list(results.values()), fitted, "")
    parameters = replace(fitted, unfolding=lengths[length], calibration=calibration)
    content, digest = serialise(parameters)
    metrics = {
        "protocol": "every split left out in turn; the reference platform's responses and the table's noise; length "
        "of training and calibration chosen on the other splits, whose fits have seen the judged one",
        "left_out": rows,
        "skill": {row["split"]: 1 - (row["rmse"] / row["baselines"]["wiener"]["rmse"]) ** 2 for row in rows},
        "coverage_in_domain": summary(shares),
        "coverage_by_split": shares,
        "training_length": {"chosen": length, "curves": curves},
        "out_of_domain_limit": calibration.distance_limit,
        "alpha": calibration.alpha.round(4).tolist(),
    }
    card = replace(_draft(run, revision), digest=digest, calibration=_name(calibration), metrics=metrics)
    write_weights(out, content, card)
    tell("done", 1.0)
    return card


def _name(calibration: Calibration) -> str:
    content = b"".join(np.round(a, 6).tobytes() for a in calibration.to_arrays().values())
    return f"leave-one-scene-out-{hashlib.sha256(content).hexdigest()[:10]}"


def _draft(run: PairRun, revision: str) -> ModelCard:
    """The card before anything is known of the weights."""
    instrument, settings = run.instrument, run.settings
    digest = hashlib.sha256(
        b"".join(t.wavelength_nm.tobytes() + t.response.tobytes() for t in run.tables.values())
    ).hexdigest()
    licence = "Apache-2.0" if run.table_source.startswith("pyrsr") else "ESA COPE-GSEG-EOPG-TN-15-0007"
    table = DataSource(run.table_source, digest, licence, "responses (hash of the tables read)", "none", 0)
    unseen = int((~wavelength_ranges(run.responses[run.platform].matrix)["in_source_band"]).sum())
    count = len(instrument.bands)
    return ModelCard(
        name=f"explains2a-spectral-{instrument.name}",
        version=VERSION,
        format=FORMAT_VERSION,
        digest="",
        subspace_dimension=settings.fit.dimension,
        classes=settings.fit.classes,
        calibration="",
        platforms=instrument.platforms,
        trained=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=run.seed,
        revision=revision,
        data=(*(source for source in run.corpus.sources if source.split != "none"), table),
        responses={
            platform: {"loss": dict(zip(r.names, r.loss.round(4).tolist(), strict=True))}
            for platform, r in run.responses.items()
        },
        noise={
            "formula": "sigma(rho) = sqrt(a^2 + (b rho)^2)",
            "source": instrument.noise_source,
            "a": dict(zip(instrument.bands, instrument.noise_absolute.round(6).tolist(), strict=True)),
            "b": dict(zip(instrument.bands, instrument.noise_relative.tolist(), strict=True)),
        },
        limits=(
            f"172 channels are estimated from {count} bands; {unseen} of them lie in no band and follow the prior.",
            "Judged on simulated bands of hyperspectral scenes alone, on no image of the sensor itself.",
            "Narrow features away from the measured bands are not identifiable; do not map them.",
            "Not for quantitative use where a pixel is flagged out of domain.",
            f"{instrument.bands[0]} lies outside the product's grid: a feature of the estimate, never a constraint.",
            "Spectral half only: every band must be given at one resolution.",
            *run.notes,
        ),
        settings=asdict(settings),
        instrument=instrument.name,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m model.training.pair", description=__doc__.partition("\n")[0])
    parser.add_argument("--instrument", choices=sorted(INSTRUMENTS), required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with cubes/, libraries/, sentinel2/, srf/")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and card")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--revision", default="unknown", help="git revision for the card")
    told = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)  # a result must not depend on how many cores there are
    train_pair(INSTRUMENTS[told.instrument], told.data, told.out, told.seed, revision=told.revision)


if __name__ == "__main__":
    main()
