"""The evaluation command: any cube or table of spectra, by path, judges the model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from model.duality import load_model
from model.evaluation.baselines import load_baselines
from model.evaluation.judge import judge_full, judge_spectral
from model.evaluation.real import judge_real
from model.evaluation.simulation import SIMULATED_MTF, simulate_scene
from model.evaluation.wald import read_sentinel2
from model.fusion import RELATIVE_MTF
from model.spectra import read_spectra, sha256_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PLATFORM: Final[str] = "sentinel-2a"

Tier = Literal["spectral", "full", "real"]


def evaluate(
    files: Sequence[Path],
    *,
    tier: Tier = "spectral",
    json_out: Path | None = None,
    weights: Path | None = None,
    device: str = "cpu",
    seed: int = 0,
    mtf: float | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> list[dict[str, Any]]:
    """Judge the model on files.

    Args:
        files: ``.npz`` cubes; for the spectral tier also tables of spectra, for the real tier Sentinel-2 images
            (``b10``, ``b20``, ``b60``).
        tier: ``spectral`` (all bands at the file's own grid), ``full`` (blur, decimation, fusion) or ``real`` (real
            bands at reduced resolution).
        json_out: where to write the rows as JSON.
        weights: folder of the weights; the shipped ones unless given.
        device: where the model runs.
        seed: of the simulated noise; every file starts from it.
        mtf: modulation at the coarse bands' Nyquist frequency, of the simulation (full tier, 0.25 unless given) or of
            the reduction (real tier, what the fusion assumes unless given).
        progress: told which file is judged and the fraction done, 0-1.

    Returns:
        One row per file: ``file``, ``tier``, ``pixels``, ``in_training`` (whether the weights were fitted to it), the
        figures of merit, ``groups`` and ``baselines``; of the real tier ``file``, ``tier``, ``in_training`` and
        ``methods``.

    Raises:
        InvalidSpectra, InvalidImage: if a file cannot be used for the tier.
        WeightsMissing, WeightsCorrupted, WeightsVersionMismatch: if the weights or baselines cannot be used.
    """
    model = load_model(weights, device)
    baselines = load_baselines()
    known = {source.sha256 for source in model.card.data}
    responses = model.parameters.sensors[PLATFORM].responses
    rows: list[dict[str, Any]] = []
    for number, path in enumerate(files):
        if progress:
            progress(f"judging {path.name}", number / len(files))
        head: dict[str, Any] = {"file": str(path), "tier": tier}
        if tier == "real":
            methods = judge_real(model, read_sentinel2(path), RELATIVE_MTF if mtf is None else mtf)
            rows.append({**head, "in_training": sha256_file(path) in known, "methods": methods})
            continue
        spectra = read_spectra(path)
        head |= {"pixels": len(spectra.reflectance), "in_training": sha256_file(path) in known}
        rng = np.random.default_rng(seed)
        if tier == "full":
            scene = simulate_scene(spectra, responses, PLATFORM, rng, SIMULATED_MTF if mtf is None else mtf)
            result = judge_full(model, scene, spectra.covered, baselines)
        else:
            result = judge_spectral(model, spectra, PLATFORM, rng, baselines)
        rows.append({**head, **result})
    if progress:
        progress("done", 1.0)
    if json_out:
        json_out.parent.mkdir(parents=True, exist_ok=True)
        json_out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return rows


def summary_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table for people: the model beside its baselines."""
    if any(row["tier"] == "real" for row in rows):
        return _real_table(rows)
    head = f"{'file':34s} {'tier':9s} {'RMSE':>7s} {'SAM':>6s} {'cover90':>8s} {'within':>7s} {'ood':>6s}"
    lines = [f"{head}  baselines RMSE"]
    for row in rows:
        name = row["file"].rsplit("/", 1)[-1].removesuffix(".npz") + (" *" if row["in_training"] else "")
        baselines = "  ".join(f"{key} {value['rmse']:.4f}" for key, value in row["baselines"].items())
        lines.append(
            f"{name:34.34s} {row['tier']:9s} {row['rmse']:7.4f} {row['sam_bright_deg'] or row['sam_deg']:6.2f} "
            f"{row['coverage']['90']:8.3f} {row['consistency_within_noise']:7.3f} "
            f"{row['ood_fraction']:6.3f}  {baselines}"
        )
    return "\n".join([*lines, "* the weights were fitted to this file; the card has the figures with it left out"])


def _real_table(rows: Sequence[dict[str, Any]]) -> str:
    """Signal to reconstruction error of every method, dB."""
    methods = list(dict.fromkeys(name for row in rows for name in row["methods"]))
    lines = [f"{'file (SRE, dB)':50s} " + " ".join(f"{name:>15s}" for name in methods)]
    for row in rows:
        name = row["file"].rsplit("/", 1)[-1].removesuffix(".npz") + (" *" if row["in_training"] else "")
        lines.append(f"{name:50.50s} " + " ".join(f"{row['methods'][m]['sre_db']:15.2f}" for m in methods))
    return "\n".join([*lines, "* the fusion learned from this image's texture"])
