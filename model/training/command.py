"""The training command: data in, weights and model card out."""

from __future__ import annotations

import logging
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from model.bands import SOURCE_BAND_NAMES
from model.card import FORMAT_VERSION, ModelCard
from model.inference import choose_device
from model.noise import NOISE_ABSOLUTE, NOISE_RELATIVE
from model.parameters import Parameters, serialise, write_weights
from model.srf import S2C_SUBSTITUTED_BANDS, Responses, integrate, read_sentinel2_tables
from model.training.calibration import calibrate
from model.training.corpus import RESPONSE_FILE, Corpus, draw, read_corpus
from model.training.statistics import FitSettings, fit_statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

logger = logging.getLogger(__name__)

NAME: Final[str] = "explains2a-closed-form"
VERSION: Final[str] = "1.0.0"

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


def _card(
    parameters: Parameters, corpus: Corpus, responses: Mapping[str, Responses], seed: int, found: tuple[Any, str, str]
) -> ModelCard:
    metrics, calibration, digest = found
    prior = next(iter(parameters.sensors.values())).prior
    return ModelCard(
        name=NAME,
        version=VERSION,
        format=FORMAT_VERSION,
        digest=digest,
        subspace_dimension=parameters.basis.dimension,
        classes=len(prior.weight),
        calibration=calibration,
        platforms=tuple(parameters.sensors),
        trained=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=seed,
        revision=_revision(),
        data=corpus.sources,
        metrics=metrics,
        responses=_responses_card(responses),
        noise=_noise_card(),
        limits=LIMITS,
    )


def train(
    data: Path,
    out: Path,
    *,
    device: str = "cpu",
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
    settings: FitSettings | None = None,
) -> ModelCard:
    """Fit the statistics, calibrate them by scene and write weights and card.

    Args:
        data: folder with ``cubes/``, ``libraries/`` and ``srf/``.
        out: folder that receives ``model.safetensors`` and ``card.json``.
        device: checked for existence; the closed-form fit itself runs in float64 on the CPU.
        seed: of every random draw.
        progress: told what is being done and the fraction done, 0-1.
        settings: choices of the fit; the shipped ones unless told.

    Returns:
        The card written.

    Raises:
        DataMissing: if a source file is absent.
        DeviceUnavailable: if the device does not exist.
    """
    choose_device(device)
    chosen = settings or FitSettings()
    tell = progress or (lambda what, done: logger.info("%3.0f %% %s", 100 * done, what))
    tell("reading spectra", 0.0)
    corpus = read_corpus(data)
    responses = {name: integrate(table) for name, table in read_sentinel2_tables(data / RESPONSE_FILE).items()}
    tell("fitting statistics", 0.1)
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    spectra, coastal = draw(corpus, (), rng)
    parameters = fit_statistics(spectra, coastal, responses, rng, chosen)
    calibration, metrics, name = calibrate(
        corpus, responses, parameters, seed, chosen, lambda what, done: tell(what, 0.2 + 0.75 * done)
    )
    parameters = replace(parameters, calibration=calibration)
    content, digest = serialise(parameters)
    card = _card(parameters, corpus, responses, seed, (metrics, name, digest))
    write_weights(out, content, card)
    tell("done", 1.0)
    return card
