"""The training command: data in, weights and model card out."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from model.bands import SOURCE_BAND_NAMES
from model.card import FORMAT_VERSION, ModelCard
from model.evaluation.baselines import Baselines, make_network
from model.evaluation.study import identifiability, reliability, targets
from model.inference import choose_device
from model.noise import NOISE_ABSOLUTE, NOISE_RELATIVE
from model.parameters import Parameters, serialise, write_weights
from model.refinement import RefinementWeights
from model.srf import S2C_SUBSTITUTED_BANDS, Responses, integrate, read_sentinel2_tables
from model.training import units
from model.training.calibration import calibrate, coverage, profile_of, summary
from model.training.corpus import RESPONSE_FILE, Corpus, judging_splits, read_corpus, read_texture
from model.training.statistics import REFERENCE_PLATFORM
from model.training.units import Fit, LeftOut, Materials, TrainingSettings, Workers, workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from model.uncertainty import Calibration

logger = logging.getLogger(__name__)

NAME: Final[str] = "explains2a-duality"
VERSION: Final[str] = "2.0.0"

STUDY_NAME: Final[str] = "study.json"
BASELINES_NAME: Final[str] = "baselines.safetensors"

LIMITS: Final[tuple[str, ...]] = (
    (
        "The 172 bands are estimated from twelve measured ones: 97 channels have no response in the sensor "
        "and follow the prior."
    ),
    (
        "Narrow features away from the measured bands (clay at 2.2 um, carbonate at 2.3 um) are not identifiable; "
        "do not map them."
    ),
    "Not for quantitative use where a pixel is flagged out of domain or of low consistency.",
    "Sentinel-2C's responses of B01 and B09 are Sentinel-2B's: its published table lacks them.",
    "B01 lies outside the product's grid: a feature of the estimate, never a constraint on it.",
)


def _revision() -> str:
    """Git revision of this code, ``unknown`` outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - whichever git is installed
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def _noise_card() -> dict[str, Any]:
    return {
        "formula": "sigma(rho) = sqrt(a^2 + (b rho)^2); within noise: |residual| <= 3 sigma, B01 left out",
        "source": "ESA Sentinel-2 MSI User Guide (Lref, SNR); ESA L1C Data Quality Report (inter-band uncertainty)",
        "a": dict(zip(SOURCE_BAND_NAMES, NOISE_ABSOLUTE.round(6).tolist(), strict=True)),
        "b": dict(zip(SOURCE_BAND_NAMES, NOISE_RELATIVE.tolist(), strict=True)),
    }


def _responses_card(responses: Mapping[str, Responses]) -> dict[str, Any]:
    return {
        platform: {
            "loss": dict(zip(r.names, r.loss.round(4).tolist(), strict=True)),
            "borrowed": dict.fromkeys(S2C_SUBSTITUTED_BANDS, "sentinel-2b") if platform == "sentinel-2c" else {},
        }
        for platform, r in responses.items()
    }


def _draft(corpus: Corpus, responses: Mapping[str, Responses], seed: int, settings: TrainingSettings) -> ModelCard:
    """The card before anything is known of the weights."""
    return ModelCard(
        name=NAME,
        version=VERSION,
        format=FORMAT_VERSION,
        digest="",
        subspace_dimension=settings.fit.dimension,
        classes=settings.fit.classes,
        calibration="",
        platforms=tuple(responses),
        trained=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=seed,
        revision=_revision(),
        data=corpus.sources,
        responses=_responses_card(responses),
        noise=_noise_card(),
        limits=LIMITS,
        settings=json.loads(json.dumps(asdict(settings))),  # as it reads from the file
    )


SPATIAL: Final[tuple[str, ...]] = ("san_diego", "potsdam")
"""Splits with contiguous cubes: they judge the fusion."""


def _pairs(splits: Iterable[str]) -> list[tuple[str, ...]]:
    names = list(splits)
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]


@dataclass
class _Run:
    """One training run: what is known so far, and who is told."""

    work: Workers
    materials: Materials
    tell: Callable[[str, float], None]
    draft: ModelCard
    singles: dict[str, Fit] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    corrections: dict[tuple[str, ...], RefinementWeights] = field(default_factory=dict)
    pairs: dict[tuple[str, ...], Fit] = field(default_factory=dict)

    def learn(self) -> Fit:
        """All fits but those without two splits; returns the one to everything."""
        splits = judging_splits()
        space = [(), *((split,) for split in SPATIAL), SPATIAL]
        wanted: dict[tuple[str, ...], int | None] = {(): None, **{(split,): None for split in splits}}
        final: Fit | None = None
        for number, fitted in enumerate(self.work.fits(wanted)):
            self.tell(f"fitted without {', '.join(fitted.left_out) or 'nothing'}", 0.02 + 0.13 * number / len(wanted))
            if fitted.left_out:
                self.singles[fitted.left_out[0]] = fitted
            else:
                final = fitted
        for split, one in self.singles.items():
            self.curves[split] = self.work.pool.submit(units.curve, one, split).result()
        for number, (left_out, arrays) in enumerate(self.work.states("refinement", dict.fromkeys(space, ()))):
            self.corrections[left_out] = RefinementWeights.from_arrays(arrays)
            self.tell(f"fusion learned without {', '.join(left_out) or 'nothing'}", 0.15 + 0.25 * number / len(space))
        if final is None:
            raise RuntimeError("no fit to everything came back from the workers")
        return final

    def length(self, *judged: str) -> int:
        """The snapshot that is best on average over the scenes left out, the judged ones not asked."""
        asked = [curve for split, curve in self.curves.items() if split not in judged]
        return int(np.argmin(np.mean(asked, axis=0)))

    def pair_up(self) -> None:
        """Fits without two splits, each trained as long as the other scenes advise."""
        wanted: dict[tuple[str, ...], int | None] = {pair: self.length(*pair) for pair in _pairs(judging_splits())}
        for number, fitted in enumerate(self.work.fits(wanted)):
            self.pairs[fitted.left_out] = fitted
            self.tell(f"fitted without {' and '.join(fitted.left_out)}", 0.40 + 0.25 * number / len(wanted))

    def parameters(self, *left_out: str) -> Parameters:
        """Parameters without one or two splits, with the correction of the fusion that has not seen them either."""
        key = tuple(sorted(left_out, key=list(judging_splits()).index))
        pair = len(key) > 1
        parameters = self.pairs[key].parameters if pair else self.singles[key[0]].after(self.length(*key))
        space = tuple(split for split in SPATIAL if split in key)
        return replace(parameters, refinement=self.corrections[space])

    def judged(self, split: str, *without: str) -> LeftOut:
        """What a split says about the fit that has seen neither it nor another one."""
        parameters = self.parameters(split, *without)
        return self.work.pool.submit(units.judge, parameters, split, space=split in SPATIAL).result()


def _nested(run: _Run) -> tuple[Calibration, dict[str, Calibration], dict[str, dict[str, float]]]:
    """The final calibration, the one of each judged split, and the coverage of the latter."""
    results = {split: run.judged(split) for split in judging_splits()}
    rng = np.random.default_rng(run.materials.seed)
    nested, shares = {}, {}
    for number, (split, own) in enumerate(results.items()):
        run.tell(f"calibrating what judges {split}", 0.65 + 0.15 * number / len(results))
        if run.materials.settings.nested:
            others = [run.judged(other, split) for other in results if other != split]
        else:
            others = [result for other, result in results.items() if other != split]
        nested[split] = calibrate(others, run.parameters(split), rng)
        shares[split] = coverage(own, nested[split])
    final = calibrate(list(results.values()), run.parameters(next(iter(results))), rng)
    return final, nested, shares


def _baselines(run: _Run, responses: Mapping[str, NDArray[np.float64]], *, networks: bool) -> dict[str, Baselines]:
    """What stands beside the model for every judged split, and under ``""`` for everything."""
    names = [*judging_splits(), ""]
    keys: dict[str, tuple[str, ...]] = {name: (name,) if name else () for name in names}
    found = {name: run.work.pool.submit(units.linear, keys[name], responses[name]) for name in names}
    states: dict[str, dict[str, Any]] = {name: {} for name in names}
    if networks:
        for kind, wanted in (("mlp", names), ("cos2a", [*SPATIAL, ""])):
            arguments = {keys[name]: (responses[name],) for name in wanted}
            for number, (left_out, arrays) in enumerate(run.work.states(kind, arguments)):
                run.tell(f"{kind} without {', '.join(left_out) or 'nothing'}", 0.80 + 0.1 * number / len(wanted))
                name = left_out[0] if left_out else ""
                states[name]["cos2a_like" if kind == "cos2a" else kind] = arrays
    return {
        name: Baselines(
            found[name].result(), {kind: make_network(kind, arrays) for kind, arrays in states[name].items()}
        )
        for name in names
    }


def train(
    data: Path,
    out: Path,
    *,
    device: str = "cpu",
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
    settings: TrainingSettings | None = None,
    networks: bool = False,
    jobs: int | None = None,
) -> ModelCard:
    """Fit statistics and networks, calibrate and judge them by scene, and write weights, card and the study.

    A run that is broken off goes on where it was: finished pieces stay in ``out/.training`` until the end.

    Args:
        data: folder with ``cubes/``, ``libraries/``, ``sentinel2/`` and ``srf/``.
        out: folder that receives ``model.safetensors``, ``card.json``, ``study.json`` (the rows of the evaluation with
            every scene left out in turn) and ``baselines.safetensors``.
        device: checked for existence; where the fusion's network is trained in the end. Everything that judges runs
            on the CPU, so that figures do not depend on the device.
        seed: of every random draw.
        progress: told what is being done and the fraction done, 0-1.
        settings: choices of the fit; the shipped ones unless told.
        networks: also retrain the networks the model is judged against, for every split.
        jobs: worker processes; as many as cores unless told. Changes no result.

    Returns:
        The card written.

    Raises:
        DataMissing: if a source file is absent.
        DeviceUnavailable: if the device does not exist.
    """
    choose_device(device)
    chosen = settings or TrainingSettings()
    tell = progress or (lambda what, done: logger.info("%3.0f %% %s", 100 * done, what))
    tell("reading spectra", 0.0)
    corpus = read_corpus(data)
    responses = {name: integrate(table) for name, table in read_sentinel2_tables(data / RESPONSE_FILE).items()}
    materials = Materials(corpus, responses, read_texture(data), chosen, seed)
    draft = _draft(corpus, responses, seed, chosen)
    with workers(materials, out / ".training", jobs or os.cpu_count() or 1) as work:
        run = _Run(work, materials, tell, draft)
        final = run.learn()
        if chosen.nested:
            run.pair_up()
        calibration, nested, shares = _nested(run)
        parameters = replace(
            final.after(run.length()),
            refinement=run.corrections[()],
            calibration=replace(calibration, profile=profile_of(final.parameters)),
        )
        D = {split: run.parameters(split).sensors[REFERENCE_PLATFORM].responses for split in judging_splits()}
        D[""] = parameters.sensors[REFERENCE_PLATFORM].responses
        baselines = _baselines(run, D, networks=networks)
        study: list[dict[str, Any]] = []
        asked = [
            work.pool.submit(units.rows, run.parameters(split), nested[split], draft, split, baselines[split])
            for split in judging_splits()
        ]
        for number, future in enumerate(asked):
            tell(f"judging {judging_splits()[number]}", 0.90 + 0.09 * number / len(asked))
            study += future.result()
        content, digest = serialise(parameters)
        card = replace(
            draft,
            digest=digest,
            calibration=_name(calibration),
            metrics=_metrics(run, study, shares, calibration),
        )
        write_weights(out, content, card)
        (out / STUDY_NAME).write_text(json.dumps(study, indent=None) + "\n", encoding="utf-8")
        baselines[""].save(out / BASELINES_NAME)
        work.checkpoints.clear()
    tell("done", 1.0)
    return card


def _name(calibration: Calibration) -> str:
    content = b"".join(np.round(a, 6).tobytes() for a in calibration.to_arrays().values())
    return f"leave-one-scene-out-{hashlib.sha256(content).hexdigest()[:10]}"


def _metrics(
    run: _Run, study: list[dict[str, Any]], shares: dict[str, dict[str, float]], calibration: Calibration
) -> dict[str, Any]:
    """What the card says about how well the model does."""
    brief = ("rmse", "sam_deg", "sam_bright_deg", "psnr_db", "crps", "interval_width", "consistency_within_noise")
    rows = [
        {
            **{key: row[key] for key in ("file", "split", "tier", "ood_fraction", "coverage", "coverage_in_domain")},
            **{key: row[key] for key in brief},
            "climatology_width": row["climatology_width"],
            **{key: row[key] for key in ("domain", "metamers", "unmixing") if key in row},
            "baselines": {
                name: {key: values[key] for key in ("rmse", "sam_deg", "sam_bright_deg") if key in values}
                for name, values in row["baselines"].items()
            },
        }
        for row in study
    ]
    covered = summary(shares)
    return {
        "protocol": "every split left out in turn; Sentinel-2A responses, noise of the table; full tier with a "
        "modulation of 0.25 at the coarse bands' Nyquist frequency; length of training and calibration chosen on the "
        "other splits alone (nested); air's absorptions bridged in the truth (model.training.corpus)",
        "left_out": rows,
        "targets": targets(study, covered),
        "identifiability": identifiability(study),
        "reliability": reliability(study),
        "coverage_in_domain": covered,
        "coverage_by_split": shares,
        "training_length": {"chosen": run.length(), "curves": run.curves},
        "out_of_domain_limit": calibration.distance_limit,
        "alpha": calibration.alpha.round(4).tolist(),
        "beta20": calibration.beta20.round(4).tolist(),
        "beta60": calibration.beta60.round(4).tolist(),
    }
